"""The stock listener of ``getty-dial``: sends numbered messages, and counts replies, losses and reconnects."""

from __future__ import annotations

import re
from math import sqrt
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.logger import Logger

from getty_tx.codecs import EchoPackage
from getty_tx.codecs.getty import ECHO, WEBSOCKET_ECHO
from getty_tx.errors import SettingError
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from getty_tx.interfaces import IReadWriter
    from getty_tx.session.session import Session

__all__ = ["Ping", "RoundTrips", "Shape", "shapeFor"]

log = Logger()

_TEXT = re.compile(rb"getty-dial ([0-9]{1,18})")

#: The longest number that a message is checked with; no command sends so many messages.
_HIGHEST = 10**12


class Shape(NamedTuple):
    """
    The form of messages as packages of a codec.

    :ivar make: returns the package with this number.
    :ivar number: returns the number in a package, or None.
    """

    make: Callable[[int], Any]
    number: Callable[[Any], int | None]


def _makeBytes(number: int) -> bytes:
    return b"getty-dial %d" % number


def _numberOfBytes(pkg: Any) -> int | None:
    found = _TEXT.fullmatch(pkg) if isinstance(pkg, bytes | bytearray | memoryview) else None
    return None if found is None else int(found[1])


def _numberOfText(pkg: Any) -> int | None:
    return _numberOfBytes(pkg.encode("utf-8", "replace")) if isinstance(pkg, str) else None


def _makeEchoPackage(number: int, command: int = ECHO) -> EchoPackage:
    return EchoPackage(command, _makeBytes(number), sequence=number & 0xFFFFFFFF)


def _makeWebSocketEchoPackage(number: int) -> EchoPackage:
    return _makeEchoPackage(number, WEBSOCKET_ECHO)


def _numberOfEchoPackage(pkg: Any) -> int | None:
    return _numberOfBytes(pkg.body) if isinstance(pkg, EchoPackage) else None


def _numberOfDocument(pkg: Any) -> int | None:
    number = pkg.get("getty-dial") if isinstance(pkg, dict) else None
    return number if type(number) is int else None


#: Bytes first, which most codecs can encode.
_SHAPES = (
    Shape(_makeBytes, _numberOfBytes),
    Shape(_makeEchoPackage, _numberOfEchoPackage),
    Shape(lambda number: {"getty-dial": number}, _numberOfDocument),
    Shape(lambda number: _makeBytes(number).decode(), _numberOfText),
)

_WEBSOCKET_SHAPES = (_SHAPES[0], Shape(_makeWebSocketEchoPackage, _numberOfEchoPackage), *_SHAPES[2:])


def shapeFor(codec: IReadWriter, maxMsgLen: int, overWebSocket: bool = False) -> Shape:
    """
    Find the first form of messages that this codec can carry, by trying.

    :param overWebSocket: Getty's echo examples use another command over WebSocket.
    :raise SettingError: the codec carries no form, or does not keep messages apart, or messages are too long.
    """
    anyCodec: Any = codec  # called without a session; codecs that need theirs are refused
    why = ""
    for shape in _WEBSOCKET_SHAPES if overWebSocket else _SHAPES:
        try:
            first, second = (_encode(codec, shape.make(number)) for number in (1, 2))
            pkg, length = anyCodec.read(None, memoryview(first + second))
            longest = len(_encode(codec, shape.make(_HIGHEST)))
        except Exception as error:
            why = why or f"{type(error).__name__}: {error}"
            continue
        if length > len(first):
            why = "it does not keep packages apart, so replies may come in pieces or together"
        elif shape.number(pkg) != 1:
            why = why or f"it decodes {shape.make(1)!r} as {pkg!r}"
        elif longest > maxMsgLen:
            raise SettingError(f"a message of getty-dial takes up to {longest} bytes")
        else:
            return shape
    raise SettingError(f"it cannot carry messages such as {_makeBytes(1)!r}: {why}; use another codec, or a --listener")


def _encode(codec: Any, pkg: Any) -> bytes:
    data = codec.write(None, pkg)
    return b"".join(data) if isinstance(data, list) else bytes(data)


class RoundTrips:
    """
    The summary, as in the last lines of ``ping``.

    :ivar sent: messages sent.
    :ivar received: replies in time.
    :ivar other: packages that were not a reply, or too late.
    :ivar closed: lost sessions.
    :ivar reconnects: sessions that replaced lost ones.
    """

    def __init__(self) -> None:
        self.sent = self.received = self.other = self.closed = self.reconnects = 0
        self._least = float("inf")
        self._most = self._sum = self._squares = 0.0

    def add(self, seconds: float) -> None:
        """Count a reply with its round-trip time."""
        self.received += 1
        self._least = min(self._least, seconds)
        self._most = max(self._most, seconds)
        self._sum += seconds
        self._squares += seconds * seconds

    def __str__(self) -> str:
        lost = self.sent - self.received
        line = f"{self.sent} messages sent, {self.received} received, {100 * lost / (self.sent or 1):.3g}% lost"
        for number, what in [
            (self.other, "packages late or not a reply"),
            (self.closed, "sessions lost"),
            (self.reconnects, "reconnected"),
        ]:
            if number:
                line += f", {number} {what}"
        if self.received:
            mean = self._sum / self.received
            # Rounding can make the variance a little less than 0.
            deviation = sqrt(max(0.0, self._squares / self.received - mean * mean))
            times = "/".join(f"{1000 * time:.3f}" for time in (self._least, mean, self._most, deviation))
            line += f"; round trip min/avg/max/mdev = {times} ms"
        return line


class Ping(EventListener):
    """
    Sends numbered messages, and waits for the same packages as replies.

    :param shape: the form of the messages.
    :param timeout: seconds after which a message counts as lost.
    :param onSettled: called when no message is without a reply any more.
    :param clock: returns seconds from any origin.

    :ivar results: the summary.
    :ivar waiting: the messages without a reply, oldest first: session and time by number.
    """

    def __init__(
        self,
        shape: Shape,
        timeout: float,
        onSettled: Callable[[], object],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._shape = shape
        self._timeout = timeout
        self._onSettled = onSettled
        self._clock = clock
        self._number = 0
        self._missing = 0
        self._ending = False
        self.results = RoundTrips()
        self.waiting: dict[int, tuple[Session, float]] = {}

    def sendRound(self, sessions: Iterable[Session]) -> None:
        """Send a message on each of the sessions."""
        for session in list(sessions):
            self._number += 1
            number = self._number
            self.waiting[number] = session, self._clock()
            try:
                session.writePkg(self._shape.make(number))
            except Exception as error:
                del self.waiting[number]
                log.warn("message {number} not sent: {error}", number=number, error=error)
            else:
                self.results.sent += 1

    def giveUp(self) -> None:
        """Count messages that are older than the timeout as lost."""
        oldest = self._clock() - self._timeout
        late = []
        for number, (_, sent) in self.waiting.items():
            if sent > oldest:
                break
            late.append(number)
        for number in late:
            session, _ = self.waiting.pop(number)
            log.warn(
                "{session}: message {number} lost: no reply in {timeout:g} s",
                session=session,
                number=number,
                timeout=self._timeout,
            )

    def end(self) -> None:
        """From now on a closed session does not count as lost."""
        self._ending = True

    def onOpen(self, session: Session) -> None:
        """A session is open: a first one, or one that replaces a lost one."""
        again = self._missing > 0
        if again:
            self._missing -= 1
            self.results.reconnects += 1
        log.info("{session}: {what}", session=session, what="reconnected" if again else "connected")

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Count the package as a reply, or as another package."""
        now = self._clock()
        number = self._shape.number(pkg)
        sender, sent = self.waiting.get(number, (None, 0.0)) if number is not None else (None, 0.0)
        if number is None or sender is not session or now - sent > self._timeout:
            self.results.other += 1
            log.info("{session}: {shown} is not a reply, or late", session=session, shown=f"{pkg!r:.100}")
            return
        del self.waiting[number]
        self.results.add(now - sent)
        log.info(
            "{session}: message {number} back in {time:.3f} ms",
            session=session,
            number=number,
            time=1000 * (now - sent),
        )
        self._settle()

    def onError(self, session: Session, error: BaseException) -> None:
        """Log the error."""
        log.warn("{session}: {error}", session=session, error=error)

    def onClose(self, session: Session) -> None:
        """Count the session and its messages as lost."""
        if self._ending:
            return
        self._missing += 1
        self.results.closed += 1
        lost = [number for number, (sender, _) in self.waiting.items() if sender is session]
        for number in lost:
            del self.waiting[number]
        log.warn("{session}: lost, and {lost} messages with it", session=session, lost=len(lost))
        self._settle()

    def _settle(self) -> None:
        if not self.waiting:
            self._onSettled()
