"""UDPContext: a package with the address of its peer."""

from __future__ import annotations

from typing import Any, final

__all__ = ["UDPContext"]


@final
class UDPContext:
    """
    A package and the address that it came from or is sent to. The session of a UDP server's socket reads and writes it.

    :ivar pkg: the package.
    :ivar peerAddr: ``(host, port)``, the host an IP address; None if the session has one peer.
    """

    __slots__ = ("peerAddr", "pkg")

    def __init__(self, pkg: Any, peerAddr: tuple[str, int] | None = None) -> None:
        self.pkg = pkg
        self.peerAddr = peerAddr

    def __repr__(self) -> str:
        return f"UDPContext({self.pkg!r}, {self.peerAddr!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UDPContext):
            return NotImplemented
        return bool(self.pkg == other.pkg) and self.peerAddr == other.peerAddr

    __hash__ = None  # type: ignore[assignment]  # a package need not be hashable
