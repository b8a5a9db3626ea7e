"""What a TLS connection has agreed on, for those who ask for it as ASGI does."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

from OpenSSL import crypto

__all__ = ["describeTLS"]


def describeTLS(transport: Any) -> dict[str, Any]:
    """
    What ASGI's extension ``tls`` asks for: https://asgi.readthedocs.io/en/latest/specs/tls.html

    :param transport: a transport with TLS, whose ``getHandle()`` is pyOpenSSL's connection.
    :return: its ``client_cert_chain`` is what the client has sent, and empty where it was not asked for one.
    """
    handle: Any = transport.getHandle()
    own, peer = handle.get_certificate(), handle.get_peer_certificate()
    # On a server OpenSSL leaves the peer's own certificate out of the chain in some versions.
    chain = list(handle.get_peer_cert_chain() or ())
    texts = [_pem(each) for each in chain]
    if peer is not None and _pem(peer) not in texts:
        texts.insert(0, _pem(peer))
    return {
        "server_cert": None if own is None else _pem(own),
        "client_cert_chain": texts,
        "client_cert_name": None if peer is None else peer.to_cryptography().subject.rfc4514_string(),
        # A handshake with a certificate that is not valid has failed.
        "client_cert_error": None,
        "tls_version": handle.get_protocol_version(),
        "cipher_suite": _numbers().get(handle.get_cipher_name()),
    }


def _pem(certificate: crypto.X509) -> str:
    return crypto.dump_certificate(crypto.FILETYPE_PEM, certificate).decode("ascii")


@cache
def _numbers() -> dict[str, int]:
    """The number of each cipher suite by OpenSSL's name: pyOpenSSL tells names only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    # OpenSSL puts 0x0300 in front of the two bytes that are sent.
    return {each["name"]: each["id"] & 0xFFFF for each in context.get_ciphers()}
