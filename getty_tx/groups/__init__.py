"""
Groups: rooms, broadcast, history and presence.

=================  ====================================================================================
``groups``         Groups: the service that has them all
``group``          Group: members in this process, and the way of a publication to them
``joining``        how a session becomes a member, with what it has missed
``kinds``          members that get the same bytes
``fanout``         publications to all members, in slices of 2 ms
``log``            the last publications, while a member is behind
``slow``           members that are behind
``recent``         the newest of a history, for all who come back at once
``users``          members as users: who is closed for whom, and who has really left
``queueing``       publications that wait for the engine
``namespaces``     settings of groups, and what a name may be
``listener``       hooks of a namespace
``stats``          counters
``engines``        engines by their texts
``memory``         the engine of one process
``hub/``           the engine of sub-reactors, with the main process as their hub
``sequencer``      numbers, histories and presence, without I/O
``interfaces``     the plug points: engines, and what they tell
``publication``    publications, positions, members: what groups and engines tell each other
``packing``        packages as bytes, for engines that carry them to other processes
``errors``         what can go wrong
=================  ====================================================================================
"""

from getty_tx.groups.errors import (
    EngineDownError,
    EngineTimeoutError,
    GroupError,
    NotAllowedError,
    PublicationTooLongError,
)
from getty_tx.groups.group import Group
from getty_tx.groups.groups import Groups
from getty_tx.groups.interfaces import IEngine, IEngineUser, IGroupListener
from getty_tx.groups.joining import Joined
from getty_tx.groups.listener import GroupListener
from getty_tx.groups.memory import MemoryEngine
from getty_tx.groups.namespaces import Namespace
from getty_tx.groups.publication import History, Member, Position, Publication, Retention

__all__ = [
    "EngineDownError",
    "EngineTimeoutError",
    "Group",
    "GroupError",
    "GroupListener",
    "Groups",
    "History",
    "IEngine",
    "IEngineUser",
    "IGroupListener",
    "Joined",
    "Member",
    "MemoryEngine",
    "Namespace",
    "NotAllowedError",
    "Position",
    "Publication",
    "PublicationTooLongError",
    "Retention",
]
