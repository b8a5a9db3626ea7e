"""Applications that answer at random, but never wrongly: a router, one of ASGI and one of WSGI. See ``fuzz_http``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater

from getty_tx import http
from getty_tx.errors import RefuseRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from random import Random

    from twisted.internet.defer import Deferred

#: Pauses of one connection, at most.
MOST_PAUSES = 50

STATUSES = [200, 200, 201, 204, 304, 404, 412, 503]


class Applications:
    """
    The three, on one clock.

    :param reactor: the clock.

    :ivar random: what they do comes from it.
    :ivar note: called as ``note(target, body)`` when one of them has read the body of a request to its end.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pauses = 0
        self._folder = TemporaryDirectory()
        for name, size in (("small", 1000), ("large", 400_000)):
            (Path(self._folder.name) / name).write_bytes(b"x" * size)
        self.random: Random
        self.note: Callable[[bytes, bytes], object]

    def begin(self, random: Random, note: Callable[[bytes, bytes], object]) -> None:
        """Another connection."""
        self.random, self.note, self._pauses = random, note, 0

    def _size(self) -> int:
        return self.random.choice([0, 1, 10, 1000, 20_000] if self.random.random() < 0.95 else [300_000, 900_000])

    def _parts(self) -> list[bytes]:
        return [b"x" * self._size() for _ in range(self.random.choice([0, 1, 2, 5]))]

    def _pause(self) -> float:
        self._pauses += 1
        return self.random.choice([0, 0, 0.05, 0.5]) if self._pauses < MOST_PAUSES else 0

    # The router

    def router(self) -> http.Router:
        """Handlers that are given the body below ``/``, and such that read it below ``/s``; files below ``/f``."""
        router = http.Router()
        router.add(["GET", "POST", "PUT", "DELETE", "PATCH", "QUERY"], "/{name}", self._gathered)
        router.add(["GET", "POST", "PUT", "QUERY"], "/s/{name}", self._streaming, stream=True)
        router.mount("/f", http.Files(self._folder.name))
        return router

    def _gathered(self, request: http.Request) -> Any:
        assert request.content is not None
        self.note(request.target, request.content)
        return self._answer()

    def _answer(self) -> Any:
        """Whatever a handler may return."""
        random = self.random
        data = b"x" * self._size()
        headers = random.choice([{}, {}, {"A": "b"}, {"Connection": "close"}, {"Upgrade": "h2c"}, {"Date": "never"}])
        kind = random.randrange(11)
        if kind == 0:
            return data.decode()
        if kind == 1:
            return {"size": len(data)}
        if kind == 2:
            return None
        if kind == 3:
            return http.Response(random.choice(STATUSES), data, headers)
        if kind == 4:
            return self._generated(self._parts())
        if kind == 5:
            return self._slowly(self._parts())
        if kind == 6:
            parts = self._parts()
            headers["Content-Length"] = str(sum(map(len, parts)))
            return http.Response(200, self._slowly(parts), headers)
        if kind == 7:
            return http.Response(random.choice(STATUSES), iter(self._parts()), headers)
        if kind == 8:
            return self._later(data)
        if kind == 9:
            headers.pop("Connection", None)
            raise RefuseRequest(random.choice([409, 429, 503]), "at random", headers)
        return data

    async def _later(self, data: bytes) -> bytes:
        await deferLater(self._reactor, self._pause())
        return data

    async def _slowly(self, parts: list[bytes]) -> AsyncIterator[bytes]:
        for part in parts:
            await deferLater(self._reactor, self._pause())
            yield part

    def _streaming(self, request: http.Request) -> Any:
        kind = self.random.randrange(6)
        if request.body is None or kind == 0:
            # Before the body has ended.
            return self._answer()
        if kind == 1:
            return self._echo(request.body)
        return self._read(request, kind)

    async def _echo(self, body: Any) -> AsyncIterator[bytes]:
        async for part in body:
            yield part

    async def _read(self, request: http.Request, kind: int) -> Any:
        body = request.body
        assert body is not None
        parts = []
        await deferLater(self._reactor, self._pause())
        if kind == 2:
            return self._sized(await request.read(self.random.choice([100, 100_000])))
        async for part in body:
            parts.append(part)
            if kind == 3:
                return b"".join(parts)
            await deferLater(self._reactor, self._pause())
        self.note(request.target, b"".join(parts))
        return self._answer_later() if kind == 4 else self._sized(b"".join(parts))

    def _sized(self, data: bytes) -> http.Response:
        return http.Response(200, iter([data[:10], data[10:]]), {"Content-Length": len(data)})

    def _answer_later(self) -> Deferred[Any]:
        return deferLater(self._reactor, self._pause(), lambda: b"later")

    # ASGI

    async def asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Messages in an order that is right."""
        random = self.random
        if scope["type"] == "websocket":
            await self._webSocket(receive, send)
            return
        watching = None
        if random.random() < 0.8 and not await self._receiveSome(scope, receive):
            return
        if random.random() < 0.2:
            watching = asyncio.ensure_future(receive())
        await asyncio.sleep(self._pause())
        if random.random() < 0.1:
            await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
        parts = self._parts()
        headers = [(b"a", b"b")]
        if random.random() < 0.3:
            headers.append((b"content-length", b"%d" % sum(map(len, parts))))
        if random.random() < 0.05:
            headers.append((b"connection", b"close"))
        trailers = random.random() < 0.2
        start = {"type": "http.response.start", "status": random.choice(STATUSES), "headers": headers}
        await send({**start, "trailers": trailers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if random.random() < 0.3:
                await asyncio.sleep(self._pause())
        await send({"type": "http.response.body"})
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"t", b"x")]})
        if watching is not None:
            await watching

    async def _webSocket(self, receive: Any, send: Any) -> None:
        """An echo, or none."""
        await receive()
        await asyncio.sleep(self._pause())
        if self.random.random() < 0.3:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})

    async def _receiveSome(self, scope: dict[str, Any], receive: Any) -> bool:
        """Read a part of the body, or all of it; False: the client has gone."""
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            parts.append(message["body"])
            if not message["more_body"]:
                query = scope["query_string"]
                self.note(scope["raw_path"] + (b"?" + query if query else b""), b"".join(parts))
                return True
            if self.random.random() < 0.1:
                return True
            await asyncio.sleep(self._pause())

    # WSGI

    def wsgi(self, environ: dict[str, Any], start: Any) -> Any:
        """In a thread."""
        random = self.random
        if random.random() < 0.8:
            size = random.choice([-1, -1, 1, 5000])
            data = environ["wsgi.input"].read(size)
            if size < 0:
                query = environ["QUERY_STRING"].encode()
                self.note(environ["PATH_INFO"].encode("latin-1") + (b"?" + query if query else b""), data)
        parts = self._parts()
        headers = [("A", "b")]
        if random.random() < 0.3:
            headers.append(("Content-Length", str(sum(map(len, parts)))))
        write = start(f"{random.choice(STATUSES)} Text", headers)
        kind = random.randrange(3)
        if kind == 0:
            for part in parts:
                write(part)
            return []
        return parts if kind == 1 else self._generated(parts)

    def _generated(self, parts: list[bytes]) -> Iterator[bytes]:
        yield from parts
