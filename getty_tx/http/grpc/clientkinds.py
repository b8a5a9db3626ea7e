"""The four kinds of calls: one request or many, one reply or many."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred

from getty_tx.http.grpc.awaiting import Awaiting, isInTask
from getty_tx.http.grpc.clientcall import ClientCall
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import tooLarge
from getty_tx.http.grpc.status import Code
from getty_tx.http.two.stream import HIGH_WATER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from getty_tx.http.grpc.stubs import StubMethod

__all__ = ["EOF", "ManyRequests", "Replies", "Reply", "StreamReplies", "StreamReply"]


class _End:
    """What ``read()`` gives when there is nothing more."""

    def __repr__(self) -> str:
        return "EOF"

    def __bool__(self) -> bool:
        return False


#: What ``read()`` gives behind the last reply.
EOF: Any = _End()

#: Requests of an iterator that are sent at once, so that others have their turn.
BURST = 64


class _One(ClientCall):
    """It sends one request."""

    hasRequests = False
    _frame = b""

    def send(self, request: Any, timeout: Any, metadata: Any, waitForReady: bool | None, compression: Any) -> None:
        """Make the call."""
        if compression is None:
            compression = self.channel.compression
        self.start(timeout, metadata, waitForReady, compression, request)

    def prepare(self, request: Any) -> None:
        """The request is known: it is encoded once."""
        self._frame = self.framed(request)

    def sendFirst(self) -> None:
        self.hasSent = True
        self.connection.engine.data(self.number, self._frame, True)


class _OneReply(Awaiting[Any], ClientCall):
    """It gets one reply, which the call itself fires with."""

    hasReplies = False
    _reply: bytes | None = None
    _value: Any = None

    def __init__(self, method: StubMethod) -> None:
        Deferred.__init__(self)
        ClientCall.__init__(self, method)

    __repr__ = ClientCall.__repr__

    def dataCame(self, data: bytes, isLast: bool) -> None:
        self.take(len(data))
        size = len(data) - 5
        isFirst = self._messages is None and self._reply is None
        if isFirst and size >= 0 and not data[0] and int.from_bytes(data[1:5], "big") == size:
            # The reply and nothing else, as it is mostly.
            if size > self.channel.maxReceived:
                error = tooLarge(f"{size} bytes", self.channel.maxReceived)
                self.broken(error.code, error.text)
            else:
                self._reply = data[5:]
            return
        if self.status is not None:
            return
        try:
            found = self.messages.feed(data)
        except StatusError as error:
            self.broken(error.code, error.text)
            return
        for each in found:
            if self._reply is not None:
                self.broken(Code.UNIMPLEMENTED, "there is more than one reply to a call that has one")
                return
            self._reply = each

    def checked(self, error: StatusError | None) -> StatusError | None:
        if error is not None:
            return error
        if self._reply is None:
            return StatusError(Code.UNIMPLEMENTED, "the answer is OK, and has no reply")
        try:
            self._value = self.method.decode(self._reply)
        except Exception as fault:
            wrong = StatusError(Code.INTERNAL, f"the reply cannot be decoded: {fault!r}")
            wrong.__cause__ = fault
            return wrong
        return None

    def settled(self, error: StatusError | None) -> None:
        if error is None:
            self.callback(self._value)
        else:
            self.errback(error)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]  # as that of Awaiting
        if self.called:
            return super().cancel()
        self.isCancelled = True
        return self.stop()

    def _when(self, get: Callable[[], Any], isOfHead: bool = False) -> Awaiting[Any]:
        # Who asks how it has ended knows of its error.
        self.addBoth(self._keep)
        return super()._when(get, isOfHead)

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call with the call when it has ended; tasks of asyncio come here, too."""
        if context is not None:
            Awaiting.add_done_callback(self, callback, context=context)
        else:
            ClientCall.add_done_callback(self, callback)


class _Next:
    """A reply that is there: what ``async for`` awaits."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value
        yield


class _ManyReplies(ClientCall):
    """It gets replies: iterate over it, or ``read()``. They wait in the stream's window until they are read."""

    hasReplies = True

    def __init__(self, method: StubMethod) -> None:
        super().__init__(method)
        self._replies: deque[bytes] = deque()
        self._readers: deque[tuple[Awaiting[Any], bool]] = deque()
        # Bytes that are taken when the replies that wait were read.
        self._kept = 0

    def dataCame(self, data: bytes, isLast: bool) -> None:
        if self.status is not None:
            self.take(len(data))
            return
        try:
            found = self.messages.feed(data)
        except StatusError as error:
            self.take(len(data))
            self.broken(error.code, error.text)
            return
        replies = self._replies
        replies.extend(found)
        while replies and self._readers:
            waiting, _ = self._readers.popleft()
            if not waiting.called:
                self._give(waiting, replies.popleft())
        if replies:
            self._kept += len(data)
        else:
            self.take(len(data))

    def _give(self, waiting: Awaiting[Any], message: bytes) -> None:
        try:
            value = self._decoded(message)
        except StatusError as error:
            waiting.errback(error)
        else:
            waiting.callback(value)

    def _decoded(self, message: bytes) -> Any:
        try:
            return self.method.decode(message)
        except Exception as fault:
            wrong = StatusError(Code.INTERNAL, f"a reply cannot be decoded: {fault!r}")
            wrong.__cause__ = fault
            self.broken(wrong.code, wrong.text)
            raise wrong from fault

    def _taken(self) -> bytes:
        message = self._replies.popleft()
        if not self._replies and self._kept:
            kept, self._kept = self._kept, 0
            if not self.hasEnded:
                self.take(kept)
        return message

    def settled(self, error: StatusError | None) -> None:
        if error is not None and error.code in (Code.CANCELLED, Code.DEADLINE_EXCEEDED) and not self._trailers:
            # Nobody waits for them any more.
            self._replies.clear()
        readers, self._readers = self._readers, deque()
        for waiting, isNext in readers:
            if not waiting.called:
                self._finish(waiting, isNext)
        super().settled(error)

    def _finish(self, waiting: Awaiting[Any], isNext: bool) -> None:
        if self.error is not None:
            waiting.errback(self.error)
        elif isNext:
            waiting.errback(StopAsyncIteration())
        else:
            waiting.callback(EOF)

    def _nextOne(self, isNext: bool) -> Awaiting[Any]:
        waiting: Awaiting[Any] = Awaiting()
        if self._replies:
            self._give(waiting, self._taken())
        elif self.status is not None:
            self._finish(waiting, isNext)
        else:
            self._readers.append((waiting, isNext))
        return waiting

    def read(self) -> Awaiting[Any]:
        """
        The next reply.

        :return: fires with it, or with :py:data:`~getty_tx.http.grpc.EOF` behind the last one; fails with the call's
            StatusError.
        """
        return self._nextOne(False)

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        if self._replies:
            return _Next(self._decoded(self._taken()))
        return self._nextOne(True)


class ManyRequests(ClientCall):
    """It sends requests: those of an iterator, or of ``write()``."""

    hasRequests = True
    # What takes them out of an asynchronous iterator, and whether it waits for the next one.
    _pumping: Any = None
    _waitsForRequest = False

    def __init__(self, method: StubMethod) -> None:
        super().__init__(method)
        # What was written before the stream is open, and who waits for that.
        self._early: list[bytes] = []
        self._writers: list[Awaiting[None]] = []
        self._isDone = False

    def send(self, requests: Any, timeout: Any, metadata: Any, waitForReady: bool | None, compression: Any) -> None:
        """Make the call."""
        if compression is None:
            compression = self.channel.compression
        self.start(timeout, metadata, waitForReady, compression)
        if requests is None or self.status is not None:
            return
        if hasattr(requests, "__aiter__"):
            pump = self._pump(requests)
            if isInTask():
                self._pumping = asyncio.ensure_future(pump)
            else:
                self._pumping = ensureDeferred(pump)
        else:
            self._goOnWith(iter(requests))

    def prepare(self, request: Any) -> None:
        """There is no request yet."""

    async def _pump(self, requests: Any) -> None:
        iterator = requests.__aiter__()
        try:
            while self.status is None:
                self._waitsForRequest = True
                try:
                    request = await iterator.__anext__()
                except StopAsyncIteration:
                    self.done_writing()
                    return
                finally:
                    self._waitsForRequest = False
                await self.write(request)
        except Exception as error:
            self._failed(error)

    def _goOnWith(self, requests: Any) -> None:
        """Send some of an iterator's requests, and the others later."""
        try:
            for _ in range(BURST):
                if self.status is not None:
                    return
                try:
                    request = next(requests)
                except StopIteration:
                    self.done_writing()
                    return
                writing = self.write(request)
                if not writing.called:
                    writing.addCallbacks(lambda _: self._goOnWith(requests), lambda _: None)
                    return
                writing.addErrback(lambda _: None)
        except Exception as error:
            self._failed(error)
            return
        self.channel.reactor.callLater(0, self._goOnWith, requests)

    def _failed(self, error: Exception) -> None:
        """The iterator, or a request, cannot be used."""
        if self.status is None:
            wrong = StatusError(Code.UNKNOWN, f"the requests have failed: {error!r}")
            wrong.__cause__ = error
            self.over(wrong)
            self._leave()

    def sendFirst(self) -> None:
        early, self._early = self._early, []
        if early or self._isDone:
            self.canRepeat = False
            self.hasSent = self._isDone
            self.connection.engine.data(self.number, b"".join(early), self._isDone)
        writers, self._writers = self._writers, []
        for each in writers:
            if not each.called:
                each.callback(None)

    def write(self, request: Any) -> Awaiting[None]:
        """
        Send a request.

        :return: fires when more may be written: at once, unless much waits for the peer.
        """
        waiting: Awaiting[None] = Awaiting()
        if self.status is not None or self._isDone:
            waiting.errback(
                self.error or StatusError(Code.FAILED_PRECONDITION, "done_writing() was called, or it ended")
            )
            return waiting
        try:
            framed = self.framed(request)
        except StatusError as error:
            self.over(error)
            self._leave()
            waiting.errback(error)
            return waiting
        if not self.number:
            self._early.append(framed)
            self._writers.append(waiting)
            return waiting
        self.canRepeat = False
        engine = self.connection.engine
        engine.data(self.number, framed, False)
        self.connection.touch()
        if engine.waiting(self.number) > HIGH_WATER and self.mustWait():
            self.drained().addCallbacks(lambda _: waiting.callback(None), lambda _: self._unwritten(waiting))
        else:
            waiting.callback(None)
        return waiting

    def _unwritten(self, waiting: Awaiting[None]) -> None:
        if not waiting.called:
            waiting.errback(self.error or StatusError(Code.UNKNOWN, "the call has ended"))

    def done_writing(self) -> Awaiting[None]:
        """There are no more requests."""
        if not self._isDone:
            self._isDone = True
            if self.number and not self.hasEnded and self.status is None:
                self.hasSent = True
                self.connection.engine.data(self.number, b"", True)
                self.connection.touch()
        waiting: Awaiting[None] = Awaiting()
        waiting.callback(None)
        return waiting

    def settled(self, error: StatusError | None) -> None:
        super().settled(error)
        if self._waitsForRequest and self._pumping is not None:
            # Nobody wants what it waits for.
            self._pumping.cancel()
        writers, self._writers = self._writers, []
        for each in writers:
            self._unwritten(each)


class Reply(_OneReply, _One):
    """One request, one reply."""


class Replies(_ManyReplies, _One):
    """One request, many replies."""


class StreamReply(_OneReply, ManyRequests):
    """Many requests, one reply."""

    def __init__(self, method: StubMethod) -> None:
        Deferred.__init__(self)
        ManyRequests.__init__(self, method)

    def settled(self, error: StatusError | None) -> None:
        ManyRequests.settled(self, error)
        _OneReply.settled(self, error)


class StreamReplies(_ManyReplies, ManyRequests):
    """Many requests, many replies."""
