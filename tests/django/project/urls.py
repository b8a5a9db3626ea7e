"""The views."""

from __future__ import annotations

import asyncio
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def hello(request: HttpRequest) -> HttpResponse:
    """Runs in a thread."""
    return HttpResponse(f"hello from {request.get_host()}")


def echo(request: HttpRequest) -> HttpResponse:
    """Reads the body."""
    return HttpResponse(request.body)


async def streamed(request: HttpRequest) -> StreamingHttpResponse:
    """Sends its body in parts, on asyncio."""

    async def parts() -> Any:
        for number in range(3):
            await asyncio.sleep(0.001)
            yield f"{number}\n"

    return StreamingHttpResponse(parts())


def fail(request: HttpRequest) -> HttpResponse:
    """Raises."""
    raise ValueError("the view failed")


urlpatterns = [
    path("", hello),
    path("echo", csrf_exempt(echo)),
    path("streamed", streamed),
    path("fail", fail),
]
