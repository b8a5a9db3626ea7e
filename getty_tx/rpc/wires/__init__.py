"""
The wires: codecs whose packages are calls, or connections that make them.

- ``ttheader``: TTHeader of ByteDance's Kitex, the default: the frame, and what it can say.
- ``kitex``: TTHeader with Thrift's messages in it, for Kitex itself.
- ``thrift``: Thrift by itself, as Apache has it, and the port of a server that takes that and Kitex's;
  ``thriftframed`` has its transports, ``thriftmessage`` its messages.
- ``descriptions``: wires by texts, such as ``ttheader:msgpack``, for command lines.
- ``dubbo``: that of Dubbo 2: the frame; ``dubbobodies`` reads requests and replies, ``dubbopayload`` writes arguments
  and results, ``dubbotypes`` has their types, and ``dubboerrors`` statuses and exceptions.
- ``getty``: that of Getty's RPC in Go; ``gettyheader`` has the RPC headers in its packages.
- ``grpc``: gRPC, which is whole connections; ``grpcserving`` makes those of a server, ``grpccalls`` runs methods,
  ``grpcstreams`` has what streams send and get, ``grpcstatus`` the statuses of errors.
- ``seata``: that of Seata's coordinator and its clients.
- ``info``: the information blocks of a TTHeader frame; ``errorjson``: the errors in it.
"""

from __future__ import annotations

from getty_tx.rpc.wires.dubbo import Dubbo
from getty_tx.rpc.wires.getty import Getty
from getty_tx.rpc.wires.grpc import Grpc
from getty_tx.rpc.wires.seata import Seata
from getty_tx.rpc.wires.thrift import Thrift
from getty_tx.rpc.wires.ttheader import TTHeader

__all__ = ["Dubbo", "Getty", "Grpc", "Seata", "TTHeader", "Thrift"]
