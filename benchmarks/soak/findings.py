"""What a process notes of itself while it runs: what went wrong, what was counted, what was logged, what it holds."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from getty_tx.errors import GettyError
from getty_tx.session.session import Session

if TYPE_CHECKING:
    from twisted.logger import LogEvent

__all__ = [
    "Findings",
    "LogWatch",
    "PlannedError",
    "Tally",
    "aliveSessions",
    "descriptors",
    "isExpected",
    "reportOf",
    "residentMemory",
]

#: Findings whose text is kept; of the others only their number is.
MOST_TEXTS = 20

PAGE = os.sysconf("SC_PAGE_SIZE")


class PlannedError(Exception):
    """Raised because the plan wants a callback to fail."""


class Findings:
    """
    What went wrong, from any thread: the run has failed if there is anything.

    :ivar counts: how many of each kind.
    :ivar texts: the first ones, in words.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self._lock = threading.Lock()

    def add(self, kind: str, text: str) -> None:
        """Note one, such as ``add("lost", "...")``."""
        with self._lock:
            self.counts[kind] += 1
            if len(self.texts) < MOST_TEXTS:
                self.texts.append(f"{kind}: {text}")

    def take(self, report: dict[str, Any]) -> None:
        """Add those of another process, as reportOf() has them."""
        with self._lock:
            self.counts.update(report["findings"])
            self.texts += report["texts"]


class Tally:
    """Numbers by name, added to from any thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Count ``count`` more of them."""
        with self._lock:
            self.counts[name] += count


@implementer(ILogObserver)
class LogWatch:
    """
    Takes all that is logged: what nobody planned is a finding, warnings are counted, the rest is dropped.

    :ivar planned: failures that the plan has caused.
    :ivar warnings: by their format.
    """

    def __init__(self, findings: Findings) -> None:
        self.planned = 0
        self.warnings: Counter[str] = Counter()
        self._findings = findings

    def begin(self) -> None:
        """Take what this process logs from now on, and the exceptions that would end on standard error."""
        globalLogBeginner.beginLoggingTo([self], redirectStandardIO=False)
        add = self._findings.add
        sys.unraisablehook = lambda args: add("log", f"unraisable: {args.exc_value!r} in {args.object!r}")
        threading.excepthook = lambda args: add("log", f"in a thread: {args.exc_value!r}")

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        level = event.get("log_level", LogLevel.info)
        if failure is not None:
            if _isPlanned(failure.value):
                self.planned += 1
            else:
                self._findings.add("log", f"{formatEvent(event)}\n{failure.getTraceback()}")
        elif level >= LogLevel.error:
            self._findings.add("log", formatEvent(event))
        elif level >= LogLevel.warn:
            self.warnings[str(event.get("log_format"))] += 1


def _isPlanned(error: BaseException) -> bool:
    return isinstance(error, PlannedError) or isinstance(error.__cause__, PlannedError)


def isExpected(error: BaseException) -> bool:
    """
    True for what a session whose peer misbehaves may fail with: errors of getty_tx, Twisted's of the network, the
    plan's. Any other is a mistake in the program, which a listener heard of before anybody else.
    """
    return isinstance(error, GettyError | PlannedError) or type(error).__module__ == "twisted.internet.error"


def residentMemory(pid: int) -> int:
    """
    A process's resident memory, in bytes.

    :raise OSError: there is no such process.
    """
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def descriptors() -> list[str]:
    """What the descriptors of this process lead to, those of sockets and pipes without their numbers."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").partition(":[")[0])
        except OSError:
            # The one that listed them.
            continue
    return sorted(found)


def aliveSessions() -> int:
    """How many session objects exist, whoever holds them, after a collection."""
    gc.collect()
    # One whose class is a weak reference's proxy may raise here.
    return sum(issubclass(type(each), Session) for each in gc.get_objects())


def reportOf(findings: Findings, watch: LogWatch) -> dict[str, Any]:
    """The notes of a process as JSON takes them."""
    return {
        "findings": dict(findings.counts),
        "texts": list(findings.texts),
        "planned": watch.planned,
        "warnings": dict(watch.warnings),
    }
