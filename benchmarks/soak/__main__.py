"""Run the soak, and say whether all held; the exit status is 0 if it did.

A progress line comes every ten seconds. Given the seed that is printed, the same acts are begun in the same order, with
the same numbers; how they fall in with one another is up to the machine.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import Any

from benchmarks.soak import plan
from benchmarks.soak.run import LIMIT, Options, Soak

#: What of the server's answers can be spoiled, to see that it is found.
FAULTS = ("drop", "double", "alter", "descriptor", "session", "memory", "log")


def main(arguments: list[str]) -> int:
    """Run it; :return: the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, help="how long acts are begun (%(default)g)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it (at random)")
    parser.add_argument("--workers", type=int, default=4, help="the servers' worker threads (%(default)d; 0: none)")
    parser.add_argument("--patience", type=float, default=60, help="seconds after which something hangs (%(default)g)")
    parser.add_argument("--act", action="append", choices=plan.ACTS, help="acts of this kind alone; may be repeated")
    parser.add_argument("--fault", choices=FAULTS, default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seed = SystemRandom().randrange(1_000_000_000) if options.seed is None else options.seed
    print(f"soak of {options.seconds:g} s, seed {seed}, workers {options.workers}", flush=True)
    # The servers end with their standard input, so that they are gone then, too.
    faulthandler.dump_traceback_later(options.seconds + LIMIT, exit=True)
    with tempfile.TemporaryDirectory() as folder:
        told = Options(options.seconds, options.workers, options.patience, tuple(options.act or ()), options.fault)
        return _run(seed, Path(folder), told)


def _run(seed: int, folder: Path, options: Options) -> int:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    soak = Soak(reactor, seed, folder, options)
    done: list[bool] = []

    def end(_: object) -> None:
        done.append(True)
        reactor.stop()

    reactor.callWhenRunning(lambda: soak.start().addBoth(end))
    # Ctrl-C and SIGTERM end it by the reactor's own handlers.
    reactor.addSystemEventTrigger("before", "shutdown", soak.abandon)
    reactor.run()
    held = soak.summary()
    if not done:
        print("it was stopped before its time")
    return 0 if held and done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
