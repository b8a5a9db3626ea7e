"""receive and send of a WebSocket, over a connection in memory and the guest loop of the real reactor."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor

from getty_tx.http.asgi import Asgi
from getty_tx.http.router import Router
from tests.http.test_upgrade import asking
from tests.support.asgi import ONE, AsgiCase, answer
from tests.support.http import Talk
from tests.support.websocket import closeFrame, frame, parse

TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88


async def refused(send: Any, status: int = 401, **more: Any) -> None:
    """A denial response."""
    await send({"type": "websocket.http.response.start", "status": status, **more})
    await send({"type": "websocket.http.response.body", "body": b"no"})


class SocketCase(AsgiCase):
    """Applications, each with one WebSocket."""

    def open(self, app: Any, *more: bytes, path: str = "/ws", **options: Any) -> Talk:
        """A connection on which a client has asked for one."""
        talk = self.talk(app, **options)
        talk.send(asking(path, *more))
        return talk

    async def accepted(self, talk: Talk) -> tuple[dict[bytes, bytes], list[tuple[int, bytes]]]:
        """The fields of the answer 101, when it has come, and the frames behind it."""
        await self.until(talk, lambda: b"\r\n\r\n" in talk.pair.peer.data)
        head, _, rest = bytes(talk.pair.peer.data).partition(b"\r\n\r\n")
        talk.pair.peer.data.clear()
        first, *lines = head.split(b"\r\n")
        self.assertEqual(first, b"HTTP/1.1 101 Switching Protocols")
        fields = [line.split(b": ", 1) for line in lines]
        return {name.lower(): value for name, value in fields}, parse(rest)

    async def frames(self, talk: Talk, count: int) -> list[tuple[int, bytes]]:
        """The next frames."""
        await self.until(talk, lambda: len(parse(bytes(talk.pair.peer.data))) >= count)
        found = parse(bytes(talk.pair.peer.data))
        talk.pair.peer.data.clear()
        return found


class WebSocketTests(SocketCase):
    """Scopes, messages and ends."""

    async def test_scope(self) -> None:
        scopes: list[dict[str, Any]] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(scope)
            await send({"type": "websocket.close"})

        talk = self.open(app, b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Protocol: c", path="/w%20s?c=d")
        self.assertEqual([got.status for got in talk.answers()], [403])
        (scope,) = scopes
        headers = scope.pop("headers")
        self.assertIn((b"sec-websocket-version", b"13"), headers)
        self.assertEqual(
            scope,
            {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.5"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": "/w s",
                "raw_path": b"/w%20s",
                "query_string": b"c=d",
                "root_path": "",
                "client": ("198.51.100.1", 50000),
                "server": ("192.0.2.1", 8090),
                "subprotocols": ["a", "b", "c"],
                "state": {},
                "extensions": {"websocket.http.response": {}},
            },
        )

    async def test_mounted(self) -> None:
        """Below a prefix of a router, WebSocket or not: the path is whole, and the prefix is the end of root_path."""
        scopes: list[dict[str, Any]] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(scope)
            await (answer(send) if scope["type"] == "http" else send({"type": "websocket.close"}))

        application = Asgi(app, lifespan="off", rootPath="/site")
        application.startApplication(reactor)
        router = Router()
        router.mount("/app", application)
        talk = Talk(router)
        talk.send(b"GET /app/a%20b HTTP/1.1\r\nHost: a\r\n\r\n" + asking("/app/a%20b"))
        self.assertEqual([got.status for got in talk.answers()], [200, 403])
        talk.close()
        for scope in scopes:
            self.assertEqual(scope["root_path"], "/site/app")
            self.assertEqual((scope["path"], scope["raw_path"]), ("/site/app/a b", b"/site/app/a%20b"))

    async def test_talks(self) -> None:
        """Text and bytes both ways, an empty message, and frames that came before the answer."""
        seen: list[dict[str, Any]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(await receive())
            await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-a", b"1")]})
            while True:
                seen.append(await receive())
                if seen[-1]["type"] == "websocket.disconnect":
                    return
                await send({**seen[-1], "type": "websocket.send"})

        talk = self.talk(app)
        talk.send(asking("/ws", b"Sec-WebSocket-Protocol: a, b") + frame(1, b"early"))
        fields, frames = await self.accepted(talk)
        self.assertEqual((fields[b"sec-websocket-protocol"], fields[b"x-a"]), (b"b", b"1"))
        talk.send(frame(2, b"\0") + frame(1, b"") + frame(1, b"a", fin=False) + frame(0, b"b"))
        while len(frames) < 4:
            frames += await self.frames(talk, 1)
        self.assertEqual(frames, [(TEXT, b"early"), (BINARY, b"\0"), (TEXT, b""), (TEXT, b"ab")])
        talk.send(closeFrame(4321, "so long"))
        await self.until(talk, lambda: seen[-1]["type"] == "websocket.disconnect")
        self.assertEqual(
            seen,
            [
                {"type": "websocket.connect"},
                {"type": "websocket.receive", "text": "early"},
                {"type": "websocket.receive", "bytes": b"\0"},
                {"type": "websocket.receive", "text": ""},
                {"type": "websocket.receive", "text": "ab"},
                {"type": "websocket.disconnect", "code": 4321, "reason": "so long"},
            ],
        )

    async def test_disconnect(self) -> None:
        """The code of the client's Close frame, 1005 if it has none, 1006 without a frame; then send raises OSError."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await receive()
            for _ in range(2):
                seen.append((await receive())["code"])
            for kind in ("send", "close"):
                try:
                    await send({"type": f"websocket.{kind}", "text": "a"})
                except OSError:
                    seen.append("OSError")

        for code, expected in ((closeFrame(1000), 1000), (closeFrame(None), 1005), (b"", 1006)):
            seen.clear()
            talk = self.open(app)
            await self.accepted(talk)
            talk.send(code)
            talk.close()
            await self.until(talk, lambda: len(seen) == 4)
            self.assertEqual(seen, [expected, expected, "OSError", "OSError"])

    async def test_goneBefore(self) -> None:
        """The client goes before it has its answer."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            seen.append(await receive())
            await send({"type": "websocket.accept"})

        talk = self.open(app)
        talk.close()
        await self.until(talk, lambda: seen and not talk.context.application.tasks)
        self.assertEqual(seen, [{"type": "websocket.disconnect", "code": 1006, "reason": ""}])

    async def test_closed(self) -> None:
        """Closed by the application, by its end, and by its failure."""

        async def code(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})

        async def returns(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            raise ValueError("fails")

        for app, payload in ((code, b"\x0f\xa1bye"), (returns, b"\x03\xe8"), (fails, b"\x03\xf3")):
            talk = self.open(app)
            _, frames = await self.accepted(talk)
            self.assertEqual(frames or await self.frames(talk, 1), [(CLOSE, payload)])
            talk.send(closeFrame(1000))
            await self.until(talk, lambda talk=talk: talk.ended)  # type: ignore[misc]
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_refused(self) -> None:
        """403 for a close, an answer of one's own, one in parts; the connection goes on."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await answer(send)
            elif scope["path"] == "/close":
                await send({"type": "websocket.close"})
            elif scope["path"] == "/own":
                await refused(send, headers=[(b"x-a", b"1")])
            else:
                await send({"type": "websocket.http.response.start", "status": 404})
                for body in (b"a", b"b"):
                    await send({"type": "websocket.http.response.body", "body": body, "more_body": True})
                await send({"type": "websocket.http.response.body"})

        for path, status, body in (("/close", 403, b""), ("/own", 401, b"no"), ("/parts", 404, b"ab")):
            talk = self.open(app, path=path)
            (got,) = await self.answers(talk)
            self.assertEqual((got.status, got.body, got.isComplete), (status, body, True))
            self.assertEqual(talk.ask(ONE).body, b"done")

    async def test_notAnswered(self) -> None:
        """500 where the application returns or fails before it has accepted, or while it refuses."""

        async def returns(scope: Any, receive: Any, send: Any) -> None:
            pass

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError("fails")

        async def half(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.http.response.start", "status": 401})

        for app in (returns, fails, half):
            (got,) = await self.answers(self.open(app))
            self.assertEqual((got.status, got.isComplete), (500, True))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1, app)

    async def test_outOfTurn(self) -> None:
        """What is out of turn is an error that says what is awaited."""
        accept, close, text = ({"type": f"websocket.{kind}", "text": "a"} for kind in ("accept", "close", "send"))
        start = {"type": "websocket.http.response.start", "status": 401}
        body = {"type": "websocket.http.response.body"}
        errors: list[str] = []

        def sending(*messages: dict[str, Any]) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                for message in messages[:-1]:
                    await send(message)
                try:
                    await send(messages[-1])
                except (RuntimeError, OSError) as error:
                    errors.append(str(error))

            return app

        for messages, why in (
            ([text], "websocket.accept or close is awaited"),
            ([accept, accept], "the WebSocket is open"),
            ([accept, start], "the WebSocket is open"),
            ([accept, close, text], "the WebSocket is closed"),
            ([accept, close, close], "the WebSocket is closed"),
            ([close, accept], "the WebSocket is closed"),
            ([start, body, accept], "the WebSocket is closed"),
            ([start, start], "websocket.http.response.body is awaited"),
            ([start, body, body], "the WebSocket is closed"),
            ([body], "websocket.accept or close is awaited"),
        ):
            errors.clear()
            talk = self.open(sending(*messages))
            await self.until(talk, lambda: errors)
            self.assertIn(why, errors[0])
            await self.until(talk, lambda talk=talk: not talk.context.application.tasks)  # type: ignore[misc]
            self.flushLoggedErrors(RuntimeError)

    async def test_invalid(self) -> None:
        """A subprotocol that was not offered, a field of the handshake, and an invalid status or code."""
        for messages, status in (
            ([{"type": "websocket.accept", "subprotocol": "x"}], 500),
            ([{"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Accept", b"a")]}], 500),
            ([{"type": "websocket.http.response.start", "status": 101}], 500),
            ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 12}], 101),
        ):

            async def app(scope: Any, receive: Any, send: Any, messages: Any = messages) -> None:
                for message in messages:
                    await send(message)

            talk = self.open(app)
            await self.until(talk, lambda talk=talk: talk.pair.peer.data)  # type: ignore[misc]
            self.assertTrue(talk.pair.peer.data.startswith(b"HTTP/1.1 %d" % status))
            await self.until(talk, lambda talk=talk: not talk.context.application.tasks)  # type: ignore[misc]
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1, messages)

    async def test_malformed(self) -> None:
        """What asks for a WebSocket in a wrong way does not reach the application."""
        called: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            called.append(scope)

        talk = self.talk(app)
        talk.send(asking(Sec_WebSocket_Version="8"))
        self.assertEqual([got.status for got in talk.answers()], [426])
        talk.send(asking(Sec_WebSocket_Key="short"))
        self.assertEqual([got.status for got in talk.answers()], [400])
        self.assertEqual(called, [])

    async def test_tooLong(self) -> None:
        """A message above maxMsgLen closes with 1009, which the application is told."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await receive()
            seen.append((await receive())["code"])

        talk = self.open(app)
        await self.accepted(talk)
        session = talk.pair.serverTransport.protocol.session  # type: ignore[attr-defined]
        session.maxMsgLen = 10
        talk.send(frame(1, b"x" * 11))
        await self.until(talk, lambda: seen)
        self.assertEqual(seen, [1009])
        self.assertEqual((await self.frames(talk, 1))[0][1][:2], b"\x03\xf1")

    async def test_backPressure(self) -> None:
        """A client that sends much is read no more until the application takes it; and send waits for the client."""
        gate: asyncio.Event = asyncio.Event()
        seen: list[int] = []
        sent = 0

        async def reader(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await receive()
            await gate.wait()
            for _ in range(100):
                seen.append(len((await receive())["bytes"]))

        talk = self.open(reader)
        await self.accepted(talk)
        for _ in range(100):
            talk.send(frame(2, b"x" * 10_000))
        session = talk.pair.serverTransport.protocol.session  # type: ignore[attr-defined]
        self.assertTrue(session.inbound.paused)
        self.assertLess(session.pkgsRead, 40)
        gate.set()
        await self.until(talk, lambda: len(seen) == 100)
        self.assertEqual(set(seen), {10_000})

        async def writer(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                sent += 1

        talk = self.open(writer, capacity=10_000)
        await self.accepted(talk)
        talk.pair.peer.transport.pauseProducing()
        counts = []
        for _ in range(2):
            for _ in range(30):
                talk.clock.advance(0)
                await asyncioTurn()
            counts.append(sent)
        self.assertEqual(counts[0], counts[1])
        session = talk.pair.serverTransport.protocol.session  # type: ignore[attr-defined]
        self.assertLess(session.pendingBytes, 10**6)
        session.abort()
        await self.until(talk, lambda: not talk.context.application.tasks)

    async def test_stops(self) -> None:
        """A server that stops closes with 1001."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await receive()
            seen.append(await receive())

        talk = self.open(app)
        await self.accepted(talk)
        talk.pair.serverTransport.protocol.session.stop()  # type: ignore[attr-defined]
        self.assertEqual((await self.frames(talk, 1))[0][1][:2], b"\x03\xe9")
        talk.send(closeFrame(1001))
        talk.close()
        await self.until(talk, lambda: seen)
        self.assertEqual(seen[0]["code"], 1001)


async def asyncioTurn() -> None:
    """Let the reactor turn."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.001)
