"""Tests of processes/subreactor: start and end, in this process."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel, eventFromJSON, formatEvent

from getty_tx import SettingError
from getty_tx.processes import channel as passing
from getty_tx.processes.channel import unpackNumbers
from getty_tx.processes.drain import SILENCE
from getty_tx.status.merging import decodeSnapshot
from getty_tx.status.subreactor import SUBREACTOR_STATUS
from tests.support.processes import SubTestCase, making
from tests.tap.test_listen import keepLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.session import Session


class StartTests(SubTestCase):
    """The start."""

    async def failure(self, make: Callable[..., Any]) -> str:
        """Return the FAILED message when the service cannot be made."""
        making.append(make)
        self.addCleanup(making.pop)
        self.make("tcp:8090", "tcp:8091")
        await self.over
        return (await self.expect(passing.FAILED)).decode()

    async def test_error(self) -> None:
        """FAILED has the type of an error, unless its text is enough."""
        self.assertEqual("ZeroDivisionError: division by zero", await self.failure(lambda endpoints: 1 / 0))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_setting(self) -> None:
        """The text of an error of this package is enough."""

        def make(endpoints: Any) -> Any:
            raise SettingError("--codec x: there is none")

        self.assertEqual("--codec x: there is none", await self.failure(make))
        self.flushLoggedErrors(SettingError)

    async def test_noService(self) -> None:
        """A target that returns no service fails."""
        self.assertIn("TypeError", await self.failure(lambda endpoints: None))
        self.flushLoggedErrors(TypeError)

    async def test_unused(self) -> None:
        """It is ready when the service listens on all endpoints."""
        making.append(lambda endpoints: self.makeServer(endpoints[:1]))
        self.addCleanup(making.pop)
        self.make("tcp:8090", "tcp:8091")
        await deferLater(reactor, 0.02)
        self.assertNotIn(passing.READY, [kind for kind, _ in self.hear()])

    async def test_certificates(self) -> None:
        """A certificate file that is missing by now is an error."""
        self.make("ssl:8443:certKey=gone.pem:privateKey=gone.pem")
        await self.over
        self.assertIn(b"gone.pem", await self.expect(passing.FAILED))
        self.flushLoggedErrors()

    async def test_beats(self) -> None:
        """It sends heartbeats with its counters."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        await self.receive(client)
        client.close()
        await self.expect(passing.ENDED)
        self.messages.clear()
        counts = json.loads((await self.expect(passing.BEAT)).partition(b"}")[0] + b"}")
        wanted = {"served": 1, "sessions": 0, "connections": 0, "readBytes": 6, "readPkgs": 1, "writePkgs": 1}
        self.assertEqual(wanted, {name: counts[name] for name in wanted})

    async def test_log(self) -> None:
        """Events of the log go to the main process with their fields, or shortened."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        logger = Logger("some.place", observer=self.sub.relay)  # type: ignore[arg-type]
        logger.warn("{session} has {number}", session=self.sub, number=5)
        event = eventFromJSON((await self.expect(passing.LOG)).decode())
        self.assertEqual(f"{self.sub} has 5", formatEvent(event))
        self.assertEqual(("some.place", LogLevel.warn), (event["log_namespace"], event["log_level"]))
        self.messages.clear()
        logger.error("{text}", text="x" * 200_000)
        event = eventFromJSON((await self.expect(passing.LOG)).decode())
        self.assertEqual(LogLevel.error, event["log_level"])
        self.assertIn("xxx", formatEvent(event))

    async def test_logFlood(self) -> None:
        """When the main process does not read, events are dropped, and their number is logged."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        logger = Logger("some.place", observer=self.sub.relay)  # type: ignore[arg-type]
        lines = keepLog(self)
        for _ in range(3000):
            logger.info("x" * 1000)
        self.assertLess(self.sub.channel.queued, 1100)
        while self.sub.channel.queued:
            self.hear()
            await deferLater(reactor, 0)
        logger.info("more")
        self.assertTrue(any("events of the log were dropped" in line for line in lines))


class EndTests(SubTestCase):
    """The end."""

    async def test_drain(self) -> None:
        """Sessions at rest are closed, later connections are returned, and the process ends."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        await deferLater(reactor, 0.01)
        other = self.connect(2)
        self.assertEqual([2], unpackNumbers(await self.expect(passing.RETURNED)).tolist())
        self.assertEqual(b"", await self.receive(client))
        client.close()
        await self.over
        self.assertEqual([1], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        other.close()

    async def test_drainBusy(self) -> None:
        """A session that waits for its handler, or has an incomplete package, is not at rest."""
        waiting: list[Deferred[None]] = []

        async def onMessage(session: Session, pkg: Any) -> None:
            waiting.append(Deferred())
            await waiting[-1]
            session.writePkg(pkg)

        self.listener.onMessage = onMessage
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client, other = self.connect(1), self.connect(2)
        client.send(b"hello\n")
        other.send(b"begun")
        while not waiting:
            await deferLater(reactor, 0.002)
        self.tell(passing.DRAIN, struct.pack("<d", 60.0))
        await deferLater(reactor, SILENCE * 2)
        for each in (client, other):
            self.assertRaises(BlockingIOError, each.recv, 1)
        waiting.pop().callback(None)
        other.send(b" and ended\n")
        while not waiting:
            await deferLater(reactor, 0.002)
        waiting.pop().callback(None)
        for each, expected in ((client, b"hello\n"), (other, b"begun and ended\n")):
            self.assertEqual(expected, await self.receive(each, 100))
            each.close()
        await self.over

    async def test_arrivedBefore(self) -> None:
        """Connections that came before DRAIN get their answers."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        self.assertEqual(b"hello\n", await self.receive(client, 100))
        client.close()
        await self.over

    async def test_late(self) -> None:
        """Sessions that do not come to rest are closed after the timeout."""
        self.listener.onMessage = lambda session, pkg: Deferred()
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        while not self.listener.opened:
            await deferLater(reactor, 0.002)
        self.listener.opened[0].waitTime = 0.1
        self.tell(passing.DRAIN, struct.pack("<d", 0.5))
        await self.over

    async def test_leave(self) -> None:
        """After a signal it sends LEAVING and drains."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.sub.leave()
        self.sub.leave()
        await self.expect(passing.LEAVING)
        await self.over
        self.assertEqual(1, len([kind for kind, _ in self.hear() if kind == passing.LEAVING]))

    async def test_mainGone(self) -> None:
        """It drains when the main process has ended."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.main.close()
        self.assertEqual(b"", await self.receive(client))
        client.close()
        await self.over

    async def test_stopFails(self) -> None:
        """It ends even if the service fails to stop."""

        class Failing(MultiService):
            def stopService(self) -> Any:
                raise ZeroDivisionError

        def make(endpoints: Any) -> Any:
            service = Failing()
            self.makeServer(endpoints).setServiceParent(service)  # type: ignore[no-untyped-call]
            return service

        making.append(make)
        self.addCleanup(making.pop)
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        await self.over
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.sub.service = self.servers[0]


class AnswerTests(SubTestCase):
    """Answers for the status of the main process."""

    async def answers(self, count: int) -> list[tuple[int, list[Any]]]:
        """Return the numbers and the items of answers."""
        while True:
            parts = [data for kind, data in self.hear() if kind == passing.ANSWER]
            found: list[tuple[int, list[Any]]] = []
            things: list[Any] = []
            for part in parts:
                things += json.loads(part[5:])
                if part[4]:
                    found.append((struct.unpack("=I", part[:4])[0], things))
                    things = []
            if len(found) >= count:
                return found
            await deferLater(reactor, 0.005)

    def ask(self, number: int, *question: Any) -> None:
        """Send a query."""
        self.tell(passing.ASK, struct.pack("=I", number) + json.dumps(question).encode())

    async def test_answers(self) -> None:
        """It answers with totals and rows, closes sessions, and sends a last report after its service has stopped."""
        self.make("tcp:8090", answering=SUBREACTOR_STATUS)
        await self.expect(passing.READY)
        clients = [self.connect(number) for number in (1, 2)]
        for client in clients:
            client.send(b"hello\n")
            await self.receive(client)
        self.ask(7, "collect", -1)
        self.ask(8, "order", "id")
        [(number, things), (_, [[order, total]])] = sorted(await self.answers(2))
        snapshot = decodeSnapshot(thing for thing in things if not thing[0].startswith("error"))
        [service] = snapshot.services
        self.assertEqual((7, "server", ["tcp:8090"]), (number, service.name, list(service.endpoints)))
        self.assertEqual((12, 2), (snapshot.endpoints[0].totals.readBytes, total))
        self.ask(9, "rows", order, 0, 2)
        first = (await self.answers(3))[-1][1][0]
        self.ask(10, "close", first[1], "no more")
        self.assertEqual((10, [True]), (await self.answers(4))[-1])
        self.tell(passing.DRAIN, struct.pack("<d", 4.0))
        for client in clients:
            await self.receive(client, 100)
            client.close()
        await self.over
        number, things = (await self.answers(5))[-1]
        snapshot = decodeSnapshot(thing for thing in things if not thing[0].startswith("error"))
        self.assertEqual((0, 12), (number, snapshot.endpoints[0].totals.readBytes))
        self.assertEqual({"local": 1, "stopping": 1}, snapshot.endpoints[0].totals.closed)

    async def test_withoutStatus(self) -> None:
        """Without an IAnswering, queries are ignored."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.ask(1, "collect", -1)
        client = self.connect(1)
        client.send(b"hello\n")
        await self.receive(client)
        self.assertNotIn(passing.ANSWER, [kind for kind, _ in self.hear()])
