"""
Groups: rooms, broadcast, history and presence.

=================  ====================================================================================
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
from getty_tx.groups.interfaces import IEngine, IEngineUser, IGroupListener
from getty_tx.groups.publication import History, Member, Position, Publication, Retention

__all__ = [
    "EngineDownError",
    "EngineTimeoutError",
    "GroupError",
    "History",
    "IEngine",
    "IEngineUser",
    "IGroupListener",
    "Member",
    "NotAllowedError",
    "Position",
    "Publication",
    "PublicationTooLongError",
    "Retention",
]
