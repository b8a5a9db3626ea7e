"""Bodies of requests of HTTP/2: whole ones, parts, credit, and bodies that nobody waits for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import http
from getty_tx.http.body import MAX_DISCARD
from tests.http2.test_exchange import Later
from tests.support.h2client import Case2


class BodyTests(Case2):
    """Bodies of requests."""

    def test_whole(self) -> None:
        """With the head in one read: handlers have it at once, in ``content``."""
        kinds: list[Any] = []
        talk = self.talk2(lambda request: kinds.append(request.body) or request.content)
        self.assertEqual(talk.post(b"abc").body, b"abc")
        self.assertEqual(talk.post(b"", "/", ("content-length", "0")).body, b"")
        self.assertEqual(kinds, [None, None])

    def test_parts(self) -> None:
        talk = self.talk2(lambda request: request.content)
        number = talk.begin("/", "POST", last=False)
        talk.go()
        for part in (b"a", b"b"):
            talk.client.send_data(number, part)
            talk.go()
        self.assertEqual(talk.heard[number].status, 0)
        talk.client.end_stream(number)
        talk.go()
        self.assertEqual(talk.heard[number].body, b"ab")

    def test_trailers(self) -> None:
        router = http.Router()

        @router.post("/", stream=True)
        async def take(request: http.Request) -> str:
            body = await request.read()
            assert request.body is not None
            return f"{body!r} {request.body.trailers}"

        talk = self.talk2(router)
        number = talk.begin("/", "POST", last=False)
        talk.client.send_data(number, b"x")
        talk.go()
        talk.client.send_headers(number, [("a", "b")], end_stream=True)
        talk.go()
        self.assertEqual(talk.heard[number].body, b"b'x' [(b'a', b'b')]")

    def test_wrongLength(self) -> None:
        """Data that are more or less than Content-Length says end the stream; the handler is not called."""
        seen: list[Any] = []
        talk = self.talk2(lambda request: seen.append(request.content))
        for size in (2, 4):
            # h2 itself would refuse to send them.
            number = talk.begin("/", "POST", ("content-length", "3"), last=False)
            talk.client.streams[number]._expected_content_length = None
            talk.client.send_data(number, bytes(size), end_stream=True)
            talk.go()
            self.assertEqual((talk.heard[number].code, seen), (1, []))

    def test_backPressure(self) -> None:
        """A client has credit for what was taken, and no more."""
        wanted: Deferred[None] = Deferred()
        router = http.Router()

        @router.post("/", stream=True)
        async def take(request: http.Request) -> str:
            assert request.body is not None
            await wanted
            return str(len(await request.read(10**7)))

        talk = self.talk2(router)
        number = talk.begin("/", "POST", last=False)
        talk.go()
        sent = 0
        while talk.client.local_flow_control_window(number):
            size = min(talk.client.local_flow_control_window(number), 16384)
            talk.client.send_data(number, bytes(size))
            sent += size
            talk.go()
        self.assertEqual(sent, 256 * 1024)
        wanted.callback(None)
        talk.clock.advance(0)
        talk.go()
        self.assertGreaterEqual(talk.client.local_flow_control_window(number), 128 * 1024)
        talk.client.end_stream(number)
        talk.go()
        self.assertEqual(talk.heard[number].body, b"262144")

    def test_continue(self) -> None:
        talk = self.talk2(lambda request: request.content)
        number = talk.begin("/", "POST", ("expect", "100-continue"), last=False)
        talk.go()
        self.assertEqual(talk.heard[number].informed, [(100, [])])
        talk.client.send_data(number, b"x", end_stream=True)
        talk.go()
        self.assertEqual(talk.heard[number].body, b"x")

    def test_tooLarge(self) -> None:
        """The answer is complete, then the client is told to send no more; a little more is read and dropped."""
        talk = self.talk2(lambda request: b"", maxBody=2)
        for fields, code in (([("expect", "100-continue")], 0), ([("content-length", str(2 * MAX_DISCARD))], 0)):
            number = talk.begin("/", "POST", ("content-length", "5") if code else fields[0], last=False)
            talk.client.send_data(number, b"xxx")
            talk.go()
            answer = talk.heard[number]
            self.assertEqual((answer.status, answer.isComplete, answer.code), (413, True, code))
        number = talk.begin("/", "POST", ("content-length", "5"), last=False)
        talk.client.send_data(number, b"xxx")
        talk.go()
        self.assertEqual((talk.heard[number].status, talk.heard[number].code), (413, None))
        talk.client.send_data(number, b"xx", end_stream=True)
        talk.go()
        self.assertEqual(talk.heard[number].code, None)

    def test_unwanted(self) -> None:
        router = http.Router()
        router.post("/", stream=True)(lambda request: "no")
        talk = self.talk2(router)
        number = talk.begin("/", "POST", last=False)
        talk.go()
        self.assertEqual((talk.heard[number].body, talk.heard[number].isComplete), (b"no", True))
        for _ in range(MAX_DISCARD // 16384 + 1):
            self.assertEqual(talk.heard[number].code, None)
            talk.client.send_data(number, bytes(16384))
            talk.go()
        self.assertEqual(talk.heard[number].code, 0)

    def test_slow(self) -> None:
        """A body that is awaited and does not come is answered with 408; one that nobody takes may be late."""
        talk = self.talk2(lambda request: b"", bodyTimeout=4, keepAlive=100)
        number = talk.begin("/", "POST", last=False)
        talk.go()
        for _ in range(6):
            talk.clock.advance(1)
        talk.go()
        self.assertEqual((talk.heard[number].status, talk.heard[number].code), (408, 0))
        later = Later()
        router = http.Router()
        router.post("/", stream=True)(later)
        talk = self.talk2(router, bodyTimeout=4, keepAlive=100)
        number = talk.begin("/", "POST", last=False)
        talk.client.send_data(number, bytes(1000))
        talk.go()
        for _ in range(20):
            talk.clock.advance(1)
        talk.go()
        self.assertEqual(talk.heard[number].status, 0)
        later.waiting[0][1].callback("x")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual(talk.heard[number].status, 200)

    def test_minRate(self) -> None:
        talk = self.talk2(lambda request: b"", bodyTimeout=8, keepAlive=100)
        number = talk.begin("/", "POST", last=False)
        for _ in range(12):
            if talk.heard[number].status == 0:
                talk.client.send_data(number, b"x")
            talk.go()
            talk.clock.advance(1)
        talk.go()
        self.assertEqual(talk.heard[number].status, 408)
        self.assertIn(b"240 bytes a second", talk.heard[number].body)

    def test_lost(self) -> None:
        """The client goes in the middle of a body."""
        failed: list[BaseException] = []
        router = http.Router()

        @router.post("/", stream=True)
        async def take(request: http.Request) -> None:
            try:
                await request.read()
            except http.BodyLostError as error:
                failed.append(error)
                raise

        talk = self.talk2(router)
        number = talk.begin("/", "POST", last=False)
        talk.go()
        talk.client.reset_stream(number)
        talk.go()
        self.assertEqual((len(failed), talk.context.counters.lost), (1, 1))
