"""
Files that say whether who wrote them lives: what ``dir:`` stores records in.

A file is locked with ``flock(2)`` and held open by its writer. The kernel unlocks it when the writer's process ends, in
whatever way, so that a file whose lock can be taken is left over from one that is gone.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from hashlib import blake2s
from secrets import token_hex
from urllib.parse import quote, unquote

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.provider import MAX_RECORD

__all__ = [
    "LockedFile",
    "checkFolder",
    "folderName",
    "isRecord",
    "keyOf",
    "makeFolder",
    "readLocked",
    "removeLeftover",
    "serviceName",
    "stemOf",
]

#: Bytes of the longest name that file systems take, NAME_MAX of limits.h.
NAME_MAX = 255

#: Bytes of an id in a file's name. A longer one is cut, and has a hash.
MAX_STEM = 200

SUFFIX = ".json"

#: What names of files begin with until they are complete.
UNFINISHED = ".new."

#: Seconds after which a file that is not complete is a leftover.
UNFINISHED_TIME = 60.0


def _encoded(name: str) -> str:
    """Percent-encoded, and no hidden file."""
    text = quote(name, safe=":@,+ []()=~")
    return "%2E" + text[1:] if text.startswith(".") else text


def folderName(service: str) -> str:
    """
    The name of a service's folder: percent-encoded.

    :raise SettingError: it is longer than file systems allow.
    """
    name = _encoded(service)
    if len(name) > NAME_MAX:
        text = f"service={service!r} makes a folder's name of {len(name)} bytes: dir: takes at most {NAME_MAX}"
        raise SettingError(text)
    return name


def serviceName(folder: str) -> str | None:
    """The service that a folder belongs to, or None if it is no service's."""
    service = unquote(folder, errors="replace")
    return service if service and _encoded(service) == folder else None


def stemOf(id: str) -> str:
    """What the names of files with records of this id begin with."""
    name = _encoded(id)
    if len(name) <= MAX_STEM:
        return name
    return f"{name[: MAX_STEM - 20]}-{blake2s(id.encode(), digest_size=8).hexdigest()}"


def isRecord(name: str) -> bool:
    """Whether a file of this name is to be read."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def keyOf(name: str) -> str:
    """What two files of the same id have in common: the name without its number."""
    return name[: -len(SUFFIX)].rpartition(".")[0]


def checkFolder(path: str) -> os.stat_result:
    """
    Check that nobody but its owner writes to a folder, and that the owner is this user or root.

    :raise RegistryError: the text says what to do.
    :raise OSError: it cannot be looked at.
    """
    found = os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise RegistryError(f"{path} is not a directory")
    for owner in {found.st_uid, os.lstat(path).st_uid} - {0, os.geteuid()}:
        text = f"{path} belongs to user {owner}: take a directory of user {os.geteuid()}, as which this process runs"
        raise RegistryError(text)
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        text = f"{path} has mode {mode:04o}: whoever can write to it chooses where clients connect. Run chmod go-w"
        raise RegistryError(f"{text} {path}")
    return found


def makeFolder(path: str, mode: int) -> None:
    """
    Make a folder unless there is one, and check it. The folder above has to be there.

    :raise RegistryError: others can write to it.
    :raise OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        os.mkdir(path, mode)
    checkFolder(path)


class LockedFile:
    """
    A file with a record, written, locked and held open.

    :param folder: where it is.
    :param stem: what its name begins with.
    :raise OSError: it cannot be written.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, folder: str, stem: str, data: bytes) -> None:
        number = token_hex(4)
        #: Where it is. The name is never used again, so that whoever deletes it hits no other.
        self.path = os.path.join(folder, f"{stem}.{number}{SUFFIX}")
        temporary = os.path.join(folder, UNFINISHED + number)
        self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(self._fd, data) != len(data):
                raise OSError(f"{temporary} could not be written whole")
            # The kernel's own times have steps of some ms: two files of one id would look equally old.
            now = time.time_ns()
            os.utime(self._fd, ns=(now, now))
            os.rename(temporary, self.path)
        except BaseException:
            os.close(self._fd)
            _unlink(temporary)
            raise

    @property
    def isThere(self) -> bool:
        """Whether the file under its name is still this one."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        own = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def remove(self) -> None:
        """Delete and close it."""
        if self._fd >= 0:
            _unlink(self.path)
            os.close(self._fd)
            self._fd = -1


def readLocked(path: str, isKnown: bool) -> tuple[int, bytes] | None:
    """
    Look at a file: when it was written, and what is in it. One that is left over is deleted.

    :param isKnown: its contents are not needed, since they never change.
    :return: ns since the epoch, and the contents; None if who wrote it is gone.
    :raise RecordError: it is no file with a record.
    :raise OSError: it cannot be looked at.
    """
    try:
        # A pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not isKnown:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("it is no file")
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return (0, b"") if isKnown else (found.st_mtime_ns, os.read(fd, min(found.st_size, MAX_RECORD) + 1))
        _unlink(path)
        return None
    finally:
        os.close(fd)


def removeLeftover(path: str) -> None:
    """Delete a file whose writer died before it was complete."""
    if not os.path.basename(path).startswith(UNFINISHED):
        return
    try:
        if time.time() - os.lstat(path).st_mtime > UNFINISHED_TIME:
            readLocked(path, True)
    except (OSError, RecordError):
        return


def _unlink(path: str) -> None:
    """Delete a file that may be gone already, or may belong to another user."""
    try:
        os.unlink(path)
    except OSError:
        return
