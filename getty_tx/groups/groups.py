"""Groups: the service that has them all, the engine, and the turns in which publications go out."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python import threadable
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.groups.errors import EngineDownError, GroupError, tooLong
from getty_tx.groups.fanout import Turns
from getty_tx.groups.group import Group
from getty_tx.groups.interfaces import IEngine, IEngineUser
from getty_tx.groups.kinds import Entry
from getty_tx.groups.memory import MemoryEngine
from getty_tx.groups.namespaces import Namespace, checkName, namespaceOf
from getty_tx.groups.packing import packedOf
from getty_tx.groups.publication import CLOSE, EXCLUSIVE, Publication, Retention
from getty_tx.groups.queueing import PublishQueue
from getty_tx.groups.stats import GroupStats
from getty_tx.groups.users import KICKED, Leaving, closeOthers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from getty_tx.groups.publication import Member, Position

__all__ = ["Groups", "running", "stopped"]

log = Logger()

#: Those of this process that have started and not stopped.
_running: WeakSet[Groups] = WeakSet()


def running() -> list[Groups]:
    """All that run in this process, in no order. The status finds them here."""
    return list(_running)


def stopped() -> Deferred[Any]:
    """What is answered after the end."""
    return fail(EngineDownError("the groups have stopped"))


@implementer(IEngineUser)
class Groups(Service):
    """
    Rooms, broadcast, history and presence for the sessions of this process, and of all that share the engine.

    A session of any Server or Client of this reactor may be a member. It is a service of Twisted; one that nobody has
    started starts with the first that joins or publishes, and stops with the reactor, after its servers.

    :param engine: a text such as ``redis://127.0.0.1``, or an :py:class:`~getty_tx.groups.IEngine`. None: that of
        ``GETTY_GROUPS`` in the environment; without it the groups of this process, in a sub-reactor those of all.
    :param namespaces: settings by the word before ``:`` in a group's name; those of ``""`` for all other names.
    :raise SettingError: the engine is none; or this sub-reactor has other Groups without one, which are not stopped.
    """

    def __init__(
        self,
        engine: Any = None,
        namespaces: Mapping[str, Namespace] | None = None,
        *,
        reactor: Any = None,
    ) -> None:
        from getty_tx.groups.engines import engineFrom

        self.engine: IEngine = engineFrom(engine, self)
        # Nobody makes bytes of a package before it is on its way to its members.
        self._isLocal = isinstance(self.engine, MemoryEngine)
        self._namespaces = {"": Namespace(), **(namespaces or {})}
        for name, each in self._namespaces.items():
            if not isinstance(each, Namespace):
                raise SettingError(f"namespaces: {name!r} has {each!r}, which is no Namespace")
        self._reactor = reactor
        self.stats: dict[str, GroupStats] = {name: GroupStats() for name in self._namespaces}
        self._groups: WeakValueDictionary[str, Group] = WeakValueDictionary()
        # Some had their last member a moment ago.
        self._active: dict[str, Group] = {}
        # Sessions that are left out of publications under way, by id.
        self._publishers: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._subscribing: dict[str, list[Deferred[None]]] = {}
        self._leaving = Leaving(self)
        self._queue = PublishQueue(self)
        self._waiting: list[Deferred[None]] = []
        self._thread = 0
        # What waits until the engine is there for the first time; None: it was, or it has said that it is away.
        self._starting: list[Deferred[None]] | None = None
        self._wasStarted = False
        self.lastError: BaseException | None = None

    # The service

    def startService(self) -> None:
        """Start the engine."""
        Service.startService(self)
        self._wasStarted = True
        self.reactor = self._installed()
        self.seconds: Callable[[], float] = self.reactor.seconds
        self._thread = get_ident()
        self.turns = Turns(self.reactor)
        _running.add(self)
        self._starting = []
        try:
            self.engine.start(self.reactor, self)
        except Exception:
            self._starting = None
            self.running = 0
            _running.discard(self)
            raise

    def _installed(self) -> Any:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

    def runs(self) -> bool:
        """Whether it runs. Starts it, if nobody has."""
        if not self._wasStarted:
            self._installed().addSystemEventTrigger("during", "shutdown", self.stopService)
            self.startService()
        return bool(self.running)

    def stopService(self) -> Deferred[None]:
        """Stop the engine. Members stay, and get nothing more."""
        if not self.running:
            return succeed(None)
        Service.stopService(self)
        _running.discard(self)
        self.turns.stop()
        self._leaving.stop()
        self._queue.stop(EngineDownError("the groups have stopped"))
        starting, self._starting = self._starting, None
        for each in starting or ():
            each.errback(EngineDownError("the groups have stopped"))
        for group in self._active.values():
            group.stop()
        return self.engine.stop()

    def whenReady(self) -> Deferred[None]:
        """Fires when the engine is there; at once if it is."""
        waiting: Deferred[None] = Deferred(lambda waiting: self._waiting.remove(waiting))
        if self.running and self.engine.isUp:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    @property
    def isUp(self) -> bool:
        """Whether the engine is there."""
        return bool(self.running and self.engine.isUp)

    @property
    def active(self) -> Mapping[str, Group]:
        """The groups that have members in this process, by name."""
        return {name: group for name, group in self._active.items() if group.size}

    # What applications call

    def group(self, name: str) -> Group:
        """
        The group with this name. Nothing is made by asking: it begins with its first member.

        :raise GroupError: the name is empty, too long, or has blanks or control characters.
        """
        group = self._groups.get(name)
        if group is None:
            space = namespaceOf(checkName(name))
            if space not in self._namespaces:
                space = ""
            group = self._groups[name] = Group(self, name, self._namespaces[space], self.stats[space])
        return group

    def publish(
        self, group: Group, pkg: Any, but: Any = None, key: str | None = None, id: str | None = None
    ) -> Deferred[Position | None]:
        """See :py:meth:`Group.publish`."""
        if get_ident() != (self._thread or threadable.ioThread or get_ident()):
            result: Deferred[Position | None] = Deferred()
            reactor = self._installed()
            reactor.callFromThread(lambda: self.publish(group, pkg, but, key, id).chainDeferred(result))
            return result
        if not self.runs():
            return stopped()
        namespace = group.namespace
        if group.isFull:
            what = f"{group.name}: maxWaiting={namespace.maxWaiting} bytes wait for members already"
            return fail(GroupError(f"{what}: publish less, or after the Deferred of the last one"))
        limit, size = namespace.maxPublication, 0
        if isinstance(pkg, bytes | str):
            size = len(pkg)
            # A character is up to four bytes.
            if size * 4 > limit and isinstance(pkg, str) and not pkg.isascii():
                size = len(pkg.encode(errors="surrogatepass"))
        elif self._isLocal:
            size = group.encodedAhead(pkg)
        if size > limit:
            return fail(tooLong(group.name, size, limit))
        publisher = 0
        if but is not None:
            publisher = but.id
            self._publishers[publisher] = but
        publication = Publication(pkg, key=key, publisher=publisher, size=size, limit=limit)
        group.stats.published += 1
        if not self.engine.isUp and namespace.whenDown != "fail" and self._starting is None:
            return self._publishWhileDown(group, publication, id)
        return self.ask("publish", group.name, publication, namespace.retention, id)

    def _publishWhileDown(self, group: Group, publication: Publication, id: str | None) -> Deferred[Position | None]:
        if group.namespace.whenDown == "queue":
            try:
                # What waits is bounded by its bytes.
                packedOf(publication, group.name)
            except GroupError as error:
                return fail(error)
            return self._queue.add(group, publication, id)
        publication.size = publication.size or group.encodedAhead(publication.pkg)
        if publication.size > publication.limit:
            return fail(tooLong(group.name, publication.size, publication.limit))
        group.enter(publication)
        return succeed(None)

    def sendTo(self, user: str, pkg: Any) -> Deferred[Position | None]:
        """Publish to all sessions of a user: the members of the group ``user:ID``."""
        return self.group(f"user:{user}").publish(pkg)

    def closeUser(self, user: str, reason: str = "", but: Any = None, code: int = KICKED) -> Deferred[None]:
        """
        Close all sessions of a user, in all processes: WebSockets with a code, 4002 unless told otherwise.

        :param code: 3000 to 4999.
        :param but: a session of this process that stays.
        """
        if not self.runs():
            return stopped()
        pkg = {"reason": reason, "but": "" if but is None else self.keyOf(but), "code": code}
        told = self.ask("publish", f"user:{user}", Publication(pkg, kind=CLOSE), Retention())
        return told.addCallback(lambda _: None)

    def ask(self, question: str, *arguments: Any) -> Deferred[Any]:
        """Ask the engine, by the name of its method."""
        if not self.runs():
            return stopped()
        if self._starting is not None:
            # The first ones need not fail because they were so early.
            waiting: Deferred[Any] = Deferred()
            self._starting.append(waiting)
            return waiting.addCallback(lambda _: getattr(self.engine, question)(*arguments))
        answer: Deferred[Any] = getattr(self.engine, question)(*arguments)
        return answer

    # What the engine tells

    def publicationArrived(self, name: str, publication: Publication) -> None:
        """See :py:class:`~getty_tx.groups.IEngineUser`."""
        group = self._active.get(name)
        if group is None or not group.size:
            return
        if publication.kind in (EXCLUSIVE, CLOSE):
            closeOthers(group, publication)
        else:
            group.arrived(publication)

    def publicationsMissed(self, name: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngineUser`."""
        group = self._active.get(name)
        if group is not None and group.size:
            group.missed()

    def membersChanged(self, name: str, joined: Sequence[Member], left: Sequence[Member]) -> None:
        """See :py:class:`~getty_tx.groups.IEngineUser`."""
        group = self._active.get(name)
        if group is not None and group.namespace.joinLeave:
            self._leaving.changed(group, joined, left)

    def engineUp(self) -> None:
        """See :py:class:`~getty_tx.groups.IEngineUser`."""
        if self.lastError is not None:
            log.info("groups: {engine} is back", engine=self.engine.description)
        self.lastError = None
        starting, self._starting = self._starting, None
        waiting, self._waiting = [*self._waiting, *(starting or ())], []
        for each in waiting:
            each.callback(None)
        self._queue.send()
        self._tellState(True, None)

    def engineDown(self, error: BaseException) -> None:
        """See :py:class:`~getty_tx.groups.IEngineUser`."""
        self.lastError = error
        starting, self._starting = self._starting, None
        for each in starting or ():
            each.errback(EngineDownError(str(error)))
        what, engine = str(error), self.engine.description
        if not what.startswith(engine):
            what = f"{engine} is away: {what}"
        log.warn("groups: {what}", what=what)
        self._tellState(False, error)

    def _tellState(self, isUp: bool, error: BaseException | None) -> None:
        listeners = {id(each.listener): each for each in self._namespaces.values() if each.listener is not None}
        for namespace in listeners.values():
            self.tell(namespace, "onState", self, isUp, error)

    # For the room

    def keyOf(self, session: Any) -> str:
        """What names a session in all processes."""
        return f"{self.engine.node}:{session.id}"

    def publisher(self, number: int) -> Any:
        """The session with this id that was left out of a publication; None: it is gone."""
        return self._publishers.get(number)

    def isSettled(self, group: Group) -> bool:
        """Whether its subscription is in force."""
        return bool(self.running) and group.name not in self._subscribing

    def isJoined(self, group: Group) -> Deferred[None] | None:
        """
        A session joins: subscribe, if it is the first.

        :return: fires when the subscription is in force; None: it is.
        """
        if not self.runs():
            return stopped()
        name = group.name
        if name not in self._active:
            self._active[name] = group
            subscribed = self.ask("subscribe", name)
            if subscribed.called and not subscribed.paused:
                # In most processes that is the end of it.
                return subscribed
            self._subscribing[name] = []
            subscribed.addBoth(self._subscribed, name)
        waiting = self._subscribing.get(name)
        if waiting is None:
            return None
        result: Deferred[None] = Deferred()
        waiting.append(result)
        return result

    def _subscribed(self, outcome: Any, name: str) -> None:
        for each in self._subscribing.pop(name, ()):
            each.callback(outcome)

    def hasLeft(self, group: Group, session: Any) -> None:
        """A session has left."""
        if group.namespace.presence and self.running:
            self.engine.absent(group.name, self.keyOf(session))
        if not group.size and self._active.get(group.name) is group:
            group.stop()
            if self._isLocal or not (self.running and self._leaving.lingers(group)):
                self.emptied(group)

    def emptied(self, group: Group) -> None:
        """A group has no members here any more, and nothing is to be heard of it."""
        del self._active[group.name]
        if self.running:
            self.engine.unsubscribe(group.name)
        self._leaving.forget(group.name)

    def entryOf(self, group: Group, publication: Publication) -> Entry:
        """A publication of the history, for one member."""
        wrap = group.namespace.wrap
        pkg = publication.pkg if wrap is None else self.wrapped(wrap, group, publication)
        return Entry(0, pkg, publication.key, 0, publication.size, 0.0)

    def wrapped(self, wrap: Callable[[Any, Any], Any], group: Group, publication: Publication) -> Any:
        """What members get. If ``wrap`` fails, the package as it was published."""
        try:
            return wrap(group, publication)
        except Exception:
            log.failure("{group}: wrap() failed", group=group.name)
            return publication.pkg

    def tell(self, namespace: Namespace, event: str, *arguments: Any) -> None:
        """Call a listener. What it raises is logged."""
        if namespace.listener is None:
            return
        try:
            getattr(namespace.listener, event)(*arguments)
        except Exception:
            log.failure("{listener}: {event} failed", listener=namespace.listener, event=event)
