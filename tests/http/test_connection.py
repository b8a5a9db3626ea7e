"""One connection: order, pauses, times, ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import http
from getty_tx.http.body import HIGH_WATER, MAX_DISCARD, BodyLostError
from getty_tx.http.connection import MAX_WAITING
from tests.support.http import Case, Talk

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
ONE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n"


class Later:
    """A handler that answers when the test says so, with the target."""

    def __init__(self) -> None:
        self.waiting: list[tuple[http.Request, Deferred[Any]]] = []

    def __call__(self, request: http.Request) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.waiting.append((request, answer))
        return answer

    @property
    def targets(self) -> list[bytes]:
        """The requests that were not answered."""
        return [request.target for request, _ in self.waiting]

    def answer(self) -> None:
        """Answer the oldest."""
        request, answer = self.waiting.pop(0)
        answer.callback(request.target)


class OrderTests(Case):
    """Requests that come before the answer to the one before them."""

    def test_oneByOne(self) -> None:
        later = Later()
        talk = self.talk(later)
        talk.send(GET % 1 + GET % 2 + GET % 3)
        for number in (1, 2, 3):
            self.assertEqual(later.targets, [b"/%d" % number])
            self.assertEqual(talk.answers(), [])
            later.answer()
            talk.pair.flush()
            self.assertEqual([each.body for each in talk.answers()], [b"/%d" % number])

    def test_bounded(self) -> None:
        """With 16 that wait the client is read no more; nothing is lost."""
        later = Later()
        talk = self.talk(later)
        talk.send(b"".join(GET % number for number in range(100)))
        self.assertLessEqual(len(talk.connection._waiting or ()), MAX_WAITING)
        for number in range(100):
            self.assertEqual(later.targets, [b"/%d" % number])
            later.answer()
            talk.pair.flush()
        self.assertEqual([each.body for each in talk.answers()], [b"/%d" % number for number in range(100)])

    def test_oneSend(self) -> None:
        """Answers to requests that came together leave together."""
        talk = self.talk(lambda request: request.target)
        sent: list[int] = []
        outbound = talk.session.outbound
        write = outbound.sendQueued
        self.patch(type(outbound), "sendQueued", lambda self: sent.append(self.queued) or write())
        talk.send(b"".join(GET % number for number in range(10)))
        self.assertEqual(len(talk.answers()), 10)
        self.assertEqual(len(sent), 1)

    def test_close(self) -> None:
        """Behind a request that is the last, nothing is served."""
        served: list[bytes] = []
        for last in (b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", b"GET /1 HTTP/1.0\r\n\r\n"):
            served.clear()
            talk = self.talk(lambda request: served.append(request.target) or b"")
            talk.send(last + GET % 2)
            (answer,) = talk.answers()
            self.assertEqual((answer.header(b"connection"), served), (b"close", [b"/1"]))
            self.assertTrue(talk.ended)

    def test_oldKeepAlive(self) -> None:
        talk = self.talk(lambda request: b"x")
        request = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
        for _ in range(2):
            self.assertEqual(talk.ask(request).header(b"connection"), b"keep-alive")
        self.assertFalse(talk.ended)

    def test_limitConcurrency(self) -> None:
        later = Later()
        talk = self.talk(later, limitConcurrency=1)
        self.assertEqual(talk.context.running, 0)
        talk.context.running += 1
        answer = talk.ask(ONE)
        self.assertEqual((answer.status, answer.header(b"retry-after")), (503, b"1"))
        talk.context.running -= 1
        # The connection stays.
        talk.send(ONE)
        later.answer()
        talk.pair.flush()
        self.assertEqual([each.status for each in talk.answers()], [200])


class BodyTests(Case):
    """Bodies that come in pieces."""

    def test_continue(self) -> None:
        talk = self.talk(lambda request: request.content)
        head = POST % (3, b"Expect: 100-continue\r\n")
        talk.send(head)
        self.assertEqual([each.status for each in talk.answers()], [100])
        talk.send(b"abc")
        self.assertEqual([(each.status, each.body) for each in talk.answers()], [(200, b"abc")])
        # With the body behind the head there is nothing to wait for.
        self.assertEqual(talk.ask(head + b"def").body, b"def")

    def test_notContinued(self) -> None:
        """Who answers without the body does not ask for it, and ends the connection: the client may not send it."""
        router = http.Router()
        router.post("/", stream=True)(lambda request: b"no")
        talk = self.talk(router)
        answer = talk.ask(POST % (3, b"Expect: 100-continue\r\n"))
        self.assertEqual((answer.status, answer.header(b"connection")), (200, b"close"))
        # It is too large: the same.
        talk = self.talk(lambda request: b"no", maxBody=2)
        answer = talk.ask(POST % (3, b"Expect: 100-continue\r\n"))
        self.assertEqual((answer.status, answer.header(b"connection")), (413, b"close"))

    def test_backPressure(self) -> None:
        """A body that is not taken stops the client."""
        asked: list[Deferred[None]] = []
        size = 0

        async def slow(request: http.Request) -> Any:
            nonlocal size
            assert request.body is not None
            async for part in request.body:
                size += len(part)
                asked.append(Deferred())
                await asked[-1]
            return b"%d" % size

        router = http.Router()
        router.post("/", stream=True)(slow)
        talk = self.talk(router)
        total = 10_000_000
        talk.pair.peer.write(POST % (total, b"") + b"x" * total)
        most = 0
        while not talk.pair.peer.data:
            talk.pair.flush()
            body = talk.connection.request and talk.connection.request.body
            most = max(most, body.waiting if body else 0, talk.session.inbound.unread)
            if asked:
                asked.pop().callback(None)
        self.assertEqual(talk.answers()[0].body, b"%d" % total)
        self.assertLess(most, HIGH_WATER + 2 * 128 * 1024)

    def test_unread(self) -> None:
        """What is left of a body that nobody takes is read up to a limit, and is never a request."""
        router = http.Router()
        router.post("/", stream=True)(lambda request: b"done")
        router.get("/")(lambda request: b"next")
        for size, closes in ((MAX_DISCARD, False), (MAX_DISCARD + 1, True)):
            body = (ONE * (size // len(ONE) + 1))[:size]
            talk = self.talk(router)
            talk.send(POST % (size, b""))
            (answer,) = talk.answers()
            self.assertEqual(answer.header(b"connection"), b"close" if closes else None)
            talk.send(body)
            self.assertEqual(talk.answers(), [])
            if not closes:
                self.assertEqual(talk.ask(ONE).body, b"next")
            self.assertEqual(talk.ended, closes)

    def test_unreadChunks(self) -> None:
        router = http.Router()
        router.post("/", stream=True)(lambda request: b"done")
        talk = self.talk(router)
        talk.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual(len(talk.answers()), 1)
        for _ in range(20):
            talk.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        self.assertTrue(talk.ended)
        self.assertEqual(talk.answers(), [])

    def test_trailers(self) -> None:
        seen: list[Any] = []

        async def handler(request: http.Request) -> bytes:
            assert request.body is not None
            content = await request.read()
            seen.append(request.body.trailers)
            return content

        router = http.Router()
        router.post("/", stream=True)(handler)
        talk = self.talk(router)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertEqual(talk.ask(head + b"1\r\na\r\n0\r\nA: b\r\nHost: x\r\nContent-Length: 3\r\n\r\n").body, b"a")
        self.assertEqual(seen, [[(b"a", b"b")]])


class TimeTests(Case):
    """Time-outs, on the clock of the test."""

    def statuses(self, talk: Talk, seconds: float) -> list[int]:
        """What was answered after some time."""
        step = 0.25
        for _ in range(int(seconds / step)):
            talk.clock.advance(step)
        talk.pair.flush()
        return [answer.status for answer in talk.answers()]

    def test_keepAlive(self) -> None:
        talk = self.talk(lambda request: b"")
        self.assertEqual(self.statuses(talk, 14), [])
        self.assertEqual(talk.ask(ONE).status, 200)
        self.assertEqual(self.statuses(talk, 14), [])
        self.assertFalse(talk.ended)
        self.assertEqual(self.statuses(talk, 2), [])
        self.assertTrue(talk.ended)

    def test_head(self) -> None:
        """From its first byte on, however slowly it comes."""
        talk = self.talk(lambda request: b"")
        self.assertEqual(self.statuses(talk, 8), [])
        for byte in ONE[:9]:
            talk.send(bytes([byte]))
            self.assertEqual(self.statuses(talk, 1), [])
            self.assertFalse(talk.ended)
        self.assertEqual(self.statuses(talk, 2), [408])
        self.assertTrue(talk.ended)

    def test_body(self) -> None:
        talk = self.talk(lambda request: b"")
        talk.send(POST % (100_000, b"") + b"x" * 50_000)
        self.assertEqual(self.statuses(talk, 29), [])
        self.assertEqual(self.statuses(talk, 10), [408])
        self.assertTrue(talk.ended)

    def test_rate(self) -> None:
        """Less than 240 bytes a second, over the whole time."""
        talk = self.talk(lambda request: b"", maxBody=None)
        talk.send(POST % (10**6, b""))
        answers: list[int] = []
        for second in range(100):  # noqa: B007
            talk.send(b"x" * 100)
            answers += self.statuses(talk, 1)
            if answers:
                break
        self.assertEqual(answers, [408])
        self.assertLess(second, 30)

    def test_fastEnough(self) -> None:
        talk = self.talk(lambda request: b"%d" % len(request.content or b""), maxBody=None)
        talk.send(POST % (300 * 60, b""))
        for _ in range(59):
            talk.send(b"x" * 300)
            self.assertEqual(self.statuses(talk, 1), [])
        talk.send(b"x" * 300)
        self.assertEqual(talk.answers()[0].body, b"18000")

    def test_slowHandler(self) -> None:
        """A client is not to blame for what the handler takes."""
        later = Later()
        talk = self.talk(later)
        talk.send(ONE)
        self.assertEqual(self.statuses(talk, 1000), [])
        later.answer()
        talk.pair.flush()
        self.assertEqual([each.status for each in talk.answers()], [200])

    def test_pausedBody(self) -> None:
        """Nor for a body that is not taken."""
        gate: Deferred[None] = Deferred()

        async def slow(request: http.Request) -> bytes:
            await gate
            return b"%d" % len(await request.read(10**7))

        router = http.Router()
        router.post("/", stream=True)(slow)
        talk = self.talk(router)
        talk.send(POST % (10**6, b"") + b"x" * 10**6)
        self.assertEqual(self.statuses(talk, 300), [])
        gate.callback(None)
        talk.pair.flush()
        self.assertEqual(talk.answers()[0].body, b"1000000")


class EndTests(Case):
    """Clients that go, and servers that stop."""

    def test_unsentLimit(self) -> None:
        """A client that does not read an answer costs the system no more than this."""
        talk = self.talk(lambda request: "x")
        self.assertEqual(talk.pair.server.unsentLimit, 256 * 1024)

    def test_goneWhileServed(self) -> None:
        later = Later()
        talk = self.talk(later)
        talk.send(ONE)
        request = later.waiting[0][0]
        gone: list[str] = []
        request.exchange.whenGone(request, lambda: gone.append("gone"))
        self.assertFalse(request.isGone)
        talk.close()
        self.assertEqual((gone, request.isGone, talk.context.counters.lost), (["gone"], True, 1))
        later.answer()

    def test_goneInBody(self) -> None:
        errors: list[BaseException] = []

        async def handler(request: http.Request) -> bytes:
            try:
                return await request.read()
            except BodyLostError as error:
                errors.append(error)
                raise

        router = http.Router()
        router.post("/", stream=True)(handler)
        talk = self.talk(router)
        talk.send(POST % (10, b"") + b"abc")
        talk.close()
        self.assertEqual(len(errors), 1)
        self.assertEqual(talk.answers(), [])
        self.assertEqual(talk.context.counters.served["POST", "/"].statuses, {499: 1})

    def test_goneWhileSending(self) -> None:
        """A generator is closed."""
        ended: list[str] = []

        async def endless(request: http.Request) -> Any:
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                ended.append("ended")

        talk = self.talk(endless, capacity=10_000)
        # A client that does not read.
        talk.pair.peer.transport.pauseProducing()
        talk.pair.peer.write(ONE)
        for _ in range(10):
            talk.clock.advance(0)
        self.assertEqual(ended, [])
        self.assertLess(talk.session.pendingBytes, 10**6)
        talk.session.abort()
        talk.pair.flush()
        self.assertEqual(ended, ["ended"])

    def test_failsInTheMiddle(self) -> None:
        """The client sees that the answer is not complete."""

        async def broken(request: http.Request) -> Any:
            yield b"begin"
            raise ValueError("in the middle")

        talk = self.talk(broken)
        talk.send(ONE)
        (answer,) = talk.answers()
        self.assertEqual((answer.status, answer.body, answer.isComplete), (200, b"begin", False))
        self.assertTrue(talk.ended)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_wrongLength(self) -> None:
        short = http.Response(body=iter([b"ab"]), headers={"Content-Length": "3"})
        long = http.Response(body=iter([b"ab", b"cd"]), headers={"Content-Length": "3"})
        for response, body in ((short, b"ab"), (long, b"ab")):
            talk = self.talk(lambda request, response=response: response)
            talk.send(ONE)
            (answer,) = talk.answers()
            self.assertEqual((answer.body, answer.isComplete, talk.ended), (body, False, True))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(
            self.talk(lambda request: http.Response(body=b"ab", headers={"Content-Length": "3"})).ask(ONE).status, 500
        )
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_injection(self) -> None:
        for name, value in (("A", "b\r\nC: d"), ("A", "b\nc"), ("A", "\0"), ("A\r\n", "b"), ("A b", "c"), ("", "a")):
            self.assertRaises(ValueError, http.Response, headers={name: value})

    def test_drain(self) -> None:
        later = Later()
        talk = self.talk(later)
        talk.send(GET % 1)
        talk.connection.drain()
        talk.clock.advance(1)
        self.assertFalse(talk.ended)
        later.answer()
        talk.pair.flush()
        (answer,) = talk.answers()
        self.assertEqual((answer.body, answer.header(b"connection")), (b"/1", b"close"))
        self.assertTrue(talk.ended)

    def test_drainIdle(self) -> None:
        talk = self.talk(lambda request: b"")
        talk.ask(ONE)
        talk.connection.drain()
        self.assertFalse(talk.ended)
        talk.clock.advance(0.2)
        talk.connection.drain()
        talk.pair.flush()
        self.assertTrue(talk.ended)

    def test_drainWaiting(self) -> None:
        """Requests that have come are answered, and the last answer says that it is."""
        later = Later()
        talk = self.talk(later)
        talk.send(GET % 1 + GET % 2)
        talk.connection.drain()
        for _ in range(2):
            later.answer()
            talk.pair.flush()
        self.assertEqual([each.header(b"connection") for each in talk.answers()], [None, b"close"])
        self.assertTrue(talk.ended)
