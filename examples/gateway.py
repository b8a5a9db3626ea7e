"""
Browsers to a server of lines: ``python examples/gateway.py``, with ``twistd -n getty-echo`` beside it.

Each WebSocket on ``ws://127.0.0.1:8091/lines`` gets its own TCP connection; its text messages are sent there as lines,
and lines come back as messages. If one side reads slowly, the other is paused; if one side closes, so does the other.
``examples/echo.html?server=ws://127.0.0.1:8091/lines`` is a page for it. The endpoints to serve and to dial may be
given as arguments.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import LineCodec, RawCodec


def passOn(source, target, pkg):
    """Write to the target, and pause the source until the target has sent the bytes."""
    target.writePkg(pkg)
    if target.pendingBytes > target.highWater:
        source.pauseReading()
        # Fires or fails at the latest when the target is closed.
        target.drained().addBoth(lambda _: source.resumeReading())


class Browser(EventListener):
    """The listener of the WebSocket."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    async def onOpen(self, session):
        # Messages wait until this returns. If the connection fails, it raises, which closes the WebSocket.
        def newSession(other):
            other.codec = LineCodec()
            other.listener = Lines(session, client)

        client = session.attributes["client"] = Client(newSession, self.endpoint, reconnectAttempts=1)
        client.startService()
        await client.whenReady(timeout=5)

    def onMessage(self, session, pkg):
        text = pkg if isinstance(pkg, str) else pkg.decode()
        for line in text.splitlines() or [""]:
            passOn(session, session.attributes["client"].pick(), line.encode())

    def onError(self, session, error):
        print(f"{session}: {error}", flush=True)

    def onClose(self, session):
        # Pending bytes are sent before the connection is closed.
        session.attributes["client"].close()


class Lines(EventListener):
    """The listener of the TCP connection."""

    def __init__(self, browser, client):
        self.browser = browser
        self.client = client

    def onMessage(self, session, line):
        if not self.browser.isClosed:
            passOn(session, self.browser, line.decode(errors="replace"))

    def onClose(self, session):
        # Do not reconnect: a new connection would not continue the old conversation.
        self.client.close()
        self.browser.close("the server has gone")


async def main(reactor, listen="ws:8091:interface=127.0.0.1:path=/lines", connect="tcp:127.0.0.1:8090"):
    def newSession(session):
        session.codec = RawCodec()
        session.listener = Browser(connect)

    server = Server(newSession, listen, maxSessions=1000)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
