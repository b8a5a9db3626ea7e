"""
The load of ``benchmarks.grpc`` for streams, the same for all servers: frames that were made before, and read by head.

    python -m benchmarks.grpcload PORT KIND CONNECTIONS STREAMS WARMUP SECONDS

KIND is ``server``, ``client``, ``bidi`` or ``unary``; each connection has so many calls at once, and a stream has
:data:`COUNT` messages of :data:`SIZE` bytes, a frame for each. Every status is looked at, and every answer's size. It
prints ``measuring`` when the warm-up is over, and the result in the end: messages, which are those of the stream, and
with ``bidi`` those that came back.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

from hpack import Decoder

#: Messages of a stream, and the bytes of one.
COUNT, SIZE = 1000, 100

#: The largest window there is: the load never stops a server.
WINDOW = 2**31 - 1

METHODS = {"unary": "Say", "server": "Give", "client": "Take", "bidi": "Talk"}

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 4, 8, 32


class LoadFailed(Exception):
    """A server does not do what it is asked for."""


def message(value: bytes) -> bytes:
    """A BytesValue with its head of five bytes; the value is filled with blanks to have :data:`SIZE` bytes then."""
    value = value.ljust(SIZE - 2)
    return b"\0%b\n%c%b" % (SIZE.to_bytes(4, "big"), len(value), value)


#: What is sent in all streams; ``Give`` reads a number.
MESSAGE = message(b"%d" % COUNT)


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return b"%b%c%c%b%b" % (len(body).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), body)


def literal(name: str, value: str) -> bytes:
    """A field of HPACK that is in no table."""
    return b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())


def headOf(kind: str, port: int) -> bytes:
    """The fields of a request."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/bench.Echo/{METHODS[kind]}"),
        (":authority", f"127.0.0.1:{port}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    return b"".join(literal(*each) for each in fields)


@dataclass
class _Stream:
    """
    A call.

    :ivar window: bytes that the server takes.
    :ivar unsent: messages that wait.
    :ivar data: bytes that came; ``body`` has them where they are compared.
    """

    window: int
    unsent: int
    data: int = 0
    isRead: bool = False
    body: bytearray = field(default_factory=bytearray)


class Load:
    """One connection. ``messages`` are those that have passed."""

    def __init__(self, port: int, kind: str, streams: int, limit: int = 0) -> None:
        self.kind = kind
        self.messages = self.ended = 0
        self._limit = limit
        self._wanted = len(MESSAGE) * (COUNT if kind in ("server", "bidi") else 1)
        self._sends = COUNT if kind in ("client", "bidi") else 1
        self._head = headOf(kind, port)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder()
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._window = self._initial = 65_535
        self._taken = 0
        self._data = b""
        self._out: list[bytes] = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            frame(_SETTINGS, 0, 0, b"\0\x04" + WINDOW.to_bytes(4, "big")),
            frame(_UPDATE, 0, 0, (WINDOW - 65_535).to_bytes(4, "big")),
        ]
        self._early = b""
        self.body = b""
        for _ in range(streams):
            self._open()
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _open(self) -> None:
        number = self._next
        self._next += 2
        self._streams[number] = made = _Stream(self._initial, self._sends)
        self._out.append(frame(_HEADERS, _END_HEADERS, number, self._head))
        self._send(number, made)

    def _send(self, number: int, stream: _Stream) -> None:
        """Send as many messages as there is room for."""
        count = min(stream.unsent, stream.window // len(MESSAGE), self._window // len(MESSAGE))
        if count <= 0:
            return
        stream.unsent -= count
        stream.window -= count * len(MESSAGE)
        self._window -= count * len(MESSAGE)
        if stream.unsent:
            self._out.append(frame(_DATA, 0, number, MESSAGE) * count)
        else:
            self._out.append(
                frame(_DATA, 0, number, MESSAGE) * (count - 1) + frame(_DATA, _END_STREAM, number, MESSAGE)
            )

    def write(self) -> bool:
        """Send what there is; whether some is left."""
        data = self._early + b"".join(self._out)
        self._out.clear()
        sent = 0
        if data:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
        self._early = data[sent:]
        return bool(self._early)

    def read(self) -> None:
        """Read what came. :raise LoadFailed: it is wrong."""
        try:
            data = self._socket.recv(256 * 1024)
        except BlockingIOError:
            return
        if not data:
            raise LoadFailed("the server has closed the connection")
        data = self._data + data
        at, size = 0, len(data)
        while size - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            stop = at + 9 + length
            if stop > size:
                break
            kind, flags, number = data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big")
            if kind == _DATA and not flags & _PADDED:
                stream = self._streams[number]
                stream.data += length
                self._taken += length
                if self._limit:
                    stream.body += data[at + 9 : stop]
                if flags & _END_STREAM:
                    raise LoadFailed("a stream has ended without a status")
            else:
                self._frame(kind, flags, number, data[at + 9 : stop])
            at = stop
        self._data = data[at:]
        if self._taken > WINDOW // 2:
            self._out.append(frame(_UPDATE, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0

    def _frame(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if kind == _HEADERS:
            if flags & (_PADDED | _PRIORITY) or not flags & _END_HEADERS:
                raise LoadFailed("headers come in a way that is not read here")
            fields = dict(self._decoder.decode(body))
            if flags & _END_STREAM:
                self._end(number, fields)
            elif fields.get(":status") != "200":
                raise LoadFailed(f"the status is {fields}")
        elif kind == _SETTINGS and not flags & 1:
            for start in range(0, len(body), 6):
                if body[start : start + 2] == b"\0\x04":
                    self._resize(int.from_bytes(body[start + 2 : start + 6], "big"))
            self._out.append(frame(_SETTINGS, 1, 0))
        elif kind == _UPDATE:
            more = int.from_bytes(body, "big")
            if number:
                if number in self._streams:
                    self._streams[number].window += more
            else:
                self._window += more
            self._goOn()
        elif kind == _PING and not flags & 1:
            self._out.append(frame(_PING, 1, 0, body))
        elif kind in (_GOAWAY, _CONTINUATION) or (kind == _RST and number in self._streams):
            raise LoadFailed(f"a frame of type {kind} has come: {body!r}")
        elif kind == _DATA:
            raise LoadFailed("a frame is padded")

    def _resize(self, size: int) -> None:
        """The server has another window for streams, also for those that are open."""
        for stream in self._streams.values():
            stream.window += size - self._initial
        self._initial = size
        self._goOn()

    def _goOn(self) -> None:
        for number, stream in self._streams.items():
            if stream.unsent:
                self._send(number, stream)

    def _end(self, number: int, fields: dict[str, str]) -> None:
        stream = self._streams.pop(number)
        if fields.get("grpc-status") != "0":
            raise LoadFailed(f"a call has ended with {fields}")
        if stream.unsent:
            raise LoadFailed(f"a call has ended before {stream.unsent} of its messages were sent")
        if self.kind != "client" and stream.data != self._wanted:
            raise LoadFailed(f"an answer has {stream.data} bytes and not {self._wanted}")
        self.body = bytes(stream.body)
        self.messages += self._sends if self.kind == "client" else stream.data // len(MESSAGE)
        self.ended += 1
        if not self._limit or self._next // 2 < self._limit:
            self._open()

    def passed(self) -> int:
        """Messages that have passed, with those of streams that have not ended: of the client's those it has sent."""
        if self.kind == "client":
            return self.messages + sum(self._sends - stream.unsent for stream in self._streams.values())
        return self.messages + sum(stream.data for stream in self._streams.values()) // len(MESSAGE)


def drive(loads: list[Load], until: float) -> None:
    """Let them work until a time of ``time.perf_counter``, or until each has as many calls as it may."""
    with selectors.DefaultSelector() as selector:
        for load in loads:
            isMore = load.write()
            selector.register(load, selectors.EVENT_READ | (selectors.EVENT_WRITE if isMore else 0))
        while (left := until - time.perf_counter()) > 0:
            for key, _ in selector.select(left):
                load = key.fileobj  # type: ignore[assignment]
                load.read()
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if load.write() else 0)
                if wanted != key.events:
                    selector.modify(load, wanted)
            if all(load._limit and load.ended == load._limit for load in loads):
                return


def ask(port: int, kind: str) -> bytes:
    """
    The answer of one call: its messages, each with its head of five bytes.

    :raise LoadFailed: there is none in ten seconds, or it fails.
    :raise OSError: nobody listens.
    """
    load = Load(port, kind, 1, limit=1)
    try:
        drive([load], time.perf_counter() + 10)
        if not load.ended:
            raise LoadFailed("no answer in 10 s")
        return load.body
    finally:
        load.close()


def main(port: int, kind: str, connections: int, streams: int, warmup: float, seconds: float) -> None:
    """Load a server, and print what passed."""
    loads = [Load(port, kind, streams) for _ in range(connections)]
    drive(loads, time.perf_counter() + warmup)
    print("measuring", flush=True)
    before, start, used = sum(load.passed() for load in loads), time.perf_counter(), time.process_time()
    drive(loads, start + seconds)
    took, used = time.perf_counter() - start, time.process_time() - used
    messages = sum(load.passed() for load in loads) - before
    found = {"messages": messages, "seconds": took, "p50": 0, "p99": 0, "max": 0, "clientSeconds": used}
    print(json.dumps(found), flush=True)
    for load in loads:
        load.close()


if __name__ == "__main__":
    words = sys.argv[1:]
    try:
        main(int(words[0]), words[1], int(words[2]), int(words[3]), float(words[4]), float(words[5]))
    except (LoadFailed, OSError) as error:
        sys.exit(str(error))
