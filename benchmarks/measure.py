"""Comparing servers turn by turn: every repetition runs each of them once, so that a drift touches all alike."""

from __future__ import annotations

import importlib.util
import shlex
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.loads import LoadError, LoadResult, Scenario, runLoad
from benchmarks.servers import GETTY_ECHO, ROOT, ServerProcess, onReactor

if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN = "tcp:{port}:interface=127.0.0.1"
LISTEN_WEBSOCKET = "ws:{port}:interface=127.0.0.1"


def _peer(name: str, arguments: str = "") -> str:
    return f"python {shlex.quote(str(ROOT / 'benchmarks' / 'peers' / name))} {{port}}{arguments}"


#: The servers beside getty_tx, by name.
PEERS = {"twisted": _peer("twisted_echo.py"), "asyncio": _peer("asyncio_echo.py")}
if importlib.util.find_spec("uvloop") is not None:
    PEERS["uvloop"] = _peer("asyncio_echo.py", " uvloop")

#: On Twisted's default reactor, and on the fast one.
SERVERS = {"getty_tx": GETTY_ECHO, "getty_fast": onReactor(GETTY_ECHO, "getty"), **PEERS}

#: The same that echo WebSocket messages.
WEBSOCKET_SERVERS = {name: SERVERS[name].replace("length:order=little", "raw") for name in ("getty_tx", "getty_fast")}


@dataclass
class Summary:
    """The runs of one server in one scenario.

    :ivar results: one for each repetition.
    :ivar memory: the server's resident bytes at the end of each, its connections still open or just closed.
    :ivar problem: why there are no more, if a run went wrong.
    """

    results: list[LoadResult] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    problem: str = ""

    @property
    def best(self) -> float:
        """The highest rate in messages per second: noise only slows, so the bests compare best."""
        return max(result.rate for result in self.results)

    @property
    def rate(self) -> float:
        """The median rate in messages per second."""
        return statistics.median(result.rate for result in self.results)

    @property
    def p50(self) -> float:
        """The median of the runs' p50 in microseconds."""
        return statistics.median(result.p50 for result in self.results)

    @property
    def p99(self) -> float:
        """The median of the runs' p99 in microseconds."""
        return statistics.median(result.p99 for result in self.results)

    @property
    def cpuPerMessage(self) -> float:
        """The lowest CPU time of the server for one message, in microseconds."""
        return min(result.cpuPerMessage for result in self.results)

    @property
    def rss(self) -> float:
        """The median resident memory in MB."""
        return statistics.median(self.memory) / 1e6


def compare(
    servers: Mapping[str, str],
    scenario: Scenario,
    repetitions: int,
    seconds: float,
    warmup: float = 0.5,
    kind: str = "auto",
) -> dict[str, Summary]:
    """Run every server ``repetitions`` times in one scenario, in turn, each time in a new process.

    A wrong echo or a lost connection ends the runs of that server only.

    :raise ServerError: if a server does not start.
    """
    summaries = {name: Summary() for name in servers}
    for _ in range(repetitions):
        for name, command in servers.items():
            summary = summaries[name]
            if summary.problem:
                continue
            with ServerProcess(command, listen=LISTEN_WEBSOCKET if scenario.isWebSocket else LISTEN) as server:
                try:
                    summary.results.append(runLoad(server, scenario, seconds, warmup, kind))
                except LoadError as error:
                    summary.problem = str(error)
                else:
                    summary.memory.append(server.memory())
    return summaries
