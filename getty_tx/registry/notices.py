"""Being told by the kernel what changes in folders, with ``inotify(7)``."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorFDSet
from twisted.python.filepath import FilePath

try:
    from twisted.internet.inotify import INotify, INotifyError
except ImportError:
    # Other systems have none.
    INotify, INotifyError = object, OSError  # type: ignore[assignment,misc]
    _HAS_INOTIFY = False
else:
    _HAS_INOTIFY = True

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall

__all__ = ["CAME", "CLOSED", "GATHER_TIME", "GONE", "Notices", "openNotices"]

#: What happens to a name: a file or a folder comes, a file is closed after writing, one is deleted.
CAME, CLOSED, GONE = "came", "closed", "gone"

#: Seconds after a read of events until the next one. What comes after a pause is told at once; where there are a
#: thousand changes a second, a turn of the reactor handles five instead of one.
GATHER_TIME = 0.005

#: Bytes of events that are read at once: about a thousand of them.
READ_SIZE = 64 * 1024

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x8, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_UNMOUNT, _IN_ONLYDIR = 0x400, 0x800, 0x2000, 0x01000000
_IN_EXCL_UNLINK = 0x04000000

#: What is asked for, of a folder whose files matter, and of one in which others are awaited. Nothing is told of a file
#: that was deleted before it is closed, nor of one that is moved away, which nobody does.
_FILES = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_ONLYDIR | _IN_EXCL_UNLINK
_NAMES = _IN_CREATE | _IN_MOVED_TO | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_ONLYDIR

#: The folder that was asked for is not there any more.
_LOST = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT


#: An event: the watch, what has happened, what connects two events, and the bytes of the name behind it.
_EVENT = struct.Struct("=iIII")


def openNotices(
    reactor: Any, heard: Callable[[str, Mapping[str, str]], None], lost: Callable[[Notices], None]
) -> Notices | None:
    """
    Begin to listen.

    :param heard: called with a folder, and the names in it with what happened to each last: CAME, CLOSED or GONE.
    :param lost: called when a folder is gone: nothing more is told then, of the others either.
    :return: None if this reactor or this system cannot: look from time to time instead.
    """
    if not _HAS_INOTIFY or not IReactorFDSet.providedBy(reactor):
        return None
    try:
        notices = Notices(reactor, heard, lost)
    except INotifyError:
        # The user has as many as the system allows: fs.inotify.max_user_instances.
        return None
    notices.start()
    return notices


class _Notifier(INotify):
    """Gives events as they are read. Twisted's makes paths of each of them, which takes some 50 us."""

    def __init__(self, reactor: Any, received: Callable[[bytes], None]) -> None:
        super().__init__(reactor)  # type: ignore[no-untyped-call]
        self.received = received

    def doRead(self) -> None:
        """Read as many as there are."""
        try:
            events = os.read(self.fileno(), READ_SIZE)  # type: ignore[no-untyped-call]
        except BlockingIOError:
            return
        self.received(events)


class Notices:
    """Tells of changes. A queue that runs over is not told of: look from time to time besides."""

    def __init__(
        self, reactor: Any, heard: Callable[[str, Mapping[str, str]], None], lost: Callable[[Notices], None]
    ) -> None:
        self._reactor = reactor
        self._notifier: Any = _Notifier(reactor, self._received)
        self._heard = heard
        self._lost: Callable[[Notices], None] | None = lost
        self._watched: dict[str, tuple[int, int]] = {}
        # Folders by the numbers of their watches.
        self._folders: dict[int, str] = {}
        self._pause: IDelayedCall | None = None

    def start(self) -> None:
        """Listen."""
        self._pause = None
        self._notifier.startReading()

    def watch(self, path: str, files: bool) -> None:
        """
        Tell of a folder from now on. May be called again.

        :param files: of files that are closed, moved or deleted; else of names that come.
        :raise OSError: there is no such folder, or the system allows no more.
        """
        if self._lost is None:
            return
        found = os.stat(path)
        inode = found.st_dev, found.st_ino
        if path in self._watched and self._watched[path] != inode:
            # Another folder has this name now.
            self._end()
            return
        if path in self._watched:
            return
        try:
            number = self._notifier.watch(FilePath(os.fsencode(path)), _FILES if files else _NAMES)
        except INotifyError as error:
            text = f"inotify cannot watch {path}: raise fs.inotify.max_user_watches if there are many"
            raise OSError(text) from error
        self._watched[path] = inode
        self._folders[number] = path

    def ignore(self, path: str) -> None:
        """Tell of a folder no more."""
        if self._lost is not None and self._watched.pop(path, None) is not None:
            self._folders = {number: each for number, each in self._folders.items() if each != path}
            self._notifier.ignore(FilePath(os.fsencode(path)))

    def close(self) -> None:
        """Tell nothing any more."""
        if self._lost is None:
            return
        self._lost = None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._notifier.loseConnection()

    def _received(self, events: bytes) -> None:
        self._notifier.stopReading()
        self._pause = self._reactor.callLater(GATHER_TIME, self.start)
        found: dict[str, dict[str, str]] = {}
        isLost = False
        at, end = 0, len(events)
        while at < end:
            number, mask, _, size = _EVENT.unpack_from(events, at)
            at += _EVENT.size + size
            folder = self._folders.get(number)
            if folder is None:
                continue
            if mask & _LOST:
                isLost = True
            elif size:
                name = os.fsdecode(events[at - size : at].rstrip(b"\0"))
                what = GONE if mask & _IN_DELETE else CLOSED if mask & _IN_CLOSE_WRITE else CAME
                found.setdefault(folder, {})[name] = what
        for folder, names in found.items():
            if self._lost is not None:
                self._heard(folder, names)
        if isLost:
            self._end()

    def _end(self) -> None:
        lost = self._lost
        self.close()
        if lost is not None:
            lost(self)
