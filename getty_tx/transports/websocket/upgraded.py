"""WebSocket sessions on connections that were another protocol's: HTTP has read and answered the handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import RefuseRequest
from getty_tx.session.wrappers import isEncrypted, replaceProtocol
from getty_tx.transports.websocket.engine import ServerEngine, makeSettings
from getty_tx.transports.websocket.protocol import WebSocketSessionProtocol
from getty_tx.transports.websocket.session import MessageSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.errors import SessionRefusedError
    from getty_tx.transports.base import Connection
    from getty_tx.transports.websocket.request import UpgradeOptions
    from getty_tx.transports.websocket.requested import UpgradeRequest

__all__ = ["Agreement", "UpgradedProtocol", "UpgradedSession"]


class Agreement:
    """
    What a client and a server agree on with a handshake.

    :ivar request: the client's request.
    :ivar subprotocol: one that the client offers; None: none.
    :ivar extensions: those that the client offers: the name, and for each parameter its values, True where it has none.
    :ivar newSession: configures the session.
    :ivar makeAnswer: makes the answer to the request; it is called with the value of Sec-WebSocket-Extensions, or None.
    :ivar answered: called once: with the status of the answer when it is sent, or with 0 if the client has gone before.
    """

    __slots__ = ("answered", "extensions", "makeAnswer", "newSession", "request", "subprotocol")

    def __init__(
        self,
        request: UpgradeRequest,
        newSession: Callable[[Any], object],
        *,
        subprotocol: str | None,
        extensions: Sequence[tuple[str, dict[str, list[Any]]]],
        makeAnswer: Callable[[str | None], bytes],
        answered: Callable[[int], object],
    ) -> None:
        self.request = request
        self.newSession = newSession
        self.subprotocol = subprotocol
        self.extensions = extensions
        self.makeAnswer = makeAnswer
        self.answered = answered


class UpgradedSession(MessageSession):
    """A session that has a ``newSession`` of its own, and not its service's."""

    __slots__ = ()

    def configure(self) -> object:
        agreement: Agreement = self.connection.agreement
        return agreement.newSession(self)


class UpgradedProtocol(WebSocketSessionProtocol):
    """
    The Twisted protocol of such a session. It opens Autobahn's engine past its handshake.

    :param options: of the compression; those of the handshake do not count any more.
    :param agreement: what the handshake has come to.
    """

    sessionType = UpgradedSession

    def __init__(self, options: UpgradeOptions, agreement: Agreement) -> None:
        super().__init__(options)
        self.agreement: Agreement | None = agreement
        self.path = agreement.request.path
        self.subprotocol = agreement.subprotocol

    def takeOver(self, before: Connection) -> None:
        """
        Take the transport, the place in the context and the unread bytes of a connection, and open the session.

        :param before: has a session that is OPEN, of which no callback runs, and nothing is pending.
        """
        session = before.session
        assert session is not None
        raw = before.rawTransport
        self.factory = before.factory
        self.rawTransport = self.transport = raw
        self.kind = "WSS_SERVER" if isEncrypted(raw) else "WS_SERVER"
        self.countedHost = before.countedHost
        before.isSucceeded = True
        rest = session.handOver()
        before.session = None
        replaceProtocol(raw, self)
        engine = self.engine = ServerEngine(self, makeSettings(self.context, self.options, False))
        engine.begin()
        agreement = self.agreement
        assert agreement is not None
        accepted = engine.agree(agreement.subprotocol, agreement.extensions)
        self._answer = [agreement.makeAnswer(accepted)]
        engine.data = rest
        engine.open()

    def sessionMade(self) -> None:
        """Hold the answer, as a port for WebSocket alone does; its request is parsed already."""
        super().sessionMade()
        assert self.agreement is not None
        self.request = self.agreement.request

    def sendAnswer(self, session: MessageSession) -> None:
        """newSession has accepted the session."""
        self._isAnswered(101)
        super().sendAnswer(session)

    def sessionRefused(self, error: SessionRefusedError) -> None:
        """newSession has refused the session."""
        self._isAnswered(error.status if self._isWithdrawn and isinstance(error, RefuseRequest) else 101)
        super().sessionRefused(error)

    def _disconnected(self, reason: BaseException) -> None:
        # While an ``async def newSession`` has not returned, or after it has refused the session.
        self._isAnswered(0)
        super()._disconnected(reason)

    def _isAnswered(self, status: int) -> None:
        agreement, self.agreement = self.agreement, None
        if agreement is not None:
            agreement.answered(status)
