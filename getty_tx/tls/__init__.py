"""
TLS policies for servers and clients, and errors that name the failed check.

``wrapServer``, ``wrapClient`` and ``session.transport.startTLS`` take a policy::

    wrapServer(serverPolicy("server.pem", "server.key"), endpoint)
    wrapClient(clientPolicy("a.example"), endpoint)

So do Twisted's ``wrapServerTLS`` and ``wrapClientTLS``, which use Twisted's TLS in memory.

Policies verify by default. With them, ``connectionLost`` gets a :py:class:`HandshakeError` as the reason of a failed
handshake, both on the side that refuses and on the side that is refused. For TLS connections with other policies,
:py:func:`explain` turns Twisted's reason into a HandshakeError, if the reason has enough detail.

How it works: Twisted passes any ``OpenSSL.SSL.Error`` that the connection object raises to ``connectionLost``. So the
policies make connection objects that raise a subclass of it. This needs no private part of Twisted, and OpenSSL still
sends its alert to the peer first (``TLSMemoryBIOProtocol.failVerification``, which Twisted's ``optionsForClientTLS``
uses for a wrong host name, drops the connection without an alert).

- ``policies``: ``clientPolicy`` and ``serverPolicy``, and the OpenSSL connections that they make.
- ``onsocket``: TLS on the socket, as one state machine.
- ``openssl``: OpenSSL's calls for it; the private names of pyOpenSSL.
- ``endpoints``: TLS around an endpoint; which of the two ways a connection takes.
- ``reasons``: the texts of errors, from OpenSSL's codes and alerts; ``HandshakeError``.
- ``host``: a client's host name or IP address, and the check of a certificate for it.
- ``certificates``: load certificates, keys and trust roots; what texts say of a certificate.
- ``described``: what was agreed on, as ASGI applications are told.
- ``verification``: the words for OpenSSL's verification errors.
"""

from __future__ import annotations

from getty_tx.tls.endpoints import startOnSocket, wrapClient, wrapServer
from getty_tx.tls.policies import clientPolicy, serverPolicy
from getty_tx.tls.reasons import HandshakeError, explain, hasEnded

__all__ = [
    "HandshakeError",
    "clientPolicy",
    "explain",
    "hasEnded",
    "serverPolicy",
    "startOnSocket",
    "wrapClient",
    "wrapServer",
]
