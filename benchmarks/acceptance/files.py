"""Bytes without copies: what ``sendFile`` and ``relay`` cost, beside the same through memory.

Limits: ``sendFile`` of 1 GB raises the server's resident memory by less than 8 MB. The CPU time a MB of ``sendFile`` is
compared with reading the file and writing it in pieces of 64 KiB, and that of a relay by ``splice(2)`` with one by
buffers and with a listener that writes each package to the other side: the least of five runs each, in turn.

What the kernel itself takes for the same is measured beside it, with the same calls in a bare loop: on loopback, where
nothing is copied to a network card, most of the time is TCP's own, and a copy within a processor's cache is cheap.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    MB,
    Figure,
    NotMeasured,
    Target,
    connect,
    frame,
    main,
    receiveExactly,
    watchedMemory,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.servers import ServerProcess

SIZE = 1000 * MB
RELAYED = 1000 * MB
REPETITIONS = 5
CHUNK = 1 << 20

MEMORY_LIMIT = 8.0
FILE_FLOOR = 1.1
RELAY_LIMIT = 0.9

#: The listeners of a relay.
WAYS = ("Spliced", "Buffered", "Delivered")


def receiveAll(connection: socket.socket, size: int) -> None:
    """Read and drop ``size`` bytes."""
    buffer = bytearray(CHUNK)
    left = size
    while left:
        count = connection.recv_into(buffer, min(left, CHUNK))
        if not count:
            raise EOFError(f"the server closed the connection {left} bytes before the end")
        left -= count


def settled(server: ServerProcess) -> float:
    """CPU seconds of a server that has nothing left to do."""
    time.sleep(0.1)
    return server.cpuSeconds()


def fetchFile(server: ServerProcess, way: str, path: Path) -> tuple[float, float]:
    """CPU seconds and seconds of the server for the whole file."""
    before = settled(server)
    with connect(server.port, timeout=60) as connection:
        begin = time.perf_counter()
        connection.sendall(frame(f"{way} {path}".encode()))
        receiveAll(connection, SIZE)
        took = time.perf_counter() - begin
        return settled(server) - before, took


def bareSendfile(path: Path) -> float:
    """CPU seconds of this process for the same file and call, the receiver a thread's."""
    return bare(lambda sock, file, at: os.sendfile(sock.fileno(), file, at, CHUNK), path)


def barePieces(path: Path) -> float:
    """The same for reading and sending 64 KiB at a time."""
    return bare(lambda sock, file, at: sock.send(os.pread(file, 65536, at)), path)


def bare(step: Callable[[socket.socket, int, int], int], path: Path) -> float:
    """CPU seconds of the thread that sends the file in steps."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:
        receiver = stack.enter_context(socket.create_connection(listening.getsockname()))
        sender = stack.enter_context(listening.accept()[0])
        reading = threading.Thread(target=receiveAll, args=(receiver, SIZE), daemon=True)
        reading.start()
        number = os.open(path, os.O_RDONLY)
        stack.callback(os.close, number)
        sender.setblocking(False)
        before = resource.getrusage(resource.RUSAGE_THREAD)
        at = 0
        while at < SIZE:
            try:
                at += step(sender, number, at)
            except BlockingIOError:
                select.select((), (sender,), ())
        after = resource.getrusage(resource.RUSAGE_THREAD)
        reading.join()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measureFiles(target: Target) -> Iterator[Figure]:
    """Memory, and CPU time."""
    least = {"sendFile": float("inf"), "pieces": float("inf")}
    seconds = dict(least)
    with tempfile.TemporaryDirectory() as folder, target.start("Files") as server:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            block = os.urandom(CHUNK)
            for _ in range(SIZE // CHUNK + 1):
                file.write(block)
            file.truncate(SIZE)
        fetchFile(server, "sendFile", path)
        with watchedMemory(server) as growth:
            fetchFile(server, "sendFile", path)
        yield Figure("memory of sendFile", growth.size / MB, MEMORY_LIMIT, f"{growth.size / MB:.2f} MB")
        for _ in range(REPETITIONS):
            for way in least:
                cpu, took = fetchFile(server, way, path)
                least[way] = min(least[way], cpu)
                seconds[way] = min(seconds[way], took)
        kernel = min(bareSendfile(path) for _ in range(REPETITIONS)), min(barePieces(path) for _ in range(REPETITIONS))
    ratio = least["pieces"] / least["sendFile"]
    megabytes = SIZE / MB
    yield Figure(
        "CPU of pieces to sendFile",
        ratio,
        FILE_FLOOR,
        f"{ratio:.2f} times",
        f"{least['pieces'] / megabytes * 1e6:.0f} and {least['sendFile'] / megabytes * 1e6:.0f} us a MB, rates"
        f" {megabytes / seconds['pieces']:.0f} and {megabytes / seconds['sendFile']:.0f} MB/s; bare calls"
        f" {kernel[1] / megabytes * 1e6:.0f} and {kernel[0] / megabytes * 1e6:.0f} us a MB",
        floor=True,
    )


def passThrough(server: ServerProcess) -> float:
    """CPU seconds of a server that relays from one connection to another."""
    with connect(server.port, timeout=60) as far, connect(server.port, timeout=60) as near:
        for connection, name in ((far, b"far"), (near, b"near")):
            connection.sendall(frame(name))
            receiveExactly(connection, len(frame(b"ready")))
        before = settled(server)
        near.setblocking(False)
        far.setblocking(False)
        sent = received = 0
        block = bytes(CHUNK)
        buffer = bytearray(CHUNK)
        poll = select.poll()
        poll.register(near, select.POLLOUT)
        poll.register(far, select.POLLIN)
        while received < RELAYED:
            events = poll.poll(30_000)
            assert events, "no progress for 30 s"
            with suppress(BlockingIOError):
                if sent < RELAYED:
                    sent += near.send(memoryview(block)[: RELAYED - sent])
                    if sent == RELAYED:
                        poll.unregister(near)
            with suppress(BlockingIOError):
                received += far.recv_into(buffer)
        return settled(server) - before


def measureRelay(target: Target) -> Iterator[Figure]:
    """CPU time of each way."""
    least = dict.fromkeys(WAYS, float("inf"))
    with ExitStack() as stack:
        servers = {way: stack.enter_context(target.start(way)) for way in WAYS}
        for server in servers.values():
            passThrough(server)
        for _ in range(REPETITIONS):
            for way, server in servers.items():
                least[way] = min(least[way], passThrough(server))
    figures = {way: cpu / RELAYED * MB * 1e6 for way, cpu in least.items()}
    ratio = least["Spliced"] / least["Buffered"]
    yield Figure(
        "CPU of a spliced relay to a buffered one",
        ratio,
        RELAY_LIMIT,
        f"{ratio:.2f} times",
        ", ".join(f"{way} {figure:.0f} us a MB" for way, figure in figures.items()),
    )


def measure(target: Target) -> Iterator[Figure]:
    if not hasattr(os, "splice"):
        raise NotMeasured("this system has no splice(2)")
    yield from measureFiles(target)
    yield from measureRelay(target)


if __name__ == "__main__":
    sys.exit(main("files", measure, __doc__, seconds=180))
