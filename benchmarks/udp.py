"""Measure UDP: echo beside bare Twisted, and sending on a connected socket beside an unconnected one.

    python -m benchmarks.udp            (make bench without ARGS does so, too)
    python -m benchmarks.udp --repetitions 3 --seconds 0.5
    python -m benchmarks.udp --server 'mine=python my_server.py {port}'

Echo: 50 sockets keep one datagram of 512 bytes in flight each, a 4-byte little-endian length among them, so that a
server may have a codec; a lost one is sent again after 50 ms. The load is Python
and may be slower than the servers: compare the CPU time per message. Sending: one datagram of 512 bytes after another
to a socket that nobody reads, by way of a session, with the kernel's part in it.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.servers import ServerError, ServerProcess, pinLoad

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE = 512
SOCKETS = 50

BARE = """\
from twisted.internet import protocol, reactor
class Echo(protocol.DatagramProtocol):
    def datagramReceived(self, data, addr): self.transport.write(data, addr)
reactor.listenUDP({port}, Echo(), interface='127.0.0.1', maxPacketSize=65536)
reactor.run()
"""

LISTEN = "udp:{port}:interface=127.0.0.1"
SERVERS = {
    "twisted": f'python -c "{BARE}"',
    "getty_tx": f"twistd -n --pidfile= getty-echo --codec raw --listen {LISTEN}",
    "peer": f"twistd -n --pidfile= getty-echo --codec raw --listen {LISTEN}:sessions=peer",
    "getty_fast": f"twistd -n --pidfile= --reactor getty getty-echo --codec raw --listen {LISTEN}",
}


def framed(payload: bytes) -> bytes:
    """The payload behind its length."""
    return len(payload).to_bytes(4, "little") + payload


class DatagramServer(ServerProcess):
    """A server that listens when it answers."""

    def _waitListening(self) -> None:
        deadline = time.monotonic() + 20
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", self.port))
            probe.settimeout(0.1)
            while time.monotonic() < deadline:
                self.checkAlive()
                try:
                    probe.send(framed(b"there?"))
                    probe.recv(100)
                    return
                except OSError:
                    time.sleep(0.05)
        raise ServerError(f"{self.command} does not answer")


def echo(port: int, seconds: float, sockets: int = SOCKETS) -> int:
    """Keep the server busy; returns how many datagrams came back as they were sent."""
    poll = select.epoll()
    data = framed((bytes(range(256)) * (SIZE // 256))[: SIZE - 4])
    handles = {}
    for _ in range(sockets):
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handle.connect(("127.0.0.1", port))
        handle.setblocking(False)
        handle.send(data)
        poll.register(handle, select.EPOLLIN)
        handles[handle.fileno()] = handle
    count = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        ready = poll.poll(0.05)
        for descriptor, _ in ready:
            if handles[descriptor].recv(65536) != data:
                raise SystemExit("the echo differs from what was sent")
            handles[descriptor].send(data)
        count += len(ready)
        if not ready:
            for handle in handles.values():
                handle.send(data)
    for handle in handles.values():
        handle.close()
    poll.close()
    return count


def measureEcho(
    servers: Mapping[str, str], repetitions: int, seconds: float, sockets: int = SOCKETS
) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the servers in turn: the best rate of each, and the lowest CPU time for a message in microseconds."""
    best = dict.fromkeys(servers, 0.0)
    cpu = dict.fromkeys(servers, float("inf"))
    for _ in range(repetitions):
        for name, command in servers.items():
            with DatagramServer(command) as server:
                echo(server.port, 0.3, sockets)
                before = server.cpuSeconds()
                count = echo(server.port, seconds, sockets)
                cpu[name] = min(cpu[name], (server.cpuSeconds() - before) / max(count, 1) * 1e6)
                best[name] = max(best[name], count / seconds)
    return best, cpu


def compareEcho(servers: Mapping[str, str], repetitions: int, seconds: float) -> None:
    """Print a table of the servers."""
    best, cpu = measureEcho(servers, repetitions, seconds)
    print(f"echo of {SIZE} bytes, {SOCKETS} sockets, best of {repetitions}")
    print(f"  {'server':<12}{'best/s':>10}{'ratio':>7}{'CPU us/msg':>12}{'ratio':>7}")
    for name in servers:
        ratio, cpuRatio = best[name] / best["twisted"], cpu["twisted"] / (cpu[name] or 1)
        print(f"  {name:<12}{best[name]:>10.0f}{ratio:>7.2f}{cpu[name]:>12.2f}{cpuRatio:>7.2f}")


def compareSending(repetitions: int, seconds: float) -> None:
    """Print how many datagrams a session sends in a second, by the kind of its socket."""
    from twisted.internet import reactor

    from getty_tx import SessionDatagramProtocol, UDPContext
    from getty_tx.codecs import RawCodec

    def newSession(session: Any) -> None:
        session.codec = RawCodec()

    class Connected(SessionDatagramProtocol):
        def startProtocol(self) -> None:
            transport: Any = self.transport
            transport.connect(*sink.getsockname())
            super().startProtocol()

    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind(("127.0.0.1", 0))
    ports: Any = reactor
    rates: dict[str, float] = {}
    data = bytes(SIZE)
    for _ in range(repetitions):
        for name, kind in (("unconnected", SessionDatagramProtocol), ("connected", Connected)):
            protocol = kind(newSession)
            ports.listenUDP(0, protocol, interface="127.0.0.1")
            session: Any = protocol.session
            pkg: Any = data if name == "connected" else UDPContext(data, sink.getsockname())
            count = 0
            began = time.perf_counter()
            while (now := time.perf_counter()) < began + seconds:
                for _ in range(200):
                    session.writePkg(pkg)
                count += 200
            rates[name] = max(rates.get(name, 0.0), count / (now - began))
            session.close()
            ports.runUntilCurrent()
    sink.close()
    print(f"\nsending {SIZE} bytes with writePkg, best of {repetitions}\n  {'socket':<12}{'best/s':>10}{'ratio':>7}")
    for name, rate in rates.items():
        print(f"  {name:<12}{rate:>10.0f}{rate / rates['unconnected']:>7.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.udp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one run (default: %(default)s)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND", help="one more; repeatable")
    options = parser.parse_args()
    pinLoad()
    try:
        servers = SERVERS | dict(each.split("=", 1) for each in options.server)
        compareEcho(servers, options.repetitions, options.seconds)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    compareSending(options.repetitions, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
