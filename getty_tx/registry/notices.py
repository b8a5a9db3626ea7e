"""Being told by the kernel what changes in folders, with ``inotify(7)``."""

from __future__ import annotations

import os
from functools import partial
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
    from collections.abc import Callable

__all__ = ["Notices", "openNotices"]

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x8, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_UNMOUNT, _IN_ONLYDIR = 0x400, 0x800, 0x2000, 0x01000000
_IN_EXCL_UNLINK = 0x04000000

#: What is asked for, of a folder whose files matter, and of one in which others are awaited. An event costs some 50 us:
#: nothing is told of a file that was deleted before it is closed, nor of one that is moved away, which nobody does.
_FILES = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_ONLYDIR | _IN_EXCL_UNLINK
_NAMES = _IN_CREATE | _IN_MOVED_TO | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_ONLYDIR

#: The folder that was asked for is not there any more.
_LOST = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT


def openNotices(
    reactor: Any, heard: Callable[[str, str, bool], None], lost: Callable[[Notices], None]
) -> Notices | None:
    """
    Begin to listen.

    :param heard: called with a folder, a name in it, and whether a file was closed after writing.
    :param lost: called when a folder is gone: nothing more is told then, of the others either.
    :return: None if this reactor or this system cannot: look from time to time instead.
    """
    if not _HAS_INOTIFY or not IReactorFDSet.providedBy(reactor):
        return None
    try:
        notifier: Any = _Notifier(reactor)  # type: ignore[no-untyped-call]
    except INotifyError:
        # The user has as many as the system allows: fs.inotify.max_user_instances.
        return None
    notifier.startReading()
    return Notices(notifier, heard, lost)


class _Notifier(INotify):
    """Closes its descriptor once. Twisted's does it for each folder that goes, and hits whoever has the number then."""

    _isClosing = False

    def loseConnection(self) -> None:
        """Close."""
        if not self._isClosing:
            self._isClosing = True
            super().loseConnection()  # type: ignore[no-untyped-call]


class Notices:
    """Tells of changes. A queue that runs over is not told of: look from time to time besides."""

    def __init__(self, notifier: Any, heard: Callable[[str, str, bool], None], lost: Callable[[Notices], None]) -> None:
        self._notifier = notifier
        self._heard = heard
        self._lost: Callable[[Notices], None] | None = lost
        self._watched: dict[str, tuple[int, int]] = {}

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
            folder = FilePath(os.fsencode(path))
            self._notifier.watch(folder, _FILES if files else _NAMES, callbacks=[partial(self._event, path)])
        except INotifyError as error:
            text = f"inotify cannot watch {path}: raise fs.inotify.max_user_watches if there are many"
            raise OSError(text) from error
        self._watched[path] = inode

    def ignore(self, path: str) -> None:
        """Tell of a folder no more."""
        if self._lost is not None and self._watched.pop(path, None) is not None:
            self._notifier.ignore(FilePath(os.fsencode(path)))

    def close(self) -> None:
        """Tell nothing any more."""
        self._lost = None
        self._notifier.loseConnection()

    def _event(self, folder: str, _watch: object, path: FilePath[bytes], mask: int) -> None:
        if self._lost is None:
            return
        if mask & _LOST:
            self._end()
        elif (name := os.fsdecode(path.path)) != folder:
            self._heard(folder, os.path.basename(name), bool(mask & _IN_CLOSE_WRITE))

    def _end(self) -> None:
        lost = self._lost
        self.close()
        if lost is not None:
            lost(self)
