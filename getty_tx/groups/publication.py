"""Publications, their positions, and members as engines know them: what groups and engines tell each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CLOSE", "EXCLUSIVE", "PUBLICATION", "History", "Member", "Position", "Publication", "Retention"]

#: Kinds of what is published. The first is for members; the others are for the processes that have them.
PUBLICATION = 0
#: A session has joined, and is to be the only member: ``pkg`` is its key, a text.
EXCLUSIVE = 1
#: Members are to be closed: ``pkg`` is a dict with ``reason``, and ``but``, the key of a member that stays.
CLOSE = 2


@dataclass(frozen=True, slots=True)
class Position:
    """
    A place in what was published to a group.

    :ivar epoch: names the numbering: with another epoch the offsets mean nothing.
    :ivar offset: the number of a publication, from 1; 0 is before the first. At most 2**63 - 1.
    """

    epoch: str
    offset: int


@dataclass(slots=True)
class Publication:
    """
    What was published to a group, as it comes back from the engine.

    :ivar pkg: the package.
    :ivar position: where it stands; None where nobody numbers: a group without history, or published while the engine
        was away (``whenDown="local"``).
    :ivar key: what it is about; for members that want the latest of each key only.
    :ivar kind: ``PUBLICATION``, or what is told to processes.
    :ivar publisher: the number of the local session that does not get it (``but``); 0: all get it.
    :ivar size: its length in bytes, as an engine counts it; 0 where it was not encoded yet.
    :ivar limit: bytes that it may have where an engine makes bytes of it: ``maxPublication`` of the publisher's
        namespace. 0: no limit.
    """

    pkg: Any
    position: Position | None = None
    key: str | None = None
    kind: int = PUBLICATION
    publisher: int = 0
    size: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """
    What an engine keeps of a group.

    :ivar size: publications in its history; 0: none.
    :ivar seconds: how long it keeps them, counted from the last one.
    """

    size: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """
    What an engine answers when it is asked for publications.

    :ivar position: of the newest publication there was.
    :ivar publications: in their order, without a hole.
    :ivar isWhole: whether these are all after the position that was asked from.
    """

    position: Position
    publications: Sequence[Publication] = ()
    isWhole: bool = True


@dataclass(frozen=True, slots=True)
class Member:
    """
    A member as others see it.

    :ivar key: names the session, in all processes.
    :ivar user: who it is; None: nobody says.
    :ivar info: what the application tells of it: what JSON can say, up to 1 KiB.
    :ivar away: where it has come: for how many seconds its user was away; 0: the user has another session in the group,
        also where it has gone. None: for longer than anybody remembers, or the engine does not know.
    """

    key: str
    user: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    away: float | None = field(default=None, compare=False)
