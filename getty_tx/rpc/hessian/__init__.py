"""
Hessian 2, the encoding of Dubbo and of many other programs in Java: bytes in, plain data out, and back.

- ``values``: what Python has no type for: longs, types of lists and maps, objects.
- ``limits``: what the bytes of strangers may ask for, and :py:class:`HessianError`.
- ``encoder`` writes values; ``decoder`` reads them, and ``scalars`` those that hold no others.

Nothing is imported, looked up or called by a name from the wire: an object is a :py:class:`JavaObject`, whatever its
class is. It needs neither a network nor Twisted.
"""

from __future__ import annotations

from getty_tx.rpc.hessian.decoder import Decoder, decode
from getty_tx.rpc.hessian.encoder import Encoder, encode
from getty_tx.rpc.hessian.limits import HessianError, Limits
from getty_tx.rpc.hessian.values import Double, JavaObject, Long, TypedList, TypedMap

__all__ = [
    "Decoder",
    "Double",
    "Encoder",
    "HessianError",
    "JavaObject",
    "Limits",
    "Long",
    "TypedList",
    "TypedMap",
    "decode",
    "encode",
]
