"""WSGI applications in threads, over loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
from threading import Event
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.errors import SettingError
from tests.support.http import answersIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.http import Answer

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

#: Seconds after which a test has failed.
LONG = 20

#: A program whose application never returns.
HANGS = """
import socket
from threading import Event

from twisted.internet import reactor

from getty_tx import http

def app(environ, start):
    print("called", flush=True)
    reactor.callFromThread(reactor.stop)
    Event().wait()

def listens(addresses):
    client = socket.create_connection(("127.0.0.1", addresses[0].port))
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    reactor.client = client

server = http.Server(http.Wsgi(app), "tcp:0:interface=127.0.0.1")
server.startService()
server.whenListening().addCallback(listens)
reactor.run()
"""


def plain(environ: dict[str, Any], start: Any) -> list[bytes]:
    """Answers with the body."""
    data = environ["wsgi.input"].read(-1)
    start("200 OK", [("Content-Type", "text/plain")])
    return [data]


class Case(TestCase):
    """A server of an application, and clients in threads."""

    timeout = 60

    async def serve(self, app: Any, **options: Any) -> None:
        application = http.Wsgi(app, **options) if callable(app) else app
        self.server = http.Server(application, "tcp:0:interface=127.0.0.1", drainTime=0.1)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        (self.address,) = await self.server.whenListening()

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.address.port), LONG)
        self.addCleanup(client.close)
        return client

    def talk(self, *parts: bytes) -> bytes:
        """In a thread: send, and read to the end."""
        data = b""
        with socket.create_connection(("127.0.0.1", self.address.port), LONG) as client:
            for part in parts:
                client.sendall(part)
            while True:
                more = client.recv(65536)
                if not more:
                    return data
                data += more

    async def ask(self, *parts: bytes, method: str = "GET") -> Answer:
        data = await deferToThread(self.talk, *parts)
        (answer,) = answersIn(data, [method], True)
        return answer


class CallTests(Case):
    """What the application sees, and what becomes of its answer."""

    async def test_validator(self) -> None:
        await self.serve(validator(plain))
        answer = await self.ask(GET)
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.header(b"content-type"), b"text/plain")
        head = b"POST /a%20b?c HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"

        def reads(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
            data = environ["wsgi.input"].read(2) + environ["wsgi.input"].readline()
            environ["wsgi.errors"].flush()
            start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
            yield data

        await self.server.stopService()
        await self.serve(validator(reads))
        answer = await self.ask(head, b"abc")
        self.assertEqual((answer.status, answer.body), (200, b"abc"))

    async def test_environ(self) -> None:
        seen: dict[str, Any] = {}

        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            seen.update(environ)
            start("204 No Content", [])
            return []

        router = http.Router()
        router.mount("/app", http.Wsgi(app, rootPath="/site"))
        await self.serve(router)
        answer = await self.ask(
            b"GET /app/a%2Fb/%E2%82%AC?x=%20 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-One: 1\r\nX_One: 2\r\n"
            b"Proxy: evil\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n"
        )
        self.assertEqual((answer.status, answer.body), (204, b""))
        for name, value in (
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/site/app"),
            ("PATH_INFO", "/a/b/\xe2\x82\xac"),
            ("QUERY_STRING", "x=%20"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("SERVER_PORT", str(self.address.port)),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_X_ONE", "1"),
            ("HTTP_HOST", "a"),
            ("wsgi.input_terminated", True),
            ("wsgi.url_scheme", "http"),
        ):
            self.assertEqual(seen[name], value, name)
        self.assertEqual(seen["HTTP_X_TWO"].replace(" ", ""), "1,2")
        for name in ("HTTP_PROXY", "HTTPS", "CONTENT_LENGTH", "CONTENT_TYPE"):
            self.assertNotIn(name, seen)

    async def test_bodies(self) -> None:
        await self.serve(plain)
        large = bytes(range(256)) * 8192
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        answer = await self.ask(head + b"Content-Length: %d\r\n\r\n" % len(large), large)
        self.assertTrue(answer.body == large)
        answer = await self.ask(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n")
        self.assertEqual(answer.body, b"abc")

    async def test_parts(self) -> None:
        closed: list[str] = []

        class Parts:
            def __iter__(self) -> Iterator[bytes]:
                yield b"b"
                yield b""
                yield b"c"

            def close(self) -> None:
                closed.append("closed")

        def app(environ: dict[str, Any], start: Callable[..., Any]) -> Parts:
            write = start("200 OK", [])
            write(b"a")
            return Parts()

        await self.serve(app)
        answer = await self.ask(GET)
        self.assertEqual((answer.body, answer.header(b"transfer-encoding")), (b"abc", b"chunked"))
        answer = await self.ask(GET.replace(b"GET", b"HEAD"), method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        await self.server.stopService()
        self.assertEqual(closed, ["closed", "closed"])

    async def test_large(self) -> None:
        def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
            start("200 OK", [("Content-Length", str(200 * 65536))])
            for _ in range(200):
                yield b"x" * 65536

        await self.serve(app)
        answer = await self.ask(GET)
        self.assertEqual((len(answer.body), answer.isComplete), (200 * 65536, True))


class ErrorTests(Case):
    """What goes wrong."""

    async def test_raises(self) -> None:
        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            raise ValueError("app")

        await self.serve(app)
        self.assertEqual((await self.ask(GET)).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_wrong(self) -> None:
        def none(environ: dict[str, Any], start: Any) -> list[bytes]:
            return [b""]

        def twice(environ: dict[str, Any], start: Any) -> list[bytes]:
            start("200 OK", [])
            start("200 OK", [])
            return []

        def text(environ: dict[str, Any], start: Any) -> list[Any]:
            start("200 OK", [])
            return ["text"]

        def status(environ: dict[str, Any], start: Any) -> list[bytes]:
            start("101 Switching", [])
            return []

        def split(environ: dict[str, Any], start: Any) -> list[bytes]:
            start("200 OK", [("A", "b\r\nC: d")])
            return []

        for app, error in (
            (none, RuntimeError),
            (twice, RuntimeError),
            (text, TypeError),
            (status, ValueError),
            (split, ValueError),
        ):
            await self.serve(app)
            self.assertEqual((await self.ask(GET)).status, 500, app.__name__)
            self.assertEqual(len(self.flushLoggedErrors(error)), 1, app.__name__)
            await self.server.stopService()

    async def test_exc_info(self) -> None:
        def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
            start("200 OK", [("A", "b")])
            if environ["PATH_INFO"] == "/late":
                yield b"begin"
            try:
                raise ValueError("in the middle")
            except ValueError:
                start("503 No", [], sys.exc_info())
            yield b"replaced"

        await self.serve(app)
        answer = await self.ask(GET)
        self.assertEqual((answer.status, answer.header(b"a"), answer.body), (503, None, b"replaced"))
        answer = await self.ask(GET.replace(b"/ ", b"/late "))
        self.assertEqual((answer.status, answer.isComplete, answer.body), (200, False, b"begin"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_gone(self) -> None:
        """The client goes while the application sends, and does not read: the thread ends, and closes the iterable."""
        begun, closed = Event(), Event()

        def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
            start("200 OK", [])
            try:
                while True:
                    yield b"x" * 65536
                    begun.set()
            finally:
                closed.set()

        await self.serve(app)
        client = self.connect()
        client.sendall(GET)
        self.assertTrue(await deferToThread(begun.wait, LONG))
        client.close()
        self.assertTrue(await deferToThread(closed.wait, LONG))

    async def test_gone_in_body(self) -> None:
        errors: list[BaseException] = []
        begun, ended = Event(), Event()

        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            begun.set()
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(error)
                raise
            finally:
                ended.set()
            return []

        await self.serve(app)
        client = self.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertTrue(await deferToThread(begun.wait, LONG))
        client.close()
        self.assertTrue(await deferToThread(ended.wait, LONG))
        self.assertEqual(len(errors), 1)

    async def test_lost_before_its_turn(self) -> None:
        """The body is malformed while the request waits for the answer before: the client is told, and no fault is."""
        begun, gate = Event(), Event()

        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            begun.set()
            gate.wait(LONG)
            return plain(environ, start)

        await self.serve(app)
        client = self.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(await deferToThread(begun.wait, LONG))
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        gate.set()
        data = await deferToThread(client.makefile("rb").read)
        self.assertEqual([each.status for each in answersIn(data, (), True)], [200, 400])

    async def test_full(self) -> None:
        """One runs, one waits, and the third is refused."""
        begun, go = Event(), Event()
        self.addCleanup(go.set)

        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            begun.set()
            go.wait(LONG)
            start("200 OK", [])
            return [b"done"]

        await self.serve(app, workers=1, maxWaiting=1)
        first = self.ask(GET)
        second = self.ask(GET)
        waiting = [Deferred.fromCoroutine(each) for each in (first, second)]
        self.assertTrue(await deferToThread(begun.wait, LONG))
        while self.server.context.running < 2:
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        third = await self.ask(GET)
        self.assertEqual((third.status, third.header(b"retry-after")), (503, b"1"))
        go.set()
        self.assertEqual([(await each).body for each in waiting], [b"done", b"done"])

    async def test_stop(self) -> None:
        """A call that waits for its client ends with the server, and its thread with it."""
        begun, ended = Event(), Event()

        def app(environ: dict[str, Any], start: Any) -> list[bytes]:
            begun.set()
            try:
                environ["wsgi.input"].read()
            finally:
                ended.set()
            return []

        await self.serve(app)
        client = self.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertTrue(await deferToThread(begun.wait, LONG))
        [connection] = self.server.context.connections
        # The client does not end its side.
        connection.session.waitTime = 0.1
        await self.server.stopService()
        self.assertTrue(ended.is_set())

    async def test_body_after_the_answer(self) -> None:
        """What is read when the answer is complete does not wait for ever."""
        closed = Event()
        got: list[bytes] = []

        class Late:
            def __init__(self, environ: dict[str, Any]) -> None:
                self.environ = environ

            def __iter__(self) -> Iterator[bytes]:
                yield b"answer"

            def close(self) -> None:
                try:
                    got.append(self.environ["wsgi.input"].read())
                except OSError:
                    got.append(b"lost")
                closed.set()

        def app(environ: dict[str, Any], start: Any) -> Late:
            start("200 OK", [("Content-Length", "6")])
            return Late(environ)

        await self.serve(app)
        client = self.connect()
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertIn(b"answer", await deferToThread(client.recv, 65536))
        client.close()
        self.assertTrue(await deferToThread(closed.wait, LONG))
        self.assertEqual(len(got), 1)

    async def test_process_ends(self) -> None:
        """Neither a call that hangs nor a service that nobody has stopped keeps the process from its end."""
        done = await deferToThread(
            subprocess.run, [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=LONG
        )
        self.assertEqual((done.returncode, done.stdout), (0, "called\n"), done.stderr)

    def test_settings(self) -> None:
        for bad in ({"app": 7}, {"workers": 0}, {"maxWaiting": -1}, {"rootPath": "a"}, {"rootPath": "/"}):
            self.assertRaises(SettingError, http.Wsgi, **{"app": plain, **bad})
