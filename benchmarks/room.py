"""How many connections at once there is room for on this machine, and how they are divided among processes.

A process has a descriptor for each of its connections, at either end, so the limit of open files says how many it
holds. Connections that come from one address need a port each. So there are several processes that hold connections,
from several loopback addresses, and where one server process cannot have all, several sub-reactors.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

#: Descriptors of a process that are no connections: its output, epoll, channels, and what getty_tx keeps spare.
RESERVE = 64

#: Connections from one source address, of which each 127.0.0.x is one; the kernel searches the longer for a free port,
#: the fewer there are.
PER_ADDRESS = 10_000

#: Connections that wait to be accepted at most; the backlog that all servers here ask for is 4096.
BATCH = 100

#: Sub-reactors at most: each takes about 50 MB, and a second of CPU to start.
MOST_PROCESSES = 32

#: Bytes for each connection, generously: both ends in the kernel, the session, and what holds the other end.
PER_CONNECTION = 20_000

#: The part of the memory and of the ports that may be used up.
SHARE = 0.5


class RoomError(Exception):
    """There is no room for what is asked for."""


def raiseFileLimit(wanted: int) -> int:
    """Allow this process, and those that it starts, ``wanted`` open files, or as many as may be; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return wanted
    try:
        # Above the hard limit it takes CAP_SYS_RESOURCE, and fs.nr_open is the most.
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return wanted


def _numbers(path: str) -> list[int]:
    return [int(word) for word in Path(path).read_text().split()]


def availableMemory() -> int:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Machine:
    """What a machine allows.

    :ivar files: open files of one process.
    :ivar allFiles: files that all processes together may open still.
    :ivar memory: bytes.
    :ivar ports: local ports of one address.
    :ivar backlog: connections that wait to be accepted at most.
    """

    files: int
    allFiles: int
    memory: int
    ports: int
    backlog: int

    @classmethod
    def here(cls, connections: int) -> Machine:
        """This one, once the limit of open files is as high as so many connections need, or as it can be."""
        used, _, most = _numbers("/proc/sys/fs/file-nr")
        lowest, highest = _numbers("/proc/sys/net/ipv4/ip_local_port_range")
        return cls(
            raiseFileLimit(connections + RESERVE),
            most - used,
            availableMemory(),
            highest - lowest + 1,
            _numbers("/proc/sys/net/core/somaxconn")[0],
        )

    @property
    def each(self) -> int:
        """Connections that one process can have."""
        return self.files - RESERVE

    def most(self) -> tuple[int, str]:
        """How many connections there can be in all processes together, and what the limit is."""
        return min(
            (MOST_PROCESSES * self.each, f"{MOST_PROCESSES} processes with {self.files} open files each"),
            (self.allFiles // 2 - 1000, "open files of the whole system (fs.file-max)"),
            (int(self.memory * SHARE / PER_CONNECTION), f"{self.memory // 1_000_000} MB of available memory"),
        )


@dataclass(frozen=True)
class Plan:
    """How many connections there are to be, and where.

    :ivar connections: at once, the active ones among them.
    :ivar active: those that the load has.
    :ivar processes: sub-reactors of the server; 0: the server is one process without any.
    :ivar holders: connections of each process that holds some.
    :ivar perAddress: connections from one source address.
    :ivar batch: connections that wait to be accepted at most.
    :ivar limit: why there are fewer than were wanted; empty if there are not.
    """

    connections: int
    active: int
    processes: int
    holders: tuple[int, ...]
    perAddress: int
    batch: int
    limit: str

    def firstAddress(self, holder: int) -> int:
        """The number of the first source address that a holder uses; none uses another's."""
        return sum(-(-count // self.perAddress) for count in self.holders[:holder])


def makePlan(machine: Machine, connections: int, active: int, processes: int | None = None) -> Plan:
    """As many of the connections as can be.

    :param processes: sub-reactors; 0: one process without any, which has what it can; None: as many sub-reactors as
        the connections need, and none if one process can have them all.
    :raise RoomError: there is not even room for the active ones and one more.
    """
    most, limit = machine.most()
    if connections <= most:
        most, limit = connections, ""
    if processes is None:
        processes = 0 if most <= machine.each else -(-most // max(machine.each, 1))
    if most > max(processes, 1) * machine.each:
        most, limit = max(processes, 1) * machine.each, f"{machine.files} open files of a process (ulimit -n)"
    held = most - active
    if held < 1:
        raise RoomError(f"room for {max(most, 0)} connections is not enough for {active} active and others: {limit}")
    count = -(-held // machine.each)
    holders = tuple((held + number) // count for number in range(count))
    perAddress = min(PER_ADDRESS, int(machine.ports * SHARE))
    return Plan(most, active, processes, holders, perAddress, min(BATCH, machine.backlog), limit)


def sourceAddress(number: int) -> str:
    """A loopback address; 127.0.0.2 is that of number 0."""
    return f"127.0.{number // 250}.{2 + number % 250}"
