"""The numbers of streams that a peer has begun and ended."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.two.errors import ConnectionFault, ErrorCode
from getty_tx.http.two.numbers import KEPT, Numbers


class NumbersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.numbers = Numbers(True)

    def fault(self, stream: int) -> ErrorCode | None:
        """Why there can be no HEADERS frame of the stream; None: there can."""
        try:
            self.numbers.headers(stream, True)
        except ConnectionFault as fault:
            return ErrorCode(fault.code)
        return None

    def test_trailers(self) -> None:
        """A stream has HEADERS twice, however many others were opened meanwhile, as long as it is not ended."""
        self.numbers.headers(1, False)
        for stream in range(3, 3 + 4 * KEPT, 2):
            self.numbers.headers(stream, True)
        self.numbers.data(1, False)
        self.assertIsNone(self.fault(1))

    def test_lately(self) -> None:
        """Of the last ones it is known that they were ended, or passed over; of those long before it is not."""
        last = 1 + 8 * KEPT
        for stream in range(1, last + 1, 4):
            self.numbers.headers(stream, True)
        for stream, code in ((last, ErrorCode.STREAM_CLOSED), (last - 2, ErrorCode.PROTOCOL_ERROR)):
            self.assertEqual(self.fault(stream), code)
        self.assertEqual(self.fault(last - 4 * (KEPT - 1)), ErrorCode.STREAM_CLOSED)
        self.assertEqual([self.fault(1), self.fault(3)], [None, None])

    def test_bounded(self) -> None:
        """What is known does not grow."""
        for stream in range(1, 100 * KEPT, 2):
            self.numbers.headers(stream, False)
            self.numbers.reset(stream)
        self.assertLessEqual(len(self.numbers._recent) + len(self.numbers._older), 2 * KEPT)


class ServerTests(SynchronousTestCase):
    """Those of a server, which answers in any order."""

    def setUp(self) -> None:
        self.numbers = Numbers(False)

    def isClosed(self, stream: int) -> bool:
        """Whether a frame on the stream is one behind its end."""
        try:
            self.numbers.headers(stream, False)
            self.numbers.data(stream, False)
        except ConnectionFault as fault:
            self.assertEqual(fault.code, ErrorCode.STREAM_CLOSED)
            return True
        return False

    def test_order(self) -> None:
        """Answers, interim ones too, come in any order; there is nothing behind their end, nor behind a reset."""
        for stream in (5, 1, 3, 5, 1):
            self.assertFalse(self.isClosed(stream))
        self.numbers.data(3, True)
        self.numbers.headers(5, True)
        self.numbers.reset(1)
        self.numbers.reset(7)
        self.assertEqual([self.isClosed(stream) for stream in (1, 3, 5, 7, 9)], [True] * 4 + [False])

    def test_bounded(self) -> None:
        """What is known does not grow."""
        for stream in range(1, 100 * KEPT, 2):
            self.numbers.reset(stream)
        self.assertLessEqual(len(self.numbers._recent) + len(self.numbers._older), 2 * KEPT)
