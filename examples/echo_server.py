"""Send every line back: ``python examples/echo_server.py``, then ``nc localhost 8090``."""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import EventListener, Server
from getty_tx.codecs import LineCodec


class Echo(EventListener):
    def onMessage(self, session, pkg):
        session.writePkg(pkg)


def newSession(session):
    session.codec = LineCodec()
    session.listener = Echo()


async def main(reactor, endpoint="tcp:8090:interface=127.0.0.1"):
    server = Server(newSession, endpoint)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
