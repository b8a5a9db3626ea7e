"""Packages that are views of what was read: they never change, and are sent without a copy."""

from __future__ import annotations

import tracemalloc
import zlib
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from getty_tx.codecs import LengthCodec, VarintCodec
from getty_tx.session.gathering import LARGE
from getty_tx.testing import DirectTransport, MemoryTransport
from getty_tx.workers import WorkerPool
from tests.support import websocket
from tests.support.datagrams import DatagramCase
from tests.support.long import examples
from tests.support.memory import SessionCase, frame
from tests.support.workers import SteppedCase

VIEWS = 1000


def echo(session: Any, pkg: Any) -> None:
    session.writePkg(pkg)


class ViewTests(SessionCase):
    """Streams."""

    @settings(max_examples=examples(40), deadline=None)
    @given(
        st.lists(st.integers(0, 3 * VIEWS), max_size=20),
        st.lists(st.integers(1, 4 * VIEWS), min_size=1, max_size=10),
        st.sampled_from([LengthCodec, VarintCodec]),
    )
    def test_neverOverwritten(self, sizes: list[int], split: list[int], kind: Any) -> None:
        """All packages are kept; each is what was sent, when all that came later has come, and so is each echo."""
        SessionCase.setUp(self)
        codec = kind(views=VIEWS)
        sent = [Random(size).randbytes(size) for size in sizes]
        pair = self.open({"message": echo}, codec=codec, network={"split": split})
        wire = b"".join(b"".join(data) if type(data := codec.write(None, each)) is list else data for each in sent)
        pair.peer.write(wire)
        pair.flush()
        self.assertEqual([type(pkg) is memoryview for pkg in self.heard.packages], [size >= VIEWS for size in sizes])
        self.assertTrue(all(pkg.readonly for pkg in self.heard.packages if type(pkg) is memoryview))
        self.assertEqual([bytes(pkg) for pkg in self.heard.packages], sent)
        self.assertEqual(bytes(pair.peer.data), wire)

    def test_large(self) -> None:
        """A package of many reads, above and below the size from which they are gathered in one buffer."""
        for size in (200_000, LARGE - 4, LARGE, 3 * LARGE):
            body = Random(size).randbytes(size)
            pair = self.open({"message": echo}, codec=LengthCodec(views=VIEWS), maxMsgLen=1 << 24)
            pair.peer.write(frame(body) + frame(b"next"))
            pair.flush()
            first, last = self.heard.packages
            self.assertEqual((bytes(first), last), (body, b"next"))
            self.assertIs(type(first.obj), bytes)
            self.assertEqual(bytes(pair.peer.data), frame(body) + frame(b"next"))

    def test_gatheredOnce(self) -> None:
        """No second copy of a large package exists at any moment."""
        size = 32 * LARGE
        pair = self.open(codec=LengthCodec(views=VIEWS), maxMsgLen=1 << 30)
        inbound = pair.server.inbound
        piece = bytes(64 * 1024)
        inbound.receive(size.to_bytes(4, "big"))
        tracemalloc.start()
        try:
            for _ in range(size // len(piece)):
                inbound.receive(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual([len(pkg) for pkg in self.heard.packages], [size])
        self.assertLess(peak, 1.3 * size)

    def test_queued(self) -> None:
        """While the peer takes nothing, the view itself waits, not a copy; releasing the listener's changes nothing."""

        def release(session: Any, pkg: Any) -> None:
            read.append(pkg.obj)
            session.writePkg(pkg)
            session.writeBytes(pkg)
            pkg.release()

        read: list[bytes] = []
        for way in (DirectTransport, MemoryTransport):
            pair = self.open(
                {"message": release}, codec=LengthCodec(views=VIEWS), network={"capacity": 10}, transport=way
            )
            body = Random(1).randbytes(100_000)
            pair.peer.transport.pauseProducing()
            pair.peer.write(frame(body))
            pair.flush()
            queue = pair.server.outbound.queue
            waiting = [each for each in queue or () if type(each) is memoryview]
            self.assertEqual(len(waiting), 2)
            self.assertTrue(all(each.obj is read[-1] for each in waiting))
            pair.peer.transport.resumeProducing()
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), frame(body) + body)

    def test_compressed(self) -> None:
        """Compressed streams read and write views, too."""
        body = Random(1).randbytes(50_000)
        for on in ({"message": echo}, {}):
            pair = self.open(on, codec=LengthCodec(views=VIEWS), compression="deflate")
            compressor = zlib.compressobj(wbits=-15)
            pair.peer.write(compressor.compress(frame(body)) + compressor.flush(zlib.Z_SYNC_FLUSH))
            pair.flush()
            [pkg] = self.heard.packages
            self.assertEqual((type(pkg), bytes(pkg)), (memoryview, body))
            if not on:
                pair.server.writePkg(pkg)
                pair.flush()
            self.assertEqual(zlib.decompressobj(wbits=-15).decompress(bytes(pair.peer.data)), frame(body))


class WorkerTests(SteppedCase):
    """In other threads."""

    def test_workers(self) -> None:
        """Handlers in threads have the views that were read, however much comes meanwhile, and may write them."""
        self.join(WorkerPool.keyed(2), {"message": echo}, codec=LengthCodec(views=VIEWS))
        sent = [Random(size).randbytes(size) for size in (10, VIEWS, 70_000, 5, 40_000)]
        self.send(*sent[:3])
        self.send(*sent[3:])
        self.finish()
        self.assertEqual([type(pkg) for pkg in self.heard.packages], [bytes, memoryview, memoryview, bytes, memoryview])
        self.assertEqual(list(map(bytes, self.heard.packages)), sent)
        self.assertEqual(self.answers(), b"".join(map(frame, sent)))


class MessageTests(websocket.WebSocketCase):
    """WebSocket messages."""

    def test_messages(self) -> None:
        """A server's and a client's, masked."""
        body = Random(1).randbytes(40_000)
        for isClient in (False, True):
            pair = self.open({"message": echo}, codec=LengthCodec(views=VIEWS), isClient=isClient)
            self.say(websocket.frame(2, frame(body), masked=not isClient))
            [pkg] = self.heard.packages
            self.assertEqual((type(pkg), bytes(pkg)), (memoryview, body))
            self.assertEqual([payload for _, payload in self.said()], [frame(body)])
            (pair.client if isClient else pair.server).writeBytes(pkg)
            pair.flush()
            self.assertEqual([payload for _, payload in self.said()], [body])


class DatagramTests(DatagramCase):
    """Datagrams."""

    def test_datagrams(self) -> None:
        """The package of a datagram, and its answer."""
        body = Random(1).randbytes(VIEWS)
        for kind in (LengthCodec, VarintCodec):
            session = self.open({"message": echo}, codec=kind(views=VIEWS))
            data = session.codec.write(None, body)
            self.receive(data)
            [context] = self.heard.packages
            self.assertEqual((type(context.pkg), bytes(context.pkg)), (memoryview, body))
            self.assertEqual([datagram for datagram, _ in self.sent], [data])
            self.finish()
