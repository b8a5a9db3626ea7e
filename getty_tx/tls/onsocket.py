"""
TLS on the socket: OpenSSL reads and writes the socket itself.

Twisted's TLS reads the socket, gives the bytes to OpenSSL in memory, and takes them out of memory again, each with
objects of its own in between. Here ``SSL_read`` and ``SSL_write`` work on the socket of one of Twisted's own TCP and
unix transports. That transport stays the reactor's descriptor and keeps what the socket does not take, in clear; its
``doRead``, ``doWrite`` and ``writeSomeData`` are replaced, as its public methods allow.

A connection is in one of four states, and never goes back::

    HANDSHAKE --> OPEN --> ENDED --> LOST

- HANDSHAKE: what is written waits, in clear. Nothing is delivered.
- OPEN: both directions work, or one of them, when one side has ended.
- ENDED: this side has sent its close_notify and ends the stream. It reads on until the peer's end. A failed handshake
  leads here, too.
- LOST: the socket is closed. Nothing may touch it through OpenSSL, as its number may be another connection's.

In a handshake OpenSSL may have to write in order to read, and to read in order to write. The direction that cannot go
on then is stopped, and is tried again when the socket is ready for what OpenSSL asked for.

In TLS a close_notify ends one direction only (RFC 8446, section 6.1): a peer that has ended its side still gets what is
written, where the wrapped protocol provides IHalfCloseableProtocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, INegotiated, ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.interfaces import IByteSink
from getty_tx.session.inbound import WHOLE_READ
from getty_tx.tls.openssl import BUFFER, SIZE, VIEW, connectionOn, failureOf, pointerOf, sslRead, sslWrite, toPointer
from getty_tx.tls.reasons import isLost, reasonsIn
from getty_tx.tls.transport import LayeredTransport, readLeftover

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProducer

__all__ = ["SocketTLS"]

#: Bytes of the longest record in clear (RFC 8446, section 5.1). SSL_read returns one record at a time; one that is
#: asked for less keeps the rest, of which the reactor would not tell.
RECORD = 16 * 1024

#: A short record is usually the last of what has come, so that the attempt to read one more fails, at the cost of an
#: exception. After as many single records one attempt is made; while it succeeds, all that has come is read at a time.
PROBE = 16

#: Reads after a write that failed, at most, until the end that they lead to: the kernel keeps a receive buffer.
LAST_READS = 1000

_HANDSHAKE, _OPEN, _ENDED, _LOST = range(4)


@implementer(ISSLTransport, INegotiated, IHalfCloseableProtocol, IByteSink)
class SocketTLS(LayeredTransport):
    """
    TLS on the socket of one of Twisted's own transports, below another protocol.

    :param wrapped: the protocol that gets the bytes in clear.
    :param policy: makes the OpenSSL connection; whatever Twisted's TLS takes.
    :param isClient: begin the handshake, as a client.

    :ivar receive: called with the bytes in clear of each read.
    :ivar bufferSize: bytes in clear of one read, at most, up to 128 KiB; one record is always read whole.
    :ivar TLS: as Twisted's transports have it: its own TLS, over this one, was not started.
    :ivar disconnecting: the connection is to close, or this side to end and the connection to close then.
    """

    __slots__ = (
        "TLS",
        "_closing",
        "_connection",
        "_early",
        "_ending",
        "_isClient",
        "_isPaused",
        "_peerEnded",
        "_pointer",
        "_policy",
        "_probe",
        "_readNeedsWrite",
        "_reason",
        "_state",
        "_unsent",
        "_writeNeedsRead",
        "bufferSize",
        "disconnecting",
        "receive",
    )

    def __init__(self, wrapped: Any, policy: Any, isClient: bool) -> None:
        self.wrappedProtocol = wrapped
        self.TLS = self.disconnecting = self._isPaused = False
        self.receive: Callable[[bytes], object] = wrapped.dataReceived
        self.bufferSize = WHOLE_READ
        self._policy = policy
        self._isClient = isClient
        self._state = _HANDSHAKE
        self._connection: Any = None
        self._pointer: Any = None
        # What was written before the end of the handshake.
        self._early: list[bytes] | None = None
        # Bytes that the transport was given and OpenSSL has not taken.
        self._unsent = 0
        # This side is to end, or the connection to close, when those are out.
        self._ending = self._closing = False
        # The peer's close_notify has come.
        self._peerEnded = False
        # OpenSSL has to write before it reads, or to read before it writes.
        self._readNeedsWrite = self._writeNeedsRead = False
        self._probe = PROBE
        self._reason: Failure | None = None

    # The beginning

    def makeConnection(self, transport: Any, connects: bool = True) -> None:
        """
        Begin the handshake.

        :param transport: one of Twisted's own TCP and unix transports.
        :param connects: tell the wrapped protocol that this is its transport. Not where it had one before (startTLS).
        """
        self._connection = connectionOn(self._policy, transport.socket, self._isClient, self)
        self._pointer = pointerOf(self._connection)
        transport.doRead = self.doRead
        self.transport = transport
        if connects:
            self.wrappedProtocol.makeConnection(self)
        isDropped = self._closing and not self._ending
        if self._state == _HANDSHAKE and not isDropped:
            why = self._shakeHands()
            if why is not None:
                self._fail(why)

    def _shakeHands(self) -> BaseException | None:
        """Go on with the handshake. Returns as doRead."""
        transport = self.transport
        try:
            if self._isClient:
                self._connection.do_handshake()
            else:
                self._serveHandshake()
        except SSL.WantReadError:
            if self._readNeedsWrite:
                self._readAgain()
            return None
        except SSL.WantWriteError:
            self._awaitWrite()
            return None
        except SSL.Error as error:
            return self._reasonOf(error)
        if self._reason is not None:
            # failVerification was called meanwhile.
            return None
        if self._readNeedsWrite:
            self._readAgain()
        self._state = _OPEN
        early, self._early = self._early, None
        if early is not None:
            self._replaceWriting()
            transport.writeSequence(early)
        if IHandshakeListener.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.handshakeCompleted()
        self._endIfSent()
        return None

    def _serveHandshake(self) -> None:
        """Corked, as OpenSSL writes each session ticket by itself: together they wake the peer once."""
        self.cork(True)
        try:
            self._connection.do_handshake()
        finally:
            self.cork(False)

    def failVerification(self, reason: Failure) -> None:
        """Drop the connection: Twisted's ``optionsForClientTLS`` calls it for a wrong host name."""
        self._reason = reason
        self.abortConnection()

    def _fail(self, why: BaseException) -> None:
        """Close for ``why``, in the next iteration of the reactor."""
        self._reason = Failure(why)
        self._state = _ENDED
        self.transport.loseConnection()

    # The reactor calls these, by way of the transport

    def doRead(self) -> BaseException | None:
        """Read what has come, and deliver it. As IReadDescriptor.doRead."""
        if self._state == _HANDSHAKE:
            return self._shakeHands()
        pointer = self._pointer
        total = sslRead(pointer, BUFFER, RECORD)
        if total <= 0:
            return self._cannotRead(total)
        if self._writeNeedsRead:
            self._writeAgain()
        why = None
        if total < RECORD and self._probe > 0:
            self._probe -= 1
        else:
            # Read on behind the record.
            most = min(self.bufferSize, SIZE) - RECORD
            size = total
            while total <= most and (size == RECORD or not self._probe):
                size = sslRead(pointer, BUFFER + total, RECORD)
                if size <= 0:
                    if total < RECORD:
                        self._probe = PROBE
                    why = self._cannotRead(size)
                    break
                total += size
        self.receive(VIEW[:total])
        return why if self._state != _LOST else None

    def _cannotRead(self, result: int) -> BaseException | None:
        """Nothing was read. Returns as doRead."""
        error = failureOf(self._connection, result)
        if isinstance(error, SSL.WantReadError):
            # No data: a session ticket, or a part of a record.
            if self._writeNeedsRead:
                self._writeAgain()
            return None
        if isinstance(error, SSL.WantWriteError):
            self._awaitWrite()
            return None
        return self._reasonOf(error)

    def doWrite(self) -> BaseException | None:
        """The socket takes bytes again. As IWriteDescriptor.doWrite."""
        transport = self.transport
        if self._readNeedsWrite:
            self._readAgain()
            isHeld = self._isPaused and not self._writeNeedsRead and self._state != _HANDSHAKE
            why = None if isHeld else self.doRead()
            if why is not None or self._state in (_HANDSHAKE, _LOST) or self._readNeedsWrite:
                return why
        if self._state == _HANDSHAKE:
            transport.stopWriting()
            return None
        why = type(transport).doWrite(transport)
        if why is None and self._ending:
            self._endIfSent()
        return why

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """Encrypt and send what the transport has waiting: bytes taken, or why the connection is lost."""
        pointer = self._pointer
        start = toPointer(data)
        # As much in a turn as Twisted's transports send.
        most = min(len(data), self.transport.SEND_LIMIT)
        sent = 0
        while sent < most:
            taken = sslWrite(pointer, start + sent, min(RECORD, len(data) - sent))
            if taken <= 0:
                error = failureOf(self._connection, taken)
                if isinstance(error, SSL.WantReadError):
                    self._awaitRead()
                elif not isinstance(error, SSL.WantWriteError):
                    return self._reasonOfWrite(error)
                break
            sent += taken
        self._unsent -= sent
        return sent

    def _replaceWriting(self) -> None:
        """From now on the transport writes by way of OpenSSL. An idle connection, which does not write, needs none."""
        transport = self.transport
        transport.doWrite = self.doWrite
        transport.writeSomeData = self.writeSomeData

    def _startWriting(self) -> None:
        self._replaceWriting()
        self.transport.startWriting()

    def _awaitWrite(self) -> None:
        """OpenSSL has to write before it reads: the reactor would tell again and again that there is input."""
        if not self._readNeedsWrite:
            self._readNeedsWrite = True
            self.transport.stopReading()
        self._startWriting()

    def _awaitRead(self) -> None:
        """OpenSSL has to read before it writes, as a message of a handshake has come in part. No pause holds it up."""
        self._writeNeedsRead = True
        self.transport.stopWriting()
        self.transport.startReading()

    def _writeAgain(self) -> None:
        self._writeNeedsRead = False
        if self._isPaused:
            self.transport.stopReading()
        self._startWriting()

    def _readAgain(self) -> None:
        self._readNeedsWrite = False
        if not self._unsent or self._state == _HANDSHAKE:
            self.transport.stopWriting()
        if not self._isPaused:
            self.transport.startReading()

    def _reasonOf(self, error: SSL.Error) -> BaseException:
        """Why the connection ends, from what OpenSSL raised: the reactor hands it to the transport's connectionLost."""
        if isinstance(error, SSL.ZeroReturnError):
            self._peerEnded = True
            return CONNECTION_DONE
        if isLost(error):
            # An end of the stream without close_notify, or a reset.
            return CONNECTION_LOST
        readLeftover(self.transport.socket)
        explained = getattr(self._connection, "explained", None)
        return error if explained is None else explained(error)

    def _reasonOfWrite(self, error: SSL.Error) -> BaseException:
        """As _reasonOf. The peer may have said why before it closed: read what has come, which ends."""
        why = self._reasonOf(error)
        read = None
        if why is CONNECTION_LOST and not self._closing:
            for _ in range(LAST_READS):
                read = self.doRead()
                if read is not None:
                    break
        return read if isinstance(read, SSL.Error) else why

    # For the session

    def send(self, data: bytes) -> int:
        """
        Encrypt and send bytes at once.

        :return: bytes taken. The next call, or ``write``, has to begin with those that were not.
        :raise OSError: none can be taken now; or the connection is lost, of which the reactor tells.
        """
        if self._state != _OPEN or self._unsent:
            raise BlockingIOError
        length = len(data)
        pointer = self._pointer
        if length <= RECORD and type(data) is bytes:
            sent: int = sslWrite(pointer, data, length)
            if sent > 0:
                return sent
            # It is taken off OpenSSL's list of errors, where it would look like another connection's.
            failureOf(self._connection, sent)
            raise BlockingIOError
        start = toPointer(data)
        sent = 0
        self.cork(True)
        while sent < length:
            taken = sslWrite(pointer, start + sent, min(RECORD, length - sent))
            if taken <= 0:
                failureOf(self._connection, taken)
                break
            sent += taken
        self.cork(False)
        return sent

    # The transport of the wrapped protocol

    def write(self, data: bytes) -> None:
        """Send bytes when the reactor finds that the socket takes them, after all that was written before."""
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if self._state > _OPEN or not data:
            return
        self._unsent += len(data)
        if self._state == _OPEN:
            self._replaceWriting()
            self.transport.write(data)
        elif self._early is None:
            self._early = [data]
        else:
            self._early.append(data)

    def writeSequence(self, data: Any) -> None:
        """As ``write``, for several pieces."""
        self.write(b"".join(data))

    def pauseProducing(self) -> None:
        """Read no more."""
        self._isPaused = True
        if not self._writeNeedsRead:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self._isPaused = False
        if not self._readNeedsWrite and not self._peerEnded:
            self.transport.resumeProducing()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As IConsumer: the transport below tells when the bytes are out. This side ends when the producer has."""
        if self._state == _ENDED:
            producer.stopProducing()
        else:
            self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """As IConsumer."""
        self.transport.unregisterProducer()
        self._endIfSent()

    def loseWriteConnection(self) -> None:
        """Send what was written and a close_notify, and end the stream; read on until the peer's end."""
        self._ending = True
        self._endIfSent()

    def loseConnection(self) -> None:
        """
        Send what was written and a close_notify, and close when the peer's end has come.

        When this side has ended already, close at once. A handshake that is not done, with nothing written, is dropped.
        """
        self.disconnecting = True
        if self._state == _HANDSHAKE and self._early is None:
            self.abortConnection()
        elif self._state == _ENDED:
            self.transport.loseConnection()
        else:
            self._ending = self._closing = True
            self._endIfSent()

    def _endIfSent(self) -> None:
        """This side is to end: send the close_notify, if all that was written is out."""
        if self._state != _OPEN or not self._ending or self._unsent or self.transport.producer is not None:
            return
        try:
            self._connection.shutdown()
        except SSL.WantWriteError:
            self._startWriting()
            return
        except SSL.Error as error:
            if "shutdown while in init" in reasonsIn(error):
                if not self._readNeedsWrite:
                    self._awaitRead()
                return
            # The reactor reports a connection that is lost.
        self._state = _ENDED
        if self._peerEnded and self._closing:
            self.transport.loseConnection()
        else:
            # Some peers, as grpcio, wait for the end of the stream, whatever TLS has said before.
            self.transport.loseWriteConnection()

    def abortConnection(self) -> None:
        """Drop the connection."""
        self.disconnecting = self._closing = True
        if self._state != _LOST:
            self.transport.abortConnection()

    # What the transport tells its protocol

    def readConnectionLost(self) -> None:
        """The peer has sent its close_notify."""
        if not self._closing:
            if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
                self.wrappedProtocol.readConnectionLost()
                return
            self.loseConnection()
        if self._state == _ENDED:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The socket is closed."""
        self._state = _LOST
        for name in ("doRead", "doWrite", "writeSomeData"):
            vars(self.transport).pop(name, None)
        reason, self._reason = self._reason or reason, None
        remember = getattr(self._policy, "remember", None)
        if remember is not None:
            remember(self._connection)
        self._connection.set_app_data(None)
        del self.receive
        self.wrappedProtocol.connectionLost(reason)

    # ISSLTransport and INegotiated

    def getHandle(self) -> SSL.Connection:
        """OpenSSL's connection, as Twisted's TLS returns it."""
        return self._connection  # type: ignore[no-any-return]

    def getPeerCertificate(self) -> Any:
        """The peer's certificate, or None."""
        return self._connection.get_peer_certificate()

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The application protocol that was negotiated (ALPN), or None."""
        return self._connection.get_alpn_proto_negotiated() or None
