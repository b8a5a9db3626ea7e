"""How many connections were refused, and why."""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from getty_tx.session.context import ServiceContext
from getty_tx.session.refusals import REASONS
from getty_tx.testing import MemoryReactor, RecordingListener
from getty_tx.tls import serverPolicy
from getty_tx.transports.udp import peers
from getty_tx.transports.websocket import WebSocketSessionServerFactory
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.certificates import selfSigned
from tests.support.datagrams import DatagramCase
from tests.support.memory import configure
from tests.support.websocket import request
from tests.transports.test_host_limits import ONE, OTHER, LimitCase


class RefusalTests(LimitCase):
    """How many were refused, and why."""

    def counted(self) -> dict[str, int]:
        """Those that are not 0."""
        return {reason: count for reason, count in self.context.refusals.counts.items() if count}

    def test_reasons(self) -> None:
        """Each of them is there from the beginning, and ``refused`` is the sum."""
        context = ServiceContext(None, lambda session: None, reactor=MemoryReactor())
        self.assertEqual(context.refusals.counts, dict.fromkeys(REASONS, 0))
        for times, reason in enumerate(REASONS):
            for _ in range(times):
                context.countRefusal(reason, "to see")
        self.assertEqual(context.refused, sum(range(len(REASONS))))
        self.assertEqual([context.refusals.counts[reason] for reason in REASONS], list(range(len(REASONS))))

    def test_log(self) -> None:
        """One line in a second for each reason, with how many there were; a flood of one hides no other."""
        lines: list[str] = []

        def observer(event: Any) -> None:
            if event.get("log_namespace") == "getty_tx.session.refusals":
                lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        clock = MemoryReactor()
        context = ServiceContext(None, lambda session: None, reactor=clock)
        for _ in range(2):
            for i in range(500):
                context.countRefusal("maxSessions", f"number {i}")
            context.countRefusal("newSession", "not you")
            clock.advance(1.0)
        self.assertEqual(
            lines,
            [
                "connection refused: number 0 (maxSessions: 1 so far)",
                "connection refused: not you (newSession: 1 so far)",
                "connection refused: number 0 (maxSessions: 501 so far)",
                "connection refused: not you (newSession: 2 so far)",
            ],
        )

    def test_newSession(self) -> None:
        """What it does not take."""
        codec = configure(self.heard)

        def closes(session: Any) -> None:
            codec(session)
            session.close()

        for newSession in (lambda session: 1 / 0, lambda session: None, closes):
            self.serve(newSession=newSession)
            self.dial().flush()
            self.assertEqual(self.counted(), {"newSession": 1})
            self.assertEnded()

    def test_handshake(self) -> None:
        """TLS and the WebSocket, failed or left, and late; each once, whatever HTTP has answered."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        for kind in ("tls", "ws"):
            for how in ("garbage", "leave", "reset", "late"):
                self.serve()
                factory: Any = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
                if kind == "tls":
                    policy = serverPolicy(certificate, key)
                    factory = TLSMemoryBIOFactory(policy, False, self.factory, clock=self.network.clock)
                pair = self.dial(ONE, factory)
                if how == "garbage":
                    pair.peer.write(b"GET /nowhere HTTP/1.1\r\n\r\n")
                elif how == "leave":
                    pair.peer.transport.loseConnection()
                elif how == "reset":
                    pair.reset()
                pair.flush()
                if how == "late":
                    pair.advance(4)
                pair.peer.transport.loseConnection()
                pair.flush()
                expected = "handshakeTimeout" if how == "late" else "handshake"
                self.assertEqual(self.counted(), {expected: 1}, (kind, how))
                self.assertEnded()

    def test_answered(self) -> None:
        """What WebSocket's handshake is answered with 503 is counted by its own reason, once."""
        self.serve(maxSessions=1)
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        first = self.dial()
        second = self.dial(OTHER, web)
        second.peer.write(request())
        second.flush()
        self.assertIn(b" 503 ", bytes(second.peer.data))
        second.reset()
        second.flush()
        self.assertEqual(self.counted(), {"maxSessions": 1})
        first.reset()
        first.flush()
        self.assertEnded()

    def test_stopping(self) -> None:
        """Those that come while the service stops, or are in their handshake then, or stop it in newSession."""
        self.serve()
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        self.dial(ONE, web)
        self.context.closeAll()
        self.pair.flush()
        self.assertEqual(self.counted(), {"stopping": 1})
        self.dial()
        self.pair.flush()
        self.assertEqual(self.counted(), {"stopping": 2})
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        self.dial(ONE, web).peer.write(request())
        self.pair.flush()
        self.assertIn(b" 503 ", bytes(self.pair.peer.data))
        self.pair.reset()
        self.pair.flush()
        self.assertEqual(self.counted(), {"stopping": 3})
        self.assertEnded()
        configured = configure(self.heard)

        def stops(session: Any) -> None:
            configured(session)
            session.context.closeAll()

        self.serve(newSession=stops)
        self.dial()
        self.pair.flush()
        self.assertEqual(self.counted(), {"stopping": 1})
        self.assertEnded()

    def test_openSessionsAreNone(self) -> None:
        """What happens to sessions later is no refusal."""
        self.serve(newSession=configure(RecordingListener({"open": lambda session: 1 / 0})))
        self.dial().flush()
        self.pair.reset()
        self.pair.flush()
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(self.counted(), {})
        self.assertEnded()


class PeerRefusalTests(DatagramCase):
    """UDP's own reasons."""

    def test_peers(self) -> None:
        """Without maxSessions a socket has a bound of its own."""
        self.patch(peers, "MAX_PEERS", 3)
        self.open(sessions="peer")
        for port in range(1, 6):
            self.receive(b"x\n", (ONE, port))
        self.assertEqual(self.context.refusals.counts["peers"], 2)
        self.finish()
        self.open(sessions="peer", maxSessions=2)
        for port in range(1, 6):
            self.receive(b"x\n", (ONE, port))
        self.assertEqual(self.context.refusals.counts["maxSessions"], 3)
        self.finish()
