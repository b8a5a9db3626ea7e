"""
The main process as the hub of its sub-reactors' groups: it numbers what is published, keeps histories and presence, and
brings publications to those sub-reactors that have members.

===========  ================================================================================
``hub``      the main process's part: one order for all, and who has members of which group
``engine``   a sub-reactor's part: the :py:class:`~getty_tx.groups.IEngine`
``link``     one end of the pair of sockets between the two
``wire``     what they say to one another: frames, without I/O
``carried``  publications and histories in frames
===========  ================================================================================

The main process knows the hub by its name only: see :py:mod:`getty_tx.processes.beside`.
"""
