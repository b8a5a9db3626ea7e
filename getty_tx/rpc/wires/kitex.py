"""
TTHeader as Kitex speaks it: protocol id 0, and in each payload a message of Thrift's binary protocol.

A client of Kitex may have each message framed within its frame, with a length of 32 bits; it is answered so.

The type, the method and the result are those of the Thrift message, whatever the blocks say. One-way calls have the
type of others; that they get no reply is in the IDL. Errors are Thrift's application exceptions, whose numbers say less
than the codes of getty_tx: where that would be lost, the code goes into the string ``getty-code``. An error whose code
is a number is a business error of Kitex: strings beside a reply whose result is empty.

A client of Kitex that has one call at a time on a connection takes any frame for its reply. It learns that a server is
going away from the string ``crrst`` of a reply. One that mixes calls sets the flag 0x01, and knows the frame for it.

Kitex's streams, with the flag 0x02, and its protobuf payloads are refused.
"""

from __future__ import annotations

import json
from struct import Struct
from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.messages import Cancel, ErrorReply, GoingAway, Reply, Request
from getty_tx.rpc.wires.info import packInfo
from getty_tx.rpc.wires.thriftmessage import (
    CALL,
    EXCEPTION,
    MOST_TEXT,
    ONE_WAY,
    OVERHEAD,
    REPLY,
    cutText,
    exceptionStruct,
    exceptionType,
    packMessage,
    parseMessage,
    readException,
)
from getty_tx.rpc.wires.ttheader import COUNTED, HEAD, MAGIC, STREAMING, TTHeaderCodec

if TYPE_CHECKING:
    from getty_tx.rpc.payloads.thriftpayload import ThriftPayload
    from getty_tx.rpc.wires.ttheader import TTHeader

__all__ = ["KitexCodec"]

_HEAD = Struct(">IHHiH")
_length = Struct(">I")
#: The first bytes of a message; and those of Kitex's for protobuf.
_BINARY, _PROTOBUF = b"\x80\x01", b"\x90\x01"
#: Replies may come in any order.
_OUT_OF_ORDER = 1
_TYPE = 22

_CODE, _LEAVING = "getty-code", "crrst"
_STATUS, _MESSAGE, _EXTRA = "biz-status", "biz-message", "biz-extra"

#: The reply in the frame that says that the sender is going away.
_NONE = bytes.fromhex("80010002 00000004 6e6f6e65 00000000 00")


class KitexCodec(TTHeaderCodec):
    """The codec of one session."""

    __slots__ = ("_asked", "_isFramed", "_isLeaving", "_mixes", "_thrift")

    def __init__(self, wire: TTHeader, payload: ThriftPayload) -> None:
        super().__init__(wire)
        self._thrift = payload
        # The names of the calls in, until they are answered: the reply must have them.
        self._asked: dict[int, str] = {}
        # The peer has a length before each message.
        self._isFramed = False
        # The peer knows a frame that is no reply; and replies are to say that this end is going away.
        self._mixes = self._isLeaving = False

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """The message at the front of ``data``. :raise CodecError: the bytes are no TTHeader, or no Thrift message."""
        if len(data) >= HEAD:
            _, magic, flags, _, _ = _HEAD.unpack_from(data)
            if magic != MAGIC and _BINARY in (bytes(data[:2]), bytes(data[4:6])):
                raise CodecError(
                    f"rpc: Thrift without TTHeader, which is not {self.wire}; rpc.Thrift takes both", session
                )
            if flags & STREAMING and magic == MAGIC:
                raise CodecError(f"rpc: a frame of a stream of Kitex (flag 0x02): {self.wire} has no streams", session)
            if flags & _OUT_OF_ORDER:
                self._mixes = True
        return super().read(session, data)

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The messages whose blocks are known; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        last = len(data) - HEAD
        while at <= last and len(found) < 64:
            length, magic, flags, number, size = _HEAD.unpack_from(data, at)
            stop = at + 4 + length
            body = at + HEAD + 4 * size
            if magic != MAGIC or stop > len(data) or body > stop or 4 + length > limit or not number:
                break
            route = self._routes.get(data[at + HEAD : body])
            if route is None or flags & STREAMING:
                break
            try:
                found.append((self._message(session, route, number, data[body:stop]), stop))
            except CodecError:
                # Raised again, by read(), when those before it have been handled.
                break
            if flags & _OUT_OF_ORDER:
                self._mixes = True
            at = stop
        return found

    def _message(self, session: Any, route: Any, number: int, payload: bytes) -> Any:
        if not number and not _isCall(payload):
            message = super()._message(session, route, number, payload)
            if type(message) is Cancel:
                self._asked.pop(message.id, None)
            return message
        message = self._call(session, route, number, payload)
        return GoingAway(message) if _LEAVING in route.strings else message

    def _call(self, session: Any, route: Any, number: int, payload: bytes) -> Any:
        """A request, or what answers one."""
        if route.features is not None:
            self.understood |= route.features
        if payload[4:6] == _BINARY and payload[:2] != _BINARY:
            if _length.unpack_from(payload)[0] != len(payload) - 4:
                raise CodecError(f"rpc: a message that is not as long as its frame of {len(payload)} bytes", session)
            self._isFramed = True
            payload = payload[4:]
        elif payload[4:6] == _PROTOBUF:
            raise CodecError(f"rpc: a payload of Kitex's protobuf, which is not {self.wire}", session)
        kind, name, _, struct = parseMessage(session, payload, self.wire.maxMetadata)
        if kind in (CALL, ONE_WAY):
            service = route.strings.get("isn") or self._thrift.serviceOf(name)
            name = f"{service}/{name}"
            isOneWay = kind == ONE_WAY or self._thrift.isOneWay(name)
            if not isOneWay:
                self._asked[number] = name
            return Request(number, name, struct, route.timeout, route.metadata, isOneWay)
        if kind == REPLY:
            if route.metadata is not None and _isStatus(route.metadata.get(_STATUS, "")):
                return _businessError(number, route.metadata)
            return Reply(number, struct, route.metadata)
        if kind == EXCEPTION:
            return readException(number, struct, route.metadata, (route.metadata or {}).get(_CODE))
        raise CodecError(f"rpc: a Thrift message of the unknown type {kind}", session)

    def write(self, session: Any, message: Any) -> bytes:
        """
        The frame of a message.

        :raise PayloadError: its metadata is too long, or the IDL has no reply to it; or the frame is longer than the
            session's ``maxMsgLen``.
        """
        kind = type(message)
        number = getattr(message, "id", 0)
        flags = 0
        if kind is Request:
            name = message.name
            if not message.isOneWay and self._thrift.isOneWay(name):
                raise PayloadError(f"{name} is oneway in the IDL: send() it, there is no reply to wait for", sent=False)
            flags = _OUT_OF_ORDER
            # Kitex sends one-way calls as others.
            plain = Request(message.id, name, b"", message.timeout, message.metadata)
            block = self._blocks.get((name, message.timeout)) if message.metadata is None and self._announced else None
            if block is None:
                block = self._packRequest(plain, (name, message.timeout))
            payload = packMessage(CALL, name.partition("/")[2], message.id, message.payload)
        elif kind is Reply:
            block = self._reply if message.metadata is None and self._announced and not self._isLeaving else None
            if block is None:
                block = self._pack(self._strings(), message.metadata, {_TYPE: "2"})
            name = self._asked.get(number, "")
            payload = packMessage(REPLY, name.partition("/")[2], message.id, message.payload)
        elif kind is ErrorReply:
            block, payload = self._error(message, session.maxMsgLen)
        elif kind is GoingAway:
            self._isLeaving = True
            if not self._mixes:
                return b""
            block, payload = packInfo(self.wire.protocol, {_LEAVING: "1"}, {}), _NONE
        else:
            return super().write(session, message)
        if self._isFramed and kind is not GoingAway:
            payload = _length.pack(len(payload)) + payload
        size = HEAD + len(block) + len(payload)
        # The text of an error is short enough; but it would not come if its metadata were too long.
        if size > session.maxMsgLen and (kind is not ErrorReply or message.metadata is not None):
            text = f"rpc: a frame of {size} bytes, {len(block)} of them metadata, is above maxMsgLen"
            raise PayloadError(f"{text}={session.maxMsgLen}", sent=False)
        if kind is Reply or kind is ErrorReply:
            # Not before: what cannot be written is answered otherwise.
            self._asked.pop(number, None)
        head = _HEAD.pack(COUNTED + len(block) + len(payload), MAGIC, flags, number, len(block) >> 2)
        return b"".join((head, block, payload))

    def _strings(self) -> dict[str, str]:
        """Those of each reply."""
        return {_LEAVING: "1"} if self._isLeaving and not self._mixes else {}

    def _error(self, message: ErrorReply, limit: int) -> tuple[bytes, bytes]:
        """The blocks and the message of an error, whose texts are cut so that they fit."""
        service, _, method = self._asked.get(message.id, "").partition("/")
        strings = self._strings()
        code = str(message.code)
        if _isStatus(code):
            room = min(limit, self.wire.maxMetadata) // 2 - OVERHEAD
            strings |= {_STATUS: code, _MESSAGE: cutText(message.text, room)}
            extra = _extra(message.details)
            if extra is not None and len(extra) <= room:
                strings[_EXTRA] = extra
            return self._pack(strings, message.metadata, {_TYPE: "2"}), packMessage(REPLY, method, message.id, b"\0")
        if code not in ("noMethod", "payload", "internal"):
            strings[_CODE] = cutText(code, OVERHEAD)
        block = self._pack(strings, message.metadata, {_TYPE: "3"})
        text = cutText(message.text, min(MOST_TEXT, limit - OVERHEAD - len(block)))
        struct = exceptionStruct(text, exceptionType(code, service in self._thrift.services))
        return block, packMessage(EXCEPTION, method, message.id, struct)


def _extra(details: Any) -> str | None:
    """The details of a business error: texts by texts, as Kitex has them; None: they are something else."""
    if isinstance(details, dict) and all(isinstance(each, str) for pair in details.items() for each in pair):
        return json.dumps(details, separators=(",", ":"))
    return None


def _isStatus(code: str) -> bool:
    """Whether a code is one of a business error: a number of 32 bits that is not 0."""
    digits = code.removeprefix("-")
    isNumber = digits.isascii() and digits.isdecimal() and len(digits) < 11
    return isNumber and int(code) != 0 and -(1 << 31) <= int(code) < 1 << 31


def _isCall(payload: bytes) -> bool:
    """Whether it is a call, which a client may have given the number of the frames that are none."""
    begin = payload[:4] if payload[:2] == _BINARY else payload[4:8]
    return begin[:2] == _BINARY and begin[3] in (CALL, ONE_WAY)


def _businessError(number: int, metadata: Any) -> ErrorReply:
    """An error of the application, which Kitex sends beside an empty result."""
    try:
        details = json.loads(metadata.get(_EXTRA, "null"))
    except (ValueError, RecursionError):
        details = None
    return ErrorReply(number, metadata[_STATUS], metadata.get(_MESSAGE, ""), details, metadata)
