"""
The session over WebSocket: one message is one package.

:py:class:`MessageSession` writes each package as one frame, to the same Outbound as a session over a stream.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import CodecError, MessageTooLongError, SessionClosedError, SessionError
from getty_tx.session.compressed import CompressionSetting
from getty_tx.session.facade import SessionTransport
from getty_tx.session.leaving import farewell
from getty_tx.session.lifecycle import OPEN
from getty_tx.session.session import Session
from getty_tx.transports.websocket.frames import BINARY, CLOSE, TEXT, CloseCode, header, pack16, wholeFrame
from getty_tx.transports.websocket.inbound import MessageInbound
from getty_tx.transports.websocket.sharing import PLAIN, deflateFraming

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from getty_tx.interfaces import IConnection
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.sharing import IFraming
    from getty_tx.transports.websocket.requested import UpgradeRequest

__all__ = ["MessageSession", "MessageTransport"]


class MessageTransport(SessionTransport):
    """The facade of a session over messages: each write is one binary message."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send bytes as a binary message; counted in ``writeBytes``, but not as a package."""
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        session: Any = self._session
        if data and (not session.isClosed or self._outbound.hasProducer):
            session.sendMessage(BINARY, data)


class MessageSession(Session):
    """
    A session over WebSocket: a :py:class:`~getty_tx.session.session.Session` with the results of the handshake.

    It has no ``compression``, because WebSocket has its own. A package is one message, and ``close()`` sends its reason
    in the Close frame.
    """

    __slots__ = (
        "_engine",
        "_isClient",
        "_isPlain",
        "closeFrameAt",
        "closeFrameCode",
        "closeFrameReason",
        "controlBytes",
        "isText",
    )

    # A WebSocketSessionProtocol. Its module imports this one, so it is not named here.
    connection: Any
    # A slot, because it is set for each message.
    isText: bool

    inboundType = MessageInbound

    compression = CompressionSetting("a WebSocket has its own, which its description asks for: deflate=yes, or no")

    def __init__(self, connection: IConnection, context: ServiceContext, transport: Any) -> None:
        super().__init__(connection, context, transport)
        self.transport = MessageTransport(self, self.outbound)
        self.isText = False
        # Bytes read and written that belong to pings, pongs and Close frames.
        self.controlBytes = 0
        # Bytes written before our Close frame, when it is sent.
        self.closeFrameAt: int | None = None
        # The code and reason of our Close frame, when they are known.
        self.closeFrameCode: int | None = None
        self.closeFrameReason = ""
        self._engine: Any = self.connection.engine
        self._isClient: bool = self.connection.factory.isClient
        # Frames are neither masked nor compressed.
        self._isPlain: bool = not (self._isClient or self._engine.compresses)

    def startTLS(self, contextFactory: Any, normal: bool) -> None:
        raise CodecError("there is no TLS within a WebSocket: dial or serve wss:", self)

    def sendFile(self, file: Any, offset: int = 0, count: int | None = None) -> Deferred[int]:
        """A WebSocket has messages.

        :raise CodecError: always.
        """
        raise CodecError("a WebSocket has messages, and no stream for sendFile: write the file in packages", self)

    def configured(self) -> None:
        self.connection.sendAnswer(self)

    def abandon(self) -> None:
        self.connection.withdrawAnswer(self)
        super().abandon()

    @property
    def request(self) -> UpgradeRequest | None:
        """
        On a server, the client's request, until onOpen has returned.

        It takes some kilobytes: ``keepRequest`` keeps it as long as the session, or keep what you need of it.
        """
        request: UpgradeRequest | None = self.connection.request
        return request

    @property
    def keepRequest(self) -> bool:
        """Whether ``request`` is there for the life of the session. Set it before onOpen returns."""
        keeps: bool = self.connection.keepsRequest
        return keeps

    @keepRequest.setter
    def keepRequest(self, keeps: bool) -> None:
        self.connection.keepsRequest = settings.flag("keepRequest", keeps)

    @property
    def path(self) -> str:
        """The path that the client asked for, with no query."""
        path: str = self.connection.path
        return path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed upon."""
        subprotocol: str | None = self.connection.subprotocol
        return subprotocol

    @property
    def closeStatus(self) -> tuple[int | None, str]:
        """
        The code and the reason of the Close frame that ended the session, the peer's if it was the first.

        1005 where it has no code; None where the connection was lost without one.
        """
        if self.closeFrameCode is not None and self.closedLocally:
            return self.closeFrameCode, self.closeFrameReason
        status: tuple[int | None, str] = self._engine.peerStatus
        return status

    # Writing

    @property
    def framing(self) -> IFraming | None:  # type: ignore[override]  # a class attribute elsewhere, and never set
        """How frames that other sessions get as well are made; None on a client, which masks each frame."""
        if self._isPlain:
            return PLAIN
        return None if self._isClient else deflateFraming(self._engine.windowBits, contextIsLost)

    def sendMessage(self, first: int, payload: bytes) -> None:
        """Frame a message and send it."""
        if self._isPlain:
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
        Encode a package and send it as one message, as text if the codec returns a ``str``. Otherwise as Session's.

        :return: bytes encoded, without the frame's header.
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
        outbound = self.outbound
        if outbound.blocked and outbound.refuses():
            raise self._blocked()
        self.pkgsWritten += 1
        size = len(data)
        if self._isPlain:
            # As sendMessage, without the call.
            frame = (pack16(first, 126, size) if 125 < size < 65536 else header(first, size)) + data
            length = len(frame)
            self.bytesWritten += length
            outbound.write(frame, length)
        else:
            self.sendMessage(first, data)
        if timeout is not None:
            self._setWriteDeadline(timeout)
        return size

    def writePkgs(self, packages: list[Any], timeout: float | None = None) -> int:
        """Encode the packages of a list, and send each as one message; otherwise as Session's."""
        if timeout is not None:
            settings.seconds("timeout", timeout)
        write = self.encoder.write
        outbound = self.outbound
        if not self._isPlain or timeout is not None or outbound.blocked or get_ident() != self._thread:
            messages = [self._asMessage(write(self, pkg)) for pkg in packages]
            return self._writePieces(messages, timeout, len(packages))
        # As _writePieces, without its calls for each package.
        pieces = []
        length = 0
        for pkg in packages:
            data = write(self, pkg)
            first = BINARY
            if type(data) is not bytes:
                data = self._asMessage(data)
                first = TEXT if type(data) is _Message else BINARY
            size = len(data)
            length += size
            pieces.append(pack16(first, 126, size) if 125 < size < 65536 else header(first, size))
            pieces.append(data)
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        self.pkgsWritten += len(packages)
        frames = b"".join(pieces)
        self.bytesWritten += len(frames)
        outbound.write(frames, len(frames))
        return length

    def _asMessage(self, data: Any) -> bytes:
        if isinstance(data, str):
            return _Message(TEXT, data.encode())
        return data if type(data) is bytes else b"".join(self._asChunks(data))

    def _asBytes(self, chunk: Any) -> bytes:
        # Masking and compression need bytes.
        return bytes(super()._asBytes(chunk))

    def _writeChunks(self, chunks: list[bytes], timeout: float | None, packages: int) -> int:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        if self.outbound.refuses():
            raise self._blocked()
        self.writeForThread(chunks, timeout, packages)
        return sum(map(len, chunks))

    def writeForThread(self, chunks: list[bytes], timeout: float | None, packages: int) -> None:
        # Framed here, on the reactor's thread, because the state of compression depends on the order of the messages.
        if self.state > OPEN:
            super().writeForThread(chunks, timeout, packages)
            return
        self.pkgsWritten += packages
        outbound = self.outbound
        corks = len(chunks) > 1 and not outbound.corked
        if corks:
            # They leave together.
            outbound.corked = True
        for chunk in chunks:
            self.sendMessage(chunk.first if type(chunk) is _Message else BINARY, chunk)
        if corks:
            outbound.corked = False
            outbound.flush()
        if timeout is not None:
            self._setWriteDeadline(timeout)

    # For the connection

    def sendControlFrame(self, frame: bytes) -> None:
        """Send a frame of the engine in its order among the messages."""
        if frame[0] & 0x0F == CLOSE:
            self.closeFrameAt = self.bytesWritten
        self.bytesWritten += len(frame)
        self.controlBytes += len(frame)
        self.outbound.write(frame, len(frame))

    def controlBytesRead(self, length: int) -> None:
        """Count the bytes of a control frame that was read."""
        self.controlBytes += length

    def closeFrameSent(self) -> None:
        """Our Close frame is sent. That the peer receives it does not extend the wait for its answer."""
        self.lastProgress = self.closeProgress()

    # Closing

    def close(self, reason: BaseException | str | None = None) -> None:
        """As Session's. The Close frame has the code 1000, and the reason if it is a text; or 1011 for an exception."""
        if get_ident() == self._thread and self.state <= OPEN and not isinstance(reason, BaseException):
            self._closeWith(CloseCode.NORMAL_CLOSURE, "" if reason is None else str(reason))
        super().close(reason)

    def closeWith(self, code: int, reason: str = "") -> None:
        """
        As :py:meth:`close`, with another code than 1000 in the Close frame.

        :param code: 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999 (RFC 6455, section 7.4).
        :param reason: up to 123 bytes in UTF-8; what is longer is cut.
        """
        if self.state <= OPEN:
            self._closeWith(code, reason)
        self.close()

    def stop(self) -> None:
        if self.state <= OPEN and not self._isClient:
            self._closeWith(CloseCode.GOING_AWAY, farewell(self.context.retryWithin))
        super().stop()

    def settingChanged(self, name: str) -> None:
        super().settingChanged(name)
        if self.cronGroup is not None and name in ("maxMsgLen", "cronPeriod"):
            self.connection.applyLimits(self)

    def _closeWith(self, code: int, reason: str) -> None:
        if self.closeFrameCode is None:
            self.closeFrameCode, self.closeFrameReason = code, reason

    def readFailed(self, error: BaseException) -> None:
        if isinstance(error, MessageTooLongError):
            self._closeWith(CloseCode.MESSAGE_TOO_BIG, str(error))
        else:
            self._closeWith(CloseCode.INVALID_DATA, str(error) if isinstance(error, CodecError) else "")
        super().readFailed(error)

    def fail(self, error: BaseException, abort: bool = False) -> None:
        if isinstance(error, SessionError) and not isinstance(error, CodecError):
            self._closeWith(CloseCode.GOING_AWAY, "")
        else:
            self._closeWith(CloseCode.INTERNAL_ERROR, "")
        super().fail(error, abort)

    def losesOutput(self) -> bool:
        # A peer that has closed normally need not wait for the answer to its Close frame.
        if self.closeFrameAt is not None:
            return self.outbound.bytesOut < self.closeFrameAt
        return super().losesOutput()

    def activity(self) -> int:
        # Pings are sent and answered even if both applications are idle.
        return super().activity() - self.controlBytes

    def lifetimeOver(self) -> None:
        self._closeWith(CloseCode.GOING_AWAY, "")
        super().lifetimeOver()

    def beginClosing(self) -> None:
        self._closeWith(CloseCode.NORMAL_CLOSURE, "")
        super().beginClosing()


def contextIsLost(session: MessageSession) -> None:
    """
    The peer was sent a frame that the compressor of this session has not made: it begins anew.

    Autobahn makes a compressor where it has none. It has no public way to let go of one, and a call of the engine would
    take as long as the rest: tests.transports.websocket.test_sharing fails if one of the names goes away.
    """
    session._engine._perMessageCompress._compressor = None


class _Message(bytes):
    """A message that another thread has written."""

    first: int

    def __new__(cls, first: int, data: bytes) -> _Message:
        self = super().__new__(cls, data)
        self.first = first
        return self
