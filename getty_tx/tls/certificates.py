"""Load certificates, keys, trust roots and protocol names for OpenSSL, and describe certificates for texts."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Path: TypeAlias = str | os.PathLike[str]

__all__ = ["Identity", "alpnNames", "hostsOf", "loadTrustRoot", "platformTrustRoot", "printable", "subjectOf"]

# Twisted gives these two no types.
platformTrustRoot: Callable[[], object] = platformTrust
_trustRootFrom: Callable[[list[Certificate]], object] = trustRootFromCertificates


class Identity(NamedTuple):
    """A certificate, its private key, and the intermediate certificates up to the authority."""

    path: str
    certificate: x509.Certificate
    privateKey: object
    chain: list[x509.Certificate]

    @classmethod
    def load(cls, certificate: Path, privateKey: Path | None) -> Identity:
        path = _path("certificate", certificate)
        leaf, *chain = _loadCertificates("certificate", path)
        keyPath = path if privateKey is None else _path("privateKey", privateKey)
        data = _read("privateKey", keyPath)
        try:
            key = load_pem_private_key(data, None)
        except TypeError as error:
            raise SettingError(f"privateKey {keyPath!r} is encrypted: decrypt it into a protected file") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            problem = "holds a damaged private key" if b"PRIVATE KEY-----" in data else "holds no private key (PEM)"
            raise SettingError(f"privateKey {keyPath!r} {problem}: {error}") from error
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
            raise SettingError(
                f"privateKey {keyPath!r} does not belong to the certificate in {path!r}, the first one in it"
                f" ({subjectOf(leaf)})"
            )
        return cls(path, leaf, key, chain)


def loadTrustRoot(trustRoot: Path | object) -> object:
    """Twisted's trust root for a user's setting: a file, a directory, or a trust root."""
    if not isinstance(trustRoot, (str, os.PathLike)):
        try:
            CertificateOptions(trustRoot=cast("Any", trustRoot))
        except TypeError as error:
            raise SettingError(f"trustRoot {trustRoot!r} is neither a path nor a trust root of Twisted") from error
        return trustRoot
    path = os.fspath(trustRoot)
    files = [path]
    if os.path.isdir(path):
        # As in Twisted's tls: endpoint.
        files = sorted(glob.glob(os.path.join(glob.escape(path), "*.pem")))
        if not files:
            raise SettingError(f"trustRoot {path!r} is a directory without .pem files")
    certificates = [each for file in files for each in _loadCertificates("trustRoot", file)]
    return _trustRootFrom([Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in certificates])


def _path(setting: str, path: Path) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise SettingError(f"{setting} {path!r} is not a path")
    return os.fspath(path)


def _loadCertificates(setting: str, path: str) -> list[x509.Certificate]:
    data = _read(setting, path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        problem = "holds a damaged certificate" if b"-----BEGIN CERTIFICATE" in data else "holds no certificate (PEM)"
        raise SettingError(f"{setting} {path!r} {problem}: {error}") from error


def _read(setting: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except PermissionError as error:
        # A sub-reactor may run as another user than the process that started it.
        raise SettingError(f"{setting} {path!r} cannot be read by user id {os.geteuid()}: {error.strerror}") from error
    except OSError as error:
        raise SettingError(f"{setting} {path!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingError(f"{setting} {path!r} cannot be read: {error}") from error


def alpnNames(names: Iterable[str | bytes]) -> list[bytes]:
    """Check application protocol names and encode them in UTF-8."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise SettingError(f"alpn is a sequence of protocol names, not {names!r}")
    encoded = [name.encode("utf-8") if isinstance(name, str) else name for name in names]
    for name in encoded:
        if not isinstance(name, bytes):
            raise SettingError(f"alpn: {name!r} is no protocol name")
        if not 1 <= len(name) <= 255:  # RFC 7301, section 3.1
            raise SettingError(f"alpn: a protocol name has 1 to 255 bytes, not {len(name)}")
    return encoded


# Descriptions for texts


def subjectOf(certificate: x509.Certificate) -> str:
    """The subject of a certificate."""
    return f"subject {printable(certificate.subject.rfc4514_string()) or 'empty'}"


def hostsOf(certificate: x509.Certificate) -> str:
    """The hosts of a certificate, the first five by name."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    shown = ", ".join(repr(printable(host)) for host in hosts[:5])
    return f"{shown} and {len(hosts) - 5} more" if len(hosts) > 5 else shown or "no host"


def printable(text: str) -> str:
    """A peer's text, such as a name in its certificate, made safe and short for one line of a log."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 200 else text[:200] + "..."
