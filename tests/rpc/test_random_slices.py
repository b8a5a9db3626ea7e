"""Long and short calls in any order of slices, cancels, deadlines and ends: each ends exactly once, nothing is left."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import GettyError
from getty_tx.rpc.messages import (
    DROP,
    LAST,
    MORE,
    Cancel,
    ErrorReply,
    Feature,
    GoingAway,
    Ping,
    Pong,
    Reply,
    Request,
    Slice,
)
from tests.support.long import examples
from tests.support.rpc import Both, Foreign, Outcome, cutShort, leftInSlices

modest = settings(max_examples=examples(200), deadline=None, database=None)

TIMEOUTS = [None, 0.2, 0.5, 1.0, 3.0]
SIZES = [0, 10, 99, 150, 400, 1500, 6000]


class Work:
    """Methods with arguments and results of any length."""

    def __init__(self) -> None:
        self.open: list[Deferred[Any]] = []

    @rpc.method
    def now(self, number: int, text: str, size: int) -> list[Any]:
        return [number, len(text), "x" * size]

    @rpc.method
    async def later(self, number: int, text: str, size: int) -> list[Any]:
        waiting: Deferred[Any] = Deferred()
        self.open.append(waiting)
        await waiting
        return [number, len(text), "x" * size]

    @rpc.method
    def closes(self, number: int, text: str, size: int) -> list[Any]:
        session = rpc.currentCall().peer.session
        session.context.reactor.callLater(0, session.close)
        return [number, len(text), "x" * size]

    def finish(self, index: int) -> None:
        if self.open:
            waiting = self.open.pop(index % len(self.open))
            if not waiting.called:
                waiting.callback(None)


sizes = st.sampled_from(SIZES)
calls = st.tuples(
    st.just("call"), st.sampled_from(["now", "later"]), sizes, sizes, st.sampled_from(TIMEOUTS), st.booleans()
)
steps = st.one_of(
    calls,
    calls,
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0])),
    st.tuples(st.just("turn"), st.integers(1, 9)),
    st.tuples(st.just("send"), sizes, st.booleans()),
    st.tuples(st.just("read"), st.booleans(), st.booleans()),
    st.tuples(st.just("ping"), st.booleans()),
)
ends = st.sampled_from(["close", "reset", "abort", "serverCloses", "method", "drain", "none"])


class RandomSliceTests(SynchronousTestCase):
    """Two peers of this library."""

    @given(st.lists(steps, max_size=40), ends, st.sampled_from([0.0, 0.05]), st.sampled_from([50, 300, None]))
    @modest
    def test_twoPeers(self, steps: list[Any], end: str, delay: float, capacity: int | None) -> None:
        cutShort(self)
        works = Work(), Work()
        network: dict[str, Any] = {"delay": delay, "capacity": capacity}
        options: dict[str, Any] = {"maxCallsPerSession": 4, "maxTimeout": 20.0}
        both = Both({"Work": works[0]}, {"Work": works[1]}, server=options, client=options, **network)
        made: list[tuple[Any, list[Any], Outcome]] = []
        for peer in (both.client, both.server):
            # Both know what the other understands.
            self._call(peer, "now", 0, 0, None, made)
            both.pair.advance(0.3)
            peer.session.maxPending = 5000
            peer.session.writeTimeout = None
        for step in steps:
            self._do(step, both, works, made)
        both.pair.client.resumeReading()
        both.pair.server.resumeReading()
        isKept = end in ("none", "method", "drain")
        ended: list[Any] = []
        if end == "method":
            self._call(both.client, "closes", 0, 6000, None, made)
        elif end == "drain" and not both.pair.server.isClosed:
            both.server.drain().addCallback(ended.append)
        elif end == "reset":
            both.pair.reset()
        elif end == "serverCloses":
            both.pair.server.close()
        elif not isKept:
            getattr(both.pair.client, end)()
        for second in range(100):
            both.pair.advance(1)
            for work in works:
                work.finish(0)
            # After the longest deadline only what has not ended yet is waited for.
            if second > 20 and all(each[2].results for each in made) and (ended or end != "drain"):
                break
        hasFailed = both.client.session.error or both.server.session.error
        if end == "drain" and not hasFailed:
            self.assertEqual(ended, [None])
            # The calls to the end that drains: all that came before the notice are served.
            found = [outcome.only for waiting, _, outcome in made if waiting.peer is both.client]
            self.assertEqual([each for each in found if isinstance(each, rpc.CallLostError) and each.sent], [])
        if isKept:
            both.pair.client.close()
            both.pair.advance(30)
        for _, expected, outcome in made:
            result = outcome.only
            assert isinstance(result, rpc.RpcError) or result == expected, result
        if end == "method" and not hasFailed:
            # The session has closed in order, behind the reply that the method had given.
            result = made[-1][2].only
            assert result == made[-1][1] or not result.sent, (result, steps, delay, capacity)
        self.assertEqual(both.leftovers(), [])
        self.flushLoggedErrors(GettyError)
        assert not self.flushLoggedErrors(), "something was logged as an error"

    def _call(self, peer: rpc.Peer, method: str, size: int, back: int, timeout: float | None, made: list[Any]) -> None:
        waiting = peer.call("Work", method, len(made), "y" * size, back, timeout=timeout)
        made.append((waiting, [len(made), size, "x" * back], Outcome(waiting)))

    def _do(self, step: tuple[Any, ...], both: Both, works: tuple[Work, Work], made: list[Any]) -> None:
        what, number = step[0], step[1]
        if what == "call":
            self._call(both.client if step[5] else both.server, *step[1:5], made)
        elif what == "finish":
            works[number % 2].finish(number // 2)
        elif what == "cancel":
            made[number % len(made)][0].cancel()
        elif what == "wait":
            both.clock.advance(number)
        elif what == "turn":
            both.pair.pump(number)
        elif what == "send":
            with contextlib.suppress(rpc.RpcError):
                (both.client if step[2] else both.server).send("Work", "now", 0, "y" * number, 0)
        elif what == "read":
            session = both.pair.client if number else both.pair.server
            if step[2]:
                session.pauseReading()
            else:
                session.resumeReading()
        elif what == "ping":
            (both.client if number else both.server).tell(Feature.PING, Ping())


numbers = st.integers(1, 8)
foreignSteps = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(TIMEOUTS), st.sampled_from([0, 500])),
    st.tuples(st.just("part"), numbers, st.booleans(), st.sampled_from([MORE, DROP]), st.sampled_from([30, 60, 400])),
    st.tuples(st.just("last"), numbers, st.booleans(), st.sampled_from([b"", b'1"', b'"]', b"[1]"])),
    st.tuples(st.just("whole"), numbers, st.booleans()),
    st.tuples(st.just("notice"), st.sampled_from([Ping(), Pong(), GoingAway(), Cancel(1), ErrorReply(1, "own", "no")])),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.5, 6.0])),
)


class RandomForeignTests(SynchronousTestCase):
    """The other end sends any slices."""

    @given(st.lists(foreignSteps, max_size=40), st.booleans())
    @modest
    def test_foreignPeer(self, steps: list[Any], isReset: bool) -> None:
        cutShort(self)
        foreign = Foreign(services={"Work": Work()}, maxMsgLen=1000, pingInterval=None)
        foreign.say(Request(9, "Work/now", b'[1, "", 1]'))
        foreign.heard()
        made: list[tuple[Any, Outcome]] = []
        for step in steps:
            what, number = step[0], step[1]
            if foreign.session.isClosed:
                break
            if what == "call":
                waiting = foreign.peer.call("Any", "thing", "y" * step[2], timeout=number)
                made.append((waiting, Outcome(waiting)))
            elif what == "part":
                foreign.say(Slice(number, step[2], step[3], b"y" * step[4] if step[3] == MORE else b""))
            elif what == "last":
                whole = Reply(number, b"") if step[2] else Request(number, "Work/now", b"")
                foreign.say(Slice(number, step[2], LAST, step[3], whole))
            elif what == "whole":
                foreign.say(Reply(number, b"1") if step[2] else Request(number, "Work/now", b'[1, "", 400]'))
            elif what == "notice":
                foreign.say(number)
            elif what == "cancel" and made:
                made[number % len(made)][0].cancel()
            elif what == "wait":
                foreign.clock.advance(number)
            halves = foreign.peer.slices.halves
            assert len(halves) <= 4 and all(half.size <= 1000 for half in halves.values())
        foreign.heard()
        if isReset:
            foreign.pair.reset()
        else:
            foreign.pair.peer.end()
        foreign.clock.advance(30)
        for _, outcome in made:
            outcome.only  # noqa: B018  # it raises if the call has ended not at all, or twice
        peer, context = foreign.peer, foreign.context
        self.assertEqual((peer.pending, peer.incoming.open, leftInSlices(peer)), ({}, {}, []))
        self.assertEqual((context.running, context.peers, foreign.clock.getDelayedCalls()), (0, set(), []))
        self.flushLoggedErrors(GettyError)
        assert not self.flushLoggedErrors(), "something was logged as an error"
