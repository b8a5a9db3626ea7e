"""Groups in storms: members that all come back at once, others' echoes meanwhile, and masses that join and leave.

Limits: 20,000 members of one group, at two sub-reactors, that all connect and ask for what they have missed take at
most 2 times as long as without asking; all recover, each has one run of publications, and a process asks the engine
for the history once. Beside a group of 20,000 (or as many as one process may have open), at half load, p99 of others'
echoes is at most 10 ms, and 3 times that of the idle server. After 100,000 memberships have come and gone at random,
none of the objects of groups is left; the microseconds of each are a note.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from benchmarks.acceptance.cron import PEER, Transport
from benchmarks.acceptance.groups_storms_end import line
from benchmarks.acceptance.harness import LISTENERS, Figure, Target, connect, main, noCollections
from benchmarks.grouploads import Row
from benchmarks.grouploads import run as runGroup
from benchmarks.room import RESERVE, raiseFileLimit
from benchmarks.servers import ROOT, ServerProcess
from getty_tx.codecs import LengthCodec
from getty_tx.groups import Groups, Namespace
from getty_tx.groups.joining import UNSENT
from getty_tx.listener import EventListener
from getty_tx.transports.factories import SessionServerFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Members of the storm, in so many processes that hold them, and as often.
MEMBERS = 20_000
HOLDERS = 2
ROUNDS = 3
STORM_LIMIT = 2.0

#: SO_LINGER that leaves nothing in TIME_WAIT.
RESET = struct.pack("ii", 1, 0)

#: Publications that a member has missed.
MISSED = 20

#: Of the group with an echo beside it.
SECONDS = 8.0
ECHO_LIMIT, ECHO_RATIO = 10.0, 3.0

#: Memberships: sessions, and groups of each.
SESSIONS, EACH = 5_000, 20

#: Seconds for which the engine keeps what was published to them.
HISTORY = 60


class Rest(Row):
    """Hardly any load: a publication, and then a hundred times as long none."""

    def load(self, port: int, wire: str, warmup: float, seconds: float) -> list[str]:
        words = super().load(port, wire, warmup, seconds)
        words[6] = "100"
        return words


class Holder:
    """A process that has members."""

    def __init__(self, port: int, count: int, first: int) -> None:
        module = "benchmarks.acceptance.groups_storms_end"
        command = [sys.executable, "-m", module, str(port), str(count), str(first)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def begin(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Its answer."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline() or '{"error": "a holder has ended"}')
        assert "error" not in answer, answer
        return answer


class Storms:
    """A server, and the members that come and go."""

    def __init__(self, server: ServerProcess, holders: list[Holder]) -> None:
        self.server = server
        self.holders = holders
        self.asking = connect(server.port)
        self.answers = self.asking.makefile("rb")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asking.sendall(line(request) + b"\n")
        answer: dict[str, Any] = json.loads(self.answers.readline())
        return answer

    def all(self, command: str) -> list[dict[str, Any]]:
        """What all answer, at once."""
        for holder in self.holders:
            holder.begin(command)
        return [holder.end() for holder in self.holders]

    def processes(self) -> dict[int, dict[str, Any]]:
        """What each process tells; what it has counted begins anew."""
        told: dict[int, dict[str, Any]] = {}
        while len(told) < 2:
            with connect(self.server.port) as connection, connection.makefile("rb") as answers:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.sendall(b'{"tell": 1}\n')
                answer = json.loads(answers.readline())
            told.setdefault(answer["pid"], answer)
        return told

    def come(self, since: Any) -> float:
        """All come; the seconds that took."""
        begun = time.perf_counter()
        self.all(f"join {json.dumps(since)}")
        return time.perf_counter() - begun

    def say(self, count: int) -> Any:
        """Publish; the last position."""
        said = None
        for number in range(count):
            said = self.ask({"say": f"{number} " + "x" * 100})["said"]
        return said

    def go(self) -> None:
        """All go."""
        self.all("drop")
        until = time.monotonic() + 30
        while any(told["size"] for told in self.processes().values()):
            assert time.monotonic() < until, "members have not left"
            time.sleep(0.1)


def resuming(target: Target) -> Iterator[Figure]:
    """By turns, so that both have the same machine."""
    command = target.on("getty").serve.replace("length:order=little", "line")
    listener = f"{LISTENERS.rpartition('.')[0]}.groups_storms_end:Storm"
    options = "--max-sessions none --max-sessions-per-host none --processes 2"
    listen = "tcp:{port}:interface=127.0.0.1"
    files = raiseFileLimit(MEMBERS + RESERVE)
    members = min(MEMBERS, HOLDERS * (files - RESERVE))
    with ExitStack() as stack:
        server = stack.enter_context(
            ServerProcess(f"{command} {options}", everywhere=True, listen=listen, listener=listener)
        )
        each = members // HOLDERS
        holders = [stack.enter_context(Holder(server.port, each, 2 + 4 * number)) for number in range(HOLDERS)]
        storms = Storms(server, holders)
        plain, resumed, reads, faults, recovered = [], [], [], list[str](), []
        storms.come(None)
        for _ in range(ROUNDS):
            for isResumed in (False, True):
                since = storms.say(1)
                storms.go()
                storms.say(MISSED)
                storms.processes()
                (resumed if isResumed else plain).append(storms.come(since if isResumed else None))
                told = storms.processes()
                storms.say(5)
                found = storms.all("check")
                faults += [text for answer in found for text in answer["wrong"]]
                if isResumed:
                    reads.append(max(one["reads"] for one in told.values()))
                    recovered.append(sum(answer["recovered"] for answer in found))
    ratio = min(resumed) / min(plain)
    note = f"{min(resumed):.2f} and {min(plain):.2f} s, of {ROUNDS} each"
    yield Figure(f"{members} that all come back", ratio, STORM_LIMIT, f"{ratio:.2f} times as long", note)
    yield Figure("of these recovered", min(recovered), members, str(min(recovered)), floor=True)
    yield Figure("wrong in what they got", len(faults), 0, str(len(faults)), "; ".join(faults[:2]))
    yield Figure("questions for the history, of a process", max(reads), 1, str(max(reads)))


def beside() -> Iterator[Figure]:
    """Echoes beside a large group."""
    members = min(MEMBERS, raiseFileLimit(MEMBERS + RESERVE) - RESERVE)
    command = f"{sys.executable} benchmarks/peers/groups_getty.py {{port}} length groups"
    times: list[list[float]] = [[], []]
    shown = ""
    for _ in range(2):
        for row, found in ((Rest(members, 100, isHalf=True), times[0]), (Row(members, 100, isHalf=True), times[1])):
            with ServerProcess(command) as server:
                result = runGroup(server, row, "length", SECONDS, 2.0)
            found.append(result.echo99 / 1000)
            shown = f"{result.publications} publications, the last member after {result.last50 / 1000:.0f} ms"
    idle, loaded = min(times[0]), min(times[1])
    note = f"{shown}; idle {idle:.2f} ms; all of {[[round(each, 2) for each in one] for one in times]}"
    yield Figure(f"echoes beside {members} members, p99", loaded, ECHO_LIMIT, f"{loaded:.2f} ms", note)
    yield Figure("the same, of that of the idle server", loaded / idle, ECHO_RATIO, f"{loaded / idle:.1f} times")


class Quiet(Transport):
    """Takes what is written."""

    def write(self, data: bytes) -> None:
        pass

    def writeSequence(self, data: Any) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass


def openSessions(clock: Clock) -> list[Any]:
    """Sessions on transports that only have an address."""
    codec, listener = LengthCodec(), EventListener()

    def newSession(session: Any) -> None:
        session.codec = codec
        session.listener = listener
        session.unsentLimit = UNSENT

    factory = SessionServerFactory(newSession, reactor=clock)
    sessions = []
    for _ in range(SESSIONS):
        protocol: Any = factory.buildProtocol(PEER)
        protocol.makeConnection(Quiet())
        sessions.append(protocol.session)
    return sessions


def objects() -> Counter[str]:
    """The objects of groups, by type."""
    gc.collect()
    types = (type(each) for each in gc.get_objects())
    return Counter(each.__qualname__ for each in types if str(each.__module__).startswith("getty_tx.groups"))


def masses() -> Iterator[Figure]:
    """Memberships by the hundred thousand, at random."""
    clock, chance = Clock(), random.Random(1)
    history = Namespace(historySize=10, historySeconds=HISTORY)
    spaces = {"plain": Namespace(), "presence": Namespace(presence=True), "history": history}
    groups = Groups(namespaces=spaces, reactor=clock)
    groups.startService()
    sessions = openSessions(clock)
    clock.advance(1)
    for space in spaces:
        before = objects()
        pairs = [(session, f"{space}:{number}") for session in sessions for number in range(EACH)]
        took = []
        with noCollections():
            for call in ("join", "leave"):
                chance.shuffle(pairs)
                begun = time.perf_counter()
                for session, name in pairs:
                    getattr(groups.group(name), call)(session)
                took.append((time.perf_counter() - begun) / len(pairs) * 1e6)
                # What was published is on its way while members go.
                for number in range(EACH if call == "join" else 0):
                    groups.group(f"{space}:{number}").publish(b"x")
                clock.advance(0)
        clock.advance(HISTORY + 10)
        # The engine forgets what is too old when somebody publishes.
        groups.group("plain").publish(b"x")
        left = objects() - before
        # What the next ones need is made once, and the numbers of the history go on for a day.
        numbers = {"_Stream", "Retention"}
        kept = {name: count for name, count in left.items() if count > 2 and name not in numbers}
        counts = groups.engine.counts([f"{space}:{number}" for number in range(EACH)])
        there = sum(counts.result.values()) + len(groups.active)
        note = f"a join {took[0]:.1f}, a leave {took[1]:.1f} us"
        number = sum(kept.values()) + there
        yield Figure(f"left of {len(pairs)} memberships, {space}", number, 0, str(number), f"{note}; {kept or 'none'}")
    groups.stopService()


def measure(target: Target) -> Iterator[Figure]:
    yield from masses()
    yield from resuming(target)
    yield from beside()


if __name__ == "__main__":
    sys.exit(main("groups_storms", measure, __doc__, seconds=600))
