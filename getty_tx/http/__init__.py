"""
HTTP/1.1 on sessions.

- ``codec``: bytes to requests, parts of bodies and refusals; ``head``, ``fields`` and ``chunks`` are its parsers.
- ``connection``: the order, the pauses and the times of one connection; ``answering`` is its way out.
- ``request``, ``body``: what a handler gets; ``response``, ``answers``: what it answers with.
- ``handlers``, ``router``: functions as applications.
- ``server``: an application on endpoints; ``context``, ``dates`` and ``counting`` are what its connections share.
- ``interfaces``: the plug points; ``refusals``: why a request is not served.
"""

from __future__ import annotations

from getty_tx.http.answers import GoneError
from getty_tx.http.body import BodyLostError
from getty_tx.http.request import Request
from getty_tx.http.response import Response
from getty_tx.http.router import Router
from getty_tx.http.server import Server

__all__ = ["BodyLostError", "GoneError", "Request", "Response", "Router", "Server"]
