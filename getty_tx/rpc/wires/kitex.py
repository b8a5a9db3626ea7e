"""
TTHeader as Kitex speaks it: protocol id 0, and in each payload a message of Thrift's binary protocol.

::

    0x8001:u16  0:u8  type:u8  name:s32  id:i32  struct

The type, the method and the result are those of the Thrift message, whatever the blocks say. One-way calls have the
type of others; that they get no reply is in the IDL. Errors are Thrift's application exceptions, whose numbers say less
than the codes of getty_tx: where that would be lost, the code goes into the string ``getty-code``.
"""

from __future__ import annotations

import json
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.messages import Cancel, ErrorReply, GoingAway, Reply, Request
from getty_tx.rpc.payloads.thriftbinary import readMessage
from getty_tx.rpc.wires.info import packInfo
from getty_tx.rpc.wires.ttheader import COUNTED, HEAD, MAGIC, TTHeaderCodec

if TYPE_CHECKING:
    from getty_tx.rpc.payloads.thriftpayload import ThriftPayload
    from getty_tx.rpc.wires.ttheader import TTHeader

__all__ = ["KitexCodec"]

_HEAD = Struct(">IHHiH")
_begin = Struct(">II")
_id = Struct(">i")

_VERSION = 0x80010000
_CALL, _REPLY, _EXCEPTION, _ONE_WAY = 1, 2, 3, 4
#: Replies may come in any order.
_OUT_OF_ORDER = 1
_TYPE = 22

#: Codes by the types of Thrift's exceptions, and of Kitex's.
_CODES = {0: "internal", 1: "noMethod", 6: "internal", 7: "payload", 20: "noMethod", 21: "noMethod"}
_UNKNOWN_METHOD, _INTERNAL, _PROTOCOL, _UNKNOWN_SERVICE = 1, 6, 7, 20

_CODE = "getty-code"
_STATUS, _MESSAGE, _EXTRA = "biz-status", "biz-message", "biz-extra"

#: The reply in the frame that says that the sender is going away.
_NONE = bytes.fromhex("80010002 00000004 6e6f6e65 00000000 00")


def _message(kind: int, name: str, number: int, struct: bytes) -> bytes:
    text = name.encode()
    return b"".join((_begin.pack(_VERSION | kind, len(text)), text, _id.pack(number), struct))


class _Exception:
    """TApplicationException: 1 a text, 2 a type."""

    thrift_spec = {1: (11, "text", False), 2: (8, "type", False)}

    def __init__(self) -> None:
        self.text: Any = ""
        self.type = 0


class KitexCodec(TTHeaderCodec):
    """The codec of one session."""

    __slots__ = ("_asked", "_thrift")

    def __init__(self, wire: TTHeader, payload: ThriftPayload) -> None:
        super().__init__(wire)
        self._thrift = payload
        # The names of the calls in, until they are answered: the reply must have them.
        self._asked: dict[int, str] = {}

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The messages whose blocks are known; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        last = len(data) - HEAD
        while at <= last and len(found) < 64:
            length, magic, _, number, size = _HEAD.unpack_from(data, at)
            stop = at + 4 + length
            body = at + HEAD + 4 * size
            if magic != MAGIC or stop > len(data) or body > stop or 4 + length > limit or not number:
                break
            route = self._routes.get(data[at + HEAD : body])
            if route is None:
                break
            try:
                found.append((self._message(session, route, number, data[body:stop]), stop))
            except CodecError:
                # Raised again, by read(), when those before it have been handled.
                break
            at = stop
        return found

    def _message(self, session: Any, route: Any, number: int, payload: bytes) -> Any:
        if not number:
            message = super()._message(session, route, number, payload)
            if type(message) is Cancel:
                self._asked.pop(message.id, None)
            return message
        if route.features is not None:
            self.understood |= route.features
        try:
            version, size = _begin.unpack_from(payload)
            at = 8 + size
            name = payload[8:at].decode()
            _id.unpack_from(payload, at)
        except (StructError, UnicodeDecodeError):
            raise CodecError("rpc: the payload is no Thrift message", session) from None
        if size > self.wire.maxMetadata:
            raise CodecError(f"rpc: a name of {size} bytes is above maxMetadata={self.wire.maxMetadata}", session)
        if version & 0xFFFFFF00 != _VERSION:
            raise CodecError(f"rpc: the payload begins with {version:#010x}, which is no Thrift message", session)
        kind = version & 0xFF
        struct = payload[at + 4 :]
        if kind in (_CALL, _ONE_WAY):
            service = route.strings.get("isn") or self._thrift.serviceOf(name)
            name = f"{service}/{name}"
            isOneWay = kind == _ONE_WAY or self._thrift.isOneWay(name)
            if not isOneWay:
                self._asked[number] = name
            return Request(number, name, struct, route.timeout, route.metadata, isOneWay)
        if kind == _REPLY:
            if route.metadata is not None and route.metadata.get(_STATUS, "0") != "0":
                return _businessError(number, route.metadata)
            return Reply(number, struct, route.metadata)
        if kind == _EXCEPTION:
            return _errorReply(number, struct, route.metadata)
        raise CodecError(f"rpc: a Thrift message of the unknown type {kind}", session)

    def write(self, session: Any, message: Any) -> bytes:
        """
        The frame of a message.

        :raise PayloadError: its metadata is too long, or the IDL has no reply to it.
        """
        kind = type(message)
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
            payload = _message(_CALL, name.partition("/")[2], message.id, message.payload)
        elif kind is Reply:
            block = self._reply if message.metadata is None and self._announced else None
            if block is None:
                block = self._pack({}, message.metadata, {_TYPE: "2"})
            name = self._asked.pop(message.id, "")
            payload = _message(_REPLY, name.partition("/")[2], message.id, message.payload)
        elif kind is ErrorReply:
            block, payload = self._error(message)
        elif kind is GoingAway:
            block, payload = packInfo(self.wire.protocol, {"crrst": "1"}, {}), _NONE
        else:
            return super().write(session, message)
        number = getattr(message, "id", 0)
        head = _HEAD.pack(COUNTED + len(block) + len(payload), MAGIC, flags, number, len(block) >> 2)
        return b"".join((head, block, payload))

    def _error(self, message: ErrorReply) -> tuple[bytes, bytes]:
        name = self._asked.pop(message.id, "")
        service, _, method = name.partition("/")
        strings: dict[str, str] = {}
        number = _INTERNAL
        if message.code == "noMethod":
            number = _UNKNOWN_METHOD if service in self._thrift.services else _UNKNOWN_SERVICE
        elif message.code == "payload":
            number = _PROTOCOL
        elif message.code != "internal":
            strings[_CODE] = message.code
        text = message.text.encode(errors="replace")
        struct = b"\x0b\x00\x01" + _id.pack(len(text)) + text + b"\x08\x00\x02" + _id.pack(number) + b"\x00"
        return self._pack(strings, message.metadata, {_TYPE: "3"}), _message(_EXCEPTION, method, message.id, struct)


def _errorReply(number: int, struct: bytes, metadata: Any) -> ErrorReply:
    error = _Exception()
    try:
        readMessage(struct, error)
    except ValueError as why:
        return ErrorReply(number, "internal", f"the peer's exception cannot be read: {why}", None, metadata)
    code = (metadata or {}).get(_CODE) or _CODES.get(error.type, str(error.type))
    return ErrorReply(number, code, str(error.text), None, metadata)


def _businessError(number: int, metadata: Any) -> ErrorReply:
    """An error of the application, which Kitex sends beside an empty result."""
    try:
        details = json.loads(metadata.get(_EXTRA, "null"))
    except (ValueError, RecursionError):
        details = None
    return ErrorReply(number, metadata[_STATUS], metadata.get(_MESSAGE, ""), details, metadata)
