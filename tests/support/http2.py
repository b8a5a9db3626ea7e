"""A peer of HTTP/2 that sends any frames, and a server's connection in memory that it talks to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hpack import Decoder, Encoder
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.two.engines import ENGINE
from getty_tx.http.two.guard import PREFACE
from getty_tx.http.two.limits import Limits, Times
from getty_tx.http.two.server import ServerConnection
from getty_tx.http.two.stream import Stream
from getty_tx.testing import connectedPeer

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.testing import Pair

__all__ = ["REQUEST", "Case", "Served", "Talk", "frame", "settings"]

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

REQUEST = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values.items()))


class Served(Stream):
    """
    A stream that records, and answers with what its :py:class:`Talk` says when the request is complete.

    :ivar error: what ``ended`` was told, in a list.
    """

    def __init__(self, connection: ServerConnection, number: int, headers: Headers, isLast: bool, talk: Talk) -> None:
        super().__init__(connection, number)
        self.talk = talk
        self.headers = headers
        self.isLast = isLast
        self.body = b""
        self.trailers: Headers | None = None
        self.error: list[BaseException | None] = []
        self.hasBegun = False

    def begin(self) -> None:
        """Answer, if all has come."""
        self.hasBegun = True
        if self.isLast:
            self.talk.answer(self)

    def dataCame(self, data: bytes, isLast: bool) -> None:
        """Take it, and answer behind the last part."""
        self.body += data
        self.isLast = isLast
        if self.talk.takes:
            self.take(len(data))
        if isLast and self.hasBegun:
            self.talk.answer(self)

    def trailersCame(self, headers: Headers) -> None:
        """Answer."""
        self.trailers = headers
        self.isLast = True
        if self.hasBegun:
            self.talk.answer(self)

    def ended(self, error: BaseException | None) -> None:
        """Record it."""
        self.error.append(error)
        server: Any = self.connection
        if not self.talk.runsOn:
            server.served()

    def send(self, body: bytes, isLast: bool = True) -> None:
        """Answer with a body."""
        engine = self.connection.engine
        engine.headers(self.number, [(b":status", b"200")], False)
        engine.data(self.number, body, isLast)
        self.connection.touch()


class Talk:
    """
    A client of raw frames, with a connection.

    :ivar made: the streams that were served.
    :ivar answers: what answers a complete request; None: nothing does.
    :ivar takes: data is taken as it comes.
    :ivar runsOn: what serves a stream does not end with it.
    """

    def __init__(self, limits: Limits = Limits(), times: Times = Times(), **options: Any) -> None:  # noqa: B008
        self.made: list[Served] = []
        self.answer: Any = lambda stream: stream.send(b"hello")
        self.takes = True
        self.runsOn = False
        self.connection: Any = None
        self._limits, self._times = limits, times
        self.pair: Pair = connectedPeer(self.newSession, **options)
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._seen = 0
        self.pair.flush()

    def newSession(self, session: Any) -> None:
        """Make the connection."""
        self.connection = ServerConnection(session, self._limits, self._newStream, self._times)

    def _newStream(self, connection: ServerConnection, number: int, headers: Headers, isLast: bool) -> Served:
        made = Served(connection, number, headers, isLast, self)
        self.made.append(made)
        return made

    def send(self, *parts: bytes) -> None:
        """Send bytes, and let them arrive."""
        self.pair.peer.write(b"".join(parts))
        self.pair.flush()

    def greet(self, values: dict[int, int] | None = None) -> None:
        """Send the preface, and SETTINGS; acknowledge the server's."""
        self.send(PREFACE, settings(values or {}), frame(SETTINGS, 1, 0))

    def request(self, stream: int, headers: Headers = REQUEST, isLast: bool = True) -> bytes:
        """The frame of a request."""
        return frame(HEADERS, 4 | isLast, stream, self.encoder.encode(list(headers), huffman=False))

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """What has come from the server since the last call: kind, flags, stream, payload."""
        data = bytes(self.pair.peer.data)
        found = []
        while self._seen + 9 <= len(data):
            at = self._seen
            length = int.from_bytes(data[at : at + 3], "big")
            stop = at + 9 + length
            if stop > len(data):
                break
            found.append(
                (data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : stop])
            )
            self._seen = stop
        return found

    def gone(self) -> int | None:
        """The code of the last GOAWAY frame that has come; None: none came."""
        code = None
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
        return code

    @property
    def isClosed(self) -> bool:
        """The server has closed its session, or is about to."""
        return self.pair.server.isClosed


class Case(SynchronousTestCase):
    """Tests of one engine; a class below sets it."""

    engine = "ngh2"

    def setUp(self) -> None:
        """Choose the engine."""
        self.patch(os, "environ", {**os.environ, ENGINE: self.engine})

    def talk(self, limits: Limits = Limits(), times: Times = Times(), **options: Any) -> Talk:  # noqa: B008
        """A client whose greeting was taken."""
        talk = Talk(limits, times, **options)
        talk.greet()
        talk.frames()
        return talk
