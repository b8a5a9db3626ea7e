"""
ASGI 3 applications, on asyncio's loop as a guest of the reactor.

- ``application``: what a Server serves; ``loading`` finds the application by name.
- ``scope``: what the application is told of a request.
- ``exchange``: ``receive`` and ``send`` of one request.
- ``websocket``: the same for a WebSocket.
- ``lifespan``: start and end of the application.

The specification: https://asgi.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

from getty_tx.http.asgi.application import Asgi

__all__ = ["Asgi"]
