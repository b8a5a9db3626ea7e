"""Groups over two sub-reactors: what the way through the main process costs, and what a death and a reload do.

Limits: from publishing to the socket of the last of 200 members p99 with 2 processes is at most 1.3 times that with
one, by turns; members read when all is there. The main process takes at most 20 us of CPU for a publication of 100
bytes to both. 500 members, of which four publish all the time: a sub-reactor is killed 20 times, and the server is
reloaded 10 times. All get all, in one order, nothing is lost or doubled for those who come back, presence has all of
them within a second, and nobody who is back in time has left, or has come, as those processes hear it that took over.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import statistics
import sys
import time
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import LISTENERS, Figure, NotMeasured, Target, connect, main
from benchmarks.acceptance.processes import LISTEN, subs, whole
from benchmarks.acceptance.rooms import LEAVE_DELAY, Record, RoomClient, settled, talk
from benchmarks.servers import ServerProcess, cores

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROOM = "room:x"

#: Of the comparison of p99.
MEMBERS = 200
PUBLICATIONS = 2000
LATENCY_LIMIT = 1.3

#: Of the main process's CPU time: publishers, and how many they publish at once, so often.
PUBLISHERS = 4
AT_ONCE, TIMES = 50, 100
CPU_LIMIT = 20.0

#: Of kills and reloads.
CROWD = 500
KILLS = 20
RELOADS = 10
PAUSE = 0.2


#: Bytes that the clients of :class:`Lines` read at once.
READ_BYTES = 65536

#: Seconds after publishing before they read: some times what one process needs for all members.
READ_AFTER = 0.006

#: Linux' option to have the time with what is read, seconds and nanoseconds; Python has no name for it.
SO_TIMESTAMPNS = 35
STAMP = Struct("qq")


def start(target: Target, more: str, name: str = "Rooms") -> ServerProcess:
    """A server with rooms, whose listener has this name."""
    command = target.serve.replace("length:order=little", "line")
    listener = f"{LISTENERS.rpartition('.')[0]}.rooms:{name}"
    return ServerProcess(f"{command} --max-sessions none {more}", everywhere=True, listen=LISTEN, listener=listener)


class Lines:
    """
    Connections that send lines, and wait for a number of lines from each.

    They share the cores with the servers, so they do little: they count what comes, into one buffer. The kernel notes
    when it came.
    """

    def __init__(self, port: int, count: int) -> None:
        self._poll = select.epoll()
        self._buffer = bytearray(READ_BYTES)
        self.connections = [connect(port) for _ in range(count)]
        self._byNumber = {connection.fileno(): connection for connection in self.connections}
        for number, connection in self._byNumber.items():
            connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._poll.register(number, select.EPOLLIN)
        self.missing = 0

    def send(self, connection: socket.socket, request: dict[str, str], count: int = 1) -> None:
        """Send a request so often."""
        connection.sendall((json.dumps(request).encode() + b"\n") * count)

    def expect(self, count: int = 1) -> None:
        """So many lines will come."""
        self.missing += count

    def take(self, connection: socket.socket) -> float:
        """Read what has come to one of them, or wait for it. :return: when it came."""
        size, notes, _, _ = connection.recvmsg_into([self._buffer], 64)
        if not size:
            raise EOFError("publications have not come")
        self.missing -= self._buffer.count(b"\n", 0, size)
        if not notes:
            return 0.0
        seconds, nanoseconds = STAMP.unpack(notes[0][2])
        return float(seconds + nanoseconds / 1e9)

    def wait(self, pause: float = 0.0) -> float:
        """
        Wait for them.

        :param pause: seconds between two looks.
        :return: when the last one came, on the clock of ``time.time``; 0.0 if the kernel does not say so.
        """
        last = 0.0
        until = time.monotonic() + 20
        while self.missing > 0:
            if pause:
                time.sleep(pause)
            for number, _ in self._poll.poll(1.0):
                last = max(last, self.take(self._byNumber[number]))
            if time.monotonic() > until:
                raise EOFError("publications have not come")
        return last

    def join(self) -> None:
        """All become members."""
        for connection in self.connections:
            self.send(connection, {"join": ROOM})
        self.expect(len(self.connections))
        self.wait()

    def close(self) -> None:
        """Close all."""
        for connection in self.connections:
            connection.close()
        self._poll.close()


def reaches(lines: Lines, number: int) -> float:
    """
    The seconds from publishing until the last line is in the last member's socket.

    Members do not read meanwhile. They would take as much time as the servers, on one of their two cores, and so be in
    the way of one of two sub-reactors, and late to see what has come.
    """
    publisher = lines.connections[number % MEMBERS]
    # All of them get it, and the publisher an answer.
    lines.expect(MEMBERS + 1)
    begun = time.time()
    lines.send(publisher, {"say": ROOM, "text": "x" * 60})
    last = lines.wait(READ_AFTER)
    if not last:
        raise NotMeasured("the kernel does not say when data has come")
    return last - begun


def p99(times: list[float]) -> float:
    """In milliseconds."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


def latency(target: Target) -> Figure:
    """Two processes and one, both running: one publication here, one there, so that both have the same machine."""
    if cores()[0] == cores()[1]:
        raise NotMeasured("two processes need two cores")
    with start(target, "") as single, start(target, "--processes 2") as several:
        every = [Lines(server.port, MEMBERS) for server in (single, several)]
        for lines in every:
            lines.join()
        time.sleep(0.5)
        times: list[list[float]] = [[], []]
        for number in range(PUBLICATIONS):
            for lines, got in zip(every, times, strict=True):
                got.append(reaches(lines, number))
        for lines in every:
            lines.close()
    one, two = map(p99, times)
    middle = " and ".join(f"{statistics.median(got) * 1000:.2f}" for got in reversed(times))
    return Figure(
        f"publishing to the last of {MEMBERS}, p99, 2 processes",
        two / one,
        LATENCY_LIMIT,
        f"{two / one:.2f} times that of one",
        f"{two:.2f} and {one:.2f} ms, medians {middle} ms",
    )


def cpuOf(pid: int) -> float:
    """CPU time of a process, in seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def cpu(target: Target) -> Figure:
    """The main process's CPU time for a publication."""
    with start(target, "--processes 2") as server:
        lines = Lines(server.port, PUBLISHERS)
        lines.join()
        time.sleep(0.3)
        before = cpuOf(server.pid)
        begun = time.perf_counter()
        for _ in range(TIMES):
            for connection in lines.connections:
                lines.send(connection, {"say": ROOM, "text": "x" * 60}, AT_ONCE)
                lines.expect(AT_ONCE * (PUBLISHERS + 1))
            lines.wait()
        count = AT_ONCE * TIMES * PUBLISHERS
        seconds = time.perf_counter() - begun
        took = (cpuOf(server.pid) - before) / count * 1e6
        lines.close()
    note = f"{count} publications, {count / seconds:,.0f} a second"
    return Figure("the main process's CPU for a publication", took, CPU_LIMIT, f"{took:.1f} us", note)


async def presence(clients: list[RoomClient]) -> int:
    """How many members presence has too many or too few, a second after the last has come."""
    await asyncio.sleep(1.0)
    answer = await clients[0].ask({"who": ROOM})
    return len(set(answer["who"]) ^ {client.user for client in clients}) + abs(len(answer["who"]) - len(clients))


async def crowd(
    server: ServerProcess, what: str, disturb: Callable[[list[RoomClient]], Awaitable[int]]
) -> list[Figure]:
    """A crowd that is disturbed."""
    record = Record(server.port, ROOM)
    clients = [RoomClient(record, f"user{number}") for number in range(CROWD)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await client.joined.wait()
    begun = {client.pid for client in clients}
    talking = [asyncio.create_task(talk(client, PAUSE)) for client in clients[:PUBLISHERS]]
    missing = await disturb(clients)
    record.running = False
    await asyncio.gather(*talking)
    missing += not await settled(clients, 30.0)
    wrong = list(record.check())
    away = await presence(clients)
    joins = leaves = 0
    await asyncio.sleep(LEAVE_DELAY)
    for client in {client.pid: client for client in clients}.values():
        joined, left = (await client.ask({"heard": ROOM}))["heard"]
        # Those that were there at the beginning have heard who came then.
        joins += joined if client.pid not in begun else 0
        leaves += left
    for client in clients:
        if client.writer is not None:
            client.writer.close()
    await asyncio.gather(*running)
    note = f"{len(record.texts)} publications to {CROWD}, {record.gone} came back; {'; '.join(wrong[:3])}"
    return [
        Figure(f"{what}, lost, doubled, or in another order", len(wrong), 0, str(len(wrong)), note),
        Figure(f"{what}, wrong in presence", away, 0, str(away)),
        Figure(f"{what}, told to have left", leaves, 0, str(leaves)),
        Figure(f"{what}, told to have come", joins, 0, str(joins)),
        Figure(f"{what}, not whole", missing, 0, str(missing)),
    ]


async def kill(target: Target) -> list[Figure]:
    """Kill one of two, again and again."""
    with start(target, "--processes 2") as server:

        async def disturb(clients: list[RoomClient]) -> int:
            killed: set[int] = set()
            missing = 0
            for number in range(KILLS):
                await asyncio.sleep(0.5)
                victim = subs(server)[number % 2]
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                missing += not await whole(server, killed)
                # It is to have served for a while, as otherwise the next would be a death in a series.
                await asyncio.sleep(2.2)
            return missing

        return await crowd(server, f"{KILLS} kills", disturb)


async def reload(target: Target) -> list[Figure]:
    """Reload, again and again."""
    with start(target, "--processes 2 --drain-timeout 4") as server:

        async def disturb(clients: list[RoomClient]) -> int:
            missing = 0
            for _ in range(RELOADS):
                before = set(subs(server))
                os.kill(server.pid, signal.SIGHUP)
                missing += not await whole(server, before)
                await asyncio.sleep(0.5)
            return missing

        return await crowd(server, f"{RELOADS} reloads", disturb)


def measure(target: Target) -> Iterator[Figure]:
    yield cpu(target)
    yield latency(target)
    yield from asyncio.run(kill(target))
    yield from asyncio.run(reload(target))


if __name__ == "__main__":
    sys.exit(main("groups_processes", measure, __doc__, seconds=600))
