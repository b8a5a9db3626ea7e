"""One place of a pool: it keeps a session open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.transports.reconnecting import ReconnectLog, SessionClientFactory, describeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IConnector

    from getty_tx.client.client import Client
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection
    from getty_tx.transports.connector import EndpointConnector

__all__ = ["PoolSlot"]

log = Logger()


class PoolSlot(SessionClientFactory):
    """
    Keeps one session of a pool open.

    :param newSession: configures each new session.
    :param changed: called when a session has opened, or when no other follows.
    :ivar client: the pool, until it is closed.
    :ivar session: the session that was opened last.
    :ivar endReason: why no other session follows; empty if one may follow.
    """

    endpointConnector: EndpointConnector

    #: What ``session.provider`` is.
    provider: Any = None

    def __init__(
        self,
        client: Client,
        newSession: Callable[[Session], object],
        changed: Callable[[], object],
        context: ServiceContext,
        reconnectLog: ReconnectLog,
    ) -> None:
        self.client: Client | None = client
        self._changed = changed
        self.session: Session | None = None
        self.endReason = ""
        self.factor, self.maxIntervals = client.backOff
        super().__init__(
            newSession,
            reconnectInterval=client.reconnectInterval,
            reconnectAttempts=client.reconnectAttempts,
            handshakeTimeout=client.handshakeTimeout,
            service=client,
            context=context,
            reconnectLog=reconnectLog,
        )

    def sessionOpened(self, connection: Connection) -> None:
        super().sessionOpened(connection)
        self.session = connection.session
        if self.client is not None:
            self._changed()

    def sessionEnded(self, connection: Connection, error: BaseException | None) -> None:
        super().sessionEnded(connection, error)
        if self.session is connection.session:
            self.session = None
            client = self.client
            if client is not None and not client.isReady:
                reason = "it ended in order" if error is None else describeError(error)
                text = "{destination}: the pool has lost its last session: {reason}"
                log.warn(text, destination=client.destination, reason=reason)

    def retry(self, connector: IConnector | None = None) -> None:
        super().retry(connector)
        if self.client is not None:
            self.client.waits(self)

    def follow(self, other: PoolSlot) -> None:
        """Connect: at once, or later if the session of the other slot was as short as that of a failed attempt."""
        connector = self.endpointConnector
        if other.hasLasted:
            connector.connect()
        else:
            self.delay = other.delay
            self.retry(connector)

    def gaveUp(self, error: BaseException | None) -> None:
        super().gaveUp(error)
        self._end("given up")

    def notReplaced(self, session: Session) -> None:
        super().notReplaced(session)
        self._end("closed by their own sessions")

    def _end(self, why: str) -> None:
        self.endReason = why
        if self.client is not None:
            self._changed()
