"""
Random lives of two ends of a connection: whatever happens, events keep the contract's order, messages come in
theirs and without gaps, and nothing is left behind.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory

from getty_tx.errors import SessionBlockedError, SessionClosedError
from getty_tx.listener import EventListener
from getty_tx.session import cork as turn
from getty_tx.session import outbound
from getty_tx.testing import DirectTransport, MemoryTransport, Network, Peer
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame


class Boom(Exception):
    """What hooks of the random lives raise."""


#: What a listener of a random life does in a callback.
DEEDS = (
    *("nothing", "reply", "big reply", "close", "close with", "abort"),
    *("raise", "exit", "wait", "coroutine", "hang", "pause"),
)


class Side:
    """One end of a random life that is a session: does what it is told, and watches its events."""

    def __init__(
        self, network: Network, deeds: dict[str, tuple[int, str]], wrapped: bool = False, **values: Any
    ) -> None:
        self.network = network
        self.deeds = deeds
        self.listener = Watcher(self)
        self.factory = network.serverFactory(configure(self.listener, **values))
        factory: Any = WrappingFactory(self.factory) if wrapped else self.factory
        self.protocol: Any = factory.buildProtocol(None)
        self.wrapped = wrapped
        self.sent: list[bytes] = []
        self.left = False
        # close() or abort() was called here.
        self.closed = False

    @property
    def session(self) -> Any:
        return self.listener.session

    @property
    def got(self) -> list[bytes]:
        return self.listener.packages

    def send(self, count: int, size: int) -> None:
        for _ in range(count):
            pkg = len(self.sent).to_bytes(4, "big") + bytes(size)
            try:
                self.session.writePkg(pkg)
            except (SessionClosedError, SessionBlockedError):
                return
            self.sent.append(pkg)

    def close(self) -> None:
        self.left = self.closed = True
        self.session.close()

    def closeWith(self) -> None:
        self.left = self.closed = True
        self.session.close(Boom("close"))

    def abort(self) -> None:
        self.left = self.closed = True
        self.session.abort()

    def closeAll(self) -> None:
        self.left = self.closed = True
        self.factory.context.closeAll()

    def pause(self) -> None:
        self.session.pauseReading()

    def resume(self) -> None:
        self.session.resumeReading()

    def check(self) -> list[str]:
        wrong = list(self.listener.wrong)
        events = "".join(self.listener.events)
        if not re.fullmatch("o[mc]*e?x", events):
            wrong.append(f"events {events}")
        context = self.factory.context
        if context.connections or context.sessions or len(context.wheel) or context.wheel.running:
            wrong.append(f"left: {context.connections} connections, {context.sessions}, {len(context.wheel)} timers")
        if self.session.attributes:
            wrong.append("attributes are left")
        return wrong


class RawSide:
    """One end that is only bytes."""

    wrapped = False

    def __init__(self, network: Network) -> None:
        self.protocol = Peer(autoClose=True)
        self.sent: list[bytes] = []
        self.left = False

    @property
    def got(self) -> list[bytes]:
        data = bytes(self.protocol.data)
        found = []
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
            length = 4 + int.from_bytes(data[:4], "big")
            found.append(data[4:length])
            data = data[length:]
        return found

    def send(self, count: int, size: int) -> None:
        for _ in range(count):
            if self.left or self.protocol.lost is not None or self.protocol.ended:
                return
            self.sent.append(len(self.sent).to_bytes(4, "big") + bytes(size))
            self.protocol.write(frame(self.sent[-1]))

    def close(self) -> None:
        """The peer ends its side only: it still reads."""
        self.left = True
        self.protocol.end()

    closeAll = closeWith = close

    def abort(self) -> None:
        self.left = True
        self.transport.abortConnection()

    @property
    def transport(self) -> Any:
        return self.protocol.transport

    def pause(self) -> None:
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()

    def check(self) -> list[str]:
        return []


class Watcher(EventListener):
    """Does the deeds, and sees that no callback nests in or overlaps with another."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.session: Any = None
        self.events: list[str] = []
        self.packages: list[bytes] = []
        self.wrong: list[str] = []
        self.running: str | None = None
        self.counts: dict[str, int] = {}

    def _event(self, name: str, letter: str, session: Any) -> Any:
        self.session = session
        session.attributes["heard"] = name
        self.events.append(letter)
        if self.running is not None:
            self.wrong.append(f"{name} during {self.running}")
        if self.side.closed and name in ("message", "cron"):
            self.wrong.append(f"{name} after the close")
        self.running = name
        done = True
        try:
            nth = self.counts[name] = self.counts.get(name, -1) + 1
            when, deed = self.side.deeds.get(name, (0, "nothing"))
            # A deed is done in the nth callback of its kind; -1 is each.
            result = self._do(deed) if when in (-1, nth) else None
            if result is None:
                return None
            done = False
            if deed == "coroutine":
                return self._coroutine(result)
            return result.addBoth(self._returned)
        finally:
            if done:
                self.running = None

    def _returned(self, result: Any) -> Any:
        self.running = None
        return result

    async def _coroutine(self, waiting: Deferred[None]) -> None:
        try:
            await waiting
        finally:
            self.running = None

    def _do(self, deed: str) -> Any:
        side = self.side
        clock = side.network.clock
        if deed in ("reply", "big reply"):
            # Two that answer each other must come to an end.
            if len(side.sent) < 50:
                side.send(1, 10 if deed == "reply" else 70_000)
        elif deed == "close":
            side.close()
        elif deed == "close with":
            side.closeWith()
        elif deed == "abort":
            side.abort()
        elif deed == "raise":
            side.left = True
            raise Boom("raise")
        elif deed == "exit":
            side.left = True
            raise SystemExit
        elif deed in ("wait", "coroutine"):
            # Less than each waitTime: a callback that runs longer after the end is cancelled, and what follows dropped.
            return deferLater(clock, 0.4, lambda: None)
        elif deed == "hang":
            side.left = True
            return Deferred()
        elif deed == "pause":
            side.pause()
            clock.callLater(0.5, side.resume)
        return None

    def onOpen(self, session: Any) -> Any:
        return self._event("open", "o", session)

    def onMessage(self, session: Any, pkg: bytes) -> Any:
        self.packages.append(pkg)
        return self._event("message", "m", session)

    def onError(self, session: Any, error: BaseException) -> Any:
        self.side.left = True
        return self._event("error", "e", session)

    def onClose(self, session: Any) -> Any:
        return self._event("close", "x", session)

    def onCron(self, session: Any) -> Any:
        return self._event("cron", "c", session)


EVENTS = ("open", "message", "cron", "error", "close")
deeds = st.dictionaries(
    st.sampled_from(EVENTS), st.tuples(st.sampled_from([0, 0, 1, 3, -1]), st.sampled_from(DEEDS)), max_size=3
)
sides = st.integers(0, 1)
steps = st.one_of(
    *[st.tuples(st.just("send"), sides, st.integers(1, 5), st.sampled_from([0, 1, 100, 5000, 100_000]))] * 4,
    *[st.tuples(st.just("pump"), st.integers(1, 20))] * 3,
    *[st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 0.3, 1.0, 4.0]))] * 2,
    st.tuples(st.sampled_from(["pause", "resume"]), sides),
    st.tuples(st.sampled_from(["close", "close", "closeWith", "abort", "closeAll"]), sides),
    st.tuples(st.just("reset")),
)
networks = st.fixed_dictionaries(
    {
        "split": st.sampled_from([None, None, [1, 10_000], [3, 4, 5000]]) | st.integers(0, 99).map(Random),
        "delay": st.sampled_from([None, 0.05, 0.4]),
        "capacity": st.sampled_from([None, 500, 5000, 100_000]),
        "transport": st.sampled_from([DirectTransport, MemoryTransport]),
        "together": st.booleans(),
    }
)
values = st.fixed_dictionaries(
    {
        "readTimeout": st.sampled_from([None, None, 2.0]),
        "writeTimeout": st.sampled_from([None, 1.0, 5.0]),
        "idleTimeout": st.sampled_from([None, None, 2.0]),
        "maxLifetime": st.sampled_from([None] * 7 + [4.0]),
        "waitTime": st.sampled_from([0.5, 3.0]),
        "cronPeriod": st.sampled_from([0.9, 60.0]),
        "highWater": st.sampled_from([1000, 256 * 1024]),
        "lowWater": st.sampled_from([1, 1000]),
        "maxPending": st.sampled_from([50_000, 16 * 1024 * 1024]),
        "wrapped": st.sampled_from([False, False, True]),
    }
)


class LifeTests(SessionCase):
    """Random lives of two ends."""

    def live(self, network: dict[str, Any], ends: list[Any], script: list[Any]) -> None:
        # Answers are sent at once, or all of them at the end of the turn.
        together = network.pop("together")
        self.patch(turn, "PROBE", 0 if together else 1000)
        self.patch(turn, "MANY", 0)
        net = Network(**network)
        made = [RawSide(net) if end is None else Side(net, end[0], **end[1]) for end in ends]
        pair = net.join(made[0].protocol, made[1].protocol)
        wasReset = False
        for step in script:
            name, *args = step
            if name == "pump":
                pair.pump(*args)
            elif name == "advance":
                pair.advance(*args)
            elif name == "reset":
                wasReset = True
                pair.reset()
            else:
                side: Any = made[args[0]]
                getattr(side, name)(*args[1:])
        for side in made:
            side.resume()
        # As long as somebody gets something, slow callbacks and all. The longest package takes 4 seconds where 500
        # bytes take 0.4.
        before = None
        while before != (before := [len(side.got) for side in made]):
            pair.advance(9.0)
        events = [list(side.listener.events) for side in made if isinstance(side, Side)]
        closed = [side.left for side in made]
        for side in made:
            if isinstance(side, Side):
                side.session.close()
                pair.advance(15.0)
            else:
                side.close()
        pair.advance(15.0)
        wrong = [f"{i}: {text}" for i, side in enumerate(made) for text in side.check()]
        if pair.clock.getDelayedCalls():
            wrong.append(f"timers left: {pair.clock.getDelayedCalls()}")
        aborted = wasReset or pair.serverTransport._aborting or pair.clientTransport._aborting
        # What a session whose time is over has not read yet is discarded.
        aborted = aborted or any(isinstance(side, Side) and side.session.maxLifetime is not None for side in made)
        for i, side in enumerate(made):
            other = made[1 - i]
            if side.got != other.sent[: len(side.got)]:
                wrong.append(f"{i}: got what was not sent, or not in that order")
            # Who did not leave before the other did must have everything; but below a wrapper there is no half-close,
            # and what comes after the end of one that leaves is a reset.
            if not (aborted or closed[i] or side.left or other.wrapped) and closed[1 - i] and side.got != other.sent:
                wrong.append(f"{i}: got {len(side.got)} of {len(other.sent)} although the other end closed cleanly")
        logged = {type(failure.value) for failure in self.flushLoggedErrors()}
        allowed = {Boom, SystemExit, CancelledError, SessionClosedError, SessionBlockedError}
        if logged - allowed:
            wrong.append(f"logged: {logged - allowed}")
        self.assertEqual(wrong, [], f"events {events} of {ends}, network {network}, script {script}")

    ends = st.tuples(deeds, values)

    @settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
    @given(networks, ends, ends, st.lists(steps, min_size=3, max_size=25))
    def test_twoSessions(self, network: Any, one: Any, other: Any, script: list[Any]) -> None:
        """Open first, messages in order, none after close(), at most one error, one close, then nothing, none left."""
        SessionCase.setUp(self)
        self.live(network, [one, other], script)

    @settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
    @given(networks, ends, st.lists(steps, min_size=3, max_size=25))
    def test_sessionAndRawPeer(self, network: Any, one: Any, script: list[Any]) -> None:
        """The same with a peer that ends only its own side, leaves without reading, or never ends."""
        SessionCase.setUp(self)
        self.live(network, [one, None], script)

    def test_setUp(self) -> None:
        """The transports of these tests are sent to directly."""
        self.assertIn(DirectTransport, outbound.DIRECT)
