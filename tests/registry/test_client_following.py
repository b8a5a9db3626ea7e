"""Client("service:echo") with a registry that says what a test wants, on a fake network and a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from getty_tx.client import Client
from getty_tx.client.dialing import BURST, MAX_DIALS
from getty_tx.client.following import MANY, SLICE, FollowingPool
from getty_tx.errors import NoSessionError, NotReadyError, SettingError
from getty_tx.registry import IFollower, IRegistry
from tests.support.fakeregistry import FakeRegistry, FollowingCase, provider


class KnownTests(FollowingCase):
    """What is known, and what is dialed."""

    def test_follow(self) -> None:
        """It follows from the start on, dials those that come, and has them all in providers."""
        client = Client(self.newSession, "service:echo", 2, registry=self.registry, dial=self.dial, reactor=self.clock)
        verifyObject(IRegistry, self.registry)
        self.assertEqual((repr(client), self.registry.users), ("<Client service:echo: 0 of 0 sessions>", 0))
        verifyObject(IFollower, client._pool)
        known, ready = client.whenKnown(), client.whenReady(4)
        client.startService()
        self.addCleanup(self.finish, client)
        self.assertEqual((self.registry.users, self.registry.followings[0].service), (1, "echo"))
        self.assertNoResult(known)
        a, b = provider("a"), provider("b", weight=50, meta={"rack": 1})
        self.registry.tell([a, b])
        self.assertEqual([each.provider for each in self.successResultOf(known)], [a, b])
        self.assertNoResult(ready)
        self.answerAll()
        self.assertEqual({each.provider for each in self.successResultOf(ready)}, {a, b})
        self.assertEqual(repr(client), "<Client service:echo: 4 of 4 sessions>")
        self.assertEqual(self.states(client), {"a": "open", "b": "open"})
        self.assertEqual(client.endpoints, ("service:echo",))

    def test_unknown(self) -> None:
        """While nobody is known, errors say so; whenReady waits, whenKnown fails when the client is closed."""
        client = self.following()
        self.registry.lastError = ConnectionRefusedError()
        error = self.assertRaises(NoSessionError, client.pick)
        self.assertIn("service:echo: no provider is known yet, as the registry has not answered; the last", str(error))
        cancelled, waiting = client.whenKnown(), client.whenReady(100, timeout=1)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.clock.advance(1)
        self.failureResultOf(waiting, NotReadyError)
        self.registry.tell()
        self.assertEqual(self.successResultOf(client.whenKnown()), [])
        error = self.assertRaises(NoSessionError, client.pick)
        self.assertIn("no such provider is known to the registry", str(error))
        other = Client(self.newSession, "service:b", registry=FakeRegistry(), reactor=self.clock)
        waiting = other.whenKnown()
        self.successResultOf(other.close())
        self.failureResultOf(waiting, NotReadyError)

    def test_filters(self) -> None:
        """Group and version are equal, or both are absent, or ``*`` takes any."""
        every = [
            provider("a"),
            provider("b", version="1"),
            provider("c", version="2", group="g"),
            provider("d", group="g"),
        ]
        for text, ids in (
            ("service:echo", "a"),
            ("service:echo:version=1", "b"),
            ("service:echo:version=*", "ab"),
            ("service:echo:group=g", "d"),
            ("service:echo:group=*:version=*", "abcd"),
        ):
            self.registry = FakeRegistry()
            client = self.following(text=text)
            self.registry.tell(every)
            self.assertEqual("".join(self.states(client)), ids)
            self.finish(client)
        client = self.following(text="service:echo:version=1")
        self.registry.tell(every)
        self.answerAll()
        self.registry.tell(changed=[provider("b", version="2"), provider("a", version="1")])
        self.assertEqual(self.states(client), {"a": "connecting"})

    def test_passedOver(self) -> None:
        """Where all have another group or version, errors say so, until one fits."""
        client = self.following(text="service:echo:version=1")
        self.assertIsNone(client.lastError)
        self.registry.tell([provider("a", group="g"), provider("b", version="2")])
        self.registry.followings[-1].providers.update(a=provider("a"), b=provider("b"))
        error = self.assertRaises(NoSessionError, client.pick)
        self.assertIn("the registry has 2 of them, but none with group='' and version='1' (* takes any)", str(error))
        waiting = client.whenReady(timeout=1)
        self.clock.advance(1)
        self.assertIn("has 2 of them", str(self.failureResultOf(waiting, NotReadyError).value))
        self.registry.tell([provider("c", version="1")])
        self.assertIsNone(client.lastError)

    def test_slices(self) -> None:
        """Many come in several turns of the reactor, and begin to connect in several; 64 at a time."""
        client = self.following()
        self.registry.tell([provider(f"p{i}") for i in range(SLICE + 50)])
        known = client.whenKnown()
        self.assertEqual((len(client.providers), len(self.endpoints)), (SLICE, BURST))
        self.registry.tell([provider("late")], removed=[provider(f"p{SLICE + 1}")])
        self.clock.advance(0)
        self.assertEqual(len(self.successResultOf(known)), SLICE + 50)
        self.clock.pump([0] * 9)
        # The order is random: the one that is gone may have been dialed, and left its place to another.
        gone = f"p{SLICE + 1}" in self.endpoints
        self.assertEqual(len(self.endpoints), MAX_DIALS + gone)
        for _ in range(9):
            self.answerAll()
            self.clock.pump([0] * 9)
        self.assertEqual(len(client.sessions), SLICE + 50)

    def test_endpoints(self) -> None:
        """By default a provider's own endpoint is dialed; what cannot be is told once, and others are dialed."""
        client = self.following(dial=None)
        self.registry.tell([provider("a", endpoint="what:ever"), provider("b", endpoint="tcp:127.0.0.1:1")])
        first, second = client.providers
        self.assertEqual((first.state, first.destination), ("idle", "what:ever"))
        self.assertEqual(second.slots[0].endpointConnector.endpoint._port, 1)
        self.assertIn("cannot dial 'what:ever'", str(first.lastError))
        self.finish(client)
        client = self.following(dial=lambda provider: None)
        self.registry.tell([provider("a")])
        self.assertIn("dial() returned None", str(client.providers[0].lastError))

    def test_again(self) -> None:
        """It may be started again, and begins anew."""
        client = self.following("ab", cache="last.json")
        self.assertEqual(self.registry.cache, "last.json")
        client.close()
        self.assertEqual((client.providers, self.registry.users), ([], 0))
        client.startService()
        self.assertNoResult(client.whenKnown())
        self.registry.tell([provider("a")])
        self.answerAll()
        self.assertEqual(self.states(client), {"a": "open"})

    def test_settings(self) -> None:
        """What cannot be is refused, by name."""
        for text, options, expected in (
            ("service:", {}, "service"),
            ("service:echo:color=red", {}, "color"),
            ("service:echo", {"registry": 5}, "registry=5"),
            ("service:echo", {"registry": "what:x"}, "what:"),
            ("service:echo", {"subset": 0}, "subset=0"),
            ("service:echo", {"warmUp": -1}, "warmUp=-1"),
            ("service:echo", {"zone": None}, "zone=None"),
            ("service:echo", {"drainTime": 0}, "drainTime=0"),
            ("service:echo", {"dial": 1}, "dial=1"),
            ("tcp:a:1", {}, "give 'service:NAME' instead of 'tcp:a:1'"),
        ):
            options.setdefault("registry", FakeRegistry())  # type: ignore[attr-defined]
            error = self.assertRaises(SettingError, Client, self.newSession, text, **options)
            self.assertIn(expected, str(error))
        client: Any = Client(self.newSession, "service:echo", registry=f"dir:{self.mktemp()}")
        self.assertTrue(IRegistry.providedBy(client._pool.registry))

    def test_warning(self) -> None:
        """Above 200 providers without a subset there is a line in the log, once."""
        lines: list[Any] = []

        def observe(event: Any) -> None:
            if event.get("log_namespace") == FollowingPool.__module__ and event["log_level"] is LogLevel.warn:
                lines.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.following()
        self.registry.tell([provider(f"p{i}") for i in range(MANY + 50)])
        self.clock.pump([0] * 9)
        self.assertEqual(len(lines), 1)


class GoneTests(FollowingCase):
    """Orphans, leavers, and those that have moved."""

    def test_orphan(self) -> None:
        """One whose record is gone is used as long as it is open, and not dialed again."""
        client = self.following("ab")
        self.registry.tell(removed=[provider("a")])
        self.assertEqual(self.states(client), {"a": "orphaned", "b": "open"})
        self.assertEqual(self.picked(client), {"a", "b"})
        self.lose("a")
        self.assertEqual(self.states(client), {"b": "open"})
        self.clock.pump([1] * 5)
        self.assertEqual(len(self.endpoints["a"].dials), 1)

    def test_orphanReturns(self) -> None:
        """Its record is back: nothing was closed, and it is dialed again when it is lost."""
        client = self.following("ab", 2)
        session = client.sessions[0]
        self.registry.tell(removed=[provider("a")])
        self.endpoints["a"].dials[1].transport.lose(ConnectionRefusedError())
        self.clock.pump([1] * 5)
        self.assertEqual(len(self.endpoints["a"].dials), 2)
        self.registry.tell([provider("a", weight=7)])
        self.answerAll()
        self.assertEqual(self.states(client), {"a": "open", "b": "open"})
        self.assertEqual(len(client.sessions), 4)
        self.assertIn(session, client.sessions)
        self.assertEqual(session.provider.weight, 7)
        self.lose("a")
        self.clock.pump([0.1] * 10)
        self.assertEqual(len(self.endpoints["a"].pending), 2)

    def test_neverOpen(self) -> None:
        """One that has no session when its record goes is forgotten at once, in whatever state the dial is."""
        client = self.following("a")
        self.registry.tell([provider("b")])
        self.registry.tell(removed=[provider("b")])
        self.assertEqual(self.states(client), {"a": "open"})
        self.assertTrue(self.endpoints["b"].dials[0].cancelled)
        self.endpoints["b"].dials[0].succeed()
        self.assertEqual(self.picked(client), {"a"})

    def test_leaving(self) -> None:
        """A leaver is not picked from now on; its sessions are closed when nothing has come for half a second."""
        client = self.following("ab")
        a = client.sessions[0]
        self.registry.tell(changed=[provider("a", state="leaving")])
        self.assertEqual(self.states(client), {"a": "leaving", "b": "open"})
        self.assertEqual(self.picked(client), {"b"})
        self.assertEqual(client.sessions, [each for each in client.sessions if each.provider.id == "b"])
        self.clock.pump([0.1] * 4)
        self.endpoints["a"].dials[0].transport.protocol.dataReceived(b"more\n")
        self.clock.pump([0.1] * 4)
        self.assertFalse(a.isClosed)
        self.clock.pump([0.1] * 2)
        self.assertTrue(a.isClosed)
        self.registry.tell(removed=[provider("a", state="leaving")])
        self.assertEqual(self.states(client), {"b": "open"})
        self.clock.pump([1] * 5)
        self.assertEqual(len(self.endpoints["a"].dials), 1)

    def test_drainTime(self) -> None:
        """Pending bytes, or a listener that is busy, have until drainTime."""
        client = self.following("ab", drainTime=3)
        self.listener.isBusy = True  # type: ignore[attr-defined]
        a, b = client.sessions
        self.registry.tell(changed=[provider("a", state="leaving"), provider("b", state="leaving")])
        self.clock.pump([0.1] * 20)
        self.assertEqual([a.isClosed, b.isClosed], [False, False])
        b.abort()
        self.clock.pump([0.1] * 12)
        self.assertTrue(a.isClosed)
        self.assertEqual(len(client._pool.drains), 0)

    def test_leavingAndGone(self) -> None:
        """Gone in the same turn as it said that it leaves, or after: it is no orphan."""
        client = self.following("abc")
        self.registry.tell(removed=[provider("a", state="leaving")])
        self.registry.tell(changed=[provider("b", state="leaving")])
        self.registry.tell(removed=[provider("b")])
        self.assertEqual(self.states(client), {"c": "open"})
        self.assertEqual(self.picked(client), {"c"})

    def test_leavingFirst(self) -> None:
        """One that is leaving when it is heard of first is known and not dialed; it may think better of it."""
        client = self.following("a")
        self.registry.tell([provider("b", state="leaving")])
        self.assertEqual(self.states(client), {"a": "open", "b": "leaving"})
        self.assertNotIn("b", self.endpoints)
        self.registry.tell(changed=[provider("b")])
        self.answerAll()
        self.assertEqual(self.states(client), {"a": "open", "b": "open"})

    def test_orphanLeaves(self) -> None:
        """Also an orphan is drained when it says that it leaves."""
        client = self.following("ab")
        self.registry.tell(removed=[provider("a")])
        self.registry.tell([provider("a", state="leaving")])
        self.assertEqual((self.states(client)["a"], self.picked(client)), ("leaving", {"b"}))

    def test_moved(self) -> None:
        """Another endpoint: new sessions, and the old ones are drained."""
        client = self.following("ab")
        old = client.sessions[0]
        self.registry.tell(changed=[provider("a", endpoint="tcp:a2:1")])
        self.assertEqual(self.picked(client), {"b"})
        self.answerAll()
        self.assertEqual(self.picked(client), {"a", "b"})
        self.assertNotIn(old, client.sessions)
        self.assertFalse(old.isClosed)
        self.clock.pump([0.1] * 7)
        self.assertTrue(old.isClosed)
        self.clock.pump([1] * 3)
        self.assertEqual([len(self.endpoints[name].dials) for name in ("a", "a2")], [1, 1])

    def test_replace(self) -> None:
        """A session with one that leaves or is orphaned has no successor."""
        client = self.following("ab")
        a, b = client.sessions
        self.registry.tell(removed=[provider("a")], changed=[provider("b", state="leaving")])
        client.replace(a)
        client.replace(b)
        self.clock.pump([1] * 2)
        self.assertEqual([len(each.dials) for each in self.endpoints.values()], [1, 1])
        self.assertEqual(client.sessions, [])


class WeightTests(FollowingCase):
    """Weights, zones and priorities of records, which change."""

    def share(self, client: Any, id: str, picks: int = 300) -> float:
        """The share of picks of a provider."""
        return sum(client.pick().provider.id == id for _ in range(picks)) / picks

    def test_weight(self) -> None:
        """A changed weight holds at once, and 0 takes it out as long as there is another."""
        client = self.following("ab")
        self.registry.tell(changed=[provider("a", weight=300)])
        self.assertLess(abs(self.share(client, "a") - 0.75), 0.02)
        self.registry.tell(changed=[provider("a", weight=0)])
        self.assertEqual(self.picked(client), {"b"})
        self.lose("b")
        self.assertEqual(self.picked(client), {"a"})

    def test_warmUp(self) -> None:
        """One that comes later gets its weight from its first session on, beginning with a tenth."""
        client = self.following("ab", warmUp=100)
        self.assertLess(abs(self.share(client, "a") - 0.5), 0.02)
        self.registry.tell([provider("c")])
        self.clock.advance(2)
        self.endpoints["c"].answer()
        self.assertLess(abs(self.share(client, "c", 630) - 0.1 / 2.1), 0.02)
        self.clock.advance(50)
        self.assertLess(abs(self.share(client, "c") - 0.5 / 2.5), 0.02)
        self.clock.advance(50)
        self.assertLess(abs(self.share(client, "c") - 1 / 3), 0.02)

    def test_zone(self) -> None:
        """The own zone, while at least half of it is open."""
        client = self.following(zone="east")
        self.registry.tell([provider(name, zone="east" if name < "d" else "west") for name in "abcdef"])
        self.endpoints["d"].answer()
        self.endpoints["a"].answer()
        self.assertEqual(self.picked(client), {"a", "d"})
        self.answerAll()
        self.assertEqual(self.picked(client), set("abc"))
        self.lose("a")
        self.assertEqual(self.picked(client), set("bc"))
        self.registry.tell(changed=[provider("b", zone="west")])
        self.assertEqual(self.picked(client), {"c"})

    def test_priority(self) -> None:
        """The lowest number of meta["priority"] of which one is open."""
        client = self.following()
        self.registry.tell([provider(name, meta={"priority": int(name > "b")}) for name in "abcd"])
        self.answerAll()
        self.assertEqual(self.picked(client), set("ab"))
        for name in "ab":
            self.endpoints[name].refusing = True
            self.lose(name)
        self.assertEqual(self.picked(client), set("cd"))


class SubsetTests(FollowingCase):
    """Sessions with some of many."""

    names = "abcdefghijklmnopqrstuvwxyz"

    def ids(self, client: Any) -> set[str]:
        """Those that are dialed."""
        return {id for id, state in self.states(client).items() if state != "idle"}

    def test_subset(self) -> None:
        """So many are dialed; one more for each that is not open, until it is."""
        client = self.following(self.names, subset=5)
        chosen = self.ids(client)
        self.assertEqual((len(chosen), len(client.sessions), len(client.providers)), (5, 5, 26))
        lost = min(chosen)
        self.endpoints[lost].refusing = True
        self.lose(lost)
        (more,) = self.ids(client) - chosen
        self.answerAll()
        self.assertEqual(self.picked(client, 60), chosen - {lost} | {more})
        self.endpoints[lost].refusing = False
        self.clock.pump([0.1] * 5)
        self.endpoints[lost].answer()
        self.assertEqual(self.ids(client), chosen)
        self.assertEqual(self.picked(client, 60), chosen)
        self.clock.pump([0.1] * 10)
        self.assertTrue(self.endpoints[more].dials[0].transport.disconnecting)

    def test_orphan(self) -> None:
        """An orphan that is not in the subset any more is forgotten."""
        client = self.following(self.names, subset=5)
        chosen = self.ids(client)
        self.lose(min(chosen))
        (more,) = self.ids(client) - chosen
        self.answerAll()
        self.registry.tell(removed=[provider(more)])
        self.assertEqual(self.states(client)[more], "orphaned")
        self.clock.pump([0.1] * 5)
        self.endpoints[min(chosen)].answer()
        self.assertNotIn(more, self.states(client))
        self.assertEqual(self.ids(client), chosen)

    def test_moves(self) -> None:
        """One that goes is replaced by one other, and no other moves."""
        client = self.following(self.names, subset=5)
        chosen = self.ids(client)
        gone = min(chosen)
        self.registry.tell(changed=[provider(gone, state="leaving")])
        self.answerAll()
        after = self.ids(client) - {gone}
        self.assertEqual((len(after), len(after & chosen)), (5, 4))
        self.registry.tell(removed=[provider(gone)])
        self.registry.tell([provider(gone)])
        self.answerAll()
        self.assertEqual(self.ids(client), chosen)

    def test_allAway(self) -> None:
        """When nobody answers, not all are dialed, but some more."""
        for name in self.names:
            self.named(name).refusing = True
        client = self.following(self.names, subset=2)
        self.clock.pump([0.5] * 40)
        self.assertEqual(len(self.ids(client)), 22)
