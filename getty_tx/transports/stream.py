"""Sessions over byte streams: TCP, TLS, unix sockets, and any other stream transport of Twisted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from getty_tx.interfaces import IStreamConnection
from getty_tx.session import outbound
from getty_tx.session.inbound import WHOLE_READ
from getty_tx.session.wrappers import expectProxyHeader, isEncrypted, isOnSocket, socketOf
from getty_tx.transports.base import Connection

if TYPE_CHECKING:
    from twisted.python.failure import Failure

__all__ = ["SessionProtocol", "StreamConnection"]


class StreamConnection(Connection):
    """
    The part that SessionProtocol and the protocol of WebSocket share: direct reading from a plain socket.

    ``dataReceived`` of the class does no more than to pass data to the inbound.
    """

    def _readDirectly(self, short: bool) -> None:
        """
        The session has started: on a plain socket, read as many bytes at a time as the inbound asks for.

        :param short: read straight into the inbound, because no subclass has extended ``dataReceived``.
        """
        raw = self.rawTransport
        if type(raw) in outbound.DIRECT and not raw.TLS:
            raw.bufferSize = WHOLE_READ
            self._announce(raw)
            if short:
                # Saves three calls for each read. abortConnection replaces it in the same way, and startTLS removes it.
                raw.doRead = self._doRead
        elif isOnSocket(raw):
            self._announce(raw.transport)
            if short:
                raw.receive = self.session.inbound.receive  # type: ignore[union-attr]  # a session is in use

    def _announce(self, descriptor: Any) -> None:
        """Let the reactor serve the read events of the descriptor on a short path, if it has one."""
        shortReads = self.context.shortReads
        if shortReads is not None:
            shortReads.add(descriptor)

    def _lost(self, reason: Failure) -> None:
        shortReads = self.context.shortReads
        if shortReads is not None:
            raw = self.rawTransport
            shortReads.remove(raw.transport if isOnSocket(raw) else raw)
        super()._lost(reason)

    def _doRead(self) -> BaseException | None:
        """Replaces the transport's doRead with equivalent behaviour. Returns as IReadDescriptor.doRead."""
        raw = self.rawTransport
        try:
            data = raw.socket.recv(raw.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.session.inbound.receive(data)  # type: ignore[union-attr]  # a transport that reads has a session
        return None


@implementer(IStreamConnection, IHalfCloseableProtocol, IHandshakeListener)
class SessionProtocol(StreamConnection, Protocol):
    """
    The Twisted protocol of a stream session; a factory with a ``context`` makes it.

    To subclass: ``connectionMade``, ``dataReceived`` (which gets a compressed stream as it arrived) and
    ``connectionLost`` may be extended; they call the base.
    ``self.transport`` is the session's facade when there is a session, so that bytes written to it keep their order.
    """

    def connectionMade(self) -> None:
        """The transport is connected; the session starts now, or after the TLS handshake and the header of a proxy."""
        raw = self.transport
        encrypted = isEncrypted(raw)
        waits = isinstance(raw, ProtocolWrapper) and expectProxyHeader(raw, encrypted, self._headerArrived)
        self._connected(raw, encrypted, waits)

    def _headerArrived(self) -> None:
        """A proxy has told the peer's address. Bytes behind its header have opened the session already."""
        if self.session is None and self.opening is None and self._failure is None:
            self._handshakesDone()

    def _useSession(self) -> None:
        assert self.session is not None
        self.transport = self.session.transport
        self._readDirectly(short=type(self).dataReceived is SessionProtocol.dataReceived)

    def handshakeCompleted(self) -> None:
        """The TLS handshake is done. After ``startTLS`` of the application there is a session already."""
        if self.session is not None:
            self._endHandshake()
            self.session.inbound.endHandshake()
        elif self._failure is None and self.opening is None:
            self._handshakesDone()

    def dataReceived(self, data: bytes) -> None:
        """Bytes arrived."""
        session = self.session
        if session is not None:
            session.inbound.receive(data)
        elif self.opening is not None:
            self.opening.keep(data)
        elif self._failure is None:
            # A wrapper between TLS and this protocol does not pass on handshakeCompleted, but data proves it.
            self._handshakesDone()
            self.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The peer has ended its side of the stream."""
        if self.session is not None:
            self.session.peerEnded()
        elif self.opening is not None and not self.opening.isEmpty:
            # It may have asked already, and wait for the answer.
            self.opening.ended = True
        else:
            self.rawTransport.loseConnection()

    def writeConnectionLost(self) -> None:
        """This side has ended; the peer has not yet."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection was lost."""
        self._lost(reason)

    def shutdownWriting(self) -> None:
        """Everything is flushed: end this side, and read until the peer ends its own."""
        if self._halfCloses():
            self.rawTransport.loseWriteConnection()
        else:
            # Twisted's TLS sends its closing alert and reads on until the peer's.
            self.rawTransport.loseConnection()

    def leave(self) -> None:
        """Leave a peer that does not end its side; on a plain socket the system still delivers what was sent."""
        if self._halfCloses() and socketOf(self.rawTransport) is not None:
            self.rawTransport.loseConnection()
        else:
            self.rawTransport.abortConnection()

    def _halfCloses(self) -> bool:
        raw = self.rawTransport
        layered = isinstance(raw, ProtocolWrapper) or getattr(raw, "TLS", False)
        return isOnSocket(raw) or (not layered and hasattr(raw, "loseWriteConnection"))
