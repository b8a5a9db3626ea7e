"""WebSocket applications, over a connection in memory with Autobahn's client on the other end, and real clients."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import http

try:
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect
except ImportError:
    connect = None  # type: ignore[assignment]


class WebSocketTests(TestCase):
    """With the client of websockets, in a thread."""

    timeout = 60
    if connect is None:
        skip = "websockets is not installed"

    async def serve(self, app: Any, work: Any, **options: Any) -> Any:
        """Serve the application, run ``work(url)`` in a thread, and return its result."""
        self.server = server = http.Server(http.Asgi(app, lifespan="off", **options), "tcp:0:interface=127.0.0.1")
        server.startService()
        (address,) = await server.whenListening()
        try:
            return await deferToThread(work, f"ws://127.0.0.1:{address.port}")
        finally:
            await server.stopService()
            # The application hears of the end in a pass of its loop.
            await deferLater(reactor, 0.01)

    async def test_echo(self) -> None:
        """Text and bytes, empty ones, too; scope, subprotocol and fields; and the close of the client."""
        scopes: list[dict[str, Any]] = []
        seen: list[dict[str, Any]] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(scope)
            seen.append(await receive())
            await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-a", b"1")]})
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    seen.append(message)
                    break
                await send({**message, "type": "websocket.send"})

        def work(url: str) -> None:
            with connect(f"{url}/a%20b?c=d", subprotocols=["a", "b"]) as client:
                self.assertEqual(client.subprotocol, "b")
                self.assertEqual(client.response.headers["x-a"], "1")
                for message in ("text", "\u20ac" * 50_000, "", b"bytes", b"", b"x" * 100_000):
                    client.send(message)
                    self.assertEqual(client.recv(timeout=20), message)
                client.close(3001, "bye")

        await self.serve(app, work)
        self.assertEqual(seen[0], {"type": "websocket.connect"})
        self.assertEqual(seen[1], {"type": "websocket.disconnect", "code": 3001, "reason": "bye"})
        scope = scopes[0]
        self.assertEqual((scope["type"], scope["scheme"], scope["http_version"]), ("websocket", "ws", "1.1"))
        self.assertEqual((scope["path"], scope["raw_path"], scope["query_string"]), ("/a b", b"/a%20b", b"c=d"))
        self.assertEqual(scope["subprotocols"], ["a", "b"])
        self.assertIn("websocket.http.response", scope["extensions"])
        self.assertNotIn("method", scope)

    async def test_closes(self) -> None:
        """The application closes with a code and a reason, and sends no more."""
        errors: list[BaseException] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "last"})
            await send({"type": "websocket.close", "code": 4002, "reason": "enough"})
            try:
                await send({"type": "websocket.send", "text": "more"})
            except RuntimeError as error:
                errors.append(error)

        def work(url: str) -> tuple[int, str]:
            with connect(url) as client:
                self.assertEqual(client.recv(timeout=20), "last")
                error = self.assertRaises(ConnectionClosed, client.recv, timeout=20)
                return error.rcvd.code, error.rcvd.reason

        self.assertEqual(await self.serve(app, work), (4002, "enough"))
        self.assertEqual(len(errors), 1)

    async def test_refuses(self) -> None:
        """Before it accepts: 403, or an answer of its own, after which the connection goes on."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/close":
                await send({"type": "websocket.close"})
                return
            headers = [(b"x-why", b"full")]
            await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
            if scope["path"] == "/parts":
                await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b" more"})

        def work(url: str) -> list[tuple[int, bytes]]:
            found = []
            for path in ("/close", "/parts", "/whole"):
                error = self.assertRaises(InvalidStatus, connect, url + path)
                found.append((error.response.status_code, error.response.body))
            return found

        self.assertEqual(await self.serve(app, work), [(403, b""), (429, b"no more"), (429, b" more")])

    async def test_fails(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/later":
                await send({"type": "websocket.accept"})
            if scope["path"] != "/nothing":
                raise ValueError("on purpose")

        def work(url: str) -> list[int]:
            found = []
            for path in ("/early", "/nothing"):
                found.append(self.assertRaises(InvalidStatus, connect, url + path).response.status_code)
            with connect(url + "/later") as client:
                found.append(self.assertRaises(ConnectionClosed, client.recv, timeout=20).rcvd.code)
            return found

        self.assertEqual(await self.serve(app, work), [500, 500, 1011])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_outOfTurn(self) -> None:
        errors: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            for message in (
                {"type": "websocket.send", "text": "early"},
                {"type": "http.response.start", "status": 200},
                {"type": "websocket.accept", "subprotocol": "none of yours"},
            ):
                try:
                    await send(message)
                except (RuntimeError, ValueError) as error:
                    errors.append(str(error))
            await send({"type": "websocket.accept"})
            for message in ({"type": "websocket.accept"}, {"type": "websocket.send"}):
                try:
                    await send(message)
                except RuntimeError as error:
                    errors.append(str(error))

        def work(url: str) -> int:
            with connect(url) as client:
                return self.assertRaises(ConnectionClosed, client.recv, timeout=20).rcvd.code  # type: ignore[no-any-return]

        self.assertEqual(await self.serve(app, work), 1000)
        for error, part in zip(
            errors,
            ("accept or close is awaited", "accept or close is awaited", "none of yours", "is open", "bytes or text"),
            strict=True,
        ):
            self.assertIn(part, error)

    async def test_slowApplication(self) -> None:
        """A client whose messages nobody takes is read no more; nothing is lost."""
        waiting: list[int] = []
        count = 2000

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            exchange = receive.__self__
            await asyncio.sleep(0.2)
            for _ in range(count):
                waiting.append(len(exchange._waiting))
                await receive()
            await send({"type": "websocket.send", "text": "all"})

        def work(url: str) -> Any:
            with connect(url, compression=None) as client:
                for _ in range(count):
                    client.send(b"x" * 1000)
                return client.recv(timeout=50)

        self.assertEqual(await self.serve(app, work), "all")
        self.assertLessEqual(max(waiting), 400)

    async def test_stop(self) -> None:
        """A server that stops closes with 1001, and the application hears of it."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "ready"})
            seen.append(await receive())

        server: Any = None

        def work(url: str) -> int:
            with connect(url) as client:
                client.recv(timeout=20)
                reactor.callFromThread(server.stopService)
                return self.assertRaises(ConnectionClosed, client.recv, timeout=20).rcvd.code  # type: ignore[no-any-return]

        server = http.Server(http.Asgi(app, lifespan="off"), "tcp:0:interface=127.0.0.1")
        server.startService()
        (address,) = await server.whenListening()
        self.assertEqual(await deferToThread(work, f"ws://127.0.0.1:{address.port}"), 1001)
        await deferLater(reactor, 0.05)
        await server.stopService()
        self.assertEqual(seen[0]["type"], "websocket.disconnect")
        self.assertEqual(seen[0]["code"], 1001)
