"""Where in ZooKeeper the records are, and what they look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from getty_tx.registry.provider import KINDS, encodeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from getty_tx.registry.provider import Provider

__all__ = ["GettyLayout", "Layout"]


class Layout(Protocol):
    """
    :ivar root: the node above all services.
    :ivar hasData: whether records are the nodes' data; otherwise they are in the nodes' names.
    :ivar hasStates: whether a record can say that its provider is leaving.
    :ivar leaveTime: seconds that followers may take to hear of a leaving provider.
    :ivar kinds: the kinds of endpoint that records may name.
    """

    root: str
    hasData: bool
    hasStates: bool
    leaveTime: float
    kinds: frozenset[str]

    def directory(self, service: str) -> str:
        """The node above a service's records."""
        ...

    def serviceOf(self, name: str) -> str:
        """The service whose node below the root has this name."""
        ...

    def node(self, provider: Provider) -> tuple[str, bytes]:
        """
        The name and the data of a provider's node.

        :raise SettingError: it cannot be written in this layout.
        """
        ...

    def records(self, service: str, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """The records by key. ``nodes`` has what :py:meth:`record` makes, by name."""
        ...

    def record(self, service: str, name: str, data: bytes) -> Any:
        """What one node says: bytes, a Provider, RecordError, or ``None``, which is no record."""
        ...

    def sameProvider(self, service: str, names: Iterable[str], provider: Provider) -> list[str]:
        """Those of the names that are nodes of this provider."""
        ...


class GettyLayout:
    """
    ``/getty/<service>/<id>``, both percent-encoded, with the JSON of :py:func:`encodeRecord` as data.

    :param root: ``/getty``, or what stands for it.
    """

    hasData = True
    hasStates = True
    leaveTime = 1.0
    kinds = KINDS

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, service: str) -> str:
        """See :py:class:`Layout`."""
        return f"{self.root}/{quote(service, safe='')}"

    def serviceOf(self, name: str) -> str:
        """See :py:class:`Layout`."""
        return unquote(name)

    def node(self, provider: Provider) -> tuple[str, bytes]:
        """See :py:class:`Layout`."""
        return quote(provider.id, safe=""), encodeRecord(provider)

    def records(self, service: str, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """See :py:class:`Layout`. The key is the node's name."""
        return dict(nodes)

    def record(self, service: str, name: str, data: bytes) -> Any:
        """See :py:class:`Layout`."""
        return data

    def sameProvider(self, service: str, names: Iterable[str], provider: Provider) -> list[str]:
        """See :py:class:`Layout`."""
        return [name for name in names if name == quote(provider.id, safe="")]
