"""Clients that end their side of the stream and wait for their answers, as ``nc -N`` does."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.http.body import BodyLostError
from tests.http.test_connection import GET, ONE, POST, Later
from tests.http.test_upgrade import asking
from tests.support.asgi import AsgiCase, answer
from tests.support.http import Case, Talk

CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def end(talk: Talk, data: bytes = b"") -> None:
    """The client sends, and ends its side."""
    if data:
        talk.pair.peer.write(data)
    talk.pair.peer.end()
    talk.pair.flush()


class HandlerTests(Case):
    """Handlers."""

    def test_answered(self) -> None:
        for asked in (ONE, CLOSE):
            later = Later()
            talk = self.talk(later)
            end(talk, asked)
            self.assertFalse(talk.ended)
            later.answer()
            talk.pair.flush()
            (got,) = talk.answers()
            self.assertEqual((got.body, got.header(b"connection"), talk.ended), (b"/", b"close", True))
            self.assertEqual((talk.context.counters.lost, talk.context.connections), (0, set()))

    def test_several(self) -> None:
        """All that were asked for, and the last says that it is."""
        later = Later()
        talk = self.talk(later)
        end(talk, b"".join(GET % number for number in range(40)))
        for _ in range(40):
            later.answer()
            talk.pair.flush()
        found = talk.answers()
        self.assertEqual([got.body for got in found], [b"/%d" % number for number in range(40)])
        self.assertEqual([got.header(b"connection") for got in found], [None] * 39 + [b"close"])
        self.assertTrue(talk.ended)

    def test_streamed(self) -> None:
        """An answer that has begun without saying that it is the last."""
        gate: Deferred[None] = Deferred()

        async def parts(request: http.Request) -> Any:
            yield b"a"
            await gate
            yield b"b"

        talk = self.talk(parts)
        talk.send(ONE)
        end(talk)
        gate.callback(None)
        talk.pair.flush()
        (got,) = talk.answers()
        self.assertEqual((got.body, got.isComplete, talk.ended), (b"ab", True, True))

    def test_slowly(self) -> None:
        """It stays as long as something is sent in ``keepAlive`` seconds; without, it has gone."""
        gates: list[Deferred[None]] = []

        async def parts(request: http.Request) -> Any:
            while True:
                yield b"a"
                gates.append(Deferred())
                await gates[-1]

        talk = self.talk(parts)
        gone: list[str] = []
        talk.send(ONE)
        request = talk.connection.request
        assert request is not None
        talk.connection.whenGone(request, lambda: gone.append("gone"))
        end(talk)
        for _ in range(5):
            talk.clock.advance(14)
            gates.pop().callback(None)
            talk.pair.flush()
        self.assertEqual((gone, talk.session.isClosed), ([], False))
        for _ in range(3):
            talk.clock.advance(10)
            talk.pair.flush()
        self.assertEqual((gone, talk.context.counters.lost), (["gone"], 1))

    def test_nothingAsked(self) -> None:
        """Without a request, or with a part of one, the connection ends at once."""
        errors: list[BaseException] = []

        async def reads(request: http.Request) -> bytes:
            try:
                return await request.read()
            except BodyLostError as error:
                errors.append(error)
                raise

        router = http.Router()
        router.post("/", stream=True)(reads)
        for data in (b"", ONE[:10], POST % (10, b"") + b"abc"):
            talk = self.talk(router)
            end(talk, data)
            self.assertTrue(talk.ended)
            self.assertEqual(talk.answers(), [])
        self.assertEqual(len(errors), 1)

    def test_thenGone(self) -> None:
        """It has gone after all: the first bytes of the answer tell."""
        later = Later()
        talk = self.talk(later)
        end(talk, ONE)
        transport: Any = talk.pair.peer.transport
        transport.abortConnection()
        talk.pair.flush()
        later.answer()
        talk.pair.flush()
        self.assertEqual(talk.context.running, 0)


class AsgiTests(AsgiCase):
    """ASGI applications: they hear of it as of a client that has gone, and may answer all the same."""

    async def test_answered(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(await receive())
            seen.append(await receive())
            await asyncio.sleep(0.001)
            await answer(send)

        talk = self.talk(app)
        talk.send(ONE)
        await deferLater(reactor, 0)
        end(talk)
        (got,) = await self.answers(talk)
        self.assertEqual((got.body, got.header(b"connection")), (b"done", b"close"))
        self.assertEqual([message["type"] for message in seen], ["http.request", "http.disconnect"])
        await self.until(talk, lambda: talk.ended)

    async def test_bodyFirst(self) -> None:
        """A body that has come in parts is delivered before the application hears of the end."""
        gate = asyncio.Event()
        seen: list[bytes] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            while (message := await receive())["type"] == "http.request":
                seen.append(message["body"])
            await answer(send, b"".join(seen))

        talk = self.talk(app)
        talk.send(POST % (6, b"") + b"abc")
        talk.send(b"de")
        end(talk, b"f")
        gate.set()
        (got,) = await self.answers(talk)
        self.assertEqual((got.body, seen), (b"abcdef", [b"abc", b"de", b"f"]))

    async def test_streams(self) -> None:
        """Streams are whole if the application has not heard of the end; one that stops for it never looks complete."""

        def streaming(listens: bool, tellFirst: bool) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                if tellFirst:
                    await receive()
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
                if listens and not tellFirst:
                    await receive()
                else:
                    await asyncio.sleep(0.001)
                await send({"type": "http.response.body"})

            return app

        for listens, tellFirst, complete in ((False, False, True), (True, False, False), (True, True, False)):
            talk = self.talk(streaming(listens, tellFirst))
            end(talk, ONE)
            await self.until(talk, lambda talk=talk: not talk.context.application.tasks)  # type: ignore[misc]
            await self.until(talk, lambda talk=talk: not talk.context.connections)  # type: ignore[misc]
            self.assertEqual([got.isComplete for got in talk.answers()] or [False], [complete])
            self.assertEqual(talk.context.counters.lost, not complete)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_givenUp(self) -> None:
        """An application that answers no more, as it has heard of it, is not to blame."""

        async def early(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await early(scope, receive, send)

        for app in (early, late):
            talk = self.talk(app)
            end(talk, ONE)
            await self.until(talk, lambda talk=talk: not talk.context.connections)  # type: ignore[misc]
            self.assertEqual((talk.context.counters.lost, talk.context.running), (1, 0))
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_webSocket(self) -> None:
        """Who has asked for a WebSocket, and ends, wants none."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            seen.append(await receive())

        talk = self.talk(app)
        end(talk, asking("/ws"))
        await self.until(talk, lambda: seen)
        self.assertEqual(seen, [{"type": "websocket.disconnect", "code": 1006, "reason": ""}])


class SocketTests(TestCase):
    """On a real socket."""

    timeout = 60

    async def test_shutdown(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.01)
            await answer(send, b"x" * 1_000_000)

        async def handler(request: http.Request) -> bytes:
            await deferLater(reactor, 0.01)
            return b"x" * 1_000_000

        def ask(port: int) -> bytes:
            with socket.create_connection(("127.0.0.1", port), 30) as client:
                client.sendall(ONE)
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: client.recv(65536), b""))

        for application in (http.Asgi(app, lifespan="off"), handler):
            server = http.Server(application, "tcp:0:interface=127.0.0.1")
            server.startService()
            (address,) = await server.whenListening()
            data = await deferToThread(ask, address.port)
            self.assertEqual(len(data.partition(b"\r\n\r\n")[2]), 1_000_000)
            await server.stopService()
