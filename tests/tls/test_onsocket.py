"""TLS on a socket, against a peer whose records the test has in its hands: the transport, bytes, pauses, producers."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    INegotiated,
    IProtocolNegotiationFactory,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.python.filepath import FilePath
from zope.interface import implementer
from zope.interface.verify import verifyObject

from getty_tx.interfaces import IByteSink
from getty_tx.tls import serverPolicy
from getty_tx.tls.onsocket import RECORD, SocketTLS
from getty_tx.tls.openssl import SIZE
from tests.support.tlsocket import HOST, MUCH, End, OnSocketCase, peerContext


class TransportTests(OnSocketCase):
    """What TLS on a socket is for the protocol above it."""

    def test_interfaces(self) -> None:
        end, peer = self.server()
        self.open(end, peer)
        for interface in ITransport, ISSLTransport, INegotiated, IByteSink:
            self.assertTrue(verifyObject(interface, end.transport), interface)
        self.assertIsInstance(end.transport, SocketTLS)
        self.assertIsInstance(end.transport.getHandle(), SSL.Connection)
        self.assertEqual(end.events, ["made", "handshake"])

    def test_addresses(self) -> None:
        """Addresses and options of the socket are those of the transport below."""
        end, peer = self.server()
        self.open(end, peer)
        self.assertEqual((end.transport.getPeer().host, end.transport.getPeer().port), peer.socket.getsockname())
        self.assertEqual((end.transport.getHost().host, end.transport.getHost().port), peer.socket.getpeername())
        end.transport.setTcpNoDelay(True)
        self.assertTrue(end.transport.getTcpNoDelay())

    def test_certificates(self) -> None:
        """Mutual TLS: each has the other's certificate. Without it a server has none."""
        end, peer = self.client()
        self.open(end, peer)
        self.assertEqual(end.transport.getPeerCertificate().get_subject().CN, HOST)
        context = peerContext(self.authority.issue(["me"], client=True))
        end, peer = self.server(policy=serverPolicy(*self.files, trustRoot=self.authority.path), context=context)
        self.open(end, peer)
        self.assertEqual(end.transport.getPeerCertificate().get_subject().CN, "me")
        end, peer = self.server(context=context)
        self.open(end, peer)
        self.assertIsNone(end.transport.getPeerCertificate())

    def test_alpn(self) -> None:
        context = peerContext()
        context.set_alpn_protos([b"h2", b"http/1.1"])
        end, peer = self.server(policy=serverPolicy(*self.files, alpn=["http/1.1"]), context=context)
        self.open(end, peer)
        self.assertEqual((end.transport.negotiatedProtocol, peer.tls.get_alpn_proto_negotiated()), (b"http/1.1",) * 2)
        end, peer = self.server()
        self.open(end, peer)
        self.assertIsNone(end.transport.negotiatedProtocol)

    def test_sni(self) -> None:
        """A server chooses its certificate by the name that a client asks for; our client sends the name."""
        other = self.authority.issue(["b.example"])
        policy = serverPolicy(*self.files, sni={"b.example": other})
        for name in HOST, "b.example":
            end, peer = self.server(policy=policy)
            peer.tls.set_tlsext_host_name(name.encode())
            self.open(end, peer)
            certificate = peer.tls.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            self.assertEqual(certificate.subject.rfc4514_string(), f"CN={name}")
        end, peer = self.client()
        self.open(end, peer)
        self.assertEqual(peer.tls.get_servername(), HOST.encode())

    def test_unix(self) -> None:
        """The same over a unix socket."""
        for end, peer in self.ways({"handshake": lambda end: end.transport.write(MUCH)}, unix=True):
            self.world.until(lambda end=end, peer=peer: len(peer.received) == len(MUCH))
            peer.write(b"thanks")
            self.world.until(lambda end=end: end.received == b"thanks")
            end.transport.loseConnection()
            peer.end()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_policiesOfTwisted(self) -> None:
        """Whatever Twisted's TLS takes: its creators of connections, and factories of contexts."""
        end, peer = self.client(policy=ssl.optionsForClientTLS(HOST, self.trust()))
        self.open(end, peer)
        key = ssl.PrivateCertificate.loadPEM(b"".join(FilePath(file).getContent() for file in self.files))
        for policy in key.options(), ssl.DefaultOpenSSLContextFactory(self.files[1], self.files[0]):
            end, peer = self.server(policy=policy)
            self.open(end, peer)
            peer.write(b"hello")
            end.transport.write(b"welcome")
            self.world.until(lambda end=end, peer=peer: (end.received, peer.received) == (b"hello", b"welcome"))

    def test_alpnOfTwisted(self) -> None:
        """The factory of the protocol above may name protocols, for Twisted's policies."""

        @implementer(IProtocolNegotiationFactory)
        class Negotiating(Factory):
            def acceptableProtocols(self) -> list[bytes]:
                return [b"echo/2", b"echo/1"]

        key = ssl.PrivateCertificate.loadPEM(b"".join(FilePath(file).getContent() for file in self.files))
        end = End()
        end.factory = Negotiating()
        context = peerContext()
        context.set_alpn_protos([b"echo/1"])
        end, peer = self.server(end, policy=key.options(), context=context)
        self.open(end, peer)
        self.assertEqual(end.transport.negotiatedProtocol, b"echo/1")

    def test_wrongHostOfTwisted(self) -> None:
        """Twisted's client policy refuses a certificate for another host, and the protocol hears nothing but that."""
        end, _ = self.client(policy=ssl.optionsForClientTLS("b.example", self.trust()))
        self.world.until(lambda: end.error)
        self.assertEqual(end.events, ["made", "lost"])
        self.assertEqual(type(end.error).__name__, "VerificationError")

    def test_noCircle(self) -> None:
        """When the connection is lost, nothing leads from OpenSSL's connection to the protocol."""
        for end, peer in self.ways():
            self.open(end, peer)
            transport = end.transport
            end.transport.abortConnection()
            self.world.until(lambda end=end: end.error)
            self.assertIsNone(transport.getHandle().get_app_data())
            self.assertFalse({"doRead", "doWrite", "writeSomeData"} & set(vars(transport.transport)))


class BytesTests(OnSocketCase):
    """Bytes, in both directions."""

    def test_beforeHandshake(self) -> None:
        """What is written before the handshake is done leaves after it, in order, and before what is written then."""

        def made(end: End) -> None:
            end.transport.write(b"one ")
            end.transport.writeSequence([b"two ", b"three "])

        for end, peer in self.ways({"made": made, "handshake": lambda end: end.transport.write(b"four")}):
            self.world.until(lambda peer=peer: peer.received == b"one two three four")
            self.assertEqual(end.events, ["made", "handshake"])

    def test_sendBeforeHandshake(self) -> None:
        """Nothing leaves at once before the handshake is done; after it, it does."""
        for end, peer in self.ways({"made": lambda end: self.assertRaises(OSError, end.transport.send, b"early")}):
            self.open(end, peer)
            self.assertEqual(end.transport.send(b"now"), 3)
            self.assertEqual(end.transport.send(memoryview(b"later")), 5)
            end.transport.write(b" written")
            self.assertRaises(BlockingIOError, end.transport.send, b"may not overtake")
            self.world.until(lambda peer=peer: peer.received == b"nowlater written")

    def test_text(self) -> None:
        """Text is refused before and after the handshake, and leaves no trace."""

        def write(end: End) -> None:
            self.assertRaises(TypeError, end.transport.write, "text")
            self.assertRaises(TypeError, end.transport.writeSequence, ["text"])

        for end, peer in self.ways({"made": write, "handshake": write}):
            self.open(end, peer)
            end.transport.write(b"bytes")
            self.world.until(lambda peer=peer: peer.received == b"bytes")
            end.transport.loseConnection()
            self.world.until(lambda peer=peer: peer.ended == "close_notify")

    def test_much(self) -> None:
        """More than the sockets hold, both ways at once, in few records."""
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.write(MUCH)
            peer.write(MUCH)
            self.world.until(lambda end=end, peer=peer: len(end.received) == len(peer.received) == len(MUCH))
            self.assertTrue(end.received == peer.received == MUCH)

    def test_largeReads(self) -> None:
        """A protocol may ask for reads of any size: none is larger than the buffer that all connections share."""
        end, peer = self.server()
        self.open(end, peer)
        sizes: list[int] = []
        receive = end.transport.receive

        def measured(data: bytes) -> None:
            sizes.append(len(data))
            receive(data)

        end.transport.receive = measured
        end.transport.bufferSize = len(MUCH)
        end.transport.pauseProducing()
        peer.write(MUCH)
        self.world.turn(20)
        end.transport.resumeProducing()
        self.world.until(lambda: len(end.received) >= len(MUCH) or end.error)
        self.assertTrue(end.received == MUCH)
        self.assertTrue(SIZE - RECORD < max(sizes) <= SIZE, max(sizes))

    def test_sendMuch(self) -> None:
        """``send`` takes what the socket takes; the rest, written, follows."""
        for end, peer in self.ways():
            self.open(end, peer)
            sent = end.transport.send(MUCH)
            self.assertTrue(0 < sent < len(MUCH))
            end.transport.write(MUCH[sent:])
            self.world.until(lambda peer=peer: len(peer.received) == len(MUCH))
            self.assertTrue(peer.received == MUCH)

    def test_pause(self) -> None:
        """Nothing is delivered while reading is paused, and all of it, in order, after that."""
        for end, peer in self.ways():
            self.open(end, peer)
            peer.write(b"first")
            self.world.until(lambda end=end: end.received == b"first")
            end.transport.pauseProducing()
            peer.write(b"second" * 10_000)
            self.world.settle()
            self.assertEqual(end.received, b"first")
            end.transport.write(b"still writes")
            self.world.until(lambda peer=peer: peer.received == b"still writes")
            end.transport.resumeProducing()
            self.world.until(lambda end=end: end.received == b"first" + b"second" * 10_000)

    def test_pausedByTheFirst(self) -> None:
        """One read is delivered whole; what comes behind it waits."""
        for end, peer in self.ways({"data": lambda end: end.transport.pauseProducing()}):
            self.open(end, peer)
            peer.write(MUCH[: 1 << 20])
            self.world.settle()
            self.assertLessEqual(len(end.received), 120 * 1024)
            end.on.clear()
            end.transport.resumeProducing()
            self.world.until(lambda end=end: end.received == MUCH[: 1 << 20])

    def test_resumedAtTheEnd(self) -> None:
        """Resuming after the peer's end does not bring the reactor to read again and again."""
        for end, peer in self.ways({"readLost": lambda end: end.transport.resumeProducing()}):
            self.open(end, peer)
            peer.end()
            self.world.until(lambda end=end: "readLost" in end.events)
            self.assertEqual(self.world.reactor.getReaders().count(end.transport.transport), 0)


@implementer(IPushProducer, IPullProducer)
class Producer:
    """Writes pieces when it is asked to, and counts what it hears."""

    def __init__(self, end: End, pieces: int) -> None:
        self.end = end
        self.left = pieces
        self.heard: list[str] = []

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")
        if self.left:
            self.left -= 1
            self.end.transport.write(b"piece " * 1000)
        else:
            self.end.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.heard.append("stop")


class ProducerTests(OnSocketCase):
    """Producers that write to TLS on a socket."""

    def test_pull(self) -> None:
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.registerProducer(Producer(end, 20), False)
            self.world.until(lambda peer=peer: peer.received == b"piece " * 20_000)
            self.assertIsNone(end.transport.transport.producer)

    def test_push(self) -> None:
        """A push producer is paused while much waits, and resumed when it is out."""
        for end, peer in self.ways():
            self.open(end, peer)
            producer = Producer(end, 1)
            end.transport.registerProducer(producer, True)
            end.transport.write(MUCH)
            self.assertEqual(producer.heard, ["pause"])
            self.world.until(lambda producer=producer: producer.left == 0)
            self.world.until(lambda peer=peer: len(peer.received) == len(MUCH) + 6000)
            self.assertEqual(producer.heard, ["pause", "resume"])

    def test_closeWaits(self) -> None:
        """A connection that is to close stays open until its producer has ended (``ITransport.loseConnection``)."""
        for streaming in True, False:
            for end, peer in self.ways():
                self.open(end, peer)
                producer = Producer(end, 3)
                end.transport.registerProducer(producer, streaming)
                end.transport.loseConnection()
                if streaming:
                    self.world.settle()
                    self.assertIsNone(peer.ended)
                    end.transport.write(b"piece " * 3000)
                    end.transport.unregisterProducer()
                self.world.until(lambda peer=peer: peer.ended)
                self.assertEqual((peer.received, peer.ended), (b"piece " * 3000, "close_notify"))

    def test_afterTheEnd(self) -> None:
        """A producer that is registered when this side has ended is told to stop."""
        for streaming in True, False:
            for end, peer in self.ways():
                self.open(end, peer)
                end.transport.loseConnection()
                producer = Producer(end, 3)
                end.transport.registerProducer(producer, streaming)
                self.assertEqual(producer.heard, ["stop"])

    def test_lost(self) -> None:
        """The producer of a lost connection is told to stop, before the protocol hears of the loss."""
        for end, peer in self.ways():
            self.open(end, peer)
            producer = Producer(end, 3)
            end.transport.registerProducer(producer, True)
            end.on["lost"] = lambda end, producer=producer: self.assertEqual(producer.heard[-1:], ["stop"])
            peer.close(reset=True)
            self.world.until(lambda end=end: end.error)
