"""Finds listeners by description, as in command lines: ``mypkg.service:Listener``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.listener import missingEvents

if TYPE_CHECKING:
    from getty_tx.interfaces import IEventListener

__all__ = ["lookUpListener"]

_WANTED = "a listener is module:attr, such as mypkg.service:Listener"


def lookUpListener(description: str) -> IEventListener:
    """
    Find the listener of a description.

    :param description: a module and an attribute, which may have dots. A listener is used directly; a class or another
        callable is called without arguments and returns a listener.
    :return: has the five methods of an event listener; it need not declare the interface.
    :raise SettingError: the description is wrong; if another exception is the reason, it is the ``__cause__``.
    """
    module, _, attribute = description.partition(":")
    if not module or not attribute or ":" in attribute:
        raise SettingError(f"it is not a module and an attribute; {_WANTED}")
    found = _import(module, attribute)
    if isinstance(found, type) or (callable(found) and missingEvents(found)):
        try:
            made = found()
        except Exception as error:
            raise SettingError(f"calling it without arguments failed: {type(error).__name__}: {error}") from error
        kind = f"what it returned, {type(made).__name__}," if not isinstance(found, type) else "the class"
    else:
        made = found
        kind = f"the {type(made).__name__}"
    missing = missingEvents(made)
    if missing:
        raise SettingError(f"{kind} has no method {', '.join(missing)}; subclass getty_tx.listener.EventListener")
    listener: IEventListener = made
    return listener


def _import(module: str, attribute: str) -> Any:
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        # The module itself or its package is missing, not a module that it imports.
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise SettingError(f"there is no module {error.name!r}; {_WANTED}") from error
        raise SettingError(f"importing {module!r} failed: {error}") from error
    except Exception as error:
        raise SettingError(f"importing {module!r} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise SettingError(f"module {module!r} has no {attribute!r}") from error
    return found
