"""
What is in a channel's messages.

A publication is a line of fields, and what was published::

    G1|EPOCH|OFFSET|NODE|PUBLISHER|KIND|KEYLENGTH|LENGTH|KEY PACKAGE

EPOCH and OFFSET say where it stands; both empty: it has no number. NODE and PUBLISHER name the session that does not
get it, in the process that it is of. KIND is that of :py:class:`~getty_tx.groups.Publication`; empty: 0. KEYLENGTH is
the length of KEY in bytes; empty: it has none. LENGTH is that of PACKAGE, in the bytes of
:py:mod:`~getty_tx.groups.packing`; empty: all that is left. Between KEY and PACKAGE is nothing. So other programs
publish with ``G1||||||||`` before the package::

    redis-cli PUBLISH 'app:{54}:chat:42' 'G1||||||||j{"text":"hello"}'

Members that have come or gone are JSON: ``M1|{"joined":[[KEY,USER,INFO],...],"left":[...]}``.

In a history's stream is what follows EPOCH and OFFSET, as the stream's ids are the offsets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.groups.errors import GroupError
from getty_tx.groups.packing import packedOf, unpacked
from getty_tx.groups.publication import CLOSE, EXCLUSIVE, PUBLICATION, Member, Position, Publication

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EnvelopeError",
    "memberFrom",
    "membersFrom",
    "membersMessage",
    "packedMember",
    "positionFrom",
    "publicationFrom",
    "restOf",
    "unnumbered",
]

_UNNUMBERED = b"G1|||"

#: Digits of 2**63 - 1, the highest offset.
_DIGITS = 19

#: Bytes of a key and of an epoch that are taken.
_MAX_KEY = 4096
_MAX_EPOCH = 64

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class EnvelopeError(GroupError):
    """A message in a channel, or an entry in a history, is none."""


def restOf(publication: Publication, token: bytes, name: str) -> bytes:
    """
    What follows epoch and offset.

    :param token: names this process.
    :param name: of the group.
    :raise GroupError: the package cannot be brought to others, or is longer than it may be.
    """
    body = packedOf(publication, name)
    publisher = publication.publisher
    kind = publication.kind
    key = b"" if publication.key is None else publication.key.encode()
    if len(key) > _MAX_KEY:
        raise GroupError(f"a key of {len(key)} bytes is longer than {_MAX_KEY}")
    keyLength = b"" if publication.key is None else b"%d" % len(key)
    return b"%b|%d|%d|%b|%d|%b%b" % (token, publisher, kind, keyLength, len(body), key, body)


def unnumbered(rest: bytes) -> bytes:
    """The message of a publication without a number."""
    return _UNNUMBERED + rest


def positionFrom(epoch: bytes, offset: bytes) -> Position:
    """:raise EnvelopeError: it is none."""
    if not 0 < len(epoch) <= _MAX_EPOCH or not epoch.isalnum():
        raise EnvelopeError(f"{epoch[:80]!r} is no epoch")
    return Position(epoch.decode(), _number("offset", offset))


def publicationFrom(message: bytes, token: bytes) -> tuple[Publication, bool]:
    """
    A publication, and whether this process has sent it.

    :param message: beginning with ``G1|``.
    :param token: names this process: ``publisher`` is 0 for publications of others.
    :raise EnvelopeError: it is none.
    """
    try:
        start, epoch, offset, node, publisher, kind, keyLength, length, tail = message.split(b"|", 8)
    except ValueError:
        start = b""
    if start != b"G1":
        raise EnvelopeError("it does not begin with G1 and eight fields")
    position = positionFrom(epoch, offset) if epoch or offset else None
    isOwn = node == token
    key = None
    if keyLength:
        size = _number("key's length", keyLength)
        if size > _MAX_KEY or size > len(tail):
            raise EnvelopeError(f"a key of {size} bytes in {len(tail)}")
        try:
            key = tail[:size].decode()
        except ValueError:
            raise EnvelopeError("its key is not UTF-8") from None
        tail = tail[size:]
    if length and (len(length) > _DIGITS or not length.isdigit() or int(length) != len(tail)):
        raise EnvelopeError(f"a package of {len(tail)} bytes where {length[:_DIGITS]!r} are named")
    number = _number("kind", kind) if kind and kind != b"0" else PUBLICATION
    try:
        pkg = unpacked(tail)
    except GroupError as error:
        raise EnvelopeError(str(error)) from None
    if number:
        _checkKind(number, pkg)
    session = _number("publisher", publisher) if isOwn and publisher and publisher != b"0" else 0
    return Publication(pkg, position, key, number, session, len(tail) - 1), isOwn


def _checkKind(kind: int, pkg: Any) -> None:
    wanted = {EXCLUSIVE: str, CLOSE: dict}.get(kind)
    if wanted is None or not isinstance(pkg, wanted):
        raise EnvelopeError(f"kind {kind} with a {type(pkg).__name__}")


def _number(what: str, text: bytes) -> int:
    if text.isdigit() and len(text) <= _DIGITS:
        number = int(text)
        if number < 1 << 63:
            return number
    raise EnvelopeError(f"{text[:80]!r} is no {what}")


def packedMember(member: Member) -> str:
    """
    A member as it is kept, without its key.

    :raise GroupError: JSON cannot say its ``info``.
    """
    try:
        return _encode([member.user, dict(member.info)])
    except (TypeError, ValueError, RecursionError) as error:
        raise GroupError(f"the info of a member is not what JSON can say: {error}") from None


def memberFrom(key: bytes, value: bytes) -> Member:
    """:raise EnvelopeError: it is none."""
    try:
        return _member([key.decode(), *json.loads(value)])
    except (ValueError, TypeError, RecursionError):
        raise EnvelopeError("an entry of presence is no member") from None


def membersMessage(joined: Sequence[Member], left: Sequence[Member]) -> bytes:
    """The message that members have come or gone."""
    lists = {"joined": joined, "left": left}
    return b"M1|" + _encode({name: [[m.key, m.user, dict(m.info)] for m in lists[name]] for name in lists}).encode()


def membersFrom(message: bytes) -> tuple[list[Member], list[Member]]:
    """
    Members that have come, and that have gone.

    :param message: beginning with ``M1|``.
    :raise EnvelopeError: it says nothing of the kind.
    """
    try:
        said = json.loads(message[3:])
        return [_member(each) for each in said["joined"]], [_member(each) for each in said["left"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise EnvelopeError("it does not say who has come and gone") from None


def _member(fields: list[Any]) -> Member:
    key, user, info = fields
    if not isinstance(key, str) or not (user is None or isinstance(user, str)) or not isinstance(info, dict):
        raise ValueError("no member")
    return Member(key, user, info)
