"""asyncio as a guest, in processes of its own: signals, debug mode, the asyncio reactor, CPython's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.reactors.cpython import QUICK
from tests.support.long import IS_LONG

ROOT = Path(__file__).resolve().parents[2]

#: Seconds until a test fails.
PATIENCE = 120.0

#: Modules of CPython's tests in a short run: tasks, streams, threads, and the ends of loops.
SMOKE = ("test_locks", "test_runners", "test_streams", "test_threads", "test_timeouts")

#: A reactor that is asked to end by SIGTERM; what is around it is what the guest must leave alone.
SIGNALS = """
import asyncio, os, signal
from getty_tx.reactors import install
install()
from twisted.internet import reactor
from getty_tx.reactors.guest import guestLoop
loop = guestLoop()

def wakeup():
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number

async def main():
    before = wakeup(), signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGTERM)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    print(before[0] >= 0, before == (wakeup(), signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGTERM)))
    heard = asyncio.Event()
    signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(heard.set))
    reactor.callLater(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    await heard.wait()
    print("USR1")
    reactor.callLater(0.01, os.kill, os.getpid(), signal.SIGTERM)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        print("cancelled")

reactor.callWhenRunning(lambda: loop.start(main()))
reactor.run()
print(loop.is_closed())
"""

#: Debug mode of asyncio: checks that only it makes.
DEBUG = """
import asyncio, sys, time
from twisted.python import log
log.startLogging(sys.stdout)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from getty_tx.reactors.guest import guestLoop
loop = guestLoop()

def wrongThread():
    try:
        loop.call_soon(print)
    except RuntimeError as error:
        return str(error)

async def other():
    await asyncio.sleep(0)

async def main():
    print("debug", loop.get_debug())
    print(await asyncio.to_thread(wrongThread))
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(await reader.read())
    writer.close()
    server.close()
    await asyncio.gather(*(loop.start(other()) for _ in range(3)))

reactor.callWhenRunning(lambda: Deferred.fromFuture(loop.start(main())).addErrback(log.err)
    .addBoth(lambda _: reactor.stop()))
reactor.run()
"""

#: A reactor with an asyncio loop of its own.
ASYNCIO = """
from twisted.internet import asyncioreactor
asyncioreactor.install()
from getty_tx.reactors.guest import guestLoop
try:
    guestLoop()
except RuntimeError as error:
    print(error)
"""

#: What trial says about a test that has used the guest loop of the process's reactor.
TRIAL = """
import asyncio
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from getty_tx.reactors.guest import guestLoop

class GuestTests(TestCase):
    async def test_connection(self):
        await Deferred.fromFuture(guestLoop().start(self.ask()))

    test_again = test_connection

    async def ask(self):
        async with asyncio.timeout(3600):
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                self.assertEqual(await reader.read(), b"")
                writer.close()
                await writer.wait_closed()
                await asyncio.to_thread(int)
"""


def output(*arguments: str, **environment: str) -> tuple[int, str]:
    """The code and the output of a Python."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout + done.stderr


class ProcessTests(SynchronousTestCase):
    """Whole processes."""

    def test_signals(self) -> None:
        """Signals, their wake-up descriptor and SIGCHLD stay Twisted's; SIGTERM ends reactor, tasks and loop."""
        self.assertEqual(output("-c", SIGNALS), (0, "True True\nUSR1\ncancelled\nTrue\n"))

    def test_debug(self) -> None:
        """asyncio's debug mode works, and finds a call from the wrong thread."""
        code, text = output("-X", "dev", "-W", "ignore::DeprecationWarning", "-c", DEBUG, PYTHONASYNCIODEBUG="1")
        self.assertEqual(code, 0)
        self.assertIn("debug True", text)
        self.assertIn("Non-thread-safe operation", text)
        self.assertIn("b''", text)
        self.assertNotIn("Traceback", text)

    def test_asyncioReactor(self) -> None:
        """The asyncio reactor gets no guest, and the text says what to do."""
        code, text = output("-c", ASYNCIO)
        self.assertEqual(code, 0)
        self.assertIn("asyncio.get_running_loop()", text)

    def test_noEpoll(self) -> None:
        """Without epoll there is no guest, and the text says what there is."""
        code, text = output("-c", "import select; del select.epoll; from getty_tx.reactors import guestLoop")
        self.assertEqual(code, 1)
        self.assertIn("ImportError: a guest loop needs epoll(7)", text)

    def test_trial(self) -> None:
        """A test that waits for the loop leaves the reactor clean."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        module = Path(folder) / "test_with_guest.py"
        module.write_text(TRIAL)
        code, text = output("-m", "twisted.trial", "--temp-directory", f"{folder}/trial", str(module))
        self.assertEqual(code, 0, text)
        self.assertIn("successes=2", text)

    def test_cpython(self) -> None:
        """CPython's tests of asyncio pass: some of them, more in a long run (make asyncio runs all)."""
        if output("-c", "import test.test_asyncio")[0]:
            raise SkipTest("this Python comes without its tests (Debian: libpython3-testsuite)")
        code, text = output("-m", "tests.reactors.cpython", *(QUICK if IS_LONG else SMOKE))
        self.assertEqual(code, 0, text[-5000:])
        self.assertIn("guest loops", text)
