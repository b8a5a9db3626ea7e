"""
The engine of ``zookeeper:``, by way of kazoo.

- ``settings``: what it is told, checked.
- ``threads``: a client of kazoo, whose threads never meet the reactor's.
- ``engine``: what writes, deletes, checks and reads records; ``watching``: what follows those of one service.
- ``layout``: where records are and what they look like; ``dubbo``: the same in Dubbo's way.
"""

from __future__ import annotations

from getty_tx.registry.zookeeper.engine import ZooKeeperEngine

__all__ = ["ZooKeeperEngine"]
