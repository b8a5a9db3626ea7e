"""``close()`` and ``abort()`` at moments of their own: left packages, handshakes, and a storm of threads."""

from __future__ import annotations

import contextlib
import re
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.errors import SessionClosedError
from getty_tx.listener import EventListener
from getty_tx.server import Server
from getty_tx.testing import Network, Peer, RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy
from tests.session.test_close_anytime import DEEDS, Boom
from tests.support.certificates import selfSigned
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase, request


class MomentTests(SessionCase):
    """Left packages, answers on their way, TLS that begins, and calls that come too late."""

    def leave(self, on: dict[str, Any]) -> None:
        """Packages are left by a connection that is gone: the first one's callback waits for ``self.gate``."""
        self.gate: Deferred[None] = Deferred()
        hook = on.pop("message")

        def onMessage(session: Any, pkg: bytes) -> Any:
            return self.gate if pkg == b"1" else hook(session, pkg)

        self.heard = RecordingListener({"message": onMessage, **on})
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard))
        # A wrapper knows no half-close: the peer's end comes as the loss of the connection.
        self.pair = self.network.join(WrappingFactory(self.factory).buildProtocol(None), Peer())
        self.pair.peer.write(b"".join(frame(b"%d" % i) for i in range(1, 5)))
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_lost(self) -> None:
        """Of the packages that a lost connection has left, none comes after close() or abort()."""
        for name, deed in DEEDS.items():
            if "thread" not in name:
                self.leave({"message": lambda session, pkg, deed=deed: deed(session)})
                self.gate.callback(None)
                self.pair.advance(10)
                self.assertEqual(self.heard.names.count("message"), 2, name)
                self.assertEqual(self.heard.names[-1], "close", name)
                self.assertEnded()

    def test_lostMeanwhile(self) -> None:
        """Nor if they are called from elsewhere while one is worked on."""
        for name, deed in DEEDS.items():
            self.leave({"message": lambda session, pkg: None})
            session = next(iter(self.factory.context.sessions))
            deed(session)
            self.pair.flush()
            self.gate.callback(None)
            self.assertEqual(self.heard.names.count("message"), 1, name)
            self.assertEqual(self.heard.names[-1], "close", name)
            self.assertEnded()

    def test_pauseLost(self) -> None:
        """Pausing does not hold them up, nor lose them: there is nobody to wait for."""

        def pause(session: Any, pkg: bytes) -> None:
            session.pauseReading()
            session.transport.pauseProducing()

        self.leave({"message": pause})
        self.gate.callback(None)
        self.assertEqual(self.heard.packages, [b"1", b"2", b"3", b"4"])
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_abortAfterThePeersEnd(self) -> None:
        """abort() is no error either while the answers to a peer that has ended its side are on their way."""
        pair = self.open({"message": lambda session, pkg: session.writeBytes(bytes(5000))}, network={"capacity": 100})
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.peer.end()
        pair.flush()
        self.assertTrue(pair.server.isClosed)
        self.assertGreater(pair.server.pendingBytes, 0)
        pair.server.abort()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "close"])
        self.assertEnded()

    def test_stubbornCallback(self) -> None:
        """An ``async def`` that goes on when it was cancelled is cancelled again, and keeps the service no longer."""
        for event in ("open", "message", "error", "close"):

            async def onEvent(session: Any, *_: Any) -> None:
                for _ in range(3):
                    with contextlib.suppress(CancelledError):
                        await Deferred()

            on: dict[str, Any] = {event: onEvent}
            if event == "error":
                on["message"] = lambda session, pkg: session.close(Boom("to be told"))
            pair = self.open(on, autoClose=True, waitTime=1.0)
            pair.peer.write(frame(b"1"))
            pair.flush()
            closed = self.factory.context.closeAll()
            pair.advance(2.5)
            self.assertNoResult(closed)
            pair.advance(2.0)
            self.successResultOf(closed)
            self.assertEqual(self.heard.names[-1], "close", event)
            self.assertEnded()

    def test_duringStartTLS(self) -> None:
        """Before TLS is established within a session."""
        files = selfSigned(self.mktemp(), ["localhost"])
        for name, deed in DEEDS.items():
            pair = self.open(autoClose=True, waitTime=2.0)
            pair.server.transport.startTLS(serverPolicy(*files))
            deed(pair.server)
            pair.advance(10)
            self.assertEqual((self.heard.names[0], self.heard.names[-1]), ("open", "close"), name)
            self.assertIsNotNone(pair.peer.lost)
            self.assertEnded()

    def test_closeCallbackTooLate(self) -> None:
        """A close callback that could never be called is refused, and hurts no other."""
        called: list[str] = []

        def late() -> None:
            session.addCloseCallback(lambda: called.append("late"), "late")

        pair = self.open({"close": lambda session: session.addCloseCallback(lambda: called.append("last"), "last")})
        session = pair.server
        session.addCloseCallback(late, "first")
        session.abort()
        pair.flush()
        self.assertEqual(called, ["last"])
        self.assertEqual(len(self.flushLoggedErrors(SessionClosedError)), 1)
        error = self.assertRaises(SessionClosedError, late)
        self.assertIs(error.session, session)
        session.removeCloseCallback("late")

    def test_drainedAfterTheEnd(self) -> None:
        """It fails when the connection is gone, and before that still tells of what is flushed."""
        pair = self.open(autoClose=True, network={"delay": 0.1, "capacity": 100})
        session = pair.server
        session.writeBytes(bytes(1000))
        session.close()
        flushed = session.drained()
        self.assertNoResult(flushed)
        pair.advance(5)
        self.successResultOf(flushed)
        self.failureResultOf(session.drained(), SessionClosedError)


class HandshakeTests(WebSocketCase):
    """Before there is a session, closing is the service's to do."""

    def closeAll(self, pair: Any) -> None:
        context = self.factory.context
        self.assertEqual((len(context.handshaking), context.connections), (1, 1))
        closed = [context.closeAll(), context.closeAll()]
        pair.flush()
        closed.append(context.closeAll())
        for each in closed:
            self.successResultOf(each)
        self.assertIsNotNone(pair.peer.lost)
        self.assertEqual(self.heard.events, [])
        self.assertEnded()

    def test_web(self) -> None:
        """During the handshake of a WebSocket, on either side: it is dropped."""
        for isClient in (False, True):
            pair = self.connect(isClient=isClient)
            pair.peer.write(b"HTTP/1.1 101 Swi" if isClient else request()[:30])
            pair.flush()
            self.closeAll(pair)

    def test_TLS(self) -> None:
        """During that of TLS."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        for isClient in (False, True):
            self.heard = RecordingListener()
            self.network = Network()
            make = self.network.clientFactory if isClient else self.network.serverFactory
            self.factory: Any = make(configure(self.heard))
            policy = clientPolicy("localhost", trustRoot=certificate) if isClient else serverPolicy(certificate, key)
            secure = TLSMemoryBIOFactory(policy, isClient, self.factory, clock=self.network.clock)
            ends = (Peer(), secure.buildProtocol(None))
            self.pair = self.network.join(*(ends if isClient else ends[::-1]))
            self.pair.peer.write(b"\x16\x03\x01")
            self.pair.flush()
            self.closeAll(self.pair)


class Recorder(EventListener):
    """Notes each session's events; echoes."""

    def __init__(self) -> None:
        self.events: dict[Any, list[str]] = {}

    def onOpen(self, session: Any) -> None:
        self.events[session] = ["o"]

    def onMessage(self, session: Any, pkg: Any) -> None:
        self.events[session].append("m")
        session.writePkg(pkg)

    def onError(self, session: Any, error: BaseException) -> None:
        self.events[session].append("e")

    def onClose(self, session: Any) -> None:
        self.events[session].append("x")


class ThreadsTests(TestCase):
    """Threads that write to sessions, and close them, all at once and on real sockets."""

    async def test_storm(self) -> None:
        """Every session has its one onClose, and no thread anything but SessionClosedError."""
        served, dialed = Recorder(), Recorder()

        def configured(listener: Any) -> Any:
            return configure(listener, LineCodec(), waitTime=1.0)

        server = Server(configured(served), "tcp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        plain, web = await server.whenListening()
        for description in (f"tcp:127.0.0.1:{plain.port}", f"ws:127.0.0.1:{web.port}"):
            # None is replaced in time.
            client = Client(configured(dialed), description, 12, 60.0, connectTimeout=60.0, handshakeTimeout=60.0)
            client.startService()
            self.addCleanup(client.close)
            sessions = await client.whenReady(12)

            def work(seed: int, sessions: list[Any] = sessions) -> None:
                random = Random(seed)
                for i in range(400):
                    session = random.choice(sessions)
                    if i < 200 or random.random() < 0.8:
                        with contextlib.suppress(SessionClosedError):
                            session.writePkg(b"x" * random.randrange(100))
                    else:
                        random.choice([session.close, session.abort, lambda s=session: s.close(Boom("thread"))])()

            await gatherResults([deferToThread(work, seed) for seed in range(4)])
            await client.close()
        await server.stopService()
        for recorder in (served, dialed):
            self.assertEqual(len(recorder.events), 24)
            for session, events in recorder.events.items():
                self.assertTrue(re.fullmatch("om*e?x", "".join(events)), events)
                self.assertTrue(session.isClosed)
        self.flushLoggedErrors(Boom)
