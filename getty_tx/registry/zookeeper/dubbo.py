"""
The layout of Apache Dubbo, by interface: ``/dubbo/<interface>/providers/<encoded URL>``.

A node's name is a URL, encoded as Java's ``URLEncoder`` does it; its data is not used::

    dubbo://10.0.0.5:20880/com.foo.Bar?anyhost=true&application=shop&interface=com.foo.Bar&methods=a,b&side=provider

The parameters ``group``, ``version``, ``weight`` and ``zone`` are the provider's attributes; all others are in its
``meta``, and so are the URL's ``protocol`` and ``path`` if they are not ``dubbo`` and the interface.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote, unquote_plus

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError
from getty_tx.registry.provider import MAX_WEIGHT, Provider, checkEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["DubboLayout", "decodeUrl", "encodeUrl"]

#: The weight of a URL that names none (Dubbo's ``DEFAULT_WEIGHT``).
DEFAULT_WEIGHT = 100

#: Dubbo's word for no version at all.
NO_VERSION = "0.0.0"

#: Characters of the longest encoded URL that is read. A node of ZooKeeper has 1 MiB at most, name included.
MAX_URL = 64 * 1024

#: Schemes that are commands to consumers, or consumers themselves.
_NO_PROVIDERS = frozenset({"absent", "condition", "consumer", "empty", "override", "route", "script", "tag"})

_URL = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^@/?]*@)?(\[[^]/?]*\]|[^:/?]*):([0-9]{1,5})(?:/([^?]*))?(?:\?(.*))?", re.DOTALL
)
_TCP = re.compile(r"tcp:((?:[^:\\]|\\:)+):([0-9]+)")


def decodeUrl(name: str, service: str) -> Provider | None:
    """
    The provider of an encoded URL.

    :param name: the node's name.
    :param service: the interface that is looked for.
    :return: ``None``: it is no provider of it, or a disabled one.
    :raise RecordError: it cannot be understood.
    """
    if len(name) > MAX_URL:
        raise RecordError(f"a URL of {len(name)} characters is longer than {MAX_URL}")
    url = unquote_plus(name)
    match = _URL.fullmatch(url)
    if url.partition("://")[0] in _NO_PROVIDERS:
        return None
    if match is None:
        raise RecordError(f"{url!r:.200} is not a URL such as dubbo://host:port/interface?side=provider")
    protocol, host, port, path, query = match.groups()
    more = _parameters(query or "")
    path = path or ""
    if more.pop("interface", path) != service:
        return None
    if more.get("category", "providers") != "providers" or more.get("side", "provider") != "provider":
        return None
    if more.get("enabled", "true").lower() == "false":
        return None
    host = host.strip("[]").replace(":", "\\:")
    endpoint = f"tcp:{host}:{port}"
    checkEndpoint(endpoint, DubboLayout.kinds)
    group, version, zone = (more.pop(each, "") for each in ("group", "version", "zone"))
    if version == NO_VERSION:
        version = ""
    weight = _weight(more.pop("weight", ""))
    if protocol != "dubbo":
        more["protocol"] = protocol
    if path != service:
        more["path"] = path
    try:
        provider = Provider(service, endpoint, "", group, version, zone, weight, meta=more)
        return provider.but(id=idOf(provider))
    except SettingError as error:
        raise RecordError(str(error)[:300]) from None


def encodeUrl(provider: Provider, timestamp: int = 0) -> str:
    """
    The encoded URL of a provider: the name of its node.

    :param timestamp: milliseconds since 1970, when it began to serve, unless its ``meta`` says.
    :raise SettingError: its endpoint is not one of TCP, or its ``meta`` has a protocol or path that cannot be.
    """
    address = _address(provider.endpoint)
    meta = {name: _text(value) for name, value in provider.meta.items() if value is not None}
    protocol, path = meta.pop("protocol", "dubbo"), meta.pop("path", provider.service)
    parameters = {
        "anyhost": "true",
        "application": "getty_tx",
        "methods": "*",
        "side": "provider",
        "timestamp": str(timestamp),
        **meta,
        "interface": provider.service,
    }
    for name in ("group", "version", "zone"):
        if getattr(provider, name):
            parameters[name] = getattr(provider, name)
    weight = 0 if provider.isLeaving else provider.weight
    if weight != DEFAULT_WEIGHT:
        parameters["weight"] = str(weight)
    query = "&".join(f"{_inner(name)}={_inner(value)}" for name, value in sorted(parameters.items()))
    url = f"{protocol}://{address}/{path}?{query}"
    if "?" in path or _URL.fullmatch(url) is None:
        raise SettingError(f"meta={dict(provider.meta)!r:.300}: protocol and path cannot be those of a URL")
    return encode(url)


def encode(text: str) -> str:
    """As Java's ``URLEncoder``."""
    return quote_plus(text, safe="*").replace("~", "%7E")


def idOf(provider: Provider) -> str:
    """Its endpoint, with group and version if it has them: one address may serve several."""
    named = [f"{name}={getattr(provider, name)}" for name in ("group", "version") if getattr(provider, name)]
    return f"{provider.endpoint}?{'&'.join(named)}" if named else provider.endpoint


class DubboLayout:
    """
    See the module.

    :param root: ``/dubbo``, or Dubbo's *group of the registry* with a slash before it.
    :param timestamp: milliseconds since 1970 that are written for providers whose ``meta`` has none.
    """

    hasData = False
    hasStates = False
    leaveTime = 3.0
    kinds = frozenset({"tcp"})

    def __init__(self, root: str, timestamp: int = 0) -> None:
        self.root = root
        self._timestamp = timestamp

    def directory(self, service: str) -> str:
        """See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`."""
        return f"{self.root}/{encode(service)}/providers"

    def serviceOf(self, name: str) -> str:
        """See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`."""
        return unquote_plus(name)

    def node(self, provider: Provider) -> tuple[str, bytes]:
        """See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`."""
        return encodeUrl(provider, self._timestamp), b""

    def record(self, service: str, name: str, data: bytes) -> Any:
        """See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`."""
        try:
            return decodeUrl(name, service)
        except RecordError as error:
            return error

    def records(self, service: str, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """
        See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`. The key is the provider's id.

        A provider that was started again has two nodes until the session of the first has ended: the newer counts.
        """
        found: dict[str, Any] = {}
        for name, record in nodes.items():
            if isinstance(record, Provider):
                other = found.get(record.id)
                if other is None or _age(other) <= _age(record):
                    found[record.id] = record
            elif record is not None:
                found[name] = record
        return found

    def sameProvider(self, service: str, names: Iterable[str], provider: Provider) -> list[str]:
        """See :py:class:`~getty_tx.registry.zookeeper.layout.Layout`."""
        wanted = idOf(provider)
        # Few are looked at closely: there may be thousands, and decoding takes its time.
        address = encode(_address(provider.endpoint))
        names = [name for name in names if address in name]
        return [name for name in names if getattr(self.record(service, name, b""), "id", None) == wanted]


def _address(endpoint: str) -> str:
    """Host and port as in URLs. :raise SettingError: it has none."""
    match = _TCP.fullmatch(endpoint)
    if match is None:
        raise SettingError(f"endpoint={endpoint!r}: layout=dubbo has providers of tcp:host:port only")
    host = match[1].replace("\\:", ":")
    return f"[{host}]:{match[2]}" if ":" in host else f"{host}:{match[2]}"


def _parameters(query: str) -> dict[str, str]:
    found = {}
    for each in query.split("&"):
        name, _, value = each.partition("=")
        if name:
            # Java writes values as they are; those of others may have been encoded before the URL was.
            found[unquote(name)] = unquote(value.strip())
    return found


def _inner(text: str) -> str:
    """What would be taken for the URL's own, encoded. All else stays: Java would not decode it."""
    return text.replace("%", "%25").replace("&", "%26").replace("=", "%3D")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _weight(text: str) -> int:
    return min(max(int(text), 0), MAX_WEIGHT) if re.fullmatch(r"-?[0-9]{1,9}", text) else DEFAULT_WEIGHT


def _age(provider: Provider) -> int:
    text = str(provider.meta.get("timestamp", ""))
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
