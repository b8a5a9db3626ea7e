"""asyncio as a guest: tasks that the reactor's side starts, with ``GuestLoop.start``."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.reactors.epoll import EPollReactor
from getty_tx.reactors.guest import guestLoop
from getty_tx.reactors.guestreader import EpollReader
from getty_tx.reactors.shortreads import shortReadsOf
from tests.reactors.guests import REACTORS, GuestCase, onEachReactor

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


class StartMixin:
    """Tasks started in the reactor's callbacks."""

    def test_result(self: Any) -> None:
        """The task has a result, a name and the loop."""

        async def double(value: int) -> int:
            self.assertIs(asyncio.get_running_loop(), self.loop)
            self.assertEqual(asyncio.current_task().get_name(), "doubling")  # type: ignore[union-attr]
            await asyncio.sleep(0)
            return 2 * value

        async def main() -> Any:
            started: Deferred[Any] = Deferred()
            self.reactor.callLater(
                0, lambda: Deferred.fromFuture(self.loop.start(double(4), name="doubling")).chainDeferred(started)
            )
            return await started.asFuture(self.loop)

        self.assertEqual(self.run_(main), 8)

    def test_together(self: Any) -> None:
        """All tasks of one turn have begun at the end of it, and those that do not wait have ended."""

        async def end(value: int) -> int:
            return value

        async def main() -> list[int]:
            looked: Deferred[list[int]] = Deferred()

            def start() -> None:
                tasks = [self.loop.start(end(value)) for value in range(10)]
                self.loop.call_soon(lambda: looked.callback([task.result() for task in tasks]))

            self.reactor.callLater(0, start)
            return await looked.asFuture(self.loop)

        self.assertEqual(self.run_(main), list(range(10)))

    def test_contexts(self: Any) -> None:
        """What a task sets is not seen by the next, though that is started from within; nor outside."""
        seen: list[int] = []

        async def request(value: int) -> None:
            seen.append(number.get())
            number.set(value)
            if value < 3:
                await self.loop.start(request(value + 1))
            self.assertEqual(number.get(), value)

        async def main() -> None:
            started: Deferred[Any] = Deferred()
            self.reactor.callLater(0, lambda: Deferred.fromFuture(self.loop.start(request(1))).chainDeferred(started))
            await started.asFuture(self.loop)

        self.run_(main)
        self.assertEqual(seen, [0, 0, 0])
        self.assertEqual(number.get(), 0)

    def test_givenContext(self: Any) -> None:
        """A context that is given is the task's own."""
        context = contextvars.copy_context()

        async def set_() -> None:
            number.set(5)

        async def main() -> None:
            await self.loop.start(set_(), context)

        self.run_(main)
        self.assertEqual(context[number], 5)

    def test_failing(self: Any) -> None:
        """A task that fails unseen is logged, as asyncio does; the loop goes on."""

        async def break_() -> None:
            raise KeyError("seen by nobody")

        async def main() -> None:
            self.reactor.callLater(0, lambda: self.loop.start(break_()))
            await asyncio.sleep(0.01)

        self.run_(main)
        (failure,) = self.flushLoggedErrors(KeyError)
        self.assertIn("seen by nobody", str(failure.value))

    def test_beforeTheReactorRuns(self: Any) -> None:
        """A task may be started before the reactor runs, and goes on when it does."""
        steps: list[int] = []

        async def step() -> None:
            await asyncio.sleep(0)
            steps.append(1)

        async def main() -> None:
            await task

        task = self.loop.start(step())
        self.assertEqual(steps, [])
        self.run_(main)
        self.assertEqual(steps, [1])

    def test_eager(self: Any) -> None:
        """A task that does not wait is done at once, and nothing is left for a pass."""

        async def end() -> Any:
            self.assertTrue(self.loop.is_running())
            self.assertRaises(RuntimeError, self.loop.end)
            return asyncio.get_running_loop(), asyncio.current_task()

        hooks = sys.get_asyncgen_hooks()
        task = self.loop.start(end())
        self.assertEqual(task.result(), (self.loop, task))
        self.assertFalse(self.loop.is_running())
        self.assertIsNone(asyncio._get_running_loop())
        self.assertEqual(sys.get_asyncgen_hooks(), hooks)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_eagerGenerators(self: Any) -> None:
        """Asynchronous generators that a task's first step has begun are closed at the end of the loop."""
        closed: list[int] = []

        async def numbers() -> Any:
            try:
                while True:
                    yield 1
            finally:
                await asyncio.sleep(0)
                closed.append(1)

        kept = numbers()

        async def begin() -> None:
            async for _ in kept:
                break

        async def main() -> None:
            started: Deferred[Any] = Deferred()
            self.reactor.callLater(0, lambda: Deferred.fromFuture(self.loop.start(begin())).chainDeferred(started))
            await started.asFuture(self.loop)

        self.run_(main)
        self.assertEqual(closed, [1])

    def test_waiting(self: Any) -> None:
        """A task that waits has taken its first step when start() returns, and ends later."""
        steps: list[int] = []

        async def step() -> int:
            steps.append(1)
            await asyncio.sleep(0)
            steps.append(2)
            return 3

        async def main() -> Any:
            made: Deferred[Any] = Deferred()

            def start() -> None:
                task = self.loop.start(step())
                self.assertEqual((steps, task.done()), ([1], False))
                Deferred.fromFuture(task).chainDeferred(made)

            self.reactor.callLater(0, start)
            return await made.asFuture(self.loop)

        self.assertEqual(self.run_(main), 3)
        self.assertEqual(steps, [1, 2])

    def test_leaving(self: Any) -> None:
        """SystemExit of a first step comes out of start(), and the loop is in order after it."""

        async def leave() -> None:
            raise SystemExit(3)

        async def main() -> None:
            left: Deferred[Any] = Deferred()

            def start() -> None:
                self.assertRaises(SystemExit, self.loop.start, leave())
                left.callback((self.loop.is_running(), asyncio._get_running_loop()))

            self.reactor.callLater(0, start)
            self.assertEqual(await left.asFuture(self.loop), (False, None))

        self.run_(main)
        gc.collect()
        self.flushLoggedErrors(SystemExit)

    def test_nested(self: Any) -> None:
        """A first step starts other tasks, in the same way."""
        begun: list[int] = []

        async def begin(value: int) -> None:
            mine = asyncio.current_task()
            begun.append(value)
            if value < 3:
                task = self.loop.start(begin(value + 1))
                self.assertIs(asyncio.get_running_loop(), self.loop)
                self.assertTrue(task.done())
                self.assertIs(asyncio.current_task(), mine)

        async def main() -> None:
            await self.loop.start(begin(1))

        self.run_(main)
        self.assertEqual(begun, [1, 2, 3])

    def test_entered(self: Any) -> None:
        """Within ``entered`` the loop is the running one, with its hooks; tasks begin in it; it may be nested."""
        seen: list[Any] = []

        def look() -> None:
            hooks = sys.get_asyncgen_hooks()
            seen.append((asyncio._get_running_loop() is self.loop, hooks.firstiter is not None))

        async def end() -> None:
            look()

        def start() -> None:
            look()
            with self.loop.entered():
                look()
                self.assertTrue(all(self.loop.start(end()).done() for _ in range(2)))
                with self.loop.entered():
                    look()
                self.assertIsNone(asyncio.current_task(self.loop))
                look()
            look()
            with self.assertRaises(ZeroDivisionError), self.loop.entered():
                self.loop.call_soon(over.set)
                raise ZeroDivisionError
            look()

        over = asyncio.Event()

        async def main() -> None:
            self.reactor.callLater(0, start)
            await over.wait()

        self.run_(main)
        out, within = (False, False), (True, True)
        self.assertEqual(seen, [out, within, within, within, within, within, out, out])

    def test_otherLoopRuns(self: Any) -> None:
        """While another loop runs in the thread, the task begins later, and the other loop stays the running one."""

        async def end() -> Any:
            return asyncio.get_running_loop()

        async def other() -> Any:
            task = self.loop.start(end())
            self.assertFalse(task.done())
            self.assertIsNot(asyncio.get_running_loop(), self.loop)
            return task

        task = asyncio.run(other())

        async def main() -> Any:
            return await task

        self.assertIs(self.run_(main), self.loop)


onEachReactor(StartMixin, SynchronousTestCase, globals())


class StayingMixin:
    """With ``staysEntered``, where the reactor has an end of a turn."""

    def setUp(self: Any) -> None:
        super().setUp()  # type: ignore[misc]
        self.loop.staysEntered = True
        self.stays = hasattr(self.reactor, "callAtTurnsEnd")

    def seen(self: Any) -> tuple[bool, bool]:
        """Whether the loop is the running one, and has its hooks."""
        hooks = sys.get_asyncgen_hooks()
        return asyncio._get_running_loop() is self.loop, hooks.firstiter is not None and hooks.finalizer is not None

    def test_turn(self: Any) -> None:
        """The loop is the running one from the first start to the end of the turn; a pass of that turn runs as ever."""
        seen: list[Any] = []

        async def end() -> None:
            self.assertIs(asyncio.current_task()._loop, self.loop)  # type: ignore[union-attr]

        def start() -> None:
            seen.append(self.seen())
            for _ in range(3):
                task = self.loop.start(end())
                self.assertTrue(task.done())
                seen.append((*self.seen(), asyncio.current_task(self.loop)))
            self.loop.call_soon(inPass)

        def inPass() -> None:
            seen.append(("pass", *self.seen()))
            self.reactor.callLater(0, later)

        def later() -> None:
            seen.append(("later", *self.seen()))
            self.loop.call_soon(over.set)

        over = asyncio.Event()

        async def main() -> None:
            self.reactor.callLater(0, start)
            await over.wait()

        self.run_(main)
        within = (self.stays, self.stays, None)
        self.assertEqual(seen, [(False, False), within, within, within, ("pass", True, True), ("later", False, False)])
        self.assertEqual(self.seen(), (False, False))

    def test_nested(self: Any) -> None:
        """A first step starts other tasks; so does a pass."""
        begun: list[int] = []

        async def begin(value: int) -> None:
            mine = asyncio.current_task()
            begun.append(value)
            if value % 3:
                task = self.loop.start(begin(value + 1))
                self.assertTrue(task.done())
                self.assertIs(asyncio.current_task(), mine)

        async def main() -> None:
            await self.loop.start(begin(1))
            self.reactor.callLater(0, lambda: self.loop.start(begin(4)))
            await asyncio.sleep(0.001)

        self.run_(main)
        self.assertEqual(begun, [1, 2, 3, 4, 5, 6])

    def test_stop(self: Any) -> None:
        """The reactor stops in such a turn, or the first step stops it: the loop ends all the same."""

        async def stop() -> None:
            self.reactor.stop()

        self.reactor.callWhenRunning(lambda: self.loop.start(stop()))
        self.runReactor(self.reactor)
        self.assertTrue(self.loop.is_closed())
        self.assertEqual(self.seen(), (False, False))

    def test_end(self: Any) -> None:
        """end() outside of the reactor's turns."""

        async def end() -> None:
            self.assertRaises(RuntimeError, self.loop.end)

        self.loop.start(end()).result()
        self.assertEqual(self.seen()[0], self.stays)
        self.loop.end()
        self.assertTrue(self.loop.is_closed())
        self.assertEqual(self.seen(), (False, False))


onEachReactor(StayingMixin, SynchronousTestCase, globals())


class EndedTests(SynchronousTestCase):
    """A loop that has ended."""

    def test_start(self) -> None:
        """It starts nothing, and says so."""

        async def end() -> None: ...

        loop = guestLoop(EPollReactor())
        loop.end()
        coroutine = end()
        error = self.assertRaises(RuntimeError, loop.start, coroutine)
        coroutine.close()
        self.assertIn("closed", str(error))


class ShortReadCase(GuestCase):
    """Events of the loop's descriptors take the reactor's short path."""

    def short(self) -> bool:
        """Whether they do."""
        raise NotImplementedError

    def test_short(self: Any) -> None:
        """They do from the second on, and until the loop watches nothing."""

        async def main() -> None:
            near, far = socket.socketpair()
            near.setblocking(False)
            for _ in range(3):
                self.reactor.callLater(0.001, far.send, b"x")
                await self.loop.sock_recv(near, 1)
            reading = asyncio.ensure_future(self.loop.sock_recv(near, 1))
            await asyncio.sleep(0.001)
            self.assertTrue(self.short())
            far.send(b"x")
            await reading
            near.close()
            far.close()
            await asyncio.sleep(0.001)
            self.assertFalse(self.short())

        self.run_(main)


class GettyShortReadTests(ShortReadCase, SynchronousTestCase):
    """On the getty reactor."""

    def short(self) -> bool:
        return any(isinstance(known.descriptor, EpollReader) for known in self.reactor.readContexts.values())


class EpollShortReadTests(ShortReadCase, SynchronousTestCase):
    """On Twisted's own epoll reactor."""

    reactorFactory = REACTORS["Epoll"]

    def short(self) -> bool:
        return any(isinstance(each, EpollReader) for each in shortReadsOf(self.reactor).contexts)  # type: ignore[union-attr]
