"""A call that is made: its stream, its head and its end."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.http.grpc.context import encodingOf
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import Messages, decompressor, deflated, frame, gzipped
from getty_tx.http.grpc.metadata import decodeBinary, decodeMetadata, encodeMetadata
from getty_tx.http.grpc.status import Code, codeOf, decodeText, fromHTTP, fromReset
from getty_tx.http.grpc.timeouts import encodeTimeout
from getty_tx.http.two.errors import ErrorCode, StreamReset
from getty_tx.http.two.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.grpc.channel import Channel
    from getty_tx.http.grpc.channelconnection import ChannelConnection
    from getty_tx.http.grpc.errors import Metadata
    from getty_tx.http.grpc.stubs import StubMethod
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.status.calls import CallTotals

__all__ = ["ClientCall"]

log = Logger()

_timeoutField = lru_cache(maxsize=64)(encodeTimeout)


def _fieldsOf(metadata: Any) -> list[tuple[bytes, bytes]]:
    try:
        return encodeMetadata(metadata.items() if hasattr(metadata, "items") else metadata)
    except (TypeError, ValueError) as error:
        raise StatusError(Code.INTERNAL, f"the call cannot be sent: {error}", sent=False) from error


def metadataOf(headers: Headers) -> Metadata:
    """The metadata of an answer. What is no base64 and should be is left out: the call has ended all the same."""
    try:
        return decodeMetadata(headers)
    except StatusError:
        found: list[tuple[str, str | bytes]] = []
        for field in headers:
            with suppress(StatusError):
                found += decodeMetadata([field])
        return found


def _binaryOf(value: bytes) -> bytes:
    with suppress(StatusError):
        return decodeBinary(b"grpc-status-details-bin", value)
    return b""


class ClientCall(Stream):
    """
    A call, with the names that those of ``grpc.aio`` have.

    :param method: what is called.

    :ivar status: how it has ended, a :py:class:`~getty_tx.http.grpc.Code`; None: it has not.
    :ivar text: what the peer, or this side, says of it.
    :ivar expiresAt: when its time is over, on the reactor's clock; None: never.
    """

    connection: ChannelConnection
    status: Code | None = None
    text = ""
    error: BaseException | None = None
    expiresAt: float | None = None
    timeout: float | None = None
    waitsForReady = False
    #: Its request can be sent once more.
    canRepeat = True
    totals: CallTotals | None = None
    startedAt = 0.0
    _fields: list[tuple[bytes, bytes]] | None = None
    _encoding = b""
    _head: Headers | None = None
    _trailers: Headers = ()
    _messages: Messages | None = None
    _askers: list[tuple[Awaiting[Any], Callable[[], Any], bool]] | None = None
    _tellers: list[Callable[[Any], object]] | None = None
    # Before it is open: the timer of its time-out. Its stream has been opened, and how many times again.
    _timer: Any = None
    _again = 0
    # This side has sent all; the peer's answer is not gRPC's.
    hasSent = False
    _httpError: tuple[Code, str] | None = None

    def __init__(self, method: StubMethod) -> None:
        Stream.__init__(self, None)  # type: ignore[arg-type]  # it has a connection when it is opened
        self.method = method
        self.channel: Channel = method.channel

    # Beginning

    def start(
        self, timeout: Any, metadata: Any, waitForReady: bool | None, compression: Any, request: Any = None
    ) -> None:
        """Make the call, over a connection that is open, or when one is."""
        channel = self.channel
        try:
            if timeout is not None:
                self.timeout = timeout
                if timeout <= 0:
                    raise StatusError(Code.DEADLINE_EXCEEDED, "no time is left for the call", sent=False)
            if metadata:
                self._fields = _fieldsOf(metadata)
            if compression is not None:
                self._encoding = encodingOf("compression", compression) or b""
            self.prepare(request)
        except StatusError as error:
            self.over(error)
            return
        self.waitsForReady = channel.waitForReady if waitForReady is None else waitForReady
        channel.dispatch(self)

    def prepare(self, request: Any) -> None:
        """The request is known."""

    def head(self, connection: ChannelConnection) -> Headers:
        """The fields of the request."""
        fields: Headers = connection.headOf(self.method)
        more = self._fields
        if self.timeout is None and more is None and not self._encoding:
            return fields
        built = list(fields)
        if self.timeout is not None:
            if self.expiresAt is None:
                built.append((b"grpc-timeout", _timeoutField(self.timeout)))
            else:
                left = max(self.expiresAt - connection.seconds(), 0.0)
                built.append((b"grpc-timeout", encodeTimeout(left)))
        if self._encoding:
            built.append((b"grpc-encoding", self._encoding))
        if more is not None:
            built += more
        return built

    def hold(self) -> None:
        """It waits to be opened: its time runs."""
        if self.timeout is not None and self.expiresAt is None:
            reactor = self.channel.reactor
            self.expiresAt = reactor.seconds() + self.timeout
            self._timer = reactor.callLater(self.timeout, self.expire)

    def opened(self) -> None:
        """The stream is open: send what there is."""
        connection = self.connection
        if self.timeout is not None and self._timer is None:
            connection.deadlines.add(self.number, self, self.timeout)
        totals = self.totals = connection.totalsOf(self.method.name)
        totals.running += 1
        if not totals.done & connection.sampled:
            self.startedAt = connection.seconds()
        self.sendFirst()

    def sendFirst(self) -> None:
        """Send the request, or its beginning."""

    def framed(self, request: Any) -> bytes:
        """
        A request as it is sent.

        :raise StatusError: it cannot be sent.
        """
        try:
            message = self.method.encode(request)
        except Exception as error:
            raise StatusError(Code.INTERNAL, f"the request cannot be encoded: {error!r}", sent=False) from error
        most = self.channel.maxSent
        if most is not None and len(message) > most:
            text = f"a message has {len(message)} bytes: maxSent is {most}"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text, sent=False)
        if not self._encoding:
            return frame(message)
        return gzipped(message) if self._encoding == b"gzip" else deflated(message)

    # The answer

    def headersCame(self, headers: Headers, isLast: bool) -> None:
        """The answer has begun, or is nothing but its end."""
        self._head = headers
        if isLast:
            self.trailersCame(headers)
            return
        status, kind, encoding = b"", b"", b""
        for name, value in headers:
            if name == b":status":
                status = value
            elif name == b"content-type":
                kind = value
            elif name == b"grpc-encoding":
                encoding = value
        if status != b"200" or not kind.startswith(b"application/grpc"):
            self._notGRPC(status, kind)
        elif encoding and encoding != b"identity":
            try:
                self.messages.unpack = decompressor(encoding)
            except StatusError as error:
                self.broken(error.code, error.text)
        if self._askers:
            self._answer(True)

    def _notGRPC(self, status: bytes, kind: bytes) -> None:
        code = fromHTTP(int(status) if status.isdigit() else 0)
        self._httpError = code, f"HTTP status {status.decode()}, content-type {kind.decode('latin-1') or 'none'}"
        self.over(StatusError(*self._httpError))
        self.reset(ErrorCode.CANCEL)

    @property
    def messages(self) -> Messages:
        """What cuts the data into messages."""
        if self._messages is None:
            self._messages = Messages(self.channel.maxReceived)
        return self._messages

    def trailersCame(self, headers: Headers) -> None:
        """The end of the answer."""
        code: Code | None = None
        text = details = status = b""
        for name, value in headers:
            if name == b"grpc-status":
                code = codeOf(value)
            elif name == b"grpc-message":
                text = value
            elif name == b"grpc-status-details-bin":
                details = value
            elif name == b":status":
                status = value
        self._trailers = headers
        if code == 0 and self._messages is not None and not self._messages.isWhole:
            self.over(StatusError(Code.INTERNAL, "the last message is cut off"))
        elif code == 0:
            self.over(None)
        elif code is None:
            kind = fromHTTP(int(status)) if status.isdigit() else Code.UNKNOWN
            self.over(StatusError(kind, f"an answer without grpc-status, HTTP status {status.decode() or '200'}"))
        else:
            if code is Code.CANCELLED and self._isLate():
                code = Code.DEADLINE_EXCEEDED
            self.over(StatusError(code, decodeText(text), _binaryOf(details), metadataOf(headers)))
        if not self.hasEnded and (not self.hasSent or self.waiting):
            # The peer has ended before this side has: it wants no more.
            self.reset(ErrorCode.NO_ERROR)

    def _isLate(self) -> bool:
        return self.expiresAt is not None and self.channel.reactor.seconds() >= self.expiresAt

    def broken(self, code: Code, text: str) -> None:
        """The answer breaks a rule, or cannot be read."""
        self.over(StatusError(code, text))
        self.reset(ErrorCode.CANCEL)

    # The end

    def ended(self, error: BaseException | None) -> None:
        """The stream has ended."""
        if self.status is not None:
            return
        if error is None:
            self.over(StatusError(Code.UNKNOWN, "the answer has ended without grpc-status"))
            return
        if not isinstance(error, StreamReset):
            lost = StatusError(Code.UNAVAILABLE, f"the connection was lost: {error}")
            lost.__cause__ = error
            self.over(lost)
            return
        isRefused = error.code == ErrorCode.REFUSED_STREAM
        if isRefused and self.canRepeat and not self._again and self._head is None:
            self._repeat()
            return
        code = fromReset(error.code)
        if code is Code.CANCELLED and self._isLate():
            code = Code.DEADLINE_EXCEEDED
        self.over(StatusError(code, str(error), sent=not isRefused))

    def _repeat(self) -> None:
        """The peer has surely not looked at it: make it once more."""
        self._again = 1
        before = self.connection
        if self.totals is not None:
            self.totals.running -= 1
            self.totals = None
        self.number = 0
        self.hasEnded = self.wasReset = self.hasSent = False
        self._messages = None
        if self.timeout is not None and self._timer is None and self.expiresAt is not None:
            # Another connection has other deadlines.
            reactor = self.channel.reactor
            self._timer = reactor.callLater(max(self.expiresAt - reactor.seconds(), 0.0), self.expire)
        self.channel.dispatch(self, before)

    def over(self, error: StatusError | None) -> None:
        """The call has ended. What comes later is nothing."""
        if self.status is not None:
            return
        error = self.checked(error)
        self.status = Code.OK if error is None else error.code
        self.error = error
        if error is not None:
            self.text = error.text
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        totals = self.totals
        if totals is not None:
            totals.running -= 1
            if error is None:
                totals.done += 1
            else:
                totals.fail(error.code.name.lower())
            if self.startedAt:
                totals.seconds.add(self.connection.seconds() - self.startedAt)
            if self.connection.tally is not None:
                self.connection.counted(self.status)
        callbacks, self._tellers = self._tellers, None
        for callback in callbacks or ():
            self._tell(callback)
        if self._askers:
            self._answer(False)
        self.settled(error)
        self.channel.ended(self)

    def checked(self, error: StatusError | None) -> StatusError | None:
        """What is wrong with an answer that has ended in order."""
        return error

    def settled(self, error: StatusError | None) -> None:
        """Tell who waits for the replies."""

    def _tell(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception:
            log.failure("{call}: a callback has failed", Failure(), call=self)

    def _leave(self) -> None:
        if self.number:
            self.reset(ErrorCode.CANCEL)
        else:
            self.channel.withdraw(self)

    def expire(self) -> None:
        """Its time is over."""
        if self.status is None:
            isSent = bool(self.number)
            text = f"{self.method.path}: no answer in time" if isSent else self.channel.why("no connection in time")
            self.over(StatusError(Code.DEADLINE_EXCEEDED, text, sent=isSent))
            self._leave()

    def stop(self) -> bool:
        """Cancel it. :return: it had not ended."""
        if self.status is not None:
            return False
        self.over(StatusError(Code.CANCELLED, "the call was cancelled", sent=bool(self.number)))
        self._leave()
        return True

    def cancel(self, msg: object = None) -> bool:
        """Wait no longer; the peer is told. :return: it had not ended."""
        return self.stop()

    # What grpc.aio's have

    def _when(self, get: Callable[[], Any], isOfHead: bool = False) -> Awaiting[Any]:
        waiting: Awaiting[Any] = Awaiting()
        if self.status is not None or (isOfHead and self._head is not None):
            waiting.callback(get())
        else:
            if self._askers is None:
                self._askers = []
            self._askers.append((waiting, get, isOfHead))
        return waiting

    def _answer(self, isOfHead: bool) -> None:
        askers, self._askers = self._askers or [], []
        for each in askers:
            if each[0].called:
                continue
            if isOfHead and not each[2]:
                self._askers.append(each)
            else:
                each[0].callback(each[1]())

    def initial_metadata(self) -> Awaiting[Metadata]:
        """Fires with the metadata before the replies, as pairs."""
        return self._when(lambda: metadataOf(self._head or ()), True)

    def trailing_metadata(self) -> Awaiting[Metadata]:
        """Fires with the metadata behind the replies, when it has ended."""
        return self._when(lambda: metadataOf(self._trailers))

    def code(self) -> Awaiting[Code]:
        """Fires with the code, when it has ended."""
        return self._when(lambda: self.status)

    def details(self) -> Awaiting[str]:
        """Fires with the text of the status, when it has ended."""
        return self._when(lambda: self.text)

    def debug_error_string(self) -> str:
        """The text of its error; empty: there is none."""
        return "" if self.error is None else str(self.error)

    def wait_for_connection(self) -> Awaiting[None]:
        """Fires when the answer has begun, or it has ended."""
        return self._when(lambda: None, True)

    def done(self) -> bool:
        """It has ended."""
        return self.status is not None

    def cancelled(self) -> bool:
        """It has ended with CANCELLED."""
        return self.status is Code.CANCELLED

    def time_remaining(self) -> float | None:
        """Seconds that are left; None: it has no limit."""
        return None if self.expiresAt is None else max(0.0, self.expiresAt - self.channel.reactor.seconds())

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Call with the call when it has ended."""
        if self.status is not None:
            self._tell(callback)
        else:
            self._tellers = [*(self._tellers or ()), callback]

    def __repr__(self) -> str:
        state = "running" if self.status is None else self.status.name
        return f"<call of {self.method.path}: {state}>"
