"""What the peers of one Server or Client share: the wire, the services, the limits and the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.rpc.services import Handler, describe, method, register
from getty_tx.settings import Setting
from getty_tx.status.calls import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from getty_tx.rpc.messages import Feature

__all__ = ["CallContext", "checkEndpoint"]

#: Bytes of a message, at most; gRPC's default.
MAX_MSG_LEN = 4 * 1024 * 1024

#: Seconds that a caller waits.
TIMEOUT = 3.0

#: Seconds that open calls may take when a service stops.
DRAIN_TIME = 5.0

#: Seconds of silence after which a peer is asked whether it is there, and for the answer.
PING_INTERVAL = 15.0
PING_TIMEOUT = 5.0


def checkEndpoint(endpoint: Any) -> None:
    """:raise SettingError: it is a description of datagrams, which get lost, or one of several is."""
    if isinstance(endpoint, list | tuple):
        for each in endpoint:
            checkEndpoint(each)
    if isinstance(endpoint, str) and endpoint.startswith("udp"):
        raise SettingError(f"{endpoint} is not for calls: datagrams get lost; use tcp:, tls:, unix:, ws: or wss:")


class CallContext:
    """
    The settings and counters of peers.

    :param wire: an :py:class:`~getty_tx.rpc.interfaces.IWire`.
    :param services: objects with ``@rpc.method`` by name.
    :param wrappers: ``wrapper(name, handler)`` returns what is called instead; the first is the outermost.
    :raise SettingError: a service cannot be served, or a setting is invalid.

    :ivar handlers: the methods by ``Service/method``.
    :ivar sampled: a served call is measured if the number of those done has none of these bits. With ``slowCall`` each
        is; without it, to look for slow ones costs nothing.
    :ivar running: calls that are being served now.
    :ivar refused: calls that were refused because of ``maxCalls`` or ``maxCallsPerSession``.
    :ivar late: replies to calls that had ended.
    :ivar timeouts: calls that were not answered in time.
    :ivar peers: the peers with an open session.
    :ivar whenOpened: called when one more is open.
    :ivar whenLeaving: called with a session whose other end takes no new calls, where another one is opened then.
    """

    maxCalls = Setting(settings.count, 1000, "Calls that are served at a time; more are refused.")
    maxCallsPerSession = Setting(
        settings.count, 100, "Calls of one session that are served at a time; with more it is not read."
    )
    maxTimeout: Setting[float | None] = Setting(
        settings.optionalSeconds, None, "Seconds that a call may take, whatever its caller allows; None: no limit."
    )
    slowCall: Setting[float | None] = Setting(
        settings.optionalSeconds, None, "Seconds above which a served call is logged; None: none is."
    )
    maxMsgLen = Setting(settings.size, MAX_MSG_LEN, "Bytes of a message.")
    timeout: Setting[float | None] = Setting(
        settings.optionalSeconds, TIMEOUT, "Seconds that a call waits for its reply; None: no limit."
    )
    pingInterval: Setting[float | None] = Setting(
        settings.optionalSeconds, PING_INTERVAL, "Seconds of silence before a ping; None: never."
    )
    pingTimeout = Setting(settings.seconds, PING_TIMEOUT, "Seconds that a ping waits for any byte.")

    # The values of those that are looked at for each call.
    _maxCalls: int
    _maxTimeout: float | None
    _slowCall: float | None
    _timeout: float | None

    def __init__(
        self, wire: Any, services: Mapping[str, object] | None = None, wrappers: Iterable[Any] = (), **options: Any
    ) -> None:
        self.wire = wire
        self.sampled = SAMPLED
        self.payload = wire.payload
        self.handlers: dict[str, Handler] = {}
        if services:
            self.use(services, wrappers)
        for name, value in settings.defaults(CallContext):
            setattr(self, name, value)
        for option, value in options.items():
            if not isinstance(getattr(CallContext, option, None), Setting):
                raise SettingError(f"{option}={value!r} is no setting of calls")
            setattr(self, option, value)
        self.running = self.refused = self.late = self.timeouts = 0
        self.peers: set[Any] = set()
        self.whenOpened: Callable[[], object] | None = None
        self.whenLeaving: Callable[[Any], object] | None = None

    def use(self, services: Mapping[str, object], wrappers: Iterable[Any] = ()) -> None:
        """Serve these from now on. :raise SettingError: one cannot be served."""
        if "rpc" in services:
            raise SettingError("a service cannot have the name 'rpc': it is the one that describes the others")
        handlers = register(services, wrappers)
        check = getattr(self.payload, "checkMethod", None)
        if check is not None:
            for name, handler in handlers.items():
                check(name, handler.least, handler.most)
        common = getattr(self.wire, "common", None)
        if common is not None:
            # What a service has itself comes first.
            handlers = {**register(dict.fromkeys(services, common), wrappers), **handlers}
        self.handlers = {**handlers, **register({"rpc": _Described(self)}, wrappers)}

    def settingChanged(self, name: str) -> None:
        """Settings hold for the calls that follow."""
        if name == "slowCall":
            self.sampled = SAMPLED if self._slowCall is None else 0

    def opened(self, peer: Any) -> None:
        """The session of a peer is open."""
        self.peers.add(peer)
        if self.whenOpened is not None:
            self.whenOpened()

    @property
    def queued(self) -> int:
        """Bytes of long requests and replies that wait to be sent in slices."""
        return sum(peer.slices.queued for peer in self.peers)

    def can(self, feature: Feature) -> bool:
        """Whether the wire has it."""
        return feature in self.wire.features


class _Described:
    """The service ``rpc``, which tells what there is to call."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    @method(idempotent=True)
    def describe(self, about: Any = None) -> Any:
        """The names, signatures and texts of all methods."""
        return describe(self._context.handlers.values())
