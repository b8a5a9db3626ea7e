"""
Settings: attributes that are checked when they are set, and the checks.

The value is in the slot with the setting's name after an underscore, so that code that runs per message reads the slot
without a check. The object has a method ``settingChanged(name)``, called after a change, and may have a method
``checkSetting(name, value)``, which may raise :py:exc:`~getty_tx.errors.SettingError` before it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Setting", "count", "flag", "optionalCount", "optionalSeconds", "seconds", "size", "text"]

T = TypeVar("T", covariant=True)


class Setting(Generic[T]):
    """
    A checked attribute.

    :param check: ``check(name, value)`` returns the value to store, or raises
        :py:exc:`~getty_tx.errors.SettingError` (a ``ValueError``) that names the setting and the bound.
    :param default: the value in a new object; see :py:func:`defaults`.
    """

    #: False if the value is not stored in a slot.
    hasSlot = True

    def __init__(self, check: Callable[[str, Any], T], default: T, doc: str) -> None:
        self._check = check
        self.default = default
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.slot = "_" + name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Setting[T] | T:
        if instance is None:
            return self
        value: T = getattr(instance, self.slot)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        value = self._check(self.name, value)
        check = getattr(instance, "checkSetting", None)
        if check is not None:
            check(self.name, value)
        setattr(instance, self.slot, value)
        instance.settingChanged(self.name)


def defaults(owner: type) -> tuple[tuple[str, Any], ...]:
    """The slots and defaults of all settings of a class, to initialise a new instance."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        for value in vars(base).values():
            if isinstance(value, Setting) and value.hasSlot:
                found[value.slot] = value.default
    return tuple(found.items())


#: Seconds, some 30 years. A longer time means "for ever", and its number of clock ticks could overflow.
MAX_SECONDS = 1e9


def seconds(name: str, value: Any) -> float:
    """Seconds, more than 0, and at most :py:data:`MAX_SECONDS`."""
    # isfinite() raises for integers too large for a float.
    isNumber = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not isNumber or isinstance(value, bool):
        raise SettingError(f"{name}={value!r} is not a number of seconds")
    if value <= 0:
        raise SettingError(f"{name}={value!r} is not more than 0 seconds")
    if value > MAX_SECONDS:
        raise SettingError(f"{name}={value!r} is more than {MAX_SECONDS:.0f} seconds")
    return float(value)


def optionalSeconds(name: str, value: Any) -> float | None:
    """Seconds, more than 0; ``None`` for no limit."""
    return None if value is None else seconds(name, value)


def _whole(name: str, value: Any, least: int, unit: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingError(f"{name}={value!r} is not a whole number{unit and ' of' + unit}")
    if value < least:
        raise SettingError(f"{name}={value!r} is less than {least}{unit}")
    return value


def size(name: str, value: Any) -> int:
    """Bytes, at least 1."""
    return _whole(name, value, 1, " bytes")


#: Bytes, the maximum of setsockopt.
MAX_BUFFER_SIZE = 2**31 - 1


def bufferSize(name: str, value: Any) -> int | None:
    """Bytes of a socket's buffer, at least 1 and less than 2 GiB; ``None`` leaves it to the system."""
    if value is None:
        return None
    if size(name, value) > MAX_BUFFER_SIZE:
        raise SettingError(f"{name}={value!r} is more than {MAX_BUFFER_SIZE} bytes")
    return int(value)


def count(name: str, value: Any) -> int:
    """A count, at least 1."""
    return _whole(name, value, 1, "")


def optionalCount(name: str, value: Any) -> int | None:
    """A count, at least 1; ``None`` for no limit."""
    return None if value is None else count(name, value)


def flag(name: str, value: Any) -> bool:
    """A bool; 0, 1 and other values that are equal to one are refused."""
    if not isinstance(value, bool):
        raise SettingError(f"{name}={value!r} is neither True nor False")
    return value


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise SettingError(f"{name}={value!r} is not a string")
    return value
