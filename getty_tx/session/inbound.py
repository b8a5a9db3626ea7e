"""
The way in: bytes to packages to the listener.

``receive`` takes what the connection read and delivers every complete package in it before it returns, with the
outbound corked meanwhile. It stops in between when something pauses the session, keeps the rest, and goes on from
there in ``resume``. Unread bytes wait as :py:mod:`getty_tx.session.gathering` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.interfaces import Until
from getty_tx.session.gathering import Searched, add, joined
from getty_tx.session.pausing import CALLS, CLOSED, HOLDS_QUEUED, PRESSURE, RATE, RELAY, TLS, USER, WORKERS

if TYPE_CHECKING:
    from getty_tx.session.gathering import Chunk
    from getty_tx.session.outbound import Outbound
    from getty_tx.session.state import SessionState

__all__ = ["Inbound"]

#: Pause reasons that stop the connection at once. For other reasons it stops when LIMIT bytes are buffered, so that an
#: async callback that returns soon costs no system call.
_AT_ONCE = USER | PRESSURE | WORKERS | RELAY | RATE | CALLS

#: Buffered bytes above which the connection is stopped even if the pause reason alone would not do it.
LIMIT = 64 * 1024

#: Bytes. A shorter rest of a read is copied, so that it does not keep the read alive. A longer one is a part of a large
#: package, which is joined anyway: a copy would be one more.
LITTLE = 16 * 1024

#: Bytes of one read when no other session waits. 64 KiB, Twisted's default, would make two reads of a package of 64 KiB
#: and its header, a second iteration, and a copy to join them: 1.7 times the time for a package with 256 such
#: connections. From 128 KiB on glibc may map and unmap a buffer for each read (mallopt(3), M_MMAP_THRESHOLD).
WHOLE_READ = 120 * 1024

#: Bytes of one read when one other session waits. At 4 KiB the p99 of that session is 3.4 times its p99 alone, at 1.5
#: KiB 2.8 times (benchmarks.acceptance fairness).
SHARED_READ = 1536


class Inbound:
    """
    What came in for one session and is not delivered yet.

    :ivar paused: the reasons for which delivery is paused, bits of :py:mod:`getty_tx.session.pausing`; 0: none.
    :ivar several: True while a list of more than one package is being given to ``onMessages``; then the Deferred of an
        async one, or None.
    :ivar unread: buffered bytes.
    :ivar ended: the peer has ended its side of the stream.
    :ivar inHandshake: a TLS handshake of ``startTLS`` is under way.
    """

    __slots__ = (
        "_chunks",
        "_need",
        "_offset",
        "_readSize",
        "ended",
        "inHandshake",
        "outbound",
        "paused",
        "readingStopped",
        "session",
        "several",
        "unread",
    )

    #: Several packages may come in one read, and be given to a listener as a list.
    readsLists = True

    #: The codec finds the packages, so that lists need its ``readMany``.
    readsStream = True

    def __init__(self, session: SessionState, outbound: Outbound) -> None:
        self.session = session
        self.outbound = outbound
        self.paused = 0
        self.ended = False
        self.unread = 0
        self._chunks: list[Chunk] | None = None
        # Delivered bytes at the front of the first chunk.
        self._offset = 0
        # Unread bytes with which the codec is asked again; 0: it was not asked, or could not say.
        self._need = 0
        self._readSize = WHOLE_READ
        self.inHandshake = False
        self.several: object = None
        # The connection was told to stop reading.
        self.readingStopped = False

    def _adaptReadSize(self, length: int) -> None:
        """
        The read filled its buffer: size the next one by how many others wait.

        Delivering a whole buffer of small packages takes a tenth of a millisecond, which is several round trips of a
        session that has only one package to wait for. With a few such sessions about, the full pipe reads less at a
        time; with many, its share of a turn is small anyway, and with none there is nobody to be fair to.
        """
        context = self.session.context
        brief, context.briefReads = context.briefReads, 0
        # Without others the size doubles: a session that waits for its answer is silent for an iteration or two.
        size = min(SHARED_READ * brief if brief else self._readSize * 2, WHOLE_READ)
        if size != self._readSize and self.outbound.setReadSize(size):
            self._readSize = size

    def _buffer(self, data: bytes) -> None:
        self.unread += len(data)
        chunks = self._chunks
        if chunks is None:
            self._chunks = [data]
            return
        if type(chunks) is Searched and (chunks.completedBy(data) or chunks.decoder is not self.session.decoder):
            self._need = 0
        add(chunks, data, self.unread, self._need)

    def _takeBuffered(self) -> tuple[bytes, int]:
        """Take all buffered bytes, as one object and the count of delivered bytes at its front."""
        chunks, offset = self._chunks, self._offset
        assert chunks is not None
        self._chunks = None
        self.unread = self._offset = self._need = 0
        return joined(chunks, offset)

    def _deliver(self, data: bytes, at: int = -1) -> None:
        """
        Deliver the packages in ``data`` from ``at`` on; keep what is left when there are no more, or when paused.

        Without ``at`` the data is what has just come: it is counted, and may have to wait, or be joined to what waits.
        """
        session = self.session
        outbound = self.outbound
        end = len(data)
        if at < 0:
            context = session.context
            session.bytesRead += end
            # In two steps: Python calls a local faster than an attribute that is no method.
            seconds = context.seconds
            session.activeAt = seconds()
            if end < WHOLE_READ == self._readSize:
                context.briefReads += 1
            else:
                self._adaptReadSize(end)
            if self.paused or session.inCallback:
                self._bufferForLater(data)
                return
            at = 0
            if self._chunks is not None:
                self._buffer(data)
                if self.unread < self._need:
                    return
                data, at = self._takeBuffered()
                end = len(data)
        need = 0
        outbound.corked = True
        session.inCallback = True
        try:
            while at < end and not self.paused:
                batches = session.readsBatches
                if batches:
                    reader = session.decoder
                    before = at
                    found = reader.readMany(session, data, at, session._maxMsgLen)
                    if batches > 1 and found and (len(found) > 1 or found[0][1] != end):
                        self._readAll(found, data, at)
                        if len(found) > 1:
                            at = self._deliverList(found)
                            # Nothing more was found, unless the codec is another one now.
                            before = at if session.decoder is reader else -1
                            found = ()
                    for pkg, stop in found:
                        if stop <= at or stop > end:
                            raise CodecError(f"the codec ends a package at byte {stop} of {end}", session)
                        at = stop
                        session.pkgsRead += 1
                        try:
                            result = session.receiver.onMessage(session, pkg)
                        except BaseException as error:
                            session.callbackFailed(error)
                        else:
                            if result is not None:
                                session.awaitCallback(result)
                        if self.paused or session.decoder is not reader:
                            break
                    if at == end or self.paused:
                        break
                    if at != before:
                        continue
                # The rest is incomplete or invalid, or the codec reads one package at a time.
                answer = session.decoder.read(session, memoryview(data)[at:])
                if type(answer) is not tuple or len(answer) != 2 or type(answer[1]) is not int:
                    need = _awaited(answer, session)
                    self._checkNeed(0, end - at)
                    break
                pkg, length = answer
                left = end - at
                if pkg is None:
                    self._checkNeed(length, left)
                    # After (None, 0) the codec is asked again when one more byte is there.
                    need = length or left + 1
                    break
                if not 0 < length <= left:
                    raise CodecError(f"the codec answered a package of {length} bytes where {left} are there", session)
                if length > session._maxMsgLen:
                    raise _tooLong(length, session)
                at += length
                session.pkgsRead += 1
                try:
                    result = session.receiver.onMessage(session, pkg)
                except BaseException as error:
                    session.callbackFailed(error)
                else:
                    if result is not None:
                        session.awaitCallback(result)
        except BaseException as error:
            session.readFailed(error)
        if self.paused and self.paused & TLS:
            self.paused &= ~TLS
            if at < end:
                session.readFailed(_beforeTLS(session))
        if at < end and not self.paused & CLOSED:
            self._bufferRest(data, at, need)
        del data
        if outbound.queue is not None:
            outbound.uncork()
        else:
            outbound.corked = False
        session.inCallback = False
        if self.readingStopped or self.ended or session.needsDispatch or self._chunks is not None:
            session.dispatchEvents()

    def _readAll(self, found: list[tuple[Any, int]], data: bytes, at: int) -> None:
        """
        Add to the packages from ``at`` on that ``readMany`` has found all others in ``data``.

        :raise CodecError: one of them has an end that cannot be.
        """
        session = self.session
        readMany = session.decoder.readMany
        end = len(data)
        more = found
        while more:
            stop = more[-1][1]
            if stop <= at or stop > end:
                raise CodecError(f"the codec ends a package at byte {stop} of {end}", session)
            if stop == end:
                break
            at = stop
            more = readMany(session, data, at, session._maxMsgLen)
            found += more

    def _deliverList(self, found: list[tuple[Any, int]]) -> int:
        """Deliver several packages in one call; returns their end."""
        session = self.session
        packages = [pkg for pkg, _ in found]
        session.pkgsRead += len(packages)
        self.several = True
        try:
            result = session.receiver.onMessages(session, packages)
        except BaseException as error:
            session.callbackFailed(error)
        else:
            if result is not None:
                session.awaitCallback(result)
        self.several = session.awaiting
        return found[-1][1]

    # Connections call it with what they read. An alias, not a method that calls it: one call less for each read.
    receive = _deliver

    def _bufferForLater(self, data: bytes) -> None:
        """Paused or re-entered: buffer the data."""
        session = self.session
        if not self.paused & CLOSED:
            self._buffer(data)
            session.needsDispatch |= session.inCallback
            if self.unread > LIMIT:
                self._stopReading()

    def _bufferRest(self, data: bytes, at: int, need: int) -> None:
        end = len(data)
        if at > end - at and (end - at < LITTLE or end > WHOLE_READ):
            # Less is left than was delivered: copy it and release the large buffer.
            data = data[at:]
            at = 0
        # A callback may have made the connection read more; that belongs behind the rest.
        later, self._chunks = self._chunks, [data]
        if type(need) is Until and later is None:
            self._chunks = Searched(data, at, need, self.session.decoder)
            # Without the mark the codec is asked when there is more than a package may have.
            need = self.session._maxMsgLen + 1
        self.unread += len(data) - at
        self._offset = at
        self._need = need
        if later is not None:
            self._chunks += later

    def _checkNeed(self, length: int, left: int) -> None:
        """Check an answer (None, length) of the codec, where ``left`` bytes are there."""
        session = self.session
        if length == 0:
            if left > session._maxMsgLen:
                raise _tooLong(left, session)
        elif length <= left:
            raise CodecError(f"the codec asks for {length} bytes in all where {left} are there already", session)
        elif length > session._maxMsgLen:
            raise _tooLong(length, session)

    # Pausing

    def pause(self, reason: int) -> None:
        """Stop delivering, and reading if the reason asks for it."""
        self.paused |= reason
        if reason & _AT_ONCE:
            self._stopReading()

    def resume(self, reason: int) -> None:
        """Remove a pause reason; after the last one deliver what is buffered, then read on."""
        if self.paused & reason:
            self.paused &= ~reason
            session = self.session
            if session.work is not None and not self.paused & HOLDS_QUEUED:
                session.work.release()
            if session.inCallback:
                session.needsDispatch = True
            else:
                session.dispatchEvents()

    def deliverBuffered(self) -> bool:
        """
        Nothing pauses and no callback runs: deliver what is kept.

        :return: False when there was nothing that could be delivered; the connection reads again then.
        """
        if self.hasDeliverable:
            self._deliver(*self._takeBuffered())
            return True
        if self.readingStopped:
            self.readingStopped = False
            if not self.ended:
                self.session.connection.resumeReading()
        return False

    @property
    def hasDeliverable(self) -> bool:
        """True if the codec can be asked about the buffered bytes."""
        return self._chunks is not None and self.unread >= self._need

    @property
    def hasPartial(self) -> bool:
        """True while undelivered input is buffered, such as a part of a package."""
        return self.unread > 0

    @property
    def hasRest(self) -> bool:
        """True if a lost connection left packages that may be delivered."""
        return self.hasDeliverable and not self.paused & CLOSED

    def takeRest(self) -> bytes:
        """Take all bytes that came and were not delivered."""
        if self._chunks is None:
            return b""
        data, at = self._takeBuffered()
        return data[at:]

    def _stopReading(self) -> None:
        if not (self.readingStopped or self.ended or self.paused & CLOSED):
            self.readingStopped = True
            if not self.inHandshake:
                self.session.connection.pauseReading()

    def startTLS(self) -> None:
        """
        Nothing that came in clear may be taken for something encrypted.

        :raise CodecError: unread bytes are here, or the listener has a list of several packages. Those behind the
            package that is being delivered fail it later.
        """
        session = self.session
        if self.unread or self.several is True or (self.several is not None and self.several is session.awaiting):
            raise _beforeTLS(session)
        if session.inCallback:
            self.paused |= TLS

    def beginHandshake(self) -> None:
        """TLS was started: read its handshake even if the session is paused."""
        self.inHandshake = True
        if self.readingStopped:
            self.session.connection.resumeReading()

    def endHandshake(self) -> None:
        """The handshake is done: stop reading again if the session is paused."""
        self.inHandshake = False
        if self.readingStopped:
            self.session.connection.pauseReading()

    def close(self) -> None:
        """Drop the buffered bytes and discard all later ones: unread input would turn the close into a reset."""
        self.paused |= CLOSED
        if self.session.work is not None:
            self.session.work.drop()
        self._chunks = None
        self.unread = self._offset = self._need = 0
        if self.readingStopped:
            self.readingStopped = False
            if not self.ended:
                self.session.connection.resumeReading()


def _awaited(answer: object, session: SessionState) -> Until:
    """What the codec waits for, if the answer is (None, Until(mark))."""
    if type(answer) is tuple and len(answer) == 2 and answer[0] is None and type(answer[1]) is Until:
        return answer[1]
    raise CodecError(f"the codec answered {type(answer).__name__}, not (package, length)", session)


def _beforeTLS(session: SessionState) -> CodecError:
    return CodecError("bytes in clear came behind the package that started TLS", session)


def _tooLong(length: int, session: SessionState) -> MessageTooLongError:
    return MessageTooLongError(f"a package of {length} bytes is longer than maxMsgLen={session._maxMsgLen}", session)
