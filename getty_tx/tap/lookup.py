"""Finds listeners and services by description, as in command lines: ``mypkg.service:Listener``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.listener import missingEvents

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.interfaces import IEventListener

__all__ = ["lookUp", "lookUpListener", "lookUpService", "lookUpServicer"]

_WANTED = "a listener is module:attr, such as mypkg.service:Listener"
_WANTED_SERVICER = "a servicer is module:Class, such as mypkg.service:Greeter"
_WANTED_SERVICE = "a service is module:Class or Name=module:Class, such as mypkg.service:Echo"


def lookUpListener(description: str) -> IEventListener:
    """
    Find the listener of a description.

    :param description: a module and an attribute, which may have dots. A listener is used directly; a class or another
        callable is called without arguments and returns a listener.
    :return: has the five methods of an event listener; it need not declare the interface.
    :raise SettingError: the description is wrong; if another exception is the reason, it is the ``__cause__``.
    """
    made, kind = _make(description, _WANTED, lambda found: bool(missingEvents(found)))
    missing = missingEvents(made)
    if missing:
        raise SettingError(f"{kind} has no method {', '.join(missing)}; subclass getty_tx.listener.EventListener")
    listener: IEventListener = made
    return listener


def lookUpService(description: str) -> tuple[str, object]:
    """
    Find a service for calls.

    :param description: as for :py:func:`lookUpListener`, with ``Name=`` in front of it or not; by default the name is
        that of the class.
    :return: its name, and an object with ``@rpc.method``.
    :raise SettingError: the description is wrong; if another exception is the reason, it is the ``__cause__``.
    """
    # Other commands need no calls.
    from getty_tx.rpc.services import isService, register

    name, equals, place = description.rpartition("=")
    made, kind = _make(place, _WANTED_SERVICE, lambda found: not isService(found))
    if not equals:
        name = type(made).__name__
    if not isService(made):
        raise SettingError(f"{kind} has no method with @rpc.method; mark those that may be called")
    register({name: made})
    return name, made


def lookUpServicer(description: str) -> tuple[Callable[[Any, Any], object], object]:
    """
    Find a servicer of gRPC.

    :param description: as for :py:func:`lookUpListener`.
    :return: the function of generated code that adds it to a server, and the object.
    :raise SettingError: the description is wrong; if another exception is the reason, it is the ``__cause__``.
    """
    made, kind = _make(description, _WANTED_SERVICER, lambda found: _adderOf(found) is None)
    add = _adderOf(made)
    if add is None:
        raise SettingError(f"{kind} is below no Servicer of generated code (*_pb2_grpc.py)")
    return add, made


def _adderOf(servicer: object) -> Callable[[Any, Any], object] | None:
    """``add_XServicer_to_server`` in the module of the class ``XServicer`` that this one is below."""
    for base in type(servicer).__mro__:
        add: Any = getattr(sys.modules.get(base.__module__), f"add_{base.__name__}_to_server", None)
        if callable(add):
            return add  # type: ignore[no-any-return]  # generated code has no types
    return None


def lookUp(description: str, wanted: str) -> Any:
    """
    Find any object.

    :param description: a module and an attribute, which may have dots.
    :param wanted: what it should be, for the error.
    :raise SettingError: the description is wrong; if another exception is the reason, it is the ``__cause__``.
    """
    module, _, attribute = description.partition(":")
    if not module or not attribute or ":" in attribute:
        raise SettingError(f"it is not a module and an attribute; {wanted}")
    return _import(module, attribute, wanted)


def _make(description: str, wanted: str, isFactory: Callable[[Any], bool]) -> tuple[Any, str]:
    """The object of a description, made if need be, and a name for it in errors."""
    module, _, attribute = description.partition(":")
    if not module or not attribute or ":" in attribute:
        raise SettingError(f"it is not a module and an attribute; {wanted}")
    found = _import(module, attribute, wanted)
    if not isinstance(found, type) and not (callable(found) and isFactory(found)):
        return found, f"the {type(found).__name__}"
    try:
        made = found()
    except Exception as error:
        raise SettingError(f"calling it without arguments failed: {type(error).__name__}: {error}") from error
    return made, "the class" if isinstance(found, type) else f"what it returned, {type(made).__name__},"


def _import(module: str, attribute: str, wanted: str) -> Any:
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        # The module itself or its package is missing, not a module that it imports.
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise SettingError(f"there is no module {error.name!r}; {wanted}") from error
        raise SettingError(f"importing {module!r} failed: {error}") from error
    except Exception as error:
        raise SettingError(f"importing {module!r} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise SettingError(f"module {module!r} has no {attribute!r}") from error
    return found
