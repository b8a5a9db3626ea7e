"""The plain handlers of getty_tx for ``benchmarks.http``, which ``twistd getty-http`` serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.peers.http_shapes import HELLO, OBJECT, STREAMS, WORK
from getty_tx import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

router = http.Router()


@router.get("/hello")
def hello(request: http.Request) -> bytes:
    return HELLO


@router.post("/echo")
def echo(request: http.Request) -> Any:
    return request.content


@router.get("/json")
def json(request: http.Request) -> dict[str, str]:
    return OBJECT


def _add(shape: str) -> None:
    if shape in WORK:
        work: Callable[[], bytes] = WORK[shape]
        router.add("POST", f"/{shape}", lambda request: work())
        return
    size, count = STREAMS[shape]
    chunk = bytes(size)

    def stream(request: http.Request) -> http.Response:
        def chunks() -> Iterator[bytes]:
            for _ in range(count):
                yield chunk

        return http.Response(body=chunks())

    router.add("GET", f"/{shape}", stream)


for each in (*WORK, *STREAMS):
    _add(each)
