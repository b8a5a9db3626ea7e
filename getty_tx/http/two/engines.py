"""Which engine there is: ngh2, or h2 where that is missing."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import IEngine, IEngineEvents
    from getty_tx.http.two.limits import Limits

__all__ = ["ENGINE", "checkEngine", "newEngine"]

#: The variable of the environment that names the engine, for tests and comparisons.
ENGINE = "GETTY_HTTP2_ENGINE"

#: Where they are, the one that is taken first in front: h2 takes some twenty times as long.
_ENGINES = {
    "ngh2": ("getty_tx.http.two.ngh2engine", "NgEngine"),
    "h2": ("getty_tx.http.two.h2engine", "H2Engine"),
}


def newEngine(isServer: bool, limits: Limits, told: IEngineEvents) -> IEngine:
    """
    Make the engine of a new connection.

    :raise ImportError: neither ngh2 nor h2 is installed.
    :raise SettingError: the environment names another one.
    """
    engine: IEngine = _engineClass(os.environ.get(ENGINE, ""))(isServer, limits, told)
    return engine


def checkEngine() -> None:
    """:raise SettingError: there is no engine: neither ngh2 nor h2 is installed, or the environment names another."""
    try:
        _engineClass(os.environ.get(ENGINE, ""))
    except ImportError as error:
        raise SettingError(str(error)) from error


@cache
def _engineClass(wanted: str) -> Any:
    if wanted and wanted not in _ENGINES:
        raise SettingError(f"{ENGINE}={wanted}: there are {' and '.join(_ENGINES)}")
    for name, (module, attribute) in _ENGINES.items():
        if wanted in ("", name):
            try:
                return getattr(import_module(module), attribute)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != name:
                    raise
    raise ImportError(f"HTTP/2 needs the package {wanted or 'ngh2'}: pip install 'getty_tx[http2]'")
