"""``manage.py runserver`` in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

try:
    import channels  # noqa: F401
    import django  # noqa: F401
except ImportError as error:
    raise SkipTest("Django and Channels are not installed") from error

ROOT = str(Path(__file__).parents[2])

#: Seconds for the command to start, on a busy machine.
PATIENCE = 60


class Runserver:
    """The command, started, with its output."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.output: list[str] = []
        self._listens = threading.Event()
        self.port = 0
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "django", "runserver", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": ROOT,
                "DJANGO_SETTINGS_MODULE": "tests.django.project.settings",
                **environment,
            },
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listens.wait(PATIENCE):
            self.stop()
            raise AssertionError("runserver does not listen: " + "".join(self.output))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            found = re.search(r"development server at http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.port = int(found[1])
                self._listens.set()
        self._listens.set()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
        """Send a request; return status, fields and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


class RunserverTests(SynchronousTestCase):
    """The command without the reloader."""

    def start(self, *arguments: str, **environment: str) -> Runserver:
        """Start it; it ends with the test."""
        server = Runserver("--noreload", *arguments, **environment)
        self.addCleanup(server.stop)
        self.assertTrue(server.port, server.output)
        return server

    def test_views(self) -> None:
        server = self.start()
        status, fields, body = server.ask("GET", "/")
        self.assertEqual((status, body), (200, f"hello from 127.0.0.1:{server.port}".encode()))
        self.assertEqual(fields["Server"], "getty_tx")
        self.assertEqual(server.ask("POST", "/echo", b"x" * 300_000)[2], b"x" * 300_000)
        self.assertEqual(server.ask("GET", "/streamed")[2], b"0\n1\n2\n")
        self.assertEqual(server.ask("GET", "/none")[0], 404)
        self.assertEqual(server.ask("GET", "/fail")[0], 500)
        self.assertEqual(server.ask("GET", "/static/style.css")[2], b"body { color: green }\n")
        server.stop()
        text = "".join(server.output)
        self.assertRegex(text, r'"GET / HTTP/1\.1" 200 \d+')
        self.assertIn("ValueError: the view failed", text)

    def test_chat(self) -> None:
        """Two people in a room of Channels hear each other, on the port of the views."""
        try:
            from websockets.sync.client import connect
        except ImportError:
            raise SkipTest("websockets is not installed") from None
        server = self.start()
        url = f"ws://127.0.0.1:{server.port}/chat/tea"
        with connect(url) as one, connect(url) as two:
            for number, client in enumerate((one, two, one)):
                client.send(f"hello {number}")
                for each in (one, two):
                    self.assertEqual(each.recv(timeout=PATIENCE), f"hello {number}")
        self.assertEqual(server.ask("GET", "/")[0], 200)

    def test_nostatic(self) -> None:
        server = self.start("--nostatic")
        self.assertEqual(server.ask("GET", "/static/style.css")[0], 404)

    def test_portInUse(self) -> None:
        server = self.start()
        again = subprocess.run(
            [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": ROOT, "DJANGO_SETTINGS_MODULE": "tests.django.project.settings"},
        )
        self.assertEqual(again.returncode, 1)
        self.assertIn("That port is already in use", again.stderr)


class CheckTests(SynchronousTestCase):
    """The system check of the order of applications."""

    def check(self, *applications: str) -> str:
        """Run ``manage.py check`` with these; return what it says."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "other.py").write_text(f"SECRET_KEY = 'x'\nINSTALLED_APPS = {list(applications)!r}\n")
            done = subprocess.run(
                [sys.executable, "-m", "django", "check"],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([folder, ROOT]),
                    "DJANGO_SETTINGS_MODULE": "other",
                },
            )
        return done.stdout + done.stderr

    def test_order(self) -> None:
        text = self.check("django.contrib.staticfiles", "getty_tx.django")
        self.assertIn("getty_tx.E001", text)
        self.assertIn("Put 'getty_tx.django' first", text)
        self.assertNotIn("E001", self.check("getty_tx.django", "django.contrib.staticfiles"))
