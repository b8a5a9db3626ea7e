"""Which groups are brought to this process, what comes of them, and what an outage has cost them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from getty_tx.groups.errors import EngineDownError, GroupError
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.envelope import EnvelopeError, membersFrom, publicationFrom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from getty_tx.groups.interfaces import IEngineUser
    from getty_tx.groups.publication import Position
    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.layout import Layout
    from getty_tx.groups.redis.publishing import Publishing

__all__ = ["BATCH", "MAX_HELD", "Subscription", "Subscriptions", "Together"]

log = Logger()

#: Channels of one SUBSCRIBE; Centrifugo's number.
BATCH = 512

#: Bytes of messages that are kept until the engine is up again.
MAX_HELD = 16 * 1024 * 1024


class Subscription:
    """
    A group that is brought to this process.

    :ivar isConfirmed: Redis has said that it brings this one, on this connection.
    :ivar isInForce: its SUBSCRIBE was answered.
    :ivar waiting: whom to tell that it is in force.
    :ivar top: the position of the last publication; None: none has come, and nobody has asked.
    :ivar own: what this process publishes, until it comes back.
    :ivar unarrived: what was answered and has not come back, of all groups.
    :ivar isMissed: publications may have been missed while the engine was away.
    :ivar newTop: the position of the last publication after an outage.
    """

    __slots__ = (
        "channel",
        "isConfirmed",
        "isInForce",
        "isMissed",
        "name",
        "newTop",
        "own",
        "top",
        "unarrived",
        "waiting",
    )

    def __init__(self, name: str, channel: bytes, unarrived: set[Publishing]) -> None:
        self.name = name
        self.channel = channel
        self.unarrived = unarrived
        self.isConfirmed = self.isInForce = self.isMissed = False
        self.waiting: list[Deferred[None]] = []
        self.top: Position | None = None
        self.newTop: Position | None = None
        self.own: deque[Publishing] = deque()


class Subscriptions:
    """
    All of them.

    :param token: names this process in messages.
    :ivar byName: those that are wanted.
    :ivar hasChanges: some are not sent yet.
    :ivar garbage: messages that were none, and were skipped.
    """

    def __init__(self, connection: Connection, layout: Layout, user: IEngineUser, token: bytes) -> None:
        self._connection = connection
        self._layout = layout
        self._user = user
        self._token = token
        self.byName: dict[str, Subscription] = {}
        self._byChannel: dict[bytes, Subscription] = {}
        # Those whose SUBSCRIBE was sent on this connection, and the channels for which something is to be sent.
        self._sent: dict[bytes, Subscription] = {}
        self._changed: dict[bytes, None] = {}
        self._unarrived: set[Publishing] = set()
        # What comes before the engine is up; None: it is up.
        self._held: list[tuple[bytes, bytes]] | None = []
        self._heldBytes = 0
        self.garbage = 0

    # What is wanted

    def add(self, name: str, down: Exception | None) -> Deferred[None]:
        """
        Want a group.

        :param down: the engine is down, why: the group is subscribed to when it is up again.
        :return: fires when it is in force, after :py:meth:`sendChanges`.
        """
        subscription = self.byName.get(name)
        if subscription is None:
            subscription = Subscription(name, self._layout.channel(name), self._unarrived)
            self.byName[name] = self._byChannel[subscription.channel] = subscription
            self._changed[subscription.channel] = None
        if down is not None:
            return fail(down)
        if subscription.isInForce:
            return succeed(None)
        done: Deferred[None] = Deferred()
        subscription.waiting.append(done)
        return done

    def remove(self, name: str) -> None:
        """Want a group no more. Whoever still waits for it is told that there is nothing to wait for."""
        subscription = self.byName.pop(name, None)
        if subscription is not None:
            del self._byChannel[subscription.channel]
            self._changed[subscription.channel] = None
            _cameBack(subscription.own)
            _fire(subscription)

    def sentFor(self, name: str) -> Subscription | None:
        """The subscription of a group whose SUBSCRIBE is sent before what is sent now; None: there is none."""
        subscription = self.byName.get(name)
        if subscription is not None and self._sent.get(subscription.channel) is not subscription:
            self.sendChanges()
        return subscription

    @property
    def hasChanges(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._changed)

    def sendChanges(self, done: Callable[[Exception | None], object] | None = None) -> None:
        """
        Send what has changed.

        :param done: called once, when all is answered; by default each group's Deferred fires.
        """
        changed, self._changed = self._changed, {}
        # One that nobody wanted any more and somebody wants again is another one.
        removed = [each for each in changed if each in self._sent and self._sent[each] is not self._byChannel.get(each)]
        for each in removed:
            del self._sent[each]
        added = [self._byChannel[each] for each in changed if each in self._byChannel and each not in self._sent]
        self._sent.update((each.channel, each) for each in added)
        for batch in _batches(removed):
            self._connection.sendSubscription(_noted, b"UNSUBSCRIBE", *batch)
        calls = Together(done)
        for subscriptions in _batches(added):
            self._subscribe(subscriptions, calls.one())
        calls.allBegun()

    def _subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Any], object]) -> None:
        def answered(error: Any) -> None:
            wanted = [each for each in subscriptions if self._byChannel.get(each.channel) is each]
            if error is None and not all(each.isConfirmed for each in wanted):
                error = EngineDownError("Redis has not confirmed a subscription")
                self._connection.fail(error)
            if error is None:
                for each in wanted:
                    each.isInForce = True
                    _fire(each)
            elif isinstance(error, ReplyError) and len(subscriptions) > 1:
                # It may refuse one of them only.
                for each in subscriptions:
                    self._subscribe([each], calls.one())
            elif isinstance(error, ReplyError):
                error = self._refused(subscriptions[0], error)
            if error is not None and not isinstance(error, ReplyError):
                self._fail(subscriptions, error)
            calls.allBegun(None if isinstance(error, ReplyError) else error)

        calls = Together(done)

        self._connection.sendSubscription(answered, b"SUBSCRIBE", *(each.channel for each in subscriptions))

    def _refused(self, subscription: Subscription, error: ReplyError) -> GroupError:
        """Such as a channel that its rules do not allow: nobody who waits for it gets it later."""
        if self._sent.get(subscription.channel) is subscription:
            del self._sent[subscription.channel]
        if subscription.waiting and self.byName.get(subscription.name) is subscription:
            del self.byName[subscription.name], self._byChannel[subscription.channel]
        return GroupError(f"{subscription.name}: Redis refuses the subscription: {error}")

    def _fail(self, subscriptions: Iterable[Subscription], error: Exception) -> None:
        for each in subscriptions:
            waiting, each.waiting = each.waiting, []
            for done in waiting:
                done.errback(error)

    # An outage

    def lost(self, error: Exception) -> None:
        """The connection is gone: nothing is in force."""
        self._sent.clear()
        self._changed = dict.fromkeys(self._byChannel)
        self._held = []
        self._heldBytes = 0
        subscriptions = list(self.byName.values())
        for each in subscriptions:
            each.isConfirmed = each.isInForce = False
            each.own.clear()
        self.allArrived()
        self._fail(subscriptions, error)

    def hold(self) -> None:
        """There was an outage: what comes waits until the engine is up, and each group may have missed something."""
        for each in self.byName.values():
            each.isMissed = each.top is None

    def release(self) -> None:
        """The engine is up: tell what was missed, then bring what has come."""
        held, self._held = self._held, None
        for each in list(self.byName.values()):
            if each.isMissed:
                each.isMissed = False
                self._missed(each)
        for channel, message in held or ():
            self.arrived(channel, message)
        for each in self.byName.values():
            top, each.newTop = each.newTop, None
            if each.top is None:
                each.top = top

    # What comes

    def pushed(self, push: list[Any]) -> None:
        """Redis has sent something by itself."""
        if push[0] == b"message":
            if self._held is None:
                self.arrived(push[1], push[2])
            else:
                self._hold(push[1], push[2])
        elif push[0] == b"subscribe":
            subscription = self._byChannel.get(push[1])
            if subscription is not None:
                subscription.isConfirmed = True

    def _hold(self, channel: bytes, message: bytes) -> None:
        held = self._held
        assert held is not None
        held.append((channel, message))
        self._heldBytes += len(message)
        if self._heldBytes > MAX_HELD:
            for each in {channel for channel, _ in held}:
                subscription = self._byChannel.get(each)
                if subscription is not None:
                    subscription.isMissed = True
                    subscription.top = None
            held.clear()
            self._heldBytes = 0

    def arrived(self, channel: bytes, message: bytes) -> None:
        """There is a message in a channel."""
        subscription = self._byChannel.get(channel)
        if subscription is None:
            return
        name = subscription.name
        try:
            if message[:3] == b"M1|":
                joined, left = membersFrom(message)
                self._user.membersChanged(name, joined, left)
                return
            publication, isOwn = publicationFrom(message, self._token)
        except EnvelopeError as error:
            self._skip(name, error)
            return
        except Exception:
            log.failure("{name}: an error in membersChanged", name=name)
            return
        position = publication.position
        if position is not None:
            top = subscription.top
            if top is not None and (position.offset != top.offset + 1 or position.epoch != top.epoch):
                self._missed(subscription)
            subscription.top = position
        try:
            self._user.publicationArrived(name, publication)
        except Exception:
            log.failure("{name}: an error in publicationArrived", name=name)
        if isOwn and subscription.own:
            subscription.own.popleft().cameBack()

    def topIs(self, subscription: Subscription, position: Position) -> None:
        """
        Redis has told the position of the last publication, in answer to something that was sent behind the SUBSCRIBE.
        """
        top = subscription.top
        subscription.top = position
        if top is not None and top != position:
            self._missed(subscription)

    def allArrived(self) -> None:
        """Whatever was answered has come back, or does not come back any more."""
        _cameBack(self._unarrived)

    def _missed(self, subscription: Subscription) -> None:
        try:
            self._user.publicationsMissed(subscription.name)
        except Exception:
            log.failure("{name}: an error in publicationsMissed", name=subscription.name)

    def _skip(self, name: str, error: EnvelopeError) -> None:
        self.garbage += 1
        if self.garbage == 1:
            text = "{name}: somebody publishes what is no message of groups, which is skipped: {error}"
            log.warn(text, name=name, error=error)


class Together:
    """Calls ``done`` once, when all of several answers are there, with the first error among them."""

    def __init__(self, done: Callable[[Exception | None], object] | None) -> None:
        self._done = done
        self._left = 1
        self._error: Exception | None = None

    def one(self) -> Callable[[Any], object]:
        """What is to be called for one more."""
        self._left += 1
        return self._ended

    def allBegun(self, error: Any = None) -> None:
        """There are no more."""
        self._ended(error)

    def _ended(self, answer: Any) -> None:
        self._left -= 1
        if isinstance(answer, Exception):
            self._error = self._error or answer
        if not self._left and self._done is not None:
            self._done(self._error)


def _noted(error: Exception | None) -> None:
    """Nobody waits for the end of a subscription."""


def _batches(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))


def _fire(subscription: Subscription) -> None:
    waiting, subscription.waiting = subscription.waiting, []
    for done in waiting:
        done.callback(None)


def _cameBack(publishings: Iterable[Publishing]) -> None:
    for each in list(publishings):
        each.cameBack()
