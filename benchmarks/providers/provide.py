"""
A provider of the service ``calls``: ``python -m benchmarks.providers.provide REGISTRY [manual]``.

It registers, prints ``ready``, and serves until SIGTERM or the end of its standard input. With ``manual`` it registers
on a line ``up ID`` of its standard input, and withdraws on ``down ID``; it prints the time of the system's monotonic
clock before each.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet import defer, stdio
from twisted.protocols.basic import LineReceiver

from getty_tx import rpc
from getty_tx.processes.heap import freezeHeap
from getty_tx.registry import Provider, registryFrom

SERVICE = "calls"


class Work:
    """What is provided."""

    @rpc.method
    def say(self, data: bytes) -> bytes:
        return data


class Commands(LineReceiver):
    """``up`` and ``down``."""

    delimiter = b"\n"

    def __init__(self, reactor: Any, registry: Any, port: int) -> None:
        self._reactor = reactor
        self._registry = registry
        self._port = port
        self._registrations: dict[str, Any] = {}

    def lineReceived(self, line: bytes) -> None:
        command, id = line.decode().split()
        print(time.monotonic(), flush=True)
        if command == "up":
            provider = Provider(SERVICE, f"tcp:127.0.0.1:{self._port}", id)
            self._registrations[id] = self._registry.register(provider)
        else:
            self._registrations.pop(id).withdraw()

    def connectionLost(self, reason: Any = None) -> None:
        if self._reactor.running:
            self._reactor.stop()


async def run(reactor: Any, text: str, manual: bool) -> None:
    """Begin."""
    registry = registryFrom(text)
    more: dict[str, Any] = {} if manual else {"registry": registry, "service": SERVICE, "registerRequired": True}
    server = rpc.Server("tcp:0:interface=127.0.0.1", {"Work": Work()}, wire=rpc.TTHeader("bytes"), **more)
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    server.startService()
    [address] = await server.whenListening()
    if manual:
        registry.startService()
        reactor.addSystemEventTrigger("before", "shutdown", registry.stopService)
    stdio.StandardIO(Commands(reactor, registry, address.port))
    print("ready", flush=True)


def main() -> None:
    """The command line."""
    from getty_tx import reactors

    reactors.install()
    from twisted.internet import reactor

    theReactor: Any = reactor

    def begin() -> None:
        # As the commands do.
        freezeHeap()
        starting = defer.ensureDeferred(run(theReactor, sys.argv[1], "manual" in sys.argv))
        starting.addErrback(lambda failure: (failure.printTraceback(sys.stderr), theReactor.stop()))

    theReactor.callWhenRunning(begin)
    theReactor.run()


if __name__ == "__main__":
    main()
