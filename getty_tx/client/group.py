"""The sessions with one provider: a group of places, each of which keeps one open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.client.dialing import TurnedConnector
from getty_tx.client.hashing import seedOf
from getty_tx.client.slot import PoolSlot
from getty_tx.transports.reconnecting import ReconnectLog

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted.internet.interfaces import IConnector, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from getty_tx.client.client import Client
    from getty_tx.client.pool import Pool
    from getty_tx.registry.provider import Provider
    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection

__all__ = ["Group", "GroupSlot"]

log = Logger()

#: The weight of an endpoint without a registry's record, and that of a record that does not say.
WEIGHT = 100


class Group:
    """
    One of ``client.providers``: the sessions with one endpoint, or with one provider that a registry names.

    Only read it: the client changes it.

    :ivar id: the provider's id, or the endpoint's description.
    :ivar provider: the :py:class:`~getty_tx.registry.Provider`; None for an endpoint without a registry.
    :ivar destination: the description of the endpoint.
    :ivar since: when it came into its state, in seconds on the reactor's clock.
    :ivar lastError: why the last attempt failed, or its session was lost; None if nothing went wrong.
    """

    __slots__ = (
        "deadline",
        "destination",
        "ejection",
        "endpoint",
        "id",
        "isDialed",
        "isFailing",
        "isLeaving",
        "isOrphaned",
        "kind",
        "lastError",
        "open",
        "period",
        "place",
        "pool",
        "provider",
        "seed",
        "serial",
        "share",
        "since",
        "slots",
        "turn",
        "warmFrom",
        "weight",
    )

    def __init__(
        self,
        pool: Pool,
        serial: int,
        id: str,
        destination: str,
        endpoint: IStreamClientEndpoint | None = None,
        provider: Provider | None = None,
    ) -> None:
        # What the files of this room share is described here.
        self.pool = pool
        #: Distinguishes groups, also those with the same id, one after the other.
        self.serial = serial
        self.id = id
        self.destination = destination
        #: None: it is made when it is needed first.
        self.endpoint = endpoint
        self.provider = provider
        self.weight = WEIGHT if provider is None else provider.weight
        self.slots: list[GroupSlot] = []
        #: How many of the places have a session.
        self.open = 0
        #: The place whose turn it is.
        self.turn = 0
        self.isDialed = self.isLeaving = self.isOrphaned = False
        #: An attempt has failed, or a session was lost, since there was one.
        self.isFailing = False
        #: The call that ends its ejection.
        self.ejection: Any = None
        #: When its weight began to grow, in seconds; None: it has all of it, or no session yet. ``inf``: from its first
        #: session on.
        self.warmFrom: float | None = None
        self.since = pool.seconds()
        self.lastError: BaseException | None = None
        # Of the picker: where it stands among those that may be picked, -1: nowhere; when it is its turn, and again.
        self.place = -1
        self.deadline = self.period = 0.0
        self.kind: Any = None
        self.share: int | None = None
        #: Of hashing.
        self.seed = seedOf(id)

    def __repr__(self) -> str:
        return f"<Group {self.id}: {self.state}, {self.open} sessions>"

    @property
    def state(self) -> str:
        """
        ``"open"``: it has a session. ``"connecting"``: none at present. ``"ended"``: none any more, as its sessions
        were given up, or have closed themselves. ``"ejected"``: it has one, but is not picked. ``"orphaned"``: its
        record is gone. ``"leaving"``: it is about to stop. ``"idle"``: it is not in the subset.
        """
        if self.isLeaving:
            return "leaving"
        if self.isOrphaned:
            return "orphaned"
        if self.open:
            return "open" if self.ejection is None else "ejected"
        if not self.isDialed:
            return "idle"
        isEnded = self.slots and len(self.slots) == self.pool.number and all(slot.endReason for slot in self.slots)
        return "ended" if isEnded else "connecting"

    @property
    def sessions(self) -> list[Session]:
        """Its open sessions."""
        return [slot.session for slot in self.slots if slot.session is not None and not slot.session.isClosed]

    # Picking

    @property
    def only(self) -> Session | None:
        """The session of its place, which may be closed; None: it has several places, or no session."""
        slots = self.slots
        return slots[0].session if len(slots) == 1 else None

    def next(self, skipped: Collection[Session] = ()) -> Session | None:
        """The open session whose turn it is, or None."""
        slots = self.slots
        number = len(slots)
        if number == 1:
            session = slots[0].session
            if session is None or session.isClosed or session in skipped:
                return None
            return session
        for index in range(self.turn, self.turn + number):
            session = slots[index % number].session
            if session is not None and not session.isClosed and session not in skipped:
                self.turn = (index + 1) % number
                return session
        return None

    def least(self, skipped: Collection[Session] = ()) -> Session | None:
        """The open session with the fewest pending bytes; of several the one whose turn it is."""
        if len(self.slots) > 1:
            sessions = [each for each in self.sessions if each not in skipped]
            least = min((each.pendingBytes for each in sessions), default=0)
            skipped = [*skipped, *(each for each in sessions if each.pendingBytes > least)]
        return self.next(skipped)

    def at(self, number: int, skipped: Collection[Session] = ()) -> Session | None:
        """The open session of the place with this number, or of the next one that has one."""
        slots = self.slots
        for index in range(len(slots)):
            session = slots[(number + index) % len(slots)].session
            if session is not None and not session.isClosed and session not in skipped:
                return session
        return None

    # Dialing

    def dial(self) -> None:
        """Keep sessions open from now on."""
        self.isFailing = False
        for _ in range(self.pool.number):
            self.pool.dialing.wait(self)

    def nextConnector(self) -> TurnedConnector | None:
        """One of its places may connect."""
        if not self.isDialed or self.isOrphaned or len(self.slots) >= self.pool.number:
            return None
        try:
            if self.endpoint is None:
                self.endpoint = self.pool.endpointOf(self)
        except Exception as error:
            # A description that cannot be used, from a registry or from the user's own function.
            self.pool.undial(self)
            self.failed(error)
            log.warn("{id}: cannot be dialed: {error}", id=self.id, error=error)
            return None
        slot = self._slot()
        self.slots.append(slot)
        return slot.endpointConnector

    def _slot(self) -> GroupSlot:
        client = self.pool.client
        slot = GroupSlot(self, client)
        assert self.endpoint is not None
        connector = TurnedConnector(
            self.endpoint, slot, self.pool.context.reactor, timeout=client.connectTimeout, destination=self.destination
        )
        connector.dialing = self.pool.dialing
        slot.endpointConnector = connector
        return slot

    def replace(self, slot: GroupSlot) -> None:
        """Open another session in place of a place's, which whoever asks for it closes."""
        index = self.slots.index(slot)
        self.detach(slot)
        if self.isDialed and not self.isOrphaned:
            successor = self._slot()
            self.slots.insert(index, successor)
            successor.follow(slot)

    def detach(self, slot: GroupSlot) -> None:
        """A place is none of the group's any more. Its session goes on, and is not replaced."""
        slot.client = None
        slot.stopTrying()
        self.slots.remove(slot)
        if slot.session is not None:
            self.lost()

    def abandon(self) -> None:
        """Keep the sessions that are open, and open no others."""
        for slot in list(self.slots):
            if slot.session is None or slot.session.isClosed:
                self.detach(slot)
            else:
                slot.stopTrying()

    def revive(self) -> None:
        """Open others again."""
        for slot in list(self.slots):
            if slot.session is None or slot.session.isClosed:
                self.detach(slot)
            else:
                slot.continueTrying = 1
        for _ in range(self.pool.number - len(self.slots)):
            self.pool.dialing.wait(self)

    # Events of its places

    def opened(self, isMore: bool) -> None:
        """A place has a session. :param isMore: it had none."""
        self.isFailing = False
        if isMore:
            self.open += 1
            self.pool.open += 1
            if self.open == 1:
                self.since = self.pool.seconds()
        self.pool.groupOpened(self)

    def lost(self) -> None:
        """A place has lost its session."""
        self.open -= 1
        self.pool.open -= 1
        if not self.open:
            self.isFailing = True
            self.since = self.pool.seconds()
        self.pool.groupLost(self)

    def failed(self, error: BaseException) -> None:
        """An attempt has failed, or its session was as short as that of one."""
        self.lastError = error
        if not self.isFailing:
            self.isFailing = True
            self.pool.groupFailed(self)


class GroupSlot(PoolSlot):
    """A place of a group."""

    endpointConnector: TurnedConnector

    def __init__(self, group: Group, client: Client) -> None:
        self.group = group
        pool = group.pool
        super().__init__(client, pool.configure, pool.changed, pool.context, _GroupLog(group))

    @property
    def provider(self) -> Provider | None:
        """What ``session.provider`` is."""
        return self.group.provider

    def sessionOpened(self, connection: Connection) -> None:
        self.group.pool.dialing.ended(self.endpointConnector)
        session = connection.session
        if self.client is not None:
            isMore = self.session is None
            self.session = session
            self.group.opened(isMore)
        elif session is not None:
            # It was let go while it shook hands.
            session.close()
        super().sessionOpened(connection)

    def sessionEnded(self, connection: Connection, error: BaseException | None) -> None:
        isLast = self.session is connection.session
        super().sessionEnded(connection, error)
        if isLast and self.client is not None:
            self.group.lost()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.group.pool.dialing.ended(connector)
        super().clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, unused_reason: Failure) -> None:
        self.group.pool.dialing.ended(connector)
        super().clientConnectionLost(connector, unused_reason)


class _GroupLog(ReconnectLog):
    """The log of a group's places, which tells the pool its last error."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group

    def failed(self, destination: str, error: BaseException) -> None:
        if self._group.pool.mayLog():
            super().failed(destination, error)
        self._group.pool.lastError = error
        self._group.failed(error)

    def lost(self, error: BaseException | None) -> None:
        super().lost(error)
        if error is not None:
            self._group.lastError = self._group.pool.lastError = error
