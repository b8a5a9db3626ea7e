"""What handlers return, and what becomes of it."""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import http
from getty_tx.errors import RefuseRequest
from tests.support.http import Case

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class ResultTests(Case):
    """Each kind of result."""

    def result(self, value: Any) -> tuple[int, bytes | None, bytes]:
        answer = self.talk(lambda request: value).ask(GET)
        self.assertTrue(answer.isComplete)
        return answer.status, answer.header(b"content-type"), answer.body

    def test_values(self) -> None:
        self.assertEqual(self.result(b"\xff"), (200, b"application/octet-stream", b"\xff"))
        self.assertEqual(self.result("\u20ac"), (200, b"text/plain; charset=utf-8", "\u20ac".encode()))
        self.assertEqual(self.result({"a": "\u20ac"}), (200, b"application/json", '{"a":"\u20ac"}'.encode()))
        self.assertEqual(self.result([1, None]), (200, b"application/json", b"[1,null]"))
        self.assertEqual(self.result(None), (204, None, b""))

    def test_responses(self) -> None:
        self.assertEqual(self.result(http.Response(201)), (201, None, b""))
        self.assertEqual(self.result(http.Response(404, "no")), (404, b"text/plain; charset=utf-8", b"no"))
        self.assertEqual(self.result(http.Response(body="<p>", contentType="text/html")), (200, b"text/html", b"<p>"))
        self.assertEqual(self.result(http.Response(body=b"x", headers={"content-type": "a/b"})), (200, b"a/b", b"x"))
        answer = self.talk(lambda request: http.Response(headers=[("A", "1"), ("A", "2")])).ask(GET)
        self.assertEqual([value for name, value in answer.headers if name == b"a"], [b"1", b"2"])

    def test_iterables(self) -> None:
        async def parts() -> Any:
            yield b"a"
            yield "\u20ac"

        for value in (parts(), http.Response(body=parts()), http.Response(body=iter([b"a", "\u20ac"]))):
            self.assertEqual(self.result(value)[2], "a\u20ac".encode())

    def test_later(self) -> None:
        waiting: list[Deferred[Any]] = []

        def later(request: http.Request) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        async def awaited(request: http.Request) -> Any:
            return await later(request)

        for handler in (later, awaited):
            talk = self.talk(handler)
            talk.send(GET)
            self.assertEqual(talk.answers(), [])
            waiting[-1].callback("now")
            talk.pair.flush()
            self.assertEqual([answer.body for answer in talk.answers()], [b"now"])

    def test_wrong(self) -> None:
        self.assertEqual(self.result(object())[0], 500)
        (failure,) = self.flushLoggedErrors(TypeError)
        self.assertIn("return bytes, str, a dict or list for JSON", str(failure.value))

    def test_raises(self) -> None:
        async def awaited(request: http.Request) -> None:
            raise ValueError(request.urlPath)

        def called(request: http.Request) -> None:
            raise ValueError(request.urlPath)

        for handler in (awaited, called):
            talk = self.talk(handler)
            self.assertEqual(talk.ask(GET).status, 500)
            # The connection is as good as before.
            self.assertEqual(talk.ask(GET).status, 500)
            self.assertEqual([str(each.value) for each in self.flushLoggedErrors(ValueError)], ["/", "/"])

    def test_refuses(self) -> None:
        def handler(request: http.Request) -> None:
            raise RefuseRequest(429, "not so fast", {"Retry-After": "7"})

        async def parts(request: http.Request) -> Any:
            handler(request)
            yield b"never"

        for each in (handler, parts):
            answer = self.talk(each).ask(GET)
            self.assertEqual((answer.status, answer.header(b"retry-after")), (429, b"7"))
            self.assertEqual(answer.body, b"429 Too Many Requests: not so fast\n")


class DroppedTests(Case):
    """What a handler waits for is garbage: nothing can go on, and nothing is said."""

    def test_generator(self) -> None:
        said: list[str] = []
        ended: list[bool] = []
        waiting: list[Deferred[None]] = [Deferred()]
        self.patch(sys, "unraisablehook", lambda found: said.append(str(found.exc_value)))

        async def parts(request: http.Request) -> Any:
            try:
                yield b"a"
                await waiting[0]
            finally:
                ended.append(True)

        talk = self.talk(parts)
        talk.send(GET)
        # What survives a collection is ended from the outside to the inside by the next one.
        gc.collect()
        waiting.clear()
        gc.collect()
        self.assertEqual((said, ended), ([], [True]))
        (answer,) = talk.answers()
        self.assertEqual((answer.body, answer.isComplete), (b"a", False))


class RouterTests(Case):
    """Paths and methods."""

    def setUp(self) -> None:
        self.router = router = http.Router()

        @router.get("/")
        def root(request: http.Request) -> str:
            return "root"

        @router.get("/users/{id}")
        def user(request: http.Request) -> dict[str, Any]:
            return {"id": request.path["id"], "q": request.query.get("q"), "route": request.route}

        @router.route(["PUT", "POST"], "/users/{id}")
        def change(request: http.Request) -> bytes | None:
            return request.content

        @router.get("/files/{name:path}")
        def file(request: http.Request) -> str:
            return request.path["name"]

    def ask(self, line: str, *methods: str) -> Any:
        return self.talk(self.router).ask(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), *methods)

    def test_paths(self) -> None:
        self.assertEqual(self.ask("GET /").body, b"root")
        self.assertEqual(self.ask("GET /?a=b").body, b"root")
        self.assertEqual(self.ask("GET /users/a%20b?q=%26").body, b'{"id":"a b","q":"&","route":"/users/{id}"}')
        self.assertEqual(self.ask("GET /users/a%2Fb").body, b'{"id":"a/b","q":null,"route":"/users/{id}"}')
        self.assertEqual(self.ask("GET /files/a/b/c").body, b"a/b/c")

    def test_none(self) -> None:
        for path in ("/user", "/users/", "/users/1/2", "/files/", "//"):
            self.assertEqual(self.ask(f"GET {path}").status, 404, path)

    def test_methods(self) -> None:
        answer = self.ask("DELETE /users/1")
        self.assertEqual((answer.status, answer.header(b"allow")), (405, b"GET, HEAD, OPTIONS, POST, PUT"))
        self.assertEqual(self.ask("OPTIONS /users/1").header(b"allow"), b"GET, HEAD, OPTIONS, POST, PUT")
        head = self.ask("HEAD /", "HEAD")
        self.assertEqual((head.status, head.header(b"content-length"), head.body), (200, b"4", b""))

    def test_malformed(self) -> None:
        for template in ("users", "/{", "/}", "/{a}{", "/{1}", "/{a}/{a}"):
            self.assertRaises(ValueError, self.router.get(template), lambda request: None)
        self.assertRaises(ValueError, self.router.get("/"), lambda request: None)
        self.assertRaises(ValueError, self.router.add, "GET", "/x", None)

    def test_maxBody(self) -> None:
        self.router.post("/small", maxBody=3)(lambda request: request.content)
        talk = self.talk(self.router)
        body = b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        self.assertEqual(talk.ask(body % (3, b"abc")).body, b"abc")
        self.assertEqual(talk.ask(body % (4, b"abcd")).status, 413)
        chunks = b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"
        self.assertEqual(talk.ask(chunks).status, 413)
