"""
The states of a session, in their order.

::

    CONNECTING   newSession configures it, onOpen is called
    OPEN         packages come and go
    CLOSING      close() was called, something failed, or the peer has ended: what is pending is flushed,
                 what still comes is discarded; isClosed from here on
    LOST         the connection is gone; complete packages that it left are still delivered
    ENDED        onClose was called; nothing comes after
    GONE         it has returned, and all is let go
"""

from __future__ import annotations

__all__ = ["CLOSING", "CONNECTING", "ENDED", "GONE", "LOST", "OPEN"]

CONNECTING, OPEN, CLOSING, LOST, ENDED, GONE = range(6)
