"""
A chat over TCP, UDP and WebSocket: ``python examples/chat.py``, then ``nc localhost 8090``.

``/nick NAME`` sets your name, ``/who`` lists the users, ``/quit`` leaves. Endpoints may be given as arguments. The
tutorial in docs/ builds a smaller chat step by step, with a page for the browser.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import EventListener, Server, SessionBlockedError, SessionClosedError
from getty_tx.codecs import LineCodec

ENDPOINTS = (
    "tcp:8090:interface=127.0.0.1",
    "ws:8091:interface=127.0.0.1:path=/chat",
    "udp:8090:interface=127.0.0.1:sessions=peer",
)


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


class Room(EventListener):
    """One listener for all sessions: sends each message to all users in the room."""

    def __init__(self):
        self.names = {}

    def onOpen(self, session):
        self.names[session] = f"guest{session.id}"
        session.writePkg(f"you are {self.names[session]}; /nick NAME, /who, /quit")
        self.say(f"{self.names[session]} is here", but=session)

    def onMessage(self, session, text):
        command, _, rest = text.partition(" ")
        name = self.names[session]
        if command == "/nick" and rest:
            if rest in self.names.values():
                session.writePkg(f"there is a {rest} already")
            else:
                self.names[session] = rest
                self.say(f"{name} is {rest} from here on")
        elif command == "/who":
            session.writePkg(", ".join(sorted(self.names.values())))
        elif command == "/quit":
            session.close("bye")
        elif text:
            self.say(f"{name}: {text}")

    def onClose(self, session):
        # A session whose onOpen failed is not in it.
        name = self.names.pop(session, None)
        if name is not None:
            self.say(f"{name} has gone")

    def say(self, text, but=None):
        for session in list(self.names):
            if session is but:
                continue
            try:
                session.writePkg(text)
            except SessionBlockedError as error:
                # This user does not read: fail this session only.
                session.close(error)
            except SessionClosedError:
                # Its onClose follows.
                pass


async def main(reactor, *endpoints):
    codec, room = TextCodec(), Room()

    def newSession(session):
        session.codec = codec
        session.listener = room
        session.maxMsgLen = 1000
        session.maxPending = 256 * 1024

    server = Server(newSession, *(endpoints or ENDPOINTS), maxSessions=1000)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
