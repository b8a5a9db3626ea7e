"""A call that is served: its stream, its messages, and what runs for it."""

from __future__ import annotations

from asyncio import CancelledError
from functools import lru_cache
from math import ceil
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from getty_tx.http.grpc.answer import Answer
from getty_tx.http.grpc.bridging import bridged
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import decompressor
from getty_tx.http.grpc.metadata import decodeMetadata
from getty_tx.http.grpc.requests import Requests
from getty_tx.http.grpc.servicercontext import ServicerContext
from getty_tx.http.grpc.status import Code
from getty_tx.http.grpc.timeouts import decodeTimeout
from getty_tx.http.two.errors import ErrorCode
from getty_tx.status.calls import SAMPLED

if TYPE_CHECKING:
    from getty_tx.http.grpc.methods import Method
    from getty_tx.http.two.interfaces import Headers

__all__ = ["ServerCall"]

log = Logger()

#: Clients send the same few times again and again.
_timeoutOf = lru_cache(1024)(decodeTimeout)


class ServerCall(Answer):
    """
    One call of a client.

    A unary call whose request has come whole, and whose handler need not wait, is answered in :py:meth:`begin`.
    """

    __slots__ = ()

    # What the client does

    def dataCame(self, data: bytes, isLast: bool) -> None:
        """A part of the requests."""
        if isLast:
            self._isLast = True
        requests = self.requests
        if requests is not None:
            try:
                requests.feed(data, isLast)
                if isLast or requests.count > 1:
                    self._check(requests)
            except StatusError as error:
                self._refuse(error)
        elif self.isAnswered:
            self.take(len(data))
        else:
            # Before begin(): of one read, which is 64 KiB at most.
            self._data = self._data + data if self._data else data

    def trailersCame(self, headers: Headers) -> None:
        """No client sends any; they end the requests."""
        self.dataCame(b"", True)

    def begin(self) -> None:
        """Find the method, and run it if it has what it needs."""
        fields = dict(self.headers)
        context = self.context
        method = context.methods.byPath.get(fields.get(b":path", b""))
        kind = fields.get(b"content-type", b"")
        if fields.get(b":method") != b"POST" or not (kind == b"application/grpc" or _isGRPC(kind)):
            self._refuseHTTP(b"415" if fields.get(b":method") == b"POST" else b"405")
            return
        try:
            if method is None:
                method = self._ask(fields.get(b":path", b""))
            self.method = method
            if context.running >= context.room:
                context.refused += 1
                raise StatusError(Code.RESOURCE_EXHAUSTED, f"maxCalls={context.maxCalls} calls are being served")
            if not method.totals.done & SAMPLED:
                self._startedAt = self.connection.seconds()
            unpack = None
            if b"grpc-encoding" in fields:
                unpack = decompressor(fields[b"grpc-encoding"])
            if b"grpc-timeout" in fields:
                self._limit(_timeoutOf(fields[b"grpc-timeout"]))
            data, self._data = self._data, b""
            self.servicer = ServicerContext(self)
            size = len(data) - 5
            if (
                # One message, not compressed.
                data[:1] == b"\0"
                and int.from_bytes(data[1:5], "big") == size <= context.longest
                and self._isLast
                and not method.hasRequests
            ):
                self.run(self.parse(data[5:]))
                return
            self.requests = requests = Requests(self, unpack)
            requests.feed(data, self._isLast)
            if method.hasRequests:
                self.run(requests)
            elif self._isLast or requests.count > 1:
                self._check(requests)
            else:
                self._expect()
        except StatusError as error:
            self._refuse(error)

    def _ask(self, path: bytes) -> Method:
        methods = self.context.methods
        method = None
        if methods.generic:
            try:
                method = methods.ask(path, decodeMetadata(self.headers))
            except StatusError:
                raise
            except Exception:
                log.failure("{call}: a generic handler failed", call=self)
                raise StatusError(Code.UNKNOWN, "the method cannot be found") from None
        if method is None:
            raise StatusError(Code.UNIMPLEMENTED, "there is no such method")
        return method

    def _limit(self, timeout: float) -> None:
        # From when the bytes came: other calls may have come before it in one read.
        connection = self.connection
        self.deadline = deadline = connection.session.activeAt + timeout
        if connection.seconds() > deadline:
            raise StatusError(Code.DEADLINE_EXCEEDED, "the time was over before the method could be run")

    def _check(self, requests: Requests) -> None:
        """All has come of a method that takes one request, or too much."""
        method = self.method
        if method is None or method.hasRequests or self.isAnswered:
            return
        if requests.count != 1:
            raise StatusError(Code.UNIMPLEMENTED, f"{method.name} takes one request, not {requests.count}")
        self.run(requests.take())

    def parse(self, message: bytes) -> Any:
        """A request of its bytes. :raise StatusError: they are none."""
        assert self.method is not None
        try:
            return self.method.decode(message)
        except Exception as error:
            log.info("{call}: a request cannot be parsed: {error}", call=self, error=error)
            raise StatusError(Code.INTERNAL, "the request cannot be parsed") from None

    # Running

    def run(self, request: Any) -> None:
        """Call the handler."""
        method = self.method
        assert method is not None
        threads = self.context.threads
        if threads is not None and not method.isAsync:
            self.started()
            threads.run(self, request)
            self._expect()
            return
        try:
            result = method.behavior(request, self.servicer)
        except Exception as error:
            self.failed(error)
            return
        if method.hasReplies:
            self._start(self._send(result))
        elif type(result) is CoroutineType:
            self._start(self._reply(result))
        elif isinstance(result, Deferred):
            self._start(self._reply(_awaited(result)))
        else:
            self.reply(result)

    def started(self) -> None:
        """The handler takes its time."""
        self._isRunning = True
        self.context.running += 1
        assert self.method is not None
        self.method.totals.running += 1

    def returned(self) -> None:
        """The handler that took its time has returned."""
        self._isRunning = False
        self.context.running -= 1
        assert self.method is not None
        self.method.totals.running -= 1
        if self.hasEnded:
            self.connection.served()

    def _start(self, work: Any) -> None:
        self.started()
        task = self.context.loop.start(work)
        if not task.done():
            self._task = task
            if self.hasEnded:
                task.cancel()
            else:
                self._expect()

    def _expect(self) -> None:
        """Watch the deadline."""
        if self.deadline and not self.isAnswered:
            left = max(0.0, self.deadline - self.connection.seconds())
            # Few queues serve all: the client's own clock has ended it before.
            step = 100 if left < 1 else 10
            self.connection.deadlines.add(self.number, self, ceil(left * step) / step)

    async def _reply(self, work: Any) -> None:
        try:
            self.reply(await bridged(work))
        except (Exception, CancelledError) as error:
            self.failed(error)
        finally:
            self._task = None
            self.returned()

    async def _send(self, replies: Any) -> None:
        try:
            await bridged(self._sendAll(replies))
            self.complete()
        except (Exception, CancelledError) as error:
            self.failed(error)
        finally:
            self._task = None
            self.returned()

    async def _sendAll(self, replies: Any) -> None:
        """Send what a handler of a stream gives."""
        if hasattr(replies, "__aiter__"):
            try:
                async for reply in replies:
                    if self.write(reply):
                        await self.room()
            finally:
                close = getattr(replies, "aclose", None)
                if close is not None:
                    await close()
        elif hasattr(replies, "__await__"):
            # It writes by its context.
            await replies
        elif replies is not None:
            for reply in replies:
                if self.write(reply):
                    await self.room()

    # The end

    def expire(self) -> None:
        """The client waits no longer."""
        if self.isAnswered:
            return
        self.isAnswered = True
        self._count(Code.DEADLINE_EXCEEDED)
        self.reset(ErrorCode.CANCEL)
        self.connection.flush()

    def ended(self, error: BaseException | None) -> None:
        """The stream has ended: so does what runs for it."""
        if not self.isAnswered:
            self._count(Code.CANCELLED)
        task = self._task
        if task is not None:
            task.cancel()
        requests = self.requests
        if requests is not None:
            requests.wake()
        servicer = self.servicer
        if servicer is not None and servicer.chosen is not None:
            callbacks, servicer.chosen.callbacks = servicer.chosen.callbacks, []
            for callback in callbacks:
                try:
                    callback()
                except Exception:
                    log.failure("{call}: a callback failed", call=self)
        if not self._isRunning:
            self.connection.served()


def _isGRPC(kind: bytes) -> bool:
    return kind.startswith((b"application/grpc+", b"application/grpc;"))


async def _awaited(result: Deferred[Any]) -> Any:
    return await result
