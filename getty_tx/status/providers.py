"""The endpoints of clients that have several, or follow a registry, as the status shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import nsmallest
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from getty_tx.transports.reconnecting import describeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_ROWS", "PROVIDER_STATES", "ProviderRow", "ProvidersSnapshot", "providersOf"]

#: The states of a client's endpoints, those that need somebody's attention first; see
#: :py:attr:`getty_tx.client.group.Group.state`.
PROVIDER_STATES = ("ejected", "connecting", "ended", "orphaned", "leaving", "open", "idle")

#: Rows of a client on the live page.
MAX_ROWS = 50

#: Characters of an id and of an error in a row: a registry has ids as others have written them.
MAX_TEXT = 300

#: Providers in one step of the walk, which takes less than a millisecond.
PER_STEP = 250

_RANKS = {state: rank for rank, state in enumerate(PROVIDER_STATES)}


@dataclass
class ProviderRow:
    """
    One endpoint.

    :ivar id: its description, or the provider's id in the registry.
    :ivar sessions: those that are open, of ``places``.
    :ivar seconds: how long it has been in its state.
    :ivar error: the last failure; empty where it has all sessions.
    """

    id: str
    state: str
    sessions: int
    places: int
    seconds: float
    error: str


@dataclass
class ProvidersSnapshot:
    """
    The endpoints of one client.

    :ivar states: how many there are, by state.
    :ivar ejections: how many times one was ejected.
    :ivar rows: the first ones, by state and id.
    """

    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROVIDER_STATES, 0))
    ejections: int = 0
    rows: list[ProviderRow] = field(default_factory=list)


def providersOf(client: Any) -> Iterator[ProvidersSnapshot | None]:
    """
    Gather the endpoints of a client in steps: yields None after each, and the snapshot at the end.

    :param client: a Client with several.
    """
    found = ProvidersSnapshot(ejections=client.ejections)
    states = found.states
    ranked = []
    providers = client.providers
    for start in range(0, len(providers), PER_STEP):
        for provider in providers[start : start + PER_STEP]:
            state = provider.state
            states[state] += 1
            ranked.append(((_RANKS[state], provider.id), state, provider))
        yield None
    now = max((context.seconds() for context in client.contexts), default=0.0)
    for _, state, provider in nsmallest(MAX_ROWS, ranked, key=itemgetter(0)):
        sessions = len(provider.sessions)
        error = provider.lastError
        isWell = error is None or (state == "open" and sessions >= client.number)
        text = "" if isWell else describeError(error)
        seconds = max(0.0, now - provider.since)
        row = ProviderRow(provider.id[:MAX_TEXT], state, sessions, client.number, round(seconds, 3), text[:MAX_TEXT])
        found.rows.append(row)
    yield found
