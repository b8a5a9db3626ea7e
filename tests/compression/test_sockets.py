"""Compressed sessions on real sockets, over all kinds of streams, and sessions that cannot be compressed."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LengthCodec
from getty_tx.errors import SettingError
from getty_tx.listener import EventListener
from getty_tx.server import Server
from tests.support.certificates import Authority
from tests.support.compressed import FORMATS
from tests.support.datagrams import DatagramCase
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase

MESSAGES = [b"Hello, getty!", b"", b"getty" * 100_000, Random(1).randbytes(300_000), b"bye"]


class Echo(EventListener):
    """Sends packages back, and reports the end."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.errors: list[BaseException] = []

    def onMessage(self, session: Any, pkg: bytes) -> None:
        session.writePkg(pkg)

    def onError(self, session: Any, error: BaseException) -> None:
        self.errors.append(error)

    def onClose(self, session: Any) -> None:
        self.closed.callback(None)


class Saying(Echo):
    """Sends the messages, and closes when all have come back."""

    def __init__(self) -> None:
        super().__init__()
        self.packages: list[bytes] = []

    def onOpen(self, session: Any) -> None:
        for message in MESSAGES:
            session.writePkg(message)

    def onMessage(self, session: Any, pkg: bytes) -> None:
        self.packages.append(pkg)
        if len(self.packages) == len(MESSAGES):
            session.close()


class SocketTests(TestCase):
    """Server and Client."""

    timeout = 60

    async def converse(self, description: str, listen: str, connect: str) -> None:
        """Have all messages echoed, and end in order on both sides."""
        echo, saying = Echo(), Saying()
        settings: dict[str, Any] = {"maxMsgLen": 1 << 20, "compression": description}
        server = Server(configure(echo, LengthCodec(), **settings), listen)
        server.startService()
        (address,) = await server.whenListening()
        client = Client(
            configure(saying, LengthCodec(), **settings),
            connect.replace("PORT", str(getattr(address, "port", 0))),
            reconnectAttempts=1,
        )
        client.startService()
        await saying.closed
        await echo.closed
        await client.close()
        await server.stopService()
        self.assertEqual(saying.packages, MESSAGES)
        self.assertEqual((echo.errors, saying.errors), ([], []))

    async def test_tcp(self) -> None:
        """Every format."""
        for description in FORMATS:
            await self.converse(description, "tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:PORT")

    async def test_unix(self) -> None:
        """Unix sockets, which report a closed peer at once."""
        name = self.mktemp()[-50:].replace("/", "-")
        for description in ("deflate", "zstd"):
            await self.converse(description, f"unix:{name}", f"unix:{name}")

    async def test_tls(self) -> None:
        """Within TLS."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        listen = f"ssl:0:certKey={certificate}:privateKey={key}:interface=127.0.0.1"
        connect = f"tls:localhost:PORT:trustRoots={authority.path}:endpoint=tcp\\:127.0.0.1\\:PORT"
        for description in ("deflate", "snappy"):
            await self.converse(description, listen, connect)


class MessageTests(WebSocketCase):
    """WebSocket sessions have another compression."""

    def test_refused(self) -> None:
        """The setting is refused; None is accepted."""
        session = self.open(compression=None).server
        text = str(self.assertRaises(SettingError, setattr, session, "compression", "deflate"))
        self.assertIn("compression='deflate': a WebSocket has its own", text)
        self.assertIn("deflate=yes", text)
        self.assertIsNone(session.compression)
        text = str(self.assertRaises(SettingError, setattr, session, "compression", "gzip"))
        self.assertIn("known are", text)


class DatagramTests(DatagramCase):
    """UDP sessions have no compression."""

    def test_refused(self) -> None:
        """The setting is refused."""
        session = self.open(compression=None)
        text = str(self.assertRaises(SettingError, setattr, session, "compression", "deflate"))
        self.assertIn("compression='deflate': datagrams are not compressed", text)
        self.assertIsNone(session.compression)
        self.finish()
