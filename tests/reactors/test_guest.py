"""asyncio as a guest: what asyncio offers, on the reactors that there are."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.reactors.guest import GuestLoop, guestLoop
from tests.reactors.guests import onEachReactor

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


class TasksMixin:
    """Tasks and what they wait for."""

    def test_runningLoop(self: Any) -> None:
        """Within a task the loop is the running one; outside it is the thread's."""

        async def main() -> None:
            self.assertIs(asyncio.get_running_loop(), self.loop)
            self.assertTrue(self.loop.is_running())
            outside: Deferred[Any] = Deferred()
            self.reactor.callLater(0, lambda: outside.callback((asyncio._get_running_loop(), self.loop.is_running())))
            self.assertEqual(await outside.asFuture(self.loop), (None, False))

        self.run_(main)

    def test_onlyOne(self: Any) -> None:
        """A reactor has one loop, which is a selector event loop."""
        self.assertIs(guestLoop(self.reactor), self.loop)
        self.assertIs(guestLoop(), self.loop)
        self.assertIs(asyncio.get_event_loop_policy().get_event_loop(), self.loop)
        self.assertIsInstance(self.loop, asyncio.SelectorEventLoop)
        self.assertIs(type(self.loop), GuestLoop)

    def test_ensureFuture(self: Any) -> None:
        """Twisted's code makes a task without naming the loop."""

        async def double(value: int) -> int:
            await asyncio.sleep(0)
            return 2 * value

        async def main() -> Any:
            made: Deferred[Any] = Deferred()
            self.reactor.callLater(0, lambda: Deferred.fromFuture(asyncio.ensure_future(double(4))).chainDeferred(made))
            return await made.asFuture(self.loop)

        self.assertEqual(self.run_(main), 8)

    def test_order(self: Any) -> None:
        """Callbacks run in the order in which they were added."""
        ran: list[int] = []

        async def main() -> None:
            for index in range(5):
                self.loop.call_soon(ran.append, index)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.run_(main)
        self.assertEqual(ran, [0, 1, 2, 3, 4])

    def test_reactorHasItsTurn(self: Any) -> None:
        """Between passes of a loop that is always busy the reactor serves its own events."""
        served: list[int] = []

        async def main() -> int:
            passes = 0
            self.reactor.callLater(0, served.append, 1)
            near, far = socket.socketpair()
            self.addCleanup(near.close)
            self.addCleanup(far.close)
            far.send(b"x")
            self.reactor.addReader(Reader(near, served, self.reactor))
            while len(served) < 2:
                passes += 1
                await asyncio.sleep(0)
            return passes

        self.assertLess(self.run_(main), 1000)

    def test_contexts(self: Any) -> None:
        """Each task has its own context, a copy of that of whoever made it."""

        async def change(value: int) -> int:
            before = number.get()
            number.set(value)
            await asyncio.sleep(0)
            self.assertEqual(number.get(), value)
            return before

        async def main() -> list[int]:
            number.set(7)
            befores = await asyncio.gather(change(1), change(2))
            self.assertEqual(number.get(), 7)
            return befores

        self.assertEqual(self.run_(main), [7, 7])
        self.assertEqual(number.get(), 0)

    def test_queueLockEvent(self: Any) -> None:
        """Tasks talk through a queue, a lock and an event."""

        async def main() -> list[int]:
            queue: asyncio.Queue[int] = asyncio.Queue(1)
            lock, over = asyncio.Lock(), asyncio.Event()
            taken = []

            async def take() -> None:
                while len(taken) < 20:
                    value = await queue.get()
                    async with lock:
                        await asyncio.sleep(0)
                        taken.append(value)
                over.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(take())
                for value in range(20):
                    await queue.put(value)
                await over.wait()
            return taken

        self.assertEqual(self.run_(main), list(range(20)))

    def test_taskGroup(self: Any) -> None:
        """The failure of one task cancels the others of its group."""
        cancelled = []

        async def wait() -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

        async def break_() -> None:
            await asyncio.sleep(0)
            raise KeyError(1)

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait())
                group.create_task(break_())

        with self.assertRaises(ExceptionGroup) as raised:
            self.run_(main)
        self.assertIsInstance(raised.exception.exceptions[0], KeyError)
        self.assertEqual(cancelled, [1])

    def test_timeout(self: Any) -> None:
        """asyncio.timeout ends what takes too long, and leaves no timer in the reactor."""

        async def main() -> None:
            async with asyncio.timeout(3600):
                await asyncio.sleep(0)
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                # The time limit of the test itself.
                self.assertLessEqual(len(self.reactor.getDelayedCalls()), 2)

        self.assertRaises(TimeoutError, self.run_, main)

    def test_cancel(self: Any) -> None:
        """A task that is cancelled ends with CancelledError."""

        async def main() -> None:
            task = asyncio.create_task(asyncio.sleep(3600))
            await asyncio.sleep(0)
            task.cancel()
            await task

        self.assertRaises(asyncio.CancelledError, self.run_, main)

    def test_threads(self: Any) -> None:
        """A thread wakes the loop while the reactor waits, whether the loop has descriptors or not."""

        async def main() -> list[str]:
            named = []
            for watched in (False, True):
                done = asyncio.Event()
                sockets = socket.socketpair()
                if watched:
                    self.loop.add_reader(sockets[0], int)
                thread = threading.Thread(target=lambda done=done: self.loop.call_soon_threadsafe(done.set))
                self.reactor.callLater(0.01, thread.start)
                await done.wait()
                thread.join()
                self.loop.remove_reader(sockets[0])
                for end in sockets:
                    end.close()
                named.append(await asyncio.to_thread(lambda: threading.current_thread().name))
            return named

        for name in self.run_(main):
            self.assertTrue(name.startswith("asyncio"))

    def test_coroutineFromThread(self: Any) -> None:
        """run_coroutine_threadsafe gives a result to a thread."""

        async def double(value: int) -> int:
            await asyncio.sleep(0)
            return 2 * value

        async def main() -> Any:
            def ask() -> int:
                return asyncio.run_coroutine_threadsafe(double(21), self.loop).result(30)

            return await asyncio.to_thread(ask)

        self.assertEqual(self.run_(main), 42)


class Reader:
    """A reader that reads once."""

    def __init__(self, near: socket.socket, served: list[int], reactor: Any) -> None:
        self.near, self.served, self.reactor = near, served, reactor

    def fileno(self) -> int:
        return self.near.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> None:
        self.reactor.removeReader(self)
        self.served.append(2)

    def connectionLost(self, reason: Any) -> None: ...


class TimersMixin:
    """Timers of asyncio."""

    def test_order(self: Any) -> None:
        """Timers come in the order of their times, and not early."""

        async def main() -> list[tuple[int, bool]]:
            came: list[tuple[int, bool]] = []
            over = asyncio.Event()
            start = self.loop.time()

            def due(index: int) -> None:
                came.append((index, self.loop.time() - start + 1e-6 >= index / 100))
                if len(came) == 5:
                    over.set()

            for index in (3, 1, 4, 2, 5):
                self.loop.call_at(start + index / 100, due, index)
            await over.wait()
            return came

        self.assertEqual(self.run_(main), [(index, True) for index in range(1, 6)])

    def test_fromOutside(self: Any) -> None:
        """A timer that Twisted's code sets comes, also one that is earlier than another that waits."""

        async def main() -> list[str]:
            came: list[str] = []
            over = asyncio.Event()
            self.loop.call_later(3600, came.append, "never")

            def set_() -> None:
                self.loop.call_later(0.02, over.set)
                self.loop.call_later(0.01, came.append, "soon")

            self.reactor.callLater(0.01, set_)
            await over.wait()
            return came

        self.assertEqual(self.run_(main), ["soon"])

    def test_cancelled(self: Any) -> None:
        """A timer that is cancelled does not come; one behind it does."""

        async def main() -> list[str]:
            came: list[str] = []
            over = asyncio.Event()
            first = self.loop.call_later(0.01, came.append, "first")
            self.loop.call_later(0.02, over.set)
            await asyncio.sleep(0)
            first.cancel()
            await over.wait()
            return came

        self.assertEqual(self.run_(main), [])

    def test_whileBusy(self: Any) -> None:
        """Timers come, too, while callbacks are always ready."""

        async def main() -> int:
            came: list[int] = []
            self.loop.call_later(0.01, came.append, 1)
            self.loop.call_later(0.02, came.append, 2)
            while len(came) < 2:
                await asyncio.sleep(0)
            # And after it.
            await asyncio.sleep(0.01)
            return len(came)

        self.assertEqual(self.run_(main), 2)


class DeferredsMixin:
    """Waiting both ways."""

    def test_asFuture(self: Any) -> None:
        """A task waits for Deferreds, fired or not."""

        async def main() -> list[Any]:
            later: Deferred[str] = Deferred()
            self.reactor.callLater(0.01, later.callback, "later")
            results = [await succeed("now").asFuture(self.loop), await later.asFuture(self.loop)]
            try:
                await fail(KeyError("no")).asFuture(self.loop)
            except KeyError as error:
                results.append(error.args[0])
            return results

        self.assertEqual(self.run_(main), ["now", "later", "no"])

    def test_asFutureCancelled(self: Any) -> None:
        """Cancelling the task cancels the Deferred."""
        cancelled: list[Any] = []

        async def main() -> None:
            waited: Deferred[None] = Deferred(cancelled.append)
            waited.addErrback(lambda failure: failure.trap(CancelledError))
            task = asyncio.ensure_future(waited.asFuture(self.loop))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        self.run_(main)
        self.assertEqual(len(cancelled), 1)

    def test_fromFuture(self: Any) -> None:
        """A coroutine of Twisted's waits for tasks."""

        async def double(value: int) -> int:
            await asyncio.sleep(0)
            if not value:
                raise KeyError(value)
            return 2 * value

        async def wait() -> list[Any]:
            results: list[Any] = [await Deferred.fromFuture(self.loop.create_task(double(1)))]
            try:
                await Deferred.fromFuture(self.loop.create_task(double(0)))
            except KeyError as error:
                results.append(error.args[0])
            return results

        async def main() -> Any:
            return await Deferred.fromCoroutine(wait()).asFuture(self.loop)

        self.assertEqual(self.run_(main), [2, 0])

    def test_fromFutureCancelled(self: Any) -> None:
        """Cancelling the Deferred cancels the task."""

        async def main() -> Any:
            task = self.loop.create_task(asyncio.sleep(3600))
            waited = Deferred.fromFuture(task)
            waited.addErrback(lambda failure: None)
            await asyncio.sleep(0)
            waited.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        self.assertTrue(self.run_(main))


class SystemMixin:
    """Sockets, processes, threads."""

    def test_streams(self: Any) -> None:
        """A server and its clients; a megabyte goes through."""
        sent = bytes(range(256)) * 4096

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        async def ask(address: tuple[str, int]) -> bytes:
            reader, writer = await asyncio.open_connection(*address)

            async def send() -> None:
                writer.write(sent)
                writer.write_eof()
                await writer.drain()

            _, data = await asyncio.gather(send(), reader.read())
            writer.close()
            await writer.wait_closed()
            return data

        async def main() -> bool:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                address = server.sockets[0].getsockname()
                replies = await asyncio.gather(*(ask(address) for _ in range(3)))
            return replies == [sent] * 3

        self.assertTrue(self.run_(main))

    def test_noReaderAtRest(self: Any) -> None:
        """A loop without descriptors leaves none with the reactor, nor a timer: trial finds the reactor clean."""

        async def main() -> None:
            near, far = socket.socketpair()
            near.setblocking(False)
            far.send(b"x")
            self.assertEqual(await self.loop.sock_recv(near, 1), b"x")
            reading = asyncio.ensure_future(self.loop.sock_recv(near, 1))
            await asyncio.sleep(0.01)
            self.assertTrue(self.watched())
            far.send(b"y")
            self.assertEqual(await reading, b"y")
            near.close()
            far.close()

        async def rest() -> None:
            await main()
            # Until no callback is ready.
            await asyncio.sleep(0.001)
            self.assertFalse(self.watched())

        self.run_(rest)

    def test_readerFromOutside(self: Any) -> None:
        """Twisted's code adds and removes a reader of the loop."""

        async def main() -> None:
            near, far = socket.socketpair()
            self.addCleanup(near.close)
            self.addCleanup(far.close)
            far.send(b"x")
            came = asyncio.Event()

            def read() -> None:
                self.loop.remove_reader(near)
                came.set()

            self.reactor.callLater(0, self.loop.add_reader, near, read)
            await came.wait()

        self.run_(main)

    def test_subprocess(self: Any) -> None:
        """asyncio's processes, one that exits with a code and one that is killed; and one of Twisted's meanwhile."""

        async def main() -> list[Any]:
            from twisted.internet.utils import getProcessValue

            value = getProcessValue(sys.executable, ["-c", "raise SystemExit(5)"], reactor=self.reactor)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print(input()); raise SystemExit(3)", stdin=-1, stdout=-1
            )
            output, _ = await process.communicate(b"echoed\n")
            killed = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
            killed.kill()
            return [output, process.returncode, await killed.wait(), await value.asFuture(self.loop)]

        self.assertEqual(self.run_(main), [b"echoed\n", 3, -9, 5])

    def test_names(self: Any) -> None:
        """getaddrinfo runs in the executor."""

        async def main() -> Any:
            return await self.loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

        self.assertEqual(self.run_(main)[0][4], ("127.0.0.1", 80))


for _mixin in (TasksMixin, TimersMixin, DeferredsMixin, SystemMixin):
    onEachReactor(_mixin, SynchronousTestCase, globals())
