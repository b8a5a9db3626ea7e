"""The counters of a session, and totals of ended sessions by endpoint and close reason."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, get_args

from twisted.internet.error import ConnectionClosed

from getty_tx.errors import (
    CodecError,
    IdleTimeoutError,
    PeerClosedError,
    ReadTimeoutError,
    WriteTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from getty_tx.session.state import SessionState

__all__ = ["CLOSE_REASONS", "OTHER", "CloseReason", "Endpoints", "Stats", "Totals", "closeReason"]

#: Why a session ended:
#:
#: * ``local``: ``close()`` or ``abort()`` was called here. ``stopping``: its service stopped.
#: * ``maxLifetime``: that time has passed. ``peer``: an orderly end by the peer.
#: * ``readTimeout``, ``idleTimeout``, ``writeTimeout``: the time-outs of these names, ``writePkg``'s too.
#: * ``codec``: invalid or too long bytes or packages.
#: * ``peerError``: the peer closed a WebSocket with an error code, or without a Close frame.
#: * ``lost``: the network or TLS failed; or its process was killed, which another process counts.
#: * ``error``: a callback failed, or ``close(error)`` was called.
CloseReason = Literal[
    "local",
    "stopping",
    "maxLifetime",
    "peer",
    "readTimeout",
    "idleTimeout",
    "writeTimeout",
    "codec",
    "peerError",
    "lost",
    "error",
]

CLOSE_REASONS: tuple[CloseReason, ...] = get_args(CloseReason)

#: The endpoint of sessions whose local address matches none, as behind some proxies.
OTHER = "other"

_BY_ERROR: tuple[tuple[type | tuple[type, ...], CloseReason], ...] = (
    (ReadTimeoutError, "readTimeout"),
    (IdleTimeoutError, "idleTimeout"),
    (WriteTimeoutError, "writeTimeout"),
    (CodecError, "codec"),
    (PeerClosedError, "peerError"),
    # TLS's own errors are explained by getty_tx.tls, as subclasses of this one.
    ((ConnectionClosed, OSError), "lost"),
)


def closeReason(session: SessionState) -> CloseReason:
    """Why a session has ended or is ending."""
    error = session.error
    if error is not None:
        return next((reason for kind, reason in _BY_ERROR if isinstance(error, kind)), "error")
    if session.closedLocally:
        return "local" if session.extendsClose else "stopping"
    lifetime = session.lifetime
    return "peer" if lifetime is None or not lifetime.isOver else "maxLifetime"


class Stats:
    """
    A session's counters, as they are at the moment of asking. ``str`` gives Getty's line.

    :ivar dropped: datagrams that were bad, empty or too long; always 0 on a stream.
    """

    __slots__ = ("_session",)

    def __init__(self, session: SessionState) -> None:
        self._session = session

    @property
    def readBytes(self) -> int:
        """Bytes that came, counted as the transport gave them: below compression, above TLS."""
        return self._session.bytesRead

    @property
    def writeBytes(self) -> int:
        """Bytes that were taken for sending, counted as the transport is given them."""
        return self._session.bytesWritten

    @property
    def readPkgs(self) -> int:
        """Packages that were given to onMessage."""
        return self._session.pkgsRead

    @property
    def writePkgs(self) -> int:
        """Packages that were taken for sending."""
        return self._session.pkgsWritten

    @property
    def dropped(self) -> int:
        """Datagrams that were dropped."""
        return self._session.datagramsDropped

    def __str__(self) -> str:
        return (
            f"session {self._session}, Read Bytes: {self.readBytes}, Write Bytes: {self.writeBytes}, "
            f"Read Pkgs: {self.readPkgs}, Write Pkgs: {self.writePkgs}"
        )


class Totals:
    """
    Totals of ended sessions.

    :ivar closed: number of sessions by close reason; reasons without any are missing.
    """

    __slots__ = ("closed", "dropped", "readBytes", "readPkgs", "writeBytes", "writePkgs")

    def __init__(self) -> None:
        self.closed: dict[str, int] = {}
        self.readBytes = self.writeBytes = self.readPkgs = self.writePkgs = self.dropped = 0

    def add(self, session: SessionState, reason: CloseReason) -> None:
        """Add the counters of a session that has ended."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
        self.readBytes += session.bytesRead
        self.writeBytes += session.bytesWritten
        self.readPkgs += session.pkgsRead
        self.writePkgs += session.pkgsWritten
        self.dropped += session.datagramsDropped

    def addOpen(self, sessions: Collection[SessionState]) -> None:
        """Add the counters of open sessions."""
        # No line of Python runs for each session: many of them are counted each second.
        self.readBytes += sum(map(attrgetter("bytesRead"), sessions))
        self.writeBytes += sum(map(attrgetter("bytesWritten"), sessions))
        self.readPkgs += sum(map(attrgetter("pkgsRead"), sessions))
        self.writePkgs += sum(map(attrgetter("pkgsWritten"), sessions))
        self.dropped += sum(map(attrgetter("datagramsDropped"), sessions))

    def addAll(self, other: Totals) -> None:
        """Add the totals of another."""
        for reason, number in other.closed.items():
            self.closed[reason] = self.closed.get(reason, 0) + number
        self.readBytes += other.readBytes
        self.writeBytes += other.writeBytes
        self.readPkgs += other.readPkgs
        self.writePkgs += other.writePkgs
        self.dropped += other.dropped


class Endpoints:
    """
    Finds the endpoint of a session by its local address.

    :param only: the only endpoint: a client's destination, or that of a server with one; None: addresses decide.
    """

    __slots__ = ("_names", "only")

    def __init__(self, only: str | None = None) -> None:
        self.only = only
        self._names: dict[tuple[str, Any, int], str] = {}

    def add(self, address: Any, name: str) -> None:
        """Note the address on which an endpoint listens."""
        kind, host, port = _place(address)
        self._names[kind, None if host in ("", "0.0.0.0", "::") else host, port] = name

    def of(self, session: Any) -> str:
        """The name of the session's endpoint."""
        if self.only is not None:
            return self.only
        kind, host, port = _place(session.localAddr)
        names = self._names
        return names.get((kind, host, port)) or names.get((kind, None, port)) or OTHER


def _place(address: Any) -> tuple[str, Any, int]:
    host = getattr(address, "host", None)
    if host is None:
        return "UNIX", getattr(address, "name", None), 0
    return address.type, host, address.port
