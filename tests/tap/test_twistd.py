"""The commands in real processes: ``twistd``, with Python's sockets and TLS as clients."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import programs
from tests.support.certificates import Authority
from tests.support.warm import WarmProcess, canBeWarm
from tests.tap.test_listen import hasIPv6

ROOT = Path(__file__).resolve().parents[2]

#: Seconds that anything may take before the test fails; only a machine that is very busy comes near.
PATIENCE = 30

#: Ignoring SIGINT, as shells have background jobs do, is inherited, and Twisted leaves it so: begin with the default.
RUN_TWISTD = """
import signal
from twisted.scripts.twistd import run
signal.signal(signal.SIGINT, signal.default_int_handler)
run()
"""
TWISTD = [sys.executable, "-c", RUN_TWISTD]

#: What a shell does more with than to split words.
_SHELL = re.compile(r"[|&;<>()$`*?~#\n]")


def commandOf(line: str, environment: dict[str, str]) -> list[str]:
    """
    The command of a line that somebody types, for :class:`Process`.

    ``python`` and ``twistd`` of this Python are run without a shell, if it would only split words: they may be forks.
    """
    plain = line.replace("\\\n", " ").strip()
    program = plain.split()[0]
    here = os.path.join(os.path.dirname(sys.executable), program)
    if shutil.which(program, path=environment.get("PATH")) == here and not _SHELL.search(plain):
        for name, command in (("twistd", TWISTD), ("python", [sys.executable])):
            if program == name:
                return [*command, *shlex.split(plain)[1:]]
    return ["sh", "-c", f"exec {line}"]


class Process:
    """
    A running program whose output is read as it comes.

    :param isWarm: whether a program in Python may be a fork (tests.support.warm), which is there sooner.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        folder: str,
        stdin: int = subprocess.DEVNULL,
        isWarm: bool = True,
    ) -> None:
        self._process: WarmProcess | subprocess.Popen[str]
        if isWarm and canBeWarm(command, environment):
            self._process = WarmProcess(command, environment, folder, stdin)
        else:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=stdin, stdout=pipe, stderr=pipe, text=True
            )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=pipe, daemon=True)
            for pipe in [(self._process.stdout, self.lines), (self._process.stderr, self.errors)]
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: Any, lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                with self._changed:
                    lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def hasEnded(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        """The output so far, of stdout and stderr."""
        return "\n".join([*self.lines, *self.errors])

    def expect(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until ``count`` lines of the output match the pattern; the last match."""

        def find() -> re.Match[str] | None:
            found = [match for line in self.lines if (match := re.search(pattern, line))]
            return found[count - 1] if len(found) >= count else None

        with self._changed:
            self._changed.wait_for(lambda: find() or not self._readers[0].is_alive(), PATIENCE)
            found = find()
        if found is None:
            raise AssertionError(f"no {pattern!r} in:\n{self.output}")
        return found

    def type(self, line: str | None) -> None:
        """Write a line to ``stdin``, which must be a pipe; None: end the input."""
        assert self._process.stdin is not None
        if line is None:
            self._process.stdin.close()
        else:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for the end of the process; the exit status."""
        status = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def kill(self) -> None:
        """Kill the process, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self.end()
        if self._process.stdin is not None:
            self._process.stdin.close()


class ProcessTestCase(SynchronousTestCase):
    """
    Runs programs, with the files that they need.

    :cvar isWarm: whether those in Python may be forks, see :class:`Process`.
    """

    isWarm = True

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        # twistd writes a cache beside the dropins that it finds: it gets copies, so that none is left in the checkout.
        shutil.copytree(
            ROOT / "twisted", os.path.join(self.folder, "twisted"), ignore=shutil.ignore_patterns("*.cache")
        )
        os.symlink(ROOT / "getty_tx", os.path.join(self.folder, "getty_tx"))
        os.symlink(ROOT / "tests", os.path.join(self.folder, "tests"))
        self.environment = {**os.environ, "PYTHONPATH": self.folder, "PYTHONUNBUFFERED": "1"}

    def run_(self, *command: str) -> Process:
        """Run a program, which is killed after the test."""
        process = Process(list(command), self.environment, self.folder, isWarm=self.isWarm)
        self.addCleanup(process.kill)
        return process

    def twistd(self, *arguments: str, pidfile: str = "") -> Process:
        """Run ``twistd -n``."""
        return self.run_(*TWISTD, "-n", f"--pidfile={pidfile}", *arguments)

    def converse(self, connection: socket.socket, said: bytes, expected: bytes | None = None) -> None:
        """Send bytes, and expect an answer."""
        heard = b""
        expected = said if expected is None else expected
        with connection:
            connection.settimeout(PATIENCE)
            connection.sendall(said)
            while len(heard) < len(expected) and (data := connection.recv(65536)):
                heard += data
        self.assertEqual(expected, heard)

    def connectUnix(self, name: str) -> socket.socket:
        """A connection to a unix socket, whose path may be too long for its address."""
        connection = socket.socket(socket.AF_UNIX)
        here = os.open(os.path.dirname(name), os.O_RDONLY)
        try:
            connection.connect(f"/proc/self/fd/{here}/{os.path.basename(name)}")
        finally:
            os.close(here)
        return connection


class EchoTests(ProcessTestCase):
    """``getty-echo`` from start to end, as a user starts it."""

    isWarm = False

    def test_everywhere(self) -> None:
        """TCP, TLS, IPv6 and a unix socket at once; Ctrl-C ends it by that signal, without a traceback."""
        authority = Authority(self.mktemp())
        certificate, key = map(os.path.abspath, authority.issue(["localhost"]))
        listen = ["tcp:0:interface=127.0.0.1", f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"]
        if hasIPv6():
            listen.append(r"tcp:0:interface=\:\:1")
        words = [word for description in [*listen, "unix:echo.sock"] for word in ("--listen", description)]
        process = self.twistd("getty-echo", *words)
        places = process.expect("getty-echo serves (.*): LineCodec")[1].split(", ")
        ports = [int(place.rpartition(":")[2]) for place in places[:-1]]
        self.converse(socket.create_connection(("127.0.0.1", ports[0])), b"hello\nworld\n")
        context = ssl.create_default_context(cafile=authority.path)
        encrypted = context.wrap_socket(socket.create_connection(("127.0.0.1", ports[1])), server_hostname="localhost")
        self.converse(encrypted, b"in private\n")
        if hasIPv6():
            self.converse(socket.create_connection(("::1", ports[2])), b"six\n")
        self.converse(self.connectUnix(os.path.join(self.folder, "echo.sock")), b"nearby\n")
        process.send(signal.SIGINT)
        self.assertEqual(-signal.SIGINT, process.end())
        self.assertIn(f"getty-echo has stopped: {len(places)} sessions served, 0 connections refused", process.output)
        self.assertNotIn("Traceback", process.output)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "echo.sock")))

    def test_taken(self) -> None:
        """A taken port: one line on stderr, exit status 1, no traceback, no pid file left."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            process = self.twistd("getty-echo", "--listen", f"tcp:{port}:interface=127.0.0.1", pidfile="my.pid")
            self.assertEqual(1, process.end())
        expected = f"getty-echo: cannot listen on 127.0.0.1:{port}: Address already in use;"
        self.assertEqual([f"{expected} choose another place with --listen"], process.errors)
        self.assertNotIn("Traceback", process.output)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "my.pid")))

    def test_takenInBackground(self) -> None:
        """A twistd in the background reports the error in the foreground."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            process = self.run_(*TWISTD, "--pidfile=my.pid", "--logfile=my.log", "getty-echo", "--listen", listen)
            self.assertEqual(1, process.end())
        self.assertIn("getty-echo: cannot listen on", process.output)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "my.pid")))
        log = Path(self.folder, "my.log").read_text()
        self.assertIn("Address already in use", log)
        self.assertNotIn("Traceback", log)

    def test_usage(self) -> None:
        """A wrong option gives exit status 1, and the last line has the option and its value."""
        process = self.twistd("getty-echo", "--max-msg-len", "64k")
        self.assertEqual(1, process.end())
        self.assertIn("--max-msg-len 64k: takes a whole number of bytes", process.lines[-1])
        self.assertNotIn("Traceback", process.output)

    def test_twistdOptions(self) -> None:
        """twistd's own options work: a logger, a reactor; SIGTERM ends it with success."""
        with open(os.path.join(self.folder, "mylog.py"), "w") as file:
            file.write(
                "import sys\n"
                "from twisted.logger import formatEvent\n"
                "def make():\n"
                "    return lambda event: print('TOLD', formatEvent(event), file=sys.__stdout__, flush=True)\n"
            )
        twistd = [*TWISTD, "-n", "--pidfile=", "--reactor=poll", "--logger=mylog.make"]
        process = self.run_(*twistd, "getty-echo", "--listen=unix:x.sock")
        process.expect("TOLD reactor class: twisted.internet.pollreactor")
        process.expect("TOLD getty-echo serves x.sock: ")
        # Once it answers, the reactor runs, and hears of signals.
        self.converse(self.connectUnix(os.path.join(self.folder, "x.sock")), b"hello\n")
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end())
        process.expect("TOLD getty-echo has stopped")


class ServeTests(ProcessTestCase):
    """``getty-serve`` from start to end."""

    def test_workingDirectory(self) -> None:
        """Codec and listener are found in the working directory."""
        with open(os.path.join(self.folder, "mine.py"), "w") as file:
            file.write(
                "from getty_tx import EventListener\n"
                "from getty_tx.codecs import LineCodec as Codec\n"
                "class Listener(EventListener):\n"
                "    def onMessage(self, session, pkg):\n"
                "        session.writePkg(pkg[::-1])\n"
            )
        # Without it twistd's own directory is on the path already.
        self.environment["PYTHONSAFEPATH"] = "1"
        process = self.twistd("getty-serve", "--codec=mine:Codec", "--listener=mine:Listener", "--listen=unix:x.sock")
        process.expect("getty-serve serves")
        self.converse(self.connectUnix(os.path.join(self.folder, "x.sock")), b"abc\n", b"cba\n")


class DialTests(ProcessTestCase):
    """``getty-dial`` from start to end."""

    def test_echo(self) -> None:
        """With getty-echo the exit status is 0; without a server it is 1."""
        same = ["--codec=getty", "--compression=deflate"]
        echo = self.twistd("getty-echo", "--listen=unix:x.sock", *same)
        echo.expect("getty-echo serves")
        words = ["getty-dial", "--connect=unix:x.sock", *same, "--number=2", "--interval=0.01", "--count=3"]
        process = self.twistd(*words)
        self.assertEqual(0, process.end(), process.output)
        process.expect("unix:x.sock: 6 messages sent, 6 received, 0% lost; round trip min/avg/max/mdev = ")
        echo.send(signal.SIGTERM)
        echo.end()
        process = self.twistd(*words, "--reconnect-attempts=1")
        self.assertEqual(1, process.end(), process.output)
        process.expect("gave up on unix:x.sock")
        self.assertNotIn("Traceback", process.output)

    def test_listener(self) -> None:
        """If a user's listener closes its session, the command ends with success."""
        echo = self.twistd("getty-echo", "--listen=unix:x.sock")
        echo.expect("getty-echo serves")
        process = self.twistd("getty-dial", "--connect=unix:x.sock", f"--listener={programs.__name__}:Answer")
        self.assertEqual(0, process.end(), process.output)
        process.expect("heard a word")
