"""
Reactors: the fast one, and main and sub-reactor processes. Importing this module installs none; :py:func:`install`
does, before anything else has.
"""

from getty_tx.reactors.main import Processes

__all__ = ["Processes", "install"]


def install() -> None:
    """
    Make the epoll reactor of :py:mod:`getty_tx.reactors.epoll` the process's reactor, as ``twistd --reactor getty``
    does. To be called before ``twisted.internet.reactor`` is imported anywhere.

    :raise twisted.internet.error.ReactorAlreadyInstalledError: there is one already.
    :raise ImportError: the platform has no epoll; the text says what to do.
    """
    from getty_tx.reactors import epoll

    epoll.install()
