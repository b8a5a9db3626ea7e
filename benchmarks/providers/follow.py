"""
A client of the service ``calls``: ``python -m benchmarks.providers.follow SCENARIO REGISTRY ...``.

Each scenario prints lines of JSON; the last one has its results.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
import tracemalloc
from contextlib import suppress
from typing import Any

from twisted.internet import defer, protocol, task
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from benchmarks.providers.provide import SERVICE
from getty_tx import Client, EventListener, rpc
from getty_tx.codecs import LineCodec
from getty_tx.processes.heap import freezeHeap
from getty_tx.registry import IFollower, registryFrom
from getty_tx.registry.interfaces import IRecordSink

#: Calls a second.
RATE = 1000

PROVIDE = [sys.executable, "-m", "benchmarks.providers.provide"]


def show(**values: Any) -> None:
    """Print a line."""
    print(json.dumps(values), flush=True)


def callsClient(registry: Any) -> rpc.Client:
    """A client that runs. :param registry: the text of one, or one."""
    client = rpc.Client(f"service:{SERVICE}", wire=rpc.TTHeader("bytes"), registry=registry, timeout=5)
    client.startService()
    return client


class Child(protocol.ProcessProtocol):
    """A provider's process."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._waiting: list[defer.Deferred[str]] = []
        self.ended: defer.Deferred[None] = defer.Deferred()
        self._rest = ""

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        for line in lines:
            if self._waiting:
                self._waiting.pop(0).callback(line)
            else:
                self.lines.append(line)

    def errReceived(self, data: bytes) -> None:
        sys.stderr.write(data.decode())

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(reason)

    def line(self) -> defer.Deferred[str]:
        """The next line that it prints."""
        if self.lines:
            return defer.succeed(self.lines.pop(0))
        waiting: defer.Deferred[str] = defer.Deferred()
        self._waiting.append(waiting)
        return waiting


async def start(reactor: Any, text: str, *more: str) -> Any:
    """A provider that is ready."""
    child = Child()
    reactor.spawnProcess(child, sys.executable, [*PROVIDE, text, *more], env=os.environ)
    line = await child.line()
    assert line == "ready", line
    return child


async def until(reactor: Any, condition: Any, seconds: float = 20.0) -> None:
    """Wait until a condition holds, looked at in each turn of the reactor."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s")
        await task.deferLater(reactor, 0.0002)


def quantiles(name: str, values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the longest, in milliseconds."""
    values = sorted(value * 1e3 for value in values)
    at = values[min(len(values) - 1, len(values) * 99 // 100)]
    return {f"{name}_p50": values[len(values) // 2], f"{name}_p99": at, f"{name}_max": values[-1]}


@implementer(IFollower)
class Watching:
    """Listens to what the only follower of a registry is told, when it has done what follows from it."""

    def __init__(self, registry: Any) -> None:
        self.lags: list[float] = []
        self.changes = 0
        # There is no other place for it; and to follow a second time would cost as much again.
        (following,) = registry.followings
        self._follower, following._follower = following._follower, self

    def providersChanged(self, added: Any, removed: Any, changed: Any) -> None:
        self._follower.providersChanged(added, removed, changed)
        now = time.monotonic()
        self.lags += [now - each.meta.get("at", now) for each in changed]
        self.changes += len(added) + len(removed) + len(changed)


@implementer(IRecordSink)
class Records:
    """The records themselves, as an engine reports them: followers are told of those that are gone 0.1 s later."""

    def __init__(self, registry: Any) -> None:
        self.records: dict[str, Any] = {}
        self.goneAt: dict[str, float] = {}
        registry.engine.watch(SERVICE, self)

    def recordsAre(self, records: Any) -> None:
        self.recordsChanged(records, self.records.keys() - records.keys())

    def recordsChanged(self, written: Any, gone: Any) -> None:
        self.goneAt.update(dict.fromkeys(gone, time.monotonic()))
        self.records.update(written)
        for key in gone:
            self.records.pop(key, None)

    def interrupted(self, error: BaseException) -> None:
        pass

    def resumed(self) -> None:
        pass


async def join(reactor: Any, text: str, rounds: str) -> None:
    """From register() in one process to the first reply to a client of another, which runs already."""
    still = await start(reactor, text)
    provider = await start(reactor, text, "manual")
    client = callsClient(text)
    await client.whenReady()
    found = []
    for number in range(int(rounds)):
        sessions = set(client.pool.sessions)
        provider.transport.write(f"up p{number}\n".encode())
        began = float(await provider.line())
        await until(reactor, lambda known=sessions: set(client.pool.sessions) - known)
        (session,) = set(client.pool.sessions) - sessions
        await session.listener.call("Work", "say", b"hello")
        found.append(time.monotonic() - began)
        provider.transport.write(f"down p{number}\n".encode())
        await provider.line()
        # Its session, that of an orphan, stays: the next one has another id.
        await task.deferLater(reactor, 0.02)
    show(**quantiles("join", found))
    for child in (still, provider):
        child.transport.signalProcess("KILL")
        await child.ended


def endOf(port: int, connected: threading.Event, ends: list[float]) -> None:
    """On a thread: when the system ends a connection to a port, which is some ms after the process was killed."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connected.set()
        with suppress(OSError):
            connection.recv(1)
        ends.append(time.monotonic())


async def kill(reactor: Any, text: str, rounds: str) -> None:
    """
    From kill -9 of a provider until the system has ended its connections; from then on until it is not picked, and
    until its record is gone.
    """
    registry = registryFrom(text)
    registry.startService()
    records = Records(registry)
    still = await start(reactor, text)
    client = callsClient(text)
    await client.whenReady()
    system: list[float] = []
    lost: list[float] = []
    gone: list[float] = []
    for _ in range(int(rounds)):
        before = set(records.records)
        victim = await start(reactor, text)
        await until(reactor, lambda known=before: records.records.keys() - known)
        (key,) = records.records.keys() - before
        await until(reactor, lambda: len(client.pool.sessions) == 2)
        provider: Any = registry.decode(records.records[key], SERVICE, key)
        ends: list[float] = []
        connected = threading.Event()
        reactor.callInThread(endOf, int(provider.endpoint.rpartition(":")[2]), connected, ends)
        connected.wait(10)
        began = time.monotonic()
        os.kill(victim.transport.pid, signal.SIGKILL)
        await until(reactor, lambda: len(client.pool.sessions) == 1)
        now = time.monotonic()
        await until(reactor, lambda ends=ends: ends)
        system.append(ends[0] - began)
        lost.append(max(now - ends[0], 0.0))
        await until(reactor, lambda each=key: each in records.goneAt, 60)
        gone.append(max(records.goneAt[key] - ends[0], 0.0))
        await victim.ended
    show(**quantiles("system", system), **quantiles("lost", lost), **quantiles("gone", gone))
    still.transport.signalProcess("KILL")
    await still.ended


class Calls:
    """Calls at a fixed rate, and what became of them."""

    def __init__(self, client: rpc.Client) -> None:
        self.client = client
        self.made = self.failed = 0
        self.errors: list[str] = []
        self._out: set[Any] = set()
        self._looping = task.LoopingCall.withCount(self._some)

    def begin(self) -> None:
        """Start."""
        self._looping.start(0.01)

    def _some(self, count: int) -> None:
        for _ in range(count * RATE // 100):
            self.made += 1
            call = self.client.call("Work", "say", b"hello")
            self._out.add(call)
            call.addErrback(self._fails).addBoth(lambda _, call=call: self._out.discard(call))

    def _fails(self, failure: Any) -> None:
        self.failed += 1
        if len(self.errors) < 3:
            self.errors.append(str(failure.value))

    async def end(self, reactor: Any) -> dict[str, Any]:
        """Stop, wait for the last ones, and tell."""
        self._looping.stop()
        await until(reactor, lambda: not self._out)
        return {"calls": self.made, "failed": self.failed, "errors": self.errors}


async def restart(reactor: Any, text: str, rounds: str) -> None:
    """Three providers, restarted one by one under calls."""
    children = [await start(reactor, text) for _ in range(3)]
    client = callsClient(text)
    await client.whenReady(3)
    calls = Calls(client)
    calls.begin()
    for number in range(int(rounds)):
        await task.deferLater(reactor, 0.5)
        old = children[number % 3]
        old.transport.signalProcess("TERM")
        await old.ended
        children[number % 3] = await start(reactor, text)
        await until(reactor, lambda: len(client.pool.sessions) == 3)
    show(**await calls.end(reactor))
    for child in children:
        child.transport.signalProcess("KILL")
        await child.ended


async def outage(reactor: Any, text: str) -> None:
    """Calls until a line comes; meanwhile the store has an outage. Prints ``up`` when it is ready for that."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_namespace"].startswith("getty_tx"):
            lines.append(event["log_format"].format(**event))

    children = [await start(reactor, text) for _ in range(3)]
    registry = registryFrom(text)
    client = callsClient(registry)
    await client.whenReady(3)
    sessions = set(client.pool.sessions)
    globalLogPublisher.addObserver(observe)
    calls = Calls(client)
    calls.begin()
    show(up=True)
    ending: defer.Deferred[None] = defer.Deferred()
    reactor.callInThread(lambda: (sys.stdin.readline(), reactor.callFromThread(ending.callback, None)))
    await ending
    result = await calls.end(reactor)
    kept = len(sessions & set(client.pool.sessions))
    known = await registry.list(SERVICE)
    show(**result, kept=kept, lines=len(lines), texts=lines[:12], records=len(known))
    for child in children:
        child.transport.signalProcess("KILL")
        await child.ended


#: Seconds between two looks at how late the reactor's turns are.
LOOK = 0.004


class Turns:
    """
    By how much the latest of the reactor's turns came late, and the most time of a processor that was spent between two
    looks: the longest turn, whatever else the machine does.
    """

    def __init__(self) -> None:
        self.longest = self.most = 0.0
        self._last = self._spent = 0.0
        self._looping = task.LoopingCall(self._look)

    def _look(self) -> None:
        now, spent = time.monotonic(), time.process_time()
        if self._last:
            self.longest = max(self.longest, now - self._last - LOOK)
            self.most = max(self.most, spent - self._spent)
        self._last, self._spent = now, spent

    def begin(self) -> None:
        """Start anew."""
        self.longest = self.most = self._last = 0.0
        if not self._looping.running:
            self._looping.start(LOOK)


def quietSession(session: Any) -> None:
    """A session that does nothing."""
    session.codec = LineCodec()
    session.listener = EventListener()


async def memory(reactor: Any, text: str, count: str) -> None:
    """What many providers take, of whom one has sessions."""
    client = Client(quietSession, f"service:{SERVICE}", registry=registryFrom(text), subset=1)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    client.startService()
    await until(reactor, lambda: len(client.providers) == int(count), 120)
    await task.deferLater(reactor, 1)
    gc.collect()
    show(memory=(tracemalloc.get_traced_memory()[0] - before) / int(count))


async def many(reactor: Any, text: str, count: str, subset: str) -> None:
    """A list of many providers, then changes; prints ``up`` in between."""
    turns = Turns()
    turns.begin()
    await task.deferLater(reactor, 0.1)
    turns.begin()
    registry = registryFrom(text)
    client = Client(quietSession, f"service:{SERVICE}", registry=registry, subset=int(subset) or None)
    began = time.monotonic()
    client.startService()
    await client.whenKnown()
    known = time.monotonic() - began
    while len(client.providers) < int(count):
        await task.deferLater(reactor, 0.01)
    listed = time.monotonic() - began
    await task.deferLater(reactor, 1)
    show(known=known, listed=listed, turn=turns.longest, most=turns.most, sessions=len(client.sessions))
    watching = Watching(registry)
    # What the looks at the reactor's turns cost by themselves.
    cpu, began = time.process_time(), time.monotonic()
    await task.deferLater(reactor, 2)
    idle = (time.process_time() - cpu) / (time.monotonic() - began)
    turns.begin()
    show(up=True)
    ending: defer.Deferred[None] = defer.Deferred()
    reactor.callInThread(lambda: (sys.stdin.readline(), reactor.callFromThread(ending.callback, None)))
    cpu, began = time.process_time(), time.monotonic()
    await ending
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    lags = quantiles("lag", watching.lags or [0.0])
    show(cpu=cpu / took, idle=idle, turn=turns.longest, most=turns.most, changes=watching.changes, **lags)


def picks(client: Client) -> dict[str, float]:
    """Microseconds of a pick by each strategy, the best of five times 2,000."""
    result = {}
    for by in ("roundRobin", "random", "leastPending", "hash"):
        key = {"key": b"a key"} if by == "hash" else {}
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(2000):
                client.pick(by, **key)
            best = min(best, (time.perf_counter() - began) / 2000)
        result[by] = best * 1e6
    return result


async def connect(reactor: Any, text: str, count: str) -> None:
    """Sessions with each of many providers, and what pick() takes."""
    client = Client(quietSession, f"service:{SERVICE}", registry=registryFrom(text))
    began = time.monotonic()
    client.startService()
    await until(reactor, lambda: len(client.sessions) >= int(count), 120)
    took = time.monotonic() - began
    show(seconds=took, **picks(client))


SCENARIOS = {each.__name__: each for each in (join, kill, restart, outage, memory, many, connect)}


def main() -> None:
    """The command line."""
    from getty_tx import reactors

    reactors.install()
    from twisted.internet import reactor

    theReactor: Any = reactor
    scenario: Any = SCENARIOS[sys.argv[1]]

    def begin() -> None:
        # As the commands do.
        freezeHeap()
        running = defer.ensureDeferred(scenario(theReactor, *sys.argv[2:]))
        running.addErrback(lambda failure: (failure.printTraceback(sys.stderr), os._exit(1)))
        running.addCallback(lambda _: (sys.stdout.flush(), os._exit(0)))

    theReactor.callWhenRunning(begin)
    theReactor.run()


if __name__ == "__main__":
    main()
