"""Wires by texts, such as ``ttheader:msgpack``, for command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.rpc.wires.getty import Getty
from getty_tx.rpc.wires.ttheader import TTHeader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_WIRE", "WIRES", "wireFromDescription"]

DEFAULT_WIRE = "ttheader"

#: What makes a wire, and the payloads that need nothing but their name, by names of wires. The first is the default.
WIRES: dict[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "ttheader": (TTHeader, ("json", "msgspec", "msgpack", "bytes")),
    "getty": (Getty, ("json", "protobuf")),
}


def wireFromDescription(text: str) -> Any:
    """
    The wire of a text.

    :param text: ``NAME`` or ``NAME:PAYLOAD``.
    :raise SettingError: there is no such wire, or a library that it needs is not installed.
    """
    name, colon, payload = text.partition(":")
    if name not in WIRES:
        raise SettingError(f"there is no wire {name!r}; there is {_all()}")
    make, payloads = WIRES[name]
    if not colon:
        payload = payloads[0]
    if payload not in payloads:
        other = "; thrift needs its IDL: serve with rpc.Server in a program" if payload == "thrift" else ""
        raise SettingError(f"wire {name!r} has no payload {payload!r} here; there is {_all()}{other}")
    return make(payload)


def _all() -> str:
    return ", ".join(f"{name}:{payload}" for name, (_, payloads) in WIRES.items() for payload in payloads)
