"""How many attempts to connect a pool of several endpoints makes at a time."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from getty_tx.transports.connector import EndpointConnector

__all__ = ["MAX_DIALS", "Dialing", "TurnedConnector"]

#: Attempts at a time: enough for a start, and few enough for the listening queue of a peer that all clients lose.
MAX_DIALS = 64


class _Dialer(Protocol):
    """Wants to connect when it is its turn."""

    def nextConnector(self) -> TurnedConnector | None:
        """What connects, or None if it does not want to any more."""


class TurnedConnector(EndpointConnector):
    """An EndpointConnector that waits for its turn."""

    dialing: Dialing

    def connect(self) -> None:
        """Start an attempt when it is its turn."""
        self.dialing.wait(self)

    def nextConnector(self) -> TurnedConnector | None:
        """This one, unless its factory was stopped meanwhile."""
        factory: Any = self.factory
        return self if factory.continueTrying else None

    def dial(self) -> None:
        """Its turn has come."""
        super().connect()


class Dialing:
    """Gives the turns, in the order in which they are asked for."""

    __slots__ = ("_isGoing", "_running", "_waiting")

    def __init__(self) -> None:
        self._running: set[TurnedConnector] = set()
        self._waiting: deque[_Dialer] = deque()
        self._isGoing = False

    def __len__(self) -> int:
        return len(self._running)

    def wait(self, dialer: _Dialer) -> None:
        """One more wants to connect."""
        self._waiting.append(dialer)
        self._go()

    def ended(self, connector: Any) -> None:
        """An attempt has ended: there is a session, or the attempt has failed."""
        if connector in self._running:
            self._running.discard(connector)
            self._go()

    def clear(self) -> None:
        """Nobody wants to connect any more."""
        self._waiting.clear()

    def _go(self) -> None:
        # Attempts that fail at once come back here: they are taken by the loop that has started them.
        if self._isGoing:
            return
        self._isGoing = True
        try:
            while self._waiting and len(self._running) < MAX_DIALS:
                connector = self._waiting.popleft().nextConnector()
                if connector is not None:
                    self._running.add(connector)
                    connector.dial()
        finally:
            self._isGoing = False
