"""Values of Hessian: random ones, and whether what was read is what was written, with its types and references."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from getty_tx.rpc import hessian

if TYPE_CHECKING:
    import random

__all__ = ["anyText", "dates", "isSame", "longs", "objectsOf", "plain", "randomValue", "unshared", "values"]

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
        return wrote.name == read.name and _areSame(wrote.fields, read.fields, seen)
    if getattr(wrote, "type", None) != getattr(read, "type", None) or len(wrote) != len(read):
        return False
    if isinstance(wrote, dict):
        return _areSame(wrote, read, seen)
    return all(isSame(one, other, seen) for one, other in zip(wrote, read, strict=True))


def _areSame(wrote: dict[Any, Any], read: dict[Any, Any], seen: dict[int, int]) -> bool:
    """Whether maps are the same, in whatever order."""
    if len(wrote) != len(read):
        return False
    keys = {key: key for key in read}
    return all(
        key in keys and isSame(key, keys[key], seen) and isSame(value, read[key], seen) for key, value in wrote.items()
    )


def unshared(value: Any) -> Any:
    """The same with nothing in it twice. It must hold no circles."""
    if isinstance(value, list):
        return [unshared(one) for one in value]
    if isinstance(value, dict):
        return {key: unshared(one) for key, one in value.items()}
    if isinstance(value, hessian.JavaObject):
        return hessian.JavaObject(value.name, unshared(value.fields))
    return value


def randomValue(source: random.Random, levels: int = 3, name: str = "com.ex.Node") -> Any:
    """
    A value that all implementations read: maps with strings as keys, doubles that are not whole, objects of one class.

    :param name: of the class; its fields are ``name``, ``next`` and ``number``, which is a long.
    """
    kind = source.randrange(10 if levels else 7)
    if kind == 0:
        return source.choice((None, True, False))
    if kind == 1:
        return source.randrange(-(2 ** source.randrange(1, 31)), 2 ** source.randrange(1, 31))
    if kind == 2:
        return source.randrange(-(2**40), 2**40) / 1024 + 1 / 2048
    if kind == 3:
        return datetime.fromtimestamp(source.randrange(-(2**30), 2**32), UTC).replace(
            microsecond=source.randrange(1000) * 1000
        )
    if kind in (4, 5):
        size = source.choice((1, 5, 31, 32, 1023, 1024, 40_000 if source.random() < 0.1 else 3))
        return "".join(source.choices("az\u00e9\u4e2d\U0001f600{~", k=size)) if source.random() < 0.5 else "a" * size
    if kind == 6:
        return source.randbytes(source.choice((0, 15, 16, 1023, 1024, 5000)))
    inner = [randomValue(source, levels - 1, name) for _ in range(source.choice((0, 1, 3, 7, 8, 12)))]
    if inner and source.random() < 0.3:
        # The same once more, which is a reference if it is a list, map or object.
        inner.append(source.choice(inner))
    if kind == 7:
        return inner
    if kind == 8:
        return {f"k{number}": value for number, value in enumerate(inner)}
    fields = {"name": inner[0] if inner else None, "next": inner, "number": hessian.Long(source.randrange(2**50))}
    return hessian.JavaObject(name, fields)
