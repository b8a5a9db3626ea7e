"""
Thrift's messages by themselves: framed, with their length before them in 32 bits, or buffered, one behind the other.

Apache's clients without calls in flight give all their calls the same id, usually 0. So the number of a call in, a
Request's ``id``, is no key: it has the name of the method with it, which the reply repeats.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, ClassVar

from zope.interface import implementer

from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IWireCodec
from getty_tx.rpc.messages import ErrorReply, Feature, Reply, Request
from getty_tx.rpc.wires.thriftmessage import (
    CALL,
    EXCEPTION,
    MOST_TEXT,
    ONE_WAY,
    OVERHEAD,
    REPLY,
    MessageEnd,
    cutText,
    exceptionStruct,
    exceptionType,
    packMessage,
    parseMessage,
    readException,
)

__all__ = ["BufferedCodec", "FramedCodec"]

_length = Struct(">I")

#: Bytes of the length.
HEAD = 4

#: Messages that are read at a time.
_MANY = 64


class _Asked(int):
    """The id of a call in. :ivar method: the name that the reply has, too."""

    method = ""


@implementer(IReadWriter, IWireCodec)
class FramedCodec:
    """
    Messages with their length: TFramedTransport.

    :param wire: what the sessions share: a :py:class:`~getty_tx.rpc.Thrift`.
    """

    __slots__ = ("_thrift", "wire")

    #: Nothing beside calls can be said.
    understood: ClassVar[frozenset[Feature]] = frozenset()

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self._thrift = wire.payload

    def __repr__(self) -> str:
        return repr(self.wire)

    # Reading

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The messages that are complete; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        have = len(data)
        while at + HEAD <= have and len(found) < _MANY:
            body = at + HEAD
            stop = body + _length.unpack_from(data, at)[0]
            if stop > have or stop - at > limit:
                break
            try:
                found.append((self._message(session, data[body:stop]), stop))
            except CodecError:
                # Raised again, by read(), when those before it have been handled.
                break
            at = stop
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: it is none of Thrift's binary protocol.
        """
        if len(data) < HEAD:
            return None, 0
        end = HEAD + _length.unpack_from(data)[0]
        if len(data) < end:
            return None, end
        return self._message(session, data[HEAD:end].tobytes()), end

    def _message(self, session: Any, data: bytes) -> Any:
        kind, name, number, struct = parseMessage(session, data, self.wire.maxMetadata)
        if kind in (CALL, ONE_WAY):
            thrift = self._thrift
            # TMultiplexedProtocol has the service before the name; its replies do not.
            service, _, method = name.rpartition(":")
            name = f"{service or thrift.serviceOf(method)}/{method}"
            asked = _Asked(number)
            asked.method = method
            return Request(asked, name, struct, None, None, kind == ONE_WAY or thrift.isOneWay(name))
        if kind == REPLY:
            return Reply(number, struct)
        if kind == EXCEPTION:
            return readException(number, struct)
        raise CodecError(f"rpc: a Thrift message of the unknown type {kind}", session)

    # Writing

    def write(self, session: Any, message: Any) -> bytes:
        """
        The bytes of a message. Metadata of a reply are left out: its method does not know how it was called.

        :raise PayloadError: the IDL has no reply to it, or it is longer than the session's ``maxMsgLen``.
        :raise SettingError: a request has metadata.
        """
        kind = type(message)
        if kind is Request:
            data = self._request(message)
        elif kind is Reply:
            data = packMessage(REPLY, message.id.method, message.id, message.payload)
        elif kind is ErrorReply:
            return self._frame(self._error(message, session.maxMsgLen))
        else:
            raise SettingError(f"{self.wire} cannot say {kind.__name__}")
        frame = self._frame(data)
        if len(frame) > session.maxMsgLen:
            text = f"rpc: a message of {len(frame)} bytes is above maxMsgLen={session.maxMsgLen}"
            raise PayloadError(text, sent=False)
        return frame

    def _frame(self, data: bytes) -> bytes:
        return _length.pack(len(data)) + data

    def _request(self, message: Request) -> bytes:
        name = message.name
        if message.metadata is not None:
            raise SettingError(f"metadata={message.metadata!r:.80}: {self.wire} has none; use rpc.TTHeader('thrift')")
        if not message.isOneWay and self._thrift.isOneWay(name):
            raise PayloadError(f"{name} is oneway in the IDL: send() it, there is no reply to wait for", sent=False)
        service, _, method = name.partition("/")
        if self.wire.multiplexed:
            method = f"{service}:{method}"
        return packMessage(ONE_WAY if message.isOneWay else CALL, method, message.id, message.payload)

    def _error(self, message: ErrorReply, limit: int) -> bytes:
        asked: Any = message.id
        text = cutText(message.text, min(MOST_TEXT, limit - OVERHEAD))
        # A service that is not there is, to Apache's clients, a method that is not there.
        return packMessage(EXCEPTION, asked.method, asked, exceptionStruct(text, exceptionType(message.code, True)))


class BufferedCodec(FramedCodec):
    """Messages without a length, which end with their struct: TBufferedTransport, and Kitex if not told otherwise."""

    __slots__ = ("_end",)

    def __init__(self, wire: Any) -> None:
        super().__init__(wire)
        # Of the message at the front, as far as it has come.
        self._end: MessageEnd | None = None

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """None: the end of one that has come in part would be looked for twice."""
        return []

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: it is none of Thrift's binary protocol.
        """
        end = self._end
        if end is None:
            end = self._end = MessageEnd(self.wire.maxMetadata)
        try:
            size = end.find(data)
        except ValueError as error:
            raise CodecError(f"rpc: no Thrift message: {error}", session) from None
        if size > len(data):
            return None, size
        self._end = None
        return self._message(session, data[:size].tobytes()), size

    def _frame(self, data: bytes) -> bytes:
        return data
