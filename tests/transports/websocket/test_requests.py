"""``session.request``, and answers of ``newSession`` to a handshake."""

from __future__ import annotations

import traceback
from typing import Any

import websockets
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import RefuseRequest, Server, SettingError
from getty_tx.codecs import RawCodec
from getty_tx.transports.websocket import UpgradeRequest
from getty_tx.transports.websocket.requested import Values
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase, request
from tests.transports.websocket.test_sockets import ECHO, SocketCase, inThread

HEAD = (
    b"GET /chat?token=a%20b&token=c&empty= HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.1\r\n"
    b'authorization:  Bearer x \r\nx-forwarded-for: 192.0.2.2\r\nCookie: a=1; b="2"; a=3; none\r\n'
    b"Cookie: c=4=5\r\nSec-WebSocket-Protocol: chat, json"
)


class UpgradeRequestTests(SynchronousTestCase):
    """The parts of a request."""

    def test_parts(self) -> None:
        """Path, query, header fields, cookies, subprotocols and peer."""
        peer: Any = object()
        asked = UpgradeRequest(HEAD, "/chat", peer)
        self.assertEqual((asked.path, asked.peer), ("/chat", peer))
        self.assertEqual(asked.queryString, "token=a%20b&token=c&empty=")
        self.assertEqual((asked.query["token"], asked.query.getAll("token")), ("a b", ["a b", "c"]))
        self.assertEqual(asked.query["empty"], "")
        self.assertEqual(asked.query.get("Token"), None)
        self.assertEqual(asked.headers["Authorization"], "Bearer x")
        self.assertEqual(asked.headers["X-FORWARDED-FOR"], "192.0.2.1, 192.0.2.2")
        self.assertEqual(asked.headers.getAll("X-Forwarded-For"), ["192.0.2.1", "192.0.2.2"])
        self.assertIn("COOKIE", asked.headers)
        self.assertEqual(asked.headers.getAll("nothing"), [])
        self.assertEqual(dict(asked.cookies), {"a": "1", "b": "2", "c": "4=5"})
        self.assertEqual(asked.subprotocols, ["chat", "json"])
        self.assertNotIn("token", repr(asked))

    def test_nothing(self) -> None:
        """A request without any of them."""
        asked = UpgradeRequest(b"GET / HTTP/1.1", "/", None)  # type: ignore[arg-type]
        self.assertEqual((asked.queryString, len(asked.query), len(asked.headers)), ("", 0, 0))
        self.assertEqual((len(asked.cookies), asked.subprotocols), (0, []))
        self.assertRaises(KeyError, asked.headers.__getitem__, "a")
        self.assertEqual(repr(Values([("a", "b")])), "Values({'a': ['b']})")


class RefuseRequestTests(SynchronousTestCase):
    """Its arguments."""

    def test_invalid(self) -> None:
        """What cannot stand in an answer is refused where it is made."""
        for arguments, text in [
            ((200,), "status=200"),
            ((True,), "status=True"),
            (("401",), "status='401'"),
            ((401, "a\r\nb"), "reason="),
            ((401, "", {"A\r\nB": "c"}), "headers"),
            ((401, "", {"A": "b\r\nC: d"}), "headers"),
            ((401, "", {"content-LENGTH": "5"}), "leave it out"),
        ]:
            self.assertIn(text, str(self.assertRaises(SettingError, RefuseRequest, *arguments)))


class SessionTests(WebSocketCase):
    """Sessions in memory."""

    def test_request(self) -> None:
        """It is there in newSession and onOpen, and not afterwards, unless it is asked for."""
        for keeps in (False, True):
            found: list[Any] = []

            def onOpen(session: Any, found: list[Any] = found) -> Deferred[None]:
                found.append(session.request)
                found.append(Deferred())
                return found[-1]  # type: ignore[no-any-return]

            def newSession(session: Any, found: list[Any] = found, keeps: bool = keeps) -> None:
                configure(self.heard, RawCodec())(session)
                session.keepRequest = keeps
                self.assertEqual(session.keepRequest, keeps)
                found.append(session.request)

            self.connect({"open": onOpen}, newSession=newSession)
            self.pair.peer.write(request("/?a=b", Cookie="c=d"))
            self.pair.flush()
            self.assertTrue(self.takeAnswer().startswith("HTTP/1.1 101 "), "it does not wait for onOpen")
            asked, again, opened = found
            session: Any = self.pair.serverProtocol.session
            self.assertIs(asked, again)
            self.assertIs(session.request, asked)
            self.assertEqual((asked.query["a"], asked.cookies["c"], asked.peer), ("b", "d", session.remoteAddr))
            opened.callback(None)
            self.assertIs(session.request, asked if keeps else None)

    def test_client(self) -> None:
        """A client's session has none."""
        self.open(isClient=True)
        self.assertIs(self.pair.clientProtocol.session.request, None)

    def test_refused(self) -> None:
        """The status, the reason and the header fields; nothing that newSession has written."""

        def newSession(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            session.writePkg(b"first")
            raise RefuseRequest(401, "No Token", {"WWW-Authenticate": "Bearer"})

        self.connect(newSession=newSession)
        self.pair.peer.write(request())
        self.pair.flush()
        self.assertEqual(
            bytes(self.pair.peer.data),
            b"HTTP/1.1 401 No Token\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )
        self.assertTrue(self.pair.peer.ended)
        self.assertEqual((self.heard.events, self.factory.context.refusals.counts["newSession"]), ([], 1))
        self.assertEnded()

    def test_order(self) -> None:
        """What newSession writes follows the answer."""

        def newSession(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            session.writePkg(b"first")

        for size in (1, 100_000):

            def more(session: Any, size: int = size) -> None:
                newSession(session)
                session.writePkg(b"x" * size)

            self.connect({"open": lambda session: session.writePkg(b"last")}, newSession=more)
            self.pair.peer.write(request())
            self.pair.flush()
            self.assertTrue(self.takeAnswer().startswith("HTTP/1.1 101 "))
            self.assertEqual([payload for _, payload in self.said()], [b"first", b"x" * size, b"last"])

    def test_refusedOften(self) -> None:
        """An error that is made once keeps nothing of the sessions that it is raised for."""
        cause = ValueError()

        class Mine(RefuseRequest):
            def __init__(self) -> None:
                super().__init__(403, "Not you", {"A": "b"})
                self.mine = 1

        made = Mine()

        def plain(session: Any) -> None:
            raise made

        def within(session: Any) -> None:
            try:
                raise KeyError(session)
            except KeyError:
                raise made from cause

        async def later(session: Any) -> None:
            raise made

        for newSession in (plain, within, later, plain):
            failed: list[Any] = []
            self.connect(newSession=newSession)
            self.patch(self.factory, "connectionFailed", lambda _, error, failed=failed: failed.append(error))
            self.pair.peer.write(request())
            self.pair.flush()
            self.assertTrue(bytes(self.pair.peer.data).startswith(b"HTTP/1.1 403 Not you\r\nA: b\r\n"))
            [error] = failed
            self.assertEqual((type(error), error.mine, str(error)), (Mine, 1, str(made)))
            self.assertIs(error.__cause__, cause if newSession is within else None)
            self.assertIn(newSession.__name__, "".join(traceback.format_tb(error.__traceback__)))
            self.assertEqual(
                (made.session, made.__traceback__, made.__cause__, made.__context__), (None, None, None, None)
            )

    def test_refusedLate(self) -> None:
        """When newSession has written so much that the answer is out, the connection is dropped."""

        def newSession(session: Any) -> None:
            configure(self.heard, RawCodec())(session)
            session.writePkg(b"x" * 100_000)
            raise RefuseRequest(403)

        self.connect(newSession=newSession)
        self.pair.peer.write(request())
        self.pair.flush()
        self.assertEqual(self.heard.events, [])
        self.assertEnded()


class Collector(Protocol):
    """Keeps what comes, to the end of the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.data)


class RealTests(SocketCase):
    """On real sockets."""

    async def serveWith(self, newSession: Any, description: str = "ws:0:interface=127.0.0.1:path=/a") -> int:
        """A server; its port."""
        self.server = Server(newSession, description)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        [address] = await self.server.whenListening()
        return address.port  # type: ignore[attr-defined, no-any-return]

    async def test_statuses(self) -> None:
        """Each status as raw bytes."""
        answers = {
            "401": RefuseRequest(401, headers={"WWW-Authenticate": "Bearer"}),
            "403": RefuseRequest(403, "Not you"),
            "429": RefuseRequest(429, headers={"Retry-After": "30"}),
            "503": RefuseRequest(503, headers={"Retry-After": "5"}),
            "599": RefuseRequest(599),
        }

        def newSession(session: Any) -> None:
            raise answers[session.request.query["status"]]

        port = await self.serveWith(newSession)
        for status, first in [
            ("401", b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n"),
            ("403", b"HTTP/1.1 403 Not you\r\nConnection: close\r\n"),
            ("429", b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\n"),
            ("503", b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n"),
            ("599", b"HTTP/1.1 599 Refused\r\nConnection: close\r\n"),
        ]:
            peer = await connectProtocol(clientFromString(reactor, f"tcp:127.0.0.1:{port}"), Collector())
            peer.transport.write(request(f"/a?status={status}"))
            data = await peer.ended
            self.assertEqual(data[: len(first)], first)
            self.assertTrue(data.endswith(b"Content-Length: 0\r\n\r\n"))

    async def test_library(self) -> None:
        """The ``websockets`` library sees the status, or is let in with its token, cookie and subprotocol."""
        seen: list[Any] = []

        def newSession(session: Any) -> None:
            asked = session.request
            seen.append((asked.path, asked.peer.host, asked.subprotocols, asked.cookies.get("id")))
            if asked.headers.get("Authorization") != "Bearer good" and asked.query.get("token") != "good":
                raise RefuseRequest(401, headers={"WWW-Authenticate": "Bearer"})
            configure(self.heard, RawCodec())(session)

        from getty_tx.testing import RecordingListener

        self.heard = RecordingListener(ECHO)
        port = await self.serveWith(newSession, "ws:0:interface=127.0.0.1:path=/a:subprotocols=chat")
        url = f"ws://127.0.0.1:{port}/a"

        async def talk() -> None:
            try:
                await websockets.connect(url)
            except websockets.InvalidStatus as error:
                seen.append(error.response.status_code)
                seen.append(error.response.headers["WWW-Authenticate"])
            for address, headers in [
                (url, {"Authorization": "Bearer good", "Cookie": "id=7"}),
                (url + "?token=good", {}),
            ]:
                async with websockets.connect(address, additional_headers=headers, subprotocols=["chat"]) as peer:  # type: ignore[list-item]
                    await peer.send(b"x")
                    self.assertEqual(await peer.recv(), b"x")

        await inThread(talk)
        self.assertEqual(
            seen,
            [
                ("/a", "127.0.0.1", [], None),
                401,
                "Bearer",
                ("/a", "127.0.0.1", ["chat"], "7"),
                ("/a", "127.0.0.1", ["chat"], None),
            ],
        )
        self.assertEqual(self.server.refusals["newSession"], 1)

    async def test_otherTransports(self) -> None:
        """On TCP it drops the connection."""

        def newSession(session: Any) -> None:
            self.assertIs(session.request, None)
            raise RefuseRequest(401)

        port = await self.serveWith(newSession, "tcp:0:interface=127.0.0.1")
        peer = await connectProtocol(clientFromString(reactor, f"tcp:127.0.0.1:{port}"), Collector())
        self.assertEqual(await peer.ended, b"")
        self.assertEqual(self.server.refusals["newSession"], 1)
