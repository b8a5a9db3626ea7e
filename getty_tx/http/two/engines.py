"""Which engine there is: ngh2, or h2 where that is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import IEngine, IEngineEvents
    from getty_tx.http.two.limits import Limits

__all__ = ["newEngine"]


def newEngine(isServer: bool, limits: Limits, told: IEngineEvents) -> IEngine:
    """
    Make the engine of a new connection.

    :raise ImportError: neither ngh2 nor h2 is installed.
    """
    from getty_tx.http.two.ngh2engine import NgEngine

    return NgEngine(isServer, limits, told)
