"""
A port of HTTP whose WebSocket the Autobahn test suite's cases try.

    python conformance_http.py LONGEST PING sessions|asgi|group

Before each upgrade the connection could serve requests; afterwards its session sends every message back. With ``group``
there are members of a group besides, which is published to all the time, in frames that they share, compressed and not.
The sessions of the cases are no members: a case fails where a message comes that it does not expect.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from getty_tx import Client, EventListener, http
from getty_tx.codecs import RawCodec
from getty_tx.groups import Groups

#: Members of the group, and seconds between two publications of 1 KB: some 2,000 deliveries a second.
MEMBERS, PACE = 20, 0.01


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


class Counting(EventListener):
    """
    Of the members' clients.

    :ivar ready: fires when some publications have come to all.
    """

    def __init__(self) -> None:
        self.count = 0
        self.ready: Deferred[None] = Deferred()

    def onMessage(self, session: Any, pkg: Any) -> None:
        """A publication has come."""
        self.count += 1
        if self.count == 10 * MEMBERS:
            self.ready.callback(None)


class Members(EventListener):
    """Sessions that join the group."""

    def __init__(self) -> None:
        groups = Groups()
        groups.startService()
        self.group = groups.group("all")

    def onOpen(self, session: Any) -> None:
        """One more."""
        self.group.join(session)

    def configure(self, session: Any) -> None:
        """A session of the server."""
        session.codec, session.listener = RawCodec(), self

    def broadcast(self, port: int) -> Deferred[None]:
        """Connect all members, and publish from now on."""
        counting = Counting()

        def newSession(session: Any) -> None:
            session.codec, session.listener = RawCodec(), counting

        for number in range(MEMBERS):
            deflate = "yes" if number % 2 else "no"
            Client(newSession, f"ws:127.0.0.1:{port}:path=/group:deflate={deflate}").startService()
        text = "what all members of the group get " * 30
        LoopingCall(lambda: self.group.publish(text)).start(PACE)
        return counting.ready


async def main(reactor: object, longest: str, ping: str, kind: str) -> None:
    """Serve until a signal ends it."""
    served: Any = makeRouter(int(longest), float(ping))
    if kind == "asgi":
        served = http.Asgi(application, lifespan="off", maxMessage=int(longest))
    members = Members() if kind == "group" else None
    if members is not None:
        served.webSocket("/group", members.configure)
    server = http.Server(served, "tcp:0:interface=127.0.0.1")
    server.startService()
    [address] = await server.whenListening()
    port: Any = address
    if members is not None:
        await members.broadcast(port.port)
    print(f"listening on tcp:127.0.0.1:{port.port}", flush=True)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
