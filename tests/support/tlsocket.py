"""
TLS on sockets, one step at a time: a reactor that a test turns, and a peer whose records the test has in its hands.

::

    world = World(self)
    end, peer = world.connect(policy, isClient=False, peerContext=clientContext())
    world.until(lambda: end.received == b"hello")

The sockets are real, and nothing waits: the reactor and the peers are turned until something is true.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx.tls import clientPolicy, serverPolicy
from getty_tx.tls.onsocket import SocketTLS
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

__all__ = [
    "HOST",
    "MUCH",
    "VERSIONS",
    "End",
    "OnSocketCase",
    "Peer",
    "World",
    "connectedSockets",
    "isResumed",
    "peerContext",
]

HOST = "a.example"
#: More than the buffers of two sockets hold.
MUCH = bytes(range(256)) * 4096 * 2
VERSIONS = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION

#: Seconds after which something hangs. Only a test that fails waits for it.
HANGS = 20.0


def connectedSockets(unix: bool, buffers: int) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over loopback, non-blocking; ``buffers``: bytes of each one's buffers."""
    if unix:
        pair = socket.socketpair()
    else:
        with socket.socket() as port:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            port.bind(("127.0.0.1", 0))
            port.listen(1)
            first = socket.socket()
            first.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            first.connect(port.getsockname())
            pair = first, port.accept()[0]
    for each in pair:
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        if not unix:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return pair


def peerContext(files: tuple[str, str] | None = None, version: int = SSL.TLS1_3_VERSION) -> SSL.Context:
    """OpenSSL's context of a peer that verifies nothing, and speaks one version of TLS."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if files is not None:
        context.use_certificate_chain_file(files[0])
        context.use_privatekey_file(files[1])
    return context


def isResumed(connection: Any) -> bool:
    """Whether the handshake was a resumed one. pyOpenSSL has no method for it."""
    return bool(SSL._lib.SSL_session_reused(connection._ssl))


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class End(Protocol):
    """The protocol above TLS: records what happens to it. ``on`` has what it does then, by the event's name."""

    transport: Any
    reason: Failure | None = None

    def __init__(self, **on: Callable[[End], object]) -> None:
        self.events: list[str] = []
        self.received = b""
        self.on = on

    def _event(self, name: str) -> None:
        assert self.reason is None, f"{name} after connectionLost"
        self.events.append(name)
        if name in self.on:
            self.on[name](self)

    def connectionMade(self) -> None:
        self._event("made")

    def handshakeCompleted(self) -> None:
        self._event("handshake")

    def dataReceived(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received += data
        self._event("data")

    def readConnectionLost(self) -> None:
        self._event("readLost")
        if "readLost" not in self.on:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self._event("writeLost")

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]  # Twisted has a default
        self._event("lost")
        self.reason = reason

    @property
    def error(self) -> BaseException | None:
        """Why the connection was lost."""
        return None if self.reason is None else self.reason.value


class Whole(Protocol):
    """An end that knows of no half-close."""

    def __init__(self, end: End) -> None:
        self.connectionMade = lambda: end.makeConnection(self.transport)
        self.dataReceived = end.dataReceived
        self.connectionLost = end.connectionLost


class Peer:
    """
    The other end: OpenSSL in memory, and a socket to which the test decides what goes.

    :ivar moves: what is done with the records in each turn, besides what was asked for: handshake, read.
    :ivar received: bytes in clear that have come.
    :ivar ended: how the other end ended: ``close_notify``, ``end``, ``reset``, the text of an alert, or None.
    :ivar closedTCP: how the stream below ended: ``end``, ``reset``, or None.
    """

    def __init__(self, handle: socket.socket, context: SSL.Context, isClient: bool) -> None:
        self.socket = handle
        self.tls = SSL.Connection(context, None)
        if isClient:
            self.tls.set_connect_state()
        else:
            self.tls.set_accept_state()
        self.shaken = False
        self.received = b""
        self.ended: str | None = None
        self.closedTCP: str | None = None
        self._toSend = b""
        #: Called with the bytes to send: returns those to send now, and the rest.
        self.cut: Callable[[bytes], tuple[bytes, bytes]] = lambda data: (data, b"")
        #: False: nothing is read from the socket.
        self.reads = True
        #: False: what comes is kept from TLS.
        self.runs = True
        self.turns = 0
        #: Bytes of records that the socket has taken.
        self.sent = 0

    def step(self) -> None:
        """Move bytes between the socket and TLS, both ways."""
        if self.closedTCP is None and self.reads:
            self._fromSocket()
        if self.runs:
            self._run()
        self.flush()

    def _fromSocket(self) -> None:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self.closedTCP = "reset"
            return
        if data:
            self.turns += 1
            self.tls.bio_write(data)
        else:
            self.closedTCP = "end"

    def _run(self) -> None:
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while self.ended is None:
                self.received += self.tls.recv(65536)
        except SSL.WantReadError:
            if self.closedTCP is not None:
                self.ended = self.ended or self.closedTCP
        except SSL.ZeroReturnError:
            self.ended = "close_notify"
        except SSL.Error as error:
            self.ended = self.ended or str(error)

    def flush(self) -> None:
        """Send what TLS has to send, as far as ``cut`` lets it and the socket takes it."""
        self._toSend += self.pending()
        now, rest = self.cut(self._toSend)
        if not now:
            return
        try:
            sent = self.socket.send(now)
        except OSError:
            sent = 0
        self.sent += sent
        self._toSend = now[sent:] + rest

    def pending(self) -> bytes:
        """Take the records that TLS has made."""
        data = b""
        while True:
            try:
                data += self.tls.bio_read(1 << 20)
            except SSL.WantReadError:
                return data

    def write(self, data: bytes) -> None:
        """Encrypt bytes; they leave in the next steps."""
        while data:
            data = data[self.tls.send(data) :]

    def end(self) -> None:
        """Send a close_notify."""
        self.tls.shutdown()

    def close(self, reset: bool = False) -> None:
        """Close the socket."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()
        self.closedTCP = "closed"


class World:
    """
    A reactor of its own, which a test turns together with the peers.

    :ivar reactor: give it to whatever takes a reactor.
    """

    def __init__(self, case: SynchronousTestCase) -> None:
        self.reactor: Any = EPollReactor()
        self._later = 0.0
        self.reactor.seconds = lambda: time.monotonic() + self._later
        self.peers: list[Peer] = []
        self._case = case
        case.addCleanup(self.close)

    def connect(
        self,
        policy: Any,
        isClient: bool,
        context: SSL.Context,
        end: End | None = None,
        half: bool = True,
        unix: bool = False,
        buffers: int = 64 * 1024,
    ) -> tuple[End, Peer]:
        """TLS on one end of a new connection, with a policy, and a peer at the other end. Nothing has moved yet."""
        ours, theirs = connectedSockets(unix, buffers)
        end = end or End()
        tls = SocketTLS(end if half else Whole(end), policy, isClient)
        family = ours.family
        peer = Peer(theirs, context, not isClient)
        self.peers.append(peer)
        factory = Factory()
        factory.buildProtocol = lambda address: tls
        self.reactor.adoptStreamConnection(ours.fileno(), family, factory)
        ours.close()
        return end, peer

    def turn(self, times: int = 1) -> None:
        """Turn the reactor, and each peer."""
        for _ in range(times):
            self.reactor.iterate(0)
            for peer in self.peers:
                peer.step()

    def until(self, isTrue: Callable[[], object], what: str = "what is waited for") -> None:
        """Turn until something is true; the test fails if that is never."""
        deadline = time.monotonic() + HANGS
        while not isTrue():
            self.turn()
            if time.monotonic() > deadline:
                self._case.fail(f"hangs: {what} never comes")

    def advance(self, seconds: float) -> None:
        """Have time pass for the reactor, in tenths of seconds."""
        for _ in range(round(seconds * 10)):
            self._later += 0.1
            self.turn()

    def dial(self, port: int, context: SSL.Context) -> Peer:
        """A peer that is a client of a port of loopback."""
        handle = socket.create_connection(("127.0.0.1", port))
        handle.setblocking(False)
        peer = Peer(handle, context, True)
        self.peers.append(peer)
        return peer

    def settle(self, times: int = 20) -> None:
        """Turn until what can move has moved: for what must not happen."""
        self.turn(times)

    def close(self) -> None:
        """Drop all connections."""
        reactor = self.reactor
        for peer in self.peers:
            peer.socket.close()
        for selectable in reactor.removeAll():
            getattr(selectable, "abortConnection", getattr(selectable, "stopListening", int))()
        for _ in range(3):
            reactor.iterate(0)
        for call in reactor.getDelayedCalls():
            call.cancel()
        for each in list(reactor._internalReaders):
            # The waker's pipe, of which only a reactor that runs and stops lets go.
            each.connectionLost(None)
        reactor._poller.close()


class OnSocketCase(SynchronousTestCase):
    """Ends with TLS on a socket, of this package's policies or of Twisted's."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.authority = Authority(self.directory)
        self.files = self.authority.issue([HOST])
        self.world = World(self)

    def server(self, end: End | None = None, version: int = SSL.TLS1_3_VERSION, **more: Any) -> tuple[End, Peer]:
        """A server of ours, and a client as its peer."""
        policy = more.pop("policy", None) or serverPolicy(*self.files)
        return self.world.connect(policy, False, more.pop("context", None) or peerContext(None, version), end, **more)

    def client(self, end: End | None = None, version: int = SSL.TLS1_3_VERSION, **more: Any) -> tuple[End, Peer]:
        """A client of ours, and a server as its peer."""
        policy = more.pop("policy", None) or clientPolicy(HOST, trustRoot=self.authority.path)
        context = more.pop("context", None) or peerContext(self.files, version)
        return self.world.connect(policy, True, context, end, **more)

    def ways(self, on: dict[str, Callable[[End], object]] | None = None, **more: Any) -> Any:
        """Each version of TLS, as server and as client; the names of events in ``on`` say what the end does then."""
        for version in VERSIONS:
            for make in self.server, self.client:
                yield make(End(**(on or {})), version, **more)

    def trust(self) -> Any:
        """The authority, as a trust root of Twisted."""
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(FilePath(self.authority.path).getContent())])

    def open(self, end: End, peer: Peer) -> None:
        self.world.until(lambda: "handshake" in end.events and peer.shaken, "the handshake")
