"""
The getty reactor, a faster epoll reactor, and asyncio inside it or another one. Importing this module installs no
reactor; :py:func:`install` does.

- ``epoll``: the reactor.
- ``shortreads``: on Twisted's own epoll reactor, the same short path for the reads of sessions.
- ``guest``: asyncio's event loop as a guest of any reactor, with its selector in ``guestselector``, its reader in
  ``guestreader``, and its end in ``guestend``.
- ``errorqueues``: whose error queue is read, and when an error is none.

``Processes``, for main and sub-reactor processes, is in :py:mod:`getty_tx.processes`; its name here is an alias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.reactors.guest import GuestLoop, guestLoop

__all__ = ["GuestLoop", "Processes", "guestLoop", "install"]


def __getattr__(name: str) -> Any:
    if name == "Processes":
        from getty_tx.processes.service import Processes

        return Processes
    if name in ("GuestLoop", "guestLoop"):
        # Here only for those who ask: asyncio's loops are imported with it.
        from getty_tx.reactors import guest

        return getattr(guest, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install() -> None:
    """
    Make the epoll reactor of :py:mod:`getty_tx.reactors.epoll` the process's reactor, as ``twistd --reactor getty``
    does. Call it before ``twisted.internet.reactor`` is imported anywhere.

    :raise twisted.internet.error.ReactorAlreadyInstalledError: a reactor is installed already.
    :raise ImportError: the platform has no epoll; the text says what to do.
    """
    from getty_tx.reactors import epoll

    epoll.install()
