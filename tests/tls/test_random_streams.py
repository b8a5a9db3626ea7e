"""Random streams over TLS on a socket: no byte is lost or doubled, nothing hangs, and one reason ends it."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost

from getty_tx.tls import HandshakeError
from tests.support.long import examples
from tests.support.tlsocket import VERSIONS, End, OnSocketCase, Peer

#: A stream whose bytes tell where they belong.
STREAM = b"".join(b"%07d " % number for number in range(40_000))

few = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
version = st.sampled_from(VERSIONS)
size = st.one_of(st.integers(1, 40), st.integers(1, 70_000))


class StreamTests(OnSocketCase):
    def begin(self, isClient: bool, version: int, cuts: list[int], end: End) -> Peer:
        """A peer whose records leave in pieces: of ``cuts`` bytes in turn, over and over."""
        make: Any = self.client if isClient else self.server
        _, peer = make(end, version, buffers=16 * 1024)
        turn = iter(())

        def cut(data: bytes) -> tuple[bytes, bytes]:
            nonlocal turn
            length = next(turn, 0)
            if not length:
                turn = iter(cuts)
                length = next(turn)
            return data[:length], data[length:]

        peer.cut = cut
        return peer  # type: ignore[no-any-return]

    def isPart(self, part: bytes, whole: bytes) -> None:
        self.assertEqual(part, whole[: len(part)], "bytes are lost, doubled or moved")

    @few
    @given(
        isClient=st.booleans(),
        version=version,
        cuts=st.lists(size, min_size=1, max_size=8),
        ours=st.lists(size, max_size=8),
        theirs=st.lists(size, max_size=8),
        atOnce=st.booleans(),
        pauses=st.lists(st.booleans(), max_size=8),
        stops=st.lists(st.booleans(), max_size=8),
    )
    def test_bothWays(
        self,
        isClient: bool,
        version: int,
        cuts: list[int],
        ours: list[int],
        theirs: list[int],
        atOnce: bool,
        pauses: list[bool],
        stops: list[bool],
    ) -> None:
        """
        Both write at once, in pieces of any size; records come split anywhere; readers stop; sockets are
        full. Then both end in order.
        """
        # Small pieces of large records take many turns.
        cuts = [*cuts, 5000]
        end = End()
        peer = self.begin(isClient, version, cuts, end)
        self.world.until(lambda: "handshake" in end.events and peer.shaken, "the handshake")
        written = given = 0
        for index in range(8):
            for length in ours[index : index + 1]:
                piece = STREAM[written : written + length]
                if atOnce:
                    with contextlib.suppress(OSError):
                        piece = piece[end.transport.send(piece) :]
                end.transport.write(piece)
                written += length
            for length in theirs[index : index + 1]:
                peer.write(STREAM[given : given + length])
                given += length
            (end.transport.pauseProducing if True in pauses[index : index + 1] else end.transport.resumeProducing)()
            peer.reads = True not in stops[index : index + 1]
            self.world.turn(3)
        written, given = min(written, len(STREAM)), min(given, len(STREAM))
        end.transport.resumeProducing()
        peer.reads = True
        self.world.until(lambda: len(end.received) >= given and len(peer.received) >= written, "a byte")
        end.transport.loseConnection()
        peer.end()
        self.world.until(lambda: end.error and peer.ended, "the end")
        self.assertTrue(end.received == STREAM[:given] and peer.received == STREAM[:written])
        self.assertIsInstance(end.error, ConnectionDone)
        self.assertEqual((peer.ended, end.events.count("lost")), ("close_notify", 1))

    @few
    @given(
        isClient=st.booleans(),
        version=version,
        cuts=st.lists(size, min_size=1, max_size=4),
        dies=st.one_of(st.integers(0, 3000), st.integers(0, 100_000)),
        reset=st.booleans(),
        closing=st.booleans(),
    )
    def test_cutAnywhere(
        self, isClient: bool, version: int, cuts: list[int], dies: int, reset: bool, closing: bool
    ) -> None:
        """The peer goes at any byte of the handshake or of the data: what came before is right."""

        def handshake(end: End) -> None:
            end.transport.write(STREAM[:200_000])
            if closing:
                end.transport.loseConnection()

        end = End(handshake=handshake)
        peer = self.begin(isClient, version, [*cuts, 5000], end)
        cut = peer.cut

        def dying(data: bytes) -> tuple[bytes, bytes]:
            now, rest = cut(data)
            left = dies - peer.sent
            return now[:left], now[left:] + rest

        peer.cut = dying
        wrote = False
        for _ in range(400):
            if peer.shaken and not wrote:
                wrote = True
                peer.write(STREAM[:100_000])
            self.world.turn()
            if peer.sent == dies or end.error:
                break
        peer.close(reset)
        self.world.until(lambda: end.error, "the end")
        self.isPart(end.received, STREAM)
        self.isPart(peer.received, STREAM)
        self.assertEqual(end.events.count("lost"), 1)
        self.assertIsInstance(end.error, (ConnectionLost, HandshakeError))
        self.assertTrue(str(end.error))
        if "handshake" not in end.events:
            self.assertEqual(str(end.error), "the connection closed before the TLS handshake was done")

    @few
    @given(isClient=st.booleans(), version=version, at=st.integers(0, 4000), bits=st.integers(1, 255))
    def test_alteredByte(self, isClient: bool, version: int, at: int, bits: int) -> None:
        """One altered byte of the peer's, at any place: an error, or the clean stream; never other bytes."""
        end = End()
        peer = self.begin(isClient, version, [70_000], end)
        passed = 0

        def alter(data: bytes) -> tuple[bytes, bytes]:
            nonlocal passed
            place = at - passed
            passed += len(data)
            if 0 <= place < len(data):
                data = data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
            return data, b""

        peer.cut = alter
        wrote = False
        for _ in range(60):
            if peer.shaken and not wrote:
                wrote = True
                peer.write(STREAM[:2000])
                peer.end()
            self.world.turn()
        peer.close()
        self.world.until(lambda: end.error, "the end")
        self.isPart(end.received, STREAM[:2000])
        self.assertEqual(end.events.count("lost"), 1)
        self.assertTrue(isinstance(end.error, (SSL.Error, ConnectionDone, ConnectionLost)), repr(end.error))
