"""
The names of keys and channels.

All begin with the application's prefix and a partition in braces, ``app:{54}``, so that what one script touches is in
one slot of a cluster. The partition of a group is the CRC-32 of its name in UTF-8, that of zip and PHP, modulo 64.

=============================  ====================================================================================
``app:{54}:chat:42``           the channel of the group ``chat:42``
``app:{54}.m:chat:42``         a hash: ``e`` the epoch of its numbers, ``o`` the last offset
``app:{54}.s:chat:42``         a stream: its history; an entry's id is ``OFFSET-0``
``app:{54}.i:chat:42 ID``      that a publication with this id was published, and its position
``app:{54}.n:chat:42``         a hash: how many members each process has
``app:{54}.p:chat:42 NODE``    a hash: the members of one process, by key
``app:{nodes}.live``           a sorted set: the processes, by the time when their lease ends
``app:{nodes}.gone``           a sorted set: the processes whose lease has ended, by when that was found
``app:{nodes}.state``          a hash: ``version``, which changes with that set, and ``at``, the last renewal
``app:{node NODE}.groups``     a set: the groups in which a process has members
=============================  ====================================================================================
"""

from __future__ import annotations

import secrets
from itertools import count
from os import getpid
from zlib import crc32

__all__ = ["PARTITIONS", "Layout", "newEpoch", "partitionOf"]

#: Partitions. It cannot be changed where different versions meet.
PARTITIONS = 64


#: Names this process in epochs.
_process = secrets.token_hex(6).encode()
_counter = count(1)


def newEpoch() -> bytes:
    """A name for a new numbering, which nobody has used."""
    # The number of the process: it may have been forked.
    return b"%bp%xn%x" % (_process, getpid(), next(_counter))


def partitionOf(name: str) -> int:
    """The partition of a group."""
    return crc32(name.encode()) % PARTITIONS


class Layout:
    """
    The names for one prefix.

    :param prefix: without braces, spaces and control characters.
    """

    __slots__ = ("_begins", "_prefix", "gone", "live", "state")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._begins = [f"{prefix}:{{{number}}}" for number in range(PARTITIONS)]
        self.live = f"{prefix}:{{nodes}}.live"
        self.gone = f"{prefix}:{{nodes}}.gone"
        self.state = f"{prefix}:{{nodes}}.state"

    def channel(self, name: str) -> bytes:
        """The channel of a group."""
        return f"{self._begins[partitionOf(name)]}:{name}".encode()

    def numbers(self, name: str) -> str:
        """The key of its epoch and offset."""
        return f"{self._begins[partitionOf(name)]}.m:{name}"

    def stream(self, name: str) -> str:
        """The key of its history."""
        return f"{self._begins[partitionOf(name)]}.s:{name}"

    def id(self, name: str, id: str) -> str:
        """The key of a publication's id."""
        return f"{self._begins[partitionOf(name)]}.i:{name} {id}"

    def nodes(self, name: str) -> str:
        """The key of its numbers of members."""
        return f"{self._begins[partitionOf(name)]}.n:{name}"

    def members(self, name: str, node: str) -> str:
        """The key of the members that a process has in it."""
        return f"{self._begins[partitionOf(name)]}.p:{name} {node}"

    def groups(self, node: str) -> str:
        """The key of the groups in which a process has members."""
        return f"{self._prefix}:{{node {node}}}.groups"
