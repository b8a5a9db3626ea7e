"""How a command ends: the error of a start, the exit status of the process, and SIGTERM."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from getty_tx.session.context import theReactor

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["CannotStart", "OrderlyEnd", "cannotStart", "endProcess"]

log = Logger()


class CannotStart(SystemExit, Exception):
    """
    A service cannot start: one line on stderr and exit status 1, instead of a traceback.

    Python ends so for a SystemExit. That it is an Exception as well lets a ``twistd`` that has gone into the background
    hand the line to the one in the foreground, and remove its pid file.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        # With the text as its code, Python would print it to sys.stderr, which twistd has made a part of its log.
        self.code = 1


def cannotStart(line: str) -> CannotStart:
    """
    What to raise when a service cannot start; the line is on stderr then.

    :param line: what cannot be, and what to do about it.
    """
    if sys.__stderr__ is not None:
        print(line, file=sys.__stderr__, flush=True)
    return CannotStart(line)


def endProcess(reactor: Any, status: int) -> None:
    """
    Stop the reactor, and end the process with an exit status of 0 or above.

    ``twistd`` has no way to set its exit status: whatever ends its reactor, it returns to a ``sys.exit`` with success.
    """
    if status:
        atexit.register(_exit, status)
    # It may be stopping already.
    with suppress(ReactorNotRunning):
        reactor.stop()


class OrderlyEnd(Service):
    """
    Ends the process with status 0 after SIGTERM; ``twistd`` alone ends by the signal when all services have stopped.

    :param reactor: by default the installed one, looked up when the service starts.
    """

    def __init__(self, reactor: Any = None) -> None:
        self._reactor = reactor
        self._before: Any = None
        self._isEnding = False

    def startService(self) -> None:
        """Take the signal over, as soon as the reactor has taken it."""
        Service.startService(self)
        theReactor(self._reactor).callWhenRunning(self._install)

    def _install(self) -> None:
        if self.running and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._onSignal)

    def _onSignal(self, number: int, frame: object) -> None:
        self._isEnding = True
        theReactor(self._reactor).callFromThread(self._end)

    def _end(self) -> None:
        log.info("Received SIGTERM, shutting down.")
        endProcess(theReactor(self._reactor), 0)

    def stopService(self) -> None:
        """Give the signal back, unless it was that which has ended the service: another one is to change nothing."""
        Service.stopService(self)
        if self._before is not None and not self._isEnding:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


def _exit(status: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    os._exit(status)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        # A pipe that nobody reads any more, or a closed file.
        with suppress(OSError, ValueError):
            stream.flush()
