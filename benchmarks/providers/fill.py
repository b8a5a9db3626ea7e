"""
Thousands of providers: ``python -m benchmarks.providers.fill REGISTRY COUNT PORT``.

All have the endpoint ``tcp:127.0.0.1:PORT``. It prints ``ready`` when all are registered. On a line
``change RATE SECONDS`` it changes RATE of them a second, each with the time of the system's monotonic clock in its
``meta``, and prints ``changed`` with how many there were.

It stands for thousands of processes that write seldom. In etcd each change is a request of its own, as theirs are, but
none of a registry's: one process could not make a thousand of those in a second.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from typing import Any

from twisted.internet import defer, endpoints, protocol, stdio, task
from twisted.protocols.basic import LineReceiver

from benchmarks.providers.provide import SERVICE
from getty_tx.registry import Provider, registryFrom
from getty_tx.registry.etcd.ranges import Place, encode64
from getty_tx.registry.provider import encodeRecord

#: Registrations that wait for the store at a time.
AT_ONCE = 200

#: Connections to etcd, and records of a request while they are filled in: it takes 128 at most.
CONNECTIONS, IN_ONE = 32, 100

#: Changes are made so often a second, some at a time.
TICKS = 100


class Registered:
    """Providers of a registry of this process."""

    def __init__(self, text: str) -> None:
        self._registry = registryFrom(text)
        self._registrations: list[Any] = []

    async def fill(self, providers: list[Provider]) -> None:
        """Register all."""
        self._registry.startService()
        for begin in range(0, len(providers), AT_ONCE):
            some = [self._registry.register(each) for each in providers[begin : begin + AT_ONCE]]
            await defer.gatherResults([each.whenRegistered() for each in some])
            self._registrations += some

    def change(self, number: int, meta: dict[str, Any]) -> None:
        """Change one."""
        self._registrations[number].update(meta=meta)


class Requests(protocol.Protocol):
    """A connection to etcd. Requests that wait are shared by all of them."""

    def __init__(self, waiting: deque[tuple[bytes, Any]]) -> None:
        self._waiting = waiting
        self._done: Any = None
        self._answer = b""

    def next(self) -> None:
        """Send one, unless one is under way."""
        if self._done is None and self._waiting:
            request, self._done = self._waiting.popleft()
            assert self.transport is not None
            self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        head, _, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().rpartition(b"content-length: ")[2].partition(b"\r")[0]
        # A long one comes in chunks.
        if not (len(body) >= int(length) if length.isdigit() else body.endswith(b"\r\n0\r\n\r\n")):
            return
        assert head.startswith(b"HTTP/1.1 200"), self._answer
        done, self._done, self._answer = self._done, None, b""
        done.callback(None)
        self.next()


class Put:
    """Records that are written into etcd as they are, on no lease."""

    def __init__(self, text: str) -> None:
        _, self._host, self._port, *_ = text.split(":")
        self._waiting: deque[tuple[bytes, Any]] = deque()
        self._connections: list[Any] = []
        self._providers: list[Provider] = []

    def _ask(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        head = f"POST /v3/{path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(data)}\r\n\r\n"
        done: Any = defer.Deferred()
        self._waiting.append((head.encode() + data, done))
        for each in self._connections:
            each.next()
        return done

    @staticmethod
    def _put(provider: Provider) -> dict[str, str]:
        key = Place.key("/getty", provider.service, provider.id)
        return {"key": encode64(key), "value": encode64(encodeRecord(provider))}

    async def fill(self, providers: list[Provider]) -> None:
        """Write all."""
        from twisted.internet import reactor

        self._providers = providers
        for _ in range(CONNECTIONS):
            endpoint = endpoints.HostnameEndpoint(reactor, self._host, int(self._port))
            connecting: Any = endpoints.connectProtocol(endpoint, Requests(self._waiting))
            self._connections.append(await connecting)
        for begin in range(0, len(providers), IN_ONE):
            some = [{"request_put": self._put(each)} for each in providers[begin : begin + IN_ONE]]
            await self._ask("kv/txn", {"success": some})

    def change(self, number: int, meta: dict[str, Any]) -> None:
        """Change one."""
        self._ask("kv/put", self._put(self._providers[number].but(meta=meta)))


class Commands(LineReceiver):
    """``change``."""

    delimiter = b"\n"

    def __init__(self, records: Any, count: int) -> None:
        self._records = records
        self._count = count
        self._changed = 0

    def lineReceived(self, line: bytes) -> None:
        _, rate, seconds = line.decode().split()
        each = max(round(int(rate) / TICKS), 1)
        changing = task.LoopingCall.withCount(lambda ticks: self._change(each * ticks))
        changing.start(each / int(rate))
        from twisted.internet import reactor

        def end() -> None:
            changing.stop()
            print("changed", self._changed, flush=True)

        reactor.callLater(float(seconds), end)  # type: ignore[attr-defined]

    def _change(self, count: int) -> None:
        self._changed += count
        for number in random.sample(range(self._count), count):
            self._records.change(number, {"at": time.monotonic()})


async def run(text: str, count: int, port: int) -> None:
    """Register all."""
    records = Put(text) if text.startswith("etcd:") else Registered(text)
    endpoint = f"tcp:127.0.0.1:{port}"
    await records.fill([Provider(SERVICE, endpoint, f"provider-{number:05}") for number in range(count)])
    stdio.StandardIO(Commands(records, count))
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
