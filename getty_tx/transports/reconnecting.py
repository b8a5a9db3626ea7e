"""
Dialing, again and again: the factory that has a lost session replaced, and what it logs of that.

``SessionClientFactory`` is Twisted's ReconnectingClientFactory with sessions: it decides whether and when to dial
again. A connector does it: Twisted's own from ``connectTCP`` and its like, or
:py:class:`~getty_tx.transports.connector.EndpointConnector` for endpoints.
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

__all__ = ["RECONNECT_INTERVAL", "DialLog", "SessionClientFactory", "describeError"]

log = Logger()

#: Seconds before the first new attempt; Getty's ``reconnectInterval``.
RECONNECT_INTERVAL = 0.3

#: The longest wait, in reconnect intervals; Getty's ``maxBackOffTimes``.
MOST_INTERVALS = 10

#: Different reasons that are logged until a session proves itself. Texts that never repeat must not become a flood.
MOST_REASONS = 8


class SessionClientFactory(SessionFactory, ReconnectingClientFactory):
    """
    One session, replaced when it is lost: for ``connectTCP``, ``connectSSL``, ``connectUNIX`` and EndpointConnector.

    ::

        reactor.connectTCP("localhost", 8090, SessionClientFactory(newSession))

    A factory keeps one session, so give each call a factory of its own. With ``endpoint.connect(factory)`` there is no
    connector to dial again: such a session is not replaced.

    A session that was lost for any reason but its own ``close()`` or ``abort()`` is replaced, and an attempt that
    failed is followed by another. The wait before it is ``reconnectInterval``, doubles each time up to ten times that,
    and varies by 20 % so that many clients do not come back all at once. It begins anew after a session that received
    something or was open for ``reconnectInterval``: a server that accepts and closes at once makes no hot loop.

    Of ReconnectingClientFactory's knobs ``factor``, ``jitter`` (the part of the wait by which it varies), ``maxDelay``
    and ``continueTrying`` are in use; in place of ``maxRetries`` there is ``reconnectAttempts``.

    :param newSession: configures each new session; raises to refuse it, which is a failed attempt.
    :param reconnectInterval: seconds.
    :param reconnectAttempts: give up after so many attempts without an open session in between; None: never.
    :param handshakeTimeout: seconds that a TLS or WebSocket handshake may take.
    :param service: what ``session.service`` is; by default the factory.
    :param reactor: by default the installed one.
    :param context: for factories that share one.
    :param dialLog: for factories that log as one.

    :ivar retries: attempts that failed since a session was last open.
    :ivar delay: seconds of the next wait, before it is varied.
    """

    protocol: Any = SessionProtocol
    isClient = True
    noisy = False
    factor = 2.0
    jitter = 0.2
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
        dialLog: DialLog | None = None,
    ) -> None:
        super().__init__(
            newSession, handshakeTimeout=handshakeTimeout, service=service, reactor=reactor, context=context
        )
        self.dialLog = DialLog() if dialLog is None else dialLog
        self._waiting: Any = None
        self._connection: Connection | None = None
        self._failure: BaseException | None = None
        self._openedAt: float | None = None
        self.reconnectInterval = reconnectInterval
        self.reconnectAttempts = reconnectAttempts

    def _settingChanged(self, name: str) -> None:
        if name == "reconnectInterval":
            self.initialDelay = self.delay = self.reconnectInterval
            self.maxDelay = MOST_INTERVALS * self.reconnectInterval
        else:
            super()._settingChanged(name)

    @property
    def lastError(self) -> BaseException | None:
        """The last reason for which there was no session, or for which one was lost."""
        return self.dialLog.lastError

    # To override, calling the base

    def sessionOpened(self, connection: Connection) -> None:
        """The connection's session is open: the attempts count from 0 again."""
        self.retries = 0
        self._openedAt = self.context.seconds()
        self.dialLog.opened(self._destination())

    def connectionFailed(self, connection: Connection, error: BaseException) -> None:
        """The connection ended before it had a session."""
        self._failure = error

    def gaveUp(self, error: BaseException | None) -> None:
        """``reconnectAttempts`` attempts have failed; there will be no other."""
        self.dialLog.gaveUp(self._destination(), self.retries, error)

    def notReplaced(self, session: Session) -> None:
        """The session was lost by its own ``close()`` or ``abort()``; there will be no other."""

    # What a connector tells

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt has begun."""
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
        """The connection is gone. Its session may still be busy with an ``async def``; that holds nothing up."""
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
            # A session that lives a little is worth being replaced soon.
            if session is not None and (
                session.bytesRead or self.context.seconds() - openedAt >= self.reconnectInterval
            ):
                self.delay = self.initialDelay
                self.dialLog.lost(error if failure is not None else None)
            else:
                self.dialLog.failed(self._destination(), error)
            self.retry(connector)

    def _attemptFailed(self, connector: IConnector, error: BaseException) -> None:
        if self.continueTrying:
            self.retries += 1
            self.dialLog.failed(self._destination(), error)
            self.retry(connector)

    def _destination(self) -> str:
        return "the peer" if self.connector is None else formatAddress(self.connector.getDestination())

    # In place of ReconnectingClientFactory's. Its retry() counts otherwise, can wait for less than no time and forgets
    # a pending call; its resetDelay() forgets one, too, and takes stopTrying() back.

    def retry(self, connector: IConnector | None = None) -> None:
        """
        Dial again after the wait, unless that is coming already, ``reconnectAttempts`` are used up, or stopTrying() was
        called.
        """
        if not self.continueTrying or self._waiting is not None:
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
        # The ceiling holds after the variation, too.
        wait = min(self.delay, self.maxDelay / (1 + self.jitter)) * uniform(1 - self.jitter, 1 + self.jitter)
        self._waiting = self.clock.callLater(wait, self._dialAgain, connector)
        self.delay = min(self.delay * self.factor, self.maxDelay)

    def _dialAgain(self, connector: IConnector) -> None:
        self._waiting = None
        self.context.reconnects += 1
        connector.connect()

    def stopTrying(self) -> None:
        """Dial no more: end the wait, and the attempt under way. A connection that is made stays."""
        self.continueTrying = 0
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        if self.connector is not None:
            with suppress(NotConnectingError):
                self.connector.stopConnecting()

    def resetDelay(self) -> None:
        """Let waits and attempts begin anew; done after each success."""
        self.delay = self.initialDelay
        self.retries = 0


class DialLog:
    """
    What is logged of attempts: a line when something changes, not one for each attempt.

    :ivar lastError: the last reason for which there was no session, or for which one was lost.
    """

    def __init__(self) -> None:
        self.lastError: BaseException | None = None
        self._reasons: set[tuple[type, str]] = set()
        self._failing = False

    def failed(self, destination: str, error: BaseException) -> None:
        """There is no session, or one that was lost at once."""
        self.lastError = error
        # Ports and session numbers change from attempt to attempt.
        reason = (type(error), re.sub(r"\d+", "#", str(error)))
        if reason not in self._reasons and len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
            self._failing = True
            log.warn("no session with {destination}: {error}", destination=destination, error=describeError(error))

    def opened(self, destination: str) -> None:
        """A session is open. What went wrong before is not logged again before a session has proved itself."""
        if self._failing:
            self._failing = False
            log.info("session with {destination} is open", destination=destination)

    def lost(self, error: BaseException | None) -> None:
        """A session was lost that had proved itself; its listener has heard why, so that it need not be logged."""
        if error is not None:
            self.lastError = error
        self._reasons.clear()

    def gaveUp(self, destination: str, attempts: int, error: BaseException | None) -> None:
        """There will be no other attempt."""
        log.error(
            "gave up on {destination} after {attempts} failed attempts: {error}",
            destination=destination,
            attempts=attempts,
            error="" if error is None else describeError(error),
        )


def _errorOf(failure: Failure) -> BaseException:
    error: BaseException = failure.value  # type: ignore[assignment]  # only a Failure that was pickled has none
    return error


def describeError(error: BaseException) -> str:
    """The error's text, or the name of its class where it has none."""
    return str(error) or type(error).__name__
