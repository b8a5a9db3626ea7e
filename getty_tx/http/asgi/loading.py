"""Applications by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from getty_tx.errors import SettingError

__all__ = ["load"]


def load(name: str, factory: bool = False) -> Any:
    """
    Import an application.

    :param name: ``module:attribute``; the attribute may have dots.
    :param factory: the attribute is a function that returns the application.
    :raise SettingError: there is no such module or attribute, or it cannot be called.
    :raise Exception: whatever the module or the factory raises.
    """
    moduleName, colon, attributes = name.partition(":")
    if not (moduleName and colon and attributes):
        raise SettingError(
            f"{name!r} names no application: write it as module:attribute, such as mysite.asgi:application"
        )
    try:
        found: Any = import_module(moduleName)
    except ModuleNotFoundError as error:
        # One that the module itself does not find is another matter: its traceback says where.
        if error.name is None or not (moduleName + ".").startswith(error.name + "."):
            raise
        raise SettingError(f"{name!r}: there is no module {error.name!r}; is its folder in PYTHONPATH?") from None
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise SettingError(f"{name!r}: {moduleName} has no {attributes!r}") from None
    if not callable(found):
        raise SettingError(f"{name!r} is {type(found).__name__}, which cannot be called")
    return found() if factory else found
