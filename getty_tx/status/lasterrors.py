"""The list of the last errors: an observer that stores errors and refusals, and counts repetitions of the same one."""

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

#: Different errors that are stored.
MAX_ERRORS = 50

#: Characters of an error's text.
MAX_TEXT = 300


class LastErrors(Observer):
    """
    Stores the last errors of the services that it observes.

    :param names: returns the display name of a service.
    :param seconds: returns the time of day, as ``time.time``.

    :ivar number: all errors so far, repetitions included.
    """

    def __init__(self, names: Callable[[Any], str], seconds: Callable[[], float]) -> None:
        self._names = names
        self._seconds = seconds
        self.number = 0
        self._errors: dict[tuple[str, str, str], dict[str, Any]] = {}

    def error(self, session: Session, error: BaseException) -> None:
        """A session failed."""
        service = self._names(session.service)
        self._add(service, type(error).__name__, str(error), session.id, formatAddress(session.remoteAddr))

    def refused(self, service: Any, reason: Reason, why: str) -> None:
        """A connection was refused."""
        self._add(self._names(service), f"refused: {reason}", why, None, None)

    def _add(self, service: str, kind: str, text: str, session: int | None, peer: str | None) -> None:
        self.number += 1
        text = text[:MAX_TEXT]
        # Numbers are ignored: ports, session ids and sizes differ each time.
        key = service, kind, re.sub(r"\d+", "#", text)
        repeated = self._errors.pop(key, None)
        count = 1 if repeated is None else repeated["count"] + 1
        if len(self._errors) >= MAX_ERRORS:
            del self._errors[next(iter(self._errors))]
        self._errors[key] = {
            "time": self._seconds(),
            "service": service,
            "kind": kind,
            "text": text,
            "session": session,
            "peer": peer,
            "count": count,
        }

    def list(self) -> list[dict[str, Any]]:
        """The errors, newest first."""
        return list(reversed(self._errors.values()))
