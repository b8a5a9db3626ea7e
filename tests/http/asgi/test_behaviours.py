"""What applications that were written for other servers rely on, a test for each."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx.http.body import HIGH_WATER
from tests.support.asgi import ONE, POST, AsgiCase, answer

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
START = {"type": "http.response.start", "status": 200}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await answer(send, body)


def answering(body: bytes = b"done", *headers: tuple[bytes, bytes], status: int = 200) -> Any:
    """An application that answers all requests alike."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, body, status, headers)

    return app


class FieldTests(AsgiCase):
    """Header fields of answers."""

    async def test_values(self) -> None:
        """A value may have tabs, spaces and bytes that are not ASCII, as they are."""
        for value in (b"c", b"\t", b" ", "\u00b5".encode(), b"\xb5"):
            talk = self.talk(answering(b"", (b"key", b"<" + value + b">")))
            talk.send(ONE)
            self.assertIn(b"\r\nkey: <" + value + b">\r\n", talk.pair.peer.data)

    async def test_names(self) -> None:
        """A name that is none is the application's fault, and is not sent."""
        for name in (b"a b", b"a:", b"a\r\nb", b"", b"\xe9"):
            (got,) = self.sent(self.talk(answering(b"", (name, b"value"))), ONE)
            self.assertEqual((got.status, [value for _, value in got.headers if value == b"value"]), (500, []))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_close(self) -> None:
        """``Connection: close`` of the application closes."""
        talk = self.talk(answering(b"", (b"connection", b"close"), status=204))
        (got,) = self.sent(talk, ONE)
        self.assertEqual((got.status, got.header(b"connection"), talk.ended), (204, b"close", True))

    async def test_transferEncoding(self) -> None:
        """``Transfer-Encoding`` of the application is passed over: an answer is framed once."""

        async def parts(scope: Any, receive: Any, send: Any) -> None:
            await send({**START, "headers": [(b"transfer-encoding", b"chunked")]})
            for body in (b"Hello", b""):
                await send({"type": "http.response.body", "body": body, "more_body": bool(body)})

        whole = self.talk(answering(b"Hello", (b"transfer-encoding", b"chunked")))
        (got,) = self.sent(whole, ONE)
        self.assertEqual(
            (got.body, got.header(b"content-length"), got.header(b"transfer-encoding")), (b"Hello", b"5", None)
        )
        talk = self.talk(parts)
        talk.send(ONE)
        data = bytes(talk.pair.peer.data)
        self.assertEqual((data.lower().count(b"chunked"), data.count(b"\r\n0\r\n\r\n")), (1, 1))
        self.assertEqual([got.body for got in talk.answers()], [b"Hello"])
        for each in (whole, talk):
            (got,) = self.sent(each, HEAD, "HEAD")
            self.assertEqual((got.status, got.body, got.isComplete, each.ended), (200, b"", True, False))

    async def test_dateAndServer(self) -> None:
        """They come once, before the application's fields; the application's own take their place."""
        for headers, names, server in (
            ((), ["date", "server"], [b"getty_tx"]),
            (((b"x-additional", b"new"),), ["date", "server", "x-additional"], [b"getty_tx"]),
            (((b"server", b"own"),), ["date", "server"], [b"own"]),
            (((b"Server", b"a"), (b"Server", b"b")), ["date", "server", "server"], [b"a", b"b"]),
            (((b"date", b"today"),), ["server", "date"], [b"getty_tx"]),
        ):
            (got,) = self.sent(self.talk(answering(b"", *headers)), ONE)
            found = [(name.decode(), value) for name, value in got.headers if name != b"content-length"]
            self.assertEqual([name for name, _ in found], names)
            self.assertEqual([value for name, value in found if name == "server"], server)
        for name, expected in (("", None), ("other", b"other")):
            (got,) = self.sent(self.talk(answering(), serverName=name), ONE)
            self.assertEqual(got.header(b"server"), expected)


class AnswerTests(AsgiCase):
    """Answers, right and wrong, and the connection after them."""

    async def test_head(self) -> None:
        """No body, with the length that it would have."""
        talk = self.talk(answering(b"Hello, world"))
        (got,) = self.sent(talk, HEAD, "HEAD")
        self.assertEqual((got.body, got.header(b"content-length"), talk.ended), (b"", b"12", False))

    async def test_length(self) -> None:
        """Less or more than ``Content-Length`` says never reaches the client as a whole answer."""

        def parts(*bodies: bytes) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send({**START, "headers": [(b"content-length", b"10")]})
                for body in bodies:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await send({"type": "http.response.body"})

            return app

        length = (b"content-length", b"10")
        for app, status, complete in (
            (answering(b"xxx", length), 500, True),
            (answering(b"x" * 60, length), 500, True),
            (parts(b"xxx"), 200, False),
            (parts(b"xxx", b"x" * 60), 200, False),
        ):
            talk = self.talk(app)
            (got,) = self.sent(talk, ONE)
            self.assertEqual((got.status, got.isComplete, talk.ended), (status, complete, not complete))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_goesOnAfterFailure(self) -> None:
        """After 500 the connection is as good as before: what was sent was a whole answer."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/":
                raise ValueError("on purpose")
            await answer(send)

        talk = self.talk(app)
        first, second = self.sent(talk, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + ONE)
        self.assertEqual((first.status, first.body, second.body), (500, b"500 Internal Server Error\n", b"done"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_messageAfterTheEnd(self) -> None:
        """The answer stands that was complete before."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send)
            await send({"type": "http.response.body", "body": b"more"})

        talk = self.talk(app)
        (got,) = self.sent(talk, ONE)
        self.assertEqual((got.status, got.body, talk.ended), (200, b"done", False))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_valueReturned(self) -> None:
        """What an application returns is ignored."""

        async def app(scope: Any, receive: Any, send: Any) -> int:
            await answer(send)
            return 123

        talk = self.talk(app)
        (got,) = self.sent(talk, ONE)
        self.assertEqual((got.status, got.body, talk.ended), (200, b"done", False))

    async def test_unknownStatus(self) -> None:
        """A status without a phrase of its own is sent, and logged, as it is."""
        lines: list[int] = []
        for status in (299, 599, 700):
            talk = self.talk(answering(status=status))
            talk.context.access = lambda request, status, sent, seconds: lines.append(status)
            (got,) = self.sent(talk, ONE)
            self.assertEqual((got.status, got.body, lines.pop()), (status, b"done", status))

    async def test_startAlone(self) -> None:
        """An answer that has begun and has no body yet is none: nothing has left, and the client gets 500."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)

        (got,) = self.sent(self.talk(app), ONE)
        self.assertEqual((got.status, got.isComplete), (500, True))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class RequestTests(AsgiCase):
    """Requests and their bodies."""

    async def test_oldVersion(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, scope["http_version"].encode())

        talk = self.talk(app)
        (got,) = self.sent(talk, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        self.assertEqual((got.body, got.header(b"connection"), talk.ended), (b"1.0", b"close", True))

    async def test_closes(self) -> None:
        """``Connection: close`` of a client holds with a body, too, and nothing behind it is served."""
        talk = self.talk(echo)
        (got,) = self.sent(talk, POST % (3, b"Connection: close\r\n") + b"abc" + ONE)
        self.assertEqual((got.body, got.header(b"connection"), talk.ended), (b"abc", b"close", True))

    async def test_largeBody(self) -> None:
        """The client is not read while nobody takes what has come, and all of it comes."""
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await echo(scope, receive, send)

        talk = self.talk(app)
        talk.pair.peer.write(POST % (1_000_000, b"") + b"x" * 1_000_000)
        talk.pair.flush()
        self.assertTrue(talk.session.inbound.readingStopped)
        request: Any = talk.connection.request
        self.assertLess(request.body.waiting, HIGH_WATER + 128 * 1024)
        gate.set()
        (got,) = await self.answers(talk)
        self.assertEqual(len(got.body), 1_000_000)
        self.assertFalse(talk.session.inbound.readingStopped)

    async def test_earlyAnswer(self) -> None:
        """An answer before the body: what is left of it is read, and the connection stays."""
        talk = self.talk(answering())
        self.assertEqual([got.status for got in self.sent(talk, POST % (18, b""))], [200])
        talk.send(b"x" * 18)
        self.assertFalse(talk.ended)
        self.assertEqual([got.body for got in self.sent(talk, ONE)], [b"done"])

    async def test_otherUpgrade(self) -> None:
        """A request that asks for a protocol which is not served is served as it is."""
        for upgrade in (b"h2c", b"not-websocket"):
            talk = self.talk(answering())
            asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade
            self.assertEqual([got.body for got in self.sent(talk, asked + ONE)], [b"done", b"done"])

    async def test_invalid(self) -> None:
        """What is no request reaches no application; the client is told, and the connection ends."""
        called: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            called.append(scope)

        for line in (b"G?T / HTTP/1.1", b"GET /?x=y z HTTP/1.1", b"GET / HTTP1.1", b"x" * 100_000):
            talk = self.talk(app)
            (got,) = self.sent(talk, line + b"\r\nHost: a\r\n\r\n")
            self.assertTrue(400 <= got.status <= 505, got)
            self.assertEqual((got.header(b"connection"), talk.ended), (b"close", True))
        self.assertEqual(called, [])

    async def test_hugeHead(self) -> None:
        """A head above ``maxHead`` is refused; with a higher one it is served."""
        huge = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"x" * 64 * 1024
        for limit, status in ((32 * 1024, 431), (128 * 1024, 200)):
            talk = self.talk(answering(), maxHead=limit)
            talk.send(huge)
            if status == 200:
                talk.send(b"\r\n\r\n")
            self.assertEqual([got.status for got in talk.answers()], [status])

    async def test_pipelined(self) -> None:
        """Requests that came together are answered in order; the time of an idle connection does not run meanwhile."""
        gates = [asyncio.Event() for _ in range(2)]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gates[int(scope["path"][1:])].wait()
            await answer(send, scope["path"].encode())

        talk = self.talk(app)
        talk.send(b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        for number in range(2):
            talk.clock.advance(100)
            self.assertFalse(talk.ended)
            gates[number].set()
            (got,) = await self.answers(talk)
            self.assertEqual(got.body, b"/%d" % number)
        talk.clock.advance(14)
        self.assertFalse(talk.ended)
        talk.clock.advance(2)
        talk.pair.flush()
        self.assertTrue(talk.ended)

    async def test_state(self) -> None:
        """A flat copy: a key that a request sets is its own, a value that it changes is everybody's."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["state"]["a"], list(scope["state"]["b"])))
            scope["state"]["a"] = 456
            scope["state"]["b"].append(2)
            await answer(send)

        talk = self.talk(app)
        application: Any = talk.context.application
        application.state.update({"a": 123, "b": [1]})
        self.sent(talk, ONE + ONE)
        self.assertEqual(seen, [(123, [1]), (123, [1, 2])])

    async def test_stopWhileServed(self) -> None:
        """A server that stops answers what it serves, and says that the connection ends."""
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await answer(send, b"", 204)

        talk = self.talk(app)
        talk.send(ONE)
        await deferLater(reactor, 0)
        talk.connection.drain()
        self.assertFalse(talk.ended)
        gate.set()
        (got,) = await self.answers(talk)
        self.assertEqual((got.status, got.header(b"connection"), talk.ended), (204, b"close", True))
