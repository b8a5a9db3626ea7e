"""
What a server or a pool does, for those who operate it: metrics, health, sessions and a live page, over HTTP.

``service`` is what applications make. A ``source`` gathers what is known of the sessions of a process, in slices, so
that the reactor is never held up; ``sampler`` measures what nobody counts; ``web``, ``feed`` and ``metrics`` show it.
Nothing here is imported, and nothing measured, by a program that does not ask for it.
"""

from getty_tx.status.service import DEFAULT_STATUS, StatusService

__all__ = ["DEFAULT_STATUS", "StatusService"]
