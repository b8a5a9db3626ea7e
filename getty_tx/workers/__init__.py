"""
Worker threads: run ``onMessage`` in threads, for handlers that block.

- ``pool``: ``WorkerPool``, the public class: models, start and stop, tasks of the application.
- ``queues``: queues of messages that wait for a worker, and ``Work``, which a session has in front of its listener.
- ``schedule``: which queue a thread serves next, and how many threads run; one class a model.
- ``thread``: ``WorkerRun``, the loop of a worker thread, and how its replies reach the reactor.
"""

from getty_tx.session.threads import current
from getty_tx.workers.pool import WorkerPool
from getty_tx.workers.queues import Work

__all__ = ["Work", "WorkerPool", "current"]
