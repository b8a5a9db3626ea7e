"""What was published, and who is there: answers to clients and to the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from getty_tx.gateway.protocol import CommandError, infoOf, positionOf, publicationText, reply
from getty_tx.groups.publication import Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from getty_tx.gateway.protocol import Command
    from getty_tx.groups import Group, History, Member, Publication

__all__ = [
    "MAX_HISTORY",
    "answerHistory",
    "answerPresence",
    "answerStats",
    "historyOf",
    "presenceOf",
    "statsOf",
    "textsOf",
]

log = Logger()

#: Publications of one answer, at most.
MAX_HISTORY = 300

#: Members of one answer, at most.
_MAX_PRESENCE = 1000

#: Errors of the protocol.
_NOT_AVAILABLE, _UNRECOVERABLE = 108, 112


def textsOf(group: Group, publications: Iterable[Publication]) -> list[str]:
    """Publications as JSON, but for those that are none of the protocol."""
    texts = []
    for each in publications:
        try:
            texts.append(publicationText(each))
        except (TypeError, ValueError, RecursionError) as error:
            log.warn("{group}: a publication is left out: {error}", group=group.name, error=error)
    return texts


def presenceOf(group: Group) -> Deferred[Sequence[Member]]:
    """Who is there, at most 1000 of them. Fails with a CommandError where nobody knows."""
    if not group.namespace.presence:
        return fail(CommandError(_NOT_AVAILABLE))
    return group.presence(_MAX_PRESENCE)


def presenceResult(members: Sequence[Member]) -> dict[str, Any]:
    """As the protocol has it."""
    return {"presence": {info["client"]: info for info in map(infoOf, members)}}


def statsOf(group: Group) -> Deferred[dict[str, int]]:
    """How many clients and users are there; of more than 1000 clients at least so many users."""

    def counted(count: int, users: int) -> dict[str, int]:
        return {"num_clients": count, "num_users": users}

    def known(members: Sequence[Member]) -> Any:
        users = len({member.user or "" for member in members})
        if len(members) < _MAX_PRESENCE:
            return counted(len(members), users)
        return group.count().addCallback(counted, users)

    return presenceOf(group).addCallback(known)


def historyOf(group: Group, since: tuple[str, int] | None, limit: int, isReverse: bool = False) -> Deferred[History]:
    """
    What was published: at most 300.

    :param since: epoch and offset; None: from the oldest on, or with ``isReverse`` from the newest.
    :param limit: 0: none, only the position; below 0: as many as there are.
    :return: fails with a CommandError where there is no history, or not from there on.
    """
    if not group.namespace.historySize:
        return fail(CommandError(_NOT_AVAILABLE))
    if limit < 0 or limit > MAX_HISTORY:
        limit = MAX_HISTORY
    if limit == 0:
        return group.history(limit=0)
    if since is None or isReverse:
        return group.history(limit=MAX_HISTORY).addCallback(_part, since, limit, isReverse)
    epoch, offset = since
    if epoch:
        return group.history(Position(epoch, offset), limit).addCallback(_following, offset)
    now = group.history(limit=0)
    return now.addCallback(lambda top: historyOf(group, (top.position.epoch, offset), limit))


def _part(history: History, since: tuple[str, int] | None, limit: int, isReverse: bool) -> History:
    """The oldest, or what is before a position, the newest first."""
    publications = history.publications
    if since is not None:
        if since[0] and since[0] != history.position.epoch:
            raise CommandError(_UNRECOVERABLE)
        publications = [each for each in publications if each.position is not None and each.position.offset < since[1]]
    if isReverse:
        publications = list(reversed(publications))
    return type(history)(history.position, publications[:limit], history.isWhole)


def _following(history: History, offset: int) -> History:
    if not history.isWhole and not history.publications:
        raise CommandError(_UNRECOVERABLE)
    return history


# Of commands


def answerPresence(group: Group, command: Command) -> Deferred[str]:
    """The reply to ``presence``."""
    return presenceOf(group).addCallback(lambda members: reply(command.id, "presence", presenceResult(members)))


def answerStats(group: Group, command: Command) -> Deferred[str]:
    """The reply to ``presence_stats``."""
    return statsOf(group).addCallback(lambda stats: reply(command.id, "presence_stats", stats))


def answerHistory(group: Group, command: Command) -> Deferred[str]:
    """
    The reply to ``history``.

    :raise DisconnectError: a parameter is none of the protocol.
    """
    since = None if command.params.get("since") is None else command.position("since")
    limit = command.number("limit", least=-1)

    def answer(history: History) -> str:
        texts = textsOf(group, history.publications)
        return reply(command.id, "history", positionOf(history.position), publications=texts)

    return historyOf(group, since, limit, command.flag("reverse")).addCallback(answer)
