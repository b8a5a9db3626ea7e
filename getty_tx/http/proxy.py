"""Clients behind proxies: whose word is taken for the address and the scheme, and how it is read."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from getty_tx.http.request import Request

__all__ = ["Proxies", "proxiesOf"]

#: The fields that proxies write, the default one first. Only one is read: a client could send the other itself.
FIELDS = ("x-forwarded-for", "forwarded")

#: What a proxy may say of the scheme, and what it means for HTTP.
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

#: Clients that are kept, at most, and bytes of the field that tells of one.
MAX_KNOWN = 1000
MAX_KEPT = 200

#: Hops that are looked at, at most.
_MAX_HOPS = 100


class Proxies:
    """
    The proxies that are trusted.

    What is right of a hop in the field was written by that hop or by one nearer to the server. So it is read from the
    right, as long as who wrote it is trusted.

    :param networks: such as ``10.0.0.0/8`` or ``192.0.2.7``; ``unix`` for peers on a unix socket; ``*`` for all, which
        lets a client choose its address.
    :param field: ``X-Forwarded-For``, with ``X-Forwarded-Proto``; or ``Forwarded`` (RFC 7239).
    :raise SettingError: one of them is none of these.
    """

    __slots__ = ("_all", "_field", "_known", "_name", "_networks", "_unix")

    def __init__(self, *networks: str, field: str = FIELDS[0]) -> None:
        if field.lower() not in FIELDS:
            raise SettingError(f"field={field!r} is neither X-Forwarded-For nor Forwarded")
        self._field = field.lower()
        self._name = self._field.encode("ascii")
        # Who is behind a peer with this field; None: the peer itself.
        self._known: dict[tuple[str | None, bytes | None], tuple[str, int] | None] = {}
        self._all = "*" in networks
        self._unix = self._all or "unix" in networks
        self._networks: list[IPv4Network | IPv6Network] = []
        for network in networks:
            if network not in ("*", "unix"):
                try:
                    self._networks.append(ip_network(network))
                except ValueError as error:
                    raise SettingError(f"proxies: {network!r} is no network: {error}; such as 10.0.0.0/8") from None

    def trusts(self, host: str | None) -> bool:
        """Whether the word of a peer is taken; None: it is on a unix socket."""
        if host is None:
            return self._unix
        if self._all:
            return True
        try:
            address: Any = ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def clientOf(self, request: Request, peer: tuple[str, int] | None) -> tuple[str, int] | None:
        """
        The address of the client, with port 0 where nobody tells it.

        :param peer: the other end of the connection.
        """
        said = request.fields.values.get(self._name)
        key = None if peer is None else peer[0], said
        known = self._known
        if key in known:
            return known[key] or peer
        client = self._behind(key[0], request)
        if said is None or len(said) <= MAX_KEPT:
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[key] = client
        return client or peer

    def _behind(self, host: str | None, request: Request) -> tuple[str, int] | None:
        """The client behind a peer; None: the peer itself."""
        client = None
        if not self.trusts(host):
            return client
        for hop in self._hops(request):
            found = _addressOf(hop)
            if found is None:
                # Nobody knows who is behind it.
                break
            client = found
            if not self.trusts(client[0]):
                break
        return client

    def schemeOf(self, request: Request, scheme: str, peer: tuple[str, int] | None) -> str:
        """``http`` or ``https``: what the proxy next to the server says, where it is trusted."""
        if not self.trusts(None if peer is None else peer[0]):
            return scheme
        if self._field == FIELDS[0]:
            said = request.header("X-Forwarded-Proto").rpartition(",")[2]
        else:
            said = _parametersOf(request.header("Forwarded").rpartition(",")[2]).get("proto", "")
        return _SCHEMES.get(said.strip(" \t"), scheme)

    def _hops(self, request: Request) -> Iterable[str]:
        hops = request.header(self._field).split(",")[-_MAX_HOPS:]
        hops.reverse()
        if self._field == FIELDS[0]:
            return hops
        return [_parametersOf(hop).get("for", "") for hop in hops]


def proxiesOf(name: str, value: Any) -> Proxies | None:
    """A check of a setting: networks, or :py:class:`Proxies`; None: nobody is trusted."""
    if value is None or isinstance(value, Proxies):
        return value
    if isinstance(value, str):
        raise SettingError(f"{name}={value!r}: give a list of networks, such as [{value!r}]")
    return Proxies(*value)


def _parametersOf(element: str) -> dict[str, str]:
    """The parameters of one hop of ``Forwarded``; commas in quotes do not occur in addresses."""
    found = {}
    for part in element.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found[name.strip(" \t").lower()] = value.strip(" \t").strip('"')
    return found


def _addressOf(text: str) -> tuple[str, int] | None:
    """
    An address, with a port or without; IPv6 may stand in brackets. None: it is none.

    One with a zone is none: a zone has a meaning on one host only, and Python takes any characters for it.
    """
    host, port = text.strip(" \t"), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if "%" in host:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    isPort = port.isascii() and port.isdigit() and int(port) < 65536
    return str(address), int(port) if isPort else 0
