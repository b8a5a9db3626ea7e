"""Payloads that are bytes already: one argument and one result, of bytes."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload

__all__ = ["BytesPayload"]


@implementer(IPayload)
class BytesPayload:
    """One argument of bytes, or none, which the method gets as ``b""``; the result is bytes, or None for ``b""``."""

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if not arguments:
            return b""
        if len(arguments) > 1:
            raise PayloadError(f"{name}: payload='bytes' carries one argument, not {len(arguments)}", sent=False)
        return _bytes(name, arguments[0], "an argument")

    def decodeArguments(self, name: str, data: bytes | memoryview) -> tuple[Any, ...]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return (data,)

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return value if type(value) is bytes else b"" if value is None else _bytes(name, value, "a result")

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return data


def _bytes(name: str, value: Any, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise PayloadError(f"{name}: payload='bytes' cannot carry {what} of type {type(value).__name__}", sent=False)
