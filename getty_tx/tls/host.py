"""The host that a client wants to reach, and whether a certificate is one for it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from service_identity.hazmat import DNS_ID

from getty_tx.errors import SettingError
from getty_tx.tls.reasons import hostsOf, subjectOf

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Host"]


class Host(NamedTuple):
    """A host as its user wrote it, and as it is sent and compared."""

    name: str
    ascii: bytes
    isIP: bool

    @classmethod
    def parse(cls, name: str) -> Host:
        if not isinstance(name, str):
            raise SettingError(f"hostname {name!r} is not a string")
        try:
            # A zone (fe80::1%eth0) matters to the route alone, no certificate can have it.
            return cls(name, str(ipaddress.ip_address(name.partition("%")[0])).encode("ascii"), True)
        except ValueError:
            pass
        try:
            # The final dot of an absolute name is neither sent nor compared (RFC 6066, section 3).
            ascii = DNS_ID(name.removesuffix(".")).hostname
            if len(ascii) > 253:  # RFC 1035, section 2.3.4, less the length bytes at both ends
                raise ValueError("longer than a host name can be")
            return cls(name, ascii, False)
        except ValueError as error:
            raise SettingError(f"hostname {name!r} is neither a host name nor an IP address") from error

    def refusal(self, certificate: x509.Certificate) -> str | None:
        """Why ``certificate`` is not one for this host."""
        try:
            if self.isIP:
                verify_certificate_ip_address(certificate, self.ascii.decode("ascii"))
            else:
                verify_certificate_hostname(certificate, self.ascii.decode("ascii"))
        except VerificationError:
            return f"the certificate is for {hostsOf(certificate)}, not for {self.name!r} ({subjectOf(certificate)})"
        except CertificateError as error:
            return f"the certificate is not for {self.name!r}: {error} ({subjectOf(certificate)})"
        return None
