"""Big packages: the time and memory of their echo, and of headers that only announce them.

Limits: the echo of one package of 100 MB takes at most 2.3 times as long as one of 50 MB (the shortest of three each,
in turn); it raises the server's resident memory by at most 2.5 times its size at its highest; and 50 connections
that announce 100 MB each and send nothing more raise it by less than 1 MB.
"""

from __future__ import annotations

import random
import select
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    HEADER,
    MB,
    Figure,
    Target,
    connect,
    main,
    noCollections,
    roundTrip,
    watchedMemory,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from benchmarks.servers import ServerProcess

BIG = 100 * MB
HALF = 50 * MB
REPETITIONS = 3

TIME_LIMIT = 2.3
MEMORY_LIMIT = 2.5
ANNOUNCED = 50
ANNOUNCED_LIMIT = 1.0

#: Bytes of one send or recv.
CHUNK = 1 << 20


def echoBig(connection: socket.socket, payload: bytes, received: bytearray) -> float:
    """Send ``payload`` as one frame while its echo is read into ``received``; return the seconds until its end."""
    outgoing = [memoryview(HEADER.pack(len(payload))), memoryview(payload)]
    incoming = memoryview(received)[: HEADER.size + len(payload)]
    at = 0
    connection.setblocking(False)
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLOUT)
    begin = time.perf_counter()
    while at < len(incoming):
        events = poll.poll(30_000)
        assert events, "no progress for 30 s"
        if events[0][1] & select.POLLOUT:
            taken = connection.send(outgoing[0][:CHUNK])
            outgoing[0] = outgoing[0][taken:]
            if not outgoing[0]:
                del outgoing[0]
            if not outgoing:
                poll.modify(connection, select.POLLIN)
        if events[0][1] & ~select.POLLOUT:
            count = connection.recv_into(incoming[at : at + CHUNK])
            if not count:
                raise EOFError(f"the server closed the connection after {at} bytes of the echo")
            at += count
    took = time.perf_counter() - begin
    connection.setblocking(True)
    header, body = incoming[: HEADER.size], incoming[HEADER.size :]
    assert header == HEADER.pack(len(payload)) and bytes(body) == payload, "the echo differs from what was sent"
    return took


def measureMemory(server: ServerProcess, payload: bytes, received: bytearray) -> Figure:
    """Peak memory of a server whose first big package this is."""
    with connect(server.port) as connection:
        roundTrip(connection, b"x" * 915)
        with watchedMemory(server) as growth:
            echoBig(connection, payload, received)
    times = growth.size / len(payload)
    return Figure(
        "memory of a 100 MB package", times, MEMORY_LIMIT, f"{times:.2f} times its size", f"{growth.size / MB:.0f} MB"
    )


def measureTime(server: ServerProcess, payload: bytes, received: bytearray) -> Figure:
    """Round trips of whole and half packages, in turn."""
    best = {HALF: float("inf"), BIG: float("inf")}
    packages = {size: payload[:size] for size in best}
    with connect(server.port) as connection, noCollections():
        for _ in range(REPETITIONS):
            for size, package in packages.items():
                best[size] = min(best[size], echoBig(connection, package, received))
    ratio = best[BIG] / best[HALF]
    return Figure(
        "time of 100 MB to 50 MB",
        ratio,
        TIME_LIMIT,
        f"{ratio:.2f} times",
        f"{best[HALF] * 1e3:.0f} ms and {best[BIG] * 1e3:.0f} ms",
    )


def measureAnnounced(server: ServerProcess) -> Figure:
    """Memory of connections that announce a big package and send nothing of it."""
    with ExitStack() as opened:
        # As many ordinary connections come and go first, so that what they cost once is not counted.
        with ExitStack() as warmUp:
            for connection in [warmUp.enter_context(connect(server.port)) for _ in range(ANNOUNCED)]:
                roundTrip(connection, b"x")
        time.sleep(0.5)
        with watchedMemory(server) as growth:
            for _ in range(ANNOUNCED):
                opened.enter_context(connect(server.port)).sendall(HEADER.pack(BIG))
            time.sleep(1.0)
        with connect(server.port) as other:
            roundTrip(other, b"x")
    return Figure(
        f"memory of {ANNOUNCED} announced packages",
        growth.size / MB,
        ANNOUNCED_LIMIT,
        f"{growth.size / MB:.2f} MB",
    )


def measure(target: Target) -> Iterator[Figure]:
    payload = random.Random(1).randbytes(BIG)
    received = bytearray(HEADER.size + BIG)
    with target.start() as server:
        yield measureMemory(server, payload, received)
        yield measureTime(server, payload, received)
    with target.start() as server:
        yield measureAnnounced(server)


if __name__ == "__main__":
    sys.exit(main("big_packages", measure, __doc__, seconds=180))
