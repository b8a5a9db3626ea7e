"""TLS on a socket: what OpenSSL has to wait for, and the ends of connections in every state."""

from __future__ import annotations

from cryptography import x509
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionAborted, ConnectionDone

from getty_tx.tls import HandshakeError, clientPolicy
from tests.support.certificates import Authority
from tests.support.tlsocket import HOST, MUCH, End, OnSocketCase, peerContext


class CrossingTests(OnSocketCase):
    """OpenSSL has to read before it writes, or to write before it reads."""

    def test_writeNeedsRead(self) -> None:
        """A renegotiation of the server's, with Twisted's policy: what is written meanwhile leaves after it."""
        policy = ssl.CertificateOptions(lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2)
        for pauses in False, True:
            end, peer = self.client(policy=policy, version=SSL.TLS1_2_VERSION)
            self.open(end, peer)
            peer.tls.renegotiate()
            peer.tls.do_handshake()
            peer.flush()
            # Our side has seen the request, and has begun the handshake.
            peer.reads = False
            self.world.settle(5)
            end.transport.write(b"in the middle")
            if pauses:
                end.transport.pauseProducing()
            self.world.settle(5)
            peer.reads = True
            self.world.until(lambda peer=peer: peer.received == b"in the middle")

    def test_ticketInTwoRecords(self) -> None:
        """The client's certificate is in the ticket, and too long for one record: its second one comes late."""
        blob = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"x" * 18_000)
        me = self.authority.issue(["me"], client=True, extension=blob)
        policy = clientPolicy(HOST, trustRoot=self.authority.path, certificate=me[0], privateKey=me[1])
        for ends in False, True:
            context = peerContext(self.files)
            context.set_session_id(b"here")
            context.set_verify(SSL.VERIFY_PEER, lambda *arguments: True)
            end, peer = self.client(policy=policy, context=context)
            # Whole records until the handshake is done; then the first one of the ticket alone.
            peer.cut = lambda data, peer=peer: (b"", data) if peer.shaken else (data, b"")
            self.world.until(lambda end=end, peer=peer: "handshake" in end.events and peer.shaken)
            self.assertGreater(len(peer._toSend), 17_000)
            first = 5 + int.from_bytes(peer._toSend[3:5], "big")
            self.assertGreater(len(peer._toSend), first)
            now, later = peer._toSend[:first], peer._toSend[first:]
            peer.socket.send(now)
            peer._toSend = b""
            self.world.turn(3)
            end.transport.write(b"in the middle")
            if ends:
                end.transport.loseConnection()
            self.world.settle(5)
            peer.cut = lambda data: (data, b"")
            peer._toSend = later
            self.world.until(lambda peer=peer: peer.received == b"in the middle")
            if ends:
                self.world.until(lambda peer=peer: peer.ended)
                self.assertEqual(peer.ended, "close_notify")

    def test_endInTheMiddleOfATicket(self) -> None:
        """This side's close_notify waits for the rest of a message of the handshake, and comes."""
        policy = ssl.CertificateOptions(lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2)
        end, peer = self.client(policy=policy, version=SSL.TLS1_2_VERSION)
        self.open(end, peer)
        peer.tls.renegotiate()
        peer.tls.do_handshake()
        peer.flush()
        peer.reads = False
        self.world.settle(5)
        end.transport.loseConnection()
        self.world.settle(5)
        peer.reads = True
        self.world.until(lambda: peer.ended)
        self.assertEqual(peer.ended, "close_notify")

    def test_renegotiationRefused(self) -> None:
        """A client's renegotiation is refused in words, and computes nothing."""
        end, peer = self.server(version=SSL.TLS1_2_VERSION)
        self.open(end, peer)
        peer.tls.renegotiate()
        peer.runs = False
        self.assertRaises(SSL.Error, peer.tls.do_handshake)
        self.world.settle(5)
        peer.runs = True
        self.world.until(lambda: peer.ended)
        self.assertIn("no renegotiation", str(peer.ended))


class StatesTests(OnSocketCase):
    """loseConnection and abortConnection in every state, and the reasons."""

    def test_abort(self) -> None:
        """In every state the connection is lost once, as aborted."""

        def abort(end: End) -> None:
            end.transport.abortConnection()
            end.transport.abortConnection()
            end.transport.write(b"dropped")
            end.transport.loseConnection()

        for event in "made", "handshake", "data", "readLost":
            for end, peer in self.ways({event: abort}):
                peer.turns = 0
                self.world.until(lambda end=end, peer=peer: peer.shaken or end.error)
                if end.error is None:
                    peer.write(b"data")
                    peer.end()
                self.world.until(lambda end=end: end.error)
                self.assertIsInstance(end.error, ConnectionAborted)
                self.assertEqual(end.events[-2:], [event, "lost"])
                self.assertRaises(OSError, end.transport.send, b"nothing")
                end.transport.write(b"nothing")
                end.transport.loseConnection()
                end.transport.abortConnection()

    def test_abortedAtOnce(self) -> None:
        """A connection that is refused when it is made costs no handshake."""
        end, peer = self.server(End(made=lambda end: end.transport.abortConnection()))
        # The client's first record is there when the connection is made.
        peer.step()
        self.world.until(lambda: end.error)
        self.world.settle(3)
        self.assertEqual((peer.turns, peer.shaken), (0, False))

    def test_loseBeforeHandshake(self) -> None:
        """With nothing written, a connection is dropped; otherwise what was written leaves first."""
        for end, _ in self.ways({"made": lambda end: end.transport.loseConnection()}):
            self.world.until(lambda end=end: end.error)
            self.assertEqual(end.events, ["made", "lost"])

        def write(end: End) -> None:
            end.transport.write(b"only this")
            end.transport.loseConnection()

        for end, peer in self.ways({"made": write}):
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((peer.received, peer.ended), (b"only this", "close_notify"))
            peer.end()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_refusedCertificate(self) -> None:
        """In TLS 1.3 a client hears of its refusal after its handshake, and in the same words as before it."""
        me = Authority(self.directory, "Other").issue(["me"], client=True)
        policy = clientPolicy(HOST, trustRoot=self.authority.path, certificate=me[0], privateKey=me[1])
        for written in b"", b"request", MUCH:
            context = peerContext(self.files)
            context.set_session_id(b"here")
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *arguments: False)
            end, peer = self.client(
                End(handshake=lambda end, written=written: end.transport.write(written)), policy=policy, context=context
            )
            self.world.until(lambda peer=peer: peer.ended)
            peer.close()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, HandshakeError)
            self.assertIn("the peer refused our certificate (subject CN=me)", str(end.error))
