"""
Settings: plain attributes that are checked when they are set.

A setting lives in the slot of its name with an underscore before it, so that code which runs per message reads the
slot and pays for no check. The object has a method ``_settingChanged(name)``, which hears of changes, and may have a
method ``_checkSetting(name, value)``, which may refuse them.
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

    :param check: takes the setting's name and the value given, returns the value to keep, raises
        :py:exc:`~getty_tx.errors.SettingError` (a ``ValueError``) that names the setting and the bound.
    :param default: what a new object starts with; see :py:func:`defaults`.
    """

    #: False where the value is kept elsewhere.
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
        check = getattr(instance, "_checkSetting", None)
        if check is not None:
            check(self.name, value)
        setattr(instance, self.slot, value)
        instance._settingChanged(self.name)


def defaults(owner: type) -> tuple[tuple[str, Any], ...]:
    """The slots and defaults of all settings of a class, to fill a new instance with."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        for value in vars(base).values():
            if isinstance(value, Setting) and value.hasSlot:
                found[value.slot] = value.default
    return tuple(found.items())


#: Seconds, some 30 years. What is longer is meant for ever, and would be no number of ticks of a clock any more.
LONGEST_TIME = 1e9


def seconds(name: str, value: Any) -> float:
    """Seconds, more than 0, and at most :py:data:`LONGEST_TIME`."""
    # isfinite() fails for integers that no float can be.
    isNumber = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not isNumber or isinstance(value, bool):
        raise SettingError(f"{name}={value!r} is not a number of seconds")
    if value <= 0:
        raise SettingError(f"{name}={value!r} is not more than 0 seconds")
    if value > LONGEST_TIME:
        raise SettingError(f"{name}={value!r} is more than {LONGEST_TIME:.0f} seconds")
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


#: Bytes, the most that setsockopt takes.
LARGEST_BUFFER = 2**31 - 1


def bufferSize(name: str, value: Any) -> int | None:
    """Bytes of a socket's buffer, at least 1 and less than 2 GiB; ``None`` leaves it to the system."""
    if value is None:
        return None
    if size(name, value) > LARGEST_BUFFER:
        raise SettingError(f"{name}={value!r} is more than {LARGEST_BUFFER} bytes")
    return int(value)


def count(name: str, value: Any) -> int:
    """How many, at least 1."""
    return _whole(name, value, 1, "")


def optionalCount(name: str, value: Any) -> int | None:
    """How many, at least 1; ``None`` for no limit."""
    return None if value is None else count(name, value)


def flag(name: str, value: Any) -> bool:
    """True or False, nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise SettingError(f"{name}={value!r} is neither True nor False")
    return value


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise SettingError(f"{name}={value!r} is not a string")
    return value
