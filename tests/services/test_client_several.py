"""Client with several endpoints, on a fake network and a clock."""

from __future__ import annotations

from collections import Counter

from twisted.internet.error import ConnectionLost, ConnectionRefusedError

from getty_tx.client import Client
from getty_tx.client.dialing import MAX_DIALS
from getty_tx.client.pool import LINES
from getty_tx.errors import NoSessionError, NotReadyError, SettingError
from tests.support.several import NamedEndpoint, SeveralCase, nameOf


class GroupTests(SeveralCase):
    """A group of sessions for each endpoint."""

    def test_groups(self) -> None:
        """It keeps number sessions with each; whenReady counts all of them."""
        client = Client(self.newSession, [self.named("a"), self.named("b")], 2, reactor=self.clock)
        self.assertEqual(repr(client), "<Client a, b: 0 of 4 sessions>")
        early = client.whenReady(3)
        client.startService()
        whole = client.whenReady(4)
        self.endpoints["a"].answer()
        self.assertNoResult(early)
        self.endpoints["b"].dials[0].succeed()
        self.assertEqual(self.successResultOf(early), client.sessions)
        self.assertNoResult(whole)
        self.endpoints["b"].answer()
        self.assertEqual(len(self.successResultOf(whole)), 4)
        self.assertEqual([nameOf(each) for each in client.sessions], ["a", "a", "b", "b"])
        self.assertEqual({each.provider for each in client.sessions}, {None})
        self.assertEqual(client.endpoints, ("a", "b"))
        self.finish(client)

    def test_replaced(self) -> None:
        """A lost session is dialed again where it was, with its own back-off; others are picked meanwhile."""
        client = self.openedSeveral("ab", connectTimeout=60)
        self.endpoints["a"].refusing = True
        self.lose("a")
        self.assertEqual({nameOf(client.pick()) for _ in range(9)}, {"b"})
        a, b = client.providers
        self.assertEqual([(each.destination, each.state) for each in (a, b)], [("a", "connecting"), ("b", "open")])
        self.clock.pump([0.1] * 60)
        self.assertTrue(4 < len(self.endpoints["a"].dials) < 12)
        self.assertEqual(len(self.endpoints["b"].dials), 1)
        self.assertIsInstance(a.lastError, ConnectionRefusedError)
        self.assertIs(client.lastError, a.lastError)
        self.assertIsNone(b.lastError)
        self.endpoints["a"].refusing = False
        self.clock.pump([0.1] * 40)
        self.answerAll()
        self.assertEqual({nameOf(client.pick()) for _ in range(9)}, {"a", "b"})
        self.assertEqual((a.state, a.since), ("open", self.clock.seconds()))
        self.assertEqual(a.sessions, [each for each in client.sessions if nameOf(each) == "a"])

    def test_none(self) -> None:
        """When none is open any more, pick says why."""
        client = self.openedSeveral("ab")
        for name in "ab":
            self.endpoints[name].refusing = True
            self.endpoints[name].dials[0].transport.lose(ConnectionLost())
        self.assertFalse(client.isReady)
        for by in ("roundRobin", "random", "leastPending", "hash"):
            text = str(self.assertRaises(NoSessionError, client.pick, by, "key"))
            self.assertIn("a, b: none of 2 sessions is open; the last failure was:", text)

    def test_ends(self) -> None:
        """Places that are given up, or whose sessions close themselves, do not count any more."""
        client = self.several("ab", reconnectAttempts=1)
        waiting = client.whenReady(2)
        self.endpoints["a"].pending[0].deferred.errback(ConnectionRefusedError())
        text = str(self.failureResultOf(waiting, NotReadyError).value)
        self.assertIn("a, b: 2 sessions cannot be reached, of 2 places 1 given up", text)
        self.endpoints["b"].answer()
        client.pick().close()
        self.assertEqual([each.state for each in client.providers], ["ended", "open"])
        self.lose("b")
        self.assertEqual([each.state for each in client.providers], ["ended", "ended"])
        self.assertTrue(client.hasEnded)

    def test_replace(self) -> None:
        """A session that is about to end has a successor with the same endpoint."""
        client = self.openedSeveral("ab")
        first = client.sessions[0]
        self.clock.advance(1)
        client.replace(first)
        client.replace(first)
        self.assertEqual([nameOf(each) for each in client.sessions], ["b"])
        self.assertEqual([len(each.pending) for each in self.endpoints.values()], [1, 0])
        self.answerAll()
        self.assertEqual([nameOf(each) for each in client.sessions], ["b", "a"])
        self.assertNotIn(first, client.sessions)
        self.assertFalse(first.isClosed)

    def test_turns(self) -> None:
        """At most 64 attempts at a time; those of a client that is closed end all."""
        endpoints = [NamedEndpoint(self.clock, f"e{i}") for i in range(100)]
        client = Client(self.newSession, endpoints, reactor=self.clock)
        client.startService()

        def dialed() -> int:
            return sum(len(each.dials) for each in endpoints)

        self.assertEqual(dialed(), MAX_DIALS)
        endpoints[0].answer()
        endpoints[1].dials[0].deferred.errback(ConnectionRefusedError())
        self.assertEqual(dialed(), MAX_DIALS + 2)
        self.assertEqual(sum(len(each.pending) for each in endpoints), MAX_DIALS)
        client.close()
        self.assertEqual(dialed(), MAX_DIALS + 2)
        endpoints[0].dials[0].transport.lose(ConnectionLost())
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lines(self) -> None:
        """When all of many fail, not each has a line in the log."""
        endpoints = [NamedEndpoint(self.clock, f"e{'x' * i}") for i in range(70)]
        for endpoint in endpoints:
            endpoint.refusing = True
        client = Client(self.newSession, endpoints, reactor=self.clock)
        client.startService()
        self.clock.pump([0] * 9)
        self.assertEqual(len(self.lines), LINES - 1)
        self.clock.pump([5] * 13)
        self.assertGreater(len(self.lines), LINES)
        client.close()

    def test_again(self) -> None:
        """It may be started again; settings hold from then on, or from the next attempt on."""
        client = self.openedSeveral("ab")
        client.reconnectInterval, client.connectTimeout = 1.0, 9.0
        client.close()
        self.assertEqual(client.sessions, [])
        client.number = 2
        client.startService()
        self.answerAll()
        self.assertEqual(len(client.sessions), 4)
        self.assertEqual({each.state for each in client.providers}, {"open"})

    def test_settings(self) -> None:
        """What cannot be is refused, by name."""
        a = self.named("a")
        for given, text in (
            ([], "endpoint=[]"),
            ([a, 8090], "endpoint 8090"),
            (["tcp:a:1", "tpc:b:1"], "'tpc:b:1'"),
            (["tcp:a:1", "tcp:a:1"], "endpoint 'tcp:a:1' is there twice"),
        ):
            self.assertIn(text, str(self.assertRaises(SettingError, Client, self.newSession, given)))
        client = Client(self.newSession, [a, self.named("b")], 2)
        text = str(self.assertRaises(SettingError, client.whenReady, 5))
        self.assertEqual(text, "n=5 is more than number=2 at each of 2 endpoints")

    def test_one(self) -> None:
        """A list of one is one."""
        client = Client(self.newSession, [self.endpoint], reactor=self.clock)
        client.startService()
        (only,) = client.providers
        self.assertEqual((only.destination, only.state, only.since), ("fake:8090", "connecting", None))
        self.endpoint.answer()
        session = client.pick()
        self.assertEqual((only.provider, only.state, only.sessions, only.id), (None, "open", [session], "fake:8090"))
        self.assertEqual(client.pick("hash", "key"), session)
        self.assertEqual(client.pick(exclude=["other:1"]), session)
        self.assertFalse(client.eject(only, 5))
        for exclude in ([session], [only], ["fake:8090"]):
            error = self.assertRaises(NoSessionError, client.pick, exclude=exclude)
            self.assertEqual(str(error), "fake:8090: all open sessions are excluded")
        super().finish(client)


class PickTests(SeveralCase):
    """pick(), with sessions."""

    def test_shares(self) -> None:
        """Endpoints have equal shares, also one with fewer sessions; within it each session has its turn."""
        client = self.openedSeveral("abc", 2)
        self.endpoints["a"].dials[0].transport.lose(ConnectionLost())
        for by in ("roundRobin", "random", "leastPending"):
            picked = [client.pick(by) for _ in range(600)]
            shares = Counter(map(nameOf, picked))
            self.assertTrue(all(140 < share < 260 for share in shares.values()), (by, shares))
            self.assertEqual(len(set(picked)), 5)

    def test_leastPending(self) -> None:
        """The session with the fewest pending bytes."""
        client = self.openedSeveral("abc")
        for session in client.sessions[:2]:
            session.writeBytes(b"out")
            self.endpoints[nameOf(session)].dials[0].transport.producer.pauseProducing()
            session.writeBytes(b"waits")
        self.assertEqual({nameOf(client.pick("leastPending")) for _ in range(9)}, {"c"})
        self.assertEqual({nameOf(client.pick("leastPending", exclude=["c"])) for _ in range(50)}, {"a", "b"})

    def test_hash(self) -> None:
        """A key stays with its endpoint; when that is away its keys go to others, and come back."""
        client = self.openedSeveral("abcd")
        keys = [f"key {i}" for i in range(200)]
        before = {key: nameOf(client.pick("hash", key)) for key in keys}
        self.assertEqual(set(before.values()), set("abcd"))
        self.lose("a")
        between = {key: nameOf(client.pick("hash", key)) for key in keys}
        self.assertEqual({key for key in keys if between[key] != before[key]}, {k for k in keys if before[k] == "a"})
        self.assertEqual({between[key] for key in keys if before[key] == "a"}, set("bcd"))
        self.clock.pump([0.1] * 5)
        self.answerAll()
        self.assertEqual({key: nameOf(client.pick("hash", key)) for key in keys}, before)
        self.assertEqual(client.pick("hash", b"key 1"), client.pick("hash", "key 1"))
        self.assertIn("key=None: by='hash' needs a key", str(self.assertRaises(SettingError, client.pick, "hash")))
        self.assertIn("key=1.5", str(self.assertRaises(SettingError, client.pick, "hash", 1.5)))

    def test_hashSessions(self) -> None:
        """Of the sessions with one endpoint, too, a key has its own."""
        keys = range(200)
        client = self.openedSeveral("xy", 3)
        self.assertEqual(len({client.pick("hash", key) for key in keys}), 6)
        self.assertEqual(len({client.pick("hash", "one") for _ in range(9)}), 1)

    def test_exclude(self) -> None:
        """Sessions, endpoints or what names them are not picked; when nothing else is open, it says so."""
        client = self.openedSeveral("abc", 2)
        a, b, c = client.providers
        for by in ("roundRobin", "random", "leastPending", "hash"):
            picked = {nameOf(client.pick(by, i, [a, "b"])) for i in range(20)}
            self.assertEqual(picked, {"c"}, by)
            sessions = client.sessions[1:]
            self.assertEqual({client.pick(by, i, sessions) for i in range(20)}, {client.sessions[0]}, by)
            error = self.assertRaises(NoSessionError, client.pick, by, 1, [a, b, c])
            self.assertEqual(str(error), "a, b, c: all open sessions are excluded")
        self.assertIn("None is no session", str(self.assertRaises(SettingError, client.pick, exclude=[None])))
        # One that was left out for a while does not make up for it.
        self.assertEqual(max(Counter(nameOf(client.pick()) for _ in range(30)).values()), 10)

    def test_closing(self) -> None:
        """A session that is closing is not picked."""
        client = self.openedSeveral("ab")
        first = client.sessions[0]
        first.close()
        for by in ("roundRobin", "random", "leastPending", "hash"):
            self.assertNotIn(first, {client.pick(by, i) for i in range(20)})


class EjectTests(SeveralCase):
    """eject()."""

    def test_eject(self) -> None:
        """An ejected one is not picked for that time; a tenth may be, but one."""
        client = self.openedSeveral("abc")
        self.assertTrue(client.eject("a", 5))
        self.assertEqual(client.providers[0].state, "ejected")
        self.assertFalse(client.eject("b", 5))
        self.assertFalse(client.eject("z", 5))
        for by in ("roundRobin", "random", "leastPending", "hash"):
            self.assertEqual({nameOf(client.pick(by, i)) for i in range(30)}, {"b", "c"})
        self.clock.advance(4)
        self.assertTrue(client.eject(client.providers[0].sessions[0], 5))
        self.clock.advance(4)
        self.assertEqual(client.providers[0].state, "ejected")
        self.clock.advance(1)
        self.assertEqual({nameOf(client.pick()) for _ in range(9)}, set("abc"))
        self.assertTrue(client.eject(client.providers[1], 5))

    def test_last(self) -> None:
        """The last open one is left in; an ejected one is picked when all others are lost."""
        client = self.openedSeveral("ab")
        self.lose("b")
        self.assertFalse(client.eject("a", 5))
        self.clock.pump([0.1] * 5)
        self.answerAll()
        self.assertTrue(client.eject("a", 50))
        self.assertEqual({nameOf(client.pick()) for _ in range(9)}, {"b"})
        self.endpoints["b"].refusing = True
        self.lose("b")
        self.assertEqual({nameOf(client.pick(by, 1)) for by in ("roundRobin", "random", "leastPending", "hash")}, {"a"})
