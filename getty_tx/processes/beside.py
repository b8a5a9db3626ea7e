"""
A pair of stream sockets beside the channel, for what the services of sub-reactors tell each other by way of the main
process: acknowledgements of connections do not wait behind it.

The main process hands one end over with the settings. What is said there, and who answers in the main process, this
module does not know: :py:data:`HUB` names it, and it is imported when a sub-reactor says the first word.
"""

from __future__ import annotations

import socket
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from getty_tx.processes.member import Member

__all__ = ["HUB", "Beside", "IHub", "ISpoke", "adopt", "ownEnd"]

log = Logger()

#: ``module:attribute`` of a callable that takes the reactor and returns an :py:class:`IHub`.
HUB = "getty_tx.groups.hub.hub:Hub"


class ISpoke(Protocol):
    """What the hub has for one sub-reactor."""

    def finish(self) -> None:
        """The process has ended: receive the last of it, and close the socket."""


class IHub(Protocol):
    """Answers in the main process."""

    def add(self, end: socket.socket, name: str) -> ISpoke:
        """
        A sub-reactor has said something.

        :param end: the main process's end of its pair, with what was said unread.
        :param name: the sub-reactor, for the log.
        """


class Beside:
    """
    The main process's part.

    :param reactor: the reactor.
    :param target: as :py:data:`HUB`.
    """

    def __init__(self, reactor: Any, target: str = HUB) -> None:
        self._reactor = reactor
        self._target = target
        self._hub: IHub | None = None
        self._ends: dict[Member, _End] = {}

    def open(self, member: Member) -> int:
        """Make a pair for a sub-reactor. :return: the descriptor that it gets; open until :py:meth:`taken`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ends[member] = _End(self, member, ours, theirs)
        return theirs.fileno()

    def taken(self, member: Member) -> None:
        """It has its end by now."""
        end = self._ends.get(member)
        if end is not None:
            end.theirs.close()

    def lost(self, member: Member) -> None:
        """The process of a sub-reactor has ended."""
        end = self._ends.pop(member, None)
        if end is not None:
            end.finish()

    def begin(self, end: socket.socket, name: str) -> ISpoke:
        """A sub-reactor says its first word."""
        if self._hub is None:
            module, _, attribute = self._target.partition(":")
            hub: IHub = getattr(import_module(module), attribute)(self._reactor)
            self._hub = hub
        return self._hub.add(end, name)


@implementer(IReadDescriptor)
class _End:
    """The main process's end of a pair: until something comes, it is watched here, and then the hub has it."""

    def __init__(self, beside: Beside, member: Member, ours: socket.socket, theirs: socket.socket) -> None:
        ours.setblocking(False)
        self._beside = beside
        self._member = member
        self._ours: socket.socket | None = ours
        self._spoke: ISpoke | None = None
        self._reactor = beside._reactor
        self.theirs = theirs
        self._reactor.addReader(self)

    def fileno(self) -> int:
        """Return the descriptor, -1 when the hub has it."""
        return -1 if self._ours is None else self._ours.fileno()

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return "beside"

    def doRead(self) -> None:
        """Something has come, or the other end is closed."""
        ours = self._ours
        if ours is None:
            return
        try:
            isEnd = not ours.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            isEnd = True
        if isEnd:
            self._close()
            return
        # Before the hub watches the same descriptor.
        self._reactor.removeReader(self)
        self._ours = None
        try:
            self._spoke = self._beside.begin(ours, str(self._member))
        except Exception:
            log.failure("{member}: nobody answers beside the channel", member=self._member)
            ours.close()

    def connectionLost(self, reason: Failure) -> None:
        """The other end is closed; what it has said before is still there."""
        self.doRead()
        self._close()

    def _close(self) -> None:
        if self._ours is not None:
            self._reactor.removeReader(self)
            self._ours.close()
            self._ours = None

    def finish(self) -> None:
        """The process has ended."""
        self.theirs.close()
        if self._spoke is None:
            self.doRead()
        if self._spoke is not None:
            self._spoke.finish()
        self._close()


#: In a sub-reactor, its end.
_own: list[socket.socket] = []


def adopt(descriptor: int) -> None:
    """In a sub-reactor, at its start: keep its end of the pair."""
    _own[:] = [socket.socket(fileno=descriptor)]


def ownEnd() -> socket.socket | None:
    """This process's end of the pair; None in a process that is no sub-reactor."""
    return _own[0] if _own else None
