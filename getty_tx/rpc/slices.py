"""
Long requests and replies in slices, so that others of the session need not wait for the whole of them.

A session is asked for room as by any producer: there is a next slice when all before it has left. Between two slices
leaves what else is written. Long messages take turns, :py:data:`MOST` at a time. The end that gets them puts them
together.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from getty_tx.errors import CodecError, MessageTooLongError, SessionBlockedError, SessionClosedError
from getty_tx.rpc.messages import DROP, LAST, MORE, OVERHEAD, Cancel, Feature, Pong, Reply, Request, Slice

if TYPE_CHECKING:
    from getty_tx.rpc.peer import Peer
    from getty_tx.session.session import Session

__all__ = ["WHOLE", "Slices"]

#: Bytes of a slice: its frame is what a session gives its transport at a time.
SLICE = 64 * 1024 - OVERHEAD

#: Bytes of a payload that goes whole, at most. In two slices 70 KB take twice the CPU time; 128 KiB take the same.
WHOLE = 128 * 1024

#: Bytes of a slice that is not the last, at least: the pieces of a message are not to cost more than its bytes.
LEAST = 4096

#: Messages of one end that may be half sent.
MOST = 4

#: Seconds without progress after which a session is read on, although long replies wait.
STALL = 0.2


class _Outgoing:
    """A message that is being sent."""

    __slots__ = ("at", "isDropped", "message", "payload", "until")

    def __init__(self, message: Request | Reply, until: float | None) -> None:
        self.message = message
        self.payload = memoryview(message.payload)
        # What has left of it.
        self.at = 0
        # When the call's time is over.
        self.until = until
        self.isDropped = False

    @property
    def left(self) -> int:
        return len(self.payload) - self.at


class _Incoming:
    """What has come of a message."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0


@implementer(IPullProducer)
class Slices:
    """
    The long messages of one peer, of both directions.

    :param peer: the peer.
    :ivar queued: bytes that wait here to be sent.
    :ivar halves: what has come of messages, by whether they are replies and their number.
    """

    __slots__ = (
        "_hasMoved",
        "_owesPong",
        "_peer",
        "_replies",
        "_replyBytes",
        "_sending",
        "_timer",
        "_waiting",
        "halves",
        "queued",
    )

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.halves: dict[tuple[bool, int], _Incoming] = {}
        self.queued = 0
        # Those that take turns, and those behind them.
        self._sending: deque[_Outgoing] | None = None
        self._waiting: deque[_Outgoing] | None = None
        # Replies among them, and their bytes.
        self._replies = self._replyBytes = 0
        # It runs while the session is not read because of them.
        self._timer: Any = None
        self._hasMoved = False
        self._owesPong = False

    # Out

    def write(self, message: Request | Reply) -> None:
        """
        Send a long message, in slices if the other end understands them.

        :raise Exception: as ``session.writePkg`` does. What waits here counts as pending there.
        """
        peer = self._peer
        session = peer.session
        isFirst = not self._sending
        codec: Any = peer.codec
        understood = Feature.SLICES in codec.understood and peer.context.can(Feature.SLICES)
        if not understood or (isFirst and session.outbound.hasProducer):
            session.writePkg(message)
            return
        if session.isClosed:
            raise SessionClosedError(f"{session} is closed", session)
        if session.outbound.refuses(self.queued):
            waiting = session.pendingBytes + self.queued
            raise SessionBlockedError(
                f"{session} is blocked: {waiting} bytes are pending, more than maxPending={session.maxPending}", session
            )
        codec.check(session, message)
        timeout = message.timeout if type(message) is Request else None
        outgoing = _Outgoing(message, None if timeout is None else session.context.seconds() + timeout)
        if self._sending is None or self._waiting is None:
            self._sending, self._waiting = deque(), deque()
        (self._sending if len(self._sending) < MOST else self._waiting).append(outgoing)
        self._count(outgoing, outgoing.left)
        if type(message) is Reply:
            self._replies += 1
            if self.isHigh:
                peer.incoming.hold()
                self._watch()
        if isFirst:
            session.transport.registerProducer(self, False)

    def _count(self, outgoing: _Outgoing, size: int) -> None:
        self.queued += size
        if type(outgoing.message) is Reply:
            self._replyBytes += size

    def resumeProducing(self) -> None:
        """All that was written has left: write the next slice."""
        sending = self._sending
        assert sending
        outgoing = sending.popleft()
        part = self._next(outgoing)
        self._hasMoved = True
        if part.kind == MORE:
            sending.append(outgoing)
        else:
            self._ended(outgoing)
        session = self._peer.session
        if session.isClosed:
            # close() waits until all is sent.
            session.transport.write(self._peer.codec.write(session, part))
        else:
            session.writePkg(part)
        self._afterwards()

    def _next(self, outgoing: _Outgoing) -> Slice:
        message = outgoing.message
        isReply = type(message) is Reply
        if outgoing.isDropped:
            return Slice(message.id, isReply, DROP, b"")
        at = outgoing.at
        part = outgoing.payload[at : at + SLICE]
        outgoing.at += len(part)
        self._count(outgoing, -len(part))
        if outgoing.left:
            return Slice(message.id, isReply, MORE, part)
        if outgoing.until is not None and type(message) is Request:
            message.timeout = max(outgoing.until - self._peer.session.context.seconds(), 0.001)
        return Slice(message.id, isReply, LAST, part, message)

    def _ended(self, outgoing: _Outgoing) -> None:
        """It has left, or will not: there is a place for one that waits."""
        if type(outgoing.message) is Reply:
            self._replies -= 1
        if self._sending is not None and self._waiting:
            self._sending.append(self._waiting.popleft())

    def _afterwards(self) -> None:
        if not self._sending:
            self._peer.session.transport.unregisterProducer()
        if self._owesPong:
            self.pong()
        if self._timer is not None and not self.isHigh:
            self._readOn()

    def pong(self) -> None:
        """
        Answer a ping, behind the requests that are here: an end that is going away takes it for the end of them.

        Meanwhile their slices are signs of life.
        """
        session = self._peer.session
        self._owesPong = len(self._sending or ()) + len(self._waiting or ()) > self._replies
        if not self._owesPong and not session.isClosed:
            with suppress(SessionBlockedError):
                session.writePkg(Pong())

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.stop()

    def stop(self) -> None:
        """The session has failed or ended: forget all."""
        self.halves.clear()
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        isProducer = bool(self._sending)
        self._sending = self._waiting = None
        self.queued = self._replies = self._replyBytes = 0
        self._owesPong = False
        if isProducer:
            self._peer.session.transport.unregisterProducer()

    def forget(self, isReply: bool, number: int) -> None:
        """Nobody waits for what is left of this message."""
        if self._sending is None or self._waiting is None:
            return
        for queue in (self._sending, self._waiting):
            for outgoing in queue:
                message = outgoing.message
                if message.id == number and (type(message) is Reply) is isReply and not outgoing.isDropped:
                    self._count(outgoing, -outgoing.left)
                    if outgoing.at and not isReply:
                        # The other end has a part of it.
                        outgoing.isDropped = True
                        return
                    queue.remove(outgoing)
                    if queue is self._sending:
                        self._ended(outgoing)
                    elif isReply:
                        self._replies -= 1
                    self._afterwards()
                    return

    def cancel(self, number: int) -> None:
        """A caller here waits no longer: tell the other end, and neither send nor keep a part of the call."""
        self.forget(False, number)
        self.halves.pop((True, number), None)
        self._peer.tell(Feature.CANCEL, Cancel(number))

    # What waits because the other end does not read

    @property
    def isHigh(self) -> bool:
        """So many long replies wait that the session is not to be read, as it would bring more."""
        return self._replies > 1 and self._replyBytes > self._peer.session.maxPending // 2

    @property
    def holds(self) -> bool:
        """The session is not read because of them."""
        return self._timer is not None

    def _watch(self) -> None:
        if self._timer is None:
            self._hasMoved = False
            self._timer = self._peer.session.context.wheel.schedule(STALL, self._look, None)

    def _look(self, _: None) -> None:
        """
        The session is not read: perhaps the other end does not read either, for the same reason.

        Then it is read until the next long reply, as long as that one is not refused.
        """
        self._timer = None
        session = self._peer.session
        if self._hasMoved or session.outbound.refuses(self.queued):
            self._watch()
        else:
            self._readOn()

    def _readOn(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._peer.incoming.afterwards()

    # In

    def receive(self, part: Slice) -> None:
        """Take a slice. The message goes to the peer when it is complete."""
        peer = self._peer
        key = part.isReply, part.id
        half = self.halves.get(key)
        if part.kind == DROP or (part.isReply and part.id not in peer.pending):
            # Nobody waits for it, or not any more.
            self.halves.pop(key, None)
            if part.whole is not None:
                peer.onMessage(peer.session, part.whole)
            return
        session = peer.session
        size = len(part.payload)
        if half is None:
            if part.kind == MORE and not self._hasPlace():
                session.readFailed(CodecError(f"the peer has sent parts of more than {MOST} messages", session))
                return
            half = self.halves[key] = _Incoming()
        if part.kind == MORE and size < LEAST:
            session.readFailed(CodecError(f"a slice of {size} bytes is not the last and below {LEAST}", session))
            return
        half.size += size
        if half.size > session.maxMsgLen:
            session.readFailed(_tooLong(half.size, session))
            return
        half.parts.append(part.payload)
        whole = part.whole
        if whole is not None:
            del self.halves[key]
            whole.payload = b"".join(half.parts)
            peer.onMessage(session, whole)

    def _hasPlace(self) -> bool:
        """Whether a message more may be half received."""
        halves = self.halves
        pending = self._peer.pending
        # Their calls have ended in another way.
        for key in [key for key in halves if key[0] and key[1] not in pending]:
            del halves[key]
        return len(halves) < MOST


def _tooLong(size: int, session: Session) -> MessageTooLongError:
    return MessageTooLongError(f"slices of {size} bytes are longer than maxMsgLen={session.maxMsgLen}", session)
