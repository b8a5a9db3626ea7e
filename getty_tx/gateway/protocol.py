"""
Centrifuge's JSON protocol, without I/O: commands, replies, pushes, and the numbers of what can go wrong.

A WebSocket message of a client has commands, JSON objects with newlines between them. Each has an ``id`` and a method
with its parameters, but for the answer to a ping, which is ``{}``. What the server says is a reply, with the ``id`` of
its command, or a push, or a ping, which is ``{}`` as well. The names and the numbers are those of the protocol
(github.com/centrifugal/protocol, and errors.go and disconnect.go of github.com/centrifugal/centrifuge).
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from getty_tx.errors import GettyError
from getty_tx.groups.errors import EngineDownError, EngineTimeoutError, GroupError, NotAllowedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from getty_tx.groups import Member, Position, Publication

__all__ = [
    "BAD_REQUEST",
    "EXPIRED",
    "FORCED",
    "INSUFFICIENT_STATE",
    "INVALID_TOKEN",
    "MAX_OFFSET",
    "METHODS",
    "NOT_AVAILABLE",
    "NO_PONG",
    "PING",
    "SERVER_ERROR",
    "SLOW",
    "STALE",
    "SUBSCRIPTION_EXPIRED",
    "Command",
    "CommandError",
    "Disconnect",
    "DisconnectError",
    "clientOf",
    "encode",
    "encodePublication",
    "errorOf",
    "errorReply",
    "infoOf",
    "parse",
    "positionOf",
    "publicationText",
    "push",
    "pushText",
    "reply",
    "withPublications",
]

#: The methods of commands, in the order in which they are looked for.
METHODS = (
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "rpc",
    "send",
    "refresh",
    "sub_refresh",
)

#: The largest number of a command: 32 bits in the protocol.
_MAX_ID = 2**32 - 1

#: The largest offset that engines know.
MAX_OFFSET = 2**63 - 1

#: What the server sends to see whether the client is there, and what the client answers.
PING = "{}"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Disconnect(NamedTuple):
    """
    Why the server closes a connection. Clients come back after codes of 3000 to 3499, and not after 3500 to 3999.

    :ivar code: of the Close frame.
    :ivar reason: its text.
    """

    code: int
    reason: str


SERVER_ERROR = Disconnect(3004, "internal server error")
EXPIRED = Disconnect(3005, "connection expired")
NO_PONG = Disconnect(3012, "no pong")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_REQUEST = Disconnect(3501, "bad request")
SLOW = Disconnect(3008, "slow")
STALE = Disconnect(3502, "stale")
FORCED = Disconnect(3503, "force disconnect")
NOT_AVAILABLE = Disconnect(3508, "not available")

#: Codes of a push that ends a subscription, after which the client subscribes anew: it has missed something, or its
#: token has expired (unsubscribe.go).
INSUFFICIENT_STATE = {"code": 2500, "reason": "insufficient state"}
SUBSCRIPTION_EXPIRED = {"code": 2501, "reason": "subscription expired"}


class DisconnectError(GettyError):
    """
    The connection has to be closed.

    :ivar disconnect: how.
    """

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(f"{disconnect.code} {disconnect.reason}")
        self.disconnect = disconnect


#: By code: the message, and whether the same command may succeed later.
_ERRORS = {
    100: ("internal server error", True),
    101: ("unauthorized", False),
    102: ("unknown channel", False),
    103: ("permission denied", False),
    104: ("method not found", False),
    105: ("already subscribed", False),
    106: ("limit exceeded", False),
    107: ("bad request", False),
    108: ("not available", False),
    109: ("token expired", False),
    110: ("expired", False),
    111: ("too many requests", True),
    112: ("unrecoverable position", False),
}


class CommandError(GettyError):
    """
    A command fails, and its reply says so.

    :param code: one of the protocol's errors.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        self.text, self.isTemporary = _ERRORS[code]
        super().__init__(f"{code} {self.text}")

    def asDict(self) -> dict[str, Any]:
        """What the protocol says of it."""
        error: dict[str, Any] = {"code": self.code, "message": self.text}
        if self.isTemporary:
            error["temporary"] = True
        return error


def errorOf(error: BaseException) -> CommandError:
    """What a client is told of an error of groups, or of any other."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, NotAllowedError):
        return CommandError(103)
    if isinstance(error, GroupError) and not isinstance(error, EngineDownError | EngineTimeoutError):
        # Something is too long, or there are too many of something.
        return CommandError(106)
    return CommandError(100)


# Commands


class Command:
    """
    What a client asks for.

    :ivar id: the number that the reply has, too; 0: there is none.
    :ivar method: one of :py:data:`METHODS`; empty: the answer to a ping.
    :ivar params: what it says, by name.
    """

    __slots__ = ("id", "method", "params")

    def __init__(self, id: int, method: str, params: Mapping[str, Any]) -> None:
        self.id = id
        self.method = method
        self.params = params

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter that is a text. :raise DisconnectError: it is none, or it is missing and has no default."""
        value = self.params.get(name, default)
        if not isinstance(value, str):
            raise DisconnectError(BAD_REQUEST)
        return value

    @property
    def channel(self) -> str:
        """The channel. :raise DisconnectError: it is missing, or empty."""
        channel = self.text("channel")
        if not channel:
            raise DisconnectError(BAD_REQUEST)
        return channel

    def number(self, name: str, default: int = 0, least: int = 0) -> int:
        """A parameter that is a whole number. :raise DisconnectError: it is none, or out of its bounds."""
        return _number(self.params.get(name, default), least)

    def flag(self, name: str) -> bool:
        """A parameter that is true or false. :raise DisconnectError: it is neither."""
        value = self.params.get(name, False)
        if not isinstance(value, bool):
            raise DisconnectError(BAD_REQUEST)
        return value

    def position(self, name: str | None = None) -> tuple[str, int]:
        """
        Epoch and offset: those of the command, or of a parameter.

        :raise DisconnectError: they are none.
        """
        values = self.params if name is None else self.params.get(name)
        if not isinstance(values, dict):
            raise DisconnectError(BAD_REQUEST)
        epoch = values.get("epoch", "")
        if not isinstance(epoch, str):
            raise DisconnectError(BAD_REQUEST)
        return epoch, _number(values.get("offset", 0), 0)


def _number(value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_OFFSET:
        raise DisconnectError(BAD_REQUEST)
    return value


def _noNumber(text: str) -> float:
    raise ValueError(f"{text} is nothing that JSON can say")


_decode = json.JSONDecoder(parse_constant=_noNumber).decode


def parse(message: str) -> list[Command]:
    """
    The commands of a message.

    :raise DisconnectError: it is none of the protocol.
    """
    found = []
    for line in message.split("\n"):
        if not line or line.isspace():
            continue
        try:
            value = _decode(line)
        except (ValueError, RecursionError):
            raise DisconnectError(BAD_REQUEST) from None
        if not isinstance(value, dict):
            raise DisconnectError(BAD_REQUEST)
        found.append(_command(value))
    return found


def _command(value: dict[str, Any]) -> Command:
    number = value.get("id", 0)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_ID:
        raise DisconnectError(BAD_REQUEST)
    for method in METHODS:
        params = value.get(method)
        if params is not None:
            if not isinstance(params, dict) or not (number or method == "send"):
                raise DisconnectError(BAD_REQUEST)
            return Command(number, method, params)
    if number:
        raise DisconnectError(BAD_REQUEST)
    return Command(0, "", {})


# Replies and pushes


def encode(value: Any) -> str:
    """A value as JSON in one line. :raise ValueError: UTF-8 or JSON cannot say it. :raise TypeError: JSON cannot."""
    text = _encode(value)
    if not text.isascii():
        # Half of a surrogate pair, which JSON's escapes can say.
        text.encode()
    return text


def withPublications(text: str, publications: Sequence[str]) -> str:
    """A result with publications, where there are any: all are JSON already."""
    return _with(text, "publications", f"[{','.join(publications)}]") if publications else text


def _with(text: str, name: str, value: str) -> str:
    comma = "" if text == "{}" else ","
    return f'{text[:-1]}{comma}"{name}":{value}}}'


def reply(
    id: int,
    method: str,
    result: Mapping[str, Any],
    publications: Sequence[str] = (),
    subs: Mapping[str, str] | None = None,
) -> str:
    """
    What a command has come to.

    :param publications: more of the result: texts that are JSON already.
    :param subs: by channel what is told of it, in JSON already.
    """
    text = withPublications(encode(result), publications)
    if subs:
        text = _with(text, "subs", f"{{{','.join(f'{encode(name)}:{each}' for name, each in subs.items())}}}")
    return f'{{"id":{id},"{method}":{text}}}'


def errorReply(id: int, error: CommandError) -> str:
    """A command has failed."""
    return f'{{"id":{id},"error":{encode(error.asDict())}}}'


def push(channel: str, kind: str, value: Any) -> str:
    """Something that the client did not ask for."""
    return pushText(channel, kind, encode(value))


def pushText(channel: str, kind: str, text: str) -> str:
    """As :py:func:`push`, of what is JSON already."""
    return f'{{"push":{{"channel":{encode(channel)},"{kind}":{text}}}}}'


# Publications


def encodePublication(data: Any, info: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None) -> bytes:
    """
    The package of a publication that says more than its data.

    :param data: what JSON can say.
    :param info: who has published it: see :py:func:`infoOf`.
    :param tags: what else is told of it.
    :raise ValueError: JSON or UTF-8 cannot say it.
    """
    value: dict[str, Any] = {"data": data}
    if info:
        value["info"] = info
    if tags:
        value["tags"] = tags
    return encode(value).encode()


#: What a publication may say besides its offset.
_FIELDS = {"data", "info", "tags"}


def publicationText(publication: Publication) -> str:
    """
    A publication of a group as JSON: bytes are one of :py:func:`encodePublication`, all else is its data.

    :raise ValueError: the bytes are none. :raise TypeError: JSON cannot say it.
    """
    pkg, position = publication.pkg, publication.position
    if isinstance(pkg, bytes):
        value = _decode(pkg.decode())
        if not isinstance(value, dict) or "data" not in value:
            raise ValueError("bytes are a publication in JSON, an object with data")
        text = pkg.decode()
        # What is between two objects in a message is a newline, and what is appended goes before the last brace.
        if not (value.keys() <= _FIELDS and text[0] == "{" and text[-1] == "}" and "\n" not in text):
            text = encode({name: value[name] for name in value.keys() & _FIELDS})
    else:
        text = f'{{"data":{encode(pkg)}}}'
    if position is not None:
        text = f'{text[:-1]},"offset":{position.offset}}}'
    return text


def clientOf(key: str) -> str:
    """What a session is called outside, by its key, which may have names of machines: the same in all processes."""
    return blake2b(key.encode(), digest_size=10).hexdigest()


def infoOf(member: Member) -> dict[str, Any]:
    """What the protocol tells of a member: of those who are present, who come and go, and who publish."""
    info: dict[str, Any] = {"user": member.user or "", "client": clientOf(member.key)}
    if member.info:
        info["conn_info"] = dict(member.info)
    return info


def positionOf(position: Position | None) -> dict[str, Any]:
    """What the protocol tells of a position."""
    return {} if position is None else {"offset": position.offset, "epoch": position.epoch}
