"""A listener that broadcasts to groups with each policy for slow members, and members that check what they get.

All are frames of LengthCodec, whose first byte says what they are. Requests: ``j`` and ``l`` with the name of a group:
join, leave; ``p``, a name and a number of eight bytes: publish; ``e``, a number and a time: an echo; ``s`` and a name:
how the group is. What members get: ``J``, ``L``, ``E`` and ``S`` as answers, ``P`` with the number of a publication and
padding, and ``G`` with a number of eight bytes: so many were missed.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.acceptance.harness import HEADER, connect, frame
from getty_tx.groups import GroupListener, Groups, Namespace
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.session.session import Session

Policy = Literal["close", "follow", "drop", "latest"]
POLICIES: tuple[Policy, ...] = ("close", "follow", "drop", "latest")

#: Bytes of a publication.
SIZE = 100_000

#: Different things that publications are about, for ``latest``.
KEYS = 4

#: Seconds that a member may be behind with ``close``.
SLOW_SECONDS = 10.0

#: A member that reads slowly says so to its kernel as well, as its window opens only when half of it is free.
SMALL_BUFFER = 4096

NUMBER = struct.Struct(">Q")
TIMED = struct.Struct(">Qd")


class Gaps(GroupListener):
    """Tells members what they have missed."""

    def onGap(self, group: Any, session: Session | None, missed: int | None) -> None:
        for each in group.members if session is None else [session]:
            each.writePkg(b"G" + NUMBER.pack(missed or 0))


class Stalled(EventListener):
    """
    Takes the requests.

    :ivar slowest: seconds from sending an echo to answering it, at the most, on the clock that both processes have.
    """

    PADDING = bytes(SIZE - 1 - NUMBER.size)

    def __init__(self) -> None:
        spaces: dict[str, Namespace] = {
            each: Namespace(slow=each, slowSeconds=SLOW_SECONDS, listener=Gaps()) for each in POLICIES
        }
        self.groups = Groups(None, spaces)
        self.groups.startService()
        self.slowest = 0.0

    def onOpen(self, session: Session) -> None:
        # It would end those that read nothing before the group's policy does.
        session.writeTimeout = None

    def onMessage(self, session: Session, pkg: bytes) -> None:
        do, text = pkg[:1], pkg[1:]
        if do == b"e":
            session.writePkg(b"E" + text)
            self.slowest = max(self.slowest, time.perf_counter() - TIMED.unpack(text)[1])
        elif do == b"p":
            name, number = text[: -NUMBER.size].decode(), text[-NUMBER.size :]
            key = str(NUMBER.unpack(number)[0] % KEYS)
            self.groups.group(name).publish(b"P" + number + self.PADDING, key=key)
        else:
            self.answer(session, do, text.decode())

    def answer(self, session: Session, do: bytes, name: str) -> None:
        """Those that name a group."""
        group = self.groups.group(name)
        if do == b"j":
            group.join(session)
        elif do == b"l":
            group.leave(session)
        else:
            answer = {"size": group.size, "behind": len(group.membersBehind()), "log": group.waitingBytes}
            session.writePkg(b"S" + json.dumps({**answer, "slowest": self.slowest}).encode())
            return
        session.writePkg(do.upper())


class Member:
    """
    A member that notes what it gets, and reads when it is told to.

    :ivar events: what came: the letter, and the number that belongs to it.
    :ivar echoes: how many echoes it has asked for.
    :ivar isClosed: whether the server has closed its connection.
    """

    def __init__(self, port: int, name: str, isTrickle: bool) -> None:
        self.connection = connect(port) if not isTrickle else self._narrow(port)
        self.name = name
        self.isTrickle = isTrickle
        self.events: list[tuple[bytes, int]] = []
        self.echoes = 0
        self.isClosed = False
        self._rest = bytearray()
        self.send(b"j" + name.encode())
        while not self.events:
            self.read(65536)
        self.connection.setblocking(False)

    @staticmethod
    def _narrow(port: int) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        connection.settimeout(10.0)
        connection.connect(("127.0.0.1", port))
        return connection

    def send(self, request: bytes) -> None:
        """Send a request; nothing where the connection has ended."""
        try:
            self.connection.send(frame(request))
        except OSError:
            self.isClosed = True

    def echo(self) -> None:
        """Ask for an echo."""
        self.send(b"e" + TIMED.pack(self.echoes, time.perf_counter()))
        self.echoes += 1

    def read(self, most: int) -> int:
        """Read so many bytes, if they are there. :return: how many were."""
        try:
            data = self.connection.recv(most)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        self.isClosed = self.isClosed or not data
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= HEADER.size:
            end = at + HEADER.size + HEADER.unpack_from(rest, at)[0]
            if end > len(rest):
                break
            at += HEADER.size
            number = NUMBER.unpack_from(rest, at + 1)[0] if end - at > NUMBER.size else 0
            self.events.append((bytes(rest[at : at + 1]), number))
            at = end
        del rest[:at]
        return len(data)

    @property
    def last(self) -> int:
        """The number of the newest publication that it has got, -1 for none."""
        return max((number for kind, number in self.events if kind == b"P"), default=-1)

    @property
    def gaps(self) -> int:
        """How many publications it was told that it has missed."""
        return sum(number for kind, number in self.events if kind == b"G")

    def check(self, policy: Policy, count: int, before: int) -> Iterator[str]:
        """
        What is not as the policy promises.

        :param count: how many were published.
        :param before: how many of them before it read again.
        """
        if [number for kind, number in self.events if kind == b"E"] != list(range(self.echoes)) and policy != "close":
            yield f"not all of its {self.echoes} echoes have come in order"
        if (b"L", 0) in self.events:
            if any(kind == b"P" for kind, _ in self.events[self.events.index((b"L", 0)) :]):
                yield "a publication came after it had left"
            return
        numbers = [number for kind, number in self.events if kind == b"P"]
        if policy == "close":
            if not self.isClosed:
                yield "it was not closed"
            if numbers != list(range(len(numbers))):
                yield f"of its {len(numbers)} publications before the end some are missing"
            return
        if self.isClosed or self.last != count - 1:
            yield f"it is closed: {self.isClosed}; its last publication is {self.last} of {count}"
        if policy == "latest":
            if numbers != sorted(set(numbers)):
                yield "publications came in another order, or twice"
            if not set(range(before - KEYS, count)) <= set(numbers):
                yield f"not the newest of each key: {numbers[-2 * KEYS :]} of {before} and {count}"
            return
        expected = 0
        for kind, number in self.events:
            if kind == b"G":
                expected += number
            elif kind == b"P":
                if number != expected:
                    yield f"publication {number} came in place of {expected}"
                expected = number + 1
