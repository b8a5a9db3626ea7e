"""Sessions over byte streams: TCP, TLS, unix sockets, and whatever else gives a stream transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from getty_tx.interfaces import IConnection
from getty_tx.session import outbound
from getty_tx.session.inbound import WHOLE_READ
from getty_tx.session.wrappers import isEncrypted, socketOf
from getty_tx.transports.base import Connection

if TYPE_CHECKING:
    from twisted.python.failure import Failure

__all__ = ["SessionProtocol", "StreamConnection"]


class StreamConnection(Connection):
    """A connection over a byte stream, whose protocol has a ``dataReceived`` that does no more than ``_doRead``."""

    def _readDirectly(self, short: bool) -> None:
        """
        The session begins: where the transport is that of a plain socket, read as much at a time as the inbound likes.

        :param short: read straight into the inbound, as nobody has extended ``dataReceived``.
        """
        raw = self._raw
        if type(raw) in outbound.DIRECT and not raw.TLS:
            raw.bufferSize = WHOLE_READ
            if short:
                # Three calls less for each read; abortConnection replaces it in the same way, startTLS takes it back.
                raw.doRead = self._doRead

    def _doRead(self) -> BaseException | None:
        """In place of the transport's own, which comes to the same; see IReadDescriptor for what it returns."""
        raw = self._raw
        try:
            data = raw.socket.recv(raw.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.session.inbound.receive(data)  # type: ignore[union-attr]  # there is one as long as the transport reads
        return None


@implementer(IConnection, IHalfCloseableProtocol, IHandshakeListener)
class SessionProtocol(StreamConnection, Protocol):
    """
    The Twisted protocol of a stream session; a factory with a ``context`` makes it.

    To subclass: ``connectionMade``, ``dataReceived`` (which gets a compressed stream as it came) and
    ``connectionLost`` may be extended, calling the base.
    ``self.transport`` is the session's facade once there is a session, so that writing to it keeps the order.
    """

    def connectionMade(self) -> None:
        """The transport is up; the session begins now, or after the TLS handshake."""
        self._connected(self.transport, isEncrypted(self.transport))

    def _begin(self) -> None:
        super()._begin()
        if self.session is not None:
            self.transport = self.session.transport
            self._readDirectly(short=type(self).dataReceived is SessionProtocol.dataReceived)

    def handshakeCompleted(self) -> None:
        """The TLS handshake is done. After a ``startTLS`` of the application the session is there already."""
        if self.session is not None:
            self.session.inbound.endHandshake()
        elif self._failure is None:
            self._begin()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        session = self.session
        if session is not None:
            session.inbound.receive(data)
        elif self._failure is None:
            # A wrapper between TLS and this protocol keeps handshakeCompleted to itself; but data proves it.
            self._begin()
            self.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The peer has ended its side of the stream."""
        if self.session is not None:
            self.session.peerEnded()
        else:
            self._raw.loseConnection()

    def writeConnectionLost(self) -> None:
        """This side has ended; the peer's end is still to come."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._lost(reason)

    def shutdownWriting(self) -> None:
        """Everything is flushed: end this side, and read on until the peer ends its own."""
        if self._halfCloses():
            self._raw.loseWriteConnection()
        else:
            # TLS sends its closing alert and reads on until the peer's.
            self._raw.loseConnection()

    def leave(self) -> None:
        """Let go of a peer that does not end its side; a plain socket's data is still delivered by the system."""
        if self._halfCloses() and socketOf(self._raw) is not None:
            self._raw.loseConnection()
        else:
            self._raw.abortConnection()

    def _halfCloses(self) -> bool:
        raw = self._raw
        layered = isinstance(raw, ProtocolWrapper) or getattr(raw, "TLS", False)
        return not layered and hasattr(raw, "loseWriteConnection")
