"""How long connections of a server of calls last: idle ones, old ones, and those whose client is asked for a sign."""

from __future__ import annotations

import asyncio
import os
from time import sleep
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import http
from getty_tx.http.grpc import serverconnection
from getty_tx.http.grpc.server import Server
from getty_tx.http.two import server as two
from getty_tx.http.two.engines import ENGINE
from getty_tx.http.two.server import DRAIN
from getty_tx.reactors.guest import guestLoop
from getty_tx.testing import MemoryReactor
from tests.support.grpcraw import framed
from tests.support.grpcserver import SERVICE, CallCase, methodOf, pathOf
from tests.support.http2 import DATA, GOAWAY, HEADERS, PING, Talk, frame

#: GOAWAY's number of the last stream where there may be more: the most there can be.
MOST = b"\x7f\xff\xff\xff"

FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"a"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b":path", f"/{SERVICE}/unary_unary_wait".encode()),
)


class Calling(Talk):
    """
    A client of raw frames, of a server that does not listen.

    :ivar wanted: for each call that was begun what fires with its reply.
    :ivar ended: calls whose handlers have heard of their end.
    """

    def __init__(self, **settings: Any) -> None:
        clock = MemoryReactor()
        self._loop: Any = guestLoop(clock)
        self._loop.time = clock.seconds
        self.server = Server("tcp:0", reactor=clock, **settings)
        self.wanted: list[Deferred[bytes]] = []
        self.ended = 0
        self.server.add_registered_method_handlers(SERVICE, {"unary_unary_wait": methodOf("unary_unary", self._wait)})
        super().__init__(clock=clock)
        self.greet()
        self.frames()

    def newSession(self, session: Any) -> None:
        """Make the connection of a server of calls."""
        self.server.newSession(session)
        self.connection = session.listener

    def _wait(self, request: bytes, context: Any) -> Deferred[bytes]:
        context.add_callback(self._end)
        self.wanted.append(Deferred())
        return self.wanted[-1]

    def _end(self) -> None:
        self.ended += 1

    def end(self) -> None:
        """End asyncio's loop, which waits in real time for its tasks."""
        del self._loop.time
        self._loop.end()

    def call(self, stream: int, *more: tuple[bytes, bytes]) -> bytes:
        """The frames of a call, with more header fields."""
        pseudo = sorted((*FIELDS, *more), key=lambda field: not field[0].startswith(b":"))
        return self.request(stream, pseudo, isLast=False) + frame(DATA, 1, stream, framed(b"x"))

    def replies(self, frames: list[tuple[int, int, int, bytes]]) -> dict[int, bool]:
        """The calls that were answered to their end by what has come: whether their status is OK."""
        found = {}
        for kind, flags, stream, payload in frames:
            if kind == HEADERS:
                fields = dict(self.decoder.decode(payload, raw=True))
                if flags & 1:
                    found[stream] = fields[b"grpc-status"] == b"0"
        return found

    def ping(self, payload: bytes = b"12345678", flags: int = 0) -> None:
        """Send a PING, or with the flag 1 the answer to one."""
        self.send(frame(PING, flags, 0, payload))

    def finish(self, place: int = 0) -> None:
        """Have a handler return."""
        self.wanted[place].callback(b"done")
        self.pair.flush()


class NgTimes(SynchronousTestCase):
    """With a clock."""

    engine = "ngh2"

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, ENGINE: self.engine})
        # Connections have no part of their age by chance, and clients without calls may ping after a minute.
        self.patch(two, "random", lambda: 0.5)
        self.patch(serverconnection, "IDLE_PINGS", 60.0)

    def calling(self, **settings: Any) -> Calling:
        """A client of a server with these settings."""
        made = Calling(**settings)
        self.addCleanup(made.end)
        return made

    def test_deadline(self) -> None:
        """The client's clock ends a call first: a reset that comes at its deadline would be one of the server's."""
        for text, early, late in ((b"50m", 0.059, 0.02), (b"2S", 2.05, 0.3)):
            talk = self.calling()
            talk.send(talk.call(1, (b"grpc-timeout", text)))
            talk.pair.advance(early)
            self.assertEqual(talk.ended, 0)
            talk.pair.advance(late)
            self.assertEqual(talk.ended, 1)

    def test_maxIdle(self) -> None:
        """A connection without calls is ended in order, one with a call is not, however long that takes."""
        talk = self.calling(maxIdle=5)
        talk.send(talk.call(1))
        talk.pair.advance(60)
        self.assertFalse(talk.isClosed)
        talk.finish()
        talk.pair.advance(4.5)
        self.assertFalse(talk.isClosed)
        # It may have begun to be idle up to a look before.
        talk.pair.advance(6)
        frames = talk.frames()
        self.assertEqual(talk.replies(frames), {1: True})
        self.assertEqual([each[3][:8] for each in frames if each[0] == GOAWAY], [b"\0\0\0\1" + bytes(4)])
        self.assertTrue(talk.isClosed)

    def test_maxAge(self) -> None:
        """An old connection takes the calls that come until its client knows, and ends with the last one."""
        talk = self.calling(maxAge=20, maxAgeGrace=10)
        talk.send(talk.call(1))
        talk.pair.advance(19)
        self.assertEqual([each for each in talk.frames() if each[0] == GOAWAY], [])
        talk.pair.advance(2)
        frames = talk.frames()
        self.assertEqual([each[3] for each in frames if each[0] == GOAWAY], [MOST + bytes(4)])
        self.assertIn((PING, 0, 0, DRAIN), frames)
        # This one was on its way.
        talk.send(talk.call(3))
        talk.ping(DRAIN, 1)
        self.assertEqual([each[3][:8] for each in talk.frames() if each[0] == GOAWAY], [b"\0\0\0\3" + bytes(4)])
        talk.send(talk.call(5))
        self.assertEqual(len(talk.wanted), 2)
        talk.finish(0)
        talk.pair.advance(5)
        self.assertFalse(talk.isClosed)
        talk.finish(1)
        self.assertEqual(talk.replies(talk.frames()), {1: True, 3: True})
        self.assertTrue(talk.isClosed)

    def test_maxAgeGrace(self) -> None:
        """Calls that take longer end with the connection, and their handlers hear of it; without it none does."""
        talk, patient = self.calling(maxAge=20, maxAgeGrace=10), self.calling(maxAge=20)
        for each in talk, patient:
            each.send(each.call(1))
            each.pair.advance(21)
            each.ping(DRAIN, 1)
            each.pair.advance(8)
            self.assertEqual((each.isClosed, each.ended), (False, 0))
            each.pair.advance(4)
        self.assertEqual((talk.isClosed, talk.ended), (True, 1))
        patient.pair.advance(60)
        self.assertEqual((patient.isClosed, patient.ended), (False, 0))
        patient.finish()
        self.assertEqual(patient.replies(patient.frames()), {1: True})
        self.assertTrue(patient.isClosed)

    def test_pingTimeout(self) -> None:
        """A client is asked when it is silent, also without calls, and dropped with its calls if it does not answer."""
        for hasCall in True, False:
            talk = self.calling(pingInterval=10, pingTimeout=5)
            if hasCall:
                talk.send(talk.call(1))
            for _ in range(3):
                talk.pair.advance(10.5)
                (payload,) = [each[3] for each in talk.frames() if each[0] == PING]
                talk.pair.advance(4)
                talk.ping(payload, 1)
            self.assertFalse(talk.isClosed)
            talk.pair.advance(14)
            self.assertEqual((talk.isClosed, talk.ended), (False, 0))
            talk.pair.advance(2)
            self.assertEqual((talk.isClosed, talk.ended), (True, hasCall))

    def test_pingInterval(self) -> None:
        """Without it a client is not asked; by default it is after two hours."""
        talk = self.calling(pingInterval=None)
        talk.pair.advance(60)
        self.assertNotIn(PING, [kind for kind, *_ in talk.frames()])
        self.assertEqual(self.calling().server.context.pingInterval, 7200)

    def test_minPingInterval(self) -> None:
        """Its third ping that comes too early ends the connection; others never do, while there is a call."""
        talk = self.calling(minPingInterval=10)
        talk.send(talk.call(1))
        for _ in range(5):
            talk.ping()
            talk.pair.advance(10.1)
        for _ in range(3):
            talk.ping()
            talk.pair.advance(9)
        self.assertFalse(talk.isClosed)
        talk.ping()
        (last,) = [each[3] for each in talk.frames() if each[0] == GOAWAY]
        self.assertEqual(last, b"\0\0\0\1\0\0\0\x0b" + b"too_many_pings")
        self.assertTrue(talk.isClosed)

    def test_minPingIntervalWithoutCalls(self) -> None:
        """Then more time has to pass; what is answered makes up for pings before it, and for the first one after."""
        talk = self.calling(minPingInterval=1)
        talk.ping()
        for number in range(3):
            for _ in range(2):
                talk.pair.advance(2)
                talk.ping()
            talk.send(talk.call(2 * number + 1))
            talk.finish(number)
        for _ in range(3):
            talk.pair.advance(59)
            talk.ping()
            self.assertFalse(talk.isClosed)
        talk.pair.advance(61)
        talk.ping()
        self.assertFalse(talk.isClosed)
        talk.pair.advance(59)
        talk.ping()
        self.assertTrue(talk.isClosed)

    def test_changed(self) -> None:
        """Settings may be changed: ``minPingInterval`` for all connections, the others for those that follow."""
        talk = self.calling(maxIdle=5, minPingInterval=1)
        context = talk.server.context
        context.maxIdle, context.minPingInterval = None, 30.0
        talk.send(talk.call(1))
        for _ in range(4):
            self.assertFalse(talk.isClosed)
            talk.ping()
            talk.pair.advance(2)
        self.assertTrue(talk.isClosed)
        talk = self.calling(maxIdle=5)
        talk.server.context.maxIdle = None
        talk.pair.advance(12)
        self.assertTrue(talk.isClosed)


class H2Times(NgTimes):
    """On h2."""

    engine = "h2"


async def unary_unary_slow(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(0.002)
    return request


async def stream_stream_echo(requests: Any, context: Any) -> Any:
    async for request in requests:
        yield request


class Clients(CallCase):
    """Real clients, which lose nothing when a connection is too old or idle."""

    async def counting(self, **settings: Any) -> None:
        """Serve, and count connections."""
        self.connections = 0
        server = self.server = await self.serve(unary_unary_slow, stream_stream_echo, **settings)
        make = server.newSession

        def newSession(session: Any) -> None:
            self.connections += 1
            make(session)

        # Sessions of connections that come from now on.
        (context,) = server.server.contexts
        context.newSession = newSession

    async def test_grpcio(self) -> None:
        """Calls of grpcio's client go from one connection to the next."""
        await self.counting(maxAge=0.05)

        def work(channel: Any) -> int:
            unary = channel.unary_unary(pathOf(unary_unary_slow))
            made = 0
            while self.connections < 4:
                found = [unary.future(b"%d" % number, timeout=10) for number in range(10)]
                assert [each.result() for each in found] == [b"%d" % number for number in range(10)]
                made += 10
            return made

        self.assertGreaterEqual(await self.client(work), 30)

    async def test_channel(self) -> None:
        """So do those of this package's; a stream goes on as long as it likes."""
        await self.counting(maxAge=0.05)
        channel = http.grpc.Channel(f"tcp:127.0.0.1:{self.port}", reconnectInterval=0.02)
        channel.startService()
        self.addCleanup(channel.close)
        stream = channel.stream_stream(pathOf(stream_stream_echo))()
        await stream.write(b"first")
        self.assertEqual(await stream.read(), b"first")
        unary = channel.unary_unary(pathOf(unary_unary_slow))

        async def one(number: int) -> bytes:
            found: bytes = await unary(b"%d" % number, timeout=10)
            return found

        while self.connections < 4:
            found = await gatherResults([Deferred.fromCoroutine(one(number)) for number in range(10)])
            self.assertEqual(found, [b"%d" % number for number in range(10)])
        await stream.write(b"last")
        self.assertEqual(await stream.read(), b"last")
        await stream.done_writing()
        self.assertIs(await stream.code(), http.grpc.Code.OK)

    async def test_idle(self) -> None:
        """A client whose connection was idle for too long finds the next one."""
        await self.counting(maxIdle=0.02)

        def work(channel: Any) -> list[bytes]:
            unary = channel.unary_unary(pathOf(unary_unary_slow))
            found = []
            for _ in range(2):
                found.append(unary(b"x", timeout=10))
                while self.server.context.connections:
                    sleep(0.01)
            return found

        self.assertEqual(await self.client(work), [b"x"] * 2)
        self.assertEqual(self.connections, 2)
