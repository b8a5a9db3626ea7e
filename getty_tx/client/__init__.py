"""
A pool of sessions that are kept open.

===========  ==============================================
``client``   ``Client``: the pool, and what is asked of it
``slot``     one place of it, which keeps one session open
``waiting``  ``whenReady``
===========  ==============================================
"""

from __future__ import annotations

from getty_tx.client.client import Client

__all__ = ["Client"]
