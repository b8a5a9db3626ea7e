"""
One listener, one codec, every transport: ``python examples/everywhere.py``.

Serves an echo over TCP, a unix socket, UDP and WebSocket, dials each of them, and prints the replies. With a
certificate for ``localhost`` and its key, TLS and WebSocket over TLS as well::

    python examples/everywhere.py cert.pem key.pem [CA.pem]
"""

import os
import sys
import tempfile

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import Client, EventListener, Server, UDPContext
from getty_tx.codecs import LengthCodec

codec = LengthCodec()


class Echo(EventListener):
    def onMessage(self, session, pkg):
        # On a server's UDP socket, packages are read and written with the address of the peer.
        text = pkg.pkg if isinstance(pkg, UDPContext) else pkg
        print(f"{session.name} heard {text.decode()!r}", flush=True)
        session.writePkg(pkg)


class Hello(EventListener):
    def __init__(self):
        self.reply = Deferred()

    def onOpen(self, session):
        session.writePkg(f"hello over {session.name}".encode())

    def onMessage(self, session, pkg):
        self.reply.callback(pkg)


def sessionsFor(listener):
    def newSession(session):
        session.codec = codec
        session.listener = listener

    return newSession


async def main(reactor, certificate="", key="", trusted=""):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "echo.sock")
        endpoints = {
            "tcp:0:interface=127.0.0.1": "tcp:127.0.0.1:{port}",
            f"unix:{path}": f"unix:{path}",
            "udp:0:interface=127.0.0.1": "udp:127.0.0.1:{port}",
            "ws:0:interface=127.0.0.1:path=/echo": "ws://127.0.0.1:{port}/echo",
        }
        if certificate:
            files = f"certKey={certificate}:privateKey={key}"
            roots = f":trustRoots={trusted or certificate}"
            endpoints[f"ssl:0:interface=127.0.0.1:{files}"] = "tls:localhost:{port}" + roots
            endpoints[f"wss:0:interface=127.0.0.1:{files}"] = "wss:localhost:{port}:path=/" + roots
        server = Server(sessionsFor(Echo()), *endpoints)
        server.startService()
        addresses = await server.whenListening()
        for address, description in zip(addresses, endpoints.values(), strict=True):
            listener = Hello()
            client = Client(sessionsFor(listener), description.format(port=getattr(address, "port", None)))
            client.startService()
            await client.whenReady(timeout=5)
            print((await listener.reply).decode(), flush=True)
            await client.close()
        await server.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
