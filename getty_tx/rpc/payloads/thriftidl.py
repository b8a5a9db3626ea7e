"""Services of Thrift from IDL files, which thriftpy2 reads when the program runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from getty_tx.errors import SettingError

__all__ = ["Services", "servicesOf"]

#: What ``services=`` takes.
Services = Mapping[str, Any] | ModuleType | str | os.PathLike[str] | None


def servicesOf(services: Services) -> dict[str, Any]:
    """
    The services by the names that calls have.

    :param services: a path of an IDL file, or the module that thriftpy2 has made of one: all services of it. Or a
        mapping of names to services of such modules, or to paths of files with a service of that name.
    :raise SettingError: a file cannot be read, or there is no such service.
    """
    if not services:
        raise SettingError("services= is the path of an IDL file, or {name: a service of thriftpy2.load()}")
    if isinstance(services, Mapping):
        return {name: _service(name, each) for name, each in services.items()}
    if isinstance(services, str | os.PathLike):
        module, where = _load(services), os.fspath(services)
    else:
        module, where = services, getattr(services, "__thrift_file__", None) or repr(services)
    found = _all(module)
    if not found:
        raise SettingError(f"services: there is no service in {where}")
    return found


def _service(name: str, given: Any) -> Any:
    if isinstance(given, str | os.PathLike):
        found = _all(_load(given))
        if name not in found:
            there = ", ".join(found) or "none"
            raise SettingError(f"services: there is no service {name!r} in {os.fspath(given)}; it has {there}")
        return found[name]
    if not hasattr(given, "thrift_services"):
        raise SettingError(f"services: {name!r} is {given!r}, which is no service of thriftpy2")
    return given


def _all(module: Any) -> dict[str, Any]:
    meta = getattr(module, "__thrift_meta__", None)
    if not isinstance(meta, Mapping):
        raise SettingError(f"services={module!r} is neither a path, a mapping nor a module of thriftpy2.load()")
    return {service.__name__: service for service in meta.get("services", ())}


def _load(path: str | os.PathLike[str]) -> Any:
    """The module of a file. thriftpy2 keeps it: its own ``load`` of the same path has the same classes."""
    import thriftpy2
    from thriftpy2.parser.exc import ThriftParserError

    path = os.fspath(path)
    if not path.endswith(".thrift"):
        raise SettingError(f"services: {path} is no IDL file, whose names end with .thrift")
    try:
        return thriftpy2.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"services: {path} cannot be read from {os.getcwd()}: {error}") from None
    except ThriftParserError as error:
        text = str(error) or "it ends too early"
        raise SettingError(f"services: {path}: {type(error).__name__}: {text}") from None
