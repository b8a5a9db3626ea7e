"""What readTimeout says about a callback that runs when the peer has ended its side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.errors import ReadTimeoutError
from getty_tx.wheel import TICK
from tests.support.memory import SessionCase, frame

if TYPE_CHECKING:
    from getty_tx.testing import Pair


class HangingTests(SessionCase):
    """readTimeout after the peer's end."""

    def hang(self, **settings: Any) -> Pair:
        """A session whose peer asks, and then ends its side, while an ``async def onMessage`` never answers."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, **settings)
        pair.peer.write(frame(b"1"))
        pair.advance(5)
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        return pair

    def assertHung(self, pair: Pair) -> None:
        """The connection is gone, and its callback is cancelled after waitTime."""
        self.assertIsNotNone(pair.peer.lost)
        pair.advance(pair.server.waitTime + TICK)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.assertIn("the peer has ended its side", str(self.heard.errors[0]))
        self.assertEnded()

    def test_hangs(self) -> None:
        """The time counts while an async callback runs whose peer has ended its side, from that end on."""
        pair = self.hang(readTimeout=2.0)
        pair.advance(1.9)
        self.assertIsNone(pair.peer.lost)
        pair.advance(0.3)
        self.assertHung(pair)

    def test_hangsInOnOpen(self) -> None:
        """The same holds for onOpen."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"open": lambda session: gate}, readTimeout=2.0)
        pair.peer.end()
        pair.advance(2.2)
        self.assertIsNotNone(pair.peer.lost)
        pair.advance(pair.server.waitTime + TICK)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_answersSlowly(self) -> None:
        """A callback that goes on sending does not hang; touch() helps one that has nothing to send."""
        pair = self.hang(readTimeout=2.0)
        for _ in range(5):
            pair.advance(1.2)
            pair.server.writePkg(b"part")
        for _ in range(5):
            pair.advance(1.2)
            pair.server.touch()
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.advance(1.9)
        self.assertIsNone(pair.peer.lost)
        pair.advance(0.3)
        self.assertHung(pair)

    def test_stopsInItsAnswer(self) -> None:
        """The last write counts, to a quarter of the time."""
        pair = self.hang(readTimeout=8.0)
        pair.advance(0.1)
        pair.server.writePkg(b"part")
        pair.advance(8.0)
        self.assertIsNone(pair.peer.lost)
        pair.advance(2.2)
        self.assertHung(pair)

    def test_hangsWithoutTimeout(self) -> None:
        """Without readTimeout the answer may take as long as it takes."""
        pair = self.hang()
        pair.advance(55)
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.server.abort()
        pair.advance(pair.server.waitTime + TICK)
        self.assertEnded()

    def test_pausedAfterTheEnd(self) -> None:
        """pauseReading() stops the time also after the peer's end."""
        pair = self.hang(readTimeout=2.0)
        pair.server.pauseReading()
        pair.advance(20)
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.server.resumeReading()
        pair.advance(2.8)
        self.assertHung(pair)
