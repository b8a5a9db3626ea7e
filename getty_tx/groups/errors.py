"""What can go wrong with groups."""

from __future__ import annotations

from getty_tx.errors import GettyError

__all__ = [
    "EngineDownError",
    "EngineTimeoutError",
    "GroupError",
    "NotAllowedError",
    "PublicationTooLongError",
    "tooLong",
]


class GroupError(GettyError):
    """Something is wrong with a group, its name, or what was asked of it."""


class EngineDownError(GroupError):
    """The engine is away: nobody got the publication, and nobody will."""


class EngineTimeoutError(GroupError):
    """
    The engine did not answer in time: members may have the publication.

    To publish it again with the same ``id`` is safe.
    """


class NotAllowedError(GroupError):
    """The session may not join the group, or may not publish to it."""


class PublicationTooLongError(GroupError):
    """The publication has more bytes than ``maxPublication`` of its namespace."""


def tooLong(name: str, size: int, limit: int) -> PublicationTooLongError:
    """The error of a publication of ``size`` bytes to the group ``name``."""
    text = f"{name}: a publication of {size} bytes is longer than maxPublication={limit} of its namespace"
    return PublicationTooLongError(f"{text}: publish it in parts, or set maxPublication= higher")
