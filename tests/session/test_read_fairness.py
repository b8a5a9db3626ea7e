"""How much a full pipe reads at a time, beside sessions that have little to read."""

from __future__ import annotations

from getty_tx.session.inbound import SHARED_READ, WHOLE_READ
from getty_tx.testing import MemoryTransport
from tests.support.memory import SessionCase, frame


class SharingTests(SessionCase):
    """Inbound's read sizes."""

    def full(self, size: int) -> None:
        """A read that fills its buffer of ``size`` bytes."""
        self.pair.server.inbound.receive(frame(bytes(size - 4)))

    def readSize(self) -> int:
        size: int = self.pair.server.outbound.transport.bufferSize
        return size

    def setUp(self) -> None:
        super().setUp()
        self.pair = self.open()
        self.context = self.pair.server.context

    def test_alone(self) -> None:
        """With nobody else about, reads are whole."""
        for _ in range(3):
            self.full(WHOLE_READ)
            self.assertEqual(self.readSize(), WHOLE_READ)

    def test_besideOne(self) -> None:
        """One other session that reads little makes them small, and they grow again step by step when it is silent."""
        self.context.briefReads = 1
        self.full(WHOLE_READ)
        self.assertEqual(self.readSize(), SHARED_READ)
        self.context.briefReads = 1
        self.full(SHARED_READ)
        self.assertEqual(self.readSize(), SHARED_READ)
        size = SHARED_READ
        while size < WHOLE_READ:
            self.full(size)
            size = min(size * 2, WHOLE_READ)
            self.assertEqual(self.readSize(), size)
        self.full(WHOLE_READ)
        self.assertEqual(self.readSize(), WHOLE_READ)

    def test_besideMany(self) -> None:
        """With many others a full read is a small part of the turn anyway."""
        self.context.briefReads = 3
        self.full(WHOLE_READ)
        self.assertEqual(self.readSize(), 3 * SHARED_READ)
        self.context.briefReads = 1000
        self.full(3 * SHARED_READ)
        self.assertEqual(self.readSize(), WHOLE_READ)

    def test_counts(self) -> None:
        """Reads that do not fill their buffer are counted until one does."""
        self.pair.server.inbound.receive(frame(b"1"))
        self.pair.server.inbound.receive(frame(b"2"))
        self.assertEqual(self.context.briefReads, 2)
        self.full(WHOLE_READ)
        self.assertEqual(self.context.briefReads, 0)

    def test_notDirect(self) -> None:
        """A transport that is not a plain socket reads as it likes."""
        self.pair = self.open(transport=MemoryTransport)
        self.pair.server.context.briefReads = 1
        before = self.readSize()
        self.full(WHOLE_READ)
        self.assertEqual(self.readSize(), before)
