"""
A real etcd for tests, as a child process with ports and data of its own.

::

    etcd = Etcd(self.mktemp())
    await etcd.start()              # ready when it fires
    EtcdEngine([("127.0.0.1", etcd.port)])
    etcd.call("kv/put", {...})      # a Deferred: another client
    await etcd.kill()               # start() again: the same ports and data; wipe() between them: no data
    etcd.pause(); etcd.resume()     # SIGSTOP, SIGCONT
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

__all__ = ["SKIP", "Cut", "Etcd", "ends", "text64"]

reactor: Any = _reactor

#: Why tests with etcd are skipped; None: they are not.
SKIP = None if shutil.which("etcd") else "etcd is missing (Debian: etcd-server)"

#: Seconds that it may take to start.
START_TIME = 20.0


def text64(text: str) -> str:
    """A text as the gateway has keys and values."""
    return b64encode(text.encode()).decode()


class Etcd(ProcessProtocol):
    """
    One etcd.

    :param directory: of its data.
    :param more: more arguments.
    :param scheme: ``https`` if ``more`` has a certificate, which an ``authority`` (a PEM file) has issued.
    :ivar port: where its clients connect, from the first start on.
    :ivar token: that of the user for :py:meth:`call`, if one is wanted.
    """

    def __init__(self, directory: str, *more: str, scheme: str = "http", authority: str | None = None) -> None:
        self.directory = os.path.abspath(directory)
        self.more = more
        self.scheme = scheme
        self.port = 0
        self.peerPort = 0
        self.log = b""
        self.token: str | None = None
        self._authority = authority
        self._process: Any = None
        self._gone: Deferred[None] | None = None

    async def start(self) -> None:
        """Start it; returns when it answers."""
        if not self.port:
            self.port, self.peerPort = _freePorts(2)
        peer = f"http://127.0.0.1:{self.peerPort}"
        client = f"{self.scheme}://127.0.0.1:{self.port}"
        args = ["etcd", "--name", "test", "--data-dir", self.directory, "--log-outputs", "stderr", "--logger", "zap"]
        args += ["--listen-client-urls", client, "--advertise-client-urls", client]
        args += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        args += ["--initial-cluster", f"test={peer}", *self.more]
        program = shutil.which("etcd") or "etcd"
        self._gone = Deferred()
        self._process = reactor.spawnProcess(self, program, args, env={**os.environ, "GOMAXPROCS": "2"})
        until = reactor.seconds() + START_TIME
        while True:
            try:
                await self.call("maintenance/status", {})
                return
            except OSError:
                if self._process is None or reactor.seconds() > until:
                    raise AssertionError(f"etcd does not start: {self.log[-2000:].decode()}") from None
            await deferLater(reactor, 0.02)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal that ends it; returns when it is gone. Also what does not run may be killed."""
        if self._process is not None and self._gone is not None:
            self._process.signalProcess(number)
            await self._gone

    def wipe(self) -> None:
        """Remove its data."""
        shutil.rmtree(self.directory)

    def pause(self) -> None:
        """Let it hang."""
        self._process.signalProcess(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.signalProcess(signal.SIGCONT)

    def call(self, path: str, body: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """Ask it as another client would."""
        return deferToThread(self._call, path, body)

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = self.token
        request = Request(f"{self.scheme}://127.0.0.1:{self.port}/v3/{path}", json.dumps(body).encode(), headers)
        context = ssl.create_default_context(cafile=self._authority) if self._authority else None
        with urlopen(request, timeout=5, context=context) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    async def control(self, commands: str) -> None:
        """Do what lines of ``etcdctl`` for users and roles say. All passwords are ``p``."""
        for line in commands.strip().splitlines():
            match line.split()[1:]:
                case ["user", "add", name]:
                    await self.call("auth/user/add", {"name": name, "password": "p"})
                case ["user", "grant-role", name, role]:
                    await self.call("auth/user/grant", {"user": name, "role": role})
                case ["role", "add", name]:
                    await self.call("auth/role/add", {"name": name})
                case ["role", "grant-permission", name, what, prefix, "--prefix=true"]:
                    first, end = ends(prefix)
                    kind = {"read": 0, "write": 1, "readwrite": 2}[what]
                    permission = {"permType": kind, "key": first, "range_end": end}
                    await self.call("auth/role/grant", {"name": name, "perm": permission})
                case ["auth", "enable"]:
                    await self.call("auth/enable", {})
                case _:
                    raise AssertionError(f"unknown: {line}")

    async def keys(self, prefix: str = "/") -> dict[str, bytes]:
        """All keys that begin so, with their values."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = await self.call("kv/range", {"key": text64(prefix), "range_end": text64(end)})
        return {b64decode(kv["key"]).decode(): b64decode(kv.get("value", "")) for kv in answer.get("kvs", ())}

    # ProcessProtocol

    def outReceived(self, data: bytes) -> None:
        """What it says."""
        self.log += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        reason.trap(ProcessDone, ProcessTerminated)
        self._process = None
        gone, self._gone = self._gone, None
        if gone is not None:
            gone.callback(None)


def _freePorts(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cut:
    """
    A way to a port of this machine that can be cut: connections end, and new ones are refused.

    :ivar port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.to = port
        self.port = 0
        self._listening: Any = None
        self._open: list[Any] = []

    def start(self) -> None:
        """Listen: at the same port again, if it was cut."""
        factory = Factory.forProtocol(_Incoming)
        factory.way = self  # type: ignore[attr-defined]
        self._listening = reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Cut it."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            for each in self._open:
                each.abortConnection()
            self._open.clear()
            await listening.stopListening()

    def opened(self, transport: Any) -> None:
        """There is another connection."""
        self._open.append(transport)


class _Incoming(Protocol):
    def connectionMade(self) -> None:
        way: Any = self.factory.way  # type: ignore[union-attr]
        way.opened(self.transport)
        self.kept: list[bytes] = []
        self.other: Any = None
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        factory = Factory.forProtocol(_Outgoing)
        factory.incoming = self  # type: ignore[attr-defined]
        made = TCP4ClientEndpoint(reactor, "127.0.0.1", way.to).connect(factory)
        made.addErrback(lambda _: self.transport.abortConnection())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self.kept.append(data)
        else:
            self.other.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            self.other.abortConnection()


class _Outgoing(Protocol):
    def connectionMade(self) -> None:
        self.incoming: Any = self.factory.incoming  # type: ignore[union-attr]
        way: Any = self.incoming.factory.way
        way.opened(self.transport)
        self.incoming.other = self.transport
        self.transport.writeSequence(self.incoming.kept)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.incoming.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.incoming.transport.abortConnection()


def ends(prefix: str) -> Sequence[str]:
    """The first key and the first behind all keys that begin so, as the gateway has them."""
    return text64(prefix), text64(prefix[:-1] + chr(ord(prefix[-1]) + 1))
