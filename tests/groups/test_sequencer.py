"""Numbers and epochs, and what is kept of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.groups import History, Position, Publication, Retention
from getty_tx.groups.sequencer import KEPT_SECONDS, Sequencer

KEPT = Retention(10, 60)


class SequencerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.sequencer = Sequencer(lambda: self.now)

    def publish(self, name: str) -> Position:
        """Publish something; its position."""
        position, _ = self.sequencer.publish(name, Publication(b"x"), KEPT)
        assert position is not None
        return position

    def test_asked(self) -> None:
        """Nothing is kept of a group that was only asked for, and the numbering begins where the answer said."""
        before = [self.sequencer.history(f"a:{number}", None, 0).position for number in range(100)]
        self.assertEqual(len(self.sequencer._streams), 0)
        first = self.publish("a:1")
        self.assertEqual((first.epoch, first.offset), (before[1].epoch, 1))
        found = self.sequencer.history("a:1", before[1], 10)
        self.assertEqual((found.isWhole, [each.position for each in found.publications]), (True, [first]))
        self.assertEqual(self.sequencer.history("a:2", before[2], 10), History(before[2], ()))
        for since in (Position("x", 0), Position(before[2].epoch, 1)):
            self.assertEqual(self.sequencer.history("a:2", since, 10), History(before[2], (), False))

    def test_forgotten(self) -> None:
        """A numbering that begins anew has another epoch: positions of the old one mean nothing in it."""
        old = self.publish("a:1")
        self.now += KEPT_SECONDS
        self.publish("a:2")
        new = self.publish("a:1")
        self.assertEqual((old.offset, new.offset), (1, 1))
        self.assertNotEqual(old.epoch, new.epoch)
        self.assertFalse(self.sequencer.history("a:1", old, 10).isWhole)
