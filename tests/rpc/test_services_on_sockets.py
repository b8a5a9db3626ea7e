"""rpc.Server and rpc.Client on real sockets: the whole way, stopping, losing, waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import rpc
from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds until a test that waits fails.
PATIENCE = 20.0


class Echo:
    """Methods of each kind."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.gates: list[Deferred[None]] = []

    @rpc.method
    def say(self, text: str) -> str:
        self.ran.append(text)
        return text

    @rpc.method
    async def wait(self, text: str) -> str:
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        await gate
        return text

    @rpc.method(threads=True)
    def block(self, text: str) -> list[Any]:
        return [text, rpc.currentCall().metadata.get("user")]

    @rpc.method
    async def ask(self) -> Any:
        return await rpc.currentCall().peer.call("Ticker", "tick")


class Ticker:
    """A client's service."""

    @rpc.method
    def tick(self) -> str:
        return "tack"


async def until(condition: Any) -> None:
    """Wait until ``condition()`` is true."""
    while not condition():
        await deferLater(reactor, 0.005, lambda: None)


class SocketCase(TestCase):
    """Has a server, and clients of it."""

    timeout = PATIENCE

    async def serve(self, endpoint: str = "tcp:0:interface=127.0.0.1", **options: Any) -> tuple[rpc.Server, Echo, int]:
        echo = Echo()
        server = rpc.Server(endpoint, {"Echo": echo}, **options)
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        return server, echo, getattr(address, "port", 0)

    def dial(self, endpoint: Any, **options: Any) -> rpc.Client:
        client = rpc.Client(endpoint, reconnectInterval=0.01, **options)
        client.startService()
        self.addCleanup(client.stopService)
        return client


class WholeWayTests(SocketCase):
    """Calls over each kind of endpoint."""

    async def exchange(self, listen: str, dial: str) -> None:
        _, _, port = await self.serve(listen)
        client = self.dial(dial.replace("PORT", str(port)), services={"Ticker": Ticker()})
        echo = client.service("Echo")
        self.assertEqual(await echo.say("hi"), "hi")
        self.assertEqual(await echo.options(metadata={"user": "7"}).block("b"), ["b", "7"])
        self.assertEqual(await echo.ask(), "tack")
        names = [each["name"] for each in await client.call("rpc", "describe")]
        self.assertEqual(names, ["Echo/ask", "Echo/block", "Echo/say", "Echo/wait", "rpc/describe"])

    async def test_tcp(self) -> None:
        await self.exchange("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:PORT")

    async def test_unix(self) -> None:
        path = self.mktemp()
        await self.exchange(f"unix:{path}", f"unix:{path}")

    async def test_webSocket(self) -> None:
        await self.exchange("ws:0:interface=127.0.0.1:path=/", "ws:127.0.0.1:PORT:path=/")

    async def test_many(self) -> None:
        """Many calls at once over two sessions, each with its own reply."""
        _, _, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", number=2)
        await client.whenReady(2)
        echo = client.service("Echo")
        texts = [f"{number}" for number in range(1000)]
        self.assertEqual(await gatherResults([echo.say(text) for text in texts]), texts)

    async def test_large(self) -> None:
        """A payload near the limit passes; one above it is refused here, and nothing else suffers."""
        _, _, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}")
        echo = client.service("Echo")
        self.assertEqual(len(await echo.say("x" * 4_000_000)), 4_000_000)
        with self.assertRaisesRegex(rpc.PayloadError, "above maxMsgLen=4194304") as caught:
            await echo.say("x" * 4_200_000)
        self.assertFalse(caught.exception.sent)
        self.assertEqual(await echo.say("still"), "still")


class WaitingTests(SocketCase):
    """Calls while no session is open."""

    async def test_waits(self) -> None:
        """A call waits for the first session, within its time-out."""
        client = self.dial("tcp:127.0.0.1:1", timeout=0.1)
        with self.assertRaisesRegex(rpc.CallLostError, "no session is open; the last failure was: .*refused") as caught:
            await client.call("Echo", "say", "hi")
        self.assertEqual((caught.exception.sent, caught.exception.retryable), (False, True))

    async def test_registry(self) -> None:
        """So it does where a registry names who is there, of whom the first session is picked."""
        port = (await self.serve())[2]
        client = self.dial("service:Echo", registry=rf"static:tcp\:127.0.0.1\:{port}")
        self.assertEqual(await gatherResults([client.call("Echo", "say", text) for text in "ab"]), ["a", "b"])

    async def test_stopped(self) -> None:
        """A client that does not run calls nobody, and a stop ends calls that wait."""
        client = rpc.Client("tcp:127.0.0.1:1")
        with self.assertRaises(rpc.CallLostError):
            await client.call("Echo", "say", "hi")
        with self.assertRaises(rpc.CallLostError):
            client.send("Echo", "say", "hi")
        client.startService()
        waiting = client.call("Echo", "say", "hi")
        await client.stopService()
        with self.assertRaises(rpc.CallLostError):
            await waiting

    async def test_cancelled(self) -> None:
        """A caller that cancels is told so, and not that there was no session."""
        client = self.dial("tcp:127.0.0.1:1")
        waiting = client.call("Echo", "say", "hi")
        waiting.cancel()
        with self.assertRaises(rpc.CallCancelledError) as caught:
            await waiting
        self.assertFalse(caught.exception.sent)

    async def test_bounded(self) -> None:
        """1000 calls wait at most."""
        client = self.dial("tcp:127.0.0.1:1", timeout=None)
        waiting = [client.call("Echo", "say", "hi") for _ in range(1000)]
        with self.assertRaisesRegex(rpc.CallRefusedError, "1000 calls wait"):
            await client.call("Echo", "say", "hi")
        await client.stopService()
        for each in waiting:
            self.assertIsInstance(self.failureResultOf(each).value, rpc.CallLostError)

    async def test_reconnects(self) -> None:
        """A call during a restart of the server waits for it."""
        server, _, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}")
        self.assertEqual(await client.call("Echo", "say", "1"), "1")
        await server.stopService()
        await until(lambda: not client.pool.sessions)
        waiting = client.call("Echo", "say", "2")
        await self.serve(f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(await waiting, "2")


class StopTests(SocketCase):
    """Stopping either end."""

    async def test_drains(self) -> None:
        """The server serves what runs, takes no new connections, and asks for no new calls."""
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        await client.call("Echo", "say", "1")
        running = client.call("Echo", "wait", "2")
        await until(lambda: echo.gates)
        stopping = server.stopService()
        self.assertFalse(server.server.isReady)
        (peer,) = client.context.peers
        await until(lambda: peer.isLeaving)
        late = client.call("Echo", "say", "late")
        await deferLater(reactor, 0.05, lambda: None)
        self.assertEqual(echo.ran, ["1"])
        echo.gates[0].callback(None)
        self.assertEqual(await running, "2")
        await stopping
        # It goes to the next server.
        _, other, _ = await self.serve(f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(await late, "late")
        self.assertEqual((echo.ran, other.ran), (["1"], ["late"]))

    async def test_goesElsewhere(self) -> None:
        """Where others listen in place of a server that stops, calls go there though one still runs here."""
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=PATIENCE)
        running = client.call("Echo", "wait", "1")
        await until(lambda: echo.gates)
        (peer,) = client.context.peers
        stopping = server.stopService()
        await until(lambda: peer.isLeaving)
        _, other, _ = await self.serve(f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual("2", await client.call("Echo", "say", "2"))
        self.assertEqual((["2"], 2), (other.ran, len(client.context.peers)))
        echo.gates[0].callback(None)
        self.assertEqual("1", await running)
        await stopping
        await until(lambda: len(client.context.peers) == 1)

    async def test_leftOpen(self) -> None:
        """A session that its peer leaves and does not close is closed when nothing is on its way any more."""
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=PATIENCE, pingInterval=0.1)
        running = client.call("Echo", "wait", "1")
        await until(lambda: echo.gates)
        (left,) = client.context.peers
        next(iter(server.context.peers)).goAway()
        await until(lambda: len(client.context.peers) == 2)
        await deferLater(reactor, 0.3, lambda: None)
        self.assertFalse(left.session.isClosed)
        echo.gates[0].callback(None)
        self.assertEqual("1", await running)
        await until(lambda: left.session.isClosed)
        self.assertEqual("2", await client.call("Echo", "say", "2"))

    async def test_drainTime(self) -> None:
        """What does not end in drainTime is lost, and says that it was sent."""
        server, echo, port = await self.serve(drainTime=0.05)
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        running = client.call("Echo", "wait", "2")
        await until(lambda: echo.gates)
        await server.stopService()
        with self.assertRaises(rpc.CallLostError) as caught:
            await running
        self.assertEqual((caught.exception.sent, caught.exception.retryable), (True, False))

    async def test_underLoad(self) -> None:
        """Two servers behind one address after the other, under load: no call is lost, and none is run twice."""
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", number=2, timeout=PATIENCE)
        await client.whenReady(2)
        echoes = [echo]
        numbers: Iterator[int] = iter(range(3000))
        done: list[int] = []

        async def caller() -> None:
            for number in numbers:
                done.append(int(await client.call("Echo", "say", f"{number}")))
                await deferLater(reactor, 0, lambda: None)

        callers = gatherResults([Deferred.fromCoroutine(caller()) for _ in range(20)])
        for _ in range(3):
            before = len(done)
            await until(lambda before=before: len(done) > before + 100)
            await server.stopService()
            server, echo, _ = await self.serve(f"tcp:{port}:interface=127.0.0.1")
            echoes.append(echo)
        await callers
        self.assertEqual(sorted(done), list(range(3000)))
        ran = sorted(int(text) for each in echoes for text in each.ran)
        self.assertEqual(ran, list(range(3000)))

    async def test_drainedAlready(self) -> None:
        """To drain a peer whose session has ended takes no time."""
        server, _, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}")
        await client.whenReady()
        await until(lambda: server.context.peers)
        (peer,) = server.context.peers
        await peer.drain()
        await peer.drain()
        await until(lambda: not server.context.peers or peer not in server.context.peers)
        (other,) = await self.onePeer(server)
        other.session.abort()
        await until(lambda: other not in server.context.peers)
        await other.drain()

    async def onePeer(self, server: rpc.Server) -> list[rpc.Peer]:
        await until(lambda: server.context.peers)
        return list(server.context.peers)

    async def test_client(self) -> None:
        """A client that stops waits for its open calls, for drainTime at most."""
        _, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        first = client.call("Echo", "wait", "1")
        await until(lambda: echo.gates)
        stopping = client.stopService()
        echo.gates[0].callback(None)
        self.assertEqual(await first, "1")
        await stopping
        client.drainTime = 0.05
        client.startService()
        second = client.call("Echo", "wait", "2")
        await until(lambda: len(echo.gates) == 2)
        await client.stopService()
        with self.assertRaises(rpc.CallLostError):
            await second


class RefusalTests(SocketCase):
    """Calls that the server does not run."""

    async def test_elsewhere(self) -> None:
        """A refused call is made once more over another session, and fails where there is none."""
        _, echo, port = await self.serve(maxCalls=1)
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        running = client.call("Echo", "wait", "1")
        await until(lambda: echo.gates)
        with self.assertRaisesRegex(rpc.CallRefusedError, "maxCalls=1 calls") as caught:
            await client.call("Echo", "say", "2")
        self.assertTrue(caught.exception.retryable)
        echo.gates[0].callback(None)
        await running
        self.assertEqual(await client.call("Echo", "say", "3"), "3")

    async def test_onceMoreElsewhere(self) -> None:
        """A server that refuses is not asked twice; another session's server is."""
        _, first, one = await self.serve(maxCalls=1)
        client = self.dial(f"tcp:127.0.0.1:{one}", number=2, timeout=None)
        await client.whenReady(2)
        running = client.call("Echo", "wait", "1")
        await until(lambda: first.gates)
        # Both sessions lead to the server that is full: the call is refused twice, and then fails.
        with self.assertRaises(rpc.CallRefusedError):
            await client.call("Echo", "say", "2")
        (server,) = {peer.context for peer in client.context.peers}
        self.assertEqual(server.late, 0)
        waiting = client.call("Echo", "wait", "3")
        waiting.addErrback(lambda failure: failure.trap(rpc.CallRefusedError, rpc.CallCancelledError))
        waiting.cancel()
        await waiting
        first.gates[0].callback(None)
        await running

    async def test_nestedRefusal(self) -> None:
        """A method whose own call was refused has run: its caller does not take the refusal for the method's."""

        class Outer:
            ran = 0

            @rpc.method
            async def ask(self) -> None:
                Outer.ran += 1
                await rpc.currentCall().peer.call("Nobody", "there")

        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Outer": Outer()})
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        client = self.dial(f"tcp:127.0.0.1:{address.port}", number=2)
        await client.whenReady(2)
        with self.assertRaisesRegex(rpc.RemoteError, "Outer/ask failed: NoSuchMethodError") as caught:
            await client.call("Outer", "ask")
        self.assertFalse(caught.exception.retryable)
        self.assertEqual(Outer.ran, 1)

    async def test_settings(self) -> None:
        """A wrong setting names itself, its value and what there is."""
        for options, text in (
            ({"maxCalls": 0}, "maxCalls=0"),
            ({"nope": 1}, "nope=1 is no setting of calls"),
            ({"drainTime": -1}, "drainTime=-1"),
        ):
            with self.assertRaisesRegex(SettingError, text):
                rpc.Server("tcp:0", {"Echo": Echo()}, **options)
        for make in (lambda: rpc.Server("udp:0", {"Echo": Echo()}), lambda: rpc.Client("udp:127.0.0.1:1")):
            with self.assertRaisesRegex(SettingError, "datagrams get lost"):
                make()
        with self.assertRaisesRegex(SettingError, "at least one service"):
            rpc.Server("tcp:0", {})
        with self.assertRaisesRegex(SettingError, "has no method with @rpc.method"):
            rpc.Server("tcp:0", {"Echo": object()})
        with self.assertRaisesRegex(SettingError, "payload='xml'"):
            rpc.TTHeader("xml")
