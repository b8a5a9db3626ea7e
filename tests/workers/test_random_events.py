"""Random programs of sessions, workers, timers, closes and failures, on in-memory transports and a simulated clock."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from getty_tx import EventListener
from getty_tx.errors import SessionClosedError
from getty_tx.testing import DirectTransport, Network, Peer
from getty_tx.workers import WorkerPool
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame
from tests.support.workers import gate, steppedPool

#: What a handler does with a message; the message is a number and one of these.
DEEDS = (b"echo", b"gate", b"two gates", b"raise", b"close", b"abort later", b"cron")


class Boom(Exception):
    pass


class Recorder(EventListener):
    """Checks the contract of events, in any thread."""

    def __init__(self, isOrdered: bool, isKeyed: bool, wrong: list[str]) -> None:
        self.isOrdered = isOrdered
        self.isKeyed = isKeyed
        self.wrong = wrong
        self.numbers: list[int] = []
        self.running = 0
        self.events: list[str] = []
        self.reactorThread: Any = None

    def onOpen(self, session: Any) -> None:
        self.events.append("open")

    def onMessage(self, session: Any, pkg: bytes) -> None:
        self.running += 1
        if self.running > 1 and self.isOrdered:
            self.wrong.append("two messages of a session at once")
        if "close" in self.events:
            self.wrong.append("a message after onClose")
        number, deed = struct.unpack(">I", pkg[:4])[0], pkg[4:]
        self.numbers.append(number)
        try:
            session.writePkg(pkg)
            if deed == b"gate":
                gate()
            elif deed == b"two gates":
                gate()
                session.writePkg(pkg + b"again")
                gate()
            elif deed == b"raise":
                raise Boom
            elif deed == b"close":
                session.close()
            elif deed == b"abort later":
                session.context.threads.call(session.abort)
        finally:
            self.running -= 1

    def _event(self, name: str) -> None:
        if self.running and self.isKeyed:
            self.wrong.append(f"{name} beside a running message")
        if "close" in self.events:
            self.wrong.append(f"{name} after onClose")
        self.events.append(name)

    def onCron(self, session: Any) -> None:
        self._event("cron")
        session.writePkg(b"cron")

    def onError(self, session: Any, error: BaseException) -> None:
        self._event("error")

    def onClose(self, session: Any) -> None:
        self._event("close")


def packages(data: bytes) -> list[bytes]:
    """The payloads of the frames in ``data``."""
    found = []
    while len(data) >= 4:
        (length,) = struct.unpack(">I", data[:4])
        if len(data) < 4 + length:
            break
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


session = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("send"), session, st.lists(st.sampled_from(DEEDS[:3] * 3 + DEEDS), min_size=1, max_size=6)),
    st.tuples(st.just("work"), st.integers(0, 3)),
    st.tuples(st.just("pump"), st.integers(1, 3)),
    st.tuples(st.just("advance"), st.sampled_from([0.002, 0.05, 1.0, 3.5])),
    st.tuples(st.sampled_from(["close", "end", "reset", "pause", "resume", "error"]), session),
)
pools = st.sampled_from(
    [
        (lambda: WorkerPool.keyed(1, queueLength=2), True),
        (lambda: WorkerPool.keyed(2, queueLength=3), True),
        (lambda: WorkerPool.keyed(4), True),
        (lambda: WorkerPool.keyed(2, lambda session, pkg: 1), True),
        (lambda: WorkerPool.keyed(2, lambda session, pkg: pkg[3] % 2), False),
        (lambda: WorkerPool.shared(3, queueLength=4), False),
        (lambda: WorkerPool.sharded(4, 2, queueLength=4), False),
        (lambda: WorkerPool.unbounded(), False),
    ]
)


class RandomEventTests(SessionCase):
    """Three sessions of one server with workers, each with a raw peer."""

    def setUp(self) -> None:
        super().setUp()
        # What is there before is not looked at when an example's leftovers are collected, which is most of its time.
        gc.collect()
        gc.freeze()
        self.addCleanup(gc.unfreeze)

    @settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
    @given(pools, st.lists(steps, min_size=4, max_size=40))
    def test_random(self, made: Any, script: list[Any]) -> None:
        """Events and replies are in order, onClose is the last, and nothing is left over."""
        SessionCase.setUp(self)
        make, isOrdered = made
        workers = make()
        net = Network(transport=DirectTransport)
        threads = steppedPool(self, workers, net.clock)
        wrong: list[str] = []
        isKeyed = repr(workers).startswith("<WorkerPool keyed")
        listeners = [Recorder(isOrdered, isKeyed, wrong) for _ in range(3)]
        pairs = []
        for listener in listeners:
            # A long waitTime, so that no handler is abandoned; test_pools tests that.
            factory = net.serverFactory(configure(listener, cronPeriod=1.0, waitTime=1000.0), workers=workers)
            pairs.append(net.join(factory.buildProtocol(None), Peer(False)))
        sessions = [pair.server for pair in pairs]
        sent = [0, 0, 0]
        disturbed = [False] * 3
        hasEnded = [False] * 3
        for name, *args in script:
            if name == "send":
                which, deeds = args
                for deed in () if hasEnded[which] else deeds:
                    pkg = struct.pack(">I", sent[which]) + deed
                    sent[which] += 1
                    pairs[which].peer.write(frame(pkg))
                    disturbed[which] = disturbed[which] or deed in DEEDS[3:6]
            elif name == "work":
                threads.step(args[0])
            elif name == "pump":
                for pair in pairs:
                    pair.pump(args[0])
            elif name == "advance":
                pairs[0].advance(args[0])
            else:
                which = args[0]
                if name == "pause":
                    sessions[which].pauseReading()
                elif name == "resume":
                    sessions[which].resumeReading()
                elif name == "end":
                    # Only once: Twisted's transport treats a second end as a lost connection.
                    if not hasEnded[which]:
                        hasEnded[which] = True
                        pairs[which].peer.end()
                elif name == "error":
                    disturbed[which] = True
                    sessions[which].close(Boom())
                else:
                    disturbed[which] = True
                    getattr(sessions[which] if name == "close" else pairs[which], name)()
        for each in sessions:
            each.resumeReading()
        # Until nothing changes any more.
        for _ in range(400):
            moved = threads.step()
            pairs[0].advance(0.01)
            for pair in pairs:
                moved = pair.pump(2) or moved
            if not moved and not threads.threads:
                break
        pairs[0].advance(0.2)
        for i, (pair, listener) in enumerate(zip(pairs, listeners, strict=True)):
            expected = list(range(len(listener.numbers)))
            if (listener.numbers if isOrdered else sorted(listener.numbers)) != expected and isOrdered:
                wrong.append(f"{i}: messages {listener.numbers}")
            if len(set(listener.numbers)) != len(listener.numbers):
                wrong.append(f"{i}: a message came twice: {listener.numbers}")
            if not disturbed[i] and len(listener.numbers) != sent[i]:
                wrong.append(f"{i}: {len(listener.numbers)} of {sent[i]} messages came")
            answers = [pkg for pkg in packages(bytes(pair.peer.data)) if pkg != b"cron" and not pkg.endswith(b"again")]
            numbers = [struct.unpack(">I", pkg[:4])[0] for pkg in answers]
            if isOrdered and numbers != list(range(len(numbers))):
                wrong.append(f"{i}: answers {numbers}")
            if not disturbed[i] and len(numbers) != sent[i]:
                wrong.append(f"{i}: {len(numbers)} of {sent[i]} answers came")
        for pair in pairs:
            pair.server.close()
            pair.peer.end()
        for _ in range(20):
            pairs[0].advance(1.0)
            while threads.step():
                pairs[0].advance(0.001)
        for i, listener in enumerate(listeners):
            names = [name for name in listener.events if name != "cron"]
            if names not in (["open", "close"], ["open", "error", "close"]):
                wrong.append(f"{i}: events {names}")
        stopped = workers.stop()
        pairs[0].advance(0.01)
        if self.successResultOf(stopped) != []:
            wrong.append("the pool was not idle")
        if pairs[0].clock.getDelayedCalls():
            wrong.append(f"timers left: {pairs[0].clock.getDelayedCalls()}")
        logged = {type(failure.value) for failure in self.flushLoggedErrors()}
        if logged - {Boom, SessionClosedError}:
            wrong.append(f"logged: {logged}")
        self.assertEqual(wrong, [])
        left = [weakref.ref(each) for each in sessions]
        del sessions, pairs, pair, each, net, factory, listener
        gc.collect()
        self.assertEqual([ref() for ref in left], [None] * 3, "sessions are kept by somebody")
