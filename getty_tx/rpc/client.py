"""rpc.Client: calls over the sessions of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail

from getty_tx import client
from getty_tx.errors import NotReadyError
from getty_tx.rpc.context import TIMEOUT, CallContext
from getty_tx.rpc.errors import CallLostError, RpcError
from getty_tx.rpc.peer import DEFAULT, Peer
from getty_tx.rpc.services import namesOf
from getty_tx.rpc.stubs import Stub
from getty_tx.rpc.wires import TTHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.session.session import Session

__all__ = ["Client"]

#: Settings of a pool; the others are those of calls.
_POOL = ("reconnectInterval", "reconnectAttempts", "connectTimeout", "handshakeTimeout", "reactor")


class Client(Service):
    """
    Calls the services of a peer while it runs. An IService: for ``twistd``, or started by hand.

    ::

        client = rpc.Client("tcp:localhost:8090", number=2)
        client.startService()
        echo = client.service("Echo")
        await echo.say("hi")

    A call takes the session with the fewest open calls. One that the peer has refused, or that could not be sent, is
    made once more over another session, if there is one.

    :param endpoint: a description or an endpoint, as for a :py:class:`~getty_tx.Client`.
    :param wire: how calls look on the network.
    :param number: how many sessions.
    :param timeout: seconds that a call waits for its reply; None: for ever.
    :param services: what the peer may call over these sessions.
    :param options: the settings of a :py:class:`~getty_tx.Client` and of
        :py:class:`~getty_tx.rpc.context.CallContext`.
    :raise SettingError: the description or a setting is invalid.

    :ivar context: what its peers share; its settings may be changed at any time.
    :ivar pool: the :py:class:`~getty_tx.Client` with the sessions.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint,
        *,
        wire: Any = None,
        number: int = 1,
        timeout: float | None = TIMEOUT,
        services: Mapping[str, object] | None = None,
        drainTime: float = 5.0,
        **options: Any,
    ) -> None:
        pool = {name: options.pop(name) for name in _POOL if name in options}
        self.context = CallContext(TTHeader() if wire is None else wire, services, timeout=timeout, **options)
        self.pool = client.Client(self._newSession, endpoint, number, **pool)
        self.drainTime = drainTime
        self._waiting: set[Deferred[Any]] = set()

    def __repr__(self) -> str:
        return f"<rpc.Client {self.pool.destination}>"

    def _newSession(self, session: Session) -> None:
        Peer(session, self.context)

    # Calls

    def pick(self) -> Peer | None:
        """The peer with the fewest open calls, or None if no session is open."""
        best: Peer | None = None
        least = 0
        for peer in self.context.peers:
            if peer.isLeaving or peer.isSuspect or peer.session.isClosed:
                continue
            open = len(peer.pending)
            if best is None or open < least:
                best, least = peer, open
        return best

    def service(self, name: str | type) -> Stub:
        """
        A service of the peer, whose methods can be called.

        :param name: its name, or a class with ``@rpc.method``, of which the name and the methods are taken.
        """
        if isinstance(name, str):
            return Stub(self, name)
        return Stub(self, name.__name__, namesOf(name))

    def call(
        self,
        service: str,
        method: str,
        *arguments: Any,
        timeout: float | None = DEFAULT,
        metadata: Mapping[str, str] | None = None,
    ) -> Deferred[Any]:
        """
        Call a method; see :py:meth:`getty_tx.rpc.Peer.call`.

        While no session was ever open, it waits for one, as long as its time-out allows.
        """
        peer = self.pick()
        if peer is not None:
            waiting = peer.call(service, method, *arguments, timeout=timeout, metadata=metadata)
            waiting.addErrback(self._failed, peer, service, method, arguments, timeout, metadata)
            return waiting
        return self._whenOpen(service, method, arguments, timeout, metadata)

    def send(self, service: str, method: str, *arguments: Any, metadata: Mapping[str, str] | None = None) -> None:
        """
        Call a method without a reply.

        :raise RpcError: it could not be sent.
        """
        peer = self.pick()
        if peer is None:
            raise self._lost(f"{service}/{method}")
        peer.send(service, method, *arguments, metadata=metadata)

    def _failed(
        self, failure: Any, peer: Peer, service: str, method: str, arguments: Any, timeout: Any, metadata: Any
    ) -> Any:
        error = failure.value
        if not (isinstance(error, RpcError) and error.retryable):
            return failure
        other = self.pick()
        if other is None or other is peer:
            return failure
        return other.call(service, method, *arguments, timeout=timeout, metadata=metadata)

    def _lost(self, name: str) -> CallLostError:
        error = self.pool.lastError
        why = "" if error is None else f"; the last failure was: {error}"
        lost = CallLostError(f"{name}: {self.pool.destination}: no session is open{why}", sent=False)
        lost.__cause__ = error
        return lost

    def _whenOpen(self, service: str, method: str, arguments: Any, timeout: Any, metadata: Any) -> Deferred[Any]:
        name = f"{service}/{method}"
        left = self.context.timeout if timeout is DEFAULT else timeout
        if not self.running or self.pool.lastError is not None or self.context.peers:
            return fail(self._lost(name))

        def opened(_: Any) -> Any:
            peer = self.pick()
            if peer is None:
                raise self._lost(name)
            return peer.call(service, method, *arguments, timeout=timeout, metadata=metadata)

        def notReady(failure: Any) -> Any:
            failure.trap(NotReadyError)
            raise self._lost(name)

        return self.pool.whenReady(timeout=left).addCallbacks(opened, notReady)

    # IService

    def whenReady(self, n: int = 1, timeout: float | None = None) -> Deferred[Any]:
        """As :py:meth:`getty_tx.Client.whenReady`."""
        return self.pool.whenReady(n, timeout)

    def startService(self) -> None:
        """Connect."""
        Service.startService(self)
        self.pool.startService()

    def stopService(self) -> Deferred[None]:
        """Close all sessions. Calls that wait for a reply fail with CallLostError."""
        Service.stopService(self)
        return self.pool.stopService()
