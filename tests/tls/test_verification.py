"""The texts for OpenSSL's verification errors: every code has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import SSL, _util
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.python.filepath import FilePath
from zope.interface import implementer

from getty_tx.tls.host import Host
from getty_tx.tls.reasons import describeRefusal
from getty_tx.tls.verification import VERIFY_ERRORS
from tests.tls.test_handshakes import HOST, Pair, TLSTestCase

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

#: Above the codes of all versions of OpenSSL, which count from 1.
BEYOND = 1000


def wordsOfOpenSSL(code: int) -> str:
    """The text of the installed OpenSSL for a code. pyOpenSSL has no public function for it."""
    text: str = _util.ffi.string(_util.lib.X509_verify_cert_error_string(code)).decode("ascii")
    return text


def codesOfOpenSSL() -> set[int]:
    """The codes for which the installed OpenSSL has a text."""
    return {code for code in range(1, BEYOND) if wordsOfOpenSSL(code) != wordsOfOpenSSL(BEYOND)}


def codesOfPyOpenSSL() -> dict[str, int]:
    return {name: code for name, code in vars(SSL.X509VerificationCodes).items() if name.startswith("ERR_")}


@implementer(IOpenSSLServerConnectionCreator)
class WeakServer:
    """A server with a certificate that our policies would refuse to load."""

    def __init__(self, certificate: str, key: str) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        self._context.use_certificate_chain_file(certificate)
        self._context.use_privatekey_file(key)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class RefusalTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.certificate = x509.load_pem_x509_certificate(FilePath(self.serverFiles[0]).getContent())

    def describe(self, code: int) -> str:
        return describeRefusal(Host.parse(HOST), self.certificate, code, 0)

    def test_everyCode(self) -> None:
        """Each code of the installed OpenSSL, of pyOpenSSL, and up to the last known one has a text."""
        codes = codesOfOpenSSL()
        self.assertGreaterEqual(len(codes), 94, "OpenSSL 3.0 has as many")
        for code in sorted(codes.union(codesOfPyOpenSSL().values(), range(1, max(VERIFY_ERRORS) + 1))):
            for depth in 0, 1:
                for host in Host.parse(HOST), None:
                    text = describeRefusal(host, self.certificate, code, depth)
                    self.assertNotIn("OpenSSL code", text, wordsOfOpenSSL(code))
                    self.assertTrue(text.isprintable(), text)
                    self.assertIn("(subject CN=a.example", text)

    def test_form(self) -> None:
        """The text comes before the subject, in one line, without a full stop."""
        for code in range(1, max(VERIFY_ERRORS) + 1):
            words, subject, _ = self.describe(code).rpartition(" (subject ")
            self.assertTrue(subject)
            self.assertTrue(words[-1].isalnum(), words)
            self.assertNotIn("  ", words)
            self.assertLess(len(words), 180, words)

    def test_different(self) -> None:
        """Different codes have different texts, except for those of a missing issuer."""
        codes: dict[str, list[int]] = {}
        for code in range(1, max(VERIFY_ERRORS) + 1):
            codes.setdefault(self.describe(code), []).append(code)
        names = SSL.X509VerificationCodes
        missing = [
            names.ERR_UNABLE_TO_GET_ISSUER_CERT,
            names.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            names.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        ]
        self.assertEqual([same for same in codes.values() if len(same) > 1], [missing])

    def test_numbers(self) -> None:
        """Samples of texts belong to the right code, by pyOpenSSL's names and by OpenSSL's texts."""
        names = SSL.X509VerificationCodes
        for code, word in (
            (names.ERR_CERT_SIGNATURE_FAILURE, "signature is wrong"),
            (names.ERR_CERT_REVOKED, "revoked"),
            (names.ERR_PATH_LENGTH_EXCEEDED, "basicConstraints"),
            (names.ERR_AKID_SKID_MISMATCH, "authorityKeyIdentifier"),
            (names.ERR_PROXY_CERTIFICATES_NOT_ALLOWED, "proxy certificate"),
            (names.ERR_EXCLUDED_VIOLATION, "exclude"),
            (names.ERR_APPLICATION_VERIFICATION, "application"),
            (names.ERR_IP_ADDRESS_MISMATCH, "IP address"),
            (names.ERR_INVALID_CA, "basicConstraints"),
        ):
            self.assertIn(word, VERIFY_ERRORS[code])
        words = {wordsOfOpenSSL(code).lower(): VERIFY_ERRORS.get(code, "") for code in codesOfOpenSSL()}
        for openSSL, word in (
            ("path loop", "leads back to itself"),
            ("ee certificate key too weak", "its key is too weak"),
            ("ca certificate key too weak", "key of this authority is too weak"),
            ("ca signature digest algorithm too weak", "SHA-1"),
            ("ocsp verification failed", "with OCSP"),
            ("issuer name empty", "name of its issuer is empty"),
            ("missing subject key identifier", "no subjectKeyIdentifier"),
            ("certificate public key has explicit ecc parameters", "described and not named"),
        ):
            self.assertIn(word, words[openSSL])

    def test_unknownCode(self) -> None:
        """A code of a later OpenSSL is given as a number."""
        self.assertEqual(
            self.describe(BEYOND),
            f"the certificate of 'a.example' is not acceptable: OpenSSL code {BEYOND} (subject CN=a.example)",
        )

    def test_weakKey(self) -> None:
        """A whole handshake: the server's key has 1024 bits."""
        files = self.authority.issue([HOST], rsaBits=1024)
        self.assertText(
            Pair(self.client(), WeakServer(*files)).client,
            "the certificate of 'a.example' is not acceptable: its key is too weak, such as RSA with less than 2048",
            "(subject CN=a.example)",
        )
