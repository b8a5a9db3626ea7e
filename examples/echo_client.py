"""Send a line to an echo server and print the reply: ``python examples/echo_client.py``."""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import Client, EventListener
from getty_tx.codecs import LineCodec


class Reply(EventListener):
    def __init__(self):
        self.came = Deferred()

    def onMessage(self, session, pkg):
        self.came.callback(pkg)


async def main(reactor, endpoint="tcp:127.0.0.1:8090"):
    reply = Reply()

    def newSession(session):
        session.codec = LineCodec()
        session.listener = reply

    client = Client(newSession, endpoint)
    client.startService()
    await client.whenReady(timeout=5)
    client.pick().writePkg(b"hello")
    print((await reply.came).decode())
    await client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
