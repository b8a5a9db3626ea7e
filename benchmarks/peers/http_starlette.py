"""The shape ``json`` of ``benchmarks.http``: an object, by Starlette."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.http_shapes import OBJECT


async def answer(request: Any) -> JSONResponse:
    return JSONResponse(OBJECT)


json = Starlette(routes=[Route("/json", answer)])
