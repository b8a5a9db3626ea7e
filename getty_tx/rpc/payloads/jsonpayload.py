"""JSON: an array of the arguments, and a value for the result."""

from __future__ import annotations

import json
from typing import Any

from zope.interface import implementer

from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload

__all__ = ["JSONPayload"]


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is none")


# json.dumps makes an encoder for each call with options. NaN and the infinities are no JSON.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_parse = json.JSONDecoder(parse_constant=_refuse).decode


def _decode(name: str, data: bytes | memoryview) -> Any:
    try:
        return _parse(str(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PayloadError(f"{name}: no JSON: {why}") from None


def _encoded(name: str, value: Any, what: str) -> bytes:
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # RecursionError: nested too deeply; ValueError: in a circle, NaN, or half of a surrogate pair.
        raise PayloadError(f"{name}: {what} is no JSON: {error}", sent=False) from None


@implementer(IPayload)
class JSONPayload:
    """Whatever :py:mod:`json` can carry."""

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return _encoded(name, arguments, "an argument")

    def decodeArguments(self, name: str, data: bytes | memoryview) -> list[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        arguments = _decode(name, data)
        if type(arguments) is not list:
            raise PayloadError(f"{name}: the arguments are no array")
        return arguments

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return _encoded(name, value, "the result")

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return _decode(name, data)
