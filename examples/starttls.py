"""
STARTTLS: begin unencrypted, and switch to TLS when the client asks for it.

::

    python examples/starttls.py serve server.pem key.pem
    python examples/starttls.py dial ca.pem

The client sends ``STARTTLS``; the server answers ``ready``, still unencrypted, and both switch to TLS. ``ca.pem`` has
the authority that issued the server's certificate, which must be for ``localhost``. The endpoint to listen on, or to
connect to, may be given as another argument.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import LineCodec
from getty_tx.tls import clientPolicy, serverPolicy


class ServerListener(EventListener):
    def __init__(self, policy):
        self.policy = policy

    def onOpen(self, session):
        session.attributes["encrypted"] = False

    def onMessage(self, session, pkg):
        if pkg == b"STARTTLS" and not session.attributes["encrypted"]:
            session.writePkg(b"ready")
            # Bytes written before are sent unencrypted, bytes written after are encrypted.
            session.transport.startTLS(self.policy)
            session.attributes["encrypted"] = True
        elif session.attributes["encrypted"]:
            session.writePkg(b"you said in private: " + pkg)
        else:
            session.writePkg(b"say STARTTLS first")


class ClientListener(EventListener):
    def __init__(self, policy):
        self.policy = policy
        self.reply = Deferred()

    def onOpen(self, session):
        session.writePkg(b"STARTTLS")

    def onMessage(self, session, pkg):
        if pkg == b"ready":
            session.transport.startTLS(self.policy)
            session.writePkg(b"hello")
        else:
            self.reply.callback(pkg)

    def onError(self, session, error):
        # Such as: the certificate is not for this host, or no trusted authority issued it.
        if not self.reply.called:
            self.reply.errback(error)


def sessionsFor(listener):
    def newSession(session):
        session.codec = LineCodec()
        session.listener = listener

    return newSession


async def serve(reactor, certificate, key, endpoint="tcp:8090:interface=127.0.0.1"):
    server = Server(sessionsFor(ServerListener(serverPolicy(certificate, key))), endpoint)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


async def dial(reactor, trustRoot, endpoint="tcp:127.0.0.1:8090"):
    listener = ClientListener(clientPolicy("localhost", trustRoot=trustRoot))
    client = Client(sessionsFor(listener), endpoint)
    client.startService()
    try:
        print((await listener.reply).decode())
    finally:
        await client.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"] and len(sys.argv) in (4, 5):
        react(serve, sys.argv[2:])
    elif sys.argv[1:2] == ["dial"] and len(sys.argv) in (3, 4):
        react(dial, sys.argv[2:])
    sys.exit(__doc__)
