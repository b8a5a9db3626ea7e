"""``currentCall().stream`` of a call over gRPC: further messages of the client, and replies to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.http.grpc.errors import StatusError
from getty_tx.rpc.errors import CallCancelledError, PayloadError

if TYPE_CHECKING:
    from types import TracebackType

    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.grpc.requests import Requests
    from getty_tx.http.grpc.servicercontext import ServicerContext
    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.wires.grpc import Grpc

__all__ = ["GrpcStream", "encoded"]


def encoded(context: CallContext, name: str, value: Any) -> bytes:
    """The bytes of a reply. :raise PayloadError: ``isOfResult``: it cannot be encoded, or is too long."""
    try:
        message: bytes = context.payload.encodeResult(name, value)
        if len(message) > context.maxMsgLen:
            raise PayloadError(f"{name}: a reply of {len(message)} bytes is above maxMsgLen={context.maxMsgLen}")
    except PayloadError as error:
        # It is not the client's fault, as one of arguments is.
        error.isOfResult = True
        raise
    return message


class GrpcStream:
    """
    The end of a stream at its method, with the names of :py:class:`~getty_tx.rpc.Stream`.

    The client sends no more than a window of HTTP/2 before its messages are taken, and ``send`` waits while it takes
    too little itself.

    :param name: ``Service/method``.
    :param asked: what gRPC knows of the call.
    :param requests: the messages of the client.
    :param wire: reads them.
    :param context: has the payload and the limits.
    :param shared: has asyncio's loop, where messages are waited for.

    :ivar name: ``Service/method``.
    :ivar hasSent: a reply was sent.
    """

    __slots__ = (
        "_asked",
        "_context",
        "_hasEnded",
        "_looks",
        "_requests",
        "_shared",
        "_waiting",
        "_wire",
        "hasSent",
        "name",
    )

    #: The client has opened it.
    isMine = False

    def __init__(
        self,
        name: str,
        asked: ServicerContext,
        requests: Requests,
        wire: Grpc,
        context: CallContext,
        shared: ServerContext,
    ) -> None:
        self.name = name
        self._asked = asked
        self._requests = requests
        self._wire = wire
        self._context = context
        self._shared = shared
        self._hasEnded = self.hasSent = False
        # Those who wait for a value: each looks again. And whether a task does so for them.
        self._waiting: list[Deferred[None]] = []
        self._looks = False

    def __repr__(self) -> str:
        return f"<GrpcStream {self.name} of {self._asked.session}>"

    async def __aenter__(self) -> GrpcStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()

    # Messages of the client

    def __aiter__(self) -> GrpcStream:
        return self

    async def __anext__(self) -> Any:
        if not await self.more():
            raise StopAsyncIteration
        return self._wire.valueOf(self.name, self.take())

    async def more(self) -> bool:
        """Wait for a message. :return: False: there is none. :raise CallCancelledError: the client has gone."""
        requests = self._requests
        while not requests.count:
            if requests.hasEnded():
                if not requests.hasAll:
                    raise self._cancelled()
                return False
            waiting: Deferred[None] = Deferred(self._notAwaited)
            self._waiting.append(waiting)
            if not self._looks:
                self._looks = True
                self._shared.loop.start(self._look(), name=self.name)
            await waiting
        return True

    async def _look(self) -> None:
        """A task of asyncio, where requests are waited for. It ends with the call, if none comes."""
        try:
            await self._requests.more()
        finally:
            self._looks = False
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                # Who was told first may have cancelled the others.
                if not each.called:
                    each.callback(None)

    def _notAwaited(self, waiting: Deferred[None]) -> None:
        """The method was cancelled, or takes another value than this."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        requests = self._requests
        if requests.hasEnded() and not requests.hasAll:
            # The client has gone, which the stream would have told in a moment.
            waiting.errback(self._cancelled())

    def _cancelled(self) -> CallCancelledError:
        return CallCancelledError(f"{self.name} was cancelled")

    def take(self) -> bytes:
        """The bytes of a message, which is there. :raise PayloadError: it cannot be decompressed, or is too long."""
        try:
            message: bytes = self._requests.take()
        except StatusError as found:
            error = PayloadError(f"{self.name}: {found.text}")
            # A method that lets it pass ends with the status that a single request would.
            error.code = found.code.name
            raise error from None
        return message

    async def result(self) -> None:
        """Take all that the client sends, and drop it."""
        async for _ in self:
            pass

    # Replies

    async def send(self, value: Any) -> None:
        """
        Send a value; waits while the client takes too few.

        :raise RpcError: the stream has ended, or the value cannot be sent.
        """
        if self._hasEnded or not self.isOpen:
            raise CallCancelledError(f"{self.name}: the stream has ended")
        await self.reply(value)

    async def reply(self, value: Any) -> None:
        """For what runs the method: as ``send``, also behind ``end``."""
        message = encoded(self._context, self.name, value)
        self.hasSent = True
        try:
            await self._asked.write(message)
        except StatusError:
            raise CallCancelledError(f"{self.name}: the stream has ended") from None

    def end(self) -> None:
        """This end sends no more values. The client hears of it when the method returns."""
        self._hasEnded = True

    def cancel(self) -> None:
        """End the stream for both ends, if it has not ended."""
        if self.isOpen:
            self._asked.cancel()

    @property
    def isOpen(self) -> bool:
        """Whether anything can be sent or can still come."""
        return self._asked.is_active()
