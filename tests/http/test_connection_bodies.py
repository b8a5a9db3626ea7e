"""Bodies that nobody takes, that end wrongly, and that the client was not asked for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import http
from getty_tx.http.body import BodyLostError
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
