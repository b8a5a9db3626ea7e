"""The codec of a session of HTTP/2: bytes as they come, as the engine finds the frames."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.interfaces import IReadWriter

__all__ = ["FramesCodec"]


@implementer(IReadWriter)
class FramesCodec:
    """Packages are what one read has brought, 64 KiB at most."""

    __slots__ = ()

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """Take all there is."""
        part = data[: session.maxMsgLen]
        return bytes(part), len(part)

    def write(self, session: Any, pkg: bytes) -> bytes:
        """The engine has made the frames."""
        return pkg


#: It keeps nothing of a session.
FRAMES = FramesCodec()
