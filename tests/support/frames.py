"""Random frames of either side, what becomes of them when they are damaged, and what engines tell of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpack import Encoder
from hypothesis import strategies as st
from zope.interface import implementer

from getty_tx.http.two.errors import ConnectionFault
from getty_tx.http.two.guard import PREFACE, Guard
from getty_tx.http.two.interfaces import IEngineEvents
from getty_tx.http.two.limits import Limits
from tests.support.http2 import CONTINUATION, DATA, HEADERS, PUSH_PROMISE, REQUEST, RST_STREAM, SETTINGS, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

__all__ = ["DAMAGES", "Run", "damaged", "frames", "greeting", "split"]

#: Streams that a client opens before the server's frames come.
OWN = (1, 3, 5)

SIZES = st.integers(0, 40)
CODES = st.integers(0, 20).map(lambda code: code.to_bytes(4, "big"))


def greeting(isServer: bool) -> bytes:
    """What the peer of a server, or of a client, sends first."""
    return (PREFACE if isServer else b"") + frame(SETTINGS, 0, 0, b"\0\3\0\0\0\x64") + frame(SETTINGS, 1, 0)


# What engines tell


@implementer(IEngineEvents)
class Told:
    """
    What an engine tells: pairs of a stream, 0 for none, and what was told of it.

    :ivar open: streams that have begun and not ended.
    """

    def __init__(self) -> None:
        self.events: list[tuple[int, tuple[Any, ...]]] = []
        self.open: set[int] = set()

    def headersCame(self, stream: int, headers: Any, isLast: bool) -> None:
        """A head."""
        self.open.add(stream)
        self.events.append((stream, ("head", [tuple(each) for each in headers], isLast)))

    def informed(self, stream: int, headers: Any) -> None:
        """An interim answer."""
        self.events.append((stream, ("informed", [tuple(each) for each in headers])))

    def dataCame(self, stream: int, data: bytes, isLast: bool) -> None:
        """A part of a body; how many parts there are says nothing."""
        events = self.events
        if events and events[-1][0] == stream and events[-1][1][0] == "data" and not events[-1][1][2]:
            data = events.pop()[1][1] + data
        if data or isLast:
            events.append((stream, ("data", data, isLast)))

    def trailersCame(self, stream: int, headers: Any) -> None:
        """Trailers."""
        self.events.append((stream, ("trailers", [tuple(each) for each in headers])))

    def wasReset(self, stream: int, code: int) -> None:
        """A reset; ngh2 tells also of those of streams that it does not know, which are counted alone."""
        if stream in self.open:
            self.events.append((stream, ("reset", code)))

    def streamEnded(self, stream: int, code: int) -> None:
        """The end."""
        self.open.discard(stream)
        self.events.append((stream, ("ended", code)))

    def creditCame(self, stream: int) -> None:
        """Credit, which each may tell as it likes."""

    def settingsCame(self, values: Any) -> None:
        """Settings."""
        self.events.append((0, ("settings", dict(values))))

    def pinged(self) -> None:
        """A PING."""
        self.events.append((0, ("pinged",)))

    def pongCame(self, data: bytes) -> None:
        """An answer to one."""
        self.events.append((0, ("pong", data)))

    def goingAway(self, last: int, code: int, text: bytes) -> None:
        """The end is near."""
        self.events.append((0, ("goingAway", last, code, text)))


class Run:
    """
    An engine behind its guard, as a connection has them.

    :ivar told: what it has told.
    :ivar fault: the code with which it ends the connection; None: it does not.
    :ivar isOver: it takes no more.
    """

    def __init__(self, engine: Callable[..., Any], isServer: bool) -> None:
        self.told = Told()
        self.fault: int | None = None
        self.isOver = False
        self.text = ""
        self._engine = engine(isServer, Limits(), self.told)
        self._guard = Guard(lambda: 0.0, len(PREFACE) if isServer else 0)
        if not isServer:
            for _ in OWN:
                self.told.open.add(self._engine.request(REQUEST, True))
        self._engine.take()

    def give(self, data: bytes) -> list[tuple[int, tuple[Any, ...]]]:
        """Give it bytes. :return: what it tells of them."""
        if self.isOver:
            return []
        told = self.told
        at = len(told.events)
        try:
            self._guard.look(data)
            self._engine.receive(data)
            self._engine.take()
        except ConnectionFault as fault:
            self.fault = fault.code
            self.text = str(fault)
        if self._engine.fault is not None:
            self.fault = self._engine.fault.code
        self.isOver = self.fault is not None or self._engine.isOver
        return told.events[at:]


# What peers send


@st.composite
def frames(draw: DrawFn, isServer: bool) -> list[bytes]:
    """What a peer may send behind its greeting."""
    encoder = Encoder()
    made: list[bytes] = []
    state = {} if isServer else dict.fromkeys(OWN, "new")
    number = 1
    for _ in range(draw(st.integers(0, 12))):
        live = [each for each, what in state.items() if what != "ended"]
        kind = draw(st.sampled_from(("head", "head", "data", "data", "trailers", "reset", "other")))
        if kind == "head" and isServer:
            isLast = draw(st.booleans())
            made += block(draw, encoder, number, [*REQUEST, *draw(fields)], isLast)
            state[number] = "ended" if isLast else "body"
            number += 2
        elif kind == "other":
            made.append(draw(others))
        elif live:
            stream = draw(st.sampled_from(live))
            if state[stream] == "new":
                status = draw(st.sampled_from((b"200", b"404", b"103")))
                isLast = status != b"103" and draw(st.booleans())
                made += block(draw, encoder, stream, [(b":status", status), *draw(fields)], isLast)
                if status != b"103":
                    state[stream] = "ended" if isLast else "body"
            elif kind == "trailers":
                made += block(draw, encoder, stream, [(b"a", b"b"), *draw(fields)], True)
                state[stream] = "ended"
            elif kind == "reset":
                made.append(frame(RST_STREAM, 0, stream, draw(CODES)))
                state[stream] = "ended"
            else:
                isLast = draw(st.booleans())
                made.append(data(draw, stream, isLast))
                if isLast:
                    state[stream] = "ended"
    return made


fields = st.lists(
    st.tuples(st.sampled_from((b"x", b"accept", b"cookie", b"te")), st.sampled_from((b"", b"1", b"trailers"))).filter(
        lambda pair: pair[0] != b"te" or pair[1] == b"trailers"
    ),
    max_size=4,
)

others = st.one_of(
    st.binary(min_size=8, max_size=8).map(lambda data: frame(6, 0, 0, data)),
    st.binary(max_size=20).map(lambda data: frame(0xEE, 3, 0, data)),
    st.integers(1, 1000).map(lambda size: frame(8, 0, 0, size.to_bytes(4, "big"))),
    st.integers(0, 100_000).map(lambda size: frame(4, 0, 0, b"\0\4" + size.to_bytes(4, "big"))),
    st.just(frame(4, 0, 0, b"\xff\xee\0\0\0\1")),
)


def block(draw: DrawFn, encoder: Encoder, stream: int, headers: Any, isLast: bool) -> list[bytes]:
    """A header block, in one frame or several."""
    encoded = encoder.encode(headers, huffman=draw(st.booleans()))
    cut = draw(st.integers(0, len(encoded)))
    if draw(st.booleans()):
        return [frame(HEADERS, 4 | isLast, stream, encoded)]
    return [frame(HEADERS, isLast, stream, encoded[:cut]), frame(CONTINUATION, 4, stream, encoded[cut:])]


def data(draw: DrawFn, stream: int, isLast: bool) -> bytes:
    """A frame of data, with padding or without."""
    content = b"x" * draw(SIZES)
    if draw(st.booleans()):
        return frame(DATA, isLast, stream, content)
    padding = draw(st.integers(0, 20))
    return frame(DATA, 8 | isLast, stream, bytes((padding,)) + content + b"\0" * padding)


# Damage


def _left_out(draw: DrawFn, made: list[bytes]) -> None:
    made.pop(draw(st.integers(0, len(made) - 1)))


def _doubled(draw: DrawFn, made: list[bytes]) -> None:
    at = draw(st.integers(0, len(made) - 1))
    made.insert(draw(st.integers(at, len(made))), made[at])


def _moved(draw: DrawFn, made: list[bytes]) -> None:
    one = made.pop(draw(st.integers(0, len(made) - 1)))
    made.insert(draw(st.integers(0, len(made))), one)


def _cut(draw: DrawFn, made: list[bytes]) -> None:
    at = draw(st.integers(0, len(made) - 1))
    made[at:] = [made[at][: draw(st.integers(1, len(made[at])))]]


def _any(draw: DrawFn, made: list[bytes]) -> None:
    kind, flags, stream = draw(st.integers(0, 12)), draw(st.integers(0, 255)), draw(st.integers(0, 9))
    content = draw(st.binary(max_size=12))
    made.insert(draw(st.integers(0, len(made))), frame(kind, flags, stream, content))


def _sized(draw: DrawFn, made: list[bytes]) -> None:
    """A frame of the size that its kind has, on a stream that may not have it, or with a value that it may not."""
    kind, size = draw(st.sampled_from(((2, 5), (3, 4), (4, 6), (6, 8), (7, 8), (8, 4), (0, 0), (0, 3))))
    stream = draw(st.sampled_from((0, 0, 1, 2, 3, 5, 9, 2**31 + 1)))
    itself = stream.to_bytes(4, "big").ljust(size, b"\0")[:size]
    contents = st.sampled_from((bytes(size), b"\xff" * size, itself))
    content = draw(st.one_of(contents, st.binary(min_size=size, max_size=size)))
    made.insert(draw(st.integers(0, len(made))), frame(kind, draw(st.sampled_from((0, 1, 4, 8))), stream, content))


#: Fields that are wrong, or that make a request or an answer wrong.
WRONG = (
    (b"A", b"b"),
    (b"a b", b"c"),
    (b"a", b" b"),
    (b"a", b"b\0"),
    (b"a", b"\x01"),
    (b"", b"a"),
    (b"te", b"gzip"),
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"content-length", b"x"),
    (b"content-length", b"-1"),
    (b"content-length", b"3"),
    (b"content-length", b"0"),
    (b"host", b"b"),
    (b"host", b"a"),
    (b":path", b"x"),
    (b":path", b""),
    (b":path", b"*"),
    (b":method", b"CONNECT"),
    (b":method", b"OPTIONS"),
    (b":scheme", b""),
    (b":authority", b"b"),
    (b":authority", b"a/b"),
    (b":protocol", b"websocket"),
    (b":status", b"200"),
    (b":status", b"20"),
    (b":status", b"101"),
    (b":status", b"204"),
    (b":status", b"304"),
    (b":status", b"99"),
    (b":test", b"a"),
)


def _fields(draw: DrawFn, made: list[bytes]) -> None:
    """A message with other fields, in a block that changes no table."""
    fields = [pair for pair in [*REQUEST, (b":status", b"200")] if draw(st.booleans())]
    if draw(st.booleans()):
        fields = draw(st.sampled_from(([*REQUEST], [(b":status", b"200")])))
    for _ in range(draw(st.integers(0, 2))):
        fields.insert(draw(st.integers(0, len(fields))), draw(st.sampled_from(WRONG)))
    content = b"".join(b"\0" + bytes((len(n),)) + n + bytes((len(v),)) + v for n, v in fields)
    one = frame(HEADERS, draw(st.sampled_from((4, 5))), draw(st.sampled_from((1, 3, 5, 7, 31))), content)
    made.insert(draw(st.integers(0, len(made))), one)


def _byte(draw: DrawFn, made: list[bytes], low: int, high: int) -> None:
    at = draw(st.integers(0, len(made) - 1))
    one = bytearray(made[at])
    if len(one) > low:
        one[draw(st.integers(low, min(high, len(one)) - 1))] = draw(st.integers(0, 255))
        made[at] = bytes(one)


def _length(draw: DrawFn, made: list[bytes]) -> None:
    _byte(draw, made, 2, 3)


def _kind(draw: DrawFn, made: list[bytes]) -> None:
    _byte(draw, made, 3, 4)


def _flags(draw: DrawFn, made: list[bytes]) -> None:
    _byte(draw, made, 4, 5)


def _stream(draw: DrawFn, made: list[bytes]) -> None:
    _byte(draw, made, 5, 9)


def _nearStream(draw: DrawFn, made: list[bytes]) -> None:
    at = draw(st.integers(0, len(made) - 1))
    made[at] = made[at][:8] + bytes((draw(st.integers(0, 12)),)) + made[at][9:]


def _content(draw: DrawFn, made: list[bytes]) -> None:
    _byte(draw, made, 9, 2**14)


#: What may become of frames, by name.
DAMAGES: dict[str, Callable[[DrawFn, list[bytes]], None]] = {
    "left out": _left_out,
    "doubled": _doubled,
    "moved": _moved,
    "cut": _cut,
    "any": _any,
    "sized": _sized,
    "fields": _fields,
    "length": _length,
    "kind": _kind,
    "flags": _flags,
    "stream": _stream,
    "near stream": _nearStream,
    "content": _content,
}


@st.composite
def damaged(draw: DrawFn, isServer: bool) -> tuple[list[str], bytes]:
    """Frames, and what was done to them: once, or up to three times."""
    made = draw(frames(isServer))
    done = draw(st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=3))
    for name in done:
        if made:
            DAMAGES[name](draw, made)
    return done, b"".join(made)


@dataclass
class Step:
    """One frame, as it was cut out of what was sent; the last one may not be whole."""

    data: bytes
    kind: int = field(init=False)
    flags: int = field(init=False)
    stream: int = field(init=False)
    more: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        head = self.data[:9].ljust(9, b"\0")
        self.kind, self.flags = head[3], head[4]
        self.stream = int.from_bytes(head[5:9], "big") & (2**31 - 1)

    @property
    def payload(self) -> bytes:
        """What is behind the head."""
        return self.data[9:]

    @property
    def all(self) -> bytes:
        """All of its frames."""
        return self.data + b"".join(each.data for each in self.more)

    @property
    def isBroken(self) -> bool:
        """A block has another frame in it."""
        last = self.more[-1] if self.more else self
        isOther = last.kind != CONTINUATION or last.stream != self.stream
        return last is not self and isOther and (last.isComplete or last.isTooLarge)

    @property
    def isTooLarge(self) -> bool:
        """Its head says so, whether the rest is there or not."""
        return len(self.data) >= 9 and int.from_bytes(self.data[:3], "big") > 16384

    @property
    def isComplete(self) -> bool:
        """All of the frame is there."""
        return len(self.data) >= 9 and len(self.payload) == int.from_bytes(self.data[:3], "big")

    @property
    def isEmpty(self) -> bool:
        """DATA that have none, but for padding."""
        return len(self.payload) == (1 + self.payload[0] if self.flags & 8 and self.payload else 0)

    @property
    def isWhole(self) -> bool:
        """All of it is there, and a block ends with END_HEADERS."""
        last = self.more[-1] if self.more else self
        isBlock = self.kind in (HEADERS, PUSH_PROMISE)
        return last.isComplete and not self.isBroken and (not isBlock or last.flags & 4 > 0)


def split(sent: bytes, greeting: bytes = b"") -> list[Step]:
    """
    The greeting in one step, then what was sent, by the lengths that its frames say.

    A header block is one step, with the frames that it has.

    What comes behind HEADERS that have not ended is a part of the block, be it a CONTINUATION or not.
    """
    found: list[Step] = [Step(greeting)] if greeting else []
    isOpen = False
    while sent:
        stop = 9 + int.from_bytes(sent[:3], "big")
        one = Step(sent[:stop])
        sent = sent[stop:]
        if isOpen:
            found[-1].more.append(one)
            isOpen = one.kind == CONTINUATION and one.stream == found[-1].stream and not one.flags & 4
        else:
            found.append(one)
            isOpen = one.kind in (HEADERS, PUSH_PROMISE) and not one.flags & 4
    return found
