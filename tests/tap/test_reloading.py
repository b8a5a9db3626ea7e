"""``--reload``: what is watched, and a command that starts anew."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx.tap import asgi, reloading, web
from getty_tx.tap import http as plain
from getty_tx.tap.reloading import BATCH, INTERVAL, PAUSE, CommandLine, Reloader, Watcher
from tests.tap.test_listen import keepLog
from tests.tap.test_options import OptionsTestCase
from tests.tap.test_twistd import PATIENCE, ProcessTestCase

HERE = __name__


def hello(request: Any) -> bytes:
    """A handler."""
    return b"hello"


async def unwilling(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application that cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


class FolderTestCase(SynchronousTestCase):
    """Has a folder of sources."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.write("app.py")

    def write(self, name: str, text: str = "") -> str:
        """Write a file; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)


class WatcherTests(FolderTestCase):
    """What is a change."""

    def changed(self, watcher: Watcher) -> list[str]:
        """The changes, relative to the folder."""
        return sorted(os.path.relpath(path, self.folder) for path in watcher.look() if path)

    def test_changes(self) -> None:
        """A file that is written, is new, has gone, or whose time is another one."""
        self.write("package/old.py")
        self.write("package/touched.py")
        watcher = Watcher([str(self.folder)])
        watcher.note()
        self.assertEqual([], self.changed(watcher))
        self.write("app.py", "x = 1\n")
        self.write("package/new.py")
        os.remove(self.folder / "package/old.py")
        os.utime(self.folder / "package/touched.py", (1, 1))
        expected = ["app.py", "package/new.py", "package/old.py", "package/touched.py"]
        self.assertEqual(expected, self.changed(watcher))

    def test_leftOut(self) -> None:
        """Other files, hidden ones, caches, virtual environments, and what symbolic links lead to."""
        self.write("env/pyvenv.cfg")
        os.symlink(self.folder, self.folder / "loop")
        watcher = Watcher([str(self.folder)])
        watcher.note()
        for name in ("page.html", ".#app.py", ".git/a.py", "__pycache__/a.py", "node_modules/a/a.py", "env/lib/a.py"):
            self.write(name)
        os.symlink("nowhere", self.folder / "lost.py")
        self.assertEqual([], self.changed(watcher))

    def test_named(self) -> None:
        """A folder that is named is watched, whatever it is; one that goes is no error."""
        self.write(".hidden/pyvenv.cfg")
        watcher = Watcher([str(self.folder / ".hidden"), str(self.folder / "gone")])
        watcher.note()
        self.write(".hidden/a.py")
        self.assertEqual([".hidden/a.py"], self.changed(watcher))


class StoppingClock(Clock):
    """Counts how often it is stopped."""

    stopped = 0

    def stop(self) -> None:
        """As a reactor: it cannot be stopped twice."""
        if self.stopped:
            raise ReactorNotRunning
        self.stopped += 1


class ReloaderTests(FolderTestCase):
    """The service that watches."""

    def setUp(self) -> None:
        super().setUp()
        self.now = StoppingClock()
        self.again: list[bool] = []
        self.watcher = Watcher([str(self.folder)])
        self.watcher.note()
        self.reloader = Reloader(self.watcher, lambda: self.again.append(True), self.now)

    def test_change(self) -> None:
        """It stops the reactor, says which file it is, and looks no more."""
        self.reloader.startService()
        self.now.advance(INTERVAL)
        self.assertEqual(0, self.now.stopped)
        path = self.write("app.py", "x = 1\n")
        log = keepLog(self)
        self.now.advance(INTERVAL)
        self.assertEqual((1, [True]), (self.now.stopped, self.again))
        self.assertIn(f"{os.path.relpath(path)} has changed: the command starts anew", "\n".join(log))
        self.assertEqual([], self.now.getDelayedCalls())
        self.reloader.stopService()

    def test_large(self) -> None:
        """Many files are looked at in several turns."""
        for number in range(BATCH):
            self.write(f"many/{number}.py")
        self.watcher.note()
        self.reloader.startService()
        for delay in (INTERVAL, PAUSE, INTERVAL, PAUSE):
            (call,) = self.now.getDelayedCalls()
            self.assertAlmostEqual(delay, call.getTime() - self.now.seconds())
            self.now.advance(delay)
        self.write("many/0.py", "x = 1\n")
        self.now.pump([INTERVAL, PAUSE])
        self.assertEqual([True], self.again)

    def test_stopped(self) -> None:
        """A command that ends anyway is not started anew."""
        self.reloader.startService()
        self.write("app.py", "x = 1\n")
        self.now.stop()
        self.now.advance(INTERVAL)
        self.assertEqual([], self.again)
        self.reloader.startService()
        self.reloader.stopService()
        self.assertEqual([], self.now.getDelayedCalls())


class CommandLineTests(SynchronousTestCase):
    """What is executed."""

    def setUp(self) -> None:
        self.registered: list[Any] = []
        self.executed: list[Any] = []
        self.patch(reloading.atexit, "register", self.registered.append)
        self.patch(os, "execve", lambda *arguments: self.executed.append(arguments))
        self.patch(sys, "orig_argv", ["python", "-I", "/bin/twistd", "-n", "getty-http", "app:app"])

    def test_executed(self) -> None:
        """With the environment and the folder that were there at first; and only if it is wanted."""
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        line = CommandLine()
        self.assertEqual([line.execute], self.registered)
        line.execute()
        self.assertEqual([], self.executed)
        self.patch(os, "environ", {**os.environ, "ADDED": "later"})
        os.chdir("/")
        line.want()
        line.execute()
        ((path, words, environment),) = self.executed
        self.assertEqual((sys.executable, [sys.executable, *sys.orig_argv[1:]]), (path, words))
        self.assertNotIn("ADDED", environment)
        self.assertEqual(here, os.getcwd())


class _Parent(dict[str, bool]):
    """The options of twistd."""


class OptionsTests(OptionsTestCase):
    """The options, and applications that cannot be imported."""

    def setUp(self) -> None:
        self.patch(reloading.atexit, "register", lambda call: None)
        self.patch(sys, "path", list(sys.path))

    def test_refused(self) -> None:
        words = [f"{HERE}:hello", "--reload"]
        for more, why in [
            (["--processes", "2"], "--reload: is for one process; leave --processes out"),
            (["--reload-dir", "/no/such"], "--reload-dir /no/such: is no folder"),
            (["--app-dir", "/no/such"], "--app-dir /no/such: is no folder"),
        ]:
            self.assertIn(why, self.refuse(plain.Options, *words, *more))
        self.patch(web, "listensWith", lambda description: "systemd")
        self.assertIn("--reload: cannot keep the sockets that systemd has", self.refuse(plain.Options, *words))
        self.assertIn("no meaning without --reload", self.refuse(plain.Options, "--reload-dir", "/", f"{HERE}:hello"))

    def test_background(self) -> None:
        """It wants a twistd in the foreground."""
        for nodaemon, debug in ((False, False), (True, False), (False, True)):
            self.patch(plain.Options, "parent", _Parent(nodaemon=nodaemon, debug=debug))
            if nodaemon or debug:
                self.assertIsNotNone(self.parse(plain.Options, "--reload", f"{HERE}:hello").reloader)
            else:
                why = "--reload: is for a command in the foreground; use twistd -n getty-http"
                self.assertIn(why, self.refuse(plain.Options, "--reload", f"{HERE}:hello"))

    def test_short(self) -> None:
        """Nobody likes to wait for the end of what has changed."""
        options = self.parse(plain.Options, "--reload", f"{HERE}:hello")
        self.assertEqual((0.5, 3), (options["timeout-graceful-shutdown"], options["drain-timeout"]))

    def test_appFolder(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        Path(folder, "in_app_folder.py").write_text("def handler(request): pass\n")
        self.addCleanup(sys.modules.pop, "in_app_folder", None)
        self.parse(plain.Options, "--app-dir", folder, "in_app_folder:handler")
        self.assertEqual(os.path.abspath(folder), sys.path[0])

    def test_broken(self) -> None:
        """Whatever keeps the application from being imported is told, and a change is awaited."""
        folder = self.mktemp()
        os.mkdir(folder)
        for number, (source, told) in enumerate(
            [
                ("def handler(:\n", "handler(:"),
                ("import nothing_like_it\n", "line 1, in <module>"),
                ("1 / 0\n", "ZeroDivisionError: division by zero"),
                ("import sys\nsys.exit('no key')\n", "sys.exit(no key)"),
                ("", "has no 'handler'"),
            ]
        ):
            Path(folder, f"broken{number}.py").write_text(source)
            for command in (plain, asgi):
                words = ["--reload", "--app-dir", folder, f"broken{number}:handler"]
                options = self.parse(command.Options, *words)
                self.assertIn(told, options.failure)
                self.assertNotIn("tap/", options.failure)
        service = asgi.makeService(options)
        log = keepLog(self)
        service.startService()
        self.assertIn("has no 'handler'; give module:name", "\n".join(log))
        self.assertIn("--reload waits for a change", "\n".join(log))
        service.stopService()


class LifespanTests(TestCase):
    """Applications that are imported, but do not start."""

    async def test_failed(self) -> None:
        """The process stays, and the change is awaited."""
        self.patch(reloading.atexit, "register", lambda call: None)
        options = asgi.Options()
        options.parseOptions([f"{HERE}:unwilling", "--reload", "--listen", "tcp:0:interface=127.0.0.1"])
        service = asgi.makeService(options)
        log = keepLog(self)
        service.startService()
        self.flushLoggedErrors()
        self.assertIn("the application cannot start: no database; --reload waits for a change", "\n".join(log))
        self.assertTrue(service.running)
        await service.stopService()


class ProcessTests(ProcessTestCase):
    """In a real process."""

    def ask(self) -> bytes:
        """The body of an answer."""
        heard = b""
        with self.connectUnix(os.path.join(self.folder, "x.sock")) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            while data := connection.recv(65536):
                heard += data
        return heard.partition(b"\r\n\r\n")[2]

    def test_reload(self) -> None:
        """An error of syntax is told, and the same process serves what has changed."""
        source = Path(self.folder, "mysite.py")
        source.write_text("def handler(request) return 'one'\n")
        process = self.twistd("getty-http", "mysite:handler", "--reload", "--listen=unix:x.sock")
        process.expect("SyntaxError: ")
        process.expect("--reload waits for a change")
        source.write_text("def handler(request): return 'another one'\n")
        process.expect("mysite.py has changed")
        process.expect("getty-http serves")
        self.assertEqual(b"another one", self.ask())
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end())
