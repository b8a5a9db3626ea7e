"""Starting and stopping a Server at any moment."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

from getty_tx.errors import GettyError
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from tests.services.test_server import LOOPBACK, ServerCase
from tests.support.certificates import selfSigned


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """Listens when the test says so; ``gates`` has a Deferred for each call of listen()."""

    def __init__(self) -> None:
        self.gates: list[Deferred[None]] = []
        self.ports: list[Any] = []

    def listen(self, protocolFactory: Any) -> Any:
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        below = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return gate.addCallback(lambda _: below.listen(protocolFactory)).addCallback(self.keep)

    def keep(self, port: Any) -> Any:
        self.ports.append(port)
        return port


class RestartTests(ServerCase):
    """startService and stopService."""

    async def test_stopDuringStart(self) -> None:
        """A port that opens after the server was stopped is closed."""
        endpoint = SlowEndpoint()
        server = self.serve(endpoint)
        waiting = server.whenListening()
        await server.stopService()
        self.assertIn("stopped", str(await self.assertFailure(waiting, GettyError)))
        endpoint.gates[0].callback(None)
        await self.until(lambda: endpoint.ports)
        await self.until(lambda: not endpoint.ports[0].connected)

    async def test_latePort(self) -> None:
        """A late port of an earlier start is closed too, and does not affect the next start."""
        endpoint = SlowEndpoint()
        server = self.serve(endpoint)
        await server.stopService()
        server.startService()
        waiting = server.whenListening()
        endpoint.gates[0].callback(None)
        await self.until(lambda: endpoint.ports)
        await self.until(lambda: not endpoint.ports[0].connected)
        self.assertNoResult(waiting)
        endpoint.gates[1].callback(None)
        (address,) = await waiting
        (await self.dial(address)).transport.loseConnection()

    async def test_lateFailure(self) -> None:
        """A late failure of an earlier start does not affect the next start."""
        endpoint = SlowEndpoint()
        server = self.serve(endpoint)
        await server.stopService()
        endpoint.gates[0].errback(ValueError("late"))
        server.startService()
        waiting = server.whenListening()
        self.assertNoResult(waiting)
        endpoint.gates[1].callback(None)
        await waiting

    async def test_startDuringStop(self) -> None:
        """It listens again when it has stopped, and whenListening() waits for that."""
        listener = RecordingListener()
        server = self.serve(listener=listener)
        (first,) = await server.whenListening()
        peer = await self.dial(first)
        await self.until(lambda: server.sessions)
        for times in (1, 2):
            stopped = [server.stopService() for _ in range(times)]
            server.startService()
            listening = server.whenListening()
            self.assertNoResult(listening)
            for each in stopped:
                await each
            await peer.ended
            (address,) = await listening
            peer = await self.dial(address)
            await self.until(lambda: server.sessions)
            self.assertEqual(listener.names.count("close"), times)
        listening = server.whenListening()
        self.assertEqual(await listening, [address])

    async def test_startAndStopDuringStop(self) -> None:
        """The last of several calls decides."""
        server = self.serve()
        (address,) = await server.whenListening()
        await self.dial(address)
        await self.until(lambda: server.sessions)
        first = server.stopService()
        server.startService()
        second = server.stopService()
        await first
        await second
        self.assertEqual((server.running, server._ports, len(server.sessions)), (False, [], 0))

    async def test_startTwice(self) -> None:
        """It listens once."""
        server = self.serve()
        server.startService()
        server.privilegedStartService()
        self.assertEqual(len(await server.whenListening()), 1)
        self.assertEqual(len(server._ports), 1)

    async def test_stopTwice(self) -> None:
        """Each call fires when the last onClose has returned; for a server that never ran, at once."""
        self.successResultOf(Server(lambda session: None, LOOPBACK).stopService())
        gate: Deferred[None] = Deferred()
        server = self.serve(listener=RecordingListener({"close": lambda session: gate}))
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        await self.until(lambda: server.sessions)
        stopped = [server.stopService(), server.stopService()]
        await peer.ended
        await self.until(lambda: self.listener.names[-1] == "close")
        stopped.append(server.stopService())
        for each in stopped:
            self.assertNoResult(each)
        gate.callback(None)
        for each in stopped:
            await each
        await server.stopService()

    async def test_stopInCallbacks(self) -> None:
        """Every callback may stop the server, also newSession and a close callback."""
        for event in ("newSession", "open", "message", "error", "close", "callback"):
            stopped: list[Any] = []

            def stop(session: Any, *_: Any, stopped: list[Any] = stopped) -> None:
                stopped.append(session.service.stopService())

            hooks: dict[str, Any] = {} if event in ("newSession", "callback") else {event: stop}
            if event == "error":
                hooks["message"] = lambda session, pkg: session.close(GettyError("to be told"))
            server = self.serve(listener=RecordingListener(hooks))
            configured = server._factory.newSession

            def newSession(session: Any, event: str = event, configured: Any = configured, stop: Any = stop) -> None:
                configured(session)
                if event == "newSession":
                    stop(session)
                elif event == "callback":
                    session.addCloseCallback(lambda: stop(session), event)

            server._factory.newSession = newSession
            (address,) = await server.whenListening()
            peer = await self.dial(address)
            peer.transport.write(b"\0\0\0\1a")
            if event in ("close", "callback"):
                await self.until(lambda: self.listener.packages)
                peer.transport.loseConnection()
            await peer.ended
            await self.until(lambda stopped=stopped: stopped)
            await stopped[0]
            self.assertEqual(len(server.sessions), 0, event)
            if event != "newSession":
                self.assertEqual(self.listener.names[-1], "close", event)

    async def test_stopDuringHandshakes(self) -> None:
        """Connections whose TLS or WebSocket handshake is not done are dropped at once."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        server = self.serve(
            f"ssl:0:certKey={certificate}:privateKey={key}:interface=127.0.0.1",
            "ws:0:interface=127.0.0.1",
            handshakeTimeout=600,
        )
        peers = [await self.dial(address) for address in await server.whenListening()]
        context = server._factory.context
        await self.until(lambda: len(context.handshaking) == 2)
        peers[1].transport.write(b"GET / HTTP/1.1\r\n")
        stopped = [server.stopService(), server.stopService()]
        for peer in peers:
            self.assertEqual(await peer.ended, b"")
        for each in stopped:
            await each
        self.assertEqual((self.listener.events, context.refusals.counts["stopping"]), ([], 2))
