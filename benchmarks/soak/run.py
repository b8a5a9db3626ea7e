"""One run of the soak: acts are begun one after the other, memory is sampled, and at the end all is looked at."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from benchmarks.acceptance.harness import newCertificate
from benchmarks.soak import checks, plan, pools, raw
from benchmarks.soak.findings import Findings, LogWatch, Tally, aliveSessions, descriptors, residentMemory
from benchmarks.soak.process import Places, ServerProcess
from benchmarks.soak.world import PATIENCE, World, within

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.soak.plan import Act

__all__ = ["LIMIT", "Soak"]

MB = checks.MB

#: Seconds between two acts at the least, and how many there are at a time: of sockets in threads, and of others.
PERIOD = 0.02
MOST_THREADS = 10
MOST_POOLS = 20

#: Seconds between two samples of the memory, and between two lines of progress.
SAMPLE = 0.5
PROGRESS = 10.0

#: Seconds that the acts may go on after the time is over, and that the server may take to let go of all.
LAST_ACTS = 120.0
SETTLING = 40.0

#: Seconds beyond its time after which a run is ended, whatever it does.
LIMIT = 400


@dataclass(frozen=True)
class Options:
    """
    What a run is told, beside its seed.

    :ivar seconds: how long acts are begun.
    :ivar workers: threads that the servers' messages are delivered in; 0: on the reactor.
    :ivar patience: seconds that anything may take that should come at once.
    :ivar kinds: of the acts; those of all, if empty.
    :ivar fault: how the server spoils an answer now and then, to see that it is found.
    """

    seconds: float
    workers: int = 4
    patience: float = PATIENCE
    kinds: tuple[str, ...] = ()
    fault: str = ""


class Soak:
    """
    One run.

    :param folder: for unix sockets.

    :ivar findings: what went wrong.
    """

    def __init__(self, reactor: Any, seed: int, folder: Path, options: Options) -> None:
        self.reactor = reactor
        self.findings = Findings()
        self.watch = LogWatch(self.findings)
        self.tally = Tally()
        self.folder = folder
        self.options = options
        self.seed = seed
        self.memories = [checks.Memory("server"), checks.Memory("clients")]
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.world: World | None = None
        self._begun = time.monotonic()
        self._running: dict[Act, Deferred[None]] = {}
        self._threads = ThreadPool(MOST_THREADS, MOST_THREADS, "raw")
        self._room: Deferred[None] | None = None

    def start(self) -> Deferred[None]:
        """Begin; fires when all is over, and what went wrong is in the findings."""
        return Deferred.fromCoroutine(self._run())

    def abandon(self) -> None:
        """Nothing of it may be left, now."""
        if self.world is not None:
            self.world.patience = 0.0
            for process in (self.world.steadyProcess, self.world.victimProcess):
                process.killNow()
        if self._threads.started and not self._threads.joined:
            self._threads.stop()

    async def _run(self) -> None:
        self.watch.begin()
        before = self._own()
        self._threads.start()
        try:
            with newCertificate() as certificate:
                await self._surrounded(certificate.chain, certificate.key)
        except Exception as error:
            self.findings.add("broken off", _traceback(error))
        finally:
            self.abandon()
        # What the last connections leave ends in a later turn.
        for _ in range(50):
            await self._sleep(0.1)
            if not checks.leftovers(before, self._own()):
                break
        own = self._own()
        for text in checks.leftovers(before, own):
            self.findings.add("left", f"by the clients: {text}")

    def _own(self) -> dict[str, Any]:
        """As a server's report."""
        return {
            "descriptors": descriptors(),
            "calls": len(self.reactor.getDelayedCalls()),
            "alive": aliveSessions(),
        }

    async def _surrounded(self, chain: Path, key: Path) -> None:
        """The servers run while the acts do."""
        self.world = world = World(self.reactor, self.seed, self.findings, self.tally, chain, self.options.patience)
        world.serverOptions = {
            "certificate": str(chain),
            "key": str(key),
            "workers": self.options.workers,
            "fault": self.options.fault,
            "seed": self.seed,
            "limit": int(self.options.seconds) + LIMIT,
        }
        world.steady, world.victim = Places(self.folder, "steady"), Places(self.folder, "victim")
        world.steadyProcess, world.victimProcess = (
            ServerProcess(self.reactor, world.serverOptions, places, self.findings)
            for places in (world.steady, world.victim)
        )
        world.standing = pools.StandingPools(world)
        try:
            await world.steadyProcess.start()
            await world.victimProcess.start()
            # The first report opens what the process needs for reports.
            await world.steadyProcess.report()
            before = await world.steadyProcess.report()
            world.standing.start()
            await self._act()
            await self._settle(before)
            await self._end()
        finally:
            world.steady.close()
            world.victim.close()

    # The acts

    async def _act(self) -> None:
        """Begin one act after the other, and wait for the last."""
        world = self.world
        assert world is not None
        self._begun = begin = time.monotonic()
        calls = [LoopingCall(self._sample), LoopingCall(self._progress)]
        calls[0].start(SAMPLE).addErrback(lambda failure: self.findings.add("broken off", failure.getTraceback()))
        calls[1].start(PROGRESS, now=False)
        for act in plan.acts(self.seed, self.options.kinds):
            while self._isFull(act):
                self._room = Deferred()
                await self._room
            if time.monotonic() - begin >= self.options.seconds:
                break
            self._begin(act)
            await self._sleep(PERIOD)
        world.over = True
        try:
            await within(world, DeferredList(list(self._running.values())), LAST_ACTS)
        except TimeoutError:
            for act in self._running:
                self.findings.add("hung", f"{act} is not over")
        await world.standing.whole("at the end")
        await world.standing.close()
        for call in calls:
            call.stop()
        self._progress()

    def _isFull(self, act: Act) -> bool:
        threaded = act.kind in raw.ACTS
        running = sum((other.kind in raw.ACTS) == threaded for other in self._running)
        return running >= (MOST_THREADS if threaded else MOST_POOLS)

    def _begin(self, act: Act) -> None:
        self.tally.add(f"act: {act.kind}")
        assert self.world is not None
        running: Deferred[None]
        if act.kind in raw.ACTS:
            running = deferToThreadPool(self.reactor, self._threads, raw.ACTS[act.kind], self.world, act)
        else:
            running = Deferred.fromCoroutine(pools.ACTS[act.kind](self.world, act))
        ended: Deferred[None] = Deferred()
        self._running[act] = ended
        running.addErrback(lambda failure: self.findings.add("act", f"{act}: {_traceback(failure.value, failure)}"))

        def end(_: object) -> None:
            del self._running[act]
            ended.callback(None)
            room, self._room = self._room, None
            if room is not None:
                room.callback(None)

        running.addCallback(end)

    def _sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds)

    # What is looked at meanwhile

    def _sample(self) -> None:
        assert self.world is not None
        for memory, pid in zip(self.memories, (self.world.steadyProcess.pid, os.getpid()), strict=True):
            try:
                memory.samples.append(residentMemory(pid))
            except (OSError, IndexError):
                # A server that has died is a finding already.
                continue

    def _progress(self) -> None:
        counts = self.tally.counts
        connections = counts["sessions"] + counts["raw connections"]
        kinds = ", ".join(f"{kind} {counts[f'act: {kind}']}" for kind in plan.ACTS)
        memory = ", ".join(f"{each.name} {each.samples[-1] / MB:.0f} MB" for each in self.memories if each.samples)
        wrong = sum(self.findings.counts.values())
        numbers = f"{connections} connections, {counts['messages']} messages"
        print(f"{time.monotonic() - self._begun:5.0f} s: {numbers}; {kinds}; {memory}; {wrong} findings", flush=True)

    # The end

    async def _settle(self, before: dict[str, Any]) -> None:
        """The server lets go of everything."""
        assert self.world is not None
        process = self.world.steadyProcess
        late = time.monotonic() + SETTLING
        while True:
            after = await process.report()
            if checks.isSettled(before, after) or time.monotonic() > late:
                break
            await self._sleep(0.5)
        for text in checks.leftovers(before, after):
            self.findings.add("left", f"by the server: {text}")
        for text in after["which"][:3] if after["sessions"] > before["sessions"] else ():
            self.findings.texts.append(f"a session of the server: {text}")
        if after["opened"] - after["closed"] > after["sessions"] - before["sessions"]:
            self.findings.add("events", f"{after['opened']} onOpen and {after['closed']} onClose at the server")

    async def _end(self) -> None:
        """The server is stopped while sessions are open, and ends in order."""
        world = self.world
        assert world is not None
        talkers: list[Any] = []
        names = ("tcp", "unix", "tls", "ws", "wss")
        idle = [pools.newPool(world, pools.endpoint(world, name), 2, talkers) for name in names]
        for client in idle:
            client.startService()
        for client in idle:
            await client.whenReady(2, world.patience)
        stopping = [Deferred.fromCoroutine(each.stop()) for each in (world.steadyProcess, world.victimProcess)]
        for name, waiting, process in zip(
            ("server", "victim"), stopping, (world.steadyProcess, world.victimProcess), strict=True
        ):
            status = await waiting
            if status:
                self.findings.add("stop", f"the {name} was told to stop and ended with status {status}")
            self._judge(name, process.last)
        for client in idle:
            await client.close()

    def _judge(self, name: str, report: dict[str, Any]) -> None:
        self.findings.take(report)
        for what in (*checks.LEFT, "alive"):
            if report[what]:
                self.findings.add("left", f"{report[what]} {what} when the {name} had stopped")
        self.reports.append((name, report))

    def summary(self) -> bool:
        """Print it; :return: whether all held."""
        for memory in self.memories:
            print(memory)
            if problem := memory.problem():
                self.findings.add("memory", problem)
        counts = self.tally.counts
        groups: dict[str, list[str]] = {}
        for name, count in sorted(counts.items()):
            group, _, item = name.rpartition(": ")
            groups.setdefault(group or "all", []).append(f"{item} {count}")
        for group, items in groups.items():
            print(f"{group}: {', '.join(items)}")
        for name, report in self.reports:
            print(
                f"{name}: {report['opened']} sessions, {report['messages']} messages, {report['refused']} refused, "
                f"{report['planned']} planned failures; errors {report['errors']}; warnings {report['warnings']}"
            )
        print(f"clients: {self.watch.planned} planned failures; warnings {dict(self.watch.warnings)}")
        wrong = self.findings
        for text in wrong.texts:
            print(text)
        if wrong.counts:
            print(f"FAILED: {', '.join(f'{count} {kind}' for kind, count in wrong.counts.items())}; seed {self.seed}")
        else:
            print(f"all held; seed {self.seed}")
        return not wrong.counts


def _traceback(error: BaseException | None, failure: Failure | None = None) -> str:
    """The traceback of what really failed, where several were waited for."""
    if isinstance(error, FirstError):
        return str(error.subFailure.getTraceback())
    return str((failure or Failure(error)).getTraceback())
