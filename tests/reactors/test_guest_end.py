"""asyncio as a guest: its end, and what it does not do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.reactors.epoll import EPollReactor
from getty_tx.reactors.guest import guestLoop
from tests.reactors.guests import onEachReactor


def collected(case: Any, level: LogLevel) -> list[dict[str, Any]]:
    """The log's events of a level from now on, until the end of the test."""
    found: list[dict[str, Any]] = []

    def observe(event: Any) -> None:
        if event.get("log_level") is level:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    case.addCleanup(globalLogPublisher.removeObserver, observe)
    return found


class EndMixin:
    """The reactor's stop."""

    def test_tasks(self: Any) -> None:
        """Tasks are cancelled, and may wait for the loop while they end; the loop is closed then."""
        ended: list[str] = []

        async def hang() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.001)
                await asyncio.to_thread(ended.append, "hang")

        async def main() -> None:
            self.task = asyncio.create_task(hang())
            await asyncio.sleep(0)

        self.run_(main)
        self.assertEqual(ended, ["hang"])
        self.assertTrue(self.task.cancelled())
        self.assertTrue(self.loop.is_closed())
        self.assertFalse(self.loop.is_running())
        self.assertIsNone(asyncio._get_running_loop())
        # trial goes on with a reactor that it has told to stop.
        another = guestLoop(self.reactor)
        self.assertIsNot(another, self.loop)
        another.end()

    def test_whileServicesStop(self: Any) -> None:
        """As long as a service stops, the loop runs on, even when the last step of it is a task's."""
        steps: list[str] = []

        async def stopping() -> None:
            await asyncio.sleep(0.01)
            self.assertFalse(self.task.done())
            steps.append("service")
            stopped.callback(None)
            # Whatever comes after it in the same step still runs on the loop.
            self.assertIs(asyncio.get_running_loop(), self.loop)
            steps.append("step")

        async def hang() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                steps.append("hang")

        def stopService() -> Any:
            self.loop.create_task(stopping())
            return stopped

        async def main() -> None:
            self.task = asyncio.create_task(hang())
            await asyncio.sleep(0)

        stopped: Deferred[None] = Deferred()
        self.reactor.addSystemEventTrigger("before", "shutdown", stopService)
        self.run_(main)
        self.assertEqual(steps, ["service", "step", "hang"])
        self.assertTrue(self.loop.is_closed())

    def test_firstStep(self: Any) -> None:
        """The same where the last step is the first one of a task that start() begins."""

        async def stopping() -> None:
            stopped.callback(None)

        async def main() -> None: ...

        def stopService() -> Any:
            self.reactor.callLater(0, lambda: self.loop.start(stopping()))
            return stopped

        stopped: Deferred[None] = Deferred()
        self.reactor.addSystemEventTrigger("before", "shutdown", stopService)
        self.run_(main)
        self.assertTrue(self.loop.is_closed())

    def test_generators(self: Any) -> None:
        """Asynchronous generators are closed."""
        closed: list[int] = []

        async def numbers() -> Any:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                closed.append(1)

        kept = numbers()

        async def main() -> None:
            await anext(kept)

        self.run_(main)
        self.assertEqual(closed, [1])

    def test_stubbornTask(self: Any) -> None:
        """A task that does not end when it is cancelled is left after a time, with a line in the log."""
        warned = collected(self, LogLevel.warn)
        self.loop.endTime = 0.02

        async def stay() -> None:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if self.loop.is_closed():
                        raise

        async def main() -> None:
            self.task = self.loop.create_task(stay(), name="stubborn")
            await asyncio.sleep(0)

        self.run_(main)
        self.assertIn("stubborn", repr(warned[0]["task"]))
        self.assertTrue(self.loop.is_closed())
        self.task._log_destroy_pending = False

    def test_failingTask(self: Any) -> None:
        """A task that fails while it ends is logged."""

        async def break_() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise KeyError("ending")

        async def main() -> None:
            self.task = self.loop.create_task(break_())
            await asyncio.sleep(0)

        self.run_(main)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_busyThread(self: Any) -> None:
        """A call in the executor that does not return does not hold the reactor's end up."""
        warned = collected(self, LogLevel.warn)
        self.loop.endTime = 0.02
        release = threading.Event()
        self.addCleanup(release.set)

        async def main() -> None:
            self.loop.run_in_executor(None, release.wait, 30)

        self.run_(main)
        self.assertIn("executor", warned[0]["log_format"])
        self.assertTrue(self.loop.is_closed())

    def test_connections(self: Any) -> None:
        """Open connections and a server are no hindrance."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Python 3.11 logs the cancellation of such a task as an error.
            with contextlib.suppress(asyncio.CancelledError):
                await reader.read()
            writer.close()

        async def main() -> None:
            self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.stream = await asyncio.open_connection(*self.server.sockets[0].getsockname())
            await asyncio.sleep(0.01)

        async def close() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                self.stream[1].close()
                self.server.close()

        async def both() -> None:
            self.closing = asyncio.create_task(close())
            await main()

        self.run_(both)
        self.assertTrue(self.loop.is_closed())


class LoggedMixin:
    """What goes wrong in callbacks."""

    def test_callback(self: Any) -> None:
        """An exception of a callback is logged with its traceback by Twisted's logger."""
        critical = collected(self, LogLevel.critical)

        async def main() -> None:
            self.loop.call_soon(lambda: 1 // 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.run_(main)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (event,) = critical
        self.assertIn("Exception in callback", event["text"])
        self.assertIn("handle: ", event["details"])
        self.assertIn("1 // 0", event["log_failure"].getTraceback())

    def test_withoutException(self: Any) -> None:
        """So is what has a message only."""
        errors = collected(self, LogLevel.error)
        self.loop.call_exception_handler({"message": "odd", "number": 3})
        self.assertEqual((errors[0]["text"], errors[0]["details"]), ("odd", "\nnumber: 3"))
        self.flushLoggedErrors()

    def test_ownHandler(self: Any) -> None:
        """set_exception_handler works."""
        seen: list[Any] = []
        self.loop.set_exception_handler(lambda loop, context: seen.append((loop, context["exception"])))

        async def main() -> None:
            self.loop.call_soon(lambda: 1 // 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.run_(main)
        ((loop, error),) = seen
        self.assertIs(loop, self.loop)
        self.assertIsInstance(error, ZeroDivisionError)

    def test_systemExit(self: Any) -> None:
        """As in all of the reactor's callbacks, SystemExit is logged; the callbacks behind it run."""

        def leave() -> None:
            raise SystemExit(3)

        async def main() -> int:
            ran: list[int] = []
            self.loop.call_soon(leave)
            self.loop.call_soon(ran.append, 1)
            await asyncio.sleep(0.001)
            return len(ran)

        self.assertEqual(self.run_(main), 1)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)


for _mixin in (EndMixin, LoggedMixin):
    onEachReactor(_mixin, SynchronousTestCase, globals())


class RefusedTests(SynchronousTestCase):
    """What the reactor does itself."""

    def setUp(self) -> None:
        self.reactor = EPollReactor()
        self.loop = guestLoop(self.reactor)
        self.addCleanup(self.loop.end)

    def test_running(self) -> None:
        """The loop is not run, stopped or closed by others; the texts say what to do."""

        async def end() -> None: ...

        for call, way in (
            (self.loop.run_forever, "create_task"),
            (lambda: self.loop.run_until_complete(end()), "Deferred.fromFuture"),
            (self.loop.stop, "reactor.stop"),
            (self.loop.close, "when the reactor has stopped"),
        ):
            self.assertIn(way, str(self.assertRaises(RuntimeError, call)))
        self.assertFalse(self.loop.is_closed())

    def test_closedTwice(self) -> None:
        """close() of a loop that has ended does nothing, as of any closed loop; neither does end()."""
        self.loop.end()
        self.loop.close()
        self.loop.end()

    def test_signals(self) -> None:
        """There are no signal handlers, in the way that asyncio's libraries expect it."""
        error = self.assertRaises(NotImplementedError, self.loop.add_signal_handler, signal.SIGHUP, int)
        self.assertIn("addSystemEventTrigger", str(error))
        self.assertFalse(self.loop.remove_signal_handler(signal.SIGHUP))

    def test_names(self) -> None:
        """What of asyncio has an underscore is there for those who write loops and tasks: in ``__all__``, that is."""
        self.assertLessEqual({"_get_running_loop", "_set_running_loop"}, set(asyncio.events.__all__))
        self.assertLessEqual({"_enter_task", "_leave_task"}, set(asyncio.tasks.__all__))

    def test_noLeak(self) -> None:
        """Reactor and loop go when nobody refers to them."""
        reactor = EPollReactor()
        loop = guestLoop(reactor)
        gone = [weakref.ref(reactor), weakref.ref(loop)]
        del reactor, loop
        gc.collect()
        self.assertEqual([reference() for reference in gone], [None, None])
