"""getty_tx on its own reactor: its groups, or a loop of ``writePkg``.

    python groups_getty.py PORT WIRE groups|loop [WINDOW]

WIRE and the messages are those of ``../groupload.c``: ``ws`` and ``deflate`` have a codec of JSON as the first one that
comes to mind, ``length`` has LengthCodec, whose packages are bytes. ``groups`` publishes to a group, whose window is
WINDOW seconds (0); ``loop`` calls ``writePkg`` for each member, as an application without groups does, and closes a
member whose output is blocked. All else is as getty_tx has it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from getty_tx import EventListener, Server, SessionBlockedError, SessionClosedError, reactors
from getty_tx.codecs import LengthCodec

reactors.install()

from twisted.internet import reactor  # noqa: E402
from twisted.python import log  # noqa: E402


class JsonCodec:
    """An object of JSON for each text message."""

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        return json.loads(bytes(data)), len(data)

    def write(self, session: Any, pkg: Any) -> str:
        return json.dumps(pkg, separators=(",", ":"))

    def shareKey(self, session: Any) -> object:
        """All members get the same bytes of a package."""
        return "json"


def report(failure: Any) -> None:
    """Log what went wrong: without a log that has begun, only that is printed."""
    log.err(failure)


class Loop:
    """A set of members, and a loop."""

    def __init__(self) -> None:
        self.members: set[Any] = set()

    def join(self, session: Any) -> None:
        self.members.add(session)

    def leave(self, session: Any) -> None:
        self.members.discard(session)

    def publish(self, pkg: Any) -> None:
        for session in list(self.members):
            try:
                session.writePkg(pkg)
            except SessionBlockedError as error:
                session.close(error)
            except SessionClosedError:
                self.members.discard(session)


class Grouped:
    """A group of getty_tx, which members leave by themselves."""

    def __init__(self, window: float) -> None:
        from getty_tx.groups import Groups, Namespace

        groups = Groups(namespaces={"room": Namespace(window=window)})
        groups.startService()
        self.group = groups.group("room:1")

    def join(self, session: Any) -> None:
        self.group.join(session).addErrback(report)

    def leave(self, session: Any) -> None:
        pass

    def publish(self, pkg: Any) -> None:
        self.group.publish(pkg).addErrback(report)


class Room(EventListener):
    """Does what messages say."""

    def __init__(self, room: Any, isJson: bool) -> None:
        self.room = room
        self.isJson = isJson

    def onMessage(self, session: Any, pkg: Any) -> None:
        do = pkg["do"] if self.isJson else pkg[7:11]
        if do in ("pub", b'pub"'):
            self.room.publish(pkg)
            return
        if do in ("join", b"join"):
            self.room.join(session)
        session.writePkg(pkg)

    def onClose(self, session: Any) -> None:
        self.room.leave(session)


def main(port: str, wire: str, kind: str, window: str = "0") -> None:
    room = Grouped(float(window)) if kind == "groups" else Loop()
    listener, isJson = Room(room, wire != "length"), wire != "length"

    def newSession(session: Any) -> None:
        session.codec = JsonCodec() if isJson else LengthCodec()
        session.listener = listener

    endpoint = f"tcp:{port}" if wire == "length" else f"ws:{port}:deflate={'yes' if wire == 'ws:deflate' else 'no'}"
    server = Server(newSession, f"{endpoint}:interface=127.0.0.1")
    server.privilegedStartService()
    server.startService()
    reactor.run()


main(*sys.argv[1:])
