"""Which description clients get for each endpoint of a server: what is advertised."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import quoteStringArgument
from twisted.logger import Logger

from getty_tx.endpoints import dialedWith, isLocal
from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.provider import KINDS, checkEndpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.registry.interfaces import IRegistry

__all__ = ["Places"]

log = Logger()

_WAY_OUT = "name what clients connect to with advertise=, a host or a description such as 'tcp:10.0.0.5:8090'"


class Places:
    """
    What clients dial to come to a server: a description for each of its endpoints.

    Its host is the one that is advertised, or the interface that is bound. For all interfaces it is this machine's
    address as seen on the way to the registry; 127.0.0.1, or ::1, if the registry is for this machine alone.

    :param endpoints: the server's: descriptions, or objects, which need ``advertise``.
    :param advertise: a host; or a client's description for each endpoint, in a list if there are several; or None.
    :param registry: where they are advertised. Endpoints of kinds that it does not have are left out.
    :raise SettingError: that cannot be advertised there.
    """

    def __init__(self, endpoints: Sequence[Any], advertise: str | Sequence[str] | None, registry: IRegistry) -> None:
        # A registry that is not made of an engine is taken for one on other machines.
        self._engine: Any = getattr(registry, "engine", None)
        self._isLocal = bool(getattr(self._engine, "isLocal", False))
        self._kinds = frozenset(getattr(self._engine, "kinds", KINDS)) - (frozenset() if self._isLocal else {"unix"})
        self._name = getattr(registry, "name", registry)
        self._host = ""
        self._fixed: list[str] = []
        if isinstance(advertise, str) and advertise.partition(":")[0] not in KINDS | {"unix"}:
            self._host = self._checkedHost(advertise)
        elif advertise is not None:
            self._fixed = self._checked([advertise] if isinstance(advertise, str) else list(advertise), len(endpoints))
        # The number of the endpoint, its kind, and the path for WebSocket.
        self._served: list[tuple[int, str, str]] = []
        if not self._fixed:
            for number, endpoint in enumerate(endpoints):
                self._add(number, endpoint)
            if not self._served:
                raise SettingError(
                    f"registry={self._name!s}: is for endpoints of kind {', '.join(sorted(self._kinds))}, and none of"
                    f" {', '.join(map(str, endpoints))} is one"
                )

    def _checkedHost(self, host: str) -> str:
        try:
            checkEndpoint(f"tcp:{quoteStringArgument(host)}:1", KINDS)
        except RecordError:
            raise SettingError(
                f"advertise={host!r} is neither a host such as '10.0.0.5' nor a client's description such as"
                " 'tcp:10.0.0.5:8090'"
            ) from None
        if _isWildcard(host):
            raise SettingError(f"advertise={host!r} is no address that clients can connect to: give one of them")
        return host

    def _checked(self, fixed: list[str], count: int) -> list[str]:
        if len(fixed) != count:
            raise SettingError(
                f"advertise={fixed!r} has {len(fixed)} descriptions for {count} endpoints: give one for each, or a host"
            )
        if len(set(fixed)) != count:
            raise SettingError(f"advertise={fixed!r} has a description twice: each is that of one provider")
        for each in fixed:
            try:
                checkEndpoint(each, self._kinds)
            except (RecordError, AttributeError) as error:
                raise SettingError(f"advertise={each!r}: {error}") from None
            if _isWildcard(each.partition(":")[2].rpartition(":")[0].replace("\\", "")):
                raise SettingError(f"advertise={each!r} has no address that clients can connect to")
        return fixed

    def _add(self, number: int, endpoint: Any) -> None:
        if not isinstance(endpoint, str):
            name = type(endpoint).__name__
            raise SettingError(f"endpoint {name} does not say what clients dial: {_WAY_OUT}")
        kind, path = dialedWith(endpoint)
        if not kind:
            raise SettingError(f"endpoint {endpoint!r} is not what clients dial: {_WAY_OUT}")
        if kind == "unix" or kind not in self._kinds | {"systemd"}:
            if kind in self._kinds:
                self._served.append((number, kind, path))
            else:
                log.info(
                    "{endpoint} is not registered: {registry} has no endpoints of kind {kind}",
                    endpoint=endpoint,
                    registry=self._name,
                    kind=kind,
                )
            return
        if isLocal(endpoint):
            self._checkReachable(endpoint)
        self._served.append((number, kind, path))

    def _checkReachable(self, place: str) -> None:
        """:raise SettingError: a place is for this machine alone, and the registry is not."""
        if not self._isLocal and not self._host:
            text = f"{place!r} is for this machine alone, and the registry {self._name!s} is not: {_WAY_OUT}"
            raise SettingError(text)

    def of(self, addresses: Sequence[IAddress]) -> Deferred[list[str]]:
        """
        The descriptions for the bound addresses.

        :return: fails with SettingError if one is for this machine alone and the registry is not, and with
            RegistryError if this machine has no address on the way to the registry, now.
        """
        if self._fixed:
            return succeed(list(self._fixed))
        hosts: list[Any] = [getattr(addresses[number], "host", None) for number, _, _ in self._served]
        if self._host or self._isLocal or not any(host is not None and _isWildcard(host) for host in hosts):
            found: Deferred[Any] = maybeDeferred(self._describe, addresses, "")
        elif self._engine is None:
            found = maybeDeferred(self._checkReachable, "an address of all interfaces")
        else:
            found = maybeDeferred(self._engine.hostTowards).addCallback(lambda host: self._describe(addresses, host))
        return found

    def _describe(self, addresses: Sequence[Any], towards: str) -> list[str]:
        descriptions = []
        for number, kind, path in self._served:
            address = addresses[number]
            host = getattr(address, "host", None)
            if host is None:
                if "unix" in self._kinds:
                    path = os.path.abspath(os.fsdecode(address.name))
                    descriptions.append(f"unix:{quoteStringArgument(path)}")
                continue
            if kind == "systemd":
                kind = "tcp"
            if self._host:
                host = self._host
            elif not _isWildcard(host):
                if ip_address(host).is_loopback:
                    self._checkReachable(host)
            elif self._isLocal:
                # The one that is sure to be bound.
                host = "::1" if ":" in host else "127.0.0.1"
            elif not towards:
                raise RegistryError(f"there is no address of this machine on the way to {self._name!s}: {_WAY_OUT}")
            else:
                host = towards
                if _isWildcard(host) or ip_address(host).is_loopback:
                    self._checkReachable(host)
            more = f":path={quoteStringArgument(path)}" if path not in ("", "/") else ""
            descriptions.append(f"{kind}:{quoteStringArgument(host)}:{address.port}{more}")
        if not descriptions:
            raise SettingError(f"registry={self._name!s}: is not for unix sockets, and there are no others")
        return descriptions


def _isWildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return not host
