"""
Tests of :py:mod:`getty_tx.tls`: whole handshakes, in memory.
"""

from __future__ import annotations

import contextlib
import gc
import pathlib
import weakref
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.filepath import FilePath
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx.errors import GettyError
from getty_tx.tls import HandshakeError, clientPolicy, explain, serverPolicy
from tests.support.certificates import Authority, selfSigned

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

HOST = "a.example"
LONG_AGO = datetime(2020, 1, 2, 3, 4, tzinfo=UTC)


@implementer(IHandshakeListener)
class Application(Protocol):
    """Greets its peer, and records received bytes and the reason of the end."""

    handshakes = 0
    reason: Failure | None = None
    negotiated: bytes | None = None
    peerNames: str | None = None

    def __init__(self) -> None:
        self.received = b""

    def connectionMade(self) -> None:
        self.transport.write(b"greetings")

    def handshakeCompleted(self) -> None:
        self.handshakes += 1
        self.negotiated = self.transport.negotiatedProtocol

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        certificate = self.transport.getHandle().get_peer_certificate(as_cryptography=True)
        self.peerNames = certificate and certificate.subject.rfc4514_string()

    def connectionLost(self, reason: Failure) -> None:
        assert self.reason is None, "lost twice"
        self.reason = reason


class Pair:
    """A client and a server, connected in memory until both are idle."""

    def __init__(self, clientPolicy: Any, serverPolicy: Any) -> None:
        self.clock = Clock()
        self.client, self.server = Application(), Application()
        clientTLS = self._wrap(clientPolicy, True, self.client)
        serverTLS = self._wrap(serverPolicy, False, self.server)
        self.clientIO = iosim.FakeTransport(clientTLS, isServer=False)
        self.serverIO = iosim.FakeTransport(serverTLS, isServer=True)
        self.pump = iosim.connect(serverTLS, self.serverIO, clientTLS, self.clientIO, clock=self.clock)

    def _wrap(self, policy: Any, isClient: bool, application: Application) -> Any:
        factory = Factory()
        factory.buildProtocol = lambda address: application
        return TLSMemoryBIOFactory(policy, isClient, factory, clock=self.clock).buildProtocol(None)

    @property
    def works(self) -> bool:
        """Data passed in both directions without an error."""
        ends = [(end.received, end.reason, end.handshakes) for end in (self.client, self.server)]
        return ends == [(b"greetings", None, 1)] * 2


class TLSTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        self.authority = Authority(self.directory)
        self.serverFiles = self.authority.issue([HOST, "192.0.2.1", "2001:db8::1"])

    def client(self, hostname: str = HOST, **settings: Any) -> Any:
        settings.setdefault("trustRoot", self.authority.path)
        return clientPolicy(hostname, **settings)

    def server(self, files: tuple[str, str] | None = None, **settings: Any) -> Any:
        certificate, key = files or self.serverFiles
        return serverPolicy(certificate, key, **settings)

    def mutual(self) -> Any:
        return self.server(trustRoot=self.authority.path)

    def file(self, content: bytes) -> str:
        path = self.mktemp()
        FilePath(path).setContent(content)
        return path

    def assertText(self, end: Application, *parts: str) -> None:
        """The application got one explained error, and no data."""
        assert end.reason is not None
        self.assertIsInstance(end.reason.value, HandshakeError)
        self.assertIsInstance(end.reason.value, GettyError)
        self.assertEqual(end.received, b"")
        for part in parts:
            self.assertIn(part, str(end.reason.value))


class ServerCertificateTests(TLSTestCase):
    """Certificates that a client accepts, and errors for those it refuses."""

    def test_trusted(self) -> None:
        """A certificate of a trusted authority for this host is accepted, in any case of the name."""
        self.assertTrue(Pair(self.client(), self.server()).works)
        self.assertTrue(Pair(self.client("A.Example."), self.server()).works)

    def test_address(self) -> None:
        """IP addresses are compared with the addresses in the certificate, and are not sent as a server name."""
        for address in "192.0.2.1", "2001:db8::1", "2001:DB8:0::1":
            pair = Pair(self.client(address), self.server())
            self.assertTrue(pair.works, address)
            self.assertIsNone(pair.server.transport.getHandle().get_servername())
        self.assertText(
            Pair(self.client("192.0.2.2"), self.server()).client,
            "is for 'a.example', '192.0.2.1', '2001:db8::1', not for '192.0.2.2'",
        )

    def test_wrongHost(self) -> None:
        pair = Pair(self.client("b.example"), self.server())
        self.assertText(
            pair.client,
            "the certificate is for 'a.example', '192.0.2.1', '2001:db8::1', not for 'b.example'",
            "(subject CN=a.example)",
        )
        self.assertText(pair.server, "maybe our certificate is for another host name")

    def test_manyHosts(self) -> None:
        """The error for a certificate with hundreds of hosts is short."""
        files = self.authority.issue([f"{number}.example" for number in range(100)])
        self.assertText(Pair(self.client(), self.server(files)).client, "'4.example' and 95 more, not for 'a.example'")

    def test_noHost(self) -> None:
        """A certificate without names is valid for no host, whatever its common name."""
        pair = Pair(self.client("nameless"), self.server(self.authority.issue([])))
        self.assertText(pair.client, "the certificate is not for 'nameless'", "subjectAltName")

    def test_malformedNames(self) -> None:
        """A certificate whose names cannot be parsed is valid for no host."""
        for name, text in (b"\xff\xfe\xfd", "cannot be read"), (b"a.*", "is not for 'a.example'"):
            names = x509.UnrecognizedExtension(
                x509.SubjectAlternativeName.oid, bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
            )
            self.assertText(Pair(self.client(), self.server(self.authority.issue([], extension=names))).client, text)

    def test_internationalName(self) -> None:
        files = self.authority.issue(["xn--bcher-kva.example"])
        pair = Pair(self.client("bücher.example"), self.server(files))
        self.assertTrue(pair.works)
        self.assertEqual(pair.server.transport.getHandle().get_servername(), b"xn--bcher-kva.example")

    def test_expired(self) -> None:
        pair = Pair(self.client(), self.server(self.authority.issue([HOST], notAfter=LONG_AGO)))
        self.assertText(
            pair.client, "the certificate of 'a.example' expired on 2020-01-02 03:04 UTC (subject CN=a.example)"
        )
        self.assertText(pair.server, "the peer refused our certificate (subject CN=a.example): it has expired")

    def test_notYetValid(self) -> None:
        start = datetime.now(UTC) + timedelta(hours=2)
        pair = Pair(self.client(), self.server(self.authority.issue([HOST], notBefore=start)))
        self.assertText(pair.client, f"the certificate of 'a.example' is not valid before {start:%Y-%m-%d %H:%M} UTC")

    def test_selfSigned(self) -> None:
        pair = Pair(self.client(), self.server(selfSigned(self.directory, [HOST])))
        self.assertText(pair.client, "the certificate of 'a.example' is self-signed and not trusted")
        self.assertText(pair.server, "the peer refused our certificate", "does not know the authority")

    def test_selfSignedTrusted(self) -> None:
        """A self-signed certificate is accepted if it is the trust root."""
        files = selfSigned(self.directory, [HOST])
        self.assertTrue(Pair(self.client(trustRoot=files[0]), self.server(files)).works)

    def test_unknownAuthority(self) -> None:
        other = Authority(self.directory, "Other Authority")
        pair = Pair(self.client(trustRoot=other.path), self.server())
        self.assertText(pair.client, "the certificate of 'a.example' is issued by an unknown authority", "CN=Test")
        self.assertText(pair.server, "the peer refused our certificate", "does not know the authority")

    def test_unknownAuthorityInChain(self) -> None:
        """The same if the server also sends the unknown authority's certificate."""
        certificate, key = self.authority.issue([HOST])
        both = self.file(FilePath(certificate).getContent() + FilePath(self.authority.path).getContent())
        client = self.client(trustRoot=Authority(self.directory, "Other Authority").path)
        self.assertText(Pair(client, self.server((both, key))).client, "unknown authority (subject CN=Test Authority)")

    def test_platformTrust(self) -> None:
        """Without a trust root the platform's are used, which do not include our authority."""
        self.assertText(Pair(clientPolicy(HOST), self.server()).client, "unknown authority")

    def test_intermediate(self) -> None:
        """The certificates after the first one in the file are sent as the chain."""
        intermediate = Authority(self.directory, "Between", self.authority)
        self.assertTrue(Pair(self.client(), self.server(intermediate.issue([HOST]))).works)
        pair = Pair(self.client(), self.server(intermediate.issue([HOST], chain=False)))
        self.assertText(pair.client, "or a certificate between them is missing", "issuer CN=Between")

    def test_intermediateExpired(self) -> None:
        intermediate = Authority(self.directory, "Between", self.authority, notAfter=LONG_AGO)
        pair = Pair(self.client(), self.server(intermediate.issue([HOST])))
        self.assertText(pair.client, "an issuer of the certificate of 'a.example' expired on 2020-01-02", "CN=Between")

    def test_wrongPurpose(self) -> None:
        pair = Pair(self.client(), self.server(self.authority.issue([HOST], client=True)))
        self.assertText(pair.client, "it is no server certificate")

    def test_notAnAuthority(self) -> None:
        """For an issuer that must not issue certificates, the error names the issuer."""
        leaf = Authority(self.directory, "Leaf", self.authority, isAuthority=False)
        pair = Pair(self.client(), self.server(leaf.issue([HOST])))
        self.assertText(
            pair.client,
            "an issuer of the certificate of 'a.example' is not acceptable: its basicConstraints or its keyUsage",
        )

    def test_unprintable(self) -> None:
        """A peer cannot inject lines into our log."""
        files = self.authority.issue(["b.example"], commonName="b\nERROR everything is lost")
        reason = Pair(self.client(), self.server(files)).client.reason
        assert reason is not None
        self.assertTrue(str(reason.value).isprintable())
        self.assertIn("ERROR everything is lost", str(reason.value))
        reason = Pair(self.client(alpn=["x" * 200, "y" * 200]), self.server(alpn=["z"])).server.reason
        assert reason is not None
        self.assertLess(len(str(reason.value)), 300)

    def test_verifyOff(self) -> None:
        """verify=False accepts any certificate, and logs one warning when the policy is made."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        client = clientPolicy("anybody.example", verify=False)
        for _ in range(2):
            self.assertTrue(Pair(client, self.server(selfSigned(self.directory, [HOST]))).works)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual([event["host"] for event in warnings], ["anybody.example"])

    def test_reasonIsFromOpenSSL(self) -> None:
        """OpenSSL's error is the cause, and code that catches OpenSSL's errors catches ours."""
        reason = Pair(self.client("b.example"), self.server()).client.reason
        assert reason is not None
        self.assertIsInstance(reason.value, SSL.Error)
        self.assertIn("certificate verify failed", str(reason.value.__cause__))


class ClientCertificateTests(TLSTestCase):
    """Mutual TLS: errors of a server with a trust root."""

    def clientWith(self, files: tuple[str, str]) -> Any:
        return self.client(certificate=files[0], privateKey=files[1])

    def test_accepted(self) -> None:
        pair = Pair(self.clientWith(self.authority.issue(["me"], client=True)), self.mutual())
        self.assertTrue(pair.works)
        self.assertEqual(pair.server.peerNames, "CN=me")

    def test_notAsked(self) -> None:
        """Without a trust root clients are not asked for a certificate."""
        pair = Pair(self.clientWith(self.authority.issue(["me"], client=True)), self.server())
        self.assertTrue(pair.works)
        self.assertIsNone(pair.server.peerNames)

    def test_missing(self) -> None:
        """The client also learns the reason, although its handshake was complete before (TLS 1.3)."""
        pair = Pair(self.client(), self.mutual())
        self.assertText(pair.server, "the client sent no certificate, and one is required")
        self.assertText(pair.client, "the peer requires a certificate, and we sent none")
        self.assertEqual((pair.client.handshakes, pair.server.handshakes), (1, 0))

    def test_missingInTLS12(self) -> None:
        """TLS 1.2 has no alert for a missing certificate."""
        options = ssl.CertificateOptions(lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2)
        pair = Pair(options, self.mutual())
        self.assertText(pair.server, "the client sent no certificate, and one is required")
        assert pair.client.reason is not None
        self.assertIn("or it requires a certificate and we sent none", str(explain(pair.client.reason.value)))

    def test_otherAuthority(self) -> None:
        other = Authority(self.directory, "Other Authority")
        pair = Pair(self.clientWith(other.issue(["me"], client=True)), self.mutual())
        self.assertText(pair.server, "the client's certificate is issued by an unknown authority", "issuer CN=Other")
        self.assertText(pair.client, "the peer refused our certificate (subject CN=me): it does not know the authority")

    def test_expired(self) -> None:
        pair = Pair(self.clientWith(self.authority.issue(["me"], client=True, notAfter=LONG_AGO)), self.mutual())
        self.assertText(pair.server, "the client's certificate expired on 2020-01-02 03:04 UTC (subject CN=me)")
        self.assertText(pair.client, "the peer refused our certificate (subject CN=me): it has expired")

    def test_selfSigned(self) -> None:
        pair = Pair(self.clientWith(selfSigned(self.directory, ["me"])), self.mutual())
        self.assertText(pair.server, "the client's certificate is self-signed and not trusted (subject CN=me)")

    def test_wrongPurpose(self) -> None:
        pair = Pair(self.clientWith(self.serverFiles), self.mutual())
        self.assertText(pair.server, "it is no client certificate")
        self.assertText(pair.client, "it does not support its kind")

    def test_oneFile(self) -> None:
        """Certificate, chain and private key may be in one file."""
        certificate, key = Authority(self.directory, "Between", self.authority).issue(["me"], client=True)
        together = self.file(FilePath(key).getContent() + FilePath(certificate).getContent())
        self.assertTrue(Pair(self.client(certificate=together), self.mutual()).works)

    def test_trustRootForms(self) -> None:
        """A trust root is a file with any number of certificates, a directory of them, or an object of Twisted's."""
        other = Authority(self.mktemp(), "Other Authority")
        several = self.file(FilePath(other.path).getContent() + FilePath(self.authority.path).getContent())
        directory = FilePath(self.mktemp())
        directory.makedirs()
        for name, path in ("a.pem", other.path), ("b.pem", self.authority.path):
            FilePath(path).copyTo(directory.child(name))
        directory.child("README").setContent(b"no certificate")
        single = ssl.Certificate.loadPEM(FilePath(self.authority.path).getContent())
        for trustRoot in (
            several,
            pathlib.Path(several),
            directory.path,
            single,
            ssl.trustRootFromCertificates([single]),
        ):
            self.assertTrue(Pair(self.client(trustRoot=trustRoot), self.server()).works, trustRoot)


class NegotiationTests(TLSTestCase):
    """ALPN, SNI, and peers that do not speak TLS."""

    def test_alpn(self) -> None:
        """The server's preference decides."""
        pair = Pair(self.client(alpn=["one", b"two"]), self.server(alpn=["two", "one"]))
        self.assertTrue(pair.works)
        self.assertEqual((pair.client.negotiated, pair.server.negotiated), (b"two", b"two"))

    def test_alpnOneSided(self) -> None:
        """If one side has no protocols, the connection works without one."""
        for client, server in (["one"], []), ([], ["one"]):
            pair = Pair(self.client(alpn=client), self.server(alpn=server))
            self.assertTrue(pair.works)
            self.assertEqual((pair.client.negotiated, pair.server.negotiated), (None, None))

    def test_alpnMismatch(self) -> None:
        pair = Pair(self.client(alpn=["one"]), self.server(alpn=["two"]))
        self.assertText(pair.server, "none of the client's application protocols [b'one'] is one of [b'two']")
        self.assertText(pair.client, "the peer speaks none of the application protocols (ALPN) that we offered")

    def test_sni(self) -> None:
        """The client's server name selects the certificate; other settings, such as ALPN, stay the same."""
        issue = self.authority.issue
        server = self.server(
            sni={"b.example": issue(["b.example"]), "*.c.example": issue(["*.c.example"])},
            alpn=["one"],
            trustRoot=self.authority.path,
        )
        certificate, key = issue(["me"], client=True)
        mutual = {"certificate": certificate, "privateKey": key, "alpn": ["one"]}
        for host, subject in (
            ("a.example", "CN=a.example"),
            ("B.example", "CN=b.example"),
            ("x.c.example", "CN=*.c.example"),
            ("192.0.2.1", "CN=a.example"),
        ):
            pair = Pair(self.client(host, **mutual), server)
            self.assertTrue(pair.works, host)
            self.assertEqual((pair.client.peerNames, pair.server.peerNames), (subject, "CN=me"))
            self.assertEqual(pair.client.negotiated, b"one")
        self.assertText(Pair(self.client("b.example"), server).server, "the client sent no certificate")
        self.assertText(Pair(self.client("y.x.c.example", **mutual), server).client, "certificate is for 'a.example'")

    def test_versions(self) -> None:
        """TLS 1.2 is the oldest supported version."""
        for newest, works in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
            old = ssl.CertificateOptions(insecurelyLowerMinimumTo=ssl.TLSVersion.TLSv1_0, lowerMaximumSecurityTo=newest)
            self.assertEqual(Pair(old, self.server()).works, works)

    def test_garbage(self) -> None:
        """Either side reports data that is not TLS."""
        for bytes, text in (
            (b"220 mail ready\r\n", "what the peer sends is not TLS"),
            (b"GET / HTTP/1.1\r\n", "is not TLS but an HTTP request"),
        ):
            for policy, isClient in (self.client(), True), (self.server(), False):
                end = self.alone(policy, isClient, lambda tls, data=bytes: tls.dataReceived(data))
                self.assertText(end, text)

    def test_endInHandshake(self) -> None:
        """A connection that closes during the handshake has its own error."""
        for policy, isClient in (self.client(), True), (self.server(), False):
            self.assertText(self.alone(policy, isClient), "the connection closed before the TLS handshake was done")

    def alone(self, policy: Any, isClient: bool, happens: Callable[[Any], object] = lambda tls: None) -> Application:
        """One side without a peer, after ``happens`` and the end of its connection."""
        application = Application()
        factory = Factory()
        factory.buildProtocol = lambda address: application
        tls: Any = TLSMemoryBIOFactory(policy, isClient, factory, clock=Clock()).buildProtocol(None)
        transport = iosim.FakeTransport(tls, isServer=not isClient)
        tls.makeConnection(transport)
        happens(tls)
        transport.reportDisconnect()
        return application

    def test_ends(self) -> None:
        """The end of an established connection is ConnectionDone or ConnectionLost, as in Twisted's TLS."""
        pair = Pair(self.client(), self.server())
        pair.client.transport.loseConnection()
        pair.pump.flush()
        for end in pair.client, pair.server:
            assert end.reason is not None
            self.assertIsInstance(end.reason.value, ConnectionDone)
        pair = Pair(self.client(), self.server())
        pair.clientIO.disconnecting = True
        pair.pump.flush()
        assert pair.server.reason is not None
        self.assertIsInstance(pair.server.reason.value, ConnectionLost)

    def test_noCycle(self) -> None:
        """Connections are freed with their last reference, without the garbage collector; the policy keeps none."""
        client, server = self.client(), self.server()
        gc.disable()
        self.addCleanup(gc.enable)
        ends = [client.clientConnectionForTLS(None), server.serverConnectionForTLS(None)]
        ends[0].set_connect_state()
        ends[1].set_accept_state()
        for _ in range(4):
            for one, other in ends, ends[::-1]:
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(2**16))
        self.assertEqual([end.established for end in ends], [True, True])
        references = [weakref.ref(end) for end in ends]
        del ends, one, other
        self.assertEqual([reference() for reference in references], [None, None])
