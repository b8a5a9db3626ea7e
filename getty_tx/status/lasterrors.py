"""The last errors: what an observer hears, the same fault counted and not kept again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from getty_tx.session.addresses import formatAddress
from getty_tx.session.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.refusals import Reason
    from getty_tx.session.session import Session

__all__ = ["LastErrors"]

#: Different faults that are kept.
MOST = 50

#: Characters of a fault's text.
LENGTH = 300


class LastErrors(Observer):
    """
    Keeps the last faults of the services that it observes.

    :param names: what a service is called.
    :param seconds: the time of day.

    :ivar number: how many there were.
    """

    def __init__(self, names: Callable[[Any], str], seconds: Callable[[], float]) -> None:
        self._names = names
        self._seconds = seconds
        self.number = 0
        self._faults: dict[tuple[str, str, str], dict[str, Any]] = {}

    def error(self, session: Session, error: BaseException) -> None:
        """A session failed."""
        service = self._names(session.service)
        self._add(service, type(error).__name__, str(error), session.id, formatAddress(session.remoteAddr))

    def refused(self, service: Any, reason: Reason, why: str) -> None:
        """A connection was refused."""
        self._add(self._names(service), f"refused: {reason}", why, None, None)

    def _add(self, service: str, kind: str, text: str, session: int | None, peer: str | None) -> None:
        self.number += 1
        text = text[:LENGTH]
        # Ports, numbers of sessions and sizes are different each time.
        key = service, kind, re.sub(r"\d+", "#", text)
        fault = self._faults.pop(key, None)
        count = 1 if fault is None else fault["count"] + 1
        if len(self._faults) >= MOST:
            del self._faults[next(iter(self._faults))]
        self._faults[key] = {
            "time": self._seconds(),
            "service": service,
            "kind": kind,
            "text": text,
            "session": session,
            "peer": peer,
            "count": count,
        }

    def list(self) -> list[dict[str, Any]]:
        """The faults, the last one first."""
        return list(reversed(self._faults.values()))
