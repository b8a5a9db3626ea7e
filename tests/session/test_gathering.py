"""``(None, Until(mark))``: what comes in small pieces is searched once, and joined once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import Until
from getty_tx.codecs import JsonLinesCodec, LengthCodec, LineCodec
from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.session import inbound as inbounds
from getty_tx.session.gathering import Searched
from getty_tx.testing import feedSplit, readAll
from tests.support.long import examples
from tests.support.memory import SessionCase
from tests.support.websocket import WebSocketCase, frame

MEGABYTE = 1 << 20


class Counting:
    """
    Reads with another codec.

    :ivar given: the bytes of each view that ``read`` was given.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.given: list[int] = []

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        self.given.append(len(data))
        answer: tuple[Any, int] = self.inner.read(session, data)
        return answer

    def write(self, session: Any, pkg: Any) -> Any:
        return self.inner.write(session, pkg)


class UntilTests(SynchronousTestCase):
    """The answer itself."""

    def test_number(self) -> None:
        """It is 0 for whoever takes it as a number."""
        until = Until(b"\r\n")
        self.assertEqual(((None, until), until + 4, bool(until)), ((None, 0), 4, False))
        self.assertEqual((until.mark, repr(until)), (b"\r\n", r"Until(b'\r\n')"))

    def test_invalid(self) -> None:
        for mark in (b"", "x", bytearray(b"x"), None, 1):
            self.assertRaises(ValueError, Until, mark)

    def test_codecs(self) -> None:
        """Lines and documents wait for their ends."""
        for codec, data, mark in (
            (LineCodec(), b"abc", b"\n"),
            (LineCodec(b"\r\n"), b"abc\r", b"\r\n"),
            (JsonLinesCodec(), b'{"a"', b"\n"),
            (JsonLinesCodec(), b" \n \n", b"\n"),
        ):
            pkg, until = codec.read(None, memoryview(data))
            self.assertEqual((pkg, type(until), getattr(until, "mark", None)), (None, Until, mark))

    def test_feedSplit(self) -> None:
        """The helper for tests waits as a session does, so it finds a codec that waits for the wrong mark."""

        class Wrong(LineCodec):
            def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
                pkg, length = super().read(session, data)
                return (None, Until(b"\r\n")) if pkg is None else (pkg, length)

        data = b"one\ntwo\n"
        self.assertEqual(readAll(Wrong(), data), ([b"one", b"two"], b""))
        self.assertEqual(feedSplit(LineCodec(), data, [1] * 8), ([b"one", b"two"], b""))
        self.assertEqual(feedSplit(LineCodec(b"e\nt"), data, [1] * 8), ([b"on"], b"wo\n"))
        self.assertEqual(feedSplit(Wrong(), data, [1]), ([], data))


class LinearTests(SessionCase):
    """Work is counted, in bytes."""

    def count(self, codec: Any, line: bytes, size: int) -> tuple[int, int, list[int]]:
        """
        Give the session a line in pieces.

        :return: the bytes that the session has searched, those that it has joined, and those that ``read`` was given.
        """
        searched: list[int] = []
        joined: list[int] = []

        class Search(Searched):
            __slots__ = ()

            def completedBy(self, piece: bytes) -> bool:
                searched.append(len(piece) + 2 * self._keep)
                return super().completedBy(piece)

        def join(chunks: Any, offset: int) -> tuple[bytes, int]:
            data, at = real(chunks, offset)
            joined.append(len(data))
            return data, at

        real = inbounds.joined
        # The session knows its own by their type.
        self.patch(inbounds, "Searched", Search)
        self.patch(inbounds, "joined", join)
        counting = Counting(codec)
        pair = self.open(codec=counting, maxMsgLen=2 * MEGABYTE)
        for at in range(0, len(line), size):
            pair.server.inbound.receive(line[at : at + size])
        self.assertEqual(len(self.heard.packages), 1)
        return sum(searched), sum(joined), counting.given

    def test_line(self) -> None:
        """A line of a megabyte in pieces of 100 bytes: two calls of read, and each byte searched and joined once."""
        for codec in (LineCodec(), LineCodec(b"\r\n"), JsonLinesCodec()):
            mark = b"\r\n" if codec.read(None, memoryview(b" "))[1].mark == b"\r\n" else b"\n"
            line = b'"' + b"x" * MEGABYTE + b'"' + mark
            searched, joined, given = self.count(codec, line, 100)
            self.assertEqual(given, [100, len(line)])
            self.assertEqual(joined, len(line))
            pieces = len(line) // 100
            self.assertEqual(searched, len(line) - 100 + pieces * 2 * (len(mark) - 1))

    def test_withoutMark(self) -> None:
        """A codec that answers 0 is asked at each arrival, with all of it: what is spared."""

        class Plain(LineCodec):
            def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
                pkg, length = super().read(session, data)
                return pkg, int(length)

        _, joined, given = self.count(Plain(), b"x" * 9_999 + b"\n", 100)
        self.assertEqual(given, list(range(100, 10_001, 100)))
        self.assertEqual(joined, sum(given) - 100)

    def test_builtOnAnother(self) -> None:
        """A codec that passes another's answer on has it for nothing."""

        class Upper:
            lines = LineCodec()

            def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
                line, length = self.lines.read(session, data)
                return (None if line is None else line.upper()), length

            write = lines.write

        _, _, given = self.count(Upper(), b"x" * 10_000 + b"\n", 100)
        self.assertEqual(given, [100, 10_001])

    def test_batches(self) -> None:
        """The same for readMany, which is asked before read."""
        asked: list[int] = []

        class Lines(LineCodec):
            def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
                return super().read(session, data)

            def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
                asked.append(len(data) - at)
                return super().readMany(session, data, at, limit)

        pair = self.open(codec=Lines())
        for _ in range(100):
            pair.server.inbound.receive(b"x" * 100)
        pair.server.inbound.receive(b"\nnext\n")
        self.assertEqual(asked, [100, 10_006])
        self.assertEqual(self.heard.packages, [b"x" * 10_000, b"next"])


class SearchTests(SessionCase):
    """What is found, and when."""

    @settings(max_examples=examples(150), deadline=None)
    @given(
        st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"]),
        st.text("ab\r\nx", max_size=60),
        st.lists(st.integers(1, 7), min_size=1, max_size=10),
    )
    def test_anySplit(self, mark: bytes, text: str, split: list[int]) -> None:
        """However the stream is cut, the same lines are there as soon as their marks are."""
        SessionCase.setUp(self)
        data = text.encode()
        codec = LineCodec(mark)
        pair = self.open(codec=codec)
        fed = b""
        sizes = iter(split * len(data))
        while len(fed) < len(data):
            piece = data[len(fed) : len(fed) + next(sizes)]
            fed += piece
            pair.server.inbound.receive(piece)
            self.assertEqual(self.heard.packages, readAll(codec, fed)[0])
        self.assertEqual(feedSplit(codec, data, split * len(data)), readAll(codec, data))

    def test_seams(self) -> None:
        """A mark that comes byte by byte, after a beginning that is none."""
        for mark in (b"\r\n", b"aab", b"abab", b"0123456789"):
            pair = self.open(codec=LineCodec(mark))
            for byte in b"x" + mark[:-1] + mark:
                pair.server.inbound.receive(bytes([byte]))
            line = b"x" + mark[:-1]
            self.assertEqual(self.heard.packages, readAll(LineCodec(mark), line + mark)[0])
            self.assertEqual(len(self.heard.packages), 1)

    def test_large(self) -> None:
        """Beyond a megabyte as well, behind packages of the same read."""
        pair = self.open(codec=LineCodec(b"\r\n"), maxMsgLen=4 * MEGABYTE)
        line = b"y" * (2 * MEGABYTE)
        stream = b"first\r\n" + line + b"\r\nlast\r\n"
        for at in range(0, len(stream), 50_000):
            pair.server.inbound.receive(stream[at : at + 50_000])
        self.assertEqual(self.heard.packages, [b"first", line, b"last"])

    def test_maxMsgLen(self) -> None:
        """A line that grows too long fails the session no later than before: with the first byte too many."""
        for size in (1, 7, 50):
            pair = self.open(codec=LineCodec(), maxMsgLen=100)
            came = 0
            while not self.heard.errors and came < 1000:
                pair.server.inbound.receive(b"x" * size)
                came += size
            self.assertIsInstance(self.heard.errors[0], MessageTooLongError)
            self.assertEqual(came, 101 if size == 1 else 105 if size == 7 else 150)

    def test_paused(self) -> None:
        """What comes while the session is paused is searched, too."""
        pair = self.open(codec=LineCodec(b"\r\n"))
        receive = pair.server.inbound.receive
        receive(b"ab")
        pair.server.pauseReading()
        receive(b"c\r")
        receive(b"\nd")
        self.assertEqual(self.heard.packages, [])
        pair.server.resumeReading()
        self.assertEqual(self.heard.packages, [b"abc"])
        receive(b"e\r\n")
        self.assertEqual(self.heard.packages, [b"abc", b"de"])

    def test_reentered(self) -> None:
        """So is what comes during a callback, behind a line that is not complete."""

        def more(session: Any, pkg: bytes) -> None:
            if pkg == b"1":
                session.inbound.receive(b"3\n")

        pair = self.open({"message": more}, codec=LineCodec())
        pair.server.inbound.receive(b"1\n2")
        self.assertEqual(self.heard.packages, [b"1", b"23"])

    def test_otherCodec(self) -> None:
        """A codec that is set meanwhile does not wait for the mark of the one before."""
        pair = self.open(codec=LineCodec())
        pair.server.inbound.receive(b"\0\0")
        pair.server.codec = LengthCodec()
        pair.server.inbound.receive(b"\0\1x")
        self.assertEqual(self.heard.packages, [b"x"])

    def test_refused(self) -> None:
        """With a package it is no answer, and neither is another kind of number."""

        class Script:
            def __init__(self, answer: Any) -> None:
                self.answer = answer

            def read(self, session: Any, data: memoryview) -> Any:
                return self.answer

            write = LineCodec().write

        for answer in ((b"p", Until(b"x")), (None, True), (None, Until(b"x"), 1)):
            pair = self.open(codec=Script(answer))
            pair.server.inbound.receive(b"abc")
            self.assertEqual([type(error) for error in self.heard.errors], [CodecError])


class MessageTests(WebSocketCase):
    """WebSocket messages."""

    def test_incomplete(self) -> None:
        """A message that is no whole line is refused, whatever the codec waits for."""
        self.open(codec=LineCodec())
        self.say(frame(2, b"abc"))
        self.assertIn("no package for a message of 3 bytes", str(self.heard.errors[0]))
