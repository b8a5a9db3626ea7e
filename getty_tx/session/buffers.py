"""
The buffers that wait to be sent: a list of byte strings, of which some at the front leave at a time.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["CHUNK", "Buffer", "dropFirst", "firstOf"]

#: Bytes that end a cork early, and the most that the transport is given at a time.
CHUNK = 64 * 1024

#: What may wait: bytes as the codec made them, writes that were joined, the rest of what was sent in part.
Buffer: TypeAlias = bytes | bytearray | memoryview


def firstOf(buffers: list[Buffer], most: int, count: int) -> tuple[list[Buffer], int]:
    """
    The first of the buffers, for one sendmsg, and their bytes.

    :param most: bytes, at most; the last buffer is cut there.
    :param count: buffers, at most.
    """
    first: list[Buffer] = []
    total = 0
    for buffer in buffers:
        room = most - total
        if len(buffer) > room:
            first.append(memoryview(buffer)[:room])
            total = most
        else:
            first.append(buffer)
            total += len(buffer)
        if total == most or len(first) == count:
            break
    return first, total


def dropFirst(buffers: list[Buffer], size: int) -> None:
    """Take ``size`` bytes off the front, in place."""
    whole = 0
    for buffer in buffers:
        if size < len(buffer):
            break
        size -= len(buffer)
        whole += 1
    del buffers[:whole]
    if size:
        buffers[0] = memoryview(buffers[0])[size:]
