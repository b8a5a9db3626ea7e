"""The engine of Redis without Redis: publications of a turn that share a command."""

from __future__ import annotations

from typing import Any

from getty_tx.groups import EngineDownError, EngineTimeoutError, GroupError, Publication, Retention
from getty_tx.groups.redis import connection as connections
from getty_tx.groups.redis import envelope
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.publishing import MOST, Publishing
from getty_tx.groups.redis.scripts import PUBLISH
from tests.groups.test_redis_sansio import OrderCase

KEPT = Retention(1, 1.0)


class TogetherTests(OrderCase):
    def say(self, pkg: Any, name: str = "a", retention: Retention = KEPT, id: str | None = None) -> Any:
        """Publish, and note the number, or the name of the error."""
        publishing = Publishing(self.subscriptions.sentFor(name))
        rest = envelope.restOf(Publication(pkg), b"me", name)
        self.commands.numbered(publishing, name, retention, id, rest)
        publishing.deferred.addCallbacks(
            lambda position: self.answers.append(position.offset),
            lambda failure: self.answers.append(failure.type),
        )

    def commandsOfTurn(self) -> int:
        return self.turn().count(b"EVALSHA")

    def test_oneCommand(self) -> None:
        """They are in it in their order, and the answer has the number of the first."""
        self.turn()
        for pkg in ("one", "two", "three"):
            self.say(pkg)
        sent = self.turn()
        self.assertTrue(sent.startswith(b"*14\r\n"), sent)
        self.assertEqual(sent.count(b"EVALSHA"), 1)
        self.assertTrue(sent.endswith(b"sone\r\n$14\r\nme|0|0||4|stwo\r\n$16\r\nme|0|0||6|sthree\r\n"), sent)
        for number, pkg in enumerate(("one", "two", "three"), 5):
            self.push(number, pkg)
        self.reply([b"e", 5, 1])
        self.assertEqual(self.answers, [5, 6, 7])
        self.assertEqual(self.user.told, ["one", "two", "three"])

    def test_answerFirst(self) -> None:
        """Each waits until it is back."""
        self.say("one")
        self.say("two")
        self.reply([b"e", 5, 1])
        self.assertEqual(self.answers, [])
        self.push(5, "one")
        self.assertEqual(self.answers, [5])
        self.push(6, "two")
        self.assertEqual(self.answers, [5, 6])

    def test_groups(self) -> None:
        """Each group has its own command, whoever is in turn."""
        for _ in range(3):
            self.say("x")
            self.say("x", "other")
        self.assertEqual(self.commandsOfTurn(), 2)
        self.reply([b"e", 1, 1], [b"e", 8, 1])
        self.assertEqual(self.answers, [8, 9, 10])
        for number in (1, 2, 3):
            self.push(number, "x")
        self.assertEqual(self.answers, [8, 9, 10, 1, 2, 3])

    def test_order(self) -> None:
        """What is sent between them stays there: they do not grow then."""
        between = (
            lambda: self.say("x", id="1"),
            lambda: self.say("x", retention=Retention(2, 1.0)),
            lambda: self.connection.send(self.answers.append, b"PING"),
            self.turn,
        )
        for each in between:
            self.say("one")
            sent = each() or b""
            self.say("two")
            sent += self.turn()
            self.assertIn(b"sone\r\n", sent)
            self.assertNotIn(b"sone\r\n$14\r\n", sent)

    def test_retentions(self) -> None:
        """One group with several settings: all come back in the order in which they were published."""
        for number in range(4):
            self.say(str(number), retention=Retention(1 + number % 2, 1.0))
        self.assertEqual(self.commandsOfTurn(), 4)

    def test_limit(self) -> None:
        """Redis does nothing else while it runs one; and waiting publications count, not commands."""
        for _ in range(MOST + 1):
            self.say("x")
        self.assertEqual(self.commandsOfTurn(), 2)
        self.patch(connections, "MAX_COMMANDS", MOST + 1)
        self.assertTrue(self.connection.isFull)
        self.reply([b"e", 1, 1])
        self.assertFalse(self.connection.isFull)
        self.connection.fail(EngineDownError("x"))
        self.open()
        self.patch(connections, "MAX_COMMANDS", 1)
        self.assertFalse(self.connection.isFull)

    def test_early(self) -> None:
        """Much leaves before the turn ends."""
        self.say("x" * 40_000)
        self.assertEqual(self.session.take(), b"")
        self.say("x" * 40_000)
        self.assertEqual(self.session.take().count(b"EVALSHA"), 1)

    def test_scriptUnknown(self) -> None:
        """The text is sent for all of them, and their order stays."""
        self.say("one")
        self.say("two")
        self.turn()
        self.reply(ReplyError("NOSCRIPT No matching script"))
        sent = self.turn()
        self.assertIn(PUBLISH.text.encode(), sent)
        self.assertLess(sent.index(b"sone"), sent.index(b"stwo"))
        self.push(5, "one")
        self.push(6, "two")
        self.reply([b"e", 5, 1])
        self.assertEqual(self.answers, [5, 6])

    def test_fails(self) -> None:
        """All of them, with what is known of them: refused, not sent, or unknown."""
        self.say("one")
        self.say("two")
        self.turn()
        self.reply(ReplyError("ERR no"))
        self.assertEqual(self.answers, [GroupError] * 2)
        self.say("three")
        self.turn()
        self.say("four")
        self.say("five")
        self.connection.fail(EngineDownError("x"))
        self.assertEqual(self.answers[2:], [EngineTimeoutError, EngineDownError, EngineDownError])
        self.say("six")
        self.assertEqual(self.answers[5:], [EngineDownError])
        self.assertEqual(list(self.subscriptions.byName["a"].own), [])

    def test_garbage(self) -> None:
        """An answer that makes no sense fails all, and ends there."""
        self.say("one")
        self.say("two")
        self.reply([b"no epoch", 5, 1])
        self.assertEqual(len(self.answers), 2)
        self.assertTrue(self.connection.isOpen)
