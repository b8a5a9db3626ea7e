"""WebSocket on the port of HTTP, on real sockets: each kind of endpoint, the ``websockets`` library, and Chromium."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import websockets
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.codecs import RawCodec
from getty_tx.session.wrappers import isOnSocket
from getty_tx.testing import RecordingListener
from getty_tx.tls import openssl, serverPolicy, wrapServer
from tests.docs.test_echo_page import BrowserTests
from tests.support.certificates import Authority
from tests.support.memory import configure
from tests.support.websocket import closeFrame, frame, parse, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}
LARGE = b"x" * 100_000
PROXY = b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"


def inThread(run: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
    """Run asyncio code in a thread."""
    return deferToThread(lambda: asyncio.run(asyncio.wait_for(run(), 30)))  # type: ignore[arg-type]


def makeServer(listener: Any, *descriptions: Any, **options: Any) -> http.Server:
    """A server with a WebSocket at ``/ws`` and a handler at ``/``."""
    router = http.Router()
    router.webSocket("/ws", configure(listener, RawCodec()))
    router.get("/")(lambda asked: b"hello")
    return http.Server(router, *descriptions, **options)


class SocketCase(TestCase):
    """Servers that are stopped after each test."""

    timeout = 60

    async def serve(self, *descriptions: Any, **options: Any) -> list[Any]:
        """A server; its addresses."""
        self.heard = RecordingListener(ECHO)
        self.server = makeServer(self.heard, *descriptions, **options)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        return await self.server.whenListening()

    async def until(self, isTrue: Callable[[], object]) -> None:
        """Turn the reactor until something is true."""
        while not isTrue():
            await deferLater(reactor, 0.01)

    @property
    def service(self) -> Any:
        """The context of the service."""
        [context] = self.server.server.contexts
        return context


class EndpointTests(SocketCase):
    """The same over each kind of endpoint."""

    async def roundTrips(self, kind: str, make: Callable[[], socket.socket], context: Any = None) -> None:
        """Requests, then an upgrade on the same connection, with frames in the same write, and then more of them."""

        async def talk() -> list[tuple[int, bytes]]:
            reader, writer = await asyncio.open_connection(
                sock=make(), ssl=context, server_hostname="localhost" if context else None
            )
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readuntil(b"hello")
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + request("/ws") + frame(2, b"first"))
            await reader.readuntil(b"hello")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            writer.write(frame(2, LARGE) + frame(1, b"last"))
            writer.write(closeFrame())
            data = b""
            while piece := await reader.read(65536):
                data += piece
            writer.close()
            return parse(data)

        frames = await inThread(talk)
        self.assertEqual(frames, [(0x82, b"first"), (0x82, LARGE), (0x81, b"last"), (0x88, b"\x03\xe8")])
        await self.until(lambda: self.heard.names[-1:] == ["close"])
        self.assertEqual((self.kinds, self.heard.errors), ([kind], []))
        await self.until(lambda: not self.service.connections)
        self.assertEqual((self.service.sessions, self.server.context.connections), (set(), set()))

    async def serve(self, *descriptions: Any, **options: Any) -> list[Any]:
        """As above; the kinds of the connections are kept."""
        addresses = await super().serve(*descriptions, **options)
        self.kinds: list[str] = []
        self.heard.on["open"] = lambda session: self.kinds.append(session.connection.kind)
        return addresses

    async def test_tcp(self) -> None:
        [address] = await self.serve("tcp:0:interface=127.0.0.1")
        await self.roundTrips("WS_SERVER", lambda: socket.create_connection(("127.0.0.1", address.port)))

    async def test_unix(self) -> None:
        path = os.path.relpath(self.mktemp())
        await self.serve(f"unix:{path}")

        def make() -> socket.socket:
            made = socket.socket(socket.AF_UNIX)
            made.connect(path)
            return made

        await self.roundTrips("WS_SERVER", make)

    async def overTLS(self, wrap: Callable[[Any, Any], Any]) -> list[bool]:
        """The same over TLS; whether it is on the socket."""
        authority = Authority(self.mktemp())
        policy = serverPolicy(*authority.issue(["localhost"]))
        endpoint: Any = wrap(policy, serverFromString(reactor, "tcp:0:interface=127.0.0.1"))
        [address] = await self.serve(endpoint)
        onSocket: list[bool] = []

        def onOpen(session: Any) -> None:
            self.kinds.append(session.connection.kind)
            onSocket.append(isOnSocket(session.connection.rawTransport))

        self.heard.on["open"] = onOpen
        context = ssl.create_default_context(cafile=authority.path)
        await self.roundTrips("WSS_SERVER", lambda: socket.create_connection(("127.0.0.1", address.port)), context)
        return onSocket

    async def test_tls(self) -> None:
        """TLS on the socket."""
        self.assertEqual(await self.overTLS(wrapServer), [openssl.AVAILABLE])

    async def test_twistedsTLS(self) -> None:
        """Twisted's own TLS."""
        self.assertEqual(await self.overTLS(wrapServerTLS), [False])

    async def test_haproxy(self) -> None:
        """Behind ``haproxy:``, whose header comes in the same segment; ``peer`` is the client that it tells."""
        [address] = await self.serve("haproxy:tcp:0:interface=127.0.0.1")
        hosts: list[str] = []

        def onOpen(session: Any) -> None:
            self.kinds.append(session.connection.kind)
            hosts.append(session.request.peer.host)

        self.heard.on["open"] = onOpen

        def make() -> socket.socket:
            made = socket.create_connection(("127.0.0.1", address.port))
            made.sendall(PROXY)
            return made

        await self.roundTrips("WS_SERVER", make)
        self.assertEqual(hosts, ["192.0.2.7"])


class LibraryTests(SocketCase):
    """The ``websockets`` library as the client."""

    async def test_client(self) -> None:
        """Compressed and not: kinds, lengths, fragments and pings."""
        [address] = await self.serve("tcp:0:interface=127.0.0.1")
        url = f"ws://127.0.0.1:{address.port}/ws"

        async def talk(compression: str | None) -> None:
            async with websockets.connect(url, compression=compression) as peer:
                for message in ("text", b"bytes", "", b"", "é" * 300, LARGE):
                    await peer.send(message)
                    self.assertEqual(await peer.recv(), message)
                await peer.send(["in ", "three ", "fragments"])
                self.assertEqual(await peer.recv(), "in three fragments")
                await (await peer.ping(b"are you there"))
                extensions = peer.response.headers.get("Sec-WebSocket-Extensions")
                self.assertEqual(extensions, "permessage-deflate" if compression else None)

        await inThread(lambda: talk(None))
        await inThread(lambda: talk("deflate"))
        self.assertEqual(self.heard.errors, [])

    async def test_maxSessions(self) -> None:
        """A session counts once, and its place is free when it ends."""
        [address] = await self.serve("tcp:0:interface=127.0.0.1", maxSessions=1)
        url = f"ws://127.0.0.1:{address.port}/ws"

        async def talk() -> None:
            for _ in range(2):
                async with websockets.connect(url) as peer:
                    await peer.send("a")
                    self.assertEqual(await peer.recv(), "a")
                    with self.assertRaises((websockets.InvalidMessage, ConnectionError)):
                        await websockets.connect(url)
                for _ in range(500):
                    if not self.service.connections:
                        break
                    await asyncio.sleep(0.01)

        await inThread(talk)
        self.assertEqual(self.service.refusals.counts["maxSessions"], 2)

    async def test_stop(self) -> None:
        """A server that stops closes with 1001, while a request on another connection is answered."""
        [address] = await self.serve("tcp:0:interface=127.0.0.1", drainTime=20.0)
        ready: Deferred[None] = Deferred()
        waiting: list[Deferred[bytes]] = []
        router = self.server.context.application
        router.get("/slow")(lambda asked: waiting.append(Deferred()) or waiting[-1])  # type: ignore[attr-defined]

        async def talk() -> tuple[int | None, bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")

            async def read() -> bytes:
                answer = await reader.read()
                writer.close()
                return answer

            # It ends its connection when the server does, which would wait for that for some seconds.
            reading = asyncio.ensure_future(read())
            async with websockets.connect(f"ws://127.0.0.1:{address.port}/ws") as peer:
                reactor.callFromThread(ready.callback, None)  # type: ignore[attr-defined]
                await peer.wait_closed()
                return peer.close_code, await reading

        talking = inThread(talk)
        await ready
        await self.until(lambda: waiting)
        stopped = self.server.stopService()
        waiting[0].callback(b"slow")
        code, answer = await talking
        await stopped
        self.assertEqual(code, 1001)
        self.assertTrue(answer.endswith(b"slow"), answer)


class ChromiumTests(BrowserTests):
    """The page of the example, with a server for HTTP."""

    async def serveEcho(self, port: int = 0) -> Any:
        """An echo server; its port."""
        heard = RecordingListener(ECHO)
        router = http.Router()
        router.webSocket("/echo", configure(heard, RawCodec()))
        server = http.Server(router, f"tcp:{port}:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        return server, address.port  # type: ignore[attr-defined]


del BrowserTests
