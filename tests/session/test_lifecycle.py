"""Events and closing: which callback comes when, and that nothing comes after the last."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.protocols.policies import WrappingFactory

from getty_tx.errors import (
    CodecError,
    SessionClosedError,
    SessionError,
    SessionRefusedError,
)
from getty_tx.testing import Network, Peer, RecordingListener
from tests.support.memory import SessionCase, configure, frame


class Boom(Exception):
    """What the listeners of these tests raise."""


def boom(*args: Any) -> None:
    raise Boom("boom")


class EventsTests(SessionCase):
    """The order of the events."""

    def test_order(self) -> None:
        """onOpen at once, messages in order, then onClose alone when the peer ends cleanly."""
        pair = self.open()
        self.assertEqual(self.heard.events, [("open",)])
        pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
        pair.flush()
        pair.peer.end()
        pair.flush()
        self.assertEqual(
            self.heard.events, [("open",), ("message", b"1"), ("message", b"2"), ("message", b"3"), ("close",)]
        )
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        self.assertEnded()

    def test_endWithTheLastBytes(self) -> None:
        """Complete packages that come together with the peer's end are delivered; an incomplete one is not."""
        pair = self.open()
        pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3")[:-1])
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.events, [("open",), ("message", b"1"), ("message", b"2"), ("close",)])
        self.assertEnded()

    def test_messagesWaitForOnOpen(self) -> None:
        """Bytes that come while an async onOpen runs are delivered when it has returned."""
        opening: Deferred[None] = Deferred()
        pair = self.open({"open": lambda session: opening})
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        opening.callback(None)
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.peer.write(frame(b"2"))
        pair.flush()
        self.assertEqual(self.heard.packages, [b"1", b"2"])

    def test_asyncOpenThatNeedsNoTime(self) -> None:
        """An async def that awaits nothing delays nothing."""

        async def onOpen(session: Any) -> None:
            session.attributes["opened"] = True

        pair = self.open({"open": onOpen})
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertTrue(pair.server.attributes["opened"])
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_asyncMessagesInOrder(self) -> None:
        """The next event waits for an async callback, however the callbacks end."""
        gates: list[Deferred[None]] = []
        done = []

        async def onMessage(session: Any, pkg: bytes) -> None:
            gate: Deferred[None] = Deferred()
            gates.append(gate)
            await gate
            done.append(pkg)

        pair = self.open({"message": onMessage})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        gates[0].callback(None)
        self.assertEqual((done, self.heard.names), ([b"1"], ["open", "message", "message"]))
        gates[1].callback(None)
        pair.flush()
        self.assertEqual((done, self.heard.names), ([b"1", b"2"], ["open", "message", "message", "close"]))
        self.assertEnded()

    def test_failingOnOpen(self) -> None:
        """onError gets the exception, onClose still comes, and no message does."""
        pair = self.open({"open": boom})
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], Boom)
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertEnded()

    def test_failingAsyncOnOpen(self) -> None:
        """The same when it fails later; what has come meanwhile is dropped."""
        opening: Deferred[None] = Deferred()
        pair = self.open({"open": lambda session: opening}, autoClose=True)
        pair.peer.write(frame(b"1"))
        pair.flush()
        opening.errback(Boom("later"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertEnded()

    def test_closeInAnyCallback(self) -> None:
        """A local close is no error, wherever it is called."""
        for event in ("open", "message", "cron", "close"):
            pair = self.open({event: lambda session, *args: session.close()}, autoClose=True, cronPeriod=1.0)
            pair.peer.write(frame(b"1") + frame(b"2"))
            pair.flush()
            pair.advance(1.5)
            pair.peer.end()
            pair.flush()
            expected = {
                "open": ["open", "close"],
                "message": ["open", "message", "close"],
                "cron": ["open", "message", "message", "cron", "close"],
                "close": ["open", "message", "message", "cron", "close"],
            }
            self.assertEqual(self.heard.names, expected[event], event)
            self.assertEnded()

    def test_abortInAnyCallback(self) -> None:
        """Neither is an abort; the peer sees a reset."""
        for event in ("open", "message", "cron"):
            pair = self.open({event: lambda session, *args: session.abort()}, cronPeriod=1.0)
            pair.flush()
            pair.peer.write(frame(b"1") + frame(b"2"))
            pair.advance(2)
            self.assertEqual(self.heard.names[-1], "close", event)
            self.assertEqual(self.heard.errors, [], event)
            self.assertIsInstance(pair.peer.lost, ConnectionLost)
            self.assertEnded()

    def test_exceptionInAnyCallback(self) -> None:
        """It is logged with the session's token, given to onError once, and closes the session."""
        for event in ("open", "message", "error", "cron", "close"):
            hooks = {event: boom}
            if event == "error":
                hooks["message"] = boom
            pair = self.open(hooks, autoClose=True, cronPeriod=1.0)
            session = pair.server
            pair.peer.write(frame(b"1") + frame(b"2"))
            pair.advance(1.5)
            pair.peer.end()
            pair.flush()
            expected = {
                "open": ["open", "error", "close"],
                "message": ["open", "message", "error", "close"],
                "error": ["open", "message", "error", "close"],
                "cron": ["open", "message", "message", "cron", "error", "close"],
                "close": ["open", "message", "message", "cron", "close"],
            }
            self.assertEqual(self.heard.names, expected[event], event)
            logged = self.flushLoggedErrors(Boom)
            # onError has raised the same in the same place.
            self.assertEqual(len(logged), 1)
            self.assertTrue(session.isClosed)
            self.assertEnded()

    def test_exceptionOfAnotherSession(self) -> None:
        """A callback that fails about another session (a broadcast to a slow peer) closes that one."""
        other = RecordingListener()
        network = Network()
        factory = network.serverFactory(configure(other))
        slow = network.join(factory.buildProtocol(None), Peer(autoClose=True))

        def onMessage(session: Any, pkg: bytes) -> None:
            raise SessionError("too slow", slow.server)

        pair = self.open({"message": onMessage})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        slow.flush()
        self.assertEqual(self.heard.names, ["open", "message", "message"])
        self.assertFalse(pair.server.isClosed)
        self.assertEqual(other.names, ["open", "error", "close"])
        self.assertEqual(str(other.errors[0]), "too slow")
        self.assertEqual(len(self.flushLoggedErrors(SessionError)), 2)

    def test_broadcastToAClosingSession(self) -> None:
        """Where that other session is closing by its own ``close()``, nothing of it failed: it gets no onError."""
        other = RecordingListener()
        network = Network()
        factory = network.serverFactory(configure(other))
        leaving = network.join(factory.buildProtocol(None), Peer())
        leaving.server.close()
        pair = self.open({"message": lambda session, pkg: leaving.server.writePkg(pkg)})
        pair.peer.write(frame(b"1"))
        pair.flush()
        leaving.flush()
        leaving.peer.end()
        leaving.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.assertEqual(other.names, ["open", "close"])
        self.flushLoggedErrors(SessionClosedError)

    def test_onlyTheFirstError(self) -> None:
        """onError comes once, with what failed first."""

        def onMessage(session: Any, pkg: bytes) -> None:
            session.close(Boom("first"))
            session.close(Boom("second"))
            raise Boom("third")

        pair = self.open({"message": onMessage}, autoClose=True)
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEqual(str(self.heard.errors[0]), "first")
        self.flushLoggedErrors(Boom)

    def test_errorDuringAnAsyncCallbackWaits(self) -> None:
        """A failure while an async callback runs is told when that has returned: callbacks do not overlap."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, autoClose=True)
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        pair.server.close(Boom("meanwhile"))
        self.assertEqual(self.heard.names, ["open", "message"])
        gate.callback(None)
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEnded()

    def test_noMessageAfterAnErrorAtTheEnd(self) -> None:
        """Where the connection is gone and packages are left, the first failure is still the last event but onClose."""
        for fail in (lambda gate: gate.errback(Boom("late")), lambda gate: gate.cancel()):
            gates: list[Deferred[None]] = []

            def onMessage(session: Any, pkg: bytes, gates: list[Deferred[None]] = gates) -> Deferred[None]:
                gates.append(Deferred())
                return gates[-1]

            # A wrapper (TLS too) knows no half-close: the peer's end comes as the loss of the connection.
            self.heard = RecordingListener({"message": onMessage})
            self.network = Network()
            self.factory = self.network.serverFactory(configure(self.heard))
            wrapped = WrappingFactory(self.factory)
            self.pair = self.network.join(wrapped.buildProtocol(None), Peer())
            self.pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
            self.pair.peer.end()
            self.pair.flush()
            self.assertEqual(self.heard.names, ["open", "message"])
            fail(gates[0])
            for gate in gates[1:]:
                gate.callback(None)
            self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
            self.flushLoggedErrors(Boom, CancelledError)
            self.assertEnded()

    def test_whatIsThereAtTheEnd(self) -> None:
        """Attributes, addresses and stats are there in onError and onClose; the attributes are emptied after."""
        seen = []

        def look(session: Any, *args: Any) -> None:
            seen.append((dict(session.attributes), session.remoteAddr.host, session.stats.readPkgs, session.isClosed))

        pair = self.open({"message": boom, "error": look, "close": look}, autoClose=True)
        session = pair.server
        session.attributes["user"] = "me"
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(seen, [({"user": "me"}, "198.51.100.1", 1, True)] * 2)
        self.assertEqual(session.attributes, {})
        self.assertIn("192.0.2.1:8090", str(session))
        self.flushLoggedErrors(Boom)

    def test_nothingAfterOnClose(self) -> None:
        """Whatever is called on a session that has ended, no event comes and nothing is counted twice."""
        pair = self.open(autoClose=True)
        session = pair.server
        session.pauseReading()
        session.close()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.factory.context.connections = 5
        session.resumeReading()
        session.pauseReading()
        session.resumeReading()
        session.close()
        session.close(Boom("late"))
        session.abort()
        session.touch()
        session.transport.resumeProducing()
        session.transport.loseConnection()
        pair.advance(100)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEqual(self.factory.context.connections, 5)

    def test_closeCallbacks(self) -> None:
        """They run after onClose in the order of their keys; one that fails hurts none; attributes are there."""
        order: list[Any] = []
        pair = self.open({"close": lambda session: order.append("onClose")}, autoClose=True)
        session = pair.server
        session.attributes["a"] = 1
        session.addCloseCallback(lambda: order.append("replaced"), "one")
        session.addCloseCallback(boom, "two")
        session.addCloseCallback(lambda: order.append(dict(session.attributes)), "three")
        session.addCloseCallback(lambda: order.append("taken back"), "four")
        session.addCloseCallback(lambda: order.append("one"), "one")
        session.removeCloseCallback("four")
        session.removeCloseCallback("five")
        session.close()
        pair.flush()
        self.assertEqual(order, ["onClose", "one", {"a": 1}])
        self.assertEqual(len(self.flushLoggedErrors(Boom)), 1)
        self.assertEnded()

    def test_closeCallbackNotOnlyExceptions(self) -> None:
        """Nor must a close callback."""

        def leave() -> None:
            raise SystemExit

        pair = self.open(autoClose=True)
        pair.server.addCloseCallback(leave, "leave")
        pair.server.close()
        pair.flush()
        self.flushLoggedErrors(SystemExit)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_notOnlyExceptions(self) -> None:
        """A callback that ends with SystemExit or asyncio's CancelledError must not keep the session from its end."""
        for event in ("open", "message", "cron"):
            for error in (SystemExit, asyncio.CancelledError):

                def hook(*args: Any, error: type[BaseException] = error) -> None:
                    raise error

                try:
                    pair = self.open({event: hook}, autoClose=True, cronPeriod=1.0)
                except (SystemExit, asyncio.CancelledError):
                    self.fail(f"{error.__name__} in on{event.title()} goes through the session")
                pair.peer.write(frame(b"1"))
                pair.advance(1.5)
                pair.peer.end()
                pair.advance(10)
                self.flushLoggedErrors()
                self.assertEqual(self.heard.names[-1], "close", f"{event} {error}")
                self.assertEnded()

    def test_codecErrorCarriesTheSession(self) -> None:
        """Errors about a session carry it."""
        pair = self.open(autoClose=True, maxMsgLen=10)
        pair.peer.write(frame(bytes(20)))
        pair.flush()
        (error,) = self.heard.errors
        assert isinstance(error, CodecError)
        self.assertIs(error.session, pair.server)

    def test_abortIsTold(self) -> None:
        """A connection that somebody else aborts below the session is an unclean loss."""
        pair = self.open()
        pair.serverTransport.abortConnection()
        pair.flush()
        self.assertIsInstance(self.heard.errors[0], ConnectionAborted)
        self.assertEnded()


class NewSessionTests(SessionCase):
    """newSession configures, or refuses."""

    def refused(self, newSession: Any) -> None:
        pair = self.open(newSession=newSession)
        pair.flush()
        self.assertEqual(self.heard.events, [])
        self.assertIsInstance(pair.peer.lost, ConnectionLost)
        self.assertEqual(self.factory.context.refused, 1)
        self.assertEnded()

    def test_raises(self) -> None:
        """Raising refuses the connection: no event, a reset, counted."""
        self.refused(boom)

    def test_withoutCodec(self) -> None:
        """So does setting no codec, or only one half of it."""
        self.refused(lambda session: None)
        codec = configure()

        def halfOf(session: Any) -> None:
            codec(session)
            session.encoder = None

        self.refused(halfOf)

    def configured(self, then: Any) -> Any:
        def newSession(session: Any) -> None:
            configure(self.heard)(session)
            then(session)

        return newSession

    def test_closes(self) -> None:
        """So does closing the session, with an error or without, or aborting it."""
        self.refused(self.configured(lambda session: session.close()))
        self.refused(self.configured(lambda session: session.abort()))

    def test_closesWithAReason(self) -> None:
        """A session that never opened has no onError either."""
        self.refused(self.configured(lambda session: session.close(Boom("no"))))

    def test_closesAndRaises(self) -> None:
        """No timer is left of a session that was closed and refused."""

        def closeAndRaise(session: Any) -> None:
            session.close()
            raise Boom("no")

        self.refused(self.configured(closeAndRaise))
        self.refused(lambda session: session.close())

    def test_refusedWithPendingBytes(self) -> None:
        """Neither when it had written."""

        def writeAndRaise(session: Any) -> None:
            session.writeBytes(bytes(100_000))
            raise Boom("no")

        pair = self.open(newSession=self.configured(writeAndRaise), network={"capacity": 1000})
        pair.flush()
        self.assertEqual(self.heard.events, [])
        self.assertEnded()

    def test_pauses(self) -> None:
        """Pausing and resuming are settings like others: nothing comes before onOpen."""

        def pauseAndResume(session: Any) -> None:
            session.pauseReading()
            session.resumeReading()

        pair = self.open(newSession=self.configured(pauseAndResume))
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_paused(self) -> None:
        """A session may begin paused."""
        pair = self.open(newSession=self.configured(lambda session: session.pauseReading()))
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        pair.server.resumeReading()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_refusalNamesTheCause(self) -> None:
        """The factory hears why."""
        failed: list[BaseException] = []
        network = Network()
        factory = network.serverFactory(boom)
        self.patch(factory, "connectionFailed", lambda connection, error: failed.append(error))
        pair = network.join(factory.buildProtocol(None), Peer())
        pair.flush()
        (error,) = failed
        assert isinstance(error, SessionRefusedError)
        self.assertIsInstance(error.__cause__, Boom)
        self.assertIn("boom", str(error))
