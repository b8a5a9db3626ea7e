"""Frames of the hub: cut anywhere, and garbage."""

from __future__ import annotations

import random
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.groups import Member, Publication
from getty_tx.groups.hub import carried, wire
from getty_tx.groups.hub.hub import Hub
from getty_tx.groups.hub.wire import Frames, WireError
from tests.support.hub import KEPT, HubCase
from tests.tap.test_listen import keepLog

GREETING = wire.frame(wire.HELLO, wire.GREETING)


class FramesTests(SynchronousTestCase):
    def test_cut(self) -> None:
        """Frames come as they were sent, wherever the stream is cut."""
        chance = random.Random(1)
        every = [(chance.randrange(256), chance.randbytes(chance.choice([0, 1, 5, 300]))) for _ in range(200)]
        stream = b"".join(wire.frame(*each) for each in every)
        for most in (1, 3, 7, 100, 5000):
            frames, got, at = Frames(), [], 0
            while at < len(stream):
                size = chance.randint(1, most)
                got += frames.feed(stream[at : at + size])
                at += size
            self.assertEqual(got, every)

    def test_tooLong(self) -> None:
        with self.assertRaises(WireError):
            list(Frames().feed(struct.pack("<IB", wire.MAX_FRAME + 1, 1)))
        self.assertRaises(wire.GroupError, wire.frame, 1, bytes(wire.MAX_FRAME + 1))


class GarbageTests(HubCase):
    """What a sub-reactor may send that it must not."""

    def closes(self, *frames: bytes) -> None:
        """The pair of the one that has sent this is closed, and nothing else."""
        theirs, spoke = self.pair()
        theirs.sendall(b"".join(frames))
        self.clock.pump()
        self.assertEqual(spoke.link.fileno(), -1, frames)
        self.assertNotIn(spoke, self.hub.spokes)

    def test_garbage(self) -> None:
        """An error in the log, for each."""
        good = self.subscribed()
        publish = carried.packPublish(1, "room", Publication(b"x"), KEPT, "id")[5:]
        numbered = struct.pack("<I", 1)
        cases: list[tuple[int, bytes]] = [
            (255, b""),
            (wire.SUBSCRIBE, b""),
            (wire.SUBSCRIBE, numbered + b"\xff"),
            (wire.UNSUBSCRIBE, b"\xff"),
            (wire.PRESENT, b"no JSON"),
            (wire.PRESENT, b"[" * 100_000),
            (wire.PRESENT, b'["room", "key", null]'),
            (wire.PRESENT, b'["room", "key", 5, {}]'),
            (wire.ABSENT, b'{"room": 1}'),
            (wire.PRESENCE, b'[1, "room", -1]'),
            (wire.COUNTS, b"[1, [[]]]"),
            (wire.COUNTS, b"[-1, []]"),
            (wire.HISTORY, b"short"),
            (wire.HISTORY, carried.packHistory(1, "room", None, 1)[5:] + b"more"),
            *((wire.PUBLISH, publish[:size]) for size in range(len(publish))),
            (wire.PUBLISH, publish[:4] + b"\x09" + publish[5:]),
            (wire.PUBLISH, publish[:17] + struct.pack("<d", float("nan")) + publish[25:]),
            (wire.PUBLISH, publish[:-2] + b"?x"),
        ]
        for case in cases:
            if case[1] == publish[:-1]:
                # An empty package is one.
                continue
            self.closes(GREETING, wire.frame(*case))
        for first in (b"GET / HTTP/1.1\r\n\r\n", wire.frame(wire.RESET), wire.frame(wire.HELLO, b"")):
            self.closes(first)
        good[0].publish("room", Publication(b"y"), KEPT)
        self.clock.pump()
        self.assertEqual(good[1].take()[-1][:2], ("room", b"y"))

    def test_version(self) -> None:
        """A sub-reactor of another version, after a reload, is told so in the log."""
        lines = keepLog(self)
        self.closes(wire.frame(wire.HELLO, b"getty groups\x63"))
        self.assertTrue(any("version 99" in line and "restart" in line for line in lines), lines)

    def test_random(self) -> None:
        """Random bytes behind a greeting neither crash the hub nor keep its pair open for a wrong frame."""
        chance = random.Random(2)
        kinds = [kind for kind in b"hsuphiacnr" if kind != wire.RESET]
        for _ in range(300):
            theirs, spoke = self.pair()
            theirs.sendall(GREETING + wire.frame(chance.choice(kinds), chance.randbytes(chance.randrange(60))))
            self.clock.pump(2)
            theirs.close()
            self.clock.pump(2)
            self.assertEqual(spoke.link.fileno(), -1)
        self.flushLoggedErrors()
        self.assertEqual(self.hub.spokes, set())
        self.assertEqual(self.hub.interested, {})

    def test_fromMain(self) -> None:
        """What an engine cannot read ends its pair, and the groups hear it."""
        for case in (
            (255, b""),
            (wire.DELIVER, b"short"),
            (wire.PUBLISHED, b""),
            (wire.ANSWER, b""),
            (wire.MEMBERS, b'["room", [[1]], []]'),
            (wire.HELLO, b"getty groups\x63"),
        ):
            engine, user = self.subscribed()
            self.spokes[engine].link.send(wire.frame(*case))
            self.clock.pump()
            self.assertEqual(user.take()[-1][0], "down", case)

    def test_wrongAnswer(self) -> None:
        """A request whose answer cannot be read fails."""
        engine, user = self.subscribed()
        self.clock.stopped.add(self.spokes[engine].link)
        asked = engine.presence("room", 5)
        self.spokes[engine].link.send(next(wire.answerParts(2, [b"nonsense"])))
        self.clock.pump()
        self.failureResultOf(asked, wire.GroupError)
        self.assertEqual(user.take()[-1][0], "down")


class CodingTests(SynchronousTestCase):
    def test_members(self) -> None:
        values: Any = [["k", None, {}], ["l", "u", {"x": 1}]]
        self.assertEqual(wire.membersOf(values), [Member("k"), Member("l", "u", {"x": 1})])
        self.assertTrue(Hub.__doc__)
