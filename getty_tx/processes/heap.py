"""What a process has from its start, and what the garbage collector makes of it."""

from __future__ import annotations

import gc

__all__ = ["freezeHeap"]


def freezeHeap() -> None:
    """
    Have the garbage collector pass over all that there is now: modules, classes and functions, for the most part.

    A full collection looks at each of these objects, 20 to 40 ms for a program of some size, and all sessions wait
    meanwhile. For a process that only serves, once, when its reactor starts: what is frozen and becomes a cycle of
    garbage later is not freed.
    """
    gc.collect()
    gc.freeze()
