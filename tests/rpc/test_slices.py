"""Long requests and replies in slices."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.interfaces import IPullProducer
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from getty_tx import rpc
from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.rpc import slices
from getty_tx.rpc.messages import DROP, LAST, MORE, Cancel, ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.messages import Slice as Part
from getty_tx.testing import DirectTransport, connectedSessions, readAll
from tests.support.certificates import Authority
from tests.support.rpc import Both, Foreign, Outcome, cutShort, leftInSlices

#: A session that may be sent so little before it is read that slices wait.
NARROW = {"capacity": 100}


class Work:
    """Methods with long arguments and results."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.open: list[Deferred[Any]] = []

    @rpc.method
    def give(self, size: int) -> str:
        self.seen.append(size)
        return "x" * size

    @rpc.method
    def size(self, text: str) -> int:
        self.seen.append(len(text))
        return len(text)

    @rpc.method
    def timeLeft(self, text: str) -> float | None:
        return rpc.currentCall().timeLeft()

    @rpc.method
    async def later(self, size: int) -> str:
        waiting: Deferred[Any] = Deferred()
        self.open.append(waiting)
        await waiting
        return "x" * size

    @rpc.method
    def closes(self, size: int) -> str:
        call = rpc.currentCall()
        call.peer.session.context.reactor.callLater(0, call.peer.session.close)
        return "x" * size


class SlicesTests(SynchronousTestCase):
    """Two ends of this library."""

    def setUp(self) -> None:
        cutShort(self)

    def ends(self, *, acquainted: bool = True, **options: Any) -> Both:
        self.work = Work()
        both = Both({"Work": self.work}, **options)
        if acquainted:
            outcome = both.call("Work/size", "")
            both.pair.advance(0.2)
            self.assertEqual(outcome.only, 0)
            self.work.seen.clear()
        return both

    def test_bothDirections(self) -> None:
        both = self.ends()
        before = both.pair.client.stats.readPkgs
        self.assertEqual(both.result("Work/give", 1000), "x" * 1000)
        self.assertEqual(both.pair.client.stats.readPkgs - before, 17)
        self.assertEqual(both.result("Work/size", "y" * 1000), 1000)
        self.assertEqual([leftInSlices(both.client), leftInSlices(both.server)], [[], []])

    def test_whatIsShortGoesWhole(self) -> None:
        both = self.ends()
        before = both.pair.client.stats.readPkgs
        # Two quotes are a part of it.
        self.assertEqual(len(both.result("Work/give", 98)), 98)
        self.assertEqual(both.pair.client.stats.readPkgs - before, 1)
        self.assertEqual(len(both.result("Work/give", 99)), 99)
        self.assertEqual(both.pair.client.stats.readPkgs - before, 3)

    def test_theFirstOfASessionGoesWhole(self) -> None:
        """It has not heard yet what the other end understands."""
        both = self.ends(acquainted=False)
        self.assertEqual(both.result("Work/size", "y" * 1000), 1000)
        self.assertEqual(both.pair.server.stats.readPkgs, 1)

    def test_theFirstOfASessionThatIsAReply(self) -> None:
        """Its slices say what this end understands."""
        both = self.ends(acquainted=False)
        self.assertEqual(len(both.result("Work/give", 1000)), 1000)
        self.assertEqual(both.pair.client.stats.readPkgs, 17)
        self.assertIn(Feature.SLICES, both.client.codec.understood)

    def test_shortOnesPass(self) -> None:
        both = self.ends(transport=DirectTransport, **NARROW)
        ended: list[str] = []
        both.client.call("Work", "give", 5000).addCallback(lambda _: ended.append("long"))
        both.pair.pump(3)
        both.client.call("Work", "size", "abc").addCallback(lambda _: ended.append("short"))
        both.pair.flush()
        self.assertEqual(ended, ["short", "long"])

    def test_twoTakeTurns(self) -> None:
        both = self.ends(**NARROW)
        ended: list[int] = []
        for size in (20_000, 900, 500):
            both.client.call("Work", "give", size).addCallback(lambda text: ended.append(len(text)))
        both.pair.flush()
        self.assertEqual(ended, [500, 900, 20_000])

    def test_manyWaitForATurn(self) -> None:
        both = self.ends(**NARROW)
        outcomes = [both.call("Work/give", 300 + number) for number in range(20)]
        self.assertEqual([len(outcome.only) for outcome in outcomes], [300 + number for number in range(20)])
        self.assertEqual(leftInSlices(both.server), [])

    def test_theSessionHasOneSliceAtATime(self) -> None:
        both = self.ends(**NARROW)
        both.client.call("Work", "give", 100_000)
        both.pair.pump(4)
        for _ in range(20):
            both.pair.pump(1)
            self.assertLess(both.pair.server.pendingBytes, 200)
        self.assertGreater(both.server.slices.queued, 90_000)
        self.assertEqual(both.serverContext.queued, both.server.slices.queued)
        verifyObject(IPullProducer, both.server.slices)

    def test_metadataAndOneWay(self) -> None:
        both = self.ends()
        both.client.send("Work", "size", "y" * 1000, metadata={"a": "b"})
        both.pair.flush()
        self.assertEqual(self.work.seen, [1000])
        self.assertEqual(leftInSlices(both.client), [])

    def test_metadataThatCannotBe(self) -> None:
        """It is told at once, though it would go with the last slice."""
        both = self.ends()
        error = both.result("Work/size", "y" * 1000, metadata={"getty": "b"})
        self.assertIsInstance(error, rpc.PayloadError)
        self.assertEqual((error.sent, leftInSlices(both.client)), (False, []))

    def test_anAnnouncementIsNotLost(self) -> None:
        """A message that is refused before its first slice has announced nothing."""
        both = self.ends(acquainted=False)
        codec = both.server.codec
        for metadata in ({"getty": "b"}, {"a": "b"}):
            with contextlib.suppress(rpc.PayloadError):
                codec.check(both.pair.server, Reply(1, b"", metadata))
        self.assertIn(b"cancel,ping,stream,slices", codec.write(both.pair.server, Reply(1, b"")))

    def test_theTimeThatIsLeft(self) -> None:
        both = self.ends(delay=0.05, **NARROW)
        outcome = Outcome(both.client.call("Work", "timeLeft", "y" * 1000, timeout=10))
        both.pair.advance(5)
        self.assertLess(outcome.only, 9.5)
        self.assertGreater(outcome.only, 5)

    def test_cancelledRequest(self) -> None:
        """What is left of it is not sent, and the other end forgets what it has."""
        both = self.ends(**NARROW)
        first, second, *others = [both.client.call("Work", "size", "y" * 3000) for _ in range(6)]
        both.pair.pump(12)
        self.assertEqual(len(both.server.slices.halves), 4)
        before = both.client.slices.queued
        first.cancel()
        self.assertLess(both.client.slices.queued, before - 2000)
        self.failureResultOf(first, rpc.CallCancelledError)
        others[-1].cancel()
        self.failureResultOf(others[-1], rpc.CallCancelledError)
        both.pair.flush()
        self.assertEqual(self.work.seen, [3000] * 4)
        self.assertEqual(self.successResultOf(second), 3000)
        self.assertEqual([leftInSlices(both.client), leftInSlices(both.server)], [[], []])

    def test_cancelledReply(self) -> None:
        both = self.ends(**NARROW)
        waiting = both.client.call("Work", "give", 30_000)
        both.pair.pump(12)
        self.assertEqual(len(both.client.slices.halves), 1)
        waiting.cancel()
        self.assertEqual(both.client.slices.halves, {})
        self.failureResultOf(waiting, rpc.CallCancelledError)
        read = both.pair.client.stats.readBytes
        both.pair.flush()
        self.assertLess(both.pair.client.stats.readBytes - read, 1000)
        self.assertEqual([leftInSlices(both.client), leftInSlices(both.server)], [[], []])
        self.assertEqual(both.clientContext.late, 0)

    def test_deadline(self) -> None:
        both = self.ends(delay=0.05, **NARROW)
        request = both.client.call("Work", "size", "y" * 10_000, timeout=1.0)
        reply = both.client.call("Work", "give", 10_000, timeout=1.0)
        both.pair.advance(0.9)
        self.assertEqual((len(both.client.slices.halves), len(both.server.slices.halves)), (1, 1))
        both.pair.advance(1.5)
        self.failureResultOf(request, rpc.CallTimeoutError)
        self.failureResultOf(reply, rpc.CallTimeoutError)
        self.assertEqual([leftInSlices(both.client), leftInSlices(both.server)], [[], []])
        self.assertFalse(both.client.isSuspect)

    def test_lost(self) -> None:
        both = self.ends(**NARROW)
        waiting = [both.client.call("Work", name, value) for name, value in (("size", "y" * 9000), ("give", 9000))]
        both.pair.pump(12)
        self.assertTrue(both.client.slices.queued and both.server.slices.queued)
        both.pair.reset()
        both.pair.advance(30)
        for call in waiting:
            self.failureResultOf(call, rpc.CallLostError)
        self.assertEqual(both.leftovers(), [])

    def test_close(self) -> None:
        """What a method has given arrives, though the session closes."""
        both = self.ends(**NARROW)
        outcome = both.call("Work/closes", 20_000)
        self.assertEqual(len(outcome.only), 20_000)
        both.pair.advance(30)
        self.assertEqual(both.leftovers(), [])

    def test_closeAtASilentPeer(self) -> None:
        both = self.ends(**NARROW)
        both.client.call("Work", "give", 20_000).addErrback(lambda _: None)
        both.pair.pump(6)
        both.pair.client.pauseReading()
        both.pair.server.close()
        both.pair.advance(10)
        self.assertEqual((both.server.slices.queued, both.serverContext.peers), (0, set()))

    def test_drain(self) -> None:
        """Requests that were made before the notice are served, and all replies arrive."""
        both = self.ends(**NARROW)
        calls = [both.client.call("Work", "size", "y" * 5000), both.client.call("Work", "give", 5000)]
        both.pair.pump(6)
        drained = both.server.drain()
        both.pair.flush()
        self.assertEqual([self.successResultOf(calls[0]), len(self.successResultOf(calls[1]))], [5000, 5000])
        both.pair.advance(30)
        self.successResultOf(drained)
        self.assertEqual(both.leftovers(), [])

    def test_blocked(self) -> None:
        """What waits in slices counts as pending."""
        both = self.ends(**NARROW)
        both.pair.client.maxPending = 10_000
        both.pair.server.pauseReading()
        outcomes = [both.call("Work/size", "y" * 4000, timeout=None) for _ in range(5)]
        refused = [outcome.results[0] for outcome in outcomes if outcome.results]
        self.assertEqual([type(error) for error in refused], [rpc.CallRefusedError] * 2)
        self.assertIn("more than maxPending=10000", str(refused[0]))
        self.assertFalse(refused[0].sent)
        both.pair.server.resumeReading()
        both.pair.flush()
        self.assertEqual([outcome.only for outcome in outcomes[:3]], [4000] * 3)

    def test_aPeerThatAsksAndDoesNotRead(self) -> None:
        """It is not read while long replies wait."""
        both = self.ends(**NARROW)
        both.pair.server.maxPending = 10_000
        both.pair.client.pauseReading()
        outcomes = [Outcome(both.client.call("Work", "give", 3000, timeout=None)) for _ in range(20)]
        both.pair.flush()
        self.assertTrue(both.server.slices.holds)
        self.assertLess(len(self.work.seen), 6)
        self.assertLess(both.server.slices.queued, 12_000)
        both.pair.client.resumeReading()
        both.pair.flush()
        self.assertEqual([len(outcome.only) for outcome in outcomes], [3000] * 20)
        self.assertEqual(leftInSlices(both.server), [])

    def test_oneLongReplyHoldsNobodyUp(self) -> None:
        both = self.ends(**NARROW)
        both.pair.server.maxPending = 10_000
        both.client.call("Work", "give", 30_000, timeout=None)
        both.pair.pump(8)
        self.assertFalse(both.server.slices.holds)
        short = both.client.call("Work", "size", "abc")
        both.pair.pump(40)
        self.assertEqual(self.successResultOf(short), 3)
        self.assertGreater(both.server.slices.queued, 20_000)

    def test_bothAnswerMoreThanTheOtherReads(self) -> None:
        """Neither reads, as long replies wait at each; both go on."""
        works = Work(), Work()
        both = Both({"Work": works[0]}, {"Work": works[1]}, **NARROW)
        ends = both.client, both.server
        for end in ends:
            Outcome(end.call("Work", "size", ""))
            both.pair.flush()
            end.session.maxPending = 20_000
        outcomes = [Outcome(end.call("Work", "give", 4000, timeout=None)) for _ in range(5) for end in ends]
        both.pair.pump(30)
        self.assertTrue(both.client.slices.holds and both.server.slices.holds)
        both.pair.advance(3)
        self.assertEqual([len(outcome.only) for outcome in outcomes], [4000] * 10)
        self.assertEqual([leftInSlices(end) for end in ends], [[], []])

    def test_beside(self) -> None:
        """A program's own producer has the session: the message goes whole."""
        both = self.ends()
        both.pair.server.transport.registerProducer(slices.Slices(both.server), True)
        before = both.pair.client.stats.readPkgs
        self.assertEqual(len(both.result("Work/give", 1000)), 1000)
        self.assertEqual(both.pair.client.stats.readPkgs - before, 1)
        both.pair.server.transport.unregisterProducer()

    def test_compressed(self) -> None:
        peers: list[rpc.Peer] = []

        def newSession(session: Any) -> None:
            session.compression = "deflate"
            peers.append(rpc.Peer(session, rpc.TTHeader(), {"Work": Work()}))

        pair = connectedSessions(newSession, newSession, **NARROW)
        for size in (0, 5000, 5000):
            waiting = peers[1].call("Work", "give", size)
            pair.flush()
            self.assertEqual(len(self.successResultOf(waiting)), size)
        self.assertGreater(pair.client.stats.readPkgs, 160)


class OthersTests(SynchronousTestCase):
    """The other end is a test."""

    def setUp(self) -> None:
        cutShort(self)
        self.work = Work()
        self.foreign = Foreign(services={"Work": self.work}, maxMsgLen=1000)

    def say(self, *messages: Any) -> None:
        self.foreign.say(*messages)

    def request(self, number: int, payload: bytes) -> Part:
        return Part(number, False, LAST, payload, Request(number, "Work/size", b""))

    def test_announcedOnly(self) -> None:
        """A peer that has not said that it understands slices gets none."""
        self.foreign.codec._announced = True
        self.say(Request(1, "Work/give", b"[500]"))
        reply = self.foreign.heard()
        self.assertEqual([type(each) for each in reply], [Reply])
        # The codec now says what it understands.
        self.foreign.codec._announced = False
        self.say(Request(2, "Work/give", b"[500]"))
        self.assertEqual([each.kind for each in self.foreign.heard()], [MORE] * 8 + [LAST])

    def test_pieces(self) -> None:
        text = b'["' + b"y" * 200 + b'"]'
        self.say(Part(5, False, MORE, text[:100]), Part(7, False, MORE, text[:50]), self.request(5, text[100:]))
        self.say(self.request(7, text[50:]))
        replies = self.foreign.heard()
        self.assertEqual([(each.id, each.payload) for each in replies], [(5, b"200"), (7, b"200")])

    def test_onlyTheLast(self) -> None:
        self.say(self.request(5, b'["abc"]'))
        self.assertEqual(self.foreign.heard()[0].payload, b"3")

    def test_dropped(self) -> None:
        self.say(Part(5, False, MORE, b"y" * 50), Part(5, False, DROP, b""), self.request(5, b'["abc"]'))
        self.assertEqual(self.foreign.heard()[0].payload, b"3")
        self.say(Part(9, False, DROP, b""))
        self.assertEqual(leftInSlices(self.foreign.peer), [])

    def test_tooLong(self) -> None:
        """The limit of a message is that of its slices together."""
        self.say(*[Part(5, False, MORE, b"y" * 300) for _ in range(3)])
        self.assertFalse(self.foreign.session.isClosed)
        self.say(Part(5, False, MORE, b"y" * 300))
        self.assertIsInstance(self.foreign.session.error, MessageTooLongError)
        self.assertIn("maxMsgLen=1000", str(self.foreign.session.error))
        self.assertEqual(leftInSlices(self.foreign.peer), [])

    def test_tooLongWithTheLast(self) -> None:
        self.say(*[Part(5, False, MORE, b"y" * 300) for _ in range(3)], self.request(5, b"y" * 101))
        self.assertIsInstance(self.foreign.session.error, MessageTooLongError)
        self.assertEqual(self.work.seen, [])

    def test_tooManyHalves(self) -> None:
        self.say(*[Part(number, False, MORE, b"y" * 50) for number in range(1, 5)])
        self.assertFalse(self.foreign.session.isClosed)
        self.say(Part(1, False, MORE, b"y" * 50))
        self.assertFalse(self.foreign.session.isClosed)
        self.say(Part(5, False, MORE, b"y" * 50))
        self.assertIsInstance(self.foreign.session.error, CodecError)
        self.assertIn("parts of more than 4 messages", str(self.foreign.session.error))
        self.assertEqual(leftInSlices(self.foreign.peer), [])

    def test_slicesThatAreNoSlices(self) -> None:
        """Pieces of a byte would take many times the memory of the message."""
        self.say(Part(5, False, MORE, b"y" * 29))
        self.assertIsInstance(self.foreign.session.error, CodecError)

    def test_repliesThatNobodyWaitsFor(self) -> None:
        for number in range(1, 50):
            self.say(Part(number, True, MORE, b"y" * 50))
        self.assertEqual(self.foreign.peer.slices.halves, {})
        self.say(Part(3, True, LAST, b"y", Reply(3, b"")))
        self.assertEqual((self.foreign.context.late, self.foreign.session.isClosed), (1, False))

    def test_halfRepliesOfCallsThatEnd(self) -> None:
        """A call is answered whole, or with an error, while it was half answered."""
        peer = self.foreign.peer
        outcomes = [Outcome(peer.call("Any", "thing")) for _ in range(10)]
        for number in range(1, 10):
            self.say(Part(number, True, MORE, b"y" * 50), ErrorReply(number, "internal", "no"))
        self.assertLessEqual(len(peer.slices.halves), 4)
        self.say(Part(10, True, MORE, b'"' + b"y" * 50), Part(10, True, LAST, b'"', Reply(10, b"")))
        self.assertEqual(outcomes[-1].only, "y" * 50)
        self.assertTrue(all(isinstance(outcome.only, rpc.RemoteError) for outcome in outcomes[:-1]))

    def test_cancelOfAHalfSentReply(self) -> None:
        self.foreign = Foreign(services={"Work": self.work}, maxMsgLen=10_000)
        self.foreign.pair.peer.transport.pauseProducing()
        self.foreign.pair.serverTransport.memory._capacity = 200
        self.say(Request(1, "Work/give", b"[5000]"))
        self.assertGreater(self.foreign.peer.slices.queued, 4000)
        self.say(Cancel(1))
        self.assertEqual(self.foreign.peer.slices.queued, 0)
        self.foreign.pair.peer.transport.resumeProducing()
        self.foreign.clock.settle()
        self.assertLess(len(self.foreign.heard()), 20)

    def test_pongBehindRequests(self) -> None:
        """An end that is going away takes the answer to its ping for the end of the requests."""
        self.say(Ping())
        self.assertEqual([type(each) for each in self.foreign.heard()], [Pong])
        self.say(Request(1, "Work/size", b'[""]'))
        self.foreign.heard()
        self.foreign.peer.call("Any", "thing", "y" * 300)
        self.say(GoingAway(), Ping())
        kinds = [getattr(each, "kind", "pong") for each in self.foreign.heard()]
        self.assertEqual(kinds, [MORE] * 5 + [LAST, "pong"])

    def test_bytes(self) -> None:
        """The frames, as the page of calls has them."""
        codec = rpc.TTHeader("bytes").codec()
        codec._announced = True
        more = codec.write(self.foreign.session, Part(7, True, MORE, memoryview(b"abc")))
        block = "42 00 10 0002 001b 0001 37 0016 0001 32 00".replace(" ", "")
        expected = f"0000 001d 1000 0000 0000 0007 0004 {block} 616263".replace(" ", "")
        self.assertEqual(more.hex(), expected)
        (found,), rest = readAll(rpc.TTHeader("bytes").codec(), more, self.foreign.session)
        self.assertEqual((found.id, found.isReply, found.kind, found.payload, rest), (7, True, MORE, b"abc", b""))


class SocketTests(TestCase):
    """Over sockets of the system."""

    async def _calls(self, endpoint: str, dialled: str, **options: Any) -> None:
        work = Work()
        server = rpc.Server(endpoint, {"Work": work}, drainTime=5.0)
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        client = rpc.Client(dialled.format(getattr(address, "port", None)), timeout=30.0, **options)
        client.startService()
        self.addCleanup(client.stopService)
        await client.call("Work", "size", "")
        calls = [client.call("Work", "give", 3_000_000) for _ in range(4)]
        calls += [client.call("Work", "size", "y" * 3_000_000) for _ in range(4)]
        calls += [client.call("Work", "size", "abc") for _ in range(20)]
        results = await gatherResults(calls, consumeErrors=True)
        found = [result if isinstance(result, int) else len(result) for result in results]
        self.assertEqual(found, [3_000_000] * 8 + [3] * 20)
        for context in (server.context, client.context):
            self.assertEqual([left for peer in context.peers for left in leftInSlices(peer)], [])
        # An orderly stop, with replies on their way.
        last = [client.call("Work", "give", 3_000_000) for _ in range(3)]
        short = client.call("Work", "size", "abc")
        await short
        await server.stopService()
        self.assertEqual([len(await each) for each in last], [3_000_000] * 3)

    def test_tcp(self) -> Deferred[None]:
        return ensureDeferred(self._calls("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{}"))

    def test_tls(self) -> Deferred[None]:
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        served = f"ssl:0:certKey={certificate}:privateKey={key}:interface=127.0.0.1"
        return ensureDeferred(self._calls(served, f"tls:localhost:{{}}:trustRoots={authority.path}"))

    def test_webSocket(self) -> Deferred[None]:
        return ensureDeferred(self._calls("ws:0:interface=127.0.0.1", "ws:127.0.0.1:{}"))
