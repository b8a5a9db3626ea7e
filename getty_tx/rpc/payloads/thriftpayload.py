"""Thrift: the structs of arguments and results, by the classes that thriftpy2 makes of an IDL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload
from getty_tx.rpc.payloads.thriftbinary import readMessage
from getty_tx.rpc.payloads.thriftidl import Services, servicesOf
from getty_tx.rpc.payloads.thriftjson import fromJSON

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Services", "ThriftPayload"]


class _Method:
    """
    The classes of a method, and the names of their fields in the order of the IDL.

    :raise SettingError: what it throws is no exception, or has the number of the result.
    """

    __slots__ = ("arguments", "isOneWay", "isVoid", "names", "raised", "result")

    def __init__(self, service: Any, name: str) -> None:
        self.arguments = getattr(service, f"{name}_args")
        self.result = getattr(service, f"{name}_result")
        self.names = [spec[1] for spec in self.arguments.thrift_spec.values()]
        self.isOneWay = bool(self.result.oneway)
        spec = self.result.thrift_spec
        self.isVoid = 0 not in spec
        self.raised = [(each[1], each[2]) for number, each in spec.items() if number]
        # An exception with the number 0 is in the place of the result, or the result in that of the exception.
        lost = {field for field, _ in self.result.default_spec} - {field for field, _ in self.raised} - {"success"}
        if lost:
            text = f"throws {min(lost)} as number 0, which is that of the result: give it another one in the IDL"
            raise SettingError(f"services: {service.__name__}.{name} {text}")
        for field, kind in self.raised:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise SettingError(f"services: {service.__name__}.{name} throws {field}, which is no exception")


def _isAlike(one: type, other: type) -> bool:
    """Whether two classes are of one exception, whose IDL was loaded twice: by a relative path and a full one."""
    if one.__name__ != other.__name__:
        return False
    first, second = (getattr(each, "thrift_spec", None) or {} for each in (one, other))
    return {number: each[:2] for number, each in first.items()} == {number: each[:2] for number, each in second.items()}


@implementer(IPayload)
class ThriftPayload:
    """
    What the IDL says.

    :param services: as for :py:func:`~getty_tx.rpc.payloads.thriftidl.servicesOf`.
    :raise SettingError: the library is not installed, a file cannot be read, or a service is none of it.
    """

    def __init__(self, services: Services) -> None:
        try:
            from thriftpy2.protocol import TBinaryProtocol
            from thriftpy2.transport import TCyMemoryBuffer
        except ImportError:
            raise SettingError("Thrift needs thriftpy2: pip install 'getty_tx[thrift]'") from None
        self._protocol: Any = TBinaryProtocol
        self._buffer: Any = TCyMemoryBuffer
        self.methods: dict[str, _Method] = {}
        self._owners: dict[str, str] = {}
        self._names: dict[str, dict[str, bool]] = {}
        for service, kind in servicesOf(services).items():
            self._names[service] = dict.fromkeys(kind.thrift_services, False)
            for name in kind.thrift_services:
                self.methods[f"{service}/{name}"] = _Method(kind, name)
                self._owners.setdefault(name, service)
        self.services = tuple(self._names)

    def serviceOf(self, method: str) -> str:
        """The first service that has a method, or the first of all."""
        return self._owners.get(method, self.services[0])

    def namesOf(self, service: str) -> Mapping[str, bool]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        names = self._names.get(service)
        if names is None:
            raise SettingError(f"there is no service {service!r} in the IDL; it has {', '.join(self.services)}")
        return names

    def checkMethod(self, name: str, least: int, most: int) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        service, _, method = name.partition("/")
        names = self.namesOf(service)
        if method not in names:
            raise SettingError(f"{name} is not in the IDL, where {service} has {', '.join(names) or 'no method'}")
        arguments = self.methods[name].names
        if not least <= len(arguments) <= most:
            text = f"has the arguments ({', '.join(arguments)}) in the IDL, and the method takes another number"
            raise SettingError(f"{name} {text}")

    def isOneWay(self, name: str) -> bool:
        """Whether the IDL says so."""
        method = self.methods.get(name)
        return method is not None and method.isOneWay

    def _method(self, name: str, sent: bool) -> _Method:
        method = self.methods.get(name)
        if method is None:
            service, _, _ = name.partition("/")
            there = f"{service} has {', '.join(self._names[service])}" if service in self._names else ""
            there = there or f"there is {', '.join(self.services)}"
            raise PayloadError(f"{name} is not in the IDL, where {there}", sent=sent)
        return method

    def encode(self, name: str, struct: Any) -> bytes:
        """The bytes of a struct. :raise PayloadError: a field has a value of another type."""
        buffer = self._buffer()
        protocol = self._protocol(buffer)
        try:
            # Not its own write(): a field may have that name.
            protocol.write_struct(struct)
            protocol.write_message_end()
        except Exception as error:
            # Which error depends on the type of the field.
            raise PayloadError(f"{name}: no Thrift: {error}", sent=False) from None
        data: bytes = buffer.getvalue()
        return data

    def decode(self, name: str, data: bytes | memoryview, struct: Any) -> Any:
        """Fill a struct. :raise PayloadError: the bytes are no Thrift."""
        try:
            readMessage(bytes(data), struct)
        except (TypeError, ValueError) as error:
            # TypeError: the key of a map cannot be one in Python.
            raise PayloadError(f"{name}: no Thrift: {error}") from None
        return struct

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`. None is left out."""
        method = self._method(name, False)
        if len(arguments) > len(method.names):
            text = f"{name} has {len(method.names)} arguments in the IDL, and was called with {len(arguments)}"
            raise PayloadError(text, sent=False)
        struct = method.arguments()
        for field, value in zip(method.names, arguments, strict=False):
            setattr(struct, field, value)
        return self.encode(name, struct)

    def argumentsFromJSON(self, name: str, arguments: list[Any]) -> list[Any]:
        """Arguments from JSON: objects become structs of the IDL. :raise PayloadError: it has no such field."""
        method = self._method(name, False)
        specs = method.arguments.thrift_spec.values()
        made = [fromJSON(spec, each) for spec, each in zip(specs, arguments, strict=False)]
        return made + arguments[len(made) :]

    def decodeArguments(self, name: str, data: bytes | memoryview) -> list[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`. What the caller has left out is None."""
        method = self._method(name, True)
        struct = self.decode(name, data, method.arguments())
        return [getattr(struct, field) for field in method.names]

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        method = self._method(name, True)
        struct = method.result()
        if method.isVoid:
            if value is not None:
                raise PayloadError(f"{name} has returned a {type(value).__name__}, and is void in the IDL")
        elif value is None:
            raise PayloadError(f"{name} has returned None, and is not void in the IDL")
        else:
            struct.success = value
        return self.encode(name, struct)

    def encodeRaised(self, name: str, error: BaseException) -> bytes | None:
        """The result with an exception that the IDL declares for the method; None: it does not."""
        for field, kind in self._method(name, True).raised:
            if isinstance(error, kind) or _isAlike(type(error), kind):
                struct = self._method(name, True).result()
                setattr(struct, field, error)
                return self.encode(name, struct)
        return None

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`. A declared exception is a Failure: the call fails."""
        method = self._method(name, True)
        struct = self.decode(name, data, method.result())
        for field, _ in method.raised:
            error = getattr(struct, field)
            if error is not None:
                return Failure(error)
        if method.isVoid:
            return None
        if struct.success is None:
            raise PayloadError(f"{name}: the reply has no result, and no exception of the IDL")
        return struct.success
