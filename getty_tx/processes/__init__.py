"""
Main and sub-reactor processes: one program on every core.

==============  =========================================================================================
``service``     ``Processes``, the IService
``main``        the main process, from its start to its end
``supervisor``  which sub-reactors are to run: start, watch, replace, reload, drain
``child``       the process of a sub-reactor, and its channel
``channel``     messages between the two, with descriptors beside them
``queries``     questions to the sub-reactors, and their answers
``ports``       the main process's ports: it accepts, or lends the socket
``handover``    accepted connections on their way to a sub-reactor
``balance``     which sub-reactor gets the next connection
``subreactor``  the sub-reactor: receives connections, builds protocols, counts
``listening``   divides an endpoint: what to bind, what to build; what a sub-reactor listens on
``drain``       closes sessions as they come to rest
``totals``      the counters of all sub-reactors
==============  =========================================================================================
"""

from getty_tx.processes.service import Processes

__all__ = ["Processes"]
