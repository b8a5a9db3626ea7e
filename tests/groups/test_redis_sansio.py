"""The engine of Redis without Redis: replies, messages, time-outs, and the order that newer servers have."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import CodecError, SessionClosedError
from getty_tx.groups import EngineDownError, EngineTimeoutError, Member, Position, Publication, Retention
from getty_tx.groups.publication import CLOSE, EXCLUSIVE
from getty_tx.groups.redis import codec as codecs
from getty_tx.groups.redis import connection as connections
from getty_tx.groups.redis import envelope
from getty_tx.groups.redis.codec import PushNotification, ReplyError, RespCodec, packedCommand
from getty_tx.groups.redis.connection import Connection
from getty_tx.groups.redis.layout import Layout, newEpoch, partitionOf
from getty_tx.groups.redis.publishing import PublishCommands, Publishing
from getty_tx.groups.redis.scripts import PUBLISH
from getty_tx.groups.redis.subscribing import Subscriptions

STREAM = (
    b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$3\r\nx\r\n\r\n"
    b":1\r\n-ERR no\r\n_\r\n*2\r\n$1\r\n1\r\n:2\r\n%1\r\n$1\r\na\r\n:2\r\n"
)


class CodecTests(SynchronousTestCase):
    def test_split(self) -> None:
        """However the bytes come, the replies are the same."""
        for size in range(1, len(STREAM) + 1):
            codec = RespCodec()
            replies = []
            for at in range(0, len(STREAM), size):
                found, length = codec.read(None, memoryview(STREAM[at : at + size]))
                self.assertEqual(length, len(STREAM[at : at + size]))
                replies += found
            self.assertEqual(replies[0], [b"message", b"a", b"x\r\n"])
            self.assertIsInstance(replies[0], PushNotification)
            self.assertIsInstance(replies[2], ReplyError)
            self.assertEqual([replies[1], *replies[3:]], [1, None, [b"1", 2], {b"a": 2}])

    def test_garbage(self) -> None:
        """What is no reply refuses the stream."""
        self.assertRaises(CodecError, RespCodec().read, None, memoryview(b"HTTP/1.1 400\r\n"))

    def test_tooLong(self) -> None:
        """A reply has a limit."""
        self.patch(codecs, "MAX_REPLY", 1000)
        codec = RespCodec()
        codec.read(None, memoryview(b"$5000\r\n" + bytes(900)))
        self.assertRaises(CodecError, codec.read, None, memoryview(bytes(200)))


class EnvelopeTests(SynchronousTestCase):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(
        st.one_of(st.binary(), st.text(), st.dictionaries(st.text(), st.integers() | st.none() | st.text())),
        st.none() | st.text(max_size=20),
        st.integers(0, 2**40),
    )
    def test_roundTrip(self, pkg: Any, key: str | None, publisher: int) -> None:
        publication = Publication(pkg, key=key, publisher=publisher)
        rest = envelope.restOf(publication, b"me", "room")
        found, isOwn = envelope.publicationFrom(b"G1|abc|7|" + rest, b"me")
        self.assertTrue(isOwn)
        publication.position = Position("abc", 7)
        self.assertEqual(found, publication)
        found, isOwn = envelope.publicationFrom(envelope.unnumbered(rest), b"other")
        self.assertEqual((found.pkg, found.key, found.publisher, found.position, isOwn), (pkg, key, 0, None, False))

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.binary(max_size=60), st.integers(0, 60))
    def test_anything(self, noise: bytes, at: int) -> None:
        """Whatever comes is a publication or an EnvelopeError."""
        whole = envelope.unnumbered(envelope.restOf(Publication({"a": 1}, key="k"), b"me", "room"))
        for message in (noise, b"G1|" + noise, whole[:at] + noise, whole[:at] + noise + whole[at:]):
            try:
                envelope.publicationFrom(message, b"me")
            except envelope.EnvelopeError:
                continue

    def test_refused(self) -> None:
        table = [
            *(b"", b"G1", b"G1|||||||", b"G2||||||||sx", b"G1|a|||||||sx", b"G1||5||||||sx", b"G1|a|5x||||||sx"),
            *(b"G1|a|9223372036854775808||||||sx", b"G1|a b|5||||||sx", b"G1|" + b"a" * 65 + b"|5||||||sx"),
            *(b"G1|||||||9|sx", b"G1||||||9||sx", b"G1||||||-1||sx", b"G1||||||5000||s" + bytes(6000)),
            *(
                b"G1||||||1||\xffsx",
                b"G1||||||||",
                b"G1||||||||x",
                b"G1||||||||s\xff",
                b"G1||||||||j{",
                b"G1||||||||j1 2",
                b"G1||||||||j \xff",
                b"G1|||||3|||sx",
            ),
            *(
                b"G1|||||1|||j1",
                b"G1|||||2|||sx",
                b"G1|||||\xb2|||sx",
                b"G1|||||||+2|sx",
                b"G1||||||||j" + b"[" * 100_000,
            ),
        ]
        for message in table:
            self.assertRaises(envelope.EnvelopeError, envelope.publicationFrom, message, b"me")
        own = b"G1|||me|x||||sx"
        self.assertRaises(envelope.EnvelopeError, envelope.publicationFrom, own, b"me")
        self.assertEqual(envelope.publicationFrom(own, b"other")[0].pkg, "x")

    def test_byHand(self) -> None:
        """What other programs write: JSON with blanks around it."""
        for text in (b'{"a":[1]}', b' \r\n\t{"a" : [1]}\n'):
            self.assertEqual(envelope.publicationFrom(b"G1||||||||j" + text, b"me")[0].pkg, {"a": [1]})

    def test_kinds(self) -> None:
        for kind, pkg in ((EXCLUSIVE, "key"), (CLOSE, {"reason": "r"})):
            rest = envelope.restOf(Publication(pkg, kind=kind), b"me", "room")
            found, _ = envelope.publicationFrom(envelope.unnumbered(rest), b"")
            self.assertEqual((found.kind, found.pkg), (kind, pkg))

    def test_members(self) -> None:
        """Members that come and go, and those of a hash."""
        members = [Member("k|1", "ü", {"a": [1]}), Member("k2")]
        self.assertEqual(envelope.membersFrom(envelope.membersMessage(members, [])), (members, []))
        for each in members:
            self.assertEqual(envelope.memberFrom(each.key.encode(), envelope.packedMember(each).encode()), each)
        for garbage in (
            b"M1|",
            b"M1|{}",
            b'M1|{"joined":[[1,2,3]],"left":[]}',
            b'M1|{"joined":[["a"]],"left":[]}',
            b"M1|5",
        ):
            self.assertRaises(envelope.EnvelopeError, envelope.membersFrom, garbage)
        for value in (b"", b"[]", b"5", b"[null,5]", b'["a",{},1]'):
            self.assertRaises(envelope.EnvelopeError, envelope.memberFrom, b"k", value)
        self.assertRaises(envelope.EnvelopeError, envelope.memberFrom, b"\xff", b"[null,{}]")


class LayoutTests(SynchronousTestCase):
    def test_oneSlot(self) -> None:
        """All keys of a group, and its channel, have its partition as their tag."""
        layout = Layout("app")
        keys = [layout.numbers("é:1"), layout.stream("é:1"), layout.id("é:1", "x"), layout.nodes("é:1")]
        keys += [layout.members("é:1", "node"), layout.channel("é:1").decode()]
        begin = f"app:{{{partitionOf('é:1')}}}"
        self.assertEqual({each[: len(begin)] for each in keys}, {begin})
        self.assertEqual(len(set(keys)), len(keys))

    def test_partitions(self) -> None:
        """They cannot change: others publish by them."""
        self.assertEqual([partitionOf(name) for name in ("a", "chat:42", "日本")], [3, 54, 12])

    def test_epochs(self) -> None:
        self.assertTrue(newEpoch().isalnum())
        self.assertNotEqual(newEpoch(), newEpoch())


class FakeSession:
    """In place of a session: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.pendingBytes = 0
        self.failed: BaseException | None = None
        self.isClosed = False

    def writePkg(self, data: bytes) -> int:
        if self.isClosed:
            raise SessionClosedError("closed", self)
        self.written += data
        return len(data)

    def fail(self, error: BaseException, abort: bool = False) -> None:
        self.failed = error

    def take(self) -> bytes:
        """What was written since."""
        written, self.written = self.written, b""
        return written


class User:
    """Of a connection, and of an engine."""

    description = "Redis at x"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connectionMade(self) -> None:
        self.told.append("made")

    def pushReceived(self, push: Any) -> None:
        self.told.append(push)

    def connectionLost(self, error: Exception) -> None:
        self.told.append(str(error))

    def pingAnswered(self) -> None:
        self.told.append("pong")

    def publicationArrived(self, name: str, publication: Publication) -> None:
        self.told.append(publication.pkg)

    def publicationsMissed(self, name: str) -> None:
        self.told.append("missed")


class Offline(Connection):
    """Is given its sessions."""

    def start(self, reactor: Any) -> None:
        self._reactor = reactor


class ConnectionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.user = User()
        self.connection = Offline("tcp:localhost:1", self.user)
        self.connection.start(self.clock)
        self.open()
        self.answers: list[Any] = []

    def open(self) -> None:
        self.session = FakeSession()
        self.connection.onOpen(self.session)
        self.assertEqual(self.user.told.pop(), "made")

    def reply(self, *replies: Any) -> None:
        self.connection.onMessage(self.session, list(replies))


class ConnectionTests(ConnectionCase):
    def test_together(self) -> None:
        """Commands of one turn leave together."""
        for number in range(3):
            self.connection.send(self.answers.append, b"GET", number)
        self.assertEqual(self.session.take(), b"")
        self.clock.advance(0)
        self.assertEqual(self.session.take(), b"".join(packedCommand((b"GET", number)) for number in range(3)))
        self.reply(0, 1)
        self.reply(ReplyError("ERR"))
        self.assertEqual(self.answers[:2], [0, 1])
        self.assertIsInstance(self.answers[2], ReplyError)

    def test_early(self) -> None:
        """Many bytes do not wait."""
        self.connection.send(self.answers.append, b"SET", b"a", bytes(70_000))
        self.assertGreater(len(self.session.take()), 70_000)

    def test_lost(self) -> None:
        """What was sent is unknown, what was not is not done; nothing is taken any more."""
        self.connection.send(self.answers.append, b"A")
        self.clock.advance(0)
        self.connection.send(self.answers.append, b"B")
        self.connection.onError(self.session, RuntimeError("reset"))
        self.connection.onClose(self.session)
        self.assertEqual([type(each) for each in self.answers], [EngineTimeoutError, EngineDownError])
        self.assertEqual(self.user.told, ["Redis at x went away: reset"])
        self.connection.send(self.answers.append, b"C")
        self.assertIsInstance(self.answers[2], EngineDownError)
        self.assertFalse(self.connection.isOpen)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closedMeanwhile(self) -> None:
        """The session is closing, and takes nothing: it was not done."""
        self.connection.send(self.answers.append, b"A")
        self.session.isClosed = True
        self.clock.advance(0)
        self.assertIsInstance(self.answers[0], EngineDownError)

    def test_pings(self) -> None:
        """Every 5 s; without an answer for 5 s it is given up."""
        self.clock.advance(5)
        self.clock.advance(0)
        self.assertEqual(self.session.take(), packedCommand((b"PING",)))
        self.reply("PONG")
        self.clock.advance(4.9)
        self.clock.advance(0.1)
        self.clock.advance(0)
        self.assertEqual(self.session.take(), packedCommand((b"PING",)))
        self.clock.advance(4.9)
        self.assertIsNone(self.session.failed)
        self.clock.advance(0.1)
        self.assertIn("has not answered for 5 s", str(self.session.failed))
        self.assertEqual(self.user.told[0], "pong")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_commandTimesOut(self) -> None:
        """5 s after the command, whenever the next ping is."""
        self.clock.advance(1)
        self.connection.send(self.answers.append, b"A")
        for _ in range(49):
            self.clock.advance(0.1)
        self.assertEqual(self.answers, [])
        self.clock.advance(0.2)
        self.assertIsInstance(self.answers[0], EngineTimeoutError)

    def test_processStoodStill(self) -> None:
        """Answers may be there, unread: they are read before it is given up."""
        self.connection.send(self.answers.append, b"A")
        self.clock.advance(20)
        self.assertIsNone(self.session.failed)
        self.reply(1)
        self.clock.advance(1)
        self.assertEqual(self.answers, [1])
        self.assertIsNone(self.session.failed)

    def test_subscriptions(self) -> None:
        """They have an answer only if they fail, and others keep theirs."""
        self.connection.send(self.answers.append, b"A")
        self.connection.sendSubscription(lambda error: self.answers.append(("first", error)), b"SUBSCRIBE", b"a")
        self.connection.sendSubscription(lambda error: self.answers.append(("second", error)), b"SUBSCRIBE", b"b")
        self.connection.send(self.answers.append, b"B")
        refused = ReplyError("NOPERM")
        self.reply(1, b"subscribed", refused, b"subscribed", 2)
        self.assertEqual(self.answers, [1, ("first", None), ("second", refused), 2])

    def test_notAsked(self) -> None:
        """An answer that nobody waits for: it cannot be trusted any more."""
        self.reply(1)
        self.assertIn("not asked", str(self.session.failed))

    def test_full(self) -> None:
        """Waiting is bounded, by bytes and by number."""
        self.assertFalse(self.connection.isFull)
        self.session.pendingBytes = 16 << 20
        self.assertTrue(self.connection.isFull)
        self.session.pendingBytes = 0
        self.patch(connections, "MAX_COMMANDS", 20)
        for _ in range(20):
            self.connection.send(self.answers.append, b"A")
        self.assertTrue(self.connection.isFull)

    def test_olderSession(self) -> None:
        """What one that was given up still says is not heard."""
        old = self.session
        self.connection.fail(EngineDownError("x"))
        self.open()
        self.connection.onClose(old)
        self.connection.onMessage(old, [1])
        self.assertTrue(self.connection.isOpen)


class OrderCase(ConnectionCase):
    """Has subscribed to a group, and publishes."""

    def setUp(self) -> None:
        super().setUp()
        layout = Layout("p")
        self.channel = layout.channel("a")
        self.subscriptions = Subscriptions(self.connection, layout, self.user, b"me")
        self.commands = PublishCommands(self.connection, layout, 1000)
        done = self.subscriptions.add("a", None)
        self.subscriptions.sendChanges()
        self.subscriptions.pushed([b"subscribe", self.channel, 1])
        self.reply(b"subscribed")
        self.successResultOf(done)
        self.subscriptions.release()
        self.user.told.clear()

    def publish(self, pkg: Any) -> Any:
        rest = envelope.restOf(Publication(pkg), b"me", "room")
        publishing = Publishing(self.subscriptions.sentFor("a"))
        self.commands.numbered(publishing, "a", Retention(1, 1.0), None, rest)
        publishing.deferred.addCallback(lambda position: self.user.told.append(position.offset))
        return publishing.deferred

    def turn(self) -> bytes:
        """A turn of the reactor ends. :return: what has left."""
        self.clock.advance(0)
        return self.session.take()

    def push(self, number: int, pkg: Any, node: bytes = b"me") -> None:
        message = b"G1|e|%d|" % number + envelope.restOf(Publication(pkg), node, "room")
        self.subscriptions.pushed([b"message", self.channel, message])


class OrderTests(OrderCase):
    """A publication comes back before its Deferred fires, whichever of push and answer is first."""

    def test_pushFirst(self) -> None:
        self.publish("x")
        self.push(1, "x")
        self.reply([b"e", 1, 1])
        self.assertEqual(self.user.told, ["x", 1])

    def test_answerFirst(self) -> None:
        self.publish("x")
        self.turn()
        self.publish("y")
        self.push(1, "of another", b"other")
        self.reply([b"e", 2, 1])
        self.push(2, "x")
        self.reply([b"e", 3, 1])
        self.push(3, "y")
        self.assertEqual(self.user.told, ["of another", "x", 2, "y", 3])

    def test_knownId(self) -> None:
        """Nothing comes back, and the next is not taken for it."""
        self.publish("x")
        self.turn()
        self.publish("y")
        self.reply([b"e", 7, 0])
        self.push(8, "y")
        self.reply([b"e", 8, 1])
        self.assertEqual(self.user.told, [7, "y", 8])

    def test_neverComesBack(self) -> None:
        """It is answered with the next ping, with the end of the subscription, or with that of the connection."""
        for end in (
            lambda: self.subscriptions.allArrived(),
            lambda: self.subscriptions.lost(EngineDownError("x")),
            lambda: self.subscriptions.remove("a"),
        ):
            self.setUp()
            self.publish("x")
            self.reply([b"e", 1, 1])
            self.assertEqual(self.user.told, [])
            end()
            self.assertEqual(self.user.told, [1])

    def test_holes(self) -> None:
        """They are told before what comes behind them; numbers of an other epoch as well."""
        for number in (4, 5, 7):
            self.push(number, number)
        self.subscriptions.pushed(
            [b"message", self.channel, b"G1|f|8|" + envelope.restOf(Publication(8), b"me", "room")]
        )
        self.assertEqual(self.user.told, [4, 5, "missed", 7, "missed", 8])

    def test_scriptUnknown(self) -> None:
        """Its text is sent, once."""
        done = self.publish("x")
        self.clock.advance(0)
        self.session.take()
        self.reply(ReplyError("NOSCRIPT No matching script"))
        self.clock.advance(0)
        self.assertIn(PUBLISH.text.encode(), self.session.take())
        self.reply(ReplyError("NOSCRIPT No matching script"))
        self.failureResultOf(done)

    def test_noLonger(self) -> None:
        """A server that has become a replica is left."""
        done = self.publish("x")
        self.reply(ReplyError("READONLY You can't write against a read only replica."))
        self.failureResultOf(done, EngineDownError)
        self.assertIn("READONLY", str(self.session.failed))
