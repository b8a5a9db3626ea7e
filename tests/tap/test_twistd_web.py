"""``getty-http`` and ``getty-asgi`` in real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from tests.tap.test_twistd import PATIENCE, ProcessTestCase

HERE = __name__

REQUEST = b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"


def who(request: Any) -> dict[str, Any]:
    """Tells who has asked, and which process was asked."""
    return {"client": request.client and request.client[0], "process": os.getpid()}


async def unwilling(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def laterUnwilling(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Cannot start, which it finds out while the reactor runs."""
    await receive()
    await asyncio.sleep(0.01)
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def failing(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Knows no lifespan."""
    raise KeyError(scope["type"])


class StartTests(ProcessTestCase):
    """Applications that cannot start: the exit status is 1."""

    def fails(self, *words: str) -> str:
        """Run a command that cannot start; its output."""
        process = self.twistd(*words, "--listen", "unix:x.sock")
        self.assertEqual(1, process.end(), process.output)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "x.sock")))
        return process.output

    def test_lifespan(self) -> None:
        for name in ("unwilling", "laterUnwilling"):
            self.assertIn(
                "getty-asgi: the application cannot start: no database", self.fails("getty-asgi", f"{HERE}:{name}")
            )

    def test_processes(self) -> None:
        for name in ("unwilling", "laterUnwilling"):
            output = self.fails("getty-asgi", f"{HERE}:{name}", "--processes", "2")
            self.assertIn("the application cannot start: no database", output)

    def test_noLifespan(self) -> None:
        output = self.fails("getty-asgi", f"{HERE}:failing", "--lifespan", "on")
        self.assertIn("getty-asgi: the application cannot start: KeyError: 'lifespan'", output)

    def test_import(self) -> None:
        Path(self.folder, "broken.py").write_text("import no_such_module\n")
        for command in ("getty-http", "getty-asgi"):
            self.assertIn("no_such_module", self.fails(command, "broken:app"))


class LogTests(ProcessTestCase):
    """The access log of two processes, with a trusted proxy in front."""

    def read(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many lines."""
        late = time.monotonic() + PATIENCE
        while True:
            lines = Path(self.folder, "access.log").read_text().splitlines()
            if len(lines) >= count or time.monotonic() > late:
                return [json.loads(line) for line in lines]
            time.sleep(0.01)

    def ask(self, port: int, number: int) -> dict[str, Any]:
        """Send a request on a connection of its own; the answer."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(REQUEST % number)
            data = b""
            while not data.endswith(b"}"):
                received = connection.recv(65536)
                assert received, data
                data += received
        answer: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
        return answer

    def test_processes(self) -> None:
        """Both write to one file, and after a reload the new ones do."""
        words = ["--access-log", "access.log", "--access-log-format", "json", "--proxy-headers", "--processes", "2"]
        process = self.twistd("getty-http", f"{HERE}:who", "--listen", "tcp:0:interface=127.0.0.1", *words)
        port = int(process.expect(r"getty-http serves 127\.0\.0\.1:(\d+)")[1])
        answers = [self.ask(port, number) for number in range(4)]
        self.assertEqual(2, len({answer["process"] for answer in answers}))
        process.send(signal.SIGHUP)
        process.expect("has ended with status 0", 2)
        answers += [self.ask(port, number) for number in range(4, 8)]
        self.assertEqual(4, len({answer["process"] for answer in answers}))
        self.assertEqual({"192.0.2.1"}, {answer["client"] for answer in answers})
        lines = self.read(8)
        self.assertEqual([f"/{number}" for number in range(8)], sorted(line["target"] for line in lines))
        self.assertEqual({"192.0.2.1"}, {line["client"] for line in lines})
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end())
