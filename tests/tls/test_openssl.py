"""The private names of pyOpenSSL that TLS on the socket calls, and what happens where one is missing."""

from __future__ import annotations

import importlib.util
import inspect
import re
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.tls import openssl, startOnSocket, wrapClient, wrapServer
from getty_tx.tls.endpoints import isPossible
from tests.support.tlsocket import End, OnSocketCase, Peer, isResumed, peerContext


def copyOf(ssl: object) -> Any:
    """``getty_tx.tls.openssl`` as it is imported with another ``OpenSSL.SSL``."""
    source = inspect.getsource(openssl).replace("from OpenSSL import SSL\n", "")
    spec = importlib.util.spec_from_loader("copyOfOpenssl", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["SSL"] = ssl
    exec(compile(source, "copyOfOpenssl", "exec"), vars(module))
    return module


class NamesTests(SynchronousTestCase):
    def test_available(self) -> None:
        """The installed pyOpenSSL has every private name. If not, users are without TLS on the socket: tell them."""
        self.assertTrue(openssl.AVAILABLE)

    def test_names(self) -> None:
        """Each private name that the module's text has is there, and is what it is taken for."""
        text = inspect.getsource(openssl)
        for name in set(re.findall(r"SSL\.(_\w+)", text)):
            self.assertTrue(hasattr(SSL, name), name)
        for name in set(re.findall(r"_lib\.(\w+)", text)):
            self.assertTrue(callable(getattr(SSL._lib, name)), name)
        for name in set(re.findall(r"_ffi\.(\w+)", text)):
            self.assertTrue(callable(getattr(SSL._ffi, name)), name)
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        names = set(re.findall(r"connection\.(_\w+)", text))
        self.assertEqual(names, {"_ssl", "_socket", "_into_ssl", "_from_ssl", "_raise_ssl_error"})
        for name in names:
            self.assertTrue(hasattr(connection, name), name)

    def test_ofTheTests(self) -> None:
        """What the tests themselves need of pyOpenSSL's private names."""
        self.assertFalse(isResumed(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)))

    def test_eachMissing(self) -> None:
        """Where a name of the binding is missing the module says so, and can still be imported."""
        self.assertTrue(copyOf(SSL).AVAILABLE)

        class Names:
            """Some names of another object."""

            def __init__(self, of: object, *without: str) -> None:
                self._of = of
                self._without = without

            def __getattr__(self, name: str) -> Any:
                if name in self._without:
                    raise AttributeError(name)
                return getattr(self._of, name)

        for missing in "_lib", "_ffi":
            self.assertFalse(copyOf(Names(SSL, missing)).AVAILABLE, missing)
        for missing in "SSL_read", "SSL_write":
            fake = Names(SSL)
            vars(fake)["_lib"] = Names(SSL._lib, missing)
            self.assertFalse(copyOf(fake).AVAILABLE, missing)
        for missing in "from_buffer", "new", "buffer":
            fake = Names(SSL)
            vars(fake)["_ffi"] = Names(SSL._ffi, missing)
            self.assertFalse(copyOf(fake).AVAILABLE, missing)

    def test_socketOfAConnection(self) -> None:
        """A connection that was made for memory, and put on a socket, is as one that was made with the socket."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)

        class Policy:
            def getContext(self) -> SSL.Context:
                return peerContext()

        attached = openssl.connectionOn(Policy(), ours, True, object())
        made = SSL.Connection(peerContext(), ours)
        self.assertEqual(attached.fileno(), made.fileno())
        self.assertEqual(
            SSL._lib.SSL_get_fd(attached._ssl) if hasattr(SSL._lib, "SSL_get_fd") else ours.fileno(), ours.fileno()
        )
        # Methods of memory refuse, as they do with a socket.
        for connection in attached, made:
            self.assertRaises(TypeError, connection.bio_read, 10)
            self.assertRaises(TypeError, connection.bio_write, b"x")
        self.assertRaises(SSL.Error, attached.do_handshake)
        self.assertTrue(theirs.recv(1000).startswith(b"\x16\x03\x01"))


class FailureTests(OnSocketCase):
    def failure(self, act: Any) -> SSL.Error:
        end, peer = self.server()
        self.open(end, peer)
        connection = end.transport.getHandle()
        act(peer)
        result = openssl.sslRead(openssl.pointerOf(connection), openssl.BUFFER, 100)
        error = openssl.failureOf(connection, result)
        self.assertEqual(SSL._lib.ERR_peek_error(), 0, "left behind, for another connection to find")
        return error

    def test_kinds(self) -> None:
        """The errors that pyOpenSSL raises, each for what it is."""

        def close(peer: Peer) -> None:
            peer.socket.close()

        def end(peer: Peer) -> None:
            peer.end()
            peer.flush()

        def reset(peer: Peer) -> None:
            peer.close(reset=True)

        self.assertIsInstance(self.failure(lambda peer: None), SSL.WantReadError)
        self.assertIsInstance(self.failure(end), SSL.ZeroReturnError)
        self.assertIsInstance(self.failure(reset), SSL.SysCallError)
        self.assertIn("eof", str(self.failure(close)).lower())

    def test_noCircle(self) -> None:
        """No frame hangs on the error: Python 3.11 fails in C when it collects one that has a view of sent bytes."""
        error = self.failure(lambda peer: None)
        self.assertIsNone(error.__traceback__)
        self.assertIsNone(error.__context__)


class MissingTests(SynchronousTestCase):
    """Without the names Twisted's TLS takes over, everywhere."""

    def setUp(self) -> None:
        self.patch(openssl, "AVAILABLE", False)

    def test_endpoints(self) -> None:
        """Server and client connections get Twisted's TLS. (The transport is one for which TLS on the socket is.)"""

        class Policy:
            def getContext(self) -> SSL.Context:
                return peerContext()

        reactor: Any = MemoryReactorClock()
        factory = Factory()
        ends: list[End] = []

        def build(address: object) -> End:
            ends.append(End())
            return ends[-1]

        factory.buildProtocol = build
        wrapServer(Policy(), TCP4ServerEndpoint(reactor, 8090)).listen(factory)
        wrapClient(Policy(), TCP4ClientEndpoint(reactor, "127.0.0.1", 8090)).connect(factory)
        for wrapping in reactor.tcpServers[0][1], reactor.tcpClients[0][2]:
            transport: Any = StringTransport()
            wrapping.buildProtocol(None).makeConnection(transport)
            self.assertIsInstance(ends.pop().transport, TLSMemoryBIOProtocol)

    def test_startTLS(self) -> None:
        """``startTLS`` of a session asks for it, and is told to take Twisted's."""
        from twisted.internet import tcp

        class Policy:
            pass

        transport: Any = tcp.Server.__new__(tcp.Server)
        transport.TLS = False
        self.assertIsNone(startOnSocket(Policy(), transport, True))
        self.assertFalse(isPossible(Policy(), transport))
        openssl.AVAILABLE = True
        self.assertTrue(isPossible(Policy(), transport))
