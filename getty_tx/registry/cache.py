"""The last list of a service's providers in a file, for a start while the registry is away."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.registry.provider import decodeRecord, encodeRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.provider import Provider

__all__ = ["WRITE_INTERVAL", "Cache"]

log = Logger()

#: Seconds between two writes at the least.
WRITE_INTERVAL = 10.0


class Cache:
    """
    A file with the records of one service.

    :param path: it is written under a temporary name beside it, and renamed.
    """

    def __init__(self, path: str, service: str) -> None:
        self.path = path
        self._service = service
        self._providers: Mapping[str, Provider] = {}
        self._call: IDelayedCall | None = None
        self._writtenAt: float | None = None
        self._failed = False

    def load(self, kinds: Collection[str]) -> list[Provider]:
        """The providers of the file; none if there is no such file, or if it cannot be used."""
        try:
            with open(self.path, "rb") as file:
                content = json.load(file)
            if content["service"] != self._service:
                raise ValueError(f"it is of service {content['service']!r}")
            records = [json.dumps(record).encode() for record in content["providers"]]
            return [decodeRecord(record, self._service, kinds) for record in records]
        except FileNotFoundError:
            return []
        except Exception as error:
            log.warn("cache={path!r} cannot be used: {reason}", path=self.path, reason=error)
            return []

    def changed(self, reactor: Any, providers: Mapping[str, Provider]) -> None:
        """Write these, now or when the last write is long enough ago."""
        self._providers = providers
        if self._call is not None:
            return
        now = reactor.seconds()
        if self._writtenAt is None or now - self._writtenAt >= WRITE_INTERVAL:
            self._write(reactor)
        else:
            self._call = reactor.callLater(self._writtenAt + WRITE_INTERVAL - now, self._write, reactor)

    def flush(self) -> None:
        """Write what waits."""
        if self._call is not None:
            self._call.cancel()
            self._write(None)

    def _write(self, reactor: Any) -> None:
        self._call = None
        if reactor is not None:
            self._writtenAt = reactor.seconds()
        records = [json.loads(encodeRecord(each)) for each in self._providers.values() if not each.isLeaving]
        if not records:
            return
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"service": self._service, "providers": records}, file)
            os.replace(temporary, self.path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warn("cache={path!r} cannot be written: {reason}", path=self.path, reason=error)
            self._failed = True
