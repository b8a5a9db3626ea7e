"""``--reload``: looks for changes of source files, and executes the command line anew."""

from __future__ import annotations

import atexit
import os
import sys
from itertools import islice
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

from getty_tx.errors import SettingError
from getty_tx.session.context import theReactor
from getty_tx.tap.ending import flushAll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["CommandLine", "Reloader", "Watcher", "traceOf"]

log = Logger()

#: Seconds between two looks at all files.
INTERVAL = 0.5

#: Files and folders that are looked at in one turn of the reactor, which takes 1 to 2 ms, and seconds between two such
#: turns: so a tree of 10,000 files takes a tenth of the processor.
BATCH = 200
PAUSE = 0.02

#: Folders that are left out, besides hidden ones and virtual environments.
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})

#: What a virtual environment has at its root (PEP 405).
_ENVIRONMENT = "pyvenv.cfg"


class Watcher:
    """
    Looks for changes of files ``*.py``. A file that is new, or has gone, is a change, too.

    Hidden files and folders, ``__pycache__``, ``node_modules``, virtual environments, and folders that are symbolic
    links are left out.

    :param folders: they are looked at with all that is below them.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._known: dict[str, tuple[int, int]] = {}

    def note(self) -> None:
        """Look at all files at once: changes are what happens afterwards."""
        self._known = {path: stamp for path, stamp in self._files() if path}

    def look(self) -> Iterator[str]:
        """Yields the path of each file that has changed, and an empty text for each other file and each folder."""
        known, seen = self._known, set()
        for path, stamp in self._files():
            seen.add(path)
            yield path if path and known.get(path) != stamp else ""
        yield from known.keys() - seen

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Path, time and size of each file, and an empty path for each folder."""
        left = list(self._folders)
        while left:
            folder = left.pop()
            try:
                with os.scandir(folder) as found:
                    entries = list(found)
            except OSError:
                # It has gone, or may not be read.
                continue
            yield "", (0, 0)
            if folder not in self._folders and any(entry.name == _ENVIRONMENT for entry in entries):
                continue
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if name not in _LEFT_OUT:
                            left.append(entry.path)
                    elif name.endswith(".py"):
                        status = entry.stat()
                        yield entry.path, (status.st_mtime_ns, status.st_size)
                except OSError:
                    continue


class CommandLine:
    """
    The command line of this process, with the environment and the working folder that it has now.

    It is made before the application is imported: what that leaves to be done at the exit is done first.
    """

    def __init__(self) -> None:
        self._folder = os.getcwd()
        self._environment = dict(os.environ)
        self._isWanted = False
        atexit.register(self.execute)

    def want(self) -> None:
        """Let it be executed, in the same process, where Python would end it."""
        self._isWanted = True

    def execute(self) -> None:
        """At the exit: execute the command line, if that is wanted."""
        if not self._isWanted:
            return
        flushAll()
        try:
            os.chdir(self._folder)
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], self._environment)
        except OSError as error:
            print(
                f"--reload: cannot execute {sys.executable}: {error.strerror}; start it yourself", file=sys.__stderr__
            )


class Reloader(Service):
    """
    Ends the process in good order when a file has changed, for a new one to be executed.

    :param watcher: it has noted the files.
    :param again: called once, when the process is to end.
    :param reactor: by default the installed one, looked up when the service starts.
    """

    def __init__(self, watcher: Watcher, again: Callable[[], object], reactor: Any = None) -> None:
        self._watcher = watcher
        self._again = again
        self._reactor = reactor
        self._looking: Iterator[str] | None = None
        self._timer: Any = None

    def startService(self) -> None:
        """Begin to look."""
        Service.startService(self)
        self._timer = theReactor(self._reactor).callLater(INTERVAL, self._look)

    def stopService(self) -> None:
        """Look no more."""
        Service.stopService(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look(self) -> None:
        if self._looking is None:
            self._looking = self._watcher.look()
        batch = list(islice(self._looking, BATCH))
        for path in batch:
            if path:
                self._changed(path)
                return
        isDone = len(batch) < BATCH
        if isDone:
            self._looking = None
        self._timer = theReactor(self._reactor).callLater(INTERVAL if isDone else PAUSE, self._look)

    def _changed(self, path: str) -> None:
        log.info("{path} has changed: the command starts anew", path=os.path.relpath(path))
        try:
            theReactor(self._reactor).stop()
        except ReactorNotRunning:
            # Somebody has ended the command in this very turn, and wants no other one.
            return
        self._again()


def traceOf(error: BaseException) -> str:
    """
    Where the error of an application happened, as Python tells it; empty if that is not in the application.

    :param error: what is told of it; it may have its reason as ``__cause__``.
    """
    while isinstance(error, usage.UsageError | SettingError) and error.__cause__ is not None:
        error = error.__cause__
    trace = error.__traceback__
    while trace is not None and _isOfImport(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if trace is None and not isinstance(error, SyntaxError):
        return ""
    return "".join(format_exception(type(error), error, trace)).rstrip()


_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def _isOfImport(path: str) -> bool:
    return path.startswith((_OWN, "<frozen importlib")) or path.endswith(os.path.join("importlib", "__init__.py"))
