"""The access log: a line for each answer, those of a turn of the reactor in one write."""

from __future__ import annotations

import os
import time
from json.encoder import encode_basestring_ascii
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

#: A text as JSON has it, in ASCII: what ``json.dumps`` calls for each.
_quote = encode_basestring_ascii

#: Ends of lines that are kept, and bytes of what a client has sent in one of them, at most.
MAX_ENDS = 512
MAX_END = 1024

#: Versions that other servers write in another way than applications are told.
_VERSIONS = {"2": "2.0"}

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

    __slots__ = (
        "_began",
        "_checked",
        "_descriptor",
        "_ends",
        "_isJson",
        "_lines",
        "_path",
        "_reactor",
        "_stamp",
        "_until",
        "dropped",
    )

    def __init__(self, path: str, format: str = FORMATS[0], reactor: Any = None) -> None:
        if format not in FORMATS:
            raise SettingError(f"access log: {format!r} is no format; take one of {', '.join(FORMATS)}")
        self._isJson = format != FORMATS[0]
        self._path = None if path == "-" else os.path.abspath(path)
        self._reactor = reactor
        self._lines: list[str] = []
        self._checked = 0
        # What stands between the client and the method in a second, and when that begins and ends.
        self._stamp = ""
        self._began = self._until = 0.0
        # What clients send with each of their requests, as it stands at the end of a line.
        self._ends: dict[tuple[bytes | None, ...], str] = {}
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
        lines = self._lines
        if not lines:
            self._begin()
        if self._isJson:
            lines.append(self._json(request, status, sent, seconds))
            return
        now = time.time()
        if not self._began <= now < self._until:
            self._renew(now)
        client = request.exchange.clientOf(request)
        values = request.fields.values
        key = values.get(b"referer"), values.get(b"user-agent")
        end = self._ends.get(key) or self._combinedEnd(key)
        target = request.target.decode("latin-1")
        # Most targets need no more than this look.
        if not (target.isascii() and target.isprintable()) or '"' in target or "\\" in target:
            target = target.translate(_ESCAPED)
        lines.append(
            f"{client[0] if client else '-'}{self._stamp}{request.method} {target}"
            f' HTTP/{_VERSIONS.get(request.version, request.version)}" {status} {sent or "-"}{end}'
        )

    def _begin(self) -> None:
        """The first line of a turn: its end writes all of them."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        self._reactor.callLater(0, self.flush)

    def _renew(self, now: float) -> None:
        second = int(now)
        at = time.gmtime(second)
        self._began, self._until = float(second), second + 1.0
        self._stamp = time.strftime(f' - - [%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000] "', at)

    def _combinedEnd(self, key: tuple[bytes | None, ...]) -> str:
        referer, agent = ("-" if value is None else value.decode("latin-1").translate(_ESCAPED) for value in key)
        return self._keep(key, f' "{referer}" "{agent}"\n')

    def _json(self, request: Request, status: int, sent: int, seconds: float) -> str:
        client = request.exchange.clientOf(request)
        values = request.fields.values
        key = values.get(b"host"), values.get(b"referer"), values.get(b"user-agent")
        end = self._ends.get(key) or self._jsonEnd(key)
        return (
            f'{{"time": {round(time.time(), 3)!r}, "client": {_quote(client[0]) if client else "null"},'
            f' "method": "{request.method}", "target": {_quote(request.target.decode("latin-1"))},'
            f' "route": {_quote(request.route)}, "version": "{request.version}", "status": {status},'
            f' "bytes": {sent}, "seconds": {round(seconds, 6)!r}{end}'
        )

    def _jsonEnd(self, key: tuple[bytes | None, ...]) -> str:
        host, referer, agent = (_quote((value or b"").decode("latin-1")) for value in key)
        return self._keep(key, f', "host": {host}, "referer": {referer}, "agent": {agent}}}\n')

    def _keep(self, key: tuple[bytes | None, ...], end: str) -> str:
        """Keep the end of a line for the next one of the same client."""
        if len(end) <= MAX_END:
            if len(self._ends) >= MAX_ENDS:
                self._ends.clear()
            self._ends[key] = end
        return end

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
