"""
Workers: onMessage in threads, for calls that block.

``pool`` is what applications make; ``lines`` hold what waits, ``plans`` decide which line a thread serves next, and
``run`` is what a thread does.
"""

from getty_tx.workers.pool import WorkerPool
from getty_tx.workers.queues import Work

__all__ = ["Work", "WorkerPool"]
