"""
One market feed to many browsers: ``python examples/feed.py``, then open examples/feed.html, as often as you like.

A pool connects to the feed, which sends JSON documents, one a line. A browser gets the last price of each symbol when
it connects, and each change from then on. A slow browser misses intermediate prices but never the last one: while its
output is blocked, changes replace each other instead of being queued, so memory does not grow. Without arguments the
feed is simulated; otherwise the first argument is the endpoint of a feed, and the second the endpoint to listen on.
"""

import json
import random
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import JsonLinesCodec, RawCodec
from getty_tx.groups import Groups, Namespace

# A browser that is behind gets the last quote of each symbol when it reads again.
groups = Groups(namespaces={"feed": Namespace(slow="latest")})


class Board:
    """The last quote of each symbol, and the browsers that show it."""

    browsers = groups.group("feed:quotes")

    def __init__(self):
        self.last = {}

    def quote(self, quote):
        symbol = quote["symbol"]
        self.last[symbol] = quote
        self.browsers.publish(json.dumps([quote]), key=symbol)


class Source(EventListener):
    """Receives quotes from the feed."""

    def __init__(self, board):
        self.board = board

    def onMessage(self, session, pkg):
        self.board.quote(pkg)


class Browser(EventListener):
    """A browser. Its messages are ignored."""

    def __init__(self, board):
        self.board = board

    def onOpen(self, session):
        session.writePkg(json.dumps(list(self.board.last.values())))
        self.board.browsers.join(session)


def sessionsFor(codec, listener, **settings):
    def newSession(session):
        session.codec = codec
        session.listener = listener
        for name, value in settings.items():
            setattr(session, name, value)

    return newSession


def madeUp(reactor):
    """A server with random prices."""
    prices = dict.fromkeys(("ACME", "INITECH", "UMBRELLA"), 100.0)

    def change():
        symbol = random.choice(list(prices))
        prices[symbol] = round(prices[symbol] * random.uniform(0.99, 1.01), 2)
        for session in server.sessions:
            session.writePkg({"symbol": symbol, "price": prices[symbol]})

    server = Server(sessionsFor(JsonLinesCodec(), EventListener()), "tcp:0:interface=127.0.0.1")
    LoopingCall(change).start(0.05)
    return server


async def main(reactor, source="", listen="ws:8091:interface=127.0.0.1:path=/feed"):
    board, services = Board(), []
    if not source:
        services.append(madeUp(reactor))
        services[0].startService()
        [address] = await services[0].whenListening()
        source = f"tcp:127.0.0.1:{address.port}"
    # Reconnect to a feed that is silent for ten seconds.
    feed = Client(sessionsFor(JsonLinesCodec(), Source(board), readTimeout=10), source)
    server = Server(sessionsFor(RawCodec(), Browser(board), maxMsgLen=1000), listen, maxSessions=10000)
    for service in (feed, server):
        service.startService()
        services.append(service)
    for service in services:
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
