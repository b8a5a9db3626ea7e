"""Groups for a long time: clients of TCP and WebSocket that join, leave, vanish, come back, publish, and do not read.

There is a namespace for each way with slow members, with a window and without, with a history and without. In the end
the counters add up in each: what members ought to have got is what was delivered, dropped, and on its way to those
that left; and what was delivered is what the sessions have counted. The stream of each client is one run of numbers:
nothing twice, nothing out of order, and gaps only where the namespace has them, as announced. The server's memory
and its objects are at most a tenth above those after half of the time, or after the first minute, both after a
collection of garbage; and its log has no unexpected line.

It takes 600 s; ``SECONDS=120`` in the environment makes it two minutes, and ``SEED`` has other things happen.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.groups_soak_clients import POLICIES, Client, Lines, Messages
from benchmarks.acceptance.harness import Figure, Target, main
from benchmarks.servers import ServerProcess, freePort

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = float(os.environ.get("SECONDS", "600"))

#: Clients of a namespace.
CLIENTS = 12

#: Seconds that all have in the end to get what they are to get.
SETTLE = 20.0

#: The last memory, of that after the first minute.
MEMORY_LIMIT = 1.1

#: Lines of the log that are right.
EXPECTED = re.compile(
    r"starting on|listening on|: closed by close|closing: too slow for close|"
    # They read nothing for longer than writeTimeout.
    r"the peer took no more"
)

COMMAND = "python -m benchmarks.acceptance.groups_soak_server {port} {own} {websocket}"


async def ask(port: int, collects: bool = False) -> dict[str, Any]:
    """The books; before that, have the server collect its garbage."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(json.dumps({"report": 1, "collect": collects}).encode() + b"\n")
    report: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return report


class Run:
    """One run: the clients, and what they have found."""

    def __init__(self, server: ServerProcess, own: int, websocket: int) -> None:
        self.server = server
        self.wrong: list[str] = []
        self.memory = self.objects = 0
        ways = [(server.port, Lines), (own, Lines), (websocket, Messages)]
        spaces = [f"{policy}{more}" for policy in POLICIES for more in ("", "w", "h", "wh")]
        self.clients = []
        for space in [*spaces, "but"]:
            for number in range(CLIENTS):
                port, wire = ways[number // 2 % len(ways)]
                self.clients.append(Client(port, wire, space, number, self.wrong))

    async def run(self) -> dict[str, Any]:
        """All of it; what the books say in the end."""
        begun = time.monotonic()
        running = [asyncio.create_task(each.run(lambda: time.monotonic() < begun + SECONDS)) for each in self.clients]
        first = min(60.0, SECONDS / 2)
        await asyncio.sleep(first)
        self.objects = (await ask(self.server.port, True))["objects"]
        self.memory = self.server.memory()
        while (left := begun + SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(min(60.0, left))
            self.server.checkAlive()
            await self.tell(time.monotonic() - begun)
        await asyncio.gather(*running)
        report = await self.settle()
        await self.tell(time.monotonic() - begun)
        return {**report, "objects": (await ask(self.server.port, True))["objects"]}

    async def tell(self, seconds: float) -> None:
        """A line of progress."""
        report = await ask(self.server.port)
        spaces = report["report"].values()
        said, delivered, dropped, left = (
            sum(each[key] for each in spaces) for key in ("published", "deliveries", "dropped", "left")
        )
        text = f"{said} published, {delivered} delivered, {dropped} dropped, {left} left"
        comebacks = sum(each.comebacks for each in self.clients)
        memory = self.server.memory() / 1e6
        print(f"  {seconds:.0f} s: {text}, {comebacks} came back, {memory:.1f} MB, {len(self.wrong)} wrong", flush=True)

    async def settle(self) -> dict[str, Any]:
        """Wait until all are members and have everything."""
        until = time.monotonic() + SETTLE
        while True:
            for each in self.clients:
                await each.back()
            await asyncio.sleep(0.5)
            report = await ask(self.server.port)
            late = [each for each in self.clients if not each.isAt(report["said"].get(each.group, 0))]
            if not late and not report["behind"]:
                break
            if time.monotonic() > until:
                self.wrong += [
                    f"{each.name}: is at {each.last}, not at {report['said'].get(each.group)}" for each in late
                ]
                break
        return report


def sums(name: str, book: dict[str, Any]) -> Iterator[str]:
    """What does not add up in a namespace."""
    accounted = book["deliveries"] + book["dropped"] + book["left"]
    if book["expected"] != accounted:
        yield f"{name}: {book['expected']} expected, {accounted} accounted for: {book}"
    if book["written"] != book["deliveries"]:
        yield f"{name}: {book['deliveries']} delivered, {book['written']} counted by sessions"
    if name.startswith("drop") and book["told"] != book["reasons"].get("slow", 0):
        yield f"{name}: {book['reasons']} dropped, onGap has told of {book['told']}"


def measure(_target: Target) -> Iterator[Figure]:
    own, websocket = str(freePort()), str(freePort())
    with ServerProcess(COMMAND, own=own, websocket=websocket) as server:
        run = Run(server, int(own), int(websocket))
        report = asyncio.run(run.run())
        after = server.memory()
        lines = server.outputTail(10_000_000).splitlines()
    books = report["report"]
    total = {key: sum(each[key] for each in books.values()) for key in ("expected", "deliveries", "dropped", "left")}
    for name, each in books.items():
        print(f"  {name}: {json.dumps(each)}", file=sys.stderr)
    wrong = [text for name, each in books.items() for text in sums(name, each)]
    note = ", ".join(f"{number} {key}" for key, number in total.items())
    yield Figure("sums that do not add up", len(wrong), 0, str(len(wrong)), f"{note}; {'; '.join(wrong[:3])}")
    text = f"{len(run.clients)} clients got {sum(each.got for each in run.clients)}"
    comebacks = sum(each.comebacks for each in run.clients)
    note = f"{text}, came back {comebacks} times; {'; '.join(run.wrong[:5])}"
    yield Figure("faults in streams", len(run.wrong), 0, str(len(run.wrong)), note)
    growth = after / run.memory
    note = f"{run.memory / 1e6:.1f} MB, {after / 1e6:.1f} MB in the end"
    yield Figure("memory in the end", growth, MEMORY_LIMIT, f"{growth:.2f} times", note)
    more = report["objects"] / run.objects
    note = f"{run.objects} blocks of Python's allocator, {report['objects']} in the end"
    yield Figure("objects in the end", more, MEMORY_LIMIT, f"{more:.2f} times", note)
    odd = [line for line in lines if line.strip() and not EXPECTED.search(line)]
    yield Figure(
        "unexpected lines in the log",
        len(odd),
        0,
        f"{len(odd)} of {len(lines)}",
        "; ".join(odd[:5]),
    )


if __name__ == "__main__":
    sys.exit(main("groups_soak", measure, __doc__, seconds=int(SECONDS) + 120))
