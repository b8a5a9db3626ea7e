"""
The inbound of a WebSocket session: frames become messages, and each message one package for the listener.

A frame that is a whole, uncompressed data message is read here, on the short path. Every other frame (fragments,
control frames, compressed or malformed ones) is given to the state machine of the connection's engine, one frame at a
time. So the short path is used again after it, and a session that was paused meanwhile stays paused.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError, PeerClosedError
from getty_tx.session.inbound import WHOLE_READ, Inbound
from getty_tx.session.lifecycle import LOST, OPEN
from getty_tx.session.pausing import CLOSED
from getty_tx.transports.websocket.frames import BINARY, CLOSE, CONTROL, MAX_HEADER, TEXT, CloseCode, sizeOf
from getty_tx.transports.websocket.frames import xor as unmask

if TYPE_CHECKING:
    from getty_tx.session.outbound import Outbound
    from getty_tx.session.session import Session

__all__ = ["MessageInbound"]

#: Bytes of messages that the engine has read, above which a list is delivered in the middle of a read: a few bytes may
#: be inflated to a thousand times as many.
MOST_INFLATED = 64 * 1024

_unpackHead = Struct("!HH").unpack_from


class MessageInbound(Inbound):
    """
    Inbound for frames.

    :ivar closeReceived: the peer's Close frame has arrived; nothing is read after it.
    :ivar usesEngine: the engine is inside a frame or a fragmented message.
    """

    __slots__ = (
        "_binary",
        "_delivering",
        "_engine",
        "_gathered",
        "_gatheredBytes",
        "_headerRest",
        "_masked",
        "_skipBytes",
        "closeReceived",
        "usesEngine",
    )

    readsStream = False

    def __init__(self, session: Session, outbound: Outbound) -> None:
        super().__init__(session, outbound)
        connection: Any = session.connection
        self._engine = connection.engine
        # The mask bit that frames must have: a client's are masked, a server's are not.
        self._masked = 0 if connection.factory.isClient else 0x80
        # The first two bytes of a binary message whose length is in the next two.
        self._binary = BINARY << 8 | self._masked | 126
        self.usesEngine = False
        self._delivering = False
        # Messages for a listener that takes lists, until they are given to it; and the bytes of those that the engine
        # has read.
        self._gathered: list[Any] | None = None
        self._gatheredBytes = 0
        self.closeReceived = False
        # While closing: bytes of a data frame that are still to be skipped, and the first bytes of a header.
        self._skipBytes = 0
        self._headerRest = b""

    def _deliver(self, data: bytes, at: int = -1) -> None:
        """See :py:meth:`getty_tx.session.inbound.Inbound.receive`."""
        session: Any = self.session
        outbound = self.outbound
        masked = self._masked
        end = len(data)
        # Not in a separate method, because that would cost a call for each read.
        if at < 0:
            session.bytesRead += end
            context = session.context
            seconds = context.seconds
            session.activeAt = seconds()
            if end < WHOLE_READ == self._readSize:
                context.briefReads += 1
            else:
                self._adaptReadSize(end)
            if self.paused or self.closeReceived or session.inCallback:
                if self.paused & CLOSED or self.closeReceived:
                    self._discard(data)
                else:
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
        binary = self._binary
        outbound.corked = True
        session.inCallback = self._delivering = True
        # Only the engine changes closeReceived and usesEngine while messages are delivered, and nothing is kept of what
        # came behind a Close frame.
        feeds = self.usesEngine
        lists = session.readsBatches > 1
        try:
            while at < end and not self.paused:
                if feeds:
                    if self._gathered is not None and data[at] & CONTROL:
                        # What is answered to the messages before it comes before the answer to it.
                        self.deliverGathered()
                        continue
                    at = self._feed(data, at, end)
                    if self.closeReceived:
                        break
                    feeds = self.usesEngine
                    lists = session.readsBatches > 1
                    continue
                left = end - at
                if left > 3:
                    first, length = _unpackHead(data, at)
                elif left > 1:
                    first, length = data[at] << 8 | data[at + 1], 0
                else:
                    need = 2
                    break
                if first == binary and length > 125:
                    # The most frequent form: binary, with a length of two bytes.
                    body = at + (8 if masked else 4)
                    isText = False
                else:
                    short = (first ^ masked) & 0xFF
                    first >>= 8
                    isText = first == TEXT
                    if short > 127 or (first != BINARY and not isText):
                        feeds = True
                        continue
                    body = at + (6 if masked else 2)
                    if short < 126:
                        length = short
                    else:
                        body += 2 if short == 126 else 8
                        if body > end:
                            need = body - at
                            break
                        if short == 127:
                            length = int.from_bytes(data[at + 2 : at + 10], "big")
                        if length < (126 if short == 126 else 65536):
                            feeds = True
                            continue
                if length > session._maxMsgLen:
                    feeds = True
                    continue
                stop = body + length
                if stop > end:
                    need = stop - at
                    break
                payload = unmask(data[body:stop], data[body - 4 : body]) if masked else data[body:stop]
                if isText and not (payload.isascii() or _isUTF8(payload)):
                    # The engine finds the invalid byte, and tells the peer.
                    feeds = True
                    continue
                session.isText = isText
                answer = session.decoder.read(session, memoryview(payload))
                if type(answer) is not tuple or answer[0] is None or answer[1] != length:
                    raise _refused(answer, length, session)
                at = stop
                if lists and (at < end or self._gathered is not None):
                    if self._gathered is None:
                        self._gathered = [answer[0]]
                    else:
                        self._gathered.append(answer[0])
                    continue
                session.pkgsRead += 1
                try:
                    result = session.receiver.onMessage(session, answer[0])
                except BaseException as error:
                    session.callbackFailed(error)
                else:
                    if result is not None:
                        session.awaitCallback(result)
            if lists and self._gathered is not None:
                self.deliverGathered()
        except BaseException as error:
            # The messages before it come first. If they pause the session, this one is read again later, unless the
            # engine has read it.
            isHeld = self.deliverGathered()
            if not isHeld or (feeds and not self.paused & CLOSED):
                session.readFailed(error)
        self._delivering = False
        if self._engine.autoPingTimeoutCall is not None:
            # Any data proves that the peer is alive.
            self._engine.cancelPingTimeout()
        if self.paused and self.paused & CLOSED:
            self._beginDiscarding(data[at:])
        elif at < end and not self.closeReceived:
            self._bufferRest(data, at, need)
        del data
        if outbound.queue is not None:
            outbound.uncork()
        else:
            outbound.corked = False
        session.inCallback = False
        if self.closeReceived and session.state <= OPEN:
            if session.work is not None:
                # The peer has closed normally: messages that it sent before are delivered.
                session.work.keepsQueued = True
            session.beginClosing()
        if self.readingStopped or self.ended or session.needsDispatch or self._chunks is not None:
            session.dispatchEvents()

    receive = _deliver

    def messageReceived(self, payload: bytes, isText: bool) -> None:
        """Deliver a message that the engine has read, or add it to the list. The codec's errors are raised."""
        session: Any = self.session
        if self.paused & CLOSED:
            return
        session.isText = isText
        answer = session.decoder.read(session, memoryview(payload))
        if type(answer) is not tuple or answer[0] is None or answer[1] != len(payload):
            raise _refused(answer, len(payload), session)
        if session.readsBatches > 1:
            if self._gathered is None:
                self._gathered = []
            self._gathered.append(answer[0])
            self._gatheredBytes += len(payload)
            if self._gatheredBytes > MOST_INFLATED:
                self.deliverGathered()
            return
        session.pkgsRead += 1
        try:
            result = session.receiver.onMessage(session, answer[0])
        except BaseException as error:
            session.callbackFailed(error)
        else:
            if result is not None:
                session.awaitCallback(result)

    def deliverGathered(self) -> bool:
        """
        Deliver the messages of a list in one call.

        :return: whether that has paused or closed the session.
        """
        packages, self._gathered = self._gathered, None
        if packages is None:
            return False
        self._gatheredBytes = 0
        session: Any = self.session
        session.pkgsRead += len(packages)
        try:
            if len(packages) > 1:
                result = session.receiver.onMessages(session, packages)
            else:
                result = session.receiver.onMessage(session, packages[0])
        except BaseException as error:
            session.callbackFailed(error)
        else:
            if result is not None:
                session.awaitCallback(result)
        return self.paused != 0

    def _feed(self, data: bytes, at: int, end: int) -> int:
        """Give the engine the rest of its frame, or the frame that begins at ``at``. Returns the end of what it got."""
        engine = self._engine
        frame = engine.current_frame
        if frame is None:
            held = engine.data
            head, payload = sizeOf(held + data[at : at + MAX_HEADER - len(held)])
            stop = at + head - len(held) + max(payload, 0)
        else:
            stop = at + frame.length - engine.current_frame_masker.pointer()
        # A frame that the engine has refused may have ended already.
        stop = min(max(stop, at + 1), end)
        engine.data += data[at:stop]
        engine.consumeData()
        self.usesEngine = engine.inside_message or engine.current_frame is not None or bool(engine.data)
        return stop

    @property
    def hasPartial(self) -> bool:
        """True while undelivered input is buffered, such as a fragment of a message."""
        return self.unread > 0 or self.usesEngine

    # Closing

    def deliverBuffered(self) -> bool:
        """As Inbound's. If everything is delivered and there was no Close frame, the end of the stream is an error."""
        if Inbound.deliverBuffered(self):
            return True
        session = self.session
        if self.closeReceived or session.state != LOST or session.closedLocally or session.error is not None:
            return False
        text = "the connection ended without a WebSocket closing handshake"
        session.fail(PeerClosedError(text, session, CloseCode.ABNORMAL_CLOSURE.value, ""))
        return True

    def close(self) -> None:
        """Deliver no more messages; search the rest of the stream for the peer's Close frame."""
        if not self.paused & CLOSED and self._chunks is not None and not self._delivering:
            data, at = self._takeBuffered()
            Inbound.close(self)
            self._beginDiscarding(data[at:])
        elif not self._delivering:
            wasClosed = self.paused & CLOSED
            Inbound.close(self)
            if not wasClosed:
                self._beginDiscarding(b"")
        else:
            Inbound.close(self)

    def _beginDiscarding(self, data: bytes) -> None:
        engine = self._engine
        frame = engine.current_frame
        if frame is not None:
            self._skipBytes = frame.length - engine.current_frame_masker.pointer()
        self._headerRest, engine.data = engine.data, b""
        self.usesEngine = False
        self._discard(data)

    def _discard(self, data: bytes) -> None:
        if self.closeReceived or self.session.state >= LOST:
            return
        if self._headerRest:
            data = self._headerRest + data
            self._headerRest = b""
        at = self._skipBytes
        while at < len(data):
            head, payload = sizeOf(data[at : at + MAX_HEADER])
            isClose = data[at] & 0x0F == CLOSE
            stop = at + head + payload
            if payload < 0 or (isClose and payload < 126 and stop > len(data)):
                self._headerRest = data[at:]
                at = len(data)
                break
            if isClose and payload < 126:
                self._closeFrame(data[at:stop])
                return
            at = stop
        self._skipBytes = at - len(data)

    def _closeFrame(self, frame: bytes) -> None:
        connection: Any = self.session.connection
        # This side's Close frame must be sent first. Otherwise the engine would answer the peer's Close frame instead.
        connection.shutdownWriting()
        engine = self._engine
        engine.current_frame = None
        engine.data = frame
        engine.consumeData()


def _isUTF8(payload: bytes) -> bool:
    """Python's decoder refuses the same bytes as Autobahn's validator."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refused(answer: Any, length: int, session: Session) -> CodecError:
    """The error for a codec that did not read the message as exactly one package."""
    if type(answer) is not tuple or len(answer) != 2 or not isinstance(answer[1], int):
        what = f"{type(answer).__name__}, not (package, length)"
    elif answer[0] is None:
        what = f"no package for a message of {length} bytes"
    else:
        what = f"a package of {answer[1]} bytes for a message of {length}"
    return CodecError(f"the codec answered {what}", session)
