"""
Types of Dubbo's calls: descriptors as the JVM has them, and which values have which.

A request says in one string which method of several with one name is meant: ``Ljava/lang/String;I`` for a text and an
int. ``V Z B C D F I J S`` are the primitive types, ``L...;`` is a class, and ``[`` before one is an array.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.hessian import Double, JavaObject, Long, TypedList, TypedMap

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "INVOKE",
    "OBJECT",
    "GenericName",
    "Signature",
    "descriptorOf",
    "fit",
    "genericArguments",
    "parseDescriptors",
    "plain",
]

_ONE = re.compile(r"\[{0,255}(?:[VZBCDFIJS]|L[^;\[(.)]+;)")

#: Parameters that a method of the JVM may have.
MOST = 255

OBJECT = "Ljava/lang/Object;"
_LIST, _MAP = "Ljava/util/List;", "Ljava/util/Map;"

#: Descriptors by the types of Python's values.
_KNOWN: dict[type, str] = {
    type(None): OBJECT,
    bool: "Z",
    Long: "J",
    float: "D",
    Double: "D",
    str: "Ljava/lang/String;",
    bytes: "[B",
    bytearray: "[B",
    memoryview: "[B",
    datetime: "Ljava/util/Date;",
    list: _LIST,
    tuple: _LIST,
    dict: _MAP,
}

#: The arguments of ``$invoke`` and ``$invokeAsync``: the name, the names of the types, and the arguments.
INVOKE = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"

#: Names of primitive types, in Java and as types of Hessian's lists.
_NAMES = {
    "V": "void",
    "Z": "boolean",
    "B": "byte",
    "C": "char",
    "D": "double",
    "F": "float",
    "I": "int",
    "J": "long",
    "S": "short",
}
_PRIMITIVES = {name: letter for letter, name in _NAMES.items()}
#: Names that Hessian has for the elements of arrays of classes.
_SHORT = {"Ljava/lang/String;": "string", OBJECT: "object"}
_SHORT_NAMES = {name: descriptor for descriptor, name in _SHORT.items()}

_LONGS = frozenset(["J", "Ljava/lang/Long;"])
_DOUBLES = frozenset(["D", "F", "Ljava/lang/Double;", "Ljava/lang/Float;"])
#: The bits of whole numbers, with the sign.
_BITS = {
    **dict.fromkeys(_LONGS, 64),
    **dict.fromkeys(("I", "Ljava/lang/Integer;"), 32),
    **dict.fromkeys(("S", "Ljava/lang/Short;"), 16),
    **dict.fromkeys(("B", "Ljava/lang/Byte;"), 8),
}
_NUMBERS = _DOUBLES | _BITS.keys()


def parseDescriptors(text: str) -> tuple[str, ...]:
    """
    The descriptors in a string.

    :raise PayloadError: it has something else, or more than 255.
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        match = _ONE.match(text, at)
        if match is None:
            raise PayloadError(f"{text[at : at + 40]!r} is no type's descriptor, such as I or Ljava/lang/String;")
        if len(found) >= MOST:
            raise PayloadError(f"more than {MOST} types of arguments")
        found.append(match[0])
        at = match.end()
    return tuple(found)


def descriptorOf(value: Any) -> str:
    """
    The descriptor of a value: that of an int is ``I``, or ``J`` if it needs more than 32 bits.

    :raise PayloadError: it has none.
    """
    kind = type(value)
    known = _KNOWN.get(kind)
    if known is not None:
        return known
    if kind is int:
        return "I" if -0x80000000 <= value <= 0x7FFFFFFF else "J"
    if isinstance(value, JavaObject):
        return f"L{value.name.replace('.', '/')};"
    if isinstance(value, TypedList):
        return _ofName(value.type) if value.type.startswith("[") else _LIST
    if isinstance(value, TypedMap):
        return _MAP if not value.type or value.type.startswith("java.util.") else _ofName(value.type)
    for base in kind.__mro__[1:]:
        if base in _KNOWN:
            return _KNOWN[base]
        if base is int:
            return descriptorOf(int(value))
    raise PayloadError(f"a {kind.__name__} has no type in Java", sent=False)


def _ofName(name: str) -> str:
    """The descriptor of a type of Hessian's: ``[long``, ``com.ex.Car``."""
    element = name.lstrip("[")
    arrays = name[: len(name) - len(element)]
    if arrays:
        short = _PRIMITIVES.get(element) or _SHORT_NAMES.get(element)
        if short is not None:
            return arrays + short
    return f"{arrays}L{element.replace('.', '/')};"


def _hessianName(descriptor: str) -> str:
    """The type of Hessian's list that an array is: ``[long``."""
    element = descriptor.lstrip("[")
    arrays = descriptor[: len(descriptor) - len(element)]
    name = _NAMES.get(element) or _SHORT.get(element) or element[1:-1].replace("/", ".")
    return arrays + name


def javaName(descriptor: str) -> str:
    """The name of a type as programs write it: ``long``, ``java.lang.String[]``."""
    element = descriptor.lstrip("[")
    name = _NAMES.get(element) or element[1:-1].replace("/", ".")
    return name + "[]" * (len(descriptor) - len(element))


def fit(descriptor: str, value: Any) -> Any:
    """
    A value as a type of Java's wants it: a Long for a ``long``, a TypedList for an array.

    :raise PayloadError: a number is wanted, and it is none, or has too many bits.
    """
    if descriptor in _NUMBERS:
        if value is None and len(descriptor) > 1:
            return None
        isNumber = isinstance(value, int) and not isinstance(value, bool)
        if descriptor in _DOUBLES and (isNumber or isinstance(value, float)):
            with suppress(OverflowError):
                return Double(value)
        elif isNumber and descriptor in _BITS:
            most = 1 << _BITS[descriptor] - 1
            if -most <= value < most:
                return Long(value) if descriptor in _LONGS else int(value)
        raise PayloadError(f"{value!r:.80} is no {javaName(descriptor)} of Java", sent=False)
    if descriptor[0] == "[" and descriptor not in ("[B", "[C") and type(value) in (list, tuple):
        element = descriptor[1:]
        return TypedList(_hessianName(descriptor), [fit(element, each) for each in value])
    return value


class Signature:
    """
    The types of a method.

    :param text: the descriptors of the arguments, or ``(arguments)result``.
    :raise SettingError: it is none.

    :ivar text: the descriptors of the arguments.
    :ivar types: each of them.
    :ivar result: that of the result, or None if it is not known.
    """

    __slots__ = ("_isPlain", "result", "text", "types")

    def __init__(self, name: str, text: str) -> None:
        match = re.fullmatch(r"\(([^()]*)\)([^()]+)|[^()]*", text)
        if match is None:
            raise SettingError(f"signatures: {name}: {text!r:.80} is none, such as Ljava/lang/String;I or (I)J")
        result = match[2]
        self.text = text if result is None else match[1]
        try:
            self.types = parseDescriptors(self.text)
            if result is not None and len(parseDescriptors(result)) != 1:
                raise PayloadError(f"{result!r:.40} is not one type")
        except PayloadError as error:
            raise SettingError(f"signatures: {name}: {error}") from None
        self.result = None if result == "V" else result
        # Nothing is to be made of the arguments.
        self._isPlain = not any(each in _NUMBERS or each[0] == "[" for each in self.types)

    def fit(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The arguments as the types want them. :raise PayloadError: they do not fit."""
        if len(arguments) != len(self.types):
            raise PayloadError(f"{len(arguments)} arguments, where its signature has {len(self.types)}", sent=False)
        if self._isPlain:
            return arguments
        return [fit(each, value) for each, value in zip(self.types, arguments, strict=True)]


class GenericName(str):
    """The name of a call that came by ``$invoke``: its result is made of plain maps."""

    __slots__ = ()


def genericArguments(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """
    What ``$invoke`` is called with: a method, the names of its types or None for those of the values, and arguments.

    :raise PayloadError: they are something else.
    """
    method, types, values = arguments if len(arguments) == 3 else (None, None, None)
    if not isinstance(method, str) or not isinstance(values, list | tuple):
        raise PayloadError("it takes a method's name, the names of its types, and a list of arguments", sent=False)
    if types is None:
        types = [javaName(descriptorOf(each)) for each in values]
    return method, TypedList("[string", list(types)), TypedList("[object", list(values))


def plain(value: Any, made: dict[int, Any] | None = None) -> Any:
    """The value with a dict for each JavaObject, which has its class's name as ``class``."""
    if isinstance(value, str | int | float | bytes) or value is None:
        return value
    made = {} if made is None else made
    known = made.get(id(value))
    if known is not None:
        return known
    if isinstance(value, JavaObject):
        fields: dict[Any, Any] = {"class": value.name}
        made[id(value)] = fields
        fields.update((key, plain(each, made)) for key, each in value.fields.items())
        return fields
    if isinstance(value, dict):
        mapped: dict[Any, Any] = {}
        made[id(value)] = mapped
        mapped.update((key, plain(each, made)) for key, each in value.items())
        return mapped
    if isinstance(value, list | tuple):
        listed: list[Any] = []
        made[id(value)] = listed
        listed.extend(plain(each, made) for each in value)
        return listed
    return value
