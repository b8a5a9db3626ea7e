"""Measure the worker models: what they cost, and what handlers that sleep or compute do to the others.

    python -m benchmarks.workers            (make bench without ARGS does so, too)
    python -m benchmarks.workers --repetitions 3 --seconds 0.5
    python -m benchmarks.workers --free

The server echoes from onMessage with 4 workers, or none. `50x16` is the rate of 50 connections with 16 messages in
flight each; its ratio is to the server without workers. `49x1` is the rate of 49 connections with one message each,
alone; the other columns are the same beside sessions whose handler sleeps 5 ms for each message, or computes 50 ms, as
a part of that. Every figure is the best of the repetitions, each a run of its own. The server has one core, as in all
these measurements; with --free it may use all, as it does elsewhere. There a handler that computes takes far more.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.loads import LoadError, Scenario, runLoad
from benchmarks.servers import ServerError, ServerProcess, cores
from getty_tx import EventListener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx import Session

SERVE = (
    "twistd -n --pidfile= getty-serve --codec length:order=little --listener benchmarks.workers:Handler"
    " --listen tcp:{port}:interface=127.0.0.1 --workers {workers}"
)

MODELS = {
    "none": "none",
    "keyed": "keyed:4",
    "shared": "shared:4",
    "sharded": "sharded:4:2",
    "unbounded": "unbounded",
}

DEEP = Scenario(50, 16, 915)
OTHERS = Scenario(49, 1, 915)

SLEEP = b"sleep"
COMPUTE = b"compute"

#: Seconds that a handler sleeps, and computes.
SLEEPS = 0.005
COMPUTES = 0.05


class Handler(EventListener):
    """Echoes, after having slept or computed if the package says so."""

    def onMessage(self, session: Session, pkg: bytes) -> None:
        if pkg == SLEEP:
            time.sleep(SLEEPS)
        elif pkg == COMPUTE:
            end = time.perf_counter() + COMPUTES
            while time.perf_counter() < end:
                pass
        session.writePkg(pkg)


@contextmanager
def beside(server: ServerProcess, pkg: bytes, sessions: int) -> Iterator[None]:
    """Have so many sessions ask for this package, one after the other, while the block runs."""
    frame = struct.pack("<I", len(pkg)) + pkg
    handles = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(sessions)]

    def ask(handle: socket.socket) -> None:
        try:
            while True:
                handle.sendall(frame)
                if not handle.recv(100):
                    return
        except OSError:
            return

    threads = [threading.Thread(target=ask, args=(handle,), daemon=True) for handle in handles]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for handle in handles:
            handle.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        for handle in handles:
            handle.close()


@dataclass(frozen=True)
class Runs:
    """How a rate is measured: ``times`` runs of so many seconds each, of which the best counts."""

    times: int
    seconds: float
    isFree: bool = False

    def rate(self, model: str, scenario: Scenario, pkg: bytes = b"", sessions: int = 0) -> float:
        """Messages a second of the load, beside ``sessions`` that ask for ``pkg``."""
        return max(self._once(model, scenario, pkg, sessions) for _ in range(self.times))

    def _once(self, model: str, scenario: Scenario, pkg: bytes, sessions: int) -> float:
        with ServerProcess(SERVE, workers=MODELS[model]) as server:
            if self.isFree:
                # Its threads are not there yet, and will have what it has.
                os.sched_setaffinity(server.pid, cores()[0] | cores()[1])
            with beside(server, pkg, sessions):
                return runLoad(server, scenario, self.seconds).rate


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="of one run (default: %(default)s)")
    parser.add_argument("--free", action="store_true", help="let the server use all cores")
    options = parser.parse_args()
    if options.repetitions < 1 or options.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    print(
        f"  {'workers':<12}{'50x16/s':>10}{'ratio':>7}{'49x1/s':>10}{'1 sleeps':>10}{'8 sleep':>10}{'1 computes':>12}",
        flush=True,
    )
    try:
        runs = Runs(options.repetitions, options.seconds, options.free)
        without = 0.0
        for model in MODELS:
            deep = runs.rate(model, DEEP)
            without = without or deep
            alone = runs.rate(model, OTHERS)
            parts = [
                runs.rate(model, OTHERS, pkg, sessions) / alone
                for pkg, sessions in ((SLEEP, 1), (SLEEP, 8), (COMPUTE, 1))
            ]
            print(
                f"  {model:<12}{deep:>10.0f}{deep / without:>7.2f}{alone:>10.0f}"
                f"{parts[0]:>10.2f}{parts[1]:>10.2f}{parts[2]:>12.3f}",
                flush=True,
            )
    except (ServerError, LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
