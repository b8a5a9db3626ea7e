"""Connected sessions in memory, a raw peer for a session, and a listener that records events."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from getty_tx.listener import EventListener
from getty_tx.session.wrappers import innermostProtocol
from getty_tx.testing.memory import MemorySocket, MemoryTransport
from getty_tx.testing.reactor import MemoryReactor
from getty_tx.transports.factories import SessionFactory, SessionServerFactory
from getty_tx.transports.stream import SessionProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session

__all__ = [
    "Network",
    "Pair",
    "Peer",
    "RecordingBatchListener",
    "RecordingListener",
    "connectedPeer",
    "connectedSessions",
]

#: From the networks that RFC 5737 reserves for documentation, so that no real host is meant.
SERVER = IPv4Address("TCP", "192.0.2.1", 8090)
CLIENT_HOST = "198.51.100.1"


class RecordingListener(EventListener):
    """
    Records its events, and runs a hook for each.

    ::

        recorder = RecordingListener(on={"message": lambda session, pkg: session.writePkg(pkg)})
        ...
        assert recorder.events == [("open",), ("message", b"hello"), ("close",)]

    :param on: hooks by event: ``open``, ``message``, ``error``, ``close``, ``cron``. A hook gets the arguments of the
        callback. The callback returns its result and raises its exceptions; it may be an ``async def``.

    :ivar events: ``("open",)``, ``("message", pkg)``, ``("error", exception)``, ``("close",)``, ``("cron",)``.
    """

    _message = "message"

    def __init__(self, on: Mapping[str, Callable[..., Any]] | None = None) -> None:
        unknown = set(on or ()) - {"open", self._message, "error", "close", "cron"}
        if unknown:
            raise ValueError(f"on={sorted(unknown)!r}: there are open, {self._message}, error, close and cron")
        self.on: dict[str, Callable[..., Any]] = dict(on or {})
        self.events: list[tuple[Any, ...]] = []

    @property
    def packages(self) -> list[Any]:
        """The packages of the messages."""
        return [event[1] for event in self.events if event[0] == "message"]

    @property
    def errors(self) -> list[BaseException]:
        """The errors that onError got."""
        return [event[1] for event in self.events if event[0] == "error"]

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [event[0] for event in self.events]

    def _record(self, name: str, session: Session, *args: Any) -> Any:
        self.events.append((name, *args))
        hook = self.on.get(name)
        return None if hook is None else hook(session, *args)

    def onOpen(self, session: Session) -> Any:
        """Record the event, and run its hook."""
        return self._record("open", session)

    def onMessage(self, session: Session, pkg: Any) -> Any:
        """Record the event, and run its hook."""
        return self._record("message", session, pkg)

    def onError(self, session: Session, error: BaseException) -> Any:
        """Record the event, and run its hook."""
        return self._record("error", session, error)

    def onClose(self, session: Session) -> Any:
        """Record the event, and run its hook."""
        return self._record("close", session)

    def onCron(self, session: Session) -> Any:
        """Record the event, and run its hook."""
        return self._record("cron", session)


class RecordingBatchListener(RecordingListener):
    """
    A :py:class:`RecordingListener` that takes packages in lists.

    ``("messages", packages)`` is its event, and ``messages`` its hook, in place of ``message``. A package that comes
    alone is in a list of one.
    """

    _message = "messages"

    @property
    def packages(self) -> list[Any]:
        """The packages of all lists."""
        return [pkg for event in self.events if event[0] == "messages" for pkg in event[1]]

    def onMessage(self, session: Session, pkg: Any) -> Any:
        """As ``onMessages``, with a list of one."""
        return self.onMessages(session, [pkg])

    def onMessages(self, session: Session, packages: list[Any]) -> Any:
        """Record the event, and run its hook."""
        return self._record("messages", session, packages)


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """
    An end of a connection without a session, which can send a session bytes that no codec would write.

    :param autoClose: end this side as soon as the session has ended its own.

    :ivar data: the received bytes.
    :ivar ended: the session has ended its side of the stream; this side stays open until ``peer.end()``.
    :ivar lost: why the connection was lost; None while it is open.
    """

    def __init__(self, autoClose: bool = False) -> None:
        self.autoClose = autoClose
        self.data = bytearray()
        self.ended = False
        self.lost: BaseException | None = None
        self._hasEnded = False

    def write(self, data: bytes) -> None:
        """Send bytes; they arrive in the next iterations."""
        assert self.transport is not None
        self.transport.write(data)

    def end(self) -> None:
        """End this side of the stream; reading continues."""
        transport: Any = self.transport
        if self.lost is not None:
            return
        if isinstance(transport, ProtocolWrapper):
            # Twisted's TLS and other wrappers end both sides at once.
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Store the received bytes."""
        self.data += data

    def readConnectionLost(self) -> None:
        """The session has ended its side."""
        self.ended = True
        self._mayLeave()

    def writeConnectionLost(self) -> None:
        """This side has ended."""
        self._hasEnded = True
        self._mayLeave()

    def _mayLeave(self) -> None:
        # Twisted leaves it to the protocol to let go of a connection whose sides have both ended.
        if self.ended and (self.autoClose or self._hasEnded) and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Store the reason."""
        self.lost = reason.value


class _ClientFactory(SessionFactory, ClientFactory):
    """The factory of the client's side, which gives every connection a session."""

    isClient = True
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        protocol = SessionProtocol()
        protocol.factory = self
        return protocol


class Pair:
    """
    A connection in memory, with both of its ends.

    :ivar clock: the reactor of both ends.
    :ivar serverProtocol: the server's protocol. ``clientProtocol``: the client's.
    :ivar serverTransport: the transport below the server's protocol. ``clientTransport``: the client's.
    """

    def __init__(
        self, clock: MemoryReactor, server: tuple[Any, MemoryTransport], client: tuple[Any, MemoryTransport]
    ) -> None:
        self.clock = clock
        self.serverProtocol, self.serverTransport = server
        self.clientProtocol, self.clientTransport = client
        # Found now, because wrappers drop them when the connection ends.
        self._tops = innermostProtocol(self.serverProtocol), innermostProtocol(self.clientProtocol)

    def _session(self, side: str, protocol: Any) -> Session:
        session: Session | None = getattr(protocol, "session", None)
        if session is None:
            raise AssertionError(
                f"the {side} has no session: the connection was refused, or its handshake is not finished"
            )
        return session

    @property
    def server(self) -> Session:
        """The server's session."""
        return self._session("server", self._tops[0])

    @property
    def client(self) -> Session:
        """The client's session."""
        return self._session("client", self._tops[1])

    @property
    def peer(self) -> Peer:
        """The end that is a :py:class:`Peer`."""
        for protocol in self._tops:
            if isinstance(protocol, Peer):
                return protocol
        raise AssertionError("both ends are sessions")

    def pump(self, turns: int = 1) -> bool:
        """Do iterations of the reactor; False if there was nothing left to do."""
        happened = False
        for _ in range(turns):
            happened = self.clock.turn()
            if not happened:
                break
        return happened

    def flush(self) -> None:
        """Do iterations until nothing is left to do at this moment; bytes that ``delay`` holds back do not arrive."""
        self.clock.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass: timers run, and bytes that ``delay`` holds back arrive."""
        self.clock.advance(seconds)

    def reset(self) -> None:
        """Simulate a network failure: both ends are reset, and bytes that have not arrived are lost."""
        self.serverTransport.memory.breakConnection()


class Network:
    """
    Makes connections in memory, with the same clock and properties.

    ::

        network = Network(delay=0.05, capacity=64 * 1024)
        server = network.serverFactory(newServerSession)
        pairs = [network.connect(server, network.clientFactory(newClientSession)) for _ in range(3)]

    Sessions over TLS are connected in the same way, with wrapped factories::

        tls = TLSMemoryBIOFactory(serverPolicy("cert.pem"), False, server, clock=network.clock)
        pair = network.connect(tls, ...)
        pair.flush()

    :param clock: the reactor; by default a new one.
    :param split: the most that is delivered at once: sizes, used cyclically, or a :py:class:`random.Random`.
    :param delay: seconds from sending to arrival.
    :param capacity: bytes that fit between a writer and a peer that does not read; ``None`` for no limit.
    :param transport: :py:class:`MemoryTransport`, or a subclass of it.
    """

    def __init__(
        self,
        *,
        clock: MemoryReactor | None = None,
        split: Sequence[int] | Random | None = None,
        delay: float | None = None,
        capacity: int | None = None,
        transport: type[MemoryTransport] = MemoryTransport,
    ) -> None:
        self.clock = MemoryReactor() if clock is None else clock
        self.transport = transport
        self._options: dict[str, Any] = {"split": split, "delay": delay or 0.0, "capacity": capacity}
        self._ports = count(50000)

    def serverFactory(self, newSession: Callable[[Session], object], **options: Any) -> SessionServerFactory:
        """A server's factory on this network's clock; ``options`` are those of SessionServerFactory."""
        return SessionServerFactory(newSession, reactor=self.clock, **options)

    def clientFactory(self, newSession: Callable[[Session], object], **options: Any) -> SessionFactory:
        """A client's factory on this network's clock; it does not connect by itself."""
        return _ClientFactory(newSession, reactor=self.clock, **options)

    def connect(self, serverFactory: Any, clientFactory: Any) -> Pair:
        """
        Build a protocol with each factory, the server's first, and connect both.

        :raise AssertionError: a buildProtocol refused the connection.
        """
        client = IPv4Address("TCP", CLIENT_HOST, next(self._ports))
        protocols = serverFactory.buildProtocol(client), clientFactory.buildProtocol(SERVER)
        if None in protocols:
            raise AssertionError("buildProtocol refused the connection")
        return self.join(*protocols, client)

    def join(self, serverProtocol: Any, clientProtocol: Any, client: IPv4Address | None = None) -> Pair:
        """Connect two protocols."""
        if client is None:
            client = IPv4Address("TCP", CLIENT_HOST, next(self._ports))
        near, far = MemorySocket.pair(self.clock, **self._options)
        serverTransport = self.transport(self.clock, near, serverProtocol, SERVER, client)
        clientTransport = self.transport(self.clock, far, clientProtocol, client, SERVER, isClient=True)
        serverTransport.start()
        clientTransport.start()
        return Pair(self.clock, (serverProtocol, serverTransport), (clientProtocol, clientTransport))


def connectedSessions(
    newServerSession: Callable[[Session], object],
    newClientSession: Callable[[Session], object],
    *,
    clock: MemoryReactor | None = None,
    split: Sequence[int] | Random | None = None,
    delay: float | None = None,
    capacity: int | None = None,
    transport: type[MemoryTransport] = MemoryTransport,
) -> Pair:
    """
    Two connected sessions; ``newSession`` and onOpen of both have been called.

    ::

        pair = connectedSessions(newServerSession, newClientSession)
        pair.client.writePkg(b"hello")
        pair.flush()
        pair.client.close()
        pair.flush()
        assert pair.server.isClosed

    The options are those of :py:class:`Network`.
    """
    network = Network(clock=clock, split=split, delay=delay, capacity=capacity, transport=transport)
    return network.connect(network.serverFactory(newServerSession), network.clientFactory(newClientSession))


def connectedPeer(
    newSession: Callable[[Session], object],
    *,
    clock: MemoryReactor | None = None,
    split: Sequence[int] | Random | None = None,
    delay: float | None = None,
    capacity: int | None = None,
    transport: type[MemoryTransport] = MemoryTransport,
    autoClose: bool = False,
) -> Pair:
    """
    A server's session, ``pair.server``, connected to a :py:class:`Peer`, ``pair.peer``.

    ::

        pair = connectedPeer(newSession)
        pair.peer.write(b"no package of any codec")
        pair.flush()
        assert pair.server.isClosed
    """
    network = Network(clock=clock, split=split, delay=delay, capacity=capacity, transport=transport)
    factory = network.serverFactory(newSession)
    return network.join(factory.buildProtocol(None), Peer(autoClose))
