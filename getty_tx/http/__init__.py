"""
HTTP/1.1 on sessions.

- ``codec``: bytes to requests, parts of bodies and refusals; ``head``, ``fields`` and ``chunks`` are its parsers.
- ``connection``: the order, the pauses and the times of one connection; ``answering`` is its way out.
- ``request``, ``body``: what a handler gets; ``response``, ``answers``: what it answers with.
- ``handlers``, ``router``: functions as applications.
- ``asgi``: applications for asyncio, such as those of Django and Starlette.
- ``upgrade``: WebSocket on the same port; ``upgraderoute`` serves its sessions, ``upgraded`` is their request;
  ``leaving`` ends HTTP on their connections.
- ``server``: an application on endpoints; ``context``, ``dates`` and ``counting`` are what its connections share.
- ``files``: the files of a folder; ``conditions``: their conditional requests and ranges.
- ``wsgi``, ``wsgicall``: WSGI applications, in threads.
- ``resources``: resources of twisted.web.
- ``access``: the access log; ``proxy``: clients behind proxies.
- ``interfaces``: the plug points; ``refusals``: why a request is not served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.http.access import AccessLog
from getty_tx.http.answers import GoneError
from getty_tx.http.body import BodyLostError
from getty_tx.http.proxy import Proxies
from getty_tx.http.request import Request
from getty_tx.http.response import Response
from getty_tx.http.router import Router
from getty_tx.http.server import Server

if TYPE_CHECKING:
    from getty_tx.http.asgi import Asgi
    from getty_tx.http.files import Files
    from getty_tx.http.resources import Resources
    from getty_tx.http.wsgi import Wsgi

__all__ = [
    "AccessLog",
    "Asgi",
    "BodyLostError",
    "Files",
    "GoneError",
    "Proxies",
    "Request",
    "Resources",
    "Response",
    "Router",
    "Server",
    "Wsgi",
]


def __getattr__(name: str) -> Any:
    """What is loaded when it is asked for: asyncio, types of content, twisted.web and threads come with it."""
    if name == "Asgi":
        from getty_tx.http.asgi import Asgi

        return Asgi
    if name == "Files":
        from getty_tx.http.files import Files

        return Files
    if name == "grpc":
        from importlib import import_module

        return import_module("getty_tx.http.grpc")
    if name == "Resources":
        from getty_tx.http.resources import Resources

        return Resources
    if name == "Wsgi":
        from getty_tx.http.wsgi import Wsgi

        return Wsgi
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
