"""
The ASGI applications that all ASGI servers of ``benchmarks.http`` run: one a shape, ``http_asgi:hello`` and so on.
Those of Starlette and FastAPI are in files of their own, so that no other server's memory has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.http_shapes import HELLO, STREAMS, WORK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

TEXT = (b"content-type", b"text/plain")


def _onlyHTTP(scope: dict[str, Any]) -> None:
    """By the specification, an application that raises for ``lifespan`` does without."""
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")


async def _read(receive: Receive) -> bytes:
    """The whole body."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


async def _answer(send: Send, body: bytes) -> None:
    headers = [TEXT, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Plaintext."""
    _onlyHTTP(scope)
    await _answer(send, HELLO)


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The body that has come."""
    _onlyHTTP(scope)
    await _answer(send, await _read(receive))


def _computing(work: Callable[[], bytes]) -> Application:
    async def compute(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        _onlyHTTP(scope)
        await _read(receive)
        await _answer(send, work())

    return compute


def _streaming(size: int, count: int) -> Application:
    chunk = bytes(size)

    async def stream(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        _onlyHTTP(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
        for _ in range(count):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return stream


loop, digest = _computing(WORK["loop"]), _computing(WORK["digest"])
stream64k, stream10m = _streaming(*STREAMS["stream64k"]), _streaming(*STREAMS["stream10m"])
