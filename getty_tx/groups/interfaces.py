"""The plug points of groups: engines, which carry publications between processes, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from twisted.internet.defer import Deferred

    from getty_tx.groups.publication import History, Member, Position, Publication, Retention

__all__ = ["IEngine", "IEngineUser", "IGroupListener"]


class IEngine(Interface):
    """
    Numbers what is published, keeps the last of it, and brings it to all processes that have members of the group.

    All calls come on the reactor's thread. Deferreds fail with
    :py:exc:`~getty_tx.groups.EngineDownError` while the engine is away, and with
    :py:exc:`~getty_tx.groups.EngineTimeoutError` where the outcome is not known. An engine connects again by itself.
    A name is a text of up to 255 characters without spaces and control characters; it was checked.

    Two more attributes are shown by the status, where an engine has them: ``reconnects``, how often it has tried to
    connect again, and ``lag``, the seconds that its last answer took.
    """

    node: Any = Attribute("A text that names this process among all that share the engine.")
    isUp: Any = Attribute("Whether it can be asked now.")
    description: Any = Attribute("What it is and where, in a few words without passwords, for logs and the page.")

    def start(reactor: Any, user: IEngineUser) -> None:
        """
        Begin.

        :param user: an :py:class:`IEngineUser`. ``engineUp`` is called before this returns, if it is up at once.
        """

    def stop() -> Deferred[None]:
        """
        Withdraw what it has of this process, and end.

        :return: a Deferred that fires when it has ended. The user hears nothing more from the call on.
        """

    def subscribe(name: str) -> Deferred[None]:
        """
        From now on, bring what is published to this group. Nothing that is published after the Deferred has fired is
        missed while the engine is up; after an outage it subscribes again by itself.

        :return: a Deferred.
        """

    def unsubscribe(name: str) -> None:
        """Bring nothing of this group any more."""

    def publish(
        name: str, publication: Publication, retention: Retention, id: str | None = None
    ) -> Deferred[Position | None]:
        """
        Number a publication and bring it to all subscribers, this process among them, in one order for all.

        ``publicationArrived`` comes before the Deferred fires if this process has subscribed. Kinds other than
        PUBLICATION are brought, and neither numbered nor kept. An engine that makes bytes of packages refuses those of
        more than ``publication.limit`` with :py:exc:`~getty_tx.groups.PublicationTooLongError`.

        :param retention: a :py:class:`~getty_tx.groups.Retention`.
        :param id: a text: within 5 minutes a publication with the same id is not published once more; the answer is
            the first one's position.
        :return: a Deferred with the Position; None where the retention's size is 0 and the engine does not number.
        """

    def history(name: str, since: Position | None, limit: int, retention: Retention) -> Deferred[History]:
        """
        Ask for what was published.

        :param since: a Position; None: the newest ``limit``.
        :param limit: publications at most, 0 for none: only the position. With ``since``, the first ones after it.
        :return: a Deferred with a :py:class:`~getty_tx.groups.History`. It is not whole if the epoch is another, if
            publications after ``since`` are forgotten, if there are more than the limit, or if ``since`` is past the
            newest.
        """

    def present(name: str, member: Member) -> None:
        """
        A session of this process has joined a group that has presence. The engine keeps that as long as this process
        lives and does not say ``absent``, over outages of its own.
        """

    def absent(name: str, key: str) -> None:
        """The member with this key has left."""

    def presence(name: str, limit: int) -> Deferred[Sequence[Member]]:
        """
        Ask who is there.

        :return: a Deferred with a list of :py:class:`~getty_tx.groups.Member`, of all processes, ``limit`` at most.
        """

    def counts(names: Collection[str]) -> Deferred[Mapping[str, int]]:
        """
        Ask how many members groups have.

        :return: a Deferred with a dict from name to number: members of all processes, for groups that have presence.
        """


class IEngineUser(Interface):
    """Whom an engine tells. All calls come on the reactor's thread."""

    def publicationArrived(name: str, publication: Publication) -> None:
        """Something was published to a group that is subscribed to: in order, each once, no hole unless told."""

    def publicationsMissed(name: str) -> None:
        """
        Publications of a group may have been missed, as the engine was away or this process was too slow. What comes
        from now on is complete again. ``history`` tells what was missed.
        """

    def membersChanged(name: str, joined: Sequence[Member], left: Sequence[Member]) -> None:
        """
        Members have come or gone, in any process, of a group that is subscribed to and has presence.

        :param joined: Members.
        :param left: Members.
        """

    def engineUp() -> None:
        """The engine is there, and all subscriptions are in force."""

    def engineDown(error: BaseException) -> None:
        """The engine is away; the error says why. Called once, until ``engineUp``."""


class IGroupListener(Interface):
    """
    What an application hears of the groups of a namespace; see :py:class:`~getty_tx.groups.GroupListener`.
    """

    def onPublication(group: Any, publication: Publication) -> None:
        """Something was published, and goes to the members of this process. Once a publication, not once a member."""

    def onJoin(group: Any, member: Member) -> None:
        """A member has come, in any process."""

    def onLeave(group: Any, member: Member) -> None:
        """A member has gone."""

    def onGap(group: Any, session: Any, missed: int | None) -> None:
        """
        A member did not get publications, as it was behind or they are lost.

        :param missed: how many; None: nobody knows.
        """

    def onState(groups: Any, isUp: bool, error: BaseException | None) -> None:
        """The engine has come back or has gone away."""
