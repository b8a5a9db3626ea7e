"""Groups with members that are slow: what they cost the server and the others, and what they get.

For each policy, ``close``, ``follow``, ``drop`` and ``latest``, 1,000 members of a group over TCP, of which 1 % never
read and 1 % read 1 KB a second, and 1,000 publications of 100 KB: 100 MB for each member. A second server has a group
without slow ones. It gets every second publication, just after the first one. Both have the same machine so. Limits:

- Resident memory grows by at most 16 MB more than that of the second server, each at its peak.
- p99 of the time from publishing to receipt at the other members is at most 1.2 times that of the second server, as the
  median of ten parts of the run: what else the machine does stops few publications for long, and is p99 of all.
- A member that is behind has its own requests answered within half a second, and leaves within that.
- When they read again, they get what the policy promises: all in order, what is missing is told, nothing after leaving;
  with ``close`` an unbroken beginning, and the end of the connection.

``writeTimeout``, which ends a session whose peer reads nothing for 5 s, is None here, as it would spare the group the
work. Publications follow one another when all others have the last one.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import (
    HEADER,
    LISTENERS,
    MB,
    Figure,
    Target,
    connect,
    frame,
    main,
    noCollections,
    receiveExactly,
    watchedMemory,
)
from benchmarks.acceptance.processes import LISTEN
from benchmarks.acceptance.stalled import NUMBER, POLICIES, SIZE, Member, Policy
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERS = 1000
SLOW = MEMBERS // 100
PUBLICATIONS = 1000
WARMUP = 20

#: Each so many, the second server has a turn.
TURN = 2

#: Parts of the run that are compared.
PARTS = 10

#: After this one some of the slow ones leave: before ``close`` ends them.
LEAVING = 50

#: Publications after the slow ones have caught up.
MORE = 3

#: Of those that read slowly: seconds between two reads, and bytes of one.
TRICKLE_SECONDS, TRICKLE = 0.25, 256

#: Seconds between two echoes of a member that is behind.
ECHO_SECONDS = 0.5

MEMORY_LIMIT, TIME_LIMIT, ANSWER_LIMIT = 16, 1.2, 0.5
PATIENCE = 30.0


class Crowd:
    """
    The members of one server that read, and a connection that publishes and is none.

    :ivar times: of each publication that is measured, the seconds that each of them waited for it.
    """

    BUFFER = bytearray(1 << 20)

    def __init__(self, server: ServerProcess, name: str, count: int) -> None:
        self.name = name
        self.control = connect(server.port)
        self.poll = select.epoll()
        self.members: dict[int, socket.socket] = {}
        # Bytes that each has still to get of what was published.
        self.due: dict[int, int] = {}
        self.times: list[list[float]] = []
        for _ in range(count):
            connection = connect(server.port)
            connection.sendall(frame(b"j" + name.encode()))
            assert receiveExactly(connection, HEADER.size + 1)[-1:] == b"J"
            connection.setblocking(False)
            self.members[connection.fileno()] = connection
            self.due[connection.fileno()] = 0
            self.poll.register(connection, select.EPOLLIN)

    def publish(self, number: int) -> list[float]:
        """Publish, and wait until all have it. :return: the seconds that each of them waited."""
        due, members, buffer = self.due, self.members, self.BUFFER
        for each in due:
            due[each] += HEADER.size + SIZE
        missing, times = len(due), []
        begun = time.perf_counter()
        self.control.sendall(frame(b"p" + self.name.encode() + NUMBER.pack(number)))
        while missing:
            ready = self.poll.poll(PATIENCE, 256)
            if not ready:
                raise EOFError(f"{missing} members wait for publication {number}")
            for each, _ in ready:
                # The kernel throws the bytes away and copies nothing: the load is to cost little.
                size = members[each].recv_into(buffer, len(buffer), socket.MSG_TRUNC)
                if not size:
                    raise EOFError("the server has closed a member that reads")
                due[each] -= size
                if due[each] == 0:
                    missing -= 1
                    times.append(time.perf_counter() - begun)
        return times

    def state(self) -> dict[str, float]:
        """How the group is."""
        self.control.sendall(frame(b"s" + self.name.encode()))
        [size] = HEADER.unpack(receiveExactly(self.control, HEADER.size))
        answer: dict[str, float] = json.loads(receiveExactly(self.control, size)[1:])
        return answer

    def close(self) -> None:
        """End all connections."""
        self.control.close()
        self.poll.close()
        for connection in self.members.values():
            connection.close()


class Slow:
    """
    The slow members of a group.

    :ivar left: seconds until those that have asked to leave are no members any more.
    """

    def __init__(self, server: ServerProcess, name: str) -> None:
        self.members = [Member(server.port, name, number >= SLOW) for number in range(2 * SLOW)]
        self.left = 0.0
        self._readAt = self._echoAt = time.monotonic()

    def go(self) -> None:
        """Let some of them read, and all of them ask, where it is time for that."""
        now = time.monotonic()
        if now >= self._readAt:
            for each in self.members:
                if each.isTrickle and not each.isClosed:
                    # Late turns are made up for.
                    each.read(int(TRICKLE * (1 + (now - self._readAt) / TRICKLE_SECONDS)))
            self._readAt = now + TRICKLE_SECONDS
        if now >= self._echoAt:
            for each in self.members:
                each.echo()
            self._echoAt = now + ECHO_SECONDS

    def leave(self, crowd: Crowd) -> None:
        """One of each sort leaves."""
        size = crowd.state()["size"]
        begun = time.perf_counter()
        leaving = (self.members[0], self.members[-1])
        for each in leaving:
            each.send(b"l" + each.name.encode())
        while crowd.state()["size"] > size - len(leaving):
            if time.perf_counter() > begun + PATIENCE:
                break
            time.sleep(0.005)
        self.left = time.perf_counter() - begun

    def catchUp(self, crowd: Crowd, last: int = -1) -> None:
        """Read until all have caught up, and have this publication as well."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            got = 0
            for each in self.members:
                if not each.isClosed:
                    got += each.read(1 << 20)
            if got:
                continue
            waiting = [each for each in self.members if not each.isClosed and (b"L", 0) not in each.events]
            if not crowd.state()["behind"] and all(each.last >= last for each in waiting):
                return
            time.sleep(0.005)

    def close(self) -> None:
        """End all connections."""
        for each in self.members:
            each.connection.close()


def start(target: Target) -> ServerProcess:
    """A server with the groups."""
    listener = f"{LISTENERS.rpartition('.')[0]}.stalled:Stalled"
    return ServerProcess(f"{target.serve} --max-sessions none", listen=LISTEN, listener=listener)


def p99(times: list[list[float]]) -> float:
    """Of all receipts of some publications, in milliseconds."""
    every = sorted(each for some in times for each in some)
    return every[int(len(every) * 0.99)] * 1000


def compare(times: list[list[float]], others: list[list[float]]) -> float:
    """How many times the p99 of others it is: the median of the parts."""
    size = max(1, len(times) // PARTS)
    parts = range(0, len(times), size)
    return statistics.median(p99(times[at : at + size]) / p99(others[at : at + size]) for at in parts)


def broadcast(crowd: Crowd, slow: Slow, other: Crowd) -> float:
    """Publish all, by turns. :return: the largest log of the group, in bytes."""
    largest = 0.0
    for number in range(PUBLICATIONS):
        slow.go()
        times = crowd.publish(number)
        if number % TURN == 0:
            crowd.times.append(times)
            other.times.append(other.publish(number))
            largest = max(largest, crowd.state()["log"])
        if number == LEAVING:
            slow.leave(crowd)
    return largest


def measurePolicy(target: Target, policy: Policy) -> Iterator[Figure]:
    name = f"{policy}:1"
    with start(target) as server, start(target) as second:
        crowd, other = (Crowd(each, name, MEMBERS - 2 * SLOW) for each in (server, second))
        for number in range(WARMUP):
            for each in (crowd, other):
                each.publish(number)
        slow = Slow(server, name)
        begun = time.perf_counter()
        with noCollections(), watchedMemory(server) as growth, watchedMemory(second) as without:
            largest = broadcast(crowd, slow, other)
        seconds = time.perf_counter() - begun
        behind = crowd.state()["behind"]
        slow.catchUp(crowd)
        for number in range(PUBLICATIONS, PUBLICATIONS + MORE):
            crowd.publish(number)
            slow.catchUp(crowd, number)
        slowest = crowd.state()["slowest"]
        wrong = [
            f"{'slow' if each.isTrickle else 'stuck'} member: {text}"
            for each in slow.members
            for text in each.check(policy, PUBLICATIONS + MORE, PUBLICATIONS)
        ]
        slow.close()
        for each in (crowd, other):
            each.close()
    grown = (growth.size - without.size) / MB
    note = f"{growth.size / MB:.1f} and {without.size / MB:.1f} MB, log {largest / MB:.1f} MB at the most"
    note += f"; {PUBLICATIONS * SIZE / MB:.0f} MB each in {seconds:.0f} s, {behind:.0f} behind at the end"
    yield Figure(f"{policy}, memory more than without slow members", grown, MEMORY_LIMIT, f"{grown:.1f} MB", note)
    ratio = compare(crowd.times, other.times)
    note = f"{p99(crowd.times):.1f} and {p99(other.times):.1f} ms of all parts, {len(crowd.times)} publications each"
    yield Figure(f"{policy}, p99 of the others", ratio, TIME_LIMIT, f"{ratio:.2f} times that without", note)
    answer = max(slowest, slow.left)
    asked = sum(each.echoes for each in slow.members)
    note = f"{asked} echoes; leaving took {slow.left * 1000:.0f} ms"
    yield Figure(f"{policy}, answers to those behind", answer, ANSWER_LIMIT, f"{answer * 1000:.0f} ms", note)
    closed = sum(each.isClosed for each in slow.members)
    note = f"{closed} of {len(slow.members)} closed, {sum(each.gaps for each in slow.members)} told as missing"
    note += "".join(f"; {text}" for text in wrong[:3])
    yield Figure(f"{policy}, not as promised", len(wrong), 0, str(len(wrong)), note)


def measure(target: Target) -> Iterator[Figure]:
    for policy in POLICIES:
        yield from measurePolicy(target, policy)


if __name__ == "__main__":
    sys.exit(main("groups_slow", measure, __doc__, seconds=900))
