"""TLS on a socket: half-close, what is still to be sent, and peers that end or reset at every stage."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone, ConnectionLost

from getty_tx.tls import HandshakeError, clientPolicy, serverPolicy
from tests.support.certificates import Authority
from tests.support.tlsocket import HOST, MUCH, End, OnSocketCase, Peer, peerContext

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: A state of TCP: the peer has ended its side (include/net/tcp_states.h).
CLOSE_WAIT = 8


def replies(end: End) -> None:
    """The peer has ended: everything is still to be sent, and this side ends after that."""
    end.transport.write(MUCH)
    end.transport.loseConnection()


class HalfCloseTests(OnSocketCase):
    """A close_notify ends one direction (RFC 8446, section 6.1); OpenSSL does the same in TLS 1.2."""

    def test_peerEnds(self) -> None:
        """A peer that has ended its side gets all replies, and the end after them."""
        for end, peer in self.ways({"readLost": replies}):
            self.open(end, peer)
            peer.write(b"request")
            peer.end()
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((len(peer.received), peer.ended), (len(MUCH), "close_notify"))
            self.assertEqual(end.received, b"request")
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_thisSideEnds(self) -> None:
        """After loseWriteConnection the peer's bytes still come, until its end."""
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.write(MUCH)
            end.transport.loseWriteConnection()
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((len(peer.received), peer.ended), (len(MUCH), "close_notify"))
            # The stream below ends, too: there are peers that wait for that alone.
            self.world.until(lambda peer=peer: peer.closedTCP)
            self.assertEqual(peer.closedTCP, "end")
            end.transport.write(b"too late")
            peer.write(MUCH)
            self.world.until(lambda end=end: end.received == MUCH)
            self.assertIsNone(end.error)
            peer.end()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_bothAtOnce(self) -> None:
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.loseConnection()
            peer.end()
            self.world.until(lambda end=end, peer=peer: end.error and peer.ended)
            self.assertIsInstance(end.error, ConnectionDone)
            self.assertEqual(peer.ended, "close_notify")

    def test_protocolWithoutHalfClose(self) -> None:
        """A protocol that knows of no half-close is closed by the peer's end; what it has written still leaves."""
        for end, peer in self.ways({"data": lambda end: end.transport.write(MUCH)}, half=False):
            self.world.until(lambda peer=peer: peer.shaken)
            peer.write(b"request")
            peer.end()
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((len(peer.received), peer.ended), (len(MUCH), "close_notify"))
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_closeWithMuchUnsent(self) -> None:
        """loseConnection sends what was written first, while the peer sends, too; then it waits for the peer's end."""
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.write(MUCH)
            end.transport.loseConnection()
            end.transport.loseConnection()
            peer.write(MUCH)
            self.world.until(lambda end=end, peer=peer: peer.ended and end.received == MUCH)
            self.assertEqual((len(peer.received), peer.ended, end.error), (len(MUCH), "close_notify", None))
            peer.end()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_secondLoseCloses(self) -> None:
        """When this side has ended, losing the connection again waits for nobody."""
        for end, peer in self.ways():
            self.open(end, peer)
            end.transport.loseConnection()
            self.world.settle()
            self.assertIsNone(end.error)
            end.transport.loseConnection()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_endBehindData(self) -> None:
        """Bytes and the end that come in one read are told in order, also where the bytes pause the reading."""
        for pauses in False, True:

            def data(end: End, pauses: bool = pauses) -> None:
                if pauses:
                    end.transport.pauseProducing()

            for end, peer in self.ways({"data": data}):
                self.open(end, peer)
                peer.write(b"last words")
                peer.end()
                self.world.until(lambda end=end: "data" in end.events)
                self.world.settle()
                end.transport.resumeProducing()
                self.world.until(lambda end=end: end.error)
                self.assertEqual(end.events, ["made", "handshake", "data", "readLost", "lost"])

    def test_fullSocketAtTheEnd(self) -> None:
        """The close_notify finds no room in the socket, and leaves when there is some."""
        for end, peer in self.ways():
            self.open(end, peer)
            connection = end.transport.getHandle()
            tries: list[Exception] = [SSL.WantWriteError(), SSL.WantWriteError()]

            def shutdown(connection: Any = connection, tries: list[Exception] = tries) -> None:
                if tries:
                    raise tries.pop()
                del connection.shutdown
                connection.shutdown()

            connection.shutdown = shutdown
            end.transport.write(MUCH)
            end.transport.loseConnection()
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((tries, len(peer.received), peer.ended), ([], len(MUCH), "close_notify"))


class LossTests(OnSocketCase):
    """Ends without a close_notify, and alerts."""

    def assertLost(self, end: End, events: list[str]) -> None:
        self.world.until(lambda: end.error)
        self.assertIsInstance(end.error, ConnectionLost)
        self.assertEqual(end.events, events)

    def test_openConnection(self) -> None:
        """A stream that ends without a close_notify may be cut: the connection is lost, not done."""
        for reset in False, True:
            for end, peer in self.ways():
                self.open(end, peer)
                self.world.settle()
                peer.close(reset)
                self.assertLost(end, ["made", "handshake", "lost"])

    def test_afterOurEnd(self) -> None:
        """The same when this side has ended; but what had come before is not lost."""
        for reset in False, True:
            for end, peer in self.ways():
                self.open(end, peer)
                end.transport.loseConnection()
                self.world.until(lambda peer=peer: peer.ended)
                peer.write(b"bye")
                peer.flush()
                if not reset:
                    # A reset may overtake the bytes.
                    peer.close()
                    self.assertLost(end, ["made", "handshake", "data", "lost"])
                else:
                    self.world.until(lambda end=end: end.received)
                    peer.close(reset)
                    self.assertLost(end, ["made", "handshake", "data", "lost"])

    def test_whileWriting(self) -> None:
        """The peer goes while much waits for it: the producer and the protocol hear of it, once."""
        for reset in False, True:
            for end, peer in self.ways():
                self.open(end, peer)
                peer.reads = False
                end.transport.write(MUCH)
                self.world.settle()
                peer.close(reset)
                self.assertLost(end, ["made", "handshake", "lost"])

    def test_duringHandshake(self) -> None:
        """A peer that goes during the handshake: in words with our policies, as lost with Twisted's."""
        for reset in False, True:
            for steps in range(3):
                for version in SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION:
                    for isClient in False, True:
                        end, peer = self.client(version=version) if isClient else self.server(version=version)
                        self.goDuring(peer, steps, reset)
                        self.world.until(lambda end=end: end.error)
                        if end.events == ["made", "lost"]:
                            self.assertIsInstance(end.error, HandshakeError)
                            text = "the connection closed before the TLS handshake was done"
                            self.assertEqual(str(end.error), text)
                        else:
                            # In TLS 1.3 the handshake was done already.
                            self.assertEqual(end.events, ["made", "handshake", "lost"])
                            self.assertIsInstance(end.error, ConnectionLost)
        end, peer = self.client(policy=ssl.optionsForClientTLS(HOST, self.trust()))
        self.goDuring(peer, 0, False)
        self.assertLost(end, ["made", "lost"])

    def goDuring(self, peer: Peer, steps: int, reset: bool) -> None:
        """Close after ``steps`` flights of the handshake."""
        for _ in range(steps):
            self.world.reactor.iterate(0)
            peer.step()
        peer.close(reset)

    def test_garbage(self) -> None:
        """What is not TLS gets an alert and a reason in words, at the beginning; a broken record is OpenSSL's error."""
        for policy in serverPolicy(*self.files), None:
            end, peer = self.server() if policy else self.client()
            peer.runs = False
            peer.socket.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            self.world.until(lambda end=end: end.error)
            self.assertIn("not TLS", str(end.error))
            self.assertEqual(end.events, ["made", "lost"])
        for end, peer in self.ways():
            self.open(end, peer)
            peer.runs = False
            peer.socket.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, SSL.Error)
            self.assertIn("decryption failed", str(end.error))
            peer.runs = True
            self.world.until(lambda peer=peer: peer.ended)
            self.assertIn("bad record mac", str(peer.ended))

    def test_alertBeforeUnreadBytes(self) -> None:
        """Unread bytes would turn the close into a reset, which loses the alert."""
        other = Authority(self.directory, "Other").issue(["me"], client=True)
        for _ in range(5):
            policy = serverPolicy(*self.files, trustRoot=self.authority.path)
            end, peer = self.server(policy=policy, context=peerContext(other))
            # The client's handshake is done before the server's, and it goes on writing.
            peer.cut = lambda data: (b"", data)
            while not peer.shaken:
                self.world.reactor.iterate(0)
                peer.step()
                if not peer.shaken:
                    peer.socket.send(peer._toSend)
                    peer._toSend = b""
            peer.write(b"x" * 30_000)
            peer.cut = lambda data: (data, b"")
            peer.reads = False
            peer.step()
            self.world.until(lambda end=end: end.error)
            self.assertIn("the client's certificate is issued by an unknown authority", str(end.error))
            peer.reads = True
            self.world.until(lambda peer=peer: peer.ended)
            self.assertIn("unknown ca", str(peer.ended))
            self.world.until(lambda peer=peer: peer.closedTCP)
            self.assertEqual(peer.closedTCP, "end")
            # The state of a connection whose other side has ended; after a reset it would be CLOSE. On this machine the
            # alert may be read nevertheless, but a lost packet with it would not be sent again.
            state = peer.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            self.assertEqual(state, CLOSE_WAIT)

    def test_ownRefusals(self) -> None:
        """A wrong host and a missing certificate, in the words of the policies, on both sides of real sockets."""
        end, peer = self.client(policy=clientPolicy("b.example", trustRoot=self.authority.path))
        self.world.until(lambda: end.error and peer.ended)
        self.assertIn("the certificate is for 'a.example', not for 'b.example'", str(end.error))
        self.assertIn("alert", str(peer.ended))
        end, peer = self.server(policy=serverPolicy(*self.files, trustRoot=self.authority.path))
        self.world.until(lambda: end.error and peer.ended)
        self.assertIn("the client sent no certificate, and one is required", str(end.error))
        self.assertIn("certificate required", str(peer.ended))
        self.assertEqual(end.events, ["made", "lost"])

    def test_failingProtocol(self) -> None:
        """An exception of the protocol's dataReceived loses this connection alone, for that reason."""

        class Broken(Exception):
            pass

        def data(end: End) -> None:
            raise Broken

        lost: list[Failure | None] = []
        for end, peer in self.ways({"data": data, "lost": lambda end: lost.append(end.reason)}):
            self.open(end, peer)
            peer.write(b"x")
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, Broken)
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 4)

    def test_numberOfTheSocket(self) -> None:
        """The socket's number is another connection's after the loss: nothing is sent or read by way of OpenSSL."""
        for first, firstPeer in self.ways():
            self.open(first, firstPeer)
            transport: Any = first.transport
            number = transport.transport.fileno()
            transport.abortConnection()
            self.world.until(lambda first=first: first.error)
            second, peer = self.server()
            if second.transport.transport.fileno() != number:
                continue
            self.assertRaises(OSError, transport.send, b"x")
            for call in transport.loseConnection, transport.loseWriteConnection, transport.abortConnection:
                call()
            transport.write(b"x")
            self.open(second, peer)
            second.transport.write(b"clean")
            self.world.until(lambda peer=peer: peer.received == b"clean")
