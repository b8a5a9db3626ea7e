"""Rules of RFC 9113 by their sections, as h2spec lists them: what breaks one ends its stream or the connection."""

from __future__ import annotations

from getty_tx.http.two.errors import ErrorCode
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Case,
    Talk,
    frame,
    settings,
)

PROTOCOL, FLOW, CLOSED, SIZE = (
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.FLOW_CONTROL_ERROR,
    ErrorCode.STREAM_CLOSED,
    ErrorCode.FRAME_SIZE_ERROR,
)
COMPRESSION = ErrorCode.COMPRESSION_ERROR
MOST = (2**31 - 1).to_bytes(4, "big")

#: The connection ends with one of the codes. ``R`` stands for a request without an end, ``E`` for one with it.
FAULTS: dict[str, tuple[set[ErrorCode], tuple[bytes | str, ...]]] = {
    "4.2 a frame above SETTINGS_MAX_FRAME_SIZE": ({SIZE}, ("R", frame(DATA, 0, 1, b"x" * 16385))),
    "4.3 a block that cannot be decoded": (
        {COMPRESSION, PROTOCOL},
        (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"),),
    ),
    "4.3 another frame within a block": ({PROTOCOL}, (frame(HEADERS, 1, 1, b"\x82"), frame(PING, 0, 0, bytes(8)))),
    "4.3 another stream within a block": ({PROTOCOL}, (frame(HEADERS, 1, 1, b"\x82"), frame(CONTINUATION, 4, 3))),
    "5.1 DATA on an idle stream": ({PROTOCOL, CLOSED}, (frame(DATA, 0, 1, b"x"),)),
    "5.1 RST_STREAM on an idle stream": ({PROTOCOL}, (frame(RST_STREAM, 0, 1, bytes(4)),)),
    "5.1 WINDOW_UPDATE on an idle stream": ({PROTOCOL}, (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),)),
    "5.1.1 a stream with an even number": ({PROTOCOL}, (frame(HEADERS, 5, 2, b"\x82\x84\x86\x41\1a"),)),
    "5.1 DATA behind the end": ({CLOSED}, ("E", frame(DATA, 0, 1, b"x"))),
    "5.1 HEADERS behind the end": ({CLOSED}, ("E", frame(HEADERS, 5, 1, b"\x82"))),
    "5.1 DATA behind RST_STREAM": ({CLOSED}, ("R", frame(RST_STREAM, 0, 1, bytes(4)), frame(DATA, 0, 1, b"x"))),
    "5.1 HEADERS behind RST_STREAM": (
        {CLOSED},
        ("R", frame(RST_STREAM, 0, 1, bytes(4)), frame(HEADERS, 5, 1, b"\x82")),
    ),
    "5.1.1 a number below one before": (
        {PROTOCOL},
        (frame(HEADERS, 4, 5, b"\x82\x84\x86\x41\1a"), frame(HEADERS, 5, 3, b"\x82\x84\x86\x41\1a")),
    ),
    "6.1 DATA of no stream": ({PROTOCOL}, (frame(DATA, 0, 0, b"x"),)),
    "6.1 more padding than there is": ({PROTOCOL}, ("R", frame(DATA, 8, 1, b"\x09x"))),
    "6.2 HEADERS of no stream": ({PROTOCOL}, (frame(HEADERS, 5, 0, b"\x82"),)),
    "6.2 more padding than there is": ({PROTOCOL}, (frame(HEADERS, 13, 1, b"\x20\x82"),)),
    "6.3 PRIORITY of no stream": ({PROTOCOL}, (frame(PRIORITY, 0, 0, bytes(5)),)),
    "6.4 RST_STREAM of no stream": ({PROTOCOL}, (frame(RST_STREAM, 0, 0, bytes(4)),)),
    "6.4 RST_STREAM of another size": ({SIZE}, ("R", frame(RST_STREAM, 0, 1, bytes(3)))),
    "6.5 SETTINGS with ACK and content": ({SIZE, PROTOCOL}, (frame(SETTINGS, 1, 0, bytes(6)),)),
    "6.5 SETTINGS of a stream": ({PROTOCOL}, (frame(SETTINGS, 0, 1, bytes(6)),)),
    "6.5 SETTINGS of another size": ({SIZE}, (frame(SETTINGS, 0, 0, bytes(5)),)),
    "6.5.2 ENABLE_PUSH of 2": ({PROTOCOL}, (settings({2: 2}),)),
    "6.5.2 INITIAL_WINDOW_SIZE above the most": ({FLOW}, (settings({4: 2**31}),)),
    "6.5.2 MAX_FRAME_SIZE below the least": ({PROTOCOL}, (settings({5: 16383}),)),
    "6.5.2 MAX_FRAME_SIZE above the most": ({PROTOCOL}, (settings({5: 2**24}),)),
    "6.6 PUSH_PROMISE of a client": ({PROTOCOL}, ("R", frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"))),
    "6.7 PING of a stream": ({PROTOCOL}, (frame(PING, 0, 1, bytes(8)),)),
    "6.7 PING of another size": ({SIZE}, (frame(PING, 0, 0, bytes(6)),)),
    "6.8 GOAWAY of a stream": ({PROTOCOL}, (frame(GOAWAY, 0, 1, bytes(8)),)),
    "6.9 WINDOW_UPDATE of nothing": ({PROTOCOL}, (frame(WINDOW_UPDATE, 0, 0, bytes(4)),)),
    "6.9 WINDOW_UPDATE of another size": ({SIZE}, (frame(WINDOW_UPDATE, 0, 0, bytes(3)),)),
    "6.9.1 credit above the most": ({FLOW}, (frame(WINDOW_UPDATE, 0, 0, MOST),)),
    "6.9.2 credit above the most by SETTINGS": (
        {FLOW},
        ("R", frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\0\0"), settings({4: 2**31 - 1})),
    ),
    "6.10 CONTINUATION of no block": ({PROTOCOL}, ("R", frame(CONTINUATION, 4, 1, b"\x82"))),
    "6.10 CONTINUATION of no stream": ({PROTOCOL}, (frame(HEADERS, 1, 1, b"\x82"), frame(CONTINUATION, 4, 0))),
}

PATH = REQUEST[:2] + REQUEST[3:]

#: A request that is wrong is not served: its stream ends, or the connection.
WRONG: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    "8.2 an upper-case name": (*REQUEST, (b"X-Test", b"a")),
    "8.2.2 Connection": (*REQUEST, (b"connection", b"keep-alive")),
    "8.2.2 Transfer-Encoding": (*REQUEST, (b"transfer-encoding", b"chunked")),
    "8.2.2 TE but trailers": (*REQUEST, (b"te", b"gzip")),
    "8.3 an unknown pseudo-header field": (*REQUEST, (b":test", b"a")),
    "8.3 that of an answer": (*REQUEST, (b":status", b"200")),
    "8.3 one behind others": (*REQUEST[:3], (b"a", b"b"), REQUEST[3]),
    "8.3.1 an empty path": (*PATH, (b":path", b"")),
    "8.3.1 no path": PATH,
    "8.3.1 no method": REQUEST[1:],
    "8.3.1 no scheme": (REQUEST[0], *REQUEST[2:]),
    "8.3.1 two paths": (*REQUEST, (b":path", b"/b")),
    "8.1.1 another Content-Length": (*REQUEST, (b"content-length", b"5")),
    "8.2.1 CR LF in a value": (*REQUEST, (b"a", b"b\r\nc")),
    "8.2.1 NUL in a value": (*REQUEST, (b"a", b"b\0c")),
    "8.2.1 a space before a value": (*REQUEST, (b"a", b" b")),
}


class NgRules(Case):
    """On ngh2."""

    def faults(self, codes: set[ErrorCode], parts: tuple[bytes | str, ...]) -> str:
        """What is wrong; empty: nothing."""
        talk = self.talk()
        made = [talk.request(1, isLast=part == "E") if isinstance(part, str) else part for part in parts]
        talk.send(*made)
        code = talk.gone()
        return "" if code in codes and talk.isClosed else f"{code}"

    def test_faults(self) -> None:
        """The connection ends, with the code that the RFC names."""
        found = {name: self.faults(*case) for name, case in FAULTS.items()}
        self.assertEqual({name: what for name, what in found.items() if what}, {})

    def isServed(self, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
        """Whether a request is answered."""
        talk = self.talk()
        talk.send(self.literal(talk, headers))
        frames = talk.frames()
        self.assertTrue({each[0] for each in frames} & {RST_STREAM, GOAWAY, DATA}, frames)
        return any(each[0] == DATA for each in frames)

    def literal(self, talk: Talk, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """A request, without what an encoder might do to its names."""
        block = b"".join(b"\0" + bytes((len(n),)) + n + bytes((len(v),)) + v for n, v in headers)
        return frame(HEADERS, 5, 1, block)

    def test_wrongRequests(self) -> None:
        """None is served; a right one is."""
        self.assertTrue(self.isServed(REQUEST))
        self.assertEqual([name for name, headers in WRONG.items() if self.isServed(headers)], [])


class H2Rules(NgRules):
    """On h2."""

    engine = "h2"
