"""
Bytes that many sessions get: framed once, and written to each with as little work as it takes.

A *framing* makes the bytes that leave from what a codec has written. Sessions with the same framing object get the same
bytes. A session whose bytes depend on more than that, as those of a masking WebSocket client or of datagrams do, has
``framing`` None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from getty_tx.session.states import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STREAM", "IFraming", "StreamFraming", "join", "leave", "leaveAll", "writeToAll", "writeToOne"]

log = Logger()

#: Sessions that are written to between two looks at the clock: less than 0.1 ms.
STRIDE = 32


class IFraming(Protocol):
    """
    How what a codec has written becomes the bytes on the wire. Hashable by identity.

    :ivar after: called with a session when it was written to, or None.
    """

    @property
    def after(self) -> Callable[[Any], None] | None:
        """See above."""

    def frame(self, data: Any) -> bytes:
        """
        The bytes that leave.

        :param data: what ``codec.write`` has returned.
        :raise TypeError: it is nothing that this kind of session can send.
        """


class StreamFraming:
    """Of byte streams: nothing around what the codec has written."""

    __slots__ = ()

    after: Callable[[Any], None] | None = None

    def frame(self, data: Any) -> bytes:
        """See :py:class:`IFraming`."""
        if type(data) is bytes:
            return data
        if isinstance(data, str):
            raise TypeError("a stream takes bytes, not str")
        if isinstance(data, list):
            return b"".join(data)
        return bytes(data)


STREAM = StreamFraming()


def join(session: Any, membership: Any) -> None:
    """
    Have ``membership.sessionEnds(session)`` called just before onClose.

    :param membership: one that the session does not have yet.
    """
    session.memberships += (membership,)


def leave(session: Any, membership: Any) -> None:
    """Undo :py:func:`join`."""
    session.memberships = tuple([each for each in session.memberships if each is not membership])


def leaveAll(session: Any) -> None:
    """The session ends."""
    members, session.memberships = session.memberships, ()
    for each in members:
        try:
            each.sessionEnds(session)
        except Exception:
            log.failure("{session}: {membership} failed at its end", session=session, membership=each)


def writeToAll(
    sessions: list[Any],
    at: int,
    frame: bytes,
    packages: int,
    framing: IFraming,
    limit: int,
    seconds: Callable[[], float],
    until: float,
    behind: list[Any],
) -> tuple[int, int]:
    """
    Write the same bytes to sessions, until it is late. On the reactor's thread.

    Those that are closed are passed over. Those that wait for their peers are as well, and are told.

    :param at: the index of the first one.
    :param packages: how many packages the bytes are, for the counters.
    :param limit: bytes; a session with more of them pending is behind.
    :param until: on the clock of ``seconds``.
    :param behind: sessions are added that did not get the bytes, as their output is blocked.
    :return: the index of the next one, and how many got the bytes.
    """
    length = len(frame)
    end = len(sessions)
    after = framing.after
    missed = len(behind)
    closed = 0
    begin = at
    while at < end:
        stop = at + STRIDE
        for session in sessions[at:stop]:
            if session.state > OPEN:
                closed += 1
                continue
            outbound = session.outbound
            if outbound.blocked or outbound.queued > limit:
                behind.append(session)
                continue
            session.bytesWritten += length
            session.pkgsWritten += packages
            outbound.write(frame, length)
            if after is not None:
                after(session)
        at = stop if stop < end else end
        if seconds() >= until:
            break
    return at, at - begin - closed - (len(behind) - missed)


def writeToOne(session: Any, frame: bytes, packages: int, framing: IFraming) -> None:
    """
    Write such bytes to one session that is open, after all that waits for its peer.

    :param packages: how many packages the bytes are, for the counters.
    """
    length = len(frame)
    session.bytesWritten += length
    session.pkgsWritten += packages
    session.outbound.write(frame, length)
    if framing.after is not None:
        framing.after(session)
