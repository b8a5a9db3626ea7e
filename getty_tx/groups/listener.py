"""The hooks of a namespace, for subclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.groups.interfaces import IGroupListener

if TYPE_CHECKING:
    from getty_tx.groups.publication import Member, Publication

__all__ = ["GroupListener"]


@implementer(IGroupListener)
class GroupListener:
    """
    Subclass it, override what you want to hear of, and give it to a :py:class:`~getty_tx.groups.Namespace`.

    The calls come on the reactor's thread and must not block. What they raise is logged.
    """

    def onPublication(self, group: Any, publication: Publication) -> None:
        """Something was published, and goes to the members of this process. Once a publication, not once a member."""

    def onJoin(self, group: Any, member: Member) -> None:
        """A member has come, in any process. Only with ``joinLeave``."""

    def onLeave(self, group: Any, member: Member) -> None:
        """A member has gone. Only with ``joinLeave``, and ``leaveDelay`` later."""

    def onGap(self, group: Any, session: Any, missed: int | None) -> None:
        """
        Publications did not reach a member, as it was behind or they are lost.

        :param session: the member; None: all members of this process.
        :param missed: how many; None: nobody knows.
        """

    def onState(self, groups: Any, isUp: bool, error: BaseException | None) -> None:
        """The engine has come back, or has gone away: ``error`` says why."""
