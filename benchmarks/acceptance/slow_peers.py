"""Clients that read nothing: how far they raise the server's memory, and whether others notice.

Limits: 32 MB above the resident memory before, at its highest, while one client

- floods: sends up to 400 MB of 915-byte frames, which the server would echo, or
- amplifies: sends 5-byte requests, each of which the server answers with 64 KiB,

and reads nothing, over TCP and over TLS; and 1 s for the slowest round trip of another connection meanwhile.

A right server stops reading such a client, so that its sending blocks, and may close it after its write timeout; then
the client comes back and goes on, until its 400 MB or the time are over.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    MB,
    Certificate,
    Figure,
    Target,
    connect,
    frame,
    main,
    newCertificate,
    receiveExactly,
    watchedMemory,
)
from benchmarks.acceptance.listeners import AMPLIFIED

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

MEMORY_LIMIT = 32 * MB
ROUND_TRIP_LIMIT = 1.0

#: What the slow client sends at the most, in bytes, and for how long, in seconds.
FLOOD = 400 * MB
FLOOD_SECONDS = 10.0

#: Seconds between two round trips of the other client.
PERIOD = 0.02


@dataclass(frozen=True)
class Case:
    """One kind of slow client: the request it repeats, and how many bytes come for one to a client that reads."""

    name: str
    listener: str
    request: bytes
    answerSize: int


CASES = (
    Case("flood", "", frame(b"x" * 915), 919),
    Case("amplify", "Amplify", frame(b"x"), len(frame(b"")) + AMPLIFIED),
)


class SlowClient(threading.Thread):
    """Sends requests and never reads.

    :ivar sent: bytes that the kernel has taken.
    :ivar connections: how often it connected: the server may close it, and it comes back.
    """

    def __init__(self, port: int, tls: bool, request: bytes) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self.connections = 0
        self._port = port
        self._tls = tls
        self._requests = request * (256 * 1024 // len(request))
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set() and self.sent < FLOOD:
            try:
                with connect(self._port, self._tls) as connection:
                    self.connections += 1
                    self._flood(connection)
            except OSError:
                self._ended.wait(0.1)

    def _flood(self, connection: socket.socket) -> None:
        # A short timeout keeps the thread answering to end(). What was not taken is offered again from where it
        # stopped: the frames have to stay whole, and TLS wants the same bytes again.
        connection.settimeout(0.2)
        unsent = memoryview(self._requests)
        while not self._ended.is_set() and self.sent < FLOOD:
            try:
                taken = connection.send(unsent)
            except TimeoutError:
                continue
            self.sent += taken
            unsent = unsent[taken:] if taken < len(unsent) else memoryview(self._requests)

    def end(self) -> None:
        self._ended.set()
        self.join()


def askOthers(connection: socket.socket, case: Case, slow: SlowClient) -> float:
    """Make round trips on another connection while the slow client is at work; return the longest in seconds.

    A connection that broke, or stood still until its timeout, has taken infinitely long.
    """
    slowest = 0.0
    deadline = time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < deadline and slow.is_alive():
        begin = time.perf_counter()
        try:
            connection.sendall(case.request)
            receiveExactly(connection, case.answerSize)
        except (OSError, EOFError):
            return math.inf
        slowest = max(slowest, time.perf_counter() - begin)
        time.sleep(PERIOD)
    return slowest


def measureCase(target: Target, case: Case, certificate: Certificate | None) -> Iterator[Figure]:
    tls = certificate is not None
    name = f"{case.name} over {'TLS' if tls else 'TCP'}"
    with target.start(case.listener, certificate) as server, ExitStack() as opened:
        other = opened.enter_context(connect(server.port, tls))
        for _ in range(100):
            other.sendall(case.request)
            receiveExactly(other, case.answerSize)
        slow = SlowClient(server.port, tls, case.request)
        with watchedMemory(server) as growth:
            slow.start()
            try:
                slowest = askOthers(other, case, slow)
            finally:
                slow.end()
        if not growth.ended:
            server.checkAlive()
    yield Figure(
        f"memory, {name}",
        growth.size / MB,
        MEMORY_LIMIT / MB,
        f"{growth.size / MB:.1f} MB{', then it was killed' if growth.ended else ''}",
        f"sent {slow.sent / MB:.1f} MB in {slow.connections} connections",
    )
    yield Figure(f"round trip beside {name}", slowest, ROUND_TRIP_LIMIT, f"{slowest * 1e3:.1f} ms at the most")


def measure(target: Target) -> Iterator[Figure]:
    with newCertificate() as certificate:
        for case in CASES:
            yield from measureCase(target, case, None)
            yield from measureCase(target, case, certificate)


if __name__ == "__main__":
    sys.exit(main("slow_peers", measure, __doc__, seconds=180))
