"""Whether a host is this machine, and this machine's address as seen on the way to another one: what is advertised."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress, IHostResolution

__all__ = ["hostTowards", "isLoopback"]


def isLoopback(host: str) -> bool:
    """Whether a name or an address is that of this machine for itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hostTowards(reactor: Any, places: Sequence[tuple[str, int]]) -> Deferred[str]:
    """
    The address that connections to the first of some places come from, for which there is one. No packet is sent.

    :param places: hosts and ports.
    :return: fires with ``""`` if there is a way to none of them.
    """
    return Deferred.fromCoroutine(_hostTowards(reactor, places))


async def _hostTowards(reactor: Any, places: Sequence[tuple[str, int]]) -> str:
    for host, port in places:
        found = _Addresses()
        reactor.nameResolver.resolveHostName(found, host, port)
        for address in await found.all:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sending:
                try:
                    sending.connect((address.host, port))
                except OSError:
                    continue
                return str(sending.getsockname()[0])
    return ""


@implementer(IResolutionReceiver)
class _Addresses:
    """
    The addresses of a host.

    :ivar all: fires with them.
    """

    def __init__(self) -> None:
        self._found: list[Any] = []
        self.all: Deferred[list[Any]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It has begun."""

    def addressResolved(self, address: IAddress) -> None:
        """One of them."""
        self._found.append(address)

    def resolutionComplete(self) -> None:
        """All are known."""
        self.all.callback(self._found)
