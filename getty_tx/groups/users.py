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
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        # By group and user, or key where there is no user: the call that tells it.
        self._gone: dict[tuple[str, str], Any] = {}
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
            else:
                group.tell("onJoin", group, member)

    def forget(self, name: str) -> None:
        """A group has no members here any more, and nothing is heard of it."""
        self._there.pop(name, None)

    def stop(self) -> None:
        """Tell nothing more."""
        for call in self._gone.values():
            call.cancel()
        self._gone.clear()
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
