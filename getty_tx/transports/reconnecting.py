"""
The client factory that replaces a lost session, and its log.

``SessionClientFactory`` is Twisted's ReconnectingClientFactory with sessions: it decides whether and when to connect
again. A connector makes the connection: Twisted's own from ``connectTCP`` and similar calls, or
:py:class:`~getty_tx.transports.connector.EndpointConnector` for endpoints::

    SessionClientFactory --- connect() --> connector ---------> reactor
            ^                                  |
            +---- clientConnectionLost(), -----+
                  clientConnectionFailed()
"""

from __future__ import annotations

import re
from contextlib import suppress
from random import uniform
from typing import TYPE_CHECKING, Any

from twisted.internet.error import NotConnectingError
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.logger import Logger

from getty_tx import settings
from getty_tx.session.addresses import formatAddress
from getty_tx.session.context import HANDSHAKE_TIMEOUT
from getty_tx.settings import Setting
from getty_tx.transports.factories import SessionFactory
from getty_tx.transports.stream import SessionProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IConnector
    from twisted.internet.protocol import Protocol
    from twisted.python.failure import Failure

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection

__all__ = ["MAX_INTERVALS", "RECONNECT_INTERVAL", "ReconnectLog", "SessionClientFactory", "describeError"]

log = Logger()

#: Seconds before the first new attempt; Getty's ``reconnectInterval``.
RECONNECT_INTERVAL = 0.3

#: The longest wait, in reconnect intervals; Getty's ``maxBackOffTimes``.
MAX_INTERVALS = 10

#: Different reasons that are logged until a session proves itself, so that changing texts do not flood the log.
MAX_REASONS = 8


class SessionClientFactory(SessionFactory, ReconnectingClientFactory):
    """
    One session, replaced when it is lost: for ``connectTCP``, ``connectSSL``, ``connectUNIX`` and EndpointConnector.

    ::

        reactor.connectTCP("localhost", 8090, SessionClientFactory(newSession))

    A factory keeps one session, so each call needs a separate factory. With ``endpoint.connect(factory)`` there is no
    connector that could connect again: such a session is not replaced.

    A session that was lost for any reason except its own ``close()`` or ``abort()`` is replaced, and a failed attempt
    is followed by another. The wait before it is ``reconnectInterval``. It doubles each time, up to ten times that, and
    varies by 20 % so that many clients do not reconnect all at once. It starts from ``reconnectInterval`` again after a
    session that received bytes or was open for ``reconnectInterval``: so a server that accepts and closes at once does
    not cause a busy loop.

    Of the attributes of ReconnectingClientFactory, ``factor``, ``jitter`` (the part of the wait by which it varies),
    ``maxDelay`` and ``continueTrying`` are used; ``reconnectAttempts`` replaces ``maxRetries``.

    :param newSession: configures each new session; raises to refuse it, which is a failed attempt.
    :param reconnectInterval: seconds.
    :param reconnectAttempts: give up after this number of attempts without an open session in between; None: never.
    :param handshakeTimeout: seconds that a TLS or WebSocket handshake may take.
    :param service: the value of ``session.service``; by default the factory.
    :param reactor: by default the installed one.
    :param context: a context that several factories share.
    :param reconnectLog: a log that several factories share.

    :ivar retries: attempts that failed since a session was last open.
    :ivar delay: seconds of the next wait, before the variation.
    """

    protocol: Any = SessionProtocol
    isClient = True
    noisy = False
    factor = 2.0
    jitter = 0.2
    #: The longest wait, in reconnect intervals.
    maxIntervals: float = MAX_INTERVALS
    maxDelay: Any
    delay: Any

    reconnectInterval = Setting(settings.seconds, RECONNECT_INTERVAL, "Seconds before the first new attempt.")
    reconnectAttempts = Setting(
        settings.optionalCount, None, "Attempts without success after which to give up; None: never."
    )

    def __init__(
        self,
        newSession: Callable[[Session], object],
        *,
        reconnectInterval: float = RECONNECT_INTERVAL,
        reconnectAttempts: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        service: Any = None,
        reactor: Any = None,
        context: ServiceContext | None = None,
        reconnectLog: ReconnectLog | None = None,
    ) -> None:
        super().__init__(
            newSession, handshakeTimeout=handshakeTimeout, service=service, reactor=reactor, context=context
        )
        self.reconnectLog = ReconnectLog() if reconnectLog is None else reconnectLog
        self._delayedCall: Any = None
        self._connection: Connection | None = None
        self._failure: BaseException | None = None
        self._openedAt: float | None = None
        self.reconnectInterval = reconnectInterval
        self.reconnectAttempts = reconnectAttempts

    def settingChanged(self, name: str) -> None:
        if name == "reconnectInterval":
            self.initialDelay = self.delay = self.reconnectInterval
            self.maxDelay = self.maxIntervals * self.reconnectInterval
        else:
            super().settingChanged(name)

    @property
    def lastError(self) -> BaseException | None:
        """The last reason why there was no session, or why a session was lost."""
        return self.reconnectLog.lastError

    @property
    def hasLasted(self) -> bool:
        """Whether the session has been open for ``reconnectInterval``."""
        return self._openedAt is not None and self.context.seconds() - self._openedAt >= self.reconnectInterval

    # To override; overrides call the base

    def sessionOpened(self, connection: Connection) -> None:
        """The connection's session is open: attempts are counted from 0 again."""
        self.retries = 0
        self._openedAt = self.context.seconds()
        self.reconnectLog.opened(self._destination())

    def connectionFailed(self, connection: Connection, error: BaseException) -> None:
        """The connection ended before it had a session."""
        self._failure = error

    def gaveUp(self, error: BaseException | None) -> None:
        """``reconnectAttempts`` attempts have failed; no other follows."""
        self.reconnectLog.gaveUp(self._destination(), self.retries, error)

    def notReplaced(self, session: Session) -> None:
        """The session ended by its own ``close()`` or ``abort()``; no other follows."""

    # Events of the connector

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt has started."""
        self.connector = connector

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A protocol for the connection that was made."""
        protocol: Any = self.protocol()
        protocol.factory = self
        self._connection = protocol
        self._openedAt = self._failure = None
        return protocol  # type: ignore[no-any-return]  # self.protocol is what the user put there

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """No connection was made."""
        self._attemptFailed(connector, _errorOf(reason))

    def clientConnectionLost(self, connector: IConnector, unused_reason: Failure) -> None:
        """The connection was lost. Its session may still run an ``async def``; that delays nothing."""
        error = _errorOf(unused_reason)
        connection, self._connection = self._connection, None
        failure, self._failure = self._failure, None
        openedAt, self._openedAt = self._openedAt, None
        session = None if connection is None else connection.session
        if session is not None:
            failure = session.error
            if session.closedLocally:
                if self.continueTrying:
                    self.notReplaced(session)
                return
        if failure is not None:
            error = failure
        if openedAt is None:
            self._attemptFailed(connector, error)
        elif self.continueTrying:
            # A session that was of use is replaced soon.
            if session is not None and (
                session.bytesRead or self.context.seconds() - openedAt >= self.reconnectInterval
            ):
                self.delay = self.initialDelay
                self.reconnectLog.lost(error if failure is not None else None)
            else:
                self.reconnectLog.failed(self._destination(), error)
            self.retry(connector)

    def _attemptFailed(self, connector: IConnector, error: BaseException) -> None:
        if self.continueTrying:
            self.retries += 1
            self.reconnectLog.failed(self._destination(), error)
            self.retry(connector)

    def _destination(self) -> str:
        return "the peer" if self.connector is None else formatAddress(self.connector.getDestination())

    # These replace the methods of ReconnectingClientFactory. Its retry() counts differently, can compute a negative
    # delay and forgets a pending call. Its resetDelay() also forgets a pending call, and reverts stopTrying().

    def retry(self, connector: IConnector | None = None) -> None:
        """
        Connect again after the wait, unless that is scheduled already, ``reconnectAttempts`` have failed, or
        stopTrying() was called.
        """
        if not self.continueTrying or self._delayedCall is not None:
            return
        connector = connector or self.connector
        if connector is None:
            raise ValueError("no connector to retry")
        attempts = self.reconnectAttempts
        if attempts is not None and self.retries >= attempts:
            self.gaveUp(self.lastError)
            return
        if self.clock is None:
            self.clock = self.context.reactor
        # The limit also holds after the variation.
        wait = min(self.delay, self.maxDelay / (1 + self.jitter)) * uniform(1 - self.jitter, 1 + self.jitter)
        self._delayedCall = self.clock.callLater(wait, self._reconnect, connector)
        self.delay = min(self.delay * self.factor, self.maxDelay)

    def _reconnect(self, connector: IConnector) -> None:
        self._delayedCall = None
        self.context.reconnects += 1
        connector.connect()

    def stopTrying(self) -> None:
        """Do not connect again: end the wait, and the attempt under way. An existing connection stays."""
        self.continueTrying = 0
        waiting, self._delayedCall = self._delayedCall, None
        if waiting is not None:
            waiting.cancel()
        if self.connector is not None:
            with suppress(NotConnectingError):
                self.connector.stopConnecting()

    def resetDelay(self) -> None:
        """Reset the wait and the count of attempts."""
        self.delay = self.initialDelay
        self.retries = 0


class ReconnectLog:
    """
    Logs changes between success and failure, not each attempt.

    :ivar lastError: the last reason why there was no session, or why a session was lost.
    """

    def __init__(self) -> None:
        self.lastError: BaseException | None = None
        self._reasons: set[tuple[type, str]] = set()
        self._failing = False

    def failed(self, destination: str, error: BaseException) -> None:
        """An attempt has failed, or its session was lost at once."""
        self.lastError = error
        # Ports and session numbers differ between attempts.
        reason = (type(error), re.sub(r"\d+", "#", str(error)))
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
            self._failing = True
            log.warn("no session with {destination}: {error}", destination=destination, error=describeError(error))

    def opened(self, destination: str) -> None:
        """A session is open. Earlier reasons are not logged again before a session has proved itself."""
        if self._failing:
            self._failing = False
            log.info("session with {destination} is open", destination=destination)

    def lost(self, error: BaseException | None) -> None:
        """A session that had proved itself was lost. Its listener was told the reason, so it is not logged."""
        if error is not None:
            self.lastError = error
        self._reasons.clear()

    def gaveUp(self, destination: str, attempts: int, error: BaseException | None) -> None:
        """No other attempt follows."""
        log.error(
            "gave up on {destination} after {attempts} failed attempts: {error}",
            destination=destination,
            attempts=attempts,
            error="" if error is None else describeError(error),
        )


def _errorOf(failure: Failure) -> BaseException:
    error: BaseException = failure.value  # type: ignore[assignment]  # only a pickled Failure has none
    return error


def describeError(error: BaseException) -> str:
    """The error's text, or the name of its class if the text is empty."""
    return str(error) or type(error).__name__
