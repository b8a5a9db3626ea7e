"""Keys, values and revisions, and lists in pages."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from getty_tx.registry.errors import RecordError
from getty_tx.registry.etcd.bodies import TooLongError
from getty_tx.registry.etcd.refusals import COMPACTED, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.registry.etcd.http import Gateway

__all__ = ["PAGE", "Place", "Position", "decode64", "encode64", "listed", "rangeBody"]

T = TypeVar("T")

#: Records of a page: parsing 500 of 120 bytes takes some 4 ms.
PAGE = 500

#: Bytes of a page that are aimed at, where records are long.
PAGE_BYTES = 512 * 1024

#: How often a list is begun again whose revision is compacted while it is read.
ATTEMPTS = 3


def encode64(data: bytes) -> str:
    """Bytes as the gateway has them."""
    return b64encode(data).decode("ascii")


def decode64(text: str | None) -> bytes:
    """Bytes of the gateway's. An empty value is absent."""
    return b64decode(text) if text else b""


class Position(NamedTuple):
    """
    Up to where a follower knows everything.

    :ivar cluster: which cluster.
    :ivar term: of its last election: larger after every restart of one that has kept its data.
    :ivar revision: of the last change.
    """

    cluster: str
    term: int
    revision: int

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Position:
        """The one of an answer's header."""
        header = answer.get("header", {})
        return cls(str(header.get("cluster_id")), int(header.get("raft_term", 0)), int(header.get("revision", 0)))

    def wasLost(self, now: Position) -> bool:
        """Whether the data behind it are gone: a start revision in the future would be waited for in silence."""
        return now.cluster != self.cluster or now.revision < self.revision or now.term < self.term


class Place:
    """
    Where the records of a service are, or of all services.

    :ivar start: the first key.
    :ivar end: the first key behind them.
    """

    __slots__ = ("_depth", "end", "start")

    def __init__(self, prefix: str, service: str | None) -> None:
        self.start = f"{prefix}/".encode()
        if service is not None:
            self.start += f"{quote(service, safe='')}/".encode()
        # Of slashes in a key.
        self._depth = self.start.count(b"/") + (service is None)
        # "0" follows "/".
        self.end = self.start[:-1] + b"0"

    @staticmethod
    def key(prefix: str, service: str, id: str) -> bytes:
        """The key of a record."""
        return f"{prefix}/{quote(service, safe='')}/{quote(id, safe='')}".encode()

    def name(self, key: bytes) -> str:
        """What is behind the start, as text. Different keys have different ones."""
        return key[len(self.start) :].decode("latin-1")

    def split(self, key: bytes) -> tuple[str, str]:
        """The service and the rest, where the place is all services."""
        service, _, name = self.name(key).partition("/")
        return unquote(service), name

    def record(self, key: bytes, value: str | None) -> bytes | RecordError:
        """The record of a key: bytes as they are."""
        if self._depth != key.count(b"/") or key.endswith(b"/") or not key.isascii():
            return RecordError("its key is not that of an id, percent-encoded")
        return decode64(value)


def rangeBody(place: Place) -> dict[str, Any]:
    """The keys of a place, in a request."""
    return {"key": encode64(place.start), "range_end": encode64(place.end)}


async def listed(
    gateway: Gateway, place: Place, name: Callable[[bytes], T]
) -> tuple[Position, dict[T, bytes | RecordError]]:
    """
    All records of a place at one revision. Other events are handled between the pages.

    :param name: makes of a key what is behind it in the result; Place's ``name`` or ``split``.
    :raise RegistryError: etcd does not answer, or refuses.
    """
    limit = PAGE
    attempts = ATTEMPTS
    position: Position | None = None
    found: dict[T, bytes | RecordError] = {}
    body = rangeBody(place)
    while True:
        body["limit"] = limit
        try:
            answer, size = await gateway.measured("kv/range", body)
        except TooLongError:
            if limit == 1:
                raise
            limit = max(1, limit // 8)
            continue
        except RefusedError as error:
            attempts -= 1
            if error.code != COMPACTED or not attempts:
                raise
            position, found, body = None, {}, rangeBody(place)
            continue
        if position is None:
            position = Position.of(answer)
            body["revision"] = position.revision
        kvs = answer.get("kvs", ())
        key = b""
        for kv in kvs:
            key = decode64(kv["key"])
            found[name(key)] = place.record(key, kv.get("value"))
        if not kvs or not answer.get("more"):
            return position, found
        body["key"] = encode64(key + b"\0")
        limit = max(1, min(PAGE, len(kvs) * PAGE_BYTES // max(1, size)))
