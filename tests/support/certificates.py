"""
Certificates for the tests, generated when they run: nothing secret or expiring is stored.

::

    authority = Authority(self.mktemp())
    certificate, key = authority.issue(["a.example"])
    serverPolicy(certificate, key)
    clientPolicy("a.example", trustRoot=authority.path)

Keys are elliptic (P-256), which are generated in a fraction of a millisecond.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Authority", "selfSigned"]

_numbers = count(1)


class Authority:
    """
    A certificate authority.

    :ivar path: the PEM file of its certificate, for ``trustRoot``.
    :ivar parent: the authority that issued its certificate; ``None`` for a root.
    :ivar name: its subject.
    :ivar key: its private key.
    :ivar certificate: its certificate.
    :param directory: the directory of its files, created if missing.
    :param parent: the issuing authority, for an intermediate authority.
    :param isAuthority: ``False`` to issue certificates without being allowed to.
    """

    def __init__(
        self,
        directory: str,
        name: str = "Test Authority",
        parent: Authority | None = None,
        notAfter: datetime | None = None,
        isAuthority: bool = True,
    ) -> None:
        self._directory = directory
        self.parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        issuer, issuerKey = (parent.name, parent.key) if parent else (self.name, self.key)
        self.certificate = (
            _builder(self.name, issuer, self.key, None, notAfter, issuerKey)
            .add_extension(x509.BasicConstraints(ca=isAuthority, path_length=None), critical=True)
            .add_extension(_usage(isAuthority), critical=True)
            .sign(issuerKey, hashes.SHA256())
        )
        self.path = _write(directory, "authority", _pem(self.certificate))

    def issue(
        self,
        names: Sequence[str],
        *,
        notBefore: datetime | None = None,
        notAfter: datetime | None = None,
        client: bool = False,
        chain: bool = True,
        commonName: str | None = None,
        rsaBits: int = 0,
        extension: x509.ExtensionType | None = None,
    ) -> tuple[str, str]:
        """
        Issue a certificate, by default valid from yesterday until tomorrow.

        :param names: its host names and IP addresses; the first one is its common name too. The list may be empty.
        :param client: for a client; otherwise for a server (extended key usage).
        :param chain: the file has the certificates of intermediate authorities too.
        :param commonName: its common name, if not the first of ``names``.
        :param rsaBits: use an RSA key of this length, which is slow to generate.
        :param extension: one more extension.
        :return: the paths of the certificate and of its private key.
        """
        key = rsa.generate_private_key(65537, rsaBits) if rsaBits else ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        subject = _name(commonName or [*names, "nameless"][0])
        builder = _builder(subject, self.name, key, notBefore, notAfter, self.key)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(_hosts(names)), critical=False)
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        data = _pem(builder.sign(self.key, hashes.SHA256()))
        above: Authority | None = self
        while chain and above is not None and above.parent is not None:
            data += _pem(above.certificate)
            above = above.parent
        return _write(self._directory, "certificate", data), _write(self._directory, "key", _keyPEM(key))


def selfSigned(directory: str, names: Sequence[str]) -> tuple[str, str]:
    """Make a self-signed certificate; returns the paths of it and of its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(names[0]), _name(names[0]), key, None, None)
    certificate = builder.add_extension(x509.SubjectAlternativeName(_hosts(names)), critical=False).sign(
        key, hashes.SHA256()
    )
    return _write(directory, "selfsigned", _pem(certificate)), _write(directory, "key", _keyPEM(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    notBefore: datetime | None,
    notAfter: datetime | None,
    issuerKey: ec.EllipticCurvePrivateKey | None = None,
) -> x509.CertificateBuilder:
    """With the identifiers of both keys, which Python wants from 3.13 on (VERIFY_X509_STRICT)."""
    now = datetime.now(UTC)
    notAfter = notAfter or now + timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(notBefore or min(now, notAfter) - timedelta(days=1))
        .not_valid_after(notAfter)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuerKey or key).public_key()), critical=False
        )
    )


def _usage(isAuthority: bool) -> x509.KeyUsage:
    """What an authority's key may be used for, or that of one that is none."""
    uses = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    signs = {"key_cert_sign": isAuthority, "crl_sign": isAuthority, "digital_signature": True, "decipher_only": False}
    return x509.KeyUsage(**uses, **signs)


def _name(commonName: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, commonName)])


def _hosts(names: Sequence[str]) -> list[x509.GeneralName]:
    hosts: list[x509.GeneralName] = []
    for name in names:
        try:
            hosts.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            hosts.append(x509.DNSName(name))
    return hosts


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _keyPEM(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(directory: str, kind: str, data: bytes) -> str:
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"{kind}-{next(_numbers)}.pem")
    with open(path, "wb") as file:
        file.write(data)
    return path
