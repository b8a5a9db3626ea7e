"""Logs: lines of JSON, repeated errors, and which events are logged."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from getty_tx import Client, Server
from getty_tx.logs import JSONObserver
from getty_tx.session.faults import INTERVAL, MOST, Faults
from getty_tx.tap.echo import EchoListener
from tests.support.memory import SessionCase, configure, frame
from tests.tap.test_listen import keepLog


class JSONTests(SessionCase):
    """``getty_tx.logs.json``."""

    def setUp(self) -> None:
        super().setUp()
        self.stream = StringIO()
        observer = JSONObserver(self.stream)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self) -> list[dict[str, Any]]:
        """The written records."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def test_name(self) -> None:
        """--logger finds the observer by its name."""
        verifyObject(ILogObserver, namedAny("getty_tx.logs.json")())

    def test_session(self) -> None:
        """An event about a session has its id, endpoint and peer as fields."""
        pair = self.open(autoClose=True)
        pair.server.close("enough")
        pair.flush()
        [line] = [line for line in self.lines() if "closing" in line["message"]]
        expected = {
            "level": "info",
            "session": pair.server.id,
            "reason": "enough",
            "namespace": "getty_tx.session.session",
        }
        self.assertEqual(expected, {name: line[name] for name in expected})
        self.assertIn(":", line["peer"])
        self.assertIn("endpoint", line)
        self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$")

    def test_failure(self) -> None:
        """A failure has its text and its traceback."""

        def fail(session: Any, pkg: Any) -> None:
            raise ValueError("no way")

        pair = self.open({"message": fail}, autoClose=True)
        pair.peer.write(frame(b"x"))
        pair.flush()
        self.flushLoggedErrors(ValueError)
        [line] = [line for line in self.lines() if "traceback" in line]
        self.assertEqual("ValueError: no way", line["error"])
        self.assertIn("Traceback", line["traceback"])
        self.assertEqual(pair.server.id, line["session"])

    def test_strange(self) -> None:
        """Any event gives a line, and raises nothing."""

        class Bad:
            def __str__(self) -> str:
                raise ValueError("no text")

            __repr__ = __str__

        Logger().info("{bad} {number}", bad=Bad(), number=float("nan"))
        Logger().info("two\nlines")
        self.assertEqual(2, len(self.lines()))
        self.assertEqual("nan", self.lines()[0]["number"])
        self.assertEqual("two\nlines", self.lines()[1]["message"])
        self.stream.close()
        Logger().info("nobody reads")


class FaultsTests(SynchronousTestCase):
    """Repeated errors."""

    def raised(self, kind: type[Exception] = ValueError) -> Exception:
        """An error that was raised here."""
        try:
            raise kind
        except Exception as error:
            return error

    def test_counts(self) -> None:
        """One line every ten seconds, with the number of suppressed ones."""
        clock = Clock()
        faults = Faults(clock.seconds)
        self.assertEqual("", faults.line("callback", self.raised()))
        for _ in range(1000):
            self.assertIsNone(faults.line("callback", self.raised()))
        self.assertEqual("", faults.line("callback", self.raised(KeyError)))
        self.assertEqual("", faults.line("refused", self.raised()))
        clock.advance(INTERVAL)
        self.assertIn("1000 more", faults.line("callback", self.raised()) or "")
        self.assertIsNone(faults.line("callback", self.raised()))
        clock.rightNow = 0.0
        self.assertIsNotNone(faults.line("callback", self.raised()))

    def test_bounded(self) -> None:
        """Errors that never repeat do not use up memory."""
        faults = Faults(Clock().seconds)
        for number in range(2 * MOST):
            faults.line("refused", type(f"Error{number}", (Exception,), {})())
        self.assertEqual(MOST, len(faults._known))


class LineTests(SessionCase):
    """Which events are logged."""

    def test_faults(self) -> None:
        """A thousand sessions that fail in the same way give one line."""

        def fail(session: Any, pkg: Any) -> None:
            raise ValueError("no way")

        pair = self.open({"message": fail}, autoClose=True)
        pairs = [pair] + [self.network.join(self.factory.buildProtocol(None), type(pair.peer)(True)) for _ in range(9)]
        for each in pairs:
            each.peer.write(frame(b"x"))
            each.flush()
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_echo(self) -> None:
        """A thousand peers of an echo server that disconnect at once give one line."""
        lines = keepLog(self)
        listener = EchoListener()
        pair = self.open({"error": listener.onError}, autoClose=True)
        pairs = [pair] + [self.network.join(self.factory.buildProtocol(None), type(pair.peer)(True)) for _ in range(9)]
        for each in pairs:
            each.peer.transport.abortConnection()
            each.flush()
        self.assertEqual(1, len([line for line in lines if "lost" in line]), lines)

    def test_pressure(self) -> None:
        """Long back-pressure gives a line, and its end another; a short one gives none."""
        lines = keepLog(self)
        pair = self.open(network={"capacity": 1000}, highWater=2000, lowWater=1000, autoClose=True, writeTimeout=None)
        pair.peer.transport.pauseProducing()
        pair.server.writePkg(bytes(100_000))
        pair.advance(1.5)
        self.assertEqual([], [line for line in lines if "back-pressure" in line])
        pair.advance(4)
        [line] = [line for line in lines if "back-pressure" in line]
        self.assertIn(str(pair.server), line)
        pair.peer.transport.resumeProducing()
        pair.flush()
        pair.advance(3)
        self.assertIn("is over", [line for line in lines if "back-pressure" in line][1])
        pair.server.close()
        pair.flush()
        self.assertEnded()


class PoolTests(TestCase):
    """A pool on real sockets."""

    async def test_lastSession(self) -> None:
        """A pool logs the loss of its last session, but not the loss of others, nor its own stop."""
        lines = keepLog(self)
        server = Server(configure(EchoListener()), "tcp:0:interface=127.0.0.1")
        server.startService()
        [address] = await server.whenListening()
        ended: list[Deferred[None]] = [Deferred(), Deferred()]
        waiting = iter(ended)

        def newSession(session: Any) -> None:
            configure(EchoListener())(session)
            session.addCloseCallback(lambda: reactor.callLater(0, next(waiting).callback, None), 1)

        client = Client(newSession, f"tcp:127.0.0.1:{address.port}", number=2, reconnectInterval=100)
        client.startService()
        first, second = await client.whenReady(2)
        first.close()
        await ended[0]
        self.assertEqual([], [line for line in lines if "last session" in line])
        second.close(ValueError("enough"))
        await ended[1]
        [line] = [line for line in lines if "last session" in line]
        self.assertIn("enough", line)
        await client.stopService()
        await server.stopService()
