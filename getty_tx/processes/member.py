"""What the main process knows of one sub-reactor, and of a connection on its way to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

__all__ = ["DRAINING", "GONE", "READY", "STARTING", "IProcess", "Member", "PendingConnection"]

#: States of a member.
STARTING, READY, DRAINING, GONE = range(4)


class IProcess(Protocol):
    """The process of a sub-reactor."""

    pid: int

    def send(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """Send a message, see :py:meth:`getty_tx.processes.channel.Channel.send`."""

    def drain(self, timeout: float) -> None:
        """Have it end within this number of seconds."""

    def kill(self) -> None:
        """Kill the process."""


class PendingConnection:
    """
    An accepted connection, until a sub-reactor has acknowledged it.

    :param connection: its socket.
    :param endpoint: the number of the endpoint that accepted it.
    :param host: the peer's IP address, or None where it has none.
    :param counted: whether the limit for each host applies to it.
    :param answers: whether its endpoint has an answer for connections that are refused.

    :ivar number: its number in the main process; -1 before it is admitted.
    :ivar attempts: how often a sub-reactor has not taken it.
    """

    __slots__ = ("answers", "attempts", "connection", "counted", "endpoint", "host", "number")

    def __init__(
        self,
        connection: socket.socket,
        endpoint: int,
        host: str | None,
        counted: bool = True,
        answers: bool = False,
    ) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.host = host
        self.counted = counted
        self.answers = answers
        self.number = -1
        self.attempts = 0


class Member:
    """
    One sub-reactor, from its start to its end.

    The supervisor changes its state, the handover its connections.

    :param slot: the number of its slot, from 0.

    :ivar number: the number of its slot, from 1, for people.
    :ivar state: STARTING, READY, DRAINING or GONE.
    :ivar process: its process, once it is started.
    :ivar open: its connections by number, with the host where there is a limit for each host.
    :ivar refusing: the numbers of connections that it answers, because they are refused.
    :ivar inFlight: the connections of both that it has not acknowledged.
    :ivar counts: its counters, from its last report.
    :ivar silence: checks of the supervisor since its last message.
    :ivar isLate: it gets no connections because it has been silent for too long.
    :ivar isKilled: it was killed.
    :ivar isUnreachable: its channel is closed, so no more messages come.
    :ivar isEnding: it is expected to end by itself.
    :ivar had: how many connections it had when its channel was closed.
    :ivar since: when it began to take connections.
    :ivar deadline: the timer after which it is killed, while it starts or drains.
    """

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.number = slot + 1
        self.state = STARTING
        self.process: IProcess | None = None
        self.open: dict[int, str | None] = {}
        self.refusing: set[int] = set()
        self.inFlight: dict[int, PendingConnection] = {}
        self.counts: dict[str, int] = {}
        self.silence = 0
        self.isLate = False
        self.isKilled = False
        self.isUnreachable = False
        self.isEnding = False
        self.had = 0
        self.since = 0.0
        self.deadline: Any = None

    def __str__(self) -> str:
        return f"sub-reactor {self.number}" + ("" if self.process is None else f" (process {self.process.pid})")

    @property
    def pid(self) -> int | None:
        """The process id, or None before the process is started."""
        return None if self.process is None else self.process.pid

    @property
    def load(self) -> int:
        """How many connections were handed to it and not reported closed."""
        return len(self.open)

    @property
    def connections(self) -> int:
        """As ``load``; where it accepts connections itself, how many it has reported."""
        return len(self.open) or self.counts.get("connections", 0)

    def send(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a message to its process, which must be started."""
        assert self.process is not None
        self.process.send(kind, data, descriptors)

    def kill(self) -> None:
        """Kill the process, if there is one and it was not killed yet."""
        if self.process is not None and self.state != GONE and not self.isKilled:
            self.isKilled = True
            self.process.kill()
