"""Main and sub-reactor processes: what they cost, how evenly they serve, and what a death and a reload do to others.

Limits: with 2 processes a message takes at most 1.15 times the CPU time that it takes with one, at 50x1x915; servers
and load share the same two cores. 1,000 connections are spread exactly evenly by round-robin and least-connections.
A sub-reactor is killed 50 times under load: connections of the other see nothing, no connect is refused, and two are
there in the end. The server is reloaded 20 times under load: no connect is refused, none is reset, and every message
that the server took is answered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    HEADER,
    LISTENERS,
    Figure,
    NotMeasured,
    Target,
    connect,
    frame,
    main,
    receiveExactly,
)
from benchmarks.loads import Scenario, compiledLoad, runLoad
from benchmarks.servers import ServerProcess, cores

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTEN = "tcp:{port}:interface=127.0.0.1"

SCENARIO = Scenario(50, 1, 915)
REPETITIONS = 7
CPU_LIMIT = 1.15

CONNECTIONS = 1000
KILLS = 50
RELOADS = 20

#: Connections that ask all the time while processes come and go.
CLIENTS = 20


def start(command: str, more: str) -> ServerProcess:
    """A server with further options, on both cores."""
    return ServerProcess(f"{command} {more}", everywhere=True, listen=LISTEN, listener=f"{LISTENERS}:Tell")


def subs(server: ServerProcess) -> list[int]:
    """The process ids of the sub-reactors."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return sorted(map(int, path.read_text().split()))


def cpu(target: Target) -> Figure:
    """The CPU time of a message, with two processes and with one."""
    if compiledLoad() is None:
        raise NotMeasured("no C compiler for the load")
    if cores()[0] == cores()[1]:
        raise NotMeasured("two processes need two cores")
    least = {"": float("inf"), "--processes 2": float("inf")}
    for _ in range(REPETITIONS):
        for more in least:
            with start(target.echo, more) as server:
                least[more] = min(least[more], runLoad(server, SCENARIO, 1.0).cpuPerMessage)
    one, two = least.values()
    return Figure(
        f"CPU of a message {SCENARIO}, 2 processes",
        two / one,
        CPU_LIMIT,
        f"{two / one:.2f} times that of one",
        f"{two:.2f} and {one:.2f} us",
    )


def spread(target: Target, balance: str) -> Figure:
    """How far from even a thousand connections are."""
    with start(target.serve, f"--processes 2 --balance {balance} --max-sessions none") as server:
        # The one that has waited for the server's port was the first.
        time.sleep(0.2)
        connections = [connect(server.port) for _ in range(CONNECTIONS)]
        places: Counter[int] = Counter()
        for connection in connections:
            connection.sendall(frame(b"x"))
            size = HEADER.unpack(receiveExactly(connection, HEADER.size))[0]
            places[int(receiveExactly(connection, size).split()[0])] += 1
        for connection in connections:
            connection.close()
    uneven = max(places.values()) - CONNECTIONS // 2
    return Figure(f"{CONNECTIONS} connections, {balance}", uneven, 0, " and ".join(map(str, places.values())))


class Clients:
    """Connections that ask all the time, and others that come, ask once, and go.

    :ivar refused: connects that were refused.
    :ivar seen: connections that ended, or were wrong, though the process that served them was not killed.
    :ivar reset: connections that ended without an end of the stream.
    :ivar answers: what came back.
    :ivar unserved: short connections that ended without an answer.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.killed: set[int] = set()
        self.refused = self.seen = self.reset = self.answers = self.short = self.unserved = 0
        self.running = True

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> int:
        """Ask; the process that has answered, 0 at the end of the stream."""
        asked = b"%d" % number
        writer.write(frame(asked))
        try:
            size = HEADER.unpack(await reader.readexactly(HEADER.size))[0]
            pid, _, answer = (await reader.readexactly(size)).partition(b" ")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.seen += 1
            return 0
        self.answers += 1
        if answer != asked:
            self.seen += 1
        return int(pid)

    async def talk(self, most: int) -> int:
        """A connection that asks so many times; how often it was answered."""
        pid = number = 0
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.refused += 1
            return 1
        try:
            while self.running and number < most:
                served = await self.ask(reader, writer, number)
                if not served:
                    if pid and not self.mayEnd(pid):
                        self.seen += 1
                    break
                pid = served
                number += 1
        except ConnectionError:
            self.reset += 1
            if pid and not self.mayEnd(pid):
                self.seen += 1
        finally:
            writer.close()
        return number

    def mayEnd(self, pid: int) -> bool:
        """Whether the process has been killed, or is draining."""
        return pid in self.killed

    async def stay(self) -> None:
        """One that asks all the time, and comes again."""
        while self.running:
            await self.talk(1 << 60)

    async def comeAndGo(self) -> None:
        """One after the other."""
        while self.running:
            self.short += 1
            if not await self.talk(1) and self.running:
                self.unserved += 1

    def begin(self) -> list[asyncio.Task[None]]:
        """Let them run."""
        return [asyncio.create_task(self.stay()) for _ in range(CLIENTS)] + [
            asyncio.create_task(self.comeAndGo()) for _ in range(2)
        ]

    async def end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Let them come to an end."""
        self.running = False
        await asyncio.gather(*tasks)


async def whole(server: ServerProcess, but: set[int]) -> bool:
    """Wait until two others than these are there, and serve; False if that takes too long."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = subs(server)
        if len(found) == 2 and not but & set(found):
            return True
        await asyncio.sleep(0.05)
    return False


async def kill(target: Target) -> list[Figure]:
    """Kill one of two, again and again."""
    with start(target.serve, "--processes 2 --max-sessions none") as server:
        clients = Clients(server.port)
        tasks = clients.begin()
        missing = 0
        for number in range(KILLS):
            await asyncio.sleep(0.3)
            victim = subs(server)[number % 2]
            clients.killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            missing += not await whole(server, clients.killed)
            # It is to have served for a while, as otherwise the next would be a death in a series.
            await asyncio.sleep(1.2)
        count = len(subs(server))
        await clients.end(tasks)
    note = f"{clients.answers} answers, {clients.short} short connections, {clients.unserved} of them to those killed"
    return [
        Figure(f"{KILLS} kills, connects refused", clients.refused, 0, str(clients.refused), note),
        Figure(f"{KILLS} kills, seen by others", clients.seen, 0, str(clients.seen)),
        Figure(f"{KILLS} kills, processes missing", missing + abs(2 - count), 0, str(missing + abs(2 - count))),
    ]


class ReloadedClients(Clients):
    """Of those that are drained any may end."""

    def mayEnd(self, pid: int) -> bool:
        """Whenever it likes."""
        return True


async def reload(target: Target) -> list[Figure]:
    """Reload, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAKEN"] = taken = os.path.join(folder, "taken")
        with start(target.serve, "--processes 2 --drain-timeout 4 --max-sessions none") as server:
            clients = ReloadedClients(server.port)
            tasks = clients.begin()
            missing = 0
            for _ in range(RELOADS):
                before = set(subs(server))
                os.kill(server.pid, signal.SIGHUP)
                missing += not await whole(server, before)
                await asyncio.sleep(0.2)
            await clients.end(tasks)
            await asyncio.sleep(0.5)
        del os.environ["TAKEN"]
        took = sum(map(int, Path(taken).read_text().split()))
    note = f"{took} messages, {clients.short} short connections, {clients.unserved} of them not served"
    lost = took - clients.answers
    return [
        Figure(f"{RELOADS} reloads, connects refused", clients.refused, 0, str(clients.refused), note),
        Figure(f"{RELOADS} reloads, connections reset", clients.reset, 0, str(clients.reset)),
        Figure(f"{RELOADS} reloads, answers lost", lost, 0, str(lost)),
        Figure(f"{RELOADS} reloads, not whole", missing, 0, str(missing)),
    ]


def measure(target: Target) -> Iterator[Figure]:
    yield cpu(target)
    for balance in ("round-robin", "least-connections"):
        yield spread(target, balance)
    yield from asyncio.run(kill(target))
    yield from asyncio.run(reload(target))


if __name__ == "__main__":
    sys.exit(main("processes", measure, __doc__, seconds=600))
