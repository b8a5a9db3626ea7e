"""
Following the records of one service.

ZooKeeper's watches say once that something has changed, and nothing more once the connection is lost. So whatever was
known, all is listed anew, with new watches, each time the engine is connected, and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.interfaces import IWatch
from getty_tx.registry.zookeeper.threads import NoAuth, NoNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twisted.python.failure import Failure

    from getty_tx.registry.interfaces import IRecordSink
    from getty_tx.registry.zookeeper.layout import Layout
    from getty_tx.registry.zookeeper.threads import Connection

__all__ = ["Watching", "readNodes"]

log = Logger()

#: Nodes that are read or decoded in one turn of the reactor.
CHUNK = 100

#: Seconds between two updates: so many for each record, and at most so many. Ten thousand records, of which many come
#: and go, are compared 5 times a second at most, and three as soon as one of them has changed.
UPDATE_TIME, LONGEST_UPDATE_TIME = 2e-5, 0.2


@implementer(IWatch)
class Watching:
    """
    See :py:meth:`~getty_tx.registry.interfaces.IEngine.watch`.

    :param forget: is called with this when it is stopped.
    """

    def __init__(self, layout: Layout, service: str, sink: IRecordSink, forget: Callable[[Watching], None]) -> None:
        self._reactor: Any = None
        self._layout = layout
        self._service = service
        self._sink = sink
        self._forget = forget
        self._directory = layout.directory(service)
        self._backoff = Backoff()
        self._call: Any = None
        self._isBusy = False
        # Counts the connections: what an earlier one still says is not heard.
        self._round = 0
        self._connection: Connection | None = None
        self._told: dict[str, Any] | None = None
        self._begin()

    def _begin(self) -> None:
        """Know nothing any more."""
        self._round += 1
        self._isBusy = False
        self._isListDue = True
        self._updatedAt = 0.0
        self._names: set[str] = set()
        self._nodes: dict[str, Any] = {}
        # Names whose nodes have been read, and not been changed since.
        self._fresh: set[str] = set()
        self._isComplete = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def connected(self, reactor: Any, connection: Connection, delay: float = 0.0) -> None:
        """List, and follow from there; in ``delay`` seconds."""
        self._begin()
        self._reactor = reactor
        self._connection = connection
        round = self._round
        self._childWatch = connection.watcher(lambda kind, path: self._directoryChanged(round, kind))
        self._dataWatch = connection.watcher(lambda kind, path: self._nodeChanged(round, kind, path))
        self._schedule(delay)

    def disconnected(self, error: Exception) -> None:
        """Nothing is heard of changes any more."""
        wasFollowing = self._connection is not None
        self._begin()
        self._connection = None
        if wasFollowing:
            self._sink.interrupted(error)

    def stop(self) -> None:
        """See :py:class:`~getty_tx.registry.interfaces.IWatch`."""
        self._begin()
        self._connection = None
        self._forget(self)

    def _directoryChanged(self, round: int, kind: str) -> None:
        # NONE: kazoo has dropped the watch, and tells its owner why.
        if round == self._round and kind != "NONE":
            self._isListDue = True
            self._schedule()

    def _nodeChanged(self, round: int, kind: str, path: str) -> None:
        if round == self._round and kind != "NONE":
            self._fresh.discard(path.rpartition("/")[2])
            # One that was deleted may have been created anew, without a watch: the list that is due shows it.
            if kind != "DELETED":
                self._schedule()

    def _schedule(self, delay: float = 0.0) -> None:
        if self._call is None and not self._isBusy:
            gap = min(UPDATE_TIME * len(self._names), LONGEST_UPDATE_TIME)
            delay = max(delay, self._updatedAt + gap - self._reactor.seconds())
            self._call = self._reactor.callLater(delay, self._work)

    def _work(self) -> None:
        self._call = None
        self._isBusy = True
        round = self._round
        done = Deferred.fromCoroutine(self._update(round))
        done.addCallbacks(lambda _: self._updated(round), lambda failure: self._failed(round, failure))

    def _updated(self, round: int) -> None:
        if round == self._round:
            self._isBusy = False
            self._backoff.reset()
            if self._isListDue or self._names - self._fresh:
                self._schedule()

    def _failed(self, round: int, failure: Failure) -> None:
        if round != self._round:
            return
        connection, error = self._connection, failure.value
        assert connection is not None
        if not isinstance(error, RegistryError):
            log.failure("{directory} cannot be followed", failure, directory=self._directory)
            error = RegistryError(str(error))
        self.disconnected(error)
        if self._round == round + 1:
            self.connected(self._reactor, connection, self._backoff.next())

    async def _update(self, round: int) -> None:
        """Find out what has changed, and tell it."""
        self._updatedAt = self._reactor.seconds()
        if self._isListDue:
            self._isListDue = False
            names = set(await self._list())
            if round != self._round:
                return
            self._names = names
            self._fresh &= names
        for chunk in _chunks(sorted(self._names - self._fresh)):
            # Marked before: the watch may report a change before the answer is here.
            self._fresh.update(chunk)
            found = await self._read(chunk)
            if round != self._round:
                return
            for name, record in found.items():
                self._nodes[name] = record
            # They are gone again: their watch says so, or the next list.
            missing = set(chunk) - found.keys()
            self._names -= missing
            self._fresh -= missing
        for name in self._nodes.keys() - self._names:
            del self._nodes[name]
        self._tell(self._layout.records(self._service, self._nodes))

    async def _list(self) -> Sequence[str]:
        assert self._connection is not None
        while True:
            try:
                names: Sequence[str] = await self._connection.ask(
                    "get_children", self._directory, watch=self._childWatch
                )
                return names
            except NoNode:
                pass
            # Nobody has been there yet. This watch reports the first.
            if await self._connection.ask("exists", self._directory, watch=self._childWatch) is None:
                return []

    async def _read(self, names: Sequence[str]) -> dict[str, Any]:
        if self._layout.hasData:
            assert self._connection is not None
            return await readNodes(self._connection, self._layout, self._service, names, watch=self._dataWatch)
        await _turn(self._reactor)
        return {name: self._layout.record(self._service, name, b"") for name in names}

    def _tell(self, records: dict[str, Any]) -> None:
        before, self._told = self._told, records
        if before is None or not self._isComplete:
            self._isComplete = True
            self._sink.recordsAre(records)
            return
        written = {key: record for key, record in records.items() if not _isSame(before.get(key), record)}
        gone = [key for key in before if key not in records]
        if written or gone:
            self._sink.recordsChanged(written, gone)


async def readNodes(
    connection: Connection, layout: Layout, service: str, names: Sequence[str], **more: Any
) -> dict[str, Any]:
    """
    What nodes say, by name. Those that are not there are left out; what may not be read is a RegistryError.

    :raise RegistryError: the connection is lost.
    """
    found: dict[str, Any] = {}
    directory = layout.directory(service)
    asked = [connection.ask("get", f"{directory}/{name}", **more) for name in names]
    for name, (isRead, answer) in zip(names, await DeferredList(asked, consumeErrors=True), strict=True):
        if isRead:
            found[name] = layout.record(service, name, answer[0])
        elif answer.check(NoAuth):
            found[name] = answer.value
        elif not answer.check(NoNode):
            answer.raiseException()
    return found


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), CHUNK):
        yield names[at : at + CHUNK]


def _turn(reactor: Any) -> Deferred[None]:
    """Fires in the next turn of the reactor, so that others have theirs."""
    done: Deferred[None] = Deferred()
    reactor.callFromThread(done.callback, None)
    return done


def _isSame(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, RegistryError) and isinstance(other, RegistryError):
        return str(one) == str(other)
    return bool(one == other)
