"""The main process's side of a sub-reactor process: it starts, signals and watches the process, and has the channel."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from struct import pack
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from getty_tx.errors import GettyError
from getty_tx.processes.channel import DRAIN, Channel, channelPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.processes.member import Member

__all__ = ["SubProcess"]

log = Logger()

#: The program of a sub-reactor's interpreter. Twisted reads LISTEN_PID when it is imported. Sockets that systemd has
#: passed belong to the main process; the sub-reactor has other descriptors with their numbers, for the descriptions.
_RUN = "import os; os.environ['LISTEN_PID'] = str(os.getpid()); from getty_tx.processes.subreactor import main; main()"

#: The first descriptor that systemd passes. The channel comes after the last one.
FIRST = 3


class SubProcess(ProcessProtocol):
    """
    Starts the process of a sub-reactor.

    :param member: the sub-reactor.
    :param received: called with the member, and the kind and data of a message.
    :param lost: called with the member when no more messages come.
    :param ended: called with the member when its process has ended, and with a text how; after ``lost``.
    :param reactor: the reactor.
    :raise GettyError: the user may not run the interpreter.

    :ivar pid: the process id.
    :ivar channel: the channel to the process.
    :ivar send: sends a message, see IProcess; the channel's method itself, which saves a call.
    """

    def __init__(
        self,
        member: Member,
        received: Callable[[Member, int, bytes], object],
        lost: Callable[[Member], object],
        ended: Callable[[Member, str], object],
        reactor: Any,
    ) -> None:
        self._member = member
        self._lost = lost
        self._ended = ended
        self._lines = {1: b"", 2: b""}
        self._isRunning = True
        ours, theirs = channelPair()
        self.channel = Channel(
            ours, reactor, lambda kind, data, descriptors: received(member, kind, data), self._channelLost
        )
        self.send = self.channel.send
        with theirs, open(os.devnull) as nothing:
            environment, descriptors = _surroundings(theirs.fileno(), nothing.fileno())
            # -P: files in the working directory must hide no module that is imported before sys.path is set.
            command = [sys.executable, "-P", "-c", _RUN, str(max(descriptors)), f"sub-reactor-{member.number}"]
            childFDs = {0: nothing.fileno(), 1: "r", 2: "r", **descriptors}
            try:
                process = reactor.spawnProcess(self, command[0], command, environment, childFDs=childFDs)
            except PermissionError as error:
                # twistd has changed to another user, which cannot read the first user's home directory.
                text = f"user id {os.geteuid()} may not run {command[0]}: install it where that user can read it"
                raise GettyError(text) from error
        self.pid: int = process.pid

    def drain(self, timeout: float) -> None:
        """See IProcess."""
        self.channel.send(DRAIN, pack("<d", timeout))

    def kill(self) -> None:
        """See IProcess."""
        if self._isRunning and self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")

    def _channelLost(self) -> None:
        self._lost(self._member)
        if not self._member.isEnding:
            # Usually the process has ended already. If not, it cannot be reached any more.
            self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Log a line that the process has printed, before its log has started or besides the log."""
        *lines, self._lines[childFD] = (self._lines[childFD] + data).split(b"\n")
        for line in lines:
            log.info("{member}: {line}", member=self._member, line=line.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        """The process has ended, and all its output has come: log an incomplete last line."""
        for childFD, line in self._lines.items():
            if line:
                self.childDataReceived(childFD, b"\n")

    def processExited(self, reason: Failure) -> None:
        """The process has ended."""
        self._isRunning = False
        self.channel.finish()
        error = reason.value
        if isinstance(error, ProcessTerminated) and error.signal:
            how = f"was ended by {signal.Signals(error.signal).name}"
        else:
            how = f"has ended with status {getattr(error, 'exitCode', 0) or 0}"
        self._ended(self._member, how)


def _surroundings(channel: int, nothing: int) -> tuple[dict[str, str], dict[int, int]]:
    """Return the environment and the further descriptors of a sub-reactor; the last of them is the channel."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # If the sockets are meant for this process, Twisted has removed all of systemd's variables but the names.
    names = environment.get("LISTEN_FDNAMES", "")
    count = len(names.split(":")) if names and "LISTEN_PID" not in environment else 0
    if count:
        environment["LISTEN_FDS"] = str(count)
    return environment, dict.fromkeys(range(FIRST, FIRST + count), nothing) | {FIRST + count: channel}
