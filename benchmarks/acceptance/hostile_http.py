"""Hostile peers of HTTP: what one gets, how far it raises the server's memory, whether others are served meanwhile.

Heads that are too long, too many fields, chunks of a byte and of extensions, requests without number of which nobody
reads the answers; hundreds of connections that send a head or a body a byte a second, or read an answer of 100 MB a
little now and then; and a body of 10 GB in, and one out, with memory that stays flat. With ``GB=1`` in the
environment these have 1 GB.

Limits: 32 MB above the resident memory before, at its highest; for hundreds of connections that stay 64 MB, and for
those that do not read 400 KB each: highWater, and a slice. Another client's slowest request: 0.5 s. Slow heads and
slow bodies are ended.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import MB, Figure, Target, connect, main, watchedMemory
from benchmarks.acceptance.hostile_calls import MEMORY_LIMIT, Attack
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = (
    "twistd -n --pidfile= --reactor getty getty-http benchmarks.acceptance.webs:router --timeout-head 3"
    " --timeout-body 3 --listen tcp:{port}:interface=127.0.0.1"
)

CROWD_LIMIT = 64 * MB
READERS_LIMIT = 160 * MB
REQUEST_LIMIT = 0.5

#: Connections that are slow at the same time, and seconds for which they are.
CROWD, SECONDS = 400, 8.0

#: Bytes of the long bodies; the environment variable GB says how many.
LONG = int(float(os.environ.get("GB", "10")) * 1e9)

ONE = b"GET /now/1 HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Other(threading.Thread):
    """Asks on a connection of its own. ``slowest``: seconds of the longest request; infinite if one failed."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.slowest = 0.0
        self.count = 0
        self._port = port
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            with connect(self._port) as connection:
                while not self._ended.wait(0.02):
                    begin = time.perf_counter()
                    connection.sendall(ONE)
                    data = b""
                    while b"\r\n\r\n" not in data:
                        more = connection.recv(65536)
                        if not more:
                            raise OSError("the other client's connection ended")
                        data += more
                    self.slowest = max(self.slowest, time.perf_counter() - begin)
                    self.count += 1
        except OSError:
            self.slowest = float("inf")

    def end(self) -> None:
        self._ended.set()
        self.join()


class Slow:
    """
    Connections that send a byte now and then, or read one.

    :param begin: what each sends at once.
    :param drip: what it sends, a byte a second.
    :param reads: it reads 1 KB a second, and does not send.
    :param ends: whether the server is to end all of them.
    """

    def __init__(self, name: str, begin: bytes, drip: bytes = b"", reads: bool = False, ends: bool = True) -> None:
        self.name, self.begin, self.drip, self.reads, self.ends = name, begin, drip, reads, ends
        self.limit = READERS_LIMIT if reads else CROWD_LIMIT

    def run(self, port: int) -> str:
        connections = []
        for _ in range(CROWD):
            connection = connect(port)
            if self.reads:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(self.begin)
            connection.setblocking(False)
            connections.append(connection)
        ended: set[socket.socket] = set()
        until = time.monotonic() + SECONDS
        at = 0
        while time.monotonic() < until and len(ended) < CROWD:
            for connection in connections:
                if connection in ended:
                    continue
                try:
                    if self.drip:
                        connection.send(self.drip[at % len(self.drip) :][:1])
                    if (self.reads or not self.drip) and not connection.recv(1024):
                        ended.add(connection)
                    elif self.drip and not self.reads:
                        while True:
                            if not connection.recv(65536):
                                ended.add(connection)
                                break
                except BlockingIOError:
                    pass
                except OSError:
                    ended.add(connection)
            at += 1
            time.sleep(1.0)
        for connection in connections:
            connection.close()
        left = CROWD - len(ended)
        return f"{'open' if left else 'closed'}: {len(ended)} of {CROWD} were ended"


def attacks() -> Iterator[Attack | Slow]:
    """Those that are short."""
    yield Attack("a head of 1 MB", b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 1_000_000, ends=True)
    yield Attack("a line of 1 MB", b"GET /" + b"x" * 1_000_000, ends=True)
    yield Attack("100,000 fields", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100_000, ends=True)
    yield Attack("100,000 trailers", CHUNKED + b"0\r\n" + b"A: b\r\n" * 100_000, ends=True)
    yield Attack("a million empty lines", b"\r\n" * 1_000_000, ends=True)
    yield Attack("chunks of a byte", CHUNKED + b"1\r\nx\r\n" * 300_000, ends=True, reads=True)
    yield Attack("extensions of 4,000 bytes", CHUNKED + (b"1;" + b"x" * 4000 + b"\r\nx\r\n") * 1000, ends=True)
    yield Attack("TLS", bytes.fromhex("1603010200010001fc0303") + bytes(100_000), ends=True)
    yield Attack("a million requests, answers not read", ONE * 10_000, 100)
    yield Attack("a million requests, answers read", ONE * 10_000, 100, reads=True)
    yield Attack("100,000 targets", b"".join(b"GET /no/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(100_000)), 1)
    fields = b"".join(b"GET /now/1 HTTP/1.1\r\nHost: a\r\nA: %d\r\n\r\n" % n for n in range(100_000))
    yield Attack("100,000 fields that differ", fields, 3, reads=True)
    yield Attack("requests that wait", b"GET /later/1 HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000, 10)
    yield Attack("100 MB that is not read", b"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n" * 100)


def crowds() -> Iterator[Slow]:
    """Hundreds of slow connections."""
    yield Slow("slow heads", b"GET / HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n")
    post = b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    yield Slow("bodies that do not come", post)
    yield Slow("slow readers", b"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n", reads=True, ends=False)


def longIn(port: int) -> str:
    """A body that is sent as fast as it is taken."""
    piece = bytes(1 << 20)
    with connect(port) as connection:
        connection.settimeout(30)
        connection.sendall(b"POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LONG)
        for _ in range(LONG // len(piece)):
            connection.sendall(piece)
        connection.sendall(piece[: LONG % len(piece)])
        answer = connection.recv(4096)
    if b'{"bytes":%d}' % LONG not in answer:
        raise OSError(f"answered {answer!r}")
    return "answered"


def longOut(port: int) -> str:
    """An answer that is read as fast as it comes."""
    buffer = bytearray(1 << 20)
    size = 0
    with connect(port) as connection:
        connection.settimeout(30)
        connection.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % LONG)
        while got := connection.recv_into(buffer):
            size += got
    if size < LONG:
        raise OSError(f"only {size} bytes came")
    return f"{size / 1e9:.1f} GB came"


def measure(_target: Target) -> Iterator[Figure]:
    with ServerProcess(SERVER) as server:
        for attack in (*attacks(), *crowds()):
            other = Other(server.port)
            other.start()
            with watchedMemory(server) as growth:
                found = attack.run(server.port)
            other.end()
            server.checkAlive()
            ok = not attack.ends or not found.startswith("open")
            text = f"{growth.size / MB:.1f} MB; {found}"
            size = growth.size / MB if ok else float("inf")
            yield Figure(attack.name, size, attack.limit / MB, text, f"{other.count} requests beside it")
            slowest = f"{other.slowest * 1e3:.0f} ms at the most"
            yield Figure(f"{attack.name}: another's requests", other.slowest, REQUEST_LIMIT, slowest)
        for name, move in (("in", longIn), ("out", longOut)):
            begin = time.monotonic()
            with watchedMemory(server) as growth:
                found = move(server.port)
            note = f"{LONG / 1e6 / (time.monotonic() - begin):.0f} MB/s"
            text = f"{growth.size / MB:.1f} MB; {found}"
            yield Figure(f"{LONG / 1e9:g} GB {name}", growth.size / MB, MEMORY_LIMIT / MB, text, note)


if __name__ == "__main__":
    sys.exit(main("hostile_http", measure, __doc__, seconds=900))
