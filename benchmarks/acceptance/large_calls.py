"""The wait of small calls beside a caller that asks for 10 MB again and again.

The round trips of calls with 100 bytes, one in flight: alone; beside the large replies on the same session; and beside
those of another process, on a session of its own. Each with replies that go whole, and with replies in slices. Limits:
in slices, the p99 on another session is at most 3 times that alone, and that on the same session at most 0.25 times
that with whole replies. The best of several repetitions of each counts, since noise only slows. The server has one
core, the clients share another one, where the small calls go first. The note has the time of one slice: that of a large
reply that nobody disturbs, divided by its slices.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.harness import MB, Figure, Target, main
from benchmarks.loads import SLACK, LoadError, startLoad
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

OTHER_LIMIT = 3.0
SAME_LIMIT = 0.25
REPETITIONS = 5
SECONDS = 1.0
WARMUP = 0.3

#: What is told of the round trips.
PARTS = ("p50", "p90", "p99")

LARGE = 10 * MB
SMALL = 100

PROGRAM = [sys.executable, "-m", "benchmarks.acceptance.large_calls"]


def wireOf(kind: str) -> Any:
    """The wire of both ends: ``slices``, or ``whole``."""
    from getty_tx import rpc
    from getty_tx.rpc.messages import Feature

    wire = rpc.TTHeader("bytes")
    if kind == "whole":
        # An end that cannot say it sends none.
        wire.features -= {Feature.SLICES}
    return wire


def serve(port: int, kind: str) -> None:
    """Serve until the process is ended."""
    from getty_tx import reactors, rpc

    reactors.install()
    from twisted.internet import reactor

    large = bytes(LARGE)

    class Source:
        @rpc.method
        def give(self, data: bytes) -> bytes:
            return large if data == b"large" else data

    endpoint = f"tcp:{port}:interface=127.0.0.1"
    server = rpc.Server(endpoint, {"Source": Source()}, wire=wireOf(kind), maxMsgLen=2 * LARGE)
    server.privilegedStartService()
    server.startService()
    reactor.run()  # type: ignore[attr-defined]


def call(port: int, kind: str, what: str, seconds: float) -> None:
    """
    Make calls over one session, and print what they took as JSON.

    :param what: ``small``, ``large`` or ``both``.
    """
    from getty_tx import reactors, rpc

    reactors.install()
    from twisted.internet import defer, reactor

    client = rpc.Client(f"tcp:127.0.0.1:{port}", wire=wireOf(kind), maxMsgLen=2 * LARGE, timeout=60)
    trips: dict[str, list[float]] = {"small": [], "large": []}

    async def loop(name: str, argument: bytes, stop: float) -> None:
        found = trips[name]
        size = LARGE if name == "large" else len(argument)
        began = time.perf_counter()
        while began < stop:
            reply = await client.call("Source", "give", argument)
            assert len(reply) == size, "not the reply that was asked for"
            ended = time.perf_counter()
            found.append(ended - began)
            began = ended

    async def run() -> None:
        client.startService()
        await client.whenReady()
        await loop("small", bytes(SMALL), time.perf_counter() + WARMUP)
        trips["small"].clear()
        print("measuring", flush=True)
        stop = time.perf_counter() + seconds
        loops = []
        if what != "small":
            loops.append(defer.ensureDeferred(loop("large", b"large", stop)))
        if what != "large":
            loops.append(defer.ensureDeferred(loop("small", bytes(SMALL), stop)))
        await defer.gatherResults(loops, consumeErrors=True)
        print(json.dumps({name: summary(found) for name, found in trips.items() if found}), flush=True)

    defer.ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(
        lambda _: reactor.stop()  # type: ignore[attr-defined]
    )
    reactor.run()  # type: ignore[attr-defined]


def summary(trips: list[float]) -> dict[str, float]:
    """Microseconds."""
    ordered = sorted(trips)
    found = {"best": ordered[0]} | {f"p{part}": ordered[len(ordered) * part // 100] for part in (50, 90, 99)}
    return {name: value * 1e6 for name, value in found.items()}


def result(process: subprocess.Popen[str]) -> dict[str, dict[str, float]]:
    """
    What a client has printed in the end.

    :raise LoadError: it has failed.
    """
    try:
        output, errors = process.communicate(timeout=SECONDS + SLACK)
    finally:
        process.kill()
        process.communicate()
    lines = output.splitlines()
    if process.returncode or len(lines) != 2:
        raise LoadError(errors.strip() or f"a client ended with status {process.returncode}")
    return json.loads(lines[1])  # type: ignore[no-any-return]


@contextmanager
def beside(port: int, kind: str) -> Iterator[None]:
    """Ask for large replies from another process, which gives way on its core, while the block runs."""
    process = startLoad([*PROGRAM, "call", str(port), kind, "large", "60"])
    os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        assert process.stdout is not None
        if "measuring" not in process.stdout.readline():
            raise LoadError("the caller of large replies does not begin")
        yield
    finally:
        process.kill()
        process.communicate()


def once(kind: str) -> dict[str, dict[str, float]]:
    """The small calls by where they are, and the large ones."""
    with ServerProcess(" ".join([*PROGRAM, "serve", "{port}", kind])) as server:
        port = server.port

        def run(what: str) -> dict[str, dict[str, float]]:
            return result(startLoad([*PROGRAM, "call", str(port), kind, what, str(SECONDS)]))

        alone, same, large = run("small")["small"], run("both")["small"], run("large")["large"]
        with beside(port, kind):
            other = run("small")["small"]
    return {"alone": alone, "same": same, "other": other, "large": large}


def measure(target: Target) -> Iterator[Figure]:
    from getty_tx.rpc.slices import SLICE

    found: dict[str, dict[str, dict[str, float]]] = {}
    for _ in range(REPETITIONS):
        for kind in ("whole", "slices"):
            best = found.setdefault(kind, {})
            for place, figures in once(kind).items():
                before = best.get(place, figures)
                best[place] = {name: min(value, before[name]) for name, value in figures.items()}
    whole, slices = found["whole"], found["slices"]

    def told(place: str) -> str:
        kinds = [f"{kind} " + " ".join(f"{part} {found[kind][place][part]:.0f}" for part in PARTS) for kind in found]
        return f"{place} " + ", ".join(kinds)

    ratio = slices["other"]["p99"] / slices["alone"]["p99"]
    note = f"us: {told('alone')}; {told('other')}"
    yield Figure("p99 of small calls beside 10 MB on another session", ratio, OTHER_LIMIT, f"{ratio:.2f} times", note)
    ratio = slices["same"]["p99"] / whole["same"]["p99"]
    slice = slices["large"]["best"] / (LARGE / SLICE)
    note = f"us: {told('same')}; {told('large')}; a slice takes {slice:.0f}"
    yield Figure("p99 of small calls beside 10 MB on their session", ratio, SAME_LIMIT, f"{ratio:.2f} times", note)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["call"]:
        call(int(sys.argv[2]), *sys.argv[3:5], float(sys.argv[5]))
    else:
        sys.exit(main("large_calls", measure, __doc__, seconds=180))
