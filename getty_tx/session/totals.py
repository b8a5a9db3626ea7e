"""The counters of a session, and totals of ended sessions by endpoint and close reason."""

from __future__ import annotations

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
    from getty_tx.session.state import SessionState

__all__ = ["CLOSE_REASONS", "OTHER", "CloseReason", "Endpoints", "Stats", "Totals", "closeReason"]

#: Why a session ended:
#:
#: * ``local``: ``close()`` or ``abort()`` was called here. ``stopping``: by the end of its service.
#: * ``maxLifetime``: that was over. ``peer``: the peer ended it in order.
#: * ``readTimeout``, ``idleTimeout``, ``writeTimeout``: the time-outs of these names, ``writePkg``'s too.
#: * ``codec``: bytes or a package that cannot be, or that are too long.
#: * ``peerError``: the peer closed a WebSocket with the code of an error, or without any.
#: * ``lost``: the network, or TLS, broke it; or the process that had it was killed, which another one counts.
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

#: The endpoint of sessions whose own address is that of none, as behind some proxies.
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
    """Why a session has ended, or is about to."""
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
    Sums over sessions that have ended.

    :ivar closed: how many, by reason; reasons that never were are missing.
    """

    __slots__ = ("closed", "dropped", "readBytes", "readPkgs", "writeBytes", "writePkgs")

    def __init__(self) -> None:
        self.closed: dict[str, int] = {}
        self.readBytes = self.writeBytes = self.readPkgs = self.writePkgs = self.dropped = 0

    def add(self, session: SessionState, reason: CloseReason) -> None:
        """The session has ended."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
        self.readBytes += session.bytesRead
        self.writeBytes += session.bytesWritten
        self.readPkgs += session.pkgsRead
        self.writePkgs += session.pkgsWritten
        self.dropped += session.datagramsDropped

    def addAll(self, other: Totals) -> None:
        """Those of another, too."""
        for reason, number in other.closed.items():
            self.closed[reason] = self.closed.get(reason, 0) + number
        self.readBytes += other.readBytes
        self.writeBytes += other.writeBytes
        self.readPkgs += other.readPkgs
        self.writePkgs += other.writePkgs
        self.dropped += other.dropped


class Endpoints:
    """
    Which of its service's endpoints a session came to, told by its own address.

    :param only: what there is one of: a client's destination, a server's only endpoint; None where addresses tell.
    """

    __slots__ = ("_names", "only")

    def __init__(self, only: str | None = None) -> None:
        self.only = only
        self._names: dict[tuple[str, Any, int], str] = {}

    def add(self, address: Any, name: str) -> None:
        """An endpoint is listened on at this address."""
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
