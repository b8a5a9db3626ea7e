"""
OpenSSL's calls for TLS on a socket, in the form that costs least: the one place that uses pyOpenSSL's private names.

pyOpenSSL's ``Connection.recv`` and ``send`` make a buffer, check the callbacks' results and build an exception where
there is nothing to read, for each record: a fifth of the whole cost of an echo. The calls below them are ``SSL_read``
and ``SSL_write`` of ``SSL._lib``, cryptography's binding, with the connection's ``_ssl``.

``tests.tls.test_openssl`` fails when a name goes away. ``AVAILABLE`` is False then, and Twisted's own TLS takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator

if TYPE_CHECKING:
    import socket

__all__ = [
    "AVAILABLE",
    "BUFFER",
    "SIZE",
    "VIEW",
    "connectionOn",
    "failureOf",
    "pointerOf",
    "sslRead",
    "sslWrite",
    "toPointer",
]

#: Bytes of the buffer: nothing may be read beyond them. A session reads 120 KiB at most.
SIZE = 128 * 1024

try:
    _lib: Any = SSL._lib  # type: ignore[attr-defined]
    _ffi: Any = SSL._ffi  # type: ignore[attr-defined]
    #: ``sslRead(pointer, buffer, size)``: bytes read; 0 or less: see :py:func:`failureOf`.
    sslRead: Any = _lib.SSL_read
    #: ``sslWrite(pointer, data, size)``: bytes taken; 0 or less: see :py:func:`failureOf`.
    sslWrite: Any = _lib.SSL_write
    #: ``toPointer(data)``: what ``sslWrite`` takes of data that is not bytes.
    toPointer: Any = _ffi.from_buffer
    #: What ``sslRead`` reads into, as OpenSSL and as Python see it. Only the reactor's thread reads, and takes what it
    #: has read before the next read.
    BUFFER: Any = _ffi.new("char[]", SIZE)
    VIEW: Any = _ffi.buffer(BUFFER)
    AVAILABLE = True
except AttributeError:
    _lib = _ffi = sslRead = sslWrite = toPointer = BUFFER = VIEW = None
    AVAILABLE = False


def pointerOf(connection: SSL.Connection) -> Any:
    """What ``sslRead`` and ``sslWrite`` know the connection by."""
    return connection._ssl


def failureOf(connection: SSL.Connection, result: int) -> SSL.Error:
    """
    The error behind the result of the last call.

    :return: as pyOpenSSL raises it: WantReadError, WantWriteError, ZeroReturnError, SysCallError or another Error.
    """
    try:
        connection._raise_ssl_error(connection._ssl, result)
    except SSL.Error as error:
        # The traceback would make a circle with the frame of whoever keeps the error in a variable. Python 3.11 fails
        # in C when it collects a circle with a memoryview that toPointer has been given.
        return error.with_traceback(None)
    return SSL.Error([])


def connectionOn(policy: Any, handle: socket.socket, isClient: bool, protocol: Any) -> Any:
    """
    The OpenSSL connection on a socket, by a policy of ours or by any that Twisted's TLS takes.

    :param protocol: what the policy is told as the protocol of Twisted's TLS.
    """
    make = getattr(policy, "connectionOn", None)
    if make is not None:
        connection = make(handle)
        if not isClient:
            connection.learnNames(protocol)
    else:
        if isClient and IOpenSSLClientConnectionCreator.providedBy(policy):
            connection = policy.clientConnectionForTLS(protocol)
        elif not isClient and IOpenSSLServerConnectionCreator.providedBy(policy):
            connection = policy.serverConnectionForTLS(protocol)
        else:
            connection = SSL.Connection(policy.getContext(), None)
        _attach(connection, handle)
        # As Twisted's TLS does, for policies that find the protocol there.
        connection.set_app_data(protocol)
    if isClient:
        connection.set_connect_state()
    else:
        connection.set_accept_state()
    return connection


def _attach(connection: Any, handle: socket.socket) -> None:
    """
    Put a connection that was made for bytes in memory on a socket.

    Twisted's connection creators make such ones only, with settings of their own, so that another connection with the
    same context would not do. pyOpenSSL takes a socket only when it makes the connection, by the same call.
    """
    if _lib.SSL_set_fd(connection._ssl, handle.fileno()) != 1:
        raise SSL.Error("SSL_set_fd failed")
    connection._socket = handle
    connection._into_ssl = connection._from_ssl = None
