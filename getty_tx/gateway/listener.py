"""The sessions of a gateway, and what its groups tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.gateway.client import GatewayClient
from getty_tx.gateway.protocol import INSUFFICIENT_STATE, infoOf, publicationText, push, pushText
from getty_tx.gateway.walks import Comings, Walk
from getty_tx.groups import GroupListener
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from getty_tx.gateway.gateway import Gateway
    from getty_tx.groups import Group, Member, Publication

__all__ = ["GatewayEvents", "GatewayListener", "wrap"]

log = Logger()

#: The name of the client among the attributes of its session.
_CLIENT = object()


class GatewayListener(EventListener):
    """Listens to the sessions of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def onOpen(self, session: Any) -> None:
        """A client has come."""
        session.attributes[_CLIENT] = GatewayClient(self._gateway, session)

    def onMessage(self, session: Any, pkg: Any) -> None:
        """It says something."""
        session.attributes[_CLIENT].heard(pkg)

    def onCron(self, session: Any) -> None:
        """It is time for a ping."""
        session.attributes[_CLIENT].ping()

    def onClose(self, session: Any) -> None:
        """It has gone."""
        client = session.attributes.get(_CLIENT)
        if client is not None:
            client.closed()


def _subscriptionOf(group: Group, session: Any) -> Any:
    """The subscription of a session; None: it has none, or is not a gateway's."""
    client = session.attributes.get(_CLIENT)
    return None if client is None else client.subscriptions.get(group.name)


class GatewayEvents(GroupListener):
    """
    Tells clients what their groups do.

    :param gateway: whose they are.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Of channels whose clients are being told.
        self._comings: dict[Group, Comings] = {}

    def onJoin(self, group: Any, member: Member) -> None:
        """Tell those that want to hear who comes."""
        self._tell(group, "join", member)

    def onLeave(self, group: Any, member: Member) -> None:
        """Tell those that want to hear who goes."""
        self._tell(group, "leave", member)

    def _tell(self, group: Group, kind: str, member: Member) -> None:
        comings = self._comings.get(group)
        if comings is None or comings.hasStopped:
            comings = self._comings[group] = Comings(group, _subscriptionOf, self._told)
        node, _, number = member.key.rpartition(":")
        isOwn = kind == "join" and node == group.groups.engine.node
        comings.add(push(group.name, kind, {"info": infoOf(member)}), int(number) if isOwn else 0)

    def _told(self, group: Group) -> None:
        del self._comings[group]

    def onGap(self, group: Any, session: Any, missed: int | None) -> None:
        """A client has missed something: where it can have that from the history, it is told to come for it."""
        if group.namespace.historySize:
            # Not from within the loop that brings publications to members.
            self._gateway.groups.reactor.callLater(0, self._endFor, group, session)

    def _endFor(self, group: Group, session: Any) -> None:
        def end(each: Any) -> None:
            subscription = _subscriptionOf(group, each)
            if subscription is not None and subscription.isReady:
                subscription.endWith(INSUFFICIENT_STATE)

        if session is None:
            Walk(group, end)
        else:
            end(session)


def wrap(group: Group, publication: Publication) -> str:
    """What members get of a publication. One that is none of the protocol tells them nothing."""
    try:
        return pushText(group.name, "pub", publicationText(publication))
    except (TypeError, ValueError, RecursionError) as error:
        log.warn("{group}: a publication is dropped: {error}", group=group.name, error=error)
        return pushText(group.name, "message", "null")
