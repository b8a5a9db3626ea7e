"""
An hour of ten changes a second among many providers, and what it leaves: ``python -m benchmarks.providers.hour``.

A folder has COUNT providers, all of one echo server; a client has a session with each. Every change is one of four, by
turns: a provider's ``meta``, one that says that it leaves, and has left, one that comes. Ten times it prints the
microseconds of ``pick()``, the resident memory of the client in MB, and its objects; at the end it fails if memory or
objects have grown by more than a tenth since the first.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

from twisted.internet import defer, task

from benchmarks.providers.follow import picks, quietSession, until
from benchmarks.providers.provide import SERVICE
from benchmarks.servers import ROOT, ServerProcess
from getty_tx import Client
from getty_tx.registry import Provider, registryFrom

#: Looks, and how much more there may be at the last than at the first.
LOOKS, LIMIT = 10, 1.1


async def change(reactor: Any, text: str, count: int, port: int, rate: float) -> None:
    """Register providers, then change them until the process is ended."""
    registry = registryFrom(text)
    registry.startService()
    endpoint = f"tcp:127.0.0.1:{port}"
    registrations: list[Any] = []
    for begin in range(0, count, 200):
        some = [registry.register(Provider(SERVICE, endpoint, f"provider-{begin + n:05}")) for n in range(200)]
        await defer.gatherResults([each.whenRegistered() for each in some])
        registrations += some
    print("ready", flush=True)
    number = count
    while True:
        await task.deferLater(reactor, 1 / rate)
        registrations[random.randrange(len(registrations))].update(meta={"at": time.monotonic()})
        await task.deferLater(reactor, 1 / rate)
        leaver = registrations.pop(random.randrange(len(registrations)))
        leaver.update(state="leaving")
        await task.deferLater(reactor, 1 / rate)
        await leaver.withdraw()
        await task.deferLater(reactor, 1 / rate)
        number += 1
        registrations.append(registry.register(Provider(SERVICE, endpoint, f"provider-{number:05}")))


def look(client: Any) -> tuple[float, int]:
    """Resident memory in MB, and objects of Python."""
    gc.collect()
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    objects = len(gc.get_objects())
    times = ", ".join(f"{by} {value:.2f}" for by, value in picks(client).items())
    sessions, known = len(client.sessions), len(client.providers)
    print(f"{memory:.1f} MB, {objects} objects, {sessions} sessions, {known} providers; us: {times}", flush=True)
    return memory, objects


async def follow(reactor: Any, text: str, count: int, seconds: float) -> None:
    """Follow and look."""
    client = Client(quietSession, f"service:{SERVICE}", registry=registryFrom(text))
    client.startService()
    await until(reactor, lambda: len(client.sessions) >= count * 0.999, 300)
    # What begins with the first changes is not what grows.
    await task.deferLater(reactor, seconds / LOOKS / 2)
    first = look(client)
    for _ in range(LOOKS - 1):
        await task.deferLater(reactor, seconds / (LOOKS - 0.5))
        last = look(client)
    grown = [after / before for before, after in zip(first, last, strict=True)]
    print(f"grown: memory {grown[0]:.3f}, objects {grown[1]:.3f} (limit {LIMIT})", flush=True)
    os._exit(max(grown) > LIMIT)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--count", type=int, default=10_000, help="providers, a multiple of 200")
    parser.add_argument("--rate", type=float, default=10, help="changes a second")
    parser.add_argument("--part", help="for its own processes")
    options = parser.parse_args()
    if options.part is not None:
        return _run(options)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("twistd -n --pidfile= getty-echo --codec line --listen tcp:{port}:interface=127.0.0.1") as echo,
    ):
        words = [sys.executable, "-m", "benchmarks.providers.hour", "--count", str(options.count)]
        changing = [*words, "--rate", str(options.rate), "--part", f"change {echo.port} dir:{folder}"]
        changer = subprocess.Popen(changing, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert changer.stdout is not None
            if changer.stdout.readline() != "ready\n":
                return 1
            following = [*words, "--seconds", str(options.seconds), "--part", f"follow 0 dir:{folder}"]
            return subprocess.run(following, cwd=ROOT, timeout=options.seconds + 600, check=False).returncode
        finally:
            changer.kill()
            changer.wait()


def _run(options: Any) -> int:
    from getty_tx import reactors

    reactors.install()
    from twisted.internet import reactor

    theReactor: Any = reactor
    name, port, text = options.part.split(" ")

    def begin() -> None:
        if name == "change":
            running = change(theReactor, text, options.count, int(port), options.rate)
        else:
            running = follow(theReactor, text, options.count, options.seconds)
        started = defer.ensureDeferred(running)
        started.addErrback(lambda failure: (failure.printTraceback(sys.stderr), os._exit(1)))

    theReactor.callWhenRunning(begin)
    theReactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
