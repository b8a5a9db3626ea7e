"""The folder of a service, as ``dir:`` reads it: which of its files are left over, and what has changed since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.lockfiles import checkFolder, isRecord, keyOf, readLocked, removeLeftover, stemOf
from getty_tx.registry.provider import decodeRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Folder"]


class Folder:
    """
    What is known of a service's folder.

    Several files may have one key, for a moment while a record is replaced: the newest counts.

    :param kinds: the kinds of endpoints that records may name.
    """

    __slots__ = ("_files", "_gone", "_keys", "_kinds", "_times", "_told", "_written", "path", "records", "service")

    def __init__(self, service: str, path: str, kinds: Collection[str]) -> None:
        self.service = service
        self.path = path
        #: Records by key.
        self.records: dict[str, Any] = {}
        self._kinds = kinds
        # By name of the file: the record, and when it was written, in ns. Names by key, in tuples. The garbage
        # collector looks at no numbers, nor at tuples of texts; its full collections are a reactor's longest turns.
        self._files: dict[str, Any] = {}
        self._times: dict[str, int] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        # Since the last call of changes(), and the keys that were there then.
        self._written: dict[str, Any] = {}
        self._gone: dict[str, None] = {}
        self._told: set[str] = set()

    def names(self) -> Iterator[str]:
        """
        The names of all files that are there or were: to be looked at one by one.

        :raise RegistryError: others can write to the folder.
        :raise OSError: it cannot be read. One that is not there is empty.
        """
        known = set(self._files)
        try:
            checkFolder(self.path)
            with os.scandir(self.path) as entries:
                for entry in entries:
                    name = entry.name
                    if isRecord(name):
                        known.discard(name)
                        yield name
                    else:
                        removeLeftover(entry.path)
        except FileNotFoundError:
            pass
        yield from known

    def look(self, name: str) -> bool:
        """Look at a file. Returns whether who wrote it lives."""
        isKnown = name in self._files
        try:
            found = readLocked(f"{self.path}/{name}", isKnown)
        except (OSError, RecordError) as error:
            if not isKnown:
                # Such as too many open files: looked at again next time.
                wrong = error if isinstance(error, RecordError) else RecordError(f"it cannot be read: {error.strerror}")
                self._add(name, 0, wrong)
            return True
        if found is None:
            self.forget(name)
        elif not isKnown:
            self._add(name, found[0], self._record(name, found[1]))
        return found is not None

    def forget(self, name: str) -> None:
        """A file is gone."""
        if self._files.pop(name, None) is not None:
            del self._times[name]
            key = keyOf(name)
            self._keys[key] = tuple(each for each in self._keys[key] if each != name)
            self._settle(key)

    def changes(self) -> tuple[dict[str, Any], list[str]]:
        """The records that were written since the last call, by key, and the keys of those that are gone."""
        written, gone = self._written, list(self._gone)
        self._written, self._gone = {}, {}
        self._told.update(written)
        self._told.difference_update(gone)
        return written, gone

    def _add(self, name: str, written: int, record: Any) -> None:
        key = keyOf(name)
        self._files[name] = record
        self._times[name] = written
        self._keys[key] = (*self._keys.get(key, ()), name)
        self._settle(key)

    def _settle(self, key: str) -> None:
        """Some file of this key has come or gone."""
        names = self._keys[key]
        if not names:
            del self._keys[key], self.records[key]
            self._written.pop(key, None)
            if key in self._told:
                self._gone[key] = None
            return
        record = self._files[names[0] if len(names) == 1 else max(names, key=self._times.__getitem__)]
        self._gone.pop(key, None)
        known = self.records.get(key)
        if record is not known and record != known:
            self.records[key] = self._written[key] = record

    def _record(self, name: str, data: bytes) -> Any:
        try:
            provider = decodeRecord(data, self.service, self._kinds)
        except RegistryError as error:
            return error
        key = keyOf(name)
        # Most ids need no encoding.
        if (provider.id != key or "%" in key) and stemOf(provider.id) != key:
            return RecordError(f"it has the id {provider.id!r:.100}, which is another's")
        return provider
