"""
``dir:/run/getty``: a directory in which each provider has a file, for one machine and without any server.

Each service has a folder, and each record a file in it, which the process that wrote it holds open and locked (see
:py:mod:`getty_tx.registry.lockfiles`). Whoever follows a service listens to changes of its folder. When a process dies,
the kernel closes its files and tells so: a provider that was killed is gone within milliseconds, without heartbeats. To
be safe, folders are read again from time to time.

A directory that others than its owner can write to is refused: its files say where clients connect.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.folders import Folder
from getty_tx.registry.interfaces import IEngine, IWatch
from getty_tx.registry.lockfiles import (
    LockedFile,
    checkFolder,
    folderName,
    isRecord,
    makeFolder,
    serviceName,
    stemOf,
)
from getty_tx.registry.notices import CLOSED, GONE, openNotices
from getty_tx.registry.provider import KINDS, encodeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.interfaces import IEngineUser, IRecordSink
    from getty_tx.registry.notices import Notices
    from getty_tx.registry.provider import Provider

__all__ = ["DirectoryEngine"]

log = Logger()

#: Seconds between two looks at everything: while the kernel tells of changes, since it drops some when there are too
#: many at once, and where it does not.
SCAN_PERIOD, POLL_PERIOD = 30.0, 1.0

#: Seconds after which a file is looked at again that was closed and is still locked: the process may have made
#: another, which has the file until it runs its own program.
RETRIES = (0.01, 0.05, 0.2)

#: Seconds of one turn of the reactor that are spent on reading files.
SLICE = 0.004


class _Followed(Folder):
    """A folder whose service is followed."""

    __slots__ = ("closed", "dirty", "isComplete", "isFull", "isRunning", "watches")

    def __init__(self, service: str, path: str, kinds: Collection[str]) -> None:
        super().__init__(service, path, kinds)
        self.watches: list[_Watch] = []
        # Whether to look at all files, at which ones otherwise, True: it was deleted, and how often at those that were
        # closed.
        self.isFull = True
        self.dirty: dict[str, bool] = {}
        self.closed: dict[str, int] = {}
        self.isRunning = False
        # False until all were looked at, and after something went wrong.
        self.isComplete = False


@implementer(IWatch)
class _Watch:
    """One who follows a service."""

    __slots__ = ("_stopped", "isFresh", "isInterrupted", "sink")

    def __init__(self, sink: IRecordSink, stopped: Callable[[_Watch], None]) -> None:
        self.sink = sink
        # True until it has got a list, the first or one after an interruption.
        self.isFresh = True
        self.isInterrupted = False
        self._stopped: Callable[[_Watch], None] | None = stopped

    def stop(self) -> None:
        """Watch no more."""
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped(self)


@implementer(IEngine)
class DirectoryEngine:
    """
    Records as files of a directory.

    :param path: the directory. The one above it has to be there.
    :param mode: with which it is made.
    :raise SettingError: it is no directory, or others can write to it.
    """

    isReadOnly = False
    hasStates = True
    #: Followers hear within milliseconds: events are gathered for five, and then files are read.
    leaveTime = 0.02
    kinds = KINDS | {"unix"}
    isLocal = True

    def __init__(self, path: str, mode: int = 0o750) -> None:
        if not path:
            raise SettingError("dir: takes the path of a directory, such as dir:/run/getty")
        self._path = os.path.abspath(path)
        self._mode = mode
        try:
            checkFolder(self._path)
        except FileNotFoundError:
            pass
        except (OSError, RegistryError) as error:
            raise SettingError(f"dir:{path}: {error}") from error
        self.name = f"dir:{self._path}"
        self._reactor: Any = None
        self._user: IEngineUser | None = None
        self._isConnected: bool | None = None
        self._held: dict[tuple[str, str], LockedFile] = {}
        self._folders: dict[str, _Followed] = {}
        self._notices: Notices | None = None
        self._isPolling = False
        self._tick: IDelayedCall | None = None
        self._retries: set[IDelayedCall] = set()
        self._jobs: deque[Generator[None, None, None]] = deque()
        self._work: IDelayedCall | None = None
        self._reads: list[Deferred[Mapping[tuple[str, str], Any]]] = []

    def __repr__(self) -> str:
        return f"<DirectoryEngine {self._path}>"

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """Begin."""
        self._reactor, self._user, self._isConnected = reactor, user, None
        self._scanIn(0)

    def stop(self) -> Deferred[None]:
        """Delete the files that were written, and follow no more."""
        for call in [self._tick, self._work, *self._retries]:
            if call is not None and call.active():
                call.cancel()
        self._tick = self._work = None
        self._retries.clear()
        self._jobs.clear()
        for folder in self._folders.values():
            folder.watches.clear()
        self._folders.clear()
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        for file in self._held.values():
            file.remove()
        self._held.clear()
        self._reactor = self._user = None
        reads, self._reads = self._reads, []
        for done in reads:
            done.errback(RegistryError(f"{self.name} was stopped"))
        return succeed(None)

    def put(self, provider: Provider) -> Deferred[None]:
        """Write a file, and then delete the one that it replaces."""
        try:
            data = encodeRecord(provider)
            folder = os.path.join(self._path, folderName(provider.service))
            makeFolder(self._path, self._mode)
            makeFolder(folder, self._mode)
            file = LockedFile(folder, stemOf(provider.id), data)
        except (OSError, RegistryError) as error:
            # In another turn: whoever calls is told only then that the directory cannot be used.
            self._scanIn(0)
            return fail(RegistryError(f"{self.name}: {error}"))
        except SettingError as error:
            return fail(error)
        key = provider.service, provider.id
        old, self._held[key] = self._held.get(key), file
        if old is not None:
            old.remove()
        return succeed(None)

    def delete(self, provider: Provider) -> Deferred[None]:
        """Delete the file that was written here."""
        file = self._held.pop((provider.service, provider.id), None)
        if file is not None:
            file.remove()
        return succeed(None)

    def missing(self, providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        """Those whose files are not there any more."""
        held = self._held
        return succeed(
            [each for each in providers if (file := held.get((each.service, each.id))) is None or not file.isThere]
        )

    def hostTowards(self) -> Deferred[str]:
        """All are on this machine."""
        return succeed("127.0.0.1")

    def watch(self, service: str, sink: IRecordSink) -> IWatch:
        """
        Follow a service.

        :raise SettingError: its name is too long for one of a folder.
        """
        path = os.path.join(self._path, folderName(service))
        folder = self._folders.get(path)
        if folder is None:
            folder = self._folders[path] = _Followed(service, path, self.kinds)
            if len(self._folders) == 1:
                # Nothing was looked at until now.
                self._scanIn(0)
        watch = _Watch(sink, lambda watch: self._unwatch(folder, watch))
        folder.watches.append(watch)
        self._examine(folder)
        return watch

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Any]]:
        """Read the files of one service or of all."""
        if self._reactor is None:
            return fail(RegistryError(f"{self.name} is not started"))
        done: Deferred[Mapping[tuple[str, str], Any]] = Deferred()
        self._reads.append(done)
        self._begin(self._reading(service, done))
        return done

    def _check(self) -> None:
        """Whether the directory can be used: say so if it is news."""
        error = None
        try:
            checkFolder(self._path)
        except FileNotFoundError:
            # Who registers first makes it.
            pass
        except (OSError, RegistryError) as found:
            error = RegistryError(f"{self.name}: {found}")
        isConnected = error is None
        if self._user is not None and self._isConnected is not isConnected:
            self._isConnected = isConnected
            if error is None:
                self._user.engineConnected()
            else:
                self._user.engineDisconnected(error)

    # Looking at files, a slice at a time.

    def _begin(self, job: Generator[None, None, None]) -> None:
        self._jobs.append(job)
        if self._work is None:
            self._work = self._reactor.callLater(0, self._goOn)

    def _goOn(self) -> None:
        self._work = None
        jobs, until = self._jobs, time.perf_counter() + SLICE
        while jobs and time.perf_counter() < until:
            job = jobs[0]
            try:
                next(job)
                continue
            except StopIteration:
                pass
            except Exception:
                log.failure("{engine}: a follower failed", engine=self.name)
            # It may have stopped the engine.
            if job in jobs:
                jobs.remove(job)
        if jobs:
            jobs.rotate(-1)
            self._work = self._reactor.callLater(0, self._goOn)

    def _reading(
        self, service: str | None, done: Deferred[Mapping[tuple[str, str], Any]]
    ) -> Generator[None, None, None]:
        found: dict[tuple[str, str], Any] = {}
        try:
            for each, path in self._services(service):
                folder = Folder(each, path, self.kinds)
                try:
                    for name in folder.names():
                        folder.look(name)
                        yield
                except RegistryError as error:
                    if service is not None:
                        raise
                    found[each, ""] = error
                folder.changes()
                found.update(((each, key), record) for key, record in folder.records.items())
        except (OSError, RegistryError) as error:
            result: Any = RegistryError(f"{self.name}: {error}")
        except SettingError as error:
            result = error
        else:
            result = found
        self._reads.remove(done)
        # A Deferred takes an exception for a failure.
        done.errback(result) if isinstance(result, Exception) else done.callback(result)

    def _services(self, service: str | None) -> list[tuple[str, str]]:
        """Names and folders of one service or of all."""
        try:
            checkFolder(self._path)
        except FileNotFoundError:
            return []
        if service is not None:
            return [(service, os.path.join(self._path, folderName(service)))]
        with os.scandir(self._path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        services = [(serviceName(name), os.path.join(self._path, name)) for name in names]
        return [(each, path) for each, path in services if each is not None]

    def _examine(self, folder: _Followed) -> None:
        if not folder.isRunning and self._reactor is not None:
            folder.isRunning = True
            self._begin(self._examining(folder))

    def _examining(self, folder: _Followed) -> Generator[None, None, None]:
        """Look at what has changed in a folder until nothing has, and tell the followers."""
        try:
            while folder.watches and (folder.isFull or folder.dirty or any(each.isFresh for each in folder.watches)):
                isFull, folder.isFull = folder.isFull, False
                dirty, folder.dirty = folder.dirty, {}
                if isFull:
                    self._observe(folder)
                for name in folder.names() if isFull else dirty:
                    if not isFull and dirty[name]:
                        folder.forget(name)
                        folder.closed.pop(name, None)
                    elif not folder.look(name):
                        folder.closed.pop(name, None)
                    elif name in folder.closed:
                        self._lookAgain(folder, name)
                    yield
                folder.isComplete = folder.isComplete or isFull
                if not folder.isComplete:
                    break
                self._tell(folder)
                yield
        except (OSError, RegistryError) as error:
            self._interrupt(folder, RegistryError(f"{self.name}: {error}"))
        finally:
            folder.isRunning = False

    def _tell(self, folder: _Followed) -> None:
        written, gone = folder.changes()
        for watch in list(folder.watches):
            if watch not in folder.watches:
                continue
            if watch.isFresh:
                watch.isFresh = watch.isInterrupted = False
                watch.sink.recordsAre(dict(folder.records))
            elif written or gone:
                watch.sink.recordsChanged(written, gone)

    def _interrupt(self, folder: _Followed, error: RegistryError) -> None:
        folder.isComplete = False
        for watch in list(folder.watches):
            watch.isFresh = True
            if not watch.isInterrupted:
                watch.isInterrupted = True
                watch.sink.interrupted(error)
        self._scanIn(POLL_PERIOD)

    def _unwatch(self, folder: _Followed, watch: _Watch) -> None:
        if watch in folder.watches:
            folder.watches.remove(watch)
        if not folder.watches and self._folders.get(folder.path) is folder:
            del self._folders[folder.path]
            if self._notices is not None:
                self._notices.ignore(folder.path)

    def _lookAgain(self, folder: _Followed, name: str) -> None:
        """A file was closed and is still locked."""
        tried = folder.closed[name]
        if tried == len(RETRIES):
            del folder.closed[name]
            return
        folder.closed[name] = tried + 1

        def look() -> None:
            self._retries.discard(call)
            folder.dirty.setdefault(name, False)
            self._examine(folder)

        call = self._reactor.callLater(RETRIES[tried], look)
        self._retries.add(call)

    # Hearing of changes.

    def _scanIn(self, seconds: float) -> None:
        if self._reactor is None:
            return
        if self._tick is not None and self._tick.active():
            self._tick.cancel()
        self._tick = self._reactor.callLater(seconds, self._scan)

    def _scan(self) -> None:
        """Look at everything."""
        self._tick = None
        self._check()
        if self._reactor is None:
            return
        isTold = self._listen()
        for folder in self._folders.values():
            folder.isFull = True
            self._examine(folder)
        self._scanIn(SCAN_PERIOD if isTold and self._isConnected else POLL_PERIOD)

    def _listen(self) -> bool:
        """Hear of changes of the directory, or of its coming. Returns whether that is possible."""
        if not self._folders:
            return True
        if self._notices is None:
            self._notices = openNotices(self._reactor, self._heard, self._lost)
            if self._notices is None:
                return False
        above = os.path.dirname(self._path)
        try:
            try:
                self._notices.watch(self._path, files=False)
            except FileNotFoundError:
                self._notices.watch(above, files=False)
            else:
                self._notices.ignore(above)
        except OSError:
            return False
        return True

    def _observe(self, folder: _Followed) -> None:
        """Hear of changes of a service's folder, from before it is read."""
        if self._notices is None and not self._listen():
            return
        assert self._notices is not None
        try:
            self._notices.watch(folder.path, files=True)
        except FileNotFoundError:
            # The directory tells when it comes.
            return
        except OSError as error:
            if not self._isPolling:
                log.warn("{engine}: {error}; it is read each second instead", engine=self.name, error=error)
            self._isPolling = True
            self._scanIn(POLL_PERIOD)

    def _heard(self, path: str, names: Mapping[str, str]) -> None:
        if path in self._folders:
            folder = self._folders[path]
            for name, what in names.items():
                if isRecord(name):
                    if what is CLOSED:
                        folder.closed[name] = 0
                    folder.dirty[name] = what is GONE
            if folder.dirty:
                self._examine(folder)
            return
        for name in names:
            if path == self._path:
                new = self._folders.get(os.path.join(path, name))
                if new is not None:
                    new.isFull = True
                    self._examine(new)
            elif os.path.join(path, name) == self._path:
                self._scanIn(0)

    def _lost(self, notices: Notices) -> None:
        if self._notices is notices:
            self._notices = None
            self._scanIn(0)
