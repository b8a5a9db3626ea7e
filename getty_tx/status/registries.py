"""The registries of services, as the status shows them: what is registered there, and what is followed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PROVIDER_STATES", "Registered", "RegistrySnapshot", "registriesOf"]

#: The states of a provider's record.
PROVIDER_STATES = ("serving", "leaving")


@dataclass
class Registered:
    """
    A provider of this process.

    :ivar id: empty if its service could not even try.
    :ivar error: why it is not registered; empty if it is, or nothing has failed yet.
    """

    service: str
    id: str
    isRegistered: bool
    error: str = ""


@dataclass
class RegistrySnapshot:
    """
    One registry. Several objects with one name are one here.

    :ivar staleFor: seconds since the engine last answered; 0 while it does.
    :ivar events: how many records were reported, and how many deleted.
    :ivar failures: how many times the engine did not do what it was asked for.
    :ivar providers: of each service that is followed, the known providers by state.
    """

    name: str
    isConnected: bool = True
    staleFor: float = 0.0
    events: int = 0
    failures: int = 0
    registrations: list[Registered] = field(default_factory=list)
    providers: dict[str, dict[str, int]] = field(default_factory=dict)


def registriesOf(services: Iterable[Any]) -> list[RegistrySnapshot]:
    """
    The registries of services, by name.

    :param services: those of this process. A Server and a Processes has an ``announcement`` or None; a Client that
        follows one has its ``registry``.
    """
    found: dict[str, RegistrySnapshot] = {}
    seen: list[Any] = []
    for service in services:
        announcement = getattr(service, "announcement", None)
        registry = getattr(service, "registry", None) if announcement is None else announcement.registry
        if registry is None:
            continue
        name = str(getattr(registry, "name", type(registry).__name__))
        snapshot = found.setdefault(name, RegistrySnapshot(name))
        if announcement is not None and announcement.lastError is not None and not announcement.registrations:
            error = str(announcement.lastError)
            snapshot.registrations.append(Registered(announcement.service, "", False, error))
        if not any(each is registry for each in seen):
            seen.append(registry)
            _add(snapshot, registry)
    return list(found.values())


def _add(snapshot: RegistrySnapshot, registry: Any) -> None:
    snapshot.isConnected = snapshot.isConnected and bool(registry.isConnected)
    snapshot.staleFor = max(snapshot.staleFor, registry.staleFor)
    # Registries that are not made of an engine may count nothing.
    snapshot.events += getattr(registry, "events", 0)
    snapshot.failures += getattr(registry, "failures", 0)
    for each in registry.registrations:
        error = "" if each.isRegistered or each.lastError is None else str(each.lastError)
        snapshot.registrations.append(Registered(each.provider.service, each.provider.id, each.isRegistered, error))
    for following in registry.followings:
        states = snapshot.providers.setdefault(following.service, dict.fromkeys(PROVIDER_STATES, 0))
        # Followers of one service have the same list.
        for state, count in Counter(each.state for each in following.providers.values()).items():
            states[state] = max(states.get(state, 0), count)
