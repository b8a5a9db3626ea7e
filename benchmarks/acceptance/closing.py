"""What a close and a half-close deliver: everything, to the last byte, and an orderly end instead of a reset.

Limits: no byte missing of 20 MB, each read as fast as it comes and slowly over 5 s, when

- the listener calls ``close()`` right after ``writeBytes`` of 20 MB, while 3 MB of unread input wait, and 3 MB more
  come when the client has 18 of the 20 MB;
- the peer shuts its sending side down right after the request that is answered with 20 MB;
- the peer sends 20 MB of frames to an echo and shuts its sending side down behind the last.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import MB, Figure, Target, connect, frame, main
from benchmarks.acceptance.listeners import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that a slow reader spreads its reading over.
SLOW = 5.0

#: Seconds without any byte after which a delivery counts as ended.
SILENCE = 10.0

CHUNK = 65536

FRAME = frame(b"x" * 915)
ECHOED = FRAME * (20 * MB // len(FRAME) + 1)


@dataclass(frozen=True)
class Case:
    """What the client sends, whether it shuts its sending side down behind that, and the bytes that must come.

    :ivar late: what it sends when nine tenths have come.
    """

    name: str
    listener: str
    request: bytes
    halfClose: bool
    expected: bytes
    late: bytes = b""


UNREAD = FRAME * (3 * MB // len(FRAME) + 1)

CASES = (
    Case("close after write", "WriteAndClose", frame(b"go") + UNREAD, False, CONTENT, UNREAD),
    Case("half-close after request", "WriteAll", frame(b"go"), True, CONTENT),
    Case("half-close after frames", "", ECHOED, True, ECHOED),
)


class Delivery:
    """One client of one case: it sends before it reads, and reads only as fast as it should.

    :ivar received: what came.
    :ivar end: how it ended, "end of stream" if all is well.
    """

    def __init__(self, connection: socket.socket, case: Case, seconds: float) -> None:
        self.received = bytearray()
        self.end = ""
        self._connection = connection
        self._unsent = memoryview(case.request)
        self._halfClose = case.halfClose
        self._late = case.late
        self._lateAt = len(case.expected) * 9 // 10
        # Bytes per second of reading; 0 is without a bound.
        self._rate = len(case.expected) / seconds if seconds else 0.0
        connection.setblocking(False)

    def run(self) -> None:
        """Exchange everything until the server's end."""
        self._sendAll()
        begin = last = time.monotonic()
        while not self.end:
            now = time.monotonic()
            if now - last > SILENCE:
                self.end = f"silence for {SILENCE:.0f} s"
            elif self._rate and len(self.received) > (now - begin) * self._rate:
                time.sleep(0.002)
            else:
                writing = [self._connection] if self._unsent else []
                readable, writable, _ = select.select([self._connection], writing, [], 0.1)
                if writable:
                    self._send()
                if readable and self._receive():
                    last = now

    def _sendAll(self) -> None:
        """Send as much as goes before anything is read: until it is all out, or nothing went for half a second."""
        while self._unsent and not self.end:
            if not select.select([], [self._connection], [], 0.5)[1]:
                return
            self._send()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
            if not self._unsent and self._halfClose:
                self._connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError as error:
            self.end = f"{error.strerror} when sending"

    def _receive(self) -> bool:
        try:
            data = self._connection.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            self.end = f"{error.strerror} when receiving"
            return False
        if not data:
            self.end = "end of stream"
        self.received += data
        if self._late and not self._unsent and len(self.received) > self._lateAt:
            self._unsent, self._late = memoryview(self._late), b""
        return True


def measureCase(target: Target, case: Case, seconds: float) -> Figure:
    with target.start(case.listener) as server, connect(server.port) as connection:
        delivery = Delivery(connection, case, seconds)
        begin = time.perf_counter()
        delivery.run()
        took = time.perf_counter() - begin
    received = bytes(delivery.received)
    missing = len(case.expected) - len(received)
    text = f"{missing} bytes missing, {delivery.end}"
    if received != case.expected[: len(received)]:
        text += ", the content differs"
    wrong = missing or delivery.end != "end of stream" or received != case.expected
    pace = "read slowly" if seconds else "read at once"
    return Figure(f"{case.name}, {pace}", 1 if wrong else 0, 0, text, f"{len(received) / MB:.1f} MB in {took:.2f} s")


def measure(target: Target) -> Iterator[Figure]:
    for case in CASES:
        for seconds in (0.0, SLOW):
            yield measureCase(target, case, seconds)


if __name__ == "__main__":
    sys.exit(main("closing", measure, __doc__, seconds=150))
