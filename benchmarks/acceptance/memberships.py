"""Members in great number: what three groups of each of 100,000 sessions take, and how long joining and leaving do.

Limits: 250 bytes a session for all three; 3 microseconds for one ``join`` and for one ``leave``, as the best of several
rounds. After all have left, 1 byte a session.

It runs in this process. The sessions are real ones, on transports that only have an address.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from benchmarks.acceptance.cron import PEER, Transport
from benchmarks.acceptance.harness import Figure, Target, main, noCollections
from getty_tx.codecs import LengthCodec
from getty_tx.groups import Groups
from getty_tx.groups.joining import UNSENT
from getty_tx.listener import EventListener
from getty_tx.transports.factories import SessionServerFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.session.session import Session

SESSIONS = 100_000
GROUPS = 3
ROUNDS = 5

MEMORY_LIMIT, TIME_LIMIT, REST_LIMIT = 250, 3.0, 1


def openSessions(clock: Clock) -> list[Session]:
    """Open them. Those of servers have ``unsentLimit`` from their newSession; joining sets it where it is missing."""
    codec, listener = LengthCodec(), EventListener()

    def newSession(session: Session) -> None:
        session.codec = codec
        session.listener = listener
        session.unsentLimit = UNSENT

    factory = SessionServerFactory(newSession, reactor=clock)
    sessions = []
    for _ in range(SESSIONS):
        protocol: Any = factory.buildProtocol(PEER)
        protocol.makeConnection(Transport())
        sessions.append(protocol.session)
    return sessions


def measure(_target: Target) -> Iterator[Figure]:
    clock = Clock()
    groups = Groups(reactor=clock)
    groups.startService()
    sessions = openSessions(clock)
    every = [groups.group(f"room:{number}") for number in range(GROUPS)]

    def joinAll() -> None:
        for session in sessions:
            for group in every:
                group.join(session)

    def leaveAll() -> None:
        for session in sessions:
            for group in every:
                group.leave(session)

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    joinAll()
    gc.collect()
    taken = (tracemalloc.get_traced_memory()[0] - before) / SESSIONS
    leaveAll()
    gc.collect()
    rest = (tracemalloc.get_traced_memory()[0] - before) / SESSIONS
    tracemalloc.stop()
    yield Figure(f"{GROUPS} groups of a session", taken, MEMORY_LIMIT, f"{taken:.0f} bytes")
    yield Figure("after all have left", rest, REST_LIMIT, f"{rest:.2f} bytes a session")
    joins, leaves = [], []
    with noCollections():
        for _ in range(ROUNDS):
            for call, times in ((joinAll, joins), (leaveAll, leaves)):
                began = time.perf_counter()
                call()
                times.append((time.perf_counter() - began) / SESSIONS / GROUPS * 1e6)
    yield Figure("join", min(joins), TIME_LIMIT, f"{min(joins):.2f} us")
    yield Figure("leave", min(leaves), TIME_LIMIT, f"{min(leaves):.2f} us")


if __name__ == "__main__":
    sys.exit(main("memberships", measure, __doc__, seconds=120))
