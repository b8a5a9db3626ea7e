"""What the connections of one Server share: the limits, the application and the counters."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.http.counting import Counters
from getty_tx.http.dates import Dates
from getty_tx.http.proxy import Proxies, proxiesOf
from getty_tx.http.response import headersOf
from getty_tx.settings import Setting
from getty_tx.status.requests import SIDE

if TYPE_CHECKING:
    from getty_tx.http.answers import AnswerFields
    from getty_tx.http.connection import Connection
    from getty_tx.http.fields import Fields
    from getty_tx.http.interfaces import IApplication
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.requests import RequestConnection
    from getty_tx.session.context import ServiceContext
    from getty_tx.transports.websocket.request import UpgradeOptions

__all__ = ["HTTPContext", "rootPathOf"]

#: Seconds that requests may take when a server stops.
DRAIN_TIME = 5.0

#: Bytes of heads in the cache of fields, at most.
MAX_CACHE = 512 * 1024


def rootPathOf(name: str, value: Any) -> str:
    """A check of a setting: the path below which a proxy has an application, or none."""
    if not isinstance(value, str) or (value and (not value.startswith("/") or value.endswith("/"))):
        raise SettingError(f"{name}={value!r} begins with a slash and does not end with one")
    return value


#: Bytes of data that a client of HTTP/2 may send before they are taken: what RFC 9113, 6.9.2 begins with, and its most.
MIN_WINDOW, MAX_WINDOW = 2**16 - 1, 2**31 - 1


def windowOf(name: str, value: Any) -> int:
    """A check of a setting: bytes of a window of HTTP/2."""
    window = settings.size(name, value)
    if not MIN_WINDOW <= window <= MAX_WINDOW:
        raise SettingError(f"{name}={value!r} is out of range: give {MIN_WINDOW} to {MAX_WINDOW} bytes")
    return window


def optionalWindow(name: str, value: Any) -> int | None:
    """The same; None is one that fits the others."""
    return None if value is None else windowOf(name, value)


def hasEngine() -> bool:
    """Whether a library for HTTP/2 is installed."""
    return any(find_spec(name) is not None for name in ("ngh2", "h2"))


def http2Of(name: str, value: Any) -> bool | None:
    """A check of a setting: whether HTTP/2 is served; None: where a library for it is installed."""
    if value is None:
        return None
    if settings.flag(name, value) and not hasEngine():
        raise SettingError(f"{name}=True needs ngh2: pip install 'getty_tx[http2]'")
    return bool(value)


class HTTPContext:
    """
    The settings and counters of the connections of one server.

    :param application: what answers the requests.
    :param options: settings by name.
    :raise SettingError: a setting is invalid.

    :ivar running: requests that are being served now.
    :ivar connections: the open connections.
    :ivar counters: what was served and refused.
    :ivar dates: the value of ``Date``.
    :ivar speaksTwo: HTTP/2 is served.
    :ivar seen: what the fields of requests of HTTP/2 say, and their bytes, by :authority and the fields.
    :ivar access: called as ``access(request, status, sent, seconds)`` after each answer; None: nobody looks.
    """

    maxHead = Setting(settings.size, 32 * 1024, "Bytes of a head: request line and fields. More is refused with 431.")
    maxLine = Setting(settings.size, 8 * 1024, "Bytes of a request line. A longer one is refused with 414.")
    maxFields = Setting(settings.count, 100, "Fields of a head, and of trailers. More are refused with 431.")
    maxBody: Setting[int | None] = Setting(
        settings.optionalCount, 1024 * 1024, "Bytes of a body that is gathered for a handler; None: no limit."
    )
    headTimeout = Setting(settings.seconds, 10.0, "Seconds from the first byte of a head to its end.")
    bodyTimeout = Setting(settings.seconds, 30.0, "Seconds without a byte of a body that is awaited.")
    minRate = Setting(settings.count, 240, "Bytes a second that a body has at least, over its whole time.")
    keepAlive = Setting(settings.seconds, 15.0, "Seconds without a request after which a connection is closed.")
    limitConcurrency: Setting[int | None] = Setting(
        settings.optionalCount, None, "Requests that are served at a time; more are answered with 503. None: no limit."
    )
    serverName: Setting[str] = Setting(settings.text, "getty_tx", "The value of Server; empty: the field is left out.")
    headers: Setting[AnswerFields] = Setting(
        headersOf, headersOf("headers", ()), "Fields of every answer, besides its own: a mapping, or pairs."
    )
    rootPath: Setting[str] = Setting(
        rootPathOf, "", "The path below which a proxy has the server, where it leaves it out of its requests."
    )
    proxies: Setting[Proxies | None] = Setting(
        proxiesOf, None, "Networks of proxies whose word on the client is taken; None: nobody's."
    )

    http2: Setting[bool | None] = Setting(
        http2Of, None, "Whether HTTP/2 is served beside HTTP/1.1; None: where ngh2 or h2 is installed."
    )
    maxStreams = Setting(settings.count, 100, "Requests that a connection of HTTP/2 may have open.")
    streamWindow = Setting(windowOf, 256 * 1024, "Bytes of a body that may come over HTTP/2 before they are taken.")
    connectionWindow: Setting[int | None] = Setting(
        optionalWindow,
        None,
        "The same, of all bodies of a connection; None: so much that bodies that nobody takes hold no others.",
    )

    _http2: bool | None
    _maxStreams: int
    _streamWindow: int
    _connectionWindow: int | None
    _maxHead: int
    _maxLine: int
    _maxFields: int
    _maxBody: int | None
    _headTimeout: float
    _bodyTimeout: float
    _minRate: int
    _keepAlive: float
    _limitConcurrency: int | None
    _serverName: str
    _headers: AnswerFields
    _rootPath: str
    _proxies: Proxies | None

    def __init__(self, application: IApplication, **options: Any) -> None:
        self.application = application
        self.dates = Dates()
        for name, value in settings.defaults(HTTPContext):
            setattr(self, name, value)
        for option, value in options.items():
            if not isinstance(getattr(HTTPContext, option, None), Setting):
                raise SettingError(f"{option}={value!r} is no setting of http.Server")
            setattr(self, option, value)
        self.settingChanged("serverName")
        self.settingChanged("http2")
        self.running = 0
        self.connections: set[Connection | RequestConnection] = set()
        self.counters = Counters()
        self.access: Any = None
        self.known: dict[bytes, Fields] = {}
        self._knownBytes = 0
        self.seen: dict[object, tuple[Fields, int]] = {}
        self._seenBytes = 0
        self._webSocketOptions: UpgradeOptions | None = None

    def settingChanged(self, name: str) -> None:
        """Settings hold for the requests that follow, those of HTTP/2 for the connections that follow."""
        if name == "http2":
            self.speaksTwo = hasEngine() if self._http2 is None else self._http2
        if name in ("serverName", "headers"):
            self.dates.use(self._serverName, self._headers.lines)

    def countIn(self, shared: ServiceContext) -> None:
        """Have the status find the requests in what the sessions of a service share."""
        shared.calls[SIDE] = self.counters.byName
        shared.serving = self

    def webSocketOptions(self) -> UpgradeOptions:
        """The options of WebSocket sessions; one object, because what Autobahn makes of it is kept there."""
        if self._webSocketOptions is None:
            from getty_tx.transports.websocket.request import UpgradeOptions

            self._webSocketOptions = UpgradeOptions()
        return self._webSocketOptions

    def limits(self) -> Limits:
        """The limits of a new connection of HTTP/2."""
        from getty_tx.http.two.limits import Limits

        return Limits(self._maxStreams, self._streamWindow, self._connectionWindow, self._maxHead, self._maxFields)

    def keep(self, block: bytes, fields: Fields) -> None:
        """Keep the fields of a head: a client sends the same ones with each request."""
        self._knownBytes += len(block)
        if self._knownBytes > MAX_CACHE:
            self.known.clear()
            self._knownBytes = len(block)
        self.known[block] = fields

    def keepSeen(self, key: object, fields: Fields, size: int) -> None:
        """Keep the fields of a request of HTTP/2, which came as pairs of ``size`` bytes."""
        self._seenBytes += size
        if self._seenBytes > MAX_CACHE:
            self.seen.clear()
            self._seenBytes = size
        self.seen[key] = fields, size
