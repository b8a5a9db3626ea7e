"""
How arguments and results become bytes.

- ``jsonpayload``: JSON.
- ``bytespayload``: the bytes themselves.
- ``msgpackpayload``: msgpack, with the library msgpack.
"""

from __future__ import annotations

from getty_tx.rpc.payloads.bytespayload import BytesPayload
from getty_tx.rpc.payloads.jsonpayload import JSONPayload
from getty_tx.rpc.payloads.msgpackpayload import MsgpackPayload

__all__ = ["BytesPayload", "JSONPayload", "MsgpackPayload"]
