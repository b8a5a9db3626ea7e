"""What generated stubs call: the methods of a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.channel import Channel

__all__ = ["StubMethod"]


def _same(value: Any) -> Any:
    return value


class StubMethod:
    """
    A method of the peer, which can be called as those of ``grpc.aio`` can.

    :param channel: the channel.
    :param path: ``/package.Service/Method``.
    :param kind: the class of its calls.
    :param encode: makes bytes of a request; None: it is bytes.
    :param decode: makes a reply of bytes; None: it is bytes.
    """

    __slots__ = ("_kind", "channel", "decode", "encode", "name", "path", "rawPath")

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
        self._kind = kind
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
        :param wait_for_ready: wait for a connection even if the last attempt has failed; None: as the channel.
        :param compression: ``"gzip"``, ``"deflate"`` or ``"identity"``, or a ``grpc.Compression``; None: as the
            channel.
        :return: the call.
        """
        if credentials is not None:
            raise SettingError("credentials of calls are not supported: send metadata, over a tls: endpoint")
        channel = self.channel
        call = self._kind(self)
        if timeout is None:
            timeout = channel.timeout
        call.send(
            request if request_iterator is None else request_iterator, timeout, metadata, wait_for_ready, compression
        )
        return call

    def __repr__(self) -> str:
        return f"<method {self.path} of {self.channel!r}>"
