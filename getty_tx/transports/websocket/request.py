"""The options of a WebSocket handshake: paths, origins, subprotocols and compression."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from getty_tx import settings
from getty_tx.errors import SettingError

__all__ = ["UpgradeOptions", "checkPath"]

# A token of RFC 9110, section 5.6.2: the syntax of subprotocols and header names.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def checkPath(path: str) -> str:
    """
    Check that a request line can have this path, and return it.

    :raise SettingError: it cannot.
    """
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or re.search(r"[\s#]", path):
        raise SettingError(f"path={path!r} is no path of a URL, such as /echo")
    return path


@dataclass(frozen=True)
class UpgradeOptions:
    """
    The options of a WebSocket handshake.

    :ivar paths: the paths of a server. A client has one, with a query if there is one.
    :ivar origins: of a server: pages of other origins are refused; ``*`` matches any characters. Empty: all are
        accepted. A request without an Origin is not from a browser, and is accepted.
    :ivar subprotocols: the subprotocols of a server, or those that a client offers, the preferred one first.
    :ivar deflate: whether messages may be compressed (permessage-deflate).
    :ivar host: of a client: the host and, with ``port``, the port in the request.
    :ivar origin: of a client, for servers that require one.
    :raise SettingError: one of them is invalid.
    """

    paths: tuple[str, ...] = ("/",)
    origins: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()
    deflate: bool = True
    host: str = "localhost"
    port: int = 80
    origin: str | None = None
    #: A cache for what the engine makes from the options.
    made: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for setting in ("paths", "origins", "subprotocols"):
            names = getattr(self, setting)
            if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
                raise SettingError(f"{setting}={names!r} is no tuple of strings")
        if not isinstance(self.host, str) or not isinstance(self.origin, str | None):
            raise SettingError(f"host={self.host!r}, origin={self.origin!r}: one is no string")
        settings.flag("deflate", self.deflate)
        if not self.paths:
            raise SettingError("a WebSocket needs a path, such as /echo")
        for path in self.paths:
            checkPath(path)
        for name in self.subprotocols:
            if not _TOKEN.fullmatch(name):
                raise SettingError(f"subprotocols: {name!r} is no name of a subprotocol")
        for origin in (*self.origins, self.origin or "", self.host):
            if not origin.isascii() or not origin.isprintable() or " " in origin:
                raise SettingError(f"{origin!r} is no origin, such as https://a.example")

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(".*".join(map(re.escape, origin.lower().rstrip("/").split("*")))) for origin in self.origins]

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may connect. ``origin`` is empty for a client that is not a browser."""
        if not self.origins or not origin:
            return True
        return any(pattern.fullmatch(origin.lower()) for pattern in self._patterns)

    def choose(self, offered: list[str]) -> str | None:
        """The first subprotocol of the server that the client offers, or None."""
        return next((name for name in self.subprotocols if name in offered), None)
