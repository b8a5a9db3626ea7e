"""How WebSocket sessions end: close frames, lost peers, time-outs."""

from __future__ import annotations

from typing import Any

from getty_tx.errors import (
    CodecError,
    MessageTooLongError,
    PeerClosedError,
    SessionClosedError,
)
from tests.support.websocket import WebSocketCase, closeFrame, frame

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}


class ClosingTests(WebSocketCase):
    """Who closes, why, and with which code."""

    def code(self) -> tuple[int, str]:
        first, payload = self.said()[-1]
        self.assertEqual(first, 0x88)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def test_local(self) -> None:
        """``close()`` sends 1000 and its reason, after the bytes written before."""
        self.open()
        self.pair.server.writePkg("last")
        self.pair.server.close("bye")
        self.pair.flush()
        self.assertEqual(self.said(), [(0x81, b"last"), (0x88, b"\x03\xe8bye")])
        self.assertRaises(SessionClosedError, self.pair.server.writePkg, b"")
        self.say(frame(2, b"too late"), closeFrame())
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_inCallback(self) -> None:
        """The same in a callback, with more bytes of the same read after it."""
        for more in (frame(2, b"x") * 3, frame(1, b"y", fin=False), frame(2, b"z" * 200)[:50]):
            self.open({"message": lambda session, pkg: session.close()})
            self.say(frame(2, b"a") + more)
            self.assertEqual(self.code()[0], 1000)
            rest = frame(2, b"z" * 200)[50:] if len(more) == 50 else b""
            self.say(rest + closeFrame())
            self.assertEqual(self.heard.names, ["open", "message", "close"])
            self.assertEnded()

    def test_silentPeer(self) -> None:
        """A peer that does not answer the Close frame is left after waitTime."""
        self.open(waitTime=2.0)
        self.pair.server.close()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        self.pair.advance(2.2)
        self.assertEqual(self.heard.names, ["open", "close"])

    def test_serverStops(self) -> None:
        """1001 when the service stops."""
        self.open()
        stopped = self.factory.context.closeAll()
        self.pair.flush()
        self.assertEqual(self.code()[0], 1001)
        self.say(closeFrame(1001))
        self.successResultOf(stopped)
        self.assertEqual(self.heard.names, ["open", "close"])

    def test_clientStops(self) -> None:
        """1000 when a pool is closed; the server ends the connection."""
        self.open(isClient=True)
        stopped = self.factory.context.closeAll()
        self.pair.flush()
        self.assertEqual(self.code()[0], 1000)
        self.say(closeFrame(masked=False))
        self.assertNoResult(stopped)
        self.pair.peer.end()
        self.pair.flush()
        self.successResultOf(stopped)
        self.assertEnded()

    def test_peer(self) -> None:
        """1000, 1001 and no code are a normal end; pending bytes are sent before the answer."""
        for code in (1000, 1001, None):
            self.open(ECHO)
            self.say(frame(2, b"a") + closeFrame(code))
            said = self.said()
            self.assertEqual([said[0], said[1][0]], [(0x82, b"a"), 0x88])
            self.assertEqual(self.heard.names, ["open", "message", "close"])
            self.assertEnded()

    def test_peerFails(self) -> None:
        """Any other code is given to onError, with its reason."""
        for code in (1002, 1011, 3000, 4999):
            self.open()
            self.say(closeFrame(code, "because"))
            self.assertEqual(self.heard.names, ["open", "error", "close"])
            error: Any = self.heard.errors[0]
            self.assertIsInstance(error, PeerClosedError)
            self.assertEqual((error.code, error.reason), (code, "because"))
            self.assertIs(error.session, self.pair.server)
            self.assertEnded()

    def test_peerVanishes(self) -> None:
        """The end of the connection without a Close frame is 1006, after the messages before it."""
        self.open()
        self.pair.peer.write(frame(2, b"a"))
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEqual(getattr(self.heard.errors[0], "code", None), 1006)
        self.assertEnded()

    def test_reset(self) -> None:
        """A reset is the network's own error."""
        self.open()
        self.pair.reset()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEnded()

    def test_tooLong(self) -> None:
        """1009 after the header of a message that is too long; the rest of it is skipped."""
        for first in (frame(2, b"x" * 300), frame(2, b"x" * 60, fin=False) + frame(0, b"x" * 60)):
            self.open(maxMsgLen=100)
            self.say(first[:20], first[20:])
            self.assertEqual(self.code()[0], 1009)
            self.assertIsInstance(self.heard.errors[0], MessageTooLongError)
            self.say(closeFrame(1009))
            self.assertEqual(self.heard.names, ["open", "error", "close"])
            self.assertEnded()

    def test_violations(self) -> None:
        """1002 for violations of the protocol, 1007 for text that is not UTF-8."""
        for wrong, code in [
            (frame(2, b"a", masked=False), 1002),
            (frame(3), 1002),
            (frame(2, rsv=1), 1002),
            (frame(0, b"a"), 1002),
            (frame(9, b"a", fin=False), 1002),
            (frame(2, b"a", form=2), 1002),
            (closeFrame(999), 1002),
            (frame(1, b"\xff"), 1007),
            (frame(1, b"a\xff", fin=False), 1007),
        ]:
            self.open()
            self.say(wrong)
            self.assertEqual(self.code()[0], code, wrong)
            self.assertIsInstance(self.heard.errors[0], CodecError)
            self.say(closeFrame(code))
            self.assertEqual(self.heard.names, ["open", "error", "close"], wrong)
            self.assertEnded()

    def test_callbackFails(self) -> None:
        """1011, without the text of the exception."""

        def fail(session: Any, pkg: Any) -> None:
            raise ValueError("secret")

        self.open({"message": fail})
        self.say(frame(2, b"a"))
        self.assertEqual(self.code(), (1011, ""))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_async(self) -> None:
        """Messages and the peer's Close frame wait for an ``async def``."""
        from twisted.internet.defer import Deferred

        waiting: Deferred[None] = Deferred()

        async def hear(session: Any, pkg: Any) -> None:
            if pkg == b"a":
                await waiting
            session.writePkg(pkg)

        self.open({"message": hear})
        self.say(frame(2, b"a") + frame(2, b"b") + closeFrame())
        self.assertEqual(self.heard.names, ["open", "message"])
        waiting.callback(None)
        self.pair.flush()
        self.assertEqual([payload for _, payload in self.said()][:2], [b"a", b"b"])
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEnded()

    def test_producer(self) -> None:
        """``close()`` waits for a producer of the application; its bytes are sent before the Close frame."""

        class Producer:
            def pauseProducing(self) -> None: ...
            def resumeProducing(self) -> None: ...
            def stopProducing(self) -> None: ...

        self.open()
        session = self.pair.server
        session.transport.registerProducer(Producer(), True)
        session.close()
        session.transport.write(b"more")
        session.transport.unregisterProducer()
        self.pair.flush()
        self.assertEqual([first for first, _ in self.said()], [0x82, 0x88])
