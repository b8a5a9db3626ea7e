"""Hold connections: ``python -m benchmarks.holder PORT COUNT FIRST PER_ADDRESS BATCH [PATH]``.

It opens COUNT connections to 127.0.0.1:PORT, PER_ADDRESS from each source address, of which FIRST is the number of the
first. It reads commands, one a line, and answers each with a JSON object; while it is busy, ``{"done": n}`` comes from
time to time.

``open``: open them all. Every BATCH-th sends a frame and waits for its echo before the next is opened: the server has
accepted all before it then, so that no more than BATCH wait to be accepted, and no SYN is dropped. Answers with
``open`` and ``seconds``.

``echo``: send one frame on each, BATCH at once, and wait for the echo, every byte of which is compared. Answers with
how many were ``served``, and how many ``lost``: closed by the server, or wrong.

With a PATH they are of HTTP/1.1: in place of a frame goes a GET, and in place of the echo comes an answer with 200,
which has a length.

It ends with its input, or after :data:`LIMIT` seconds with one command. The connections are reset then, so that none is
left in TIME_WAIT.
"""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress

from benchmarks.room import sourceAddress

#: Seconds that one command may take.
LIMIT = 300

#: Seconds without any echo after which those that wait are given up.
STALL = 20.0

#: Connections between two lines of progress.
STEP = 1000

#: Not in Python's socket module; linux/in.h. A port is chosen when the peer is known, of which each has all ports.
IP_BIND_ADDRESS_NO_PORT = 24

_RESET = struct.pack("ii", 1, 0)


class Held:
    """One connection, with what it sends."""

    __slots__ = ("frame", "received", "socket")

    def __init__(self, port: int, source: str, frame: bytes) -> None:
        self.frame = frame
        self.received = b""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))

    def receive(self) -> bool | None:
        """Take what has come: True once it is the echo, False if it cannot become that any more."""
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return False
        self.received += data
        return self.judge() if data else False

    def judge(self) -> bool | None:
        """What :meth:`receive` says of what has come."""
        if not self.frame.startswith(self.received):
            return False
        return len(self.received) == len(self.frame) or None


class HeldHTTP(Held):
    """One of HTTP/1.1."""

    __slots__ = ()

    def judge(self) -> bool | None:
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            return False
        return None if len(body) < int(length[1]) else len(body) == int(length[1])


class Holder:
    """All connections of this process."""

    def __init__(self, port: int, count: int, first: int, perAddress: int, batch: int, path: str | None = None) -> None:
        self._path = path
        self._port = port
        self._count = count
        self._first = first
        self._perAddress = perAddress
        self._batch = batch
        self._poll = select.epoll()
        self._held: dict[int, Held] = {}

    def open(self) -> dict[str, float]:
        """Open all."""
        begin = time.perf_counter()
        for number in range(self._count):
            held = self._hold(sourceAddress(self._first + number // self._perAddress), number)
            if (number + 1) % self._batch == 0 or number + 1 == self._count:
                held.socket.settimeout(STALL)
                held.socket.sendall(held.frame)
                while (served := held.receive()) is None:
                    pass
                if not served:
                    raise ConnectionError(f"connection {number + 1} had no echo in {STALL:g} s, or was closed")
                held.received = b""
            held.socket.setblocking(False)
            self._poll.register(held.socket, select.EPOLLIN)
            self._held[held.socket.fileno()] = held
            self._progress(number + 1)
        return {"open": len(self._held), "seconds": time.perf_counter() - begin}

    def _hold(self, source: str, number: int) -> Held:
        """Open one."""
        if self._path is not None:
            return HeldHTTP(self._port, source, f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        # No other sends the same.
        payload = b"%s %d" % (source.encode(), number)
        return Held(self._port, source, struct.pack("<I", len(payload)) + payload)

    def _progress(self, done: int) -> None:
        if done % STEP == 0:
            print(json.dumps({"done": done}), flush=True)

    def echo(self) -> dict[str, float]:
        """A frame on each."""
        served = lost = 0
        waiting = deque(self._held.values())
        asked: set[int] = set()
        while waiting or asked:
            while waiting and len(asked) < self._batch:
                held = waiting.popleft()
                # One that was lost meanwhile has no descriptor any more.
                if held.socket.fileno() >= 0:
                    asked.add(held.socket.fileno())
                    # One that has failed is found by its event.
                    with suppress(OSError):
                        held.socket.send(held.frame)
            events = self._poll.poll(STALL, self._batch)
            if not events:
                break
            for descriptor, _ in events:
                held = self._held[descriptor]
                done = held.receive()
                if done is None:
                    continue
                if done and descriptor in asked:
                    held.received = b""
                    served += 1
                    self._progress(served)
                else:
                    lost += 1
                    del self._held[descriptor]
                    held.socket.close()
                asked.discard(descriptor)
        return {"served": served, "lost": lost}


def main(arguments: list[str]) -> int:
    if len(arguments) not in (5, 6):
        print("usage: python -m benchmarks.holder PORT COUNT FIRST PER_ADDRESS BATCH [PATH]", file=sys.stderr)
        return 2
    # Who has started it ends it by the end of its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    holder = Holder(*map(int, arguments[:5]), *arguments[5:])
    commands = {"open": holder.open, "echo": holder.echo}
    for line in sys.stdin:
        signal.alarm(LIMIT)
        try:
            answer = commands[line.strip()]()
        except OSError as error:
            print(f"{error}", file=sys.stderr)
            return 1
        signal.alarm(0)
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
