"""
Publications and histories in frames: the structures of :py:mod:`getty_tx.groups.hub.wire`.

A payload is the key of a publication, with its length before it, and its package as
:py:func:`getty_tx.groups.packing.packed` makes it. The hub hands it on, and keeps it, without looking into the package.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING

from getty_tx.groups.errors import GroupError, PublicationTooLongError
from getty_tx.groups.hub.wire import (
    DELIVER,
    HISTORY,
    MAX_PUBLICATION,
    PUBLISH,
    PUBLISHED,
    WireError,
    answerParts,
    frame,
    textOf,
)
from getty_tx.groups.packing import packedOf, unpacked
from getty_tx.groups.publication import CLOSE, History, Position, Publication

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from getty_tx.groups.publication import Retention

__all__ = [
    "Publishing",
    "historyParts",
    "packDelivery",
    "packHistory",
    "packPayload",
    "packPublish",
    "packPublished",
    "unpackDelivery",
    "unpackHistory",
    "unpackHistoryParts",
    "unpackPayload",
    "unpackPublished",
]

#: The length that says that there is no text.
_NONE = 0xFFFF

_PUBLISH = Struct("<IBQIdHH")
_PUBLISHED = Struct("<IQ")
_DELIVER = Struct("<BQQBH")
_HISTORY = Struct("<IIBQBH")
_KEY = Struct("<H")
_STREAM = Struct("<QBB")
_ITEM = Struct("<QI")


def _bytesOf(text: str | None, what: str) -> tuple[int, bytes]:
    if text is None:
        return _NONE, b""
    data = text.encode()
    if len(data) >= _NONE:
        raise GroupError(f"{what} has {len(data)} bytes, more than {_NONE - 1}")
    return len(data), data


def packPayload(publication: Publication, name: str) -> bytes:
    """
    Key and package of a publication to this group.

    :raise GroupError: JSON cannot say it; PublicationTooLongError: it is too long.
    """
    data = packedOf(publication, name)
    if len(data) > MAX_PUBLICATION:
        text = f"a publication of {len(data)} bytes is longer than the {MAX_PUBLICATION} between processes"
        raise PublicationTooLongError(text)
    size, key = _bytesOf(publication.key, "key")
    return _KEY.pack(size) + key + data


def _checkPayload(payload: bytes) -> None:
    """Others are to read it: what is wrong is found with the one that has sent it."""
    [size] = _KEY.unpack_from(payload)
    stop = _KEY.size
    if size != _NONE:
        stop += size
        textOf(payload[_KEY.size : stop])
    if payload[stop : stop + 1] not in (b"b", b"s", b"j"):
        raise WireError("a publication has no package")


def unpackPayload(payload: bytes, publication: Publication) -> Publication:
    """
    Give a publication its key, package and size.

    :raise GroupError: the package cannot be read; the publication has None instead.
    """
    size = _KEY.unpack_from(payload)[0]
    start = _KEY.size
    if size != _NONE:
        start += size
        publication.key = textOf(payload[_KEY.size : start])
    publication.pkg = None
    publication.size = len(payload) - start - 1
    publication.pkg = unpacked(payload[start:])
    return publication


def packPublish(number: int, name: str, publication: Publication, retention: Retention, id: str | None) -> bytes:
    """
    A PUBLISH.

    :raise GroupError: it cannot be brought to other processes.
    """
    payload = packPayload(publication, name)
    nameSize, nameData = _bytesOf(name, "name")
    idSize, idData = _bytesOf(id, "id")
    head = _PUBLISH.pack(
        number, publication.kind, publication.publisher, retention.size, retention.seconds, nameSize, idSize
    )
    return frame(PUBLISH, head + nameData + idData + payload)


class Publishing:
    """
    A PUBLISH that has come.

    :ivar number: of the request.
    :ivar kind: of the publication.
    :ivar publisher: the number of the session that does not get it, in the process that it comes from.
    :ivar nameData: the name as it stands in frames.
    :ivar payload: key and package.
    :raise WireError: it is none.
    """

    __slots__ = ("id", "kind", "name", "nameData", "number", "payload", "publisher", "seconds", "size")

    def __init__(self, body: bytes) -> None:
        try:
            self.number, self.kind, self.publisher, self.size, self.seconds, nameSize, idSize = _PUBLISH.unpack_from(
                body
            )
            at = _PUBLISH.size + nameSize
            self.nameData = body[_PUBLISH.size : at]
            self.name = textOf(self.nameData)
            self.id: str | None = None
            if idSize != _NONE:
                self.id = textOf(body[at : at + idSize])
                at += idSize
            self.payload = body[at:]
            _checkPayload(self.payload)
        except StructError as error:
            raise WireError(f"a PUBLISH is too short: {error}") from None
        # Not a number is not at least 0.
        if not self.name or self.kind > CLOSE or not 0 <= self.seconds < float("inf"):
            raise WireError("a PUBLISH has no name, an unknown kind, or no time")


def packPublished(number: int, position: Position | None) -> bytes:
    """A PUBLISHED."""
    if position is None:
        return frame(PUBLISHED, _PUBLISHED.pack(number, 0))
    return frame(PUBLISHED, _PUBLISHED.pack(number, position.offset) + position.epoch.encode())


def unpackPublished(body: bytes) -> tuple[int, Position | None]:
    """The reverse. :raise WireError: it is too short."""
    try:
        number, offset = _PUBLISHED.unpack_from(body)
    except StructError as error:
        raise WireError(f"a PUBLISHED is too short: {error}") from None
    return number, Position(textOf(body[_PUBLISHED.size :]), offset) if offset else None


def packDelivery(kind: int, publisher: int, position: Position | None, nameData: bytes, payload: bytes) -> bytes:
    """A DELIVER."""
    epoch, offset = (b"", 0) if position is None else (position.epoch.encode(), position.offset)
    head = _DELIVER.pack(kind, publisher, offset, len(epoch), len(nameData))
    return frame(DELIVER, b"".join((head, epoch, nameData, payload)))


def unpackDelivery(body: bytes) -> tuple[str, Publication, bytes]:
    """The reverse: the name, a publication without its package, and the payload. :raise WireError: it is too short."""
    try:
        kind, publisher, offset, epochSize, nameSize = _DELIVER.unpack_from(body)
    except StructError as error:
        raise WireError(f"a DELIVER is too short: {error}") from None
    at = _DELIVER.size + epochSize
    stop = at + nameSize
    if len(body) < stop + _KEY.size:
        raise WireError("a DELIVER is too short")
    position = Position(textOf(body[_DELIVER.size : at]), offset) if offset else None
    return textOf(body[at:stop]), Publication(None, position, kind=kind, publisher=publisher), body[stop:]


def packHistory(number: int, name: str, since: Position | None, limit: int) -> bytes:
    """A HISTORY. :raise GroupError: the epoch is none of ours: too long."""
    epoch = b"" if since is None else since.epoch.encode()
    offset = 0 if since is None else since.offset
    if len(epoch) > 255 or not 0 <= offset < 1 << 63:
        raise GroupError(f"{since} is no position")
    nameSize, nameData = _bytesOf(name, "name")
    head = _HISTORY.pack(number, limit, since is not None, offset, len(epoch), nameSize)
    return frame(HISTORY, head + epoch + nameData)


def unpackHistory(body: bytes) -> tuple[int, str, Position | None, int]:
    """The reverse: number, name, position, limit. :raise WireError: it is none."""
    try:
        number, limit, hasSince, offset, epochSize, nameSize = _HISTORY.unpack_from(body)
    except StructError as error:
        raise WireError(f"a HISTORY is too short: {error}") from None
    at = _HISTORY.size + epochSize
    name = textOf(body[at:])
    if len(body) != at + nameSize or not name:
        raise WireError("a HISTORY has another length than it says")
    return number, name, Position(textOf(body[_HISTORY.size : at]), offset) if hasSince else None, limit


def historyParts(number: int, history: History) -> Iterator[bytes]:
    """The answer to a HISTORY. Its publications have payloads as packages."""
    epoch = history.position.epoch.encode()
    head = _STREAM.pack(history.position.offset, history.isWhole, len(epoch)) + epoch
    items = (
        _ITEM.pack(each.position.offset, len(each.pkg)) + each.pkg
        for each in history.publications
        if each.position is not None
    )
    return answerParts(number, items, head)


def unpackHistoryParts(parts: Sequence[bytes]) -> History:
    """The reverse. :raise WireError: it is none."""
    publications: list[Publication] = []
    try:
        for part in parts:
            offset, isWhole, epochSize = _STREAM.unpack_from(part)
            at = _STREAM.size + epochSize
            epoch = textOf(part[_STREAM.size : at])
            while at < len(part):
                number, size = _ITEM.unpack_from(part, at)
                at += _ITEM.size
                publication = Publication(None, Position(epoch, number))
                with suppress(GroupError):
                    # What cannot be read has its place in the order, and no package.
                    unpackPayload(part[at : at + size], publication)
                publications.append(publication)
                at += size
    except StructError as error:
        raise WireError(f"a history is too short: {error}") from None
    return History(Position(epoch, offset), publications, bool(isWhole))
