"""The examples that serve browsers, run as their own first lines say."""

from __future__ import annotations

import json
import signal
import threading
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from tests.support.examples import EXAMPLES, ExampleTestCase
from tests.tap.test_twistd import PATIENCE

if TYPE_CHECKING:
    from websockets.sync.connection import Connection


class GatewayTests(ExampleTestCase):
    """Between WebSocket and lines."""

    def setUp(self) -> None:
        super().setUp()
        self.listening = self.listen("lines.sock")
        _, [port] = self.serving("gateway.py", "ws:0:interface=127.0.0.1:path=/lines", "unix:lines.sock")
        self.url = f"ws://127.0.0.1:{port}/lines"

    def assertClosed(self, browser: Connection, code: int, reason: str) -> None:
        """The WebSocket is closed so."""
        with self.assertRaises(ConnectionClosed) as caught:
            browser.recv(timeout=PATIENCE)
        assert caught.exception.rcvd is not None
        self.assertEqual((code, reason), (caught.exception.rcvd.code, caught.exception.rcvd.reason))

    def test_bothWays(self) -> None:
        """Messages become lines, and lines messages; the server's end is the browser's, and the other way round."""
        browser = self.browse(self.url)
        browser.send("one\ntwo")
        server = self.accept(self.listening)
        with server.makefile("rb") as reader:
            self.assertEqual([b"one\n", b"two\n"], [reader.readline(), reader.readline()])
        server.sendall("grüß dich\n".encode())
        self.assertEqual("grüß dich", browser.recv(timeout=PATIENCE))
        server.close()
        self.assertClosed(browser, 1000, "the server has gone")
        other = self.browse(self.url)
        server = self.accept(self.listening)
        other.close()
        self.assertEqual(b"", server.recv(1))

    def test_slowBrowser(self) -> None:
        """More than any buffer takes comes whole and in order, when the browser begins to read."""
        browser = self.browse(self.url)
        server = self.accept(self.listening)
        lines = [b"%d " % number + bytes(100_000).replace(b"\0", b"x") for number in range(200)]
        sending = threading.Thread(target=server.sendall, args=(b"\n".join([*lines, b""]),))
        sending.start()
        for line in lines:
            self.assertEqual(line.decode(), browser.recv(timeout=PATIENCE))
        sending.join()

    def test_nobody(self) -> None:
        """Without a server the browser is told so."""
        self.listening.close()
        self.assertClosed(self.browse(self.url), 1011, "")


class HTTPTests(ExampleTestCase):
    """Notes over HTTP, and a WebSocket on the same port."""

    def test_all(self) -> None:
        """Notes are kept and told, files are served, and a stream comes in parts; all on one port."""
        server, [port] = self.serving("http_server.py", "tcp:0:interface=127.0.0.1")
        client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.addCleanup(client.close)

        def ask(method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
            client.request(method, path, body)
            answer = client.getresponse()
            return answer.status, answer.read()

        browser = self.browse(f"ws://127.0.0.1:{port}/changes")
        self.assertEqual((201, b'{"name":"tea"}'), ask("POST", "/notes/tea", "buy some"))
        self.assertEqual((200, b'{"name":"tea"}'), ask("PUT", "/notes/tea", "buy more"))
        self.assertEqual((200, b'{"name":"tea","text":"buy more"}'), ask("GET", "/notes/tea"))
        self.assertEqual((200, b'{"tea":"buy more"}'), ask("GET", "/notes"))
        self.assertEqual((204, b""), ask("DELETE", "/notes/tea"))
        self.assertEqual((404, b"404 Not Found: there is no note tea\n"), ask("GET", "/notes/tea"))
        self.assertEqual(413, ask("POST", "/notes/tea", "x" * 10_001)[0])
        changes = [json.loads(browser.recv(timeout=PATIENCE)) for _ in range(3)]
        self.assertEqual(["buy some", "buy more", None], [change["text"] for change in changes])
        browser.close()
        self.assertEqual((200, (EXAMPLES / "chat.py").read_bytes()), ask("GET", "/files/chat.py"))
        self.assertEqual((200, b"0\n1\n2\n"), ask("GET", "/clock?every=0.01"))
        self.assertEqual(400, ask("GET", "/clock?ticks=many")[0])
        # The end of its stream comes before that of the process, which waits for ours.
        server.send(signal.SIGTERM)
        self.assertEqual(b"", client.sock.recv(1))
        client.close()
        server.end()
        self.assertNotIn("Traceback", server.output)


class FeedTests(ExampleTestCase):
    """One feed, many browsers."""

    def quote(self, **quote: object) -> bytes:
        """A line of the feed."""
        return json.dumps(quote).encode() + b"\n"

    def test_browsers(self) -> None:
        """Each has what there is, then what changes; who reads slowly has the last price, not all of them."""
        listening = self.listen("feed.sock")
        server, [port] = self.serving("feed.py", "unix:feed.sock", "ws:0:interface=127.0.0.1:path=/feed")
        feed = self.accept(listening)
        first = self.browse(f"ws://127.0.0.1:{port}/feed")
        self.assertEqual([], self.hear(first))
        feed.sendall(self.quote(symbol="ACME", price=1))
        self.assertEqual([{"symbol": "ACME", "price": 1}], self.hear(first))
        second = self.browse(f"ws://127.0.0.1:{port}/feed")
        self.assertEqual([{"symbol": "ACME", "price": 1}], self.hear(second))
        feed.sendall(self.quote(symbol="INITECH", price=2))
        for browser in (first, second):
            self.assertEqual([{"symbol": "INITECH", "price": 2}], self.hear(browser))
        first.close()
        # The library stops reading after some messages that nobody has taken from it.
        feed.sendall(b"".join(self.quote(symbol="ACME", price=price, note="x" * 60_000) for price in range(400)))
        feed.sendall(self.quote(symbol="INITECH", price=3))
        prices: list[object] = []
        last = None
        while last != ("INITECH", 3):
            for quote in self.hear(second):
                last = (quote["symbol"], quote["price"])
                if last[0] == "ACME":
                    prices.append(last[1])
        self.assertEqual(399, prices[-1])
        self.assertEqual(sorted(set(prices), key=prices.index), prices)
        self.assertLess(len(prices), 400)
        feed.close()
        second.close()
        self.stop(server)

    def test_madeUp(self) -> None:
        """Without a feed there is one."""
        _, [port] = self.serving("feed.py", "", "ws:0:interface=127.0.0.1:path=/feed")
        browser = self.browse(f"ws://127.0.0.1:{port}/feed")
        while not (quotes := self.hear(browser)):
            pass
        self.assertGreater(quotes[0]["price"], 0)

    def hear(self, browser: Connection) -> list[dict[str, object]]:
        """The next message."""
        quotes: list[dict[str, object]] = json.loads(browser.recv(timeout=PATIENCE))
        return quotes
