"""
A real Redis for tests, as a child process with a unix socket in a directory of its own.

::

    server = RedisServer()
    server.start()              # returns when it answers
    RedisEngine(server.endpoint)
    server.call("PUBSUB", "NUMSUB", "a")    # another client
    server.kill(); server.start()           # the same socket, and no data
    server.signal(signal.SIGSTOP)
    server.remove()

It starts within some 20 ms. Where it is missing, or the environment has ``GETTY_NO_ENGINES``, tests skip.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol

if TYPE_CHECKING:
    import signal

__all__ = ["SKIP", "Listening", "RedisServer", "Relay"]

reactor: Any = _reactor

#: Why tests with Redis are skipped; None: they are not.
SKIP = (
    "GETTY_NO_ENGINES is set"
    if os.environ.get("GETTY_NO_ENGINES")
    else None
    if shutil.which("redis-server")
    else "redis-server is missing (Debian: redis-server)"
)

#: Seconds that it may take to start.
START_TIME = 10.0


class RedisServer:
    """
    One server, without a file of its data.

    :param more: more arguments.
    :ivar path: of its socket; the same after :py:meth:`start` once more.
    """

    def __init__(self, *more: str) -> None:
        self._more = more
        self._directory = tempfile.mkdtemp(prefix="redis-")
        self.path = os.path.join(self._directory, "s")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """How it is dialed."""
        return f"unix:{self.path}"

    def start(self) -> None:
        """Start it; returns when it answers."""
        args = ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*args, "--dir", self._directory, *self._more], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + START_TIME
        while True:
            try:
                # Also one that still reads its data has started.
                self.call("HELLO", "3")
                return
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise AssertionError("redis-server does not start") from None
                time.sleep(0.005)

    def call(self, *parts: Any) -> Any:
        """Ask it as another client would, and wait for the answer."""
        import hiredis

        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(START_TIME)
            sock.connect(self.path)
            sock.sendall(hiredis.pack_command(parts))
            reader = hiredis.Reader()
            while (reply := reader.gets()) is False:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionResetError("it has closed the connection")
                reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def cut(self, *names: str) -> None:
        """Cut connections: those with these names, or all but the asking one."""
        for line in self.call("CLIENT", "LIST").decode().splitlines():
            fields = dict(each.split("=", 1) for each in line.split(" "))
            if fields["cmd"] != "client|list" and (not names or fields["name"] in names):
                self.call("CLIENT", "KILL", "ID", fields["id"])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Kill it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class Relay:
    """
    A way to a server that loses bytes in both directions, without an end of the connection: a pulled cable.

    :ivar isDead: it swallows what comes, and lets nobody in.
    :ivar isSlow: it reads nothing from the server.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.isDead = False
        self._ways: list[_Way] = []
        self._dead: list[_Way] = []
        self._listening: Any = None

    @property
    def endpoint(self) -> str:
        """How it is dialed."""
        return f"tcp:127.0.0.1:{self._listening.getHost().port}"

    def start(self) -> None:
        """Listen."""
        factory = Factory.forProtocol(_Way)
        factory.relay = self  # type: ignore[attr-defined]
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")

    def stopReading(self) -> None:
        """Let the server's output pile up, on the connections that are there now."""
        for each in self._ways:
            each.there.transport.pauseProducing()

    def startReading(self) -> None:
        """Read again."""
        for each in self._ways:
            each.there.transport.resumeProducing()

    def die(self) -> None:
        """Swallow all from now on."""
        self.isDead = True

    def heal(self) -> None:
        """Let new connections pass. Those that were there stay dead."""
        self.isDead = False
        for each in self._ways:
            each.isDead = True

    def dropDead(self) -> None:
        """Let the server find that the other end is gone, of those that were given up while the way was dead."""
        dead, self._dead = self._dead, []
        for each in dead:
            each.there.transport.abortConnection()

    async def stop(self) -> None:
        """End it."""
        self.dropDead()
        for each in list(self._ways):
            each.transport.abortConnection()
        await self._listening.stopListening()

    def opened(self, way: _Way) -> None:
        """There is one more connection."""
        self._ways.append(way)

    def closed(self, way: _Way) -> None:
        """There is one less: the server hears of it if the way is not dead."""
        self._ways.remove(way)
        if way.there is not None:
            if way.isDead or self.isDead:
                self._dead.append(way)
            else:
                way.there.transport.abortConnection()


class _Way(Protocol):
    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.relay = self.factory.relay
        self.isDead = False
        self.there: Any = None
        self.kept: list[bytes] = []
        self.relay.opened(self)
        factory = Factory.forProtocol(_There)
        factory.way = self  # type: ignore[attr-defined]
        made: Deferred[Any] = UNIXClientEndpoint(reactor, self.relay.server.path).connect(factory)
        made.addErrback(lambda _: self.transport.abortConnection())

    def dataReceived(self, data: bytes) -> None:
        if self.isDead or self.relay.isDead:
            return
        if self.there is None:
            self.kept.append(data)
        else:
            self.there.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.relay.closed(self)


class _There(Protocol):
    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.way = self.factory.way
        self.way.there = self
        self.transport.writeSequence(self.way.kept)

    def dataReceived(self, data: bytes) -> None:
        if not (self.way.isDead or self.way.relay.isDead):
            self.way.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if not (self.way.isDead or self.way.relay.isDead):
            self.way.transport.abortConnection()


class Listening:
    """An IEngineUser that notes what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.publications: list[Any] = []
        self._waiting: list[tuple[Any, Deferred[None]]] = []

    def publicationArrived(self, name: str, publication: Any) -> None:
        self.publications.append(publication)
        self._say(("arrived", name, publication.pkg))

    def publicationsMissed(self, name: str) -> None:
        self._say(("missed", name))

    def membersChanged(self, name: str, joined: Any, left: Any) -> None:
        self._say(("members", name, sorted(each.key for each in joined), sorted(each.key for each in left)))

    def engineUp(self) -> None:
        self._say("up")

    def engineDown(self, error: BaseException) -> None:
        self.error = error
        self._say("down")

    def count(self, what: Any) -> int:
        """How often it was said."""
        return self.said.count(what)

    def when(self, what: Any, times: int = 1) -> Deferred[None]:
        """Fires when it was said so often."""
        return self.whenTrue(lambda: self.count(what) >= times)

    def whenTrue(self, condition: Any) -> Deferred[None]:
        """Fires when this is true."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._fire()
        return done

    def _say(self, what: Any) -> None:
        self.said.append(what)
        self._fire()

    def _fire(self) -> None:
        for each in list(self._waiting):
            if each[0]():
                self._waiting.remove(each)
                # Not within what the engine is telling.
                reactor.callLater(0, each[1].callback, None)
