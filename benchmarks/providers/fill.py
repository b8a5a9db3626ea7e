"""
Thousands of providers: ``python -m benchmarks.providers.fill REGISTRY COUNT PORT``.

All have the endpoint ``tcp:127.0.0.1:PORT``. It prints ``ready`` when all are registered. On a line
``change RATE SECONDS`` it changes RATE of them a second, each with the time of the system's monotonic clock in its
``meta``.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

from twisted.internet import defer, stdio, task
from twisted.protocols.basic import LineReceiver

from benchmarks.providers.provide import SERVICE
from getty_tx.registry import Provider, registryFrom

#: Registrations that wait for the store at a time.
AT_ONCE = 200


class Commands(LineReceiver):
    """``change``."""

    delimiter = b"\n"

    def __init__(self, registrations: list[Any]) -> None:
        self._registrations = registrations

    def lineReceived(self, line: bytes) -> None:
        _, rate, seconds = line.decode().split()
        each = max(round(int(rate) / 100), 1)
        changing = task.LoopingCall(self._change, each)
        changing.start(each / int(rate))
        from twisted.internet import reactor

        def end() -> None:
            changing.stop()
            print("changed", flush=True)

        reactor.callLater(float(seconds), end)  # type: ignore[attr-defined]

    def _change(self, count: int) -> None:
        for registration in random.sample(self._registrations, count):
            registration.update(meta={"at": time.monotonic()})


async def run(text: str, count: int, port: int) -> None:
    """Register all."""
    registry = registryFrom(text)
    registry.startService()
    registrations: list[Any] = []
    for begin in range(0, count, AT_ONCE):
        some = [
            registry.register(Provider(SERVICE, f"tcp:127.0.0.1:{port}", f"provider-{number:05}"))
            for number in range(begin, min(begin + AT_ONCE, count))
        ]
        await defer.gatherResults([each.whenRegistered() for each in some])
        registrations += some
    stdio.StandardIO(Commands(registrations))
    print("ready", flush=True)


def main() -> None:
    """The command line."""
    from twisted.internet import reactor

    theReactor: Any = reactor

    def begin() -> None:
        filling = defer.ensureDeferred(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        filling.addErrback(lambda failure: (failure.printTraceback(sys.stderr), theReactor.stop()))

    theReactor.callWhenRunning(begin)
    theReactor.run()


if __name__ == "__main__":
    main()
