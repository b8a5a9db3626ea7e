"""The server processes as whoever starts them sees them: their ports, what they report, how they are ended."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from benchmarks.soak.findings import Findings

__all__ = ["Places", "ServerProcess"]

#: Not resolved: what is linked to from a folder is run in that folder.
ROOT = Path(__file__).absolute().parents[2]

#: Seconds that a process may take to listen, to answer and to end; only a machine that is very busy comes near.
PATIENCE = 60.0

#: Characters of what a process prints on standard error that are kept.
MOST_OUTPUT = 4000


class Places:
    """
    Where a server listens, process after process.

    The port that is dialed again after the server was killed is reserved: a socket that is bound to it and does not
    listen refuses connections as long as no server does, and keeps the system from giving the port to anybody else.

    :ivar path: of the unix socket.
    :ivar ports: by the name of the endpoint; those but ``tcp`` change when the server is started again.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = str(folder / f"{name}.sock")
        self._reserved = socket.socket()
        # As the server's own socket has it, both can be bound.
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.ports: dict[str, int] = {"tcp": self._reserved.getsockname()[1]}

    def close(self) -> None:
        """Give the port back."""
        self._reserved.close()


class ServerProcess(ProcessProtocol):
    """
    One server process.

    :param options: what ``server.main`` takes, but for what the places tell.
    :param findings: where it is noted that the process ended though nobody had told it to.

    :ivar ended: fires with the exit status, or with minus the number of the signal that ended it.
    :ivar last: its last report.
    """

    def __init__(self, reactor: Any, options: dict[str, Any], places: Places, findings: Findings) -> None:
        self._reactor = reactor
        self._options = {**options, "port": places.ports["tcp"], "path": places.path}
        self._places = places
        self._findings = findings
        self._answers: list[Deferred[dict[str, Any]]] = []
        self._unread = b""
        self._isEnding = False
        self.errors = b""
        self.pid = 0
        self.status: int | None = None
        self.last: dict[str, Any] = {}
        self.ended: Deferred[int] = Deferred()

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "benchmarks.soak.server", json.dumps(self._options)]
        searched = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": searched, "PYTHONUNBUFFERED": "1"}
        listening = self._answer()
        process = self._reactor.spawnProcess(
            self, sys.executable, command, environment, str(ROOT), childFDs={0: "w", 1: "r", 2: "r"}
        )
        self.pid = process.pid
        self._places.ports.update({name: port for name, port in (await listening)["places"].items() if port})

    def _answer(self) -> Deferred[dict[str, Any]]:
        waiting: Deferred[dict[str, Any]] = Deferred()
        self._answers.append(waiting)
        return waiting.addTimeout(PATIENCE, self._reactor)

    async def report(self) -> dict[str, Any]:
        """
        What it says of itself.

        :raise RuntimeError: it has ended.
        """
        return await self._ask("report")

    async def _ask(self, word: str) -> dict[str, Any]:
        if self.status is not None:
            raise RuntimeError(f"the server has ended with status {self.status}")
        answer = self._answer()
        self._tell(word)
        self.last = await answer
        return self.last

    def _tell(self, word: str) -> None:
        if self.transport is not None and self.status is None:
            self.transport.writeToChild(0, word.encode() + b"\n")

    async def stop(self) -> int:
        """Tell it to end in order; :return: its exit status. The last report is that of its end."""
        self._isEnding = True
        await self._ask("stop")
        return await self._end()

    async def kill(self) -> int:
        """End it at once, with SIGKILL."""
        self._isEnding = True
        self.killNow()
        return await self._end()

    def killNow(self) -> None:
        """As kill(), without waiting."""
        self._isEnding = True
        if self.transport is not None and self.status is None:
            self.transport.signalProcess("KILL")

    def _end(self) -> Deferred[int]:
        waiting: Deferred[int] = Deferred()
        if self.status is not None:
            waiting.callback(self.status)
        else:
            self.ended.chainDeferred(waiting)
        return waiting.addTimeout(PATIENCE, self._reactor)

    # ProcessProtocol

    def outReceived(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            waiting = self._answers.pop(0)
            if not waiting.called:
                waiting.callback(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        self.errors = (self.errors + data)[-MOST_OUTPUT:]

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and so are its pipes."""
        value: Any = reason.value
        self.status = -value.signal if getattr(value, "signal", None) else value.exitCode
        if not self._isEnding:
            self._findings.add("died", f"the server ended with status {self.status}")
        if self.errors:
            self._findings.add("output", f"the server printed: {self.errors.decode(errors='replace')}")
        waiting, self._answers = self._answers, []
        for each in waiting:
            if not each.called:
                each.errback(RuntimeError(f"the server ended with status {self.status}"))
        if not self.ended.called:
            self.ended.callback(self.status)
