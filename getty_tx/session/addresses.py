"""Addresses in words."""

from __future__ import annotations

from typing import Any

__all__ = ["formatAddress"]


def formatAddress(address: Any) -> str:
    """An address as it stands in logs: ``127.0.0.1:8090``, ``[::1]:8090``, or a unix socket's path."""
    host = getattr(address, "host", None)
    if host is not None:
        return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    name = getattr(address, "name", address)
    if name is None:
        return "unnamed"
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
