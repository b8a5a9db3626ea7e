"""``getty-dial``: its counts, its log and its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx.listener import EventListener
from getty_tx.server import Server
from getty_tx.tap import dial, echo, ending
from getty_tx.tap.ending import CannotStart
from getty_tx.tap.ping import Ping, shapeFor
from tests.support.certificates import Authority
from tests.tap.test_listen import keepLog

if TYPE_CHECKING:
    from getty_tx.session.session import Session


class FakeSession:
    """A session, as far as Ping uses it."""

    def __init__(self, name: str, fails: Exception | None = None) -> None:
        self.name = name
        self.fails = fails
        self.written: list[bytes] = []

    def __str__(self) -> str:
        return self.name

    def writePkg(self, pkg: bytes) -> None:
        """Store the package."""
        if self.fails is not None:
            raise self.fails
        self.written.append(pkg)


class PingTests(SynchronousTestCase):
    """The stock listener."""

    def setUp(self) -> None:
        self.now = 100.0
        self.settled: list[int] = []
        options = dial.Options()
        options.parseOptions([])
        shape = shapeFor(options.codec, 1000)
        self.ping: Any = Ping(shape, 2.0, lambda: self.settled.append(1), clock=lambda: self.now)
        self.lines = keepLog(self)
        self.a, self.b = FakeSession("a"), FakeSession("b")

    def test_none(self) -> None:
        """Without messages nothing is lost."""
        self.assertEqual("0 messages sent, 0 received, 0% lost", str(self.ping.results))

    def test_roundTrips(self) -> None:
        """Numbers increase over all sessions; the summary is like that of ping."""
        self.ping.sendRound([self.a, self.b])
        self.ping.sendRound([self.a])
        self.assertEqual([b"getty-dial 1", b"getty-dial 3"], self.a.written)
        self.assertEqual([b"getty-dial 2"], self.b.written)
        self.now += 0.001
        self.ping.onMessage(self.a, b"getty-dial 1")
        self.assertEqual([], self.settled)
        self.now += 0.002
        self.ping.onMessage(self.b, b"getty-dial 2")
        self.ping.onMessage(self.a, b"getty-dial 3")
        self.assertEqual([1], self.settled)
        self.assertEqual(
            "3 messages sent, 3 received, 0% lost; round trip min/avg/max/mdev = 1.000/2.333/3.000/0.943 ms",
            str(self.ping.results),
        )
        self.assertEqual("a: message 1 back in 1.000 ms", self.lines[0])

    def test_lost(self) -> None:
        """After the timeout a message is lost; a reply to it does not count."""
        self.ping.sendRound([self.a])
        self.now += 1
        self.ping.sendRound([self.a])
        self.now += 1
        self.ping.giveUp()
        self.assertEqual(["a: message 1 lost: no reply in 2 s"], self.lines)
        self.ping.onMessage(self.a, b"getty-dial 1")
        self.ping.onMessage(self.a, b"getty-dial 2")
        self.assertIn("2 messages sent, 1 received, 50% lost, 1 packages late or not a reply;", str(self.ping.results))

    def test_late(self) -> None:
        """A late reply does not count, also before the next round."""
        self.ping.sendRound([self.a])
        self.now += 2.5
        self.ping.onMessage(self.a, b"getty-dial 1")
        self.assertEqual(0, self.ping.results.received)
        self.ping.giveUp()
        self.assertEqual({}, self.ping.waiting)

    def test_strangers(self) -> None:
        """Greetings, repeated replies, and replies on another session or to no message do not count."""
        self.ping.sendRound([self.a])
        for session, pkg in [(self.a, b"welcome"), (self.b, b"getty-dial 1"), (self.a, b"getty-dial 9")]:
            self.ping.onMessage(session, pkg)
        self.ping.onMessage(self.a, b"getty-dial 1")
        self.ping.onMessage(self.a, b"getty-dial 1")
        self.assertEqual((1, 4), (self.ping.results.received, self.ping.results.other))
        self.assertIn("a: b'welcome' is not a reply, or late", self.lines)
        self.ping.onMessage(self.a, b"x" * 10_000)
        self.assertLess(len(self.lines[-1]), 200)

    def test_notSent(self) -> None:
        """A message that cannot be written was not sent; the other sessions get theirs."""
        self.ping.sendRound([FakeSession("c", RuntimeError("blocked")), self.a])
        self.assertEqual(["message 1 not sent: blocked"], self.lines)
        self.assertEqual((1, [b"getty-dial 2"]), (self.ping.results.sent, self.a.written))

    def test_reconnect(self) -> None:
        """The messages of a lost session are lost; the next session replaces it."""
        for session in (self.a, self.b):
            self.ping.onOpen(session)
        self.ping.sendRound([self.a, self.b])
        self.ping.onError(self.a, ConnectionError("reset"))
        self.ping.onClose(self.a)
        self.assertEqual([], self.settled)
        self.ping.onMessage(self.b, b"getty-dial 2")
        self.ping.onOpen(FakeSession("c"))
        expected = ["a: connected", "b: connected", "a: reset", "a: lost, and 1 messages with it"]
        self.assertEqual(expected, self.lines[:4])
        self.assertEqual("c: reconnected", self.lines[5])
        self.assertIn("2 messages sent, 1 received, 50% lost, 1 sessions lost, 1 reconnected;", str(self.ping.results))

    def test_end(self) -> None:
        """A session that closes at the end is not lost."""
        self.ping.onOpen(self.a)
        self.ping.end()
        self.ping.onClose(self.a)
        self.assertEqual(["a: connected"], self.lines)
        self.assertEqual(0, self.ping.results.closed)


class Quiet(EventListener):
    """Never answers."""


class CloseAtOnce(EventListener):
    """Closes its session when it is open."""

    def onOpen(self, session: Session) -> None:
        """Close the session at once."""
        session.close()


class Ended:
    """Replaces ``endProcess``, which would end trial."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.first: Deferred[int] = Deferred()

    def __call__(self, inside: object, status: int) -> None:
        self.statuses.append(status)
        if len(self.statuses) == 1:
            self.first.callback(status)


class DialTests(TestCase):
    """The service on real sockets."""

    timeout = 20

    def setUp(self) -> None:
        self.path = self.mktemp()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.endpoint = f"unix:{quoteStringArgument(self.path)}"
        self.ended = Ended()
        self.patch(dial, "endProcess", self.ended)
        self.lines = keepLog(self)

    def dial(self, *arguments: str, start: bool = True) -> dial.DialService:
        """A ``getty-dial``, stopped after the test."""
        options = dial.Options()
        options.parseOptions(["--connect", self.endpoint, *arguments])
        service = dial.makeService(options)
        assert isinstance(service, dial.DialService)
        self.addCleanup(service.stopService)
        if start:
            service.startService()
        return service

    async def serve(self, listener: EventListener | None = None) -> Server:
        """A server, stopped after the test."""
        options = echo.Options()
        options.parseOptions([])
        server = Server(options.newSession(listener or echo.EchoListener()), self.endpoint)
        server.startService()
        self.addCleanup(server.stopService)
        await server.whenListening()
        return server

    async def test_count(self) -> None:
        """After --count messages on each session it ends with success, and logs a summary."""
        await self.serve()
        service = self.dial("--number=3", "--interval=0.01", "--count=4")
        self.assertEqual(0, await self.ended.first)
        await service.stopService()
        (summary,) = [line for line in self.lines if "messages sent" in line]
        self.assertTrue(summary.startswith(f"{self.endpoint}: 12 messages sent, 12 received, 0% lost; round"), summary)
        self.assertEqual([0], self.ended.statuses)

    async def test_noReply(self) -> None:
        """Without replies the exit status is 1, after the timeout of the last message."""
        await self.serve(Quiet())
        service = self.dial("--interval=0.01", "--count=2", "--timeout=0.05")
        self.assertEqual(1, await self.ended.first)
        await service.stopService()
        self.assertEqual(2, sum("no reply in 0.05 s" in line for line in self.lines), self.lines)
        self.assertIn(f"{self.endpoint}: 2 messages sent, 0 received, 100% lost", self.lines)

    async def test_nobody(self) -> None:
        """Without a server the rounds end, too."""
        self.dial("--interval=0.01", "--count=2", "--connect-timeout=0.05")
        self.assertEqual(1, await self.ended.first)

    async def test_givenUp(self) -> None:
        """If no session will reconnect, the command ends with a failure."""
        self.dial("--reconnect-attempts=2", "--reconnect-interval=0.01")
        self.assertEqual(1, await self.ended.first)
        self.assertTrue(any(line.startswith("getty-dial ends: ") for line in self.lines), self.lines)

    async def test_reconnects(self) -> None:
        """A restart of the server is counted, and the messages go on."""
        server = await self.serve()
        service = self.dial("--interval=0.01", "--reconnect-interval=0.01")
        ping = service.ping
        assert ping is not None
        while not ping.results.received:
            await self.pause()
        await server.stopService()
        await self.serve()
        before = ping.results.received
        while not ping.results.reconnects or ping.results.received < before + 2:
            await self.pause()
        self.assertEqual((1, 1), (ping.results.closed, ping.results.reconnects))
        self.assertEqual([], self.ended.statuses)

    async def pause(self) -> None:
        """Wait a moment."""
        pause: Deferred[None] = Deferred()
        inside: Any = reactor
        inside.callLater(0.005, pause.callback, None)
        await pause

    async def test_listener(self) -> None:
        """A user's listener replaces the messages; when it has closed its sessions, the command ends."""
        await self.serve()
        service = self.dial("--listener", f"{__name__}:CloseAtOnce", "--number=2")
        self.assertIsNone(service.ping)
        self.assertEqual(0, await self.ended.first)
        await service.stopService()
        self.assertEqual("getty-dial has stopped", self.lines[-1])

    async def test_stop(self) -> None:
        """A stop at any moment leaves neither timers nor sockets, and ends nothing else."""
        server = await self.serve()
        service = self.dial("--interval=0.01")
        await service.stopService()
        service.startService()
        while not server.sessions:
            await self.pause()
        await service.stopService()
        self.assertEqual([], self.ended.statuses)

    def test_fileGone(self) -> None:
        """A file that has disappeared since the check of the options gives one line, not a traceback."""
        authority = Authority(self.mktemp())
        self.endpoint = f"tls:localhost:1:trustRoots={authority.path}"
        service = self.dial(start=False)
        os.unlink(authority.path)
        self.patch(ending.sys, "__stderr__", None)
        error = self.assertRaises(CannotStart, service.startService)
        self.assertIn(authority.path, str(error))

    def test_getty(self) -> None:
        """With the codec of Getty's examples, the command is that of the example for the transport."""
        for connect, command in [
            ("tcp:localhost:1", 1),
            ("udp:127.0.0.1:1", 1),
            ("ws:localhost:1:path=/echo", 0),
            ("ws://localhost:1/echo", 0),
            ("wss://localhost:1/echo", 0),
        ]:
            options = dial.Options()
            options.parseOptions(["--codec=getty", f"--connect={connect}"])
            assert options.shape is not None
            self.assertEqual(command, options.shape.make(7).command, connect)
            self.assertEqual(7, options.shape.number(options.shape.make(7)))

    def test_unstarted(self) -> None:
        """Making a service opens nothing."""
        service = self.dial(start=False)
        self.assertFalse(service.running)
        self.assertEqual([], self.lines)


class RoundTests(SynchronousTestCase):
    """The rounds, on a clock."""

    def test_begin(self) -> None:
        """The first round waits for the sessions, at most for ``--connect-timeout``; the others follow."""
        ended = Ended()
        self.patch(dial, "endProcess", ended)
        memory: Any = MemoryReactorClock()
        options = dial.Options()
        options.parseOptions(["--connect=tcp:192.0.2.1:1", "--connect-timeout=3", "--interval=2", "--count=3"])
        service = dial.DialService(options, memory)
        rounds: list[float] = []
        assert service.ping is not None
        self.patch(service.ping, "sendRound", lambda sessions: rounds.append(memory.seconds()))
        service.startService()
        self.addCleanup(service.stopService)
        memory.pump([0.5] * 20)
        self.assertEqual([3.0, 5.0, 7.0], rounds)
        self.assertEqual([1], ended.statuses)
