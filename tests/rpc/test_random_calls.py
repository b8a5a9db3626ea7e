"""Calls in any order of events: each ends exactly once, and nothing is left."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.messages import Cancel, ErrorReply, GoingAway, Ping, Pong, Reply, Request
from tests.support.long import examples
from tests.support.rpc import Both, Foreign, Outcome

modest = settings(max_examples=examples(200), deadline=None, database=None)

TIMEOUTS = [None, 0.2, 0.5, 1.0, 3.0]


class Work:
    """Methods that end when the test says so; some go on when they are cancelled."""

    def __init__(self) -> None:
        self.open: list[Deferred[Any]] = []
        self.swallowed = 0

    def _wait(self) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.open.append(waiting)
        return waiting

    @rpc.method
    def sync(self, value: Any) -> Any:
        return value

    @rpc.method
    def deferred(self, value: Any) -> Deferred[Any]:
        return self._wait().addCallback(lambda _: value)

    @rpc.method
    async def coroutine(self, value: Any) -> Any:
        await self._wait()
        return value

    @rpc.method
    async def stubborn(self, value: Any) -> Any:
        try:
            await self._wait()
        except CancelledError:
            self.swallowed += 1
            await self._wait()
        return value

    @rpc.method
    async def fails(self, value: Any) -> Any:
        await self._wait()
        raise rpc.RemoteError(str(value), code="test.random")

    @rpc.method
    async def asksBack(self, value: Any) -> Any:
        return await rpc.currentCall().peer.call("Work", "coroutine", value)

    @rpc.method
    async def closes(self, value: Any) -> Any:
        await self._wait()
        rpc.currentCall().peer.session.close()
        return value

    def finish(self, index: int) -> None:
        if self.open:
            waiting = self.open.pop(index % len(self.open))
            if not waiting.called:
                waiting.callback(None)


METHODS = ["sync", "deferred", "coroutine", "stubborn", "fails", "asksBack", "closes", "unknown"]

steps = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(METHODS[:6]), st.sampled_from(TIMEOUTS), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from(METHODS), st.sampled_from(TIMEOUTS), st.booleans()),
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0])),
    st.tuples(st.just("turn"), st.integers(1, 4)),
    st.tuples(st.just("goAway"), st.booleans()),
)
ends = st.sampled_from(["close", "reset", "abort", "serverCloses"])


class RandomCallTests(SynchronousTestCase):
    """Two peers of this library."""

    @given(st.lists(steps, max_size=40), ends, st.sampled_from([0.0, 0.05, 0.25]), st.integers(1, 4))
    @modest
    def test_twoPeers(self, steps: list[Any], end: str, delay: float, limit: int) -> None:
        works = Work(), Work()
        options: dict[str, Any] = {"maxCallsPerSession": limit, "maxCalls": 6, "maxTimeout": 5.0}
        both = Both({"Work": works[0]}, {"Work": works[1]}, server=options, client=options, delay=delay)
        made: list[tuple[Any, Any, Outcome]] = []
        for step in steps:
            self._do(step, both, works, made)
        # Calls that are still open are lost, or end in time.
        if end == "reset":
            both.pair.reset()
        elif end == "serverCloses":
            both.pair.server.close()
        else:
            getattr(both.pair.client, end)()
        both.clock.advance(30)
        while any(work.open for work in works):
            for work in works:
                work.finish(0)
            both.clock.advance(1)
        for _, value, outcome in made:
            result = outcome.only
            assert isinstance(result, rpc.RpcError) or result == value, result
        self.assertEqual(both.leftovers(), [])
        assert not self.flushLoggedErrors(), "something was logged as an error"

    def _do(self, step: tuple[Any, ...], both: Both, works: tuple[Work, Work], made: list[Any]) -> None:
        what, number = step[0], step[1]
        if what == "call":
            peer = both.client if step[3] else both.server
            waiting = peer.call("Work", number, len(made), timeout=step[2])
            made.append((waiting, len(made), Outcome(waiting)))
        elif what == "finish":
            works[number % 2].finish(number // 2)
        elif what == "cancel" and made:
            made[number % len(made)][0].cancel()
        elif what == "wait":
            both.clock.advance(number)
        elif what == "turn":
            both.pair.pump(number)
        elif what == "goAway":
            (both.client if number else both.server).goAway()


numbers = st.integers(-1, 8)
foreignSteps = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(TIMEOUTS)),
    st.tuples(st.just("reply"), numbers, st.sampled_from([b"1", b'"x"', b"[", b""])),
    st.tuples(st.just("error"), numbers, st.sampled_from(["internal", "lost", "refused", "cancelled", "own"])),
    st.tuples(st.just("request"), numbers, st.sampled_from(METHODS[:7]), st.sampled_from(TIMEOUTS), st.booleans()),
    st.tuples(st.just("cancelIt"), numbers),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("notice"), st.sampled_from([Ping(), Pong(), GoingAway()])),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.2, 0.5, 1.0, 6.0])),
)


class RandomPeerTests(SynchronousTestCase):
    """The other end says anything that the wire can say."""

    @given(st.lists(foreignSteps, max_size=40), st.booleans(), st.integers(1, 4))
    @modest
    def test_foreignPeer(self, steps: list[Any], isReset: bool, limit: int) -> None:
        work = Work()
        foreign = Foreign(services={"Work": work}, maxCallsPerSession=limit, maxCalls=3, pingInterval=2.0)
        made: list[tuple[Any, Outcome]] = []
        replies = requests = 0
        for step in steps:
            what, number = step[0], step[1]
            if foreign.session.isClosed:
                break
            if what == "call":
                waiting = foreign.peer.call("Any", "thing", timeout=number)
                made.append((waiting, Outcome(waiting)))
            elif what in ("reply", "error") and number:
                replies += 1
                foreign.say(
                    Reply(number, step[2]) if what == "reply" else ErrorReply(number, step[2], "text", {"a": 1})
                )
            elif what == "request" and number:
                requests += not step[4]
                foreign.say(Request(number, f"Work/{step[2]}", b"[1]", step[3], None, step[4]))
            elif what == "cancelIt":
                foreign.say(Cancel(number) if number > 0 else Pong())
            elif what == "cancel" and made:
                made[number % len(made)][0].cancel()
            elif what == "finish":
                work.finish(number)
            elif what == "notice":
                foreign.say(number)
            elif what == "wait":
                foreign.clock.advance(number)
        answered = [message for message in foreign.heard() if isinstance(message, Reply | ErrorReply)]
        assert len(answered) <= requests, "a request was answered twice"
        assert foreign.context.late <= replies
        waits = set(foreign.peer.pending.values())
        assert all((waiting in waits) is not bool(outcome.results) for waiting, outcome in made)
        if isReset:
            foreign.pair.reset()
        else:
            foreign.pair.peer.end()
        foreign.clock.advance(30)
        while work.open:
            work.finish(0)
            foreign.clock.advance(1)
        # A request that waited for its turn may have made a call, which ends with the session.
        foreign.clock.advance(10)
        for _, outcome in made:
            outcome.only  # noqa: B018  # it raises if the call has ended not at all, or twice
        peer, context = foreign.peer, foreign.context
        self.assertEqual((peer.pending, peer.incoming.open, peer.incoming.count), ({}, {}, 0))
        self.assertEqual((context.running, context.peers, foreign.clock.getDelayedCalls()), (0, set(), []))
        assert not self.flushLoggedErrors(), "something was logged as an error"
