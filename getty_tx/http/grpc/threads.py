"""Handlers that are no coroutines, in threads: they may block."""

from __future__ import annotations

from threading import Semaphore
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadpool import ThreadPool

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.requests import Requests
from getty_tx.http.grpc.servicercontext import ServicerContext
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator, Iterable

    from getty_tx.http.grpc.servercall import ServerCall

__all__ = ["Threads"]

#: Replies of one call that are on their way from its thread to the reactor.
AHEAD = 32


class ThreadContext(ServicerContext):
    """The context of a handler in a thread: what goes to the connection is done in the reactor's."""

    __slots__ = ()

    def send_initial_metadata(self, initial_metadata: Iterable[Any]) -> Awaitable[None]:
        """As the base class."""
        reactor = self._call.connection.session.context.reactor
        done: Awaitable[None] = blockingCallFromThread(reactor, super().send_initial_metadata, initial_metadata)
        return done

    def cancel(self) -> None:
        """As the base class."""
        self._call.connection.session.context.reactor.callFromThread(super().cancel)

    def write(self, message: Any) -> Awaitable[None]:
        """:raise RuntimeError: always; handlers in threads yield their replies."""
        raise RuntimeError("context.write() is for async def: a def yields its replies")


class Threads:
    """
    The threads of one server.

    :param reactor: the reactor.
    :param count: how many there are at most.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, count, "grpc")
        self._pool.start()

    def stop(self) -> None:
        """Wait until all handlers have returned, and end the threads."""
        self._pool.stop()

    def run(self, call: ServerCall, request: Any) -> None:
        """Call the handler in a thread. It gets an iterator that blocks in place of one that is awaited."""
        self._pool.callInThread(self._run, call, request)

    def _run(self, call: ServerCall, request: Any) -> None:
        method = call.method
        assert method is not None
        if call.hasEnded:
            # It has waited for a thread longer than its client for an answer.
            self._reactor.callFromThread(call.returned)
            return
        if isinstance(request, Requests):
            request = self._requestsOf(call, request)
        tell = self._reactor.callFromThread
        try:
            result = method.behavior(request, ThreadContext(call))
            if method.hasReplies:
                self._send(call, result)
                tell(self._end, call, call.complete)
            else:
                tell(self._end, call, call.reply, result)
        except Exception as error:
            tell(self._end, call, call.failed, error)
        except BaseException as error:
            tell(self._end, call, call.failed, RuntimeError(f"{type(error).__name__} in a thread"))
            raise

    @staticmethod
    def _end(call: ServerCall, step: Any, *arguments: Any) -> None:
        try:
            step(*arguments)
        finally:
            call.returned()

    def _send(self, call: ServerCall, replies: Any) -> None:
        ahead = Semaphore(AHEAD)
        for reply in replies if replies is not None else ():
            message = call.encode(reply)
            ahead.acquire()
            if call.hasEnded:
                if hasattr(replies, "close"):
                    replies.close()
                raise StatusError(Code.CANCELLED, "the call has ended")
            self._reactor.callFromThread(self._sendOne, call, message, ahead)

    def _sendOne(self, call: ServerCall, message: bytes, ahead: Semaphore) -> None:
        if call.hasEnded or call.isAnswered or not call.send(message):
            ahead.release()
        else:
            call.drained().addBoth(lambda _: ahead.release())

    def _requestsOf(self, call: ServerCall, requests: Requests) -> Generator[Any, None, None]:
        while True:
            found, request = blockingCallFromThread(self._reactor, self._next, call, requests)
            if not found:
                return
            yield request

    def _next(self, call: ServerCall, requests: Requests) -> Any:
        async def wait() -> tuple[bool, Any]:
            return (True, requests.take()) if await requests.more() else (False, None)

        return Deferred.fromFuture(call.context.loop.start(wait()))
