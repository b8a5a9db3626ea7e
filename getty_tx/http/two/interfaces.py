"""The plug points of HTTP/2: an engine of frames, and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from getty_tx.http.two.errors import ConnectionFault

    Headers = Sequence[tuple[bytes, bytes]]

__all__ = ["IEngine", "IEngineEvents"]


class IEngine(Interface):
    """
    The frames, the header compression and the states of the streams of one connection.

    It knows no socket and no time. Bytes of the peer go in, and call methods of its :py:class:`IEngineEvents`; calls
    make bytes for the peer, which :py:meth:`take` gives. It checks what RFC 9113 asks of a message: a wrong one ends
    its stream, and is not told. Header fields are pairs of bytes, with the pseudo-header fields first.
    """

    isOver: bool = Attribute("The connection has ended, orderly or by a fault: what take() gives now is the last.")
    fault: ConnectionFault | None = Attribute("The rule that the peer has broken, if that has ended the connection.")

    def receive(data: bytes) -> None:
        """
        Take bytes of the peer, and tell of them.

        :raise ConnectionFault: they break a rule of the whole connection.
        """

    def take() -> bytes:
        """Bytes for the peer: frames that are ready, and data for which there is credit."""

    def request(headers: Headers, isLast: bool) -> int:
        """Open a stream. :return: its number. :raise StreamRefused: there can be none now."""

    def headers(stream: int, headers: Headers, isLast: bool) -> None:
        """Begin an answer. A stream that has ended is passed over, here and in all that follows."""

    def inform(stream: int, headers: Headers) -> None:
        """Send an interim answer."""

    def data(stream: int, data: bytes, isLast: bool) -> None:
        """Send data, as soon as there is credit."""

    def trailers(stream: int, headers: Headers) -> None:
        """Send the fields behind the data, which end this side."""

    def answer(stream: int, headers: Headers, data: bytes, trailers: Headers) -> None:
        """Send a whole answer, as ``headers``, ``data`` and ``trailers`` do."""

    def reset(stream: int, code: int) -> None:
        """End a stream; what waits is dropped."""

    def consumed(stream: int, size: int) -> None:
        """So many bytes of data were taken: the peer may send as many more."""

    def waiting(stream: int) -> int:
        """Bytes of data of a stream that wait for credit, or for :py:meth:`take`."""

    def credit(stream: int) -> int:
        """Bytes of data that the peer takes of a stream now, whatever the connection's own credit is."""

    def ping(data: bytes) -> None:
        """Ask the peer for an answer, by eight bytes."""

    def warn() -> None:
        """Say that no new streams will be accepted soon (RFC 9113, 6.8), and accept those that are on their way."""

    def goAway(code: int, text: bytes = b"") -> None:
        """Say that no new streams are accepted: those that were opened go on, later ones are not told."""


class IEngineEvents(Interface):
    """What an engine tells, while it takes bytes of the peer or is called."""

    def headersCame(stream: int, headers: Headers, isLast: bool) -> None:
        """A request, or the answer to one."""

    def informed(stream: int, headers: Headers) -> None:
        """An interim answer."""

    def dataCame(stream: int, data: bytes, isLast: bool) -> None:
        """A part of a body; it may be empty. It counts as taken when ``consumed`` says so."""

    def trailersCame(stream: int, headers: Headers) -> None:
        """The fields behind a body, which end it."""

    def wasReset(stream: int, code: int) -> None:
        """The peer has reset a stream, which may have ended already, or is refused: else ``streamEnded`` follows."""

    def streamEnded(stream: int, code: int) -> None:
        """Both sides of a stream have ended, or one has reset it; it is forgotten. Comes once for each stream."""

    def creditCame(stream: int) -> None:
        """The peer takes more data of a stream; 0: of all together."""

    def settingsCame(settings: Mapping[int, int]) -> None:
        """The peer's settings, by number."""

    def pinged() -> None:
        """The peer asks for an answer, which it gets."""

    def pongCame(data: bytes) -> None:
        """The answer to ``ping``."""

    def goingAway(last: int, code: int, text: bytes) -> None:
        """The peer accepts no streams above ``last``: those of this side end, with REFUSED_STREAM."""
