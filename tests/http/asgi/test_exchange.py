"""receive and send of a request, over a connection in memory and the guest loop of the real reactor."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx.http.asgi import Asgi
from tests.support.asgi import ONE, POST, AsgiCase, answer
from tests.support.http import Talk


class ExchangeTests(AsgiCase):
    """Applications, each with one connection."""

    async def test_scope(self) -> None:
        scopes: list[dict[str, Any]] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(scope)
            scope["state"]["seen"] = True
            await answer(send)

        application = Asgi(app, lifespan="off", rootPath="/root")
        application.startApplication(reactor)
        talk = Talk(application)
        self.assertEqual(talk.ask(ONE).body, b"done")
        talk.ask(ONE)
        talk.close()
        scope = scopes[0]
        extensions = scope.pop("extensions")
        self.assertLessEqual({"http.response.trailers", "http.response.pathsend"}, set(extensions))
        self.assertEqual(
            scope,
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/root/a b",
                "raw_path": b"/root/a%20b",
                "query_string": b"c=d",
                "root_path": "/root",
                "headers": [(b"host", b"a"), (b"a", b"1"), (b"a", b"2")],
                "client": ("198.51.100.1", 50000),
                "server": ("192.0.2.1", 8090),
                "state": {"seen": True},
            },
        )
        # What one request changes, the next one does not see.
        self.assertIsNot(scopes[1]["headers"], scopes[0]["headers"])
        self.assertEqual(application.state, {})

    async def test_body(self) -> None:
        """A body that is there comes in one message, another in several, and the client is asked for it."""
        messages: list[dict[str, Any]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            messages.clear()
            while True:
                messages.append(await receive())
                if not messages[-1].get("more_body"):
                    break
            await answer(send, b"".join(message["body"] for message in messages))

        talk = self.talk(app)
        self.assertEqual(talk.ask(POST % (3, b"") + b"abc").body, b"abc")
        self.assertEqual(messages, [{"type": "http.request", "body": b"abc", "more_body": False}])
        talk.ask(ONE)
        self.assertEqual(messages, [{"type": "http.request", "body": b"", "more_body": False}])
        talk.send(POST % (6, b"Expect: 100-continue\r\n"))
        self.assertEqual([each.status for each in await self.answers(talk)], [100])
        talk.send(b"abc")
        await deferLater(reactor, 0.01)
        talk.send(b"def")
        (got,) = await self.answers(talk)
        self.assertEqual(got.body, b"abcdef")
        self.assertEqual([message["body"] for message in messages], [b"abc", b"def"])

    async def test_notContinued(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send)

        talk = self.talk(app)
        self.assertEqual([each.status for each in self.sent(talk, POST % (6, b"Expect: 100-continue\r\n"))], [200])
        self.assertTrue(talk.ended)

    async def test_disconnect(self) -> None:
        """It comes when the answer is complete, or when the client has gone, and not before."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            seen.append(waiting.done())
            if scope["path"] == "/wait":
                seen.append(await waiting)
                try:
                    await answer(send)
                except OSError as error:
                    seen.append(type(error).__name__)
                    raise
            await answer(send)
            seen.append(await waiting)
            seen.append(await receive())

        talk = self.talk(app)
        talk.send(ONE)
        await self.until(talk, lambda: len(seen) == 3)
        self.assertEqual(seen, [False, {"type": "http.disconnect"}, {"type": "http.disconnect"}])
        seen.clear()
        talk.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await self.until(talk, lambda: seen)
        talk.close()
        await self.until(talk, lambda: len(seen) == 3)
        self.assertEqual(seen[1:], [{"type": "http.disconnect"}, "GoneError"])

    async def test_goneInBody(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while not seen or seen[-1]["type"] != "http.disconnect":
                seen.append(await receive())

        talk = self.talk(app)
        talk.send(POST % (6, b"") + b"abc")
        await self.until(talk, lambda: seen)
        talk.close()
        await self.until(talk, lambda: seen[-1]["type"] == "http.disconnect")

    async def test_lostBeforeItsTurn(self) -> None:
        """The body is malformed while the request waits for its turn: the client is told, and it is no fault."""
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            if (await receive())["type"] == "http.request":
                await answer(send)

        talk = self.talk(app)
        talk.send(ONE + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        gate.set()
        await self.until(talk, lambda: talk.ended)
        self.assertEqual([each.status for each in talk.answers()], [200, 400])

    async def test_streamed(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"trailer", b"a")] if scope["path"] == "/trailers" else []
            await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": bool(headers)})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await asyncio.sleep(0.001)
            await send({"type": "http.response.body", "body": b"b", "more_body": True})
            await send({"type": "http.response.body"})
            if headers:
                await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})

        talk = self.talk(app)
        talk.send(ONE)
        (got,) = await self.answers(talk)
        self.assertEqual((got.body, got.isComplete), (b"ab", True))
        talk.send(b"GET /trailers HTTP/1.1\r\nHost: a\r\n\r\n")
        (got,) = await self.answers(talk)
        self.assertEqual((got.body, got.trailers), (b"ab", [(b"a", b"b")]))
        talk.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        (got,) = await self.answers(talk, "HEAD")
        self.assertEqual((got.body, got.isComplete), (b"", True))

    async def test_backPressure(self) -> None:
        """send waits while the client does not read."""
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
                sent += 1

        talk = self.talk(app, capacity=10_000)
        talk.pair.peer.transport.pauseProducing()
        talk.pair.peer.write(ONE)
        for _ in range(20):
            talk.clock.advance(0)
            await deferLater(reactor, 0.001)
        before = sent
        self.assertLess(talk.session.pendingBytes, 10**6)
        for _ in range(20):
            talk.clock.advance(0)
            await deferLater(reactor, 0.001)
        self.assertEqual(sent, before)
        talk.session.abort()
        await self.until(talk, lambda: talk.context.running == 0)

    async def test_earlyHint(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
            await answer(send)

        first, second = self.sent(self.talk(app), ONE)
        self.assertEqual((first.status, first.header(b"link"), second.status), (103, b"</a>; rel=preload", 200))

    async def test_pathsend(self) -> None:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"x" * 300_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.pathsend", "path": path})

        talk = self.talk(app)
        talk.send(ONE)
        await self.until(talk, lambda: len(talk.pair.peer.data) > 300_000)
        (got,) = await self.answers(talk)
        self.assertEqual((len(got.body), got.header(b"content-length")), (300_000, b"300000"))

    async def test_fails(self) -> None:
        """500 where nothing was sent, else the answer is cut off; it is logged once."""

        async def early(scope: Any, receive: Any, send: Any) -> None:
            raise ValueError("early")

        async def started(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            raise ValueError("started")

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            raise ValueError("late")

        async def after(scope: Any, receive: Any, send: Any) -> None:
            await answer(send)
            raise ValueError("after")

        for app, status, complete in ((early, 500, True), (started, 500, True), (late, 200, False), (after, 200, True)):
            (got,) = self.sent(self.talk(app), ONE)
            self.assertEqual((got.status, got.isComplete), (status, complete), app)
            (failure,) = self.flushLoggedErrors(ValueError)
            self.assertEqual(str(failure.value), app.__name__)

    async def test_incomplete(self) -> None:
        async def nothing(scope: Any, receive: Any, send: Any) -> None:
            pass

        async def half(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})

        async def short(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, b"abc", headers=[(b"content-length", b"4")])

        for app, status, complete, kind in (
            (nothing, 500, True, RuntimeError),
            (half, 200, False, RuntimeError),
            (short, 500, True, ValueError),
        ):
            (got,) = self.sent(self.talk(app), ONE)
            self.assertEqual((got.status, got.isComplete), (status, complete), app)
            self.assertEqual(len(self.flushLoggedErrors(kind)), 1)

    async def test_outOfTurn(self) -> None:
        body = {"type": "http.response.body", "body": b"a"}
        start = {"type": "http.response.start", "status": 200}
        errors: list[str] = []

        def sending(*messages: dict[str, Any]) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> None:
                for message in messages[:-1]:
                    await send(message)
                try:
                    await send(messages[-1])
                except RuntimeError as error:
                    errors.append(str(error))
                    raise

            return app

        for messages, why in (
            ([body], "http.response.start is awaited"),
            ([start, start], "http.response.body is awaited"),
            ([start, body, body], "the answer is complete"),
            ([start, {"type": "http.response.trailers"}], "http.response.body is awaited"),
            ([{"type": "websocket.send"}], "http.response.start is awaited"),
        ):
            errors.clear()
            self.sent(self.talk(sending(*messages)), ONE)
            self.assertIn(why, errors[0])
            self.flushLoggedErrors(RuntimeError)

    async def test_fields(self) -> None:
        """Header fields that cannot stand in a head are the application's fault; pairs may be lists."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            value = b"c\r\nd: e" if scope["path"] == "/bad" else b"c"
            await answer(send, headers=[[b"a", b"b"], [b"A", value]])

        talk = self.talk(app)
        (got,) = self.sent(talk, ONE)
        self.assertEqual([value for name, value in got.headers if name == b"a"], [b"b", b"c"])
        (got,) = self.sent(talk, b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(got.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_iterator(self) -> None:
        """Header fields may be any iterable, read once."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, headers=([name, b"1"] for name in (b"a", b"b")))

        (got,) = self.sent(self.talk(app), ONE)
        self.assertEqual((got.header(b"a"), got.header(b"b")), (b"1", b"1"))

    async def test_status(self) -> None:
        """What is no status of an answer is the application's fault."""
        for status in (0, 101, 199, 1000):

            async def app(scope: Any, receive: Any, send: Any, status: int = status) -> None:
                await answer(send, status=status)

            (got,) = self.sent(self.talk(app), ONE)
            self.assertEqual(got.status, 500)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_twoReceive(self) -> None:
        """Two tasks wait for a body: one gets it, both hear the end."""
        parts: list[Any] = []
        got: list[list[dict[str, Any]]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            whole = asyncio.Event()

            async def one() -> list[dict[str, Any]]:
                messages = []
                while not messages or messages[-1]["type"] != "http.disconnect":
                    messages.append(await receive())
                    parts.append(messages[-1])
                    if not messages[-1].get("more_body", True):
                        whole.set()
                return messages

            both = [asyncio.ensure_future(one()) for _ in range(2)]
            await whole.wait()
            await answer(send)
            got.extend(await asyncio.gather(*both))

        talk = self.talk(app)
        talk.send(POST % (6, b""))
        talk.send(b"abc")
        await self.until(talk, lambda: parts)
        talk.send(b"def")
        await self.until(talk, lambda: got)
        bodies = [message["body"] for messages in got for message in messages if message["type"] == "http.request"]
        self.assertEqual(sorted(bodies), [b"abc", b"def"])
        self.assertEqual([messages[-1]["type"] for messages in got], ["http.disconnect"] * 2)

    async def test_answeredBeforeBody(self) -> None:
        """A task that waits for a body is told when the answer is complete."""
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await answer(send)
            seen.append((await waiting)["type"])

        talk = self.talk(app)
        talk.send(POST % (6, b""))
        await self.until(talk, lambda: seen)
        self.assertEqual(seen, ["http.disconnect"])

    async def test_looks(self) -> None:
        """Who looks often whether the client has gone leaves nothing behind."""
        exchanges: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            exchanges.append(receive.__self__)
            await receive()
            for _ in range(20):
                looking = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                looking.cancel()
                await asyncio.sleep(0)
            exchanges.append(len(receive.__self__._waiting or ()))
            await answer(send)

        talk = self.talk(app)
        talk.send(ONE)
        await self.until(talk, lambda: len(exchanges) == 2)
        self.assertEqual(exchanges[1], 0)

    async def test_whoseFault(self) -> None:
        """What an application raises because its client has gone is not logged; another OSError is."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()
            try:
                await answer(send)
            except OSError as error:
                if scope["path"] == "/same":
                    raise
                if scope["path"] == "/from":
                    raise ValueError("from") from error
                if scope["path"] == "/group":
                    raise BaseExceptionGroup("several", [error]) from None
            raise FileNotFoundError("its own")

        for path, count in ((b"/same", 0), (b"/from", 0), (b"/group", 0), (b"/other", 1)):
            talk = self.talk(app)
            talk.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            talk.close()
            application: Any = talk.context.application
            await self.until(talk, lambda application=application: not application.tasks)  # type: ignore[misc]
            self.assertEqual(len(self.flushLoggedErrors()), count, path)

    async def test_lateTasks(self) -> None:
        """What goes on after the answer ends before the lifespan does; what takes too long is cancelled."""
        events: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                events.append("shutdown")
                await send({"type": "lifespan.shutdown.complete"})
                return
            await answer(send)
            try:
                if scope["path"] == "/short":
                    await asyncio.sleep(0.01)
                else:
                    await asyncio.get_running_loop().create_future()
                events.append("slept")
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        for path, drainTime, expected in ((b"/short", 30.0, "slept"), (b"/long", 0.1, "cancelled")):
            events.clear()
            application = Asgi(app, drainTime=drainTime)
            await application.startApplication(reactor)
            talk = Talk(application)
            self.assertEqual(talk.ask(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path).body, b"done")
            talk.close()
            await application.stopApplication()
            self.assertEqual(events, [expected, "shutdown"])

    async def test_contexts(self) -> None:
        """What one request sets, the next one does not see, not on the same connection either."""
        variable = contextvars.ContextVar("variable", default="unset")
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(variable.get())
            variable.set("set")
            await answer(send)

        self.sent(self.talk(app), ONE + ONE)
        self.assertEqual(seen, ["unset", "unset"])

    async def test_together(self) -> None:
        """Requests of several connections run beside each other; those of one connection do not."""
        running: list[str] = []
        most: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            running.append(scope["path"])
            most.append(len(running))
            await asyncio.sleep(0.002)
            running.remove(scope["path"])
            await answer(send)

        talks = [self.talk(app) for _ in range(3)]
        for talk in talks:
            talk.send(ONE + ONE)
        for talk in talks:
            await self.until(talk, lambda talk=talk: len(talk.pair.peer.data) > 150)  # type: ignore[misc]
        self.assertEqual(max(most), 3)
