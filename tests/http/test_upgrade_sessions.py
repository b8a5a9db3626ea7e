"""Connections that become WebSocket sessions: their order, what they share with their service, and their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from getty_tx import http
from getty_tx.codecs import RawCodec
from getty_tx.errors import PeerClosedError, RefuseRequest
from getty_tx.http.answers import NO_FIELDS, AnswerFields, GoneError
from getty_tx.http.connection import Connection
from getty_tx.http.context import HTTPContext
from getty_tx.http.interfaces import IApplication
from getty_tx.http.upgrade import WebSocketUpgrade
from getty_tx.http.upgraded import WebSocketRequest
from getty_tx.processes.drain import Drain
from getty_tx.session.observers import Observer
from getty_tx.testing import RecordingListener, connectedPeer
from getty_tx.testing.sessions import CLIENT_HOST
from tests.http.test_upgrade import ECHO, UpgradeCase, asking
from tests.support.memory import configure
from tests.support.websocket import closeFrame, frame, parse

if TYPE_CHECKING:
    from tests.support.http import Talk

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@implementer(IApplication)
class Gate:
    """An application that keeps each WebSocket until somebody accepts it, and other requests, too."""

    def __init__(self) -> None:
        self.upgrades: list[WebSocketUpgrade] = []
        self.gone: list[WebSocketUpgrade] = []
        self.others: list[Any] = []

    def serve(self, request: http.Request, exchange: Any) -> None:
        if request.fields.upgrade != b"websocket":
            self.others.append(lambda: exchange.answer(request, 200, NO_FIELDS, b"later"))
            return
        upgrade = WebSocketUpgrade(request, exchange)
        self.upgrades.append(upgrade)
        exchange.whenGone(request, lambda: self.gone.append(upgrade))


class SessionCase(UpgradeCase):
    """Sessions in memory."""

    def open(self, **options: Any) -> Talk:
        """A connection that is a WebSocket session, ``self.session``."""
        talk = self.serve(**options)
        talk.send(asking())
        self.upgraded(talk)
        return talk

    @property
    def service(self) -> Any:
        """The context of the service."""
        return self.current.pair.serverProtocol.context

    def talk(self, application: Any, **options: Any) -> Talk:
        self.current = talk = super().talk(application, **options)
        return talk

    @property
    def session(self) -> Any:
        """The session that the connection has now."""
        return self.current.pair.serverTransport.protocol.session

    def assertGone(self) -> None:
        """Nothing is left of the connection."""
        context = self.service
        self.assertEqual((context.connections, context.sessions, context.handshaking), (0, set(), set()))
        self.assertEqual(len(context.wheel), 0)
        self.assertEqual((self.current.context.running, self.current.context.connections), (0, set()))


class OrderTests(SessionCase):
    """What comes before, and behind."""

    def test_afterRequests(self) -> None:
        """A connection that has served requests becomes one."""
        talk = self.serve()
        for _ in range(3):
            self.assertEqual(talk.ask(GET).body, b"GET:")
        talk.send(asking() + frame(2, b"a"))
        self.assertEqual(self.upgraded(talk)[1], [(0x82, b"a")])

    def test_pipelined(self) -> None:
        """It waits for the answers to the requests before it; frames that came with it wait, too."""
        gate = Gate()
        talk = self.talk(gate)
        talk.send(GET + GET + asking("/a") + frame(2, b"first") + GET)
        talk.send(frame(2, b"second"))
        self.assertEqual((len(gate.others), gate.upgrades), (1, []))
        gate.others[0]()
        gate.others[1]()
        talk.pair.flush()
        self.assertEqual([answer.body for answer in talk.answers()], [b"later", b"later"])
        [upgrade] = gate.upgrades
        self.assertEqual(upgrade.request.target, b"/a")
        upgrade.refuse(403, NO_FIELDS)
        talk.pair.flush()
        # What came behind it was for HTTP, and no request of it.
        self.assertEqual([answer.status for answer in talk.answers()], [403, 400])
        self.assertTrue(talk.ended)

    def test_earlyFrames(self) -> None:
        """Frames that come before it is accepted wait, and are read in their order."""
        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking() + frame(2, b"a")[:3])
        talk.send(frame(2, b"a")[3:] + frame(1, b"b"))
        [upgrade] = gate.upgrades
        upgrade.accept(configure(self.heard, RawCodec()))
        talk.send(frame(2, b"c"))
        self.assertEqual(self.upgraded(talk)[1], [(0x82, b"a"), (0x81, b"b"), (0x82, b"c")])

    def test_manyEarlyFrames(self) -> None:
        """A client that sends much is read no more; nothing is lost."""
        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking())
        message = frame(2, b"x" * 60_000)
        for _ in range(20):
            talk.send(message)
        held = self.session.inbound.unread
        self.assertLess(held, 250_000)
        self.assertFalse(gate.gone)
        gate.upgrades[0].accept(configure(self.heard, RawCodec()))
        talk.pair.flush()
        self.assertEqual(self.heard.packages, [b"x" * 60_000] * 20)

    def test_refusedWithRequestBehind(self) -> None:
        """A request behind one that is refused is served."""
        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking() + GET)
        gate.upgrades[0].refuse(401, AnswerFields([(b"A", b"b")]), b"denied")
        talk.pair.flush()
        self.assertEqual(len(gate.others), 1)
        gate.others[0]()
        talk.pair.flush()
        denied, later = talk.answers()
        self.assertEqual((denied.status, denied.header(b"a"), denied.body), (401, b"b", b"denied"))
        self.assertEqual((later.status, later.body), (200, b"later"))

    def test_slowAnswers(self) -> None:
        """The answers before it leave first, however slow the client takes them: here less than ``highWater``."""
        router = http.Router()
        router.webSocket("/ws", configure(self.heard, RawCodec()))
        router.get("/")(lambda request: b"x" * 200_000)
        context = HTTPContext(router)
        pair = connectedPeer(lambda session: Connection(session, context) and None, capacity=64 * 1024)
        peer: Any = pair.peer
        peer.transport.pauseProducing()
        peer.write(GET + asking() + frame(2, b"a"))
        pair.flush()
        self.assertEqual(self.heard.events, [])
        peer.transport.resumeProducing()
        pair.flush()
        data = bytes(peer.data)
        at = data.index(b"\r\n\r\n") + 4 + 200_000
        self.assertEqual(data[at - 3 : at + 12], b"xxxHTTP/1.1 101")
        self.assertEqual(self.heard.packages, [b"a"])
        peer.transport.abortConnection()
        pair.flush()


class AcceptTests(SessionCase):
    """Accepting later, and what an acceptance says."""

    def gate(self) -> tuple[Gate, Talk, WebSocketUpgrade]:
        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking(Sec_WebSocket_Protocol="a, b", Origin="https://a.example"))
        [upgrade] = gate.upgrades
        return gate, talk, upgrade

    def test_fields(self) -> None:
        """The subprotocol, and fields of the application."""
        _, talk, upgrade = self.gate()
        self.assertEqual((upgrade.subprotocols, upgrade.origin), (["a", "b"], "https://a.example"))
        upgrade.accept(
            configure(self.heard, RawCodec()), subprotocol="b", headers=[(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]
        )
        self.assertTrue(upgrade.isDecided)
        self.assertRaises(RuntimeError, upgrade.accept, print)
        self.assertRaises(RuntimeError, upgrade.refuse, 403, NO_FIELDS)
        talk.pair.flush()
        answer, _ = self.upgraded(talk)
        self.assertEqual([value for name, value in answer.headers if name == b"set-cookie"], [b"a", b"b"])
        self.assertEqual(answer.header(b"sec-websocket-protocol"), b"b")
        self.assertEqual(self.session.subprotocol, "b")
        self.assertRaises(GoneError, upgrade.accept, print)

    def test_wrong(self) -> None:
        """What cannot be answered is an error, and the request can still be answered."""
        _, talk, upgrade = self.gate()
        for options in (
            {"subprotocol": "c"},
            {"headers": [(b"Sec-WebSocket-Accept", b"a")]},
            {"headers": [(b"Upgrade", b"a")]},
            {"headers": [(b"A", b"b\r\nC: d")]},
        ):
            wrong: Any = options
            self.assertRaises(ValueError, upgrade.accept, print, **wrong)
        upgrade.refuse(500, NO_FIELDS)
        talk.pair.flush()
        self.assertEqual([answer.status for answer in talk.answers()], [500])

    def test_clientGoes(self) -> None:
        """Before it is accepted: the application hears of it."""
        for leave in ("end", "abortConnection"):
            gate, talk, upgrade = self.gate()
            getattr(talk.pair.peer if leave == "end" else talk.pair.peer.transport, leave)()
            talk.pair.flush()
            self.assertEqual(gate.gone, [upgrade])
            self.assertRaises(GoneError, upgrade.accept, configure(self.heard, RawCodec()))
            self.assertRaises(GoneError, upgrade.refuse, 403, NO_FIELDS)
            self.assertEqual(talk.context.counters.lost, 1)
            self.assertGone()

    def test_clientGoesWithEarlyFrames(self) -> None:
        """The same with frames that wait; with so many that it is read no more, it is found when it is accepted."""
        for size, isFound in ((1, True), (200_000, False)):
            gate = Gate()
            talk = self.talk(gate)
            talk.send(asking() + frame(2, b"x" * size))
            talk.pair.peer.transport.abortConnection()
            talk.pair.flush()
            self.assertEqual(gate.gone, gate.upgrades if isFound else [])
            if not isFound:
                gate.upgrades[0].accept(configure(self.heard, RawCodec()))
                talk.pair.flush()
                self.assertEqual(self.heard.names[-2:], ["error", "close"])
            self.assertGone()

    def test_lostWhenAccepted(self) -> None:
        """When it was accepted, and has not become a session yet."""
        gate, talk, upgrade = self.gate()
        upgrade.accept(configure(self.heard, RawCodec()))
        self.session.abort()
        talk.pair.flush()
        self.assertEqual((gate.gone, self.heard.events), ([upgrade], []))
        self.assertGone()

    def test_newSessionRefuses(self) -> None:
        """``newSession`` may refuse with a status, or with a Close frame; at once or later."""
        waiting: list[Deferred[None]] = []

        def later(session: Any) -> Deferred[None]:
            configure(self.heard, RawCodec())(session)
            waiting.append(Deferred())
            return waiting[-1]

        def now(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            raise RefuseRequest(401, "No Token", {"WWW-Authenticate": "Bearer"})

        for newSession in (now, later):
            talk = self.serve(newSession)
            talk.send(asking())
            if waiting:
                self.assertEqual(bytes(talk.pair.peer.data), b"")
                waiting[0].errback(RefuseRequest(401, "No Token", {"WWW-Authenticate": "Bearer"}))
                talk.pair.flush()
            [answer] = talk.answers()
            self.assertEqual((answer.status, answer.header(b"www-authenticate")), (401, b"Bearer"))
            self.assertEqual((talk.ended, self.heard.events), (True, []))
            self.assertEqual(talk.context.counters.served["GET", "/ws"].statuses, {401: 1})
            talk.close()
            self.assertGone()
        talk = self.serve(lambda session: None)
        talk.send(asking())
        self.assertEqual(self.upgraded(talk)[1][0][0], 0x88)

    def test_newSessionLater(self) -> None:
        """An ``async def newSession``; frames wait for it, and a client that goes cancels it."""
        waiting: list[Deferred[None]] = []

        async def newSession(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            waiting.append(Deferred())
            await waiting[-1]

        talk = self.serve(newSession)
        talk.send(asking() + frame(2, b"a"))
        talk.send(frame(2, b"b"))
        waiting[0].callback(None)
        talk.pair.flush()
        self.assertEqual(self.upgraded(talk)[1], [(0x82, b"a"), (0x82, b"b")])
        for leaves in (True, False):
            talk = self.serve(newSession)
            talk.send(asking())
            if leaves:
                talk.close()
            else:
                talk.pair.advance(self.service.handshakeTimeout + 0.2)
            talk.pair.flush()
            self.assertEqual(talk.context.counters.lost, 1)
            self.assertGone()
            self.assertTrue(waiting[-1].called)


class LifeTests(SessionCase):
    """The session, and what it shares with its service."""

    def test_request(self) -> None:
        """``session.request`` is what a port for WebSocket alone has, and the route's variables; until onOpen."""
        found: list[Any] = []

        def newSession(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            found.append(session.request)
            session.keepRequest = len(found) == 2

        router = http.Router()
        router.webSocket("/chat/{room}", newSession)
        for _ in range(2):
            talk = self.talk(router)
            talk.send(asking("/chat/a%20b?x=1&x=2", b"X-A: 1", b"x-a: 2", Cookie="c=d", Sec_WebSocket_Protocol="p, q"))
            self.upgraded(talk)
        first, second = found
        self.assertIsInstance(first, WebSocketRequest)
        self.assertIs(self.session.request, second)
        self.assertEqual((second.path, second.variables["room"]), ("/chat/a%20b", "a b"))
        self.assertEqual((second.queryString, second.query.getAll("x")), ("x=1&x=2", ["1", "2"]))
        self.assertEqual((second.headers["X-A"], second.headers.getAll("x-a")), ("1, 2", ["1", "2"]))
        self.assertEqual((second.cookies["c"], second.subprotocols), ("d", ["p", "q"]))
        self.assertEqual(second.peer, self.session.remoteAddr)
        self.assertEqual((second.http.method, second.http.client), ("GET", (CLIENT_HOST, second.peer.port)))
        self.assertEqual(self.session.path, "/chat/a%20b")

    def test_counted(self) -> None:
        """It has one place in its service, and the request one in the counters."""
        seen: list[Any] = []
        talk = self.serve()
        talk.context.access = lambda request, status, sent, seconds: seen.append((request.target, status, sent))
        before = self.service
        talk.send(asking())
        self.upgraded(talk)
        context = self.service
        self.assertIs(context, before)
        self.assertEqual((context.connections, context.sessions), (1, {self.session}))
        self.assertEqual(context.refused, 0)
        self.assertEqual((talk.context.running, talk.context.connections), (0, set()))
        self.assertEqual(talk.context.counters.served["GET", "/ws"].statuses, {101: 1})
        self.assertEqual(seen, [(b"/ws", 101, 0)])
        self.assertEqual(str(self.session).split(":")[:2], ["{ws-session", "WS_SERVER"])
        talk.send(closeFrame())
        talk.close()
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertGone()

    def test_hosts(self) -> None:
        """The place for its host moves along."""
        talk = self.serve()
        self.service.maxSessionsPerHost = 1
        talk.send(asking())
        self.upgraded(talk)
        self.assertEqual(self.service.hosts, {CLIENT_HOST: 1})
        talk.send(closeFrame())
        talk.close()
        self.assertEqual(self.service.hosts, {})

    def test_observers(self) -> None:
        """The HTTP session is closed, and the WebSocket session opened."""
        events: list[Any] = []

        class Watch(Observer):
            def opened(self, session: Any) -> None:
                events.append(("opened", session.connection.kind))

            def closed(self, session: Any, reason: Any) -> None:
                events.append(("closed", session.connection.kind, reason))

            def error(self, session: Any, error: BaseException) -> None:
                events.append(("error", error))

        talk = self.serve()
        self.service.observers.add(Watch())
        talk.send(asking())
        talk.send(closeFrame())
        talk.close()
        self.assertEqual(
            events, [("closed", "TCP_SERVER", "local"), ("opened", "WS_SERVER"), ("closed", "WS_SERVER", "peer")]
        )

    def test_times(self) -> None:
        """HTTP's time-outs are over; pings are sent each ``cronPeriod``, and one without an answer ends the session."""
        talk = self.serve(configure(self.heard, RawCodec(), cronPeriod=100.0), keepAlive=5.0, headTimeout=5.0)
        talk.send(asking())
        self.upgraded(talk)
        talk.pair.advance(90)
        talk.pair.flush()
        self.assertEqual((bytes(talk.pair.peer.data), self.heard.names), (b"", ["open"]))
        for _ in range(3):
            talk.pair.advance(110)
            talk.pair.flush()
        self.assertEqual(parse(bytes(talk.pair.peer.data))[0][0], 0x89)
        self.assertIn("a ping was not answered in cronPeriod=100 s", str(self.heard.errors[0]))

    def test_limits(self) -> None:
        """1009 for a message above ``maxMsgLen``, which was another one for HTTP."""
        talk = self.serve(configure(self.heard, RawCodec(), maxMsgLen=1000))
        talk.send(asking())
        self.upgraded(talk)
        talk.send(frame(2, b"x" * 1000))
        talk.pair.peer.data.clear()
        talk.send(frame(2, b"x" * 1001))
        [(first, payload)] = parse(bytes(talk.pair.peer.data))
        self.assertEqual((first, payload[:2]), (0x88, b"\x03\xf1"))

    def test_ends(self) -> None:
        """Close frames, and an end without one."""
        talk = self.open()
        talk.send(closeFrame(3000, "why"))
        self.assertEqual(parse(bytes(talk.pair.peer.data)), [(0x88, b"\x03\xe8")])
        talk.close()
        error: Any = self.heard.errors[0]
        self.assertEqual((error.code, error.reason), (3000, "why"))
        self.assertGone()
        self.heard = RecordingListener(ECHO)
        talk = self.open()
        talk.close()
        self.assertIsInstance(self.heard.errors[0], PeerClosedError)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertGone()

    def test_stop(self) -> None:
        """A service that stops closes with 1001; a request that waits to be accepted is cut off."""
        talk = self.open()
        stopped = self.service.closeAll()
        talk.pair.flush()
        self.assertEqual(parse(bytes(talk.pair.peer.data))[0][1][:2], b"\x03\xe9")
        talk.send(closeFrame(1001))
        talk.close()
        self.successResultOf(stopped)
        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking())
        stopped = self.service.closeAll()
        talk.close()
        self.successResultOf(stopped)
        self.assertEqual(gate.gone, gate.upgrades)

    def test_drain(self) -> None:
        """Draining closes an idle session with 1001, and waits for a request that is not accepted yet."""
        talk = self.open()
        drained = Drain([self.service], talk.clock).run(5.0)
        talk.pair.advance(0.2)
        talk.pair.flush()
        self.assertEqual(parse(bytes(talk.pair.peer.data))[0][1][:2], b"\x03\xe9")
        talk.send(closeFrame(1001))
        talk.close()
        talk.pair.advance(0.2)
        self.successResultOf(drained)

        gate = Gate()
        talk = self.talk(gate)
        talk.send(asking())
        drained = Drain([self.service], talk.clock).run(5.0)
        talk.pair.advance(1.0)
        self.assertNoResult(drained)
        gate.upgrades[0].accept(configure(self.heard, RawCodec()))
        talk.pair.advance(0.2)
        talk.pair.flush()
        frames = self.upgraded(talk)[1]
        self.assertEqual(frames[0][1][:2], b"\x03\xe9")
        talk.close()
        talk.pair.advance(0.2)
        self.successResultOf(drained)
