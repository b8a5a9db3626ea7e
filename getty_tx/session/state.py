"""
What the parts of one session share: its state, and the calls by which the parts tell the session what happened.

``Inbound``, ``Outbound``, timers and counters know a session as a :py:class:`SessionState`. Its attributes have no
underscore, as they are the room's own: only modules of ``getty_tx.session`` change them, and transports call the
methods that :py:class:`getty_tx.session.lifecycle.Lifecycle` lists. Applications use
:py:class:`~getty_tx.session.session.Session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from getty_tx.session.cron import CronMember
from getty_tx.session.pausing import PRESSURE
from getty_tx.session.sharing import STREAM
from getty_tx.session.states import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.python.failure import Failure

    from getty_tx.interfaces import IConnection
    from getty_tx.session.sharing import IFraming
    from getty_tx.wheel import WheelTimer

__all__ = ["SessionState", "SessionWork", "SessionWorkers"]


class SessionWork(Protocol):
    """
    The packages of one session that workers have, or will have; takes the place of the session's listener.

    :ivar holdsEvents: onError and onCron wait until no package of the session is with a worker.
    :ivar cronDue: an onCron waits for that.
    :ivar keeps: the peer has closed in order, so closing the session does not drop the packages that wait.
    """

    holdsEvents: bool
    cronDue: bool
    keeps: bool
    listener: Any

    @property
    def busy(self) -> bool:
        """True while a package of the session waits or runs."""

    def release(self) -> None:
        """Deliver packages again that waited while the session was paused."""

    def drop(self) -> None:
        """Deliver no package that still waits."""

    def abandon(self) -> int:
        """Wait no longer for packages that run. Returns how many were dropped."""


class SessionWorkers(Protocol):
    """A running worker pool, as sessions see it."""

    def attach(self, session: Any) -> Any:
        """The :py:class:`SessionWork` of a new session."""


class SessionState(CronMember):
    """
    The state of one session.

    :ivar activeAt: when bytes last came, or ``touch()`` was called, in seconds on the reactor's clock.
    :ivar awaiting: the Deferred of an async callback that has not returned.
    :ivar bytesRead: bytes that came. ``bytesWritten``, ``pkgsRead`` and ``pkgsWritten`` count alike.
    :ivar cancelling: ``checkClose`` is cancelling the async callback.
    :ivar closePending: onClose is to be called.
    :ivar closeTimer: ends a close, or a callback after the end, at ``waitTime``.
    :ivar closedLocally: ``close()`` or ``abort()`` was called: a loss of the connection is no error.
    :ivar connection: the connection below.
    :ivar context: what the sessions of a service share, a :py:class:`getty_tx.session.context.ServiceContext`.
    :ivar decoder: what reads packages: ``session.reader``. ``encoder`` is ``session.writer``.
    :ivar error: what the session failed with.
    :ivar extendsClose: a close lasts longer than ``waitTime`` while the peer takes bytes.
    :ivar inbound: the way in.
    :ivar inCallback: a callback, or a delivery of packages, is on the stack.
    :ivar lastProgress: bytes out and bytes in the kernel, at the last look at a close, or at an answer after the
        peer has ended its side; -1 before the first look.
    :ivar lifetime: watches ``idleTimeout`` and ``maxLifetime``, where one of them is set.
    :ivar memberships: what the session leaves before onClose: objects with ``sessionEnds(session)``, and
        ``isBehind(session)``, whether something of theirs waits for the session.
    :ivar needsDispatch: an event arrived during a callback; ``dispatchEvents`` handles it when that returns.
    :ivar openedAt: when the session was made, in seconds on the reactor's clock.
    :ivar outbound: the way out.
    :ivar pendingError: ``error``, as long as the listener has not been told.
    :ivar readTimer: watches ``readTimeout``.
    :ivar readsBatches: 1: the decoder has ``readMany``. 2: and the listener takes lists.
    :ivar receiver: what events are delivered to: the listener, or a proxy in front of it.
    :ivar state: one of :py:mod:`getty_tx.session.states`.
    :ivar work: the :py:class:`SessionWork` in front of the listener, where there are workers.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_closeCallbacks",
        "activeAt",
        "bytesRead",
        "bytesWritten",
        "cancelling",
        "closePending",
        "closeTimer",
        "closedLocally",
        "connection",
        "context",
        "decoder",
        "encoder",
        "error",
        "extendsClose",
        "inbound",
        "lastProgress",
        "lifetime",
        "memberships",
        "openedAt",
        "outbound",
        "pendingError",
        "pkgsRead",
        "pkgsWritten",
        "readTimer",
        "readsBatches",
        "state",
        "work",
    )

    #: Datagrams that were dropped; sessions over datagrams count them.
    datagramsDropped = 0

    #: How bytes that other sessions get as well are framed; None: each session needs its own.
    framing: IFraming | None = STREAM

    # The types of the room's own classes are narrowed in Lifecycle, which may import them.
    _attributes: dict[Any, Any] | None
    _closeCallbacks: dict[Hashable, Callable[[], object]] | None
    activeAt: float
    bytesRead: int
    bytesWritten: int
    cancelling: bool
    closePending: bool
    closeTimer: WheelTimer | None
    closedLocally: bool
    connection: IConnection
    context: Any
    decoder: Any
    encoder: Any
    error: BaseException | None
    extendsClose: bool
    inbound: Any
    lastProgress: tuple[int, int | None]
    lifetime: Any
    memberships: tuple[Any, ...]
    openedAt: float
    outbound: Any
    pendingError: BaseException | None
    pkgsRead: int
    pkgsWritten: int
    readTimer: WheelTimer | None
    readsBatches: int
    state: int
    work: SessionWork | None

    # The settings that the parts read; Session has their slots.
    _cronPeriod: float
    _highWater: int
    _idleTimeout: float | None
    _lowWater: int
    _maxLifetime: float | None
    _maxMsgLen: int
    _maxPending: int
    _readTimeout: float | None
    _waitTime: float
    _writeTimeout: float | None

    # What the parts tell the session

    def callbackFailed(self, error: BaseException, failure: Failure | None = None) -> None:
        """A callback raised."""
        raise NotImplementedError

    def readFailed(self, error: BaseException) -> None:
        """The codec refused the stream, or a limit was passed."""
        raise NotImplementedError

    def fail(self, error: BaseException, abort: bool = False) -> None:
        """The session failed: tell the listener once, and close."""
        raise NotImplementedError

    def outputFlushed(self) -> None:
        """All pending bytes are out."""
        raise NotImplementedError

    def pendingIsHigh(self) -> None:
        """More than ``highWater`` bytes are pending: stop reading from the peer."""
        if self.state <= OPEN and not self.inbound.paused & PRESSURE:
            self.inbound.pause(PRESSURE)

    def pendingIsLow(self) -> None:
        """At most ``lowWater`` bytes are pending, or the session may read all the same."""
        self.inbound.resume(PRESSURE)

    def readTimedOut(self, timeout: float) -> None:
        """Nothing came for ``readTimeout``."""
        raise NotImplementedError

    def lifetimeOver(self) -> None:
        """``maxLifetime`` has passed."""
        raise NotImplementedError

    def closeProgress(self) -> tuple[int, int | None]:
        """How far sending has come: bytes out, and bytes in the kernel, None where it cannot tell."""
        raise NotImplementedError

    def activity(self) -> int:
        """Changes whenever bytes are read or written."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close within ``waitTime``, as the service stops."""
        raise NotImplementedError

    def close(self, reason: BaseException | str | None = None) -> None:
        """See :py:meth:`getty_tx.session.session.Session.close`."""
        raise NotImplementedError
