"""
What cannot be is said at once, and clearly: every setting with every wrong value, too late, and after the end.

The tables go by the checks of :py:mod:`getty_tx.settings`, so that a setting that is added is tested, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.protocols.policies import WrappingFactory

from getty_tx import settings
from getty_tx.client import Client
from getty_tx.codecs import LengthCodec, LineCodec, RawCodec
from getty_tx.errors import SessionClosedError, SessionRefusedError, SettingError
from getty_tx.listener import EventListener
from getty_tx.server import Server
from getty_tx.session.compressed import CompressionSetting
from getty_tx.session.session import Session
from getty_tx.settings import Setting
from getty_tx.testing import MemoryReactor, Network, Peer, RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.udp.endpoints import UDPClientEndpoint, _Probe
from getty_tx.transports.udp.protocol import SessionDatagramProtocol
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.certificates import selfSigned
from tests.support.datagrams import PEER, DatagramCase
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase, closeFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER_NUMBERS = ("1", b"1", True, False, [], 1j, object(), math.nan, math.inf, -math.inf)
SECONDS = (*NEVER_NUMBERS, 0, 0.0, -1, -0.1, 1e10, 10**400)
COUNTS = (*NEVER_NUMBERS, 0, -1, 1.5, 1.0)

#: For each check: values that it refuses, and one that it takes.
CHECKS: dict[Any, tuple[tuple[Any, ...], Any]] = {
    settings.seconds: ((*SECONDS, None), 7.5),
    settings.optionalSeconds: (SECONDS, 7.5),
    settings.size: ((*COUNTS, None), 70_000),
    settings.bufferSize: ((*COUNTS, 2**31, 10**20), 70_000),
    settings.count: ((*COUNTS, None), 7),
    settings.optionalCount: (COUNTS, 7),
    settings.flag: ((0, 1, None, "no", "True", 1.0), False),
    settings.text: ((None, 1, b"x", ["x"]), "x"),
}


def settingsOf(owner: type) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """The name of each setting, what it refuses, and what it takes."""
    for base in owner.__mro__:
        for name, setting in vars(base).items():
            if isinstance(setting, Setting):
                if setting._check in CHECKS:
                    yield (name, *CHECKS[setting._check])
                elif owner is Client and name == "pickBy":
                    yield name, ("", "Random", None, 1, ["random"]), "random"
                elif isinstance(setting, CompressionSetting):
                    # For newSession only: tests.compression.test_session.
                    continue
                else:
                    raise AssertionError(f"{owner.__name__}.{name}: which values are wrong?")


#: Properties that are checked, too.
PARTS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "codec": ((None, object(), LengthCodec, "length", EventListener()), RawCodec()),
    "reader": ((None, object(), LengthCodec, "length", EventListener()), RawCodec()),
    "writer": ((None, object(), LengthCodec, "length", EventListener()), RawCodec()),
    "listener": ((None, object(), EventListener, LengthCodec(), print), EventListener()),
}


class Tables:
    """What holds for every kind of session; mixed into cases that open one."""

    def table(self) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
        """Settings and properties."""
        yield from settingsOf(Session)
        for name, (bad, good) in PARTS.items():
            yield name, bad, good

    def slots(self, session: Any) -> dict[str, Any]:
        """All that setting a setting changes."""
        names = [slot for slot, _ in settings.defaults(Session)]
        return {name: getattr(session, name) for name in (*names, "decoder", "encoder", "receiver", "readsBatches")}

    def checkBad(self, session: Any) -> None:
        """Wrong values are refused by name and value, and change nothing."""
        case: Any = self
        for name, bad, _ in self.table():
            for value in bad:
                before = self.slots(session)
                error = case.assertRaises(SettingError, setattr, session, name, value)
                case.assertIn(f"{name}={value!r}", str(error))
                case.assertEqual(self.slots(session), before, name)

    def checkGood(self, session: Any) -> None:
        """All may be changed while the session is open, time and again."""
        case: Any = self
        for name, _, good in self.table():
            for _ in range(2):
                setattr(session, name, good)
            case.assertEqual(getattr(session, name), good)

    def checkClosed(self, session: Any) -> None:
        """What is set when it can have no effect any more is refused, by name and value; all can still be read."""
        case: Any = self
        for name, bad, good in self.table():
            before = self.slots(session)
            error = case.assertRaises(SessionClosedError, setattr, session, name, good)
            case.assertIs(error.session, session)
            case.assertIn(f"closed: {name}={good!r} comes too late", str(error))
            case.assertRaises(SettingError, setattr, session, name, bad[0])
            case.assertEqual(self.slots(session), before, name)
            getattr(session, name)
        for name in ("attributes", "stats", "localAddr", "remoteAddr", "id", "service", "isClosed", "lastActive"):
            getattr(session, name)
        case.assertIn(str(session.id), str(session.stats))
        case.assertEqual(session.pendingBytes, 0)

    def checkRefused(self, session: Any, name: str, value: Any) -> str:
        """A value that cannot be now; returns why."""
        case: Any = self
        error = case.assertRaises(SettingError, setattr, session, name, value)
        case.assertIn(f"{name}={value!r}", str(error))
        return str(error)


class StreamTests(Tables, SessionCase):
    """Sessions over streams."""

    def test_bad(self) -> None:
        """In newSession and later."""
        refusing: list[Any] = []

        def newSession(session: Any) -> None:
            self.checkBad(session)
            refusing.append(session)
            configure(self.heard)(session)

        self.checkBad(self.open(newSession=newSession).server)
        self.assertEqual(len(refusing), 1)

    def test_good(self) -> None:
        """And right ones are taken."""
        self.checkGood(self.open().server)

    def test_closed(self) -> None:
        """After close(), in onError, in onClose, in a close callback, and when it is gone."""
        moments: list[str] = []

        def look(moment: str) -> Any:
            def do(session: Any, *_: Any) -> None:
                moments.append(moment)
                self.checkClosed(session)
                self.assertEqual(session.attributes["user"], "me")

            return do

        def onMessage(session: Any, pkg: bytes) -> None:
            session.attributes["user"] = "me"
            session.addCloseCallback(lambda: look("callback")(session), "key")
            session.close(ValueError("no"))
            look("closing")(session)

        on = {"message": onMessage, "error": look("error"), "close": look("close")}
        pair = self.open(on, autoClose=True)
        session = pair.server
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(moments, ["closing", "error", "close", "callback"])
        self.checkClosed(session)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEnded()

    def test_refused(self) -> None:
        """One that newSession has refused is closed, too."""
        sessions: list[Any] = []

        def newSession(session: Any) -> None:
            sessions.append(session)
            raise ValueError("no")

        self.open(newSession=newSession).flush()
        self.checkClosed(sessions[0])

    def test_lost(self) -> None:
        """While packages that a lost connection has left are delivered, the settings still have a meaning."""
        gate: Deferred[None] = Deferred()

        def onMessage(session: Any, pkg: bytes) -> Any:
            if pkg == b"1":
                return gate
            if pkg == b"2":
                self.assertTrue(session.isClosed)
                session.codec = LineCodec()
                session.maxMsgLen = 10
            return None

        self.heard = RecordingListener({"message": onMessage})
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard))
        # A wrapper knows no half-close: the peer's end comes as the loss of the connection.
        self.pair = self.network.join(WrappingFactory(self.factory).buildProtocol(None), Peer())
        session = self.pair._tops[0].session
        self.pair.peer.write(frame(b"1") + frame(b"2") + b"three\nfour\nfive\n")
        self.pair.peer.end()
        self.pair.flush()
        gate.callback(None)
        self.assertEqual(self.heard.packages, [b"1", b"2", b"three", b"four", b"five"])
        self.checkClosed(session)
        self.assertEnded()

    def test_waterMarks(self) -> None:
        """In newSession they may be set in any order, and have to fit at its end; later they always have to."""
        for low, high in ((1000, 2000), (1_000_000, 2_000_000)):
            for names in (("lowWater", "highWater"), ("highWater", "lowWater")):
                values = {name: {"lowWater": low, "highWater": high}[name] for name in names}
                session = self.open(**values).server
                self.assertEqual((session.lowWater, session.highWater), (low, high))
        self.assertIn("set highWater first", self.checkRefused(session, "lowWater", 2_000_001))
        self.assertIn("set lowWater first", self.checkRefused(session, "highWater", 999_999))
        session.lowWater = session.highWater = 2_000_000

    def test_waterMarksRefused(self) -> None:
        """A newSession that leaves them the wrong way round has refused the connection, and the log says why."""
        failed: list[Any] = []
        network = Network()
        factory = network.serverFactory(configure(highWater=1000))
        self.patch(factory, "connectionFailed", lambda connection, error: failed.append(error))
        network.join(factory.buildProtocol(None), Peer()).flush()
        self.assertIsInstance(failed[0], SessionRefusedError)
        self.assertIn("lowWater=65536 is more than highWater=1000: set both", str(failed[0]))

    def test_bufferSizes(self) -> None:
        """What a socket was given cannot be taken back; in newSession nothing was given yet."""

        def newSession(session: Any) -> None:
            configure()(session)
            session.sendBufferSize = 5000
            session.sendBufferSize = None

        session = self.open(newSession=newSession).server
        for name in ("sendBufferSize", "receiveBufferSize", "unsentLimit"):
            setattr(session, name, None)
            setattr(session, name, 70_000)
            self.assertIn("the socket has 70000 bytes already", self.checkRefused(session, name, None))
            self.assertEqual(getattr(session, name), 70_000)
            setattr(session, name, 80_000)

    def test_arguments(self) -> None:
        """Times that calls take are checked as settings are."""
        session = self.open().server
        for value in SECONDS:
            error = self.assertRaises(SettingError, session.writePkg, b"x", value)
            self.assertIn(f"timeout={value!r}", str(error))
        self.assertEqual(session.stats.writePkgs, 0)


class WebTests(Tables, WebSocketCase):
    """Sessions over WebSocket."""

    def test_all(self) -> None:
        """The same."""
        session: Any = self.open().server
        self.checkBad(session)
        self.checkGood(session)
        session.close()
        self.checkClosed(session)
        self.say(closeFrame())
        self.pair.peer.end()
        self.pair.flush()
        self.checkClosed(session)
        self.assertEnded()


class DatagramTests(Tables, DatagramCase):
    """Sessions over UDP."""

    def test_all(self) -> None:
        """The same, of whatever kind."""
        for options in ({}, {"sessions": "peer"}, {"peer": PEER}):
            session: Any = self.open(**options)  # type: ignore[arg-type]
            if options.get("sessions"):
                self.receive(b"x\n")
                (session,) = self.context.sessions
            self.checkBad(session)
            session.close()
            self.checkClosed(session)
            self.clock.advance(0)
            self.checkClosed(session)
            self.finish()

    def test_protocol(self) -> None:
        """The protocol's own arguments."""
        factory = SessionServerFactory(print)
        for arguments in (
            {"newSession": 17},
            {"newSession": print, "factory": factory},
            {"newSession": print, "sessions": "two"},
            {"newSession": print, "sessions": None},
            *({"newSession": print, name: value} for name in ("maxSessions", "maxSessionsPerHost") for value in COUNTS),
        ):
            self.assertRaises(SettingError, SessionDatagramProtocol, **arguments)

    def test_factoryFails(self) -> None:
        """What a factory raises leaves no socket of the probe behind."""

        class Broken:
            stopped = 0

            def buildProtocol(self, address: Any) -> Any:
                raise ValueError("no")

            def stopListening(self) -> None:
                self.stopped += 1

        broken = Broken()
        probe: Any = _Probe(MemoryReactor(), 0)
        probe._raw = broken
        self.assertRaises(ValueError, probe.handOver, broken, None, None)
        self.assertEqual(broken.stopped, 1)


class ServiceTests(SessionCase):
    """Server, Client, and the factories."""

    def owners(self) -> list[Any]:
        """One of each."""
        clock = MemoryReactor()
        return [
            Server(print, "tcp:0", reactor=clock),
            Client(print, UDPClientEndpoint(clock, "192.0.2.1", 1), reactor=clock),
            SessionServerFactory(print, reactor=clock),
            SessionClientFactory(print, reactor=clock),
        ]

    def test_settings(self) -> None:
        """Wrong values are refused by name and value and change nothing; right ones are taken."""
        for owner in self.owners():
            names = []
            for name, bad, good in settingsOf(type(owner)):
                names.append(name)
                for value in bad:
                    before = getattr(owner, name)
                    error = self.assertRaises(SettingError, setattr, owner, name, value)
                    self.assertIn(f"{name}={value!r}", str(error))
                    self.assertEqual(getattr(owner, name), before)
                setattr(owner, name, good)
                self.assertEqual(getattr(owner, name), good)
            self.assertIn("handshakeTimeout", names)

    def test_arguments(self) -> None:
        """So are those that are given when they are made, and what is no newSession, or no endpoint."""
        for owner in self.owners():
            kind: Any = type(owner)
            place = {Server: ("tcp:1",), Client: ("tcp:localhost:1",)}.get(kind, ())
            taken = kind.__init__.__code__.co_varnames
            for name, bad, good in settingsOf(kind):
                if name in taken:
                    for value in bad:
                        error = self.assertRaises(SettingError, kind, print, *place, **{name: value})
                        self.assertIn(f"{name}={value!r}", str(error))
                    self.assertEqual(getattr(kind(print, *place, **{name: good}), name), good)
            for newSession in (None, 17, "newSession"):
                error = self.assertRaises(SettingError, kind, newSession, *place)
                self.assertIn(f"newSession={newSession!r} cannot be called", str(error))
            if place:
                for endpoint in (None, 17, b"tcp:1", "", "nosuch:1", ["tcp:1"]):
                    self.assertRaises(SettingError, kind, print, endpoint)

    def test_calls(self) -> None:
        """The arguments of the client's calls."""
        client = Client(print, "tcp:localhost:1", 3)
        for n in (*COUNTS, 4):
            self.assertIn(f"n={n!r}", str(self.assertRaises(SettingError, client.whenReady, n)))
        for timeout in SECONDS:
            self.assertIn(f"timeout={timeout!r}", str(self.assertRaises(SettingError, client.whenReady, 1, timeout)))
        for by in ("", "first", 1, ["random"]):
            self.assertIn(f"by={by!r}", str(self.assertRaises(SettingError, client.pick, by)))

    def test_upgrade(self) -> None:
        """The options of a WebSocket; a text in place of a list of texts would be taken letter by letter."""
        for option, values in {
            "paths": ("/echo", (), ("echo",), (1,), None, ("/a b",)),
            "origins": ("https://a.example", (1,), None, ("a b",)),
            "subprotocols": ("v1", (1,), None, ("a b",), ("",)),
            "deflate": (0, 1, None, "no"),
            "host": (None, 1, "a b"),
            "origin": (1, "a b"),
        }.items():
            for value in values:
                self.assertRaises(SettingError, UpgradeOptions, **{option: value})


class TLSTests(SessionCase):
    """TLS policies."""

    def test_policies(self) -> None:
        """What cannot be is named; nothing but ``False`` turns verification off."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        paths = (17, 1.5, object(), "", "/no/such/file", "a\0b", b"/no/such/file")
        client: dict[str, Any] = {
            "hostname": (None, 17, b"localhost", "", "a b", "x" * 300),
            "verify": (None, 0, 1, "no", "False"),
            "alpn": (None, 17, "h2", b"h2", [17], [None], [""], ["x" * 256]),
            "trustRoot": paths,
            "certificate": paths,
            "privateKey": (*paths, key),
        }
        server: dict[str, Any] = {
            "certificate": (None, *paths),
            "privateKey": paths,
            "alpn": client["alpn"],
            "trustRoot": paths,
            "sni": (
                *(17, "a.example", ["a.example"]),
                *({"a.example": pair} for pair in (None, 17, certificate, (certificate,), (certificate, key, key))),
                *({name: (certificate, key)} for name in (17, "", "*.", "*", "192.0.2.1")),
            ),
        }
        for make, table, given in (
            (clientPolicy, client, {"hostname": "localhost"}),
            (serverPolicy, server, {"certificate": certificate, "privateKey": key}),
        ):
            for name, values in table.items():
                for value in values:
                    anyMake: Any = make
                    error = self.assertRaises(SettingError, anyMake, **{**given, name: value})
                    self.assertIn(name, str(error), value)
