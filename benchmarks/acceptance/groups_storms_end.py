"""Both ends of ``groups_storms``: a listener whose groups count how often they ask the engine, and many members.

    python -m benchmarks.acceptance.groups_storms_end PORT COUNT FIRST_ADDRESS

holds COUNT members. It reads commands, one a line, and answers each with a line of JSON: ``join null`` or
``join [EPOCH, OFFSET]`` opens all connections and joins; ``check`` tells what was wrong in what they got, ``drop``
resets them.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.room import PER_ADDRESS, sourceAddress
from getty_tx.groups import Groups, Namespace, Position
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from getty_tx.groups import Group, Publication
    from getty_tx.session.session import Session

ROOM = "room:x"

#: Connections whose answer is waited for at most: fewer than may wait to be accepted.
FLIGHT = 1000

#: Seconds that all may take.
PATIENCE = 60.0


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def wrap(group: Group, publication: Publication) -> bytes:
    """What members get."""
    assert publication.position is not None
    return line({"at": publication.position.offset, "text": publication.pkg})


class Storm(EventListener):
    """Takes requests, a line each: ``{"join": since}``, ``{"say": TEXT}``, ``{"tell": 1}``."""

    def __init__(self) -> None:
        self.groups = Groups(None, {"room": Namespace(historySize=250, historySeconds=600, wrap=wrap)})
        self.groups.startService()
        self.room = self.groups.group(ROOM)
        self.reads = 0
        engine: Any = self.groups.engine
        history = engine.history

        def counted(*arguments: Any) -> Any:
            self.reads += 1
            return history(*arguments)

        engine.history = counted

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """A line."""
        request = json.loads(pkg)
        if "join" in request:
            since = request["join"]
            joined = self.room.join(session, since=Position(*since) if since else None)
            joined.addCallback(self.joined, session).addErrback(self.failed, session)
        elif "say" in request:
            said = self.room.publish(request["say"])
            said.addCallback(lambda at: session.writePkg(line({"said": [at.epoch, at.offset]})))
            said.addErrback(self.failed, session)
        else:
            stats = self.groups.stats["room"]
            told = {"pid": os.getpid(), "reads": self.reads, "size": self.room.size, "recovered": stats.recovered}
            self.reads = 0
            session.writePkg(line(told))

    def joined(self, joined: Any, session: Session) -> None:
        """Answer."""
        position = joined.position
        session.writePkg(line({"joined": [position.epoch, position.offset], "recovered": joined.recovered}))

    def failed(self, failure: Any, session: Session) -> None:
        """Answer, if it is there."""
        if not session.isClosed:
            session.writePkg(line({"error": str(failure.value)}))


class Members:
    """The members of this process."""

    def __init__(self, port: int, count: int, first: int) -> None:
        self.port, self.count, self.first = port, count, first
        self.poll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.got: dict[int, bytearray] = {}
        self.since: Any = None

    def join(self, since: Any) -> dict[str, Any]:
        """All at once."""
        self.since = since
        request = line({"join": since}) + b"\n"
        begun = time.perf_counter()
        opened, waiting = 0, set[int]()
        while opened < self.count or waiting:
            while opened < self.count and len(waiting) < FLIGHT:
                waiting.add(self.open(sourceAddress(self.first + opened // PER_ADDRESS), request))
                opened += 1
            for descriptor in self.read(1.0):
                if b'"joined"' in self.got[descriptor] or b'"error"' in self.got[descriptor]:
                    waiting.discard(descriptor)
            if time.perf_counter() - begun > PATIENCE:
                return {"error": f"{len(waiting)} of {opened} have no answer"}
        return {"seconds": time.perf_counter() - begun}

    def open(self, source: str, request: bytes) -> int:
        """One more."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.port))
        connection.send(request)
        connection.setblocking(False)
        descriptor = connection.fileno()
        self.sockets[descriptor] = connection
        self.got[descriptor] = bytearray()
        self.poll.register(descriptor, select.EPOLLIN)
        return descriptor

    def read(self, seconds: float) -> list[int]:
        """Take what has come; whose it was."""
        events = [descriptor for descriptor, _ in self.poll.poll(seconds, 256)]
        for descriptor in events:
            data = self.sockets[descriptor].recv(65536)
            if not data:
                raise EOFError("the server has closed a member")
            self.got[descriptor] += data
        return events

    def check(self) -> dict[str, Any]:
        """What was wrong: each has its answer, and one run of publications from where it was."""
        while self.read(1.0):
            pass
        wrong: list[str] = []
        recovered, last = 0, set[int]()
        for data in self.got.values():
            packages = [json.loads(each) for each in data.splitlines()]
            answers = [each for each in packages if "at" not in each]
            offsets = [each["at"] for each in packages if "at" in each]
            if len(answers) != 1 or "joined" not in answers[0]:
                wrong.append(f"answers: {answers[:3]}")
                continue
            recovered += bool(answers[0]["recovered"])
            begin = answers[0]["joined"][1] if self.since is None else self.since[1]
            if offsets != list(range(begin + 1, begin + 1 + len(offsets))):
                wrong.append(f"got {offsets[:40]} after {begin}")
            last.add(begin + len(offsets))
        return {"wrong": wrong[:5], "faults": len(wrong), "recovered": recovered, "last": sorted(last)}

    def drop(self, _: Any = None) -> dict[str, Any]:
        """Reset all."""
        for connection in self.sockets.values():
            connection.close()
        self.sockets.clear()
        self.got.clear()
        return {}


def main(port: str, count: str, first: str) -> None:
    members = Members(int(port), int(count), int(first))
    for text in sys.stdin:
        command, _, argument = text.strip().partition(" ")
        answer = members.join(json.loads(argument)) if command == "join" else getattr(members, command)()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
