"""
How arguments and results become bytes.

- ``jsonpayload``: JSON.
- ``bytespayload``: the bytes themselves.
"""

from __future__ import annotations

from getty_tx.rpc.payloads.bytespayload import BytesPayload
from getty_tx.rpc.payloads.jsonpayload import JSONPayload

__all__ = ["BytesPayload", "JSONPayload"]
