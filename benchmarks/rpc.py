"""Measure calls of getty_tx.rpc beside Twisted AMP and others: rates, and CPU time for a call at both ends.

    python -m benchmarks.rpc
    python -m benchmarks.rpc --row 1x100x100 --row 1x100x1024:text:deadline --python FOLDER/bin/python

A row is CONNECTIONSxCALLERSxBYTES: so many connections, with so many callers each that call in a loop, and are
answered with the bytes that they have sent. Behind it may stand ``:records`` or ``:text`` (an argument of about so many
bytes as JSON, a list of small objects or an object with a long text), ``:dubbo`` or ``:dubbotext`` (bytes or a text, on
the wire of Dubbo, for ``getty_rpc`` only), ``:async`` (the method is an ``async def``),
``:deadline`` (each call has one of 3 seconds) and ``:clients`` (each connection is a client of its own; without it, the
callers of ``getty_rpc`` share a client with as many sessions, and each call takes the one with the fewest open calls).

Server and client are a process each, on a core each where there are two; all take turns. ``getty_rpc`` is a client and
a server of getty_tx, on its reactor; ``getty_rpc (C)`` is the same server with a load in C, which shows what the server
alone can do. Twisted AMP is on Twisted's default reactor. The others need packages that getty_tx does not: make a
virtual environment with ``pip install grpcio aiorpcX thriftpy2 Pyro5 rpyc uvloop``, and name its interpreter with
``--python``. What is missing there is left out; without uvloop those on asyncio are slower. The head of each file in
``peers`` tells the settings of its peer.

    python -m benchmarks.rpc --well 20 --python FOLDER/bin/python
    python -m benchmarks.rpc --plot calls.svg --repetitions 2 --seconds 1 --python FOLDER/bin/python

``--well`` has each peer called for so many seconds, after a client that has come and gone, and prints the calls, the
round trips of the last quarter as a multiple of the first quarter's, how the server's memory has grown, and what server
and client have said; the first call that fails ends it. ``--plot`` measures the rows of ``benchmarks.rpcplot`` and
draws them; the figures are written beside it, for ``benchmarks.rpcplot`` to draw again or to make tables of.

Columns: the best rate of calls a second, the lowest CPU time for a call of server and of client in microseconds, the
median p50 and p99 of the round trips in microseconds, and the server's CPU time and the rate as multiples of
getty_rpc's. A wrong answer or a failed call ends the runs of that peer. The load averages of the machine before and
after are printed, too: above 2 on two cores something else has run, and only the CPU times say something.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.__main__ import checked, end
from benchmarks.figures import Figures
from benchmarks.loads import LoadError, LoadResult, Scenario, compiledLoad, measured, startLoad
from benchmarks.measure import Summary
from benchmarks.packages import versionOf, whyAbsent
from benchmarks.peers.rpc_load import payloadOf
from benchmarks.rpcplot import ARTICLE, drawing
from benchmarks.servers import ROOT, ServerError, ServerProcess, cores, pinLoad

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = Path(__file__).with_name("rpcload.c")
FOLDER = ROOT / "benchmarks" / "peers"

ROWS = (
    "1x1x100",
    "10x1x100",
    "50x1x100",
    "1x100x100",
    "50x16x100",
    "1x100x100:async",
    "1x100x100:deadline",
    "1x100x1024",
    "1x100x1024:text",
    "1x100x1024:records",
    "1x100x1024:dubbo",
    "1x100x1024:dubbotext",
    "1x100x65535",
    "16x6x65535",
)

#: What an argument is, beside bytes.
CONTENTS = ("text", "records", "dubbo", "dubbotext")

#: Seconds of a deadline.
DEADLINE = 3.0

#: The peers by name: the package that each needs, and its file in ``peers``.
PEERS = {
    "getty_rpc": ("getty_tx", "rpc_getty.py"),
    "amp": ("twisted", "rpc_amp.py"),
    "grpc.aio": ("grpc", "rpc_grpc.py"),
    "aiorpcX": ("aiorpcx", "rpc_aiorpcx.py"),
    "thriftpy2": ("thriftpy2", "rpc_thrift.py"),
    "grpc sync": ("grpc", "rpc_grpcsync.py"),
    "rpyc": ("rpyc", "rpc_rpyc.py"),
    "Pyro5": ("Pyro5", "rpc_pyro.py"),
}

#: What modules are in, where it has another name.
PACKAGES = {"twisted": "Twisted", "grpc": "grpcio", "aiorpcx": "aiorpcX"}

#: Those whose client and server run on asyncio, or on uvloop.
ON_ASYNCIO = ("grpc.aio", "aiorpcX", "thriftpy2")

#: The row of ``--well``.
LONG = "10x16x581"

#: Those that run with this interpreter, whatever ``--python`` says.
OURS = ("getty_rpc", "amp")

#: The server of getty_rpc with the load in C.
ALONE = "getty_rpc (C)"

_COLUMNS = {"calls/s": 10, "server us": 11, "client us": 11, "p50 us": 10, "p99 us": 10, "server x": 10, "rate x": 8}
HEADING = f"  {'':<16}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())

WELL_HEADING = f"  {'':<16}{'calls':>10}{'slowing':>9}{'grown MB':>10}  said"


@dataclass(frozen=True)
class Row:
    """What is called.

    :ivar scenario: connections, callers of each, and bytes.
    :ivar content: ``bytes``, ``text``, ``records``, ``dubbo`` or ``dubbotext``.
    """

    scenario: Scenario
    content: str = "bytes"
    isAsync: bool = False
    hasDeadline: bool = False
    isPool: bool = True

    @classmethod
    def parse(cls, text: str) -> Row:
        """
        Read ``CONNECTIONSxCALLERSxBYTES[:text|:records|:dubbo|:dubbotext][:async][:deadline][:clients]``.

        :raise ValueError: for any other text.
        """
        numbers, *words = text.split(":")
        contents = [word for word in words if word in CONTENTS]
        others = [word for word in words if word not in contents]
        if len(contents) > 1 or len(set(others)) < len(others) or set(others) - {"async", "deadline", "clients"}:
            raise ValueError(
                f"{text!r} has more behind {numbers} than :text, :records, :dubbo or :dubbotext, :async, :deadline and"
                " :clients"
            )
        return cls(
            Scenario.parse(numbers),
            *contents or ["bytes"],
            isAsync="async" in others,
            hasDeadline="deadline" in others,
            isPool="clients" not in others,
        )

    @property
    def isDubbo(self) -> bool:
        """Only getty_rpc speaks it."""
        return self.content in ("dubbo", "dubbotext")

    @property
    def words(self) -> list[str]:
        """Content and handler, as the peers are told."""
        return [self.content, "async" if self.isAsync else "plain"]

    def load(self, warmup: float, seconds: float) -> list[str]:
        """What a peer's client is told behind them."""
        each, timeout = self.scenario, str(DEADLINE) if self.hasDeadline else "-"
        sharing = "pool" if self.isPool else "clients"
        return [str(each.connections), str(each.depth), str(each.size), timeout, str(warmup), str(seconds), sharing]


@dataclass
class Found(Summary):
    """The runs of one peer in one row."""

    results: list[LoadResult] = field(default_factory=list)

    @property
    def clientPerCall(self) -> float:
        """The lowest CPU time of the client for one call, in microseconds; 0 for a load in C."""
        return min(result.clientSeconds / max(result.messages, 1) * 1e6 for result in self.results)

    @property
    def figures(self) -> dict[str, float | str]:
        """What is kept of them: rate, CPU times and round trips, or the last line of the problem."""
        if self.problem:
            return {"problem": self.problem.strip().splitlines()[-1]}
        return {
            "rate": round(self.best),
            "server": round(self.cpuPerMessage, 2),
            "client": round(self.clientPerCall, 2),
            "p50": round(self.p50),
            "p99": round(self.p99),
        }


def missing(names: Iterable[str], python: str) -> dict[str, str]:
    """Why peers cannot be measured, by name."""
    found = {}
    for name in names:
        package, _ = PEERS[name]
        interpreter = sys.executable if name in OURS else python
        if why := whyAbsent(package, interpreter):
            found[name] = f"{name} is left out: {interpreter}: {why} (see --python)"
    return found


def versions(names: Iterable[str], python: str) -> dict[str, str]:
    """The packages of peers that are there, with their versions, and the loop of those on asyncio."""
    found = {}
    for name in names:
        module, _ = PEERS[name]
        found[name] = versionOf(PACKAGES.get(module, module), sys.executable if name in OURS else python)
    if set(found) & set(ON_ASYNCIO):
        found["asyncio"] = versionOf("uvloop", python) or "no uvloop"
    return found


#: What a codec wants of a session.
_SESSION: Any = SimpleNamespace(maxMsgLen=1 << 30, connection=SimpleNamespace(kind="TCP_CLIENT"))


def frameOf(row: Row) -> bytes:
    """A request's frame for the load in C, and the payload that its reply must have."""
    # Peers must not need getty_tx, and the table has none without it.
    from getty_tx import rpc
    from getty_tx.rpc.messages import Reply, Request
    from getty_tx.rpc.wires.dubbo import HEAD as DUBBO_HEAD

    wire: Any = rpc.Dubbo() if row.isDubbo else rpc.TTHeader("bytes" if row.content == "bytes" else "json")
    value = payloadOf(row.content, row.scenario.size)
    payload = wire.payload.encodeArguments("Echo/say", (value,))
    request = Request(1, "Echo/say", payload, DEADLINE if row.hasDeadline else None)
    codec = wire.codec()
    # The first frame of a session says what it understands; the others are as the second.
    codec.write(_SESSION, request)
    frame: bytes = codec.write(_SESSION, request)
    if row.isDubbo:
        # The body: a caller with this protocol takes attachments.
        asked, _ = wire.codec().read(_SESSION, memoryview(frame))
        return frame + codec.write(_SESSION, Reply(asked.id, wire.payload.encodeResult("Echo/say", value)))[DUBBO_HEAD:]
    return frame + wire.payload.encodeResult("Echo/say", value)


def runAlone(server: ServerProcess, row: Row, seconds: float, warmup: float) -> LoadResult:
    """
    Load getty_rpc's server from C.

    :raise LoadError: an answer was wrong, or there is no C compiler.
    """
    program = compiledLoad(SOURCE)
    if program is None:
        raise LoadError("the C load needs a C compiler (cc or gcc)")
    numbers = [server.port, row.scenario.connections, row.scenario.depth, warmup, seconds]
    with tempfile.TemporaryFile() as given:
        given.write(frameOf(row))
        given.seek(0)
        return measured(startLoad([program, *map(str, numbers)], given), server, seconds)


def serverOf(name: str, row: Row, python: str) -> ServerProcess:
    """A server of a peer, to be used in a ``with`` statement."""
    return ServerProcess(shlex.join([*commandOf(name, python), "serve", "{port}", *row.words]))


def commandOf(name: str, python: str) -> list[str]:
    """How a peer is run, without the words that say as what."""
    known = "getty_rpc" if name == ALONE else name
    return [sys.executable if known in OURS else python, str(FOLDER / PEERS[known][1])]


def runOn(server: ServerProcess, name: str, row: Row, python: str, seconds: float, warmup: float) -> LoadResult:
    """
    Run the client of a peer once.

    :raise LoadError: a call failed, or an answer was wrong.
    """
    if name == ALONE:
        return runAlone(server, row, seconds, warmup)
    client = [*commandOf(name, python), "call", str(server.port), *row.words, *row.load(warmup, seconds)]
    return measured(startLoad(client), server, seconds)


def runOnce(name: str, row: Row, python: str, seconds: float, warmup: float) -> LoadResult:
    """
    Run a peer once, its server in a new process.

    :raise LoadError: a call failed, or an answer was wrong.
    :raise ServerError: the server does not start.
    """
    with serverOf(name, row, python) as server:
        return runOn(server, name, row, python, seconds, warmup)


def wellness(name: str, row: Row, python: str, seconds: float) -> str:
    """A line about a peer that was called for a long time."""
    try:
        with serverOf(name, row, python) as server:
            runOn(server, name, row, python, 0.5, 0.5)
            before = server.memory()
            result = runOn(server, name, row, python, seconds, 0.5)
            grown, said = (server.memory() - before) / 1e6, f"{server.outputTail()}\n{result.said}".split("\n")
    except (LoadError, ServerError) as error:
        return line(name, Found(problem=str(error)), None)
    return f"  {name:<16}{result.messages:>10}{result.slowing:>9.2f}{grown:>10.1f}  {' / '.join(filter(None, said))}"


def compare(
    names: Iterable[str], row: Row, python: str, repetitions: int, seconds: float, warmup: float = 0.5
) -> dict[str, Found]:
    """Run the peers in turn."""
    found = {name: Found() for name in names}
    for _ in range(repetitions):
        for name, each in found.items():
            if not each.problem:
                try:
                    each.results.append(runOnce(name, row, python, seconds, warmup))
                except (LoadError, ServerError) as error:
                    each.problem = str(error)
    return found


def line(name: str, each: Found, first: Found | None) -> str:
    """A line of the table; ``first`` is what it is compared with."""
    if each.problem:
        return f"  {name:<16}FAILED: {each.figures['problem']}"
    client = each.clientPerCall
    text = f"  {name:<16}{each.best:>10.0f}{each.cpuPerMessage:>11.2f}"
    text += f"{client:>11.2f}" if client else f"{'-':>11}"
    text += f"{each.p50:>10.0f}{each.p99:>10.0f}"
    if first is None or first.problem or not first.cpuPerMessage:
        return text
    return f"{text}{each.cpuPerMessage / first.cpuPerMessage:>10.2f}{each.best / first.best:>8.2f}"


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rpc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--row", action="append", type=checked(Row.parse), help=f"repeatable (default: {' '.join(ROWS)})"
    )
    parser.add_argument("--peer", action="append", choices=[ALONE, *PEERS], help="repeatable (default: all)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter that has the others")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of one run (default: %(default)s)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--well", type=float, metavar="S", help="have each peer called for S seconds instead")
    instead.add_argument("--plot", type=Path, metavar="FILE.svg", help="measure rows for a plot, and draw it")
    parser.add_argument(
        "--figures", type=Path, metavar="FILE.json", help="where figures are written (default: beside the plot)"
    )
    given = parser.parse_args()
    if given.repetitions < 1 or given.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    if given.plot and given.figures is None:
        given.figures = given.plot.with_suffix(".json")
    return given


def measureRows(rows: Iterable[str], names: list[str], given: argparse.Namespace) -> None:
    """Measure, print each row, and write what was found so far where figures are asked for."""
    figures = Figures(given.repetitions, given.seconds)
    if given.figures:
        figures.versions = versions([name for name in names if name != ALONE], given.python)
    for text in rows:
        print(text, flush=True)
        row = Row.parse(text)
        some = [name for name in names if name in (ALONE, "getty_rpc")] if row.isDubbo else names
        found = compare(some, row, given.python, given.repetitions, given.seconds)
        for name, each in found.items():
            print(line(name, each, found.get("getty_rpc")), flush=True)
        figures.rows[text] = {name: each.figures for name, each in found.items()}
        figures.loadAfter = os.getloadavg()[0]
        if given.figures:
            figures.write(given.figures)
    if given.plot:
        given.plot.write_text(drawing(figures))


def main() -> int:
    given = options()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    names = given.peer or ([*PEERS] if given.plot else [ALONE, *PEERS])
    absent = missing([name for name in names if name in PEERS], given.python)
    for why in absent.values():
        print(why)
    names = [name for name in names if name not in absent]
    print(f"servers on core {min(cores()[0])}, clients on core {min(cores()[1])}, best of {given.repetitions}")
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    try:
        if given.well:
            print(WELL_HEADING, flush=True)
            for name in names:
                print(wellness(name, Row.parse(LONG), given.python, given.well), flush=True)
        else:
            print(HEADING, flush=True)
            pinLoad()
            measureRows(given.row or (ARTICLE if given.plot else ROWS), names, given)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        # Of the files that are written.
        print(error, file=sys.stderr)
        return 1
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
