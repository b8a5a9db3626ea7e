"""The engine: records in etcd, on one lease."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.etcd.connections import Connections, Endpoint
from getty_tx.registry.etcd.http import Gateway
from getty_tx.registry.etcd.lease import STATUS_TIMEOUT, Lease, Pulse
from getty_tx.registry.etcd.ranges import Place, encode64, listed
from getty_tx.registry.etcd.refusals import NOT_FOUND, RefusedError
from getty_tx.registry.etcd.watch import Watch
from getty_tx.registry.interfaces import IEngine
from getty_tx.registry.provider import KINDS, encodeRecord
from getty_tx.registry.towards import hostTowards, isLoopback
from getty_tx.tls import clientPolicy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from getty_tx.registry.interfaces import IEngineUser, IRecordSink
    from getty_tx.registry.provider import Provider

__all__ = ["LEAST_TTL", "STOP_TIME", "EtcdEngine"]

T = TypeVar("T")

#: Seconds of etcd's shortest lease.
LEAST_TTL = 2.0

#: Seconds that a stop waits for etcd to take the lease back.
STOP_TIME = 3.0


@implementer(IEngine)
class EtcdEngine:
    """
    Records in etcd, by its JSON gateway.

    :param endpoints: hosts and ports of one cluster.
    :param prefix: what the keys of all records begin with: ``/getty/echo/`` and so on.
    :param ttl: seconds for which records outlive a process that has died. Renewed after a third of it.
    :param user: who authenticates, with ``password`` or the first line of ``passwordFile``, read at the start.
    :param trustRoots: a PEM file with the certificates of the authorities to trust; it switches TLS on.
    :param certificate: a PEM file with the certificate to show, and ``privateKey`` the one with its key.
    :param tls: True for TLS with the authorities of the platform.
    :param connectTimeout: seconds that connecting may take.
    :param clock: for times; by default the reactor.
    :param random: draws the waits.
    :param connections: makes the connections; for tests.
    :raise SettingError: a value is invalid, or a file of TLS cannot be used.
    """

    isReadOnly = False
    hasStates = True
    leaveTime = 1.0
    kinds = KINDS

    def __init__(
        self,
        endpoints: Sequence[tuple[str, int]],
        *,
        prefix: str = "/getty",
        ttl: float = 15.0,
        user: str | None = None,
        password: str | None = None,
        passwordFile: str | os.PathLike[str] | None = None,
        trustRoots: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        privateKey: str | os.PathLike[str] | None = None,
        tls: bool = False,
        connectTimeout: float = 5.0,
        clock: Any = None,
        random: Random | None = None,
        connections: Callable[[Any, Sequence[Endpoint], float], Any] = Connections,
    ) -> None:
        if not endpoints:
            raise SettingError("endpoints: give at least one host with its port, such as 127.0.0.1:2379")
        if not prefix.startswith("/") or prefix.endswith("/") or "//" in prefix or not prefix.isprintable():
            raise SettingError(f"prefix={prefix!r} has to begin with a slash, and not to end with one: '/getty'")
        if not LEAST_TTL <= ttl <= 3600:
            raise SettingError(f"ttl={ttl!r} is not a number of seconds from {LEAST_TTL:g} to 3600")
        if not connectTimeout > 0:
            raise SettingError(f"connectTimeout={connectTimeout!r} is not a positive number of seconds")
        if password is not None and passwordFile is not None:
            raise SettingError("password and passwordFile: give one of them")
        if (user is None) != (password is None and passwordFile is None):
            raise SettingError(f"user={user!r}: a user needs a password, and a password a user: set passwordFile=")
        hasTLS = tls or trustRoots is not None or certificate is not None or privateKey is not None
        self._endpoints = []
        for host, port in endpoints:
            policy = None
            if hasTLS:
                policy = clientPolicy(host, trustRoot=trustRoots, certificate=certificate, privateKey=privateKey)
            self._endpoints.append(Endpoint(host, port, policy))
        self.name = "etcd:" + ",".join(each.address for each in self._endpoints)
        self.isLocal = all(isLoopback(each.host) for each in self._endpoints)
        self._prefix = prefix
        self._ttl = float(ttl)
        self._user = user
        self._password = password
        self._passwordFile = passwordFile
        self._connectTimeout = connectTimeout
        self._clock = clock
        self._random = Random() if random is None else random
        self._connections = connections
        self._reactor: Any = None
        self._gateway: Gateway | None = None
        self._lease: Lease | None = None
        self._pulse: Pulse | None = None
        self._watches: list[Watch] = []
        self._told: Any = None
        self._isConnected = False

    def __repr__(self) -> str:
        return f"<EtcdEngine {self.name}>"

    # Start and stop

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """
        Begin. It may be started again after it was stopped.

        :raise SettingError: the passwordFile cannot be read.
        """
        if self._gateway is not None:
            raise RegistryError(f"{self.name} is started already")
        password = self._password if self._passwordFile is None else _firstLine(self._passwordFile)
        self._reactor = reactor
        self._told = user
        self._isConnected = False
        self._gateway = gateway = Gateway(
            self._connections(reactor, self._endpoints, self._connectTimeout),
            self._endpoints,
            reactor if self._clock is None else self._clock,
            timeout=min(STATUS_TIMEOUT, self._ttl / 3),
            user=self._user,
            password=password,
            prefix=self._prefix,
            changed=lambda error: self._changed(gateway, error),
        )
        self._lease = Lease(gateway, self._ttl, self._again, user.recordsLost)
        self._pulse = Pulse(gateway, self._lease, self._random)
        self._pulse.start()

    def stop(self) -> Deferred[None]:
        """Give up watches, the lease and with it all records written here, and the connections."""
        gateway = self._gateway
        if gateway is None:
            return succeed(None)
        for watch in list(self._watches):
            watch.stop()
        lease, pulse = self._lease, self._pulse
        assert lease is not None
        assert pulse is not None
        self._gateway = self._lease = self._pulse = None
        pulse.stop()
        revoking = Deferred.fromCoroutine(lease.revoke())
        late = gateway.clock.callLater(STOP_TIME, revoking.cancel)

        def revoked(_: Any) -> Deferred[None]:
            if late.active():
                late.cancel()
            return gateway.close()

        # What cannot be revoked ends with its time.
        return revoking.addErrback(lambda _: None).addCallback(revoked)

    def _changed(self, gateway: Gateway, error: BaseException | None) -> None:
        if self._gateway is not gateway:
            return
        wasConnected, self._isConnected = self._isConnected, error is None
        if error is None:
            self._told.engineConnected()
            return
        self._told.engineDisconnected(error)
        if wasConnected:
            self._again()

    def _again(self) -> None:
        if self._pulse is not None:
            self._pulse.again()

    # Records

    def put(self, provider: Provider) -> Deferred[None]:
        """Write the record of a provider, on the lease."""
        return self._do(self._put, provider)

    async def _put(self, gateway: Gateway, lease: Lease, provider: Provider) -> None:
        key = encode64(Place.key(self._prefix, provider.service, provider.id))
        value = encode64(encodeRecord(provider))
        id = await lease.get()
        try:
            await gateway.call("kv/put", {"key": key, "value": value, "lease": id})
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise
            # It has ended, and with it the other records.
            lease.hasEnded(id)
            await gateway.call("kv/put", {"key": key, "value": value, "lease": await lease.get()})

    def delete(self, provider: Provider) -> Deferred[None]:
        """Delete the record, if it hangs on the lease of this engine."""
        return self._do(self._delete, provider)

    async def _delete(self, gateway: Gateway, lease: Lease, provider: Provider) -> None:
        if lease.id is None:
            return
        key = encode64(Place.key(self._prefix, provider.service, provider.id))
        mine = {"key": key, "target": "LEASE", "result": "EQUAL", "lease": lease.id}
        await gateway.call("kv/txn", {"compare": [mine], "success": [{"request_delete_range": {"key": key}}]})

    def missing(self, providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        """Those of them whose records do not hang on the lease of this engine."""
        return self._do(self._missing, providers)

    async def _missing(self, gateway: Gateway, lease: Lease, providers: Collection[Provider]) -> Collection[Provider]:
        keys = await lease.keys()
        return [each for each in providers if encode64(Place.key(self._prefix, each.service, each.id)) not in keys]

    def watch(self, service: str, sink: IRecordSink) -> Watch:
        """
        Report the service's records. Their keys are the ids, percent-encoded.

        :raise RegistryError: it is not started.
        """
        if self._gateway is None:
            raise RegistryError(f"{self.name} is not started")
        place = Place(self._prefix, service)
        watch = Watch(self._gateway, place, sink, self._random, self._prefix, self._watches.remove)
        self._watches.append(watch)
        watch.start()
        return watch

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Provider | bytes]]:
        """The records of one service or of all, by service and key."""
        return self._do(self._read, service)

    async def _read(self, gateway: Gateway, lease: Lease, service: str | None) -> Mapping[tuple[str, str], Any]:
        place = Place(self._prefix, service)
        name = place.split if service is None else lambda key: (service, place.name(key))
        _, records = await listed(gateway, place, name)
        return records

    def hostTowards(self) -> Deferred[str]:
        """This machine's address as seen on the way to the first endpoint that there is a way to."""
        if self._gateway is None:
            return succeed("")
        return hostTowards(self._reactor, [(each.host, each.port) for each in self._endpoints])

    def _do(self, work: Callable[..., Coroutine[Any, Any, T]], argument: Any) -> Deferred[T]:
        return Deferred.fromCoroutine(self._guarded(work, argument))

    async def _guarded(self, work: Callable[..., Coroutine[Any, Any, T]], argument: Any) -> T:
        """Whatever is wrong is a RegistryError."""
        if self._gateway is None:
            raise RegistryError(f"{self.name} is not started")
        try:
            return await work(self._gateway, self._lease, argument)
        except RegistryError:
            raise
        except CancelledError:
            if self._gateway is None:
                raise RegistryError("the registry was stopped") from None
            raise
        except Exception as error:
            raise RegistryError(f"{self.name}: {error}") from error


def _firstLine(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SettingError(f"passwordFile={str(path)!r} cannot be read: {error}") from error
