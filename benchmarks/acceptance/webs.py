"""The HTTP applications of the acceptance modules."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx import http

router = http.Router()

_pid = b"%d " % os.getpid()
_file = os.open(os.environ.get("TAKEN", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@router.get("/now/{number}")
def now(request: http.Request) -> bytes:
    """The process id and the number; each request leaves a line in the file that ``TAKEN`` names."""
    os.write(_file, b"1\n")
    return _pid + request.path["number"].encode()


@router.get("/later/{number}")
async def later(request: http.Request) -> Any:
    """The same after 20 ms."""
    os.write(_file, b"1\n")
    await deferLater(reactor, 0.02)
    return _pid + request.path["number"].encode()


@router.post("/echo")
def echo(request: http.Request) -> bytes | None:
    """The body."""
    return request.content


@router.post("/count", stream=True)
async def count(request: http.Request) -> dict[str, int]:
    """How many bytes the body has."""
    if request.body is None:
        return {"bytes": 0}
    size = 0
    async for part in request.body:
        size += len(part)
    return {"bytes": size}


@router.get("/bytes/{count}")
async def many(request: http.Request) -> Any:
    """So many bytes, 64 KiB at a time."""
    left = int(request.path["count"])
    part = bytes(64 * 1024)
    while left > 0:
        yield part[:left]
        left -= len(part)
