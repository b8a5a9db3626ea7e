"""An engine that is libnghttp2, by the package ngh2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngh2 import Configuration, Connection, Role, events
from ngh2.exceptions import (
    ConnectionClosingError,
    ConnectionStateError,
    DenialOfServiceError,
    NGH2Error,
    StreamProtocolError,
)
from zope.interface import implementer

from getty_tx.http.two.errors import ConnectionFault, ErrorCode, StreamRefused
from getty_tx.http.two.guard import MAX_CONTINUATIONS, MAX_SETTINGS
from getty_tx.http.two.interfaces import IEngine

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import Headers, IEngineEvents
    from getty_tx.http.two.limits import Limits

__all__ = ["NgEngine"]

# SETTINGS (RFC 9113, 6.5.2); the last one says that priorities of RFC 7540 are not looked at (RFC 9218, 2.1).
_ENABLE_PUSH, _MAX_STREAMS, _WINDOW, _MAX_HEADERS, _NO_PRIORITIES = 2, 3, 4, 6, 9

#: More than any number of streams.
_NO_LIMIT = 2**31 - 1

#: Answers to PING and SETTINGS that wait to be sent, above which the connection ends; nghttp2 and Envoy have the same.
MAX_ANSWERS = 1000

#: The guard counts what wastes time, for all engines: the engine's own buckets are never the first to be empty.
_ENDLESS = 2**62, 2**31

#: What is raised for a stream, or a connection, that has ended. Who called hears of that by ``streamEnded``, or by its
#: session.
_ENDED = StreamProtocolError, ConnectionClosingError, ConnectionStateError


@implementer(IEngine)
class NgEngine:
    """
    An :py:class:`~getty_tx.http.two.interfaces.IEngine` on libnghttp2.

    :param isServer: which side this is.
    :param limits: what the peer may do.
    :param told: what is told of the peer's bytes.
    """

    __slots__ = ("_connection", "_maxStreams", "_peerGoes", "_told", "fault", "isOver")

    def __init__(self, isServer: bool, limits: Limits, told: IEngineEvents) -> None:
        self._told = told
        self.isOver = self._peerGoes = False
        self.fault: ConnectionFault | None = None
        self._connection = connection = Connection(
            Role.SERVER if isServer else Role.CLIENT,
            Configuration(
                auto_window_update=False,
                max_outbound_ack=MAX_ANSWERS,
                max_settings=MAX_SETTINGS,
                max_continuations=MAX_CONTINUATIONS,
                max_inbound_header_list_size=limits.maxHeaders,
                max_inbound_header_count=limits.maxFields,
                stream_reset_rate_limit=_ENDLESS,
                glitch_rate_limit=_ENDLESS,
            ),
        )
        # nghttp2 would end the connection for a stream too many, where the server's connection refuses it. So it knows
        # of no limit, and its first frame is changed to say ours.
        self._maxStreams = _said(limits.maxStreams) if isServer else b""
        settings = {_WINDOW: limits.streamWindow, _MAX_HEADERS: limits.maxHeaders, _NO_PRIORITIES: 1}
        settings[_MAX_STREAMS if isServer else _ENABLE_PUSH] = _NO_LIMIT if isServer else 0
        connection.initiate_connection(settings)
        connection.set_local_window_size(limits.credit)

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer, and tell of them. :raise ConnectionFault: they break a rule."""
        connection = self._connection
        fault: ConnectionFault | None = None
        try:
            connection.receive_data(data)
        except DenialOfServiceError as error:
            fault = ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(error))
        except NGH2Error as error:
            fault = ConnectionFault(ErrorCode.PROTOCOL_ERROR, str(error))
        self._tell()
        if fault is not None:
            self.isOver = True
            self.fault = fault
            raise fault

    def _tell(self) -> None:
        told = self._told
        came: list[Any] = self._connection.events()
        count, at = len(came), 0
        while at < count:
            event = came[at]
            kind = type(event)
            at += 1
            if kind is events.DataReceived:
                stream = event.stream_id
                if at < count and type(came[at]) is events.DataReceived and came[at].stream_id == stream:
                    at = self._tellData(came, at - 1)
                else:
                    told.dataCame(stream, event.data, event.end_stream)
            elif kind is events.RequestReceived or kind is events.ResponseReceived:
                told.headersCame(event.stream_id, event.headers, event.end_stream)
            elif kind is events.StreamClosed:
                told.streamEnded(event.stream_id, event.error_code)
            elif kind is events.WindowUpdated:
                told.creditCame(event.stream_id)
            elif kind is not events.SettingsAcknowledged:
                self._tellMore(kind, event)

    def _tellData(self, came: list[Any], at: int) -> int:
        """Tell of data and what follows of its stream at once: small frames cost less. :return: the next event."""
        event = came[at]
        stream: int = event.stream_id
        parts: list[bytes] = []
        while event is not None and event.stream_id == stream:
            parts.append(event.data)
            isLast: bool = event.end_stream
            at += 1
            event = came[at] if at < len(came) and type(came[at]) is events.DataReceived else None
        self._told.dataCame(stream, b"".join(parts), isLast)
        return at

    def _tellMore(self, kind: Any, event: Any) -> None:
        told = self._told
        if kind is events.TrailersReceived:
            told.trailersCame(event.stream_id, event.headers)
        elif kind is events.StreamReset:
            told.wasReset(event.stream_id, event.error_code)
        elif kind is events.SettingsReceived:
            told.settingsCame(event.settings)
        elif kind is events.PingReceived:
            told.pinged()
        elif kind is events.PingAcknowledged:
            told.pongCame(event.opaque_data)
        elif kind is events.GoAwayReceived:
            self._peerGoes = True
            told.goingAway(event.last_stream_id, event.error_code, event.debug_data)
        elif kind is events.InformationalResponseReceived:
            told.informed(event.stream_id, event.headers)
        elif kind is events.ConnectionClosed:
            self.isOver = True
            if event.error_code and not self._peerGoes:
                reason = event.debug_data.decode("latin-1") or "the peer has broken a rule of HTTP/2"
                self.fault = ConnectionFault(event.error_code, reason)

    def take(self) -> bytes:
        """Bytes for the peer."""
        try:
            data: bytes = self._connection.data_to_send()
        except _ENDED:
            # After a fault there is nothing more.
            self.isOver = True
            return b""
        if data:
            if self._maxStreams:
                data = data.replace(_said(_NO_LIMIT), self._maxStreams, 1)
                self._maxStreams = b""
            # That streams have ended is known when their last frame was taken.
            self._tell()
        return data

    def request(self, headers: Headers, isLast: bool) -> int:
        """Open a stream. :raise StreamRefused: there can be none now."""
        try:
            return self._connection.send_request(headers, end_stream=isLast)
        except NGH2Error as error:
            raise StreamRefused(str(error)) from None

    def headers(self, stream: int, headers: Headers, isLast: bool) -> None:
        """Begin an answer."""
        try:
            self._connection.send_response(stream, headers, end_stream=isLast)
        except _ENDED:
            return

    def inform(self, stream: int, headers: Headers) -> None:
        """Send an interim answer."""
        try:
            self._connection.send_informational_response(stream, headers)
        except _ENDED:
            return

    def data(self, stream: int, data: bytes, isLast: bool) -> None:
        """Send data, as soon as there is credit."""
        try:
            self._connection.send_data(stream, data, end_stream=isLast)
        except _ENDED:
            return

    def trailers(self, stream: int, headers: Headers) -> None:
        """Send the fields behind the data."""
        try:
            self._connection.send_trailers(stream, headers)
        except _ENDED:
            return

    def answer(self, stream: int, headers: Headers, data: bytes, trailers: Headers) -> None:
        """Send a whole answer."""
        connection = self._connection
        try:
            connection.send_response(stream, headers)
            connection.send_data(stream, data)
            connection.send_trailers(stream, trailers)
        except _ENDED:
            return

    def reset(self, stream: int, code: int) -> None:
        """End a stream."""
        try:
            self._connection.reset_stream(stream, code)
        except _ENDED:
            return

    def consumed(self, stream: int, size: int) -> None:
        """So many bytes of data were taken."""
        try:
            self._connection.acknowledge_received_data(size, stream)
        except _ENDED:
            return

    def waiting(self, stream: int) -> int:
        """Bytes of data of a stream that wait."""
        return 0 if self.isOver else self._connection.queued_body_size(stream)

    def credit(self, stream: int) -> int:
        """Bytes of data that the peer takes of a stream now."""
        try:
            return self._connection.stream_remote_window_size(stream)
        except NGH2Error:
            return 0

    def ping(self, data: bytes) -> None:
        """Ask the peer for an answer."""
        try:
            self._connection.ping(data)
        except _ENDED:
            return

    def warn(self) -> None:
        """Say that no new streams will be accepted soon."""
        try:
            self._connection.send_shutdown_notice()
        except _ENDED:
            return

    def goAway(self, code: int, text: bytes = b"") -> None:
        """Say that no new streams are accepted."""
        try:
            self._connection.send_goaway(code, debug_data=text)
        except _ENDED:
            return


def _said(maxStreams: int) -> bytes:
    """The entry of a SETTINGS frame."""
    return _MAX_STREAMS.to_bytes(2, "big") + maxStreams.to_bytes(4, "big")
