"""What generated stubs call: the methods of a channel, and what stands around them."""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.errors import SettingError
from getty_tx.http.grpc.awaiting import Awaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.channel import Channel

__all__ = ["StubMethod", "WrappedMethod", "wrapped"]


def _same(value: Any) -> Any:
    return value


def _refuse() -> None:
    raise SettingError("calls take no credentials: send metadata, or have channel.wrap() add it, over a tls: endpoint")


class StubMethod:
    """
    A method of the peer, which can be called as those of ``grpc.aio`` can.

    :param channel: the channel.
    :param path: ``/package.Service/Method``.
    :param kind: the class of its calls.
    :param encode: makes bytes of a request; None: it is bytes.
    :param decode: makes a reply of bytes; None: it is bytes.

    :ivar hasRequests: it takes a stream of requests.
    :ivar hasReplies: it gives a stream of replies.
    """

    __slots__ = ("channel", "decode", "encode", "hasReplies", "hasRequests", "kind", "name", "path", "rawPath")

    def __init__(
        self,
        channel: Channel,
        path: str,
        kind: Any,
        encode: Callable[[Any], bytes] | None,
        decode: Callable[[bytes], Any] | None,
    ) -> None:
        if not path.startswith("/"):
            raise SettingError(f"path={path!r} is not like /package.Service/Method")
        self.channel = channel
        self.path = path
        self.name = path[1:]
        self.rawPath = path.encode("ascii")
        self.kind = kind
        self.hasRequests: bool = kind.hasRequests
        self.hasReplies: bool = kind.hasReplies
        self.encode = encode or _same
        self.decode = decode or _same

    def __call__(
        self,
        request: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
        *,
        request_iterator: Any = None,
    ) -> Any:
        """
        Call it.

        :param request: the request; or an iterator of requests, also an asynchronous one, or None for ``write()``.
        :param timeout: seconds that the call may take; None: the channel's ``timeout``.
        :param metadata: pairs of names and values, or a mapping.
        :param credentials: None.
        :param wait_for_ready: wait for a connection even if the last attempt has failed; None: as the channel.
        :param compression: ``"gzip"``, ``"deflate"`` or ``"identity"``, or a ``grpc.Compression``; None: as the
            channel.
        :return: the call.
        """
        if credentials is not None:
            _refuse()
        channel = self.channel
        call = self.kind(self)
        if timeout is None:
            timeout = channel.timeout
        call.send(
            request if request_iterator is None else request_iterator, timeout, metadata, wait_for_ready, compression
        )
        return call

    def __repr__(self) -> str:
        return f"<method {self.path} of {self.channel!r}>"


class WrappedMethod:
    """
    A method with a wrapper around it, to be called as the method itself.

    :param around: what the wrapper has made of the method.
    :param method: the method.

    :ivar name: ``package.Service/Method``; ``hasRequests`` and ``hasReplies``, too, are those of the method.
    """

    __slots__ = ("_around", "hasReplies", "hasRequests", "method", "name")

    def __init__(self, around: Callable[..., Any], method: StubMethod) -> None:
        self._around = around
        self.method = method
        self.name = method.name
        self.hasRequests = method.hasRequests
        self.hasReplies = method.hasReplies

    def __call__(
        self,
        request: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
        *,
        request_iterator: Any = None,
    ) -> Any:
        """Call it. What is None is not handed on: a wrapper may have other defaults."""
        if credentials is not None:
            _refuse()
        given = {
            "timeout": timeout,
            "metadata": metadata,
            "wait_for_ready": wait_for_ready,
            "compression": compression,
        }
        options = {name: value for name, value in given.items() if value is not None}
        found = self._around(request if request_iterator is None else request_iterator, **options)
        isOther = isinstance(found, Deferred) and not isinstance(found, Awaiting)
        if isOther or iscoroutine(found):
            from getty_tx.http.grpc.latecalls import lateCall

            return lateCall(self.method, found)
        return found

    def __repr__(self) -> str:
        return f"<wrapped {self.method!r}>"


def wrapped(method: StubMethod, wrappers: list[Callable[[str, Any], Callable[..., Any]]]) -> StubMethod | WrappedMethod:
    """A method with these around it; the first is the outermost."""
    found: StubMethod | WrappedMethod = method
    for wrapper in reversed(wrappers):
        around = wrapper(method.name, found)
        if not callable(around):
            raise SettingError(f"{wrapper!r} has made {around!r} of {method.name}: that cannot be called")
        # Most wrappers leave some methods as they are.
        if around is not found:
            found = WrappedMethod(around, method)
    return found
