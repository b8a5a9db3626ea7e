"""
A chat over TCP, UDP and WebSocket: ``python examples/chat.py``, then ``nc localhost 8090``.

``/nick NAME`` sets your name, ``/who`` lists the users, ``/quit`` leaves. Endpoints may be given as arguments. The
tutorial in docs/ builds a smaller chat step by step, with a page for the browser.

``twistd -n getty-serve --listener chat:Room --codec chat:TextCodec --processes 2`` in this folder serves the same room
with two processes.
"""

import sys
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import EventListener, Server
from getty_tx.codecs import LineCodec
from getty_tx.groups import Groups, Namespace

ENDPOINTS = (
    "tcp:8090:interface=127.0.0.1",
    "ws:8091:interface=127.0.0.1:path=/chat",
    "udp:8090:interface=127.0.0.1:sessions=peer",
)

# Those who read too slowly are closed: nobody waits for them.
groups = Groups(namespaces={"room": Namespace(presence=True)})


class TextCodec:
    """Packages are str: each a line of a stream or datagram, or a message of a WebSocket."""

    def __init__(self):
        self.lines = LineCodec()

    def read(self, session, data):
        if session.isText is not None:
            return str(data, "utf-8"), len(data)
        line, length = self.lines.read(session, data)
        return (None if line is None else line.decode().rstrip("\r")), length

    def write(self, session, pkg):
        return pkg if session.isText is not None else f"{pkg}\n".encode()

    def shareKey(self, session):
        # What is said is encoded once for all streams, and once for all WebSockets.
        return TextCodec


class Room(EventListener):
    """One listener for all sessions: what is said goes to all users in the room, in whatever process they are."""

    room = groups.group("room:chat")

    async def names(self):
        return {member.user for member in await self.room.presence()}

    async def onOpen(self, session):
        taken = await self.names()
        name = next(f"guest{number}" for number in count(1) if f"guest{number}" not in taken)
        await self.enter(session, name)
        session.writePkg(f"you are {name}; /nick NAME, /who, /quit")
        self.room.publish(f"{name} is here", but=session)

    async def enter(self, session, name):
        self.room.leave(session)
        await self.room.join(session, user=name)
        session.attributes["name"] = name

    async def onMessage(self, session, text):
        command, _, rest = text.partition(" ")
        name = session.attributes["name"]
        if command == "/nick" and rest:
            if rest in await self.names():
                session.writePkg(f"there is a {rest} already")
            else:
                await self.enter(session, rest)
                self.room.publish(f"{name} is {rest} from here on")
        elif command == "/who":
            session.writePkg(", ".join(sorted(await self.names())))
        elif command == "/quit":
            session.close("bye")
        elif text:
            self.room.publish(f"{name}: {text}")

    def onClose(self, session):
        # A session whose onOpen failed has no name.
        if "name" in session.attributes:
            self.room.publish(f"{session.attributes['name']} has gone")


async def main(reactor, *endpoints):
    codec, room = TextCodec(), Room()

    def newSession(session):
        session.codec = codec
        session.listener = room
        session.maxMsgLen = 1000

    server = Server(newSession, *(endpoints or ENDPOINTS), maxSessions=1000)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
