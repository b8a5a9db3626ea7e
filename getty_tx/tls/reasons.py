"""Texts for TLS errors: turn OpenSSL's codes and alerts into a :py:class:`HandshakeError`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol

from OpenSSL import SSL
from service_identity import VerificationError

from getty_tx.errors import GettyError
from getty_tx.tls.certificates import printable, subjectOf
from getty_tx.tls.verification import VERIFY_ERRORS

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from getty_tx.tls.host import Host

__all__ = ["HandshakeError", "describe", "describeRefusal", "explain", "isEndOfFile", "isLost", "whose"]


class HandshakeError(GettyError, SSL.Error):
    """
    TLS was not established, or the peer refused it; the text says why, and OpenSSL's error is chained.

    It is an ``OpenSSL.SSL.Error`` too, because Twisted's TLS passes those on to ``connectionLost``.
    """

    def __init__(self, message: str) -> None:
        # In the form of OpenSSL's errors, (library, function, reason): Twisted searches it for an end of file.
        super().__init__([("getty_tx", "", message)])
        self._message = message

    def __str__(self) -> str:
        return self._message

    def __repr__(self) -> str:
        return f"HandshakeError({self._message!r})"


class PolicyConnection(Protocol):
    """
    What texts need of the connection that a policy made.

    :ivar refusal: why its verification refused the peer's certificate.
    """

    refusal: str | None

    def get_certificate(self, *, as_cryptography: Literal[True]) -> x509.Certificate | None: ...


_Codes = SSL.X509VerificationCodes

_ALERT = re.compile(r"(?:sslv3|tlsv1|tlsv13|ssl/tls|tls)(?: alert)? (.+)")  # OpenSSL 1 to 4 name them differently

#: Alerts about our certificate: what the peer says of it.
_CERTIFICATE_ALERTS = {
    "bad certificate": "it is not acceptable to it",
    "unsupported certificate": "it does not support its kind",
    "certificate revoked": "it was revoked",
    "certificate expired": "it has expired or is not valid yet",
    "certificate unknown": "it gives no details; often the certificate is for another host name",
    "unknown ca": "it does not know the authority that issued it",
    "no certificate": "there was none",
}

_OTHER_ALERTS = {
    "certificate required": "the peer requires a certificate, and we sent none",
    "handshake failure": (
        "the peer refused the TLS handshake: there is no common cipher, or it requires a certificate and we sent none"
    ),
    "protocol version": "the peer does not speak our versions of TLS (1.2 and newer)",
    "no application protocol": "the peer speaks none of the application protocols (ALPN) that we offered",
    # OpenSSL's alert if a callback refuses a certificate; users of pyOpenSSL check host names in that callback.
    "internal error": "the peer failed (alert 'internal error'); maybe our certificate is for another host name",
    "unrecognized name": "the peer has no certificate for the host name that we asked for",
    "access denied": "the peer knows our certificate and denies it access",
}

_NOT_TLS = "what the peer sends is not TLS"

#: Reasons from the local OpenSSL.
_OWN_REASONS = {
    "certificate verify failed": "the peer's certificate could not be verified",
    "peer did not return a certificate": "the client sent no certificate, and one is required",
    "no shared cipher": "there is no cipher that both sides support",
    "unsupported protocol": "the peer does not speak our versions of TLS (1.2 and newer)",
    "no application protocol": "the peer offered none of our application protocols (ALPN)",
    "http request": f"{_NOT_TLS} but an HTTP request",
    "https proxy request": f"{_NOT_TLS} but an HTTP request",
    "wrong version number": _NOT_TLS,
    "packet length too long": _NOT_TLS,
}


def explain(error: BaseException) -> BaseException:
    """
    A :py:class:`HandshakeError` that says in words what ``error`` means, with ``error`` as its cause.

    For TLS connections with any policy; the errors of this package's policies are explained already.

    :param error: the reason that ``connectionLost`` got, or any other exception.
    :return: ``error`` itself if it is no failure of a TLS handshake or there is nothing to add.
    """
    if isinstance(error, HandshakeError):
        return error
    text = None
    if isinstance(error, VerificationError):
        hosts = " or ".join(_wanted(each.mismatched_id) for each in error.errors)
        text = f"the peer's certificate is not for {hosts}"
    elif isinstance(error, SSL.Error):
        text = "the connection closed before TLS was shut down" if isEndOfFile(error) else describe(error, None)
    if text is None:
        return error
    explained = HandshakeError(text)
    explained.__cause__ = error
    return explained


def describe(error: SSL.Error, connection: PolicyConnection | None) -> str | None:
    """Explain an OpenSSL error, with details from ``connection`` if given; ``None`` if it is unknown."""
    for reason in reasonsIn(error):
        if reason == "certificate verify failed" and connection is not None and connection.refusal is not None:
            return connection.refusal
        if reason in _OWN_REASONS:
            return _OWN_REASONS[reason]
        match = _ALERT.fullmatch(reason)
        if match is not None:
            alert = match[1]
            if alert in _CERTIFICATE_ALERTS:
                return f"the peer refused our certificate{_ownSubject(connection)}: {_CERTIFICATE_ALERTS[alert]}"
            return _OTHER_ALERTS.get(alert, f"the peer ended TLS with the alert {alert!r}")
    return None


def reasonsIn(error: SSL.Error) -> list[str]:
    """The reason strings of an OpenSSL error; empty for ``WantReadError`` and its kin and for an end of file."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [reason for _, _, reason in queue]


def hasEnded(connection: SSL.Connection) -> bool:
    """True if the peer ended TLS in order, with close_notify."""
    return bool(connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


def isLost(error: SSL.Error) -> bool:
    """True if the connection ended without close_notify, by its end or by a failure of the socket."""
    if isinstance(error, SSL.SysCallError) or isEndOfFile(error):
        return True
    # OpenSSL 4
    return bool(error.args) and all(library == "system library" for library, _, _ in error.args[0])


def isEndOfFile(error: SSL.Error) -> bool:
    """True if the connection ended without close_notify, by its end."""
    if isinstance(error, SSL.SysCallError):
        return str(error.args[-1]).casefold().startswith("unexpected eof")
    if error.args == ([],):  # OpenSSL 4
        return True
    return any(reason.casefold().startswith("unexpected eof") for reason in reasonsIn(error))


def describeRefusal(host: Host | None, certificate: x509.Certificate, code: int, depth: int) -> str:
    """Why OpenSSL's verification refused ``certificate``, at ``depth`` above the peer's certificate (0)."""
    peers = whose(host)
    about = f"an issuer of {peers}" if depth else peers
    subject = subjectOf(certificate)
    if code == _Codes.ERR_CERT_HAS_EXPIRED:
        return f"{about} expired on {_time(certificate.not_valid_after_utc)} ({subject})"
    if code == _Codes.ERR_CERT_NOT_YET_VALID:
        return f"{about} is not valid before {_time(certificate.not_valid_before_utc)} ({subject})"
    if code == _Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return f"{peers} is self-signed and not trusted ({subject})"
    if code == _Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return f"{peers} is issued by an unknown authority ({subject})"
    if code in (
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        _Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    ):
        issuer = printable(certificate.issuer.rfc4514_string())
        return (
            f"{peers} is issued by an unknown authority, or a certificate between them is missing"
            f" ({subject}, issuer {issuer})"
        )
    if code == _Codes.ERR_INVALID_PURPOSE:
        return f"{about} is not meant to be used so: it is no {'server' if host else 'client'} certificate ({subject})"
    return f"{about} is not acceptable: {VERIFY_ERRORS.get(code, f'OpenSSL code {code}')} ({subject})"


def whose(host: Host | None) -> str:
    """Name the peer's certificate: of a host, or of a client (None)."""
    return "the client's certificate" if host is None else f"the certificate of {host.name!r}"


def _wanted(service: Any) -> str:
    """The host of service_identity's ``DNS_ID`` or ``IPAddress_ID``."""
    return repr(service.hostname.decode("ascii") if hasattr(service, "hostname") else str(service.ip))


def _ownSubject(connection: PolicyConnection | None) -> str:
    own = None if connection is None else connection.get_certificate(as_cryptography=True)
    return "" if own is None else f" ({subjectOf(own)})"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
