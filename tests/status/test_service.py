"""The status service on real sockets: responses, access, and that no client delays the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parseOpenMetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import RawCodec
from getty_tx.errors import SettingError
from getty_tx.status import StatusService, feed
from getty_tx.tap.echo import EchoListener
from tests.support.memory import configure, frame

if TYPE_CHECKING:
    from twisted.python.failure import Failure

LOCAL = "tcp:0:interface=127.0.0.1"


class Collector(Protocol):
    """Collects until the connection's end."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.lost.callback(self.data)


class Page(EventListener):
    """A client of the feed in place of a status page."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._waiting: list[tuple[Any, Deferred[Any]]] = []

    def onMessage(self, session: Any, pkg: Any) -> None:
        """Store a message of the feed."""
        self.messages.append(json.loads(pkg))
        for entry in list(self._waiting):
            found = next(filter(entry[0], self.messages), None)
            if found is not None:
                self._waiting.remove(entry)
                entry[1].callback(found)

    def when(self, wanted: Any) -> Deferred[Any]:
        """The next message for which ``wanted`` returns true."""
        self.messages.clear()
        waiting: Deferred[Any] = Deferred()
        self._waiting.append((wanted, waiting))
        return waiting.addTimeout(60, reactor)


class StatusCase(TestCase):
    """An echo server with a status."""

    timeout = 120

    def setUp(self) -> None:
        # Pages do not wait for a second each time.
        self.patch(feed, "PERIOD", 0.2)

    async def serve(self, *, token: str | None = None, endpoint: str = LOCAL, **settings: Any) -> None:
        """Start both."""
        self.server = Server(configure(EchoListener()), LOCAL, **settings)
        self.server.setName("echo")
        self.status = StatusService(self.server, endpoint=endpoint, token=token)
        for service in (self.server, self.status):
            service.startService()
            self.addCleanup(service.stopService)
        [address] = await self.server.whenListening()
        self.port = address.port
        self.statusPort = (await self.status.whenListening()).port

    def connect(self, port: int) -> Deferred[Any]:
        """A raw connection."""
        return connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Collector())

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body of an answer."""
        host = [] if any(header.lower().startswith("host:") for header in headers) else ["Host: 127.0.0.1"]
        client = await self.connect(self.statusPort)
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *host, *headers])
        client.transport.write(f"{head}\r\n\r\n".encode())
        answer = (await client.lost).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def echo(self) -> Any:
        """A client, after one round trip."""
        client = await self.connect(self.port)
        self.addCleanup(client.transport.abortConnection)
        await self.exchange(client)
        return client

    async def exchange(self, client: Any) -> None:
        """A round trip."""
        before = len(client.data)
        client.transport.write(frame(b"ping"))
        waited: Deferred[None] = Deferred()
        received = client.dataReceived

        def dataReceived(data: bytes) -> None:
            received(data)
            if len(client.data) - before == len(frame(b"ping")) and not waited.called:
                waited.callback(None)

        client.dataReceived = dataReceived
        await waited
        client.dataReceived = received

    async def page(self, *, origin: str | None = None) -> tuple[Page, Any]:
        """A page with its feed."""
        page = Page()
        more = "" if origin is None else ":origin=" + origin.replace(":", r"\:")
        client = Client(
            configure(page, RawCodec(), maxMsgLen=10**6),
            f"ws:127.0.0.1:{self.statusPort}:path=/feed{more}",
            reconnectAttempts=1,
        )
        client.startService()
        self.addCleanup(client.stopService)
        [session] = await client.whenReady()
        return page, session


class HTTPTests(StatusCase):
    """Responses."""

    async def test_metrics(self) -> None:
        """Prometheus' own parsers accept both formats, and the numbers are right."""
        await self.serve(maxSessions=1)
        client = await self.echo()
        refused = await self.connect(self.port)
        await refused.lost
        code, text = await self.get("/metrics")
        self.assertEqual(200, code)
        values = {
            (sample.name, sample.labels.get("endpoint", sample.labels.get("service")), sample.labels.get("state"),
             sample.labels.get("reason")): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples
        }  # fmt: skip
        expected = {
            ("getty_sessions_opened_total", LOCAL, None, None): 1,
            ("getty_sessions", LOCAL, "open", None): 1,
            ("getty_read_packages_total", LOCAL, None, None): 1,
            ("getty_write_packages_total", LOCAL, None, None): 1,
            ("getty_read_bytes_total", LOCAL, None, None): 8,
            ("getty_write_bytes_total", LOCAL, None, None): 8,
            ("getty_pending_bytes", LOCAL, None, None): 0,
            ("getty_connections_refused_total", "echo", None, "maxSessions"): 1,
            ("getty_ready", "echo", None, None): 1,
        }
        self.assertEqual(expected, {key: values[key] for key in expected})
        self.assertIn("process_cpu_seconds_total", {key[0] for key in values})
        client.transport.loseConnection()
        await client.lost
        while self.server.sessions:
            await self.get("/health/live")
        for version in ("x", "1.0.0-y"):
            code, _ = await self.get("/metrics", f"Accept: application/openmetrics-text; version={version}")
            self.assertEqual(200, code)
        _, text = await self.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        closed = {
            sample.labels["reason"]: sample.value
            for family in parseOpenMetrics(text) if family.name == "getty_sessions_closed"
            for sample in family.samples if sample.value
        }  # fmt: skip
        self.assertEqual({"peer": 1}, closed)
        self.assertIn(f'getty_read_packages_total{{endpoint="{LOCAL}",service="echo"}} 1.0', text)

    async def test_sessions(self) -> None:
        """Sessions come in pages, in the order of any column."""
        await self.serve()
        clients = [await self.echo() for _ in range(3)]
        await self.exchange(clients[1])
        code, text = await self.get("/sessions?sort=readPkgs&order=descending&limit=2")
        page = json.loads(text)
        self.assertEqual((200, 3, 2), (code, page["total"], len(page["sessions"])))
        first = page["sessions"][0]
        found = first["readPkgs"], first["readBytes"], first["state"], first["kind"]
        self.assertEqual((2, 16, "open", "TCP_SERVER"), found)
        self.assertEqual(f"127.0.0.1:{clients[1].transport.getHost().port}", first["peer"])
        _, text = await self.get("/sessions?sort=readPkgs&order=descending&limit=2&offset=2")
        self.assertEqual(1, len(json.loads(text)["sessions"]))

    async def test_wrongQuery(self) -> None:
        """An invalid query is answered with a line that says why."""
        await self.serve()
        for query in ("sort=colour", "order=up", "offset=-1", "limit=1001", "limit=1e3", "offset=" + 40 * "9", "x=1"):
            code, text = await self.get(f"/sessions?{query}")
            self.assertEqual(400, code, query)
            self.assertIn(query.partition("=")[0], text)

    async def test_page(self) -> None:
        """The page and all its files are served, and it loads nothing from other origins."""
        await self.serve()
        _, text = await self.get("/")
        self.assertNotIn("//", text.replace("<!DOCTYPE html>", ""))
        for name in ("status.js", "plots.js", "status.css", "uPlot.iife.min.js", "uPlot.min.css"):
            self.assertIn(f'"{name}"', text)
            self.assertEqual(200, (await self.get(f"/{name}"))[0])

    async def test_others(self) -> None:
        """Unknown paths and methods are refused, and bodies are discarded."""
        await self.serve()
        self.assertEqual(404, (await self.get("/nothing"))[0])
        self.assertEqual(405, (await self.get("/metrics", "Content-Length: 0", method="POST"))[0])
        self.assertEqual((200, ""), await self.get("/metrics", method="HEAD"))

    async def test_health(self) -> None:
        """A server is ready while it listens; while it flushes its sessions, the answer is 503 until the end."""
        await self.serve()
        self.assertEqual((200, "ok\n"), await self.get("/health/live"))
        self.assertEqual((200, "ok\n"), await self.get("/health/ready"))
        client = await self.echo()
        # Its end does not come by itself, so that the server drains.
        client.transport.pauseProducing()
        stopped = gatherResults([self.status.stopService(), self.server.stopService()])
        code, text = await self.get("/health/ready")
        self.assertEqual((503, "echo is stopping\n"), (code, text))
        self.assertEqual(200, (await self.get("/health/live"))[0])
        client.transport.abortConnection()
        await stopped
        await self.assertFailure(self.connect(self.statusPort), Exception)

    async def test_notListening(self) -> None:
        """A server that does not listen is not ready."""
        await self.serve()
        await self.server.stopService()
        self.assertEqual(503, (await self.get("/health/ready"))[0])
        self.assertIn('getty_ready{service="echo"} 0.0', (await self.get("/metrics"))[1])
        self.server.startService()
        await self.server.whenListening()
        self.assertEqual(200, (await self.get("/health/ready"))[0])

    async def test_client(self) -> None:
        """A pool is ready while a session is open."""
        await self.serve()
        client = Client(configure(EchoListener()), f"tcp:127.0.0.1:{self.port}", number=2, reconnectInterval=0.01)
        status = StatusService(client, endpoint=LOCAL)
        for service in (client, status):
            service.startService()
            self.addCleanup(service.stopService)
        await client.whenReady(2)
        self.statusPort = (await status.whenListening()).port
        self.assertEqual(200, (await self.get("/health/ready"))[0])
        _, text = await self.get("/metrics")
        self.assertIn(f'{{endpoint="tcp:127.0.0.1:{self.port}",service="client",state="open"}} 2.0', text)
        self.assertIn('getty_reconnects_total{service="client"} 0.0', text)
        for session in list(self.server.sessions):
            session.close()
        await Deferred.fromCoroutine(self.lost(client)).addTimeout(60, reactor)
        _, text = await self.get("/metrics")
        self.assertIn('getty_reconnects_total{service="client"} 2.0', text)

    async def lost(self, client: Client) -> None:
        """Both sessions of a pool were lost and replaced."""
        while client.contexts[0].reconnects < 2 or len(client.sessions) < 2:
            await deferLater(reactor, 0.01, lambda: None)


class AccessTests(StatusCase):
    """The rules of access."""

    async def test_hosts(self) -> None:
        """A foreign page whose host name resolves to this machine is refused."""
        await self.serve()
        for host, expected in (("localhost:1", 200), ("[::1]:8092", 200), ("evil.example", 403)):
            self.assertEqual(expected, (await self.get("/metrics", f"Host: {host}"))[0], host)

    async def test_origins(self) -> None:
        """Only the status page itself may open the feed."""
        await self.serve()
        upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            self.assertEqual(403, (await self.get("/feed", f"Origin: {origin}", *upgrade))[0])
        page, _ = await self.page(origin=f"http://127.0.0.1:{self.statusPort}")
        await page.when(lambda message: "state" in message)

    async def test_token(self) -> None:
        """On a public address all requests except the health need the token, and so does the feed."""
        await self.serve(token="geheim", endpoint="tcp:0")
        for path in ("/metrics", "/sessions"):
            self.assertEqual(401, (await self.get(path))[0])
            self.assertEqual(401, (await self.get(path, "Authorization: Bearer falsch"))[0])
            self.assertEqual(200, (await self.get(path, "Authorization: Bearer geheim"))[0])
        self.assertEqual(200, (await self.get("/health/ready"))[0])
        self.assertEqual(200, (await self.get("/"))[0])
        page, session = await self.page()
        session.writePkg(json.dumps({"close": 1, "token": "falsch"}))
        self.assertEqual({"wants": "token"}, await page.when(lambda message: True))
        session.writePkg(json.dumps({"token": "geheim"}))
        message = await page.when(lambda message: message.get("state"))
        self.assertTrue(message["state"]["mayClose"])

    def test_needed(self) -> None:
        """Without a token the status listens on loopback addresses and unix sockets only."""
        server = Server(print, LOCAL)
        for endpoint in ("tcp:8092", "tcp:8092:interface=192.0.2.1", "ssl:8092", "udp:8092", "ws:8092", "nonsense"):
            self.assertRaises(SettingError, StatusService, server, endpoint=endpoint)
        error = self.assertRaises(SettingError, StatusService, server, endpoint="tcp:8092")
        self.assertIn("--status-token", str(error))
        self.assertIn("--status tcp:8092", str(error))
        for endpoint in ("unix:/run/x", "tcp:8092:interface=::1".replace("::", r"\:\:"), "tcp:8092:127.0.0.2"):
            StatusService(server, endpoint=endpoint)
        self.assertRaises(SettingError, StatusService)
        self.assertRaises(SettingError, StatusService, server, token="a b")


class FeedTests(StatusCase):
    """The messages of the feed."""

    async def test_state(self) -> None:
        """The sums and the table come once a second; the table follows the query of the page."""
        await self.serve()
        page, session = await self.page()
        await self.echo()
        message = await page.when(lambda message: message["state"] and message["state"]["readPkgs"])
        state, row = message["state"], message["table"]["sessions"][0]
        self.assertEqual(state["states"]["open"], 1)
        self.assertEqual((1, 8, 1, []), tuple(state[k] for k in ("readPkgs", "writeBytes", "opened", "problems")))
        self.assertEqual((1, "echo"), (row["readPkgs"], row["service"]))
        session.writePkg(json.dumps({"sort": "peer", "descending": True}))
        message = await page.when(lambda message: message["table"]["sort"] == "peer")
        self.assertTrue(message["table"]["descending"])

    async def test_close(self) -> None:
        """Closing a session needs the token."""
        await self.serve(token="geheim")
        page, session = await self.page()
        client = await self.echo()
        [served] = self.server.sessions
        for token, answer in (("falsch", "wrong token"), ("geheim", "closed"), ("geheim", "no such session is open")):
            session.writePkg(json.dumps({"close": served.id, "token": token}))
            message = await page.when(lambda message: "answer" in message)
            self.assertEqual({"close": served.id, "answer": answer}, message)
        await client.lost
        status = StatusService(self.server, endpoint=LOCAL)
        self.assertFalse(status._access.mayClose(""))

    async def test_nonsense(self) -> None:
        """An invalid request is answered with an error, and the page goes on."""
        await self.serve()
        page, session = await self.page()
        wrong = ('{"sort": 1}', '{"limit": true}', '{"x": 1}', '{"token": 1}', '{"offset": NaN}')
        for text in ("{", "[]", "[" * 2000, *wrong):
            session.writePkg(text)
            self.assertTrue((await page.when(lambda message: "error" in message))["error"])
        await page.when(lambda message: message.get("state"))

    async def test_errors(self) -> None:
        """The last errors are sent; repetitions are counted."""
        await self.serve()
        page, _ = await self.page()
        for _ in range(3):
            client = await self.connect(self.port)
            client.transport.write(b"\xff\xff\xff\xff")
            await client.lost
        message = await page.when(lambda message: message["state"] and message["state"]["errors"])
        [fault] = message["state"]["errors"]
        self.assertEqual((3, "MessageTooLongError", "echo"), (fault["count"], fault["kind"], fault["service"]))


class HostileTests(StatusCase):
    """Misuse of the status does not affect the server."""

    async def test_readsNothing(self) -> None:
        """A client that sends requests and reads nothing delays nobody, and is dropped at the end."""
        await self.serve()
        client = await self.echo()
        idle = [await self.connect(self.statusPort) for _ in range(20)]
        for each in idle:
            each.transport.pauseProducing()
            each.transport.write(200 * b"GET /sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for _ in range(20):
            await self.exchange(client)
        self.assertEqual(200, (await self.get("/metrics"))[0])
        for each in idle:
            each.transport.abortConnection()

    async def test_manyPages(self) -> None:
        """A hundred pages share one collection."""
        await self.serve()
        client = await self.echo()
        walks: list[object] = []
        collect = self.status._source.walk
        self.patch(self.status._source, "walk", lambda: (walks.append(None), collect())[1])
        pages = [await self.page() for _ in range(100)]
        for _ in range(20):
            await self.exchange(client)
        walks.clear()
        await gatherResults([page.when(lambda message: message["state"]) for page, _ in pages])
        self.assertLess(len(walks), 50)

    async def test_malformed(self) -> None:
        """Bytes that are not a request."""
        await self.serve()
        client = await self.echo()
        host = b"Host: 127.0.0.1\r\n"
        heads = [
            b"",
            b"\x16\x03\x01\x00\xff",
            b"GET",
            b"GET /feed",
            b"GET /feed HTTP/1.1\r\n" + host,
            b"GET / HTTP/9.9",
            20000 * b"x",
            b"GET " + 20000 * b"/" + b" HTTP/1.1",
            b"POST /metrics HTTP/1.1\r\nContent-Length: -5\r\n" + host,
            b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=x\r\n" + host,
            b"GET /%ff%00?%ff HTTP/1.0\r\nHost: \xff",
        ]
        for head in heads:
            each = await self.connect(self.statusPort)
            each.transport.write(head + b"\r\n\r\n")
            each.transport.loseWriteConnection()
            await each.lost.addTimeout(60, reactor)
        await self.exchange(client)
        self.assertEqual(200, (await self.get("/metrics"))[0])
