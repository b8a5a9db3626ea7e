"""Values of Thrift as a person at a terminal writes and reads them: structs are objects of JSON."""

from __future__ import annotations

from typing import Any

from getty_tx.rpc.errors import PayloadError

__all__ = ["fromJSON", "isStruct", "toJSON"]

_DOUBLE, _STRING, _STRUCT, _MAP, _SET, _LIST, _BINARY = 4, 11, 12, 13, 14, 15, 18
#: Integers, as which keys of maps are meant that JSON has as texts.
_INTEGERS = frozenset([3, 6, 8, 10])


def isStruct(value: Any) -> bool:
    """Whether it is a struct, union or exception of thriftpy2."""
    return hasattr(type(value), "thrift_spec")


def toJSON(value: Any) -> Any:
    """For ``json.dumps(default=toJSON)``: a struct's fields that are set; of what JSON lacks a text as of Python."""
    if not isStruct(value):
        return repr(value)
    fields = {spec[1]: getattr(value, spec[1]) for spec in value.thrift_spec.values()}
    return {name: field for name, field in fields.items() if field is not None}


def fromJSON(spec: tuple[Any, ...], value: Any) -> Any:
    """
    The value of a field.

    :param spec: of the field, as in a ``thrift_spec``: its type, its name, and more of it if it is made of others.
    :raise PayloadError: an object has a name that the struct has not.
    """
    return _made(spec[0], spec[2] if len(spec) == 4 else None, value)


def _made(kind: int, spec: Any, value: Any) -> Any:
    if kind == _STRUCT and isinstance(value, dict):
        return _struct(spec, value)
    if kind in (_LIST, _SET) and isinstance(value, list):
        return [_item(spec, each) for each in value]
    if kind == _MAP and isinstance(value, dict):
        return {_key(spec[0], key): _item(spec[1], each) for key, each in value.items()}
    if kind == _BINARY and isinstance(value, str):
        return value.encode()
    return value


def _item(spec: Any, value: Any) -> Any:
    kind, inner = (spec[0], spec[1]) if isinstance(spec, tuple) else (spec, None)
    return _made(kind, inner, value)


def _key(spec: Any, key: str) -> Any:
    kind = spec[0] if isinstance(spec, tuple) else spec
    try:
        return int(key) if kind in _INTEGERS else float(key) if kind == _DOUBLE else key
    except ValueError:
        raise PayloadError(f"the key {key!r} of a map is no number", sent=False) from None


def _struct(kind: Any, value: dict[str, Any]) -> Any:
    specs = {spec[1]: spec for spec in kind.thrift_spec.values()}
    unknown = value.keys() - specs
    if unknown:
        there = ", ".join(specs) or "none"
        raise PayloadError(f"{kind.__name__} has no field {min(unknown)!r} in the IDL; it has {there}", sent=False)
    return kind(**{name: fromJSON(specs[name], each) for name, each in value.items()})
