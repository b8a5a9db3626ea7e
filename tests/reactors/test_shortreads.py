"""The short path for the reads of sessions on Twisted's own epoll reactor."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from typing import TYPE_CHECKING, Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.python import context
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec, RawCodec
from getty_tx.interfaces import IReactorTurns
from getty_tx.listener import EventListener
from getty_tx.reactors.epoll import EPollReactor as GettyReactor
from getty_tx.reactors.shortreads import ShortReads, shortReadsOf
from getty_tx.server import Server
from tests.reactors import test_epoll, test_epoll_reads, test_errorqueues, test_twisted_suite
from tests.reactors.test_epoll import ReactorCase
from tests.support.certificates import selfSigned
from tests.support.memory import configure
from tests.support.shortreads import announcing

if TYPE_CHECKING:
    from collections.abc import Callable


class Subclass(EPollReactor):
    """Somebody's own reactor."""


def makeCases() -> dict[str, type]:
    """Twisted's own tests of epoll reactors, for that reactor."""
    return test_twisted_suite.makeCases("tests.support.shortreads.announcing", __name__)


globals().update(makeCases())


class FoundTests(SynchronousTestCase):
    """Twisted's tests are run."""

    def test_found(self) -> None:
        cases = makeCases()
        self.assertEqual(len(cases), len(test_twisted_suite.makeCases()))
        self.assertEqual([name for name, case in cases.items() if hasattr(case, "skip")], [])


class AttachTests(ReactorCase):
    """Which reactors get the path."""

    reactorFactory = EPollReactor

    def test_once(self) -> None:
        """The first call makes it, later ones find it; the reactor has ends of turns then."""
        self.assertFalse(IReactorTurns.providedBy(self.reactor))
        made = shortReadsOf(self.reactor)
        self.assertIsInstance(made, ShortReads)
        self.assertIs(shortReadsOf(self.reactor), made)
        self.assertEqual(self.reactor.doIteration, made.doIteration)  # type: ignore[union-attr]
        self.assertTrue(IReactorTurns.providedBy(self.reactor))

    def test_others(self) -> None:
        """Other reactors, subclasses among them, keep their own iteration."""
        for kind in (GettyReactor, Subclass):
            reactor: Any = kind()
            self.assertIsNone(shortReadsOf(reactor))
            self.assertNotIn("doIteration", vars(reactor))
            reactor.removeAll()
            reactor._poller.close()
        self.assertIsNone(shortReadsOf(Clock()))

    def test_programsOwn(self) -> None:
        """A program that has set doIteration keeps what it has set."""
        own = self.reactor.doIteration = lambda delay: EPollReactor.doIteration(self.reactor, delay)
        self.assertIsNone(shortReadsOf(self.reactor))
        self.assertIs(self.reactor.doIteration, own)
        self.assertFalse(IReactorTurns.providedBy(self.reactor))

    def test_privateNames(self) -> None:
        """The private attributes of Twisted's reactor that are used exist, with the same meaning."""
        reactor = self.reactor
        self.assertEqual([reactor._internalReaders], [set(reactor._selectables.values())])
        self.assertTrue(callable(reactor._doReadOrWrite) and callable(reactor._disconnectSelectable))
        self.assertFalse(reactor._poller.closed)
        # The main loop looks the method up in each turn.
        turns: list[Any] = []
        iterate = reactor.doIteration
        reactor.callWhenRunning(
            lambda: setattr(reactor, "doIteration", lambda delay: (turns.append(delay), iterate(0)))
        )
        reactor.callLater(0.01, self.end)
        self.run_()
        self.assertTrue(turns)


class PathCase(ReactorCase):
    """A reactor on which all stream connections take the short path."""

    reactorFactory = announcing


class ReadTests(PathCase):
    """What is served."""

    def test_isShort(self) -> None:
        """Reads of an announced descriptor bypass Twisted's dispatch, and those of a removed one do not."""
        dispatched: list[Any] = []
        dispatch = self.reactor._doReadOrWrite
        self.reactor._doReadOrWrite = lambda selectable, *more: (
            dispatched.append(selectable),
            dispatch(selectable, *more),
        )
        heard: list[bytes] = []

        def read(data: bytes) -> None:
            heard.append(data)
            if len(heard) == 3:
                self.assertNotIn(connection, dispatched)
                shortReadsOf(self.reactor).remove(connection)  # type: ignore[union-attr]
            elif len(heard) == 5:
                self.end()
            peer.send(data)

        connection, peer = self.connect(read)
        peer.send(b"x")
        self.run_()
        self.assertEqual(dispatched.count(connection), 2)

    def test_contextAfterwards(self) -> None:
        """The stack of contexts is as it was after an iteration, whatever happened in it."""
        contexts = context.theContextTracker.currentContext().contexts
        before = list(contexts)

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        for heard in (fail, lambda data: None):
            self.connect(heard)[1].send(b"x")
        self.reactor.iterate(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(contexts, before)

    def test_interrupted(self) -> None:
        """A wait that a signal interrupts is no error; another failure is."""
        poller = self.reactor._poller
        self.addCleanup(setattr, self.reactor, "_poller", poller)

        class Failing:
            def __init__(self, number: int) -> None:
                self.number = number

            def poll(self, *args: Any) -> Any:
                raise OSError(self.number, "")

        self.reactor._poller = Failing(errno.EINTR)
        self.reactor.iterate()
        self.reactor._poller = Failing(errno.EBADF)
        self.assertRaises(OSError, self.reactor.iterate)


class ContextTests(PathCase, test_epoll_reads.ContextTests):
    """Logging and errors in reads, as on the getty reactor."""


class TimerTests(PathCase, test_epoll.TimerTests):
    """Timers, stops and failures beside reads, as on the getty reactor."""


class EndCallTests(PathCase, test_epoll.EndCallTests):
    """callAtTurnsEnd(), as on the getty reactor."""


class ZeroCopyTests(test_errorqueues.ZeroCopyTests):
    """``session.zeroCopy`` on Twisted's own reactor."""

    reactorFactory = EPollReactor

    def setUp(self) -> None:
        super().setUp()
        shortReads: Any = shortReadsOf(self.reactor)
        self.reactor.errorQueues = shortReads.errorQueues


class SessionTests(test_epoll.TogetherTests, test_epoll_reads.ReconnectingTests):
    """Sessions on Twisted's own reactor, which take the path by themselves."""

    reactorFactory = EPollReactor

    def exchange(self, server: str, client: str, codec: Any) -> None:
        """A session of this kind takes the short path while it is open, and nobody keeps its transport then."""
        paths: list[int] = []
        gone: list[Callable[[], Any]] = []

        class Echo(EventListener):
            def onMessage(self, session: Any, pkg: Any) -> None:
                session.writePkg(pkg)

        class Asking(EventListener):
            def onOpen(self, session: Any) -> None:
                session.writePkg(b"?")

            def onMessage(self, session: Any, pkg: Any) -> None:
                paths.append(len(shortReads.contexts))
                gone.append(weakref.ref(session.connection))
                dialling.stopService().addCallback(lambda _: serving.stopService()).addBoth(lambda _: case.end())

        case = self
        dialling: Any = None
        serving = Server(configure(Echo(), codec), server, reactor=self.reactor)

        def dial(addresses: Any) -> None:
            nonlocal dialling
            dialling = Client(
                configure(Asking(), codec), client.replace("PORT", str(addresses[0].port)), reactor=self.reactor
            )
            dialling.startService()

        serving.startService()
        serving.whenListening().addCallback(dial)
        shortReads: Any = shortReadsOf(self.reactor)
        self.run_()
        # The server's and the client's.
        self.assertEqual(paths, [2])
        self.assertEqual(shortReads.contexts, {})
        gc.collect()
        self.assertEqual([ref() for ref in gone], [None])

    def test_tcp(self) -> None:
        self.exchange("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:PORT", LineCodec())

    def test_tls(self) -> None:
        """TLS on the socket: the descriptor is the transport below."""
        cert, key = selfSigned(self.mktempDirectory(), ["127.0.0.1"])
        self.exchange(
            f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={cert}",
            f"tls:127.0.0.1:PORT:trustRoots={cert}",
            LineCodec(),
        )

    def test_webSocket(self) -> None:
        self.exchange("ws:0:interface=127.0.0.1:path=/", "ws:127.0.0.1:PORT:path=/", RawCodec())

    def mktempDirectory(self) -> str:
        path = self.mktemp()
        os.makedirs(path)
        return path
