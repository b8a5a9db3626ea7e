"""
The engine of ``redis://``: one RESP3 connection a process, parsed by hiredis.

=================  ====================================================================================
``settings``       ``redis://user:password@host:6379/0?prefix=app``, and what is wrong with it
``codec``          RESP3, by hiredis
``connection``     commands and their answers, time-outs, pings, coming back
``layout``         the names of keys and channels
``envelope``       what is in a channel's messages
``scripts``        what Redis does at one go, in Lua
``publishing``     publications on their way
``subscribing``    which groups are brought, and what an outage has cost them
``recovering``     what is done on a new connection before the engine is up
``presence``       members, and the leases of processes
``engine``         all of it together
=================  ====================================================================================
"""

from __future__ import annotations

from getty_tx.groups.redis.engine import RedisEngine
from getty_tx.groups.redis.settings import redisEngine

__all__ = ["RedisEngine", "redisEngine"]
