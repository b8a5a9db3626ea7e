"""The request of a WebSocket client, as ``session.request`` shows it to ``newSession``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

__all__ = ["UpgradeRequest", "Values"]


class Values(Mapping[str, str]):
    """
    Values by name, of which a name may have several.

    :param pairs: names and values, in order.
    :param isHead: these are header fields: names are the same in upper and lower case, and ``values[name]`` joins
        several with a comma (RFC 9110, section 5.3). Otherwise it is the first.
    """

    __slots__ = ("_isHead", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]], isHead: bool = False) -> None:
        self._isHead = isHead
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower() if isHead else name, []).append(value)

    def getAll(self, name: str) -> list[str]:
        """All values of a name, in order; empty if there is none."""
        return list(self._values.get(name.lower() if self._isHead else name, ()))

    def __getitem__(self, name: str) -> str:
        values = self._values[name.lower() if self._isHead else name]
        return ", ".join(values) if self._isHead else values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Values({self._values!r})"


class UpgradeRequest:
    """
    What a client asked for with its WebSocket handshake. Its parts are parsed when they are asked for.

    :param head: the request, from its first line to the last field, checked already.
    :param path: the path.
    :param peer: the client's address.

    :ivar path: the path, as it was sent and with no query.
    :ivar peer: the client's address; behind ``haproxy:`` the one that the proxy told.
    """

    def __init__(self, head: bytes, path: str, peer: IAddress) -> None:
        self._head = head.decode("latin-1")
        self.path = path
        self.peer = peer

    def __repr__(self) -> str:
        # Neither query nor headers, because they may carry secrets.
        return f"<UpgradeRequest {self.path}>"

    @cached_property
    def queryString(self) -> str:
        """What follows the question mark, as it was sent; empty if there is none."""
        return self._head.split("\r\n", 1)[0].split(" ")[1].partition("?")[2]

    @cached_property
    def query(self) -> Values:
        """The fields of the query, decoded; ``query["a"]`` is the first value of ``a``."""
        return Values(parse_qsl(self.queryString, keep_blank_values=True))

    @cached_property
    def headers(self) -> Values:
        """The header fields, by names in any case; ``headers[name]`` joins several values with a comma."""
        lines = self._head.split("\r\n")[1:]
        fields = (line.partition(":") for line in lines)
        return Values(((name, value.strip(" \t")) for name, _, value in fields), isHead=True)

    @cached_property
    def cookies(self) -> Values:
        """The cookies. Of several with one name the first counts, which browsers send for the more specific path."""
        pairs = (pair.partition("=") for field in self.headers.getAll("Cookie") for pair in field.split(";"))
        return Values((name.strip(), value.strip().strip('"')) for name, equals, value in pairs if equals)

    @cached_property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers, the preferred one first."""
        offered = ",".join(self.headers.getAll("Sec-WebSocket-Protocol")).split(",")
        return [name.strip() for name in offered if name.strip()]
