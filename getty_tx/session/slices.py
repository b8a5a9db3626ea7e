"""
How the bytes of a session's queue get to its transport: as many as it takes at once, then a slice at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.session.buffers import CHUNK, dropFirst, firstOf
from getty_tx.session.zerocopy import ZeroCopySocket

if TYPE_CHECKING:
    from getty_tx.session.blocked import Blocked
    from getty_tx.session.buffers import Buffer
    from getty_tx.session.state import SessionState

__all__ = ["TURN", "Slices"]

#: Bytes sent in one iteration of the reactor, so that one full pipe does not hold up the other sessions.
TURN = 128 * 1024

#: Buffers of one sendmsg; IOV_MAX is 1024 on Linux.
IOV = 512

#: Bytes of a full record of TLS (RFC 8446, section 5.1).
RECORD = 16 * 1024


class Slices:
    """
    The part of :py:class:`~getty_tx.session.outbound.Outbound` that works the transport.

    :ivar sink: what takes bytes at once, while the transport has none of Twisted's TLS: the socket of a transport in
        DIRECT, or TLS on a socket; None where neither is there.
    :ivar queue: the buffers that wait, or None.
    :ivar queued: bytes in ``queue``.
    :ivar blocked: the transport holds a slice.
    :ivar inTransport: bytes of the slice that the transport was given.
    """

    __slots__ = (
        "_isPullConsumer",
        "_registered",
        "blocked",
        "blockedState",
        "corked",
        "finishing",
        "heldToTurnEnd",
        "inTransport",
        "queue",
        "queued",
        "sendAt",
        "session",
        "sink",
        "transport",
    )

    session: SessionState
    transport: Any
    sink: Any
    queue: list[Buffer] | None
    queued: int
    sendAt: int
    blocked: bool
    inTransport: int
    # The transport where this object is registered as producer.
    _registered: Any
    # That transport asks for each slice.
    _isPullConsumer: bool

    def whileBlocked(self) -> Blocked:
        """What is there only while something waits."""
        raise NotImplementedError

    def _flushToSocket(self, transport: Any) -> None:
        """Send without joining, one system call for many buffers, and a bounded amount for one turn of the reactor."""
        handle = self.sink
        budget = TURN
        while self.queue is not None and budget > 0:
            buffers = self.queue
            wanted = self.queued
            if wanted > budget or len(buffers) > IOV:
                buffers, wanted = firstOf(buffers, budget, IOV)
            try:
                sent = handle.sendmsg(buffers) if len(buffers) > 1 else handle.send(buffers[0])
            except OSError:
                sent = 0
            # A bytearray cannot grow while there is a view of it.
            del buffers
            self._consume(sent)
            budget -= sent
            if sent < wanted:
                break
        if self.queue is not None:
            self._giveSlice(transport, transport)

    def _flushToSink(self, transport: Any) -> None:
        """As _flushToSocket, for TLS: what is short is joined to full records, what is long is not copied."""
        self.sink.cork(True)
        budget = TURN
        while self.queue is not None and budget > 0:
            head: Buffer = self.queue[0]
            isJoined = len(head) < RECORD and len(self.queue) > 1
            if isJoined:
                buffers, _ = firstOf(self.queue, RECORD, IOV)
                head = b"".join(buffers)
                del buffers
            elif len(head) > budget:
                head = memoryview(head)[:budget]
            wanted = len(head)
            try:
                sent = self.sink.send(head)
            except OSError:
                sent = 0
            budget -= sent
            if sent < wanted and isJoined:
                # TLS may have encrypted the first of these bytes, and has to be given the same ones again.
                self._consume(wanted)
                self.queue = [memoryview(head)[sent:], *(self.queue or ())]
                self.queued += wanted - sent
            else:
                self._consume(sent)
            if sent < wanted:
                break
        self.sink.cork(False)
        if self.queue is not None:
            self._giveSlice(transport, transport)

    def _giveSlice(self, transport: Any, bottom: Any) -> None:
        """Hand the transport the next slice: the reactor sends it when there is room, then calls resumeProducing."""
        if type(self.sink) is ZeroCopySocket and self._staysWhole():
            self.blocked = True
            self.whileBlocked().progressAt = self.session.context.seconds()
            self.awaitRoom()
            return
        if self._registered is None:
            self._registered = bottom
            # A transport calls a pull producer whenever it is empty, a push producer only after a pause. Twisted calls
            # resumeProducing right here, too.
            bottom.registerProducer(self, False)
        data = self._take()
        self.inTransport = len(data)
        self.blocked = True
        self.whileBlocked().progressAt = self.session.context.seconds()
        transport.write(data)

    def awaitRoom(self) -> None:
        """Have the transport call ``resumeProducing`` when its plain socket takes bytes. It holds none."""
        transport = self.transport
        if self._registered is None:
            # It calls resumeProducing right here, which is to do nothing.
            self.blocked = False
            self._registered = transport
            transport.registerProducer(self, False)
            self.blocked = True
        transport.startWriting()

    def _staysWhole(self) -> bool:
        """Whether the next buffer is to leave without a copy, which a slice is."""
        assert self.queue is not None
        return self.sink.isOn and not self.transport.TLS and len(self.queue[0]) >= CHUNK

    def _registerWith(self, transport: Any) -> None:
        """
        Register as a pull producer where the transport honours those, which it shows by asking at once.

        Others (test doubles that just collect what is written) get all there is, until they ask for a pause.
        """
        self._registered = transport
        self._isPullConsumer = False
        transport.registerProducer(self, False)
        if not self._isPullConsumer:
            transport.unregisterProducer()
            transport.registerProducer(self, True)

    def _take(self) -> bytes:
        """Take the next slice off the queue, at most a chunk."""
        assert self.queue is not None
        if len(self.queue) > 1 and self.queued <= CHUNK:
            data = b"".join(self.queue)
        else:
            head = self.queue[0]
            data = head if type(head) is bytes and len(head) <= CHUNK else bytes(memoryview(head)[:CHUNK])
        self._consume(len(data))
        return data

    def _consume(self, count: int) -> None:
        queue = self.queue
        assert queue is not None
        self.queued -= count
        dropFirst(queue, count)
        if not queue:
            self.queue = None
