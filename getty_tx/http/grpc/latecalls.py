"""Calls that begin later: what a stub gives where a coroutine of a wrapper stands around a call."""

from __future__ import annotations

import asyncio
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.http.grpc.awaiting import Awaiting, isInTask
from getty_tx.http.grpc.clientcall import ClientCall
from getty_tx.http.grpc.clientkinds import EOF, ManyRequests
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.errors import Metadata
    from getty_tx.http.grpc.stubs import StubMethod

__all__ = ["LateReplies", "LateReply", "lateCall"]

log = Logger()


def lateCall(method: StubMethod, beginning: Any) -> Any:
    """A call of a method that begins when a coroutine, or a Deferred, says so."""
    call = (LateReplies if method.hasReplies else LateReply)(method)
    call.begin(beginning)
    return call


class _Late:
    """
    Stands for a call that a coroutine makes, or for one that it makes more than once.

    If the coroutine returns a call, this is that call from then on. Who asks before waits.

    :param method: what is called.
    """

    def __init__(self, method: StubMethod) -> None:
        self._method = method
        # The call that answers all questions, and who asks before there is one.
        self._call: Any = None
        self._asking: list[Callable[[Any], object]] = []
        # The coroutine, and what runs it: a task or a Deferred.
        self._beginning: Any = None
        self._runner: Any = None

    def begin(self, beginning: Any) -> None:
        """Run the coroutine as that runs which has called: as a task of asyncio, or as a coroutine of Twisted's."""
        isTwisted = isinstance(beginning, Deferred) or not isInTask()
        self._beginning = beginning
        run = self._run(beginning)
        self._runner = ensureDeferred(run) if isTwisted else asyncio.ensure_future(run)

    async def _run(self, beginning: Any) -> None:
        try:
            await self.follow(await beginning)
        except asyncio.CancelledError:
            self.ended(StatusError(Code.CANCELLED, "the call was cancelled"))
        except Exception as error:
            self.ended(error if isinstance(error, StatusError) else _wrong(error), error)

    async def follow(self, found: Any) -> None:
        """The coroutine has returned this."""
        raise NotImplementedError

    def ended(self, error: StatusError | None, cause: BaseException | None = None) -> None:
        """
        There is no call that could be asked, but for its end.

        :param cause: what the coroutine has raised.
        """
        if self._call is None:
            # One that was never made has all the answers.
            call: ClientCall = (self._method.kind if self._method.hasReplies else ManyRequests)(self._method)
            call.over(error)
            if cause is not None:
                call.error = cause
            self.isThere(call)

    def isThere(self, call: Any) -> None:
        """This call can be asked, unless it comes too late."""
        if self._call is not None:
            call.cancel()
            return
        self._call = call
        asking, self._asking = self._asking, []
        for each in asking:
            each(call)

    def _with(self, do: Callable[[Any], object]) -> None:
        if self._call is None:
            self._asking.append(do)
        else:
            do(self._call)

    def _ask(self, question: Callable[[Any], Awaiting[Any]]) -> Awaiting[Any]:
        """What the call answers, now or when it is there."""
        if self._call is not None:
            return question(self._call)
        asked: list[Awaiting[Any]] = []

        def cancel(_: Any) -> None:
            for each in asked:
                each.cancel()

        waiting: Awaiting[Any] = Awaiting(cancel)

        def ask(call: Any) -> None:
            if not waiting.called:
                asked.append(question(call))
                asked[0].chainDeferred(waiting)

        self._asking.append(ask)
        return waiting

    def stop(self) -> None:
        """Cancel what the coroutine waits for, and what it has made."""
        self._runner.cancel()
        if iscoroutine(self._beginning) and getcoroutinestate(self._beginning) == CORO_CREATED:
            # The task will not come to it any more.
            self._beginning.close()

    # What calls have

    def write(self, request: Any) -> Awaiting[None]:
        """As that of the call, which has to be what the coroutine returns."""
        return self._ask(lambda call: call.write(request))

    def done_writing(self) -> Awaiting[None]:
        """There are no more requests."""
        return self._ask(lambda call: call.done_writing())

    def _when(self, question: Callable[[Any], Awaiting[Any]]) -> Awaiting[Any]:
        return self._ask(question)

    def initial_metadata(self) -> Awaiting[Metadata]:
        """Fires with the metadata before the replies, as pairs."""
        return self._when(lambda call: call.initial_metadata())

    def trailing_metadata(self) -> Awaiting[Metadata]:
        """Fires with the metadata behind the replies, when it has ended."""
        return self._when(lambda call: call.trailing_metadata())

    def code(self) -> Awaiting[Code]:
        """Fires with the code, when it has ended."""
        return self._when(lambda call: call.code())

    def details(self) -> Awaiting[str]:
        """Fires with the text of the status, when it has ended."""
        return self._when(lambda call: call.details())

    def wait_for_connection(self) -> Awaiting[None]:
        """Fires when the answer has begun, or it has ended."""
        return self._when(lambda call: call.wait_for_connection())

    def debug_error_string(self) -> str:
        """The text of its error; empty: there is none."""
        return "" if self._call is None else str(self._call.debug_error_string())

    def time_remaining(self) -> float | None:
        """Seconds that are left; None: it has no limit, or has not begun."""
        return None if self._call is None else self._call.time_remaining()

    def tell(self, callback: Callable[[Any], object]) -> None:
        """Call a callback of a user's."""
        try:
            callback(self)
        except Exception:
            log.failure("{call}: a callback has failed", Failure(), call=self)

    def __repr__(self) -> str:
        return f"<wrapped call of {self._method.path}>" if self._call is None else f"<wrapped {self._call!r}>"


def _wrong(error: BaseException) -> StatusError:
    """What an error is as a status."""
    return StatusError(Code.UNKNOWN, f"a wrapper has failed: {error!r}")


class LateReply(Awaiting[Any], _Late):
    """It has one reply: that of the call that the coroutine returns, or what else that returns."""

    __repr__ = _Late.__repr__

    def __init__(self, method: StubMethod) -> None:
        Deferred.__init__(self)
        _Late.__init__(self, method)

    async def follow(self, found: Any) -> None:
        """A reply, or a call."""
        if isinstance(found, ClientCall | _Late):
            self.isThere(found)
            there: Any = found
            found = await there
        self.ended(None)
        if not self.called:
            self.callback(found)

    def ended(self, error: StatusError | None, cause: BaseException | None = None) -> None:
        """It has failed, or given something."""
        super().ended(error, cause)
        if error is not None and not self.called:
            self.errback(cause or error)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]  # as that of Awaiting
        """Wait no longer. :return: it had not ended."""
        if self.called:
            return super().cancel()
        self.isCancelled = True
        self.ended(StatusError(Code.CANCELLED, "the call was cancelled"))
        self.stop()
        return True

    def done(self) -> bool:
        """It has ended."""
        return bool(self.called)

    def cancelled(self) -> bool:
        """It has ended with CANCELLED."""
        return bool(self.called) and self._call is not None and self._call.cancelled()

    def _when(self, question: Callable[[Any], Awaiting[Any]]) -> Awaiting[Any]:
        # Who asks how it has ended knows of its error.
        self.addBoth(self._keep)
        return super()._when(question)

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call with the call when it has ended; tasks of asyncio come here, too."""
        if context is not None:
            super().add_done_callback(callback, context=context)
            return

        def tell(result: Any) -> Any:
            self.tell(callback)
            return result

        self.addBoth(tell)


class LateReplies(_Late):
    """It has many replies: those of the call that the coroutine returns."""

    async def follow(self, found: Any) -> None:
        """A call."""
        if not hasattr(found, "read"):
            raise TypeError(f"a wrapper of {self._method.name} has to return a call, and not {found!r:.100}")
        self.isThere(found)

    def cancel(self, msg: object = None) -> bool:
        """Wait no longer; the peer is told. :return: it had not ended."""
        if self._call is not None:
            return bool(self._call.cancel())
        self.ended(StatusError(Code.CANCELLED, "the call was cancelled"))
        self.stop()
        return True

    def done(self) -> bool:
        """It has ended."""
        return self._call is not None and self._call.done()

    def cancelled(self) -> bool:
        """It has ended with CANCELLED."""
        return self._call is not None and self._call.cancelled()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call with the call when it has ended."""
        self._with(lambda call: call.add_done_callback(lambda _: self.tell(callback)))

    def read(self) -> Awaiting[Any]:
        """The next reply, as that of the call."""
        return self._ask(lambda call: call.read())

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        if self._call is not None:
            return self._call.__anext__()
        return self.read().addCallback(_orStop)


def _orStop(reply: Any) -> Any:
    if reply is EOF:
        raise StopAsyncIteration
    return reply
