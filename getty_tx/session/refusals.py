"""Refused connections, counted by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from twisted.logger import Logger

from getty_tx.errors import SessionRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_ANSWERED", "REASONS", "Reason", "Refusals", "refusalFrom"]

log = Logger()

#: Why a connection is refused:
#:
#: * ``maxSessions``, ``maxSessionsPerHost``: that many connections exist, in all or with its host.
#: * ``peers``: a UDP socket without ``maxSessions`` has as many peers as it may have.
#: * ``descriptors``: the process has hardly any free file descriptors.
#: * ``newSession``: it raised, closed the session or set no codec.
#: * ``handshake``, ``handshakeTimeout``: TLS or the WebSocket was not established, or not in time.
#: * ``selfConnect``: a client connected to itself.
#: * ``stopping``: the service stops.
Reason = Literal[
    "maxSessions",
    "maxSessionsPerHost",
    "peers",
    "descriptors",
    "newSession",
    "handshake",
    "handshakeTimeout",
    "selfConnect",
    "stopping",
]

REASONS: tuple[Reason, ...] = get_args(Reason)

#: WebSocket clients above a limit that get a 503 at a time; further ones are dropped.
MOST_ANSWERED = 64

#: Seconds between two log lines about the same reason: refusals come in floods.
LOG_INTERVAL = 1.0


class Refusals:
    """
    Counts refused connections.

    :param seconds: the clock.

    :ivar counts: by reason; each of :py:data:`REASONS` is there.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.counts: dict[str, int] = dict.fromkeys(REASONS, 0)
        self._seconds = seconds
        self._logged: dict[Reason, float] = {}

    @property
    def total(self) -> int:
        """Refusals of all reasons."""
        return sum(self.counts.values())

    def count(self, reason: Reason, why: str) -> None:
        """Count one; the log has at most one line in :py:data:`LOG_INTERVAL` for each reason."""
        number = self.counts[reason] = self.counts[reason] + 1
        now = self._seconds()
        last = self._logged.get(reason)
        if last is None or now >= last + LOG_INTERVAL:
            self._logged[reason] = now
            log.warn("connection refused: {why} ({reason}: {number} so far)", why=why, reason=reason, number=number)


def refusalFrom(error: BaseException, session: Any) -> SessionRefusedError:
    """
    The refusal of a session because of what ``newSession`` has raised.

    An error that is a refusal itself is copied, because it may be one that was made once and is raised for many
    sessions: it keeps neither this session nor a traceback, which would grow each time.
    """
    refusal: SessionRefusedError
    if isinstance(error, SessionRefusedError):
        refusal = BaseException.__new__(type(error), *error.args)
        vars(refusal).update(vars(error))
        refusal.session = session
        refusal.__traceback__ = error.__traceback__
        refusal.__cause__ = error.__cause__
        error.__traceback__ = error.__cause__ = error.__context__ = None
    else:
        refusal = SessionRefusedError(f"newSession refused {session}: {type(error).__name__}: {error}", session)
        refusal.__cause__ = error
    return refusal
