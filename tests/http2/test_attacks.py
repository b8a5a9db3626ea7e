"""Attacks that are known by a name, and users who do much of the same and are not taken for them."""

from __future__ import annotations

from getty_tx.http.two.errors import ErrorCode
from getty_tx.http.two.guard import EMPTY, RESETS, UPDATES, USELESS
from getty_tx.http.two.limits import Limits, Times
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PRIORITY,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Case,
    Talk,
    frame,
    settings,
)

CALM = ErrorCode.ENHANCE_YOUR_CALM
CANCEL = (8).to_bytes(4, "big")


class NgAttacks(Case):
    """On ngh2."""

    def calmed(self, talk: Talk, *parts: bytes) -> None:
        """The attack ends the connection, with the code for that."""
        self.assertFalse(talk.isClosed)
        talk.send(*parts)
        self.assertEqual(talk.gone(), CALM)
        self.assertTrue(talk.isClosed)

    def test_rapidReset(self) -> None:
        """CVE-2023-44487: streams that are opened and reset. Handlers of the first ones still run."""
        talk = self.talk()
        talk.answer = lambda stream: None
        parts = [talk.request(1 + 2 * i) + frame(RST_STREAM, 0, 1 + 2 * i, CANCEL) for i in range(RESETS + 1)]
        talk.send(*parts[:RESETS])
        self.calmed(talk, parts[RESETS])

    def test_cancelsAtAFairRate(self) -> None:
        """Ten a second, for half a minute, are some client's habit."""
        talk = self.talk()
        talk.answer = lambda stream: None
        for i in range(300):
            talk.send(talk.request(1 + 2 * i), frame(RST_STREAM, 0, 1 + 2 * i, CANCEL))
            talk.pair.advance(0.1)
        self.assertFalse(talk.isClosed)
        self.assertEqual(len(talk.made), 300)
        self.assertEqual(talk.connection.running, 0)

    def test_resetsBehindTheEnd(self) -> None:
        """A client may reset each stream once more when it has its answer: calls at 250 a second are no attack."""
        talk = self.talk()
        for i in range(750):
            talk.send(talk.request(1 + 2 * i))
            talk.send(frame(RST_STREAM, 0, 1 + 2 * i, bytes(4)))
            talk.pair.advance(0.004)
        self.assertFalse(talk.isClosed)

    def test_rapidResetWhileTheyRun(self) -> None:
        """The same with handlers that go on, so that streams are refused."""
        talk = self.talk(Limits(maxStreams=10))
        talk.answer = lambda stream: None
        talk.runsOn = True
        parts = [talk.request(1 + 2 * i) + frame(RST_STREAM, 0, 1 + 2 * i, CANCEL) for i in range(RESETS + 2)]
        self.calmed(talk, *parts)
        self.assertEqual(len(talk.made), 10)

    def test_refusedWhileTheyRun(self) -> None:
        """Streams that were reset count until their handlers have ended: others are refused."""
        talk = self.talk(Limits(maxStreams=3))
        talk.answer = lambda stream: None
        talk.runsOn = True
        for i in range(5):
            talk.send(talk.request(1 + 2 * i), frame(RST_STREAM, 0, 1 + 2 * i, CANCEL))
        self.assertEqual(len(talk.made), 3)
        talk.connection.served()
        talk.send(talk.request(11))
        self.assertEqual(len(talk.made), 4)

    def test_madeYouReset(self) -> None:
        """CVE-2025-8671: streams that the client has the server reset, by more credit than there can be."""
        talk = self.talk()
        talk.answer = lambda stream: None
        most = (2**31 - 1).to_bytes(4, "big")
        talk.send(*(talk.request(1 + 2 * i) + frame(WINDOW_UPDATE, 0, 1 + 2 * i, most) for i in range(RESETS + 1)))
        # nghttp2 ends the connection at the first one.
        self.assertIn(talk.gone(), (CALM, ErrorCode.FLOW_CONTROL_ERROR))
        self.assertTrue(talk.isClosed)

    def test_madeYouResetByRequests(self) -> None:
        """The same by requests that are wrong, each of which the engine resets."""
        talk = self.talk()
        talk.send(*(talk.request(1 + 2 * i, [*REQUEST, (b"te", b"gzip")]) for i in range(RESETS + 1)))
        self.assertEqual(talk.gone(), CALM)
        self.assertTrue(talk.isClosed)

    def test_continuationFlood(self) -> None:
        """VU#421644: a header block that does not end."""
        talk = self.talk()
        self.calmed(talk, frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, 0, 1) * 9)

    def test_largeBlock(self) -> None:
        """The same in few frames."""
        talk = self.talk()
        self.calmed(talk, frame(HEADERS, 0, 1, b"\x82" * 16384), frame(CONTINUATION, 0, 1, b"\x82" * 16384) * 4)

    def test_hpackBomb(self) -> None:
        """CVE-2016-6581: one large entry of the table, and thousands of references to it."""
        talk = self.talk()
        block = talk.encoder.encode([*REQUEST, (b"x", b"a" * 3300)], huffman=False)
        self.calmed(talk, frame(HEADERS, 5, 1, block + b"\xbe" * 5000))

    def test_fieldCount(self) -> None:
        """CVE-2026-49975, CVE-2026-47774: a byte repeats a small field, which is below the limit in bytes."""
        talk = self.talk()
        block = talk.encoder.encode([*REQUEST, (b"c", b"")], huffman=False)
        self.calmed(talk, frame(HEADERS, 5, 1, block + b"\xbe" * 200))

    def test_pingFlood(self) -> None:
        """CVE-2019-9512."""
        self.calmed(self.talk(), frame(PING, 0, 0, b"12345678") * (USELESS + 1))

    def test_settingsFlood(self) -> None:
        """CVE-2019-9515."""
        self.calmed(self.talk(), settings({4: 1000}) * (USELESS + 1))

    def test_settingsSize(self) -> None:
        """Thousands of entries in one frame."""
        self.calmed(self.talk(), frame(SETTINGS, 0, 0, b"\0\x04\0\0\1\0" * 33))

    def test_emptyData(self) -> None:
        """CVE-2019-9518."""
        talk = self.talk()
        self.calmed(talk, talk.request(1, isLast=False), frame(DATA, 0, 1) * (EMPTY + 1))

    def test_tinyData(self) -> None:
        """CVE-2019-9511, the sending side: a byte a frame."""
        talk = self.talk()
        self.calmed(talk, talk.request(1, isLast=False), frame(DATA, 0, 1, b"x") * (USELESS + 1))

    def test_priorityFlood(self) -> None:
        """CVE-2019-9513."""
        self.calmed(self.talk(), frame(PRIORITY, 0, 3, b"\0\0\0\0\x10") * (USELESS + 1))

    def test_windowUpdateFlood(self) -> None:
        """Credit in small change."""
        self.calmed(self.talk(), frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * (UPDATES + 100))

    def test_uselessBytes(self) -> None:
        """Frames of an unknown type, large and not many: bytes that carry nothing."""
        self.calmed(self.talk(), frame(0xEE, 0, 0, b"x" * 16384) * 600)

    def test_zeroWindow(self) -> None:
        """An answer that the client gives no credit for holds its stream for a time."""
        talk = Talk(times=Times(stallTimeout=30))
        talk.greet({4: 0})
        talk.send(talk.request(1))
        talk.frames()
        for _ in range(7):
            talk.pair.advance(10)
        self.assertIn((RST_STREAM, 0, 1, CANCEL), talk.frames())
        self.assertEqual(len(talk.made[0].error), 1)
        self.assertFalse(talk.isClosed)

    def test_slowCreditIsCredit(self) -> None:
        """A client that takes a byte now and then is slow, and no more."""
        talk = Talk(times=Times(stallTimeout=30))
        talk.greet({4: 0})
        talk.send(talk.request(1))
        for _ in range(5):
            talk.pair.advance(20)
            talk.send(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"))
        self.assertEqual([each[3] for each in talk.frames() if each[0] == DATA], [b"h", b"e", b"l", b"l", b"o"])
        self.assertEqual(talk.made[0].error, [None])

    def test_manySmallMessages(self) -> None:
        """10,000 messages of gRPC's least size, and as many of two bytes more, on one stream."""
        talk = self.talk()
        talk.send(talk.request(1, isLast=False))
        for _ in range(10):
            talk.send(frame(DATA, 0, 1, b"\0\0\0\0\0") * 1000, frame(DATA, 0, 1, b"\0\0\0\0\x02ab") * 1000)
        self.assertFalse(talk.isClosed)
        self.assertEqual(len(talk.made[0].body), 10_000 * 12)

    def test_updatesOfALargeDownload(self) -> None:
        """A client that credits each frame of 2 MB, for the stream and the connection."""
        talk = self.talk()
        talk.answer = lambda stream: stream.send(b"x" * 2_000_000)
        talk.send(talk.request(1))
        got = sent = 0
        while got < 2_000_000:
            came = [each[3] for each in talk.frames() if each[0] == DATA]
            self.assertTrue(came)
            got += sum(map(len, came))
            updates = []
            for part in came:
                for at in range(0, len(part), 2048):
                    size = len(part[at : at + 2048]).to_bytes(4, "big")
                    updates += [frame(WINDOW_UPDATE, 0, 0, size), frame(WINDOW_UPDATE, 0, 1, size)]
            sent += len(updates)
            talk.send(*updates)
        self.assertGreater(sent, 1900)
        self.assertFalse(talk.isClosed)


class H2Attacks(NgAttacks):
    """On h2."""

    engine = "h2"
