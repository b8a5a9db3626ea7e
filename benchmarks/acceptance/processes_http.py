"""What the death and the reload of sub-reactors do to requests of HTTP.

Limits: a sub-reactor is killed 20 times under load: clients of the other see nothing, and no connect is refused. The
server is reloaded 20 times under load, while half of the requests take 20 ms: no connect is refused, no connection is
reset, every request that was taken is answered, and none that was sent on an open connection is left without an answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, Target, main
from benchmarks.acceptance.processes import LISTEN, ReloadedClients, subs, whole
from benchmarks.acceptance.processes import Clients as FrameClients
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "twistd -n --pidfile= --reactor getty getty-http benchmarks.acceptance.webs:router --listen {listen}"

KILLS = 20
RELOADS = 20


def start(more: str) -> ServerProcess:
    """A server with further options, on both cores."""
    return ServerProcess(f"{COMMAND} {more}", everywhere=True, listen=LISTEN)


class Clients(FrameClients):
    """
    The same with requests.

    :ivar unanswered: requests that were sent on a connection which had answered before, and ended without an answer.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.unanswered = 0
        self._last: set[asyncio.StreamWriter] = set()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> int:
        """Ask; the process that has answered, 0 at the end of the stream."""
        if writer in self._last:
            # The answer before said that it is the last one.
            self._last.discard(writer)
            return 0
        path = "now" if number % 2 else "later"
        writer.write(f"GET /{path}/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ") for line in head.lower().split(b"\r\n")[1:-2])
            pid, _, answer = (await reader.readexactly(int(fields[b"content-length"]))).partition(b" ")
        except asyncio.IncompleteReadError as error:
            self.seen += bool(error.partial)
            self.unanswered += not error.partial and number > 0
            return 0
        if fields.get(b"connection") == b"close":
            self._last.add(writer)
        self.answers += 1
        if answer != b"%d" % number or not head.startswith(b"HTTP/1.1 200 "):
            self.seen += 1
        return int(pid)


class Reloaded(Clients, ReloadedClients):
    """Of those that are drained any may end."""


async def kill() -> list[Figure]:
    """Kill one of two, again and again."""
    with start("--processes 2") as server:
        clients = Clients(server.port)
        tasks = clients.begin()
        missing = 0
        for number in range(KILLS):
            await asyncio.sleep(0.3)
            victim = subs(server)[number % 2]
            clients.killed.add(victim)
            os.kill(victim, signal.SIGKILL)
            missing += not await whole(server, clients.killed)
            # As otherwise the next would be a death in a series.
            await asyncio.sleep(1.2)
        await clients.end(tasks)
    note = f"{clients.answers} answers"
    return [
        Figure(f"{KILLS} kills, connects refused", clients.refused, 0, str(clients.refused), note),
        Figure(f"{KILLS} kills, seen by others", clients.seen, 0, str(clients.seen)),
        Figure(f"{KILLS} kills, not whole", missing, 0, str(missing)),
    ]


async def reload() -> list[Figure]:
    """Reload, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TAKEN"] = taken = os.path.join(folder, "taken")
        with start("--processes 2 --drain-timeout 6") as server:
            clients = Reloaded(server.port)
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
        took = len(Path(taken).read_text().split())
    note = f"{took} requests, {clients.short} short connections, {clients.unserved} of them not served"
    lost = took - clients.answers
    return [
        Figure(f"{RELOADS} reloads, connects refused", clients.refused, 0, str(clients.refused), note),
        Figure(f"{RELOADS} reloads, connections reset", clients.reset, 0, str(clients.reset)),
        Figure(f"{RELOADS} reloads, wrong answers", clients.seen, 0, str(clients.seen)),
        Figure(f"{RELOADS} reloads, requests taken and lost", lost, 0, str(lost)),
        Figure(f"{RELOADS} reloads, requests without an answer", clients.unanswered, 0, str(clients.unanswered)),
        Figure(f"{RELOADS} reloads, not whole", missing, 0, str(missing)),
    ]


def measure(target: Target) -> Iterator[Figure]:
    yield from asyncio.run(kill())
    yield from asyncio.run(reload())


if __name__ == "__main__":
    sys.exit(main("processes_http", measure, __doc__, seconds=300))
