"""Calls of clients of gRPC: find the method, run it, and answer."""

from __future__ import annotations

from inspect import iscoroutine
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import SettingError
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code
from getty_tx.rpc.current import Call, running
from getty_tx.rpc.errors import CallTimeoutError, NoSuchMethodError, PayloadError, RemoteError, RpcError
from getty_tx.rpc.replies import cancelWork, isAnswer, logLate, logSlow, toldOf
from getty_tx.rpc.streams import run
from getty_tx.rpc.wires.grpcstatus import statusOf
from getty_tx.rpc.wires.grpcstreams import GrpcStream, encoded
from getty_tx.session.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.grpc.requests import Requests
    from getty_tx.http.grpc.servicercontext import ServicerContext
    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.services import Handler
    from getty_tx.rpc.wires.grpc import Grpc
    from getty_tx.session.session import Session

__all__ = ["GrpcCalls", "GrpcPeer"]

log = Logger()


class GrpcPeer:
    """
    ``currentCall().peer`` of the calls of one session, whose client cannot be called.

    :param streams: the open streams.

    :ivar session: the session.
    :ivar late: methods that run on although their calls have ended: in threads, or because they ignore that.
    """

    __slots__ = ("_streams", "late", "session")

    def __init__(self, session: Session, streams: Mapping[int, Any]) -> None:
        self.session = session
        self._streams = streams
        self.late = 0

    def __repr__(self) -> str:
        return f"<client of gRPC at {self.session}>"

    @property
    def serving(self) -> int:
        """Its methods that run, the late ones with them."""
        return self.late + len(self._streams)

    def call(self, service: str, method: str, *arguments: Any, **options: Any) -> NoReturn:
        """:raise SettingError: always."""
        raise SettingError(f"{service}/{method}: a client of gRPC cannot be called; yield values to it by @rpc.stream")

    send = stream = call


class GrpcCall(Call):
    """
    A call of a client of gRPC.

    :ivar asked: what gRPC knows of it.
    :ivar handler: the method.
    :ivar answer: fires with the reply; None: the method has returned, or nobody waits for it.
    """

    __slots__ = ("answer", "asked", "handler")

    def __init__(self, peer: GrpcPeer, number: int, handler: Handler, asked: ServicerContext) -> None:
        super().__init__(peer, number, handler.name, _metadataOf(asked))
        self.asked = asked
        self.handler = handler
        self.answer: Deferred[Any] | None = None


class GrpcCalls:
    """
    The calls of all connections of a Server.

    :param wire: reads and writes messages.
    :param context: has the methods and the limits.
    :param shared: has asyncio's loop.
    """

    def __init__(self, wire: Grpc, context: CallContext, shared: ServerContext) -> None:
        self._wire = wire
        self._context = context
        self._shared = shared
        self._next = count(1).__next__
        # Those that a time of this end limits, by number; that of the client is watched by its connection.
        self._limited: dict[int, GrpcCall] = {}
        self._deadlines: Deadlines | None = None

    # For the connections

    def serve(self, name: str, message: bytes, asked: ServicerContext) -> Any:
        """
        Run a method.

        :return: the bytes of its result, or a Deferred of them.
        :raise StatusError: it has failed.
        """
        call, limit = self._begin(name, asked)
        try:
            arguments = self._argumentsOf(call.handler, message)
            value = self._run(call, arguments)
        except BaseException as error:
            raise self._statusOf(call, error) from None
        if isinstance(value, Deferred):
            if not value.called or value.paused or isinstance(value.result, Failure | Deferred):
                return self._wait(call, value, limit)
            # An async def that did not have to wait.
            value = value.result
        return self._reply(call, value)

    def serveStream(self, name: str, requests: Requests, asked: ServicerContext) -> Deferred[None]:
        """
        Run a method that is a stream.

        :return: fires when it has ended.
        :raise StatusError: it cannot be run.
        """
        call, limit = self._begin(name, asked)
        call.stream = GrpcStream(name, asked, requests, self._wire, self._context, self._shared)
        token = running.set(call)
        try:
            work = Deferred.fromCoroutine(self._stream(call, call.stream))
        finally:
            running.reset(token)
        return self._wait(call, work, limit)

    def stop(self) -> None:
        """No connection is left: there is nothing to be watched."""
        deadlines, self._deadlines = self._deadlines, None
        if deadlines is not None:
            deadlines.stop()

    # Inside

    def _begin(self, name: str, asked: ServicerContext) -> tuple[GrpcCall, float | None]:
        """The call, and the seconds that it may take, where that is less than what its client has said."""
        context = self._context
        if context.running >= context._maxCalls:
            context.refused += 1
            raise StatusError(Code.RESOURCE_EXHAUSTED, f"maxCalls={context.maxCalls} calls are being served")
        handler = context.handlers.get(name)
        if handler is None:
            raise statusOf(NoSuchMethodError(f"there is no {name}"))
        # One of this wire.
        connection: Any = asked.connection
        peer: GrpcPeer = connection.peer
        if peer.late and peer.serving > context.maxCallsPerSession:
            # The connection counts those alone whose calls have not ended.
            context.refused += 1
            text = f"maxCallsPerSession={context.maxCallsPerSession} calls are being served"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text)
        call = GrpcCall(peer, self._next(), handler, asked)
        now = peer.session.context.seconds()
        if context._slowCall is not None:
            call.startedAt = now
        limit = handler.timeout
        most = context._maxTimeout
        if most is not None and not handler.isStream and (limit is None or most < limit):
            limit = most
        left = asked.time_remaining()
        if left is not None and (limit is None or left <= limit):
            call.expiresAt = now + left
            return call, None
        if limit is not None:
            call.expiresAt = now + limit
        return call, limit

    def _argumentsOf(self, handler: Handler, message: bytes) -> Any:
        arguments = self._wire.argumentsOf(handler, message)
        if not handler.least <= len(arguments) <= handler.most:
            raise handler.misfit(arguments)
        return arguments

    def _run(self, call: GrpcCall, arguments: Any) -> Any:
        handler = call.handler
        token = running.set(call)
        try:
            if handler.threads:
                return handler.inThread(call.peer.session.context.reactor, arguments)
            value = handler.call(*arguments)
            return Deferred.fromCoroutine(value) if iscoroutine(value) else value
        finally:
            running.reset(token)

    async def _stream(self, call: GrpcCall, stream: GrpcStream) -> Any:
        handler = call.handler
        arguments: Any = ()
        if handler.most:
            if not await stream.more():
                raise PayloadError(f"{handler.name}: its arguments, which are the first message, have not come")
            arguments = self._argumentsOf(handler, stream.take())
        values: Any = handler.call(*arguments)
        result = await run(values, stream)
        if not hasattr(values, "__aiter__") and (result is not None or not stream.hasSent):
            # Clients that ask for one reply get the result.
            await stream.reply(result)

    # What takes its time

    def _wait(self, call: GrpcCall, work: Deferred[Any], limit: float | None) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda _: self._gone(call))
        call.answer = answer
        # A thread cannot be stopped; it keeps its place until it ends.
        call.work = None if call.handler.threads else work
        self._context.running += 1
        if limit is not None:
            self._limit(call, limit)
        work.addCallbacks(self._succeeded, self._failed, (call,), {}, (call,), {})
        return answer

    def _limit(self, call: GrpcCall, limit: float) -> None:
        deadlines = self._deadlines
        if deadlines is None:
            deadlines = self._deadlines = Deadlines(call.peer.session.context, self._limited, self._expired)
        self._limited[call.id] = call
        deadlines.add(call.id, call, limit)

    def _end(self, call: GrpcCall) -> Deferred[Any] | None:
        """The call waits no longer for its method, or the client for its answer; returns the answer if it does."""
        answer, call.answer = call.answer, None
        self._limited.pop(call.id, None)
        return answer

    def _succeeded(self, value: Any, call: GrpcCall) -> None:
        self._context.running -= 1
        answer = self._end(call)
        if answer is None:
            self._late(call, -1)
            return
        try:
            message = self._reply(call, value)
        except Exception as error:
            answer.errback(error)
        else:
            answer.callback(message)

    def _failed(self, failure: Failure, call: GrpcCall) -> None:
        self._context.running -= 1
        answer = self._end(call)
        if answer is not None:
            assert failure.value is not None
            error: Exception
            try:
                error = self._statusOf(call, failure.value, failure)
            except Exception as wrong:
                # Its code is no text, or its text cannot be had: the connection logs it, and ends the call.
                error = wrong
            answer.errback(error)
            return
        self._late(call, -1)
        logLate(call.name, failure)

    def _gone(self, call: GrpcCall) -> None:
        """The client has cancelled the call, or waits no longer."""
        if self._end(call) is not None:
            self._measured(call, "cancelled")
            self._cancel(call)

    def _expired(self, call: GrpcCall, _timeout: float) -> None:
        answer = self._end(call)
        if answer is not None:
            error = CallTimeoutError(f"{call.name} has taken longer than it may")
            answer.errback(self._statusOf(call, error))
            self._cancel(call)

    def _cancel(self, call: GrpcCall) -> None:
        self._late(call, 1)
        cancelWork(call)

    def _late(self, call: GrpcCall, more: int) -> None:
        """One more method, or one less, runs without its call, which is what the connection counts."""
        call.peer.late += more
        shared = self._shared
        shared.running += more
        shared.methods.totals[call.name].running += more

    # Answers

    def _reply(self, call: GrpcCall, value: Any) -> bytes | None:
        """The bytes of a result; None for a stream, which has sent it. :raise StatusError: it cannot be sent."""
        self._measured(call, "ok")
        context = self._context
        try:
            message = None if call.stream is not None else encoded(context, call.name, value)
        except Exception as error:
            raise statusOf(self._told(call, error)) from None
        if not self._sendMetadata(call):
            raise StatusError(Code.INTERNAL, f"{call.name}: its metadata cannot be sent")
        return message

    def _sendMetadata(self, call: GrpcCall) -> bool:
        """What goes along with the reply, as trailers. :return: False: it cannot be sent."""
        metadata = call.replyMetadata
        if metadata:
            try:
                call.asked.set_trailing_metadata(metadata.items())
            except Exception as error:
                log.error("{name}: the metadata of a reply: {error}", name=call.name, error=error)
                return False
        return True

    def _statusOf(self, call: GrpcCall, error: BaseException, failure: Failure | None = None) -> StatusError:
        """The status for what a method has raised."""
        told = self._told(call, error, failure)
        self._measured(call, told.code)
        self._sendMetadata(call)
        return statusOf(told)

    def _told(self, call: GrpcCall, error: BaseException, failure: Failure | None = None) -> RpcError:
        """What the client is told of an error."""
        if not isAnswer(error):
            return toldOf(call.name, error, call.peer.session, failure)
        assert isinstance(error, RpcError)
        if error.isOfResult and isinstance(error, PayloadError):
            # The method has given what cannot be sent, to return it or by its stream.
            log.error("{name}: {error}", name=call.name, error=error)
            return RemoteError(error.text)
        return error

    def _measured(self, call: GrpcCall, code: str) -> None:
        if call.startedAt:
            session = call.peer.session
            logSlow(session, call, self._context.slowCall, session.context.seconds() - call.startedAt, code)


def _metadataOf(asked: ServicerContext) -> dict[str, Any]:
    """The client's metadata by name; what it has given several times is joined, as for HTTP."""
    found: dict[str, Any] = {}
    for name, value in asked.invocation_metadata():
        known = found.get(name)
        found[name] = f"{known},{value}" if isinstance(known, str) and isinstance(value, str) else value
    return found
