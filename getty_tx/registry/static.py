"""
Lists of providers that somebody has written: ``static:`` in one line, ``file:`` in a file that is read again when it
changes.

A file is TOML or JSON, as the end of its name says: by service, a list of endpoints or of tables with ``endpoint`` and,
where they differ from the defaults, ``id``, ``group``, ``version``, ``zone``, ``weight``, ``state`` and ``meta``::

    chat = ["tls:chat1.example.org:8443", "tls:chat2.example.org:8443"]

    [[echo]]
    endpoint = "tcp:10.0.0.5:8090"
    weight = 200
    zone = "a"

    [[echo]]
    endpoint = "tcp:10.0.0.6:8090"
    zone = "b"
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.notices import openNotices
from getty_tx.registry.provider import KINDS, Provider, checkEndpoint, checkService
from getty_tx.registry.readonly import ReadOnlyEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.interfaces import IEngineUser
    from getty_tx.registry.notices import Notices
    from getty_tx.registry.readonly import Watched

__all__ = ["FileEngine", "StaticEngine", "readFile"]

#: Seconds between two looks at a file: while the kernel tells of changes, and where it does not.
CHECK_PERIOD, POLL_PERIOD = 30.0, 1.0

#: What lists of endpoints may name: they are one's own.
_KINDS = KINDS | {"unix"}

_NAMES = {each.name for each in fields(Provider)} - {"service", "more"}

#: The name that the providers of every service are listed under.
_EVERY = "*"


class StaticEngine(ReadOnlyEngine):
    """
    The same providers for every service.

    :param endpoints: their descriptions.
    :raise SettingError: one of them is no place to connect to.
    """

    kinds = _KINDS

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(f"static:{','.join(endpoints)}")
        for endpoint in endpoints:
            try:
                checkEndpoint(endpoint, _KINDS)
            except RecordError as error:
                raise SettingError(f"{self.name}: {error}; a colon in an endpoint is \\:") from None
        self._endpoints = list(dict.fromkeys(endpoints))

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """Begin."""
        super().start(reactor, user)
        reactor.callLater(0, self._said, None)
        for watched in list(self._watched.values()):
            self.watching(watched)

    def watching(self, watched: Watched) -> None:
        """Tell the list."""
        if self._reactor is not None:
            self._reactor.callLater(0, watched.tell, self._records(watched.service))

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Any]]:
        """The list, for any service."""
        name = _EVERY if service is None else service
        return succeed({(name, key): provider for key, provider in self._records(name).items()})

    def _records(self, service: str) -> dict[str, Provider]:
        return {endpoint: Provider(service, endpoint) for endpoint in self._endpoints}


class FileEngine(ReadOnlyEngine):
    """
    What a file says. While it cannot be read, what it said before stays.

    :param path: of the file, which ends with ``.toml`` or ``.json``.
    :raise SettingError: it does not.
    """

    hasStates = True
    kinds = _KINDS

    def __init__(self, path: str) -> None:
        if not path.endswith((".toml", ".json")):
            raise SettingError(f"file:{path} has to end with .toml or .json, which says how it is written")
        self._path = os.path.abspath(path)
        super().__init__(f"file:{self._path}")
        self._services: dict[str, dict[str, Any]] | None = None
        # What the file was when it was read: another, or another length or time, is another file.
        self._seen: tuple[int, ...] | None = None
        self._error: RegistryError | None = None
        self._notices: Notices | None = None
        self._next: IDelayedCall | None = None

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """Begin."""
        super().start(reactor, user)
        self._seen = None
        self._lookIn(0)

    def stop(self) -> Deferred[None]:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        return super().stop()

    def watching(self, watched: Watched) -> None:
        """Tell the list, if there is one."""
        if self._reactor is not None and self._seen is not None:
            self._reactor.callLater(0, self._tell, watched)

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Any]]:
        """What the file says now."""
        try:
            services = readFile(self._path)
        except RegistryError as error:
            return fail(error)
        return succeed(
            {
                (name, key): record
                for name, records in services.items()
                if service is None or name == service
                for key, record in records.items()
            }
        )

    def _lookIn(self, seconds: float) -> None:
        if self._reactor is None:
            return
        if self._next is not None:
            self._next.cancel()
        self._next = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        self._next = None
        isTold = self._listen()
        try:
            found = os.stat(self._path)
            seen: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            seen = ()
        if seen != self._seen:
            self._seen = seen
            self._read()
        self._lookIn(CHECK_PERIOD if isTold else POLL_PERIOD)

    def _read(self) -> None:
        try:
            self._services = readFile(self._path)
        except RegistryError as error:
            self._error = error
        else:
            self._error = None
        self._said(self._error)
        for watched in list(self._watched.values()):
            self._tell(watched)

    def _tell(self, watched: Watched) -> None:
        if self._error is not None:
            watched.interrupt(self._error)
        elif self._services is not None:
            watched.tell(self._services.get(watched.service, {}))

    def _listen(self) -> bool:
        """Hear of changes of the folder: editors write a new file and rename it. Returns whether that is possible."""
        if self._notices is None:
            self._notices = openNotices(self._reactor, lambda *_: self._lookIn(0), self._lost)
            if self._notices is None:
                return False
        try:
            self._notices.watch(os.path.dirname(self._path), files=True)
        except OSError:
            return False
        return True

    def _lost(self, notices: Notices) -> None:
        if self._notices is notices:
            self._notices = None
            self._lookIn(0)


def readFile(path: str) -> dict[str, dict[str, Any]]:
    """
    Read a file of services.

    :return: by service and key, the providers; RecordErrors for what is none.
    :raise RegistryError: the file cannot be read, or is no such list.
    """
    try:
        with open(path, "rb") as file:
            content = json.load(file) if path.endswith(".json") else tomllib.load(file)
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{path} cannot be parsed: {error}") from error
    if not isinstance(content, dict):
        raise RegistryError(f"{path} has no services: write a list of endpoints for each")
    services: dict[str, dict[str, Any]] = {}
    for service, entries in content.items():
        try:
            checkService("service", service)
        except SettingError as error:
            raise RegistryError(f"{path}: {error}") from None
        if not isinstance(entries, list):
            raise RegistryError(f'{path}: service {service} is no list, such as ["tcp:10.0.0.5:8090"]')
        records = services[service] = {}
        for position, entry in enumerate(entries, 1):
            try:
                provider = _provider(service, entry)
                if provider.id in records:
                    raise RecordError(f"id {provider.id} stands there twice")
            except RegistryError as error:
                records[f"entry {position}"] = RecordError(f"entry {position}: {error}")
            else:
                records[provider.id] = provider
    return services


def _provider(service: str, entry: Any) -> Provider:
    """:raise RecordError: the entry is no provider."""
    values = {"endpoint": entry} if isinstance(entry, str) else entry
    if not isinstance(values, dict) or not isinstance(values.get("endpoint"), str):
        raise RecordError(f"{entry!r:.100} is neither an endpoint nor a table with one")
    unknown = values.keys() - _NAMES
    if unknown:
        raise RecordError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(sorted(_NAMES))}")
    checkEndpoint(values["endpoint"], _KINDS)
    try:
        return Provider(service, **values)
    except (SettingError, TypeError) as error:
        raise RecordError(str(error)) from None
