"""Forks in place of cold starts, with which tests of whole programs begin: they are the same to the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.warm import canBeWarm
from tests.tap.test_twistd import Process

#: What a program sees of its start.
SHOW = """\
import os, signal, sys
print(__name__, sys.argv, sys.orig_argv[1:], os.getcwd(), sys.path, os.environ)
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)])
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3], "twisted.internet.reactor" in sys.modules)
print(sys.stdin.read(), file=sys.stderr)
class Here: pass
print(sys.modules["__main__"].Here is Here)
sys.exit(int(sys.argv[1]))
"""


class WarmTests(SynchronousTestCase):
    """A warm start beside a cold one."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.environment = {**os.environ, "PYTHONPATH": f"{self.folder}/a:{self.folder}", "PYTHONUNBUFFERED": "1"}
        Path(self.folder, "show.py").write_text(SHOW)

    def run_(self, words: list[str], isWarm: bool, said: str = "") -> tuple[int, list[str], list[str]]:
        """Run it, with a line of input if it reads one: status and output."""
        command = [sys.executable, *words]
        self.assertTrue(canBeWarm(command, self.environment))
        stdin = subprocess.PIPE if said else subprocess.DEVNULL
        process = Process(command, self.environment, self.folder, stdin, isWarm)
        self.addCleanup(process.kill)
        if said:
            process.type(said)
            process.type(None)
        return process.end(), process.lines, process.errors

    def test_same(self) -> None:
        """Names, arguments, paths, environment, signals, input and status are those of a cold start."""
        for words in (["-c", SHOW, "7"], ["-m", "show", "0"], ["show.py", "-3"], [f"{self.folder}/show.py", "1", "-x"]):
            cold = self.run_(words, False, "hello")
            self.assertEqual(cold, self.run_(words, True, "hello"))
            self.assertEqual(int(words[2] if words[0].startswith("-") else words[1]) & 255, cold[0])
            self.assertEqual(["hello", ""], cold[2])

    def test_ends(self) -> None:
        """An error is printed and has status 1; a signal is seen as such."""
        status, _, errors = self.run_(["-c", "1 / 0"], True)
        self.assertEqual((1, "ZeroDivisionError: division by zero"), (status, errors[-1]))
        status, _, _ = self.run_(["-c", "import os; os.kill(os.getpid(), 9)"], True)
        self.assertEqual(-signal.SIGKILL, status)
        status, _, errors = self.run_(["-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"], True)
        self.assertEqual((-signal.SIGINT, "KeyboardInterrupt"), (status, errors[-1]))

    def test_cold(self) -> None:
        """What would be another Python, or reads at its start what a fork has read before, starts cold."""
        words = [sys.executable, "-c", "pass"]
        self.assertFalse(canBeWarm(["/bin/true"], self.environment))
        self.assertFalse(canBeWarm([sys.executable, "-P", *words[1:]], self.environment))
        for name in ("PYTHONDEVMODE", "LISTEN_FDS", "COVERAGE_PROCESS_START"):
            self.assertFalse(canBeWarm(words, {**self.environment, name: "1"}))
        self.assertTrue(canBeWarm(words, self.environment))
