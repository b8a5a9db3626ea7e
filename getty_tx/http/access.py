"""The access log: a line for each answer, those of a turn of the reactor in one write."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from getty_tx.http.request import Request

__all__ = ["FORMATS", "AccessLog"]

log = Logger()

#: ``combined`` is Apache's; ``json`` is an object a line, with the time that the request took.
FORMATS = ("combined", "json")

#: What would end a line or a quoted text, or is no printable ASCII: escaped as Apache does.
_ESCAPED = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256))},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    9: "\\t",
    10: "\\n",
    13: "\\r",
}

#: In English, whatever the locale is.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class AccessLog:
    """
    Writes a line for each answer.

    A file that was moved, as by logrotate, is opened anew within a second. Several processes may write to one file.

    :param path: of the file; ``-``: the standard output.
    :param format: ``combined`` or ``json``.
    :param reactor: by default the installed one.
    :raise SettingError: there is no such format, or the file cannot be opened.

    :ivar dropped: lines that could not be written.
    """

    __slots__ = ("_checked", "_descriptor", "_format", "_lines", "_path", "_reactor", "_second", "_stamp", "dropped")

    def __init__(self, path: str, format: str = FORMATS[0], reactor: Any = None) -> None:
        if format not in FORMATS:
            raise SettingError(f"access log: {format!r} is no format; take one of {', '.join(FORMATS)}")
        self._format = self._combined if format == FORMATS[0] else self._json
        self._path = None if path == "-" else os.path.abspath(path)
        self._reactor = reactor
        self._lines: list[str] = []
        self._second = self._checked = 0
        self._stamp = ""
        self.dropped = 0
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise SettingError(f"access log {path}: {error.strerror}; choose another file") from error

    def _open(self) -> int:
        if self._path is None:
            return 1
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __call__(self, request: Request, status: int, sent: int, seconds: float) -> None:
        """
        One answer.

        :param sent: bytes of its body.
        :param seconds: that it took.
        """
        if not self._lines:
            if self._reactor is None:
                from twisted.internet import reactor

                self._reactor = reactor
            self._reactor.callLater(0, self.flush)
        self._lines.append(self._format(request, status, sent, seconds))

    def _combined(self, request: Request, status: int, sent: int, seconds: float) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            at = time.gmtime(now)
            self._stamp = time.strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)
        client = request.client
        values = request.fields.values
        target = request.target.decode("latin-1").translate(_ESCAPED)
        referer = values.get(b"referer", b"-").decode("latin-1").translate(_ESCAPED)
        agent = values.get(b"user-agent", b"-").decode("latin-1").translate(_ESCAPED)
        return (
            f"{client[0] if client else '-'} - - [{self._stamp}]"
            f' "{request.method} {target} HTTP/{request.version}" {status} {sent or "-"} "{referer}" "{agent}"\n'
        )

    def _json(self, request: Request, status: int, sent: int, seconds: float) -> str:
        client = request.client
        fields = {
            "time": round(time.time(), 3),
            "client": client[0] if client else None,
            "method": request.method,
            "target": request.target.decode("latin-1"),
            "route": request.route,
            "version": request.version,
            "status": status,
            "bytes": sent,
            "seconds": round(seconds, 6),
            "host": request.header("Host"),
            "referer": request.header("Referer"),
            "agent": request.header("User-Agent"),
        }
        return json.dumps(fields) + "\n"

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._reopenIfMoved()
            data = "".join(lines).encode("ascii")
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            if not self.dropped:
                path = self._path or "the standard output"
                log.error("access log {path}: {error}; lines are dropped", path=path, error=error.strerror)
            self.dropped += len(lines)

    def _reopenIfMoved(self) -> None:
        now = int(time.monotonic())
        if self._path is None or now == self._checked:
            return
        self._checked = now
        mine = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            old, self._descriptor = self._descriptor, self._open()
            os.close(old)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.flush()
        if self._path is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
