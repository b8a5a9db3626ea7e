"""
What a gateway is told: who may do what, by namespace, and its keys.

:py:func:`readSettings` takes it from a file in TOML::

    secret = "at-least-32-bytes-that-nobody-can-guess"
    apiKey = "another-long-secret"
    origins = ["https://chat.example.org"]

    [namespaces.chat]
    subscribe = "users"
    publish = "members"
    history = "members"
    presence = "members"
    historySize = 100
    historySeconds = 300

"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.groups import Namespace

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WHO", "GatewaySettings", "Rules", "readSettings"]

#: Who may do something: nobody; sessions that are subscribed; those with a user; all.
WHO = ("nobody", "members", "users", "anyone")

#: Characters of the shortest key of the HTTP API.
MIN_KEY = 16

#: What a rule may be: a word of WHO, or a function of a session and a channel, which may be async.
Rule = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """
    Who may do what in the channels of a namespace. Each is a word: ``nobody``, ``members`` (who has subscribed),
    ``users`` (who has come with a token that names a user) or ``anyone``; or a function ``may(session, channel)`` whose
    answer may be a Deferred or a coroutine. ``session.attributes["user"]`` is the user there, empty for nobody.

    :ivar subscribe: who may subscribe without a token for the channel. ``members`` has no meaning here.
    :ivar publish: who may publish.
    :ivar history: who may ask for what was published. Subscribers recover what they have missed in any case.
    :ivar presence: who may ask who is there.
    :ivar namespace: the settings of its groups, with ``historySize=`` and ``presence=True`` where there is something to
        ask for.
    """

    subscribe: Rule = "nobody"
    publish: Rule = "nobody"
    history: Rule = "nobody"
    presence: Rule = "nobody"
    namespace: Namespace = field(default_factory=Namespace)

    def __post_init__(self) -> None:
        """:raise SettingError: a rule is none."""
        for name in ("subscribe", "publish", "history", "presence"):
            rule = getattr(self, name)
            known = [word for word in WHO if (name, word) != ("subscribe", "members")]
            if not callable(rule) and rule not in known:
                raise SettingError(f"{name}={rule!r} is none of {', '.join(known)}")
        if not isinstance(self.namespace, Namespace):
            raise SettingError(f"namespace={self.namespace!r} is no Namespace")
        for name in ("wrap", "listener"):
            if getattr(self.namespace, name) is not None:
                raise SettingError(f"namespace: {name}= is the gateway's own; leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """
    The settings of a gateway. Without any, nobody can connect.

    :ivar secret: of tokens with HS256, 32 bytes or more.
    :ivar publicKey: in PEM, of tokens with RS256 or ES256.
    :ivar audience: what ``aud`` of tokens has to name.
    :ivar issuer: what ``iss`` of tokens has to be.
    :ivar anonymous: whether clients may connect without a token.
    :ivar apiKey: what a request to the HTTP API has to know, 16 characters or more; None: there is no API.
    :ivar origins: pages that may connect, such as ``https://chat.example.org``; ``*`` matches any characters. Empty:
        those of the host that they connect to.
    :ivar personal: whether each user is subscribed to the channel ``user:ID``.
    :ivar path: of the WebSocket.
    :ivar apiPath: of the HTTP API.
    :ivar maxChannels: subscriptions of a session.
    :ivar joinRate: subscriptions in a second; as many as ``maxChannels`` may come at once.
    :ivar messageRate: messages of a client in a second; one that sends more waits.
    :ivar maxMessage: bytes of a message of a client.
    :ivar connectTimeout: seconds until a client has to say who it is.
    :ivar pingInterval: seconds between two pings. A client that has not answered until the next one is closed.
    :ivar expiredDelay: seconds that a client has to bring a new token after its token has expired.
    :ivar namespaces: by the word before ``:`` in the name of a channel; ``""`` for all other names.
    """

    secret: str | None = field(default=None, repr=False)
    publicKey: str | None = None
    audience: str | None = None
    issuer: str | None = None
    anonymous: bool = False
    apiKey: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    personal: bool = False
    path: str = "/connection/websocket"
    apiPath: str = "/api"
    maxChannels: int = 128
    joinRate: float = 20.0
    messageRate: float = 100.0
    maxMessage: int = 64 * 1024
    connectTimeout: float = 15.0
    pingInterval: float = 25.0
    expiredDelay: float = 25.0
    namespaces: Mapping[str, Rules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """:raise SettingError: a value is out of its bounds."""
        for name in ("joinRate", "messageRate", "connectTimeout", "pingInterval", "expiredDelay"):
            settings.seconds(name, getattr(self, name))
        if self.pingInterval < 1:
            raise SettingError(f"pingInterval={self.pingInterval:g} is less than 1 second, the least that clients know")
        for name in ("secret", "publicKey", "audience", "issuer", "apiKey"):
            if getattr(self, name) is not None:
                settings.text(name, getattr(self, name))
        for name in ("anonymous", "personal"):
            settings.flag(name, getattr(self, name))
        settings.size("maxMessage", self.maxMessage)
        settings.count("maxChannels", self.maxChannels)
        if self.maxChannels > 128:
            raise SettingError(f"maxChannels={self.maxChannels} is more than 128, the groups of a session")
        if self.apiKey is not None and len(self.apiKey) < MIN_KEY:
            raise SettingError(f"apiKey= has less than {MIN_KEY} characters: it could be guessed")
        if not isinstance(self.origins, tuple) or not all(isinstance(each, str) for each in self.origins):
            raise SettingError(f"origins={self.origins!r} is no tuple of texts")
        for name in ("path", "apiPath"):
            path = settings.text(name, getattr(self, name))
            if not path.startswith("/") or path.endswith("/") or "{" in path:
                raise SettingError(f"{name}={path!r} is no path: it begins with a slash, and does not end with one")
        for name, rules in self.namespaces.items():
            if not isinstance(name, str) or not isinstance(rules, Rules):
                raise SettingError(f"namespaces: {name!r} has {rules!r}, which is no Rules")

    @property
    def hasTokens(self) -> bool:
        """Whether clients may come with tokens."""
        return self.secret is not None or self.publicKey is not None

    @property
    def ping(self) -> int:
        """Whole seconds between two pings, as clients are told."""
        return math.ceil(self.pingInterval)


#: Settings of a Namespace that a file may have: what is no code.
_PLAIN = {each.name for each in fields(Namespace)} - {"listener", "mayJoin", "wrap", "presence"}
_RULES = ("subscribe", "publish", "history", "presence")


def readSettings(path: str) -> GatewaySettings:
    """
    The settings of a file in TOML.

    ``secretFile``, ``publicKeyFile`` and ``apiKeyFile`` name files that have the value. ``presence`` of a namespace is
    who may ask; whoever may, the groups have presence.

    :raise SettingError: it cannot be read, or something in it is wrong; it says what, and where.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise SettingError(f"{path}: {error}") from None
    try:
        return _settingsOf(values)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from None


def _settingsOf(values: dict[str, Any]) -> GatewaySettings:
    for name in ("secret", "publicKey", "apiKey"):
        where = values.pop(f"{name}File", None)
        if where is not None:
            if name in values:
                raise SettingError(f"{name} and {name}File: leave one of them out")
            values[name] = _contentOf(f"{name}File", where)
    spaces = values.pop("namespaces", {})
    if not isinstance(spaces, dict):
        raise SettingError("namespaces is no table")
    known = {each.name for each in fields(GatewaySettings)}
    for name in values:
        if name not in known:
            raise SettingError(f"{name} is no setting: there are {', '.join(sorted(known))}")
    if isinstance(values.get("origins"), list):
        values["origins"] = tuple(values["origins"])
    return GatewaySettings(**values, namespaces={name: _rulesOf(name, each) for name, each in spaces.items()})


def _rulesOf(name: str, values: Any) -> Rules:
    where = f"[namespaces.{name}]"
    if not isinstance(values, dict):
        raise SettingError(f"{where} is no table")
    rules = {each: values.pop(each) for each in _RULES if each in values}
    for each in values:
        if each not in _PLAIN:
            raise SettingError(f"{where}: {each} is no setting: there are {', '.join(sorted(_PLAIN | {*_RULES}))}")
    if any(not isinstance(rule, str) for rule in rules.values()):
        raise SettingError(f"{where}: {', '.join(_RULES)} are words: {', '.join(WHO)}")
    isPresent = rules.get("presence", "nobody") != "nobody" or bool(values.get("joinLeave"))
    try:
        return Rules(**rules, namespace=replace(Namespace(presence=isPresent), **values))
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from None


def _contentOf(name: str, path: Any) -> str:
    if not isinstance(path, str):
        raise SettingError(f"{name}={path!r} is no path")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise SettingError(f"{name}={path}: {error}") from None
