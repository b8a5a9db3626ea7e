"""
Words for OpenSSL's verification errors, by code.

The codes are the ``X509_V_ERR_*`` of OpenSSL 3.0 to 4.0 (``include/openssl/x509_vfy.h``). OpenSSL has texts for them,
``X509_verify_cert_error_string`` (``crypto/x509/x509_txt.c``), but pyOpenSSL does not export that function, and its
``X509VerificationCodes`` name only some of the codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERIFY_ERRORS"]

#: Texts that follow "the certificate of 'a.example' is not acceptable:"; "it" is that certificate. ``describeRefusal``
#: handles the other codes, with details of the certificate.
VERIFY_ERRORS: Mapping[int, str] = {
    1: "OpenSSL failed, and does not say why",
    3: "no revocation list (CRL) was found for it",
    4: "its signature cannot be decrypted",
    5: "the signature of the revocation list (CRL) cannot be decrypted",
    6: "its public key cannot be read",
    7: "its signature is wrong: it was altered, or another key has signed it",
    8: "the signature of the revocation list (CRL) is wrong",
    11: "the revocation list (CRL) is not valid yet; maybe our clock is behind",
    12: "the revocation list (CRL) has expired, and a newer one is needed",
    13: "the time in its notBefore cannot be read",
    14: "the time in its notAfter cannot be read",
    15: "the time in the lastUpdate of the revocation list (CRL) cannot be read",
    16: "the time in the nextUpdate of the revocation list (CRL) cannot be read",
    17: "there is not enough memory to verify it",
    22: "the chain of certificates up to it is too long",
    23: "it was revoked, and has to be replaced",
    24: "its issuer has no public key",
    25: "there are more authorities below it than its basicConstraints allow",
    27: "our trust root does not trust it for this purpose",
    28: "our trust root rejects it for this purpose",
    # The certificate that was found for an issuer does not fit.
    29: "its issuer has another name",
    30: "its authorityKeyIdentifier names another key than its issuer's",
    31: "its authorityKeyIdentifier has another name or serial number than its issuer's",
    32: "its keyUsage lacks keyCertSign, so that it must not issue certificates",
    33: "the issuer of the revocation list (CRL) was not found",
    34: "it has a critical extension that OpenSSL does not know",
    35: "the issuer of the revocation list (CRL) must not sign one: its keyUsage lacks cRLSign",
    36: "the revocation list (CRL) has a critical extension that OpenSSL does not know",
    37: "it is an authority's, where none is expected",
    38: "there are more proxy certificates below it than it allows",
    39: "its keyUsage lacks digitalSignature, so that it must not issue proxy certificates",
    40: "it is a proxy certificate (RFC 3820), and these are not allowed",
    41: "one of its extensions is malformed or contradicts another",
    42: "its certificate policies are malformed or contradict another extension",
    43: "it is issued under no explicit policy, and one is required",
    44: "the revocation lists (CRL) that were found do not cover it",
    45: "one of its extensions has a feature that OpenSSL does not support",
    46: "it claims IP addresses or AS numbers (RFC 3779) that its issuer does not have",
    47: "an issuer's nameConstraints do not permit one of its names",
    48: "an issuer's nameConstraints exclude one of its names",
    49: "an issuer's nameConstraints have a minimum or maximum, which OpenSSL does not support",
    50: "the application refused it",
    51: "an issuer's nameConstraints are for a kind of name that OpenSSL does not support",
    52: "an issuer's nameConstraints are malformed, or in a form that OpenSSL does not support",
    53: "one of its names is malformed, or in a form that OpenSSL does not support",
    54: "the issuer of the revocation list (CRL) could not be verified",
    55: "the chain of its issuers leads back to itself",
    # Suite B mode (RFC 6460).
    56: "it is not of version 3, which Suite B requires",
    57: "its key is not one for elliptic curves, which Suite B requires",
    58: "its key is on a curve that Suite B does not have",
    59: "its signature is of an algorithm that Suite B does not have",
    60: "its key is on a curve that the required level of Suite B does not allow",
    61: "its key is on P-384 and its issuer's on P-256, which Suite B does not allow",
    # Names, if OpenSSL is told to compare them.
    62: "it is for another host name",
    63: "it is for another email address",
    64: "it is for another IP address",
    65: "no TLSA record (DANE) is for it",
    # Security levels, SSL_CTX_set_security_level(3). OpenSSL's default is 2 from 3.2 on, which asks for 112 bits.
    66: "its key is too weak, such as RSA with less than 2048 bits; it has to be issued again for a stronger one",
    67: "the key of this authority is too weak, such as RSA with less than 2048 bits",
    68: "it is signed with a digest that is too weak, such as SHA-1; it has to be issued again with SHA-256 or better",
    69: "OpenSSL was not given what it needs to verify it",
    70: "the trust root could not be searched for its issuer",
    71: "it has no valid timestamps of Certificate Transparency (SCT), and they are required",
    72: "its subject is not that of its issuer with a common name added, as a proxy certificate's must be",
    73: "it has to be verified with OCSP",
    74: "it could not be verified with OCSP",
    75: "the OCSP responder does not know it",
    76: "its signature is of an algorithm that OpenSSL does not know",
    77: "its signature is of another algorithm than the key of its issuer",
    78: "it names two different algorithms for its signature",
    79: "its basicConstraints or its keyUsage do not let it issue certificates",
    # Strict verification (X509_V_FLAG_X509_STRICT), by RFC 5280, sections 4.1.2 and 4.2.1.
    80: "it has a path length in its basicConstraints, but is no authority's",
    81: "it has a path length in its basicConstraints, but its keyUsage lacks keyCertSign",
    82: "it has keyCertSign in its keyUsage, but is no authority's",
    83: "the name of its issuer is empty",
    84: "its subject is empty",
    85: "it has no authorityKeyIdentifier",
    86: "it has no subjectKeyIdentifier",
    87: "its subjectAltName is empty",
    88: "its subject is empty, and its subjectAltName is not marked critical",
    89: "its basicConstraints are not marked critical, as an authority's must be",
    90: "its authorityKeyIdentifier is marked critical, which it must not be",
    91: "its subjectKeyIdentifier is marked critical, which it must not be",
    92: "it has no keyUsage, as an authority's must have",
    93: "it has extensions, but is not of version 3",
    94: "its key is on an elliptic curve that is described and not named",
    95: "it is a raw public key, and none is trusted",
    # OCSP responses that came with the certificate.
    96: "the OCSP response for it cannot be used",
    97: "the signature of the OCSP response for it is wrong",
    98: "the OCSP response for it is not valid yet; maybe our clock is behind",
    99: "the OCSP response for it has expired",
    100: "there is no OCSP response for it",
    101: "the revocation list (CRL) could not be verified",
    102: "its authorityKeyIdentifier is empty",
    103: "its authorityKeyIdentifier has the issuer or the serial number, but not both",
}
