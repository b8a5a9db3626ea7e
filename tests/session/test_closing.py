"""The closing contract: flush, half-close, waitTime, the peer's end, losses, and callbacks that still run."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.errors import GettyError
from getty_tx.interfaces import IHalfCloseListener
from getty_tx.testing import Network, Peer, RecordingListener, connectedPeer
from tests.support.memory import SessionCase, configure, frame


class ClosingTests(SessionCase):
    """close(), the peer's end, losses."""

    def test_halfClose(self) -> None:
        """close() flushes, ends the sending side, and discards what still comes until the peer ends."""
        pair = self.open({"message": lambda session, pkg: session.writePkg(pkg)})
        pair.server.writeBytes(b"last words")
        pair.server.close()
        pair.peer.write(frame(b"too late") * 1000)
        pair.flush()
        self.assertEqual((bytes(pair.peer.data), pair.peer.ended, pair.peer.lost), (b"last words", True, None))
        self.assertEqual(self.heard.names, ["open"])
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        self.assertEnded()

    def test_outlivesPeer(self) -> None:
        """A listener may have the session stay when the peer has ended; else, and if it fails, it is closed."""
        asked: list[bool] = []
        answers: list[Any] = []

        @implementer(IHalfCloseListener)
        class Answering(RecordingListener):
            def onPeerEnded(self, session: Any) -> bool:
                asked.append(session.isClosed)
                answer = answers.pop()
                return answer(session)  # type: ignore[no-any-return]

        def fails(session: Any) -> bool:
            raise ValueError("on purpose")

        for answer, stays in (
            (lambda session: True, True),
            (lambda session: False, False),
            (lambda session: session.close(), False),
            (lambda session: session.close() or True, False),
            (fails, False),
        ):
            answers[:] = [answer]
            asked.clear()
            heard = Answering()
            pair = connectedPeer(configure(heard))
            pair.flush()
            pair.peer.write(frame(b"a"))
            pair.peer.end()
            pair.flush()
            self.assertEqual((asked, heard.packages), ([False], [b"a"]))
            self.assertEqual(heard.names, ["open", "message"] + ([] if stays else ["close"]))
            if stays:
                pair.server.writePkg(b"answer")
                pair.flush()
                self.assertEqual(bytes(pair.peer.data), frame(b"answer"))
                pair.server.close()
                pair.flush()
            self.assertEqual((heard.names[-1], heard.errors), ("close", []))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_unreadInputDoesNotReset(self) -> None:
        """Pending output survives a close beside unread input, on both ways out, paused or not."""
        for direct in (True, False):
            for paused in (True, False):
                options = {} if direct else {"transport": Network().transport}
                pair = self.open(network={"capacity": 10_000}, **options)
                if paused:
                    pair.server.pauseReading()
                    pair.flush()
                pair.peer.transport.pauseProducing()
                pair.peer.write(frame(b"x" * 3000) * 50)
                pair.server.writeBytes(b"y" * 500_000)
                pair.server.close()
                pair.flush()
                pair.peer.transport.resumeProducing()
                pair.flush()
                self.assertEqual(len(pair.peer.data), 500_000)
                pair.peer.end()
                pair.flush()
                self.assertEqual(self.heard.errors, [])
                self.assertEqual(self.heard.names[-1], "close")
                self.assertEnded()

    def test_waitTime(self) -> None:
        """A peer that does not end is cut off after waitTime; that is no error."""
        pair = self.open(waitTime=2.0)
        pair.server.close()
        pair.advance(1.9)
        self.assertEqual(self.heard.names, ["open"])
        pair.advance(0.3)
        self.assertEqual(self.heard.names, ["open", "close"])
        pair.peer.write(b"is anybody there?")
        pair.flush()
        self.assertIsInstance(pair.peer.lost, ConnectionLost)
        self.assertEnded()

    def test_waitTimeWithPendingBytes(self) -> None:
        """The same when the peer does not read."""
        pair = self.open(waitTime=2.0, network={"capacity": 1000})
        pair.peer.transport.pauseProducing()
        pair.server.writeBytes(bytes(100_000))
        pair.server.close()
        pair.advance(2.3)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_waitTimeAndASlowPeer(self) -> None:
        """A peer that takes what is pending, but slowly, loses nothing of it, unless the whole service stops."""
        for stops in (False, True):
            pair = self.open(waitTime=2.0, autoClose=True, network={"capacity": 1000})
            pair.server.writeBytes(bytes(1_000_000))
            if stops:
                self.factory.context.closeAll()
            else:
                pair.server.close()
            for _ in range(20):
                pair.clientTransport.resumeProducing()
                pair.pump(140)
                pair.clientTransport.pauseProducing()
                pair.advance(1.0)
            pair.clientTransport.resumeProducing()
            pair.flush()
            self.assertEqual(self.heard.names, ["open", "close"])
            self.assertEqual(len(pair.peer.data) == 1_000_000, not stops)
            self.assertEnded()

    def test_peerEndsFirst(self) -> None:
        """The peer's end of stream flushes what is pending, then onClose."""
        pair = self.open({"message": lambda session, pkg: session.writePkg(bytes(300_000))}, network={"capacity": 5000})
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.assertGreater(pair.server.pendingBytes, 200_000)
        pair.peer.transport.resumeProducing()
        pair.flush()
        self.assertEqual(len(pair.peer.data), 300_004)
        self.assertEqual(self.heard.names, ["open", "message", "close"])
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        self.assertEnded()

    def test_peerEndsWhilePressed(self) -> None:
        """Packages that wait for the way out to empty are delivered before the end, every one."""
        pair = self.open(
            {"message": lambda session, pkg: session.writePkg(bytes(50_000))},
            network={"capacity": 5000},
            highWater=60_000,
            lowWater=20_000,
        )
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"q") * 20)
        pair.peer.end()
        pair.flush()
        self.assertLess(len(self.heard.packages), 5)
        pair.peer.transport.resumeProducing()
        pair.flush()
        self.assertEqual(len(self.heard.packages), 20)
        self.assertEqual(len(pair.peer.data), 20 * 50_004)
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_uncleanLoss(self) -> None:
        """A reset is an error."""
        pair = self.open()
        pair.reset()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ConnectionLost)
        self.assertEnded()

    def test_lossAfterOwnClose(self) -> None:
        """What the network says after close() is no error."""
        pair = self.open()
        pair.server.close()
        pair.flush()
        pair.reset()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_lossAfterThePeersEnd(self) -> None:
        """A reset after the peer's clean end is an error only when bytes were pending."""
        for reply in (0, 100_000):
            pair = self.open(
                {"message": lambda session, pkg, reply=reply: session.writeBytes(bytes(reply))},
                network={"capacity": 1000, "delay": 0.1},
            )
            pair.peer.write(frame(b"1"))
            pair.peer.end()
            pair.flush()
            # Not advance(), which goes on until nothing moves: the reset comes right behind the end.
            pair.clock.rightNow = 0.1
            for _ in range(10):
                if not pair.server.isClosed:
                    pair.pump()
            self.assertTrue(pair.server.isClosed)
            self.assertEqual(self.heard.names, ["open", "message"])
            pair.reset()
            pair.flush()
            expected = ["open", "message", "error", "close"] if reply else ["open", "message", "close"]
            self.assertEqual(self.heard.names, expected)
            self.assertEnded()

    def test_lossWhilePaused(self) -> None:
        """A paused session hears of the loss as soon as it writes or reads on."""
        pair = self.open()
        pair.server.pauseReading()
        pair.peer.write(frame(b"1"))
        pair.reset()
        pair.flush()
        pair.server.writePkg(b"are you there?")
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEnded()

    def test_cleanLossWhilePaused(self) -> None:
        """Where a wrapper tells of the loss, complete packages are delivered although the session is paused."""
        self.heard = RecordingListener({"message": lambda session, pkg: session.pauseReading()})
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard))
        self.pair = self.network.join(WrappingFactory(self.factory).buildProtocol(None), Peer())
        self.pair.peer.write(frame(b"1") + frame(b"2"))
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.pair.serverProtocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])

    def test_lossDuringAsyncCallback(self) -> None:
        """A callback that still runs when the connection goes is cancelled after waitTime; onClose waits for it."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, waitTime=2.0)
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.server.abort()
        pair.advance(1.9)
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.advance(0.3)
        self.assertTrue(gate.called)
        self.assertEqual(self.heard.names[:2] + self.heard.names[-1:], ["open", "message", "close"])
        self.flushLoggedErrors(CancelledError)
        self.assertEnded()

    def test_asyncCallbackThatDoesNotEnd(self) -> None:
        """No async callback keeps a session for ever, not even one that begins when the connection is gone."""
        for event in ("message", "error", "close"):
            never: dict[str, Any] = {event: lambda session, *args: Deferred()}
            pair = self.open(never, waitTime=1.0)
            pair.peer.write(frame(b"1"))
            pair.flush()
            pair.reset()
            pair.advance(30)
            self.assertEqual(self.heard.names[-1], "close", event)
            self.flushLoggedErrors(CancelledError)
            self.assertEnded()

    def test_asyncOnClose(self) -> None:
        """An async onClose that ends in time is waited for, and leaves no timer."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"close": lambda session: gate}, autoClose=True)
        idle = self.factory.context.closeAll()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertNoResult(idle)
        gate.callback(None)
        self.successResultOf(idle)
        self.assertEnded()

    def test_asyncBacklogThatDoesNotEnd(self) -> None:
        """The limit holds for every callback that is still to come, not for the first alone."""
        self.heard = RecordingListener({"message": lambda session, pkg: Deferred()})
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard, waitTime=1.0))
        self.pair = self.network.join(WrappingFactory(self.factory).buildProtocol(None), Peer())
        self.pair.peer.write(frame(b"1") * 5)
        self.pair.flush()
        self.pair.peer.end()
        self.pair.advance(30)
        self.flushLoggedErrors(CancelledError)
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_closeDuringAsyncCallback(self) -> None:
        """close() goes on beside a running callback; onClose comes after it."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, autoClose=True)
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.server.close()
        pair.flush()
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        self.assertEqual(self.heard.names, ["open", "message"])
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "close"])
        self.assertEnded()

    def test_answerToAPeerThatLeft(self) -> None:
        """An answer that is written after the peer's clean loss is no error of the session."""
        gate: Deferred[None] = Deferred()

        async def onMessage(session: Any, pkg: bytes) -> None:
            await gate
            session.writePkg(pkg)

        self.heard = RecordingListener({"message": onMessage})
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard))
        self.pair = self.network.join(WrappingFactory(self.factory).buildProtocol(None), Peer())
        self.pair.peer.write(frame(b"1") + frame(b"2"))
        self.pair.peer.end()
        self.pair.flush()
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEnded()

    def test_closeTwice(self) -> None:
        """Closing again changes nothing."""
        pair = self.open(autoClose=True)
        pair.server.close()
        pair.server.close()
        pair.flush()
        pair.server.close()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_closeWithAReason(self) -> None:
        """An exception as the reason is an error; a text is not."""
        pair = self.open(autoClose=True)
        pair.server.close("enough")
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        pair = self.open(autoClose=True)
        pair.server.close(GettyError("enough"))
        pair.flush()
        self.assertEqual([str(error) for error in self.heard.errors], ["enough"])
        self.assertEqual(self.heard.names, ["open", "error", "close"])
