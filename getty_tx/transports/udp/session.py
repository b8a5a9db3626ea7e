"""The sessions over UDP: of a server's socket, of a connected socket, and of one peer of a socket."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.logger import Logger

from getty_tx import settings
from getty_tx.errors import CodecError, NoPeerAddressError, SessionClosedError, SessionError
from getty_tx.session.compressed import CompressionSetting
from getty_tx.session.lifecycle import OPEN
from getty_tx.session.session import Session
from getty_tx.transports.udp.context import UDPContext
from getty_tx.transports.udp.inbound import DatagramInbound
from getty_tx.transports.udp.outbound import DatagramOutbound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from getty_tx.interfaces import IConnection
    from getty_tx.session.context import ServiceContext

__all__ = ["PEER_TIMEOUT", "ConnectedSession", "DatagramSession", "PeerSession"]

log = Logger()

#: Seconds of silence after which a peer's session is closed, unless newSession sets ``readTimeout``.
PEER_TIMEOUT = 60.0


class DatagramSession(Session):
    """
    The one session of a UDP server's socket, which is not connected. Its packages are :py:class:`UDPContext` s.

    No datagram closes it: a callback that fails is logged and given to onError, and the session stays open. It has no
    single peer that could be silent, so readTimeout, idleTimeout and maxLifetime have no effect.

    :cvar isShared: the session has any number of peers.
    :cvar isLasting: a callback that fails does not close the session.
    """

    __slots__ = ("_inOnError", "_peer", "_to", "datagramsDropped", "lastSender")

    inboundType = DatagramInbound
    outboundType = DatagramOutbound

    compression = CompressionSetting("datagrams are not compressed, so leave it None")
    isShared: ClassVar[bool] = True
    framing = None
    isLasting: ClassVar[bool] = True

    inbound: DatagramInbound
    outbound: DatagramOutbound

    def __init__(self, connection: IConnection, context: ServiceContext, transport: Any) -> None:
        # The single peer, if there is one, and the address to give to sendto(); a connected socket needs none.
        self._peer: tuple[str, int] | None = None
        self._to: tuple[str, int] | None = None
        self.datagramsDropped = 0
        # The address of the last datagram received, if the session is shared.
        self.lastSender: tuple[str, int] | None = None
        self._inOnError = False
        Session.__init__(self, connection, context, transport)
        # In addition to IConnection, connections of datagrams have these two, and a client's has refused().
        below: Any = connection
        self._peer = below.peerAddr
        self.inbound.limit = below.limit

    # Writing

    def writePkg(self, pkg: Any, timeout: float | None = None) -> int:
        """
        Encode a package and send it at once. If the system does not take it, it is dropped and counted. Any thread may
        call.

        :param pkg: a UDPContext; if the session has one peer, also the package alone, or a UDPContext without address.
        :param timeout: checked, but without effect, because no bytes are ever pending.
        :return: bytes encoded.
        :raise NoPeerAddressError: there is no address, or it is not the peer's, or it is not an IP address.
        :raise SessionClosedError: the session is closed.
        :raise MessageTooLongError: the bytes do not fit into one datagram.
        :raise Exception: the codec's own error for a package that it cannot encode; the session stays open.
        """
        if timeout is not None:
            settings.seconds("timeout", timeout)
        if type(pkg) is UDPContext:
            addr: Any = pkg.peerAddr
            pkg = pkg.pkg
            if addr is None or addr is not self.lastSender:
                addr = self.destination(addr)
        else:
            addr = self.destination(None)
        data = self.encoder.write(self, pkg)
        if type(data) is not bytes:
            data = b"".join(self._asChunks(data))
        if get_ident() != self._thread:
            return self._sendFromThread([data], addr)
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        length = len(data)
        outbound = self.outbound
        try:
            if addr is None:
                outbound.sendConnected(data)
            else:
                outbound.sendTo(data, addr)
        except OSError as error:
            outbound.sendFailed(error, data, addr)
        if outbound.blockedState is not None:
            outbound.answerDrained()
        self.bytesWritten += length
        self.pkgsWritten += 1
        return length

    def writeBytes(self, data: Any) -> int:
        """Send a datagram past the codec: bytes, or a UDPContext of bytes; otherwise as :py:meth:`writePkg`."""
        return self.writeBytesArray(data)

    def writeBytesArray(self, *chunks: Any) -> int:
        """Send pieces of bytes past the codec, each as one datagram."""
        total = 0
        for chunk in chunks:
            to = None
            if isinstance(chunk, UDPContext):
                chunk, to = chunk.pkg, chunk.peerAddr
            data = self._asBytes(chunk)
            addr = self.destination(to)
            if get_ident() != self._thread:
                total += self._sendFromThread([data], addr)
            else:
                total += self.sendAll([data], addr)
        return total

    def writePkgs(self, packages: list[Any], timeout: float | None = None) -> int:
        """Encode the packages of a list, and send each as one datagram; otherwise as :py:meth:`writePkg`."""
        if timeout is not None:
            settings.seconds("timeout", timeout)
        datagrams = []
        for pkg in packages:
            context = pkg if type(pkg) is UDPContext else UDPContext(pkg)
            data = b"".join(self._asChunks(self.encoder.write(self, context.pkg)))
            datagrams.append((data, self.destination(context.peerAddr)))
        send = self.sendAll if get_ident() == self._thread else self._sendFromThread
        return sum(send([data], addr) for data, addr in datagrams)

    def sendFile(self, file: Any, offset: int = 0, count: int | None = None) -> Deferred[int]:
        """There are datagrams.

        :raise CodecError: always.
        """
        raise CodecError("UDP has datagrams, and no stream for sendFile: write the file in packages", self)

    def destination(self, addr: Any) -> tuple[str, int] | None:
        """The checked address to send to; None for the peer of a connected socket."""
        if addr is None:
            raise NoPeerAddressError(f"{self} has no peer of its own: write a UDPContext with an address", self)
        return self.outbound.checked(addr)

    def _asBytes(self, chunk: Any) -> bytes:
        if type(chunk) is bytes:
            return chunk
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise CodecError(f"a datagram takes bytes, not {type(chunk).__name__}", self)
        return bytes(chunk)

    def sendAll(self, chunks: Sequence[bytes], addr: Any, count: bool = True) -> int:
        """Send datagrams; ``count``: add them to the counters."""
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        outbound = self.outbound
        for chunk in chunks:
            try:
                if addr is None:
                    outbound.sendConnected(chunk)
                else:
                    outbound.sendTo(chunk, addr)
            except OSError as error:
                outbound.sendFailed(error, chunk, addr)
            if count:
                self.bytesWritten += len(chunk)
                self.pkgsWritten += 1
        if outbound.blockedState is not None:
            outbound.answerDrained()
        return sum(map(len, chunks))

    def _sendFromThread(self, chunks: list[bytes], addr: Any) -> int:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        if self.context.threads.bytesFor(self) > self._maxPending:
            raise self._blocked()
        length = sum(map(len, chunks))
        self.context.threads.call(self._sendForThread, chunks, addr, session=self, length=length)
        return length

    def _sendForThread(self, chunks: list[bytes], addr: Any) -> None:
        try:
            self.sendAll(chunks, addr)
        except (OSError, SessionError) as error:
            log.info("{session}: not sent for another thread: {error}", session=self, error=error)

    # Errors

    def dropDatagram(self, why: object) -> None:
        """Count a lost datagram. The first is logged, then one in a thousand, because they come in large numbers."""
        self.datagramsDropped += 1
        if self.datagramsDropped % 1000 == 1:
            log.info(
                "{session}: dropped a datagram: {why} ({dropped} dropped so far)",
                session=self,
                why=why,
                dropped=self.datagramsDropped,
            )

    def peerRefused(self) -> None:
        """The kernel reports that a peer refused a datagram. On a socket with many peers it does not say which."""

    def _callListener(self, callback: Callable[..., Any], *args: Any) -> None:
        self._inOnError = callback == self.receiver.onError
        super()._callListener(callback, *args)
        if self.awaiting is None:
            self._inOnError = False

    def _callbackDone(self, _: object) -> None:
        self._inOnError = False
        super()._callbackDone(_)

    def callbackFailed(self, error: BaseException, failure: Failure | None = None) -> None:
        about = error.session if isinstance(error, SessionError) else None
        if self.isLasting and self.state == OPEN and (about is None or about is self):
            more = self.context.faults.line("callback", error)
            if more is not None:
                log.failure("{session}: a callback failed{more}", failure, session=self, more=more)
            self._reportError(error)
        else:
            super().callbackFailed(error, failure)

    def fail(self, error: BaseException, abort: bool = False) -> None:
        if self.isLasting and self.state == OPEN and isinstance(error, SessionError):
            # A callback of another session failed with an error about this session.
            self._reportError(error)
        else:
            super().fail(error, abort)

    def _reportError(self, error: BaseException) -> None:
        """Give an error to onError, and stay open. An error that onError raises is only logged."""
        if self._inOnError or self.pendingError is not None:
            return
        self.pendingError = error
        self.needsDispatch = True
        if self.context.observers.all:
            self.context.observers.tell("error", self, error)
        if not self.inCallback and self.awaiting is None:
            self.dispatchEvents()

    def close(self, reason: BaseException | str | None = None) -> None:
        """
        Close at once, because no bytes are ever pending. Any thread may call.

        :param reason: an exception means that the session failed, and is given to onError; a text is logged.
        """
        if isinstance(reason, BaseException) and get_ident() == self._thread:
            super().fail(reason)
        else:
            super().close(reason)

    def _restartTimers(self) -> None:
        """A session with many peers has no timeouts: no single peer can be silent, and the socket is to stay."""
        if not self.isShared:
            super()._restartTimers()


class ConnectedSession(DatagramSession):
    """The session of a connected socket, which is a client's. Its packages are not wrapped in a UDPContext."""

    __slots__ = ()

    isShared = False
    isLasting = False

    def destination(self, addr: Any) -> tuple[str, int] | None:
        if addr is not None and self.outbound.checked(addr) != self._peer:
            raise NoPeerAddressError(f"{self} sends to its own peer only, not to {addr!r}", self)
        return self._to

    def peerRefused(self) -> None:
        self.connection.refused()  # type: ignore[attr-defined]  # of datagrams' connections


class PeerSession(ConnectedSession):
    """
    The session of one peer of a server's socket. Its packages are not wrapped in a UDPContext.

    It is closed after ``readTimeout`` of silence, which is no error: a peer has no other way to end.
    """

    __slots__ = ()

    isLasting = True

    def __init__(self, connection: IConnection, context: ServiceContext, transport: Any) -> None:
        super().__init__(connection, context, transport)
        self._to = self._peer
        self._readTimeout = PEER_TIMEOUT

    def settingChanged(self, name: str) -> None:
        if self._readTimeout is None:
            self._readTimeout = PEER_TIMEOUT
        super().settingChanged(name)

    def peerRefused(self) -> None:
        """The port reports who it was."""

    def readTimedOut(self, timeout: float) -> None:
        """Silence counts as the end of a peer, because UDP has no other."""
        self.close()
