"""An engine that is opened past its handshake is as one that has made Autobahn's own."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.session.context import ServiceContext
from getty_tx.transports.websocket.engine import ServerEngine, makeSettings
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.websocket import request

OFFER = "permessage-deflate; client_no_context_takeover; server_max_window_bits=10"
PARAMETERS: dict[str, list[Any]] = {"client_no_context_takeover": [True], "server_max_window_bits": ["10"]}

#: What only the head of a request is kept in.
OF_THE_HEAD = {
    "_wskey",
    "http_headers",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_status_line",
    "websocket_origin",
    "websocket_protocols",
}

#: Objects without equality, of which each engine has its own. The first two are what others await.
OWN = {"is_closed", "is_open", "connection", "factory", "log", "transport", "trafficStats", "utf8validator"}


class Connection:
    """What an engine calls of its connection until it is open."""

    path = "/"
    subprotocol: str | None = None

    def __init__(self, context: ServiceContext, options: UpgradeOptions) -> None:
        self.context, self.options = context, options
        self.opened = 0
        self.written = b""

    def getRemoteAddr(self) -> Any:
        return None

    def checkCapacity(self) -> None:
        """There is room."""

    def handshakeSucceeded(self) -> None:
        self.opened += 1

    def write(self, data: bytes) -> None:
        self.written += data


class EngineTests(SynchronousTestCase):
    """Both kinds."""

    def engine(self) -> tuple[Any, Connection]:
        options = UpgradeOptions(subprotocols=("a", "b"))
        context = ServiceContext(None, lambda session: None, reactor=Clock())
        connection: Any = Connection(context, options)
        engine = ServerEngine(connection, makeSettings(context, options, False))
        engine.begin()
        return engine, connection

    def compare(self, extensions: str, parsed: list[Any]) -> None:
        """Both have the same attributes with the same values, and answer the same extension."""
        usual, answered = self.engine()
        usual.feed(request(Sec_WebSocket_Protocol="b", Sec_WebSocket_Extensions=extensions))
        past, connection = self.engine()
        accepted = past.agree("b", parsed)
        past.open()
        self.assertEqual((answered.opened, connection.opened), (1, 1))
        lines = [line for line in answered.written.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Extensions:")]
        self.assertEqual(lines, [] if accepted is None else [b"Sec-WebSocket-Extensions: " + accepted.encode()])
        first, second = vars(usual), vars(past)
        self.assertEqual(first.keys() - second.keys() - OF_THE_HEAD, set())
        self.assertEqual(second.keys() - first.keys(), set())
        for name in second.keys() - OWN - OF_THE_HEAD:
            one, other = first[name], second[name]
            if name in ("_perMessageCompress", "websocket_extensions_in_use"):
                one, other = repr(one), repr(other)
            self.assertEqual(one, other, name)

    def test_plain(self) -> None:
        """Without extensions, and with one that is not known."""
        self.compare("", [])
        self.compare("x-unknown; a=1", [("x-unknown", {"a": ["1"]})])

    def test_compressed(self) -> None:
        """With compression."""
        self.compare(OFFER, [("permessage-deflate", PARAMETERS)])
        self.assertIn("_perMessageCompress", vars(self.engine()[0]))
