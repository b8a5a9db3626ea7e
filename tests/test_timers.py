"""What time brings: onCron and readTimeout."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from getty_tx.errors import ReadTimeoutError
from tests.memory import SessionCase, frame


class TimerTests(SessionCase):
    """onCron and readTimeout."""

    def test_cron(self) -> None:
        """onCron comes every cronPeriod, and no more after the end."""
        pair = self.open(cronPeriod=10.0, autoClose=True)
        pair.advance(35)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3)
        pair.server.close()
        pair.advance(100)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3 + ["close"])
        self.assertEnded()

    def test_cronPeriodChanges(self) -> None:
        """A new period counts from the moment it is set."""
        pair = self.open(cronPeriod=10.0)
        pair.advance(5)
        pair.server.cronPeriod = 1.0
        pair.advance(3.5)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3)

    def test_cronWaitsForAsyncCallbacks(self) -> None:
        """A turn of the cron is left out while an async callback runs."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, cronPeriod=1.0)
        pair.peer.write(frame(b"1"))
        pair.advance(3.5)
        self.assertEqual(self.heard.names, ["open", "message"])
        gate.callback(None)
        pair.advance(1)
        self.assertEqual(self.heard.names, ["open", "message", "cron"])

    def test_readTimeout(self) -> None:
        """Silence for readTimeout seconds fails the session; bytes and touch() start it anew."""
        pair = self.open(readTimeout=2.0, autoClose=True)
        pair.advance(1.5)
        pair.peer.write(b"\0")
        pair.advance(1.5)
        pair.server.touch()
        pair.advance(1.9)
        self.assertEqual(self.heard.names, ["open"])
        pair.advance(0.3)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.assertIs(self.heard.errors[0].session, pair.server)  # type: ignore[attr-defined]  # checked above
        self.assertEnded()

    def test_readTimeoutIsNoneByDefault(self) -> None:
        """Idle is not an error."""
        pair = self.open()
        pair.advance(200)
        self.assertEqual(set(self.heard.names), {"open", "cron"})

    def test_readTimeoutWhilePaused(self) -> None:
        """A session that does not listen does not blame the peer."""
        pair = self.open(readTimeout=2.0)
        pair.server.pauseReading()
        pair.advance(10)
        self.assertEqual(self.heard.names, ["open"])
        pair.server.resumeReading()
        pair.advance(10)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)

    def test_readTimeoutTakenBack(self) -> None:
        """None takes it back while the session runs."""
        pair = self.open(readTimeout=2.0)
        pair.advance(1)
        pair.server.readTimeout = None
        pair.advance(10)
        self.assertEqual(self.heard.names, ["open"])
