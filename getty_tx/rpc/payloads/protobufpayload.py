"""Protocol Buffers: one message for the argument, and one for the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload

__all__ = ["ProtobufPayload", "typesOf"]


def typesOf(given: Any) -> dict[str, tuple[Any, Any]]:
    """
    The classes of request and reply by ``Service/method``.

    :param given: a module that protoc has made, of whose services they are taken; a list of them; a mapping, which is
        that already; or None.
    :raise SettingError: it is something else.
    """
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    found: dict[str, tuple[Any, Any]] = {}
    for module in given if isinstance(given, list | tuple) else [given]:
        services = getattr(getattr(module, "DESCRIPTOR", None), "services_by_name", None)
        if not services:
            raise SettingError(f"types: {module!r} is no module that protoc has made from a file with services")
        from google.protobuf.message_factory import GetMessageClass

        for service in services.values():
            for each in service.methods:
                pair = GetMessageClass(each.input_type), GetMessageClass(each.output_type)
                found[f"{service.full_name}/{each.name}"] = pair
    return found


@implementer(IPayload)
class ProtobufPayload:
    """
    Messages of google.protobuf, or the bytes of encoded ones. No argument is ``b""``, and None as a result, too.

    :param types: the classes of argument and result by ``Service/method``. What is not in it arrives as bytes.
    :raise SettingError: a class is none of messages, or the library, which classes need, is not installed.
    """

    def __init__(self, types: Mapping[str, tuple[Any, Any]] | None = None) -> None:
        self._types = dict(types or {})
        if not self._types:
            return
        try:
            from google.protobuf.message import Message
        except ImportError:
            raise SettingError("types= needs protobuf: pip install 'getty_tx[protobuf]'") from None
        for name, pair in self._types.items():
            if "/" not in name or not isinstance(pair, tuple) or len(pair) != 2:
                raise SettingError(f"types: {name!r}: {pair!r} is not 'Service/method': (Request, Reply)")
            for kind in pair:
                if not isinstance(kind, type) or not issubclass(kind, Message):
                    raise SettingError(f"types: {name!r}: {kind!r} is no class of messages")

    def _encoded(self, name: str, value: Any, index: int, what: str) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if value is None:
            return b""
        pair = self._types.get(name)
        serialize = getattr(value, "SerializeToString", None)
        if serialize is None or (pair is not None and not isinstance(value, pair[index])):
            expected = "a message or bytes" if pair is None else f"{pair[index].__name__} or bytes"
            raise PayloadError(f"{name}: {what} is {type(value).__name__}, not {expected}", sent=False)
        try:
            data: bytes = serialize()
        except Exception as error:
            # The library's EncodeError, for a field of proto2 that is required and not set, or the class's own.
            raise PayloadError(f"{name}: {what} cannot be encoded: {error}", sent=False) from None
        return data

    def _decoded(self, name: str, data: bytes | memoryview, index: int, what: str) -> Any:
        pair = self._types.get(name)
        if pair is None:
            return bytes(data)
        try:
            return pair[index].FromString(bytes(data))
        except Exception as error:
            # The library's DecodeError.
            raise PayloadError(f"{name}: {what} is no {pair[index].__name__}: {error}") from None

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if len(arguments) > 1:
            raise PayloadError(f"{name}: Getty's wire carries one argument, not {len(arguments)}", sent=False)
        return self._encoded(name, arguments[0] if arguments else None, 0, "the argument")

    def decodeArguments(self, name: str, data: bytes | memoryview) -> tuple[Any, ...]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return (self._decoded(name, data, 0, "the argument"),)

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return self._encoded(name, value, 1, "the result")

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return self._decoded(name, data, 1, "the result")
