"""Few calls at a time, at random: calls within calls of two peers, and a caller that does what it likes."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc import kept
from getty_tx.rpc.messages import CREDIT, DATA, END, OPEN, Cancel, ErrorReply, Reply, Request, StreamFrame
from tests.support.long import examples
from tests.support.rpc import Both, Foreign, Outcome


class Nested:
    """Methods that call the other end, whose methods do the same."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    def say(self, depth: int) -> int:
        return depth

    @rpc.method
    async def wait(self, depth: int) -> int:
        self.waiting.append(Deferred())
        await self.waiting[-1]
        return depth

    @rpc.method
    async def nest(self, depth: int) -> int:
        if self.random.random() < 0.5:
            await self.wait(depth)
        method = self.random.choice(["say", "wait", "nest"] if depth else ["say", "wait"])
        answer: int = await rpc.currentCall().peer.call("Nested", method, depth - 1)
        return answer

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)


class RandomTests(SynchronousTestCase):
    """Calls within calls, in both directions, with few at a time."""

    @settings(max_examples=examples(100), deadline=None)
    @given(st.integers(0, 1 << 32))
    def test_all(self, seed: int) -> None:
        """Each ends once, by its time-out at the latest; no more run than may, and nothing is left."""
        random = Random(seed)
        ends = [Nested(random), Nested(random)]
        options = [{"maxCallsPerSession": random.randrange(1, 4), "maxTimeout": 3.0} for _ in ends]
        both = Both({"Nested": ends[0]}, {"Nested": ends[1]}, server=options[0], client=options[1])
        peers = [both.server, both.client]
        outcomes = []
        for _ in range(random.randrange(10, 80)):
            step = random.random()
            if step < 0.6:
                timeout = random.choice([0.3, 1.0, 4.0])
                method = random.choice(["say", "wait", "nest", "nest"])
                call = random.choice(peers).call("Nested", method, random.randrange(3), timeout=timeout)
                outcomes.append(Outcome(call))
                if random.random() < 0.1:
                    call.cancel()
            elif step < 0.7:
                random.choice(ends).release()
            elif step < 0.8:
                both.clock.advance(random.choice([0.01, 0.2, 1.1]))
            else:
                both.pair.flush()
            for peer in peers:
                self.assertLessEqual(peer.incoming.count, peer.context.maxCallsPerSession)
        for _ in range(20):
            both.pair.flush()
            both.clock.advance(0.5)
            for end in ends:
                end.release()
        self.assertEqual([len(each.results) for each in outcomes], [1] * len(outcomes))
        self.assertEqual([(peer.incoming.count, peer.incoming.isFull) for peer in peers], [(0, False)] * 2)
        both.client.session.close()
        both.pair.flush()
        both.clock.advance(30)
        self.assertEqual(both.leftovers(), [])


class Told:
    """Methods that end when the test says so, and tell when they begin."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    def say(self, number: int) -> int:
        self.begun.append(number)
        return number

    @rpc.method
    def wait(self, number: int) -> Deferred[Any]:
        self.begun.append(number)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method
    async def ask(self, number: int) -> Any:
        self.begun.append(number)
        return await rpc.currentCall().peer.call("Caller", "answer", timeout=None)

    @rpc.stream
    async def echo(self) -> Any:
        async for each in rpc.currentCall().stream:
            yield each


class Caller:
    """
    The other end of a session with few calls at a time, and what it may expect.

    :param test: fails.
    """

    def __init__(self, test: SynchronousTestCase, random: Random) -> None:
        self.test = test
        self.random = random
        self.told = Told()
        self.foreign = Foreign(None, {"Told": self.told}, maxCallsPerSession=random.randrange(1, 4), pingInterval=None)
        self.number = 0
        #: The answers to each call that wants one, and the calls that were cancelled.
        self.answers: dict[int, list[Any]] = {}
        self.cancelled: set[int] = set()
        self.streams: set[int] = set()
        #: The calls of the methods.
        self.asked: list[int] = []

    def step(self) -> None:
        """Say or do one thing."""
        random, foreign = self.random, self.foreign
        actions = [self.request] * 8 + [self.cancel, self.open, self.value, self.end] + [self.reply, self.release] * 2
        what = random.choice([*actions, self.pause, foreign.session.resumeReading, self.wait, self.change])
        what()
        self.hear()

    def request(self) -> None:
        messages = []
        for _ in range(self.random.randrange(1, 4)):
            self.number += 1
            method = self.random.choice(["say", "wait", "ask", "ask"])
            isOneWay = self.random.random() < 0.2
            if not isOneWay:
                self.answers[self.number] = []
            payload = b"[%d]" % self.number
            messages.append(Request(self.number, f"Told/{method}", payload, None, None, isOneWay))
        self.foreign.say(*messages)

    def cancel(self) -> None:
        number = self.random.randrange(1, self.number + 2)
        if number in self.answers:
            self.cancelled.add(number)
            self.foreign.say(Cancel(number))

    def open(self) -> None:
        self.number += 1
        self.streams.add(self.number)
        self.foreign.say(StreamFrame(self.number, OPEN, b"[]", False, "Told/echo"))

    def value(self) -> None:
        for number in self.streams:
            self.foreign.say(StreamFrame(number, DATA, b'"x"'), StreamFrame(number, CREDIT, b"100"))

    def end(self) -> None:
        if self.streams:
            self.foreign.say(StreamFrame(self.streams.pop(), END, b""))

    def reply(self) -> None:
        if self.asked:
            self.foreign.say(Reply(self.asked.pop(self.random.randrange(len(self.asked))), b'"yes"'))

    def release(self) -> None:
        if self.told.waiting:
            waiting = self.told.waiting.pop(self.random.randrange(len(self.told.waiting)))
            if not waiting.called:
                waiting.callback("done")

    def pause(self) -> None:
        self.foreign.session.pauseReading()

    def wait(self) -> None:
        self.foreign.clock.advance(self.random.choice([0.1, 0.6, 1.2]))

    def change(self) -> None:
        self.foreign.context.maxCallsPerSession = self.random.randrange(1, 4)

    def hear(self) -> None:
        """Take what has come, and look at what must always hold."""
        for message in self.foreign.heard():
            if type(message) is Request:
                self.asked.append(message.id)
            elif type(message) in (Reply, ErrorReply):
                self.answers[message.id].append(message)
        begun = self.told.begun
        self.test.assertEqual(begun, sorted(set(begun)))
        incoming = self.foreign.peer.incoming
        self.test.assertLessEqual(incoming.count, 3)
        # One more is kept than has a place: that behind which the session is not read.
        self.test.assertLessEqual(len(incoming._kept or ()), kept.MOST + 1)
        self.test.assertTrue(incoming.isFull or not incoming._kept)

    def finish(self) -> None:
        """Let all end."""
        self.foreign.session.resumeReading()
        for _ in range(3 * self.number + 10):
            self.foreign.clock.advance(0.3)
            self.reply()
            self.release()
            self.end()
            self.hear()


class CallerTests(SynchronousTestCase):
    """A caller that calls, cancels, answers and opens streams, while the application pauses and changes its limit."""

    @settings(max_examples=examples(150), deadline=None)
    @given(st.integers(0, 1 << 32))
    def test_all(self, seed: int) -> None:
        """Calls begin in their order, each has one answer, and then the session is as at the beginning."""
        random = Random(seed)
        self.patch(kept, "MOST", 4)
        caller = Caller(self, random)
        foreign = caller.foreign
        for _ in range(random.randrange(10, 120)):
            caller.step()
        caller.finish()
        self.assertIsNone(foreign.session.error)
        for number, answers in caller.answers.items():
            self.assertLessEqual(len(answers), 1)
            if number not in caller.cancelled:
                self.assertEqual(len(answers), 1, number)
        peer = foreign.peer
        self.assertEqual((peer.incoming.count, peer.incoming.isFull, len(peer.incoming._kept or ())), (0, False, 0))
        self.assertEqual((foreign.session.inbound.paused, peer.pending, foreign.context.running), (0, {}, 0))
        foreign.session.close()
        foreign.pair.flush()
        foreign.clock.advance(30)
        self.assertEqual(foreign.clock.getDelayedCalls(), [])
