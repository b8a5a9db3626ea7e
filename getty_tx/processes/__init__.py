"""
Several processes: a main process accepts connections, and a sub-reactor on every core serves them.

==============  ==============================================================================================
``service``     ``Processes``, the IService
``main``        the running main process: ports, sub-reactors, and the messages and connections between them
``supervisor``  supervision of the sub-reactors: start, watch, replace, reload, drain
``member``      the main process's record of one sub-reactor, and of a connection on its way to one
``child``       the process of a sub-reactor, with its channel
``channel``     the channel between the processes: messages with descriptors; the table of all messages
``beside``      a pair of sockets beside the channel, for what services in sub-reactors tell each other
``queries``     queries to the sub-reactors, and their answers
``ports``       the ports of the main process: it accepts, or lends the sockets
``handover``    handover of accepted connections: limits, acknowledgements, counts
``balance``     the choice of the sub-reactor for a connection
``listening``   capture of an endpoint's call to listen; the endpoints and new connections of a sub-reactor
``subreactor``  the sub-reactor: receives connections, builds protocols, reports
``drain``       closes sessions when they are at rest
``heap``        what the garbage collector passes over
``totals``      counters of the sub-reactors, and their sums
==============  ==============================================================================================
"""

from getty_tx.processes.service import Processes

__all__ = ["Processes"]
