"""Limits log lines about repeated faults: one line in an interval, with the number of faults it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["INTERVAL", "Faults", "callAll"]

log = Logger()

#: Seconds between two log lines about the same fault.
INTERVAL = 10.0

#: Different faults that are remembered; above that number the oldest is forgotten, and logged anew.
MOST = 256


def callAll(session: Any, callbacks: Mapping[Any, Callable[[], object]] | None) -> None:
    """Call the close callbacks of a session. What one raises is logged, and the others are called."""
    for call in (callbacks or {}).values():
        try:
            call()
        except BaseException:
            log.failure("{session}: a close callback failed", session=session)


class Faults:
    """
    Decides which faults are logged. Two faults are the same if type and place in the code are.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # (time of the last line, faults without a line since).
        self._known: dict[object, tuple[float, int]] = {}

    def line(self, what: str, error: BaseException) -> str | None:
        """
        A fault has come.

        :param what: what the line says.
        :return: what is to stand at the line's end, about those that had none; None where this is to have none, too.
        """
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        place = None if traceback is None else (traceback.tb_frame.f_code, traceback.tb_lineno)
        return self.lineAbout((what, type(error), place))

    def lineAbout(self, key: object) -> str | None:
        """
        As :py:meth:`line`, for what is no exception.

        :param key: the same for all that share a line.
        """
        now = self._seconds()
        at, silent = self._known.pop(key, (None, 0))
        if at is not None and at <= now < at + INTERVAL:
            self._known[key] = at, silent + 1
            return None
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = now, 0
        return f" ({silent} more like this since the last line about it)" if silent else ""
