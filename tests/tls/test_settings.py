"""explain() for other policies, and errors of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone
from twisted.python.filepath import FilePath

from getty_tx.errors import SettingError
from getty_tx.tls import HandshakeError, clientPolicy, explain, serverPolicy

if TYPE_CHECKING:
    from collections.abc import Callable


from tests.tls.test_handshakes import HOST, LONG_AGO, Application, Pair, TLSTestCase


class ExplainTests(TLSTestCase):
    """explain(), for connections with other policies."""

    def explained(self, end: Application) -> str:
        assert end.reason is not None
        error = explain(end.reason.value)
        self.assertIsInstance(error, HandshakeError)
        self.assertIs(error.__cause__, end.reason.value)
        return str(error)

    def test_twistedPolicies(self) -> None:
        """Errors of Twisted's policies are explained as far as their details allow."""
        trust = ssl.Certificate.loadPEM(FilePath(self.authority.path).getContent())
        client = ssl.optionsForClientTLS("b.example", trustRoot=trust)
        self.assertEqual(
            self.explained(Pair(client, self.server()).client), "the peer's certificate is not for 'b.example'"
        )
        client = ssl.optionsForClientTLS("192.0.2.7", trustRoot=trust)
        self.assertEqual(
            self.explained(Pair(client, self.server()).client), "the peer's certificate is not for '192.0.2.7'"
        )
        client = ssl.optionsForClientTLS(HOST)
        self.assertEqual(
            self.explained(Pair(client, self.server()).client), "the peer's certificate could not be verified"
        )
        client = ssl.optionsForClientTLS(HOST, trustRoot=trust)
        self.assertEqual(
            self.explained(Pair(client, self.mutual()).client), "the peer requires a certificate, and we sent none"
        )
        certificate, key = (FilePath(path).getContent() for path in self.authority.issue([HOST], notAfter=LONG_AGO))
        server = ssl.CertificateOptions(
            certificate=x509.load_pem_x509_certificate(certificate), privateKey=load_pem_private_key(key, None)
        )
        self.assertEqual(
            self.explained(Pair(self.client(), server).server),
            "the peer refused our certificate: it has expired or is not valid yet",
        )

    def test_namesOfAlerts(self) -> None:
        """The names of alerts in all versions of OpenSSL are known."""
        for prefix in "sslv3 alert", "tlsv1 alert", "ssl/tls alert", "tls alert", "tlsv13 alert":
            error = explain(SSL.Error([("SSL routines", "", f"{prefix} unknown ca")]))
            self.assertIn("does not know the authority", str(error))
        error = explain(SSL.Error([("SSL routines", "", "tlsv1 unrecognized name")]))
        self.assertIn("no certificate for the host name", str(error))
        error = explain(SSL.Error([("SSL routines", "", "tlsv1 alert user cancelled")]))
        self.assertEqual(str(error), "the peer ended TLS with the alert 'user cancelled'")

    def test_endOfFile(self) -> None:
        for error in (
            SSL.SysCallError(-1, "Unexpected EOF"),
            SSL.Error([("SSL routines", "", "unexpected eof while reading")]),
            SSL.Error([]),
        ):
            self.assertIn("closed before TLS was shut down", str(explain(error)))

    def test_unchanged(self) -> None:
        """Other errors, explained errors and unknown errors are returned unchanged."""
        for error in (
            ConnectionDone(),
            KeyboardInterrupt(),
            HandshakeError("the peer is asleep"),
            SSL.Error([("SSL routines", "", "decryption failed or bad record mac")]),
            SSL.Error(),
            SSL.WantReadError(),
            SSL.ZeroReturnError(),
            SSL.SysCallError(104, "ECONNRESET"),
        ):
            self.assertIs(explain(error), error)


class SettingTests(TLSTestCase):
    """Invalid settings are errors at construction that name the setting and the file."""

    def assertRefused(self, text: str, policy: Callable[[], object], path: str = "") -> None:
        error = self.assertRaises(SettingError, policy)
        self.assertIn(text, str(error))
        self.assertIn(repr(path) if path else "", str(error))

    def test_missingFile(self) -> None:
        path = self.mktemp()
        self.assertRefused("No such file", lambda: serverPolicy(path), path)
        self.assertRefused("No such file", lambda: serverPolicy(self.serverFiles[0], path), path)
        self.assertRefused("No such file", lambda: self.server(trustRoot=path), path)
        self.assertRefused("No such file", lambda: clientPolicy(HOST, trustRoot=path), path)
        self.assertRefused("No such file", lambda: self.server(sni={"b.example": (path, None)}), path)

    def test_noCertificate(self) -> None:
        """A server needs a certificate."""
        _, key = self.serverFiles
        self.assertRefused("holds no certificate", lambda: serverPolicy(key, key), key)
        self.assertRefused("holds no certificate", lambda: self.client(trustRoot=key), key)
        self.assertRefused("without a certificate", lambda: self.client(privateKey=key), key)
        empty = self.mktemp()
        FilePath(empty).makedirs()
        self.assertRefused("without .pem files", lambda: self.client(trustRoot=empty), empty)

    def test_damaged(self) -> None:
        certificate, key = self.serverFiles
        bad = self.file(FilePath(certificate).getContent().replace(b"M", b"!"))
        self.assertRefused("holds a damaged certificate", lambda: serverPolicy(bad, key), bad)
        bad = self.file(FilePath(key).getContent().replace(b"M", b"!"))
        self.assertRefused("holds a damaged private key", lambda: serverPolicy(certificate, bad), bad)

    def test_noKey(self) -> None:
        certificate, _ = self.serverFiles
        self.assertRefused("holds no private key", lambda: serverPolicy(certificate), certificate)
        self.assertRefused("holds no private key", lambda: self.client(certificate=certificate), certificate)

    def test_encryptedKey(self) -> None:
        certificate, key = self.serverFiles
        secret = load_pem_private_key(FilePath(key).getContent(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        path = self.file(secret)
        self.assertRefused("is encrypted", lambda: serverPolicy(certificate, path), path)

    def test_otherKey(self) -> None:
        certificate, _ = self.serverFiles
        _, key = self.authority.issue([HOST])
        self.assertRefused("does not belong to the certificate", lambda: serverPolicy(certificate, key), key)
        self.assertRefused("does not belong to the certificate", lambda: serverPolicy(certificate, key), certificate)

    def test_weakKey(self) -> None:
        """Files that OpenSSL refuses are an error at construction."""
        files = self.authority.issue([HOST], rsaBits=1024)
        self.assertRefused("ee key too small", lambda: self.server(files), files[0])

    def test_names(self) -> None:
        for name in "", "a b", "a.example:443", "x" * 254:
            self.assertRefused(f"hostname {name!r}", lambda name=name: clientPolicy(name))
        self.assertRefused("is an IP address", lambda: self.server(sni={"192.0.2.1": self.serverFiles}))
        self.assertRefused("hostname ''", lambda: self.server(sni={"*.": self.serverFiles}))

    def test_trustRoot(self) -> None:
        self.assertRefused("neither a path nor a trust root", lambda: self.client(trustRoot=17))
        self.assertRefused("contradict", lambda: self.client(verify=False))

    def test_alpn(self) -> None:
        self.assertRefused("not 'h2'", lambda: self.client(alpn="h2"))
        self.assertRefused("1 to 255 bytes, not 0", lambda: self.server(alpn=[""]))
        self.assertRefused("1 to 255 bytes, not 256", lambda: self.server(alpn=["x" * 256]))
