"""Messages in random orders, right and wrong, of one task and of two: whatever they are, the answer is whole or cut."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.asgi import Asgi
from getty_tx.http.connection import Connection
from getty_tx.http.context import HTTPContext
from getty_tx.testing import MemoryReactor, connectedPeer
from tests.support.asgi import answer
from tests.support.http import answersIn
from tests.support.long import examples

START = "http.response.start"
BODY = "http.response.body"
TRAILERS = "http.response.trailers"

RIGHT: list[dict[str, Any]] = [
    {"type": START, "status": 200},
    {"type": START, "status": 200, "headers": [(b"a", b"b"), [b"c", b"d"]]},
    {"type": START, "status": 204},
    {"type": START, "status": 200, "headers": [(b"content-length", b"3")]},
    {"type": START, "status": 200, "headers": [(b"connection", b"close")]},
    {"type": START, "status": 200, "trailers": True},
    {"type": BODY},
    {"type": BODY, "body": b"abc"},
    {"type": BODY, "body": bytearray(b"abc")},
    {"type": BODY, "body": b"", "more_body": True},
    {"type": BODY, "body": b"abc", "more_body": True},
    {"type": BODY, "body": b"x" * 200_000, "more_body": True},
    {"type": TRAILERS, "headers": [(b"t", b"u")]},
    {"type": TRAILERS, "headers": [(b"v", b"w")], "more_trailers": True},
    {"type": "http.response.early_hint", "links": [b"</a>"]},
]
WRONG: list[Any] = [
    None,
    {},
    "http.response.start",
    {"type": 7},
    {"type": "websocket.send", "text": "a"},
    {"type": "http.request"},
    {"type": START},
    {"type": START, "status": "200"},
    {"type": START, "status": 101},
    {"type": START, "status": 1000},
    {"type": START, "status": None},
    {"type": START, "status": 200, "headers": [("a", "b")]},
    {"type": START, "status": 200, "headers": [(b"a",)]},
    {"type": START, "status": 200, "headers": [(b"a", b"b\r\nc: d")]},
    {"type": START, "status": 200, "headers": [(b"content-length", b"x")]},
    {"type": START, "status": 200, "headers": 7},
    {"type": START, "status": 200, "headers": None},
    {"type": BODY, "body": "text"},
    {"type": BODY, "body": None},
    {"type": BODY, "body": 5},
    {"type": BODY, "body": 5, "more_body": True},
    {"type": TRAILERS, "headers": [("t", "u")]},
    {"type": "http.response.early_hint", "links": ["</a>"]},
    {"type": "http.response.pathsend", "path": "/does/not/exist"},
]

#: What an application is told of its own mistakes.
MISTAKES = (RuntimeError, ValueError, TypeError, KeyError, FileNotFoundError)

STEPS = st.one_of(
    st.sampled_from(RIGHT).map(lambda message: ("send", message)),
    st.sampled_from(RIGHT).map(lambda message: ("send", message)),
    st.sampled_from(WRONG).map(lambda message: ("send", message)),
    st.sampled_from([("receive",), ("receive",), ("look",), ("pause", 0), ("pause", 0.01), ("raise",)]),
)
TASKS = st.lists(st.lists(STEPS, max_size=7), min_size=1, max_size=2)
CLIENT = st.lists(st.sampled_from(["part", "part", "turn", "time", "end", "reset", "stop", "go"]), max_size=8)
FRAMES = st.sampled_from(["none", "length", "chunks", "broken"])
PARTS = st.lists(st.binary(min_size=1, max_size=20) | st.just(b"x" * 70_000), max_size=4)


class Fault(Exception):
    """A fault of the application's own."""


class OrderTests(SynchronousTestCase):
    """One application, whose requests but those for /next follow a script."""

    def setUp(self) -> None:
        self.clock = MemoryReactor()
        self.application = Asgi(self.app, lifespan="off")
        self.application.startApplication(self.clock)
        loop: Any = self.application.loop
        loop.time = self.clock.seconds
        self.addCleanup(loop.end)
        self.context = HTTPContext(self.application)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the script in as many tasks as it has."""
        if scope["path"] == "/next":
            await answer(send, b"next")
            return
        self.begun += 1
        done = await asyncio.gather(*(self.play(steps, receive, send) for steps in self.script), return_exceptions=True)
        self.finished += 1
        for error in done:
            if error is not None:
                raise error

    async def play(self, steps: Any, receive: Any, send: Any) -> None:
        """One task."""
        for step in steps:
            if step[0] == "send":
                try:
                    await send(step[1])
                except Exception as error:
                    self.errors.append(error)
                else:
                    self.taken.append(step[1])
            elif step[0] == "receive":
                self.received.append(await receive())
            elif step[0] == "look":
                # As those do who look whether the client has gone.
                looking = asyncio.ensure_future(receive())
                await asyncio.sleep(0)
                if looking.cancel():
                    await asyncio.wait([looking])
                if not looking.cancelled():
                    self.received.append(looking.result())
            elif step[0] == "pause":
                await asyncio.sleep(step[1])
            else:
                raise Fault

    @settings(deadline=None, database=None, max_examples=examples(150), suppress_health_check=list(HealthCheck))
    @given(TASKS, CLIENT, FRAMES, PARTS, st.sampled_from(["1.1", "1.1", "1.0"]), st.sampled_from(["POST", "HEAD"]))
    def test_orders(
        self, script: Any, client: list[str], framing: str, parts: list[bytes], version: str, method: str
    ) -> None:
        self.script = script
        self.begun = self.finished = 0
        self.errors: list[BaseException] = []
        self.taken: list[Any] = []
        self.received: list[dict[str, Any]] = []
        clock, context = self.clock, self.context
        pair = connectedPeer(lambda session: Connection(session, context), clock=clock, capacity=100_000)
        clock.settle()
        body = b"".join(parts)
        pieces = self.framed(framing, parts, version, method)
        pair.peer.write(pieces.pop(0))
        hasLeft = False
        for action in client:
            if action == "part" and pieces and not hasLeft:
                pair.peer.write(pieces.pop(0))
            elif action == "time":
                clock.advance(0.02)
            elif action == "end":
                pair.peer.end()
                hasLeft = True
            elif action == "reset":
                pair.reset()
                hasLeft = True
            elif pair.peer.lost is None and action in ("stop", "go"):
                transport: Any = pair.peer.transport
                transport.pauseProducing() if action == "stop" else transport.resumeProducing()
            clock.turn()
        if not hasLeft:
            for piece in pieces:
                pair.peer.write(piece)
        if pair.peer.lost is None:
            transport = pair.peer.transport
            transport.resumeProducing()
        clock.advance(1)
        if not hasLeft:
            self.checkAnswer(pair, method, framing)
        # Whoever waits is told that the client has gone.
        pair.peer.end()
        clock.advance(1)
        self.checkRest(pair)
        if framing in ("length", "chunks"):
            whole = b"".join(message["body"] for message in self.received if message["type"] == "http.request")
            self.assertTrue(body.startswith(whole), "the parts that were received are not those that were sent")

    def test_trailers(self) -> None:
        """Those of several messages are all sent."""
        parts = [RIGHT[5], RIGHT[7], RIGHT[13], RIGHT[12]]
        self.script = [[("send", message) for message in parts]]
        self.begun = self.finished = 0
        self.errors, self.taken, self.received = [], [], []
        pair = connectedPeer(lambda session: Connection(session, self.context), clock=self.clock)
        pair.peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        pair.flush()
        (got,) = answersIn(pair.peer.data)
        self.assertEqual((got.body, got.trailers), (b"abc", [(b"v", b"w"), (b"t", b"u")]))
        pair.peer.end()
        self.clock.advance(1)
        self.checkRest(pair)

    def framed(self, framing: str, parts: list[bytes], version: str, method: str) -> list[bytes]:
        """The head, and the parts of the body."""
        head = f"{method} / HTTP/{version}\r\nHost: a\r\n"
        if framing == "none":
            return [head.encode() + b"\r\n"]
        if framing == "length" or version == "1.0":
            return [f"{head}Content-Length: {sum(map(len, parts))}\r\n\r\n".encode(), *parts]
        end = b"0\r\n\r\n" if framing == "chunks" else b"x\r\n"
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
        return [f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks, end]

    def checkAnswer(self, pair: Any, method: str, framing: str) -> None:
        """An answer of the application that has ended is whole, or cut; and then the connection serves another."""
        ended = pair.peer.ended or pair.peer.lost is not None
        answers = [each for each in answersIn(pair.peer.data, [method], ended) if each.status >= 200]
        self.assertLessEqual(len(answers), 1)
        if not self.finished and not ended:
            # It waits for the client to go.
            return
        self.assertTrue(answers or ended)
        if not ended:
            self.assertTrue(answers[0].isComplete)
            before = len(pair.peer.data)
            pair.peer.write(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            self.clock.advance(1)
            (last,) = answersIn(pair.peer.data[before:], (), False)
            self.assertEqual((last.status, last.body), (200, b"next"))

    def checkRest(self, pair: Any) -> None:
        """Nothing is left, and only the application was told of its mistakes."""
        clock, context = self.clock, self.context
        for _ in range(60):
            if not clock.getDelayedCalls():
                break
            clock.advance(1)
        self.assertEqual((self.finished, len(self.application.tasks), context.running), (self.begun, 0, 0))
        self.assertEqual((context.connections, clock.getDelayedCalls()), (set(), []))
        for message in self.taken:
            self.assertIn(message, RIGHT)
        for error in self.errors:
            self.assertIsInstance(error, (*MISTAKES, OSError))
        for failure in self.flushLoggedErrors():
            self.assertIsInstance(failure.value, (*MISTAKES, Fault))
