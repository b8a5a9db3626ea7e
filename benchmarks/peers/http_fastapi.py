"""The shape ``fastapi`` of ``benchmarks.http``: an object, by FastAPI."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.peers.http_shapes import OBJECT

fastapi = FastAPI()


@fastapi.get("/fastapi")
async def answer() -> dict[str, str]:
    return OBJECT
