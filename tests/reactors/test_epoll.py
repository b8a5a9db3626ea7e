"""The getty reactor: its differences from Twisted's. ``test_twisted_suite`` tests the rest."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.reactors import Reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.interfaces import IReactorTurns
from getty_tx.listener import EventListener
from getty_tx.reactors.epoll import EPollReactor
from getty_tx.server import Server
from tests.support.memory import configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

ROOT = Path(__file__).resolve().parents[2]

#: Seconds until a waiting test fails.
PATIENCE = 30.0


class Recorder(Protocol):
    """A protocol that calls ``heard``, and records the end."""

    def __init__(self, heard: Callable[[bytes], object]) -> None:
        self.dataReceived = heard  # type: ignore[method-assign]
        self.ended: list[BaseException | None] = []

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.ended.append(reason.value)


class ReactorCase(ReactorBuilder, SynchronousTestCase):
    """Tests with a new reactor, which is the installed one meanwhile."""

    reactorFactory = EPollReactor

    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = self.buildReactor()
        self.end = self.reactor.stop

    def run_(self) -> None:
        """Run the reactor until the test stops it."""
        self.runReactor(self.reactor, PATIENCE)

    def connect(
        self, heard: Callable[[bytes], object], name: str = "-", reads: bool = True
    ) -> tuple[Any, socket.socket]:
        """A connection that passes data to ``heard`` and logs as ``name``, and the socket of its peer."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        connection: Any = Connection(near, Recorder(heard), self.reactor)
        connection.logstr = name
        connection.connected = True
        connection.protocol.makeConnection(connection)
        if reads:
            connection.startReading()
        return connection, far


class IterationTests(ReactorCase):
    """The loop."""

    def test_privateNames(self) -> None:
        """The private attributes of Twisted's reactor that are used exist, with the same meaning."""
        reactor = self.reactor
        for name in ("threadCallQueue", "_newTimedCalls", "_pendingTimedCalls", "_cancellations", "_justStopped"):
            self.assertFalse(getattr(reactor, name), name)
        self.assertFalse(reactor._started)
        self.assertEqual([reactor._internalReaders], [set(reactor._selectables.values())])
        self.assertEqual(set(reactor._selectables), reactor._reads)
        self.assertTrue(callable(reactor._doReadOrWrite) and callable(reactor._disconnectSelectable))
        self.assertFalse(reactor._poller.closed)
        call = reactor.callLater(5, lambda: None)
        self.assertEqual(reactor._newTimedCalls, [call])
        reactor.timeout()
        self.assertEqual((reactor._newTimedCalls, reactor._pendingTimedCalls), ([], [call]))
        call.cancel()
        self.assertEqual(reactor._cancellations, 1)
        reactor.callFromThread(print)
        self.assertEqual(len(reactor.threadCallQueue), 1)
        reactor.threadCallQueue.clear()

    def test_cheapIterations(self) -> None:
        """An iteration with nothing due does not call timeout() or runUntilCurrent()."""
        asked = []
        runUntilCurrent = self.reactor.runUntilCurrent
        self.reactor.runUntilCurrent = lambda: (asked.append(1), runUntilCurrent())
        turns = 0

        def heard(data: bytes) -> None:
            nonlocal turns
            turns += 1
            if turns == 1000:
                self.end()
            peer.send(data)

        _, peer = self.connect(heard)
        peer.send(b"x")
        self.run_()
        self.assertEqual(turns, 1000)
        # The first iteration, the stop, and the shutdown of the reactor.
        self.assertLess(len(asked), 10)


class TimerTests(ReactorCase):
    """Timers, stops and failures beside reads."""

    def test_timersBesideReads(self) -> None:
        """A connection that is always readable does not delay timers and calls from threads."""
        _, peer = self.connect(lambda data: peer.send(data))
        peer.send(b"x")
        happened = []

        def later(times: int) -> None:
            happened.append(times)
            if times < 5:
                self.reactor.callLater(0.001, later, times + 1)
            else:
                self.reactor.callFromThread(self.end)

        self.reactor.callLater(0, later, 1)
        self.run_()
        self.assertEqual(happened, [1, 2, 3, 4, 5])

    def test_cancelledTimers(self) -> None:
        """Any number of cancelled timers does not accumulate."""
        most = 0
        turns = 0

        def heard(data: bytes) -> None:
            nonlocal most, turns
            turns += 1
            for _ in range(10):
                self.reactor.callLater(1000, print).cancel()
            call = self.reactor.callLater(1000, print)
            self.reactor.callLater(0, call.cancel)
            most = max(most, len(self.reactor._pendingTimedCalls))
            if turns == 300:
                self.end()
            peer.send(data)

        _, peer = self.connect(heard)
        peer.send(b"x")
        self.run_()
        self.assertLess(most, 200)

    def test_stopInRead(self) -> None:
        """stop() within an iteration: other ready descriptors are served, then the reactor stops."""
        heard = []
        connections = [
            self.connect(lambda data: (heard.append(data), len(heard) == 1 and self.end())) for _ in range(3)
        ]
        ends = [connection.protocol.ended for connection, _ in connections]
        for number, (_, peer) in enumerate(connections):
            peer.send(b"%d" % number)
        self.run_()
        self.assertEqual(sorted(heard), [b"0", b"1", b"2"])
        self.assertEqual([[type(end) for end in all_] for all_ in ends], [[ConnectionLost]] * 3)

    def test_iterate(self) -> None:
        """iterate() runs one iteration, within a running reactor as well."""
        heard = []

        def nest(data: bytes) -> None:
            heard.append(data)
            if len(heard) == 1:
                other.send(b"inner")
                self.reactor.iterate(PATIENCE)
                self.end()

        self.connect(nest)[1].send(b"outer")
        _, other = self.connect(heard.append)
        self.run_()
        self.assertEqual(heard, [b"outer", b"inner"])

    def test_failingTurn(self) -> None:
        """An error in the loop itself is logged, and the loop goes on."""
        poller = self.reactor._poller

        class Failing:
            asked = 0

            def poll(self, *args: Any) -> Any:
                self.asked += 1
                if self.asked == 1:
                    raise ZeroDivisionError
                return poller.poll(*args)

            def __getattr__(self, name: str) -> Any:
                return getattr(poller, name)

        self.reactor._poller = Failing()
        self.reactor.callLater(0.001, self.end)
        self.run_()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class EndCallTests(ReactorCase):
    """callAtTurnsEnd()."""

    def test_provided(self) -> None:
        self.assertTrue(IReactorTurns.providedBy(self.reactor))

    def test_afterAllEvents(self) -> None:
        """The call comes once, after all ready descriptors of the iteration, and before the wait."""
        order: list[str] = []

        def end() -> None:
            order.append("end")
            if order.count("end") == 2:
                self.end()

        def heard(data: bytes) -> None:
            if "read" not in order:
                self.reactor.callAtTurnsEnd(end)
            order.append("read")

        for _ in range(3):
            self.connect(heard)[1].send(b"x")
        # Nothing wakes the reactor for it, so a call added by a timer must come before the wait, too.
        self.reactor.callLater(0.01, self.reactor.callAtTurnsEnd, end)
        self.run_()
        self.assertEqual(order, ["read"] * 3 + ["end"] * 2)

    def test_asksForMore(self) -> None:
        """A timer, an end call or a stop requested by such a call is not delayed."""
        order: list[str] = []

        def first() -> None:
            order.append("first")
            self.reactor.callLater(0, lambda: order.append("timer"))
            self.reactor.callAtTurnsEnd(second)

        def second() -> None:
            order.append("second")
            self.end()

        self.reactor.callWhenRunning(self.reactor.callAtTurnsEnd, first)
        self.run_()
        self.assertEqual(order, ["first", "timer", "second"])

    def test_again(self) -> None:
        """An end call requested by such a call comes before a wait, though nothing else is due."""
        late = self.reactor.callLater(30, self.end)

        def second() -> None:
            late.cancel()
            self.end()

        self.reactor.callLater(0.01, self.reactor.callAtTurnsEnd, lambda: self.reactor.callAtTurnsEnd(second))
        self.run_()
        self.assertTrue(late.cancelled)

    def test_failing(self) -> None:
        """A call that raises is logged, and does not affect others."""
        self.reactor.callAtTurnsEnd(lambda: 1 // 0)
        self.reactor.callAtTurnsEnd(lambda: self.reactor.callLater(0, self.end))
        self.run_()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_iterate(self) -> None:
        """iterate() makes the end calls, too."""
        ended: list[int] = []
        self.reactor.callAtTurnsEnd(lambda: ended.append(1))
        self.reactor.iterate()
        self.assertEqual(ended, [1])


class TogetherTests(ReactorCase):
    """Sessions on this reactor."""

    def test_answersAtTheTurnsEnd(self) -> None:
        """Replies that are sent together need no timer on this reactor."""
        left = 2000
        made = 0

        class Echo(EventListener):
            def onMessage(self, session: Any, pkg: Any) -> None:
                session.writePkg(pkg)

        class Asking(EventListener):
            def onMessage(self, session: Any, pkg: Any) -> None:
                nonlocal left
                left -= 1
                if left > 0:
                    session.writePkg(pkg)
                elif left == 0:
                    client.stopService()
                    server.stopService().addBoth(lambda _: case.end())

        callLater = self.reactor.callLater

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            return callLater(*args, **kwargs)

        self.reactor.callLater = counted
        case = self
        server = Server(configure(Echo(), LineCodec()), "tcp:0:interface=127.0.0.1", reactor=self.reactor)
        client: Any = None

        def dial(addresses: Any) -> None:
            nonlocal client
            client = Client(
                configure(Asking(), LineCodec()),
                f"tcp:127.0.0.1:{addresses[0].port}",
                number=20,
                reactor=self.reactor,
            )
            client.startService()
            client.whenReady(20).addCallback(lambda _: begin())

        def begin() -> None:
            nonlocal made
            made = 0
            for session in client.sessions:
                session.writePkg(b"?")

        server.startService()
        server.whenListening().addCallback(dial)
        self.run_()
        self.assertLessEqual(left, 0)
        # The wheel's, and those of the shutdown.
        self.assertLess(made, 30)


class InstallTests(SynchronousTestCase):
    """Installing the reactor."""

    def python(self, code: str) -> str:
        """The output of a program in a new process."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_install(self) -> None:
        """install() makes it the process's reactor; a second call is refused, as with any reactor."""
        printed = self.python(
            "import getty_tx.reactors as reactors\n"
            "reactors.install()\n"
            "from twisted.internet import reactor\n"
            "print(type(reactor).__module__)\n"
            "try:\n"
            "    reactors.install()\n"
            "except Exception as error:\n"
            "    print(error)\n"
        )
        self.assertEqual(printed, "getty_tx.reactors.epoll\nreactor already installed\n")

    def test_dropin(self) -> None:
        """twistd finds the reactor by its name."""
        found = [
            value
            for dropin in (ROOT / "twisted" / "plugins").glob("*.py")
            for value in runpy.run_path(str(dropin)).values()
            if isinstance(value, Reactor)
        ]
        self.assertEqual([reactor.shortName for reactor in found], ["getty"])
        # In a new process, which has no reactor yet.
        name = found[0].moduleName
        printed = self.python(
            f"from twisted.application.reactors import Reactor\n"
            f"Reactor('getty', {name!r}, '').install()\n"
            f"from twisted.internet import reactor\n"
            f"print(type(reactor).__module__)\n"
        )
        self.assertEqual(printed, "getty_tx.reactors.epoll\n")

    def test_noEpoll(self) -> None:
        """Without epoll, install() and twistd say so and what to do."""
        printed = self.python(
            "import select, sys\n"
            "del select.epoll\n"
            "import getty_tx.reactors\n"
            "try:\n"
            "    getty_tx.reactors.install()\n"
            "except ImportError as error:\n"
            "    print(error)\n"
            "assert 'twisted.internet.reactor' not in sys.modules\n"
            "from twisted.scripts.twistd import ServerOptions\n"
            "try:\n"
            "    ServerOptions().parseOptions(['--reactor', 'getty'])\n"
            "except Exception as error:\n"
            "    print(error)\n"
        )
        first, second = printed.splitlines()[:2]
        self.assertIn("needs epoll(7)", first)
        self.assertIn("default reactor", first)
        self.assertIn(first, second)
