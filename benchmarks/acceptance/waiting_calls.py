"""What calls cost while they wait for their replies, and whom slow methods hold up.

Limits: 600 bytes of the client's memory for each of 10,000 calls that wait for a reply of 100 bytes, as tracemalloc has
it, with a time-out each; their loss with the session takes at most 50 ms of its CPU time. The p99 of other calls, one
in flight, beside 50 callers of an async method that takes 10 ms is at most 2 times that alone, on the same session and
on another one of the same client, whose callers take part of its core. The best of several repetitions counts.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.harness import Figure, Target, main
from benchmarks.loads import LoadError, startLoad
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

CALLS = 10_000
BYTES_LIMIT = 600
LOSS_LIMIT = 50.0
SLOW = 50
SLOW_SECONDS = 0.01
P99_LIMIT = 2.0
REPETITIONS = 5
SECONDS = 1.0

PROGRAM = [sys.executable, "-m", "benchmarks.acceptance.waiting_calls"]


def serve(port: int) -> None:
    """Serve until the process is ended."""
    from getty_tx import reactors, rpc

    reactors.install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    class Work:
        @rpc.method
        def say(self, data: bytes) -> bytes:
            return data

        @rpc.method
        async def slow(self, data: bytes) -> bytes:
            await deferLater(reactor, SLOW_SECONDS)  # type: ignore[arg-type]
            return data

        @rpc.method
        def never(self, data: bytes) -> Any:
            return Deferred()

    endpoint, most = f"tcp:{port}:interface=127.0.0.1", 2 * CALLS
    server = rpc.Server(endpoint, {"Work": Work()}, wire=rpc.TTHeader("bytes"), maxCalls=most, maxCallsPerSession=most)
    server.privilegedStartService()
    server.startService()
    reactor.run()  # type: ignore[attr-defined]


def call(port: int, what: str) -> None:
    """
    Make calls, and print what they took as JSON.

    :param what: ``pending``, ``alone``, ``same`` or ``other``.
    """
    from getty_tx import reactors, rpc

    reactors.install()
    from twisted.internet import defer, reactor
    from twisted.internet.task import deferLater

    data = bytes(100)

    def open_() -> rpc.Client:
        client = rpc.Client(f"tcp:127.0.0.1:{port}", wire=rpc.TTHeader("bytes"), timeout=60, reconnectInterval=60)
        client.startService()
        return client

    async def pending(client: rpc.Client) -> dict[str, float]:
        await client.call("Work", "say", data)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(CALLS):
            client.call("Work", "never", data)
        (peer,) = client.context.peers
        await peer.session.drained()
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        errors: list[Any] = []
        for waiting in peer.pending.values():
            waiting.addErrback(errors.append)
        # It may be that their number says something to a collector that runs now.
        gc.collect()
        began = time.process_time()
        peer.session.abort()
        while len(errors) < CALLS:
            await deferLater(reactor, 0)  # type: ignore[arg-type]
        return {"bytes": used / CALLS, "loss": (time.process_time() - began) * 1e3}

    async def trips(client: rpc.Client, other: rpc.Client | None) -> dict[str, float]:
        isOver = False

        async def slow() -> None:
            while not isOver:
                await (other or client).call("Work", "slow", data)

        slows = [] if what == "alone" else [defer.ensureDeferred(slow()) for _ in range(SLOW)]
        found: list[float] = []
        began = time.perf_counter()
        stop = began + 0.3 + SECONDS
        while began < stop:
            assert await client.call("Work", "say", data) == data, "not the reply that was asked for"
            ended = time.perf_counter()
            if ended > stop - SECONDS:
                found.append(ended - began)
            began = ended
        isOver = True
        await defer.gatherResults(slows)
        found.sort()
        return {"p50": found[len(found) // 2] * 1e6, "p99": found[len(found) * 99 // 100] * 1e6}

    async def run() -> None:
        client = open_()
        await client.whenReady()
        other = open_() if what == "other" else None
        print(json.dumps(await (pending(client) if what == "pending" else trips(client, other))), flush=True)

    defer.ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(
        lambda _: reactor.stop()  # type: ignore[attr-defined]
    )
    reactor.run()  # type: ignore[attr-defined]


def result(port: int, what: str) -> dict[str, float]:
    """
    What a client has printed.

    :raise LoadError: it has failed.
    """
    process: subprocess.Popen[str] = startLoad([*PROGRAM, "call", str(port), what])
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    if process.returncode or not output.startswith("{"):
        raise LoadError(errors.strip() or f"a client ended with status {process.returncode}")
    return json.loads(output)  # type: ignore[no-any-return]


def measure(target: Target) -> Iterator[Figure]:
    best: dict[str, dict[str, float]] = {}
    for _ in range(REPETITIONS):
        with ServerProcess(" ".join([*PROGRAM, "serve", "{port}"])) as server:
            for what in ("pending", "alone", "same", "other"):
                found = result(server.port, what)
                before = best.get(what, found)
                best[what] = {name: min(value, before[name]) for name, value in found.items()}
    used, loss = best["pending"]["bytes"], best["pending"]["loss"]
    yield Figure(f"memory of {CALLS} waiting calls", used, BYTES_LIMIT, f"{used:.0f} bytes each")
    yield Figure(f"loss of {CALLS} waiting calls", loss, LOSS_LIMIT, f"{loss:.1f} ms of CPU time")
    alone = best["alone"]
    for what in ("same", "other"):
        ratio = best[what]["p99"] / alone["p99"]
        note = ", ".join(
            f"{name} p50 {best[name]['p50']:.0f} p99 {best[name]['p99']:.0f} us" for name in ("alone", what)
        )
        where = "their session" if what == "same" else "another session"
        yield Figure(f"p99 beside {SLOW} slow methods on {where}", ratio, P99_LIMIT, f"{ratio:.2f} times", note)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["call"]:
        call(int(sys.argv[2]), sys.argv[3])
    else:
        sys.exit(main("waiting_calls", measure, __doc__, seconds=180))
