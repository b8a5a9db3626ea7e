"""
``twistd --reactor getty``, in any Twisted program.

Twisted imports every dropin when it looks for reactors: this one names a module and imports it when it is asked.
"""

from twisted.application.reactors import Reactor

getty = Reactor("getty", "getty_tx.reactors.epoll", "epoll(7) with a short way for reads: for many small messages.")
