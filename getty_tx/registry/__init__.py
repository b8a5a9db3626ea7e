"""
Providers that come and go: who provides a service, and how clients follow them.

- ``provider``: one provider, and the record of it that engines store.
- ``interfaces``: what users call, what followers are told, and what an engine is.
- ``registry``: the rules that are the same for all engines; ``registration`` is one who is to be found, ``following``
  one who is told, ``changes`` decides of what, and ``cache`` is a list of earlier.
- ``announcing``: the registrations of a server; ``advertising`` and ``towards`` find out what clients can dial.
- ``parse``: registries and services from texts; ``command``: providers in a terminal.
- ``directory``: the engine ``dir:``; ``folders``, ``lockfiles`` and ``notices`` are its parts.
- ``static``: the engines ``static:`` and ``file:``; ``dns``: the engine ``dns:``; ``readonly`` is what they share.
- ``etcd``, ``zookeeper``: rooms of their own, loaded when they are asked for.
- ``backoff``: when to try again; ``errors``: what goes wrong.
"""

from __future__ import annotations

from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.interfaces import IFollower, IFollowing, IRegistration, IRegistry
from getty_tx.registry.parse import defaultRegistry, parseService, registryFrom
from getty_tx.registry.provider import Provider
from getty_tx.registry.registry import Registry

__all__ = [
    "IFollower",
    "IFollowing",
    "IRegistration",
    "IRegistry",
    "Provider",
    "RecordError",
    "Registry",
    "RegistryError",
    "defaultRegistry",
    "parseService",
    "registryFrom",
]
