"""
The wire of Seata, version 1, with Seata's own serializer.

A frame, all big-endian::

    0xdada:u16  1:u8  length:u32  head:u16  kind:u8  serializer:u8 1  compressor:u8  id:u32  map  body

``length`` is that of the frame, ``head`` that of what is before the body. The map has texts in pairs, each with its
length in 16 bits, which are all set for null: the metadata of a call. Kinds are 0 a request, 1 a response, 2 a request
that is one-way, 3 a heartbeat, 4 the answer to one. :py:mod:`getty_tx.rpc.seata` has the bodies.

Seata's coordinators answer whatever has a result, and clients register with a one-way request whose answer they await.
So a request wants a reply if there is a result to it, whatever its kind. An answer needs the type of its request: the
number of a call in, a Request's ``id``, has it above the 32 bits of the frame's id. Of merged messages the body is
needed, too: if they fail together, each of them has. Heartbeats have the id 0 here, which no call has.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.errors import PayloadError, RemoteError
from getty_tx.rpc.interfaces import IWire, IWireCodec
from getty_tx.rpc.messages import ErrorReply, Feature, Ping, Pong, Reply, Request
from getty_tx.rpc.payloads.seatapayload import SERVICE, SeataPayload
from getty_tx.rpc.seata.body import TYPES, decode, encode
from getty_tx.rpc.seata.messages import (
    RESULTS,
    BranchReport,
    DeleteUndoLog,
    ExceptionCode,
    MergedMessages,
    MergedResults,
    Message,
    RegisterRM,
    RegisterTM,
    RegisterTMResult,
    Result,
)
from getty_tx.rpc.seata.packing import NONE, compressorNamed, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.python.failure import Failure

    from getty_tx.rpc.peer import Peer

__all__ = ["Seata", "SeataCodec"]

_HEAD = Struct(">HBIHBBBI")
_unpack = _HEAD.unpack_from
_pack = _HEAD.pack
_U16 = Struct(">H")

MAGIC = 0xDADA
VERSION = 1

#: Bytes of the head without a map, and of a frame.
HEAD = 16
LARGEST = 8 * 1024 * 1024

#: Bytes of a map. Java takes the head's length for a signed number, and those of the texts.
_LARGEST_MAP = 0x7FFF - HEAD

#: Seconds that a registration may take, as in Seata's own clients: the ``timeout`` of calls may be short, or None.
_REGISTERING = 20.0

_REQUEST, _RESPONSE, _ONE_WAY, _HEARTBEAT, _HEARTBEAT_ANSWER = range(5)

_SERIALIZER = 1
#: Those of Seata, for texts of errors.
_SERIALIZERS = {1: "seata", 2: "protobuf", 4: "kryo", 8: "fst", 0x16: "hessian", 0x32: "jackson", 0x64: "fastjson2"}

_NULL = 0xFFFF
_ID = 0xFFFFFFFF

#: What the ids of calls differ by where this end was dialled. Both ends count from 1, and clients in Go file calls and
#: answers of theirs under one number: an answer takes the place of the call with its id, which then waits in vain.
_DIALLED = 0x40000000

#: Requests that Seata's own clients send as one-way, though they await an answer.
_SENT_ONE_WAY = frozenset([RegisterTM.TYPE, MergedMessages.TYPE])

#: What each type of request is called, and those that nobody can answer.
_NAMES = {kind.TYPE: f"{SERVICE}/{kind.__name__}" for kind in RESULTS}
_UNANSWERED = frozenset([DeleteUndoLog.TYPE])

_MERGED = MergedMessages.TYPE

#: Results whose first byte is 0 if the request has failed.
_CAN_FAIL = frozenset(number for number, kind in TYPES.items() if issubclass(kind, (Result, RegisterTMResult)))

#: Characters of an error's text, and of all texts together where many messages fail together.
_MOST_TEXT, _MOST_TEXTS = 1000, 64 * 1024


@implementer(IWire)
class Seata:
    """
    Calls as Seata's coordinator and its clients have them: one message, and one result.

    There is no deadline on this wire, no cancelling and no notice of going away: time-outs end a call for its caller
    only. A result that says that the request has failed is a :py:class:`~getty_tx.rpc.RemoteError`, with the name of
    Seata's exception code as ``code`` and the result as ``details``. What a method raises becomes such a result.

    :param register: a ``RegisterTM`` or ``RegisterRM``, or several, that a client sends first in each of its sessions.
        A session whose coordinator does not take them fails.
    :param compressor: of the bodies that are sent: ``"none"``, ``"gzip"``, ``"zip"``, ``"deflate"`` or ``"bzip2"``. All
        of them are read.
    :param maxMetadata: bytes of a frame's map.
    :raise SettingError: a parameter has another value.
    """

    features = frozenset([Feature.METADATA, Feature.PING])

    def __init__(
        self,
        register: RegisterTM | Sequence[RegisterTM] = (),
        compressor: str = "none",
        maxMetadata: int = 16 * 1024,
    ) -> None:
        self.register = _registrations(register)
        self.compressor = compressorNamed(compressor)
        self.maxMetadata = settings.size("maxMetadata", maxMetadata)
        if maxMetadata > _LARGEST_MAP:
            raise SettingError(f"Seata(maxMetadata={maxMetadata}) is above {_LARGEST_MAP}")
        self.payload = SeataPayload()

    def __repr__(self) -> str:
        return "Seata()"

    def codec(self) -> SeataCodec:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        return SeataCodec(self)

    def opened(self, peer: Peer) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        if peer.session.connection.kind.endswith("CLIENT"):
            for message in self.register:
                made = peer.call(SERVICE, type(message).__name__, message, timeout=_REGISTERING)
                made.addErrback(_notRegistered, peer, message)
        else:
            peer.codec.turned = _DIALLED


def _registrations(register: Any) -> tuple[RegisterTM, ...]:
    """:raise SettingError: it is none, or one that cannot be sent."""
    found = (register,) if isinstance(register, RegisterTM) or not hasattr(register, "__iter__") else tuple(register)
    for each in found:
        if type(each) not in (RegisterTM, RegisterRM):
            raise SettingError(f"Seata(register={each!r:.80}) is neither a RegisterTM nor a RegisterRM")
        try:
            encode(each)
        except PayloadError as error:
            raise SettingError(f"Seata(register=...): {error}") from None
    return found


def _notRegistered(failure: Failure, peer: Peer, message: RegisterTM) -> None:
    # A session that was lost has said so.
    error = failure.value
    if isinstance(error, RemoteError):
        error = RemoteError(f"the coordinator refuses {message!r:.200}", code=error.code, details=error.details)
    if error is not None and not peer.session.isClosed:
        peer.session.fail(error)


@implementer(IReadWriter, IWireCodec)
class SeataCodec:
    """
    The codec of one session.

    :param wire: what the sessions share.
    :ivar turned: the bits in which the id of a call that begins here differs from its number.
    """

    __slots__ = ("_asked", "_merged", "turned", "understood", "wire")

    def __init__(self, wire: Seata) -> None:
        self.wire = wire
        self.understood = wire.features
        self.turned = 0
        # The id of the heartbeat that was read last, until it is answered.
        self._asked: int | None = None
        # The bodies of merged messages that are not answered yet, by the numbers of their requests.
        self._merged: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return repr(self.wire)

    # Reading

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The calls and results; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        last = len(data) - HEAD
        while at <= last and len(found) < 64:
            magic, version, length, head, kind, serializer, compressor, number = _unpack(data, at)
            stop = at + length
            if (
                magic != MAGIC
                or version != VERSION
                or serializer != _SERIALIZER
                or kind > _ONE_WAY
                or not HEAD <= head <= length
                or length > min(limit, LARGEST)
                or stop > len(data)
            ):
                break
            try:
                message = self._message(session, data[at:stop], head, kind, compressor, number, limit)
            except CodecError:
                # Raised again, by read(), when those before it have been handled.
                break
            found.append((message, stop))
            at = stop
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: the bytes are no frame of Seata's version 1, or of another serializer or compressor.
        """
        if len(data) < HEAD:
            return None, 0
        magic, version, length, head, kind, serializer, compressor, number = _unpack(data)
        if magic != MAGIC:
            raise CodecError(f"rpc: no frame of Seata's: it begins with {magic:#06x}", session)
        if version != VERSION:
            raise CodecError(f"rpc: a frame of Seata's protocol {version}, where this is {VERSION}", session)
        if not HEAD <= head <= length or length > LARGEST:
            text = f"rpc: a frame of {length} bytes with a head of {head}: they are {HEAD} to {LARGEST}"
            raise CodecError(text, session)
        if kind > _HEARTBEAT_ANSWER:
            raise CodecError(f"rpc: a frame of the unknown kind {kind}", session)
        if len(data) < length:
            return None, length
        if kind == _HEARTBEAT:
            self._asked = number
            return Ping(), length
        if kind == _HEARTBEAT_ANSWER:
            return Pong(), length
        if serializer != _SERIALIZER:
            name = _SERIALIZERS.get(serializer, str(serializer))
            raise CodecError(f"rpc: a frame with the serializer {name}, where this is seata", session)
        frame = data[:length].tobytes()
        return self._message(session, frame, head, kind, compressor, number, session.maxMsgLen), length

    def _message(
        self, session: Any, frame: bytes, head: int, kind: int, compressor: int, number: int, most: int
    ) -> Request | Reply | ErrorReply:
        metadata = self._metadata(session, frame, head) if head > HEAD else None
        body = frame[head:]
        if compressor != NONE:
            try:
                body = unpack(compressor, body, most)
            except ValueError as error:
                raise CodecError(f"rpc: the body of a frame: {error}", session) from None
        if len(body) < 2:
            raise CodecError(f"rpc: a body of {len(body)} bytes has no type", session)
        type_ = _U16.unpack_from(body)[0]
        if kind == _RESPONSE:
            number ^= self.turned
            if type_ in _CAN_FAIL and body[2:3] == b"\0":
                return _failed(number, body, metadata)
            return Reply(number, body, metadata)
        name = _NAMES.get(type_)
        if name is None:
            # How it would be answered is not known.
            return Request(number, f"{SERVICE}/{type_}", body, None, metadata, True)
        number |= type_ << 32
        if type_ == _MERGED:
            self._merged[number] = body
        return Request(number, name, body, None, metadata, type_ in _UNANSWERED)

    def _metadata(self, session: Any, frame: bytes, head: int) -> dict[str, str]:
        if head - HEAD > self.wire.maxMetadata:
            text = f"rpc: a map of {head - HEAD} bytes is above maxMetadata={self.wire.maxMetadata}"
            raise CodecError(text, session)
        found: dict[str, str] = {}
        at = HEAD
        try:
            while at < head:
                name, at = _text(frame, at, head)
                value, at = _text(frame, at, head)
                # What is null is not there.
                if name is not None and value is not None:
                    found[name] = value
        except ValueError as error:
            raise CodecError(f"rpc: the map of a frame: {error}", session) from None
        return found

    # Writing

    def write(self, session: Any, message: Any) -> bytes:
        """
        The frame of a message.

        :raise PayloadError: it is too long, its metadata cannot be written, or a call has no result to wait for.
        """
        kind = type(message)
        body: bytes
        if kind is Request:
            body = message.payload
            type_ = _U16.unpack_from(body)[0]
            if type_ in _UNANSWERED and not message.isOneWay:
                raise PayloadError(
                    f"{message.name} has no result: send() it, there is no reply to wait for", sent=False
                )
            number = message.id ^ self.turned
            how = _ONE_WAY if message.isOneWay or type_ in _SENT_ONE_WAY else _REQUEST
        elif kind is Reply:
            number, how, body = message.id & _ID, _RESPONSE, message.payload
        elif kind is ErrorReply:
            number, how, body = message.id & _ID, _RESPONSE, _failure(message, self._merged.get(message.id))
        elif kind is Ping or kind is Pong:
            return self._heartbeat(kind is Pong)
        else:
            raise SettingError(f"{self.wire} cannot say {kind.__name__}")
        block = self._pairs(message.metadata) if message.metadata else b""
        compressor = self.wire.compressor
        if compressor != NONE:
            body = pack(compressor, body)
        head = HEAD + len(block)
        length = head + len(body)
        most = min(session.maxMsgLen, LARGEST)
        if length > most and kind is not ErrorReply:
            what = f"{message.name}: a request" if kind is Request else "a result"
            raise PayloadError(f"{what} of {length} bytes is above the {most} of a message", sent=False)
        if self._merged and kind is not Request:
            self._merged.pop(message.id, None)
        return b"".join((_pack(MAGIC, VERSION, length, head, how, _SERIALIZER, compressor, number), block, body))

    def _pairs(self, metadata: Mapping[str, str]) -> bytes:
        try:
            block = b"".join(_packed(each) for pair in metadata.items() for each in pair)
        except (AttributeError, ValueError, StructError) as error:
            raise PayloadError(f"metadata={metadata!r:.80}: {error}", sent=False) from None
        if len(block) > self.wire.maxMetadata:
            text = f"metadata of {len(block)} bytes is above maxMetadata={self.wire.maxMetadata}"
            raise PayloadError(text, sent=False)
        return block

    def _heartbeat(self, isAnswer: bool) -> bytes:
        number, kind = 0, _HEARTBEAT
        if isAnswer and self._asked is not None:
            # A sign of life that nobody has asked for is a heartbeat, too.
            number, kind, self._asked = self._asked, _HEARTBEAT_ANSWER, None
        return _pack(MAGIC, VERSION, HEAD, HEAD, kind, _SERIALIZER, NONE, number)


def _text(frame: bytes, at: int, head: int) -> tuple[str | None, int]:
    """A text of the map, and where the next one begins."""
    start = end = at + 2
    if start <= head:
        length = _U16.unpack_from(frame, at)[0]
        if length == _NULL:
            return None, start
        end = start + length
    if end > head:
        raise ValueError("it ends within a text")
    return frame[start:end].decode(), end


def _packed(text: str | None) -> bytes:
    if text is None:
        return _U16.pack(_NULL)
    data = text.encode()
    return _U16.pack(len(data)) + data


def _failed(number: int, body: bytes, metadata: Any) -> ErrorReply:
    """The error that a result is."""
    try:
        result: Any = decode(body)
    except PayloadError as error:
        return ErrorReply(number, "payload", f"the peer's error cannot be read: {error}", None, metadata)
    if isinstance(result, RegisterTMResult):
        return ErrorReply(number, "notIdentified", "the coordinator refuses the registration", result, metadata)
    exception = result.exception
    code = exception.name if isinstance(exception, ExceptionCode) else str(exception)
    return ErrorReply(number, code, result.text or "the peer has given no reason", result, metadata)


def _failure(message: ErrorReply, merged: bytes | None) -> bytes:
    """The result that an error is; ``merged`` is the body of the request, if that is one of merged messages."""
    request = TYPES[message.id >> 32]
    if request is not MergedMessages:
        return encode(_failedResult(request, message, _MOST_TEXT))
    found: Any = MergedMessages()
    if merged is not None:
        with suppress(PayloadError):
            found = decode(merged)
    most = min(_MOST_TEXT, _MOST_TEXTS // max(len(found.messages), 1))
    return encode(MergedResults([_failedResult(type(each), message, most) for each in found.messages]))


def _failedResult(request: type[Message], message: ErrorReply, most: int) -> Message:
    # A message without a result has a place among those that were merged with it: so there is something in its place.
    result = (RESULTS[request] or RESULTS[BranchReport])[0]()
    if isinstance(result, Result):
        result.succeeded = False
        result.text = message.text.encode(errors="replace").decode()[:most]
        result.exception = ExceptionCode.__members__.get(message.code, ExceptionCode.Unknown)
    elif isinstance(result, RegisterTMResult):
        result.identified = False
    return result
