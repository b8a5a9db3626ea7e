"""
What a sub-reactor and the hub in the main process say to one another: frames, without I/O.

A frame has 4 bytes with the length of its body, 1 byte with its kind, and the body. Numbers are little-endian. A text
is UTF-8, with its length before it in the fixed part. What is published goes in structures, everything else as JSON.
Nothing is pickled; lengths are checked before anything is kept.

================  ===========  =====================================================================================
from the sub      HELLO        "getty groups" and the version, 1 byte; the first frame
                  SUBSCRIBE    the number of the request, 4 bytes, and the name of a group
                  UNSUBSCRIBE  the name of a group
                  PUBLISH      number, kind, publisher, retention, name, id, and the payload
                  HISTORY      number, limit, position, name
                  PRESENT      JSON: name, key, user, info
                  ABSENT       JSON: name, key
                  PRESENCE     JSON: number, name, limit
                  COUNTS       JSON: number, names
                  RESET        its groups have stopped: it has no subscriptions and no members
from the main     HELLO        as above: the answer
                  DONE         the number of a SUBSCRIBE that is in force, and the name
                  PUBLISHED    the number of a PUBLISH, and its position
                  DELIVER      kind, publisher, position, name, and the payload as it came
                  MISSED       JSON: names of groups of which publications were dropped for this sub-reactor
                  MEMBERS      JSON: name, those who have joined, those who have left: key, user, info, away
                  ANSWER       number, a byte that is 1 in the last part, and a part of the answer
================  ===========  =====================================================================================

A payload is the key of a publication, with its length before it, and its package as
:py:func:`getty_tx.groups.packing.packed` makes it. The hub hands it on without looking into the package.
"""

from __future__ import annotations

import json
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from getty_tx.groups.errors import GroupError
from getty_tx.groups.publication import Member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "ABSENT",
    "ANSWER",
    "COUNTS",
    "DELIVER",
    "DONE",
    "GREETING",
    "HELLO",
    "HISTORY",
    "MAX_FRAME",
    "MAX_PUBLICATION",
    "MEMBERS",
    "MISSED",
    "PRESENCE",
    "PRESENT",
    "PUBLISH",
    "PUBLISHED",
    "RESET",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "Frames",
    "WireError",
    "answerParts",
    "checkGreeting",
    "countsOf",
    "encoded",
    "frame",
    "jsonOf",
    "membersOf",
    "numbered",
    "plain",
    "textOf",
    "unpackNumbered",
    "unpackPart",
    "valuesOf",
]

HELLO, SUBSCRIBE, UNSUBSCRIBE, PUBLISH, HISTORY, PRESENT, ABSENT, PRESENCE, COUNTS, RESET = b"hsuphiacnr"
DONE, PUBLISHED, DELIVER, MISSED, MEMBERS, ANSWER = b"odDxmA"

#: What a connection begins with. A reload may start sub-reactors of another version than the main process has.
VERSION = 2
GREETING = b"getty groups" + bytes([VERSION])

#: Bytes of the longest publication: a namespace's ``maxPublication`` is usually far below.
MAX_PUBLICATION = 16 * 1024 * 1024

#: Bytes of the longest body: a publication with its name, id and key, which have up to 64 KiB each.
MAX_FRAME = MAX_PUBLICATION + 4 * 65536

#: Bytes after which an answer goes on in another part.
PART_BYTES = 65536

_HEAD = Struct("<IB")
_NUMBER = Struct("<I")
_PART = Struct("<IB")

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class WireError(GroupError):
    """The other end has sent what is no frame, or not what a frame of its kind has."""


def frame(kind: int, body: bytes = b"") -> bytes:
    """
    A frame.

    :raise GroupError: the body is longer than :py:data:`MAX_FRAME`.
    """
    if len(body) > MAX_FRAME:
        raise GroupError(f"{len(body)} bytes at once are more than the {MAX_FRAME} between processes")
    return _HEAD.pack(len(body), kind) + body


class Frames:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_chunks", "_have", "_needed")

    def __init__(self) -> None:
        # Of the frame that has come in part: a long one is joined once, when it is whole.
        self._chunks: list[bytes] = []
        self._have = 0
        self._needed = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """
        Frames that are whole by now, each with its kind and body. To be taken to the end before the next call.

        :raise WireError: a length is above :py:data:`MAX_FRAME`.
        """
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._needed:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        at, end = 0, len(data)
        self._needed = _HEAD.size
        while end - at >= _HEAD.size:
            size, kind = _HEAD.unpack_from(data, at)
            if size > MAX_FRAME:
                raise WireError(f"a frame of {size} bytes is longer than {MAX_FRAME}")
            stop = at + _HEAD.size + size
            if stop > end:
                self._needed = stop - at
                break
            yield kind, data[at + _HEAD.size : stop]
            at = stop
        if at < end:
            self._chunks.append(data[at:])
            self._have = end - at


def checkGreeting(body: bytes) -> None:
    """
    Check what the other end begins with.

    :raise WireError: it is of another version, or no end of ours.
    """
    if body == GREETING:
        return
    if body[:-1] == GREETING[:-1]:
        text = f"it speaks version {body[-1]} of the hub, and this process {VERSION}"
        raise WireError(f"{text}: restart the main process, a reload is not enough")
    raise WireError("it does not begin with a greeting")


# Small parts


def textOf(data: bytes) -> str:
    """
    A text of the other end.

    :raise WireError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"not UTF-8: {error}") from None


def encoded(value: Any) -> bytes:
    """A value as JSON."""
    return _encode(value).encode()


def jsonOf(kind: int, value: Any) -> bytes:
    """A frame with JSON. :raise GroupError: it is too long."""
    return frame(kind, encoded(value))


def plain(body: bytes, *types: Any) -> Any:
    """
    The values of a frame with JSON.

    :param types: what they have to be, for ``isinstance``.
    :raise WireError: they are something else.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
    if not isinstance(values, list) or len(values) != len(types) or not all(map(isinstance, values, types)):
        raise WireError(f"JSON has other values than {len(types)} of the kinds that belong there")
    return values


def membersOf(values: Any) -> list[Member]:
    """Members from JSON. :raise WireError: they are none."""
    try:
        return [Member(key, user, info, *away) for key, user, info, *away in values]
    except (TypeError, ValueError) as error:
        raise WireError(f"no members: {error}") from None


def valuesOf(parts: Sequence[bytes]) -> list[Any]:
    """The values of an answer. :raise WireError: they are none."""
    try:
        return list(json.loads(b"[" + b",".join(filter(None, parts)) + b"]"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None


def countsOf(parts: Sequence[bytes]) -> dict[str, int]:
    """Numbers by name, from an answer. :raise WireError: they are none."""
    try:
        return {str(name): int(count) for name, count in valuesOf(parts)}
    except (TypeError, ValueError) as error:
        raise WireError(f"no counts: {error}") from None


def numbered(kind: int, number: int, rest: bytes = b"") -> bytes:
    """A frame that begins with the number of a request."""
    return frame(kind, _NUMBER.pack(number) + rest)


def unpackNumbered(body: bytes) -> tuple[int, bytes]:
    """The reverse. :raise WireError: it is too short."""
    if len(body) < _NUMBER.size:
        raise WireError("a frame is too short for its number")
    return _NUMBER.unpack_from(body)[0], body[_NUMBER.size :]


# Answers


def answerParts(number: int, items: Iterable[bytes], head: bytes = b"", joint: bytes = b"") -> Iterator[bytes]:
    """
    ANSWER frames.

    :param items: what the answer consists of.
    :param head: begins each part.
    :param joint: stands between items.
    """
    part: list[bytes] = []
    size = 0
    for item in items:
        if part and size + len(item) > PART_BYTES:
            yield frame(ANSWER, _PART.pack(number, False) + head + joint.join(part))
            part, size = [], 0
        part.append(item)
        size += len(item)
    yield frame(ANSWER, _PART.pack(number, True) + head + joint.join(part))


def unpackPart(body: bytes) -> tuple[int, bool, bytes]:
    """A part of an answer: number, whether it is the last, and the rest. :raise WireError: it is none."""
    try:
        number, isLast = _PART.unpack_from(body)
    except StructError as error:
        raise WireError(f"an ANSWER is too short: {error}") from None
    return number, bool(isLast), body[_PART.size :]
