"""A client's host name or IP address, and the check of a certificate for it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from service_identity.hazmat import DNS_ID

from getty_tx.errors import SettingError
from getty_tx.tls.certificates import hostsOf, subjectOf

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Host"]


class Host(NamedTuple):
    """A host: ``name`` as the user wrote it, ``ascii`` as it is sent (SNI) and compared."""

    name: str
    ascii: bytes
    isIP: bool

    @classmethod
    def parse(cls, name: str) -> Host:
        if not isinstance(name, str):
            raise SettingError(f"hostname {name!r} is not a string")
        try:
            # A zone (fe80::1%eth0) matters for routing only; a certificate cannot have one.
            return cls(name, str(ipaddress.ip_address(name.partition("%")[0])).encode("ascii"), True)
        except ValueError:
            pass
        try:
            # The final dot of an absolute name is neither sent nor compared (RFC 6066, section 3).
            ascii = DNS_ID(name.removesuffix(".")).hostname
            if len(ascii) > 253:  # RFC 1035, section 2.3.4, minus the length bytes at both ends
                raise ValueError("longer than a host name can be")
            return cls(name, ascii, False)
        except ValueError as error:
            raise SettingError(f"hostname {name!r} is neither a host name nor an IP address") from error

    def refusal(self, certificate: x509.Certificate) -> str | None:
        """Why ``certificate`` is not valid for this host; None if it is."""
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
