"""Measure calls of getty_tx.rpc beside Twisted AMP and others: rates, and CPU time for a call at both ends.

    python -m benchmarks.rpc
    python -m benchmarks.rpc --row 1x100x100 --row 1x100x1024:text:deadline --python FOLDER/bin/python

A row is CONNECTIONSxCALLERSxBYTES: so many connections, with so many callers each that call in a loop, and are
answered with the bytes that they have sent. Behind it may stand ``:records`` or ``:text`` (an argument of about so many
bytes as JSON, a list of small objects or an object with a long text), ``:async`` (the method is an ``async def``) and
``:deadline`` (each call has one of 3 seconds).

Server and client are a process each, on a core each where there are two; all take turns. ``getty_rpc`` is a client and
a server of getty_tx, on its reactor; ``getty_rpc (C)`` is the same server with a load in C, which shows what the server
alone can do. Twisted AMP is on Twisted's default reactor. The others need packages that getty_tx does not: make a
virtual environment with ``pip install grpcio aiorpcX thriftpy2``, and name its interpreter with ``--python``. What is
missing there is left out.

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
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import end
from benchmarks.loads import LoadError, LoadResult, Scenario, compiledLoad, measured, startLoad
from benchmarks.measure import Summary
from benchmarks.peers.rpc_load import payloadOf
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
    "1x100x65535",
    "16x6x65535",
)

#: Seconds of a deadline.
DEADLINE = 3.0

#: The peers by name: the package that each needs, and its file in ``peers``.
PEERS = {
    "getty_rpc": ("getty_tx", "rpc_getty.py"),
    "amp": ("twisted", "rpc_amp.py"),
    "grpc.aio": ("grpc", "rpc_grpc.py"),
    "aiorpcX": ("aiorpcx", "rpc_aiorpcx.py"),
    "thriftpy2": ("thriftpy2", "rpc_thrift.py"),
}

#: Those that run with this interpreter, whatever ``--python`` says.
OURS = ("getty_rpc", "amp")

#: The server of getty_rpc with the load in C.
ALONE = "getty_rpc (C)"

_COLUMNS = {"calls/s": 10, "server us": 11, "client us": 11, "p50 us": 10, "p99 us": 10, "server x": 10, "rate x": 8}
HEADING = f"  {'':<16}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())


@dataclass(frozen=True)
class Row:
    """What is called.

    :ivar scenario: connections, callers of each, and bytes.
    :ivar content: ``bytes``, ``text`` or ``records``.
    """

    scenario: Scenario
    content: str = "bytes"
    isAsync: bool = False
    hasDeadline: bool = False

    @classmethod
    def parse(cls, text: str) -> Row:
        """
        Read ``CONNECTIONSxCALLERSxBYTES[:text|:records][:async][:deadline]``.

        :raise ValueError: for any other text.
        """
        numbers, *words = text.split(":")
        contents = [word for word in words if word in ("text", "records")]
        others = sorted(word for word in words if word not in contents)
        if len(contents) > 1 or others not in ([], ["async"], ["deadline"], ["async", "deadline"]):
            raise ValueError(f"{text!r} has more behind {numbers} than :text or :records, :async and :deadline")
        return cls(Scenario.parse(numbers), *contents or ["bytes"], "async" in others, "deadline" in others)

    @property
    def words(self) -> list[str]:
        """Content and handler, as the peers are told."""
        return [self.content, "async" if self.isAsync else "plain"]

    def load(self, warmup: float, seconds: float) -> list[str]:
        """What a peer's client is told behind them."""
        each, timeout = self.scenario, str(DEADLINE) if self.hasDeadline else "-"
        return [str(each.connections), str(each.depth), str(each.size), timeout, str(warmup), str(seconds)]


@dataclass
class Found(Summary):
    """The runs of one peer in one row."""

    results: list[LoadResult] = field(default_factory=list)

    @property
    def clientPerCall(self) -> float:
        """The lowest CPU time of the client for one call, in microseconds; 0 for a load in C."""
        return min(result.clientSeconds / max(result.messages, 1) * 1e6 for result in self.results)


def missing(names: Iterable[str], python: str) -> dict[str, str]:
    """Why peers cannot be measured, by name."""
    found = {}
    for name in names:
        package, _ = PEERS[name]
        interpreter = sys.executable if name in OURS else python
        done = subprocess.run([interpreter, "-c", f"import {package}"], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            found[name] = f"{name} is left out: {interpreter}: {last} (see --python)"
    return found


def frameOf(row: Row) -> bytes:
    """A request's frame for the load in C, and the payload that its reply must have."""
    # Peers must not need getty_tx, and the table has none without it.
    from getty_tx import rpc
    from getty_tx.rpc.messages import Request

    wire = rpc.TTHeader("bytes" if row.content == "bytes" else "json")
    value = payloadOf(row.content, row.scenario.size)
    payload = wire.payload.encodeArguments("Echo/say", (value,))
    request = Request(1, "Echo/say", payload, DEADLINE if row.hasDeadline else None)
    codec = wire.codec()
    # The first frame of a session says what it understands; the others are as the second.
    codec.write(None, request)
    return codec.write(None, request) + wire.payload.encodeResult("Echo/say", value)


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


def runOnce(name: str, row: Row, python: str, seconds: float, warmup: float) -> LoadResult:
    """
    Run a peer once, its server in a new process.

    :raise LoadError: a call failed, or an answer was wrong.
    :raise ServerError: the server does not start.
    """
    known = "getty_rpc" if name == ALONE else name
    peer = [sys.executable if known in OURS else python, str(FOLDER / PEERS[known][1])]
    with ServerProcess(shlex.join([*peer, "serve", "{port}", *row.words])) as server:
        if name == ALONE:
            return runAlone(server, row, seconds, warmup)
        client = [*peer, "call", str(server.port), *row.words, *row.load(warmup, seconds)]
        return measured(startLoad(client), server, seconds)


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
        return f"  {name:<16}FAILED: {each.problem.strip().splitlines()[-1]}"
    client = each.clientPerCall
    text = f"  {name:<16}{each.best:>10.0f}{each.cpuPerMessage:>11.2f}"
    text += f"{client:>11.2f}" if client else f"{'-':>11}"
    text += f"{each.p50:>10.0f}{each.p99:>10.0f}"
    if first is None or first.problem or not first.cpuPerMessage:
        return text
    return f"{text}{each.cpuPerMessage / first.cpuPerMessage:>10.2f}{each.best / first.best:>8.2f}"


def rowArgument(text: str) -> str:
    try:
        Row.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rpc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", type=rowArgument, help=f"repeatable (default: {' '.join(ROWS)})")
    parser.add_argument("--peer", action="append", choices=[ALONE, *PEERS], help="repeatable (default: all)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter that has the others")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of one run (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    options = _options()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    names = options.peer or [ALONE, *PEERS]
    absent = missing([name for name in names if name in PEERS], options.python)
    for why in absent.values():
        print(why)
    names = [name for name in names if name not in absent]
    print(f"servers on core {min(cores()[0])}, clients on core {min(cores()[1])}, best of {options.repetitions}")
    print(f"load average before: {os.getloadavg()[0]:.2f}\n{HEADING}", flush=True)
    pinLoad()
    try:
        for text in options.row or ROWS:
            print(text, flush=True)
            found = compare(names, Row.parse(text), options.python, options.repetitions, options.seconds)
            for name, each in found.items():
                print(line(name, each, found.get("getty_rpc")), flush=True)
    except KeyboardInterrupt:
        return 130
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
