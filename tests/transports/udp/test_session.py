"""Sessions over UDP, without sockets."""

from __future__ import annotations

import errno
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from zope.interface.verify import verifyObject

from getty_tx import codecs
from getty_tx.codecs import LineCodec
from getty_tx.errors import CodecError, MessageTooLongError, NoPeerAddressError, ReadTimeoutError, SessionClosedError
from getty_tx.interfaces import IConnection
from getty_tx.transports.udp import PEER_TIMEOUT, UDPContext, peers
from tests.support.datagrams import OTHER, PEER, DatagramCase
from tests.support.long import examples

ALL_CODECS = ["length", "line", "netstring", "varint", "raw", "json-lines", "getty"]


def echo(session: Any, pkg: Any) -> None:
    session.writePkg(pkg)


class ServerTests(DatagramCase):
    """One session for the socket."""

    def test_echo(self) -> None:
        """Messages are read and written as UDPContext."""
        session = self.open({"message": echo})
        verifyObject(IConnection, self.protocol)
        self.receive(b"hello\n")
        self.receive(b"you\n", OTHER)
        self.assertEqual(self.sent, [(b"hello\n", PEER), (b"you\n", OTHER)])
        self.assertEqual(self.heard.packages, [UDPContext(b"hello", PEER), UDPContext(b"you", OTHER)])
        self.assertEqual(str(session), f"{{udp-session:UDP_SERVER:{session.id}:192.0.2.1:8090<->0.0.0.0:0}}")
        stats = session.stats
        self.assertEqual((stats.readBytes, stats.writeBytes, stats.readPkgs, stats.writePkgs), (10, 10, 2, 2))
        self.finish()
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])

    def test_invalidDatagrams(self) -> None:
        """A datagram that is no package is dropped and counted; a probe is not counted."""
        session = self.open(codec=codecs.fromDescription("length:size=1"), maxMsgLen=10)
        for data in (b"", b"\5abc", b"\1ab", b"\1a\1b", b"\x0bhello world"):
            self.receive(data)
        self.assertEqual((session.stats.dropped, session.stats.readPkgs), (5, 0))
        self.receive(b"connect-ping")
        self.receive(b"\1a")
        self.assertEqual((session.stats.dropped, self.heard.names), (5, ["open", "message"]))
        self.finish()

    def test_maxPacketSize(self) -> None:
        """A datagram that fills the transport's buffer may have been cut."""
        session = self.open(codec=codecs.fromDescription("raw"))
        self.receive(b"x" * 2001)
        self.receive(b"x" * 2000)
        self.assertEqual((session.stats.dropped, session.stats.readPkgs), (1, 1))
        self.finish()

    def test_codecRaises(self) -> None:
        """A codec that raises does not close the session."""

        class Codec(LineCodec):
            def read(self, session: Any, data: memoryview) -> Any:
                raise SystemExit

        session = self.open(codec=Codec())
        self.receive(b"x")
        self.assertEqual((session.stats.dropped, self.heard.names, session.isClosed), (1, ["open"], False))
        self.finish()

    def test_failingCallbacks(self) -> None:
        """The error of each failed callback but onError is given to onError. The same error is logged once."""

        def fail(session: Any, *args: Any) -> None:
            raise ValueError(*args)

        session = self.open({"message": fail, "error": fail, "cron": fail})
        self.receive(b"x\n")
        self.receive(b"x\n")
        self.clock.advance(61)
        self.assertEqual(self.heard.names, ["open", "message", "error", "message", "error", "cron", "error"])
        self.assertFalse(session.isClosed)
        # Two lines: the error of the messages, and that of the cron.
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.finish()

    def test_failingAsync(self) -> None:
        """The same for an async def; messages wait for it."""
        waiting: list[Deferred[None]] = []

        async def onMessage(session: Any, pkg: Any) -> None:
            waiting.append(Deferred())
            await waiting[-1]

        session = self.open({"message": onMessage})
        for _ in range(3):
            self.receive(b"x\n")
        self.assertEqual(len(waiting), 1)
        waiting[0].errback(ValueError())
        waiting[1].callback(None)
        waiting[2].callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "error", "message", "message"])
        self.assertFalse(session.isClosed)
        self.flushLoggedErrors(ValueError)
        self.finish()

    def test_failingOnOpen(self) -> None:
        """It closes the session and the socket."""

        def fail(session: Any) -> None:
            raise ValueError

        self.open({"open": fail})
        self.clock.advance(0)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.flushLoggedErrors(ValueError)
        self.finish()

    def test_addresses(self) -> None:
        """Nothing is sent without an address, or to a host that needs a name look-up."""
        session = self.open()
        wrong = (None, ("localhost", 1), ("::x", 1), ("198.51.100.1",), ("198.51.100.1", "1"), 5, "198.51.100.1")
        for addr in wrong:
            error = self.assertRaises(NoPeerAddressError, session.writePkg, UDPContext(b"x", addr))  # type: ignore[arg-type]
            self.assertIs(error.session, session)
        self.assertRaises(NoPeerAddressError, session.writePkg, b"x")
        self.assertRaises(NoPeerAddressError, session.writeBytes, b"x")
        self.assertRaises(NoPeerAddressError, session.transport.write, b"x")
        session.writePkg(UDPContext(b"x", PEER))
        session.writeBytes(UDPContext(b"y", OTHER))
        self.assertEqual(self.sent, [(b"x\n", PEER), (b"y", OTHER)])
        self.assertRaises(CodecError, session.writeBytes, "y")
        self.finish()

    def test_sendErrors(self) -> None:
        """Datagrams lost in the network are dropped and counted; errors of this side are raised."""
        session = self.open()
        for number in (errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.EINVAL):
            self.transport.handle.error = OSError(number, "")
            self.assertEqual(session.writePkg(UDPContext(b"x", PEER)), 2)
        self.assertEqual(session.stats.dropped, 4)
        self.transport.handle.error = OSError(errno.EMSGSIZE, "")
        self.assertRaises(MessageTooLongError, session.writePkg, UDPContext(b"x", PEER))
        self.transport.handle.error = OSError(errno.EACCES, "")
        self.assertRaises(OSError, session.writePkg, UDPContext(b"x", PEER))
        self.assertFalse(session.isClosed)
        self.finish()

    def test_errorOfAnother(self) -> None:
        """An error of an earlier datagram, to whomever, costs this one nothing."""
        session = self.open()
        for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
            self.transport.handle.errorOnce = OSError(number, "")
            session.writePkg(UDPContext(b"x", PEER))
            self.transport.handle.errorOnce = OSError(number, "")
            session.writeBytes(UDPContext(b"y", PEER))
        self.assertEqual([b"x\n", b"y"] * 2, [data for data, _ in self.sent])
        self.assertEqual(0, session.stats.dropped)
        self.finish()

    def test_paused(self) -> None:
        """While the session is paused the socket is not read; a limited number of datagrams is buffered."""
        session = self.open()
        session.pauseReading()
        self.assertFalse(self.transport.reading)
        for i in range(1100):
            self.receive(b"%d\n" % i)
        self.assertEqual(session.stats.dropped, 76)
        session.resumeReading()
        self.assertTrue(self.transport.reading)
        self.assertEqual([context.pkg for context in self.heard.packages], [b"%d" % i for i in range(1024)])
        self.finish()

    def test_silence(self) -> None:
        """readTimeout has no effect: no single peer can be silent."""
        session = self.open(readTimeout=1.0)
        self.clock.pump([1.0] * 5)
        self.assertFalse(session.isClosed)
        self.finish()

    def test_close(self) -> None:
        """close() closes at once, and later writes raise SessionClosedError."""
        session = self.open()
        session.close()
        self.assertRaises(SessionClosedError, session.writePkg, UDPContext(b"x", PEER))
        self.receive(b"late\n")
        self.clock.advance(0)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.finish()

    @settings(max_examples=examples(60), deadline=None)
    @given(st.sampled_from(ALL_CODECS), st.lists(st.binary(max_size=80), max_size=20), st.sampled_from(["one", "peer"]))
    def test_anything(self, codec: str, datagrams: list[bytes], sessions: str) -> None:
        """No datagram closes a server or raises."""
        self.open({"message": echo}, codec=codecs.fromDescription(codec), sessions=sessions)
        for data in datagrams:
            self.receive(data)
        self.assertNotIn("error", self.heard.names)
        self.assertNotIn("close", self.heard.names)
        self.finish()


class PeerTests(DatagramCase):
    """A session for each peer."""

    def test_peers(self) -> None:
        """Each peer has its onOpen, packages without context, attributes and onClose."""

        def count(session: Any, pkg: bytes) -> None:
            session.attributes["n"] = session.attributes.get("n", 0) + 1
            session.writePkg(b"%d" % session.attributes["n"])

        self.open({"message": count}, sessions="peer")
        for addr in (PEER, OTHER, PEER):
            self.receive(b"x\n", addr)
        self.assertEqual(self.sent, [(b"1\n", PEER), (b"1\n", OTHER), (b"2\n", PEER)])
        self.assertEqual(self.heard.names, ["open", "message", "open", "message", "message"])
        remotes = {(session.remoteAddr.host, session.remoteAddr.port) for session in self.context.sessions}
        self.assertEqual(remotes, {PEER, OTHER})
        session = next(iter(self.context.sessions))
        self.assertIn(":UDP_SERVER:", str(session))
        verifyObject(IConnection, session.connection)
        self.finish()

    def test_silence(self) -> None:
        """Silence ends a peer's session without an error; the next datagram opens another."""
        self.open(sessions="peer")
        self.receive(b"x\n")
        self.clock.pump([1.0] * int(PEER_TIMEOUT - 5))
        self.receive(b"x\n")
        self.clock.pump([1.0] * 10)
        self.assertNotIn("close", self.heard.names)
        self.clock.pump([1.0] * int(PEER_TIMEOUT))
        self.assertEqual([name for name in self.heard.names if name != "cron"], ["open", "message", "message", "close"])
        self.receive(b"x\n")
        self.assertEqual(self.heard.names[-2:], ["open", "message"])
        self.finish()

    def test_readTimeout(self) -> None:
        """newSession may set another time; None means the default."""
        self.open(sessions="peer", readTimeout=2.0)
        self.receive(b"x\n")
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.heard.names, ["open", "message", "close"])
        self.finish()
        self.open(sessions="peer", readTimeout=None)
        self.receive(b"x\n")
        self.assertEqual(next(iter(self.context.sessions)).readTimeout, PEER_TIMEOUT)
        self.finish()

    def test_flood(self) -> None:
        """Forged addresses open at most maxSessions sessions; probes and empty datagrams open none."""
        self.open(sessions="peer", maxSessions=5)
        for i in range(50):
            self.receive(b"x\n", ("198.51.100.1", 1000 + i))
        self.assertEqual((len(self.context.sessions), self.context.refused, len(self.protocol._peers)), (5, 45, 5))
        self.finish()
        self.open(sessions="peer")
        self.patch(peers, "MAX_PEERS", 3)
        for data in (b"", b"connect-ping", b"x\n"):
            for i in range(9):
                self.receive(data, ("198.51.100.1", 1000 + i))
            self.assertEqual(len(self.context.sessions), 3 if data == b"x\n" else 0)
        self.finish()

    def test_queue(self) -> None:
        """A busy peer does not delay others, and a limited number of its datagrams is buffered."""
        waiting: Deferred[None] = Deferred()

        async def onMessage(session: Any, pkg: bytes) -> None:
            if pkg == b"wait":
                await waiting

        self.open({"message": onMessage}, sessions="peer")
        self.receive(b"wait\n")
        for _ in range(1200):
            self.receive(b"x\n")
        self.receive(b"other\n", OTHER)
        self.assertEqual(self.heard.packages, [b"wait", b"other"])
        self.assertEqual(sorted(session.stats.dropped for session in self.context.sessions), [0, 176])
        waiting.callback(None)
        self.assertEqual(len(self.heard.packages), 1026)
        self.finish()

    def test_refused(self) -> None:
        """The refusal of a peer by newSession is counted, and nothing is left."""
        self.open(sessions="peer", maxMsgLen=0)
        self.receive(b"x\n")
        self.assertEqual((self.heard.events, self.context.refused, len(self.protocol._peers)), ([], 1, 0))
        self.finish()

    def test_failing(self) -> None:
        """A failed callback does not close the peer's session, nor affect others."""
        self.open({"message": lambda session, pkg: 1 / 0}, sessions="peer")
        self.receive(b"x\n")
        self.receive(b"x\n")
        self.assertEqual(self.heard.names, ["open", "message", "error", "message", "error"])
        self.flushLoggedErrors(ZeroDivisionError)
        self.finish()

    def test_otherAddress(self) -> None:
        """A peer's session only sends to its peer."""
        self.open(sessions="peer")
        self.receive(b"x\n")
        (session,) = self.context.sessions
        session.writePkg(UDPContext(b"a", PEER))
        session.writePkg(UDPContext(b"b"))
        session.transport.write(b"c")
        self.assertRaises(NoPeerAddressError, session.writePkg, UDPContext(b"d", OTHER))
        self.assertEqual(self.sent, [(b"a\n", PEER), (b"b\n", PEER), (b"c", PEER)])
        self.finish()


class ConnectedTests(DatagramCase):
    """The session of a connected socket."""

    def test_packages(self) -> None:
        """Packages are read and written without UDPContext."""
        session = self.open({"message": echo}, peer=PEER)
        self.receive(b"hello\n")
        session.writePkg(UDPContext(b"x"))
        session.writeBytesArray(b"y", b"z")
        self.assertEqual(self.sent, [(b"hello\n", None), (b"x\n", None), (b"y", None), (b"z", None)])
        self.assertEqual(self.heard.packages, [b"hello"])
        self.assertRaises(NoPeerAddressError, session.writePkg, UDPContext(b"x", OTHER))
        self.assertIn(":UDP_CLIENT:", str(session))
        self.finish()

    def test_refusal(self) -> None:
        """A refusal ends the session, reported by the reactor, by sending, or by the end of the socket."""
        for how in ("reactor", "sending", "end"):
            session = self.open(peer=PEER)
            if how == "reactor":
                self.protocol.connectionRefused()
            elif how == "sending":
                self.transport.handle.error = ConnectionRefusedErrorOf()
                session.writePkg(b"x")
                self.assertFalse(session.isClosed)
            else:
                self.transport.lose()
            self.clock.advance(0)
            self.clock.advance(0)
            self.assertEqual(self.heard.names, ["open", "error", "close"], how)
            if how != "end":
                self.assertIsInstance(self.heard.errors[0], ConnectionRefusedError)
            self.finish()

    def test_silence(self) -> None:
        """A client's session fails if its peer is silent for readTimeout."""
        self.open(peer=PEER, readTimeout=1.0)
        self.clock.pump([1.0] * 3)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.finish()

    def test_failing(self) -> None:
        """A failing callback closes a client's session."""
        self.open({"message": lambda session, pkg: 1 / 0}, peer=PEER)
        self.receive(b"x\n")
        self.clock.advance(0)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.flushLoggedErrors(ZeroDivisionError)
        self.finish()


def ConnectionRefusedErrorOf() -> OSError:
    return OSError(errno.ECONNREFUSED, "refused")
