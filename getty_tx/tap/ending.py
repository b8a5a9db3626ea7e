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

__all__ = ["CannotStart", "OrderlyEnd", "cannotStart", "endProcess", "flushAll"]

log = Logger()


class CannotStart(SystemExit, Exception):
    """
    A service cannot start: one line on stderr and exit status 1, instead of a traceback.

    Python handles a SystemExit in this way. It is an Exception as well, so that a ``twistd`` in the background passes
    the line to the one in the foreground, and removes its pid file.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        # If the code were the text, Python would print it to sys.stderr, which twistd has redirected to its log.
        self.code = 1


def cannotStart(line: str) -> CannotStart:
    """
    Print a line to stderr, and return the exception to raise because a service cannot start.

    :param line: the problem, and what to do about it.
    """
    if sys.__stderr__ is not None:
        print(line, file=sys.__stderr__, flush=True)
    return CannotStart(line)


def endProcess(reactor: Any, status: int) -> None:
    """
    Stop the reactor, and end the process with an exit status of 0 or above.

    ``twistd`` cannot set its exit status: it calls ``sys.exit`` with success, whatever has stopped its reactor.
    """
    if status:
        atexit.register(_exit, status)
    # The reactor may be stopping already.
    with suppress(ReactorNotRunning):
        reactor.stop()


class OrderlyEnd(Service):
    """
    Ends the process with status 0 after SIGTERM; without it ``twistd`` ends by the signal after the services' stop.

    :param reactor: by default the installed one, looked up when the service starts.
    """

    def __init__(self, reactor: Any = None) -> None:
        self._reactor = reactor
        self._before: Any = None
        self._isEnding = False

    def startService(self) -> None:
        """Install the signal handler, after the reactor has installed its own."""
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
        """Restore the signal handler, unless the signal has stopped the service: a second one must change nothing."""
        Service.stopService(self)
        if self._before is not None and not self._isEnding:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


def flushAll() -> None:
    """Write all that the process has buffered: Python does not do it, as the process ends without it."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _flush(stream)


def _exit(status: int) -> None:
    flushAll()
    os._exit(status)


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        # The reader of a pipe has ended, or the file is closed.
        with suppress(OSError, ValueError):
            stream.flush()
