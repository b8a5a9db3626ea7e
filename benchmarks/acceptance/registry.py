"""Registries: how soon a change is known, what a fault of the store costs, and thousands of providers.

For ``dir:``, and for etcd and ZooKeeper where they are installed, with leases and sessions of 2 s: from ``register()``
to the first reply; from the end of the connections of a provider that is killed with -9 until it is not picked, and
until its record is gone; providers
restarted one by one under 1,000 calls a second; the same calls while the store is killed, hangs, and comes back with
its records and without. ``OUTAGE`` in the environment is the seconds of an outage, 20 unless told otherwise. Then
10,000 providers, or as many as ``PROVIDERS``, in the folder and in etcd: the first list, 1,000 changes a second, and
sessions with all of them.

Limits: those of the table in docs/inside/measured.md. Times with sockets are of a machine with nothing else to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from select import select
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.harness import Figure, Target, main
from benchmarks.loads import LoadError
from benchmarks.providers.stores import TTL, DirectoryStore, EtcdStore, available
from benchmarks.servers import ROOT, ServerProcess, cores

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTAGE = float(os.environ.get("OUTAGE", "20"))
PROVIDERS = int(os.environ.get("PROVIDERS", "10000"))

#: Rounds of joining, of kills and of restarts.
JOINS, KILLS, RESTARTS = 200, 20, 6

#: Milliseconds from register() to the first reply, at the 99th percentile.
JOIN_LIMITS = {"dir": 20, "etcd": 50, "zookeeper": 100}
LOST_LIMIT = 10.0

#: Lines of the log in an outage.
LINES_LIMIT = 10

#: Changes a second of many, seconds of them, and what they may take: a share of a core, ms.
CHANGES, CHANGE_SECONDS = 1000, 10
CPU_LIMIT, LAG_LIMIT, TURN_LIMIT = 0.1, 100.0, 10.0
KNOWN_LIMIT, MEMORY_LIMIT, PICK_LIMIT = 1.0, 1536, 2.0
SUBSET = 20


class Follower:
    """A process of benchmarks.providers.follow; it may use both cores, as its providers do."""

    def __init__(self, *words: str) -> None:
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores()[0] | cores()[1])
        try:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.providers.follow", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        finally:
            os.sched_setaffinity(0, allowed)
        self._words = words

    def line(self) -> dict[str, Any]:
        """The next line that it prints. :raise LoadError: it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"follow {' '.join(self._words)} has ended with status {self._process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def followed(*words: str) -> dict[str, Any]:
    """What a scenario without an outage has found."""
    follower = Follower(*words)
    try:
        return follower.line()
    finally:
        follower.end()


def ms(name: str, found: dict[str, Any], what: str, limit: float, note: str = "") -> Figure:
    """A figure of milliseconds."""
    values = [found[f"{what}_{each}"] for each in ("p50", "p99", "max")]
    text = "p50 {:.1f}, p99 {:.1f}, longest {:.1f} ms".format(*values)
    return Figure(name, values[1], limit, text, note)


def worked(found: dict[str, Any]) -> str:
    """A note on the longest turn."""
    return f"{found['most'] * 1e3:.1f} ms of a processor at most; the rest is the machine's"


def outage(store: Any, name: str, faults: Any) -> Iterator[Figure]:
    """Calls during a fault of the store."""
    follower = Follower("outage", store.text)
    try:
        follower.line()
        faults()
        # Time for the records to come back: waits go up to 15 s, and are drawn over 10 s more after an outage.
        time.sleep(30)
        follower.go()
        found = follower.line()
    finally:
        follower.end()
    name = f"{store.name}: {name}"
    note = f"{found['calls']} calls; {found['errors'] or ''}"
    yield Figure(f"{name}: failed calls", found["failed"], 0, str(found["failed"]), note)
    yield Figure(f"{name}: sessions kept", found["kept"], 3, f"{found['kept']} of 3", floor=True)
    yield Figure(f"{name}: records after it", found["records"], 3, f"{found['records']} of 3", floor=True)
    yield Figure(
        f"{name}: lines in the log", found["lines"], LINES_LIMIT, str(found["lines"]), "; ".join(found["texts"][:3])
    )


def faultsOf(store: Any) -> Iterator[Figure]:
    """Killed and back with its records; killed and back without; hanging; leases revoked."""

    def killed() -> None:
        store.kill()
        time.sleep(OUTAGE)
        store.start()

    def wiped() -> None:
        store.kill()
        store.wipe()
        time.sleep(OUTAGE)
        store.start()

    def hangs() -> None:
        store.pause()
        time.sleep(OUTAGE)
        store.resume()

    def revoked() -> None:
        for _ in range(5):
            store.revoke()
            time.sleep(3)

    yield from outage(store, f"away for {OUTAGE:g} s", killed)
    yield from outage(store, f"away for {OUTAGE:g} s, and back without data", wiped)
    yield from outage(store, f"hangs for {OUTAGE:g} s", hangs)
    if isinstance(store, EtcdStore):
        yield from outage(store, "all leases revoked, five times", revoked)


def manyOf(store: Any) -> Iterator[Figure]:
    """Thousands of providers."""
    name = f"{store.name}: {PROVIDERS} providers"
    with ServerProcess("twistd -n --pidfile= getty-echo --codec line --listen tcp:{port}:interface=127.0.0.1") as echo:
        # Thousands of records on one lease take some time to be written.
        text = store.text.replace(f"ttl={TTL}", "ttl=15")
        command = [sys.executable, "-m", "benchmarks.providers.fill", text, str(PROVIDERS), str(echo.port)]
        filler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert filler.stdin is not None and filler.stdout is not None
        try:
            assert select([filler.stdout], [], [], 60)[0], "they could not be registered within 60 s"
            assert filler.stdout.readline() == "ready\n", "they could not be registered"
            memory = followed("memory", store.text, str(PROVIDERS))["memory"]
            yield Figure(f"{name}: memory of each", memory, MEMORY_LIMIT, f"{memory:.0f} bytes")
            follower = Follower("many", store.text, str(PROVIDERS), str(SUBSET))
            try:
                found = follower.line()
                yield Figure(f"{name}: first list", found["known"], KNOWN_LIMIT, f"known after {found['known']:.2f} s")
                turn = found["turn"] * 1e3
                yield Figure(f"{name}: longest turn", turn, TURN_LIMIT, f"{turn:.1f} ms", worked(found))
                follower.line()
                filler.stdin.write(f"change {CHANGES} {CHANGE_SECONDS}\n")
                filler.stdin.flush()
                filler.stdout.readline()
                follower.go()
                found = follower.line()
            finally:
                follower.end()
            name += f", {CHANGES} changes a second"
            done = found["changes"] / CHANGE_SECONDS
            yield Figure(f"{name}: followed", done, CHANGES * 0.9, f"{done:.0f} a second", floor=True)
            cpu = found["cpu"] - found["idle"]
            note = f"besides {found['idle'] * 100:.1f} % without changes, for the looks at its turns"
            yield Figure(f"{name}: CPU", cpu, CPU_LIMIT, f"{cpu * 100:.1f} % of a core", note)
            yield ms(f"{name}: lag", found, "lag", LAG_LIMIT)
            turn = found["turn"] * 1e3
            yield Figure(f"{name}: longest turn", turn, TURN_LIMIT, f"{turn:.1f} ms", worked(found))
            name = f"{store.name}: sessions with {PROVIDERS} providers"
            found = followed("connect", store.text, str(PROVIDERS))
            for by in ("roundRobin", "random", "leastPending", "hash"):
                note = f"all open after {found['seconds']:.1f} s"
                yield Figure(f"{name}: pick by {by}", found[by], PICK_LIMIT, f"{found[by]:.2f} us", note)
        finally:
            filler.kill()
            filler.wait()


def measure(_target: Target) -> Iterator[Figure]:
    for made in available():
        store = made()
        store.start()
        try:
            found = followed("join", store.text, str(JOINS))
            yield ms(f"{store.name}: from register() to the first reply", found, "join", JOIN_LIMITS[store.name])
            found = followed("kill", store.text, str(KILLS))
            note = f"the system took {found['system_p50']:.1f} ms, at p99 {found['system_p99']:.1f}, to end the process"
            yield ms(f"{store.name}: killed until it is not picked", found, "lost", LOST_LIMIT, note)
            yield ms(f"{store.name}: killed until its record is gone", found, "gone", store.goneLimit * 1e3)
            found = followed("restart", store.text, str(RESTARTS))
            note = f"of {found['calls']}; {found['errors'] or ''}"
            yield Figure(f"{store.name}: failed in {RESTARTS} restarts", found["failed"], 0, str(found["failed"]), note)
            if made is not DirectoryStore:
                yield from faultsOf(store)
            if made in (DirectoryStore, EtcdStore):
                yield from manyOf(store)
        finally:
            store.remove()


if __name__ == "__main__":
    sys.exit(main("registry", measure, __doc__, seconds=1500))
