"""The server processes that are measured: started on a free port, pinned to a core, watched in ``/proc``, ended.

A command is a template: ``{port}`` is a free port of 127.0.0.1, and further names in braces are given by the caller.
It is found as a shell beside the running interpreter would find it, so that ``twistd`` and ``python`` mean the ones
that getty_tx is installed with.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a server may take until it accepts connections.
START_LIMIT = 20.0

#: What is measured as getty_tx; :func:`onReactor` has it run on another reactor than Twisted's default.
GETTY_ECHO = "twistd -n --pidfile= getty-echo --codec length:order=little --listen {listen} --max-msg-len 200000000"


def onReactor(command: str, name: str) -> str:
    """The ``twistd`` command with ``--reactor NAME``."""
    return command.replace("twistd ", f"twistd --reactor {shlex.quote(name)} ", 1)


@cache
def cores() -> tuple[set[int], set[int]]:
    """The cores for the server and for the load: two different ones where the process may use two.

    Asked once, because :func:`pinLoad` leaves this process only one of them.
    """
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def pinLoad() -> None:
    """Move this process to the load's core; programs that it starts stay there as well."""
    os.sched_setaffinity(0, cores()[1])


def freePort() -> int:
    """A TCP port of 127.0.0.1 that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    """This process's environment, with the interpreter's own commands and the checkout first in the search paths."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    searched = [str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, searched))
    return environment


class ServerError(Exception):
    """A server did not start or ended on its own; the text holds the end of its output."""


class ServerProcess:
    """One server process (with its children), to be used in a ``with`` statement.

    :param everywhere: let it use the load's core as well.
    :ivar port: the port of 127.0.0.1 it serves on.
    :ivar pid: the process id of the command.
    """

    def __init__(self, command: str, *, everywhere: bool = False, **fields: str) -> None:
        self.port = freePort()
        # Descriptions such as tcp:{port} come in as a field and hold a name themselves.
        words = shlex.split(command)
        for name, value in [*fields.items(), ("port", str(self.port))]:
            words = [word.replace("{" + name + "}", value) for word in words]
        self.command = shlex.join(words)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        serverCores, allowed = cores()[0], os.sched_getaffinity(0)
        if everywhere:
            serverCores = serverCores | cores()[1]
        try:
            # The child inherits the affinity, so that no work of its start runs on the load's core.
            os.sched_setaffinity(0, serverCores)
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                cwd=ROOT,
                start_new_session=True,
            )
        except OSError as error:
            self._output.close()
            raise ServerError(f"{self.command}: {error}") from error
        finally:
            os.sched_setaffinity(0, allowed)
        self.pid = self._process.pid

    def __enter__(self) -> ServerProcess:
        try:
            self._waitListening()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill the process and wait for its end: what it would do on a shutdown is not measured here."""
        if self._process.poll() is None:
            self.kill()
            self._process.wait()
        self._output.close()

    def kill(self) -> None:
        """Kill the process with its children, from any thread; its figures cannot be read any more then."""
        os.killpg(self.pid, signal.SIGKILL)

    def checkAlive(self) -> None:
        """Raise :class:`ServerError` if the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise ServerError(f"{self.command} ended with status {status}\n{self.outputTail()}")

    def outputTail(self, size: int = 2000) -> str:
        """The last characters of what the process has printed."""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - size))
        return self._output.read().decode(errors="replace")

    def _waitListening(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            self.checkAlive()
            try:
                # Being closed again, it also brings the server over what only a first connection costs it. With
                # asyncio that is much: malloc maps and unmaps every 256 KiB receive buffer until one was freed whole.
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise ServerError(f"{self.command} does not listen after {START_LIMIT:.0f} s\n{self.outputTail()}")

    def _family(self) -> Iterator[int]:
        """The process and all its descendants."""
        queue = [self.pid]
        while queue:
            pid = queue.pop()
            yield pid
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    queue += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
            except OSError:
                continue

    def cpuSeconds(self) -> float:
        """User and system time used so far, in seconds; the kernel counts it in steps of 10 ms."""
        ticks = 0
        for pid in self._family():
            # The command's name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _status(self, field: str) -> int:
        total = 0
        for pid in self._family():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) * 1024
        return total

    def memory(self) -> int:
        """Resident memory now, in bytes."""
        return self._status("VmRSS")

    def peakMemory(self) -> int:
        """The largest resident memory since the start or :meth:`resetPeak`, in bytes."""
        return self._status("VmHWM")

    def resetPeak(self) -> None:
        """Let :meth:`peakMemory` begin anew."""
        for pid in self._family():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
