"""Engines by their texts."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.groups.interfaces import IEngine
from getty_tx.groups.memory import MemoryEngine

if TYPE_CHECKING:
    from getty_tx.groups.hub.engine import HubEngine

__all__ = ["VARIABLE", "engineFrom"]

#: The module and function that make an engine of a text, by its scheme. Imported when somebody asks for one.
_SCHEMES = {
    "redis": ("getty_tx.groups.redis", "redisEngine"),
    "rediss": ("getty_tx.groups.redis", "redisEngine"),
    "redis+unix": ("getty_tx.groups.redis", "redisEngine"),
}


#: The environment's word for the engine of programs that name none.
VARIABLE = "GETTY_GROUPS"

#: The engine of a sub-reactor: one for its process.
_ofProcess: list[HubEngine] = []


def engineFrom(engine: Any = None, user: Any = None) -> IEngine:
    """
    An engine.

    :param engine: None: what :py:data:`VARIABLE` in the environment names; without it in a sub-reactor the groups of
        all of them, else those of this process. Or a text such as ``redis://127.0.0.1``, or an engine.
    :param user: the Groups that will use it.
    :raise SettingError: it is none of these; or other Groups of this sub-reactor use the one there is.
    """
    if engine is None:
        engine = os.environ.get(VARIABLE) or None
    if engine is None:
        # Not earlier: a program with one process needs nothing of several.
        from getty_tx.processes.beside import ownEnd

        end = ownEnd()
        if end is None:
            return MemoryEngine()
        if not _ofProcess:
            from getty_tx.groups.hub.engine import HubEngine

            _ofProcess.append(HubEngine(end))
        if user is not None:
            _ofProcess[0].claim(user)
        return _ofProcess[0]
    if isinstance(engine, str):
        scheme = engine.partition("://")[0]
        if scheme not in _SCHEMES:
            known = ", ".join(f"{each}://" for each in _SCHEMES)
            raise SettingError(f"engine={engine.partition('@')[2] or engine!r} begins with none of {known}")
        module, name = _SCHEMES[scheme]
        made: IEngine = getattr(import_module(module), name)(engine)
        return made
    if IEngine.providedBy(engine):
        return engine
    raise SettingError(f"engine={engine!r} is neither a text nor an IEngine")
