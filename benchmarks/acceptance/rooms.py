"""Listeners whose sessions join groups and publish to them, and clients that come back and check what they get.

Requests and answers are lines with JSON: ``{"join": "room:x", "user": "ann", "since": [epoch, offset]}``,
``{"say": "room:x", "text": "t", "id": "1"}``, ``{"who": "room:x"}``, and ``{"heard": "room:x"}``: how many have come
and gone, as the process has heard it. Publications come as ``{"at": [epoch, offset], "text": "t"}``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred

from getty_tx.groups import GroupListener, Groups, Namespace, Position
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.groups import Group, Member, Publication
    from getty_tx.session.session import Session

#: Seconds that a member may be away.
LEAVE_DELAY = 3.0


def line(value: Any) -> bytes:
    return json.dumps(value).encode()


def wrap(group: Group, publication: Publication) -> bytes:
    """What members get."""
    assert publication.position is not None
    at = publication.position.epoch, publication.position.offset
    return line({"at": at, "room": group.name, **publication.pkg})


class Rooms(EventListener):
    """Takes the requests."""

    def __init__(self) -> None:
        self.heard: Counter[tuple[str, str]] = Counter()
        namespace = Namespace(
            historySize=20_000,
            historySeconds=600,
            presence=True,
            joinLeave=True,
            leaveDelay=LEAVE_DELAY,
            wrap=wrap,
            listener=Heard(self.heard),
        )
        self.groups = Groups(None, {"room": namespace})
        self.groups.startService()

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """A line: answered with one. The next one need not wait for that."""
        ensureDeferred(self._take(session, pkg))

    async def _take(self, session: Session, pkg: bytes) -> None:
        try:
            answer = await self.answer(session, json.loads(pkg))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        if not session.isClosed:
            session.writePkg(line(answer))

    async def answer(self, session: Session, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        if "join" in request:
            group = self.groups.group(request["join"])
            since = Position(*request["since"]) if request.get("since") else None
            joined = await group.join(session, user=request.get("user"), since=since)
            assert joined.position is not None
            position = joined.position.epoch, joined.position.offset
            return {"joined": position, "recovered": joined.recovered, "missed": joined.missed, "pid": os.getpid()}
        if "say" in request:
            text = {"text": request["text"]}
            position = await self.groups.group(request["say"]).publish(text, id=request.get("id"))
            assert position is not None
            return {"said": [position.epoch, position.offset]}
        if "who" in request:
            members = await self.groups.group(request["who"]).presence()
            return {"who": sorted(member.user or "" for member in members)}
        return {"heard": [self.heard["join", request["heard"]], self.heard["leave", request["heard"]]]}


class Plain(EventListener):
    """Publishes lines as they are, and answers each with its number: what is left is the groups' own time."""

    def __init__(self) -> None:
        self.groups = Groups(None, {"room": Namespace(historySize=20_000, historySeconds=600)})
        self.groups.startService()
        self.group = self.groups.group("room:x")

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """A line: a request to join, or what is published."""

        def answer(position: Position | None) -> None:
            if not session.isClosed:
                session.writePkg(b"%d" % (position.offset if position is not None else 0))

        if pkg.startswith(b'{"join"'):
            self.group.join(session).addCallback(lambda joined: answer(joined.position))
        else:
            self.group.publish(pkg).addCallback(answer)


class Heard(GroupListener):
    """Counts who comes and goes."""

    def __init__(self, heard: Counter[tuple[str, str]]) -> None:
        self.heard = heard

    def onJoin(self, group: Any, member: Member) -> None:
        """One more."""
        self.heard["join", group.name] += 1

    def onLeave(self, group: Any, member: Member) -> None:
        """One more."""
        self.heard["leave", group.name] += 1


class Record:
    """
    What all clients of a room have got.

    :ivar texts: by offset, as the first client got it.
    :ivar said: by text the offset that its publisher was told.
    :ivar wrong: what must not be.
    """

    def __init__(self, port: int, room: str) -> None:
        self.port = port
        self.room = room
        self.running = True
        self.epoch = ""
        self.texts: dict[int, str] = {}
        self.said: dict[str, int] = {}
        self.wrong: list[str] = []
        self.gone = 0

    def note(self, epoch: str, offset: int, text: str) -> None:
        """A client has got this."""
        self.epoch = self.epoch or epoch
        if epoch != self.epoch:
            self.wrong.append(f"the epoch has changed from {self.epoch} to {epoch}")
        if self.texts.setdefault(offset, text) != text:
            self.wrong.append(f"{offset} is {text!r} for one, {self.texts[offset]!r} for another")

    def check(self) -> Iterator[str]:
        """What is wrong in the end."""
        yield from self.wrong
        by: dict[str, int] = {}
        for offset, text in self.texts.items():
            if text in by:
                yield f"{text!r} came as {by[text]} and as {offset}"
            by[text] = offset
        for text, offset in self.said.items():
            if by.get(text) != offset:
                yield f"{text!r} was published as {offset}, and came as {by.get(text)}"


class RoomClient:
    """
    One member, which comes back when its connection ends, and asks for what it has missed.

    :ivar last: the offset of the last publication that it has got; -1: it was not in yet.
    :ivar pid: the process that has it.
    """

    def __init__(self, record: Record, user: str) -> None:
        self.record = record
        self.user = user
        self.last = -1
        self.pid = 0
        self.joined = asyncio.Event()
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Stay a member until the end."""
        while self.record.running:
            with suppress(OSError):
                await self._stay()
            self.joined.clear()
            self.answers.put_nowait({"lost": True})
            if self.record.running:
                self.record.gone += 1
                await asyncio.sleep(0.02)

    async def _stay(self) -> None:
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self.record.port)
        since = [self.record.epoch, self.last] if self.last >= 0 else None
        self.send({"join": self.record.room, "user": self.user, "since": since})
        try:
            while data := await reader.readline():
                if data.endswith(b"\n"):
                    self._take(json.loads(data))
        finally:
            self.writer.close()

    def send(self, request: dict[str, Any]) -> None:
        """Send a request, if it is connected."""
        if self.writer is not None:
            self.writer.write(line(request) + b"\n")

    def _take(self, value: dict[str, Any]) -> None:
        if "joined" in value:
            if self.last < 0:
                self.record.epoch = value["joined"][0]
                self.last = value["joined"][1]
            elif not value["recovered"]:
                self.record.wrong.append(f"{self.user} was not told what it had missed since {self.last}")
                self.last = value["joined"][1]
            self.pid = value["pid"]
            self.joined.set()
        elif "at" in value:
            epoch, offset = value["at"]
            if self.last >= 0 and offset != self.last + 1:
                self.record.wrong.append(f"{self.user} got {offset} after {self.last}")
            self.last = offset
            self.record.note(epoch, offset, value["text"])
        else:
            self.answers.put_nowait(value)

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask, and again where the connection is lost meanwhile."""
        while True:
            await self.joined.wait()
            while not self.answers.empty():
                self.answers.get_nowait()
            self.send(request)
            answer = await self.answers.get()
            if "lost" not in answer:
                return answer
            await asyncio.sleep(0.01)

    async def say(self, text: str) -> None:
        """Publish once, whatever becomes of the process meanwhile."""
        answer = await self.ask({"say": self.record.room, "text": text, "id": text})
        while "said" not in answer:
            await asyncio.sleep(0.05)
            answer = await self.ask({"say": self.record.room, "text": text, "id": text})
        self.record.said[text] = answer["said"][1]


async def talk(client: RoomClient, pause: float) -> None:
    """Publish, one after the other, until the end."""
    number = 0
    while client.record.running:
        await client.say(f"{client.user} {number}")
        number += 1
        await asyncio.sleep(pause)


async def settled(clients: list[RoomClient], seconds: float = 20.0) -> bool:
    """Wait until all have got the last that was published; False if that takes too long."""
    record = clients[0].record
    until = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        last = max(record.said.values(), default=0)
        if all(client.joined.is_set() and client.last >= last for client in clients):
            return True
        await asyncio.sleep(0.02)
    return False
