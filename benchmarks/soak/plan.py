"""What is done, from the seed alone: an endless sequence of acts, and what each of them draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from benchmarks.soak.messages import LONGEST, Op

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["ACTS", "ENDINGS", "Act", "Pace", "Request", "acts", "burst", "bursts", "pace"]

#: Kinds of acts, and how often each comes. What they are is said where they are done, in ``pools`` and ``raw``.
ACTS = {
    "pool": 30,
    "exchange": 20,
    "connects": 10,
    "reset": 9,
    "strict": 8,
    "garbage": 8,
    "startTLS": 5,
    "datagrams": 5,
    "deaf": 3,
    "kill": 1,
}

#: How the sessions of a pool's act end, and how often.
ENDINGS = {
    "close": 6,
    "closeAtOnce": 5,
    "poolClose": 3,
    "bye": 4,
    "raise": 4,
    "ownRaise": 2,
    "ownError": 2,
    "abort": 3,
    "serverAbort": 3,
}

#: Bytes that a burst's requests and answers may have together.
MOST_BYTES = 3 * LONGEST

#: The longest that the server waits before an answer, in milliseconds.
LATEST = 40


@dataclass(frozen=True)
class Act:
    """
    One thing that is done.

    :ivar index: its place in the sequence.
    """

    index: int
    kind: str
    seed: str

    def random(self) -> Random:
        """What its numbers are drawn from: the same ones each time."""
        return Random(self.seed)

    def __str__(self) -> str:
        return f"act {self.index} ({self.kind})"


@dataclass(frozen=True)
class Request:
    """A request to make; the fields are those of a message, and the size of its content."""

    op: Op
    size: int
    argument: int = 0

    @property
    def bytes(self) -> int:
        """Bytes that it and its answer have about."""
        return self.size + (self.argument if self.op is Op.SIZED else self.size)


@dataclass(frozen=True)
class Pace:
    """How a raw peer works: bytes at once and seconds between, both ways."""

    sendSize: int
    sendEvery: float
    readSize: int
    readEvery: float


def acts(seed: int, only: Collection[str] = ()) -> Iterator[Act]:
    """The sequence; with ``only``, those of some kinds, as they are in the whole."""
    random = Random(f"{seed}")
    kinds, weights = list(ACTS), list(ACTS.values())
    for index in count(1):
        kind = random.choices(kinds, weights)[0]
        if not only or kind in only:
            yield Act(index, kind, f"{seed}/{index}")


def ending(random: Random) -> str:
    """One of the ENDINGS."""
    return random.choices(list(ENDINGS), list(ENDINGS.values()))[0]


def _size(random: Random, most: int) -> int:
    """Small sizes are as frequent as large ones: the logarithm is what is drawn. ``most`` itself comes, too."""
    return min(int(2 ** random.uniform(0, most.bit_length())), most)


def burst(random: Random) -> list[Request]:
    """Requests to send without waiting for answers."""
    shape = random.randrange(6)
    if shape == 0:
        found = [Request(Op.ECHO, _size(random, 200)) for _ in range(random.randint(1, 300))]
    elif shape == 1:
        found = [Request(Op.ECHO, _size(random, 64 * 1024)) for _ in range(random.randint(1, 30))]
    elif shape == 2:
        found = [Request(Op.ECHO, _size(random, LONGEST)) for _ in range(random.randint(1, 4))]
    elif shape == 3:
        found = [Request(Op.SIZED, 1, _size(random, 256 * 1024)) for _ in range(random.randint(1, 30))]
    elif shape == 4:
        found = [Request(Op.LATER, _size(random, 500), random.randint(0, LATEST)) for _ in range(random.randint(1, 6))]
    else:
        found = [
            random.choice((Request(Op.ECHO, _size(random, 4096)), Request(Op.SIZED, 1, _size(random, 16 * 1024))))
            for _ in range(random.randint(1, 60))
        ]
    total = 0
    for at, request in enumerate(found):
        total += request.bytes
        if total > MOST_BYTES:
            return found[: max(at, 1)]
    return found


def bursts(random: Random, most: int = 4) -> list[list[Request]]:
    """Some bursts, one after the other."""
    return [burst(random) for _ in range(random.randint(1, most))]


def pace(random: Random) -> Pace:
    """As fast as it goes, or slow in one direction."""
    kind = random.randrange(4)
    slow = random.uniform(0.002, 0.02)
    if kind == 0:
        return Pace(random.randint(2000, 30000), slow, 65536, 0.0)
    if kind == 1:
        return Pace(65536, 0.0, random.randint(4000, 60000), slow)
    return Pace(random.choice((1000, 65536, 262144)), 0.0, random.choice((1000, 65536, 262144)), 0.0)
