"""What engines of a registry talk to, in place of a registry and of the kernel."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from getty_tx.registry.interfaces import IEngineUser, IRecordSink


@implementer(IEngineUser)
class User:
    """Notes what an engine says."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def engineConnected(self) -> None:
        self.said.append(True)

    def engineDisconnected(self, error: BaseException) -> None:
        self.said.append(str(error))

    def recordsLost(self) -> None:
        self.said.append("lost")


@implementer(IRecordSink)
class Sink:
    """Notes what is reported, and what is there then."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.reports: list[str] = []
        self.smallest: int | None = None
        self._waiting: list[tuple[Any, Deferred[None]]] = []

    def recordsAre(self, records: Any) -> None:
        self.records = dict(records)
        self._report("are")

    def recordsChanged(self, written: Any, gone: Any) -> None:
        assert not written.keys() & set(gone)
        self.records.update(written)
        for key in gone:
            del self.records[key]
        self._report("changed")

    def interrupted(self, error: BaseException) -> None:
        self._report(f"interrupted: {error}")

    def resumed(self) -> None:
        self._report("resumed")

    def when(self, condition: Any) -> Deferred[None]:
        """Fires when this is true of the records."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._fire()
        return done

    def _report(self, what: str) -> None:
        self.reports.append(what)
        self.smallest = len(self.records) if self.smallest is None else min(self.smallest, len(self.records))
        self._fire()

    def _fire(self) -> None:
        for each in list(self._waiting):
            if self.reports and each[0](self.records):
                self._waiting.remove(each)
                each[1].callback(None)


class Notices:
    """In place of the kernel's: says what a test says."""

    def __init__(self, heard: Any, lost: Any) -> None:
        self.heard, self.lost = heard, lost
        self.watched: set[str] = set()
        self.isClosed = False

    def watch(self, path: str, files: bool) -> None:
        os.stat(path)
        self.watched.add(path)

    def ignore(self, path: str) -> None:
        self.watched.discard(path)

    def close(self) -> None:
        self.isClosed = True
