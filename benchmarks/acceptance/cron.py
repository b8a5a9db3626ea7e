"""Timers in great number: what onCron of 100,000 sessions costs beside the calls alone, and what waits in vain.

Limits: 60 s with 100,000 sessions and a cronPeriod of 60 s take at most 3 times as long as the same calls of onCron in
a plain loop, for sessions that were opened at once and for some that were opened evenly over 60 s; and a tick beside
100,000 timers of which none is due takes at most 1.5 times as long as one beside a single timer.

It runs in this process, on a simulated clock that goes on tick by tick. The sessions are real ones, on transports that
only have an address, and their onCron does nothing but count, so that there is little else to measure. Each figure is
the best of several rounds, in which both sides take turns. It needs 300 MB of memory.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from benchmarks.acceptance.harness import Figure, Target, main, noCollections
from getty_tx.codecs import LengthCodec
from getty_tx.listener import EventListener
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.wheel import TICK, TimingWheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from getty_tx.session.session import Session

SESSIONS = 100_000
TIMERS = 100_000
SECONDS = 60.0
TICKS = round(SECONDS / TICK)
ROUNDS = 40

LIMIT = 3.0
TICK_LIMIT = 1.5

HERE = IPv4Address("TCP", "192.0.2.1", 8090)
PEER = IPv4Address("TCP", "198.51.100.1", 50000)


class Transport:
    """A connection on which nothing is said."""

    def getHost(self) -> IPv4Address:
        return HERE

    def getPeer(self) -> IPv4Address:
        return PEER


class Counter(EventListener):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def onCron(self, session: Session) -> None:
        self.calls += 1


def seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def openSessions(clock: Clock, listener: EventListener, spread: float) -> list[Session]:
    """Open the sessions on ``clock``, within ``spread`` seconds of it."""
    codec = LengthCodec()

    def newSession(session: Session) -> None:
        session.codec = codec
        session.listener = listener
        session.cronPeriod = SECONDS

    factory = SessionServerFactory(newSession, reactor=clock)
    sessions = []
    opened = 0
    for tick in range(max(1, round(spread / TICK))):
        wanted = SESSIONS if not spread else round(SESSIONS * (tick + 1) * TICK / spread)
        for _ in range(wanted - opened):
            protocol: Any = factory.buildProtocol(PEER)
            protocol.makeConnection(Transport())
            sessions.append(protocol.session)
        opened = wanted
        if spread:
            clock.advance(TICK)
    return sessions


def measureCron(name: str, spread: float) -> Figure:
    """What a call of onCron costs with all that leads to it, in plain calls."""
    clock = Clock()
    listener = Counter()
    sessions = openSessions(clock, listener, spread)
    onCron = listener.onCron

    def plain() -> None:
        for session in sessions:
            onCron(session)

    def cron() -> None:
        for _ in range(TICKS):
            clock.advance(TICK)

    alone = within = float("inf")
    with noCollections():
        for _ in range(ROUNDS):
            alone = min(alone, seconds(plain) / SESSIONS)
            before = listener.calls
            took = seconds(cron)
            calls = listener.calls - before
            # One tick's more or less, as the clock adds up floats.
            assert abs(calls - SESSIONS) <= SESSIONS // 100, f"{calls} calls of onCron for {SESSIONS} sessions"
            within = min(within, took / calls)
    ratio = within / alone
    note = f"{within * 1e9:.0f} ns a call, {alone * 1e9:.0f} ns alone"
    return Figure(name, ratio, LIMIT, f"{ratio:.2f} times the calls alone", note)


def measureTick() -> Figure:
    """What a tick costs beside timers that are not due."""
    clocks = []
    costs = ""
    for count in (1, TIMERS):
        clock = Clock()
        wheel = TimingWheel(clock)
        timers: list[Any] = []

        def add(wheel: TimingWheel = wheel, timers: list[Any] = timers, count: int = count) -> None:
            # None is due while it is measured, and few together.
            least = SECONDS * (ROUNDS + 1)
            timers += [wheel.schedule(least + i % 36_000 * TICK, print) for i in range(count)]

        def reset(timers: list[Any] = timers) -> None:
            for i, timer in enumerate(timers):
                timer.reset(SECONDS * (ROUNDS + 2) + (i * 7) % 36_000 * TICK)

        times = [seconds(call) / count * 1e6 for call in (add, reset)]
        costs = "add {:.2f} us, reset {:.2f} us".format(*times)
        clocks.append((clock, timers))
    best = [float("inf"), float("inf")]
    with noCollections():
        for _ in range(ROUNDS):
            for i, (clock, _timers) in enumerate(clocks):
                best[i] = min(best[i], seconds(lambda clock=clock: clock.pump([TICK] * TICKS)) / TICKS)
    ratio = best[1] / best[0]
    note = f"{best[1] * 1e6:.1f} us a tick; {costs}"
    return Figure(f"a tick beside {TIMERS} timers", ratio, TICK_LIMIT, f"{ratio:.2f} times that beside one", note)


def measure(target: Target) -> Iterator[Figure]:
    yield measureCron(f"onCron of {SESSIONS} sessions, opened at once", 0.0)
    gc.collect()
    yield measureCron(f"onCron of {SESSIONS} sessions, opened over {SECONDS:.0f} s", SECONDS)
    gc.collect()
    yield measureTick()


if __name__ == "__main__":
    sys.exit(main("cron", measure, __doc__, seconds=90))
