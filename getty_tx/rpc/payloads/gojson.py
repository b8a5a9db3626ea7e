"""JSON as Go's encoding/json writes it: one value for the argument, and one for the result."""

from __future__ import annotations

import json
import re
from typing import Any

from zope.interface import implementer

from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload
from getty_tx.rpc.payloads.jsonpayload import JSONPayload

__all__ = ["GoJSONPayload", "goJSON"]

# Go sorts the keys of maps, and escapes what HTML or JavaScript would take for its own.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode
_special = re.compile("[<>&\u2028\u2029]").search
_ESCAPES = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def goJSON(value: Any) -> bytes:
    """
    The JSON of a value.

    :raise TypeError: there is none, or the keys of a dict cannot be sorted.
    :raise ValueError: there is none: NaN, a circle, or half of a surrogate pair.
    :raise RecursionError: it is nested too deeply.
    """
    text = _encode(value)
    # They can only stand in strings.
    return (text.translate(_ESCAPES) if _special(text) else text).encode()


def _encoded(name: str, value: Any, what: str) -> bytes:
    try:
        return goJSON(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"{name}: {what} is no JSON: {error}", sent=False) from None


@implementer(IPayload)
class GoJSONPayload:
    """
    One argument and one result, of whatever :py:mod:`json` can carry. No argument is ``null``, and no result, too.
    """

    def __init__(self) -> None:
        self._decode = JSONPayload().decodeResult

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if len(arguments) > 1:
            raise PayloadError(f"{name}: Getty's wire carries one argument, not {len(arguments)}", sent=False)
        return _encoded(name, arguments[0] if arguments else None, "the argument")

    def decodeArguments(self, name: str, data: bytes | memoryview) -> tuple[Any, ...]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        value = self.decodeResult(name, data)
        return () if value is None else (value,)

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return _encoded(name, value, "the result")

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        # Without bytes: of a call that wants no result.
        return self._decode(name, data) if data else None
