"""The methods of a server, as generated code registers them."""

from __future__ import annotations

from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any, NamedTuple

from getty_tx.errors import SettingError
from getty_tx.status.calls import CallTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Method", "Methods"]

#: Methods that generic handlers have named, at most: they may know any number.
MAX_FOUND = 1000


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
    :ivar name: the same without the slash before, for wrappers and counters.
    :ivar behavior: called with the request, or an iterator of requests, and the context; wrappers included.
    :ivar isAsync: it is an ``async def``, with yield or without.
    :ivar hasRequests: it takes a stream of requests.
    :ivar hasReplies: it gives a stream of replies.
    :ivar decode: makes a request of bytes.
    :ivar encode: makes bytes of a reply.
    :ivar handler: as given.
    :ivar replyType: that of its last reply, which is neither a coroutine nor a Deferred; None: there was none.
    :ivar totals: counts its calls.
    """

    __slots__ = (
        "_behavior",
        "behavior",
        "decode",
        "encode",
        "handler",
        "hasReplies",
        "hasRequests",
        "isAsync",
        "name",
        "path",
        "replyType",
        "totals",
    )

    def __init__(self, path: str, handler: Any) -> None:
        self.path = path
        self.name = path[1:]
        self.handler = handler
        self.replyType: type | None = None
        self.totals = CallTotals()
        self.hasRequests = bool(handler.request_streaming)
        self.hasReplies = bool(handler.response_streaming)
        kind = f"{'stream' if self.hasRequests else 'unary'}_{'stream' if self.hasReplies else 'unary'}"
        self._behavior: Callable[[Any, Any], Any] = getattr(handler, kind)
        if not callable(self._behavior):
            raise SettingError(f"{path}: its handler has no {kind} to call")
        self.decode: Callable[[bytes], Any] = handler.request_deserializer or _same
        self.encode: Callable[[Any], bytes] = handler.response_serializer or _same
        self.wrap(())

    def wrap(self, wrappers: Sequence[Callable[[str, Any], Any]]) -> None:
        """Call its handler by these; the first is the outermost."""
        behavior = self._behavior
        for wrapper in reversed(wrappers):
            behavior = wrapper(self.name, behavior)
        self.behavior = behavior
        self.isAsync = iscoroutinefunction(behavior) or isasyncgenfunction(behavior)

    def __repr__(self) -> str:
        return f"<method {self.path}>"


class Details(NamedTuple):
    """What generic handlers are asked with; ``grpc.HandlerCallDetails`` has the same names."""

    method: str
    invocation_metadata: Any


class Methods:
    """
    The methods of one server, by path.

    :ivar byPath: what is registered.
    :ivar generic: handlers that are asked for others: ``handler.service(details)`` gives a handler, or None.
    :ivar wrappers: what handlers are called by; the first is the outermost.
    :ivar totals: counters by method, without the slash before; those of unknown methods are at "".
    """

    def __init__(self) -> None:
        self.byPath: dict[bytes, Method] = {}
        self.generic: list[Any] = []
        self.wrappers: list[Callable[[str, Any], Any]] = []
        self.unknown = CallTotals()
        self.totals: dict[str, CallTotals] = {}
        # Methods of generic handlers, which give the same handler again.
        self._found: dict[bytes, Method] = {}

    def addRegistered(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add methods of a service by their names; of two with one path the first is served."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            method = Method(path, handler)
            method.wrap(self.wrappers)
            if self.byPath.setdefault(path.encode("ascii"), method) is method:
                self.totals[method.name] = method.totals

    def wrap(self, wrapper: Callable[[str, Any], Any]) -> None:
        """Call the handlers by one more."""
        self.wrappers.append(wrapper)
        for method in self.byPath.values():
            method.wrap(self.wrappers)
        self._found.clear()

    def ask(self, path: bytes, metadata: Any) -> Method | None:
        """The method of a path that is not registered, as generic handlers know it. It may raise what they raise."""
        details = Details(path.decode("latin-1"), metadata)
        for generic in self.generic:
            handler = generic.service(details)
            if handler is None:
                continue
            known = self._found.get(path)
            if known is not None and known.handler is handler:
                return known
            method = Method(details.method, handler)
            method.wrap(self.wrappers)
            if len(self._found) >= MAX_FOUND:
                self._found.clear()
            self._found[path] = method
            method.totals = self._totalsOf(method.name)
            return method
        return None

    def _totalsOf(self, name: str) -> CallTotals:
        totals = self.totals.get(name)
        if totals is None:
            if len(self.totals) >= MAX_FOUND:
                name = ""
            totals = self.totals.setdefault(name, self.unknown if not name else CallTotals())
        return totals

    def countUnknown(self, code: str) -> None:
        """A call of a method that there is not."""
        self.totals.setdefault("", self.unknown).fail(code)

    def services(self) -> list[str]:
        """The names of the services that are registered."""
        names = {path.decode().rpartition("/")[0].lstrip("/") for path in self.byPath}
        return sorted(names)
