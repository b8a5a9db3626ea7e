"""getty_tx on its own reactor, with the settings that it has.

    python grpc_getty.py PORT def|async

With ``def``, only handlers that take a stream of requests are ``async def``.
"""

from __future__ import annotations

import sys

from getty_tx import reactors

reactors.install()

import grpc_echo  # noqa: E402
from twisted.internet import reactor  # noqa: E402
from twisted.python import log  # noqa: E402

from getty_tx.http.grpc.server import Server  # noqa: E402

port, style = sys.argv[1:]
log.startLogging(sys.stderr)
server = Server(f"tcp:{port}:interface=127.0.0.1")
grpc_echo.addTo(server, grpc_echo.Mixed() if style == "def" else grpc_echo.Async())
server.startService()
reactor.run()  # type: ignore[attr-defined]
