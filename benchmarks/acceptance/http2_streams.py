"""Streams of HTTP/2: a slow reader and its neighbours, very many at once, and drains under load.

Limits: while a client takes 64 KiB of a stream of 1 GB and no more, the slowest of 2,000 other requests on the same
connection takes at most half a second, and the server's memory grows by at most 8 MB. 10,000 open streams over 100
connections all have their answer, and take at most 6,000 bytes each. In 20 drains of all connections, each with
requests on their way, no request is lost: each is answered, or refused by the last number of a GOAWAY frame.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.harness import MB, Figure, NotMeasured, Target, connect, main, watchedMemory
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.http.two.server import ServerConnection

BIG = 1000 * MB
OTHERS = 2000
OTHERS_LIMIT = 0.5
MEMORY_LIMIT = 8 * MB

CONNECTIONS, STREAMS = 100, 100
STREAM_LIMIT = 6000

DRAINS, DRAIN_PAUSE = 20, 0.4
LOADED, LOAD = 10, 20

PROGRAM = f"{sys.executable} -m benchmarks.acceptance.http2_streams {{port}}"


def serve(port: int) -> None:
    """Serve until the process is ended; SIGUSR1 drains the connections that there are."""
    from getty_tx import Server, reactors

    reactors.install()
    from twisted.internet import reactor

    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.server import ServerConnection
    from getty_tx.http.two.stream import Stream

    connections: set[ServerConnection] = set()

    class Served(Stream):
        __slots__ = ("isBig", "isLast")

        def __init__(self, connection: ServerConnection, number: int, headers: Any, isLast: bool) -> None:
            super().__init__(connection, number)
            self.isBig = dict(headers)[b":path"] == b"/big"
            self.isLast = isLast

        def begin(self) -> None:
            if self.isLast:
                self.answer()

        def dataCame(self, data: bytes, isLast: bool) -> None:
            self.take(len(data))
            if isLast:
                self.answer()

        def answer(self) -> None:
            self.connection.engine.headers(self.number, [(b":status", b"200")], False)
            if self.isBig:
                self.more(BIG)
            else:
                self.connection.engine.data(self.number, b"x" * 100, True)
                self.connection.touch()

        def more(self, left: int) -> None:
            while left and not self.hasEnded:
                part = min(left, 32768)
                left -= part
                self.connection.engine.data(self.number, bytes(part), not left)
                if self.mustWait():
                    rest = partial(self.goesOn, left)
                    self.drained().addCallbacks(rest, lambda _: None)
                    return

        def goesOn(self, left: int, _: object) -> None:
            self.more(left)

        def ended(self, error: BaseException | None) -> None:
            server: Any = self.connection
            server.served()

    def newSession(session: Any) -> None:
        connection = ServerConnection(session, Limits(), Served)
        connections.add(connection)
        session.addCloseCallback(lambda: connections.discard(connection), connection)

    def drain(*_: object) -> None:
        for connection in list(connections):
            connection.drain()

    Server(newSession, f"tcp:{port}:interface=127.0.0.1").startService()
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(drain))  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


class Client:
    """A connection of a client that counts, by ngh2 itself."""

    def __init__(self, port: int) -> None:
        try:
            from ngh2 import Configuration, Connection, Role
        except ImportError:
            raise NotMeasured("ngh2 is missing") from None
        self.socket = connect(port)
        self.socket.setblocking(False)
        self.engine = Connection(Role.CLIENT, Configuration(auto_window_update=False))
        self.engine.initiate_connection()
        self.engine.set_local_window_size(4 * MB)
        #: Streams without an answer; those that the server has refused; answers that have come.
        self.open: set[int] = set()
        self.refused = self.answers = 0
        self.goesAway = self.isLost = False

    def ask(self, path: bytes = b"/", isLast: bool = True) -> int:
        """Open a stream."""
        head = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"))
        stream: int = self.engine.send_request(head, end_stream=isLast)
        self.open.add(stream)
        return stream

    def turn(self, seconds: float = 0.0) -> None:
        """Send, wait a while, and take what has come."""
        from ngh2 import events

        try:
            data = self.engine.data_to_send()
            if data:
                self.socket.setblocking(True)
                self.socket.sendall(data)
            self.socket.settimeout(max(seconds, 0.000001))
            came = self.socket.recv(262144)
        except TimeoutError:
            return
        except OSError:
            came = b""
        if not came:
            self.isLost = True
            return
        self.engine.receive_data(came)
        for event in self.engine.events():
            kind = type(event)
            if kind is events.StreamClosed and event.stream_id in self.open:
                self.open.discard(event.stream_id)
                if event.error_code:
                    self.refused += 1
                else:
                    self.answers += 1
            elif kind is events.GoAwayReceived:
                self.goesAway = True

    def wait(self, stream: int) -> float:
        """Seconds until a stream has its answer."""
        began = time.perf_counter()
        while stream in self.open and not self.isLost:
            self.turn(0.5)
        return time.perf_counter() - began


def slowReader(server: ServerProcess) -> Iterator[Figure]:
    """One stream of 1 GB that is not read on, and others beside it."""
    client = Client(server.port)
    client.wait(client.ask())
    with watchedMemory(server) as growth:
        client.ask(b"/big")
        client.turn(0.2)
        slowest = max(client.wait(client.ask()) for _ in range(OTHERS))
    text = f"{client.answers - 1} of {OTHERS} answered"
    slowest = slowest if client.answers > OTHERS else float("inf")
    yield Figure("others beside a slow stream", slowest, OTHERS_LIMIT, f"{slowest * 1e3:.1f} ms", text)
    yield Figure("memory of a slow stream of 1 GB", growth.size, MEMORY_LIMIT, f"{growth.size / MB:.1f} MB")


def manyStreams(server: ServerProcess) -> Iterator[Figure]:
    """Streams that are all open at once."""
    clients = [Client(server.port) for _ in range(CONNECTIONS)]
    for client in clients:
        client.turn(0.05)
    with watchedMemory(server) as growth:
        opened = [(client, client.ask(isLast=False)) for client in clients for _ in range(STREAMS)]
        for client in clients:
            client.turn()
        time.sleep(0.5)
    for client, stream in opened:
        client.engine.send_data(stream, b"", end_stream=True)
    until = time.monotonic() + 15
    while any(client.open for client in clients) and time.monotonic() < until:
        for client in clients:
            client.turn()
    missing = len(opened) - sum(client.answers for client in clients)
    each = growth.size / len(opened)
    yield Figure(f"{len(opened)} streams without an answer", missing, 0, str(missing))
    yield Figure("memory of an open stream", each, STREAM_LIMIT, f"{each:.0f} bytes")


def drains(server: ServerProcess) -> Iterator[Figure]:
    """Clients that go on by a new connection when the server says that the old one ends."""
    clients = [Client(server.port) for _ in range(LOADED)]
    old: list[Client] = []
    lost = asked = drained = 0
    began = time.monotonic()
    while drained < DRAINS:
        if time.monotonic() >= began + (drained + 1) * DRAIN_PAUSE:
            drained += 1
            os.kill(server.pid, signal.SIGUSR1)
        for at, client in enumerate(clients):
            if client.goesAway or client.isLost:
                old.append(client)
                clients[at] = client = Client(server.port)
            while len(client.open) < LOAD and client.engine.can_send_request:
                client.ask()
                asked += 1
            client.turn()
    for client in [*clients, *old]:
        while client.open and not client.isLost:
            client.turn(2.0)
        lost += len(client.open)
    refused = sum(client.refused for client in [*clients, *old])
    note = f"{asked} asked, {refused} refused, {len(old)} connections drained"
    yield Figure("requests lost by drains", lost, 0, str(lost), note)
    short = DRAINS * LOADED - len(old)
    yield Figure("connections that were not drained", short, LOADED, str(short))


def measure(_target: Target) -> Iterator[Figure]:
    """Measure it, each part on a new server: none has memory of the one before to use up."""
    for part in (slowReader, manyStreams, drains):
        with ServerProcess(PROGRAM) as server:
            yield from part(server)
            server.checkAlive()


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].isdigit():
        serve(int(sys.argv[1]))
    else:
        sys.exit(main("http2_streams", measure, __doc__, 60))
