"""The process of a sub-reactor, as the main process has it."""

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

    from getty_tx.processes.supervisor import Member

__all__ = ["SubProcess"]

log = Logger()

#: What the interpreter of a sub-reactor runs. Twisted looks at these variables when it is imported; the sockets that
#: systemd has passed are the main process's, and have stand-ins here, to which only descriptions refer.
_RUN = "import os; os.environ['LISTEN_PID'] = str(os.getpid()); from getty_tx.processes.subreactor import main; main()"

#: The first descriptor that systemd passes. The channel is behind the last.
FIRST = 3


class SubProcess(ProcessProtocol):
    """
    Starts a sub-reactor.

    :param member: which it is.
    :param received: called with the member, a message's kind, and what is behind that.
    :param lost: called with the member when it will send no more.
    :param gone: called with the member when it has ended, and with how, in words; after ``lost``.
    :param reactor: the reactor.
    :raise GettyError: this process may not run the interpreter.
    """

    def __init__(
        self,
        member: Member,
        received: Callable[[Member, int, bytes], object],
        lost: Callable[[Member], object],
        gone: Callable[[Member, str], object],
        reactor: Any,
    ) -> None:
        self._member = member
        self._lost = lost
        self._gone = gone
        self._lines = {1: b"", 2: b""}
        self._isRunning = True
        ours, theirs = channelPair()
        self.channel = Channel(
            ours, reactor, lambda kind, data, descriptors: received(member, kind, data), self._channelLost
        )
        with theirs, open(os.devnull) as nothing:
            environment, descriptors = _surroundings(theirs.fileno(), nothing.fileno())
            # -P: what is in the working directory hides no module that is needed before sys.path is set.
            command = [sys.executable, "-P", "-c", _RUN, str(max(descriptors)), f"sub-reactor-{member.number}"]
            childFDs = {0: nothing.fileno(), 1: "r", 2: "r", **descriptors}
            try:
                process = reactor.spawnProcess(self, command[0], command, environment, childFDs=childFDs)
            except PermissionError as error:
                # twistd has changed to another user, who cannot reach it in the home of the one before.
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
            # Usually it is gone already. If not, nobody can reach it any more.
            self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It has printed something while it had no log, or beside it."""
        *lines, self._lines[childFD] = (self._lines[childFD] + data).split(b"\n")
        for line in lines:
            log.info("{member}: {line}", member=self._member, line=line.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        """All that it has printed is there."""
        for childFD, line in self._lines.items():
            if line:
                self.childDataReceived(childFD, b"\n")

    def processExited(self, reason: Failure) -> None:
        """It is gone."""
        self._isRunning = False
        self.channel.finish()
        error = reason.value
        if isinstance(error, ProcessTerminated) and error.signal:
            how = f"was ended by {signal.Signals(error.signal).name}"
        else:
            how = f"has ended with status {getattr(error, 'exitCode', 0) or 0}"
        self._gone(self._member, how)


def _surroundings(channel: int, nothing: int) -> tuple[dict[str, str], dict[int, int]]:
    """The environment and the further descriptors of a sub-reactor; the channel is the last of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # When they are meant for this process, Twisted takes all of systemd's variables away but the names.
    names = environment.get("LISTEN_FDNAMES", "")
    count = len(names.split(":")) if names and "LISTEN_PID" not in environment else 0
    if count:
        environment["LISTEN_FDS"] = str(count)
    return environment, dict.fromkeys(range(FIRST, FIRST + count), nothing) | {FIRST + count: channel}
