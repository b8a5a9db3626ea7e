"""A call that is served: its stream, its messages, and what runs for it."""

from __future__ import annotations

from asyncio import CancelledError
from functools import lru_cache
from math import ceil
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from getty_tx.http.grpc.answer import Answer
from getty_tx.http.grpc.bridging import bridged, bridgedOn
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import PREFIX, decompressor
from getty_tx.http.grpc.metadata import decodeMetadata
from getty_tx.http.grpc.requests import Requests
from getty_tx.http.grpc.servicercontext import ServicerContext
from getty_tx.http.grpc.status import Code
from getty_tx.http.grpc.timeouts import decodeTimeout
from getty_tx.http.two.errors import ErrorCode
from getty_tx.status.calls import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.methods import Method
    from getty_tx.http.two.interfaces import Headers

__all__ = ["ServerCall"]

log = Logger()

#: Clients send the same few times again and again.
_timeoutOf = lru_cache(1024)(decodeTimeout)


class Asked(NamedTuple):
    """
    What the header fields of a call ask for. A connection keeps its last one: most calls of a client have equal fields,
    which are compared in a third of the time that it takes to read them.

    :ivar unpack: decompresses requests; None: they are not compressed.
    :ivar timeout: seconds that the client waits, or None.
    """

    headers: Headers
    method: Method
    unpack: Callable[[bytes, int], bytes] | None
    timeout: float | None


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
        if self.hasEnded:
            # The client has reset it in the same read.
            return
        context = self.context
        connection = self.connection
        try:
            asked = connection.asked
            if asked is None or asked.headers != self.headers:
                asked = self._read(dict(self.headers))
                if asked is None:
                    return
            self.method = method = asked.method
            if context.running >= context.room:
                raise self._tooMany()
            if not method.totals.done & SAMPLED:
                self._startedAt = connection.seconds()
            if asked.timeout is not None:
                self._limit(asked.timeout)
            data, self._data = self._data, b""
            if self._isLast and not method.hasRequests and len(data) >= 5:
                flag, size = PREFIX.unpack_from(data)
                if not flag and size == len(data) - 5 <= context.longest:
                    # One message, not compressed.
                    self._plan(self.parse(data[5:]))
                    return
            self.requests = requests = Requests(self, asked.unpack)
            requests.feed(data, self._isLast)
            if method.hasRequests:
                self._plan(requests)
            elif self._isLast or requests.count > 1:
                self._check(requests)
            else:
                self._expect()
        except StatusError as error:
            self._refuse(error)

    def _read(self, fields: dict[bytes, bytes]) -> Asked | None:
        """
        What the header fields ask for; None: it was refused.

        :raise StatusError: it cannot be served.
        """
        kind = fields.get(b"content-type", b"")
        if fields.get(b":method") != b"POST" or not (kind == b"application/grpc" or _isGRPC(kind)):
            self._refuseHTTP(b"415" if fields.get(b":method") == b"POST" else b"405")
            return None
        path = fields.get(b":path", b"")
        known = self.context.methods.byPath.get(path)
        self.method = method = self._ask(path) if known is None else known
        asked = Asked(
            self.headers,
            method,
            decompressor(fields[b"grpc-encoding"]) if b"grpc-encoding" in fields else None,
            _timeoutOf(fields[b"grpc-timeout"]) if b"grpc-timeout" in fields else None,
        )
        if known is not None:
            self.connection.asked = asked
        return asked

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
        self._plan(requests.take())

    def parse(self, message: bytes) -> Any:
        """A request of its bytes. :raise StatusError: they are none."""
        assert self.method is not None
        try:
            return self.method.decode(message)
        except Exception as error:
            log.info("{call}: a request cannot be parsed: {error}", call=self, error=error)
            raise StatusError(Code.INTERNAL, "the request cannot be parsed") from None

    # Running

    def _plan(self, request: Any) -> None:
        """Call the handler: now, or with all other coroutines of the read, which costs less."""
        method = self.method
        assert method is not None
        if method.isAsync:
            self.connection.starting.append((self, request))
        else:
            self.run(request)

    def runPlanned(self, request: Any) -> None:
        """For the connection: all of the read was told."""
        context = self.context
        if self.hasEnded or self.isAnswered:
            return
        if context.running >= context.room:
            # Those before it in the read have taken what there was.
            self._refuse(self._tooMany())
        else:
            self.run(request)

    def _tooMany(self) -> StatusError:
        context = self.context
        context.refused += 1
        return StatusError(Code.RESOURCE_EXHAUSTED, f"maxCalls={context.maxCalls} calls are being served")

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
            result = method.behavior(request, ServicerContext(self))
        except Exception as error:
            self.failed(error)
            return
        kind = type(result)
        if method.hasReplies:
            self._start(self._send(result))
        elif kind is method.replyType:
            self.reply(result)
        elif kind is CoroutineType:
            self._start(self._reply(result))
        elif isinstance(result, Deferred):
            self._start(self._reply(_awaited(result)))
        else:
            # Of an object of this type it need not be asked again, which takes longer than to parse a request.
            method.replyType = kind
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
        assert self.method is not None
        task = self.context.loop.start(work, name=self.method.name)
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
            # Few queues serve all, a step later: the client's own clock is to end it before. grpcio takes a reset that
            # comes within a millisecond of its deadline for CANCELLED.
            step = 100 if left < 1 else 10
            self.connection.deadlines.add(self.number, self, (ceil(left * step) + 1) / step)

    async def _reply(self, work: Any) -> None:
        try:
            # One that need not wait costs no more than its call.
            try:
                waited = work.send(None)
            except StopIteration as done:
                result = done.value
            else:
                result = await bridgedOn(work, waited)
            self.reply(result)
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
        chosen = self.chosen
        if chosen is not None:
            callbacks, chosen.callbacks = chosen.callbacks, []
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
