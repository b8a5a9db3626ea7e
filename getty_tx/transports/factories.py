"""Twisted factories of sessions, for ``listenTCP`` and similar calls."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.session.context import HANDSHAKE_TIMEOUT, ServiceContext, theReactor
from getty_tx.session.observers import Observers
from getty_tx.session.totals import Endpoints
from getty_tx.session.wrappers import socketOf
from getty_tx.settings import Setting
from getty_tx.transports.base import dropAtOnce
from getty_tx.transports.stream import SessionProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.session.observers import Observer
    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection
    from getty_tx.workers import WorkerPool

__all__ = ["Refusal", "SessionFactory", "SessionServerFactory"]

#: Descriptors that are left to the rest of the program: connections are refused before they are used.
SPARE_DESCRIPTORS = 16


class SessionFactory:
    """
    The base of server and client factories: it has a context, which is made when the first connection needs it.

    :param newSession: configures each new session; raises to refuse the connection.
    :param service: the value of ``session.service``; by default the factory.
    :param reactor: by default the installed one.
    :param workers: a WorkerPool for onMessage, started and stopped by its owner; None: no workers.
    """

    isClient = False

    handshakeTimeout = Setting(settings.seconds, HANDSHAKE_TIMEOUT, "Seconds that a handshake may take.")
    maxSessions: Setting[int | None] = Setting(
        settings.optionalCount, None, "Connections above which new ones are refused; None: no limit."
    )
    maxSessionsPerHost: Setting[int | None] = Setting(
        settings.optionalCount, None, "Connections with one host above which new ones are refused; None: no limit."
    )

    def __init__(
        self,
        newSession: Callable[[Session], object],
        *,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        service: Any = None,
        reactor: Any = None,
        context: ServiceContext | None = None,
        workers: WorkerPool | None = None,
    ) -> None:
        if not callable(newSession):
            raise SettingError(f"newSession={newSession!r} cannot be called")
        # A context that was given has the settings of its owner.
        self._context = context
        self._sharesContext = context is not None
        self.newSession = newSession
        self.service = self if service is None else service
        self.reactor = reactor
        self.workers = workers
        self.observers = Observers()
        self.endpoints = Endpoints("")
        self._drainRate: int | None = None
        self.maxSessions = maxSessions
        self.maxSessionsPerHost = maxSessionsPerHost
        self.handshakeTimeout = handshakeTimeout

    def settingChanged(self, name: str) -> None:
        if self._context is not None and not self._sharesContext:
            self._context.maxSessions = self.maxSessions
            self._context.maxSessionsPerHost = self.maxSessionsPerHost
            self._context.handshakeTimeout = self.handshakeTimeout

    @property
    def drainRate(self) -> int | None:
        """Sessions that are closed a second when the service stops; None: all at once."""
        return self._drainRate

    @drainRate.setter
    def drainRate(self, rate: int | None) -> None:
        self._drainRate = rate
        if self._context is not None:
            self._context.drainRate = rate

    @property
    def context(self) -> ServiceContext:
        """The context that the sessions of this factory share."""
        if self._context is None:
            self._context = ServiceContext(
                self.service,
                self.newSession,
                reactor=theReactor(self.reactor),
                maxSessions=self.maxSessions,
                maxSessionsPerHost=self.maxSessionsPerHost,
                handshakeTimeout=self.handshakeTimeout,
                workers=self.workers,
                observers=self.observers,
                endpoints=self.endpoints,
            )
            self._context.drainRate = self._drainRate
        return self._context

    def renew(self, reactor: Any) -> None:
        """Use a new context on this reactor. The service of the factory calls it when it starts."""
        self.reactor = reactor
        self._context = None
        self.endpoints = Endpoints("")

    @property
    def sessions(self) -> set[Session]:
        """The open sessions."""
        return self.context.sessions

    def addObserver(self, observer: Observer) -> None:
        """Tell an observer about every session from now on."""
        self.observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Remove an observer."""
        self.observers.remove(observer)

    # Events of connections

    def connectionMade(self, connection: Connection) -> None:
        """The connection's transport is connected."""

    def sessionOpened(self, connection: Connection) -> None:
        """The connection's session is open."""

    def sessionEnded(self, connection: Connection, error: BaseException | None) -> None:
        """The onClose of the connection's session has returned."""

    def connectionFailed(self, connection: Connection, error: BaseException) -> None:
        """The connection ended before it had a session."""


@implementer(IProtocolNegotiationFactory)
class SessionServerFactory(SessionFactory, Factory):
    """
    Sessions for ``listenTCP``, ``listenSSL``, ``listenUNIX``, ``endpoint.listen`` and ``adoptStreamConnection``.

    ::

        def newSession(session):
            session.codec = LengthCodec()
            session.listener = Echo()

        reactor.listenTCP(8090, SessionServerFactory(newSession))
    """

    protocol: Any = SessionProtocol
    #: Whether a connection that a limit refuses gets an answer before it is closed.
    answersRefused = False
    noisy = False
    #: The application protocols (ALPN) that it speaks, the preferred one first, for a TLS that asks, as ``tls:`` does.
    applicationProtocols: Sequence[bytes] = ()
    _full = False

    def acceptableProtocols(self) -> list[bytes]:
        """See IProtocolNegotiationFactory."""
        return list(self.applicationProtocols)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        A protocol for a new connection, or one that drops it, above ``maxSessions`` or without descriptors.

        The protocol checks ``maxSessionsPerHost``, because only its transport knows the host.
        """
        if self._full and not self._hasDescriptors():
            why = "descriptors are used up: raise the limit (ulimit -n) or set maxSessions"
            self.context.countRefusal("descriptors", why)
            return Refusal()
        if not self._hasRoom():
            return Refusal()
        protocol: Protocol = self.protocol()
        protocol.factory = self
        return protocol

    def _hasRoom(self) -> bool:
        return self.context.hasRoom()

    def connectionMade(self, connection: Connection) -> None:
        """A connection was made: check whether descriptors are left for the next."""
        handle = socketOf(connection.transport)
        if handle is not None and handle.fileno() >= _descriptorLimit():
            self._full = True

    def _hasDescriptors(self) -> bool:
        """Descriptors are allocated from the lowest free number, so the next one shows how many are left."""
        try:
            probe = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return False
        os.close(probe)
        self._full = probe >= _descriptorLimit()
        return not self._full


class Refusal(Protocol):
    """Drops the connection. (A factory may return None instead, but Twisted's TLS does not expect that.)"""

    def connectionMade(self) -> None:
        dropAtOnce(self.transport)


def _descriptorLimit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft - SPARE_DESCRIPTORS if soft != resource.RLIM_INFINITY else 1 << 62
