"""Engines by their texts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from getty_tx.errors import SettingError
from getty_tx.groups.interfaces import IEngine
from getty_tx.groups.memory import MemoryEngine

__all__ = ["engineFrom"]

#: The module and function that make an engine of a text, by its scheme. Imported when somebody asks for one.
_SCHEMES = {
    "redis": ("getty_tx.groups.redis", "redisEngine"),
    "rediss": ("getty_tx.groups.redis", "redisEngine"),
}


def engineFrom(engine: Any = None) -> IEngine:
    """
    An engine.

    :param engine: None, a text such as ``redis://127.0.0.1``, or an engine.
    :raise SettingError: it is none of these.
    """
    if engine is None:
        return MemoryEngine()
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
