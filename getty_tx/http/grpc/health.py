"""
The service grpc.health.v1.Health: whether a server, and each service on it, can be called.

What Kubernetes, Envoy and channels with health checks ask. ``docs/guide/grpc-services.md`` shows how to use it.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.protos import POOL, Handler, fileOf, messageOf, methodOf
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from getty_tx.http.grpc.server import Server

__all__ = ["SERVICE", "Health", "Serving"]

SERVICE = "grpc.health.v1.Health"

_PACKAGE = "grpc.health.v1"


class Serving(IntEnum):
    """Whether a service can be called: ``HealthCheckResponse.ServingStatus``."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    #: Only for those who watch a service that is not there.
    SERVICE_UNKNOWN = 3


def _describe() -> None:
    made = fileOf(
        "grpc/health/v1/health.proto",
        _PACKAGE,
        {
            "HealthCheckRequest": ("string service = 1",),
            "HealthCheckResponse": (),
            "HealthListRequest": (),
            "HealthListResponse": (),
        },
    )
    _, check, _, listed = made.message_type
    statuses = check.enum_type.add(name="ServingStatus")
    for each in Serving:
        statuses.value.add(name=each.name, number=each.value)
    check.field.add(
        name="status", number=1, label="LABEL_OPTIONAL", type="TYPE_ENUM",
        type_name=f".{_PACKAGE}.HealthCheckResponse.ServingStatus",
    )  # fmt: skip
    # A map is a repeated message with a key and a value.
    entry = listed.nested_type.add(name="StatusesEntry", options={"map_entry": True})
    entry.field.add(name="key", number=1, label="LABEL_OPTIONAL", type="TYPE_STRING")
    entry.field.add(
        name="value", number=2, label="LABEL_OPTIONAL", type="TYPE_MESSAGE",
        type_name=f".{_PACKAGE}.HealthCheckResponse",
    )  # fmt: skip
    listed.field.add(
        name="statuses", number=1, label="LABEL_REPEATED", type="TYPE_MESSAGE",
        type_name=f".{_PACKAGE}.HealthListResponse.StatusesEntry",
    )  # fmt: skip
    service = made.service.add(name="Health")
    asked, answered = f"{_PACKAGE}.HealthCheckRequest", f"{_PACKAGE}.HealthCheckResponse"
    methodOf(service, "Check", asked, answered, False, False)
    methodOf(service, "Watch", asked, answered, False, True)
    methodOf(service, "List", f"{_PACKAGE}.HealthListRequest", f"{_PACKAGE}.HealthListResponse", False, False)
    POOL.Add(made)


_describe()
_Request = messageOf(f"{_PACKAGE}.HealthCheckRequest")
_Response = messageOf(f"{_PACKAGE}.HealthCheckResponse")
_ListRequest = messageOf(f"{_PACKAGE}.HealthListRequest")
_ListResponse = messageOf(f"{_PACKAGE}.HealthListResponse")


class Health:
    """
    What is known of a server's health.

    The whole server is the service ``""``, and SERVING at first. A service that the server has and that was not
    ``set`` is as the whole server is.
    """

    def __init__(self) -> None:
        self._set: dict[str, Serving] = {"": Serving.SERVING}
        self._servers: list[Server] = []
        self._watching: set[asyncio.Future[None]] = set()
        self._isOver = self._isStopping = False

    def set(self, service: str, status: Serving | bool) -> None:
        """
        Say how a service is; who watches it is told.

        :param service: its full name, such as ``helloworld.Greeter``; empty: the whole server.
        :param status: a :py:class:`Serving`, or True for SERVING and False for NOT_SERVING. It changes nothing after
            ``shutDown``.
        """
        if isinstance(status, bool):
            status = Serving.SERVING if status else Serving.NOT_SERVING
        if not self._isOver:
            self._set[service] = Serving(status)
            self._tell()

    def shutDown(self) -> None:
        """All services are NOT_SERVING from now on, for good. A server that stops does this first."""
        self._isOver = True
        self._tell()

    def _stop(self) -> None:
        self._isStopping = True
        self.shutDown()

    def get(self, service: str = "") -> Serving | None:
        """How a service is; None: it is not known."""
        status = self._set.get(service)
        if status is None:
            if not any(service in server.context.methods.services() for server in self._servers):
                return None
            status = self._set[""]
        return Serving.NOT_SERVING if self._isOver else status

    def all(self) -> dict[str, Serving]:
        """How each known service is."""
        names = dict.fromkeys(self._set)
        for server in self._servers:
            names |= dict.fromkeys(server.context.methods.services())
        return {name: status for name in names if (status := self.get(name)) is not None}

    def addTo(self, server: Server) -> None:
        """Have a server answer who asks for it. One object can serve several servers."""
        self._servers.append(server)
        server.context.health = self
        server.onStop.append(self._stop)
        decode, encode = _Request.FromString, _Response.SerializeToString
        server.add_registered_method_handlers(
            SERVICE,
            {
                "Check": Handler(False, False, decode, encode, unary_unary=self._check),
                "Watch": Handler(False, True, decode, encode, unary_stream=self._watch),
                "List": Handler(
                    False, False, _ListRequest.FromString, _ListResponse.SerializeToString, unary_unary=self._list
                ),
            },
        )

    def _check(self, request: Any, context: Any) -> Any:
        status = self.get(request.service)
        if status is None:
            raise StatusError(Code.NOT_FOUND, f"there is no service {request.service}")
        return _Response(status=status)

    def _list(self, request: Any, context: Any) -> Any:
        return _ListResponse(statuses={name: _Response(status=status) for name, status in self.all().items()})

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last: Serving | None = None
        while True:
            found = self.get(request.service)
            status = Serving.SERVICE_UNKNOWN if found is None else found
            if status is not last:
                last = status
                yield _Response(status=status)
                continue
            if self._isStopping:
                # Who watches has heard it, and would keep the server from coming to its end.
                raise StatusError(Code.UNAVAILABLE, "the server stops")
            waiting = asyncio.get_running_loop().create_future()
            self._watching.add(waiting)
            try:
                await waiting
            finally:
                self._watching.discard(waiting)

    def _tell(self) -> None:
        """Wake those who watch."""
        watching, self._watching = self._watching, set()
        for each in watching:
            if not each.done():
                each.set_result(None)
