"""
Streams: many values for one call, in both directions, each with credit.

A stream has two ends. Either may send values while it has credit, which is counted in bytes: the other end begins with
:py:data:`WINDOW`, and gives back what its program has taken. So a slow reader stops the writer, whatever else the
session carries, and what waits for a reader is bounded: the window, and one value.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.errors import SessionBlockedError, SessionClosedError
from getty_tx.rpc.errors import (
    CallCancelledError,
    CallLostError,
    CallRefusedError,
    PayloadError,
    RpcError,
    errorOf,
)
from getty_tx.rpc.messages import CREDIT, DATA, END, RESET, StreamFrame

if TYPE_CHECKING:
    from types import TracebackType

    from getty_tx.rpc.peer import Peer

__all__ = ["WINDOW", "Stream", "run"]

#: Bytes of values that may be on their way to an end whose program has not taken them.
WINDOW = 256 * 1024

#: What a value costs beside its bytes: empty ones are not free.
COST = 64


class Stream:
    """
    One end of a stream.

    ::

        async with client.stream("Ticker", "watch", "news") as stream:
            async for value in stream:
                ...

    Leaving the block before the end cancels the stream. ``await stream.send(value)`` sends, ``stream.end()`` ends this
    end's values, and ``await stream.result()`` waits for what the method has returned.

    :ivar name: ``Service/method``.
    :ivar isMine: this end has opened it.
    """

    __slots__ = (
        "_credit",
        "_error",
        "_held",
        "_isOver",
        "_owed",
        "_result",
        "_sent",
        "_values",
        "_waiting",
        "id",
        "isMine",
        "name",
        "peer",
    )

    def __init__(self, peer: Peer, id: int, name: str, isMine: bool) -> None:
        self.peer = peer
        self.id = id
        self.name = name
        self.isMine = isMine
        self._values: deque[tuple[Any, int]] = deque()
        # Those who wait for a value, for credit or for the end: each looks again at any change.
        self._waiting: list[Deferred[None]] = []
        self._credit = WINDOW
        # Bytes of the values that the program has not taken.
        self._held = 0
        # Bytes that were taken, and for which no credit was given back yet.
        self._owed = 0
        # The other end sends no more values; this one has ended its own.
        self._isOver = self._sent = False
        self._error: RpcError | None = None
        self._result: Any = None

    def __repr__(self) -> str:
        return f"<Stream {self.name} {self.id} of {self.peer.session}>"

    # For the program

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        while not self._values and not self._isOver:
            await self._change()
        if not self._values:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        value, size = self._values.popleft()
        self._held -= size
        self._owed += size
        if self._owed >= WINDOW // 2 and not self._isOver:
            owed, self._owed = self._owed, 0
            self._notify(CREDIT, b"%d" % owed)
        return value

    async def send(self, value: Any) -> None:
        """
        Send a value; waits while the other end has taken too few.

        :raise RpcError: the stream has ended, or the value cannot be sent.
        """
        while self._credit <= 0 and self.isOpen:
            await self._change()
        if self._error is not None:
            raise self._error
        if self._sent or not self.isOpen:
            raise CallCancelledError(f"{self.name}: the stream has ended")
        payload = self.peer.payload.encodeResult(self.name, value)
        limit = self.peer.session.maxMsgLen
        if len(payload) > limit - COST:
            raise PayloadError(f"{self.name}: a value of {len(payload)} bytes is above maxMsgLen={limit}")
        try:
            self._write(DATA, payload)
        except SessionClosedError as error:
            raise CallLostError(f"{self.name}: {error}", sent=False) from error
        except SessionBlockedError as error:
            raise CallRefusedError(f"{self.name}: {error}", sent=False) from error
        self._credit -= len(payload) + COST

    def end(self) -> None:
        """This end sends no more values."""
        if not self._sent and self.isOpen:
            self._sent = True
            self._notify(END, b"")
            self._forgetIfDone()

    async def result(self) -> Any:
        """
        Wait for the end of the method; values that were not taken are dropped.

        :return: what it has returned: None for a generator.
        :raise RpcError: it has failed.
        """
        async for _ in self:
            pass
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> None:
        """End the stream for both ends, if it has not ended."""
        if self.isOpen:
            self.fail(CallCancelledError(f"{self.name}: the stream was cancelled"), tell=True)

    @property
    def isOpen(self) -> bool:
        """Whether anything can be sent or can still come."""
        return self.peer.streams.get((self.isMine, self.id)) is self

    # For the peer

    def finish(self, value: Any) -> None:
        """The method has returned."""
        if self.isOpen:
            payload = b"" if value is None else self.peer.payload.encodeResult(self.name, value)
            self._sent = self._isOver = True
            self._notify(END, payload)
            self._forgetIfDone()

    def fail(self, error: RpcError, tell: bool) -> None:
        """The stream has failed here (``tell`` the other end), or there."""
        tell = tell and self.isOpen
        self.peer.streams.pop((self.isMine, self.id), None)
        if tell:
            self._notify(RESET, b"", error)
        self._isOver = True
        if self._error is None:
            self._error = error
        if not self.isMine:
            # Nobody waits for what the method does.
            self.peer.incoming.cancel(self.id)
        self._wake()

    def receive(self, frame: StreamFrame) -> None:
        """A frame of the other end."""
        kind = frame.kind
        if kind == DATA:
            size = len(frame.payload) + COST
            if self._isOver:
                return
            if self._held >= WINDOW:
                # An end that counts would have no credit.
                self.fail(PayloadError(f"{self.name}: the peer sends without credit"), tell=True)
                return
            try:
                value = self.peer.payload.decodeResult(self.name, frame.payload)
            except PayloadError as error:
                self.fail(error, tell=True)
                return
            self._held += size
            self._values.append((value, size))
            self._wake()
        elif kind == CREDIT:
            if frame.payload.isdigit() and len(frame.payload) < 10:
                self._credit = min(self._credit + int(frame.payload), WINDOW)
                self._wake()
        elif kind == END:
            self._isOver = True
            if self.isMine:
                # The method is over, so nobody takes what this end would send.
                self._sent = True
            if frame.payload:
                try:
                    self._result = self.peer.payload.decodeResult(self.name, frame.payload)
                except PayloadError as error:
                    self._error = error
            self._forgetIfDone()
            self._wake()
        elif kind == RESET:
            code, text, details = frame.error or ("internal", f"{self.name} was reset", None)
            self.fail(errorOf(code, text, details), tell=False)

    # Inside

    def _change(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _notify(self, kind: str, payload: bytes, error: RpcError | None = None) -> None:
        """Send what the other end has to know, or nothing where the session has ended."""
        session = self.peer.session
        if session.isClosed:
            return
        try:
            self._write(kind, payload, error)
        except SessionBlockedError as blocked:
            # The ends would differ in what they know of the stream.
            session.fail(blocked)

    def _write(self, kind: str, payload: bytes, error: RpcError | None = None) -> None:
        details = None if error is None else (error.code, error.text, error.details)
        self.peer.session.writePkg(StreamFrame(self.id, kind, payload, not self.isMine, error=details))

    def _forgetIfDone(self) -> None:
        if self._sent and self._isOver:
            self.peer.streams.pop((self.isMine, self.id), None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


async def run(values: Any, stream: Any) -> Any:
    """Send what the generator of a method yields, or wait for its result."""
    if not hasattr(values, "__aiter__"):
        return await values
    try:
        async for value in values:
            await stream.send(value)
    finally:
        await values.aclose()
    return None
