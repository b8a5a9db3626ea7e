"""The engine for etcd, with a real etcd."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from getty_tx.registry import Provider, RegistryError
from getty_tx.registry.etcd import EtcdEngine
from getty_tx.registry.provider import decodeRecord
from tests.support.certificates import Authority
from tests.support.etcd import SKIP, Cut, Etcd, text64
from tests.support.fakeetcd import RecordingSink, RecordingUser

reactor: Any = _reactor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "etcd.md"

PROVIDER = Provider("echo", "tcp:10.0.0.5:8090")
NAME = "tcp%3A10.0.0.5%3A8090"
KEY = f"/getty/echo/{NAME}"


class Scaled:
    """The reactor's time, so many times as fast: for what waits seconds."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def seconds(self) -> float:
        """Seconds."""
        return float(reactor.seconds() * self._factor)

    def callLater(self, delay: float, call: Any, *args: Any) -> Any:
        """Call it."""
        return reactor.callLater(delay / self._factor, call, *args)


class EtcdTestCase(TestCase):
    """An etcd, and engines."""

    timeout = 60
    skip = SKIP

    async def make(self, *more: str, **settings: Any) -> Etcd:
        """Start an etcd."""
        etcd = Etcd(self.mktemp(), *more, **settings)
        self.addCleanup(etcd.kill)
        await etcd.start()
        return etcd

    def engine(self, *ports: int, fast: float = 1.0, **settings: Any) -> EtcdEngine:
        """Start an engine."""
        endpoints = [("127.0.0.1", port) for port in ports]
        clock = Scaled(fast) if fast != 1.0 else None
        engine = EtcdEngine(endpoints, clock=clock, random=Random(2), **settings)
        self.user = RecordingUser()
        engine.start(reactor, self.user)
        self.addCleanup(engine.stop)
        return engine

    async def follow(self, engine: EtcdEngine) -> RecordingSink:
        """Follow the service."""
        sink = RecordingSink()
        engine.watch("echo", sink)
        await sink.when(lambda: "are" in sink.told)
        return sink

    async def until(self, condition: Any) -> None:
        """Wait until something is true of what nobody reports."""
        while not condition():
            await deferLater(reactor, 0.01)


class OneEtcdTests(EtcdTestCase):
    """What needs an etcd that runs all the time."""

    async def test_recordsAndWatches(self) -> None:
        """Put, list, watch, delete; a key deleted by hand, another's lease, a lease revoked; large changes; the end."""
        etcd = await self.make()
        engine = self.engine(etcd.port)
        sink = await self.follow(engine)
        self.assertEqual(sink.records, {})

        await engine.put(PROVIDER)
        await sink.when(lambda: NAME in sink.records)
        self.assertEqual(decodeRecord(sink.records[NAME], "echo"), PROVIDER)
        self.assertEqual(await engine.missing([PROVIDER, PROVIDER.but(id="x")]), [PROVIDER.but(id="x")])
        self.assertEqual(dict(await engine.read(None)), {("echo", NAME): sink.records[NAME]})
        self.assertEqual(await engine.hostTowards(), "127.0.0.1")

        # By hand.
        await etcd.call("kv/deleterange", {"key": text64(KEY)})
        await sink.when(lambda: NAME not in sink.records)
        self.assertEqual(await engine.missing([PROVIDER]), [PROVIDER])

        # Another one with this id has come after it.
        await engine.put(PROVIDER)
        other = self.engine(etcd.port)
        await other.put(PROVIDER.but(weight=7))
        self.assertEqual(await engine.missing([PROVIDER]), [PROVIDER])
        await engine.delete(PROVIDER)
        self.assertIn(KEY, await etcd.keys())
        await other.delete(PROVIDER)
        self.assertNotIn(KEY, await etcd.keys())
        await sink.when(lambda: NAME not in sink.records)

        # 128 operations, the most that a transaction may have.
        sink.changes.clear()
        operations = [
            {"request_put": {"key": text64(f"/getty/echo/{number:03}"), "value": text64("{}")}} for number in range(128)
        ]
        await etcd.call("kv/txn", {"success": operations})
        await sink.when(lambda: "127" in sink.records)
        self.assertEqual([len(written) for written, _ in sink.changes], [128])

        # Another client ends the lease.
        await engine.put(PROVIDER)
        leases = (await etcd.call("lease/leases", {}))["leases"]
        for each in leases:
            await etcd.call("lease/revoke", {"ID": each["ID"]})
        self.assertEqual(await engine.missing([PROVIDER]), [PROVIDER])
        await engine.put(PROVIDER)
        await sink.when(lambda: NAME in sink.records)

        # A list in pages.
        for part in range(10):
            operations = [
                {"request_put": {"key": text64(f"/getty/echo/{part}-{number}"), "value": text64("{}")}}
                for number in range(110)
            ]
            await etcd.call("kv/txn", {"success": operations})
        self.assertEqual(len(await engine.read("echo")), 1100 + 128 + 1)
        second = await self.follow(other)
        self.assertEqual(len(second.records), 1100 + 128 + 1)

        # The end takes its record away.
        await engine.stop()
        await second.when(lambda: NAME not in second.records)
        self.assertNotIn(KEY, await etcd.keys())
        self.assertRaises(RegistryError, engine.watch, "echo", sink)

    async def test_leaseEnds(self) -> None:
        """A lease that others have ended is noticed at the next renewal."""
        etcd = await self.make()
        engine = self.engine(etcd.port, fast=5, ttl=15)
        await engine.put(PROVIDER)
        [lease] = (await etcd.call("lease/leases", {}))["leases"]
        await etcd.call("lease/revoke", {"ID": lease["ID"]})
        await self.until(lambda: "lost" in self.user.told)
        await engine.put(PROVIDER)
        self.assertEqual(await engine.missing([PROVIDER]), [])
        # A compacted revision while it is cut off.
        way = Cut(etcd.port)
        way.start()
        self.addCleanup(way.stop)
        cut = self.engine(way.port, fast=5)
        sink = await self.follow(cut)
        await way.stop()
        await sink.when(lambda: "interrupted" in sink.told)
        await etcd.call("kv/deleterange", {"key": text64(KEY)})
        answer = await etcd.call("kv/put", {"key": text64("/getty/echo/x"), "value": text64("{}")})
        await etcd.call("kv/compaction", {"revision": answer["header"]["revision"], "physical": True})
        way.start()
        await sink.when(lambda: sink.told.count("are") == 2)
        self.assertEqual(sink.records, {"x": b"{}"})
        # Cut off again, and nothing is lost.
        await way.stop()
        await sink.when(lambda: sink.told[-1] == "interrupted")
        await etcd.call("kv/put", {"key": text64("/getty/echo/y"), "value": text64("{}")})
        way.start()
        await sink.when(lambda: "y" in sink.records)
        self.assertEqual(sink.told[-3:], ["interrupted", "resumed", "changed"])

    async def test_users(self) -> None:
        """A user with a role for the prefix; errors of others; TLS that is verified."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["127.0.0.1"])
        more = ("--cert-file", certificate, "--key-file", key, "--auth-token", "simple", "--bcrypt-cost", "4")
        etcd = await self.make(*more, scheme="https", authority=authority.path)
        lines: list[str] = []
        globalLogPublisher.addObserver(observer := lambda event: lines.append(str(formatEvent(event))))
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        [block] = re.findall(r"^```sh\n(etcdctl user.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        await etcd.control(f"etcdctl user add nobody\n{block}")

        password = self.mktemp()
        with open(password, "w") as file:
            file.write("p\n")
        trusted = {"trustRoots": authority.path}
        engine = self.engine(etcd.port, user="getty", passwordFile=password, **trusted)
        sink = await self.follow(engine)
        await engine.put(PROVIDER)
        await sink.when(lambda: NAME in sink.records)
        self.assertEqual(await engine.missing([PROVIDER]), [])
        self.assertEqual(len(await engine.read("echo")), 1)
        await engine.delete(PROVIDER)
        await sink.when(lambda: NAME not in sink.records)

        for settings, text in (
            ({}, "set user= and passwordFile="),
            ({"user": "getty", "password": "x"}, "does not know user='getty' with this password"),
            ({"user": "nobody", "password": "p"}, "role grant-permission ROLE readwrite /getty/ --prefix=true"),
        ):
            error = await self.refused(self.engine(etcd.port, **trusted, **settings))
            self.assertIn(text, error)
        denied = self.engine(etcd.port, user="nobody", password="p", **trusted)
        sink = RecordingSink()
        denied.watch("echo", sink)
        await sink.when(lambda: sink.errors != [])
        self.assertIn("ROLE read /getty/", sink.errors[0])

        self.assertIn("certificate", await self.refused(self.engine(etcd.port, tls=True)))
        self.assertIn("tls=yes", await self.refused(self.engine(etcd.port)))
        elsewhere = EtcdEngine([("localhost", etcd.port)], **trusted)
        elsewhere.start(reactor, RecordingUser())
        self.addCleanup(elsewhere.stop)
        self.assertIn("localhost", await self.refused(elsewhere))
        # Of all these connections, with TLS and without, the log knows nothing.
        self.assertEqual([line for line in lines if "actory" in line], [])

    async def refused(self, engine: EtcdEngine) -> str:
        """Why it cannot put."""
        try:
            await engine.put(PROVIDER)
        except RegistryError as error:
            return str(error)
        raise AssertionError("it was not refused")


class AwayTests(EtcdTestCase):
    """An etcd that goes away."""

    async def test_killed(self) -> None:
        """Killed and started again with its data: nothing is lost. Without: all is listed again."""
        etcd = await self.make()
        engine = self.engine(etcd.port, fast=4, ttl=60)
        sink = await self.follow(engine)
        await engine.put(PROVIDER)
        await etcd.kill()
        await sink.when(lambda: sink.told[-1] == "interrupted")
        await self.until(lambda: "disconnected" in self.user.told[-1])
        self.assertRaises(RegistryError, (await self.failed(engine.put(PROVIDER))).raiseException)
        await etcd.start()
        await sink.when(lambda: sink.told[-1] == "resumed")
        self.assertEqual(self.user.told[-1], "connected")
        self.assertEqual(await engine.missing([PROVIDER]), [])
        self.assertNotIn("lost", self.user.told)

        await etcd.kill()
        etcd.wipe()
        await etcd.start()
        await sink.when(lambda: sink.told.count("are") == 2)
        self.assertEqual(sink.records, {})
        await self.until(lambda: "lost" in self.user.told)
        await engine.put(PROVIDER)
        await sink.when(lambda: NAME in sink.records)

    async def failed(self, deferred: Deferred[Any]) -> Any:
        """Its failure."""
        deferred.addBoth(lambda result: [result])
        [result] = await deferred
        return result

    async def test_hangs(self) -> None:
        """One that hangs is noticed, although the watch's connection stays; and the next one, if there is one, used."""
        first = Etcd(self.mktemp())
        second = Etcd(self.mktemp())
        self.addCleanup(first.kill)
        self.addCleanup(second.kill)
        await gatherResults([Deferred.fromCoroutine(first.start()), Deferred.fromCoroutine(second.start())])
        # Renewals are the sign of life of one, the status that of the other.
        alone = self.engine(first.port, fast=4, ttl=4)
        ofAlone = await self.follow(alone)
        user = self.user
        await alone.put(PROVIDER)
        both = self.engine(first.port, second.port, fast=6)
        ofBoth = await self.follow(both)
        await ofBoth.when(lambda: NAME in ofBoth.records)

        first.pause()
        await ofAlone.when(lambda: ofAlone.told[-1] == "interrupted")
        self.assertIn("did not answer within", ofAlone.errors[0])
        await self.until(lambda: "disconnected" in user.told[-1])
        # The other etcd is none of the same cluster: it has other data.
        await ofBoth.when(lambda: ofBoth.told.count("are") == 2)
        self.assertEqual(ofBoth.records, {})
        await both.put(PROVIDER)
        self.assertIn(KEY, await second.keys())
        self.assertEqual(self.user.told, ["connected"])

        first.resume()
        await ofAlone.when(lambda: ofAlone.told[-1] in ("resumed", "changed"))
