"""Services: objects with ``@rpc.method``, and the table of what a server can be asked for."""

from __future__ import annotations

import inspect
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints, overload

from twisted.internet.threads import deferToThreadPool

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sized

    from twisted.internet.defer import Deferred

__all__ = ["Handler", "describe", "isService", "method", "namesOf", "register", "stream"]

F = TypeVar("F", bound="Callable[..., Any]")

#: The attribute of a marked function.
_MARK = "__getty_rpc__"


class _Options:
    """What ``@rpc.method`` says of a function."""

    def __init__(
        self, name: str | None, timeout: float | None, idempotent: bool, threads: bool, isStream: bool = False
    ) -> None:
        self.isStream = isStream
        self.name = name
        self.timeout = timeout
        self.idempotent = idempotent
        self.threads = threads


@overload
def method(function: F) -> F: ...


@overload
def method(
    *, name: str | None = None, timeout: float | None = None, idempotent: bool = False, threads: bool = False
) -> Callable[[F], F]: ...


def method(
    function: Any = None,
    *,
    name: str | None = None,
    timeout: float | None = None,
    idempotent: bool = False,
    threads: bool = False,
) -> Any:
    """
    Make a method callable from other processes; others are not.

    :param name: its name for callers; by default the function's.
    :param timeout: seconds that it may take at most, whatever the caller allows.
    :param idempotent: running it twice does no harm.
    :param threads: run it in a worker thread. For functions that block; not for an ``async def``.
    :raise SettingError: a value is invalid.
    """
    options = _Options(name, settings.optionalSeconds("timeout", timeout), idempotent, threads)
    if name is not None and (not isinstance(name, str) or not name):
        raise SettingError(f"@rpc.method(name={name!r}) is no name")

    def mark(function: F) -> F:
        if threads and inspect.iscoroutinefunction(function):
            raise SettingError(f"{function.__qualname__}: threads=True is not for an async def")
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


@overload
def stream(function: F) -> F: ...


@overload
def stream(*, name: str | None = None, timeout: float | None = None) -> Callable[[F], F]: ...


def stream(function: Any = None, *, name: str | None = None, timeout: float | None = None) -> Any:
    """
    Make a method callable that sends or gets many values.

    What an async generator yields is sent to the caller; it waits while the caller has taken too few. An ``async def``
    gets the caller's values by ``async for value in rpc.currentCall().stream``, and its result ends the stream. A
    generator may do both.

    :param name: its name for callers; by default the function's.
    :param timeout: seconds that it may take at most; by default as long as it likes.
    :raise SettingError: a value is invalid.
    """
    if name is not None and (not isinstance(name, str) or not name):
        raise SettingError(f"@rpc.stream(name={name!r}) is no name")
    options = _Options(name, settings.optionalSeconds("timeout", timeout), False, False, True)

    def mark(function: F) -> F:
        if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
            raise SettingError(f"{function.__qualname__}: @rpc.stream is for an async def, with yield or without")
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


class Handler:
    """
    A method of a service.

    :ivar name: ``Service/method``.
    :ivar call: what is called, wrappers included.
    :ivar isStream: it was made by ``@rpc.stream``.
    :ivar least: the arguments that it needs.
    :ivar most: the arguments that it takes.
    """

    __slots__ = ("call", "idempotent", "isStream", "least", "most", "name", "signature", "text", "threads", "timeout")

    def __init__(self, name: str, function: Callable[..., Any], options: _Options) -> None:
        self.name = name
        self.call = function
        self.threads = options.threads
        self.isStream = options.isStream
        self.timeout = options.timeout
        self.idempotent = options.idempotent
        self.text = inspect.getdoc(function) or ""
        try:
            # Names that do not exist are found here, and not at the first call that needs them.
            get_type_hints(function)
        except Exception as error:
            why = f"{name}: a type hint cannot be resolved: {error}; import its name outside of `if TYPE_CHECKING:`"
            raise SettingError(why) from error
        self.signature = inspect.signature(function)
        self.least, self.most = _arity(name, self.signature)

    def inThread(self, reactor: Any, arguments: Iterable[Any]) -> Deferred[Any]:
        """Call it in a worker thread, in a copy of the present context."""
        return deferToThreadPool(reactor, reactor.getThreadPool(), copy_context().run, self.call, *arguments)

    def misfit(self, arguments: Sized) -> PayloadError:
        """The error for arguments that are too few or too many."""
        return PayloadError(f"{self.name}{self.signature} was called with {len(arguments)} arguments")


def _arity(name: str, signature: inspect.Signature) -> tuple[int, int]:
    least = most = 0
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = sys.maxsize
        elif parameter.kind is parameter.VAR_KEYWORD or (
            parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        ):
            raise SettingError(f"{name}: arguments of a call have no names, so {parameter} cannot be given")
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            most = min(most + 1, sys.maxsize)
            least += parameter.default is parameter.empty
    return least, most


def register(services: Mapping[str, object], wrappers: Iterable[Any] = ()) -> dict[str, Handler]:
    """
    The methods of services by ``Service/method``.

    :param wrappers: the first is the outermost.
    :raise SettingError: an object has no methods, two have one name, or a signature cannot be served.
    """
    found: dict[str, Handler] = {}
    for service, target in services.items():
        if not isinstance(service, str) or not service or "/" in service:
            raise SettingError(f"{service!r} is no name of a service: a text without /")
        mine = 0
        for attribute, function in inspect.getmembers(target, callable):
            options = getattr(function, _MARK, None)
            if options is None:
                continue
            mine += 1
            name = f"{service}/{options.name or attribute}"
            if name in found:
                raise SettingError(f"{name} is there twice")
            handler = found[name] = Handler(name, function, options)
            for wrap in reversed(list(wrappers)):
                handler.call = wrap(name, handler.call)
        if not mine:
            raise SettingError(f"service {service!r}: {target!r} has no method with @rpc.method")
    return found


def isService(target: object) -> bool:
    """Whether an object has a method that can be called."""
    return any(getattr(function, _MARK, None) is not None for _, function in inspect.getmembers(target, callable))


def namesOf(interface: type) -> dict[str, bool]:
    """
    The names under which the methods of a class can be called, and whether they are streams.

    :raise SettingError: it has none.
    """
    marks = [(name, getattr(function, _MARK, None)) for name, function in inspect.getmembers(interface, callable)]
    names = {mark.name or name: mark.isStream for name, mark in marks if mark is not None}
    if not names:
        raise SettingError(f"{interface.__name__} has no method with @rpc.method")
    return names


def describe(handlers: Iterable[Handler]) -> list[dict[str, Any]]:
    """What there is to call, for ``rpc/describe``: names, signatures, first lines of the docstrings."""
    return [
        {
            "name": handler.name,
            "signature": str(handler.signature),
            "text": handler.text.partition("\n")[0],
            "idempotent": handler.idempotent,
            "stream": handler.isStream,
        }
        for handler in sorted(handlers, key=lambda each: each.name)
    ]
