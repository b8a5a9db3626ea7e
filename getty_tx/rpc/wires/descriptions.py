"""Wires by texts, such as ``ttheader:msgpack``, for command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.rpc.wires.dubbo import Dubbo
from getty_tx.rpc.wires.getty import Getty
from getty_tx.rpc.wires.grpc import Grpc
from getty_tx.rpc.wires.thrift import Thrift
from getty_tx.rpc.wires.ttheader import TTHeader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_WIRE", "SERVED", "WIRES", "wireFromDescription"]

DEFAULT_WIRE = "ttheader"

#: In the place of a payload: the path of an IDL file, and how such paths end.
IDL, _ENDING = "FILE.thrift", ".thrift"


def _ttheader(payload: str) -> TTHeader:
    return TTHeader("thrift", services=payload) if payload.endswith(_ENDING) else TTHeader(payload)


#: What makes a wire, and its payloads, by names of wires. The first is the default.
WIRES: dict[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "ttheader": (_ttheader, ("json", "msgspec", "msgpack", "bytes", IDL)),
    "getty": (Getty, ("json", "protobuf")),
    "thrift": (Thrift, (IDL,)),
    "dubbo": (lambda _: Dubbo(), ("hessian",)),
    "grpc": (Grpc, ("json", "protobuf")),
}

#: Those whose calls are made by other clients.
SERVED = frozenset({"grpc"})


def wireFromDescription(text: str) -> Any:
    """
    The wire of a text.

    :param text: ``NAME`` or ``NAME:PAYLOAD``.
    :raise SettingError: there is no such wire, an IDL cannot be read, or a library that it needs is not installed.
    """
    name, colon, payload = text.partition(":")
    if name == "seata":
        raise SettingError(f"Seata's messages are classes of Python: rpc.Seata() is for programs; there is {_all()}")
    if name not in WIRES:
        raise SettingError(f"there is no wire {name!r}; there is {_all()}")
    make, payloads = WIRES[name]
    if not colon:
        payload = payloads[0]
    if IDL in payloads and payload in (IDL, "", "thrift"):
        raise SettingError(f"Thrift needs the path of its IDL: {name}:{IDL}, such as {name}:users{_ENDING}")
    if payload not in payloads and not (IDL in payloads and payload.endswith(_ENDING)):
        other = f"; the name of an IDL file ends with {_ENDING}" if IDL in payloads else ""
        raise SettingError(f"wire {name!r} has no payload {payload!r} here; there is {_all()}{other}")
    return make(payload)


def _all() -> str:
    return ", ".join(f"{name}:{payload}" for name, (_, payloads) in WIRES.items() for payload in payloads)
