"""The engine for etcd: requests, leases, users and errors, with an etcd in memory."""

from __future__ import annotations

from base64 import b64decode
from itertools import pairwise
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RegistryError
from getty_tx.registry.etcd import EtcdEngine
from getty_tx.registry.interfaces import IEngine, IWatch
from getty_tx.registry.towards import hostTowards
from tests.support.etcd import text64
from tests.support.fakeetcd import FakeEtcd, RecordingSink, engineWith

PROVIDER = Provider("echo", "tcp:10.0.0.5:8090")
KEY = "/getty/echo/tcp%3A10.0.0.5%3A8090"
TWO = (("a", 1), ("b", 1))


class EngineTestCase(SynchronousTestCase):
    """One engine."""

    def setUp(self) -> None:
        self.etcd = FakeEtcd()

    def start(self, **settings: Any) -> None:
        """Start it."""
        self.engine, self.user = engineWith(self.etcd, **settings)
        self.addCleanup(self.engine.stop)

    def refused(self, deferred: Deferred[Any]) -> str:
        """The text of its failure."""
        return str(self.failureResultOf(deferred, RegistryError).value)


class RecordTests(EngineTestCase):
    """put, delete, missing, read."""

    def test_interfaces(self) -> None:
        """It is what it says it is."""
        self.start()
        verifyObject(IEngine, self.engine)
        verifyObject(IWatch, self.engine.watch("echo", RecordingSink()))
        self.assertEqual(self.engine.name, "etcd:a:2379")
        self.assertNotIn("secret", repr(EtcdEngine([("a", 1)], user="u", password="secret")))

    def test_put(self) -> None:
        """The record is written on a lease, in one request, and read as it is."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(list(self.etcd.records), [KEY])
        self.assertEqual(self.etcd.of("kv/put")[0].body["lease"], "7001")
        self.assertEqual(self.etcd.of("lease/grant")[0].body, {"TTL": 15})
        record = self.etcd.records[KEY]
        name = KEY.rpartition("/")[2]
        self.assertEqual(self.successResultOf(self.engine.read(None)), {("echo", name): record})
        self.assertEqual(self.successResultOf(self.engine.read("echo")), {("echo", name): record})
        self.assertEqual(self.successResultOf(self.engine.read("ech")), {})

    def test_oneLease(self) -> None:
        """Records that are written at once hang on one."""
        self.etcd.held.add("lease/grant")
        self.start()
        puts = [self.engine.put(PROVIDER), self.engine.put(PROVIDER.but(id="x"))]
        self.etcd.held.clear()
        self.etcd.reply(self.etcd.of("lease/grant")[0])
        for each in puts:
            self.successResultOf(each)
        self.assertEqual(len(self.etcd.of("lease/grant")), 1)

    def test_delete(self) -> None:
        """A record is deleted if its lease is this engine's, in one request."""
        self.start()
        self.successResultOf(self.engine.delete(PROVIDER))
        self.assertEqual(self.etcd.of("kv/txn"), [])
        self.successResultOf(self.engine.put(PROVIDER))
        self.successResultOf(self.engine.delete(PROVIDER))
        [asked] = self.etcd.of("kv/txn")
        compared = {"key": text64(KEY), "target": "LEASE", "result": "EQUAL", "lease": "7001"}
        self.assertEqual(asked.body["compare"], [compared])
        self.assertEqual(asked.body["success"], [{"request_delete_range": {"key": text64(KEY)}}])

    def test_missing(self) -> None:
        """What hangs on the lease is there; without a lease nothing is."""
        self.start()
        other = PROVIDER.but(id="x")
        self.assertEqual(self.successResultOf(self.engine.missing([PROVIDER])), [PROVIDER])
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(self.successResultOf(self.engine.missing([PROVIDER, other])), [other])
        self.etcd.leases.clear()
        self.assertEqual(self.successResultOf(self.engine.missing([PROVIDER])), [PROVIDER])
        self.assertEqual(self.user.told, ["connected", "lost"])
        self.assertEqual(len(self.etcd.of("lease/timetolive")), 2)

    def test_invalid(self) -> None:
        """A record that cannot be is a RegistryError, too."""
        self.start()
        self.assertIn("JSON", self.refused(self.engine.put(PROVIDER.but(meta={"a": object()}))))

    def test_notStarted(self) -> None:
        """Nothing works before the start and after the stop."""
        engine = EtcdEngine([("a", 1)])
        self.assertIn("not started", self.refused(engine.put(PROVIDER)))
        self.assertRaises(RegistryError, engine.watch, "echo", RecordingSink())
        self.assertEqual(self.successResultOf(engine.hostTowards()), "")
        self.successResultOf(engine.stop())


class LeaseTests(EngineTestCase):
    """Renewals, and leases that have ended."""

    def test_renewals(self) -> None:
        """Each third of the time, 10 % more or less. Nothing else is asked meanwhile."""
        self.start(ttl=30)
        self.successResultOf(self.engine.put(PROVIDER))
        statuses = len(self.etcd.of("maintenance/status"))
        times = []
        for tick in range(1000):
            before = len(self.etcd.of("lease/keepalive"))
            self.etcd.clock.advance(0.1)
            if len(self.etcd.of("lease/keepalive")) > before:
                times.append(tick / 10)
        waits = [after - before for before, after in pairwise(times)]
        self.assertTrue(all(8.9 <= wait <= 11.1 for wait in waits), waits)
        self.assertGreater(max(waits) - min(waits), 0.2)
        self.assertEqual(len(self.etcd.of("maintenance/status")), statuses)

    def test_grantedLonger(self) -> None:
        """etcd may give more than was asked for: that counts."""
        self.etcd.special["lease/grant"] = lambda asked: asked.answer(b'{"ID": "5", "TTL": "60"}')
        self.start(ttl=2)
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.clock.advance(17)
        self.assertEqual(self.etcd.of("lease/keepalive"), [])
        self.etcd.clock.advance(6)
        self.assertEqual(len(self.etcd.of("lease/keepalive")), 1)

    def test_ended(self) -> None:
        """A renewal without a time, or with 404: the user writes again, on a new lease."""
        for how in (None, self.etcd.refuse(404, 5, "etcdserver: requested lease not found")):
            self.etcd = FakeEtcd()
            self.start()
            self.successResultOf(self.engine.put(PROVIDER))
            if how is None:
                self.etcd.leases.clear()
            else:
                self.etcd.special["lease/keepalive"] = how
            self.etcd.clock.advance(6)
            self.assertEqual(self.user.told, ["connected", "lost"])
            self.successResultOf(self.engine.put(PROVIDER))
            self.assertEqual(self.etcd.of("kv/put")[-1].body["lease"], "7002")

    def test_endedAtPut(self) -> None:
        """A lease that is gone when something is written: the user hears of it, and that is written."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        refuse = self.etcd.refuse(404, 5, "etcdserver: requested lease not found")
        self.etcd.special["kv/put"] = lambda asked: refuse(asked) if asked.body["lease"] == "7001" else False
        self.successResultOf(self.engine.put(PROVIDER.but(weight=3)))
        self.assertEqual(self.user.told, ["connected", "lost"])
        self.assertIn(b'"weight":3', b64decode(self.etcd.of("kv/put")[-1].body["value"]))

    def test_outage(self) -> None:
        """An outage by itself takes no lease away: it is renewed as soon as that is possible."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.away.add("a:2379")
        self.etcd.clock.pump([1.0] * 120)
        self.etcd.away.clear()
        self.etcd.clock.pump([1.0] * 11)
        self.assertEqual((self.user.told[0], self.user.told[-1]), ("connected", "connected"))
        self.assertNotIn("lost", self.user.told)
        self.assertEqual(len(self.etcd.of("lease/grant")), 1)

    def test_unknownToTimetolive(self) -> None:
        """A lease that is gone, in the other way of saying so."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.special["lease/timetolive"] = self.etcd.refuse(404, 5, "etcdserver: requested lease not found")
        self.assertEqual(self.successResultOf(self.engine.missing([PROVIDER])), [PROVIDER])
        self.assertEqual(self.user.told, ["connected", "lost"])

    def test_garbage(self) -> None:
        """An answer that is none of etcd's is logged, and counts as none."""
        self.etcd.special["maintenance/status"] = lambda asked: asked.answer(b'{"leader": "x"}')
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIn("disconnected", self.user.told[-1])
        del self.etcd.special["maintenance/status"]
        self.etcd.clock.advance(0.3)
        self.assertEqual(self.user.told[-1], "connected")

    def test_stopWhileAsking(self) -> None:
        """The sign of life is not waited for."""
        self.etcd.held.add("maintenance/status")
        self.start()
        self.successResultOf(self.engine.stop())
        self.assertTrue(self.etcd.asked[0].wasCancelled)
        self.assertEqual((self.user.told, self.etcd.clock.getDelayedCalls()), ([], []))

    def test_nextEndpoint(self) -> None:
        """A renewal that is not answered within a third of the time goes to the next endpoint, as all do then."""
        self.start(endpoints=TWO, ttl=6)
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.special["lease/keepalive"] = lambda asked: None if asked.at == "a:1" else False
        self.etcd.clock.advance(2.3)
        self.assertEqual([asked.at for asked in self.etcd.of("lease/keepalive")], ["a:1"])
        self.etcd.clock.advance(2)
        self.assertEqual([asked.at for asked in self.etcd.of("lease/keepalive")], ["a:1", "b:1"])
        self.assertTrue(self.etcd.of("lease/keepalive")[0].wasCancelled)
        self.assertEqual(self.user.told, ["connected"])
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(self.etcd.asked[-1].at, "b:1")

    def test_stop(self) -> None:
        """The lease is given back, what is under way ends, and it may be started again."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.held.add("kv/range")
        reading = self.engine.read(None)
        self.successResultOf(self.engine.stop())
        self.assertIn("stopped", self.refused(reading))
        self.assertEqual(self.etcd.leases, {})
        self.assertEqual(self.etcd.clock.getDelayedCalls(), [])
        self.etcd.held.clear()
        self.engine.start(self.etcd.clock, self.user)
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(self.etcd.of("kv/put")[-1].body["lease"], "7002")
        self.assertRaises(RegistryError, self.engine.start, self.etcd.clock, self.user)

    def test_stopWithoutAnswer(self) -> None:
        """A stop does not wait long for an etcd that does not answer."""
        self.start()
        self.successResultOf(self.engine.put(PROVIDER))
        self.etcd.held.add("lease/revoke")
        stopping = self.engine.stop()
        self.etcd.clock.advance(2.9)
        self.assertNoResult(stopping)
        self.etcd.clock.advance(0.2)
        self.successResultOf(stopping)
        self.assertEqual(self.etcd.clock.getDelayedCalls(), [])

    def test_stopWithinCalls(self) -> None:
        """The user may stop the engine when it is told something."""
        for kind in ("connected", "disconnected", "lost"):
            self.etcd = FakeEtcd()
            engine = EtcdEngine([("a", 2379)], connections=self.etcd.connections)

            class User:
                def engineConnected(self, kind: str = kind, engine: EtcdEngine = engine) -> None:
                    if kind == "connected":
                        engine.stop()

                def engineDisconnected(self, error: Any, kind: str = kind, engine: EtcdEngine = engine) -> None:
                    if kind == "disconnected":
                        engine.stop()

                def recordsLost(self, kind: str = kind, engine: EtcdEngine = engine) -> None:
                    if kind == "lost":
                        engine.stop()

            engine.start(self.etcd.clock, User())
            if kind != "connected":
                self.successResultOf(engine.put(PROVIDER))
                engine.watch("echo", RecordingSink())
            self.etcd.leases.clear()
            if kind == "disconnected":
                self.etcd.away.add("a:2379")
            self.etcd.clock.pump([1.0] * 12)
            self.assertEqual(self.etcd.closed, 1, kind)
            self.assertEqual(self.etcd.clock.getDelayedCalls(), [], kind)


class EndpointTests(EngineTestCase):
    """Several endpoints."""

    def test_inTurn(self) -> None:
        """The one that answered last is asked first."""
        self.etcd.away.add("a:1")
        self.start(endpoints=TWO)
        self.assertEqual([asked.at for asked in self.etcd.asked], ["a:1", "b:1"])
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual({asked.at for asked in self.etcd.asked[2:]}, {"b:1"})
        self.etcd.away = {"b:1"}
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(self.etcd.asked[-1].at, "a:1")
        self.assertEqual(self.user.told, ["connected"])

    def test_unavailable(self) -> None:
        """An endpoint that cannot do its work is as one that is away."""
        refuse = self.etcd.refuse(503, 14, "etcdserver: no leader")
        self.etcd.special["kv/range"] = lambda asked: refuse(asked) if asked.at == "a:1" else False
        self.start(endpoints=TWO)
        self.assertEqual(self.successResultOf(self.engine.read(None)), {})
        self.etcd.special["kv/range"] = lambda asked: asked.answer(b"<html>", 502)
        self.assertIn("status 502", self.refused(self.engine.read(None)))
        self.assertIn("disconnected", self.user.told[-1])

    def test_late(self) -> None:
        """An answer that does not come in time is an error that says so."""
        self.start(ttl=3)
        self.etcd.held.add("kv/range")
        reading = self.engine.read("echo")
        self.etcd.clock.advance(1.1)
        self.assertIn("etcd at a:2379 did not answer within 1 s", self.refused(reading))

    def test_lateBody(self) -> None:
        """So is one whose body does not end."""
        self.start(ttl=3)
        self.etcd.special["kv/range"] = lambda asked: asked.answer(b'{"kvs":', over=False)
        reading = self.engine.read("echo")
        self.etcd.clock.advance(1.1)
        self.assertIn("did not answer", self.refused(reading))
        self.assertTrue(self.etcd.of("kv/range")[0].closed)

    def test_cancelled(self) -> None:
        """What its caller cancels is no failure of the endpoint."""
        self.start()
        self.etcd.held.add("kv/range")
        reading = self.engine.read("echo")
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertEqual((self.etcd.dropped, self.user.told), ([], ["connected"]))


class HostTests(SynchronousTestCase):
    """This machine's address on the way to etcd."""

    def test_hostTowards(self) -> None:
        """That of the first place that there is a way to."""
        known = {"a": [], "b": ["255.255.255.255", "127.0.0.1"], "c": ["127.0.0.2"]}

        class Resolver:
            def resolveHostName(self, found: Any, host: str, port: int) -> None:
                found.resolutionBegan(None)
                for each in known[host]:
                    found.addressResolved(IPv4Address("TCP", each, port))
                found.resolutionComplete()

        class Reactor:
            nameResolver = Resolver()

        self.assertEqual(self.successResultOf(hostTowards(Reactor(), [("a", 1), ("b", 1), ("c", 1)])), "127.0.0.1")
        self.assertEqual(self.successResultOf(hostTowards(Reactor(), [("a", 1)])), "")


class UserTests(EngineTestCase):
    """User and password."""

    def test_token(self) -> None:
        """A token is asked for once, and again when it is not accepted any more."""
        self.start(user="u", password="p")
        self.successResultOf(self.engine.put(PROVIDER))
        [asked] = self.etcd.of("auth/authenticate")
        self.assertEqual(asked.body, {"name": "u", "password": "p"})
        self.assertEqual({each.token for each in self.etcd.asked if each is not asked}, {b"token1"})
        refuse = self.etcd.refuse(401, 16, "etcdserver: invalid auth token")
        self.etcd.special["kv/put"] = lambda asked: refuse(asked) if asked.token == b"token1" else False
        self.successResultOf(self.engine.put(PROVIDER))
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(len(self.etcd.of("auth/authenticate")), 2)
        self.assertEqual([each.token for each in self.etcd.of("kv/put")], [b"token1"] * 2 + [b"token2"] * 2)

    def test_oldRevision(self) -> None:
        """After a change of users or roles a token is refused in other words."""
        self.start(user="u", password="p")
        refuse = self.etcd.refuse(400, 3, "etcdserver: revision of auth store is old")
        self.etcd.special["kv/range"] = lambda asked: refuse(asked) if asked.token == b"token1" else False
        self.successResultOf(self.engine.read(None))

    def test_neverAccepted(self) -> None:
        """A new token is tried once."""
        self.etcd.special["kv/range"] = self.etcd.refuse(401, 16, "etcdserver: invalid auth token")
        self.start(user="u", password="p")
        self.assertIn("invalid auth token", self.refused(self.engine.read(None)))
        self.assertEqual(len(self.etcd.of("auth/authenticate")), 2)

    def test_oneAtATime(self) -> None:
        """Requests that need a token wait for one."""
        self.etcd.held.add("auth/authenticate")
        self.start(user="u", password="p")
        reading = [self.engine.read(None), self.engine.read("echo")]
        self.etcd.reply(self.etcd.of("auth/authenticate")[0])
        for each in reading:
            self.successResultOf(each)
        self.assertEqual(len(self.etcd.of("auth/authenticate")), 1)

    def test_wrongPassword(self) -> None:
        """The error says what to look at, and not the password."""
        text = "etcdserver: authentication failed, invalid user ID or password"
        self.etcd.special["auth/authenticate"] = self.etcd.refuse(400, 3, text)
        self.start(user="u", password="secret")
        error = self.refused(self.engine.read(None))
        self.assertIn("user='u'", error)
        self.assertIn("passwordFile=", error)
        self.assertNotIn("secret", error)
        self.assertIn("disconnected: etcd at a:2379 does not know user='u'", self.user.told[0])

    def test_noUsers(self) -> None:
        """An etcd without users is used without a token, until it wants one."""
        self.etcd.special["auth/authenticate"] = self.etcd.refuse(400, 9, "etcdserver: authentication is not enabled")
        self.start(user="u", password="p")
        self.successResultOf(self.engine.put(PROVIDER))
        self.assertEqual(len(self.etcd.of("auth/authenticate")), 1)
        del self.etcd.special["auth/authenticate"]
        refuse = self.etcd.refuse(400, 3, "etcdserver: user name is empty")
        self.etcd.special["kv/put"] = lambda asked: refuse(asked) if asked.token is None else False
        self.successResultOf(self.engine.put(PROVIDER))

    def test_passwordFile(self) -> None:
        """The password is the first line of a file, read at the start."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("pass word\n\n")
        self.start(user="u", passwordFile=path)
        self.assertEqual(self.etcd.of("auth/authenticate")[0].body["password"], "pass word")
        error = self.assertRaises(SettingError, self.start, user="u", passwordFile=path + ".no")
        self.assertIn("passwordFile=", str(error))


class ErrorTests(EngineTestCase):
    """Errors name the setting, and the way out."""

    def reading(self, *answer: Any) -> str:
        """The error of a list that is answered so."""
        self.etcd.special["kv/range"] = lambda asked: asked.answer(*answer)
        self.start()
        return self.refused(self.engine.read("echo"))

    def test_noGateway(self) -> None:
        """The gateway is switched off."""
        error = self.reading(b"404 page not found\n", 404)
        self.assertIn("etcd at a:2379 has no /v3/kv/range", error)
        self.assertIn("--enable-grpc-gateway", error)
        self.assertIn("disconnected", self.user.told[-1])

    def test_wantsTLS(self) -> None:
        """A server that wants TLS."""
        self.assertIn("tls=yes", self.reading(b"Client sent an HTTP request to an HTTPS server.\n", 400))

    def test_wantsUser(self) -> None:
        """A server that wants to know who asks."""
        data = b'{"error":"etcdserver: user name is empty","message":"etcdserver: user name is empty","code":3}'
        self.assertIn("user=", self.reading(data, 400))

    def test_denied(self) -> None:
        """A user that may not do that. etcd answers, all the same."""
        error = self.reading(b'{"message":"etcdserver: permission denied","code":7}', 403)
        self.assertIn("role grant-permission ROLE read /getty/ --prefix=true", error)
        self.assertEqual(self.user.told, ["connected"])
        self.etcd.special["kv/put"] = self.etcd.refuse(403, 7, "etcdserver: permission denied")
        self.assertIn("ROLE readwrite /getty/", self.refused(self.engine.put(PROVIDER)))

    def test_other(self) -> None:
        """Whatever else it says."""
        error = self.reading(b'{"error":{"grpc_code":8,"message":"etcdserver: too many requests"}}', 429)
        self.assertEqual(error, "etcd at a:2379 refused /v3/kv/range: etcdserver: too many requests (code 8)")

    def test_settings(self) -> None:
        """Settings that cannot be are named."""
        some: list[Any] = [("a", 1)]
        for name, endpoints, settings in (
            ("endpoints", [], {}),
            ("endpoints", [("", 1)], {}),
            ("endpoints", [("a/b", 1)], {}),
            ("endpoints", [("é", 1)], {}),
            ("endpoints", [("a", 0)], {}),
            ("endpoints", [("a", "1")], {}),
            ("prefix", some, {"prefix": "getty"}),
            ("prefix", some, {"prefix": "/getty/"}),
            ("prefix", some, {"prefix": ""}),
            ("ttl", some, {"ttl": 1}),
            ("ttl", some, {"ttl": float("nan")}),
            ("connectTimeout", some, {"connectTimeout": 0}),
            ("passwordFile", some, {"user": "u"}),
            ("user", some, {"password": "p"}),
            ("passwordFile", some, {"user": "u", "password": "p", "passwordFile": "f"}),
            ("trustRoot", some, {"trustRoots": "/no/such/file"}),
            ("certificate", some, {"tls": True, "certificate": "/no/such/file"}),
        ):
            error = self.assertRaises(SettingError, EtcdEngine, endpoints, **settings)
            self.assertIn(name, str(error))

    def test_names(self) -> None:
        """Addresses of IPv6 are in brackets; an etcd of this machine is local."""
        engine = EtcdEngine([("::1", 2379), ("127.0.0.1", 2379)])
        self.assertEqual((engine.name, engine.isLocal), ("etcd:[::1]:2379,127.0.0.1:2379", True))
        self.assertFalse(EtcdEngine([("localhost", 1), ("10.0.0.1", 1)]).isLocal)
