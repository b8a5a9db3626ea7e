"""
TLS policies for servers and clients, and errors that say which check failed.

A policy is what Twisted's ``wrapServerTLS``, ``wrapClientTLS`` and ``startTLS`` take::

    wrapServerTLS(serverPolicy("server.pem", "server.key"), endpoint)
    wrapClientTLS(clientPolicy("a.example"), endpoint)

It verifies by default. With these policies the reason that ``connectionLost`` gets for a failed handshake is a
:py:class:`HandshakeError`, on the side that refuses and on the side that is refused; for TLS connections that were
made with other policies, :py:func:`explain` turns Twisted's reason into one as far as it tells enough.

How that error gets there: Twisted hands any ``OpenSSL.SSL.Error`` which the connection object raises through to
``connectionLost``. So the policies make connection objects that raise a subclass of it. Nothing of Twisted's inside is
touched, and OpenSSL still sends its alert to the peer first (``TLSMemoryBIOProtocol.failVerification``, which Twisted's
own ``optionsForClientTLS`` uses for a wrong host name, drops the connection without one).
"""

from __future__ import annotations

from getty_tx.tls.policies import clientPolicy, serverPolicy
from getty_tx.tls.reasons import HandshakeError, explain, hasEnded

__all__ = ["HandshakeError", "clientPolicy", "explain", "hasEnded", "serverPolicy"]
