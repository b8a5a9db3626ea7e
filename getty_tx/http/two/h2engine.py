"""An engine that is the package h2, which is Python alone: where there is no ngh2, and to compare with."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error, ProtocolError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings
from hpack import HPACKError
from zope.interface import implementer

from getty_tx.http.two.errors import ConnectionFault, ErrorCode, StreamRefused, goAwayFrame
from getty_tx.http.two.guard import PREFACE
from getty_tx.http.two.h2streams import Out, checkFrame, isRight
from getty_tx.http.two.interfaces import IEngine

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import Headers, IEngineEvents
    from getty_tx.http.two.limits import Limits

__all__ = ["H2Engine"]

#: The largest frame that is taken, which is the least that RFC 9113 allows, and what h2 says.
MAX_FRAME = 16384

#: Answers to PING and SETTINGS that wait to be sent, above which the connection ends; as with ngh2.
MAX_ANSWERS = 1000

#: The default window of a connection (RFC 9113, 6.9.2).
_WINDOW = 65535

#: More than any number of streams.
_NO_LIMIT = 2**31 - 1

_DATA, _HEADERS, _, _RST_STREAM, _SETTINGS, _PUSH, _, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)


@implementer(IEngine)
class H2Engine:
    """
    An :py:class:`~getty_tx.http.two.interfaces.IEngine` on h2.

    h2 gets one frame at a time, so that what comes before a fault is told. It can do nothing more behind a GOAWAY,
    which ends a connection for it: those frames are read and made here. It ends a connection for a message that is
    wrong, too, if it is to look: so messages are looked at here, and their streams end.

    :param isServer: which side this is.
    :param limits: what the peer may do.
    :param told: what is told of the peer's bytes.
    """

    __slots__ = (
        "_answers",
        "_ended",
        "_expected",
        "_inBlock",
        "_isFirst",
        "_isServer",
        "_last",
        "_limits",
        "_lost",
        "_open",
        "_out",
        "_peerLast",
        "_queued",
        "_rest",
        "_told",
        "_wrapped",
        "fault",
        "isOver",
    )

    def __init__(self, isServer: bool, limits: Limits, told: IEngineEvents) -> None:
        self._told = told
        self._limits = limits
        self._isServer = isServer
        self._wrapped = wrapped = H2Connection(
            H2Configuration(
                client_side=not isServer,
                header_encoding=None,
                normalize_inbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        # Too many streams would end the connection: the server's connection refuses them, for all engines.
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: _NO_LIMIT,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.streamWindow,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.maxHeaders,
            SettingCodes.ENABLE_PUSH: 0,
        }
        if isServer:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.maxStreams
        wrapped.local_settings = Settings(client=not isServer, initial_values=values)
        wrapped.decoder.max_header_list_size = limits.maxHeaders
        wrapped.initiate_connection()
        wrapped.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = _NO_LIMIT
        wrapped.local_settings.acknowledge()
        if limits.credit > _WINDOW:
            wrapped.increment_flow_control_window(limits.credit - _WINDOW)
        self.isOver = self._inBlock = self._lost = False
        self.fault: ConnectionFault | None = None
        # Bytes of the preface that are to come; a frame that came in parts; whether the peer's settings are to come.
        self._expected = PREFACE if isServer else b""
        self._rest = b""
        self._isFirst = True
        self._open: dict[int, Out] = {}
        # Streams with something to send, in the order of their turns; streams that have ended and are not told.
        self._queued: dict[int, Out] = {}
        self._ended: list[tuple[int, int]] = []
        self._out: list[bytes] = []
        self._answers = 0
        # The last stream that is served, or that the peer serves.
        self._last = self._peerLast = _NO_LIMIT

    # Bytes of the peer

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer, and tell of them. :raise ConnectionFault: they break a rule."""
        if self.isOver:
            return
        try:
            self._receive(data)
        except ConnectionFault as fault:
            self.isOver = True
            self.fault = fault
            raise

    def _receive(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if self._expected:
            at = min(end, len(self._expected))
            if data[:at] != self._expected[:at]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "what comes first is not the preface of HTTP/2")
            self._expected = self._expected[at:]
            self._wrapped.receive_data(data[:at])
        while at + 9 <= end:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > MAX_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            stop = at + 9 + length
            if stop > end:
                break
            self._frame(data[at:stop])
            at = stop
        self._rest = data[at:]

    def _frame(self, frame: bytes) -> None:
        kind, flags = frame[3], frame[4]
        if self._isFirst:
            if kind != _SETTINGS or flags & 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._isFirst = False
        if not self._inBlock:
            checkFrame(frame)
            if kind == _GOAWAY:
                self._goAwayCame(frame)
                return
            if kind > _CONTINUATION:
                # h2 reads ALTSVC, which is nothing here.
                return
            frame = self._prepared(kind, frame)
        if kind in (_HEADERS, _PUSH, _CONTINUATION):
            self._inBlock = not flags & 4
        try:
            came = self._wrapped.receive_data(frame)
        except ProtocolError as error:
            code = int(error.error_code)
            if code == ErrorCode.PROTOCOL_ERROR and isinstance(error.__cause__, HPACKError):
                code = ErrorCode.COMPRESSION_ERROR
            raise ConnectionFault(code, str(error)) from None
        for event in came:
            self._tell(event)

    def _prepared(self, kind: int, frame: bytes) -> bytes:
        """Do what h2 would do otherwise than RFC 9113 asks. :return: the frame for h2."""
        stream = int.from_bytes(frame[5:9], "big") & _NO_LIMIT
        out = self._open.get(stream)
        if kind == _DATA:
            if out is not None and not out.fits(frame):
                self._refuse(stream)
        elif kind == _HEADERS:
            if stream % 2 == 0 or (not self._isServer and self._isIdle(stream)):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream}, which cannot be")
            if out is not None:
                return out.ended(frame)
        elif kind == _RST_STREAM and self._isIdle(stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of a stream that was not opened")
        elif kind == _WINDOW_UPDATE:
            if stream and out is None and not self._isIdle(stream):
                # There is nothing that it could be for, whatever it says.
                return b""
            # The first bit has no meaning (6.9).
            return frame[:9] + bytes((frame[9] & 0x7F,)) + frame[10:]
        return frame

    def _isIdle(self, stream: int) -> bool:
        """Whether there was no such stream; 0 is none."""
        if stream % 2 == self._isServer:
            return stream > (self._wrapped.highest_inbound_stream_id if self._isServer else 0)
        return stream > 0 and (self._isServer or stream > self._wrapped.highest_outbound_stream_id)

    def _refuse(self, stream: int) -> None:
        """What came on a stream is wrong: end it."""
        with suppress(H2Error):
            self._wrapped.reset_stream(stream, ErrorCode.PROTOCOL_ERROR)
        if stream in self._open:
            self._close(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            self._told.streamEnded(stream, ErrorCode.PROTOCOL_ERROR)

    def _goAwayCame(self, frame: bytes) -> None:
        if int.from_bytes(frame[5:9], "big") & _NO_LIMIT:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a malformed GOAWAY frame")
        last = int.from_bytes(frame[9:13], "big") & _NO_LIMIT
        if last > self._peerLast:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the last stream of GOAWAY has risen")
        self._peerLast = last
        self._told.goingAway(last, int.from_bytes(frame[13:17], "big"), frame[17:])
        if not self._isServer:
            for stream in [each for each in self._open if each > last]:
                self._close(stream, ErrorCode.REFUSED_STREAM)
        self._lost = True
        self.isOver = self.isOver or not self._open

    def _tell(self, event: Any) -> None:
        told = self._told
        kind = type(event)
        if kind is events.DataReceived:
            self._dataCame(event)
        elif kind is events.RequestReceived:
            self._headCame(event, isAnswer=False)
        elif kind is events.ResponseReceived:
            self._headCame(event, isAnswer=True)
        elif kind is events.TrailersReceived:
            self._trailersCame(event)
        elif kind is events.InformationalResponseReceived:
            if event.stream_id not in self._open:
                return
            if isRight(event.headers, isAnswer=True):
                # The answer is to come yet, and no data in front of it.
                self._open[event.stream_id].left = -1
                told.informed(event.stream_id, event.headers)
            else:
                self._refuse(event.stream_id)
        elif kind is events.StreamEnded:
            out = self._open.get(event.stream_id)
            if out is not None:
                out.peerEnded = True
                if out.hasEnded:
                    self._close(event.stream_id, 0)
        elif kind is events.StreamReset:
            if event.stream_id in self._open:
                code = int(event.error_code)
                if event.remote_reset:
                    told.wasReset(event.stream_id, code)
                self._close(event.stream_id, code)
        elif kind is events.WindowUpdated:
            told.creditCame(event.stream_id)
        else:
            self._tellMore(kind, event)

    def _tellMore(self, kind: Any, event: Any) -> None:
        told = self._told
        if kind is events.RemoteSettingsChanged:
            self._answered()
            told.settingsCame({int(code): each.new_value for code, each in event.changed_settings.items()})
        elif kind is events.PingReceived:
            self._answered()
            told.pinged()
        elif kind is events.PingAckReceived:
            told.pongCame(event.ping_data)

    def _answered(self) -> None:
        self._answers += 1
        if self._answers > MAX_ANSWERS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers wait to be sent")

    def _countFields(self, headers: Headers) -> None:
        if len(headers) > self._limits.maxFields:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many header fields")

    def _headCame(self, event: Any, isAnswer: bool) -> None:
        stream: int = event.stream_id
        self._countFields(event.headers)
        out = self._open.get(stream) if isAnswer else Out()
        if out is None or stream > self._last:
            # It crossed its reset, or the GOAWAY that has told the client.
            return
        isLast = event.stream_ended is not None
        if not out.begin(event.headers, isAnswer, isLast):
            self._refuse(stream)
            return
        self._open[stream] = out
        self._told.headersCame(stream, event.headers, isLast)

    def _trailersCame(self, event: Any) -> None:
        stream: int = event.stream_id
        out = self._open.get(stream)
        self._countFields(event.headers)
        if out is None:
            return
        if out.isWrong or out.left or not isRight(event.headers, isTrailers=True):
            self._refuse(stream)
        else:
            self._told.trailersCame(stream, event.headers)

    def _dataCame(self, event: Any) -> None:
        stream: int = event.stream_id
        size = len(event.data)
        known = stream in self._open
        # Nobody takes the padding, nor what is of no stream.
        spare = event.flow_controlled_length - (size if known else 0)
        if spare:
            self._wrapped.acknowledge_received_data(spare, stream)
        if known:
            self._told.dataCame(stream, event.data, event.stream_ended is not None)

    def _close(self, stream: int, code: int) -> None:
        if self._open.pop(stream, None) is not None:
            self._queued.pop(stream, None)
            self._told.streamEnded(stream, code)
            if self._lost and not self._open:
                self.isOver = True

    # Bytes for the peer

    def take(self) -> bytes:
        """Bytes for the peer."""
        wrapped = self._wrapped
        if self.fault is None:
            self._fill()
        self._out.append(wrapped.data_to_send())
        self._answers = 0
        data = b"".join(self._out)
        self._out.clear()
        ended, self._ended = self._ended, []
        for stream, code in ended:
            self._close(stream, code)
        return data

    def _fill(self) -> None:
        """Give h2 a frame of each stream in turn, as long as there is credit."""
        isMore = True
        while isMore and self._queued:
            isMore = False
            for stream, out in list(self._queued.items()):
                if self._fillOne(stream, out):
                    isMore = True

    def _fillOne(self, stream: int, out: Out) -> bool:
        wrapped = self._wrapped
        try:
            if out.parts:
                part = out.parts.popleft()
                credit = min(wrapped.local_flow_control_window(stream), wrapped.max_outbound_frame_size)
                if credit < len(part):
                    out.parts.appendleft(part[max(credit, 0) :])
                    part = part[: max(credit, 0)]
                    if not part:
                        return False
                out.size -= len(part)
                isLast = out.isLast and not out.parts and out.trailers is None
                wrapped.send_data(stream, part, isLast)
            else:
                isLast = True
                if out.trailers is not None:
                    wrapped.send_headers(stream, out.trailers, True)
                else:
                    wrapped.end_stream(stream)
        except H2Error:
            # It has ended: that is told elsewhere.
            self._queued.pop(stream, None)
            return False
        if isLast:
            self._queued.pop(stream, None)
            out.hasEnded = True
            if out.peerEnded:
                self._ended.append((stream, 0))
        elif not out.parts and not out.isLast:
            self._queued.pop(stream, None)
        return True

    def request(self, headers: Headers, isLast: bool) -> int:
        """Open a stream. :raise StreamRefused: there can be none now."""
        if self.isOver or self._peerLast != _NO_LIMIT or self._lost:
            raise StreamRefused("the peer accepts no more streams")
        wrapped = self._wrapped
        try:
            stream: int = wrapped.get_next_available_stream_id()
            wrapped.send_headers(stream, headers, isLast)
        except TooManyStreamsError:
            raise StreamRefused("the peer accepts no more streams at once") from None
        except H2Error as error:
            raise StreamRefused(str(error)) from None
        out = self._open[stream] = Out()
        out.isHead = (b":method", b"HEAD") in headers
        out.hasEnded = isLast
        return stream

    def headers(self, stream: int, headers: Headers, isLast: bool) -> None:
        """Begin an answer."""
        out = self._open.get(stream)
        if out is None or self.isOver:
            return
        try:
            self._wrapped.send_headers(stream, headers, isLast)
        except H2Error:
            return
        if isLast:
            out.hasEnded = True
            if out.peerEnded:
                self._ended.append((stream, 0))

    def inform(self, stream: int, headers: Headers) -> None:
        """Send an interim answer."""
        self.headers(stream, headers, False)

    def data(self, stream: int, data: bytes, isLast: bool) -> None:
        """Send data, as soon as there is credit."""
        out = self._open.get(stream)
        if out is None or out.isLast or out.hasEnded:
            return
        if data:
            out.parts.append(data)
            out.size += len(data)
        out.isLast = isLast
        if data or isLast:
            self._queued[stream] = out

    def trailers(self, stream: int, headers: Headers) -> None:
        """Send the fields behind the data."""
        out = self._open.get(stream)
        if out is None or out.isLast or out.hasEnded:
            return
        out.trailers = headers
        out.isLast = True
        self._queued[stream] = out

    def answer(self, stream: int, headers: Headers, data: bytes, trailers: Headers) -> None:
        """Send a whole answer."""
        self.headers(stream, headers, False)
        self.data(stream, data, False)
        self.trailers(stream, trailers)

    def reset(self, stream: int, code: int) -> None:
        """End a stream."""
        if stream not in self._open:
            return
        with suppress(H2Error):
            self._wrapped.reset_stream(stream, code)
        self._queued.pop(stream, None)
        self._ended.append((stream, code))

    def consumed(self, stream: int, size: int) -> None:
        """So many bytes of data were taken."""
        if size and not self.isOver:
            try:
                self._wrapped.acknowledge_received_data(size, stream)
            except StreamClosedError:
                return

    def waiting(self, stream: int) -> int:
        """Bytes of data of a stream that wait."""
        out = self._open.get(stream)
        return 0 if out is None else out.size

    def credit(self, stream: int) -> int:
        """Bytes of data that the peer takes of a stream now; h2 shows no more than the connection's own credit."""
        try:
            return self._wrapped.local_flow_control_window(stream)
        except H2Error:
            return 0

    def ping(self, data: bytes) -> None:
        """Ask the peer for an answer."""
        if not self.isOver:
            self._wrapped.ping(data)

    def warn(self) -> None:
        """Say that no new streams will be accepted soon."""
        if not self.isOver:
            self._say(goAwayFrame(ErrorCode.NO_ERROR, _NO_LIMIT))

    def goAway(self, code: int, text: bytes = b"") -> None:
        """Say that no new streams are accepted."""
        if not self.isOver:
            self._last = min(self._last, self._wrapped.highest_inbound_stream_id)
            self._say(goAwayFrame(code, self._last, text))

    def _say(self, frame: bytes) -> None:
        self._out.append(self._wrapped.data_to_send())
        self._out.append(frame)
