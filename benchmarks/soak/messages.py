"""The messages of the soak, and those who count them: numbered, checksummed, answered once, in order.

A message is a checksum (CRC-32 of all that follows), an operation, the number of its conversation, its own number in
it, an argument, and content. A conversation is one connection: requests are numbered from 1, and each answer carries
its request's number. Content follows from both numbers, so that either side knows what it must be.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from enum import IntEnum
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from benchmarks.soak.findings import Findings

__all__ = ["HEADER_SIZE", "LONGEST", "UNKNOWN", "Arrivals", "Conversation", "Life", "Message", "Op"]

#: Bytes of the longest content.
LONGEST = 1024 * 1024

_CHECKSUM = struct.Struct(">I")
_FIELDS = struct.Struct(">BIII")
HEADER_SIZE = _CHECKSUM.size + _FIELDS.size

# What all contents are slices of. No power of two, and no multiple of what multiplies the numbers below.
_SPAN = 65521
_CONTENT = Random(1).randbytes(_SPAN + LONGEST)


class Op(IntEnum):
    """
    What the server does with a request.

    All but RAISE and ABORT are answered; in all but SIZED and ASK the answer is the request.
    """

    #: Answer at once.
    ECHO = 1
    #: Answer with ``argument`` bytes of content.
    SIZED = 2
    #: Answer after ``argument`` milliseconds: in a worker by sleeping there, otherwise by a Deferred.
    LATER = 3
    #: Raise an exception in the callback.
    RAISE = 4
    #: Answer and close.
    BYE = 5
    #: Drop the connection.
    ABORT = 6
    #: Let writeTimeout be ``argument`` milliseconds from now on.
    PATIENCE = 7
    #: Answer in clear, and go on with TLS.
    STARTTLS = 8
    #: Remember after the end how many requests came.
    REMEMBER = 9
    #: Answer how many came in the conversation ``argument``; its argument is that number, or UNKNOWN before its end.
    ASK = 10


#: What ASK is answered where the conversation has not ended.
UNKNOWN = 0xFFFFFFFF

_UNANSWERED = frozenset({Op.RAISE, Op.ABORT})


class AlteredError(Exception):
    """The bytes are not those of any message."""


class Message(NamedTuple):
    """A message's fields."""

    op: Op
    conversation: int
    number: int
    argument: int
    content: bytes


def contentOf(conversation: int, number: int, size: int) -> bytes:
    """The ``size`` bytes that belong to a number of a conversation."""
    at = (conversation * 7919 + number * 104729) % _SPAN
    return _CONTENT[at : at + size]


def encode(op: Op, conversation: int, number: int, argument: int = 0, content: bytes = b"") -> bytes:
    """The bytes of a message."""
    fields = _FIELDS.pack(op, conversation, number, argument)
    return b"".join((_CHECKSUM.pack(crc32(content, crc32(fields))), fields, content))


def decode(data: bytes) -> Message:
    """
    The message that the bytes are.

    :raise AlteredError: they are none.
    """
    if len(data) < HEADER_SIZE:
        raise AlteredError(f"a message of {len(data)} bytes")
    (checksum,) = _CHECKSUM.unpack_from(data)
    if crc32(memoryview(data)[_CHECKSUM.size :]) != checksum:
        raise AlteredError(f"a message of {len(data)} bytes has another checksum")
    op, conversation, number, argument = _FIELDS.unpack_from(data, _CHECKSUM.size)
    return Message(Op(op), conversation, number, argument, data[HEADER_SIZE:])


class Conversation:
    """
    The asking side: makes requests, and checks that each is answered once, in order, with what belongs to it.

    :param number: of the conversation; never used twice.
    :param findings: where wrong answers are noted.
    :param lossy: datagrams may be lost, which is counted and no more.

    :ivar asked: requests that were made.
    :ivar heard: right answers that came.
    :ivar missing: answers that were lost where that may be.
    """

    __slots__ = ("_awaited", "_findings", "_lossy", "_skipped", "asked", "heard", "missing", "number")

    def __init__(self, number: int, findings: Findings, lossy: bool = False) -> None:
        self.number = number
        self.asked = self.heard = self.missing = 0
        self._findings = findings
        self._lossy = lossy
        # Number, operation, and size of the content of the answers to come.
        self._awaited: deque[tuple[int, Op, int]] = deque()
        self._skipped: set[int] = set()

    @property
    def outstanding(self) -> int:
        """Answers to come."""
        return len(self._awaited)

    def ask(self, op: Op = Op.ECHO, size: int = 0, argument: int = 0) -> bytes:
        """A request with ``size`` bytes of content."""
        self.asked += 1
        number = self.asked
        if op not in _UNANSWERED:
            self._awaited.append((number, op, argument if op is Op.SIZED else size))
        return encode(op, self.number, number, argument, contentOf(self.number, number, size))

    def hear(self, data: bytes) -> Message | None:
        """Check an answer; None if it was none of this conversation."""
        try:
            message = decode(data)
        except (AlteredError, ValueError) as error:
            self._wrong("altered", str(error))
            return None
        if message.conversation != self.number:
            # A datagram for whoever had the port before.
            if not self._lossy:
                self._wrong("foreign", f"an answer of conversation {message.conversation} came")
            return None
        awaited = self._awaited
        number = message.number
        if not awaited or number < awaited[0][0]:
            if number in self._skipped:
                self._skipped.discard(number)
                self._wrong("reordered", f"answer {number} came late")
            else:
                self._wrong("duplicated", f"answer {number} came again, of {self.asked}")
            return None
        if number > self.asked:
            self._wrong("altered", f"answer {number} came to {self.asked} requests")
            return None
        while awaited and awaited[0][0] < number:
            self._skipped.add(awaited[0][0])
            awaited.popleft()
            self.missing += 1
            if not self._lossy:
                self._wrong("lost", f"an answer was left out before {number}")
        _, op, size = awaited.popleft()
        if message.op is not op or message.content != contentOf(self.number, number, size):
            self._wrong("altered", f"answer {number} to {op.name} has {len(message.content)} bytes, not these {size}")
            return None
        self.heard += 1
        return message

    def end(self, lived: bool, where: str = "") -> None:
        """The connection is over; where it ``lived`` to its end, nothing may be outstanding."""
        if lived and self._awaited:
            if self._lossy:
                self.missing += len(self._awaited)
            else:
                first, op, _ = self._awaited[0]
                self._wrong("lost", f"{where}: {len(self._awaited)} answers from {first} ({op.name}) on never came")
        self._awaited.clear()

    def _wrong(self, kind: str, text: str) -> None:
        self._findings.add(kind, f"conversation {self.number}: {text}")


class Arrivals:
    """
    The answering side: checks that the requests of one connection come in order and without a gap, whatever its end.

    :ivar conversation: the number of the first message's; 0 before.
    :ivar count: requests that came.
    :ivar remembered: REMEMBER was among them.
    """

    __slots__ = ("_findings", "conversation", "count", "remembered")

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.conversation = self.count = 0
        self.remembered = False

    def take(self, data: bytes) -> Message | None:
        """Check a request; None if it is wrong."""
        try:
            message = decode(data)
        except (AlteredError, ValueError) as error:
            self._findings.add("altered", f"at the server, conversation {self.conversation}: {error}")
            return None
        if not self.conversation:
            self.conversation = message.conversation
        if message.conversation != self.conversation:
            text = f"at the server, request {message.number} of {message.conversation} came in {self.conversation}"
            self._findings.add("foreign", text)
            return None
        if message.number != self.count + 1:
            kind = "lost" if message.number > self.count else "duplicated"
            text = f"at the server, conversation {self.conversation}: request {message.number} came after {self.count}"
            self._findings.add(kind, text)
        self.count = message.number
        return message


class Life:
    """
    Checks one session's events: onOpen once and first, onError once at most, onClose once and last, no two at a time.

    :param who: names the session in findings.
    """

    __slots__ = ("_failed", "_findings", "_running", "_state", "_who")

    def __init__(self, findings: Findings, who: str) -> None:
        self._findings = findings
        self._who = who
        self._state = "new"
        self._failed = False
        # A lock, as with workers a message's callback runs in a thread.
        self._running = threading.Lock()

    def enter(self, event: str) -> None:
        """A callback begins."""
        if not self._running.acquire(blocking=False):
            self._findings.add("events", f"{self._who}: {event} came beside another one")
        state = self._state
        if event == "onOpen":
            self._state = "open"
            right = state == "new"
        elif event == "onClose":
            self._state = "closed"
            right = state == "open"
        elif event == "onError":
            right = state == "open" and not self._failed
            self._failed = True
        else:
            right = state == "open" and not self._failed
        if not right:
            self._findings.add("events", f"{self._who}: {event} came to a session that is {state}")

    def leave(self) -> None:
        """It is over, with all that it was waited for."""
        if self._running.locked():
            self._running.release()
