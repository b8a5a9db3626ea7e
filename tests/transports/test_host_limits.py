"""Limits of the connections of each host."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import INegotiated
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from getty_tx.codecs import RawCodec
from getty_tx.errors import SettingError
from getty_tx.server import Server
from getty_tx.session.refusals import MOST_ANSWERED, REASONS
from getty_tx.session.wrappers import hostOf
from getty_tx.testing import DirectTransport, Network, Pair, Peer, RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy
from getty_tx.transports.websocket import WebSocketSessionServerFactory
from getty_tx.transports.websocket.refusing import MAX_HANDSHAKE
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.services.test_server import LOOPBACK, ServerCase
from tests.support.certificates import selfSigned
from tests.support.datagrams import DatagramCase
from tests.support.long import examples
from tests.support.memory import SessionCase, configure
from tests.support.websocket import request

ONE, OTHER = "198.51.100.1", "198.51.100.2"


class LimitCase(SessionCase):
    """Connections of several hosts."""

    def setUp(self) -> None:
        super().setUp()
        self.heard = RecordingListener()
        self.network = Network(transport=DirectTransport)

    def serve(self, *, newSession: Any = None, **options: Any) -> Any:
        self.factory = self.network.serverFactory(newSession or configure(self.heard), **options)
        self.context = self.factory.context
        return self.factory

    def dial(self, host: Any = ONE, factory: Any = None) -> Pair:
        """A connection of a host, or of an address."""
        address: Any = IPv4Address("TCP", host, 50000) if isinstance(host, str) else host
        protocol = (factory or self.factory).buildProtocol(address)
        self.pair = self.network.join(protocol, Peer(), address)
        return self.pair


class HostTests(LimitCase):
    """maxSessionsPerHost."""

    def test_refused(self) -> None:
        """A host's connections above the limit are dropped at once and counted; other hosts are accepted."""
        self.serve(maxSessionsPerHost=2)
        first, second = self.dial(), self.dial()
        over = self.dial()
        # Not in the next reactor iteration: many more may be accepted in this one.
        self.assertTrue(over.serverTransport.disconnected)
        other = self.dial(OTHER)
        first.flush()
        self.assertTrue(over.peer.ended)
        self.assertEqual([each.peer.lost for each in (first, second, other)], [None] * 3)
        self.assertEqual((self.context.hosts, self.context.connections), ({ONE: 2, OTHER: 1}, 3))
        self.assertEqual(self.context.refusals.counts["maxSessionsPerHost"], 1)
        first.server.abort()
        first.flush()
        self.assertEqual(self.context.hosts, {ONE: 1, OTHER: 1})
        self.assertFalse(self.dial().server.isClosed)
        self.assertEqual((self.context.hosts, self.context.refused), ({ONE: 2, OTHER: 1}, 1))

    def test_off(self) -> None:
        """Without the setting no data is kept for a host, and none more for a connection."""
        self.serve()
        self.dial()
        self.assertIsNone(self.context.hosts)
        self.assertNotIn("countedHost", vars(self.pair.serverProtocol))

    def test_later(self) -> None:
        """If it is set, raised, lowered or removed later, existing connections are counted too."""
        self.serve()
        pairs = [self.dial() for _ in range(3)]
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        pairs.append(self.dial(OTHER, web))
        self.factory.maxSessionsPerHost = 2
        self.assertEqual(self.context.hosts, {ONE: 3, OTHER: 1})
        self.dial()
        self.assertEqual(self.context.refused, 1)
        self.factory.maxSessionsPerHost = 4
        pairs.append(self.dial())
        self.dial()
        self.assertEqual((self.context.refused, self.context.hosts), (2, {ONE: 4, OTHER: 1}))
        self.factory.maxSessionsPerHost = None
        pairs.append(self.dial())
        self.assertEqual(self.context.refused, 2)
        for pair in pairs:
            pair.reset()
        pairs[0].flush()
        self.assertEqual((self.context.hosts, self.context.connections), ({}, 0))

    def test_besideMaxSessions(self) -> None:
        """A host's connections above its limit do not count for maxSessions, also with TLS, where they end later."""
        self.serve(maxSessionsPerHost=1, maxSessions=3)
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        secure = TLSMemoryBIOFactory(serverPolicy(certificate, key), False, self.factory, clock=self.network.clock)
        for _ in range(5):
            self.dial(ONE, secure)
        self.assertEqual(self.context.connections, 1)
        self.dial(OTHER)
        self.dial("198.51.100.3")
        counts = self.context.refusals.counts
        self.assertEqual((counts["maxSessionsPerHost"], counts["maxSessions"]), (4, 0))
        self.dial("198.51.100.4")
        self.assertEqual((counts["maxSessionsPerHost"], counts["maxSessions"]), (4, 1))
        closed = self.context.closeAll()
        self.pair.advance(20)
        self.successResultOf(closed)
        self.assertEnded()

    def test_handshakes(self) -> None:
        """Connections count from the start, and one above the limit costs no handshake of TLS or WebSocket."""
        self.serve(maxSessionsPerHost=1)
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        secure = TLSMemoryBIOFactory(serverPolicy(certificate, key), False, self.factory, clock=self.network.clock)
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        for factory in (secure, web):
            first = self.dial(ONE, factory)
            self.assertEqual((self.context.hosts, len(self.context.handshaking)), ({ONE: 1}, 1))
            over = self.dial(ONE, web)
            self.assertIs(over.serverProtocol.engine, None)
            over.peer.write(request())
            over.flush()
            self.assertTrue(bytes(over.peer.data).startswith(b"HTTP/1.1 503 "))
            self.assertTrue(over.peer.ended)
            self.assertEqual(len(self.context.answering), 0)
            first.advance(5)
            self.assertEqual(self.context.hosts, {})
        self.assertEqual(self.context.refusals.counts["maxSessionsPerHost"], 2)
        self.assertEqual(self.context.refusals.counts["handshakeTimeout"], 2)
        self.assertEqual(self.heard.events, [])
        self.assertEnded()

    def test_answered(self) -> None:
        """A WebSocket client above its host's limit gets a 503; only so many at a time, and only for so long."""
        self.serve(maxSessionsPerHost=1)
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        self.dial(ONE, self.factory)
        over = [self.dial(ONE, web) for _ in range(MOST_ANSWERED + 3)]
        self.assertEqual([each.serverProtocol._refuser is None for each in over], [False] * MOST_ANSWERED + [True] * 3)
        self.assertEqual((self.context.connections, len(self.context.answering)), (1, MOST_ANSWERED))
        for byte in request():
            over[0].peer.write(bytes([byte]))
            over[0].flush()
        self.assertTrue(bytes(over[0].peer.data).startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
        over[1].peer.write(b"x" * (MAX_HANDSHAKE + 1))
        over[1].flush()
        self.assertEqual(bytes(over[1].peer.data), b"")
        self.assertEqual(len(self.context.answering), MOST_ANSWERED - 2)
        over[2].advance(5)
        self.assertEqual((self.context.connections, len(self.context.answering)), (1, 0))

    def test_hostOf(self) -> None:
        """A host is an IP address without port, in IPv4 and IPv6 form; unix sockets have none."""
        self.serve(maxSessionsPerHost=100)
        for address in (
            IPv4Address("TCP", ONE, 1),
            IPv4Address("TCP", ONE, 2),
            IPv6Address("TCP", f"::ffff:{ONE}", 3),
            IPv6Address("TCP", "2001:db8::1", 4),
            IPv6Address("TCP", "2001:db8::1", 5),
            IPv6Address("TCP", "2001:db8::2", 6),
            IPv6Address("TCP", "::ffff:0", 6),
            UNIXAddress(None),
            UNIXAddress("/x"),
        ):
            self.dial(address)
        self.assertEqual(self.context.hosts, {ONE: 3, "2001:db8::1": 2, "2001:db8::2": 1, "::ffff:0": 1})
        self.assertEqual(self.context.connections, 9)

    def test_wrappers(self) -> None:
        """TLS does not hide the host. With other wrappers, such as ``haproxy:``, there is no limit."""
        self.assertTrue(INegotiated.implementedBy(TLSMemoryBIOProtocol))
        self.serve(maxSessionsPerHost=1)
        self.dial()
        for _ in range(2):
            self.assertFalse(self.dial(ONE, WrappingFactory(self.factory))._tops[0].session.isClosed)
        self.assertEqual((self.context.hosts, self.context.connections), ({ONE: 1}, 3))
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        clock = self.network.clock
        for inner, known in ((self.factory, ONE), (WrappingFactory(self.factory), None)):
            secure = TLSMemoryBIOFactory(serverPolicy(certificate, key), False, inner, clock=clock)
            protocol = secure.buildProtocol(None)
            self.network.join(protocol, Peer(), IPv4Address("TCP", ONE, 7))
            top: Any = protocol
            while isinstance(top, ProtocolWrapper):
                top = top.wrappedProtocol
            self.assertEqual(hostOf(top.rawTransport), known)

    def test_settings(self) -> None:
        """Invalid values are refused by the server and by the factory."""
        for value in (0, -1, 1.5, "2", True):
            for make in (
                lambda value=value: Server(lambda session: None, LOOPBACK, maxSessionsPerHost=value),
                lambda value=value: self.network.serverFactory(lambda session: None, maxSessionsPerHost=value),
            ):
                self.assertIn(f"maxSessionsPerHost={value!r}", str(self.assertRaises(SettingError, make)))


class PeerHostTests(DatagramCase):
    """Peers of a UDP socket, one session each."""

    def test_refused(self) -> None:
        """Sessions of one IP address above the limit are refused, until others of it have ended."""
        self.open(sessions="peer", maxSessionsPerHost=2, readTimeout=2.0)
        for port in (1, 2, 3, 3, 1):
            self.receive(b"x\n", (ONE, port))
        self.receive(b"x\n", (OTHER, 1))
        self.assertEqual((self.context.hosts, len(self.protocol._peers)), ({ONE: 2, OTHER: 1}, 3))
        self.assertEqual(self.context.refusals.counts["maxSessionsPerHost"], 2)
        self.clock.pump([1.0] * 3)
        self.assertEqual((self.context.hosts, self.context.connections), ({}, 0))
        self.receive(b"x\n", (ONE, 3))
        self.assertEqual(self.context.hosts, {ONE: 1})
        self.finish()

    def test_newSessionRefuses(self) -> None:
        """A peer that newSession refuses is not counted any more."""
        self.open(sessions="peer", maxSessionsPerHost=1, name=17)
        for _ in range(3):
            self.receive(b"x\n", (ONE, 1))
        self.assertEqual((self.context.hosts, self.context.refusals.counts["newSession"]), ({}, 3))
        self.finish()

    def test_socket(self) -> None:
        """The single session of a socket counts for no host."""
        for peer in (None, (ONE, 1)):
            self.open(maxSessionsPerHost=1, peer=peer)
            self.assertEqual((self.context.hosts, self.context.connections), ({}, 1))
            self.finish()

    @settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.one_of(
                *[st.tuples(st.just("come"), st.sampled_from([ONE, OTHER, f"::ffff:{ONE}"]), st.integers(1, 3))] * 3,
                st.tuples(st.sampled_from(["close", "abort"]), st.integers(0, 9)),
                st.tuples(st.sampled_from(["closeAll", "refuse"])),
                st.tuples(st.just("advance"), st.sampled_from([0.0, 0.5, 1.5])),
            ),
            max_size=40,
        )
    )
    def test_random(self, script: list[Any]) -> None:
        """After random events the count of each host is that of its sessions."""
        self.open(sessions="peer", maxSessionsPerHost=2, readTimeout=1.0)
        refusing = [False]
        configured = self.context.newSession

        def newSession(session: Any) -> None:
            if refusing[0]:
                raise ValueError("no")
            configured(session)

        self.context.newSession = newSession
        for name, *args in script:
            if name == "come":
                self.receive(b"x\n", (args[0], args[1]))
            elif name == "advance":
                self.clock.advance(args[0])
            elif name == "closeAll":
                for session in list(self.context.sessions):
                    session.close()
            elif name == "refuse":
                refusing[0] = not refusing[0]
            elif self.context.sessions:
                sessions = sorted(self.context.sessions, key=lambda session: session.id)
                getattr(sessions[args[0] % len(sessions)], name)()
            found = Counter(session.remoteAddr.host.replace("::ffff:", "") for session in self.context.sessions)
            self.assertEqual(dict(found), self.context.hosts)
            self.assertLessEqual(set(found.values()), {1, 2})
        self.flushLoggedErrors()
        self.finish()


KINDS = ("plain", "tls", "ws", "wrapped")
HOOKS = ("open", "message", "close", "cron")
dials = st.tuples(st.just("dial"), st.sampled_from(KINDS), st.sampled_from([ONE, ONE, OTHER]))
others = st.one_of(
    dials,
    *[st.tuples(st.sampled_from(["say", "say", "garbage", "end", "reset"]), st.integers(0, 9))] * 3,
    *[st.tuples(st.sampled_from(["close", "abort", "fail", "pause"]), st.integers(0, 9))] * 2,
    st.tuples(st.just("newSession"), st.sampled_from(["takes", "takes", "raises", "closes", "aborts"])),
    st.tuples(st.just("hook"), st.sampled_from(HOOKS), st.sampled_from(["raise", "close", "abort", "wait"])),
    st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 1.0, 4.0])),
    st.tuples(st.just("limit"), st.sampled_from([None, 1, 2, 3])),
    st.tuples(st.just("abortAll")),
)
# Some connections, then random events.
programs = st.builds(list.__add__, st.lists(dials, min_size=4, max_size=8), st.lists(others, min_size=15, max_size=40))


class RandomTests(LimitCase):
    """Random events of connections."""

    @settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs, st.sampled_from([None, 1, 2, 3]))
    def test_counts(self, program: list[Any], limit: int | None) -> None:
        """Counts match the connections; hosts without connections are removed; nothing is left at the end."""
        self.setUp()
        if not hasattr(self, "files"):
            self.files = selfSigned(self.mktemp(), ["localhost"])
        clock = self.network.clock
        mood = ["takes"]
        hooks: dict[str, str] = {}

        def hook(event: str) -> Any:
            def do(session: Any, *args: Any) -> Any:
                deed = hooks.get(event)
                if deed == "raise":
                    raise ValueError("no")
                if deed == "wait":
                    return Deferred()
                if deed is not None:
                    getattr(session, deed)()
                return None

            return do

        def newSession(session: Any) -> None:
            configure(RecordingListener({event: hook(event) for event in HOOKS}), RawCodec())(session)
            session.cronPeriod = session.waitTime = 2.0
            if mood[0] == "raises":
                raise ValueError("no")
            if mood[0] != "takes":
                getattr(session, {"closes": "close", "aborts": "abort"}[mood[0]])()

        self.serve(newSession=newSession, maxSessionsPerHost=limit)
        web = WebSocketSessionServerFactory.sharing(self.factory, UpgradeOptions())
        factories: dict[str, Any] = {
            "plain": self.factory,
            "tls": TLSMemoryBIOFactory(serverPolicy(*self.files), False, self.factory, clock=clock),
            "ws": web,
            "wrapped": WrappingFactory(self.factory),
        }
        there: set[Any] = set()
        for factory in (self.factory, web):
            factory.connectionMade = there.add
            factory.sessionEnded = lambda connection, error: there.remove(connection)
            factory.connectionFailed = lambda connection, error: there.remove(connection)
        pairs: list[Any] = []
        began = limit is not None
        for name, *args in program:
            if name == "dial":
                kind, host = args
                before = Counter(hostOf(connection.rawTransport) for connection in there)[host]
                refused = self.context.refusals.counts["maxSessionsPerHost"]
                address = IPv4Address("TCP", host, 50000 + len(pairs))
                peer: Any = Peer()
                if kind == "tls":
                    policy = clientPolicy("localhost", verify=False)
                    whole = WrappingFactory(self.network.clientFactory(configure(None, RawCodec())))
                    peer = TLSMemoryBIOFactory(policy, True, whole, clock=clock).buildProtocol(None)
                pair = self.network.join(factories[kind].buildProtocol(address), peer, address)
                isOver = kind != "wrapped" and limit is not None and before >= limit
                self.assertEqual(self.context.refusals.counts["maxSessionsPerHost"] - refused, int(isOver))
                if not isOver:
                    pairs.append((kind, pair))
            elif name == "advance":
                clock.advance(args[0])
            elif name == "newSession":
                mood[0] = args[0]
            elif name == "hook":
                hooks[args[0]] = args[1]
            elif name == "limit":
                # A connection that newSession has refused is about to end, and is not counted if counting begins late.
                clock.settle()
                limit = self.factory.maxSessionsPerHost = args[0]
                began = began or limit is not None
            elif name == "abortAll":
                for each in [*self.context.handshaking, *self.context.sessions]:
                    each.abort()
            elif pairs:
                self.act(name, *pairs[args[0] % len(pairs)])
            if began:
                assert self.context.hosts is not None
                expected = Counter(hostOf(connection.rawTransport) for connection in there)
                del expected[None]
                self.assertEqual(self.context.hosts, dict(expected))
            self.assertEqual(self.context.connections, len(there))
        closed = self.context.closeAll()
        clock.advance(30)
        self.successResultOf(closed)
        self.assertEqual((self.context.hosts or {}, self.context.connections, there), ({}, 0, set()))
        self.assertEqual((len(self.context.wheel), self.context.handshaking), (0, set()))
        self.flushLoggedErrors()

    def act(self, name: str, kind: str, pair: Pair) -> None:
        server: Any = pair._tops[0]
        transport: Any = pair.clientTransport
        if name in ("say", "garbage"):
            if name == "garbage":
                data = b"\xff" * 50
            else:
                data = request() if kind == "ws" and server.session is None else b"hello"
            if not transport.disconnected:
                transport.write(data)
            pair.flush()
        elif name == "end":
            transport.loseConnection()
        elif name == "reset":
            pair.reset()
        elif (session := getattr(server, "session", None)) is not None:
            if name == "fail":
                session.close(ValueError("no"))
            elif name == "pause":
                session.pauseReading()
            else:
                getattr(session, name)()


class ServerTests(ServerCase):
    """On real sockets."""

    async def test_perHost(self) -> None:
        """The third connection of a host is dropped; both kinds of refusals are counted by reason."""
        server = self.serve(LOOPBACK, "ws:0:interface=127.0.0.1", maxSessionsPerHost=2)
        plain, web = await server.whenListening()
        first, second = await self.dial(plain), await self.dial(web)
        await self.until(lambda: server._factory.context.connections == 2)
        third = await self.dial(plain)
        self.assertEqual(await third.ended, b"")
        third = await self.dial(web)
        third.transport.write(request())
        self.assertTrue((await third.ended).startswith(b"HTTP/1.1 503 "))
        self.assertEqual((server.refusals["maxSessionsPerHost"], server.refused), (2, 2))
        self.assertEqual(set(server.refusals), set(REASONS))
        server.refusals["maxSessionsPerHost"] = 99
        self.assertEqual(server.refused, 2, "it is a copy")
        server.maxSessionsPerHost = 3
        again = await self.dial(plain)
        await self.until(lambda: len(server.sessions) == 2)
        for peer in (first, second, again):
            peer.transport.loseConnection()
            await peer.ended
        await self.until(lambda: server._factory.context.hosts == {})

    async def test_haproxy(self) -> None:
        """A proxy is one host with many connections: it has no limit."""
        server = self.serve("haproxy:" + LOOPBACK, maxSessionsPerHost=1)
        (address,) = await server.whenListening()
        peers = [await self.dial(address) for _ in range(3)]
        for peer in peers:
            peer.transport.write(b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n\0\0\0\1a")
        await self.until(lambda: self.listener.names.count("message") == 3)
        self.assertEqual((server.refused, server._factory.context.hosts), (0, {}))
        for peer in peers:
            peer.transport.loseConnection()
            await peer.ended

    async def test_settings(self) -> None:
        """The limits may be changed while it runs, and also hold after the next start; invalid ones change nothing."""
        server = self.serve()
        (address,) = await server.whenListening()
        first = await self.dial(address)
        await self.until(lambda: server.sessions)
        server.maxSessions = 1
        second = await self.dial(address)
        self.assertEqual(await second.ended, b"")
        self.assertEqual(server.refusals["maxSessions"], 1)
        for name, value in (("maxSessions", 0), ("maxSessionsPerHost", -1), ("handshakeTimeout", 0)):
            before = getattr(server, name)
            self.assertIn(f"{name}={value}", str(self.assertRaises(SettingError, setattr, server, name, value)))
            self.assertEqual(getattr(server, name), before)
        await server.stopService()
        await first.ended
        self.assertEqual((server.refused, server.refusals), (0, dict.fromkeys(REASONS, 0)))
        server.startService()
        (address,) = await server.whenListening()
        first = await self.dial(address)
        await self.until(lambda: server.sessions)
        second = await self.dial(address)
        self.assertEqual(await second.ended, b"")
        first.transport.loseConnection()
        await first.ended
