"""Namespaces: the settings of all groups whose names begin alike; and what a name may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.groups.errors import GroupError
from getty_tx.groups.publication import Retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.groups.interfaces import IGroupListener

__all__ = ["MAX_NAME", "Namespace", "Slow", "WhenDown", "checkName", "namespaceOf"]

#: Characters of the longest name of a group.
MAX_NAME = 255

Slow = Literal["close", "follow", "drop", "latest"]
WhenDown = Literal["fail", "local", "queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """
    The settings of groups: those whose names begin with a word and ``:``, or all others.

    :ivar historySize: publications that the engine keeps of a group, and numbers; 0: none.
    :ivar historySeconds: how long it keeps them after the last one. Needed with ``historySize``.
    :ivar window: seconds in which publications are gathered, to leave in one piece; 0: to the end of the turn.
    :ivar slow: what a member gets that is behind: ``close``: the rest when it reads again, or it is closed; ``follow``:
        the rest, but for what was forgotten meanwhile; ``drop``: nothing of what was published meanwhile; ``latest``:
        the newest, or the newest of each key.
    :ivar slowLimit: pending bytes above which a member is behind.
    :ivar slowSeconds: how long a member may be behind with ``close``.
    :ivar presence: whether the engine knows the members, with user and info.
    :ivar joinLeave: whether ``onJoin`` and ``onLeave`` are called. Needs ``presence``.
    :ivar leaveDelay: seconds until somebody who has gone counts as gone for ``onLeave``. A user who is back by then has
        neither left nor come.
    :ivar maxMembers: members of a group in one process; None: no limit.
    :ivar maxPublication: bytes of a publication; what is neither bytes nor a text is measured when it is encoded.
    :ivar maxWaiting: bytes that a group keeps for members that are behind, and of publications that are under way.
    :ivar whenDown: what ``publish`` does while the engine is away: ``fail``; ``local``: members of this process get it,
        without a position; ``queue``: it waits for up to 5 seconds.
    :ivar listener: an :py:class:`~getty_tx.groups.IGroupListener`, or None.
    :ivar mayJoin: ``mayJoin(session, name)`` is asked before a session joins: a bool, or a Deferred or coroutine.
        None: whoever the application lets join.
    :ivar wrap: ``wrap(group, publication)`` returns what members get in place of ``publication.pkg``. Called once a
        publication and process. So positions get into the application's packages.
    """

    historySize: int = 0
    historySeconds: float = 0.0
    window: float = 0.0
    slow: Slow = "close"
    slowLimit: int = 64 * 1024
    slowSeconds: float = 30.0
    presence: bool = False
    joinLeave: bool = False
    leaveDelay: float = 5.0
    maxMembers: int | None = None
    maxPublication: int = 1024 * 1024
    maxWaiting: int = 4 * 1024 * 1024
    whenDown: WhenDown = "fail"
    listener: IGroupListener | None = None
    mayJoin: Callable[[Any, str], Any] | None = None
    wrap: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        """:raise SettingError: a value is out of its bounds, or two do not fit together."""
        for name in ("historySeconds", "window", "leaveDelay"):
            if getattr(self, name) != 0:
                settings.seconds(name, getattr(self, name))
        settings.seconds("slowSeconds", self.slowSeconds)
        for name in ("slowLimit", "maxPublication", "maxWaiting"):
            settings.size(name, getattr(self, name))
        settings.optionalCount("maxMembers", self.maxMembers)
        for name in ("presence", "joinLeave"):
            settings.flag(name, getattr(self, name))
        for name, allowed in (("slow", get_args(Slow)), ("whenDown", get_args(WhenDown))):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name}={getattr(self, name)!r} is none of {', '.join(allowed)}")
        if self.historySize != 0:
            settings.count("historySize", self.historySize)
        if bool(self.historySize) != bool(self.historySeconds):
            what = f"historySize={self.historySize} and historySeconds={self.historySeconds:g}"
            raise SettingError(f"{what} do not fit together: set both, or none")
        if self.joinLeave and not self.presence:
            raise SettingError("joinLeave=True needs presence=True: nobody else knows who comes and goes")
        if self.maxPublication > self.maxWaiting:
            what = f"maxPublication={self.maxPublication} is more than maxWaiting={self.maxWaiting}"
            raise SettingError(f"{what}: no room for one of them")

    @property
    def retention(self) -> Retention:
        """What the engine keeps."""
        return Retention(self.historySize, self.historySeconds)


def checkName(name: Any) -> str:
    """
    The name, if it is one of a group.

    :raise GroupError: it is no text, empty, too long, or has blanks or control characters.
    """
    if not isinstance(name, str):
        raise GroupError(f"{name!r} is no name of a group: a name is a text")
    if not 0 < len(name) <= MAX_NAME:
        raise GroupError(f"the name of a group has 1 to {MAX_NAME} characters, not {len(name)}: {name[:40]!r}")
    if not name.isprintable() or " " in name:
        raise GroupError(f"{name!r} is no name of a group: it has blanks or control characters")
    return name


def namespaceOf(name: str) -> str:
    """The namespace's name: what stands before the first ``:``, or nothing."""
    before, colon, _ = name.partition(":")
    return before if colon else ""
