"""HTTP/1.1 as a codec: requests, parts of bodies, and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.http.body import Body, BodyPart
from getty_tx.http.chunks import Chunks
from getty_tx.http.fields import CHUNKED
from getty_tx.http.head import checkBeginning, parseHead
from getty_tx.http.refusals import Refused
from getty_tx.http.request import Request
from getty_tx.interfaces import IBatchReader, IReadWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.context import HTTPContext

__all__ = ["HTTPCodec", "Preface"]

#: Requests that are decoded in one call, at most: those behind a pause are decoded again.
MAX_REQUESTS = 16

#: Empty lines before a request that are passed over (RFC 9112, 2.2, has one).
MAX_EMPTY_LINES = 2

#: Bytes of a head that is kept to be compared with the next one, at most. Each connection keeps one.
MAX_LAST = 256

_END = b"\r\n\r\n"

#: What a client of HTTP/2 sends first (RFC 9113, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Preface:
    """
    A package: the client speaks HTTP/2.

    :ivar data: all that has come, with the preface.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


@implementer(IReadWriter, IBatchReader)
class HTTPCodec:
    """
    Reads the requests of one connection.

    It finds the end of a head itself, and cuts bodies by their length or their chunks: so no byte of a body is ever
    read as a request, whatever the fields ask for. Packages are :py:class:`~getty_tx.http.Request`, with the body if
    all of it has come; then :py:class:`~getty_tx.http.body.BodyPart` where it had not; and
    :py:class:`~getty_tx.http.refusals.Refused`, behind which nothing is to be read.

    :param context: the limits.
    :param whenBegun: called when a part of a head has come, and the rest has not.

    :ivar inHead: a part of a head has come.
    """

    __slots__ = ("_body", "_context", "_last", "_whenBegun", "inHead")

    def __init__(self, context: HTTPContext, whenBegun: Callable[[], object]) -> None:
        self._context = context
        self._whenBegun = whenBegun
        # What is left of a body: bytes, or its chunks.
        self._body: int | Chunks = 0
        # The last head, and what it says: a client that polls sends the same bytes again.
        self._last: tuple[bytes, str, bytes, Any] = (b"", "", b"", None)
        self.inHead = False

    @property
    def inBody(self) -> bool:
        """A part of a body has not come yet."""
        return self._body != 0

    @property
    def left(self) -> int | None:
        """Bytes of the body that have not come; None: it comes in chunks."""
        return self._body if isinstance(self._body, int) else None

    def write(self, session: Any, pkg: bytes) -> bytes:
        """Answers are bytes already."""
        return pkg

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """Take requests of which all has come, bodies included."""
        found: list[tuple[Any, int]] = []
        if self._body or self.inHead:
            return found
        context = self._context
        last, method, target, fields = self._last
        while True:
            if last and data.startswith(last, at):
                stop = at + len(last)
                request = Request(method, target, "1.1", fields)
            else:
                stop = data.find(_END, at, at + context._maxHead) + 4
                if stop == 3 or data[at] < 32:
                    return found
                try:
                    request = parseHead(data, at, stop, context)
                except Refused:
                    return found
                if stop - at <= MAX_LAST and request.version == "1.1":
                    method, target, fields = request.method, request.target, request.fields
                    last = data[at:stop]
                    self._last = last, method, target, fields
            length = request.fields.length
            if length:
                body = stop
                stop += length
                if length < 0 or stop > len(data) or stop - at > limit:
                    return found
                request.content = data[body:stop]
            found.append((request, stop))
            at = stop
            if len(found) == MAX_REQUESTS:
                return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """Take the next request, or the next part of a body."""
        try:
            if self._body:
                return self._readBody(session, data)
            return self._readHead(session, data)
        except Refused as refused:
            if self._context.speaksTwo and not session.pkgsRead:
                begin = bytes(data[: len(PREFACE)])
                if begin == PREFACE:
                    # The only package: what follows is read by another codec.
                    size = min(len(data), session.maxMsgLen)
                    return Preface(bytes(data[:size])), size
                if PREFACE.startswith(begin):
                    if not self.inHead:
                        self.inHead = True
                        self._whenBegun()
                    return None, len(PREFACE)
            return refused, min(len(data), session.maxMsgLen)

    def _readHead(self, session: Any, data: memoryview) -> tuple[Any, int]:
        context = self._context
        raw = bytes(data[: context._maxHead + 2 * MAX_EMPTY_LINES + 1])
        at = 0
        while raw.startswith(b"\r\n", at):
            at += 2
            if at > 2 * MAX_EMPTY_LINES:
                raise Refused(400, f"more than {MAX_EMPTY_LINES} empty lines come before a request")
        stop = raw.find(_END, at) + 4
        if stop == 3:
            checkBeginning(raw, at, context)
            if not self.inHead and at < len(raw):
                self.inHead = True
                self._whenBegun()
            return None, 0
        request = parseHead(raw, at, stop, context)
        self.inHead = False
        length = request.fields.length
        if length:
            end = stop + length
            if length > 0 and end <= len(data) and end <= session.maxMsgLen:
                request.content = bytes(data[stop:end])
                return request, end
            request.content = None
            request.isUsual = False
            request.body = Body(request)
            self._body = Chunks(context._maxHead, context._maxFields) if length == CHUNKED else length
        return request, stop

    def _readBody(self, session: Any, data: memoryview) -> tuple[Any, int]:
        body = self._body
        if isinstance(body, int):
            size = min(body, len(data), session.maxMsgLen)
            self._body = body - size
            return BodyPart(bytes(data[:size]), body == size), size
        part, size = body.read(bytes(data[: session.maxMsgLen]))
        if part is not None and part.isLast:
            self._body = 0
        return part, size
