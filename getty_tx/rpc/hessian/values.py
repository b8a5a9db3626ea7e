"""
What Java has and Python has not: numbers of a size, lists and maps of a type, and objects of classes that are not here.

All but the object are Python's own types with a little more, and compare as these do: ``Long(5) == 5``, and a
``TypedList`` equals a list with the same items.
"""

from __future__ import annotations

from datetime import datetime
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Double", "JavaObject", "Long", "TypedList", "TypedMap"]


class Long(int):
    """An int that is written as a long, and what longs are read as. 64 bits, with a sign."""

    __slots__ = ()


class Double(float):
    """A float from anything that makes one: ``Double(1)`` is written as a double, and 1 as an int."""

    __slots__ = ()


class TypedList(list[Any]):
    """
    A list with the name of a type: an array (``[int``, ``[string``), or another class than ArrayList.

    :ivar type: the name, as the peer has written it.
    """

    __slots__ = ("type",)

    def __init__(self, type: str, items: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self.type = type

    @recursive_repr()
    def __repr__(self) -> str:
        return f"TypedList({self.type!r}, {super().__repr__()})"


class TypedMap(dict[Any, Any]):
    """
    A map with the name of a type: another class than HashMap.

    :ivar type: the name, as the peer has written it.
    """

    __slots__ = ("type",)

    def __init__(self, type: str, items: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__(items)
        self.type = type

    @recursive_repr()
    def __repr__(self) -> str:
        return f"TypedMap({self.type!r}, {super().__repr__()})"


#: What the fields of an object may be that is a key of a map.
_PLAIN = (str, int, float, bytes, datetime, type(None))


class JavaObject:
    """
    An object of a class of the peer's.

    An enum is an object whose one field is ``name``; an exception has ``detailMessage``, ``cause`` and ``stackTrace``.
    It can be a key of a map where its fields hold no lists, maps and objects, as those of an enum; its fields must not
    change then.

    :ivar name: of the class, with its package.
    :ivar fields: the values by the names of the fields, in the order of the class's definition.
    """

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.name = name
        self.fields: dict[str, Any] = fields if type(fields) is dict else dict(fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JavaObject):
            return NotImplemented
        return self.name == other.name and self.fields == other.fields

    def __hash__(self) -> int:
        if not all(isinstance(value, _PLAIN) for value in self.fields.values()):
            raise TypeError(f"an object of {self.name} whose fields hold lists, maps or objects is no key")
        return hash((self.name, frozenset(self.fields.items())))

    @recursive_repr()
    def __repr__(self) -> str:
        return f"JavaObject({self.name!r}, {self.fields!r})"
