"""
A pool of sessions that are kept open.

=============  =====================================================================
``client``     ``Client``: the pool, and what is asked of it
``slot``       one place of it, which keeps one session open
``waiting``    ``whenReady``
``only``       what is asked of a client of one endpoint as of one of several
``pool``       the groups of a client of several endpoints
``group``      a group: the places for one endpoint
``dialing``    how many attempts to connect are made at a time
``picking``    which group is picked, by weight or by pending bytes
``hashing``    which group a key belongs to
``following``  the groups of a client that follows a registry
``subset``     which of many providers it has sessions with
``draining``   sessions that are closed when nothing is on its way
``outliers``   which providers fail more often than others, as the calls over their sessions say
=============  =====================================================================

A client of one endpoint has places and no groups: it uses ``client``, ``slot`` and ``waiting`` alone, and the others
are not even imported.
"""

from __future__ import annotations

from getty_tx.client.client import Client

__all__ = ["Client"]
