"""What goes wrong with a registry."""

from __future__ import annotations

from getty_tx.errors import GettyError

__all__ = ["RecordError", "RegistryError"]


class RegistryError(GettyError):
    """The registry did not do what it was asked for: it does not answer, or it refuses."""


class RecordError(RegistryError):
    """A record that cannot be used. The text names what is wrong with it."""
