"""``maxPublication``: it holds for the bytes of a package, whatever the package is and whoever makes bytes of it."""

from __future__ import annotations

from typing import Any

from getty_tx.codecs import JsonLinesCodec
from getty_tx.groups import (
    EngineDownError,
    GroupError,
    Groups,
    MemoryEngine,
    Namespace,
    Publication,
    PublicationTooLongError,
)
from getty_tx.groups.queueing import MOST_BYTES
from getty_tx.groups.redis import envelope
from getty_tx.testing import RecordingListener
from tests.support.groups import GroupsCase
from tests.support.hub import KEPT, HubCase

#: What is said of each that is too long.
SAYS = "maxPublication=1000 of its namespace: publish it in parts, or set maxPublication= higher"


class CountingCodec(JsonLinesCodec):
    """Counts what it has encoded."""

    written = 0

    def write(self, session: Any, pkg: Any) -> Any:
        type(self).written += 1
        return super().write(session, pkg)


class AwayEngine(MemoryEngine):
    """May be away."""

    def goes(self, user: Groups) -> None:
        self.isUp = False
        user.engineDown(EngineDownError("refused"))

    def comes(self, user: Groups) -> None:
        self.isUp = True
        user.engineUp()


class LocalTests(GroupsCase):
    """One process: members' codec makes bytes of what is published."""

    def namespaces(self) -> dict[str, Namespace]:
        return {
            "": Namespace(maxPublication=1000, historySize=5, historySeconds=60),
            "local": Namespace(maxPublication=1000, whenDown="local"),
            "queue": Namespace(whenDown="queue"),
        }

    def engine(self) -> Any:
        return AwayEngine()

    def newSession(self, session: Any) -> None:
        session.codec = CountingCodec()
        session.listener = RecordingListener()

    def newClientSession(self, session: Any) -> None:
        super().newClientSession(session)
        session.codec = JsonLinesCodec()

    def refused(self, name: str, pkg: Any) -> None:
        """It is too long."""
        failed = self.failureResultOf(self.groups.group(name).publish(pkg), PublicationTooLongError)
        self.assertIn(f"{name}: a publication of 10", str(failed.value))
        self.assertIn(SAYS, str(failed.value))

    def test_encoded(self) -> None:
        """The publisher is told, nobody gets it, nor is it kept; what is not too long is encoded once."""
        a, b = self.member(), self.member()
        group = self.groups.group("room")
        CountingCodec.written = 0
        self.refused("room", {"x": "y" * 1000})
        self.assertEqual(CountingCodec.written, 1)
        group.publish({"n": 1})
        group.publish(["y" * 990])
        self.go()
        self.assertEqual([self.got(each) for each in (a, b)], [[{"n": 1}, ["y" * 990]]] * 2)
        self.assertEqual(CountingCodec.written, 3)
        history = self.successResultOf(group.history())
        self.assertEqual(
            ([each.pkg for each in history.publications], history.position.offset), ([{"n": 1}, ["y" * 990]], 2)
        )
        self.assertEqual(group.waitingBytes, 0)

    def test_texts(self) -> None:
        """Counted in bytes: these are two or three for a character."""
        for pkg in ("y" * 1001, "ä" * 501, "€" * 334, "\ud800" * 334):
            self.refused("room", pkg)
        self.successResultOf(self.groups.group("room").publish("€" * 333))

    def test_nobodyThere(self) -> None:
        """Without a member nobody makes bytes of it."""
        self.successResultOf(self.groups.group("room").publish({"x": "y" * 1000}))

    def test_whileDown(self) -> None:
        """What members of this process get meanwhile, and what waits for the engine, whatever it is."""
        member = self.member("local:1")
        self.groups.engine.goes(self.groups)  # type: ignore[attr-defined]
        self.refused("local:1", {"x": "y" * 1000})
        self.groups.group("local:1").publish({"n": 1})
        self.go()
        self.assertEqual(self.got(member), [{"n": 1}])
        group = self.groups.group("queue:1")
        self.failureResultOf(group.publish({"x": "y" * MOST_BYTES}), PublicationTooLongError)
        self.failureResultOf(group.publish({1, 2}), GroupError)
        first, second = (group.publish({"x": "y" * (MOST_BYTES - 1000)}) for _ in range(2))
        self.failureResultOf(second, EngineDownError)
        self.groups.engine.comes(self.groups)  # type: ignore[attr-defined]
        self.successResultOf(first)


class PackedTests(HubCase):
    """Several processes: the engine makes bytes of what is published."""

    def test_hub(self) -> None:
        """The publisher is told; a request that was not sent is not waited for."""
        groups = Groups(
            self.engine()[0].__class__(self.pair()[0]), {"": Namespace(maxPublication=1000)}, reactor=self.clock
        )
        groups.startService()
        self.addCleanup(groups.stopService)
        group = groups.group("room")
        for pkg in ({"x": "y" * 1000}, ["y" * 1000], 10**1001):
            failed = self.failureResultOf(group.publish(pkg), PublicationTooLongError)
            self.assertIn("room: a publication of 10", str(failed.value))
            self.assertIn(SAYS, str(failed.value))
        self.failureResultOf(group.publish("\ud800"), GroupError)
        self.assertEqual(groups.engine._requests, {})
        done = group.publish({"x": "y" * 990})
        self.clock.pump()
        self.successResultOf(done)

    def test_redis(self) -> None:
        publication = Publication({"x": "y" * 1000}, limit=1000)
        error = self.assertRaises(PublicationTooLongError, envelope.restOf, publication, b"me", "room")
        self.assertIn(f"room: a publication of 1008 bytes is longer than {SAYS}", str(error))
        publication.limit = 1008
        self.assertTrue(envelope.restOf(publication, b"me", "room").endswith(b'yy"}'))

    def test_noLimit(self) -> None:
        """What is told to processes has none."""
        engine, _ = self.engine()
        done = engine.publish("room", Publication({"reason": "y" * 10_000}, kind=2), KEPT)
        self.clock.pump()
        self.successResultOf(done)
