"""A server's connection: answers, credit, faults, times and ends."""

from __future__ import annotations

from typing import Any

from getty_tx.http.two.errors import ErrorCode, StreamReset
from getty_tx.http.two.guard import PREFACE
from getty_tx.http.two.limits import Limits, Times
from getty_tx.http.two.server import DRAIN
from tests.support.http2 import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
    Case,
    Served,
    Talk,
    frame,
)

MOST = (2**31 - 1).to_bytes(4, "big")


class NgConnection(Case):
    """On ngh2."""

    def bodies(self, talk: Talk) -> dict[int, bytes]:
        """The bodies that have come, by stream."""
        found: dict[int, bytes] = {}
        for kind, _, stream, payload in talk.frames():
            if kind == DATA:
                found[stream] = found.get(stream, b"") + payload
        return found

    def test_answers(self) -> None:
        """Requests of one read, with and without bodies, have their answers."""
        talk = self.talk()
        talk.send(talk.request(1), talk.request(3, isLast=False), frame(DATA, 1, 3, b"body"), talk.request(5))
        self.assertEqual(self.bodies(talk), {1: b"hello", 3: b"hello", 5: b"hello"})
        self.assertEqual([each.body for each in talk.made], [b"", b"body", b""])
        self.assertEqual([each.error for each in talk.made], [[None]] * 3)
        self.assertEqual(talk.connection.running, 0)

    def test_byteByByte(self) -> None:
        """However the bytes come."""
        talk = Talk(split=[1])
        talk.greet()
        talk.send(talk.request(1, isLast=False), frame(DATA, 1, 1, b"body"))
        self.assertEqual(self.bodies(talk), {1: b"hello"})

    def test_noPreface(self) -> None:
        """A client of HTTP/1.1 gets a GOAWAY frame and the end."""
        talk = Talk()
        talk.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(talk.gone(), ErrorCode.PROTOCOL_ERROR)
        self.assertTrue(talk.isClosed)

    def test_fault(self) -> None:
        """A fault of the connection ends it, with the number of the last stream and streams that hear why."""
        talk = self.talk()
        talk.answer = lambda stream: None
        talk.send(talk.request(1), frame(DATA, 0, 0, b"x"))
        goAway = [each for each in talk.frames() if each[0] == GOAWAY]
        self.assertEqual(len(goAway), 1)
        self.assertEqual(goAway[0][3][:8], b"\0\0\0\x01\0\0\0\x01")
        self.assertTrue(talk.isClosed)
        talk.pair.peer.end()
        talk.pair.flush()
        self.assertEqual(len(talk.made[0].error), 1)
        self.assertIsNotNone(talk.made[0].error[0])

    def test_streamsThatFail(self) -> None:
        """What a stream raises resets it, and nothing else."""
        talk = self.talk()

        def fail(stream: Served) -> None:
            if stream.number != 3:
                raise KeyError(stream.number)
            stream.send(b"fine")

        talk.answer = fail
        talk.send(talk.request(1), talk.request(3), talk.request(5, isLast=False))
        talk.send(frame(DATA, 1, 5, b"x"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        frames = talk.frames()
        reset = [each[2:] for each in frames if each[0] == RST_STREAM]
        self.assertEqual(reset, [(1, b"\0\0\0\x02"), (5, b"\0\0\0\x02")])
        self.assertIn((DATA, 1, 3, b"fine"), frames)
        self.assertEqual(talk.connection.running, 0)

    def test_endsThatFail(self) -> None:
        """A stream whose end raises does not keep others from theirs."""
        talk = self.talk()
        talk.answer = lambda stream: None
        talk.send(talk.request(1), talk.request(3))

        def fail(error: Any) -> None:
            raise KeyError(error)

        first: Any = talk.made[0]
        first.ended = fail
        talk.pair.peer.end()
        talk.pair.server.abort()
        talk.pair.flush()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(len(talk.made[1].error), 1)

    def test_windowNeverLeaks(self) -> None:
        """Bodies that nobody takes, on streams that end in any way, are credited to the connection."""
        talk = self.talk(Limits(streamWindow=65535, connectionWindow=65535))
        talk.takes = False
        size, credit = 5000, 65535
        for i in range(300):
            number = 1 + 2 * i
            end = frame(DATA, 1, number, b"x" * size)
            if i % 3 == 1:
                end = frame(DATA, 0, number, b"x" * size) + frame(RST_STREAM, 0, number, b"\0\0\0\x08")
            elif i % 3 == 2:
                # Padding is data, too; and a request that is wrong, whose data belongs to no stream.
                end = frame(DATA, 9, number, b"\x10" + b"x" * size + b"\0" * 16)
            credit -= len(end) - 9 if i % 3 != 1 else size
            self.assertGreaterEqual(credit, 0)
            talk.send(talk.request(number, isLast=False), end)
            talk.pair.advance(0.1)
            for kind, _, stream, payload in talk.frames():
                if kind == WINDOW_UPDATE and not stream:
                    credit += int.from_bytes(payload, "big")
        self.assertFalse(talk.isClosed)
        self.assertEqual(len(talk.made), 300)

    def test_streamsThatNobodyTakes(self) -> None:
        """All but one of the streams may be full of what nobody takes: the last one is served, as often as it likes."""
        size = 65535
        talk = Talk(Limits(maxStreams=6, streamWindow=size))
        talk.greet()
        talk.takes = False
        credit = 65535
        for i in range(40):
            number = 1 + 2 * i
            for kind, _, stream, payload in talk.frames():
                if kind == WINDOW_UPDATE and not stream:
                    credit += int.from_bytes(payload, "big")
            self.assertGreaterEqual(credit, size, i)
            credit -= size
            parts = [frame(DATA, 0, number, bytes(13107))] * 5
            talk.send(talk.request(number, isLast=False), *parts)
            if i == 4:
                talk.takes = True
            elif i > 4:
                talk.send(frame(DATA, 1, number))
                self.assertEqual(talk.made[i].error, [None])
        self.assertEqual([len(each.body) for each in talk.made], [size] * 40)
        self.assertEqual([len(each.error) for each in talk.made], [0] * 5 + [1] * 35)

    def test_manyStreamsShareTheWindow(self) -> None:
        """Streams that have taken what came, less than a quarter of their window each, leave the connection its own."""
        talk = self.talk(Limits(connectionWindow=1024 * 1024))
        talk.send(*(talk.request(1 + 2 * i, isLast=False) for i in range(50)))
        credit = 1024 * 1024
        for i in range(50):
            credit -= 40_000
            self.assertGreaterEqual(credit, 0)
            talk.send(frame(DATA, 0, 1 + 2 * i, b"x" * 10_000) * 4)
            for kind, _, stream, payload in talk.frames():
                if kind == WINDOW_UPDATE and not stream:
                    credit += int.from_bytes(payload, "big")
        self.assertFalse(talk.isClosed)

    def test_backPressure(self) -> None:
        """A writer waits for credit, goes on with it, and hears of a reset."""
        talk = self.talk()
        waits: list[Any] = []

        def answer(stream: Served) -> None:
            stream.send(b"x" * 200_000, False)
            waits.append(stream.drained())

        talk.answer = answer
        talk.send(talk.request(1), talk.request(3))
        first, second = waits
        self.assertNoResult(first)
        self.assertEqual(sum(map(len, self.bodies(talk).values())), 65535)
        talk.send(frame(WINDOW_UPDATE, 0, 0, b"\0\4\0\0"), frame(WINDOW_UPDATE, 0, 1, b"\0\4\0\0"))
        self.assertIsNone(self.successResultOf(first))
        self.assertNoResult(second)
        self.assertFalse(talk.made[0].mustWait())
        talk.send(frame(RST_STREAM, 0, 3, b"\0\0\0\x08"))
        self.failureResultOf(second, StreamReset)
        self.assertEqual(talk.made[1].waiting, 0)

    def test_sendsFromAnEnd(self) -> None:
        """What a stream sends while another one ends, in a flush outside of a read, comes behind it in whole frames."""
        talk = self.talk()
        talk.answer = lambda stream: None
        talk.send(talk.request(1), talk.request(3))
        one, other = talk.made
        one.ended = lambda error: (other.send(b"behind"), talk.connection.flush())  # type: ignore[method-assign]
        one.send(b"first")
        talk.pair.flush()
        self.assertEqual(list(self.bodies(talk).items()), [(1, b"first"), (3, b"behind")])

    def test_tooManyStreams(self) -> None:
        """They are refused, and the others served."""
        talk = self.talk(Limits(maxStreams=2))
        talk.answer = lambda stream: None
        talk.send(*(talk.request(1 + 2 * i) for i in range(4)))
        refused = [each[2:] for each in talk.frames() if each[0] == RST_STREAM]
        self.assertEqual(refused, [(5, b"\0\0\0\x07"), (7, b"\0\0\0\x07")])
        self.assertFalse(talk.isClosed)

    def test_trailers(self) -> None:
        """Of a request, and of an answer."""
        talk = self.talk()

        def answer(stream: Served) -> None:
            stream.send(b"x", False)
            stream.connection.engine.trailers(stream.number, [(b"a", b"b")])

        talk.answer = answer
        talk.send(talk.request(1, isLast=False), frame(DATA, 0, 1, b"y"), talk.request(1, [(b"c", b"d")]))
        self.assertEqual([tuple(each) for each in talk.made[0].trailers or ()], [(b"c", b"d")])
        kinds = [(kind, flags) for kind, flags, stream, _ in talk.frames() if stream == 1 and kind != WINDOW_UPDATE]
        self.assertEqual(kinds, [(HEADERS, 4), (DATA, 0), (HEADERS, 5)])

    # Times

    def test_slowFrame(self) -> None:
        """A frame, a header block or a preface that does not end is not waited for."""
        for parts in ((PREFACE[:5],), (PREFACE + b"\0",), (PREFACE, frame(4, 0, 0), frame(HEADERS, 0, 1, b"\x82"))):
            talk = Talk(times=Times(frameTimeout=10))
            talk.send(*parts)
            talk.pair.advance(9)
            self.assertFalse(talk.isClosed)
            talk.pair.advance(12)
            self.assertTrue(talk.isClosed, parts)

    def test_quietStream(self) -> None:
        """A stream on which nothing happens for ten minutes stays, and so does an idle connection, by default."""
        talk = self.talk()
        talk.answer = lambda stream: None
        talk.send(talk.request(1, isLast=False))
        idle = self.talk()
        for each in (talk, idle):
            each.pair.advance(600)
            self.assertFalse(each.isClosed)
            self.assertNotIn(RST_STREAM, [kind for kind, *_ in each.frames()])

    def test_keepAlive(self) -> None:
        """A connection without streams is closed, and one with a stream is not."""
        talk = self.talk(times=Times(keepAlive=15))
        talk.answer = lambda stream: None
        talk.send(talk.request(1))
        talk.pair.advance(100)
        self.assertFalse(talk.isClosed)
        talk.made[0].send(b"x")
        talk.pair.advance(14)
        self.assertFalse(talk.isClosed)
        talk.pair.advance(20)
        self.assertEqual(talk.gone(), 0)
        self.assertTrue(talk.isClosed)

    def test_drain(self) -> None:
        """The client is told twice; what it sent before it knew is served; the connection ends with its last stream."""
        talk = self.talk()
        talk.answer = lambda stream: None
        talk.send(talk.request(1))
        for _ in range(3):
            talk.connection.drain()
        talk.pair.flush()
        frames = talk.frames()
        self.assertEqual([each[3] for each in frames if each[0] == GOAWAY], [MOST + b"\0\0\0\0"])
        self.assertEqual(frames[-1], (PING, 0, 0, DRAIN))
        talk.send(talk.request(3), frame(PING, 1, 0, DRAIN), talk.request(5))
        served = [each.number for each in talk.made]
        # An engine that reads all before it says the last serves one more.
        self.assertIn(served, ([1, 3], [1, 3, 5]))
        last = served[-1].to_bytes(4, "big")
        self.assertEqual([each[3][:8] for each in talk.frames() if each[0] == GOAWAY], [last + b"\0" * 4])
        talk.send(talk.request(7))
        self.assertEqual([each.number for each in talk.made], served)
        for stream in talk.made:
            self.assertFalse(talk.isClosed)
            stream.send(b"bye")
            talk.pair.flush()
        self.assertEqual(self.bodies(talk), dict.fromkeys(served, b"bye"))
        self.assertTrue(talk.isClosed)

    def test_drainWithoutAnAnswer(self) -> None:
        """A client that does not answer PING is told the last stream after five seconds."""
        for times in (Times(), Times(frameTimeout=None, stallTimeout=None)):
            talk = self.talk(times=times)
            talk.connection.drain()
            talk.pair.advance(4)
            self.assertFalse(talk.isClosed)
            talk.pair.advance(2)
            self.assertTrue(talk.isClosed)

    def test_maxAge(self) -> None:
        """A connection that is too old is drained, and closed when its streams are, too."""
        talk = self.talk(times=Times(maxAge=100, maxAgeGrace=50))
        talk.answer = lambda stream: None
        talk.send(talk.request(1))
        talk.pair.advance(80)
        self.assertNotIn(GOAWAY, [kind for kind, *_ in talk.frames()])
        talk.pair.advance(40)
        self.assertIn(GOAWAY, [kind for kind, *_ in talk.frames()])
        self.assertFalse(talk.isClosed)
        talk.pair.advance(60)
        self.assertTrue(talk.isClosed)

    def test_pings(self) -> None:
        """A client that answers stays; one that does not is dropped."""
        talk = self.talk(times=Times(pingInterval=60, pingTimeout=20))
        for _ in range(3):
            talk.pair.advance(61)
            pings = [each[3] for each in talk.frames() if each[0] == PING]
            self.assertEqual(len(pings), 1)
            talk.send(frame(PING, 1, 0, pings[0]))
        self.assertFalse(talk.isClosed)
        talk.pair.advance(61)
        talk.pair.advance(21)
        self.assertTrue(talk.isClosed)


class H2Connection(NgConnection):
    """On h2."""

    engine = "h2"
