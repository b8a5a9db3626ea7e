"""
TTHeader, the frame of ByteDance's Kitex (cloudwego/gopkg, protocol/ttheader), with calls of getty_tx in it.

A frame, all big-endian::

    length:u32  magic:u16 0x1000  flags:u16  id:i32  size:u16  blocks (size * 4 bytes)  payload

``length`` counts what follows it. :py:mod:`getty_tx.rpc.wires.info` has the blocks. What a call needs is where Kitex
has it: the service in the string ``isn``, the method in int 9, the time in int 12 (milliseconds), the type of message
in int 22, going away in the string ``crrst`` of a frame with the id 0. All other strings are metadata.

The protocol ids of the payloads are not among Kitex's: a Kitex peer refuses what it could not read. Cancelling and
pings are frames with the id 0, too. They are sent only to a peer that has named them in the string ``getty`` of its
first frame. The parts of a stream have the flag 0x02, and their kind in int 27; so have the slices of a long message,
without the flag.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IWire, IWireCodec
from getty_tx.rpc.messages import (
    DROP,
    LAST,
    MORE,
    OPEN,
    OVERHEAD,
    RESET,
    Cancel,
    ErrorReply,
    Feature,
    GoingAway,
    Ping,
    Pong,
    Reply,
    Request,
    Slice,
    StreamFrame,
)
from getty_tx.rpc.payloads import BytesPayload, JSONPayload, MsgpackPayload, MsgspecPayload, ThriftPayload
from getty_tx.rpc.wires.errorjson import errorPayload, errorReply
from getty_tx.rpc.wires.info import InfoError, packInfo, parseInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.rpc.interfaces import IPayload
    from getty_tx.rpc.payloads.thriftpayload import Services

__all__ = ["TTHeader", "TTHeaderCodec"]

_HEAD = Struct(">IHHiH")
_unpack = _HEAD.unpack_from
_pack = _HEAD.pack
MAGIC = 0x1000

#: Bytes of the head, and of what ``length`` counts of it.
HEAD = 14
COUNTED = 10

# Keys of ints.
_METHOD, _TIMEOUT, _TYPE, _STREAM = 9, 12, 22, 27
# Values of int 22, as in Thrift.
_CALL, _REPLY, _EXCEPTION, _ONE_WAY = "1", "2", "3", "4"
_KINDS = frozenset([_CALL, _REPLY, _EXCEPTION, _ONE_WAY])
# Those of int 27 that are slices.
_SLICES = frozenset([MORE, LAST, DROP])

# Keys of strings.
_SERVICE, _LEAVING, _FEATURES = "isn", "crrst", "getty"
_CANCEL, _PING, _PONG = "getty-cancel", "getty-ping", "getty-pong"
_RESERVED = frozenset([_SERVICE, _LEAVING, _FEATURES, _CANCEL, _PING, _PONG])

#: Payloads, and their protocol ids.
PAYLOADS: dict[str, tuple[int, type]] = {
    "json": (0x4A, JSONPayload),
    "bytes": (0x42, BytesPayload),
    "msgspec": (0x4A, MsgspecPayload),
    "msgpack": (0x4D, MsgpackPayload),
    "thrift": (0, ThriftPayload),
}

#: What a peer is told to be understood; and one that may be of Kitex, which has no slices, nor streams with credit.
_ANNOUNCED = "cancel,ping,stream,slices"
_ANNOUNCED_TO_KITEX = "cancel,ping"

#: The flag of frames of streams.
STREAMING = 0x02

#: Blocks that are kept parsed, or packed, and the bytes of one at most. More are not needed where calls have no
#: metadata.
_KEPT = 1024
_KEPT_BYTES = 256

#: Bytes of the error of a stream, so that it fits whatever maxMsgLen is.
_MOST_ERROR = 4096

#: Bytes of metadata of a message. There may be a name for so many of them: as objects, short strings have some hundred.
MAX_METADATA = 16 * 1024
_BYTES_OF_NAME = 64
_MIN_NAMES = 64


class _Route:
    """What the blocks of a frame say."""

    __slots__ = ("features", "isOneWay", "kind", "metadata", "name", "stream", "strings", "timeout")

    def __init__(self, strings: dict[str, str], ints: dict[int, str]) -> None:
        self.kind = ints.get(_TYPE, _CALL)
        self.isOneWay = self.kind == _ONE_WAY
        self.stream = ints.get(_STREAM)
        self.name = f"{strings.get(_SERVICE, '')}/{ints.get(_METHOD, '')}"
        self.timeout = _seconds(ints.get(_TIMEOUT))
        features = strings.get(_FEATURES)
        self.features = None if features is None else _features(features)
        # For a control frame.
        self.strings = strings
        self.metadata = {name: value for name, value in strings.items() if name not in _RESERVED} or None


def _seconds(value: str | None) -> float | None:
    """Milliseconds in decimal; 0, and what is no such number, is no limit, as for Kitex."""
    return int(value) / 1000 or None if value is not None and value.isdecimal() and len(value) < 12 else None


def _features(text: str) -> frozenset[Feature]:
    known = {feature.value: feature for feature in Feature}
    return frozenset(known[name] for name in text.split(",") if name in known)


@implementer(IWire)
class TTHeader:
    """
    Calls in TTHeader frames.

    :param payload: ``"json"``, ``"msgspec"`` (JSON, too, by the library of that name), ``"msgpack"`` (with the library
        of that name), ``"bytes"`` for one argument and a result of bytes, or ``"thrift"`` (with thriftpy2) for services
        of Kitex.
    :param maxMetadata: bytes of metadata of one message, at most; there may be a name for 64 of them.
    :param services: for ``"thrift"``: the path of an IDL file, or the module that ``thriftpy2.load()`` has made of it:
        all services in there. Or a mapping of names to services of such modules, or to paths.
    :raise SettingError: a parameter has another value, or the library of the payload is not installed.
    """

    features = frozenset(Feature)

    def __init__(self, payload: str = "json", maxMetadata: int = MAX_METADATA, services: Services = None) -> None:
        if payload not in PAYLOADS:
            raise SettingError(f"TTHeader(payload={payload!r}) is none of {', '.join(PAYLOADS)}")
        self.payloadName = payload
        self.maxMetadata = settings.size("maxMetadata", maxMetadata)
        self.maxNames = max(_MIN_NAMES, maxMetadata // _BYTES_OF_NAME)
        self.protocol, kind = PAYLOADS[payload]
        if services is not None and kind is not ThriftPayload:
            raise SettingError(f"TTHeader(services=...) is for payload='thrift', not for {payload!r}")
        self.payload: IPayload = kind(services) if kind is ThriftPayload else kind()
        self.announced = _ANNOUNCED
        if kind is ThriftPayload:
            # The streams of Kitex have no credit.
            self.features = self.features - {Feature.STREAM, Feature.SLICES}
            self.announced = _ANNOUNCED_TO_KITEX
        # The blocks of other ends, parsed; and of this one, packed, by name and time.
        self.routes: dict[bytes, _Route] = {}
        self.blocks: dict[tuple[str, float | bool | None], bytes] = {}

    def __repr__(self) -> str:
        return f"TTHeader(payload={self.payloadName!r})"

    def codec(self) -> TTHeaderCodec:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        if isinstance(self.payload, ThriftPayload):
            # It imports this module.
            from getty_tx.rpc.wires.kitex import KitexCodec

            return KitexCodec(self, self.payload)
        return TTHeaderCodec(self)


@implementer(IReadWriter, IWireCodec)
class TTHeaderCodec:
    """
    The codec of one session.

    :param wire: what the sessions share.
    :ivar understood: what the peer has said that it understands.
    """

    __slots__ = ("_announced", "_blocks", "_reply", "_routes", "understood", "wire")

    def __init__(self, wire: TTHeader) -> None:
        self.wire = wire
        self.understood: frozenset[Feature] = frozenset([Feature.GOAWAY])
        self._announced = False
        self._routes = wire.routes
        self._blocks = wire.blocks
        self._reply = packInfo(wire.protocol, {}, {_TYPE: _REPLY})

    def __repr__(self) -> str:
        return repr(self.wire)

    # Reading

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The messages whose blocks are known; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        routes = self._routes
        end = len(data)
        last = end - HEAD
        while at <= last:
            length, magic, _, number, size = _unpack(data, at)
            stop = at + 4 + length
            body = at + HEAD + 4 * size
            if magic != MAGIC or stop > end or body > stop or 4 + length > limit or not number:
                break
            route = routes.get(data[at + HEAD : body])
            if route is None or len(found) > 63:
                break
            kind = route.kind
            if route.stream is not None or kind == _EXCEPTION:
                found.append((self._message(session, route, number, data[body:stop]), stop))
            elif kind == _REPLY:
                found.append((Reply(number, data[body:stop]), stop))
            else:
                found.append((Request(number, route.name, data[body:stop], route.timeout, None, route.isOneWay), stop))
            at = stop
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: the bytes are no TTHeader, or have more metadata than ``maxMetadata``.
        """
        have = len(data)
        if have < HEAD:
            return None, 0
        length, magic, _flags, number, size = _unpack(data)
        if magic != MAGIC:
            raise CodecError(f"rpc: no TTHeader: the magic number is {magic:#06x}, not {MAGIC:#06x}", session)
        end = 4 + length
        body = HEAD + 4 * size
        if body > end or not size:
            raise CodecError(f"rpc: a TTHeader of {end} bytes with {4 * size} bytes of blocks", session)
        wire = self.wire
        if body - HEAD > wire.maxMetadata:
            raise CodecError(f"rpc: {body - HEAD} bytes of metadata are above maxMetadata={wire.maxMetadata}", session)
        if have < end:
            return None, end
        block = data[HEAD:body].tobytes()
        route = self._routes.get(block)
        if route is None:
            route = self._parse(session, block)
        return self._message(session, route, number, data[body:end].tobytes()), end

    def _parse(self, session: Any, block: bytes) -> _Route:
        try:
            protocol, strings, ints = parseInfo(block)
        except InfoError as error:
            raise CodecError(f"rpc: {error}", session) from None
        if protocol != self.wire.protocol:
            raise CodecError(f"rpc: a payload with the protocol id {protocol:#04x}, which is not {self.wire}", session)
        if len(strings) > self.wire.maxNames:
            raise CodecError(f"rpc: {_tooMany(strings, self.wire)}", session)
        route = _Route(strings, ints)
        if route.kind not in _KINDS:
            raise CodecError(f"rpc: a message of the unknown type {route.kind!r:.20}", session)
        # The last slice of a request has a time of its own.
        isFrequent = route.features is None and route.metadata is None and route.stream != LAST
        if isFrequent and len(block) <= _KEPT_BYTES:
            routes = self._routes
            if len(routes) >= _KEPT:
                routes.clear()
            routes[block] = route
        return route

    def _message(self, session: Any, route: _Route, number: int, payload: bytes) -> Any:
        if route.features is not None:
            self.understood |= route.features
        if not number:
            return _control(route.strings)
        kind = route.kind
        if route.stream is not None:
            return _slice(route, number, payload) if route.stream in _SLICES else _streamFrame(route, number, payload)
        if kind == _REPLY:
            return Reply(number, payload, route.metadata)
        if kind == _EXCEPTION:
            return errorReply(number, payload, route.metadata)
        return Request(number, route.name, payload, route.timeout, route.metadata, route.isOneWay)

    # Writing

    def write(self, session: Any, message: Any) -> bytes:
        """
        The frame of a message.

        :raise PayloadError: its metadata is too long, or no text, or has a name that the wire needs; or the frame is
            longer than the session's ``maxMsgLen``.
        """
        kind = type(message)
        flags = 0
        if kind is Reply:
            block = self._reply if message.metadata is None and self._announced else None
            payload = message.payload
            if block is None:
                block = self._pack({}, message.metadata, {_TYPE: _REPLY})
        elif kind is Request:
            payload = message.payload
            key = message.name, message.timeout
            kept = self._blocks.get(key)
            if kept is None or message.metadata is not None or message.isOneWay or not self._announced:
                block = self._packRequest(message, key)
            else:
                block = kept
        elif kind is StreamFrame:
            flags = STREAMING
            block, payload = self._packStream(message)
        elif kind is ErrorReply:
            block = self._pack({}, message.metadata, {_TYPE: _EXCEPTION})
            payload = errorPayload(message, session.maxMsgLen - HEAD - len(block))
        elif kind is Slice:
            block, payload = self._packSlice(message), message.payload
        else:
            block = packInfo(self.wire.protocol, _controlStrings(message), {})
            payload = b""
        size = len(block)
        number = getattr(message, "id", 0) if kind is not Cancel else 0
        head = _pack(COUNTED + size + len(payload), MAGIC, flags, number, size >> 2)
        frame: bytes = head + block + payload
        if size > OVERHEAD - HEAD and len(frame) > session.maxMsgLen:
            # Peers leave room for shorter blocks.
            text = f"rpc: a frame of {len(frame)} bytes, {size} of them metadata, is above maxMsgLen"
            raise PayloadError(f"{text}={session.maxMsgLen}", sent=False)
        return frame

    def _packStream(self, frame: StreamFrame) -> tuple[bytes, bytes]:
        """The blocks and the payload of a part of a stream."""
        # Names have a slash, so these are no keys of calls.
        key = frame.kind, frame.isReply
        kept = self._blocks.get(key)
        if kept is not None and self._announced and frame.error is None:
            return kept, frame.payload
        ints = {_STREAM: frame.kind}
        strings: dict[str, str] = {}
        payload = frame.payload
        if frame.isReply:
            ints[_TYPE] = _REPLY
        if frame.kind == OPEN:
            service, _, ints[_METHOD] = frame.name.partition("/")
            strings = {_SERVICE: service}
            if frame.timeout is not None:
                ints[_TIMEOUT] = str(max(1, round(frame.timeout * 1000)))
        elif frame.error is not None:
            code, text, details = frame.error
            payload = errorPayload(ErrorReply(frame.id, code, text, details), _MOST_ERROR)
        isPlain = self._announced and frame.kind != OPEN
        block = self._pack(strings, frame.metadata, ints)
        if isPlain:
            self._blocks[key] = block
        return block, payload

    def check(self, session: Any, message: Request | Reply) -> None:
        """
        See whether a message can be written that is to go in slices, later.

        :raise PayloadError: as :py:meth:`write` does.
        """
        announced = self._announced
        try:
            self.write(session, Slice(message.id, type(message) is Reply, LAST, b"", message))
        finally:
            # Nothing has been sent.
            self._announced = announced

    def _packSlice(self, message: Slice) -> bytes:
        whole = message.whole
        if whole is None:
            # Their blocks are alike, and kept.
            return self._packStream(StreamFrame(0, message.kind, b"", message.isReply))[0]
        strings, ints = _requested(whole) if type(whole) is Request else ({}, {_TYPE: _REPLY})
        return self._pack(strings, whole.metadata, {**ints, _STREAM: message.kind})

    def _packRequest(self, message: Request, key: tuple[str, float | None]) -> bytes:
        strings, ints = _requested(message)
        plain = message.metadata is None and not message.isOneWay and self._announced
        block = self._pack(strings, message.metadata, ints)
        if plain and len(block) <= _KEPT_BYTES:
            blocks = self._blocks
            if len(blocks) >= _KEPT:
                blocks.clear()
            blocks[key] = block
        return block

    def _pack(self, strings: dict[str, str], metadata: Mapping[str, str] | None, ints: dict[int, str]) -> bytes:
        if metadata:
            reserved = _RESERVED.intersection(metadata)
            if reserved:
                raise PayloadError(f"rpc: the wire itself needs the name {min(reserved)!r} of the metadata", sent=False)
            strings.update(metadata)
        if not self._announced:
            strings[_FEATURES] = self.wire.announced
        if len(strings) > self.wire.maxNames:
            raise PayloadError(f"rpc: {_tooMany(strings, self.wire)}", sent=False)
        try:
            block = packInfo(self.wire.protocol, strings, ints)
        except InfoError as error:
            raise PayloadError(f"rpc: {error}", sent=False) from None
        if len(block) > self.wire.maxMetadata:
            limit = self.wire.maxMetadata
            raise PayloadError(f"rpc: {len(block)} bytes of metadata are above maxMetadata={limit}", sent=False)
        self._announced = True
        return block


def _requested(message: Request) -> tuple[dict[str, str], dict[int, str]]:
    """The strings and the ints of a request."""
    service, _, method = message.name.partition("/")
    ints = {_METHOD: method}
    if message.timeout is not None:
        ints[_TIMEOUT] = str(max(1, round(message.timeout * 1000)))
    if message.isOneWay:
        ints[_TYPE] = _ONE_WAY
    return {_SERVICE: service}, ints


def _tooMany(strings: Mapping[str, str], wire: TTHeader) -> str:
    return f"{len(strings)} names of metadata are above the {wire.maxNames} of maxMetadata={wire.maxMetadata}"


def _control(strings: Mapping[str, str]) -> Any:
    if _LEAVING in strings:
        return GoingAway()
    if _PING in strings:
        return Ping()
    if _PONG in strings:
        return Pong()
    number = strings.get(_CANCEL, "")
    if number.isdecimal() and len(number) < 12:
        return Cancel(int(number))
    # Of a later version, or of another program: a sign of life.
    return Pong()


def _controlStrings(message: Any) -> dict[str, str]:
    if type(message) is Cancel:
        return {_CANCEL: str(message.id)}
    return {{GoingAway: _LEAVING, Ping: _PING, Pong: _PONG}[type(message)]: "1"}


def _slice(route: _Route, number: int, payload: bytes) -> Slice:
    assert route.stream is not None
    isReply = route.kind == _REPLY
    whole: Request | Reply | None = None
    if route.stream == LAST:
        metadata = route.metadata
        if isReply:
            whole = Reply(number, b"", metadata)
        else:
            whole = Request(number, route.name, b"", route.timeout, metadata, route.isOneWay)
    return Slice(number, isReply, route.stream, payload, whole)


def _streamFrame(route: _Route, number: int, payload: bytes) -> StreamFrame:
    assert route.stream is not None
    isReply = route.kind == _REPLY
    frame = StreamFrame(number, route.stream, payload, isReply, route.name, route.timeout, route.metadata)
    if route.stream == RESET:
        reply = errorReply(number, payload, None)
        frame.error = reply.code, reply.text, reply.details
    return frame
