"""
What Go's TLS has put on the wire, byte for byte: how a server and a client of ours answer it.

``peers/traces.go`` made the traces, and says how to make them again; no Go is needed here. A trace is one side of a
connection, whose other side was Go, too. Our side draws other random numbers, so that a whole trace has to fail, at the
first record whose keys or signature depend on them: a recorded connection cannot be replayed. What comes before that is
answered as it would be to a living peer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from twisted.python.filepath import FilePath

from getty_tx.tls import HandshakeError, clientPolicy, serverPolicy
from tests.support.tlsocket import HOST, End, OnSocketCase, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACES = json.loads(Path(__file__).with_name("peers").joinpath("traces.json").read_text())

# Kinds of records, of messages of the handshake, and of extensions (RFC 8446, sections 5.1, 4 and 4.2).
ALERT, HANDSHAKE, DATA = 21, 22, 23
SERVER_HELLO, CERTIFICATE, CERTIFICATE_REQUEST = 2, 11, 13
ALPN, PRE_SHARED_KEY, SUPPORTED_VERSIONS, KEY_SHARE = 16, 41, 43, 51
TLS12, TLS13 = 0x0303, 0x0304

#: Where a ServerHello repeats the session id of the client, and a ClientHello has it, in the first record.
SESSION_ID = slice(44, 76)


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each record."""
    while data:
        length = 5 + number(data[3:5])
        assert len(data) >= length, "half a record"
        yield data[0], data[5:length]
        data = data[length:]


def messages(data: bytes) -> dict[int, bytes]:
    """The messages of the handshake that are in clear."""
    data = b"".join(body for kind, body in records(data) if kind == HANDSHAKE)
    found = {}
    while data:
        length = 4 + number(data[1:4])
        found[data[0]] = data[4:length]
        data = data[length:]
    return found


def extensionsOf(hello: bytes, choices: int) -> dict[int, bytes]:
    """The extensions of a hello; ``choices``: bytes of what is between the session id and them."""
    data = hello[35 + hello[34] + choices + 2 :]
    found = {}
    while data:
        length = 4 + number(data[2:4])
        found[number(data[:2])] = data[4:length]
        data = data[length:]
    return found


def flights(side: str, name: str) -> list[bytes]:
    return [bytes.fromhex(flight) for flight in TRACES[side][name]]


class TracesCase(OnSocketCase):
    def setUp(self) -> None:
        super().setUp()
        self.go = self.mktemp()
        FilePath(self.go).setContent(TRACES["authority"].encode())

    def replay(self, end: End, peer: Peer, flights: list[bytes], size: int = 1 << 20) -> bytes:
        """Send flights, each when the answer to the last one has come, to the end of our side; the answers."""
        peer.reads = peer.runs = False
        answer = self.take(peer)
        for flight in flights:
            for at in range(0, len(flight), size):
                if end.error is None:
                    peer.socket.sendall(flight[at : at + size])
                    self.world.turn(3)
            answer += self.take(peer)
        return answer

    def take(self, peer: Peer) -> bytes:
        self.world.settle(4)
        try:
            return peer.socket.recv(1 << 20)
        except OSError:
            return b""

    def assertRefused(self, end: End, answer: bytes, alert: int | None, text: str) -> None:
        """
        Nothing was delivered, the reason is in words, and Go hears of it.

        :param alert: the number of the alert (RFC 8446, section 6), 0: it is encrypted, None: none.
        """
        self.assertEqual((end.events, end.received), (["made", "lost"], b""), text)
        self.assertIn(text, str(end.error))
        kind, body = list(records(answer))[-1] if answer else (None, b"")
        if alert is None:
            self.assertNotIn(ALERT, [kind for kind, _ in records(answer)])
        elif alert:
            self.assertEqual((kind, body), (ALERT, bytes([2, alert])), text)
        else:
            # A fatal alert, its kind and the tag.
            self.assertEqual((kind, len(body)), (DATA, 2 + 1 + 16), text)


class ServerTests(TracesCase):
    """A Go client, and our server."""

    def begin(self, name: str) -> tuple[End, Peer]:
        more: dict[str, Any] = {}
        if "alpn" in name or "protocol" in name:
            more["alpn"] = ["echo/1"]
        if "sni" in name:
            more["sni"] = {"b.example": self.authority.issue(["b.example"])}
        if "certificate" in name:
            more["trustRoot"] = self.go
        return self.server(policy=serverPolicy(*self.files, **more))

    def test_hellos(self) -> None:
        """Version, protocol and certificate are chosen as the ClientHello allows, however it comes in pieces."""
        for name, version, protocol, subject in (
            ("1.2", TLS12, None, HOST),
            ("1.3", TLS13, None, HOST),
            ("1.2 alpn", TLS12, b"echo/1", HOST),
            ("1.3 alpn", TLS13, b"echo/1", HOST),
            ("1.2 sni", TLS12, None, "b.example"),
            ("1.3 sni", TLS13, None, "b.example"),
            ("1.2 certificate", TLS12, None, HOST),
            ("1.2 in tiny records", TLS12, None, HOST),
            ("1.3 in tiny records", TLS13, None, HOST),
            # With the ticket of another server: no byte of it says that it was taken.
            ("1.2 resumed", TLS12, None, HOST),
            ("1.3 resumed", TLS13, None, HOST),
        ):
            for size in 1, 100, 1 << 20:
                end, peer = self.begin(name)
                said = messages(self.replay(end, peer, flights("client", name)[:1], size))
                hello = said[SERVER_HELLO]
                extensions = extensionsOf(hello, 3)
                chosen = number(extensions.get(SUPPORTED_VERSIONS, hello[:2]))
                self.assertEqual((end.events, chosen), (["made"], version), name)
                self.assertEqual(end.transport.negotiatedProtocol, protocol, name)
                own = end.transport.getHandle().get_certificate(as_cryptography=True)
                self.assertEqual(own.subject.rfc4514_string(), f"CN={subject}", name)
                self.assertNotIn(PRE_SHARED_KEY, extensions)
                if version == TLS12:
                    # All of that in clear.
                    self.assertEqual(extensions.get(ALPN, b"")[3:], protocol or b"")
                    sent = x509.load_der_x509_certificate(said[CERTIFICATE][6:])
                    self.assertEqual(sent, own)
                    self.assertEqual(CERTIFICATE_REQUEST in said, "certificate" in name)

    def test_refusedHellos(self) -> None:
        """A ClientHello that cannot be answered gets its alert."""
        for name, alert, text in (
            ("1.1", 70, "the peer does not speak our versions of TLS"),
            ("no common cipher", 40, "there is no cipher that both sides support"),
            ("no common protocol", 120, "none of the client's application protocols [b'other'] is one of [b'echo/1']"),
            ("1.2 with a wrong version", None, "what the peer sends is not TLS"),
            ("1.3 with a wrong version", None, "what the peer sends is not TLS"),
            ("1.2 with a long record", 22, "data length too long"),
            ("1.3 with a long record", 22, "data length too long"),
        ):
            for size in 1, 1 << 20:
                end, peer = self.begin(name)
                answer = self.replay(end, peer, flights("client", name)[:1], size)
                self.assertRefused(end, answer, alert, text)

    def test_wholeConnections(self) -> None:
        """A recorded connection cannot be replayed; a certificate proves nothing with a signature for other numbers."""
        for name, alert, text in (
            ("1.2", 20, "decryption failed or bad record mac"),
            ("1.3", 0, "decryption failed or bad record mac"),
            ("1.2 alpn", 20, "decryption failed or bad record mac"),
            ("1.2 certificate", 51, "bad signature"),
            ("1.3 certificate", 0, "decryption failed or bad record mac"),
            # It goes on as if its ticket had been taken.
            ("1.2 resumed", 10, "unexpected message"),
            ("1.3 resumed", 0, "decryption failed or bad record mac"),
        ):
            for size in 1, 1 << 20:
                end, peer = self.begin(name)
                answer = self.replay(end, peer, flights("client", name), size)
                self.assertRefused(end, answer, alert, text)

    def test_alert(self) -> None:
        """Go does not know the authority: its alert, in clear, says what it thinks of our certificate."""
        end, peer = self.begin("unknown authority")
        answer = self.replay(end, peer, flights("client", "unknown authority"))
        self.assertRefused(end, answer, None, f"the peer refused our certificate (subject CN={HOST})")
        self.assertIsInstance(end.error, HandshakeError)


class ClientTests(TracesCase):
    """A Go server, and our client, which trusts its authority."""

    def begin(self) -> tuple[End, Peer]:
        return self.client(policy=clientPolicy(HOST, trustRoot=self.go))

    def test_alerts(self) -> None:
        """Why Go's server refuses, in words."""
        for name, text in (
            ("no common cipher", "the peer refused the TLS handshake: there is no common cipher"),
            ("no common protocol", "the peer speaks none of the application protocols (ALPN) that we offered"),
            ("no common version", "the peer does not speak our versions of TLS (1.2 and newer)"),
        ):
            for size in 1, 1 << 20:
                end, peer = self.begin()
                answer = self.replay(end, peer, flights("server", name), size)
                self.assertRefused(end, answer, None, text)
                self.assertIsInstance(end.error, HandshakeError)

    def test_wholeConnections(self) -> None:
        """A recorded server proves nothing, and what was not offered is refused."""
        for name, alert, text in (
            ("1.1", 70, "the peer does not speak our versions of TLS (1.2 and newer)"),
            ("1.2", 51, "bad signature"),
            ("1.2 in tiny records", 51, "bad signature"),
            ("1.2 certificate", 51, "bad signature"),
            ("1.2 sni", 80, "the certificate is for 'b.example', not for 'a.example'"),
            ("1.2 alpn", 110, "unsolicited extension"),
            ("downgraded", 47, "inappropriate fallback"),
            ("1.2 with a long record", 22, "data length too long"),
            ("1.2 with a wrong version", None, "what the peer sends is not TLS"),
            ("1.3", 47, "invalid session id"),
            ("1.3 resumed", 110, "unsolicited extension"),
        ):
            for size in 1, 1 << 20:
                end, peer = self.begin()
                answer = self.replay(end, peer, flights("server", name), size)
                self.assertRefused(end, answer, alert, text)

    def test_ownSessionId(self) -> None:
        """With its own session id in the ServerHello the client derives keys, which do not fit the recorded ones."""
        end, peer = self.begin()
        peer.reads = peer.runs = False
        hello = self.take(peer)
        answer = self.replay(end, peer, [self.withSessionId(flights("server", "1.3")[0], hello)])
        self.assertRefused(end, answer, 20, "decryption failed or bad record mac")

    def test_retry(self) -> None:
        """Go's server asks for a share of another key: the client sends it, and only that."""
        end, peer = self.begin()
        peer.reads = peer.runs = False
        hello = self.take(peer)
        retry, rest = flights("server", "retry")[:2]
        asked = extensionsOf(messages(retry)[SERVER_HELLO], 3)[KEY_SHARE]
        answer = self.replay(end, peer, [self.withSessionId(retry, hello)])
        self.assertEqual(end.events, ["made"])
        again = messages(answer)[1]
        # Between the session id and the extensions: ciphers, each of two bytes, and one compression.
        ciphers = number(again[35 + again[34] :][:2])
        share = extensionsOf(again, 2 + ciphers + 2)[KEY_SHARE]
        self.assertEqual((share[2:4], number(share[4:6]), len(share)), (asked, 97, 2 + 4 + 97))
        answer = self.replay(end, peer, [self.withSessionId(rest, hello)])
        self.assertRefused(end, answer, 20, "decryption failed or bad record mac")

    def withSessionId(self, flight: bytes, hello: bytes) -> bytes:
        return flight[: SESSION_ID.start] + hello[SESSION_ID] + flight[SESSION_ID.stop :]
