"""
How arguments and results become bytes.

- ``jsonpayload``: JSON.
- ``bytespayload``: the bytes themselves.
- ``msgpackpayload``: msgpack, with the library msgpack.
- ``thriftpayload``: Thrift, with thriftpy2; ``thriftbinary`` reads its binary protocol.
"""

from __future__ import annotations

from getty_tx.rpc.payloads.bytespayload import BytesPayload
from getty_tx.rpc.payloads.jsonpayload import JSONPayload
from getty_tx.rpc.payloads.msgpackpayload import MsgpackPayload
from getty_tx.rpc.payloads.thriftpayload import ThriftPayload

__all__ = ["BytesPayload", "JSONPayload", "MsgpackPayload", "ThriftPayload"]
