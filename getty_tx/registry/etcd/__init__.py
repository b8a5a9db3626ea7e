"""
The engine ``etcd:``, over etcd's JSON gateway (etcd 3.4 or newer).

- ``engine``: the :py:class:`EtcdEngine`, an IEngine: what the others do, put together.
- ``watch``: one service's records: list them, follow the changes, begin again where they broke off.
- ``lease``: the lease that all records of one engine hang on, and the pulse that renews it.
- ``http``: requests to the endpoints in turn, tokens, whether etcd answers.
- ``refusals``: what etcd's refusals mean, and what to do about them.
- ``bodies``: bodies of requests and responses, and lines of JSON in segments of any size.
- ``connections``: connections to the endpoints, TLS, and their end.
- ``ranges``: keys, values, revisions, and lists in pages.
"""

from __future__ import annotations

from getty_tx.registry.etcd.engine import EtcdEngine

__all__ = ["EtcdEngine"]
