"""Services of Thrift from IDL files, which thriftpy2 reads when the program runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from getty_tx.errors import SettingError

__all__ = ["Services", "servicesOf"]

#: Comments of an IDL; what it includes, and where a service begins.
_COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*|#[^\n]*", re.DOTALL)
_INCLUDE = re.compile(r"""^\s*include\s+["'](.+?)["']""", re.MULTILINE)
_SERVICE = re.compile(r"^\s*service\s+(\w+)\s*(?:extends\s+[\w.]+\s*)?\{", re.MULTILINE)

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
        _checkIncludes(module)
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
    meta = _meta(module)
    if not isinstance(meta, Mapping):
        raise SettingError(f"services={module!r} is neither a path, a mapping nor a module of thriftpy2.load()")
    return {service.__name__: service for service in meta.get("services", ())}


def _meta(module: Any) -> Any:
    """What is in a module; None: it is none. There is nothing where the file is empty."""
    isOfFile = isinstance(module, ModuleType) and hasattr(module, "__thrift_file__")
    return getattr(module, "__thrift_meta__", {} if isOfFile else None)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _load(path: str | os.PathLike[str]) -> Any:
    """The module of a file. thriftpy2 keeps it: its own ``load`` of the same path has the same classes."""
    import thriftpy2
    from thriftpy2.parser.exc import ThriftParserError

    path = os.fspath(path)
    if not path.endswith(".thrift"):
        raise SettingError(f"services: {path} is no IDL file, whose names end with .thrift")
    try:
        module = thriftpy2.load(path)
        names = _SERVICE.findall(_COMMENTS.sub(" ", _text(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"services: {path} cannot be read from {os.getcwd()}: {error}") from None
    except ThriftParserError as error:
        text = str(error) or "it ends too early"
        raise SettingError(f"services: {path}: {type(error).__name__}: {text}") from None
    _checkIncludes(module)
    for name in names:
        if not hasattr(module, name):
            # thriftpy2 drops it without a word.
            why = "does one of its methods throw an exception under the name success, which is that of the result?"
            raise SettingError(f"services: {path}: thriftpy2 makes no service {name}: {why}")
    return module


def _checkIncludes(module: Any) -> None:
    """
    See whether the files that a module includes are those that are meant.

    thriftpy2 keeps an included file under its path relative to the one that includes it, and so gives the file of one
    folder to a file that means that of another.

    :raise SettingError: one is of another folder, and differs.
    """
    waiting, seen = [module], set()
    while waiting:
        parent = waiting.pop()
        path = getattr(parent, "__thrift_file__", None)
        if path is None or id(parent) in seen or not os.path.exists(path):
            continue
        seen.add(id(parent))
        children = {os.path.basename(child.__thrift_file__): child for child in _meta(parent).get("includes", ())}
        waiting += children.values()
        for given in _INCLUDE.findall(_COMMENTS.sub(" ", _text(path))):
            meant = os.path.join(os.path.dirname(path), given)
            child = children.get(os.path.basename(given))
            taken = meant if child is None else child.__thrift_file__
            # Where it is in none of thriftpy2's include_dirs.
            if os.path.exists(meant) and os.path.exists(taken) and _text(taken) != _text(meant):
                why = f"thriftpy2 has taken {taken}, which was loaded before, for {meant}"
                way = "thriftpy2.load(path, module_name='a name of your own.NAME_thrift') keeps them apart"
                raise SettingError(f"services: {path}: {why}; {way}: give the module that it returns")
