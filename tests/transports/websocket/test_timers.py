"""Timers of sessions over WebSocket and UDP."""

from __future__ import annotations

from getty_tx.codecs import LineCodec
from getty_tx.errors import IdleTimeoutError, ReadTimeoutError
from tests.support.datagrams import OTHER, PEER, DatagramCase
from tests.support.websocket import WebSocketCase
from tests.support.websocket import frame as webSocketFrame


class WebSocketTimeTests(WebSocketCase):
    """Timers of WebSocket sessions."""

    def answerPings(self) -> int:
        """Answer pings; returns how many there were."""
        pings = [payload for first, payload in self.said() if first == 0x89]
        for ping in pings:
            self.say(webSocketFrame(10, ping))
        return len(pings)

    def test_pings(self) -> None:
        """Pings of either side, and their answers, do not count as activity."""
        self.open(idleTimeout=40.0, cronPeriod=7.0)
        pings = 0
        for _ in range(39):
            self.pair.advance(1.0)
            pings += self.answerPings()
            self.say(webSocketFrame(9, b"are you there?"))
            self.assertNotIn("error", self.heard.names)
        self.assertEqual(pings, 5)
        self.said()
        self.pair.advance(11.2)
        self.assertIsInstance(self.heard.errors[0], IdleTimeoutError)
        self.assertEqual([payload for first, payload in self.said() if first == 0x88], [b"\x03\xe9"])

    def test_messages(self) -> None:
        """Messages of either side count as activity."""
        for isClient in (False, True):
            self.open(idleTimeout=8.0, isClient=isClient)
            session = self.pair.client if isClient else self.pair.server
            for i in range(6):
                self.pair.advance(7.5)
                if i % 2:
                    session.writePkg(b"here")
                else:
                    self.say(webSocketFrame(2, b"here", masked=not isClient))
                self.answerPings()
            self.assertNotIn("error", self.heard.names)
            self.pair.advance(10.3)
            self.assertIsInstance(self.heard.errors[0], IdleTimeoutError)

    def test_lifetime(self) -> None:
        """maxLifetime sends 1001, not 1000."""
        self.open(maxLifetime=5.0)
        self.pair.advance(5.2)
        self.assertEqual(self.said(), [(0x88, b"\x03\xe9")])
        self.say(webSocketFrame(8, b"\x03\xe9"))
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_stall(self) -> None:
        """The answer to a ping is in time even if it is read late."""
        self.open(cronPeriod=10.0)
        self.pair.advance(15)
        [(_, ping)] = self.said()
        self.pair.clock.rightNow += 10.0
        self.pair.clientTransport.memory.send(webSocketFrame(10, ping))
        self.pair.flush()
        self.pair.advance(5)
        self.assertNotIn("error", self.heard.names)
        self.pair.advance(6)
        self.assertEqual(len(self.said()), 1)
        # The next ping is not answered.
        self.pair.clock.rightNow += 20.0
        self.pair.flush()
        self.pair.advance(0.2)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)


class DatagramTimeTests(DatagramCase):
    """Timers of UDP sessions."""

    def test_peers(self) -> None:
        """Each peer has its own time; a later datagram of its address opens another session."""
        self.open(sessions="peer", idleTimeout=8.0)
        self.receive(b"x\n")
        self.receive(b"x\n", OTHER)
        for _ in range(50):
            self.clock.advance(0.25)
            self.receive(b"x\n", OTHER)
        names = [name for name in self.heard.names if name not in ("message", "cron")]
        self.assertEqual(names, ["open", "open", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], IdleTimeoutError)
        self.receive(b"x\n")
        self.assertEqual(self.heard.names[-2:], ["open", "message"])
        self.finish()

    def test_lifetimeOfPeers(self) -> None:
        """maxLifetime holds for each peer."""
        self.open(sessions="peer", maxLifetime=8.0)
        for _ in range(32):
            self.assertNotIn("close", self.heard.names)
            self.receive(b"x\n")
            self.clock.advance(0.25)
        self.assertEqual(self.heard.names, ["open"] + ["message"] * 32 + ["close"])
        self.finish()

    def test_client(self) -> None:
        """Both limits hold for a client's session."""
        for limit, names in (("idleTimeout", ["open", "error", "close"]), ("maxLifetime", ["open", "close"])):
            session = self.open(peer=PEER, **{limit: 8.0})
            self.clock.pump([0.25] * 30)
            self.assertEqual(self.heard.names, ["open"])
            self.clock.pump([0.25] * 14)
            self.assertEqual(self.heard.names, names)
            self.assertFalse(session.closedLocally)
            self.finish()

    def test_socket(self) -> None:
        """The session of a server's socket stays, because otherwise nobody could reach the server."""
        session = self.open(idleTimeout=8.0, maxLifetime=8.0, readTimeout=8.0, codec=LineCodec())
        session.idleTimeout = 4.0
        self.clock.pump([1.0] * 50)
        self.assertEqual(self.heard.names, ["open"])
        self.finish()
