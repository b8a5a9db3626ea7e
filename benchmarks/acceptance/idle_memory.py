"""Many connections: what an idle one costs, and whether all that arrive at once are served.

Limits: 2560 bytes of the server's resident memory for each of 9,000 idle connections, taken before and after they
were opened; and none of 3,000 connections that are begun at once, each of which sends one frame, may be without its
echo after 20 s.

The note tells the memory after one echo on each of the 9,000 connections, which shows as well that all of them live.
Both ends need a descriptor for each connection, so the limit of open files (``ulimit -n``) has to be above 9,100.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    Figure,
    NotMeasured,
    Target,
    connect,
    frame,
    main,
    receiveExactly,
    roundTrip,
)
from benchmarks.room import raiseFileLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import ServerProcess

IDLE = 9_000
IDLE_LIMIT = 2560

BURST = 3_000
BURST_SECONDS = 20.0

#: Seconds that the server has for accepting, and for settling before its memory is read.
SETTLE = 1.0

#: Connections from one source address; ports of one address may run short.
PER_SOURCE = 3_000


def sourceAddress(number: int) -> str:
    """Which loopback address the connection of this number comes from."""
    return f"127.0.0.{2 + number // PER_SOURCE}"


def openIdle(server: ServerProcess, count: int, opened: ExitStack) -> list[socket.socket]:
    connections = []
    for number in range(count):
        connection = socket.create_connection(
            ("127.0.0.1", server.port), timeout=10, source_address=(sourceAddress(number), 0)
        )
        connections.append(opened.enter_context(connection))
    return connections


def measureIdle(target: Target) -> Figure:
    """Resident memory for each idle connection."""
    with target.start() as server, ExitStack() as opened:
        # What the first messages cost once, such as modules imported late, is not a connection's price.
        with connect(server.port) as first:
            for _ in range(100):
                roundTrip(first, b"x" * 915)
        time.sleep(SETTLE)
        before = server.memory()
        connections = openIdle(server, IDLE, opened)
        # The last of them answers when all are accepted: the server takes them in order.
        roundTrip(connections[-1], b"x")
        time.sleep(SETTLE)
        idle = (server.memory() - before) / IDLE
        echo = frame(b"x" * 915)
        for connection in connections:
            connection.sendall(echo)
        for connection in connections:
            assert receiveExactly(connection, len(echo)) == echo, "the echo differs from what was sent"
        used = (server.memory() - before) / IDLE
    return Figure(
        f"memory of {IDLE} idle connections",
        idle,
        IDLE_LIMIT,
        f"{idle:.0f} bytes each",
        f"{used:.0f} bytes each after one message",
    )


def serveBurst(port: int, count: int, seconds: float) -> int:
    """Begin ``count`` connections at once, send a frame on each, and return how many had its echo in ``seconds``."""
    sent = frame(b"burst")
    poll = select.epoll()
    connections: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    served = 0
    with ExitStack() as opened:
        for _ in range(count):
            connection = opened.enter_context(socket.socket())
            connection.setblocking(False)
            if connection.connect_ex(("127.0.0.1", port)) not in (0, errno.EINPROGRESS):
                continue
            connections[connection.fileno()] = connection
            received[connection.fileno()] = b""
            poll.register(connection, select.EPOLLOUT)
        deadline = time.monotonic() + seconds
        while connections and time.monotonic() < deadline:
            for descriptor, events in poll.poll(0.1):
                connection = connections[descriptor]
                try:
                    if events & select.EPOLLOUT:
                        connection.send(sent)
                        poll.modify(connection, select.EPOLLIN)
                        continue
                    data = connection.recv(len(sent))
                except OSError:
                    data = b""
                received[descriptor] += data
                if data and len(received[descriptor]) < len(sent):
                    continue
                # It has its echo, or was refused.
                served += received[descriptor] == sent
                poll.unregister(connection)
                del connections[descriptor]
    return served


def measureBurst(target: Target) -> Figure:
    """How many of the connections that arrive at once are left without an echo."""
    with target.start() as server:
        begin = time.perf_counter()
        served = serveBurst(server.port, BURST, BURST_SECONDS)
        took = time.perf_counter() - begin
        server.checkAlive()
    return Figure(
        f"{BURST} connections at once", BURST - served, 0, f"{BURST - served} not served", f"all took {took:.2f} s"
    )


def measure(target: Target) -> Iterator[Figure]:
    files = raiseFileLimit(IDLE + 100)
    if files < IDLE + 100:
        raise NotMeasured(f"needs {IDLE + 100} open files, the limit is {files}")
    yield measureIdle(target)
    yield measureBurst(target)


if __name__ == "__main__":
    sys.exit(main("idle_memory", measure, __doc__, seconds=120))
