"""
How arguments and results become bytes.

- ``jsonpayload``: JSON.
- ``bytespayload``: the bytes themselves.
- ``msgspecpayload``: JSON, with the library msgspec.
- ``msgpackpayload``: msgpack, with the library msgpack.
- ``gojson``: JSON as Go writes it, of one argument; ``protobufpayload``: messages of google.protobuf, or their bytes.
- ``thriftpayload``: Thrift, with thriftpy2; ``thriftbinary`` reads its binary protocol, ``thriftidl`` its services.
"""

from __future__ import annotations

from getty_tx.rpc.payloads.bytespayload import BytesPayload
from getty_tx.rpc.payloads.gojson import GoJSONPayload
from getty_tx.rpc.payloads.jsonpayload import JSONPayload
from getty_tx.rpc.payloads.msgpackpayload import MsgpackPayload
from getty_tx.rpc.payloads.msgspecpayload import MsgspecPayload
from getty_tx.rpc.payloads.protobufpayload import ProtobufPayload
from getty_tx.rpc.payloads.thriftpayload import ThriftPayload

__all__ = [
    "BytesPayload",
    "GoJSONPayload",
    "JSONPayload",
    "MsgpackPayload",
    "MsgspecPayload",
    "ProtobufPayload",
    "ThriftPayload",
]
