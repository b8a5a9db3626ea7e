"""
Sessions in a Twisted application that makes its own listening calls: ``python examples/audit.py``.

The application already serves a page on port 8092. A factory adds an echo server on port 8090. The factory's protocol
is a subclass of SessionProtocol: it sees the bytes before the codec does, and counts them for the page. Two arguments
change the ports.
"""

import sys
from time import monotonic

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import Site

from getty_tx import EventListener, SessionProtocol, SessionServerFactory
from getty_tx.codecs import LineCodec


class AuditedProtocol(SessionProtocol):
    """A protocol that counts bytes. Methods of Twisted's protocols may be extended if they call the base class."""

    def connectionMade(self):
        self.since = monotonic()
        self.chunks = 0
        super().connectionMade()

    def dataReceived(self, data):
        self.chunks += 1
        super().dataReceived(data)

    def connectionLost(self, reason):
        self.factory.account.append(f"{self.chunks} reads in {monotonic() - self.since:.1f} s")
        super().connectionLost(reason)


class Echo(EventListener):
    def onMessage(self, session, pkg):
        session.writePkg(pkg)


class Account(Resource):
    """The page of the application."""

    isLeaf = True

    def __init__(self, factory):
        super().__init__()
        self.factory = factory

    def render_GET(self, request):
        request.setHeader(b"content-type", b"text/plain")
        return "".join(f"{line}\n" for line in [f"{len(self.factory.sessions)} open", *self.factory.account]).encode()


def newSession(session):
    session.codec = LineCodec()
    session.listener = Echo()


async def main(reactor, port="8090", pagePort="8092"):
    factory = SessionServerFactory(newSession, maxSessions=100)
    factory.protocol = AuditedProtocol
    factory.account = []
    echo = reactor.listenTCP(int(port), factory, interface="127.0.0.1")
    page = reactor.listenTCP(int(pagePort), Site(Account(factory)), interface="127.0.0.1")

    def stop():
        # A Server does this itself: accept no more connections, and let each session send its pending bytes.
        stopped = [listening.stopListening() for listening in (echo, page)]
        for session in list(factory.sessions):
            ended = Deferred()
            session.addCloseCallback(lambda ended=ended: ended.callback(None), "stop")
            session.close()
            stopped.append(ended)
        return DeferredList(stopped)

    reactor.addSystemEventTrigger("before", "shutdown", stop)
    print("listening on", [echo.getHost(), page.getHost()], flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
