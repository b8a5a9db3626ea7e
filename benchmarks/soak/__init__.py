"""Hours of trouble in minutes: ``python -m benchmarks.soak``, or ``make soak``.

A server process and its clients, on loopback, do what networks do to programs: connections that come and go, messages
of all sizes, slow and deaf peers, resets, garbage, killed servers, callbacks that fail. What is done, and with which
numbers, follows from a seed that is printed; when it happens does not, as sockets are real. Whatever a right program
keeps through all of that is checked, and the exit status is 1 if something was not kept.
"""
