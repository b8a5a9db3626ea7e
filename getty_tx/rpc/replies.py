"""The end of calls in: results, errors, and what is counted and logged of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from getty_tx.errors import SessionBlockedError
from getty_tx.rpc.errors import CallCancelledError, PayloadError, RemoteError, RpcError
from getty_tx.rpc.messages import OVERHEAD, ErrorReply, Reply
from getty_tx.rpc.slices import WHOLE
from getty_tx.status.calls import CallTotals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.python.failure import Failure

    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.current import Call
    from getty_tx.rpc.messages import Request
    from getty_tx.rpc.peer import Peer
    from getty_tx.rpc.streams import Stream
    from getty_tx.session.session import Session

__all__ = ["Replies", "cancelWork", "isAnswer", "logLate", "logSlow", "toldOf"]

log = Logger()


def isAnswer(error: BaseException) -> bool:
    """Whether what a method has raised is its answer. An error of a call of its own is none, but a RemoteError is."""
    return isinstance(error, RpcError) and (not error.isOfCall or isinstance(error, RemoteError))


def toldOf(name: str, error: BaseException, session: Session, failure: Failure | None = None) -> RpcError:
    """
    What the caller is told where a method has raised what is no answer; the rest is logged.

    :param name: ``Service/method``.
    :param failure: of the error, where it is not being handled.
    """
    if isinstance(error, CancelledError):
        return CallCancelledError(f"{name} was cancelled")
    if isinstance(error, RpcError):
        log.warn("{name} failed for {peer}: {error}", name=name, peer=session, error=error)
    else:
        log.failure("{name} failed for {peer}", failure, name=name, peer=session)
    return RemoteError(f"{name} failed: {type(error).__name__}")


def logSlow(session: Session, call: Call, limit: float | None, seconds: float, code: str) -> None:
    """Log a call that has ended, if it was slow. Streams last as long as they like."""
    if limit is None or seconds <= limit or call.stream is not None:
        return
    more = session.context.faults.lineAbout(("slow call", call.name))
    if more is not None:
        text = "{method} took {seconds:.3f} s for {session}, above slowCall={limit:g}: {code}{more}"
        log.warn(text, method=call.name, seconds=seconds, session=session, limit=limit, code=code, more=more)


def cancelWork(call: Call) -> None:
    """Cancel what runs for a call. It keeps its place until that has ended."""
    if call.work is not None:
        try:
            call.work.cancel()
        except Exception:
            # The canceller of the application's Deferred.
            log.failure("{name} could not be cancelled", name=call.name)


def logLate(name: str, failure: Failure) -> None:
    """Log how a method has failed when nobody waited for it any more, unless it is because of that."""
    if not failure.check(CancelledError, RpcError):
        log.failure("{name} failed after its caller had gone", failure, name=name)


class Replies:
    """
    Answers the calls that one peer has been asked for.

    :param peer: the peer.
    :param context: has the methods and the payload.
    """

    __slots__ = ("_context", "_served", "peer")

    def __init__(self, peer: Peer, context: CallContext) -> None:
        self.peer = peer
        self._context = context
        self._served: dict[str, CallTotals] = peer.session.context.calls.setdefault("server", {})

    def _reply(self, request: Request, value: Any, call: Call) -> None:
        totals = call.totals
        totals.done += 1
        if call.startedAt:
            self._measured(call, "ok")
        if request.isOneWay:
            return
        session = self.peer.session
        try:
            if call.stream is not None:
                call.stream.finish(value)
                return
            payload = self._context.payload.encodeResult(request.name, value)
            size = len(payload)
            # The value of the setting, which costs 0.03 us; session.maxMsgLen costs 0.15.
            if size > session._maxMsgLen - OVERHEAD:
                text = f"{request.name}: a result of {size} bytes is above maxMsgLen={session.maxMsgLen}"
                raise PayloadError(text)
            if not session.isClosed:
                if size > WHOLE:
                    self.peer.slices.write(Reply(request.id, payload, call.replyMetadata))
                else:
                    session.writePkg(Reply(request.id, payload, call.replyMetadata))
        except SessionBlockedError as error:
            session.fail(error)
        except RpcError as error:
            totals.done -= 1
            error.isOfResult = True
            log.error("{name}: {error}", name=request.name, error=error)
            self._fail(request, error, None, call.stream)
        except Exception as error:
            totals.done -= 1
            self._fail(request, error, None, call.stream)

    def _fail(
        self,
        request: Request,
        error: BaseException,
        call: Call | None = None,
        stream: Stream | None = None,
        failure: Failure | None = None,
    ) -> None:
        if not isAnswer(error):
            # Of those payloads for which exceptions of the application are results.
            encode = getattr(self._context.payload, "encodeRaised", None)
            if encode is not None and self._raised(request, error, encode, call):
                return
            error = toldOf(request.name, error, self.peer.session, failure)
        assert isinstance(error, RpcError)
        self._totalsOf(request.name).fail(error.code if error.code in RpcError.byCode else "other")
        if call is not None and call.startedAt:
            self._measured(call, error.code)
        if call is None:
            self._answer(request.id, request.isOneWay, error, None, stream)
        else:
            self._answer(request.id, request.isOneWay, error, call.replyMetadata, call.stream)

    def _raised(self, request: Request, error: BaseException, encode: Any, call: Call | None) -> bool:
        session = self.peer.session
        try:
            payload = encode(request.name, error)
            if payload is None:
                return False
            if not request.isOneWay and not session.isClosed:
                session.writePkg(Reply(request.id, payload, None if call is None else call.replyMetadata))
        except PayloadError:
            # It is no value of the IDL, or too long: an error like others.
            return False
        except SessionBlockedError as blocked:
            # The caller would wait for an answer that is lost.
            session.fail(blocked)
        self._totalsOf(request.name).fail("other")
        if call is not None and call.startedAt:
            self._measured(call, "other")
        return True

    def _answer(
        self, number: int, isOneWay: bool, error: RpcError, metadata: Mapping[str, str] | None, stream: Stream | None
    ) -> None:
        """Tell the caller that the call has failed."""
        session = self.peer.session
        if session.isClosed or isOneWay:
            return
        try:
            if stream is not None:
                stream.fail(error, tell=True)
            else:
                ofResult = error.isOfResult
                session.writePkg(ErrorReply(number, error.code, error.text, error.details, metadata, ofResult))
        except SessionBlockedError as blocked:
            # The caller would wait for an answer that is lost.
            session.fail(blocked)
        except Exception as invalid:
            if metadata is None:
                session.fail(invalid)
                return
            log.error("{peer}: the metadata of a reply: {error}", peer=session, error=invalid)
            self._answer(number, isOneWay, error, None, stream)

    def _measured(self, call: Call, code: str) -> None:
        """A call whose time is taken has ended: log it if it was slow."""
        session = self.peer.session
        seconds = session.context.seconds() - call.startedAt
        if code == "ok":
            call.totals.seconds.add(seconds)
        logSlow(session, call, self._context._slowCall, seconds, code)

    def _totalsOf(self, name: str) -> CallTotals:
        if name not in self._context.handlers:
            # A name of the peer's, of which there may be any number.
            name = ""
        totals = self._served.get(name)
        if totals is None:
            totals = self._served[name] = CallTotals()
        return totals
