"""The groups of a client with several endpoints, or with those that a registry names."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from getty_tx.client.dialing import Dialing
from getty_tx.client.group import Group, GroupSlot
from getty_tx.client.hashing import Hashing
from getty_tx.client.picking import Picker, Skip
from getty_tx.errors import NoSessionError, SettingError
from getty_tx.session.totals import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.client.client import Client
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session

__all__ = ["EndpointPool", "Pool"]

log = Logger()

#: Lines about failures in a minute: a network that is away makes all of many endpoints fail.
LINES = 50

#: Endpoints of which each is counted alone. A name in a metric costs memory wherever it is kept.
MAX_COUNTED = 100

#: Of so many providers one may be ejected; of fewer one, too.
EJECTED_OF = 10


class Pool:
    """
    The groups of a client, by id.

    :param client: the client.
    :param configure: what configures a session.
    :param changed: called when a session has opened, or when none will open in a place any more.

    :ivar groups: those that are known: dialed or not, leaving or not.
    :ivar number: places in a group.
    :ivar lastError: the last failure of any of them.
    """

    #: The client's own zone.
    zone = ""

    def __init__(self, client: Client, configure: Callable[[Session], object], changed: Callable[[], object]) -> None:
        self.client = client
        self.configure = configure
        self.changed = changed
        self.number: int = client.number
        self.groups: dict[str, Group] = {}
        self.dialing = Dialing()
        self.lastError: BaseException | None = None
        self.picker = Picker(self.zone, self.weightOf)
        self.hashing: Hashing | None = None
        self._context: ServiceContext | None = None
        self._serials = count(1)
        # Lines in the minute that began then.
        self._lines, self._minute = 0, 0.0
        self._ejected = 0
        #: How many times a group was ejected.
        self.ejections = 0
        #: How many groups are dialed.
        self.dialed = 0
        #: How many sessions are open or closing.
        self.open = 0

    # What there is

    @property
    def context(self) -> ServiceContext:
        """That of the sessions of this run, or of the last one; there is none before the first start."""
        assert self._context is not None
        return self._context

    @property
    def sessions(self) -> list[Session]:
        """The open sessions, group by group."""
        return [session for group in list(self.picker.opened) for session in group.sessions]

    @property
    def isReady(self) -> bool:
        """True while a session is open."""
        return any(group.next() is not None for group in self.picker.opened)

    @property
    def size(self) -> int:
        """How many sessions there are to be."""
        return self.number * len(self.groups)

    @property
    def failure(self) -> BaseException | None:
        """What ``client.lastError`` is."""
        return self.lastError

    @property
    def most(self) -> int | None:
        """How many sessions there can be; None: nobody knows."""
        return self.size

    def slots(self) -> Iterator[GroupSlot]:
        """All places that have been dialed."""
        for group in list(self.groups.values()):
            yield from list(group.slots)

    def endReasons(self) -> list[str]:
        """Why places are at an end, for each that is."""
        return [slot.endReason for slot in self.slots() if slot.endReason]

    def seconds(self) -> float:
        """The time on the reactor's clock."""
        return 0.0 if self._context is None else self._context.seconds()

    def mayLog(self) -> bool:
        """Whether one more failure is worth a line in the log."""
        now = self.seconds()
        if now - self._minute >= 60.0:
            self._lines, self._minute = 0, now
        self._lines += 1
        if self._lines == LINES:
            text = "{destination}: more failures are not logged for a minute"
            log.warn(text, destination=self.client.destination)
        return self._lines < LINES

    def weightOf(self, group: Group) -> float:
        """The weight of a group now."""
        return group.weight

    def find(self, given: Any) -> Group | None:
        """
        The group of a provider, a session, an id or the description of an endpoint; None: there is none.

        :raise SettingError: it is none of these.
        """
        if isinstance(given, Group):
            return given if self.groups.get(given.id) is given else None
        if isinstance(given, str):
            return self.groups.get(given)
        connection = getattr(given, "connection", None)
        if connection is not None:
            slot = getattr(connection, "factory", None)
            return slot.group if isinstance(slot, GroupSlot) else None
        id = getattr(given, "id", None)
        if not isinstance(id, str):
            raise SettingError(f"{given!r} is no session, provider, id or endpoint")
        return self.groups.get(id)

    # Counting

    @property
    def counted(self) -> tuple[str, ...]:
        """The names that sessions are counted by. Those of a registry come and go: they are counted together."""
        return (self.client.destination,)

    def endpoints(self) -> Endpoints:
        """What finds these names."""
        return Endpoints(self.client.destination)

    # Picking

    def pick(self, by: str, key: Any, exclude: Iterable[Any]) -> Session:
        """As :py:meth:`Client.pick`."""
        skip = self._skip(exclude) if exclude else None
        if by == "hash" and self.hashing is None:
            groups = self.groups.values()
            self.hashing = Hashing(group for group in groups if group.isDialed and not group.isLeaving)
        session = self.picker.pick(by, key, skip, self.hashing)
        if session is None:
            destination = self.client.destination
            if skip is not None and self.isReady:
                raise NoSessionError(f"{destination}: all open sessions are excluded")
            raise NoSessionError(self.client.because(f"{destination}: {self.describeNone()}"))
        return session

    def describeNone(self) -> str:
        """That no session is open, in words."""
        return f"none of {self.size} sessions is open"

    def _skip(self, exclude: Iterable[Any]) -> Skip:
        sessions, groups = [], []
        for each in exclude:
            if hasattr(each, "connection"):
                sessions.append(each)
            elif (group := self.find(each)) is not None:
                groups.append(group)
        return Skip(sessions, groups)

    def eject(self, given: Any, seconds: float) -> bool:
        """As :py:meth:`Client.eject`."""
        group = self.find(given)
        if group is None or group not in self.picker.opened:
            return False
        if group.ejection is not None:
            group.ejection.reset(seconds)
            return True
        most = max(self.dialed // EJECTED_OF, 1)
        left = sum(each.ejection is None for each in self.picker.opened) - 1
        if self._ejected >= most or left < 1:
            return False
        self._ejected += 1
        self.ejections += 1
        self._move(group, self.context.reactor.callLater(seconds, self._readmit, group))
        return True

    def _readmit(self, group: Group) -> None:
        self._ejected -= 1
        self._move(group, None)

    def _move(self, group: Group, ejection: Any) -> None:
        """Others are picked before ejected ones."""
        self.takeOut(group)
        group.ejection = ejection
        group.since = self.seconds()
        self.putIn(group)

    def takeOut(self, group: Group) -> None:
        """What the picker looks at is about to change."""
        self.picker.discard(group)
        if group.isDialed:
            self.picker.known(group, -1)

    def putIn(self, group: Group) -> None:
        """It has changed."""
        if group.isDialed:
            self.picker.known(group, 1)
        if group.open and not group.isLeaving:
            self.picker.add(group)

    # Groups come and go

    def make(self, id: str, destination: str, endpoint: Any = None, provider: Any = None) -> Group:
        """One more group, which is not dialed yet."""
        group = self.groups[id] = Group(self, next(self._serials), id, destination, endpoint, provider)
        return group

    def dial(self, group: Group) -> None:
        """Keep sessions with a group open."""
        if not group.isDialed:
            group.isDialed = True
            self.dialed += 1
            self.picker.known(group, 1)
            if self.hashing is not None:
                self.hashing.add(group)
            group.dial()

    def undial(self, group: Group) -> None:
        """A group is not dialed any more. Its places are another's affair."""
        self.takeOut(group)
        if group.isDialed:
            group.isDialed = False
            self.dialed -= 1
            if self.hashing is not None:
                self.hashing.discard(group)

    def forget(self, group: Group) -> None:
        """A group is no more: none of its places connects again."""
        self.undial(group)
        if group.ejection is not None:
            self._ejected -= 1
            group.ejection.cancel()
            group.ejection = None
        self.open -= group.open
        group.open = 0
        for slot in group.slots:
            slot.client = None
            slot.stopTrying()
        if self.groups.get(group.id) is group:
            del self.groups[group.id]

    def endpointOf(self, group: Group) -> IStreamClientEndpoint:
        """What connects to a group that has no endpoint yet."""
        raise NotImplementedError

    def whenKnown(self) -> Deferred[list[Group]]:
        """As :py:meth:`Client.whenKnown`."""
        return succeed(list(self.groups.values()))

    def replace(self, session: Session) -> None:
        """As :py:meth:`Client.replace`."""
        slot = getattr(session.connection, "factory", None)
        if isinstance(slot, GroupSlot) and slot.client is self.client and slot.session is session:
            slot.group.replace(slot)

    # Events of groups

    def groupOpened(self, group: Group) -> None:
        """A group has one more session, or another one."""
        self.picker.add(group)

    def groupLost(self, group: Group) -> None:
        """A group has one session less."""
        if not group.open:
            self.picker.discard(group)

    def groupFailed(self, group: Group) -> None:
        """A group has no session, and an attempt has failed."""

    # IService

    def start(self, context: ServiceContext) -> None:
        """Connect."""
        self._context = context
        self.lastError = None
        self.number = self.client.number
        self.dialing.reactor = context.reactor

    def stop(self) -> Deferred[Any] | None:
        """
        Connect no more; nothing is left that would.

        :return: fires when everything has ended; None if it has.
        """
        self.dialing.clear()
        for group in list(self.groups.values()):
            self.forget(group)
        self.hashing = None
        return None


class EndpointPool(Pool):
    """
    The groups of a list of endpoints.

    :param endpoints: descriptions, or IStreamClientEndpoint objects.
    :param connect: makes an endpoint of a description.
    """

    def __init__(self, client: Client, configure: Any, changed: Any, endpoints: list[Any], connect: Any) -> None:
        super().__init__(client, configure, changed)
        names = [each if isinstance(each, str) else repr(each) for each in endpoints]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise SettingError(f"endpoint {twice[0]!r} is there twice: for more sessions with it, use number=")
        self.names = names
        self._endpoints = endpoints
        self._connect = connect

    @property
    def size(self) -> int:
        return (self.client.number if self._context is None else self.number) * len(self.names)

    @property
    def counted(self) -> tuple[str, ...]:
        return tuple(self.names) if len(self.names) <= MAX_COUNTED else super().counted

    def endpoints(self) -> Endpoints:
        return _GroupEndpoints() if len(self.names) <= MAX_COUNTED else super().endpoints()

    def start(self, context: ServiceContext) -> None:
        super().start(context)
        made = [self._connect(each) for each in self._endpoints]
        for name, endpoint in zip(self.names, made, strict=True):
            self.make(name, name, endpoint)
        for group in list(self.groups.values()):
            # A callback of this loop may have closed the client.
            if self.groups.get(group.id) is group:
                self.dial(group)


class _GroupEndpoints(Endpoints):
    """Finds the endpoint of a session by its group."""

    __slots__ = ()

    def of(self, session: Any) -> str:
        group: Group = session.connection.factory.group
        return group.id
