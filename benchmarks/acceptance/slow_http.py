"""slowhttptest against getty-http: slow heads, slow bodies, ranges without number, answers that are read slowly.

Each has 1,000 connections, or as many as ``CONNECTIONS`` in the environment says, of which 500 come a second, or
``RATE``, for 30 s. Meanwhile another client asks for a small file each 100 ms, on a new connection each time.

Limits: the slowest answer to it 0.5 s, and 64 MB of memory above that before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import MB, Figure, NotMeasured, Target, connect, main, watchedMemory
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = "twistd -n --pidfile= --reactor getty getty-http {what} --listen tcp:{port}:interface=127.0.0.1"
ROUTER = "benchmarks.acceptance.webs:router"

CONNECTIONS = int(os.environ.get("CONNECTIONS", "1000"))
RATE = int(os.environ.get("RATE", "500"))
SECONDS = 30
REQUEST_LIMIT = 0.5
MEMORY_LIMIT = 64 * MB

#: Bytes of the file that is read slowly.
LARGE = 100 * MB

#: Each attack with its options, the path that it asks for, and what the other client asks for.
ATTACKS = {
    "slow heads": ("-H -i 5 -x 24", "/small.txt", "/small.txt"),
    "slow bodies": ("-B -i 5 -s 1000000 -x 10", "/count", "/now/1"),
    "ranges": ("-R -a 5 -b 3000", "/large.bin", "/small.txt"),
    "slow readers": ("-X -n 1 -z 32 -w 512 -y 1024 -k 3", "/large.bin", "/small.txt"),
}


class Visitor(threading.Thread):
    """
    Another client.

    :ivar slowest: seconds of its longest request, connecting included; infinite if one failed.
    :ivar count: requests.
    """

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.slowest = 0.0
        self.count = 0
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            while not self._ended.wait(0.1):
                begin = time.perf_counter()
                with connect(self._port) as connection:
                    connection.sendall(self._request)
                    answer = b""
                    while more := connection.recv(65536):
                        answer += more
                if not answer.startswith(b"HTTP/1.1 200 "):
                    raise OSError(f"answered {answer[:100]!r}")
                self.slowest = max(self.slowest, time.perf_counter() - begin)
                self.count += 1
        except OSError:
            self.slowest = float("inf")

    def end(self) -> None:
        self._ended.set()
        self.join()


def attack(options: str, url: str) -> str:
    """
    Run slowhttptest.

    :return: how it ended.
    :raise AssertionError: its own probes had no answer.
    """
    crowd = ["-c", str(CONNECTIONS), "-r", str(RATE), "-l", str(SECONDS), "-p", "3", "-u", url]
    command = ["nice", "-n", "19", "slowhttptest", *options.split(), *crowd]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 60, check=False)
    output = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", done.stdout)
    assert not re.search(r"service available:\s+NO", output), "slowhttptest found the server out of service"
    most = max(map(int, re.findall(r"connected:\s+(\d+)", output)), default=0)
    ended = re.search(r"Test ended on (.*)", output)
    status = re.search(r"Exit status: (.*)", output)
    assert ended and status, output[-500:]
    return f"{most} connected at the most; on the {ended[1].strip()}: {status[1].strip()}"


def measure(_target: Target) -> Iterator[Figure]:
    if shutil.which("slowhttptest") is None:
        raise NotMeasured("slowhttptest is not installed")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.txt").write_text("hello\n")
        with (Path(folder) / "large.bin").open("wb") as file:
            file.truncate(LARGE)
        for name, (options, path, other) in ATTACKS.items():
            with ServerProcess(SERVER, what=ROUTER if path == "/count" else folder) as server:
                visitor = Visitor(server.port, other)
                visitor.start()
                with watchedMemory(server) as growth:
                    found = attack(options, f"http://127.0.0.1:{server.port}{path}")
                visitor.end()
                server.checkAlive()
                slowest = f"{visitor.slowest * 1e3:.0f} ms at the most, of {visitor.count} requests"
                yield Figure(f"{name}: another's requests", visitor.slowest, REQUEST_LIMIT, slowest, found)
                size = growth.size / MB
                yield Figure(name, size, MEMORY_LIMIT / MB, f"{size:.1f} MB")


if __name__ == "__main__":
    sys.exit(main("slow_http", measure, __doc__, seconds=300))
