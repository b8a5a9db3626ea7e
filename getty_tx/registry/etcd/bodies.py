"""Bodies of requests and responses: JSON in segments of any size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from getty_tx.registry.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IConsumer, IDelayedCall
    from twisted.python.failure import Failure

__all__ = ["GATHER_TIME", "LIMIT", "JSONBody", "Lines", "TooLongError", "Whole"]

#: Bytes of the longest response, or line of one, that is read.
LIMIT = 16 * 1024 * 1024

#: Seconds from the end of what has come of a body without end until more is read: each read costs as much as the
#: handling of two lines.
GATHER_TIME = 0.005

# Takes half of the time of json.loads(), which looks for the encoding of bytes, and for options.
_parse = json.JSONDecoder().decode


class TooLongError(RegistryError):
    """A response is longer than LIMIT."""


@implementer(IBodyProducer)
class JSONBody:
    """The body of a request."""

    __slots__ = ("_data", "length")

    def __init__(self, value: Any) -> None:
        self._data = json.dumps(value, separators=(",", ":")).encode()
        self.length = len(self._data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It was written at once."""

    def resumeProducing(self) -> None:
        """It was written at once."""

    def stopProducing(self) -> None:
        """It was written at once."""


class _Body(Protocol):
    """A response's body, bounded, which can be given up."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._closed = False

    def close(self) -> None:
        """Read no more, and close the connection."""
        if not self._closed:
            self._closed = True
            self._parts.clear()
            if self.transport is not None:
                self.transport.loseConnection()

    def _keep(self, data: bytes) -> bool:
        """Keep a part; False if it is too much."""
        self._parts.append(data)
        self._size += len(data)
        return self._size <= LIMIT

    def _take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return data


class Whole(_Body):
    """
    A body that is read to its end.

    :ivar data: fires with it; fails with TooLongError, or as the connection did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.data: Deferred[bytes] = Deferred(lambda _: self.close())

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        if not self._closed and not self._keep(data):
            self.close()
            self.data.errback(TooLongError(f"an answer of etcd is longer than {LIMIT} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        if self._closed:
            return
        self._closed = True
        # A body without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.data.callback(self._take())
        else:
            self.data.errback(reason)


class Lines(_Body):
    """
    A body without end: JSON objects, a line each. Empty lines may be between them.

    :param clock: for the times in which nothing is read.
    :param received: called with each object.
    :param ended: called once with the reason when no more come, not after :py:meth:`close`, and not before the first.
    :ivar begun: fires when the first object was handled; fails if none came.
    """

    def __init__(
        self, clock: Any, received: Callable[[dict[str, Any]], None], ended: Callable[[BaseException], None]
    ) -> None:
        super().__init__()
        self._clock = clock
        self._pause: IDelayedCall | None = None
        self._received = received
        self._ended = ended
        self.begun: Deferred[None] = Deferred(lambda _: self.close())

    def dataReceived(self, data: bytes) -> None:
        """Handle the lines that are complete, and read no more for some time."""
        if self._pause is None and self.begun.called and not self._closed:
            self._pause = self._clock.callLater(GATHER_TIME, self._goOn)
            self.transport.pauseProducing()  # type: ignore[union-attr]
        if not self._parts and data.find(b"\n") == len(data) - 1 <= LIMIT:
            # As etcd sends them.
            if not self._closed:
                self._handle(data)
            return
        while not self._closed:
            line, newline, data = data.partition(b"\n")
            if not self._keep(line):
                self.fail(TooLongError(f"etcd sent a line longer than {LIMIT} bytes"))
            if not newline:
                return
            self._handle(self._take())

    def _goOn(self) -> None:
        self._pause = None
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def close(self) -> None:
        """Read no more, and close the connection."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()
        super().close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end. What etcd says last may lack its newline."""
        if not self._closed:
            self._handle(self._take())
        if reason.check(ResponseDone, PotentialDataLoss):
            self.fail(RegistryError("etcd has ended the watch"))
        else:
            self.fail(reason.value or RegistryError("the connection was lost"))

    def fail(self, error: BaseException) -> None:
        """Close it because of an error."""
        if self._closed:
            return
        self.close()
        if self.begun.called:
            self._ended(error)
        else:
            self.begun.errback(error)

    def _handle(self, line: bytes) -> None:
        if not line or line.isspace():
            return
        try:
            value = _parse(line.decode())
        except (ValueError, RecursionError) as error:
            self.fail(RegistryError(f"etcd sent a line that is not JSON: {error}"))
            return
        if type(value) is not dict:
            self.fail(RegistryError(f"etcd sent a line that is no object: {line[:100]!r}"))
            return
        self._received(value)
        if not self.begun.called:
            self.begun.callback(None)
