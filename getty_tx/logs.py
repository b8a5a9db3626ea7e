"""
Log observers for ``twistd --logger``.

``getty_tx.logs.json`` writes each event as a line of JSON to standard output, for programs that read logs.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from json import dumps
from math import isfinite
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver, formatEvent
from zope.interface import implementer

from getty_tx.session.addresses import formatAddress
from getty_tx.session.session import Session

if TYPE_CHECKING:
    from typing import TextIO

    from twisted.logger import LogEvent
    from twisted.python.failure import Failure

__all__ = ["JSONObserver", "json"]

#: Fields of an event that are Twisted's, or have another name in the record.
_OWN = frozenset({"format", "isError", "message", "printed", "system", "time", "why"})


@implementer(ILogObserver)
class JSONObserver:
    """
    Writes events as lines of JSON.

    A line has ``time`` (ISO 8601, UTC), ``level``, ``namespace`` and ``message``. If the event is about a session, it
    has ``session`` (its id), ``service``, ``endpoint`` and ``peer``; if it has a failure, ``error`` and ``traceback``.
    All other texts and numbers of the event follow: ``reason``, ``endpoint``, ``address`` and so on.

    :param stream: a text file to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        """Write a line. It never raises, so that logging cannot break the caller."""
        try:
            line = dumps(_record(event), default=_describe)
        except Exception as error:
            line = dumps({"level": "error", "message": f"an event could not be written: {error!r}"})
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader of the pipe has ended, or the file is closed.
            pass


def json() -> JSONObserver:
    """The observer of ``twistd --logger getty_tx.logs.json``. It writes to standard output: use ``twistd -n``."""
    return JSONObserver(sys.stdout)


def _record(event: LogEvent) -> dict[str, Any]:
    level = event.get("log_level")
    record: dict[str, Any] = {
        "time": datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(timespec="milliseconds"),
        "level": "info" if level is None else level.name,
        "namespace": event.get("log_namespace", ""),
        "message": formatEvent(event),
    }
    for name, value in event.items():
        if not name.startswith("log_") and name not in _OWN and isinstance(value, str | int | float):
            # JSON has no infinity.
            record[name] = str(value) if isinstance(value, float) and not isfinite(value) else value
    error = event.get("error")
    if isinstance(error, BaseException):
        record["error"] = f"{type(error).__name__}: {error}"
    session = event.get("session")
    if isinstance(session, Session):
        record["session"] = session.id
        record["service"] = getattr(session.service, "name", None)
        record["endpoint"] = session.context.endpoints.of(session)
        record["peer"] = formatAddress(session.remoteAddr)
    failure: Failure | None = event.get("log_failure")
    if failure is not None:
        record["error"] = f"{type(failure.value).__name__}: {failure.value}"
        record["traceback"] = failure.getTraceback()
    return record


def _describe(value: object) -> str:
    return str(value)
