"""``getty-http`` and ``getty-asgi`` in real processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.tap.test_twistd import PATIENCE, ProcessTestCase

HERE = __name__

REQUEST = b"POST /%d HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 5\r\n\r\nhello"


def who(request: Any) -> dict[str, Any]:
    """Tells who has asked, which process was asked, and whether its collector passes over what it began with."""
    client = request.client and request.client[0]
    return {"client": client, "process": os.getpid(), "isFrozen": gc.get_freeze_count() > 10_000}


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


class ManyTests(ProcessTestCase):
    """The access log and the status of two processes, with a trusted proxy in front."""

    def read(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many lines."""
        late = time.monotonic() + PATIENCE
        while True:
            lines = Path(self.folder, "access.log").read_text().splitlines()
            if len(lines) >= count or time.monotonic() > late:
                return [json.loads(line) for line in lines]
            time.sleep(0.01)

    def ask(self, port: int, number: int) -> dict[str, Any]:
        """Send a request on a connection of its own; the answer, whose bytes are counted."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(REQUEST % number)
            data = b""
            while not data.endswith(b"}"):
                received = connection.recv(65536)
                assert received, data
                data += received
        body = data.partition(b"\r\n\r\n")[2]
        self.sent += len(body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def isCounted(self, url: str, requests: int) -> None:
        """The status has so many requests, with their bytes, in sum."""
        with urlopen(url + "calls", timeout=PATIENCE) as answer:
            [row] = json.load(answer)["methods"]
        self.assertEqual(("http", "POST", requests, 0), tuple(row[k] for k in ("side", "method", "calls", "failed")))
        self.assertEqual((5 * requests, self.sent), (row["received"], row["sent"]))
        with urlopen(url + "metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        labels = 'method="POST",route="",service="getty-http"'
        for line in (
            f'getty_http_requests_total{{{labels},status="200"}} {requests}.0',
            f"getty_http_request_seconds_count{{{labels}}} {requests}.0",
            f"getty_http_request_bytes_total{{{labels}}} {5 * requests}.0",
            f"getty_http_response_bytes_total{{{labels}}} {self.sent}.0",
            'getty_http_requests_running{service="getty-http"} 0.0',
        ):
            self.assertIn(line, lines)

    def test_processes(self) -> None:
        """Both write to one file and are counted in one sum, and after a reload the new ones, too."""
        self.sent = 0
        words = ["--access-log", "access.log", "--access-log-format", "json", "--proxy-headers", "--processes", "2"]
        words += ["--status", "tcp:0:interface=127.0.0.1"]
        process = self.twistd("getty-http", f"{HERE}:who", "--listen", "tcp:0:interface=127.0.0.1", *words)
        port = int(process.expect(r"getty-http serves 127\.0\.0\.1:(\d+)")[1])
        answers = [self.ask(port, number) for number in range(4)]
        self.assertEqual(2, len({answer["process"] for answer in answers}))
        status = process.expect(r"status on (http://127\.0\.0\.1:\d+/)")[1]
        self.isCounted(status, 4)
        process.send(signal.SIGHUP)
        process.expect("has ended with status 0", 2)
        answers += [self.ask(port, number) for number in range(4, 8)]
        self.assertEqual(4, len({answer["process"] for answer in answers}))
        self.assertEqual({("192.0.2.1", True)}, {(answer["client"], answer["isFrozen"]) for answer in answers})
        self.isCounted(status, 8)
        lines = self.read(8)
        self.assertEqual([f"/{number}" for number in range(8)], sorted(line["target"] for line in lines))
        self.assertEqual({"192.0.2.1"}, {line["client"] for line in lines})
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end())
