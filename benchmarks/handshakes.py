"""Measure TLS handshakes, full and resumed: rates, and the CPU time of either end.

    python -m benchmarks.handshakes
    python -m benchmarks.handshakes --number 3000

A client dials ``getty-echo`` again and again, one connection at a time, each with one message. Full: it forgets each
time what the server gave it to be recognized by. Resumed: it dials with one policy, as a pool does that reconnects.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from benchmarks.acceptance.harness import newCertificate
from benchmarks.servers import ServerProcess, pinLoad
from getty_tx.tls import clientPolicy, wrapClient

SERVER = (
    "twistd -n --pidfile= --reactor getty getty-echo --codec raw "
    "--listen ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
)


@implementer(IOpenSSLClientConnectionCreator)
class Forgetful:
    """A policy that remembers nothing."""

    def __init__(self, policy: Any) -> None:
        self.connectionOn = policy.connectionOn
        self.clientConnectionForTLS = policy.clientConnectionForTLS


class Once(Protocol):
    """Sends one message, and closes when it has come back."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"x")  # type: ignore[union-attr]  # it is connected

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def dial(policy: Any, port: int, number: int) -> None:
    """Dial so many times."""
    endpoint = wrapClient(policy, TCP4ClientEndpoint(reactor, "127.0.0.1", port))
    for _ in range(number):
        protocol: Any = await endpoint.connect(Factory.forProtocol(Once))
        await protocol.ended


async def measure(number: int) -> None:
    """Print a line for each kind."""
    with newCertificate() as made, ServerProcess(SERVER, key=str(made.key), certificate=str(made.chain)) as server:
        policy: Any = clientPolicy("127.0.0.1", trustRoot=made.chain)
        for name, used in (("full", Forgetful(policy)), ("resumed", policy)):
            await dial(used, server.port, 50)
            before, served, began = _cpu(), server.cpuSeconds(), time.perf_counter()
            await dial(used, server.port, number)
            took, spent = time.perf_counter() - began, _cpu() - before
            served = server.cpuSeconds() - served
            print(
                f"{name:8} {number / took:7.0f} a second; CPU us: server {served / number * 1e6:.0f}, "
                f"client {spent / number * 1e6:.0f}",
                flush=True,
            )


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=2000, help="handshakes of each kind (%(default)d)")
    options = parser.parse_args()
    pinLoad()

    def run() -> None:
        done = ensureDeferred(measure(options.number))
        done.addErrback(lambda failure: failure.printTraceback())
        done.addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]

    reactor.callWhenRunning(run)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
