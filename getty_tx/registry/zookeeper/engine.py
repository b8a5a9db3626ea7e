"""What writes, deletes, checks and reads records in ZooKeeper."""

from __future__ import annotations

import time
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.defer import Deferred, DeferredLock, gatherResults, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.interfaces import IEngine
from getty_tx.registry.towards import hostTowards, isLoopback
from getty_tx.registry.zookeeper.dubbo import DubboLayout
from getty_tx.registry.zookeeper.layout import GettyLayout
from getty_tx.registry.zookeeper.settings import ClientSettings, credentialsOf, rootOf, tlsContext
from getty_tx.registry.zookeeper.threads import (
    BadVersion,
    Connection,
    NodeExists,
    NoNode,
    findKazoo,
)
from getty_tx.registry.zookeeper.watching import CHUNK, Watching, readNodes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from getty_tx.registry.interfaces import IEngineUser, IRecordSink
    from getty_tx.registry.provider import Provider
    from getty_tx.registry.zookeeper.layout import Layout

__all__ = ["ZooKeeperEngine"]

#: Seconds of an outage after which lists wait up to so many seconds more: all clients come back at once.
OUTAGE, SPREAD = 5.0, 2.0

#: After so many time-outs without a connection the session is given up. A server that was set up anew refuses for ever
#: whoever has seen more of its predecessor, and never says that the session is over.
PATIENCE = 2

#: How often a node is tried that others write and delete meanwhile.
TRIES = 5


@implementer(IEngine)
class ZooKeeperEngine:
    """
    Records are nodes that end with the session of their writer (*ephemeral* ones).

    :param endpoints: hosts and ports of the servers.
    :param prefix: the node above all services; ``None``: ``/getty``, or ``/dubbo`` in Dubbo's layout.
    :param layout: ``"getty"``, or ``"dubbo"``: providers of Dubbo and dubbo-go are found, and find these.
    :param timeout: seconds of the session: so long after a process has died its records are there. The server allows 2
        to 20 of its ticks, 4 to 40 s unless it is configured. Each request has as long.
    :param user: with the password in the file: who reads and writes (the scheme *digest*). Nobody else may read or
        write what is created.
    :param passwordFile: the path of a file whose first line is the password.
    :param trustRoots: a PEM file, or a directory of ``.pem`` files: for TLS, instead of the platform's authorities.
    :param certificate: a PEM file with the certificate to show, and
    :param privateKey: one with its key, if it is another file.
    :param tls: use TLS; so does each of the three before. The certificate has to be valid for the host as it is named.
    :raise SettingError: a value is invalid, a file cannot be read, or kazoo is not installed.
    """

    isReadOnly = False

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        *,
        prefix: str | None = None,
        layout: Literal["getty", "dubbo"] = "getty",
        timeout: float = 10.0,
        user: str | None = None,
        passwordFile: str | None = None,
        trustRoots: str | None = None,
        certificate: str | None = None,
        privateKey: str | None = None,
        tls: bool = False,
    ) -> None:
        findKazoo()
        if not endpoints:
            raise SettingError("zookeeper: needs a host: zookeeper:127.0.0.1:2181")
        if layout not in ("getty", "dubbo"):
            raise SettingError(f"layout={layout!r} is neither 'getty' nor 'dubbo'")
        if not 0 < timeout <= 3600:
            raise SettingError(f"timeout={timeout!r} is not a number of seconds up to 3600")
        if privateKey is not None and certificate is None:
            raise SettingError(f"privateKey={privateKey!r} needs certificate=")
        root = rootOf(prefix, layout)
        self._layout: Layout = GettyLayout(root) if layout == "getty" else DubboLayout(root, int(time.time() * 1000))
        context = None
        if tls or trustRoots is not None or certificate is not None:
            context = tlsContext(trustRoots, certificate, privateKey)
        self._settings = ClientSettings(tuple(endpoints), timeout, context, credentialsOf(user, passwordFile))
        self.isLocal = all(isLoopback(host) for host, _ in endpoints)
        self.name = "zookeeper:" + ",".join(f"{host}:{port}" for host, port in endpoints)
        self.hasStates = self._layout.hasStates
        self.leaveTime = self._layout.leaveTime
        self.kinds = self._layout.kinds
        self._random = Random()
        self._reactor: Any = None
        self._user: IEngineUser | None = None
        self._watches: list[Watching] = []
        self._calls: dict[str, Any] = {}
        self._turns: dict[tuple[str, str], DeferredLock] = {}
        self._connection: Connection | None = None
        self._closing: list[Deferred[None]] = []
        self._reset()

    def _reset(self) -> None:
        self._backoff = Backoff()
        self._isConnected = False
        self._downSince: float | None = None
        # Whether there has been a session; whether it has ended; whether the user knows that there is no connection.
        self._hadSession = self._isLost = self._isTold = False
        # The nodes of this session by service and id: paths, and versions as last written.
        self._written: dict[tuple[str, str], tuple[str, int]] = {}
        # Directories that are there, and those that are being made, with what goes wrong.
        self._made: set[str] = set()
        self._making: dict[str, Deferred[BaseException | None]] = {}

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        self._reactor = reactor
        self._user = user
        self._reset()
        self._later("answer", self._settings.timeout, self._unanswered)
        self._connect()

    def stop(self) -> Deferred[None]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        connection, self._connection, self._user = self._connection, None, None
        for name in list(self._calls):
            self._cancel(name)
        for each in list(self._watches):
            each.stop()
        self._reset()
        if connection is not None:
            self._close(connection)
        return gatherResults([_also(each) for each in self._closing]).addCallback(lambda _: None)

    def put(self, provider: Provider) -> Deferred[None]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        return self._inTurn(provider, self._put)

    def delete(self, provider: Provider) -> Deferred[None]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        return self._inTurn(provider, self._delete)

    def missing(self, providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        return Deferred.fromCoroutine(self._missing(list(providers)))

    def watch(self, service: str, sink: IRecordSink) -> Watching:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        watching = Watching(self._layout, service, sink, self._forget)
        self._watches.append(watching)
        if self._isConnected and self._connection is not None:
            watching.connected(self._reactor, self._connection)
        return watching

    def _forget(self, watching: Watching) -> None:
        if watching in self._watches:
            self._watches.remove(watching)

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Provider | bytes]]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        return Deferred.fromCoroutine(self._read(service))

    def hostTowards(self) -> Deferred[str]:
        """See :py:class:`~getty_tx.registry.interfaces.IEngine`."""
        if self._reactor is None:
            return succeed("")
        return hostTowards(self._reactor, self._settings.endpoints)

    # What the connection says, on the reactor's thread.

    def connectionState(self, connection: Connection, state: str) -> None:
        """See :py:class:`~getty_tx.registry.zookeeper.threads.Owner`."""
        if connection is not self._connection:
            return
        if state == "CONNECTED":
            self._connected(connection)
            return
        if state == "LOST":
            self._sessionOver()
        self._disconnected(RegistryError(f"the {'session' if state == 'LOST' else 'connection'} is lost"))

    def connectionFailed(self, connection: Connection, error: Exception) -> None:
        """See :py:class:`~getty_tx.registry.zookeeper.threads.Owner`."""
        if connection is self._connection and not self._isConnected:
            self._tell(error)

    def connectionEnded(self, connection: Connection, error: Exception | None) -> None:
        """See :py:class:`~getty_tx.registry.zookeeper.threads.Owner`."""
        if connection is self._connection:
            self._sessionOver()
            self._disconnected(RegistryError(f"the connection has ended: {error or 'it was refused'}"))
            self._later("again", self._backoff.next(), self._reconnect)

    def _connect(self) -> None:
        self._connection = Connection(self._reactor, self._settings, self)
        self._connection.start()

    def _reconnect(self) -> None:
        """Begin with a new session."""
        old = self._connection
        self._sessionOver()
        self._cancel("patience")
        self._cancel("again")
        self._connect()
        if old is not None:
            self._close(old)

    def _close(self, connection: Connection) -> None:
        closed = connection.close()
        if not closed.called:
            self._closing.append(closed)
            closed.addCallback(lambda _: self._closing.remove(closed))

    def _sessionOver(self) -> None:
        self._isLost = self._hadSession
        self._written.clear()
        self._made.clear()

    def _connected(self, connection: Connection) -> None:
        if self._isConnected or self._user is None:
            return
        for name in list(self._calls):
            self._cancel(name)
        away = 0.0 if self._downSince is None else self._reactor.seconds() - self._downSince
        isLost, self._isLost, self._isConnected, self._hadSession, self._isTold = self._isLost, False, True, True, False
        self._backoff.reset()
        user = self._user
        user.engineConnected()
        if isLost and self._user is user:
            user.recordsLost()
        for each in list(self._watches):
            if self._connection is connection:
                each.connected(self._reactor, connection, self._random.uniform(0, SPREAD) if away > OUTAGE else 0.0)

    def _disconnected(self, error: Exception) -> None:
        if self._isConnected:
            self._isConnected = False
            self._downSince = self._reactor.seconds()
            self._later("patience", PATIENCE * self._settings.timeout, self._reconnect)
            for each in list(self._watches):
                each.disconnected(error)
        self._tell(error)

    def _unanswered(self) -> None:
        self._tell(RegistryError(f"no answer within {self._settings.timeout:g} s"))

    def _tell(self, error: Exception) -> None:
        """Once an outage."""
        if self._user is not None and not self._isTold:
            self._isTold = True
            self._user.engineDisconnected(error)

    def _later(self, name: str, seconds: float, function: Callable[[], None]) -> None:
        self._cancel(name)

        def call() -> None:
            del self._calls[name]
            function()

        self._calls[name] = self._reactor.callLater(seconds, call)

    def _cancel(self, name: str) -> None:
        if name in self._calls:
            self._calls.pop(name).cancel()

    # Requests.

    def _ready(self) -> Connection:
        if self._connection is None or not self._isConnected:
            raise RegistryError(f"{self.name} is not connected")
        return self._connection

    def _inTurn(self, provider: Provider, act: Callable[[Provider], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """One act after the other on one record: each is several requests."""
        key = (provider.service, provider.id)
        lock = self._turns.setdefault(key, DeferredLock())
        done: Deferred[None] = lock.run(lambda: Deferred.fromCoroutine(act(provider)))

        def over(outcome: Any) -> Any:
            if not lock.locked and not lock.waiting:
                self._turns.pop(key, None)
            return outcome

        return done.addBoth(over)

    async def _put(self, provider: Provider) -> None:
        connection = self._ready()
        try:
            name, data = self._layout.node(provider)
        except SettingError as error:
            raise RegistryError(str(error)) from None
        directory = self._layout.directory(provider.service)
        path = f"{directory}/{name}"
        for _ in range(TRIES):
            await self._ensure(connection, directory)
            version = await self._write(connection, path, data)
            if version is not None:
                break
        else:
            raise RegistryError(f"{path} is written and deleted by others all the time")
        if connection is self._connection:
            self._written[provider.service, provider.id] = (path, version)
        if not self._layout.hasData:
            # What was written for it before has another name.
            names = await connection.ask("get_children", directory)
            for each in self._layout.sameProvider(provider.service, names, provider):
                if each != name:
                    await self._discard(connection, f"{directory}/{each}", -1)

    async def _write(self, connection: Connection, path: str, data: bytes) -> int | None:
        """The node's version; ``None`` if somebody was quicker."""
        try:
            await connection.ask("create", path, data, ephemeral=True)
            return 0
        except NodeExists:
            pass
        except NoNode:
            self._made.discard(path.rpartition("/")[0])
            return None
        stat = await connection.ask("exists", path)
        if stat is None:
            return None
        if stat.ephemeralOwner != connection.sessionId:
            # Of a session that is not over yet, perhaps of this very program before it was started anew. If the node
            # were only written, it would end with that session.
            await self._discard(connection, path, stat.version)
            return None
        try:
            stat = await connection.ask("set", path, data)
        except NoNode:
            return None
        return int(stat.version)

    async def _ensure(self, connection: Connection, directory: str) -> None:
        """Make a directory, once for all that wait for it."""
        if directory in self._made:
            return
        making = self._making.get(directory)
        if making is None:

            def over(outcome: Any) -> BaseException | None:
                self._making.pop(directory, None)
                if isinstance(outcome, Failure):
                    return outcome.value
                self._made.add(directory)
                return None

            making = Deferred.fromCoroutine(self._makeDirectory(connection, directory)).addBoth(over)
            if not making.called:
                self._making[directory] = making
        error = await _also(making)
        if error is not None:
            raise error

    async def _makeDirectory(self, connection: Connection, directory: str) -> None:
        parts = directory.split("/")
        for end in range(2, len(parts) + 1):
            path = "/".join(parts[:end])
            with suppress(NodeExists):
                if await connection.ask("exists", path) is None:
                    await connection.ask("create", path, b"")

    async def _discard(self, connection: Connection, path: str, version: int) -> None:
        with suppress(BadVersion, NoNode):
            await connection.ask("delete", path, version)

    async def _delete(self, provider: Provider) -> None:
        key = (provider.service, provider.id)
        if key not in self._written:
            return
        connection = self._ready()
        path, _ = self._written[key]
        for _ in range(TRIES):
            stat = await connection.ask("exists", path)
            if stat is None or stat.ephemeralOwner != connection.sessionId:
                break
            try:
                await connection.ask("delete", path, stat.version)
                break
            except NoNode:
                break
            except BadVersion:
                continue
        self._written.pop(key, None)

    async def _missing(self, providers: Sequence[Provider]) -> Collection[Provider]:
        connection = self._ready()
        missing = []
        for at in range(0, len(providers), CHUNK):
            chunk = providers[at : at + CHUNK]
            found = await gatherResults(
                [maybeDeferred(self._isThere, connection, each) for each in chunk], consumeErrors=True
            )
            missing += [each for each, isThere in zip(chunk, found, strict=True) if not isThere]
        return missing

    def _isThere(self, connection: Connection, provider: Provider) -> Deferred[bool]:
        path, version = self._written.get((provider.service, provider.id), ("", 0))
        if not path:
            return succeed(False)

        def check(stat: Any) -> bool:
            return stat is not None and stat.ephemeralOwner == connection.sessionId and stat.version == version

        return connection.ask("exists", path).addCallback(check)

    async def _read(self, service: str | None) -> Mapping[tuple[str, str], Any]:
        connection = self._ready()
        found: dict[tuple[str, str], Any] = {}
        if service is not None:
            services = [service]
        else:
            services = [self._layout.serviceOf(each) for each in await _children(connection, self._layout.root)]
        for each in services:
            names = await _children(connection, self._layout.directory(each))
            nodes: dict[str, Any] = {}
            for at in range(0, len(names), CHUNK):
                nodes |= await readNodes(connection, self._layout, each, names[at : at + CHUNK])
            found |= {(each, key): record for key, record in self._layout.records(each, nodes).items()}
        return found


def _also(done: Deferred[Any]) -> Deferred[Any]:
    """Fires as another Deferred does, and leaves its result to others."""
    also: Deferred[Any] = Deferred()

    def fired(outcome: Any) -> Any:
        also.callback(outcome)
        return outcome

    done.addCallback(fired)
    return also


async def _children(connection: Connection, path: str) -> list[str]:
    try:
        return sorted(await connection.ask("get_children", path))
    except NoNode:
        return []
