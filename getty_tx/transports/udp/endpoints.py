"""
UDP endpoints: a server's listens with a socket, a client's connects one.

They work with the factories of a Server and a Client, which make sessions. They do not work with other Twisted
factories, whose protocols expect a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, getConnectError
from twisted.internet.interfaces import (
    IListeningPort,
    IResolutionReceiver,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from getty_tx.errors import SelfConnectError
from getty_tx.session.addresses import formatAddress
from getty_tx.transports.udp.inbound import PROBE
from getty_tx.transports.udp.peers import addressOf
from getty_tx.transports.udp.port import listenUDP
from getty_tx.transports.udp.protocol import SessionDatagramProtocol, lossOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IHostResolution

__all__ = ["MAX_PACKET_SIZE", "PROBE_TIMEOUT", "UDPClientEndpoint", "UDPServerEndpoint"]

#: Bytes of the longest datagram that is accepted. IP cannot carry a longer one.
MAX_PACKET_SIZE = 65535

#: Seconds in which the peer may refuse or answer the probe; Getty's.
PROBE_TIMEOUT = 1.0


@implementer(IStreamServerEndpoint)
class UDPServerEndpoint:
    """
    Listens for datagrams.

    :param reactor: the reactor.
    :param port: 0 for any.
    :param interface: the IP address to bind; by default all IPv4 addresses.
    :param sessions: ``"one"`` for the socket, or ``"peer"`` for one of each peer's address.
    :param group: a multicast group to join, on the interface if one is given. With an interface the socket is bound to
        the group's address, so that only the group's datagrams arrive.
    :param maxPacketSize: bytes; longer datagrams are dropped.

    :ivar port: as given.
    :ivar interface: as given.
    :ivar group: as given.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str = "",
        *,
        sessions: str = "one",
        group: str | None = None,
        maxPacketSize: int = MAX_PACKET_SIZE,
    ) -> None:
        self._reactor = reactor
        self.port = port
        self.interface = interface
        self._sessions = sessions
        self.group = group
        self._maxPacketSize = maxPacketSize

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        Bind the socket.

        :param protocolFactory: a SessionServerFactory, or another with a context.
        :return: fails if the port cannot be bound, if the group cannot be joined, or if newSession or onOpen refuses
            the socket's session.
        """
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, factory: Any) -> IListeningPort:
        protocol = SessionDatagramProtocol(factory=factory, sessions=self._sessions)
        # A datagram that fills the buffer may have been cut, so the buffer has one byte more than is allowed.
        size = self._maxPacketSize + 1
        if self.group is None:
            raw = listenUDP(self._reactor, self.port, protocol, self.interface, size)
        else:
            bound = self.group if self.interface or ":" in self.group else ""
            raw = self._reactor.listenMulticast(self.port, protocol, bound, size)
        try:
            protocol.checkOpen()
            if self.group is not None:
                await raw.joinGroup(self.group, self.interface)
        except BaseException:
            await protocol.close()
            raise
        return _ListeningDatagrams(protocol, raw)


@implementer(IListeningPort)
class _ListeningDatagrams:
    """A port that closes its sessions when it stops."""

    def __init__(self, protocol: SessionDatagramProtocol, raw: Any) -> None:
        self._protocol = protocol
        self._raw = raw
        self._address: IAddress = raw.getHost()

    def startListening(self) -> None:
        """The port listens already."""

    def stopListening(self) -> Deferred[None]:
        """Close the sessions, then the socket; fires when the socket is closed."""
        return self._protocol.close()

    def getHost(self) -> IAddress:
        """The bound address, also after the end."""
        return self._address


@implementer(IStreamClientEndpoint)
class UDPClientEndpoint:
    """
    Connects a socket, and probes whether the peer's port is open, because connecting alone succeeds with any address.

    A probe is sent. If the peer refuses it within ``probeTimeout``, connecting fails; a datagram from the peer, or
    silence, means success. Of a host name's addresses the first that does not refuse is used. A socket that is
    connected to itself is refused.

    :param reactor: the reactor.
    :param host: a name or an IP address.
    :param port: the port of the peer.
    :param probeTimeout: seconds of silence after which the session is opened.
    :param localPort: the port to send from, 0 for any.
    """

    #: The protocol that a factory has to make for this endpoint.
    sessionProtocol = SessionDatagramProtocol

    def __init__(
        self, reactor: Any, host: str, port: int, *, probeTimeout: float = PROBE_TIMEOUT, localPort: int = 0
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._probeTimeout = probeTimeout
        self._localPort = localPort

    def __repr__(self) -> str:
        return f"<UDPClientEndpoint {self._host}:{self._port}>"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        Connect.

        :param protocolFactory: makes a SessionDatagramProtocol.
        :return: fires with the protocol that the factory has made.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        error: Exception = DNSLookupError(f"{self._host} has no address")
        for host in await self._resolve():
            probe = _Probe(self._reactor, self._localPort)
            try:
                first = await probe.prove(host, self._port, self._probeTimeout)
            except (ConnectError, SelfConnectError) as reason:
                error = reason
            else:
                return probe.handOver(factory, addressOf((host, self._port)), first)
        raise error

    async def _resolve(self) -> list[str]:
        if isIPAddress(self._host) or isIPv6Address(self._host):
            return [self._host]
        resolution = _Resolution()
        self._reactor.nameResolver.resolveHostName(resolution, self._host, self._port, transportSemantics="UDP")
        return await resolution.done


@implementer(IResolutionReceiver)
class _Resolution:
    """Collects the addresses of a host name."""

    def __init__(self) -> None:
        self.done: Deferred[list[str]] = Deferred()
        self._found: dict[str, None] = {}

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        """The resolution has started."""

    def addressResolved(self, address: IAddress) -> None:
        """An address was found."""
        host = getattr(address, "host", None)
        if host is not None:
            self._found[host] = None

    def resolutionComplete(self) -> None:
        """There are no more addresses."""
        if not self.done.called:
            self.done.callback(list(self._found))


class _Probe(DatagramProtocol):
    """
    The socket's protocol while the peer is probed. Afterwards it passes everything on to the factory's protocol.

    The session's protocol is called through the factory's protocol, which may observe its start and end.
    """

    noisy = False

    def __init__(self, reactor: Any, localPort: int) -> None:
        self._reactor = reactor
        self._localPort = localPort
        self._raw: Any = None
        self._session: Any = None
        self._receive: Callable[[bytes, Any], object] | None = None
        self._stopping = False
        self._isGone = False
        self._timer: Any = None
        self._proving: Deferred[bytes | None] = Deferred(lambda _: self._fail(CancelledError()))

    def prove(self, host: str, port: int, timeout: float) -> Deferred[bytes | None]:
        """
        Connect, and send a probe to the peer.

        :return: fires with a datagram that arrived, or with None after silence; fails with a ConnectError or a
            SelfConnectError.
        """
        raw = listenUDP(self._reactor, self._localPort, self, "::" if ":" in host else "", MAX_PACKET_SIZE + 1)
        self._raw = raw
        try:
            raw.connect(host, port)
            local = raw.getHost()
            if (local.host, local.port) == tuple(raw.getHandle().getpeername()[:2]):
                self._fail(SelfConnectError(f"connected to itself at {formatAddress(local)}"))
            else:
                self._timer = self._reactor.callLater(timeout, self._proved, None)
                raw.getHandle().send(PROBE)
        except OSError as error:
            self._fail(getConnectError(error))
        return self._proving

    def _proved(self, first: bytes | None) -> None:
        self._cancelTimer()
        if not self._proving.called:
            self._proving.callback(first)

    def _fail(self, error: Exception) -> None:
        self._cancelTimer()
        self._stop()
        if not self._proving.called:
            self._proving.errback(error)

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _stop(self) -> None:
        if self._raw is not None and not (self._stopping or self._isGone):
            self._stopping = True
            self._raw.stopListening()

    def handOver(self, factory: Any, address: IAddress, first: bytes | None) -> Any:
        """Give the socket to the factory's protocol."""
        try:
            protocol: Any = factory.buildProtocol(address)
        except BaseException:
            self._stop()
            raise
        self._session = protocol
        protocol.makeConnection(self._raw)
        receive = getattr(protocol, "datagramReceived", None)
        # A protocol without this method only drops a connection that is not wanted any more.
        if receive is not None:
            self._receive = receive
            self.datagramReceived = receive  # type: ignore[method-assign]
            self.connectionRefused = protocol.connectionRefused  # type: ignore[method-assign]
            if first is not None:
                receive(first, None)
        return protocol

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """The peer's port is open. Further datagrams of the same read belong to the session."""
        if self._receive is None:
            self._proved(datagram)
        else:
            self._receive(datagram, addr)

    def connectionRefused(self) -> None:
        """The peer's port is closed."""
        self._fail(ConnectionRefusedError())

    def stopProtocol(self) -> None:
        """The socket was closed."""
        self._isGone = True
        session = self._session
        if session is None:
            error = lossOf(self._raw, False).value
            self._fail(error if isinstance(error, ConnectError) else ConnectError())
        else:
            session.connectionLost(lossOf(self._raw, getattr(session, "isStopping", True)))
