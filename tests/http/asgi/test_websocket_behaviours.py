"""What WebSocket applications that were written for other servers rely on, a test for each."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor

from getty_tx.http.asgi import Asgi
from tests.http.asgi.test_websocket_messages import BINARY, CLOSE, TEXT, SocketCase
from tests.http.test_upgrade import asking
from tests.support.http import Talk
from tests.support.websocket import closeFrame, frame, parse

ACCEPT = {"type": "websocket.accept"}
PING, PONG = 0x89, 0x8A


def sending(*messages: dict[str, Any]) -> Any:
    """An application that sends these, and returns."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """Accepts, and waits for the end."""
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass


class OpeningTests(SocketCase):
    """Until it is open, or refused."""

    async def test_fields(self) -> None:
        """A field of the request is bytes, whatever they are."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.extend(value for name, value in scope["headers"] if name == b"username")
            await accepting(scope, receive, send)

        await self.accepted(self.open(app, "Username: abra\u00e3o".encode()))
        self.assertEqual(seen, ["abra\u00e3o".encode()])

    async def test_dateAndServer(self) -> None:
        """The answer has both, as any; the application's own take their place."""
        for headers, options, servers in (
            ([], {}, [b"getty_tx"]),
            ([], {"serverName": ""}, []),
            ([(b"Server", b"own"), (b"Server", b"second")], {}, [b"own", b"second"]),
        ):
            talk = self.open(sending({**ACCEPT, "headers": headers}), **options)
            await self.until(talk, lambda talk=talk: b"\r\n\r\n" in talk.pair.peer.data)  # type: ignore[misc]
            lines = bytes(talk.pair.peer.data).partition(b"\r\n\r\n")[0].split(b"\r\n")
            found = [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"server:")]
            self.assertEqual((found, sum(line.startswith(b"Date: ") for line in lines)), (servers, 1))

    async def test_access(self) -> None:
        """The access log has the request, with 101 or the status of the refusal."""
        lines: list[Any] = []
        for app, status in ((accepting, 101), (sending({"type": "websocket.close"}), 403)):
            talk = self.talk(app)
            talk.context.access = lambda request, status, *_: lines.append((request.target, status))
            talk.send(asking("/ws?a"))
            await self.until(talk, lambda: lines)
            self.assertEqual(lines.pop(), (b"/ws?a", status))

    async def test_subprotocols(self) -> None:
        for chosen in ("proto1", "proto2"):
            talk = self.open(sending({**ACCEPT, "subprotocol": chosen}), b"Sec-WebSocket-Protocol: proto1, proto2")
            fields, _ = await self.accepted(talk)
            self.assertEqual(fields[b"sec-websocket-protocol"], chosen.encode())

    async def test_compression(self) -> None:
        """permessage-deflate is agreed upon where the client offers it."""
        talk = self.open(accepting, b"Sec-WebSocket-Extensions: permessage-deflate")
        fields, _ = await self.accepted(talk)
        self.assertTrue(fields[b"sec-websocket-extensions"].startswith(b"permessage-deflate"))
        fields, _ = await self.accepted(self.open(accepting))
        self.assertNotIn(b"sec-websocket-extensions", fields)

    async def test_sendsTooEarly(self) -> None:
        """A message before it is accepted is an error of the application: 500."""
        (got,) = await self.answers(self.open(sending({"type": "websocket.send", "text": "123"})))
        self.assertEqual(got.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_refusedAndHeard(self) -> None:
        """Who refuses it, with 403 or an answer of its own, gets a disconnect with 1006 at once."""
        whole = {"type": "websocket.http.response.body", "body": b"goodbye"}
        part = {**whole, "more_body": True}
        start = {"type": "websocket.http.response.start", "status": 400}
        length = {**start, "headers": [(b"Content-Length", b"14"), (b"Content-Type", b"text/plain")]}
        seen: list[Any] = []
        for messages, status, body, size in (
            ([{"type": "websocket.close"}], 403, b"", b"0"),
            ([start, whole], 400, b"goodbye", b"7"),
            ([length, part, whole], 400, b"goodbyegoodbye", b"14"),
        ):

            async def app(scope: Any, receive: Any, send: Any, messages: Any = messages) -> None:
                await receive()
                await sending(*messages)(scope, receive, send)
                seen.append(await receive())

            talk = self.open(app)
            (got,) = await self.answers(talk)
            self.assertEqual((got.status, got.body, got.header(b"content-length")), (status, body, size))
            await self.until(talk, lambda: seen)
            self.assertEqual(seen.pop(), {"type": "websocket.disconnect", "code": 1006, "reason": ""})

    async def test_refusedTwice(self) -> None:
        """A refusal of which the body never comes is none: nothing has left, and the client gets 500."""
        start = {"type": "websocket.http.response.start", "status": 404}
        for messages in ([start, start], [start]):
            (got,) = await self.answers(self.open(sending(*messages)))
            self.assertEqual((got.status, got.isComplete), (500, True))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_state(self) -> None:
        """A flat copy, as for a request."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["state"]["a"], list(scope["state"]["b"])))
            scope["state"]["a"] = 456
            scope["state"]["b"].append(2)
            await send({"type": "websocket.close"})

        talk = self.talk(app)
        application: Any = talk.context.application
        application.state.update({"a": 123, "b": [1]})
        for _ in range(2):
            talk.send(asking("/ws"))
            await self.answers(talk)
        self.assertEqual(seen, [(123, [1]), (123, [1, 2])])

    async def test_proxies(self) -> None:
        """Behind a trusted proxy the scheme and the client are what it says."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((scope["scheme"], scope["client"]))
            await send({"type": "websocket.close"})

        for said, scheme in (("http", "ws"), ("https", "wss"), ("ws", "ws"), ("wss", "wss")):
            fields = b"X-Forwarded-For: 192.0.2.4", b"X-Forwarded-Proto: " + said.encode()
            await self.answers(self.open(app, *fields, proxies=["198.51.100.1"]))
            self.assertEqual(seen.pop(), (scheme, ("192.0.2.4", 0)))


class MessageTests(SocketCase):
    """While it is open."""

    async def echo(self, talk: Talk, *frames: bytes) -> list[tuple[int, bytes]]:
        """Send frames to an application that echoes, and return as many as come."""
        _, found = await self.accepted(talk)
        talk.send(b"".join(frames))
        return found or await self.frames(talk, 1)

    async def test_fragments(self) -> None:
        """A message in fragments is one for the application."""
        for opcode, first in ((1, TEXT), (2, BINARY)):
            parts = [frame(opcode, b"A" * 512, fin=False), *[frame(0, b"A" * 512, fin=False)] * 4, frame(0, b"A" * 512)]
            self.assertEqual(await self.echo(self.open(echoing), *parts), [(first, b"A" * 3072)])

    async def test_maxMessage(self) -> None:
        """As many bytes as it says pass, one more closes with 1009: in one frame, and in fragments."""
        for data, passes in (
            (frame(2, b"x" * 10), True),
            (frame(2, b"x" * 11), False),
            (frame(2, b"x" * 6, fin=False) + frame(0, b"x" * 4), True),
            (frame(2, b"x" * 6, fin=False) + frame(0, b"x" * 5), False),
        ):
            application = Asgi(echoing, lifespan="off", maxMessage=10)
            application.startApplication(reactor)
            talk = Talk(application)
            self.addCleanup(talk.close)
            talk.send(asking("/ws"))
            ((first, payload),) = await self.echo(talk, data)
            if passes:
                self.assertEqual((first, payload), (BINARY, b"x" * 10))
            else:
                self.assertEqual((first, payload[:2]), (CLOSE, b"\x03\xf1"))

    async def test_pings(self) -> None:
        """A ping of the client is answered without the application."""
        self.assertEqual(await self.echo(self.open(accepting), frame(9, b"a")), [(PONG, b"a")])

    async def test_keepAlive(self) -> None:
        """The server pings each minute; a client that answers stays, one that does not is closed."""
        for answers in (True, False):
            talk = self.open(accepting)
            await self.accepted(talk)
            for _ in range(3):
                talk.clock.advance(60)
                talk.pair.flush()
                pings = [payload for first, payload in parse(bytes(talk.pair.peer.data)) if first == PING]
                if answers:
                    self.assertEqual(len(pings), 1)
                    talk.pair.peer.data.clear()
                    talk.send(frame(10, pings[0]))
            self.assertEqual(talk.ended, not answers)


class EndTests(SocketCase):
    """Ends."""

    async def test_codes(self) -> None:
        """Code and reason of the application's close; 1000 and none by default."""
        for code in (None, 1000, 1001, 4000):
            for reason in (None, "test", False):
                close: dict[str, Any] = {"type": "websocket.close"}
                if code is not None:
                    close["code"] = code
                if reason is not False:
                    close["reason"] = reason
                talk = self.open(sending(ACCEPT, close))
                _, frames = await self.accepted(talk)
                payload = (code or 1000).to_bytes(2, "big") + (reason or "").encode()
                self.assertEqual(frames or await self.frames(talk, 1), [(CLOSE, payload)])

    async def test_sendsAfterClose(self) -> None:
        """A message behind the application's own end is its error; only a client that has gone is an OSError."""
        text = {"type": "websocket.send", "text": "123"}
        close = {"type": "websocket.close"}
        for messages in ([ACCEPT, text, close, text], [ACCEPT, close, close], [close, ACCEPT], [close, close]):
            talk = self.open(sending(*messages))
            await self.until(talk, lambda talk=talk: not talk.context.application.tasks)  # type: ignore[misc]
            (failure,) = self.flushLoggedErrors()
            self.assertIs(failure.type, RuntimeError, messages)
            self.assertIn("behind the end that the application has made", str(failure.value))

    async def test_acceptsTwice(self) -> None:
        """The second is an error: what is open closes with 1011."""
        talk = self.open(sending(ACCEPT, ACCEPT))
        _, frames = await self.accepted(talk)
        self.assertEqual(frames or await self.frames(talk, 1), [(CLOSE, b"\x03\xf3")])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_valueReturned(self) -> None:
        """What an application returns is ignored: its end closes with 1000."""

        async def app(scope: Any, receive: Any, send: Any) -> int:
            await send(ACCEPT)
            return 123

        talk = self.open(app)
        _, frames = await self.accepted(talk)
        self.assertEqual(frames or await self.frames(talk, 1), [(CLOSE, b"\x03\xe8")])

    async def test_readsAfterTheEnd(self) -> None:
        """Messages that came before the client's close are delivered, and then the close."""
        gate = asyncio.Event()
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await gate.wait()
            while not seen or seen[-1]["type"] != "websocket.disconnect":
                seen.append(await receive())

        talk = self.open(app)
        await self.accepted(talk)
        talk.send(frame(2, b"abc") * 3 + closeFrame(1000))
        talk.close()
        gate.set()
        await self.until(talk, lambda: seen and seen[-1]["type"] == "websocket.disconnect")
        self.assertEqual([message["bytes"] for message in seen[:-1]], [b"abc"] * 3)
        self.assertEqual(seen[-1], {"type": "websocket.disconnect", "code": 1000, "reason": ""})

    async def test_frameBehindClose(self) -> None:
        """A frame behind the client's Close is passed over."""
        talk = self.open(accepting)
        await self.accepted(talk)
        talk.send(closeFrame(1000) + frame(10))
        self.assertEqual(await self.frames(talk, 1), [(CLOSE, b"\x03\xe8")])
        self.assertEqual(parse(bytes(talk.pair.peer.data)), [])

    async def test_taskGoesOn(self) -> None:
        """What an application does after the client has gone is waited for when the server stops."""
        done: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accepting(scope, receive, send)
            await asyncio.sleep(0.01)
            done.append("done")

        talk = self.open(app)
        await self.accepted(talk)
        talk.send(closeFrame(1000))
        talk.close()
        application: Any = talk.context.application
        await application.stopApplication()
        self.assertEqual(done, ["done"])


async def echoing(scope: Any, receive: Any, send: Any) -> None:
    """Sends each message back."""
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({**message, "type": "websocket.send"})
