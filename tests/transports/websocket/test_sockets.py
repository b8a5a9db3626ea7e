"""WebSocket on real sockets: the ``websockets`` library as client and server, TLS, unix sockets, pools and plug-ins."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import websockets
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import Client, Server
from getty_tx.codecs import RawCodec
from getty_tx.testing import RecordingListener
from getty_tx.transports.factories import SessionServerFactory
from tests.support.certificates import Authority
from tests.support.memory import configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}


def inThread(run: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
    """Run asyncio code in a thread."""
    return deferToThread(lambda: asyncio.run(asyncio.wait_for(run(), 30)))  # type: ignore[arg-type]


class SocketCase(TestCase):
    """Servers and clients that are stopped after each test."""

    timeout = 60

    async def serve(self, *descriptions: str, listener: Any = None, **settings: Any) -> list[Any]:
        """A server; its ports."""
        self.heard = RecordingListener(ECHO) if listener is None else listener
        server = self.server = Server(configure(self.heard, RawCodec(), **settings), *descriptions)
        server.startService()
        self.addCleanup(server.stopService)
        return [getattr(address, "port", None) for address in await server.whenListening()]

    def dial(self, description: str, listener: Any, **options: Any) -> Client:
        """A pool."""
        client = Client(configure(listener, RawCodec()), description, **options)
        client.startService()
        self.addCleanup(client.close)
        return client


class LibraryTests(SocketCase):
    """The ``websockets`` library as the other end."""

    async def test_client(self) -> None:
        """Compressed and not: kinds, lengths, fragments, pings and each close code."""
        [port] = await self.serve("ws:0:interface=127.0.0.1:path=/echo")
        url = f"ws://127.0.0.1:{port}/echo"

        async def talk(compression: str | None) -> None:
            async with websockets.connect(url, compression=compression) as peer:
                for message in ("text", b"bytes", "", b"", "é" * 300, b"x" * 100_000):
                    await peer.send(message)
                    self.assertEqual(await peer.recv(), message)
                await peer.send(["in ", "three ", "fragments"])
                self.assertEqual(await peer.recv(), "in three fragments")
                await (await peer.ping(b"are you there"))
            for code in (1000, 1001, 1011, 3000, 4999):
                peer = await websockets.connect(url, compression=compression)
                await peer.close(code, "why")
                self.assertEqual(peer.close_code, 1000 if peer.close_code == 1000 else code)
            async with websockets.connect(url, compression=compression) as peer:
                await peer.send(b"x" * 200_000)
                with self.assertRaises(websockets.ConnectionClosedError) as caught:
                    await peer.recv()
                self.assertEqual(caught.exception.rcvd.code, 1009)

        await inThread(lambda: talk(None))
        await inThread(lambda: talk("deflate"))
        self.assertEqual([getattr(error, "code", 1009) for error in self.heard.errors], [1011, 3000, 4999, 1009] * 2)

    async def test_refused(self) -> None:
        """Another path, another origin."""
        [port] = await self.serve("ws:0:interface=127.0.0.1:path=/echo:origins=https\\://a.example")

        async def talk() -> None:
            for path, origin, status in [("/", None, 404), ("/echo", "https://b.example", 403)]:
                with self.assertRaises(websockets.InvalidStatus) as caught:
                    await websockets.connect(f"ws://127.0.0.1:{port}{path}", origin=origin)  # type: ignore[arg-type]
                self.assertEqual(caught.exception.response.status_code, status)
            async with websockets.connect(f"ws://127.0.0.1:{port}/echo", origin="https://a.example"):  # type: ignore[arg-type]
                pass

        await inThread(talk)

    async def test_serverStops(self) -> None:
        """1001."""
        [port] = await self.serve("ws:0:interface=127.0.0.1:path=/")
        ready: Deferred[None] = Deferred()

        async def talk() -> int | None:
            async with websockets.connect(f"ws://127.0.0.1:{port}/") as peer:
                reactor.callFromThread(ready.callback, None)  # type: ignore[attr-defined]
                await peer.wait_closed()
                return peer.close_code

        code = inThread(talk)
        await ready
        await self.server.stopService()
        self.assertEqual(await code, 1001)

    async def test_server(self) -> None:
        """A pool against a server of the library, with and without compression."""
        loop = asyncio.new_event_loop()
        started: Deferred[int] = Deferred()
        over = asyncio.Event()

        async def echo(peer: Any) -> None:
            async for message in peer:
                await peer.send(message)

        async def serve() -> None:
            async with websockets.serve(echo, "127.0.0.1", 0) as server:
                port = next(iter(server.sockets)).getsockname()[1]
                reactor.callFromThread(started.callback, port)  # type: ignore[attr-defined]
                await over.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        port = await started
        try:
            for deflate in ("no", "yes"):
                got: Deferred[None] = Deferred()

                def hear(session: Any, pkg: Any, got: Deferred[None] = got) -> None:
                    if session.stats.readPkgs == 3:
                        got.callback(None)

                heard = RecordingListener({"message": hear})
                client = self.dial(f"ws:127.0.0.1:{port}:path=/any?q=1:deflate={deflate}", heard)
                [session] = await client.whenReady(timeout=10)
                for message in ("text", b"bytes", b"x" * 100_000):
                    session.writePkg(message)
                await got
                self.assertEqual(heard.packages, ["text", b"bytes", b"x" * 100_000])
                await client.close()
                self.assertEqual(heard.errors, [])
        finally:
            loop.call_soon_threadsafe(over.set)
            await deferToThread(thread.join)
            loop.close()


class EndpointTests(SocketCase):
    """WebSocket endpoints over stream endpoints."""

    async def roundTrip(self, description: str, **options: Any) -> Any:
        """Connect, send, and wait for the echo; returns the session."""
        got: Deferred[None] = Deferred()
        heard = RecordingListener({"message": lambda session, pkg: got.callback(pkg)})
        client = self.dial(description, heard, **options)
        [session] = await client.whenReady(timeout=10)
        session.writePkg("hello")
        self.assertEqual(await got, "hello")
        return session

    async def test_url(self) -> None:
        """``ws://host:port/path``; several paths on a port."""
        [port] = await self.serve("ws:0:interface=127.0.0.1:path=/a,/b")
        for path in ("a", "b"):
            session = await self.roundTrip(f"ws://127.0.0.1:{port}/{path}")
            self.assertEqual(session.remoteAddr.port, port)

    async def test_unix(self) -> None:
        """``endpoint=``."""
        path = quoteStringArgument(f"unix:{quoteStringArgument(self.mktemp())}")
        await self.serve(f"ws:endpoint={path}:path=/")
        await self.roundTrip(f"ws:endpoint={path}:path=/")

    async def test_wss(self) -> None:
        """Verified by default: a wrong host name and an untrusted authority are refused."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        [port] = await self.serve(f"wss:0:interface=127.0.0.1:certKey={certificate}:privateKey={key}:path=/")
        session = await self.roundTrip(f"wss:localhost:{port}:path=/:trustRoots={authority.path}")
        self.assertIn("wss-session:WSS_CLIENT", str(session))
        self.assertIn("wss-session:WSS_SERVER", str(next(iter(self.server.sessions))))
        for description in (f"wss:127.0.0.1:{port}:path=/:trustRoots={authority.path}", f"wss://localhost:{port}/"):
            heard = RecordingListener()
            client = self.dial(description, heard, reconnectAttempts=1)
            waiting = client.whenReady(timeout=10)
            failure: Any = await waiting.addErrback(lambda failure: failure.value)
            self.assertIn("certificate", str(failure))
            self.assertEqual(heard.events, [])

    async def test_reconnects(self) -> None:
        """A pool reconnects when its server restarts."""
        [port] = await self.serve("ws:0:interface=127.0.0.1:path=/")
        client = self.dial(f"ws:127.0.0.1:{port}:path=/", RecordingListener(), number=3, reconnectInterval=0.05)
        await client.whenReady(3, timeout=10)
        await self.server.stopService()
        await self.serve(f"ws:{port}:interface=127.0.0.1:path=/")
        await client.whenReady(3, timeout=10)

    async def test_plugins(self) -> None:
        """``getty-ws:`` for other programs: sessions on a server, a byte stream for another protocol."""
        heard = RecordingListener(ECHO)
        endpoint = serverFromString(reactor, "getty-ws:0:interface=127.0.0.1:path=/x")
        factory = SessionServerFactory(configure(heard, RawCodec()))
        port = await endpoint.listen(factory)
        got: Deferred[bytes] = Deferred()
        lost: Deferred[None] = Deferred()

        class Stream(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"bytes")

            def dataReceived(self, data: bytes) -> None:
                got.callback(data)

            def connectionLost(self, reason: Any = None) -> None:
                lost.callback(None)

        client = clientFromString(reactor, f"getty-ws:127.0.0.1:{port.getHost().port}:path=/x")
        await client.connect(Factory.forProtocol(Stream))
        self.assertEqual(await got, b"bytes")
        await port.stopListening()
        await factory.context.closeAll()
        await lost

    async def test_streamServer(self) -> None:
        """The same with the other protocol on the server."""

        class Stream(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(data.upper())
                self.transport.loseConnection()

        endpoint = serverFromString(reactor, "getty-ws:0:interface=127.0.0.1:path=/")
        port = await endpoint.listen(Factory.forProtocol(Stream))

        async def talk() -> Any:
            async with websockets.connect(f"ws://127.0.0.1:{port.getHost().port}/") as peer:
                await peer.send(b"hello")
                answer = await peer.recv()
                await peer.wait_closed()
                return answer, peer.close_code

        self.assertEqual(await inThread(talk), (b"HELLO", 1000))
        await port.stopListening()
