"""The connections of a Server whose wire is gRPC: HTTP/2, with the methods of services as handlers."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.http.grpc.context import ServerContext, checkEndpoint
from getty_tx.http.grpc.serverconnection import CallConnection
from getty_tx.rpc.context import TIMEOUT
from getty_tx.rpc.interfaces import IServing
from getty_tx.rpc.wires.grpccalls import GrpcCalls, GrpcPeer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.defer import Deferred

    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.wires.grpc import Grpc
    from getty_tx.session.session import Session

__all__ = ["GrpcServing"]

#: Streams that a connection can have: their numbers are odd, and have 31 bits (RFC 9113, 5.1.1).
_MOST_STREAMS = 2**30


class GrpcConnection(CallConnection):
    """
    A connection whose calls are those of methods.

    :param calls: runs them.

    :ivar peer: what its calls have as ``currentCall().peer``.
    """

    __slots__ = ("_calls", "peer")

    def __init__(self, session: Session, shared: ServerContext, calls: GrpcCalls) -> None:
        super().__init__(session, shared)
        self._calls = calls
        self.peer = GrpcPeer(session, self.streams)

    def onClose(self, session: Session) -> None:
        """As the base class."""
        super().onClose(session)
        if not self.context.connections:
            self._calls.stop()


@implementer(IServing)
class GrpcServing:
    """
    Connections of gRPC for one Server.

    :param wire: reads and writes messages.
    :param context: has the methods and the settings.
    :param reactor: None for the process's reactor.
    :param options: settings of the connections that the context has not.
    :raise SettingError: a setting of the context, or a name of a method, is none for gRPC.
    """

    #: Clients of gRPC insist on it.
    protocols = (b"h2",)

    def __init__(self, wire: Grpc, context: CallContext, reactor: Any, options: Mapping[str, Any]) -> None:
        if context.timeout != TIMEOUT:
            raise SettingError(f"timeout={context.timeout!r} is for calls of a server, and over gRPC it makes none")
        self._context = context
        self._shared = ServerContext(reactor, **options)
        self._calls = GrpcCalls(wire, context, self._shared)
        for name, handler in context.handlers.items():
            service, _, method = name.partition("/")
            if not name.isascii():
                raise SettingError(f"{name} is no path of gRPC: it is not ASCII")
            self._shared.methods.addRegistered(service, {method: self._handlerOf(name, handler.isStream)})
        self._follow()

    def _handlerOf(self, name: str, isStream: bool) -> Any:
        """What generated code registers, but with messages in bytes."""
        calls = self._calls
        return SimpleNamespace(
            request_streaming=isStream,
            response_streaming=isStream,
            request_deserializer=None,
            response_serializer=None,
            unary_unary=partial(calls.serve, name),
            stream_stream=partial(calls.serveStream, name),
        )

    def _follow(self) -> None:
        """Have the settings of the context. It may have changed since the last session came."""
        context, shared = self._context, self._shared
        streams = min(context.maxCallsPerSession, _MOST_STREAMS)
        wanted = (context.maxMsgLen, streams, context.pingInterval, context.pingTimeout)
        if wanted != (shared.maxReceived, shared.maxStreams, shared.pingInterval, shared.pingTimeout):
            shared.maxReceived, shared.maxStreams, shared.pingInterval, shared.pingTimeout = wanted

    def checkEndpoint(self, endpoint: Any) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        checkEndpoint(endpoint)

    def newSession(self, session: Session) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        self._follow()
        # Where there can be none, as on Twisted's asyncio reactor, better no session than calls that fail.
        _ = self._shared.loop
        if session.context.calls.get("server") is not self._shared.methods.totals:
            self._shared.countIn(session.context)
        GrpcConnection(session, self._shared, self._calls)

    def drain(self, seconds: float) -> Deferred[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        return self._shared.drain(seconds)
