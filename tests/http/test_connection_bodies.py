"""Bodies that nobody takes, that end wrongly, that the client was not asked for; and how bodies are counted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import http
from getty_tx.http.body import MAX_DISCARD, BodyLostError
from tests.support.http import Case, Talk

ONE = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%b\r\n"
POST = b"POST / HTTP/1.%d\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n"


class BodyEndTests(Case):
    """A streaming handler at ``/``, another at ``/next``."""

    def serve(self, handler: Any) -> Talk:
        """A connection to both."""
        router = http.Router()
        router.post("/", stream=True)(handler)
        router.get("/next")(lambda request: b"next")
        return self.talk(router)

    def test_endedButNotTaken(self) -> None:
        """A body that stopped the client, and has ended: with its answer the client is read again."""
        gate: Deferred[bytes] = Deferred()
        talk = self.serve(lambda request: gate)
        size = 100_000
        talk.send(POST % (1, size, b""))
        talk.send(b"x" * size)
        talk.send(ONE)
        gate.callback(b"first")
        talk.pair.flush()
        self.assertEqual([each.body for each in talk.answers()], [b"first", b"next"])

    def test_closesAndNotTaken(self) -> None:
        """The same with an answer that says that it is the last: what is behind the body is not served."""
        served: list[bytes] = []
        gate: Deferred[http.Response] = Deferred()
        router = http.Router()
        router.post("/", stream=True)(lambda request: gate)
        router.get("/next")(lambda request: served.append(request.target) or b"next")
        talk = self.talk(router)
        size = 100_000
        talk.send(POST % (1, size, b"") + b"x" * size + ONE)
        gate.callback(http.Response(body=b"first", headers={"Connection": "close"}))
        talk.pair.flush()
        self.assertEqual([each.body for each in talk.answers()], [b"first"])
        self.assertEqual((served, talk.ended), ([], True))

    def test_order(self) -> None:
        """A request waits whose body has stopped the client: what comes behind it does not overtake it."""
        served: list[bytes] = []
        gates: list[Deferred[bytes]] = []

        def late(request: http.Request) -> Deferred[bytes]:
            served.append(request.target)
            gates.append(Deferred())
            return gates[-1]

        router = http.Router()
        router.post("/", stream=True)(late)
        router.get("/next")(lambda request: served.append(request.target) or b"next")
        talk = self.talk(router)
        talk.send(POST % (1, 30_000, b""))
        talk.send(b"x" * 30_000 + POST % (1, 70_000, b""))
        talk.send(b"x" * 70_000 + ONE)
        gates[0].callback(b"first")
        talk.pair.flush()
        self.assertEqual(served, [b"/", b"/"])
        gates[1].callback(b"second")
        talk.pair.flush()
        self.assertEqual([each.body for each in talk.answers()], [b"first", b"second", b"next"])

    def test_malformedBehindTheLast(self) -> None:
        """A body that is malformed is refused at once, also if its request is the last."""
        for fields in (b"", b"Connection: close\r\n"):
            lost: list[BodyLostError] = []

            async def handler(request: http.Request, lost: list[BodyLostError] = lost) -> bytes:
                try:
                    return await request.read()
                except BodyLostError as error:
                    lost.append(error)
                    raise

            talk = self.serve(handler)
            talk.send(CHUNKED % fields + b"1\r\na\r\n")
            talk.send(b"x\r\n" + ONE)
            self.assertEqual([each.status for each in talk.answers()], [400])
            self.assertTrue(talk.ended)
            self.assertEqual(len(lost), 1)

    def test_tooLarge(self) -> None:
        """
        Of chunks above ``maxBody`` so much is read that the connection may go on; with more it is closed.

        The close reads on to the client's end, or the answer could be lost in a reset (RFC 9112, 9.6).
        """
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        count = MAX_DISCARD // 0x8000
        for limit, goesOn in ((1000, True), (1000, False), (MAX_DISCARD, False)):
            router = http.Router()
            router.post("/", maxBody=limit)(lambda request: b"all")
            router.get("/next")(lambda request: b"next")
            talk = self.talk(router)
            talk.send(CHUNKED % b"")
            for _ in range(count):
                talk.send(chunk)
            if goesOn:
                talk.send(b"0\r\n\r\n" + ONE)
                self.assertEqual([(each.status, each.body) for each in talk.answers()][1:], [(200, b"next")])
                continue
            talk.send(chunk)
            (got,) = talk.answers()
            self.assertEqual((got.status, talk.ended), (413, True))
            for _ in range(100):
                talk.send(chunk)
            self.assertEqual((talk.pair.peer.lost, talk.answers()), (None, []))

    def test_notAskedYet(self) -> None:
        """A client that waits for 100 (Continue) is not late."""
        gate: Deferred[None] = Deferred()

        async def slow(request: http.Request) -> bytes:
            await gate
            return await request.read()

        talk = self.serve(slow)
        talk.send(POST % (1, 3, b"Expect: 100-continue\r\n"))
        for _ in range(60):
            talk.clock.advance(1)
        talk.pair.flush()
        self.assertEqual(talk.answers(), [])
        gate.callback(None)
        talk.pair.flush()
        self.assertEqual([each.status for each in talk.answers()], [100])
        # From now on it is.
        for _ in range(60):
            talk.clock.advance(1)
        talk.pair.flush()
        self.assertEqual([each.status for each in talk.answers()], [408])

    def test_oldIsNotAsked(self) -> None:
        """HTTP/1.0 has no 100 (Continue)."""

        async def handler(request: http.Request) -> bytes:
            return await request.read()

        talk = self.serve(handler)
        talk.send(POST % (0, 3, b"Expect: 100-continue\r\n"))
        self.assertEqual(talk.answers(), [])
        talk.send(b"abc")
        self.assertEqual([(each.status, each.body) for each in talk.answers()], [(200, b"abc")])


class CountTests(Case):
    """The bytes of bodies, by method and route."""

    def bytesOf(self, talk: Talk, method: str, route: str) -> tuple[int, int]:
        """Those of the requests, and those of the answers."""
        totals = talk.context.counters.served[method, route]
        return totals.received, totals.sent

    def test_whole(self) -> None:
        router = http.Router()
        router.post("/")(lambda request: request.content + b"!")
        router.get("/next")(lambda request: b"next")
        talk = self.talk(router)
        talk.send(POST % (1, 3, b"") + b"abc" + POST % (1, 4, b""))
        talk.send(b"abcd" + ONE + ONE.replace(b"GET", b"HEAD"))
        self.assertEqual((7, 9), self.bytesOf(talk, "POST", "/"))
        self.assertEqual((0, 4), self.bytesOf(talk, "GET", "/next"))
        self.assertEqual((0, 0), self.bytesOf(talk, "HEAD", "/next"))

    def test_streams(self) -> None:
        """Without the framing, and one after the other."""

        async def echo(request: http.Request) -> Any:
            assert request.body is not None
            async for part in request.body:
                yield part

        router = http.Router()
        router.post("/", stream=True)(echo)
        talk = self.talk(router)
        for _ in range(2):
            talk.send(CHUNKED % b"" + b"5;a=b\r\nhello\r\n")
            talk.send(b"2\r\nyo\r\n0\r\nA: b\r\n\r\n")
        self.assertEqual([each.body for each in talk.answers()], [b"helloyo"] * 2)
        self.assertEqual((14, 14), self.bytesOf(talk, "POST", "/"))
        # All at once, and none.
        for body in (b"all", b""):
            talk.send(POST % (1, len(body), b"Expect: 100-continue\r\n") + body)
            self.assertEqual([(200, body)], [(each.status, each.body) for each in talk.answers()])
        self.assertEqual((17, 17), self.bytesOf(talk, "POST", "/"))

    def test_gone(self) -> None:
        """What came and went before the client did."""

        async def begin(request: http.Request) -> Any:
            assert request.body is not None
            yield b"begun"
            async for _ in request.body:
                pass

        router = http.Router()
        router.post("/", stream=True)(begin)
        talk = self.talk(router)
        talk.send(POST % (1, 10, b"") + b"abc")
        talk.session.abort()
        talk.pair.flush()
        self.assertEqual((3, 5), self.bytesOf(talk, "POST", "/"))
        self.assertEqual(1, talk.context.counters.lost)

    def test_unwanted(self) -> None:
        """Of a body that goes on behind the answer, what had come before."""
        router = http.Router()
        router.post("/", stream=True)(lambda request: b"enough")
        talk = self.talk(router)
        talk.send(POST % (1, 10, b"") + b"abc")
        talk.send(b"defghij" + POST % (1, 2, b"") + b"kl")
        self.assertEqual([each.body for each in talk.answers()], [b"enough"] * 2)
        self.assertEqual((2, 12), self.bytesOf(talk, "POST", "/"))
