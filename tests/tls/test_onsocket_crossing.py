"""
TLS on a socket: reads that wait for room to write, and writes that wait for bytes to read.

OpenSSL 4 writes while it reads in one case only: in the handshake, the first or a renegotiation of TLS 1.2, which
policies of Twisted's allow and ours do not. The answer to a key update of TLS 1.3 leaves with the next write, and an
alert that finds no room is dropped. So each case that OpenSSL has is caused here once, with sockets that are full; and
a double causes them anywhere.
"""

from __future__ import annotations

import contextlib
import socket
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionDone
from twisted.python.monkey import MonkeyPatcher

from getty_tx.tls import HandshakeError, clientPolicy, onsocket, serverPolicy
from getty_tx.tls.onsocket import SocketTLS
from tests.support.long import examples
from tests.support.tlsocket import HOST, VERSIONS, End, OnSocketCase, Peer, peerContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.tlsocket import World

#: A stream whose bytes tell where they belong.
STREAM = b"".join(b"%07d " % number for number in range(40_000))

#: The least buffer of a socket.
LEAST = 1


def awaits(world: World, end: End) -> str:
    """What the reactor watches the socket for: ``r``, ``w``, both or neither."""
    transport = end.transport.transport
    reads, writes = world.reactor.getReaders(), world.reactor.getWriters()
    return "r" * (transport in reads) + "w" * (transport in writes)


class FullSocketTests(OnSocketCase):
    """
    The socket takes no byte more, and OpenSSL has sent all that it was given.

    Unix sockets count a byte as the sender's until it is read, so that the room is the same on each machine.
    """

    def fill(self, end: End, peer: Peer) -> bytes:
        """Send whole records, and make the socket's buffer smaller than they are; what was sent."""
        peer.reads = False
        sent = b""
        for _ in range(8):
            self.assertEqual(end.transport.send(STREAM[:2000]), 2000)
            sent += STREAM[:2000]
        end.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LEAST)
        return sent

    def renegotiating(self, data: bytes = b"") -> tuple[End, Peer, bytes]:
        """The peer asks a client with Twisted's policy for a new handshake, for which there is no room."""
        policy = ssl.CertificateOptions(lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2)
        end, peer = self.client(policy=policy, version=SSL.TLS1_2_VERSION, unix=True, buffers=16 * 1024)
        self.open(end, peer)
        sent = self.fill(end, peer)
        peer.tls.renegotiate()
        peer.tls.do_handshake()
        peer.flush()
        if data:
            peer.write(data)
        self.world.reactor.iterate(0)
        return end, peer, sent

    def test_renegotiation(self) -> None:
        """The read waits for room; what is written meanwhile leaves after the handshake that it began."""
        for written in b"", b"in the middle":
            end, peer, sent = self.renegotiating()
            if written:
                end.transport.write(written)
            self.world.settle(5)
            self.assertEqual(awaits(self.world, end), "w")
            peer.reads = True
            self.world.until(lambda peer=peer, all=sent + written: peer.received == all)
            peer.write(b"answer")
            self.world.until(lambda end=end: end.received == b"answer")
            self.world.settle(3)
            self.assertEqual(awaits(self.world, end), "r")

    def test_closedMeanwhile(self) -> None:
        """The connection is to close: the close_notify waits for the handshake, which waits for room, not for bytes."""
        for lose in SocketTLS.loseConnection, SocketTLS.loseWriteConnection:
            end, peer, sent = self.renegotiating()
            lose(end.transport)
            self.world.settle(5)
            self.assertEqual(awaits(self.world, end), "w")
            peer.reads = True
            self.world.until(lambda peer=peer: peer.ended)
            self.assertEqual((peer.received, peer.ended), (sent, "close_notify"))
            peer.end()
            self.world.until(lambda end=end: end.error)
            self.assertIsInstance(end.error, ConnectionDone)

    def test_pausedMeanwhile(self) -> None:
        """There is room again, and bytes are there: a protocol that has paused gets none before it resumes."""
        end, peer, sent = self.renegotiating(b"behind the request")
        end.transport.pauseProducing()
        peer.reads = True
        self.world.until(lambda: peer.received == sent)
        self.world.settle()
        self.assertEqual((end.received, awaits(self.world, end)), (b"", ""))
        end.transport.resumeProducing()
        self.world.until(lambda: end.received == b"behind the request")

    def test_refusedRenegotiation(self) -> None:
        """
        With a policy of ours there is no room for the alert that refuses. OpenSSL 4.0 drops that record, and the peer
        misses it at the next write: the connection ends in words, and all that was sent before has come.
        """
        end, peer = self.client(version=SSL.TLS1_2_VERSION, unix=True, buffers=16 * 1024)
        self.open(end, peer)
        sent = self.fill(end, peer)
        peer.tls.renegotiate()
        peer.tls.do_handshake()
        peer.flush()
        self.world.settle(5)
        self.assertEqual(awaits(self.world, end), "r")
        end.transport.write(b"next")
        peer.reads = True
        self.world.until(lambda: end.error and peer.ended)
        self.assertEqual(peer.received, sent)
        self.assertRegex(str(peer.ended), "bad record mac|no renegotiation")
        self.assertIsInstance(end.error, HandshakeError)

    def test_handshake(self) -> None:
        """A certificate that does not fit into the socket, of a server and of a client, and its ticket (TLS 1.3)."""
        blob = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"x" * 14_000)
        large = self.authority.issue([HOST], extension=blob)
        me = self.authority.issue(["me"], client=True, extension=blob)
        trust = self.authority.path
        policies = {
            "server": serverPolicy(*large),
            "client": clientPolicy(HOST, trustRoot=trust, certificate=me[0], privateKey=me[1]),
            "ticket": serverPolicy(*self.files, trustRoot=trust),
        }
        for version in VERSIONS:
            for name, policy in policies.items():
                context = peerContext(self.files if name == "client" else me, version)
                context.set_session_id(b"here")
                context.set_verify(SSL.VERIFY_PEER, lambda *arguments: True)
                end = End(made=lambda end: end.transport.write(b"early"))
                make: Any = self.client if name == "client" else self.server
                end, peer = make(end, policy=policy, context=context, unix=True, buffers=LEAST)
                waited = False
                for _ in range(2000):
                    self.world.turn()
                    if "handshake" not in end.events:
                        self.assertIn(awaits(self.world, end), ("r", "w"))
                        waited = waited or awaits(self.world, end) == "w"
                self.assertEqual((peer.received, end.events), (b"early", ["made", "handshake"]))
                self.assertTrue(waited, (name, version))
                self.assertEqual(awaits(self.world, end), "r")

    def test_keyUpdate(self) -> None:
        """A key update that asks for another one, while there is no room: the answer leaves with the next write."""
        secrets: dict[bytes, bytes] = {}
        context = peerContext()

        def keep(connection: SSL.Connection, line: bytes) -> None:
            name, _, secret = line.split()
            secrets[name] = bytes.fromhex(secret.decode())

        context.set_keylog_callback(keep)
        end, peer = self.server(context=context, unix=True, buffers=16 * 1024)
        self.open(end, peer)
        self.world.settle(3)
        sent = self.fill(end, peer)
        peer.socket.send(keyUpdate(secrets[b"CLIENT_TRAFFIC_SECRET_0"]))
        self.world.settle(5)
        self.assertEqual(awaits(self.world, end), "r")
        end.transport.write(b"next")
        self.world.settle(5)
        self.assertEqual(awaits(self.world, end), "rw")
        peer.reads = True
        self.world.until(lambda: peer.received == sent + b"next")
        # The peer has been told of new keys.
        self.assertIn(b"SERVER_TRAFFIC_SECRET_N", secrets)
        self.assertEqual((end.error, peer.ended), (None, None))


def keyUpdate(secret: bytes) -> bytes:
    """The first record behind the handshake, with a KeyUpdate that asks for one (RFC 8446, sections 4.6.3 and 7.3)."""
    hash_ = {32: hashes.SHA256(), 48: hashes.SHA384()}[len(secret)]

    def expand(label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        return HKDFExpand(hash_, length, b"\0%c%c%b\0" % (length, len(label), label)).derive(secret)

    message = b"\x18\0\0\x01\x01" + b"\x16"
    header = b"\x17\x03\x03\0%c" % (len(message) + 16)
    key = AESGCM(expand(b"key", 16 if len(secret) == 32 else 32))
    return header + key.encrypt(expand(b"iv", 12), message, header)


class Crossing:
    """
    A double around OpenSSL, which says that it has to wait where a test wants it to.

    A call that has to wait is refused until the reactor has told of what it waits for, however often it is tried
    before. A write that waits for bytes, which the peer sends then, waits until they are read.

    :ivar waits: what each kind of call waits for, ``r`` or ``w``.
    :ivar delivers: the reactor's call may deliver bytes.
    :ivar delivered: bytes were delivered to a protocol that has paused.
    :param refusals: for each kind of call, what its calls wait for, one after the other; ``.``: nothing.
    :param more: has the peer send something.
    """

    def __init__(self, refusals: dict[str, str], more: Callable[[], None]) -> None:
        self.waits: dict[str, str] = {}
        self.delivers = True
        self.delivered = False
        self._next = {kind: chain(wanted, repeat(".")) for kind, wanted in refusals.items()}
        self._more = more
        self._depth = 0
        # What may go on, and has not been tried again.
        self._ready: set[str] = set()
        # A close_notify is out, and the stream below is to end.
        self._endsStream = False
        self._refused: SSL.Error | None = None
        self.patches = MonkeyPatcher(
            (onsocket, "sslRead", self._instead("read", onsocket.sslRead)),
            (onsocket, "sslWrite", self._instead("write", onsocket.sslWrite)),
            (onsocket, "failureOf", self._failureOf),
        )
        self._reallyFailureOf = onsocket.failureOf
        for name in "doRead", "doWrite":
            self.patches.addPatch(SocketTLS, name, self._heard(name, getattr(SocketTLS, name)))
        self.patches.addPatch(SocketTLS, "writeConnectionLost", lambda _: setattr(self, "_endsStream", False))

    def _failureOf(self, connection: SSL.Connection, result: int) -> SSL.Error:
        refused, self._refused = self._refused, None
        return refused or self._reallyFailureOf(connection, result)

    def wrap(self, connection: Any) -> None:
        """Take part in the handshake and the end of a connection."""
        for kind in "do_handshake", "shutdown":
            setattr(connection, kind, self._raising(kind, getattr(connection, kind)))

    def _isRefused(self, kind: str) -> SSL.Error | None:
        self._ready.discard(kind)
        if kind not in self.waits:
            wanted = next(self._next[kind])
            if wanted == ".":
                return None
            self.waits[kind] = wanted
            if wanted == "r" and kind != "read":
                self._more()
        wanted = self.waits[kind]
        if kind == "write" and not self._depth:
            # send() leaves it to the write that follows to find out.
            del self.waits[kind]
        if wanted == "w":
            return SSL.WantWriteError()
        return (
            SSL.Error([("SSL routines", "", "shutdown while in init")]) if kind == "shutdown" else SSL.WantReadError()
        )

    def _mayGo(self, event: str, kinds: tuple[str, ...]) -> None:
        """What calls of these kinds have waited for has come."""
        for kind in kinds:
            if self.waits.get(kind) == event:
                del self.waits[kind]
                self._ready.add(kind)

    def _instead(self, kind: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self._refused = self._isRefused(kind)
            if kind == "read" and not isinstance(self._refused, SSL.WantWriteError):
                # What came has been read, as far as it goes.
                self._mayGo("r", ("write", "shutdown"))
            return real(*arguments) if self._refused is None else -1

        return call

    def _raising(self, kind: str, real: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            refused = self._isRefused(kind)
            if refused is not None:
                raise refused
            try:
                real()
            except SSL.WantWriteError:
                self.waits[kind] = "w"
                raise
            self._endsStream = kind == "shutdown"

        return call

    def _heard(self, name: str, real: Callable[[SocketTLS], Any]) -> Callable[[SocketTLS], Any]:
        """The reactor has called: what waits for this may go on."""
        event = name[2].lower()

        def call(tls: SocketTLS) -> Any:
            if not self._depth:
                writing = self.waits.get("write"), self.waits.get("shutdown")
                self.delivers = not tls._isPaused or "r" in writing
                self._mayGo(event, ("read",) if event == "r" else tuple(self.waits))
            self._depth += 1
            try:
                return real(tls)
            finally:
                self._depth -= 1

        return call

    def expected(self, tls: SocketTLS) -> str:
        """What the reactor has to watch the socket for."""
        waits = self.waits
        if waits.get("read") == "w" or waits.get("do_handshake") == "w":
            return "w"
        awaitsBytes = "r" in (waits.get("write"), waits.get("shutdown"))
        ends = "shutdown" in self._ready or waits.get("shutdown") == "w"
        writes = (
            not awaitsBytes and "handshake" in tls.wrappedProtocol.events and (tls._unsent or ends or self._endsStream)
        )
        return "r" * (awaitsBytes or not tls._isPaused) + "w" * bool(writes)


def kinds(of: str) -> Any:
    return st.text(st.sampled_from("..." + of), max_size=40)


sizes = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 40_000)), max_size=8)
flags = st.lists(st.booleans(), min_size=8, max_size=8)


class AnywhereTests(OnSocketCase):
    @settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        isClient=st.booleans(),
        version=st.sampled_from(VERSIONS),
        refusals=st.fixed_dictionaries(
            {"do_handshake": kinds("w"), "read": kinds("rw"), "write": kinds("rw"), "shutdown": kinds("rw")}
        ),
        ours=sizes,
        theirs=sizes,
        atOnce=flags,
        pauses=flags,
        stops=flags,
        early=st.booleans(),
        closesEarly=st.booleans(),
    )
    def test_anyCall(
        self,
        isClient: bool,
        version: int,
        refusals: dict[str, str],
        ours: list[int],
        theirs: list[int],
        atOnce: list[bool],
        pauses: list[bool],
        stops: list[bool],
        early: bool,
        closesEarly: bool,
    ) -> None:
        """
        Any call has to wait for the other direction: no byte is lost or doubled, nothing hangs or is delivered to a
        protocol that has paused, and the reactor watches the socket for exactly what OpenSSL waits for.
        """
        given = sent = written = 0

        def more(length: int = 50) -> None:
            nonlocal given
            given = min(given + length, len(STREAM))

        def step() -> None:
            nonlocal sent
            if peer.shaken:
                peer.write(STREAM[sent:given])
                sent = given

        def data(end: End) -> None:
            if not crossing.delivers:
                crossing.delivered = True

        def made(end: End) -> None:
            nonlocal written
            crossing.wrap(end.transport.getHandle())
            if early:
                end.transport.write(STREAM[:3000])
                written = 3000

        crossing = Crossing(refusals, more)
        crossing.patches.patch()
        try:
            make: Any = self.client if isClient else self.server
            end, peer = make(End(made=made, data=data), version, unix=True, buffers=4096)
            self.turns(crossing, end, step, lambda: "handshake" in end.events and peer.shaken)
            for index in range(8):
                for length in ours[index : index + 1]:
                    piece = STREAM[written : written + length]
                    written += len(piece)
                    if atOnce[index]:
                        with contextlib.suppress(OSError):
                            piece = piece[end.transport.send(piece) :]
                    end.transport.write(piece)
                for length in theirs[index : index + 1]:
                    more(length)
                (end.transport.pauseProducing if pauses[index] else end.transport.resumeProducing)()
                peer.reads = not stops[index]
                self.turns(crossing, end, step, lambda: False, 3)
            if closesEarly:
                end.transport.loseConnection()
                self.turns(crossing, end, step, lambda: False, 3)
            end.transport.resumeProducing()
            peer.reads = True
            self.turns(crossing, end, step, lambda: len(end.received) >= given and len(peer.received) >= written)
            end.transport.loseWriteConnection()
            self.turns(crossing, end, step, lambda: peer.ended and len(end.received) >= given)
            end.transport.loseConnection()
            peer.end()
            self.world.until(lambda: end.error)
            self.assertTrue(end.received == STREAM[:given] and peer.received == STREAM[:written])
            self.assertEqual((type(end.error), peer.ended), (ConnectionDone, "close_notify"))
            self.assertEqual(end.events.count("lost"), 1)
        finally:
            crossing.patches.restore()
            self.world.peers.clear()

    def turns(
        self, crossing: Crossing, end: End, step: Callable[[], None], isTrue: Callable[[], object], most: int = 2000
    ) -> None:
        """Turn until something is true, and see each time what the reactor watches the socket for."""
        for _ in range(most):
            if isTrue():
                return
            step()
            self.world.turn()
            self.assertFalse(crossing.delivered, "bytes were delivered to a protocol that has paused")
            if end.error is None:
                self.assertEqual(awaits(self.world, end), crossing.expected(end.transport), crossing.waits)
        if most == 2000:
            self.fail(f"hangs: {crossing.waits}, {end.events}")
