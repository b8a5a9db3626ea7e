"""
A port of HTTP whose WebSocket the Autobahn test suite's cases try: ``conformance_http.py LONGEST PING sessions|asgi``.

Before each upgrade the connection could serve requests; afterwards its session sends every message back.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import EventListener, http
from getty_tx.codecs import RawCodec


class Echo(EventListener):
    """Sends every message back."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        """A message came."""
        session.writePkg(pkg)

    def onError(self, session: Any, error: BaseException) -> None:
        """Most cases provoke one."""
        print(error, flush=True)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The same as an ASGI application."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def makeRouter(longest: int, ping: float) -> http.Router:
    """A router with sessions of getty_tx."""
    echo = Echo()

    def newSession(session: Any) -> None:
        session.codec, session.listener = RawCodec(), echo
        session.maxMsgLen, session.cronPeriod = longest, ping

    router = http.Router()
    router.webSocket("/", newSession)
    return router


async def main(reactor: object, longest: str, ping: str, kind: str) -> None:
    """Serve until a signal ends it."""
    served: Any = makeRouter(int(longest), float(ping))
    if kind == "asgi":
        served = http.Asgi(application, lifespan="off", maxMessage=int(longest))
    server = http.Server(served, "tcp:0:interface=127.0.0.1")
    server.startService()
    [address] = await server.whenListening()
    port: Any = address
    print(f"listening on tcp:127.0.0.1:{port.port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
