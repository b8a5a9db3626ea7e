"""
Reactors: the fast one, and main and sub-reactor processes. Importing this module installs none; :py:func:`install`
does, before anything else has.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Processes", "install"]


def __getattr__(name: str) -> Any:
    if name == "Processes":
        from getty_tx.processes.service import Processes

        return Processes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install() -> None:
    """
    Make the epoll reactor of :py:mod:`getty_tx.reactors.epoll` the process's reactor, as ``twistd --reactor getty``
    does. To be called before ``twisted.internet.reactor`` is imported anywhere.

    :raise twisted.internet.error.ReactorAlreadyInstalledError: there is one already.
    :raise ImportError: the platform has no epoll; the text says what to do.
    """
    from getty_tx.reactors import epoll

    epoll.install()
