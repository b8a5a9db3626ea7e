"""Compressed frames of a group among a session's own messages, as other programs' decompressors read them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from getty_tx import EventListener, http
from getty_tx.codecs import RawCodec
from getty_tx.groups import Groups
from tests.docs.test_echo_page import CHROMIUM
from tests.support.devtools import Tab

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds until everything has come; only a machine that is very busy comes near.
PATIENCE = 60

#: Windows that clients ask for, as powers of two, and whether the server is to forget each message.
ASKED = [(bits, forgets) for bits in range(9, 16) for forgets in (False, True)]

#: Words that come again and again, so that a compressor refers to what it knows.
WORDS = ["again", "Grüße", "€uro", "\U0001f600", "日本", "plain", "naïve", "words"]

#: What a page does: it notes all that comes, and answers publications.
PAGE = """<!DOCTYPE html>
<title>frames</title>
<link rel="icon" href="data:,">
<script>
const heard = [], said = [];
const socket = new WebSocket(`ws://${location.host}/group`);
socket.binaryType = "arraybuffer";
socket.onmessage = ({data}) => {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    heard.push([typeof data === "string", text]);
    if (text[0] === "p") {
        said.push("e" + text.slice(1), "");
        socket.send(said.at(-2));
        socket.send("");
    }
};
socket.onclose = ({code}) => { document.title = `closed with ${code}`; };
</script>
"""


class Reader:
    """
    A client that answers each publication, and sends an empty message after it.

    :ivar heard: what came, in order.
    :ivar said: what it has sent, and gets back.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str | bytes] = []
        self.said: list[str | bytes] = []

    def take(self, message: str | bytes, send: Callable[[str | bytes], None]) -> None:
        """A message came."""
        self.heard.append(message)
        if message[:1] in ("p", b"p"):
            for answer in ("e" + message[1:] if isinstance(message, str) else b"e" + message[1:], ""):
                self.said.append(answer)
                send(answer)


class Autobahn(WebSocketClientProtocol):
    """Autobahn's client."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """See :py:class:`Reader`."""
        self.factory.reader.take(payload if isBinary else payload.decode(), self._say)

    def _say(self, message: str | bytes) -> None:
        data = message.encode() if isinstance(message, str) else message
        self.sendMessage(data, isBinary=isinstance(message, bytes))


class WebSockets(Protocol):
    """The client of ``websockets``, which does no I/O by itself."""

    def __init__(self, client: ClientProtocol, reader: Reader) -> None:
        self._client = client
        self._reader = reader
        self._parts = b""
        self._opcode = Opcode.TEXT

    def connectionMade(self) -> None:
        """Begin with the handshake."""
        self._client.send_request(self._client.connect())
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        """Frames may be messages, or parts of them."""
        self._client.receive_data(data)
        for event in self._client.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.opcode is not Opcode.CONT:
                self._opcode = event.opcode
            self._parts += event.data
            if event.fin:
                whole, self._parts = self._parts, b""
                self._reader.take(whole.decode() if self._opcode is Opcode.TEXT else whole, self._say)
        self._flush()

    def _say(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._client.send_text(message.encode())
        else:
            self._client.send_binary(message)

    def _flush(self) -> None:
        for data in self._client.data_to_send():
            self.transport.write(data)


class Members(EventListener):
    """Sessions that join the group and send back what they are sent."""

    def __init__(self, groups: Groups) -> None:
        self.group = groups.group("all")
        self.sessions: list[Any] = []

    def onOpen(self, session: Any) -> None:
        """One more member."""
        self.sessions.append(session)
        self.group.join(session)

    def onMessage(self, session: Any, pkg: Any) -> None:
        """An echo."""
        session.writePkg(pkg)


class SharedFramesTests(TestCase):
    """Publications, echoes and other messages, in random order."""

    timeout = 3 * PATIENCE

    async def setUp(self) -> None:
        groups = Groups()
        groups.startService()
        self.addCleanup(groups.stopService)
        self.members = Members(groups)
        router = http.Router()

        def newSession(session: Any) -> None:
            session.codec, session.listener, session.maxMsgLen = RawCodec(), self.members, 1 << 20

        @router.get("/")
        def page(request: http.Request) -> http.Response:
            return http.Response(body=PAGE.encode(), headers={"Content-Type": "text/html; charset=utf-8"})

        router.webSocket("/group", newSession)
        server = http.Server(router, "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()  # type: ignore[misc]
        self.port: int = address.port  # type: ignore[has-type]
        self.url = f"ws://127.0.0.1:{self.port}/group"
        self.random = random.Random(17)
        self.sent: dict[str, list[str | bytes]] = {"p": [], "o": []}

    def message(self, letter: str) -> str | bytes:
        """Some words behind the letter of what it is, or nothing; text or bytes, and now and then 100 KB."""
        many = self.random.choice([0, 1, 5, 200, 200])
        if len(self.sent[letter]) % 12 == 7:
            many = 16_000
        words = " ".join(self.random.choices(WORDS, k=many))
        text = f"{letter}{len(self.sent[letter])} {words}" if many else ""
        self.sent[letter].append(text.encode() if many % 2 else text)
        return self.sent[letter][-1]

    async def talk(self, count: int) -> None:
        """Publish, and write to the sessions themselves, while echoes come and go."""
        for _ in range(count):
            if self.random.random() < 0.6:
                self.members.group.publish(self.message("p"))
            else:
                own = self.message("o")
                for session in self.members.sessions:
                    session.writePkg(own)
            for _ in range(self.random.randrange(4)):
                await deferLater(reactor, 0.001, lambda: None)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait, but not for ever."""
        late = reactor.seconds() + PATIENCE
        while not done() and reactor.seconds() < late:
            await deferLater(reactor, 0.01, lambda: None)

    def whole(self, said: list[str | bytes]) -> int:
        """How many messages a client gets that has said this."""
        return sum(map(len, self.sent.values())) + len(said)

    def check(self, name: str, heard: list[str | bytes], said: list[str | bytes]) -> None:
        """All came as they were sent, and each sort in its order."""
        for letter, expected in [*self.sent.items(), ("e", said)]:
            came = [each for each in heard if each[:1] in (letter, letter.encode())]
            # A message of 100 KB is nothing for the report of a test.
            equal = came == [each for each in expected if each]
            self.assertTrue(equal, f"{name}: {letter}, {len(came)} came of {len(expected)}")
        self.assertEqual(len(heard), self.whole(said), name)
        self.assertGreater(len([each for each in heard if not each]), 10)

    async def ready(self, count: int) -> None:
        """So many are members."""
        await self.until(lambda: len(self.members.sessions) == count)
        self.assertEqual(len(self.members.sessions), count)

    async def run_(self, readers: list[Reader]) -> None:
        """All of them as members."""
        await self.ready(len(readers))
        await self.talk(60)
        await self.until(lambda: all(len(each.heard) >= self.whole(each.said) for each in readers))
        for each in readers:
            self.check(each.name, each.heard, each.said)
        # Who asks for a small window is among the members that share frames of that.
        self.assertEqual(len({session.framing for session in self.members.sessions}), 4)
        self.assertNotIn(None, {session.framing for session in self.members.sessions})

    def autobahn(self, bits: int, forgets: bool) -> Reader:
        """A client of Autobahn, which asks for this."""
        reader = Reader(f"autobahn, {bits} bits, no context: {forgets}")
        factory: Any = WebSocketClientFactory(self.url)
        factory.protocol, factory.reader = Autobahn, reader
        factory.setProtocolOptions(
            perMessageCompressionOffers=[
                PerMessageDeflateOffer(request_no_context_takeover=forgets, request_max_window_bits=bits)
            ],
            perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        )
        self.connect(factory)
        return reader

    def websockets(self, bits: int, forgets: bool) -> Reader:
        """A client of ``websockets``, which asks for this, and for itself for the same."""
        reader = Reader(f"websockets, {bits} bits, no context: {forgets}")
        offer = ClientPerMessageDeflateFactory(forgets, forgets, bits, bits)
        client = ClientProtocol(parse_uri(self.url), extensions=[offer])
        factory = ClientFactory.forProtocol(lambda: WebSockets(client, reader))
        factory.noisy = False
        self.connect(factory)
        return reader

    def connect(self, factory: Any) -> None:
        """Connect; the cleanup waits until the connection is gone."""
        gone: Deferred[None] = Deferred()
        factory.clientConnectionLost = lambda connector, reason: gone.callback(None)
        connector = reactor.connectTCP("127.0.0.1", self.port, factory)
        self.addCleanup(lambda: gone)
        self.addCleanup(connector.disconnect)

    async def test_autobahn(self) -> None:
        await self.run_([self.autobahn(*asked) for asked in ASKED])

    async def test_websockets(self) -> None:
        await self.run_([self.websockets(*asked) for asked in ASKED])

    async def test_chromium(self) -> None:
        """A page is a member; it answers while publications come."""
        tab = await Tab.open(self, f"http://127.0.0.1:{self.port}/")
        await self.ready(1)
        self.assertIn("permessage-deflate", await tab.until("socket.extensions"))
        await self.talk(60)
        await tab.until(f"heard.length >= {self.whole([])} + said.length")
        said = [str(each) for each in await tab.ask("said")]
        # It sends texts only.
        for letter, sent in self.sent.items():
            self.sent[letter] = [each.decode() if isinstance(each, bytes) else each for each in sent]
        heard = await tab.ask("heard")
        self.check("chromium", [text for _, text in heard], list(said))
        self.assertEqual({isText for isText, _ in heard}, {True, False})
        self.assertEqual(await tab.ask("document.title"), "frames")

    if CHROMIUM is None:
        test_chromium.skip = "Chromium is not installed"  # type: ignore[attr-defined]
