"""The methods of a server, as generated code registers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Method", "Methods"]


def _same(value: Any) -> Any:
    return value


class Method:
    """
    A method.

    :param path: ``/package.Service/Method``.
    :param handler: what ``grpc.unary_unary_rpc_method_handler`` and its three sisters make: any object with their
        attributes.
    :raise SettingError: it is none.

    :ivar path: as given.
    :ivar behavior: called with the request, or an iterator of requests, and the context.
    :ivar hasRequests: it takes a stream of requests.
    :ivar hasReplies: it gives a stream of replies.
    :ivar decode: makes a request of bytes.
    :ivar encode: makes bytes of a reply.
    """

    __slots__ = ("behavior", "decode", "encode", "hasReplies", "hasRequests", "path")

    def __init__(self, path: str, handler: Any) -> None:
        self.path = path
        self.hasRequests = bool(handler.request_streaming)
        self.hasReplies = bool(handler.response_streaming)
        kind = f"{'stream' if self.hasRequests else 'unary'}_{'stream' if self.hasReplies else 'unary'}"
        self.behavior: Callable[[Any, Any], Any] = getattr(handler, kind)
        if not callable(self.behavior):
            raise SettingError(f"{path}: its handler has no {kind} to call")
        self.decode: Callable[[bytes], Any] = handler.request_deserializer or _same
        self.encode: Callable[[Any], bytes] = handler.response_serializer or _same

    def __repr__(self) -> str:
        return f"<method {self.path}>"


class Methods:
    """
    The methods of one server, by path.

    It has the two calls of ``grpc.Server`` that generated code makes. Of a method that comes by both the first wins.

    :ivar byPath: what is registered.
    :ivar generic: handlers that are asked for others: ``handler.service(details)``.
    """

    def __init__(self) -> None:
        self.byPath: dict[bytes, Method] = {}
        self.generic: list[Any] = []

    def addRegistered(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add methods of a service by their names."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            self.byPath.setdefault(path.encode("ascii"), Method(path, handler))

    def services(self) -> list[str]:
        """The names of the services."""
        names = {path.decode().rpartition("/")[0].lstrip("/") for path in self.byPath}
        return sorted(names)
