"""The load programs: ``load.c`` where there is a C compiler, ``load.py`` otherwise, and how they are run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.servers import ROOT, ServerProcess, cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE = Path(__file__).with_name("load.c")

#: Seconds that the connections of a load have to open and its output to come, beside its own time.
SLACK = 30.0


class LoadError(Exception):
    """A load could not be run, or an echo was not what was sent."""


@dataclass(frozen=True)
class Scenario:
    """
    What a load does: ``connections`` keep ``depth`` frames of ``size`` payload bytes in flight each.

    :ivar isWebSocket: they are WebSocket messages, not frames with a length.
    """

    connections: int
    depth: int
    size: int
    isWebSocket: bool = False

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Read ``CONNECTIONSxDEPTHxBYTES``.

        :raise ValueError: for any other text.
        """
        numbers = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
        if numbers is None:
            raise ValueError(f"a scenario is CONNECTIONSxDEPTHxBYTES, such as 50x16x915, not {text!r}")
        return cls(*map(int, numbers.groups()))

    def __str__(self) -> str:
        return f"{self.connections}x{self.depth}x{self.size}"


@dataclass(frozen=True)
class LoadResult:
    """
    What came back in ``seconds``: ``messages``, with round trips in microseconds, and the server's CPU seconds.

    :ivar clientSeconds: the load's own CPU seconds, where it is a client that is measured, too.
    :ivar slowing: how long its last round trips took, as a multiple of the first; 1 where it does not tell.
    :ivar said: what else it has printed, such as errors that a library logs.
    """

    messages: int
    seconds: float
    p50: float
    p99: float
    max: float
    cpuSeconds: float
    clientSeconds: float = 0.0
    slowing: float = 1.0
    said: str = ""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpuPerMessage(self) -> float:
        """The server's microseconds of user and system time for one message."""
        return self.cpuSeconds / max(self.messages, 1) * 1e6


@cache
def compiledLoad(source: Path = SOURCE) -> str | None:
    """The path of a compiled load, or None without a C compiler. It is kept in the user's cache folder."""
    command = compiler()
    if command is None:
        return None
    return built([command, "-O2"], source, SOURCE.with_name("roundtrips.h"))


def compiler() -> str | None:
    """The path of a C compiler, or None without one."""
    return shutil.which("cc") or shutil.which("gcc")


def built(command: list[str], source: Path, *included: Path, others: Sequence[Path] = ()) -> str:
    """The path of what a compiler makes of a source. It is kept in the user's cache folder until a source changes.

    :param command: the compiler's, without the source.
    :param others: sources that are compiled with it.
    :raise subprocess.CalledProcessError: the compiler fails.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "getty_tx-benchmarks"
    texts = b"".join(path.read_bytes() for path in (source, *included, *others))
    program = folder / f"{source.stem}-{hashlib.sha256(texts).hexdigest()[:16]}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Compiled aside and moved, because two runs may do so at the same time.
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            fresh = Path(aside) / source.stem
            subprocess.run([*command, "-o", str(fresh), *map(str, (source, *others))], check=True)
            fresh.rename(program)
    return str(program)


def loadProgram(kind: str = "auto") -> list[str]:
    """The command of the load of a kind: ``c``, ``python``, or ``auto`` for the best there is.

    :raise LoadError: if ``c`` is asked for and there is no compiler.
    """
    program = None if kind == "python" else compiledLoad()
    if program is not None:
        return [program]
    if kind == "c":
        raise LoadError("the C load needs a C compiler (cc or gcc)")
    return [sys.executable, "-m", "benchmarks.load"]


def startLoad(command: list[str], given: Any = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start a load on its core; ``given`` is a file that it reads."""
    process = subprocess.Popen(
        command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.sched_setaffinity(process.pid, cores()[1])
    return process


def _start(kind: str, port: int, scenario: Scenario, warmup: float, seconds: float) -> subprocess.Popen[str]:
    numbers = [port, scenario.connections, scenario.depth, scenario.size, warmup, seconds]
    program = loadProgram("c" if scenario.isWebSocket else kind)
    return startLoad([*program, *map(str, numbers), *(["ws"] if scenario.isWebSocket else [])])


def awaitMeasuring(process: subprocess.Popen[str]) -> None:
    """Wait until the warm-up of a load is over."""
    assert process.stdout is not None and process.stderr is not None
    if process.stdout.readline().strip() != "measuring":
        raise LoadError(process.stderr.read().strip() or "the load ended during its warm-up")


def runLoad(
    server: ServerProcess, scenario: Scenario, seconds: float = 1.0, warmup: float = 0.5, kind: str = "auto"
) -> LoadResult:
    """Load ``server`` and return what was measured in the ``seconds`` after the ``warmup``.

    :raise LoadError: if an echo was wrong, or the server closed a connection.
    """
    return measured(_start(kind, server.port, scenario, warmup, seconds), server, seconds)


def measured(process: subprocess.Popen[str], server: ServerProcess, seconds: float) -> LoadResult:
    """
    What a load that was started prints in the end, with the CPU time that the server has used meanwhile.

    :raise LoadError: the load failed; the text is what it has said.
    """
    try:
        awaitMeasuring(process)
    except LoadError:
        process.kill()
        process.communicate()
        raise
    output, errors, used = finished(process, server, seconds)
    return LoadResult(**json.loads(output), cpuSeconds=used, said=errors)


def finished(process: subprocess.Popen[str], server: ServerProcess, seconds: float) -> tuple[str, str, float]:
    """
    What a load prints until it ends, its errors, and the CPU seconds that the server has used since this was called.

    :raise LoadError: the load failed; the text is what it has said.
    """
    try:
        before = server.cpuSeconds()
        output, errors = process.communicate(timeout=seconds + SLACK)
        used = server.cpuSeconds() - before
    except subprocess.TimeoutExpired:
        raise LoadError(f"the load has not ended {SLACK:.0f} s after its time") from None
    finally:
        process.kill()
        process.communicate()
    if process.returncode:
        raise LoadError(errors.strip() or f"the load ended with status {process.returncode}")
    return output, errors.strip(), used


@contextmanager
def backgroundLoad(server: ServerProcess, scenario: Scenario, seconds: float) -> Iterator[None]:
    """Keep ``server`` under load while the ``with`` block runs, ``seconds`` at the most.

    It gives way to any other load on its core, so that a load that is measured meanwhile waits for the server only and
    not for its turn on the core.

    :raise LoadError: if an echo was wrong, or the load ended before the block did.
    """
    process = _start("auto", server.port, scenario, 0.3, seconds)
    os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        awaitMeasuring(process)
        yield
        status = process.poll()
        if status is not None:
            _, errors = process.communicate()
            raise LoadError(errors.strip() or "the load in the background ended too early")
    finally:
        process.kill()
        process.communicate()
