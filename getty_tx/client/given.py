"""What a client is given to dial: whether it can be, and what it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorPluggableNameResolver, IStreamClientEndpoint
from zope.interface import implementer

from getty_tx.endpoints import clientEndpoint
from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checkEndpoints", "isService", "nameOf"]


def isService(endpoint: Any) -> bool:
    """Whether a registry has to be asked."""
    return isinstance(endpoint, str) and endpoint.startswith("service:")


def checkEndpoints(several: list[Any], reactor: Any, options: Mapping[str, Any]) -> None:
    """:raise SettingError: there is no endpoint, or one is none; or an option is there that has no meaning."""
    if not several:
        raise SettingError("endpoint=[] names none: give one or more")
    if len(several) == 1 and isService(several[0]):
        return
    for endpoint in several:
        if isinstance(endpoint, str):
            # To find its errors. The endpoint that is used is made with the reactor, when the service starts.
            clientEndpoint(endpoint, _ResolverlessReactor() if reactor is None else reactor)
        elif not IStreamClientEndpoint.providedBy(endpoint):
            raise SettingError(f"endpoint {endpoint!r} is neither a description nor an IStreamClientEndpoint")
    given = [f"{name}={value!r}" for name, value in options.items() if value not in (None, 0, "")]
    if given:
        text = f"{', '.join(given)}: for the providers of a service"
        raise SettingError(f"{text}; give 'service:NAME' instead of {nameOf(several)!r}")


def nameOf(endpoints: list[Any]) -> str:
    """The endpoints in a few words."""
    names = [each if isinstance(each, str) else repr(each) for each in endpoints]
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


@implementer(IReactorPluggableNameResolver)
class _ResolverlessReactor:
    """Replaces the reactor while a description is checked for errors."""

    nameResolver: Any = None

    def installNameResolver(self, resolver: Any) -> Any:
        """Without effect, because nothing is resolved."""
        return None
