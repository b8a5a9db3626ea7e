"""Values of Hessian: random ones, and whether what was read is what was written, with its types and references."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from getty_tx.rpc import hessian

__all__ = ["anyText", "dates", "isSame", "longs", "objectsOf", "plain", "values"]

#: Surrogates that are alone are characters, too, as in Java.
anyText = st.text(st.characters(codec=None), max_size=40)

longs = st.integers(-(2**63), 2**63 - 1)

dates = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000)
)

_names = st.text("abc.$\u00e9", max_size=5)

#: What holds no other values.
plain = (
    st.none()
    | st.booleans()
    | longs
    | st.integers(-300_000, 300_000)
    | longs.map(hessian.Long)
    | st.integers(-300_000, 300_000).map(hessian.Long)
    | st.floats(allow_nan=False)
    | st.integers(-40_000, 40_000).map(float)
    | st.integers(-(2**31), 2**31 - 1).map(lambda number: number / 1000)
    | dates
    | anyText
    | st.text("ab\u00e9\u4e2d\U0001f600", max_size=1100)
    | st.binary(max_size=40)
)


def objectsOf(inner: Any) -> Any:
    """Objects of classes that come again and again."""
    return st.builds(hessian.JavaObject, _names, st.dictionaries(_names, inner, max_size=4))


_keys = plain | objectsOf(plain)

values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.lists(inner, max_size=10).map(tuple)
        | st.dictionaries(_keys, inner, max_size=5)
        | objectsOf(inner)
        | st.builds(hessian.TypedList, _names, st.lists(inner, max_size=10))
        | st.builds(hessian.TypedMap, _names, st.dictionaries(_keys, inner, max_size=5))
    ),
    max_leaves=30,
)


def _kind(value: Any) -> type:
    """The type that a value is read as."""
    if type(value) is int and not -(2**31) <= value < 2**31:
        return hessian.Long
    return {tuple: list, bytearray: bytes, memoryview: bytes, hessian.Double: float}.get(type(value), type(value))


def isSame(wrote: Any, read: Any, seen: dict[int, int] | None = None) -> bool:
    """Whether both are the same values, of the same types, that refer to one another in the same way."""
    seen = {} if seen is None else seen
    if _kind(wrote) is not type(read):
        return False
    if not isinstance(wrote, (list, tuple, dict, hessian.JavaObject)):
        return bool(wrote == read) and str(wrote) == str(read)
    if id(wrote) in seen:
        return seen[id(wrote)] == id(read)
    seen[id(wrote)] = id(read)
    if isinstance(wrote, hessian.JavaObject):
        return wrote.name == read.name and _areSame([*_flat(wrote.fields)], [*_flat(read.fields)], seen)
    if getattr(wrote, "type", None) != getattr(read, "type", None):
        return False
    if isinstance(wrote, dict):
        return _areSame([*_flat(wrote)], [*_flat(read)], seen)
    return _areSame(wrote, read, seen)


def _flat(pairs: dict[Any, Any]) -> Any:
    for pair in pairs.items():
        yield from pair


def _areSame(wrote: Any, read: Any, seen: dict[int, int]) -> bool:
    return len(wrote) == len(read) and all(isSame(a, b, seen) for a, b in zip(wrote, read, strict=True))
