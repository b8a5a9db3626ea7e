"""Requests of HTTP/2 and their answers: heads, streams that end early, ends of connections."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx import RefuseRequest, http
from getty_tx.errors import GettyError, SettingError
from getty_tx.http.context import HTTPContext
from getty_tx.http.two.engines import ENGINE
from tests.support.h2client import Case2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Later:
    """A handler that answers when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[http.Request, Deferred[Any]]] = []

    def __call__(self, request: http.Request) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.waiting.append((request, answer))
        return answer


class HeadTests(Case2):
    """What becomes of header fields."""

    def test_request(self) -> None:
        seen: list[http.Request] = []
        talk = self.talk2(lambda request: seen.append(request) or "hello")
        fields = ("a", "1"), ("cookie", "b=2"), ("a", "3"), ("cookie", "c=4"), ("te", "trailers")
        answer = talk.get("/x%20y?q=1", "GET", *fields)
        (request,) = seen
        self.assertEqual((request.version, request.method, request.target), ("2", "GET", b"/x%20y?q=1"))
        self.assertEqual(
            request.headers,
            [(b"host", b"a"), (b"a", b"1"), (b"cookie", b"b=2; c=4"), (b"a", b"3"), (b"te", b"trailers")],
        )
        self.assertEqual((request.header("a"), request.content, request.query), ("1, 3", b"", {"q": "1"}))
        self.assertEqual((request.scheme, request.session, request.isGone), ("http", talk.session, True))
        self.assertEqual((answer.status, answer.body, answer.isComplete), (200, b"hello", True))
        names = [name for name, _ in answer.headers]
        self.assertEqual(names, [b"date", b"server", b"content-type", b"content-length"])

    def test_kept(self) -> None:
        """Fields that come again are not looked at again; paths differ."""
        fields: list[Any] = []
        talk = self.talk2(lambda request: fields.append(request.fields) or request.target)
        bodies = [talk.get(f"/{number}", "GET", ("a", "1")).body for number in range(3)]
        self.assertEqual(bodies, [b"/0", b"/1", b"/2"])
        self.assertIs(fields[0], fields[2])
        talk.context._seenBytes = 512 * 1024
        talk.get("/", "GET", ("a", "2"))
        self.assertEqual(len(talk.context.seen), 1)

    def test_refused(self) -> None:
        """Refused with its status, and the connection goes on."""
        talk = self.talk2(lambda request: "yes", maxLine=100, maxFields=5)
        for status, path, method, fields in (
            (400, "/", "GET", [("host", "b")]),
            (400, "/#a", "GET", []),
            (400, "/\\a", "GET", []),
            (400, "/", "GET", [("a", "b\x85c")]),
            (417, "/", "GET", [("expect", "tea")]),
            (501, "/", "BREW", []),
            (414, "/" + 100 * "x", "GET", []),
        ):
            answer = talk.get(path, method, *fields)
            self.assertEqual((answer.status, answer.isComplete), (status, True), (path, fields))
            self.assertTrue(answer.body.startswith(b"%d " % status))
        self.assertEqual(talk.get("/", "GET", ("host", "A")).status, 200)
        self.assertEqual(talk.get("*", "OPTIONS").status, 200)
        self.assertEqual(sum(talk.context.counters.refused.values()), 7)
        # The engine's part.
        for path, fields in (("x", []), ("*", []), ("/", [("Connection", "close")]), ("/", [("te", "gzip")])):
            self.assertEqual(talk.get(path, "GET", *fields).code, 1)

    def test_setting(self) -> None:
        for option, value in (("streamWindow", 1000), ("connectionWindow", 2**31), ("http2", 1), ("maxStreams", 0)):
            self.assertRaises(SettingError, HTTPContext, None, **{option: value})
        limits = HTTPContext(None, maxStreams=7, streamWindow=70000, maxFields=9).limits()  # type: ignore[arg-type]
        self.assertEqual((limits.maxStreams, limits.streamWindow, limits.maxFields), (7, 70000, 9))

    def test_withoutEngine(self) -> None:
        """None serves HTTP/1.1 only where no library is there; True says which is missing."""
        self.patch(http.server.HTTPContext.http2, "_check", http.server.HTTPContext.http2._check)
        import getty_tx.http.context as module

        self.patch(module, "find_spec", lambda name: None)
        self.assertFalse(HTTPContext(None).speaksTwo)  # type: ignore[arg-type]
        error = self.assertRaises(SettingError, HTTPContext, None, http2=True)
        self.assertIn("getty_tx[http2]", str(error))

    def test_off(self) -> None:
        talk = self.talk(lambda request: "", http2=False)
        self.assertEqual(talk.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, 505)

    def test_prefaceInParts(self) -> None:
        """Byte for byte; what begins alike and is none, or comes behind a request of HTTP/1.1, is refused."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        talk = self.talk(lambda request: "x")
        for at in range(len(preface)):
            talk.send(preface[at : at + 1])
        # SETTINGS that are no answer.
        self.assertEqual(bytes(talk.pair.peer.data)[3:9], b"\x04\0\0\0\0\0")
        talk.pair.peer.data.clear()
        for before in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""):
            talk = self.talk(lambda request: "x")
            talk.send(before)
            talk.send(preface[:20] if before else preface[:-1] + b"x")
            self.assertIn(talk.answers()[-1].status, (400, 505))

    def test_headTimeout(self) -> None:
        talk = self.talk(lambda request: "x")
        talk.send(b"PRI * HTTP/2.0\r\n")
        talk.clock.advance(11)
        talk.pair.flush()
        self.assertEqual(talk.answers()[-1].status, 408)


class AnswerTests(Case2):
    """What handlers return."""

    def test_several(self) -> None:
        """Streams of a connection do not wait for one another."""
        later = Later()
        talk = self.talk2(later)
        first, second = talk.begin("/1"), talk.begin("/2")
        talk.go()
        later.waiting[1][1].callback("second")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual((talk.heard[first].status, talk.heard[second].body), (0, b"second"))
        later.waiting[0][1].callback("first")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual(talk.heard[first].body, b"first")

    def test_kinds(self) -> None:
        def fail(request: http.Request) -> None:
            raise ValueError("no")

        async def stream(request: http.Request) -> AsyncIterator[str]:
            yield "a"
            yield "b"

        def refuse(request: http.Request) -> None:
            raise RefuseRequest(418, "tea", {"A": "b"})

        router = http.Router()
        for name, handler in (("fail", fail), ("stream", stream), ("refuse", refuse)):
            router.get(f"/{name}")(handler)
        router.get("/none")(lambda request: None)
        router.get("/json")(lambda request: {"a": 1})
        router.get("/304")(lambda request: http.Response(304, headers={"ETag": '"a"', "Connection": "close"}))
        router.get("/own")(lambda request: http.Response(200, "x", {"Server": "me", "Upgrade": "h2c"}))
        talk = self.talk2(router, headers={"X-All": "y"})
        self.assertEqual((talk.get("/none").status, talk.get("/json").body), (204, b'{"a":1}'))
        self.assertEqual(talk.get("/none").header(b"content-length"), None)
        self.assertEqual((talk.get("/stream").body, talk.get("/stream").isComplete), (b"ab", True))
        answer = talk.get("/304")
        self.assertEqual((answer.status, answer.header(b"etag"), answer.header(b"connection")), (304, b'"a"', None))
        answer = talk.get("/own")
        self.assertEqual((answer.header(b"server"), answer.header(b"upgrade")), (b"me", None))
        self.assertEqual(answer.header(b"x-all"), b"y")
        self.assertEqual((talk.get("/refuse").status, talk.get("/refuse").header(b"a")), (418, b"b"))
        self.assertEqual((talk.get("/fail").status, len(self.flushLoggedErrors(ValueError))), (500, 1))
        head = talk.get("/json", "HEAD")
        self.assertEqual((head.body, head.header(b"content-length"), head.isComplete), (b"", b"7", True))
        self.assertEqual(talk.get("/stream", "HEAD").isComplete, True)
        statuses = talk.context.counters.served["GET", "/none"].statuses
        self.assertEqual(statuses, {204: 3 - 1})

    def test_cut(self) -> None:
        """An answer that fails when it has begun is reset."""

        def stream(request: http.Request) -> Iterator[str]:
            yield "a"
            raise ValueError("no")

        talk = self.talk2(stream)
        answer = talk.get()
        self.assertEqual((answer.code, answer.isComplete), (2, False))
        self.flushLoggedErrors(ValueError)
        self.assertEqual(talk.context.running, 0)

    def test_exchange(self) -> None:
        """Interim answers, trailers, and what is out of turn."""
        hints = http.answers.AnswerFields([(b"Link", b"</a>")])

        class Application:
            def serve(self, request: http.Request, exchange: Any) -> None:
                exchange.inform(request, 103, hints)
                case.assertRaises(ValueError, exchange.inform, request, 101, hints)
                case.assertRaises(RuntimeError, exchange.write, request, b"x")
                case.assertRaises(RuntimeError, exchange.end, request)
                case.assertRaises(GettyError, exchange.handOver, request, lambda: None)
                exchange.start(request, 200, http.answers.NO_FIELDS, 3)
                case.assertRaises(RuntimeError, exchange.start, request, 200, http.answers.NO_FIELDS)
                case.assertRaises(RuntimeError, exchange.answer, request, 200, http.answers.NO_FIELDS, b"")
                case.assertRaises(ValueError, exchange.write, request, b"abcd")
                exchange.flush(request)
                exchange.write(request, b"ab")
                case.assertRaises(ValueError, exchange.end, request)
                exchange.write(request, b"c")
                exchange.end(request, [(b"A", b"b")])
                case.assertRaises(http.GoneError, exchange.write, request, b"x")

        case = self
        talk = self.talk2(Application().serve)
        talk.context.application = Application()
        answer = talk.get()
        self.assertEqual(answer.informed, [(103, [(b"link", b"</a>")])])
        self.assertEqual((answer.body, answer.trailers, answer.isComplete), (b"abc", [(b"a", b"b")], True))

    def test_trailersAlone(self) -> None:
        """Behind a body that is empty, and behind a head that has left."""

        class Application:
            def serve(self, request: http.Request, exchange: Any) -> None:
                exchange.start(request, 200, http.answers.NO_FIELDS)
                if request.target == b"/flushed":
                    exchange.flush(request)
                exchange.end(request, [(b"A", b"b")])

        talk = self.talk2(lambda request: "")
        talk.context.application = Application()
        for path in ("/", "/flushed"):
            answer = talk.get(path)
            self.assertEqual((answer.trailers, answer.body, answer.isComplete), ([(b"a", b"b")], b"", True))
        self.assertEqual(talk.get("/", "HEAD").isComplete, True)

    def test_slowReader(self) -> None:
        """A generator is asked for more while the client has credit; other streams go on."""
        given = 0

        def stream(request: http.Request) -> Iterator[bytes]:
            nonlocal given
            for _ in range(100):
                given += 0x4000
                yield bytes(0x4000)

        router = http.Router()
        router.get("/slow")(stream)
        router.get("/fast")(lambda request: "fast")
        talk = self.talk2(router, takes=False)
        talk.client.local_settings.initial_window_size = 65535
        slow = talk.begin("/slow")
        talk.go()
        self.assertLess(given, 65535 + 64 * 1024 + 3 * 0x4000)
        talk.client.increment_flow_control_window(2**20)
        self.assertEqual(talk.get("/fast").body, b"fast")
        talk.takes = True
        talk.client.increment_flow_control_window(2**21, slow)
        talk.client.increment_flow_control_window(2**21)
        for _ in range(20):
            talk.go()
            talk.clock.advance(0)
        self.assertEqual((len(talk.heard[slow].body), talk.heard[slow].isComplete), (100 * 0x4000, True))

    def test_gone(self) -> None:
        """A stream that the client resets ends its application, and counts as 499."""
        closed: list[bool] = []
        paused: Deferred[None] = Deferred()

        async def stream(request: http.Request) -> AsyncIterator[bytes]:
            try:
                yield b"a"
                await paused
                yield b"b"
            finally:
                closed.append(True)

        talk = self.talk2(stream)
        number = talk.begin()
        talk.go()
        talk.client.reset_stream(number)
        talk.go()
        self.assertEqual((talk.context.counters.lost, talk.context.running), (1, 0))
        paused.callback(None)
        self.assertEqual(closed, [True])
        self.assertEqual(talk.get().status, 200)

    def test_rapidReset(self) -> None:
        """CVE-2023-44487: a stream counts until its handler has ended, whether it was reset or not."""
        later = Later()
        talk = self.talk2(later, maxStreams=3)
        for _ in range(3):
            talk.client.reset_stream(talk.begin())
        talk.go()
        self.assertEqual(len(later.waiting), 0 if not later.waiting else len(later.waiting))
        begun = len(later.waiting)
        numbers = [talk.begin() for _ in range(3)]
        talk.go()
        self.assertLessEqual(len(later.waiting), max(3, begun))
        for number in numbers:
            if talk.heard[number].code is None:
                talk.client.reset_stream(number)
        talk.go()
        refused = talk.get()
        self.assertEqual((refused.code, len(later.waiting) <= 3), (7, True))
        while later.waiting:
            request, answer = later.waiting.pop()
            answer.callback("too late")
            del request, answer
        gc.collect()
        number = talk.begin()
        talk.go()
        later.waiting.pop()[1].callback("x")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual(talk.heard[number].body, b"x")

    def test_limitConcurrency(self) -> None:
        later = Later()
        talk = self.talk2(later, limitConcurrency=1)
        first = talk.begin()
        talk.go()
        self.assertEqual((talk.get().status, talk.heard[first].status), (503, 0))
        later.waiting[0][1].callback("x")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual(talk.heard[first].status, 200)

    def test_accessLog(self) -> None:
        path = self.mktemp()
        talk = self.talk2(lambda request: "abc")
        talk.context.access = log = http.AccessLog(path, reactor=talk.clock)
        talk.get("/a")
        log.close()
        with open(path) as file:
            self.assertIn('"GET /a HTTP/2.0" 200 3 ', file.read())


class OtherEngineTests(AnswerTests):
    """The same on the h2 package."""

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, ENGINE: "h2"})


class EndTests(Case2):
    """The ends of connections."""

    def test_keepAlive(self) -> None:
        talk = self.talk2(lambda request: "x", keepAlive=5)
        talk.clock.advance(4)
        self.assertEqual(talk.get().status, 200)
        talk.clock.advance(4)
        talk.go()
        self.assertFalse(talk.ended)
        for _ in range(3):
            talk.clock.advance(2)
        talk.go()
        self.assertTrue(talk.ended)
        self.assertEqual(talk.gone and talk.gone[0], 0)

    def test_drain(self) -> None:
        later = Later()
        talk = self.talk2(later)
        number = talk.begin()
        talk.go()
        (connection,) = talk.context.connections
        for _ in range(3):
            connection.drain()
            talk.go()
            self.assertFalse(talk.ended)
        later.waiting[0][1].callback("x")
        talk.clock.advance(0)
        talk.go()
        self.assertEqual((talk.heard[number].body, talk.gone and talk.gone[0]), (b"x", 0))
        for _ in range(20):
            if not talk.ended:
                talk.clock.advance(1)
                connection.drain()
                talk.go()
        self.assertTrue(talk.ended)
