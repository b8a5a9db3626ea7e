"""One subscription of a client, from its command to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import succeed

from getty_tx.gateway.protocol import SUBSCRIPTION_EXPIRED, CommandError, positionOf, push
from getty_tx.groups.publication import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.defer import Deferred

    from getty_tx.gateway.client import GatewayClient
    from getty_tx.gateway.protocol import Command
    from getty_tx.groups import Group, Joined, Publication

__all__ = ["Subscription", "positionIn"]

#: The flag of a command whose client does not want to be subscribed where it cannot have what it missed.
REJECT_UNRECOVERED = 2

#: The error of a position that is forgotten.
UNRECOVERABLE = 112


class Subscription:
    """
    A client is subscribed to a channel, or is about to be.

    :ivar group: of the channel.
    :ivar isReady: the client was told that it is subscribed.
    :ivar wantsJoins: the client wants to hear who comes and goes.
    :ivar hasToken: it came with a token.
    """

    __slots__ = (
        "_answer",
        "_answered",
        "_since",
        "_timer",
        "client",
        "flags",
        "group",
        "hasToken",
        "isReady",
        "wantsJoins",
    )

    def __init__(self, client: GatewayClient, group: Group, wantsJoins: bool = False, flags: int = 0) -> None:
        self.client = client
        self.group = group
        self.wantsJoins = wantsJoins
        self.flags = flags
        self.isReady = self.hasToken = False
        self._timer: Any = None
        self._since: Position | None = None
        self._answer: Callable[[dict[str, Any], Sequence[Publication]], Deferred[Any] | None]
        self._answered = False

    def join(
        self,
        position: tuple[str, int] | None,
        answer: Callable[[dict[str, Any], Sequence[Publication]], Deferred[Any] | None],
        info: Mapping[str, Any] | None = None,
    ) -> Deferred[Any]:
        """
        Become a member of the group.

        :param position: the epoch and the offset that the client has; None: it wants nothing of what was published.
        :param answer: ``answer(result, publications)`` tells the client; it gets nothing of the channel before the
            Deferred that this may return has fired.
        """
        self._answer = answer
        if position is None:
            return self._join(None, info)
        epoch, offset = position
        if epoch or not self.group.namespace.historySize:
            return self._join(Position(epoch, offset), info)
        # A client that knows no epoch takes any.
        asked = self.group.history(limit=0)
        return asked.addCallback(lambda now: self._join(Position(now.position.epoch, offset), info))

    def _join(self, since: Position | None, info: Mapping[str, Any] | None) -> Deferred[Any]:
        client = self.client
        self._since = since
        if not self.isWanted:
            # It has unsubscribed while the epoch was asked for.
            return succeed(None)
        joined = self.group.join(
            client.session, info=info or None, user=client.user or None, since=since, take=self._taken
        )
        return joined.addCallback(self._joined)

    @property
    def isWanted(self) -> bool:
        """Whether the client has not unsubscribed meanwhile."""
        return self.client.subscriptions.get(self.group.name) is self

    def _taken(self, joined: Joined, publications: Sequence[Publication]) -> Deferred[Any] | None:
        """It is a member of a group with a history."""
        if self._since is not None and not joined.recovered and self.flags & REJECT_UNRECOVERED:
            raise CommandError(UNRECOVERABLE)
        result: dict[str, Any] = {"recoverable": True, "positioned": True, **positionOf(joined.position)}
        if self._since is not None:
            result["was_recovering"] = True
            if joined.recovered:
                # Where the client was: each of the publications brings it further.
                result["recovered"] = True
                result["offset"] = self._since.offset
        return self._tell(result, publications)

    def _joined(self, joined: Joined) -> None:
        if not self._answered:
            self._tell({}, ())

    def _tell(self, result: dict[str, Any], publications: Sequence[Publication]) -> Deferred[Any] | None:
        self._answered = True
        if not self.isWanted:
            return None
        self.isReady = True
        return self._answer(result, publications)

    # Its end

    def setEnd(self, expires: float | None) -> dict[str, Any]:
        """
        Its token has told how long it is valid.

        :return: what the client is told of that.
        """
        self.hasToken = True
        self._stopTimer()
        told, delay = self.client.untilEnd(expires)
        if delay is not None:
            self._timer = self.client.session.context.wheel.schedule(delay, Subscription._expired, self)
        return told

    def _expired(self) -> None:
        self._timer = None
        self.endWith(SUBSCRIPTION_EXPIRED)

    def endWith(self, reason: dict[str, Any]) -> None:
        """End it, and tell the client why."""
        if self.isWanted:
            wasReady = self.isReady
            self.client.endSubscription(self)
            if wasReady:
                self.client.write(push(self.group.name, "unsubscribe", reason))

    def stop(self) -> None:
        """It ends."""
        self._stopTimer()
        self.isReady = False
        self.group.leave(self.client.session)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()


def positionIn(command: Command) -> tuple[str, int] | None:
    """The position that a client wants to go on from; None: it does not."""
    return command.position() if command.flag("recover") else None
