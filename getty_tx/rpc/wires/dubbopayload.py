"""
The arguments and results of Dubbo's calls.

Arguments are the string with their types and then each of them, as they stand in a request. Those that came, and
results, are decoded where a message is read: what stands behind them in it cannot be found before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.hessian import encode
from getty_tx.rpc.interfaces import IPayload
from getty_tx.rpc.wires.dubbotypes import (
    INVOKE,
    OBJECT,
    GenericName,
    Signature,
    descriptorOf,
    fit,
    genericArguments,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ECHO", "GENERIC", "DubboPayload"]

#: The methods of every provider that call another one of it.
GENERIC = ("$invoke", "$invokeAsync")

#: The method of every provider that gives its argument back. Java knows it by this type of the argument only.
ECHO = "$echo"

#: Strings of types that are kept encoded, and the characters of one at most.
_KEPT = 1024
_KEPT_CHARACTERS = 256


@implementer(IPayload)
class DubboPayload:
    """
    Hessian 2.

    :param signatures: the descriptors of methods by ``Service/method``.
    :raise SettingError: one is none.
    """

    def __init__(self, signatures: Mapping[str, str] | None = None) -> None:
        self._signatures: dict[str, Signature] = {}
        for name, text in (signatures or {}).items():
            if not isinstance(name, str) or "/" not in name or not isinstance(text, str):
                raise SettingError(f"signatures: {name!r}: {text!r:.80}: texts by Service/method are wanted")
            self._signatures[name] = Signature(name, text)
        self._packed: dict[str, bytes] = {}

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`. The types come first."""
        signature = self._signatures.get(name)
        values: Any = arguments
        try:
            if signature is not None:
                text = signature.text
                values = signature.fit(arguments)
            elif "/$" in name and name.partition("/")[2] in GENERIC:
                text = INVOKE
                values = genericArguments(arguments)
            elif name.endswith("/$echo") and len(arguments) == 1:
                text = OBJECT
            else:
                text = "".join([descriptorOf(each) for each in arguments])
            return (self._packed.get(text) or self._pack(text)) + encode(*values)
        except PayloadError as error:
            raise PayloadError(f"{name}: {error}", sent=False) from None

    def _pack(self, text: str) -> bytes:
        packed = encode(text)
        if len(text) <= _KEPT_CHARACTERS:
            if len(self._packed) >= _KEPT:
                self._packed.clear()
            self._packed[text] = packed
        return packed

    def decodeArguments(self, name: str, data: Any) -> list[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if isinstance(data, PayloadError):
            raise data
        arguments: list[Any] = data
        return arguments

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        kind = type(value).__name__
        try:
            if type(name) is GenericName:
                value = plain(value)
            elif self._signatures:
                signature = self._signatures.get(name)
                if signature is not None and signature.result is not None:
                    value = fit(signature.result, value)
            return encode(value)
        except PayloadError as error:
            raise PayloadError(f"{name}: the result, which is of the type {kind}, cannot be sent: {error}") from None

    def decodeResult(self, name: str, data: Any) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if isinstance(data, PayloadError):
            raise PayloadError(f"{name}: the result cannot be read: {data}")
        return data
