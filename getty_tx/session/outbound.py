"""
The way out: encoded packages to the transport, in order, at once where that is possible.

Twisted's ``transport.write`` keeps the bytes and asks the reactor for another turn: six system calls an echo. Here the
socket is sent to directly while nothing is pending, which takes three. What the kernel does not take stays in the
session's queue; the transport gets one slice of it at a time, and says through the producer interface when that is out.

Three states:

* *free*: ``queue`` is None and ``blocked`` False. A write is sent at once.
* *corked*: the session's messages are being delivered; writes gather in ``queue`` and leave together when the delivery
  is over, or when ``sendAt`` bytes are there, so that a peer begins with the first while the others are made. With many
  sessions ready it lasts to the end of the reactor's iteration (``cork``), or until 64 KiB are there.
* *blocked*: the transport holds a slice, ``inTransport`` bytes, and will call ``resumeProducing``. Writes gather in
  ``queue``.

TLS on the socket is sent to in the same way, as it takes bytes at once as well. With Twisted's own TLS, and below
wrappers, slices go through ``transport.write`` from the beginning, and the socket's transport below tells when they are
out. A transport that is none of Twisted's own is asked to pause and resume, as any other consumer.
"""

from __future__ import annotations

from socket import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from getty_tx.interfaces import IByteSink
from getty_tx.session.blocked import Blocked
from getty_tx.session.buffers import CHUNK
from getty_tx.session.cork import MOST
from getty_tx.session.slices import TURN, Slices
from getty_tx.session.wrappers import bottomOf, isCutOff, readRest
from getty_tx.session.zerocopy import ZeroCopySocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProducer

    from getty_tx.session.buffers import Buffer
    from getty_tx.session.state import SessionState

__all__ = ["DIRECT", "Outbound"]

#: Packages, and bytes, that leave before the delivery is over. With 100 calls of 100 bytes at once between two
#: processes they give 1.35 times the rate that all at the end do; of 4 KiB or 12 KiB the gain is less. Fewer packages
#: are not worth a send.
EARLY = 48
EARLY_BYTES = 8192

#: While blocked, writes shorter than this, in bytes, are joined: an object each would cost more than the bytes.
SMALL = 4096

#: The transports whose handle is a plain socket. Wrappers and TLS have handles too, and subclasses may write otherwise.
DIRECT: frozenset[type] = frozenset({tcp.Server, tcp.Client, unix.Server, unix.Client})


@implementer(IPushProducer)
class Outbound(Slices):
    """
    What is on its way out of one session.

    :ivar finishing: ``session.outputFlushed()`` is called when nothing is pending.
    :ivar heldToTurnEnd: it is corked to the end of the reactor's iteration.
    :ivar sendAt: bytes in the queue with which it is sent even if corked.
    """

    __slots__ = ()

    def __init__(self, session: SessionState, transport: Any) -> None:
        self.session = session
        self.use(transport)
        self.queue = None
        self.queued = self.inTransport = 0
        self.corked = self.blocked = False
        self.finishing = False
        self.heldToTurnEnd = False
        self.sendAt = EARLY_BYTES
        self._registered = None
        self._isPullConsumer = False
        self.blockedState: Blocked | None = None

    def use(self, transport: Any) -> None:
        """Send on this transport from now on. Nothing is pending on another."""
        self.transport = transport
        self.sink = None
        if type(transport) in DIRECT:
            self.sink = transport.socket
            # As startTLS sets it: Python finds an instance's attribute faster than its class's.
            transport.TLS = transport.TLS
        elif IByteSink.providedBy(transport):
            self.sink = transport

    @property
    def pending(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        return self.queued + self.inTransport

    @property
    def bytesOut(self) -> int:
        """Bytes that have left so far. Time-outs compare it to see progress."""
        return self.session.bytesWritten - self.queued - self.inTransport

    def refuses(self, more: int = 0) -> bool:
        """
        Whether a write is to be refused, as more than ``maxPending`` bytes wait.

        :param more: bytes that wait elsewhere.
        """
        session = self.session
        pending = self.queued + self.inTransport + more
        if pending <= session._maxPending:
            return False
        # Replies to what was read in a relief are taken all the same.
        replies = session.inCallback or session.awaiting is not None or session.work is not None
        return not (replies and self.blockedState is not None and pending <= self.blockedState.allowed)

    @property
    def isFree(self) -> bool:
        """True if nothing waits, here or in the transport."""
        return self.queue is None and not self.blocked

    @property
    def hasParts(self) -> bool:
        """True while a file, or the bytes of a relay, are on their way."""
        return self.blockedState is not None and self.blockedState.parts is not None

    @property
    def hasProducer(self) -> bool:
        """True while a producer of the application is registered."""
        return self.blockedState is not None and self.blockedState.producer is not None

    # Writing

    def write(self, data: bytes, length: int) -> None:
        """Send ``data``, which has ``length`` bytes, after all that was written before."""
        if not length:
            # A transport that is given no bytes never asks for more.
            return
        queue = self.queue
        if self.blocked:
            self._enqueue(data, length)
            return
        if queue is not None:
            queue.append(data)
            self.queued += length
        elif self.corked:
            self.queue = [data]
            self.queued = length
        else:
            self._sendNow(data, length)
            return
        if self.queued >= self.sendAt:
            self._sendEarly()

    def _sendEarly(self) -> None:
        """Send the queue while the delivery goes on, if it is long, or no other session has anything to send."""
        queue = self.queue
        if self.queued >= CHUNK or queue is None:
            self.flush()
        elif self.sink is None or self.session.context.cork.left <= 0:
            self.sendAt = CHUNK
        elif len(queue) < EARLY:
            self.sendAt += EARLY_BYTES
        else:
            self.sendAt = CHUNK
            self.flush()

    def _enqueue(self, data: bytes, length: int) -> None:
        """Queue ``data`` behind the slice that the transport has."""
        queue = self.queue
        if queue is None:
            self.queue = [data]
        elif length < SMALL:
            last = queue[-1]
            if type(last) is bytearray and len(last) < CHUNK:
                last += data
            else:
                queue.append(bytearray(data))
        else:
            queue.append(data)
        self.queued += length
        self._checkHighWater()

    def writev(self, chunks: Sequence[bytes], length: int) -> None:
        """Send the chunks, ``length`` bytes in all, one after the other."""
        if self.blocked or self.corked or self.queue is not None or len(chunks) < 2:
            for chunk in chunks:
                self.write(chunk, len(chunk))
            return
        if length:
            self.queue = [chunk for chunk in chunks if chunk]
            self.queued = length
            self.flush()

    def _sendNow(self, data: bytes, length: int) -> None:
        transport = self.transport
        sink = self.sink
        if sink is not None and not transport.TLS and length <= TURN:
            try:
                sent = sink.send(data)
            except OSError:
                # The buffer is full or the connection is broken: Twisted's own write finds out, and reports it.
                sent = 0
            if sent == length:
                if self.blockedState is not None:
                    self._drained()
                return
            self.queue = [memoryview(data)[sent:]]
            self.queued = length - sent
            self._giveSlice(transport, transport)
            self._checkHighWater()
        else:
            self.queue = [data]
            self.queued = length
            self.flush()

    def uncork(self) -> None:
        """
        The delivery of messages is over: what they wrote leaves now or, where many sessions have answers, with theirs
        at the end of the reactor's turn. There is something in the queue.
        """
        if self.sink is not None:
            turn = self.session.context.cork
            left = turn.left = turn.left - 1
            if left < 0:
                if not self.heldToTurnEnd:
                    self.heldToTurnEnd = True
                    waiting = turn.waiting
                    if not waiting:
                        turn.begin()
                    waiting.append(self)
                    if left <= -MOST:
                        turn.release()
                return
        self.sendQueued()

    def sendQueued(self) -> None:
        """Send what is in the queue now."""
        self.corked = False
        self.sendAt = EARLY_BYTES
        if self.blocked:
            return
        size = self.queued
        transport = self.transport
        # The most frequent case of flush(), inlined: it runs once for every read.
        sink = self.sink
        if sink is not None and size <= CHUNK and self.blockedState is None and not transport.TLS:
            queue = self.queue
            assert queue is not None
            data = queue[0] if len(queue) == 1 else b"".join(queue)
            try:
                sent = sink.send(data)
            except OSError:
                sent = 0
            if sent == size and not self.finishing:
                self.queue = None
                self.queued = 0
                return
            self.queue = [data]
            self._consume(sent)
            if self.queue is not None:
                self._giveSlice(transport, transport)
                self._checkHighWater()
                return
        self.flush()

    def flush(self) -> None:
        """Send as much of the queue as the transport takes."""
        if self.blocked:
            return
        transport = self.transport
        if self.queue is None:
            pass
        elif self.sink is not None and not transport.TLS:
            if self.sink is transport:
                self._flushToSink(transport)
            else:
                self._flushToSocket(transport)
        else:
            self._flushToTransport(transport)
        if self.blocked:
            self._checkHighWater()
        elif self.blockedState is not None or self.finishing:
            self._drained()

    def _flushToTransport(self, transport: Any) -> None:
        """Write to TLS, to a wrapper or to a transport that is not Twisted's."""
        bottom = bottomOf(transport, DIRECT)
        if bottom is None:
            if self._registered is None:
                self._registerWith(transport)
            if not self._isPullConsumer:
                while self.queue is not None and not self.blocked:
                    transport.write(self._take())
                return
            bottom = transport
        self._giveSlice(transport, bottom)

    # For parts

    @property
    def plainSocket(self) -> Any:
        """The socket that the system can send to by itself, or None: there is TLS, or a wrapper, or no such socket."""
        sink = self.sink
        if type(sink) is ZeroCopySocket:
            sink = sink.socket
        return sink if isinstance(sink, socket) and not self.transport.TLS else None

    def sendFirst(self, first: list[Buffer], size: int) -> tuple[list[Buffer] | None, bool]:
        """
        Send bytes, which ``queued`` counts already, before those in the queue. The outbound is blocked meanwhile.

        :return: the bytes that are left, and whether the transport will call ``resumeProducing``.
        """
        behind, total = self.queue, self.queued
        self.queue, self.queued = first, size
        self.blocked = False
        transport = self.transport
        if self.sink is None or transport.TLS:
            self._flushToTransport(transport)
        elif self.sink is transport:
            self._flushToSink(transport)
        else:
            self._flushToSocket(transport)
        rest, left = self.queue, self.queued
        self.queue, self.queued = behind, total - size + left
        willCall, self.blocked = self.blocked, True
        return rest, willCall

    # What the transport says: IPushProducer

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self.blocked = True
        self.whileBlocked().progressAt = self.session.context.seconds()
        self._checkHighWater()

    def resumeProducing(self) -> None:
        """The transport is empty again."""
        if not self.blocked:
            # Called while registering.
            self._isPullConsumer = True
            return
        registered = self._registered
        if registered is not None and registered is not self.transport and isCutOff(self.transport, registered):
            # The socket's transport closes as soon as it has no producer.
            self._registered = None
            registered.unregisterProducer()
            return
        waiting = self.blockedState
        if waiting is not None and waiting.parts is not None:
            waiting.parts.resume()
            return
        self.blocked = False
        self.inTransport = 0
        if self.queue is None:
            self._drained()
        elif not self.corked:
            self.flush()
        self._checkLowWater()

    def stopProducing(self) -> None:
        """The transport is lost, and tells its protocol next. Read what the peer had sent before that."""
        if self._registered is not None:
            readRest(self._registered)

    # Water marks and time

    def whileBlocked(self) -> Blocked:
        waiting = self.blockedState
        if waiting is None:
            waiting = self.blockedState = Blocked(self)
        return waiting

    def _checkHighWater(self) -> None:
        """Watch the time-outs; above ``highWater`` pause the session's reading and the producer."""
        waiting = self.whileBlocked()
        waiting.watch()
        pending = self.queued + self.inTransport
        if pending > self.session._highWater:
            if pending > waiting.allowed:
                self.session.pendingIsHigh()
                waiting.lookSoon()
            waiting.pauseProducer()

    def _checkLowWater(self) -> None:
        """At or below ``lowWater`` resume the session's reading and the producer."""
        if self.queued + self.inTransport <= self.session._lowWater:
            self.session.pendingIsLow()
            if self.blockedState is not None:
                self.blockedState.resumeProducer()

    def _drained(self) -> None:
        """Nothing is pending: tell those who wait for that."""
        registered = self._registered
        if registered is not None and (self._isPullConsumer or self.finishing):
            # A push producer stays registered: it would miss a pause otherwise. TLS sends its closing alert only when
            # no producer is registered.
            self._registered = None
            registered.unregisterProducer()
        if self.blockedState is not None:
            self.blockedState.emptied()
        if self.finishing and self.isFree and not self.hasProducer:
            self.finishing = False
            self.session.outputFlushed()

    def limit(self, timeout: float) -> None:
        """Fail the session if the bytes written so far are not out in ``timeout`` seconds."""
        self.whileBlocked().limit(timeout)

    # The rest of the facade and of the session

    def setReadSize(self, size: int) -> bool:
        """Have the transport read at most ``size`` bytes at a time; False where it has its own way."""
        transport = self.transport
        if self.sink is not None and not transport.TLS:
            transport.bufferSize = size
            return True
        return False

    def drained(self, deferred: Deferred[None]) -> None:
        """Fire ``deferred`` when nothing is pending."""
        if self.isFree:
            deferred.callback(None)
        else:
            self.whileBlocked().drainers.append(deferred)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """A producer of the application writes to this session."""
        self.whileBlocked().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The application's producer has ended."""
        if self.blockedState is not None:
            self.blockedState.unregisterProducer()
            if self.isFree:
                self._drained()

    def closeWhenDrained(self) -> None:
        """Call ``session.outputFlushed()`` once, as soon as nothing is pending and no producer is registered."""
        self.finishing = True
        if self.isFree and not self.hasProducer:
            self._drained()

    def startTLS(self, contextFactory: Any, normal: bool) -> None:
        """Send the bytes written so far in clear, and all later ones encrypted."""
        transport = self.transport
        registered, self._registered = self._registered, None
        if registered is not None:
            registered.unregisterProducer()
        queue, self.queue = self.queue, None
        self.queued = self.inTransport = 0
        self.blocked = False
        if queue is not None:
            transport.writeSequence([bytes(chunk) for chunk in queue])
        # From here on TLS reads.
        vars(transport).pop("doRead", None)
        transport.startTLS(contextFactory, normal)
        self._drained()
        self._checkLowWater()

    def release(self) -> None:
        """Nothing is pending: leave the transport to somebody else."""
        registered = self._registered
        if registered is not None:
            registered.unregisterProducer()
        self.lost()

    def lost(self) -> int:
        """The connection is lost: drop pending bytes and tell those who wait for them. Returns the bytes dropped."""
        dropped = self.queued + self.inTransport
        self.queue = None
        self.queued = self.inTransport = 0
        self.blocked = self.finishing = False
        self._registered = None
        waiting, self.blockedState = self.blockedState, None
        if type(self.sink) is ZeroCopySocket:
            self.sink.lost()
        if waiting is not None:
            waiting.lost(dropped)
        return dropped
