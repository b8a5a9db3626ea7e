"""
Sessions over WebSocket messages: one message is one package.

:py:class:`MessageSession` frames what it writes and gives it to the same Outbound as a stream's.
:py:class:`MessageInbound` takes frames. One that is a whole message, uncompressed, is taken here, on the short path;
every other one (fragments, control frames, compressed or malformed ones) is given to the state machine of the
connection's engine, alone, so that after it the short path is open again, and a session that is paused stays so.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import CodecError, MessageTooLongError, PeerClosedError, SessionClosedError, SessionError
from getty_tx.session.compressed import CompressionSetting
from getty_tx.session.facade import SessionTransport
from getty_tx.session.inbound import WHOLE_READ, Inbound
from getty_tx.session.lifecycle import LOST, OPEN
from getty_tx.session.pausing import CLOSED
from getty_tx.session.session import Session
from getty_tx.transports.websocket.frames import BINARY, CLOSE, LONGEST_HEADER, TEXT, header, sizeOf, wholeFrame
from getty_tx.transports.websocket.frames import xor as unmask

if TYPE_CHECKING:
    from getty_tx.interfaces import IConnection
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.outbound import Outbound
    from getty_tx.transports.websocket import WebSocketSessionProtocol

__all__ = ["MessageInbound", "MessageSession", "MessageTransport"]

# Close codes (RFC 6455, section 7.4.1).
NORMAL = 1000
GOING_AWAY = 1001
INVALID = 1007
TOO_LONG = 1009
INTERNAL = 1011
#: Not sent: the connection was lost without a closing handshake.
ABNORMAL = 1006


class MessageInbound(Inbound):
    """
    As Inbound, for frames.

    :ivar over: the peer's Close frame has come; nothing comes after it.
    """

    __slots__ = ("_delivering", "_engine", "_masked", "_skip", "_slow", "_tail", "over")

    def __init__(self, session: Session, outbound: Outbound) -> None:
        super().__init__(session, outbound)
        connection: Any = session.connection
        self._engine = connection.engine
        # What comes from a client is masked, and nothing else is.
        self._masked = 0 if connection.factory.isClient else 0x80
        # The engine is inside a frame or a fragmented message.
        self._slow = False
        self._delivering = False
        self.over = False
        # While closing: bytes of a data frame that are still to be skipped, and the beginning of a header.
        self._skip = 0
        self._tail = b""

    def _deliver(self, data: bytes, at: int = -1) -> None:
        """As Inbound's."""
        session: Any = self.session
        outbound = self.outbound
        masked = self._masked
        end = len(data)
        # As there: in a method of its own it would be one more call for each read.
        if at < 0:
            session.bytesRead += end
            if self.paused & CLOSED or self.over:
                self._discard(data)
                return
            context = session.context
            seconds = context.seconds
            session.activeAt = seconds()
            if end < WHOLE_READ == self._readSize:
                context.briefReads += 1
            else:
                self._adaptReadSize(end)
            if self.paused or session.inCallback:
                self._bufferForLater(data)
                return
            at = 0
            if self._chunks is not None:
                self._buffer(data)
                if self.unread < self._need:
                    return
                data, at = self._takeBuffered()
                end = len(data)
        need = 0
        outbound.corked = True
        session.inCallback = self._delivering = True
        try:
            while at < end and not (self.paused or self.over):
                if self._slow:
                    at = self._feed(data, at, end)
                    continue
                left = end - at
                if left < 2:
                    need = left + 1
                    break
                first, length = data[at], data[at + 1]
                body = at + (6 if masked else 2)
                if (first != BINARY and first != TEXT) or (length ^ masked) & 0x80:
                    at = self._feed(data, at, end)
                    continue
                length &= 0x7F
                if length > 125:
                    extended = 2 if length == 126 else 8
                    body += extended
                    if body > end:
                        need = body - at
                        break
                    length = int.from_bytes(data[at + 2 : at + 2 + extended], "big")
                    if length < (126 if extended == 2 else 65536):
                        at = self._feed(data, at, end)
                        continue
                if length > session._maxMsgLen:
                    at = self._feed(data, at, end)
                    continue
                stop = body + length
                if stop > end:
                    need = stop - at
                    break
                payload = data[body:stop]
                if masked:
                    payload = unmask(payload, data[body - 4 : body])
                isText = first == TEXT
                if isText and not (payload.isascii() or _isUTF8(payload)):
                    # The engine finds out where it is wrong, and says so to the peer.
                    at = self._feed(data, at, end)
                    continue
                at = stop
                session.isText = isText
                answer = session.decoder.read(session, memoryview(payload))
                if type(answer) is not tuple or answer[0] is None or answer[1] != length:
                    raise _refused(answer, length, session)
                session.pkgsRead += 1
                try:
                    result = session.receiver.onMessage(session, answer[0])
                except BaseException as error:
                    session.callbackFailed(error)
                else:
                    if result is not None:
                        session.awaitCallback(result)
        except BaseException as error:
            session.readFailed(error)
        self._delivering = False
        if self._engine.autoPingTimeoutCall is not None:
            # Whoever sends anything is there. The engine does this itself for the messages that it sees, and calls it
            # by this name, which tests.transports.websocket.test_session's PingTests need.
            self._engine._cancelAutoPingTimeoutCall()
        if self.paused & CLOSED:
            self._beginDiscarding(data[at:])
        elif at < end and not self.over:
            self._bufferRest(data, at, need)
        del data
        if outbound.queue is not None:
            outbound.uncork()
        else:
            outbound.corked = False
        session.inCallback = False
        if self.over and session.state <= OPEN:
            if session.work is not None:
                # The peer has closed in order: what it sent before is delivered.
                session.work.keeps = True
            session.beginClosing()
        if self.readingStopped or self.ended or session.needsDispatch or self._chunks is not None:
            session.dispatchEvents()

    receive = _deliver

    def message(self, payload: bytes, isText: bool) -> None:
        """The engine has a message: deliver it. Raises what the codec raises."""
        session: Any = self.session
        if self.paused & CLOSED:
            return
        session.isText = isText
        answer = session.decoder.read(session, memoryview(payload))
        if type(answer) is not tuple or answer[0] is None or answer[1] != len(payload):
            raise _refused(answer, len(payload), session)
        session.pkgsRead += 1
        try:
            result = session.receiver.onMessage(session, answer[0])
        except BaseException as error:
            session.callbackFailed(error)
        else:
            if result is not None:
                session.awaitCallback(result)

    def _feed(self, data: bytes, at: int, end: int) -> int:
        """Give the engine what it needs for the frame that it is in, or that begins here; returns where that ends."""
        engine = self._engine
        frame = engine.current_frame
        if frame is None:
            held = engine.data
            head, payload = sizeOf(held + data[at : at + LONGEST_HEADER - len(held)])
            stop = at + head - len(held) + max(payload, 0)
        else:
            stop = at + frame.length - engine.current_frame_masker.pointer()
        # A frame that the engine has refused may be at its end already.
        stop = min(max(stop, at + 1), end)
        engine.data += data[at:stop]
        engine.consumeData()
        self._slow = engine.inside_message or engine.current_frame is not None or bool(engine.data)
        return stop

    @property
    def hasPartial(self) -> bool:
        """True while undelivered input is buffered, such as a fragment of a message."""
        return self.unread > 0 or self._slow

    # After the end

    def deliverBuffered(self) -> bool:
        """As Inbound's. When all is delivered and there was no Close frame, the end of the stream is a failure."""
        if Inbound.deliverBuffered(self):
            return True
        session = self.session
        if self.over or session.state != LOST or session.closedLocally or session.error is not None:
            return False
        text = "the connection ended without a WebSocket closing handshake"
        session.fail(PeerClosedError(text, session, ABNORMAL, ""))
        return True

    def close(self) -> None:
        """Deliver nothing more; what still comes is searched for the peer's Close frame."""
        if not self.paused & CLOSED and self._chunks is not None and not self._delivering:
            data, at = self._takeBuffered()
            Inbound.close(self)
            self._beginDiscarding(data[at:])
        elif not self._delivering:
            wasClosed = self.paused & CLOSED
            Inbound.close(self)
            if not wasClosed:
                self._beginDiscarding(b"")
        else:
            Inbound.close(self)

    def _beginDiscarding(self, data: bytes) -> None:
        engine = self._engine
        frame = engine.current_frame
        if frame is not None:
            self._skip = frame.length - engine.current_frame_masker.pointer()
        self._tail, engine.data = engine.data, b""
        self._slow = False
        self._discard(data)

    def _discard(self, data: bytes) -> None:
        if self.over or self.session.state >= LOST:
            return
        if self._tail:
            data = self._tail + data
            self._tail = b""
        at = self._skip
        while at < len(data):
            head, payload = sizeOf(data[at : at + LONGEST_HEADER])
            isClose = data[at] & 0x0F == CLOSE
            stop = at + head + payload
            if payload < 0 or (isClose and payload < 126 and stop > len(data)):
                self._tail = data[at:]
                at = len(data)
                break
            if isClose and payload < 126:
                self._closeFrame(data[at:stop])
                return
            at = stop
        self._skip = at - len(data)

    def _closeFrame(self, frame: bytes) -> None:
        connection: Any = self.session.connection
        # What this side says must be said first, or the engine would answer the peer's Close in its place.
        connection.shutdownWriting()
        engine = self._engine
        engine.current_frame = None
        engine.data = frame
        engine.consumeData()


def _isUTF8(payload: bytes) -> bool:
    """Python's decoder refuses what Autobahn's validator does."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refused(answer: Any, length: int, session: Session) -> CodecError:
    """A message is one package, and all of it."""
    if type(answer) is not tuple or len(answer) != 2 or type(answer[1]) is not int:
        what = f"{type(answer).__name__}, not (package, length)"
    elif answer[0] is None:
        what = f"no package for a message of {length} bytes"
    else:
        what = f"a package of {answer[1]} bytes for a message of {length}"
    return CodecError(f"the codec answered {what}", session)


class MessageTransport(SessionTransport):
    """The facade of a session over messages: what is written is one binary message."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send bytes as a binary message; counted in ``writeBytes``, and as no package."""
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        session: Any = self._session
        if data and (not session.isClosed or self._outbound.hasProducer):
            session._send(BINARY, data)


class MessageSession(Session):
    """
    A session over WebSocket: what :py:class:`~getty_tx.session.session.Session` has, and what was agreed upon.

    It has no ``compression``, as WebSocket has its own. A package is one message, and ``close()`` says why by the code
    of the Close frame.
    """

    __slots__ = (
        "_closeCode",
        "_closeReason",
        "_engine",
        "_isClient",
        "_plain",
        "closeFrameAt",
        "controlBytes",
        "isText",
    )

    connection: WebSocketSessionProtocol
    # A slot, as it is set for each message.
    isText: bool

    inboundType = MessageInbound

    compression = CompressionSetting("a WebSocket has its own, which its description asks for: deflate=yes, or no")

    def __init__(self, connection: IConnection, context: ServiceContext, transport: Any) -> None:
        super().__init__(connection, context, transport)
        self.transport = MessageTransport(self, self.outbound)
        self.isText = False
        # Of those read and written, the bytes of pings and their answers.
        self.controlBytes = 0
        # Bytes written before our Close frame.
        self.closeFrameAt: int | None = None
        # What the Close frame will say.
        self._closeCode: int | None = None
        self._closeReason = ""
        self._engine: Any = self.connection.engine
        self._isClient: bool = self.connection.factory.isClient
        # Frames are neither masked nor compressed.
        self._plain: bool = not (self._isClient or self._engine.compresses)

    def startTLS(self, contextFactory: Any, normal: bool) -> None:
        raise CodecError("there is no TLS within a WebSocket: dial or serve wss:", self)

    @property
    def path(self) -> str:
        """The path that the client asked for, with no query."""
        return self.connection.path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed upon."""
        return self.connection.subprotocol

    # Writing

    def _send(self, first: int, payload: bytes) -> None:
        """Frame a message and send it."""
        if self._plain:
            data = header(first, len(payload)) + payload
        elif self._engine.compresses:
            data = self._engine.compressed(first, payload)
        else:
            data = wholeFrame(first, payload, True)
        length = len(data)
        self.bytesWritten += length
        self.outbound.write(data, length)

    def writePkg(self, pkg: Any, timeout: float | None = None) -> int:
        """
        Encode a package and send it as one message, text where the codec gives a ``str``; as Session's otherwise.

        :return: bytes encoded, without those of the frame.
        """
        if timeout is not None:
            settings.seconds("timeout", timeout)
        data = self.encoder.write(self, pkg)
        first = BINARY
        if type(data) is bytes:
            pass
        elif isinstance(data, str):
            first = TEXT
            data = data.encode()
        else:
            data = b"".join(self._asChunks(data))
        if get_ident() != self._thread:
            return self._writeFromThread([_Message(first, data)], timeout, 1)
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        if self.outbound.refuses():
            raise self._blocked()
        self.pkgsWritten += 1
        self._send(first, data)
        if timeout is not None:
            self._setWriteDeadline(timeout)
        return len(data)

    def _writeChunks(self, chunks: list[bytes], timeout: float | None, packages: int) -> int:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        if self.outbound.refuses():
            raise self._blocked()
        self._writeForThread(chunks, timeout, packages)
        return sum(map(len, chunks))

    def _writeForThread(self, chunks: list[bytes], timeout: float | None, packages: int) -> None:
        # Framed here, on the reactor's thread: compression has a state that must be in the order of the messages.
        if self.state > OPEN:
            super()._writeForThread(chunks, timeout, packages)
            return
        self.pkgsWritten += packages
        for chunk in chunks:
            self._send(chunk.first if type(chunk) is _Message else BINARY, chunk)
        if timeout is not None:
            self._setWriteDeadline(timeout)

    # Closing

    def close(self, reason: BaseException | str | None = None) -> None:
        """As Session's. The Close frame has the code 1000, and the reason if it is a text; 1011 for an exception."""
        if get_ident() == self._thread and self.state <= OPEN and not isinstance(reason, BaseException):
            self._closeWith(NORMAL, "" if reason is None else str(reason))
        super().close(reason)

    def stop(self) -> None:
        if self.state <= OPEN and not self._isClient:
            self._closeWith(GOING_AWAY, "the server stops")
        super().stop()

    def _settingChanged(self, name: str) -> None:
        super()._settingChanged(name)
        if self.cronGroup is not None and name in ("maxMsgLen", "cronPeriod"):
            self.connection.applyLimits(self)

    def _closeWith(self, code: int, reason: str) -> None:
        if self._closeCode is None:
            self._closeCode, self._closeReason = code, reason

    def readFailed(self, error: BaseException) -> None:
        if isinstance(error, MessageTooLongError):
            self._closeWith(TOO_LONG, str(error))
        else:
            self._closeWith(INVALID, str(error) if isinstance(error, CodecError) else "")
        super().readFailed(error)

    def fail(self, error: BaseException, abort: bool = False) -> None:
        if isinstance(error, SessionError) and not isinstance(error, CodecError):
            self._closeWith(GOING_AWAY, "")
        else:
            self._closeWith(INTERNAL, "")
        super().fail(error, abort)

    def losesOutput(self) -> bool:
        # A peer that has closed in order need not wait for the answer to its Close frame.
        if self.closeFrameAt is not None:
            return self.outbound.bytesOut < self.closeFrameAt
        return super().losesOutput()

    def activity(self) -> int:
        # Pings come from time to time, whether or not anybody has something to say.
        return super().activity() - self.controlBytes

    def lifetimeOver(self) -> None:
        self._closeWith(GOING_AWAY, "")
        super().lifetimeOver()

    def beginClosing(self) -> None:
        self._closeWith(NORMAL, "")
        super().beginClosing()


class _Message(bytes):
    """A message on its way from another thread."""

    first: int

    def __new__(cls, first: int, data: bytes) -> _Message:
        self = super().__new__(cls, data)
        self.first = first
        return self
