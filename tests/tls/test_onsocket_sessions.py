"""Sessions over TLS on a socket: whole stacks on loopback, with a peer whose records the test has in its hands."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectionLost
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.errors import HandshakeTimeoutError
from getty_tx.server import Server
from getty_tx.session.wrappers import isOnSocket, tlsOf
from getty_tx.testing import RecordingListener
from getty_tx.tls import HandshakeError, clientPolicy, serverPolicy, wrapClient, wrapServer
from getty_tx.tls.onsocket import SocketTLS
from tests.support.certificates import Authority
from tests.support.memory import configure, frame
from tests.support.tlsocket import VERSIONS, OnSocketCase, Peer, isResumed, peerContext

if TYPE_CHECKING:
    from getty_tx.session.session import Session

LOCAL = "127.0.0.1"


class SessionsCase(OnSocketCase):
    """A Server and Clients on the reactor of the test."""

    def setUp(self) -> None:
        super().setUp()
        self.files = self.authority.issue([LOCAL])
        self.trusting = clientPolicy(LOCAL, trustRoot=self.authority.path)

    def serve(self, listener: RecordingListener, endpoint: Any = None, policy: Any = None, **options: Any) -> int:
        """Start a server with TLS; the port's number."""
        endpoint = endpoint or TCP4ServerEndpoint(self.world.reactor, 0, interface=LOCAL)
        if policy is not None:
            endpoint = wrapServer(policy, endpoint)
        settings = options.pop("settings", {})
        self.service = Server(configure(listener, **settings), endpoint, reactor=self.world.reactor, **options)
        self.service.startService()
        self.addCleanup(self.stop, self.service.stopService)
        [address] = self.successResultOf(self.service.whenListening())
        return getattr(address, "port", 0)

    def dialFrom(self, listener: RecordingListener, port: int, policy: Any = None, **options: Any) -> Client:
        """Start a pool of clients."""
        endpoint: Any = TCP4ClientEndpoint(self.world.reactor, LOCAL, port)
        if policy is not None:
            endpoint = wrapClient(policy, endpoint)
        client = Client(configure(listener), endpoint, reactor=self.world.reactor, **options)
        client.startService()
        self.addCleanup(self.stop, client.close)
        return client

    def stop(self, stop: Any) -> None:
        stopped = stop()
        while not stopped.called:
            self.world.turn()
            self.world.advance(0.1)

    def ready(self, client: Client) -> Session:
        whenReady = client.whenReady()
        self.world.until(lambda: whenReady.called)
        [session] = self.successResultOf(whenReady)
        return session

    def shake(self, port: int, version: int = SSL.TLS1_3_VERSION) -> Peer:
        peer = self.world.dial(port, peerContext(None, version))
        self.world.until(lambda: peer.shaken and self.service.sessions)
        return peer


class ExchangeTests(SessionsCase):
    def test_halfClose(self) -> None:
        """A peer that has ended its side gets a reply to each of its requests, then the end; all is clean."""
        for version in VERSIONS:
            echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
            port = self.serve(echo, policy=serverPolicy(*self.files))
            peer = self.shake(port, version)
            peer.reads = False
            requests = frame(b"x" * 1000) * 500
            peer.write(requests)
            peer.end()
            self.world.settle(50)
            peer.reads = True
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((len(peer.received), peer.ended), (len(requests), "close_notify"))
            self.world.until(lambda echo=echo: echo.names[-1:] == ["close"])
            self.assertEqual(echo.errors, [])

    def test_pausedAtTheEnd(self) -> None:
        """Packages that came with the peer's end wait for the session to read on; none is lost."""
        listener = RecordingListener({"message": lambda session, pkg: session.pauseReading()})
        peer = self.shake(self.serve(listener, policy=serverPolicy(*self.files)))
        peer.write(b"".join(frame(b"%d" % number) for number in range(5)))
        peer.end()
        for count in range(1, 6):
            self.world.until(lambda count=count: len(listener.packages) == count)
            self.world.settle(5)
            self.assertEqual(len(listener.packages), count)
            [session] = self.service.sessions
            session.resumeReading()
        self.world.until(lambda: listener.names[-1:] == ["close"])
        self.assertEqual(listener.packages, [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual(listener.errors, [])

    def test_closeWithMuchUnsent(self) -> None:
        """close() sends all that was written, also to a peer that reads late and never ends."""

        def opened(session: Session) -> None:
            for _ in range(100):
                session.writePkg(b"x" * 50_000)
            session.close()

        listener = RecordingListener({"open": opened})
        peer = self.world.dial(self.serve(listener, policy=serverPolicy(*self.files)), peerContext())
        self.world.until(lambda: peer.ended)
        self.assertEqual((len(peer.received), peer.ended), (100 * len(frame(b"x" * 50_000)), "close_notify"))
        self.assertEqual(listener.names, ["open"])
        self.world.advance(4)
        self.world.until(lambda: listener.names == ["open", "close"])

    def test_peerWithoutCloseNotify(self) -> None:
        """A peer that answers close() by ending the stream only, as many do, is no error; one that cuts it is one."""
        for closes in True, False:
            listener = RecordingListener()
            peer = self.shake(self.serve(listener, policy=serverPolicy(*self.files)))
            if closes:
                [session] = self.service.sessions
                session.close()
                self.world.until(lambda peer=peer: peer.ended)
            peer.close()
            self.world.until(lambda listener=listener: listener.names[-1:] == ["close"])
            self.assertEqual([type(error) for error in listener.errors], [] if closes else [ConnectionLost])

    def test_serverWithoutCloseNotify(self) -> None:
        """A client's session whose server goes without a close_notify is lost: what came may be cut."""
        for ends in False, True:
            with socket.create_server((LOCAL, 0)) as port:
                listener = RecordingListener()
                client = self.dialFrom(listener, port.getsockname()[1], self.trusting, reconnectInterval=60)
                self.world.turn(3)
                port.settimeout(20)
                handle = port.accept()[0]
            handle.setblocking(False)
            peer = Peer(handle, peerContext(self.files), isClient=False)
            self.world.peers.append(peer)
            self.ready(client)
            self.world.until(lambda peer=peer: peer.shaken)
            if ends:
                peer.end()
                peer.flush()
            peer.close()
            self.world.until(lambda listener=listener: listener.names[-1:] == ["close"])
            self.assertEqual([type(error) for error in listener.errors], [] if ends else [ConnectionLost])

    def test_abort(self) -> None:
        """After abort() nothing is delivered, though bytes wait on both sides."""

        def message(session: Session, pkg: bytes) -> None:
            for _ in range(100):
                session.writePkg(b"y" * 50_000)
            session.abort()

        listener = RecordingListener({"message": message})
        peer = self.shake(self.serve(listener, policy=serverPolicy(*self.files)))
        peer.reads = False
        peer.write(frame(b"x" * 1000) * 200)
        self.world.until(lambda: listener.names[-1:] == ["close"])
        self.assertEqual(len(listener.packages), 1)

    def test_unix(self) -> None:
        path = self.mktemp()
        reactor = self.world.reactor
        echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
        self.serve(echo, UNIXServerEndpoint(reactor, path), serverPolicy(*self.files))
        listener = RecordingListener()
        endpoint = wrapClient(self.trusting, UNIXClientEndpoint(reactor, path))
        client = Client(configure(listener), endpoint, reactor=reactor)
        client.startService()
        self.addCleanup(self.stop, client.close)
        session = self.ready(client)
        session.writePkg(b"hello" * 20_000)
        self.world.until(lambda: listener.packages == [b"hello" * 20_000])
        self.assertEqual(type(session.connection.rawTransport), SocketTLS)


class RefusalTests(SessionsCase):
    """Connections that are refused before they have a session."""

    def test_refusedHost(self) -> None:
        """A connection beyond maxSessionsPerHost costs no handshake."""
        port = self.serve(RecordingListener(), policy=serverPolicy(*self.files), maxSessionsPerHost=1)
        self.shake(port)
        second = self.world.dial(port, peerContext())
        second.step()
        self.world.until(lambda: second.ended)
        self.assertEqual((second.turns, second.shaken), (0, False))


class StartTLSTests(SessionsCase):
    """``session.transport.startTLS``, as server and as client."""

    def test_server(self) -> None:
        """The kind says TLS from then on; bytes of both sides are encrypted; the peer has a half-close."""
        listener = RecordingListener()
        kinds: list[str] = []
        policy = serverPolicy(*self.files)

        def message(session: Session, pkg: bytes) -> None:
            if pkg == b"STARTTLS":
                kinds.append(session.connection.kind)
                session.transport.startTLS(policy)
                kinds.append(session.connection.kind)
            else:
                session.writePkg(pkg.upper())

        listener.on["message"] = message
        peer = self.world.dial(self.serve(listener), peerContext())
        peer.runs = False
        peer.socket.send(frame(b"STARTTLS"))
        self.world.until(lambda: kinds)
        peer.runs = True
        self.world.until(lambda: peer.shaken)
        peer.write(frame(b"hello"))
        peer.end()
        self.world.until(lambda: peer.ended)
        self.assertEqual((peer.received, peer.ended), (frame(b"HELLO"), "close_notify"))
        self.assertEqual(kinds, ["TCP_SERVER", "TLS_SERVER"])
        self.world.until(lambda: listener.names[-1] == "close")
        self.assertEqual(listener.errors, [])

    def test_handshakeTimeout(self) -> None:
        """A peer that never shakes hands loses its session, on both sides of startTLS, after handshakeTimeout."""
        policy = serverPolicy(*self.files)
        listener = RecordingListener({"message": lambda session, pkg: session.transport.startTLS(policy)})
        peer = self.world.dial(self.serve(listener, handshakeTimeout=2), peerContext())
        peer.runs = False
        peer.socket.send(frame(b"STARTTLS"))
        self.assertTimesOut(listener)

        port = socket.create_server((LOCAL, 0))
        self.addCleanup(port.close)
        started = RecordingListener({"open": lambda session: session.transport.startTLS(self.trusting)})
        client = self.dialFrom(started, port.getsockname()[1], handshakeTimeout=2, reconnectAttempts=1)
        self.world.until(lambda: started.events)
        self.assertTimesOut(started)
        self.assertEqual(len(client.sessions), 0)

    def assertTimesOut(self, listener: RecordingListener) -> None:
        self.world.until(lambda: listener.events[-1:] in ([("message", b"STARTTLS")], [("open",)]) or listener.errors)
        self.world.settle()
        self.world.advance(1.5)
        self.assertEqual(listener.errors, [])
        self.world.advance(1)
        self.assertEqual([type(error) for error in listener.errors], [HandshakeTimeoutError])
        self.assertIn("handshakeTimeout=2 s", str(listener.errors[0]))
        self.world.until(lambda: listener.names[-1] == "close")

    def test_timeoutWithoutStartTLS(self) -> None:
        """The same for TLS from the beginning: a connection that says nothing, or half a record, is dropped."""
        for data in b"", b"\x16\x03\x01\x02":
            listener = RecordingListener()
            port = self.serve(listener, policy=serverPolicy(*self.files), handshakeTimeout=2)
            peer = self.world.dial(port, peerContext())
            peer.runs = False
            peer.socket.send(data)
            self.world.settle()
            self.world.advance(1.5)
            self.assertIsNone(peer.closedTCP)
            self.world.advance(1)
            self.world.until(lambda peer=peer: peer.closedTCP)
            self.assertEqual(listener.events, [])

    def test_refused(self) -> None:
        """A refused certificate is the error of the session that had asked for TLS, in words."""
        policy = serverPolicy(*self.files)

        def served(session: Session, pkg: bytes) -> None:
            session.writePkg(b"go")
            session.transport.startTLS(policy)

        serving = RecordingListener({"message": served})
        port = self.serve(serving)
        other = clientPolicy(LOCAL, trustRoot=Authority(self.directory, "Other").path)

        def opened(session: Session) -> None:
            session.writePkg(b"STARTTLS")

        dialled = RecordingListener({"open": opened, "message": lambda session, pkg: session.transport.startTLS(other)})
        self.dialFrom(dialled, port, reconnectInterval=60)
        self.world.until(lambda: dialled.names[-1:] == serving.names[-1:] == ["close"])
        for listener, text in (dialled, "unknown authority"), (serving, "the peer refused our certificate"):
            [error] = listener.errors
            self.assertIsInstance(error, HandshakeError)
            self.assertIn(text, str(error))


class ResumptionTests(SessionsCase):
    """A client that comes again is recognized by its ticket."""

    def test_pool(self) -> None:
        """The second connection of a pool is resumed, after a close or a reset, also with a client's certificate."""
        me = self.authority.issue(["me"], client=True)
        mutual = clientPolicy(LOCAL, trustRoot=self.authority.path, certificate=me[0], privateKey=me[1])
        for trustRoot, policy in (None, self.trusting), (self.authority.path, mutual):
            echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
            port = self.serve(echo, policy=serverPolicy(*self.files, trustRoot=trustRoot))
            listener = RecordingListener()
            client = self.dialFrom(listener, port, policy, reconnectInterval=0.01)
            for turn in range(3):
                session = self.ready(client)
                listener.events.clear()
                session.writePkg(b"hello")
                self.world.until(lambda listener=listener: listener.packages)
                self.assertEqual(isResumed(session.transport.getHandle()), turn > 0)
                certificate = session.transport.getPeerCertificate()
                self.assertEqual(certificate.get_subject().CN, LOCAL)
                [other] = self.service.sessions
                self.assertEqual(isResumed(other.transport.getHandle()), turn > 0)
                if trustRoot:
                    self.assertEqual(other.transport.getPeerCertificate().get_subject().CN, "me")
                (other.close if turn else other.abort)()
                self.world.until(lambda session=session: session.isClosed and not self.service.sessions)
                self.world.advance(0.5)

    def test_ticketOfTheServer(self) -> None:
        """OpenSSL's client resumes in both versions of TLS; a ticket of another server costs a full handshake."""
        for version in VERSIONS:
            policy = serverPolicy(*self.files)
            context = peerContext(None, version)
            given: SSL.Session | None = None
            for resumes in False, True, False:
                end, peer = self.server(policy=policy, context=context)
                if given is not None:
                    peer.tls.set_session(given)
                self.open(end, peer)
                end.transport.write(b"hello")
                self.world.until(lambda peer=peer: peer.received)
                self.assertEqual(isResumed(peer.tls), resumes)
                given = peer.tls.get_session()
                if resumes:
                    policy = serverPolicy(*self.files)

    def test_refusedTicket(self) -> None:
        """A failed handshake makes the client forget its ticket."""
        policy: Any = self.trusting
        end, peer = self.client(policy=policy)
        self.open(end, peer)
        peer.write(b"ticket")
        self.world.until(lambda: end.received)
        peer.end()
        self.world.until(lambda: end.error)
        self.assertIsNotNone(policy._session)
        end, peer = self.client(policy=policy)
        peer.close()
        self.world.until(lambda: end.error)
        self.assertIsNone(policy._session)


class WhichTests(TestCase):
    """Which of the two ways of TLS a connection takes. On trial's reactor, as Twisted's TLS uses that one."""

    async def test_onSocket(self) -> None:
        """Both ends take the socket, unless ``onSocket=False`` asks for Twisted's own; both talk to one another."""
        authority = Authority(self.mktemp())
        files = authority.issue([LOCAL])
        for atServer in True, False:
            endpoint = TCP4ServerEndpoint(reactor, 0, interface=LOCAL)
            echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
            server = Server(configure(echo), wrapServer(serverPolicy(*files, onSocket=atServer), endpoint))
            server.startService()
            self.addCleanup(server.stopService)
            [address] = await server.whenListening()
            for atClient in True, False:
                policy = clientPolicy(LOCAL, trustRoot=authority.path, onSocket=atClient)
                received: Deferred[bytes] = Deferred()
                listener = RecordingListener({"message": lambda session, pkg, to=received: to.callback(pkg)})
                dialled = TCP4ClientEndpoint(reactor, LOCAL, address.port)  # type: ignore[attr-defined]
                client = Client(configure(listener), wrapClient(policy, dialled))
                client.startService()
                self.addCleanup(client.close)
                [session] = await client.whenReady()
                session.writePkg(b"hello")
                self.assertEqual(await received, b"hello")
                other = next(each for each in server.sessions if each.remoteAddr == session.localAddr)
                for each, expected in (session, atClient), (other, atServer):
                    layer = tlsOf(each.connection.rawTransport)
                    self.assertIsInstance(layer, SocketTLS if expected else TLSMemoryBIOProtocol)
                    self.assertEqual(isOnSocket(each.connection.rawTransport), expected)
