"""Closed-loop echo load without a C compiler: ``python -m benchmarks.load PORT CONNECTIONS DEPTH SIZE WARMUP SECONDS``.

The same arguments, checks and output as ``load.c``. It takes more time per message than the servers do, so with it
a server's rate and round trips say little; the CPU time per message that the driver reads stays right.
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import sys
import time
from collections import deque

CHUNK = 256 * 1024


class Connection:
    """One connection that keeps ``depth`` frames in flight: two positions in the endless repetition of one frame."""

    __slots__ = ("_inAt", "_outAt", "_owed", "_poll", "_sentAt", "_stream", "_wanted", "blocked", "frameSize", "socket")

    def __init__(self, port: int, stream: bytes, frameSize: int, poll: select.epoll) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.frameSize = frameSize
        self.blocked = False
        self._stream = stream
        self._poll = poll
        self._inAt = self._outAt = self._owed = 0
        self._sentAt: deque[float] = deque()
        poll.register(self.socket, select.EPOLLIN)

    def request(self, frames: int, at: float) -> None:
        """Have ``frames`` more frames sent, as of the time ``at``."""
        self._owed += frames * self.frameSize
        self._sentAt.extend([at] * frames)
        if not self.blocked:
            self.sendOwed()

    def sendOwed(self) -> None:
        """Send what is owed, as far as the socket takes it, and watch for the rest."""
        blocked = False
        view = memoryview(self._stream)
        while self._owed and not blocked:
            try:
                sent = self.socket.send(view[self._outAt : self._outAt + min(self._owed, CHUNK)])
            except BlockingIOError:
                blocked = True
            else:
                self._outAt = (self._outAt + sent) % self.frameSize
                self._owed -= sent
        if blocked != self.blocked:
            self.blocked = blocked
            self._poll.modify(self.socket, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))

    def receive(self, roundTrips: list[float]) -> int:
        """Compare what has come, answer every complete frame with a new one and return their number."""
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            raise SystemExit("the server closed a connection")
        if data != self._stream[self._inAt : self._inAt + len(data)]:
            raise SystemExit("the echo differs from what was sent")
        frames, self._inAt = divmod(self._inAt + len(data), self.frameSize)
        if frames:
            at = time.perf_counter()
            roundTrips += [at - self._sentAt.popleft() for _ in range(frames)]
            self.request(frames, at)
        return frames


def run(port: int, count: int, depth: int, size: int, warmup: float, seconds: float) -> dict[str, float]:
    """Load the server, print "measuring" after ``warmup`` seconds and return the figures of the time after it."""
    poll = select.epoll()
    frame = struct.pack("<I", size) + random.Random(1).randbytes(size)
    stream = frame * ((CHUNK + len(frame)) // len(frame) + 1)
    byDescriptor: dict[int, Connection] = {}
    for _ in range(count):
        connection = Connection(port, stream, len(frame), poll)
        byDescriptor[connection.socket.fileno()] = connection
    begin = time.perf_counter()
    start = begin + warmup
    stop = start + seconds
    roundTrips: list[float] = []
    messages = 0
    measuring = False
    for connection in byDescriptor.values():
        connection.request(depth, time.perf_counter())
    while (now := time.perf_counter()) < stop:
        if not measuring and now >= start:
            measuring, messages, roundTrips = True, 0, []
            print("measuring", flush=True)
            begin = time.perf_counter()
        for descriptor, events in poll.poll(0.05):
            connection = byDescriptor[descriptor]
            if events & select.EPOLLOUT:
                connection.sendOwed()
            if events & ~select.EPOLLOUT:
                messages += connection.receive(roundTrips)
    roundTrips.sort()
    last = len(roundTrips) - 1
    percentiles = {
        name: round(roundTrips[int(last * share)] * 1e6, 1) if roundTrips else 0.0
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    return {"messages": messages, "seconds": now - begin, **percentiles}


def main(arguments: list[str]) -> int:
    if len(arguments) != 6:
        print("usage: python -m benchmarks.load PORT CONNECTIONS DEPTH SIZE WARMUP SECONDS", file=sys.stderr)
        return 2
    port, count, depth, size = map(int, arguments[:4])
    print(json.dumps(run(port, count, depth, size, float(arguments[4]), float(arguments[5]))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
