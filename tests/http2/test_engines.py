"""Which engine is taken, what there is to say without one, and both on sockets."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import Server, http, rpc
from getty_tx.errors import SettingError
from getty_tx.http.two import engines
from getty_tx.http.two.engines import ENGINE, newEngine
from getty_tx.http.two.guard import PREFACE
from getty_tx.http.two.limits import Limits
from getty_tx.http.two.server import ServerConnection
from tests.support.http2 import DATA, PING, REQUEST, Served, Talk, frame, settings


class Choice(SynchronousTestCase):
    """By the environment, and by what is installed."""

    def setUp(self) -> None:
        """Nothing is known of what is installed."""
        self.patch(os, "environ", {each: value for each, value in os.environ.items() if each != ENGINE})
        engines._engineClass.cache_clear()
        self.addCleanup(engines._engineClass.cache_clear)

    def hide(self, *names: str) -> None:
        """Have packages missing."""

        def importModule(module: str) -> Any:
            # As the statement in the module does it.
            for name in names:
                if module.endswith(f".{name}engine"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return import_module(module)

        self.patch(engines, "import_module", importModule)

    def made(self) -> str:
        """The engine's name."""
        told: Any = None
        return type(newEngine(True, Limits(), told)).__name__

    def test_environment(self) -> None:
        """It names one of both, or none."""
        self.assertEqual(self.made(), "NgEngine")
        os.environ[ENGINE] = "h2"
        self.assertEqual(self.made(), "H2Engine")
        os.environ[ENGINE] = "nghttp3"
        self.assertRaises(SettingError, self.made)

    def test_withoutNgh2(self) -> None:
        """Then it is h2."""
        self.hide("ngh2")
        self.assertEqual(self.made(), "H2Engine")

    def test_withoutBoth(self) -> None:
        """Then the error says what to install."""
        self.hide("ngh2", "h2")
        error = self.assertRaises(ImportError, self.made)
        self.assertIn("pip install 'getty_tx[http2]'", str(error))

    def test_servers(self) -> None:
        """Those that speak nothing else tell it when they are made, and not to their first client."""
        self.hide("ngh2", "h2")
        for make in (lambda: rpc.Grpc(), lambda: http.grpc.Server("tcp:0")):
            with self.assertRaisesRegex(SettingError, r"pip install 'getty_tx\[http2\]'"):
                make()


class _Client(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.wanted = b""
        self.came: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.wanted in self.data and not self.came.called:
            self.came.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class NgSockets(TestCase):
    """A request and a drain over TCP, on ngh2."""

    engine = "ngh2"

    async def test_requestAndDrain(self) -> None:
        """The answer comes, and the connection ends."""
        self.patch(os, "environ", {**os.environ, ENGINE: self.engine})
        talk = Talk()
        made: list[ServerConnection] = []

        def newStream(connection: ServerConnection, number: int, headers: Any, isLast: bool) -> Served:
            return Served(connection, number, headers, isLast, talk)

        server = Server(
            lambda session: made.append(ServerConnection(session, Limits(), newStream)),  # type: ignore[arg-type]
            "tcp:0:interface=127.0.0.1",
        )
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        client = _Client()
        client.wanted = frame(DATA, 1, 1, b"hello")
        transport: Any = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.port), client)
        self.assertIs(transport, client)
        assert client.transport is not None
        client.transport.write(PREFACE + settings({}) + talk.request(1, REQUEST))
        await client.came
        made[0].drain()
        client.transport.write(frame(PING, 1, 0, b"\0\0\0drain"))
        await client.lost


class H2Sockets(NgSockets):
    """The same on h2."""

    engine = "h2"
