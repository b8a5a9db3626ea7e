"""
Random frames, whole and damaged, cut anywhere: ngh2 tells what h2 tells, or both end the connection with one code.

Where they do not, a rule of :py:data:`tests.support.framerules.RULES` says so, which are those of the page
``docs/inside/http2.md``. ``python -m tests.support.framerules`` counts how often each is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.two.h2engine import H2Engine
from getty_tx.http.two.ngh2engine import NgEngine
from tests.support.framerules import RULES, compare
from tests.support.frames import Run, damaged, frames, greeting, split
from tests.support.http2 import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    REQUEST,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.support.long import IS_LONG

if TYPE_CHECKING:
    from collections.abc import Callable

#: Of each property.
EXAMPLES = 1000 if IS_LONG else 60

#: Of a hundred damaged examples, those in which both are the same to the end, at least: nine in ten are, mostly.
SAME = 50

PAGE = Path(__file__).parents[2] / "docs" / "inside" / "http2.md"


def literal(stream: int, *fields: tuple[bytes, bytes], flags: int = 4) -> bytes:
    """A header block that changes no table."""
    return frame(
        HEADERS, flags, stream, b"".join(b"\0" + bytes((len(n),)) + n + bytes((len(v),)) + v for n, v in fields)
    )


INTERIM = b":status", b"103"
TRAILERS = literal(1, (b"a", b"b"))

#: For each rule which side hears what.
ALLOWED = {
    "a frame or a block that does not end": (True, frame(HEADERS, 0, 1, b"\x80")),
    "another frame within a block": (True, frame(HEADERS, 0, 1, b"\x80") + frame(PING, 0, 0, bytes(8))),
    "no room for padding or priority": (True, literal(1, *REQUEST) + frame(DATA, 8, 1)),
    "frames of extensions": (False, frame(10, 0, 0)),
    "an acknowledgement of no SETTINGS": (True, frame(SETTINGS, 1, 0)),
    "GOAWAY that names a stream of its sender": (True, frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4))),
    "too much credit for a stream": (True, literal(1, *REQUEST) + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff")),
    "a stream that depends on itself": (True, frame(PRIORITY, 0, 1, b"\0\0\0\1\0")),
    "frames behind a fault of their stream": (False, literal(1, (b":status", b"200")) + 2 * TRAILERS),
    "an interim answer that cannot be": (False, literal(1, INTERIM, flags=5)),
    "empty DATA behind an interim answer": (False, literal(1, INTERIM) + frame(DATA, 0, 1)),
    "Content-Length that is no number": (True, literal(1, *REQUEST, (b"content-length", b"x"))),
    "a fault behind GOAWAY": (True, literal(1, *REQUEST) + frame(GOAWAY, 0, 0, bytes(8)) + frame(DATA, 0, 0, b"x")),
}

CUTS = st.lists(st.integers(0, 600), max_size=8)


def joined(events: list[tuple[int, tuple[Any, ...]]]) -> dict[int, list[tuple[Any, ...]]]:
    """What was told of each stream, data joined."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for stream, one in events:
        told = found.setdefault(stream, [])
        if told and one[0] == told[-1][0] == "data" and not told[-1][2]:
            one = ("data", told.pop()[1] + one[1], one[2])
        told.append(one)
    return found


def isBeginning(some: list[Any], whole: list[Any]) -> bool:
    """Whether what is told of a stream begins so; the last data may be shorter."""
    for one, other in zip(some, whole, strict=False):
        if one != other:
            return one[0] == other[0] == "data" and other[1].startswith(one[1]) and one == some[-1]
    return len(some) <= len(whole)


def isSame(framed: list[Any], cut: list[Any]) -> bool:
    """
    Whether an engine tells of a stream what it does frame by frame.

    A stream with a fault has ended with the read: the peer may have reset it, in the same one, before that is told.
    """
    if framed == cut or framed[-1:] != [("ended", 1)]:
        return framed == cut
    # Of the reset of a stream whose head was not told nothing is recorded.
    isReset = [each[0] for each in cut[-2:]] == ["reset", "ended"]
    return framed[:-1] == cut[:-2] if isReset else len(framed) == 1 and [each[0] for each in cut] == ["ended"]


def withoutEnd(told: list[Any]) -> list[Any]:
    """What was told of a stream, but for how it has ended."""
    return [each for each in told if each[0] not in ("reset", "ended")]


class RandomFrames(SynchronousTestCase):
    """Both engines, in both roles."""

    def setUp(self) -> None:
        """Nothing was compared."""
        self.compared = self.same = 0

    def whole(self, isServer: bool, made: list[bytes], cuts: list[int]) -> None:
        """Both tell the same of what is right, and no fault."""
        sent = b"".join(made)
        found = compare(isServer, sent)
        self.assertIsNone(found.step, found)
        self.assertIsNone(found.ng.fault)
        self.cutAnywhere(isServer, sent, cuts)

    def damaged(self, isServer: bool, sent: bytes, cuts: list[int]) -> None:
        """Both tell the same of what is wrong, and end the connection with the same code, but for a rule."""
        found = compare(isServer, sent)
        self.compared += 1
        if found.step is None:
            self.same += 1
            event("the same")
        else:
            self.assertTrue(found.rule, found)
            event(found.rule)
        self.cutAnywhere(isServer, sent, cuts)

    def cutAnywhere(self, isServer: bool, sent: bytes, cuts: list[int]) -> None:
        """Each engine tells of the bytes, however they come, what it tells of them frame by frame."""
        whole = greeting(isServer) + sent
        ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
        for engine in NgEngine, H2Engine:
            one = self.fed(engine, isServer, [step.all for step in split(sent, greeting(isServer))])
            parts = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            other = self.fed(engine, isServer, parts)
            first, second = joined(one.told.events), joined(other.told.events)
            isLeaving = any(told[0] == "goingAway" for told in first.get(0, []))
            if not isLeaving:
                self.assertEqual(one.fault is None, other.fault is None)
            for stream in first.keys() | second.keys():
                told, same = first.get(stream, []), second.get(stream, [])
                if one.fault is None and not isLeaving:
                    self.assertTrue(isSame(told, same), (stream, told, same))
                else:
                    # The guard looks at all of a read before the engine has the first frame of it, and a fault comes
                    # ahead of what the engine tells at the end of a read: which streams have ended. Behind GOAWAY a
                    # connection without streams ends with the read.
                    told, same = withoutEnd(told), withoutEnd(same)
                    self.assertTrue(isBeginning(told, same) or isBeginning(same, told), (stream, told, same))

    def fed(self, engine: Callable[..., Any], isServer: bool, parts: list[bytes]) -> Run:
        """An engine that was given these parts."""
        run = Run(engine, isServer)
        for part in parts:
            run.give(part)
        return run

    def mostAreTheSame(self) -> None:
        """No rule swallows what it is not for."""
        self.assertGreater(self.same * 100, self.compared * SAME)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(frames(True), CUTS)
    def test_server(self, made: list[bytes], cuts: list[int]) -> None:
        """What clients send."""
        self.whole(True, made, cuts)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(frames(False), CUTS)
    def test_client(self, made: list[bytes], cuts: list[int]) -> None:
        """What servers send."""
        self.whole(False, made, cuts)

    def test_serverDamaged(self) -> None:
        """What clients should not send."""

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(damaged(True), CUTS)
        def look(case: tuple[list[str], bytes], cuts: list[int]) -> None:
            self.damaged(True, case[1], cuts)

        look()
        self.mostAreTheSame()

    def test_clientDamaged(self) -> None:
        """What servers should not send."""

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(damaged(False), CUTS)
        def look(case: tuple[list[str], bytes], cuts: list[int]) -> None:
            self.damaged(False, case[1], cuts)

        look()
        self.mostAreTheSame()

    def test_rules(self) -> None:
        """Each has its example, and no other allows it."""
        self.assertEqual({name: compare(*case).rule for name, case in ALLOWED.items()}, {name: name for name in RULES})

    def test_page(self) -> None:
        """The page of the engines has these rules, and no others."""
        rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| *")]
        self.assertEqual([row.split("*")[1] for row in rows], list(RULES))
