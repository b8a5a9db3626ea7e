"""The requests of one call, as an iterator for its handler."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import Messages, Packed
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.servercall import ServerCall

__all__ = ["Requests", "endOfStream"]


def endOfStream() -> Any:
    """
    What ``context.read()`` gives behind the last request: ``grpc.aio.EOF`` where the process has it, as generated code
    does, or else :py:data:`getty_tx.http.grpc.EOF`.
    """
    aio = sys.modules.get("grpc.aio")
    if aio is not None:
        return aio.EOF
    from getty_tx.http.grpc.clientkinds import EOF

    return EOF


#: Bytes of messages that are taken before they are credited, while there are more of them; those of small ones together
#: cost less.
CREDIT = 16 * 1024


class Requests:
    """
    The requests of one call: an asynchronous iterator.

    The client sends no more than the window of the stream before the handler takes what is here.

    :param call: the call.
    :param unpack: decompresses messages; None: the client does not compress.

    :ivar hasAll: the client sends no more.
    """

    __slots__ = ("_call", "_held", "_messages", "_queue", "_taken", "_waiting", "hasAll")

    def __init__(self, call: ServerCall, unpack: Callable[[bytes, int], bytes] | None) -> None:
        self._call = call
        self._messages = Messages(call.context.longest)
        self._messages.unpack = unpack
        self._queue: deque[bytes] = deque()
        # Bytes that came and are not credited.
        self._held = 0
        # Bytes of messages that were taken since.
        self._taken = 0
        self._waiting: Any = None
        self.hasAll = False

    def feed(self, data: bytes, isLast: bool) -> None:
        """Take data of the client. :raise StatusError: it is none of gRPC."""
        messages = self._messages
        queue = self._queue
        if data:
            queue += messages.cut(data)
            if queue:
                self._held += len(data)
            else:
                # A part of a message, which is no longer than maxReceived.
                self._call.take(len(data))
        if isLast:
            self.hasAll = True
            if not messages.isWhole:
                raise StatusError(Code.INTERNAL, "the last message is cut off")
        if queue or isLast:
            self.wake()

    def wake(self) -> None:
        """Let who waits look again."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    @property
    def count(self) -> int:
        """Whole messages that wait."""
        return len(self._queue)

    def take(self) -> Any:
        """The next request, which is there. :raise StatusError: it cannot be decompressed or parsed."""
        queue = self._queue
        message = queue.popleft()
        self._taken = taken = self._taken + len(message) + 5
        if taken >= CREDIT or not queue:
            size = min(self._held, taken) if queue else self._held
            self._taken = 0
            if size:
                self._held -= size
                self._call.take(size)
        if type(message) is Packed:
            message = self._messages.opened(message)
        return self._call.parse(message)

    def hasEnded(self) -> bool:
        """Whether nothing can come any more."""
        return self.hasAll or self._call.hasEnded

    async def more(self) -> bool:
        """Wait for a request. :return: False if there is none any more."""
        while not self._queue:
            if self.hasAll or self._call.hasEnded:
                return False
            waiting = self._waiting
            if waiting is None:
                waiting = self._waiting = self._call.context.loop.create_future()
            try:
                await waiting
            finally:
                if self._waiting is waiting:
                    self._waiting = None
        return True

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        if not self._queue and not await self.more():
            raise StopAsyncIteration
        return self.take()

    def __iter__(self) -> Requests:
        return self

    def __next__(self) -> Any:
        raise RuntimeError(
            f"{self._call.method}: it takes a stream of requests, for which a def would have to block the reactor: make"
            " it an async def, or give the server threads for its handlers: grpc.Server(..., workers=10)"
        )
