"""Members as users: who is closed for whom, and who has really left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.groups.publication import EXCLUSIVE
from getty_tx.session.leaving import closeWith

if TYPE_CHECKING:
    from collections.abc import Sequence

    from getty_tx.groups.group import Group
    from getty_tx.groups.groups import Groups
    from getty_tx.groups.publication import Member, Publication

__all__ = ["KICKED", "REPLACED", "Leaving", "closeOthers"]

#: Codes of Close frames of our own (RFC 6455, section 7.4.2). A client does not come back after them.
REPLACED = 4001
KICKED = 4002

#: Seconds that an engine may take to tell that the last member has gone.
LINGER = 1.0


def closeOthers(group: Group, publication: Publication) -> None:
    """
    Close members of this process.

    :param publication: of the kind EXCLUSIVE or CLOSE. What it has came from an engine, and may be anything.
    """
    pkg = publication.pkg
    if publication.kind == EXCLUSIVE:
        code, reason, stays = REPLACED, "replaced by another session", pkg
    elif isinstance(pkg, dict):
        told = pkg.get("code")
        code = told if isinstance(told, int) and 3000 <= told < 5000 else KICKED
        reason, stays = str(pkg.get("reason") or ""), pkg.get("but")
    else:
        return
    for session in group.members:
        if group.groups.keyOf(session) != stays:
            closeWith(session, code, reason[:120])


class Leaving:
    """
    Members that have gone, and may come back: a user who is back in time has neither left nor come, and neither has one
    who has another session. A user who comes to another process may be heard of there before it is gone from the first.
    What was before the group had members here an engine may know (``away`` of members).
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        # By group and user, or key where there is no user: the call that tells it.
        self._gone: dict[tuple[str, str], Any] = {}
        # By group that has no members here any more: the call that ends it.
        self._lingering: dict[str, Any] = {}
        # By group, and by user or key, the keys of sessions that have come since the group has members here.
        self._there: dict[str, dict[str, set[str]]] = {}

    def changed(self, group: Group, joined: Sequence[Member], left: Sequence[Member]) -> None:
        """Members have come or gone, in any process."""
        there = self._there.setdefault(group.name, {})
        for member in left:
            keys = there.get(_who(member))
            if keys is not None:
                keys.discard(member.key)
                if keys:
                    continue
                del there[_who(member)]
            if member.away is not None:
                # Another session of the user is there.
                continue
            self._left(group, member)
        for member in joined:
            who = _who(member)
            keys = there.get(who)
            if keys is not None:
                keys.add(member.key)
                continue
            there[who] = {member.key}
            call = self._gone.pop((group.name, who), None)
            if call is not None:
                call.cancel()
            elif member.away is None or member.away > group.namespace.leaveDelay:
                group.tell("onJoin", group, member)

    def lingers(self, group: Group) -> bool:
        """
        A group has no members here any more. :return: whether it is to be heard of for a while, whoever has gone: the
        last one may be back by then, in another process.
        """
        if group.name not in self._there:
            return False
        before = self._lingering.pop(group.name, None)
        if before is not None:
            before.cancel()
        delay = group.namespace.leaveDelay + LINGER
        self._lingering[group.name] = self._groups.reactor.callLater(delay, self._lingered, group)
        return True

    def _lingered(self, group: Group) -> None:
        del self._lingering[group.name]
        if not group.size:
            # Processes that have members still hear who is back, and tell the rest.
            for key in [key for key in self._gone if key[0] == group.name]:
                self._gone.pop(key).cancel()
            self._groups.emptied(group)

    def forget(self, name: str) -> None:
        """Nothing is heard of a group any more."""
        self._there.pop(name, None)

    def stop(self) -> None:
        """Tell nothing more."""
        for call in [*self._gone.values(), *self._lingering.values()]:
            call.cancel()
        self._gone.clear()
        self._lingering.clear()
        self._there.clear()

    def _left(self, group: Group, member: Member) -> None:
        delay = group.namespace.leaveDelay
        key = group.name, _who(member)
        if not delay:
            group.tell("onLeave", group, member)
        elif key not in self._gone:
            self._gone[key] = self._groups.reactor.callLater(delay, self._told, key, group, member)

    def _told(self, key: tuple[str, str], group: Group, member: Member) -> None:
        del self._gone[key]
        group.tell("onLeave", group, member)


def _who(member: Member) -> str:
    return f"user {member.user}" if member.user is not None else f"session {member.key}"
