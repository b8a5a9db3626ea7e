"""A provider, and its record: the JSON that engines store."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["KINDS", "MAX_RECORD", "MAX_WEIGHT", "Provider", "checkService", "decodeRecord", "encodeRecord"]

#: Kinds of endpoints that a record may name. Whoever may write a record chooses where clients connect: those that run
#: a program or open a file are none of them.
KINDS = frozenset({"tcp", "tls", "udp", "ws", "wss"})

#: Bytes of the longest record that is read.
MAX_RECORD = 64 * 1024

MAX_WEIGHT = 1000

#: Characters of a service's name and of an id. Engines make paths and keys of them.
MAX_NAME = 255

_NO_TEXTS = ("", "", "")
_NOTHING: Mapping[str, Any] = MappingProxyType({})

_STATES = ("serving", "leaving")

#: Host, port and path, and no more: what a client trusts, and whom it shows its certificate, is its own affair.
_HOST = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|(?:[0-9A-Fa-f]|\\:)*\\:[0-9A-Fa-f.\\:%A-Za-z]*)"
_ENDPOINT = re.compile(rf"(tcp|tls|udp|ws|wss):({_HOST}):([0-9]{{1,5}})(?::path=(/(?:[!-\x39;-\x5b\x5d-~]|\\:)*))?")
_UNIX = re.compile(r"unix:(/(?:[^\x00-\x1f\x7f\\:]|\\:)+)")


def checkService(name: str, value: Any) -> str:
    """
    The name of a service, or the id of a provider.

    :raise SettingError: it is empty, has control characters or more than 255 characters, or is ``.`` or ``..``.
    """
    if not isinstance(value, str):
        raise SettingError(f"{name}={value!r} is not a string")
    if not value or len(value) > MAX_NAME or not value.isprintable() or value in (".", ".."):
        raise SettingError(f"{name}={value[:300]!r} is not a name: use 1 to {MAX_NAME} printable characters")
    return value


@dataclass(frozen=True, slots=True)
class Provider:
    """
    One who provides a service.

    :ivar service: the service's name.
    :ivar endpoint: where to connect, a client's description: ``tcp:10.0.0.5:8090``.
    :ivar id: what distinguishes it from others of the service; by default the endpoint.
    :ivar weight: its share of the picks, 0 to 1000; 0: none, as long as others have more.
    :ivar state: ``"serving"``, or ``"leaving"`` when it is about to stop.
    :ivar meta: what else it says of itself, by name: texts, numbers and so on, as JSON has them.
    :ivar more: unknown keys of its record, which are kept.
    :raise SettingError: a value is invalid.
    """

    service: str
    endpoint: str
    id: str = ""
    group: str = ""
    version: str = ""
    zone: str = ""
    weight: int = 100
    state: str = "serving"
    meta: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False)
    more: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False, repr=False)

    def __post_init__(self) -> None:
        checkService("service", self.service)
        if not isinstance(self.endpoint, str) or not self.endpoint or not self.endpoint.isprintable():
            raise SettingError(f"endpoint={self.endpoint!r} is not a description such as 'tcp:10.0.0.5:8090'")
        if self.id == "":
            object.__setattr__(self, "id", self.endpoint)
        checkService("id", self.id)
        if (self.group, self.version, self.zone) != _NO_TEXTS:
            self._checkTexts()
        if isinstance(self.weight, bool) or not isinstance(self.weight, int) or not 0 <= self.weight <= MAX_WEIGHT:
            raise SettingError(f"weight={self.weight!r} is not a whole number from 0 to {MAX_WEIGHT}")
        if self.state not in _STATES:
            raise SettingError(f"state={self.state!r} is neither 'serving' nor 'leaving'")
        if self.meta is not _NOTHING or self.more is not _NOTHING:
            self._freeze()

    def _checkTexts(self) -> None:
        for name in ("group", "version", "zone"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > MAX_NAME or (value and not value.isprintable()):
                raise SettingError(f"{name}={value!r} is not a text of at most {MAX_NAME} printable characters")

    def _freeze(self) -> None:
        for name in ("meta", "more"):
            value = getattr(self, name)
            if not hasattr(value, "keys") or not all(isinstance(key, str) for key in value):
                raise SettingError(f"{name}={value!r} is not a mapping with strings as keys")
            object.__setattr__(self, name, MappingProxyType(dict(value)) if value else _NOTHING)

    def __reduce__(self) -> Any:
        values = [getattr(self, each.name) for each in fields(self)]
        return Provider, tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)

    def but(self, **changes: Any) -> Provider:
        """The same with changes. :raise SettingError: a value is invalid, or it has no such attribute."""
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise SettingError(f"{', '.join(sorted(unknown))}: a provider has no such attribute")
        return replace(self, **changes)

    @property
    def isLeaving(self) -> bool:
        """Whether it has said that it is about to stop."""
        return self.state == "leaving"


_NAMES = tuple(each.name for each in fields(Provider) if each.name != "more")
_parse = json.JSONDecoder().decode
_DEFAULTS = {"group": "", "version": "", "zone": ""}


def encodeRecord(provider: Provider) -> bytes:
    """
    The record of a provider. Keys are the names of its attributes; empty ones are left out.

    :raise SettingError: its meta is not JSON, or the record is longer than MAX_RECORD.
    """
    record = dict(provider.more)
    for name in _NAMES:
        value = getattr(provider, name)
        if value != _DEFAULTS.get(name):
            record[name] = dict(value) if name == "meta" else value
    if not provider.meta:
        del record["meta"]
    try:
        data = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SettingError(f"meta={dict(provider.meta)!r} cannot be written as JSON: {error}") from error
    if len(data) > MAX_RECORD:
        text = f"the record of {provider.id} has {len(data)} bytes, more than {MAX_RECORD}: shorten its meta"
        raise SettingError(text)
    return data


def decodeRecord(data: bytes, service: str, kinds: Collection[str] = KINDS) -> Provider:
    """
    The provider of a record.

    :param service: of which service it is a record.
    :param kinds: the kinds of endpoints that it may name.
    :raise RecordError: it is no such record.
    """
    if len(data) > MAX_RECORD:
        raise RecordError(f"it has {len(data)} bytes, more than {MAX_RECORD}")
    try:
        record = _parse(data.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is not JSON: {error}") from None
    if type(record) is not dict:
        raise RecordError(f"it is no object but {type(record).__name__}")
    known = {name: record.pop(name) for name in _NAMES if name in record}
    if known.get("service") != service:
        raise RecordError(f"it is a record of service {known.get('service')!r:.100}")
    if type(known.get("endpoint")) is not str:
        raise RecordError("it has no endpoint")
    checkEndpoint(known["endpoint"], kinds)
    try:
        return Provider(**known, more=record or _NOTHING)
    except (SettingError, TypeError) as error:
        raise RecordError(str(error)[:300]) from None


def checkEndpoint(endpoint: str, kinds: Collection[str]) -> None:
    """
    Check that a description from elsewhere names a place to connect to, and nothing else.

    :raise RecordError: it does not.
    """
    kind = endpoint.partition(":")[0]
    if kind not in kinds:
        allowed = ", ".join(sorted(kinds))
        raise RecordError(f"endpoint {endpoint!r:.100} is of a kind that is not allowed: {allowed} are")
    match = (_UNIX if kind == "unix" else _ENDPOINT).fullmatch(endpoint)
    if match is None:
        what = "a path" if kind == "unix" else "a host, a port and, for ws: and wss:, a path="
        raise RecordError(f"endpoint {endpoint!r:.100} has to be {kind}: with {what}, and nothing else")
    if kind != "unix" and not (0 < int(match[3]) < 65536 and (kind in ("ws", "wss") or match[4] is None)):
        raise RecordError(f"endpoint {endpoint!r:.100} has a port or a path that cannot be")
