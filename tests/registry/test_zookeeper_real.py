"""The engine of ZooKeeper, with a real server: a child process, which all of these tests share."""

from __future__ import annotations

import signal
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx.registry import Provider, RecordError, RegistryError
from getty_tx.registry.registry import Registry
from getty_tx.registry.zookeeper import ZooKeeperEngine
from tests.support.certificates import Authority
from tests.support.zookeeper import HOST, ZooKeeper, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_numbers = count(1)

PROVIDER = Provider("echo", "tcp:10.0.0.5:8090", "a/b", meta={"colour": "blue"})
NODE = "a%2Fb"


class Noted:
    """Notes what an engine says of itself and of records."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.records: dict[str, Any] = {}
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def _note(self, *what: Any) -> None:
        self.log.append(what)
        for each in [each for each in self._waiting if each[0]()]:
            self._waiting.remove(each)
            each[1].callback(None)

    def take(self) -> list[tuple[Any, ...]]:
        """What was noted since."""
        log, self.log = self.log, []
        return log

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires as soon as it is true."""
        fired: Deferred[None] = Deferred()
        if condition():
            fired.callback(None)
        else:
            self._waiting.append((condition, fired))
        return fired

    def said(self, name: str) -> Deferred[None]:
        """Fires when it was noted, and not taken."""
        return self.when(lambda: any(each[0] == name for each in self.log))

    def engineConnected(self) -> None:
        self._note("connected")

    def engineDisconnected(self, error: BaseException) -> None:
        self._note("disconnected", str(error))

    def recordsLost(self) -> None:
        self._note("lost")

    def recordsAre(self, records: Mapping[str, Any]) -> None:
        self.records = dict(records)
        self._note("are", dict(records))

    def recordsChanged(self, written: Mapping[str, Any], gone: Collection[str]) -> None:
        assert not written.keys() & set(gone)
        self.records.update(written)
        for key in gone:
            del self.records[key]
        self._note("changed", dict(written), list(gone))

    def interrupted(self, error: BaseException) -> None:
        self._note("interrupted")

    def resumed(self) -> None:
        self._note("resumed")


class ServerCase(TestCase):
    """A root of its own in the shared server, and engines that are stopped at the end."""

    timeout = 60
    server: ZooKeeper

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = shared()
        self.prefix = f"/test{next(_numbers)}"
        self.engines: list[ZooKeeperEngine] = []
        self.addCleanup(self.stop)
        await self.serving()

    async def serving(self) -> None:
        """Wait until the server answers."""
        while not await deferToThread(self.server.isServing):
            await deferLater(reactor, 0.05)

    async def stop(self) -> None:
        """Stop all; kazoo's threads are gone then."""
        await gatherResults([each.stop() for each in self.engines])
        for thread in threading.enumerate():
            if thread.name == "getty_tx zookeeper":
                thread.join(5)
                self.assertFalse(thread.is_alive(), thread)

    def engine(self, noted: Noted | None = None, timeout: float = 10, **settings: Any) -> ZooKeeperEngine:
        """An engine that is started."""
        engine = ZooKeeperEngine([(HOST, self.server.port)], prefix=self.prefix, timeout=timeout, **settings)
        self.engines.append(engine)
        engine.start(reactor, noted or Noted())
        return engine

    async def connected(self, **settings: Any) -> tuple[ZooKeeperEngine, Noted]:
        """One that is connected and watches ``echo``."""
        noted = Noted()
        engine = self.engine(noted, **settings)
        engine.watch("echo", noted)
        await noted.said("are")
        noted.take()
        return engine, noted

    async def kazoo(self, function: Callable[[Any], Any], **settings: Any) -> Any:
        """Do something with a client of kazoo, as somebody else would."""

        def act() -> Any:
            client = KazooClient(f"{HOST}:{self.server.port}", **settings)
            client.start()
            try:
                return function(client)
            finally:
                client.stop()
                client.close()

        return await deferToThread(act)

    async def abandon(self, engine: ZooKeeperEngine) -> None:
        """As if its process had been killed: the session goes on until its time-out."""
        self.engines.remove(engine)
        connection = engine._connection
        assert connection is not None
        client = connection._client
        connection._isClosed = True
        client._stopped.set()
        client._connection._socket.shutdown(2)
        engine._connection = None
        await engine.stop()
        await deferToThread(client._safe_close)
        await deferToThread(client.close)


class RecordTests(ServerCase):
    async def test_written(self) -> None:
        """Written, seen, changed, seen, deleted, seen."""
        engine, noted = await self.connected()
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        self.assertIn(b'"colour":"blue"', noted.records[NODE])
        self.assertEqual(await engine.missing([PROVIDER]), [])
        leaving = PROVIDER.but(state="leaving", weight=0)
        await engine.put(leaving)
        await noted.when(lambda: b"leaving" in noted.records[NODE])
        self.assertEqual(await engine.missing([leaving]), [])
        self.assertEqual(await engine.read("echo"), {("echo", NODE): noted.records[NODE]})
        await engine.delete(leaving)
        await noted.when(lambda: not noted.records)
        self.assertEqual(await engine.read(None), {})
        self.assertEqual(await engine.read("other"), {})

    async def test_stopped(self) -> None:
        """All that was written goes with the session."""
        _, noted = await self.connected()
        second = Noted()
        other = self.engine(second)
        providers = [PROVIDER.but(id=str(number)) for number in range(5)]
        await second.said("connected")
        await gatherResults([other.put(each) for each in providers])
        await noted.when(lambda: len(noted.records) == 5)
        await other.stop()
        await noted.when(lambda: not noted.records)
        self.assertEqual(noted.log[-1][0], "changed")
        other.start(reactor, second)

    async def test_otherServices(self) -> None:
        engine, noted = await self.connected()
        await engine.put(Provider("a/b ü", "tcp:h:1"))
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        self.assertEqual(list(noted.records), [NODE])
        self.assertEqual(sorted(await engine.read(None)), [("a/b ü", "tcp%3Ah%3A1"), ("echo", NODE)])

    async def test_deletedByHand(self) -> None:
        engine, noted = await self.connected()
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        await self.kazoo(lambda client: client.delete(f"{self.prefix}/echo/{NODE}"))
        await noted.when(lambda: not noted.records)
        self.assertEqual(await engine.missing([PROVIDER]), [PROVIDER])
        await engine.put(PROVIDER)
        self.assertEqual(await engine.missing([PROVIDER]), [])
        await self.kazoo(lambda client: client.set(f"{self.prefix}/echo/{NODE}", b"{}"))
        self.assertEqual(await engine.missing([PROVIDER]), [PROVIDER])

    async def test_deletedAbove(self) -> None:
        """The service's node goes and comes: it is followed on."""
        engine, noted = await self.connected()
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        await self.kazoo(lambda client: client.delete(f"{self.prefix}/echo", recursive=True))
        await noted.when(lambda: not noted.records)
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))

    async def test_deletedAndCreated(self) -> None:
        """In one transaction: the list stays, the data is another, and watched."""
        engine, noted = await self.connected()
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        path = f"{self.prefix}/echo/{NODE}"

        def replace(client: Any) -> None:
            transaction = client.transaction()
            transaction.delete(path)
            transaction.create(path, b"1")
            transaction.commit()

        await self.kazoo(replace)
        await noted.when(lambda: noted.records[NODE] == b"1")
        await self.kazoo(lambda client: client.set(path, b"2"))
        await noted.when(lambda: noted.records[NODE] == b"2")
        # Nobody's session owns it: what is written here replaces it, and is deleted.
        await engine.delete(PROVIDER)
        await engine.put(PROVIDER)
        await noted.when(lambda: noted.records.get(NODE, b"2") != b"2")
        await engine.delete(PROVIDER)
        await noted.when(lambda: not noted.records)

    async def test_many(self) -> None:
        engine, noted = await self.connected()
        other = self.engine()
        second = Noted()
        other.watch("echo", second)
        providers = [PROVIDER.but(id=str(number)) for number in range(2000)]
        await gatherResults([engine.put(each) for each in providers])
        await noted.when(lambda: len(noted.records) == 2000)
        await second.when(lambda: len(second.records) == 2000)
        second.take()
        await engine.delete(providers[7])
        await second.when(lambda: len(second.records) == 1999)
        self.assertEqual(second.take(), [("changed", {}, ["7"])])
        self.assertEqual(await engine.missing(providers[5:9]), [providers[7]])

    async def test_host(self) -> None:
        self.assertEqual(await self.engine().hostTowards(), HOST)

    async def test_registry(self) -> None:
        """Under the rules of a registry."""
        noted = Noted()
        registry = Registry(ZooKeeperEngine([(HOST, self.server.port)], prefix=self.prefix, layout="dubbo"))
        registry.startService()
        provider = Provider("com.foo.Bar", "tcp:10.0.0.5:8090")
        await registry.register(provider).whenRegistered()

        class Follower:
            def providersChanged(self, added: Any, removed: Any, changed: Any) -> None:
                noted._note("added", [each.id for each in added])

        registry.follow("com.foo.Bar", Follower())  # type: ignore[arg-type]
        await noted.said("added")
        self.assertEqual(noted.log, [("added", [provider.id])])
        await registry.stopService()


class SessionTests(ServerCase):
    async def test_expired(self) -> None:
        """Records are gone and said to be; the list is followed in the new session."""
        engine, noted = await self.connected()
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        noted.take()
        assert engine._connection is not None
        await self.kazoo(lambda client: None, client_id=engine._connection._client.client_id)
        await noted.said("lost")
        await noted.when(lambda: not noted.records)
        self.assertEqual(
            [each[0] for each in noted.take()], ["interrupted", "disconnected", "connected", "lost", "are"]
        )
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        self.assertEqual(await engine.missing([PROVIDER]), [])

    async def test_startedAgainAtOnce(self) -> None:
        """Within the time-out of its old session: one record, which the new session owns."""
        for layout in ("getty", "dubbo"):
            old, _ = await self.connected(timeout=30, layout=layout)
            await old.put(PROVIDER)
            await self.abandon(old)
            new, noted = await self.connected(timeout=30, layout=layout)
            self.assertEqual(len(await new.read("echo")), 1)
            await new.put(PROVIDER)
            self.assertEqual(await new.missing([PROVIDER]), [])
            directory = new._layout.directory("echo")

            def owners(client: Any, directory: str = directory) -> list[int]:
                return [client.exists(f"{directory}/{each}").ephemeralOwner for each in client.get_children(directory)]

            assert new._connection is not None
            self.assertEqual(await self.kazoo(owners), [new._connection.sessionId])
            await noted.when(lambda: len(noted.records) == 1)  # noqa: B023
            await new.delete(PROVIDER)
            await noted.when(lambda: not noted.records)  # noqa: B023

    async def test_oldOneStopsLast(self) -> None:
        """Two with the same id: the record of the newer one survives."""
        old, _ = await self.connected()
        await old.put(PROVIDER)
        new, _ = await self.connected()
        await new.put(PROVIDER.but(weight=7))
        await old.delete(PROVIDER)
        await old.stop()
        self.assertEqual(await new.missing([PROVIDER]), [])
        self.assertEqual(len(await new.read("echo")), 1)

    async def test_killed(self) -> None:
        """The server is killed and comes back with its data: nothing is lost, changes are seen."""
        engine, noted = await self.connected(timeout=12)
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        noted.take()
        self.server.kill()
        await noted.said("disconnected")
        self.failureResultOf(engine.put(PROVIDER), RegistryError)
        self.assertEqual(len(noted.records), 1)
        self.server.start()
        await noted.said("are")
        self.assertEqual([each[0] for each in noted.take()], ["interrupted", "disconnected", "connected", "are"])
        self.assertEqual(await engine.missing([PROVIDER]), [])
        await engine.put(PROVIDER.but(weight=1))
        await noted.when(lambda: b'"weight":1' in noted.records[NODE])

    async def test_wiped(self) -> None:
        """It comes back without its data, and refuses the old session without a word."""
        engine, noted = await self.connected(timeout=1)
        for weight in range(20):
            await engine.put(PROVIDER.but(weight=weight))
        await noted.when(lambda: bool(noted.records))
        noted.take()
        self.server.kill()
        self.server.wipe()
        self.server.start()
        await noted.said("lost")
        await noted.when(lambda: not noted.records)
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))

    async def test_stands(self) -> None:
        """A server that does not answer is noticed within the session's time-out."""
        engine, noted = await self.connected(timeout=1)
        self.server.signal(signal.SIGSTOP)
        try:
            await noted.said("interrupted")
            stopped = engine.stop()
        finally:
            self.server.signal(signal.SIGCONT)
        await stopped

    async def test_away(self) -> None:
        """Nobody listens there: it is said, once, and tried again."""
        self.server.kill()
        noted = Noted()
        engine = self.engine(noted)
        await noted.said("disconnected")
        self.assertIn("refused", noted.log[0][1])
        self.server.start()
        await noted.said("connected")
        self.assertEqual(len(noted.log), 2)
        await engine.put(PROVIDER)


class DubboTests(ServerCase):
    async def test_written(self) -> None:
        """The name changes with the weight; the old node goes."""
        engine, noted = await self.connected(layout="dubbo")
        provider = PROVIDER.but(meta={"methods": "a,b"})
        await engine.put(provider)
        await noted.when(lambda: bool(noted.records))
        await engine.put(provider.but(weight=7))
        await noted.when(lambda: noted.records["tcp:10.0.0.5:8090"].weight == 7)
        names = await self.kazoo(lambda client: client.get_children(f"{self.prefix}/echo/providers"))
        self.assertEqual(len(names), 1)
        self.assertIn("weight%3D7", names[0])
        self.assertEqual(await engine.missing([provider]), [])
        await engine.delete(provider)
        await noted.when(lambda: not noted.records)

    async def test_others(self) -> None:
        """Those that others write are found; what is none is passed over or named."""
        engine, noted = await self.connected(layout="dubbo")
        directory = f"{self.prefix}/echo/providers"
        for name in (
            "dubbo%3A%2F%2F10.0.0.9%3A20880%2Fecho%3Finterface%3Decho%26side%3Dprovider",
            "dubbo%3A%2F%2F10.0.0.8%3A20880%2Fecho%3Finterface%3Decho%26enabled%3Dfalse",
            "rubbish",
        ):
            await self.kazoo(lambda client, name=name: client.create(f"{directory}/{name}", makepath=True))
        await noted.when(lambda: len(noted.records) == 2)
        self.assertEqual(noted.records["tcp:10.0.0.9:20880"].endpoint, "tcp:10.0.0.9:20880")
        self.assertIsInstance(noted.records["rubbish"], RecordError)
        self.assertEqual(len(await engine.read(None)), 2)

    async def test_kinds(self) -> None:
        engine, _ = await self.connected(layout="dubbo")
        await self.assertFailure(engine.put(PROVIDER.but(endpoint="ws:h:1")), RegistryError)


class AccessTests(ServerCase):
    async def test_password(self) -> None:
        """What is written with a password is not there for others."""
        path = Path(self.mktemp())
        path.write_text("secret\n")
        engine, noted = await self.connected(user="me", passwordFile=str(path))
        self.assertNotIn("secret", repr(engine._settings))
        await engine.put(PROVIDER)
        await noted.when(lambda: bool(noted.records))
        other = Noted()
        stranger = self.engine(other)
        await other.said("connected")
        stranger.watch("echo", other)
        await other.said("interrupted")
        await self.assertFailure(stranger.put(PROVIDER), RegistryError)


class TLSTests(ServerCase):
    async def setUp(self) -> None:  # type: ignore[override]
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        pem = Path(self.mktemp()).absolute()
        pem.write_text(Path(key).read_text() + Path(certificate).read_text() + Path(authority.path).read_text())
        self.trusted = authority.path
        self.server = ZooKeeper(str(pem))
        self.addCleanup(self.server.remove)
        self.server.start()
        self.prefix = "/tls"
        self.engines = []
        self.addCleanup(self.stop)
        await self.serving()

    async def test_connects(self) -> None:
        """To a host that the certificate is for, and no other."""
        for host, said in (("localhost", "connected"), (HOST, "disconnected")):
            noted = Noted()
            engine = ZooKeeperEngine([(host, self.server.securePort)], trustRoots=self.trusted, prefix=self.prefix)
            self.engines.append(engine)
            engine.start(reactor, noted)
            await noted.said(said)
            if said == "disconnected":
                self.assertIn("certificate", noted.log[0][1])
                break
            engine.watch("echo", noted)
            await gatherResults([engine.put(PROVIDER.but(id=str(number))) for number in range(300)])
            await noted.when(lambda: len(noted.records) == 300)  # noqa: B023
