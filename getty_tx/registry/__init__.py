"""
Providers that come and go: who provides a service, and how clients follow them.

- ``provider``: one provider, and the record of it that engines store.
- ``interfaces``: what users call, what followers are told, and what an engine is.
- ``backoff``: when to try again; ``errors``: what goes wrong.
"""

from __future__ import annotations

from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.interfaces import IFollower, IFollowing, IRegistration, IRegistry
from getty_tx.registry.provider import Provider

__all__ = ["IFollower", "IFollowing", "IRegistration", "IRegistry", "Provider", "RecordError", "RegistryError"]
