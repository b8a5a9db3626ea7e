"""TLS policies for clients and servers, and the OpenSSL connections that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.tls.certificates import Identity, alpnNames, loadTrustRoot, platformTrustRoot, printable
from getty_tx.tls.host import Host
from getty_tx.tls.reasons import HandshakeError, describe, describeRefusal, isLost, reasonsIn, whose

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from OpenSSL.crypto import X509
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from getty_tx.tls.certificates import Path

    #: The paths of a server's certificate and of its private key (``None``: in the same file).
    CertificateAndKey: TypeAlias = tuple[Path, Path | None]

__all__ = ["clientPolicy", "serverPolicy"]

log = Logger()


def clientPolicy(
    hostname: str,
    *,
    trustRoot: Path | object | None = None,
    certificate: Path | None = None,
    privateKey: Path | None = None,
    alpn: Sequence[str | bytes] = (),
    verify: bool = True,
    onSocket: bool = True,
) -> IOpenSSLClientConnectionCreator:
    """
    A policy for a TLS client (1.2 or newer) of one host.

    :param hostname: the name or IP address that the server's certificate must be valid for. A name is also sent to the
        server (SNI), so that it can choose among its certificates.
    :param trustRoot: a PEM file with the certificates of the authorities to trust, a directory of ``.pem`` files, or a
        trust root of Twisted. Default: those of the platform.
    :param certificate: a PEM file with the client's certificate, for servers that require one; intermediate
        certificates may follow it in the file.
    :param privateKey: the PEM file with its private key. Default: the file of the certificate.
    :param alpn: application protocols to offer, the preferred one first.
    :param verify: ``False`` accepts any certificate: an attacker on the network path can then read and change all
        data. It is logged as a warning.
    :param onSocket: ``False`` uses Twisted's own TLS also where TLS on the socket is possible.
    :raise SettingError: the host name is invalid, or a file is missing, unreadable or has wrong contents; the text
        names it.
    """
    host = Host.parse(hostname)
    names = alpnNames(alpn)
    if settings.flag("verify", verify):
        trust = platformTrustRoot() if trustRoot is None else loadTrustRoot(trustRoot)
    elif trustRoot is not None:
        raise SettingError("verify=False and a trustRoot contradict each other")
    else:
        trust = None
        log.warn("TLS: the certificate of {host} is NOT verified (verify=False)", host=host.name)
    if certificate is not None:
        identity = Identity.load(certificate, privateKey)
    elif privateKey is not None:
        raise SettingError(f"privateKey {str(privateKey)!r} is given without a certificate")
    else:
        identity = None
    return _ClientPolicy(_makeContext(identity, trust, names), host, names, settings.flag("onSocket", onSocket))


def serverPolicy(
    certificate: Path,
    privateKey: Path | None = None,
    *,
    trustRoot: Path | object | None = None,
    alpn: Sequence[str | bytes] = (),
    sni: Mapping[str, CertificateAndKey] | None = None,
    onSocket: bool = True,
) -> IOpenSSLServerConnectionCreator:
    """
    A policy for a TLS server (1.2 or newer).

    :param certificate: a PEM file with the certificate; intermediate certificates may follow it.
    :param privateKey: the PEM file with its private key. Default: the file of the certificate.
    :param trustRoot: as for :py:func:`clientPolicy`. If given, clients must show a certificate that it trusts.
    :param alpn: application protocols to accept, the preferred one first.
    :param sni: ``{hostname: (certificate, privateKey)}`` for clients that ask for these names; ``*.example`` stands for
        every name directly below. All other clients get ``certificate``.
    :param onSocket: ``False`` uses Twisted's own TLS also where TLS on the socket is possible.
    :raise SettingError: a name is invalid, or a file is missing, unreadable or has wrong contents; the text names it.
    """
    names = alpnNames(alpn)
    trust = None if trustRoot is None else loadTrustRoot(trustRoot)
    contexts: dict[bytes, SSL.Context] = {}
    if not isinstance(sni or {}, Mapping):
        raise SettingError(f"sni={sni!r} is not a dict of host names to a certificate and a private key")
    for name, paths in (sni or {}).items():
        if not (isinstance(name, str) and isinstance(paths, tuple) and len(paths) == 2):
            raise SettingError(f"sni: {name!r}: {paths!r} is not a host name with a certificate and a private key")
        wildcard, below = (b"*.", name[2:]) if name.startswith("*.") else (b"", name)
        try:
            host = Host.parse(below)
        except SettingError as error:
            raise SettingError(f"sni: {error}") from error
        if host.isIP:
            raise SettingError(f"sni: {name!r} is an IP address, for which no client can ask")
        contexts[wildcard + host.ascii] = _makeContext(Identity.load(*paths), trust, names)

    def contextForServerName(name: bytes | None) -> SSL.Context | None:
        name = (name or b"").lower()
        # None keeps the context of the default certificate.
        return contexts.get(name) or contexts.get(b"*." + name.partition(b".")[2])

    choice = contextForServerName if contexts else None
    context = _makeContext(Identity.load(certificate, privateKey), trust, names, choice)
    return _ServerPolicy(context, settings.flag("onSocket", onSocket))


@implementer(IOpenSSLClientConnectionCreator)
class _ClientPolicy:
    def __init__(self, context: SSL.Context, host: Host, alpn: list[bytes], onSocket: bool) -> None:
        self._context = context
        self._host = host
        self._alpn = alpn
        self.onSocket = onSocket
        # What the server gave the last connection to be recognized by.
        self._session: SSL.Session | None = None

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return self.connectionOn(None)

    def connectionOn(self, handle: socket.socket | None) -> SSL.Connection:
        connection = _Connection(self._context, self._host, handle)
        if not self._host.isIP:
            connection.set_tlsext_host_name(self._host.ascii)
        if self._alpn:
            connection.set_alpn_protos(self._alpn)
        if self._session is not None:
            connection.set_session(self._session)
        return connection

    def remember(self, connection: _Connection) -> None:
        if not connection.established:
            self._session = None
            return
        # Otherwise OpenSSL makes a session unusable whose connection ends without a close_notify.
        # What the peer has sent stays: it tells an end in order from a cut.
        connection.set_shutdown(connection.get_shutdown() | SSL.SENT_SHUTDOWN)
        self._session = connection.get_session()


@implementer(IOpenSSLServerConnectionCreator)
class _ServerPolicy:
    def __init__(self, context: SSL.Context, onSocket: bool) -> None:
        self._context = context
        self.onSocket = onSocket

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = _Connection(self._context, None, None)
        connection.learnNames(tlsProtocol)
        return connection

    def connectionOn(self, handle: socket.socket | None) -> SSL.Connection:
        return _Connection(self._context, None, handle)


# Connections that raise HandshakeError


class _Connection(SSL.Connection):
    """
    OpenSSL's connection, which raises a failed handshake as :py:class:`HandshakeError`.

    :ivar peerHost: the host that a client connects to; ``None`` on a server.
    :ivar refusal: why :py:func:`_verifyPeer` refused the peer's certificate.
    :ivar established: the handshake is complete.
    :ivar names: on a server whose policy names no application protocols: those of the protocol above.
    """

    names: Sequence[bytes] = ()

    def __init__(self, context: SSL.Context, peerHost: Host | None, handle: socket.socket | None) -> None:
        super().__init__(context, handle)
        self.peerHost = peerHost
        self.refusal: str | None = None
        self.established = False

    def learnNames(self, protocol: Any) -> None:
        """Take the application protocols of what is above TLS. :param protocol: that of Twisted's TLS, or ours."""
        factory = getattr(protocol, "factory", None)
        above = IProtocolNegotiationFactory(getattr(factory, "wrappedFactory", None), None)
        if above is not None:
            self.names = above.acceptableProtocols()

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (SSL.WantReadError, SSL.WantWriteError):
            raise
        except SSL.Error as error:
            self._raise(error)
        self.established = True

    def explained(self, error: SSL.Error) -> SSL.Error:
        """What ``recv`` would raise for an error of OpenSSL's."""
        try:
            self._raise(error)
        except SSL.Error as explained:
            return explained

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        # In TLS 1.3 a server refuses our certificate after our handshake is complete, so the alert arrives in a read.
        try:
            return super().recv(bufsiz, flags)
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError):
            raise
        except SSL.Error as error:
            self._raise(error)

    def _raise(self, error: SSL.Error) -> NoReturn:
        """Raise a HandshakeError that explains ``error``, or ``error`` itself if there is no explanation."""
        if isLost(error):
            # Twisted reports this end of an established connection: it becomes ConnectionLost.
            text = None if self.established else "the connection closed before the TLS handshake was done"
        else:
            text = describe(error, self)
        if text is None:
            raise error
        raise HandshakeError(text) from error


def _verifyPeer(connection: SSL.Connection, certificate: X509, code: int, depth: int, ok: int) -> bool:
    """
    OpenSSL's callback for each certificate, from the root (largest depth) to the peer's certificate (depth 0).

    A plain function, because a bound method would make a reference cycle of each connection and its callback.
    """
    connection = cast("_Connection", connection)
    host = connection.peerHost
    if ok and (depth or host is None):
        return True
    try:
        parsed = certificate.to_cryptography()
        if ok and host is not None:
            connection.refusal = host.refusal(parsed)
        else:
            connection.refusal = describeRefusal(host, parsed, code, depth)
    except Exception as error:  # parsing the peer's bytes may raise anything
        connection.refusal = f"{whose(host)} cannot be read: {printable(str(error))}"
    return connection.refusal is None


def _makeContext(
    identity: Identity | None,
    trustRoot: object,
    alpn: list[bytes],
    contextForServerName: Callable[[bytes | None], SSL.Context | None] | None = None,
) -> SSL.Context:
    """
    Make the OpenSSL context: Twisted's ciphers and options, our settings, our callbacks.

    It is made now, not for the first connection, so that errors of OpenSSL occur at start-up. All changes to it come
    before a connection uses it; pyOpenSSL refuses later ones.
    """
    more: dict[str, Any] = {}
    if identity is not None:
        # Objects of cryptography, although Twisted's signature names pyOpenSSL's: it passes them to pyOpenSSL, which
        # takes both kinds and warns that its own are deprecated.
        more.update(certificate=identity.certificate, privateKey=identity.privateKey, extraCertChain=identity.chain)
    options = CertificateOptions(
        trustRoot=cast("Any", trustRoot),
        raiseMinimumTo=TLSVersion.TLSv1_2,
        # A client that comes again is recognized by the ticket that it got, and needs no full handshake.
        enableSessionTickets=True,
        contextForServerName=contextForServerName,
        **more,
    )
    try:
        context = options.getContext()
    except (SSL.Error, TypeError) as error:
        path = None if identity is None else identity.path
        problem = "; ".join(reasonsIn(error)) if isinstance(error, SSL.Error) else error
        raise SettingError(f"certificate {path!r} or its private key is not usable: {problem}") from error
    # A peer could make us compute without end. TLS 1.3 has no renegotiation.
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    if trustRoot is not None:
        # The last two flags concern servers only: clients must show a certificate.
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT | SSL.VERIFY_CLIENT_ONCE
        context.set_verify(mode, _verifyPeer)

    def selectProtocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
        for name in alpn or (connection.names if isinstance(connection, _Connection) else ()):
            if name in offered:
                return name
        if not alpn:
            return SSL.NO_OVERLAPPING_PROTOCOLS  # go on without ALPN; with Twisted's callback the handshake fails
        # pyOpenSSL sends the alert "no application protocol" and raises this from do_handshake (RFC 7301, section 3.2).
        raise HandshakeError(f"none of the client's application protocols {printable(str(offered))} is one of {alpn}")

    context.set_alpn_select_callback(selectProtocol)
    return context
