"""
``relay(a, b)``: two sessions over streams, joined byte for byte.

Each session gets a :py:class:`RelayInbound`, which hands what comes to the other session's outbound instead of a codec.
Where both have plain sockets, :py:mod:`getty_tx.session.splicing` takes the place of the reads. An outbound that has
more than its ``highWater`` stops the other session's reading, until it is down to ``lowWater``: each direction by
itself, so that a slow one does not stop the other.

What follows from an end is decided in one place, ``Relay.settle``, in an iteration of the reactor of its own, when no
callback of either session is on the stack.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail

from getty_tx.errors import CodecError, SessionClosedError, SessionError, SettingError
from getty_tx.session.inbound import LIMIT, WHOLE_READ, Inbound
from getty_tx.session.pausing import CALLBACK, CLOSED, PRESSURE, RELAY
from getty_tx.session.splicing import Splicer
from getty_tx.session.states import LOST, OPEN
from getty_tx.session.wrappers import isOnSocket

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.session.session import Session

__all__ = ["Direction", "RelayInbound", "relay"]


def relay(a: Session, b: Session) -> Deferred[None]:
    """
    Join two sessions: what comes to one leaves by the other, both ways. Call on the reactor's thread.

    Bytes that are buffered and not delivered go first. From now on neither codec nor ``onMessage`` is asked; the other
    events come as before. When the peer of one side ends its stream, the other side's is ended, too, and the other
    direction goes on. When both have ended, both sessions are closed. A session that is closed here closes the other,
    which sends what it has; one that fails fails the other at once, whose peer must not take that for the end.

    :return: fires when both connections have gone; fails with a SessionClosedError if one of them failed, or was
        closed already.
    :raise CodecError: a session has messages instead of a stream, is joined already, or to itself.
    :raise SettingError: a stream is compressed.
    """
    for session, other in ((a, b), (b, a)):
        if get_ident() != session._thread:
            raise SessionError("relay is for the reactor's thread: reactor.callFromThread(relay, a, b)", session)
        if session.state > OPEN:
            other.close()
            return fail(SessionClosedError(f"{session} is closed: there is nothing to relay", session))
        if session.compression is not None:
            raise SettingError(f"compression={session.compression!r} leaves no place for relay: leave it None")
        if type(session.inbound) is RelayInbound or session.inbound.paused & RELAY:
            raise CodecError(f"{session} is joined already", session)
        if type(session.inbound) is not Inbound:
            raise CodecError(f"relay joins streams, and {session} has messages: write them in onMessage", session)
    if a is b:
        raise CodecError(f"{a} cannot be joined to itself", a)
    return Relay(a, b).deferred


class Relay:
    """
    Two joined sessions.

    :ivar deferred: what ``relay`` returns.
    """

    __slots__ = ("_directions", "_error", "_later", "_sessions", "deferred")

    def __init__(self, a: Session, b: Session) -> None:
        self.deferred: Deferred[None] = Deferred()
        self._sessions = a, b
        self._directions: tuple[Direction, ...] = ()
        self._error: SessionError | None = None
        for session in self._sessions:
            # A delivery that is on the stack stops behind its package.
            session.inbound.pause(RELAY)
        self._later: IDelayedCall | None = a.context.reactor.callLater(0, self._start)

    def _start(self) -> None:
        """No callback of the sessions is on the stack: replace their inbounds."""
        self._later = None
        a, b = self._sessions
        there, back = Direction(self, a, b), Direction(self, b, a)
        there.back, back.back = back, there
        self._directions = there, back
        inbounds = RelayInbound(a.inbound, there), RelayInbound(b.inbound, back)
        for inbound in inbounds:
            inbound.takePlace()
        for inbound in inbounds:
            inbound.begin()
        self.settleSoon()

    def settleSoon(self) -> None:
        """Something has ended: see in the next iteration what follows."""
        if self._later is None and not self.deferred.called:
            self._later = self._sessions[0].context.reactor.callLater(0, self._settle)

    def _settle(self) -> None:
        self._later = None
        a, b = self._sessions
        for session, other in ((a, b), (b, a)):
            if session.state > OPEN and self._error is None and session.error is not None:
                why = session.error
                text = f"the relay of {session} and {other} broke: the former ended with {type(why).__name__}: {why}"
                self._error = SessionClosedError(text, session)
                self._error.__cause__ = why
            if session.state > OPEN and other.state <= OPEN:
                if self._error is None:
                    other.close()
                else:
                    other.fail(self._error, abort=True)
        # Both are to be asked.
        if sum(direction.end() for direction in self._directions) == 2:
            a.close()
            b.close()
        if a.state >= LOST and b.state >= LOST and not self.deferred.called:
            if self._error is None:
                self.deferred.callback(None)
            else:
                self.deferred.errback(self._error)


class Direction:
    """
    One direction of a relay.

    :ivar back: the other direction.
    :ivar splicer: moves its bytes within the kernel; None: they go through buffers.
    """

    __slots__ = ("_hasEnded", "_relay", "_waits", "back", "source", "splicer", "target")

    back: Direction

    def __init__(self, relay: Relay, source: Session, target: Session) -> None:
        self._relay = relay
        self.source = source
        self.target = target
        self.splicer: Splicer | None = None
        self._hasEnded = self._waits = False

    def forward(self, data: bytes, at: int) -> None:
        """Send what came, from ``at`` on."""
        target = self.target
        if target.state <= OPEN:
            size = len(data) - at
            target.bytesWritten += size
            target.outbound.write(data[at:], size)

    def changed(self) -> None:
        """The source has ended, or failed."""
        self._relay.settleSoon()

    def end(self) -> bool:
        """If the source's stream has ended, and all of it has left, end the target's; True if that is done."""
        target, inbound = self.target, self.source.inbound
        if self._hasEnded or not inbound.ended or inbound.unread or target.state > OPEN or self._waits:
            return self._hasEnded
        if target.outbound.isFree:
            self._hasEnded = True
            target.connection.shutdownWriting()
        else:
            self._waits = True
            target.drained().addBoth(self._drained)
        return self._hasEnded

    def _drained(self, _: object) -> None:
        self._waits = False
        self._relay.settleSoon()


class RelayInbound(Inbound):
    """
    As Inbound, for a session whose bytes go to another one.

    A callback that has not returned does not stop it, as that may wait for the relay.
    """

    __slots__ = ("_direction", "_ended")

    def __init__(self, before: Inbound, direction: Direction) -> None:
        self._ended = False
        self._direction = direction
        super().__init__(before.session, before.outbound)
        self.paused, self.readingStopped, self.inHandshake = before.paused, before.readingStopped, before.inHandshake
        self._ended = before.ended
        if before.hasPartial:
            data, self._offset = before._takeBuffered()
            self.unread = len(data) - self._offset
            self._chunks = [data]

    def takePlace(self) -> None:
        """Be the session's inbound."""
        session = self.session
        before, session.inbound = session.inbound, self
        raw = session.outbound.transport
        if isOnSocket(raw) and raw.receive == before.receive:
            raw.receive = self.receive

    def begin(self) -> None:
        """The other session has its inbound, too: send what is buffered, and read on."""
        if self.session.state >= LOST:
            self._sendRest()
        elif not self.paused & CLOSED:
            self._direction.splicer = Splicer.between(self._direction)
            self.resume(RELAY)

    # What the session knows as an attribute of Inbound

    @property
    def ended(self) -> bool:
        """The peer has ended its side of the stream."""
        return self._ended

    @ended.setter
    def ended(self, value: bool) -> None:
        self._ended = value
        if value:
            if self.session.state >= LOST:
                self._sendRest()
            self._direction.changed()

    def _sendRest(self) -> None:
        """The connection is lost: nothing will resume what waits here."""
        if self._chunks is not None:
            self._direction.forward(*self._takeBuffered())

    # The way of bytes

    def _deliver(self, data: bytes, at: int = -1) -> None:
        """Hand on what the connection read."""
        if at < 0:
            session = self.session
            session.bytesRead += len(data)
            session.activeAt = session.context.seconds()
            if len(data) < WHOLE_READ == self._readSize:
                session.context.briefReads += 1
            else:
                self._adaptReadSize(len(data))
            if self.paused & ~CALLBACK:
                if not self.paused & CLOSED:
                    self._buffer(data)
                    if self.unread > LIMIT:
                        self._stopReading()
                return
            at = 0
        self._direction.forward(data, at)

    receive = _deliver

    def deliverBuffered(self) -> bool:
        """See :py:meth:`Inbound.deliverBuffered`. False, as nothing here makes an event."""
        self._goOn()
        return False

    def _goOn(self) -> None:
        """Hand on what is kept, and read again, unless something pauses."""
        if self.paused & ~CALLBACK:
            return
        if self._chunks is not None:
            self._direction.forward(*self._takeBuffered())
            if self.paused & ~CALLBACK:
                return
        if self._ended:
            # Otherwise the session would close: it has delivered all, as far as it knows.
            self.paused |= RELAY
            self._direction.changed()
        elif self.readingStopped:
            self.readingStopped = False
            self.session.connection.resumeReading()

    # Pausing

    def pause(self, reason: int) -> None:
        """As Inbound's; what this session has to send stops the other's reading instead of its own."""
        if reason == PRESSURE:
            self._direction.back.source.inbound.pause(RELAY)
        else:
            super().pause(reason)

    def resume(self, reason: int) -> None:
        """See :py:meth:`Inbound.resume`."""
        if reason == PRESSURE:
            self._direction.back.source.inbound.resume(RELAY)
        elif self.paused & reason:
            self.paused &= ~reason
            self._goOn()

    def startTLS(self) -> None:
        """Refuse.

        :raise CodecError: always.
        """
        raise CodecError("a session that is joined to another has no place for startTLS: start it before relay")

    def close(self) -> None:
        """See :py:meth:`Inbound.close`."""
        if self._direction.splicer is not None:
            self._direction.splicer.stop()
        super().close()
        self._direction.changed()
