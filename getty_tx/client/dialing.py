"""How many attempts to connect a pool of several endpoints makes at a time."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from getty_tx.transports.connector import EndpointConnector

__all__ = ["MAX_DIALS", "Dialing", "TurnedConnector"]

#: Attempts at a time: enough for a start, and few enough for the listening queue of a peer that all clients lose.
MAX_DIALS = 64

#: Attempts that begin in one turn of the reactor: some milliseconds.
BURST = 8


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
    """
    Gives the turns, in the order in which they are asked for.

    :ivar reactor: the reactor, from the start on.
    """

    __slots__ = ("_call", "_holds", "_isGoing", "_running", "_waiting", "reactor")

    def __init__(self) -> None:
        self.reactor: Any = None
        self._call: Any = None
        self._holds = False
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
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def hold(self) -> None:
        """Let nobody connect until ``goOn``: many are about to come."""
        self._holds = True

    def goOn(self) -> None:
        """They have come."""
        self._holds = False
        self._go()

    def _nextTurn(self) -> None:
        self._call = None
        self._go()

    def _go(self) -> None:
        # Attempts that fail at once come back here: they are taken by the loop that has started them.
        if self._isGoing or self._holds or self._call is not None:
            return
        self._isGoing = True
        left = BURST
        try:
            while self._waiting and len(self._running) < MAX_DIALS:
                if not left:
                    self._call = self.reactor.callLater(0, self._nextTurn)
                    break
                connector = self._waiting.popleft().nextConnector()
                if connector is not None:
                    left -= 1
                    self._running.add(connector)
                    connector.dial()
        finally:
            self._isGoing = False
