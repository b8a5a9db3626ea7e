"""What the calls of one server share: the settings, the methods and the counters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.http.grpc.messages import MAX_RECEIVED
from getty_tx.http.grpc.methods import Methods
from getty_tx.http.two.limits import Limits
from getty_tx.reactors.guest import guestLoop
from getty_tx.session.context import theReactor
from getty_tx.settings import Setting

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from getty_tx.http.grpc.health import Health
    from getty_tx.http.grpc.serverconnection import CallConnection
    from getty_tx.http.grpc.threads import Threads
    from getty_tx.reactors.guest import GuestLoop
    from getty_tx.session.context import ServiceContext

__all__ = ["ServerContext", "checkEndpoint", "encodingOf"]

#: Seconds that calls may take when a server stops.
DRAIN_TIME = 5.0

#: Seconds between two looks at the connections of a server that stops.
_LOOK = 0.02


def checkEndpoint(endpoint: Any) -> None:
    """:raise SettingError: it is a description of what gRPC is not spoken over."""
    if isinstance(endpoint, str) and endpoint.startswith(("udp", "ws:", "wss:")):
        raise SettingError(f"{endpoint} is not for gRPC: use tcp:, tls:, unix:, systemd: or haproxy:")


def encodingOf(name: str, value: Any) -> bytes | None:
    """
    A check of a setting: how messages are compressed.

    :param value: ``"gzip"``, ``"deflate"``, ``"identity"`` or None, or a member of ``grpc.Compression``.
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else getattr(value, "name", "")
    encoding = _ENCODINGS.get(text)
    if encoding is None:
        raise SettingError(f"{name}={value!r} is none of gzip, deflate, identity and None")
    return encoding or None


#: The names of ``grpc.Compression`` are the others.
_ENCODINGS = {"gzip": b"gzip", "deflate": b"deflate", "identity": b"", "Gzip": b"gzip", "Deflate": b"deflate"}
_ENCODINGS["NoCompression"] = b""


class ServerContext:
    """
    The settings, the methods and the counters of one server.

    :param options: settings by name.
    :raise SettingError: a setting is invalid.

    :ivar methods: what is served.
    :ivar limits: of each connection that comes.
    :ivar room: ``maxCalls`` as a number, which is looked at for each call; ``longest`` and ``encoding`` are
        ``maxReceived`` and ``compression``.
    :ivar running: calls whose handlers have not returned yet.
    :ivar refused: calls that were refused because of ``maxCalls``.
    :ivar connections: those that are open.
    :ivar health: what tells clients of health; None: nothing does.
    :ivar threads: where handlers that are no coroutines run; None: in the reactor's thread.
    """

    maxReceived = Setting(settings.size, MAX_RECEIVED, "Bytes of a request message, also when it is decompressed.")
    maxMetadata = Setting(
        settings.size, 16 * 1024, "Bytes of the fields of a request: name, value and 32 for each (RFC 9113, 6.5.2)."
    )
    maxStreams = Setting(settings.count, 100, "Calls that one connection may have open.")
    streamWindow = Setting(settings.size, 256 * 1024, "Bytes of requests of one call that wait for the handler.")
    connectionWindow: Setting[int | None] = Setting(
        settings.optionalCount,
        None,
        "The same of all calls of one connection; None: so much that calls that are not read hold no others.",
    )
    maxCalls: Setting[int | None] = Setting(
        settings.optionalCount, None, "Calls that are served at a time; more are refused. None: no limit."
    )
    workers: Setting[int | None] = Setting(
        settings.optionalCount,
        None,
        "Threads in which handlers run that are no coroutines. None: they run in the reactor's thread.",
    )
    compression: Setting[bytes | None] = Setting(
        encodingOf, None, "How replies are compressed where the client reads it: gzip or deflate. None: not at all."
    )
    pingInterval: Setting[float | None] = Setting(
        settings.optionalSeconds, 7200.0, "Seconds of silence before a ping; None: never."
    )
    pingTimeout = Setting(settings.seconds, 20.0, "Seconds that a ping waits for any byte.")
    minPingInterval = Setting(
        settings.seconds, 300.0, "Seconds between pings of a client, below which its third one ends the connection."
    )
    maxIdle: Setting[float | None] = Setting(
        settings.optionalSeconds, None, "Seconds without a call after which a connection is ended; None: never."
    )
    maxAge: Setting[float | None] = Setting(
        settings.optionalSeconds, None, "Seconds after which a connection takes no new calls, within a tenth."
    )
    maxAgeGrace: Setting[float | None] = Setting(
        settings.optionalSeconds, None, "Seconds that calls may take then; None: as long as they like."
    )

    _maxReceived: int
    _maxMetadata: int
    _maxStreams: int
    _streamWindow: int
    _connectionWindow: int | None
    _maxCalls: int | None
    _workers: int | None
    _compression: bytes | None
    _pingInterval: float | None
    _pingTimeout: float
    _minPingInterval: float
    _maxIdle: float | None
    _maxAge: float | None
    _maxAgeGrace: float | None

    def __init__(self, reactor: Any = None, **options: Any) -> None:
        self.methods = Methods()
        self._reactor = reactor
        self._loop: GuestLoop | None = None
        self.threads: Threads | None = None
        self.health: Health | None = None
        self.room = sys.maxsize
        self.running = self.refused = 0
        self.connections: set[CallConnection] = set()
        for name, value in settings.defaults(ServerContext):
            setattr(self, name, value)
        for option, value in options.items():
            if not isinstance(getattr(ServerContext, option, None), Setting):
                raise SettingError(f"{option}={value!r} is no setting of grpc.Server")
            setattr(self, option, value)
        self.settingChanged("maxStreams")

    def settingChanged(self, name: str) -> None:
        """Limits hold for the connections that follow, the others for the calls."""
        self.longest = self._maxReceived
        self.encoding = self._compression
        self.room = sys.maxsize if self._maxCalls is None else self._maxCalls
        self.limits = Limits(
            maxStreams=self._maxStreams,
            streamWindow=self._streamWindow,
            connectionWindow=self._connectionWindow,
            maxHeaders=self._maxMetadata,
        )

    @property
    def loop(self) -> GuestLoop:
        """asyncio's loop, where coroutines of handlers run."""
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = guestLoop(self._reactor)
        return loop

    def countIn(self, shared: ServiceContext) -> None:
        """Have the status find the calls in what the sessions of a service share."""
        shared.calls["server"] = self.methods.totals
        shared.serving = self
        shared.health = self.healthStates

    def drain(self, seconds: float) -> Deferred[Any]:
        """
        Tell all clients to go elsewhere, and serve the calls on their way.

        :return: fires when the last connection has ended, or after so many seconds.
        """
        reactor = theReactor(self._reactor)
        until = reactor.seconds() + seconds

        def look() -> None:
            for connection in list(self.connections):
                connection.drain()
            if not self.connections or reactor.seconds() >= until:
                looking.stop()

        looking = LoopingCall(look)
        looking.clock = reactor
        return looking.start(_LOOK)

    def healthStates(self) -> dict[str, str]:
        """How each service is, as ``grpc.health.v1`` tells it; empty if the server does not."""
        return {} if self.health is None else {name: each.name for name, each in self.health.all().items()}
