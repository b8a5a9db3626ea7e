"""
What a server or a pool does, for those who operate it: metrics, health, sessions and a live page, over HTTP.

``service`` is what applications make. A ``source`` gathers what is known of the sessions of a process, in slices, so
that the reactor is never held up; ``sampler`` measures what nobody counts; ``web``, ``feed`` and ``metrics`` show it.
With several processes, ``answering`` and ``orders`` tell it in each, and ``processes`` puts it together.
Nothing here is imported, and nothing measured, by a program that does not ask for it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.status.service import DEFAULT_STATUS, StatusService

__all__ = ["DEFAULT_STATUS", "StatusService"]


def __getattr__(name: str) -> Any:
    # When it is asked for: a sub-reactor has no use for a web server, which takes 9 MB.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from getty_tx.status import service

    return getattr(service, name)
