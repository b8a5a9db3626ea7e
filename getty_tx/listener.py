"""EventListener, the base class of listeners, and ListenerProxy, the base of what stands in front of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.interfaces import IEventListener

if TYPE_CHECKING:
    from collections.abc import Coroutine


__all__ = ["EVENTS", "EventListener", "ListenerProxy", "missingEvents", "takesLists"]

#: The methods of a listener.
EVENTS = ("onOpen", "onMessage", "onError", "onClose", "onCron")


@implementer(IEventListener)
class EventListener:
    """
    Override the events you need; :py:class:`getty_tx.interfaces.IEventListener` says when each is called.

    Each method may be overridden with an ``async def``. One listener may serve any number of sessions: keep the state
    of a session in ``session.attributes``.
    """

    def onOpen(self, session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is established."""
        return None

    def onMessage(self, session: Any, pkg: Any) -> Coroutine[Any, Any, None] | None:
        """A package arrived."""
        return None

    def onError(self, session: Any, error: BaseException) -> Coroutine[Any, Any, None] | None:
        """The session failed; ``onClose`` follows."""
        return None

    def onClose(self, session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is closed."""
        return None

    def onCron(self, session: Any) -> Coroutine[Any, Any, None] | None:
        """``cronPeriod`` seconds have passed."""
        return None


class ListenerProxy:
    """
    Stands in front of a session's listener; ``session.listener`` looks through it.

    :ivar listener: the listener behind it, or another proxy.
    """

    __slots__ = ("listener",)

    listener: Any


def takesLists(listener: Any) -> bool:
    """Whether a listener is an :py:class:`getty_tx.interfaces.IBatchListener`: it has ``onMessages``."""
    return callable(getattr(listener, "onMessages", None))


def missingEvents(listener: Any) -> list[str]:
    """The methods that a listener does not have; ``onMessages`` is as good as ``onMessage``."""
    missing = [name for name in EVENTS if not callable(getattr(listener, name, None))]
    if "onMessage" in missing and takesLists(listener):
        missing.remove("onMessage")
    return missing
