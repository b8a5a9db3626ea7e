"""
A port of HTTP whose WebSocket the Autobahn test suite's cases try: ``conformance_http.py LONGEST PING``.

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


async def main(reactor: object, longest: str, ping: str) -> None:
    """Serve until a signal ends it."""
    echo = Echo()

    def newSession(session: Any) -> None:
        session.codec, session.listener = RawCodec(), echo
        session.maxMsgLen, session.cronPeriod = int(longest), float(ping)

    router = http.Router()
    router.webSocket("/", newSession)
    server = http.Server(router, "tcp:0:interface=127.0.0.1")
    server.startService()
    [address] = await server.whenListening()
    port: Any = address
    print(f"listening on tcp:127.0.0.1:{port.port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
