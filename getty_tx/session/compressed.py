"""
The inbound and outbound of a session whose stream is compressed, and the setting that installs them.

Nothing of it is there in other sessions: a session gets another inbound and another outbound when ``compression`` is
set, which is before a byte goes either way.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, overload

from getty_tx.errors import SettingError
from getty_tx.session.buffers import CHUNK
from getty_tx.session.inbound import LIMIT, WHOLE_READ, Inbound
from getty_tx.session.outbound import Outbound
from getty_tx.session.pausing import CLOSED, QUOTA
from getty_tx.session.slices import TURN
from getty_tx.settings import Setting

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.compression.base import Compressor, Decompressor
    from getty_tx.session.state import SessionState

__all__ = ["CompressedInbound", "CompressedOutbound", "CompressionSetting"]

#: Bytes that a piece counts for at least in an iteration's quota: an empty piece takes time, too.
LEAST = 512


class CompressedOutbound(Outbound):
    """
    As Outbound, for a compressed stream.

    What is written while corked or blocked gathers uncompressed, in ``_raw``, to less than a chunk, and is compressed
    in one piece when it can leave. It belongs behind what is in ``queue``, which is not None then. ``queued`` counts
    both, ``bytesWritten`` what was compressed.
    """

    __slots__ = ("_compressor", "_ended", "_raw", "_rawSize", "description")

    def __init__(self, session: SessionState, transport: Any, description: str, compressor: Compressor) -> None:
        super().__init__(session, transport)
        #: The value of the setting.
        self.description = description
        self._compressor = compressor
        # The end of the compressed stream was written.
        self._ended = False
        self._raw: list[bytes] = []
        self._rawSize = 0

    @property
    def bytesOut(self) -> int:
        """See :py:attr:`Outbound.bytesOut`."""
        return super().bytesOut + self._rawSize

    def write(self, data: bytes, length: int) -> None:
        """Send ``data``, which has ``length`` bytes, compressed, after all that was written before."""
        if not length:
            return
        # The session has counted the uncompressed bytes.
        self.session.bytesWritten -= length
        if not (self.corked or self.blocked):
            data = self._compressor.compress(data)
            self.session.bytesWritten += len(data)
            super().write(data, len(data))
            return
        if self.queue is None:
            self.queue = []
        self._raw.append(data)
        self._rawSize += length
        self.queued += length
        if self._rawSize >= CHUNK:
            self._pack()
            if not self.blocked and self.queued >= CHUNK:
                super().flush()
                return
        if self.blocked:
            self._checkHighWater()

    def _pack(self) -> None:
        """Compress the buffered bytes."""
        raw = self._raw
        if raw:
            data = self._compressor.compress(b"".join(raw))
            self.session.bytesWritten += len(data)
            self.queued += len(data) - self._rawSize
            raw.clear()
            self._rawSize = 0
            assert self.queue is not None
            self.queue.append(data)

    def writev(self, chunks: Any, length: int) -> None:
        """Send the chunks, ``length`` bytes in all, one after the other."""
        self.write(b"".join(chunks), length)

    def sendQueued(self) -> None:
        """Send the buffered bytes now; see :py:meth:`Outbound.sendQueued`."""
        if not self.blocked:
            self._pack()
        super().sendQueued()

    def flush(self) -> None:
        """Send as much as the transport takes."""
        if not self.blocked:
            self._pack()
        super().flush()

    def _drained(self) -> None:
        if self.finishing and not self._ended and self.isFree and not self.hasProducer:
            self._ended = True
            end = self._compressor.end()
            if self.session.inbound.ended:
                self._tryToSend(end)
            elif end:
                self.session.bytesWritten += len(end)
                super().write(end, len(end))
                if not (self.isFree and self.finishing):
                    # This method is called again when those bytes are out.
                    return
        super()._drained()

    def _tryToSend(self, end: bytes) -> None:
        """Send the end of the stream to a peer that has ended its side: a failure does not matter."""
        if self.sink is not None and not self.transport.TLS:
            with suppress(OSError):
                self.session.bytesWritten += self.sink.send(end)

    def limit(self, timeout: float) -> None:
        """All that was written so far must be out in ``timeout`` seconds."""
        # Only then is its place in the stream known.
        self._pack()
        super().limit(timeout)

    def lost(self) -> int:
        """The connection is lost; see :py:meth:`Outbound.lost`."""
        self._raw.clear()
        self._rawSize = 0
        return super().lost()


class CompressedInbound(Inbound):
    """
    As Inbound, for a compressed stream.

    What came is kept compressed, and decompressed a piece at a time, each when the one before is delivered. So a pause
    leaves all that is behind compressed, and a package above ``maxMsgLen`` is refused when a piece more than that is
    there. In a turn of the reactor a bounded number of bytes is decompressed, however many have come in it.
    """

    __slots__ = ("_again", "_draining", "_stream")

    def __init__(self, session: SessionState, outbound: Outbound, stream: Decompressor) -> None:
        super().__init__(session, outbound)
        self._stream = stream
        # _drain is on the stack.
        self._draining = False
        # The call that goes on in the next iteration.
        self._again: IDelayedCall | None = None

    def receive(self, data: bytes, at: int = -1) -> None:
        """Take what the connection read and deliver complete packages. ``at`` is not used."""
        session = self.session
        context = session.context
        length = len(data)
        session.bytesRead += length
        session.activeAt = context.seconds()
        if length < WHOLE_READ == self._readSize:
            context.briefReads += 1
        else:
            self._adaptReadSize(length)
        if self.paused & CLOSED:
            return
        stream = self._stream
        stream.feed(data)
        if not (self.paused or session.inCallback):
            self._drain()
        elif stream.held > LIMIT:
            self._stopReading()

    def _drain(self) -> None:
        """Decompress and deliver until paused, done, or this iteration's quota is used up."""
        session = self.session
        stream = self._stream
        share = TURN
        self._draining = True
        try:
            while not self.paused:
                if self._isDue:
                    self._deliver(*self._takeBuffered())
                elif not stream.more:
                    break
                elif share <= 0:
                    self.paused |= QUOTA
                    self._again = session.context.reactor.callLater(0, self._goOn)
                else:
                    data = stream.read()
                    share -= max(len(data), LEAST)
                    if not data:
                        continue
                    if self._chunks is None:
                        self._deliver(data, 0)
                    else:
                        self._buffer(data)
        except BaseException as error:
            session.readFailed(error)
        self._draining = False
        session.dispatchEvents()

    def _goOn(self) -> None:
        self._again = None
        self.resume(QUOTA)

    @property
    def _isDue(self) -> bool:
        """True if the codec can be asked about the decompressed bytes."""
        return self._chunks is not None and self.unread >= self._need

    def deliverBuffered(self) -> bool:
        """See :py:meth:`Inbound.deliverBuffered`."""
        if self._draining:
            # Called from within a delivery: _drain goes on when that has returned.
            return True
        if self._isDue or self._stream.more:
            self._drain()
            return True
        return super().deliverBuffered()

    @property
    def hasDeliverable(self) -> bool:
        """False: :py:meth:`deliverBuffered` delivers all that it can."""
        return False

    @property
    def hasRest(self) -> bool:
        """See :py:attr:`getty_tx.session.inbound.Inbound.hasRest`."""
        return (self._isDue or self._stream.more) and not self.paused & CLOSED

    def startTLS(self) -> None:
        """Refuse: TLS cannot begin in the middle of a compressed stream.

        :raise SettingError: always.
        """
        raise SettingError(
            f"compression={self.session.outbound.description!r} leaves no place for startTLS:"
            " dial tls:, serve ssl:, or leave compression None"
        )

    def close(self) -> None:
        """Drop the buffered bytes and discard all later ones."""
        super().close()
        self._stream.clear()
        again, self._again = self._again, None
        if again is not None:
            again.cancel()
            self.paused &= ~QUOTA


def _check(setting: str, value: Any) -> str | None:
    if value is None:
        return None
    # Loaded with the first session that is compressed.
    from getty_tx.compression.formats import checkCompression

    return checkCompression(setting, value)


class CompressionSetting(Setting[str | None]):
    """
    ``session.compression``.

    :param refusal: why this kind of session has no compression, and what to use instead.
    """

    def __init__(self, refusal: str = "") -> None:
        doc = "How both directions of the stream are compressed, such as 'deflate:level=6'; None: not at all."
        super().__init__(_check, None, doc)
        self._refusal = refusal

    # Few sessions are compressed; their outbound knows the value.
    hasSlot = False

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[str | None]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> str | None: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Setting[str | None] | str | None:
        if instance is None:
            return self
        outbound = instance.outbound
        return outbound.description if type(outbound) is CompressedOutbound else None

    def __set__(self, instance: Any, value: Any) -> None:
        """Set it, in newSession.

        :raise SettingError: the value is invalid, the kind of session has no compression, or it is too late.
        """
        checked = self._check(self.name, value)
        if self._refusal:
            if checked is not None:
                raise SettingError(f"{self.name}={value!r}: {self._refusal}")
            return
        outbound = instance.outbound
        isOpen = instance.isClosed or instance in instance.context.sessions
        if isOpen or instance.bytesWritten or outbound.blockedState is not None:
            raise SettingError(
                f"{self.name}={value!r} comes too late: both sides must have it from the first byte on, so set it in"
                " newSession, before anything is written"
            )
        _replace(instance, checked)


def _replace(session: Any, description: str | None) -> None:
    """Replace the inbound and outbound of a session that has not read or written yet."""
    transport = session.outbound.transport
    before = session.inbound
    if description is None:
        outbound = session.outboundType(session, transport)
        inbound = session.inboundType(session, outbound)
    else:
        from getty_tx.compression.formats import findFormat

        form = findFormat(description)
        outbound = CompressedOutbound(session, transport, description, form.compressor())
        inbound = CompressedInbound(session, outbound, form.decompressor())
    inbound.paused, inbound.readingStopped = before.paused, before.readingStopped
    # It may have zeroCopy.
    outbound.sink = session.outbound.sink
    session.outbound, session.inbound = outbound, inbound
    session.transport._outbound = outbound
