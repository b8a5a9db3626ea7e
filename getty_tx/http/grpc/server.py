"""grpc.Server: services of generated code, served over HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx import server
from getty_tx.http.grpc.context import ServerContext
from getty_tx.http.grpc.servercall import ServerCall
from getty_tx.http.two.server import ServerConnection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from getty_tx.http.two.interfaces import Headers
    from getty_tx.session.session import Session

__all__ = ["Server"]


class Server:
    """Serves gRPC while it runs."""

    def __init__(self, *endpoints: Any, reactor: Any = None) -> None:
        self.context = ServerContext(reactor)
        self.server = server.Server(self.newSession, *endpoints, reactor=reactor)

    def newSession(self, session: Session) -> None:
        """Make the connection of a new session."""
        ServerConnection(session, self.context.limits, self._newStream)

    def _newStream(self, connection: ServerConnection, number: int, headers: Headers, isLast: bool) -> ServerCall:
        return ServerCall(connection, number, headers, isLast, self.context)

    # What generated code calls

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """As ``grpc.Server`` has it."""
        self.context.methods.generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """As ``grpc.Server`` has it."""
        self.context.methods.addRegistered(service, handlers)
