"""
The wire of Getty's RPC in Go (AlexStocks/getty, rpc/, until 2022).

A package, all little-endian::

    magic:i32 0x20160905  command:i16  service:i16 0  sequence:u64  log:i64  code:i16  codec:i16  length:i32  body

``length`` is that of the body. Heartbeats (commands 1 and 2) have none; that of a request (3) and of a response (4)
is the RPC header and the argument or result, each with its length in 16 bits before it.
:py:mod:`getty_tx.rpc.wires.gettyheader` has the RPC headers. The code is 0, or 1 for a method that has failed.

A response repeats the sequence and the log id of its request, and a call without result gets a response without one.
So the number of a call in, a Request's ``id``, is all of this: the sequence in its lowest 64 bits, above it the 64 bits
of the log id, above it one bit. A call out has a sequence that is odd if this end has dialled, and otherwise even.

Only the end that has dialled sends heartbeats on its own. Getty's clients end on a request of any kind, and its servers
on a heartbeat's answer that nobody has asked for.
"""

from __future__ import annotations

from random import getrandbits
from struct import Struct
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IWire, IWireCodec
from getty_tx.rpc.messages import ErrorReply, Feature, Ping, Pong, Reply, Request
from getty_tx.rpc.payloads.gojson import GoJSONPayload
from getty_tx.rpc.payloads.protobufpayload import ProtobufPayload
from getty_tx.rpc.wires.gettyheader import (
    ONE_WAY,
    TWO_WAY,
    TWO_WAY_NO_REPLY,
    HeaderError,
    JSONHeader,
    ProtobufHeader,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.rpc.interfaces import IPayload

__all__ = ["Getty", "GettyRPCCodec"]

_HEAD = Struct("<ihhQQhhi")
_unpack = _HEAD.unpack_from
_pack = _HEAD.pack
_u16 = Struct("<H").unpack_from
_pack16 = Struct("<H").pack

MAGIC = 0x20160905

#: Bytes of the head.
HEAD = 32

#: Bytes of an RPC header, and of an argument or result.
LONGEST = 65535

#: Bytes of a body that are not more than a request or response can have.
LARGEST = 4 + 2 * LONGEST

_HEARTBEAT, _HEARTBEAT_ANSWER, _REQUEST, _RESPONSE = 1, 2, 3, 4

_OK, _FAIL = 0, 1

_U64 = 0xFFFFFFFFFFFFFFFF

#: In the number of a call in: it wants a response without a result.
_NO_REPLY = 1 << 128

#: RPC headers that are kept parsed, or packed, and the bytes of one at most.
_KEPT = 1024
_KEPT_BYTES = 256

#: Characters of an error, none of which has more than six bytes in JSON.
_MOST_TEXT = 10000

#: Bytes that a package may have beside an error.
_OVERHEAD = 64


@implementer(IWire)
class Getty:
    """
    Calls as Getty's RPC in Go has them: one argument and one result, of 65,535 bytes each at most.

    There is no metadata on this wire, no deadline, no cancelling and no notice of going away: time-outs end a call for
    its caller only. All errors of the other end are a :py:class:`~getty_tx.rpc.RemoteError` with its text.

    :param payload: ``"json"``, or ``"protobuf"`` for messages of google.protobuf, or for bytes that are encoded ones.
    :param types: for ``"protobuf"``: the classes of argument and result by ``Service/method``. Others arrive as bytes.
    :raise SettingError: a parameter has another value, or protobuf is not installed.
    """

    features = frozenset([Feature.PING])

    def __init__(self, payload: str = "json", types: Mapping[str, tuple[Any, Any]] | None = None) -> None:
        self.payload: IPayload
        self.header: JSONHeader | ProtobufHeader
        if payload == "json":
            if types is not None:
                raise SettingError("Getty(types=...) is for 'protobuf', not for 'json'")
            self.codecType, self.header, self.payload = 1, JSONHeader(), GoJSONPayload()
        elif payload == "protobuf":
            self.codecType, self.header, self.payload = 2, ProtobufHeader(), ProtobufPayload(types)
        else:
            raise SettingError(f"Getty(payload={payload!r}) is none of json, protobuf")
        self.payloadName = payload
        self.success = _counted(self.header.response(""))
        # RPC headers of other ends, parsed; and of this one, packed.
        self.routes: dict[bytes, tuple[str, int]] = {}
        self.blocks: dict[tuple[str, bool], bytes] = {}

    def __repr__(self) -> str:
        return f"Getty({self.payloadName!r})"

    def codec(self) -> GettyRPCCodec:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        return GettyRPCCodec(self)


def _counted(header: bytes) -> bytes:
    return _pack16(len(header)) + header


@implementer(IReadWriter, IWireCodec)
class GettyRPCCodec:
    """
    The codec of one session.

    :param wire: what the sessions share.
    :ivar understood: PING at the end that has dialled, from its first call on.
    """

    __slots__ = ("_asked", "_odd", "_routes", "_type", "understood", "wire")

    def __init__(self, wire: Getty) -> None:
        self.wire = wire
        self.understood: frozenset[Feature] = frozenset()
        self._routes = wire.routes
        self._type = wire.codecType
        # 1 if the sequences of this end are odd, 0 if they are even, -1 before the first.
        self._odd = -1
        # The sequence and log id of the heartbeat that was read last, until it is answered.
        self._asked: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return repr(self.wire)

    # Reading

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The calls whose RPC headers are known, and results; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        routes = self._routes
        have = len(data)
        while at + HEAD <= have and len(found) < 64:
            magic, command, _, sequence, logID, code, codecType, size = _unpack(data, at)
            body = at + HEAD
            stop = body + size
            if (
                magic != MAGIC
                or codecType != self._type
                or not 4 <= size <= LARGEST
                or stop > have
                or stop - at > limit
            ):
                break
            start = body + 4 + _u16(data, body)[0]
            if start > stop:
                break
            end = start + _u16(data, start - 2)[0]
            if end > stop:
                break
            if command == _REQUEST:
                route = routes.get(data[body + 2 : start - 2])
                if route is None:
                    break
                found.append((_request(sequence, logID, route, data[start:end]), stop))
            elif command == _RESPONSE and code == _OK:
                found.append((Reply(self._number(sequence), data[start:end]), stop))
            else:
                break
            at = stop
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: the bytes are no package of Getty's, or have another codec than the wire.
        """
        if len(data) < HEAD:
            return None, 0
        magic, command, _, sequence, logID, code, codecType, size = _unpack(data)
        if magic != MAGIC:
            raise CodecError(f"rpc: no package of Getty's: it begins with {magic & 0xFFFFFFFF:#010x}", session)
        if codecType != self._type:
            raise CodecError(f"rpc: a package with the codec {codecType}, where {self.wire} is {self._type}", session)
        if not _HEARTBEAT <= command <= _RESPONSE:
            raise CodecError(f"rpc: a package with the unknown command {command}", session)
        if not 0 <= size <= LARGEST:
            raise CodecError(f"rpc: a package with a body of {size} bytes; {LARGEST} can be", session)
        stop = HEAD + size
        if len(data) < stop:
            return None, stop
        if command == _HEARTBEAT:
            self._asked = sequence, logID
            return Ping(), stop
        if command == _HEARTBEAT_ANSWER:
            return Pong(), stop
        header, payload = _parts(session, data[HEAD:stop].tobytes())
        if command == _REQUEST:
            return _request(sequence, logID, self._route(session, header), payload), stop
        number = self._number(sequence)
        if code == _OK:
            return Reply(number, payload), stop
        try:
            text = self.wire.header.parseResponse(header) or "the peer has given no reason"
        except HeaderError as error:
            text = f"the peer's error cannot be read: {error}"
        return ErrorReply(number, "internal", text), stop

    def _number(self, sequence: int) -> int:
        """The number of a call out; 0, which none has, for what is no sequence of this end."""
        return (sequence + 1) >> 1 if sequence & 1 == self._odd else 0

    def _route(self, session: Any, header: bytes) -> tuple[str, int]:
        route = self._routes.get(header)
        if route is None:
            try:
                service, method, kind = self.wire.header.parseRequest(header)
            except HeaderError as error:
                raise CodecError(f"rpc: the RPC header of a request: {error}", session) from None
            route = f"{service}/{method}", kind
            if len(header) <= _KEPT_BYTES:
                routes = self._routes
                if len(routes) >= _KEPT:
                    routes.clear()
                routes[header] = route
        return route

    # Writing

    def write(self, session: Any, message: Any) -> bytes:
        """
        The package of a message.

        :raise PayloadError: an argument, a result or the names are longer than 65,535 bytes, or the package is longer
            than the session's ``maxMsgLen``.
        :raise SettingError: it has metadata.
        """
        kind = type(message)
        payload: bytes
        if kind is Request:
            command, code, payload = _REQUEST, _OK, message.payload
            sequence, logID = self._sequence(session, message.id), getrandbits(63)
            block = self.wire.blocks.get((message.name, message.isOneWay))
            if block is None:
                block = self._packRequest(message.name, message.isOneWay)
        elif kind is Reply or kind is ErrorReply:
            number = message.id
            command, sequence, logID = _RESPONSE, number & _U64, number >> 64 & _U64
            if kind is Reply:
                code, block, payload = _OK, self.wire.success, b"" if number >= _NO_REPLY else message.payload
            else:
                code, block, payload = _FAIL, self._packError(session, message), b""
        elif kind is Ping or kind is Pong:
            return self._packHeartbeat(session, kind is Pong)
        else:
            raise SettingError(f"{self.wire} cannot say {kind.__name__}")
        if message.metadata is not None:
            raise SettingError(f"metadata={message.metadata!r:.80}: {self.wire} has none; use rpc.TTHeader()")
        count = len(payload)
        if count > LONGEST:
            what = f"{message.name}: an argument" if kind is Request else "a result"
            raise PayloadError(f"{what} of {count} bytes is above the {LONGEST} of {self.wire}", sent=False)
        size = len(block) + 2 + count
        if kind is Request and HEAD + size > session.maxMsgLen:
            text = f"{message.name}: a package of {HEAD + size} bytes is above maxMsgLen={session.maxMsgLen}"
            raise PayloadError(text, sent=False)
        head = _pack(MAGIC, command, 0, sequence, logID, code, self._type, size)
        return b"".join((head, block, _pack16(count), payload))

    def _sequence(self, session: Any, number: int) -> int:
        if self._odd < 0:
            self._learn(session)
        return 2 * number - self._odd

    def _learn(self, session: Any) -> None:
        """Which end this is."""
        if session.connection.kind.endswith("CLIENT"):
            self._odd = 1
            self.understood = self.wire.features
        else:
            self._odd = 0

    def _packRequest(self, name: str, isOneWay: bool) -> bytes:
        service, _, method = name.partition("/")
        try:
            header = self.wire.header.request(service, method, ONE_WAY if isOneWay else TWO_WAY)
        except ValueError as error:
            raise PayloadError(f"{name!r:.80} is no name: {error}", sent=False) from None
        if len(header) > LONGEST:
            text = f"the names {name:.40}... have {len(header)} bytes, above the {LONGEST} of {self.wire}"
            raise PayloadError(text, sent=False)
        block = _counted(header)
        if len(block) <= _KEPT_BYTES:
            blocks = self.wire.blocks
            if len(blocks) >= _KEPT:
                blocks.clear()
            blocks[name, isOneWay] = block
        return block

    def _packError(self, session: Any, message: ErrorReply) -> bytes:
        most = min(_MOST_TEXT, max(0, session.maxMsgLen - _OVERHEAD) // 6)
        # An error without a text would be a success to the peer.
        text = message.text.encode(errors="replace").decode()[:most] or message.code or "failed"
        return _counted(self.wire.header.response(text))

    def _packHeartbeat(self, session: Any, isAnswer: bool) -> bytes:
        if isAnswer and self._asked is not None:
            command, (sequence, logID) = _HEARTBEAT_ANSWER, self._asked
            self._asked = None
        else:
            # A sign of life that nobody has asked for is a heartbeat, too. No call has the number 0.
            command, sequence, logID = _HEARTBEAT, self._sequence(session, 0) & _U64, getrandbits(63)
        return _pack(MAGIC, command, 0, sequence, logID, _OK, self._type, 0)


def _request(sequence: int, logID: int, route: tuple[str, int], payload: bytes) -> Request:
    name, kind = route
    number = sequence | logID << 64
    if kind == TWO_WAY_NO_REPLY:
        number |= _NO_REPLY
    return Request(number, name, payload, None, None, kind == ONE_WAY)


def _parts(session: Any, body: bytes) -> tuple[bytes, bytes]:
    """The RPC header, and the argument or result."""
    if len(body) >= 4:
        start = 4 + _u16(body)[0]
        if start <= len(body):
            end = start + _u16(body, start - 2)[0]
            if end <= len(body):
                return body[2 : start - 2], body[start:end]
    raise CodecError(f"rpc: a body of {len(body)} bytes ends within its RPC header or its argument", session)
