"""
``dns:``: providers that a name server knows by SRV records (RFC 2782), as Kubernetes has them for headless services,
and Consul for all of its services.

They are asked for again when they run out. Each provider has a ``priority`` in its ``meta``: clients take those with
the lowest that has an open provider, and the others only while there is none. Weights are those of the records; where
one is above 1000 they are all made smaller alike, and where all are 0 they are 100.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.logger import Logger
from twisted.names import client, dns
from twisted.names.error import DNSNameError, DomainError

from getty_tx.errors import SettingError
from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RecordError, RegistryError
from getty_tx.registry.provider import KINDS, MAX_WEIGHT, Provider
from getty_tx.registry.readonly import ReadOnlyEngine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from getty_tx.registry.interfaces import IEngineUser
    from getty_tx.registry.readonly import Watched

__all__ = ["DNSEngine", "providersOf"]

log = Logger()

#: Seconds after which a name is asked for again, at least and at most, whatever its records say.
LEAST_TTL, MOST_TTL = 5.0, 300.0

#: Seconds after which a name is asked for again that could not be found, at least.
LEAST_RETRY = 1.0

#: Seconds for each attempt to ask a server.
TIMEOUTS = (1, 3, 5)

#: Where the system's name servers are.
RESOLV_CONF = "/etc/resolv.conf"

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


class DNSEngine(ReadOnlyEngine):
    """
    What name servers say.

    :param name: the name that is asked for, such as ``_echo._tcp.example.org``; "": the service's, so that services are
        called as in the DNS. It has to be complete: no search domains are tried.
    :param servers: addresses and ports of the servers to ask, one after the other; by default those of resolv.conf.
    :param kind: how to connect, ``"tcp"`` or ``"tls"``, which takes the provider's name from the record for its
        certificate.
    :param resolver: asks, by default one of :py:mod:`twisted.names`.
    :raise SettingError: the name or the kind is wrong, or a server is no IP address.
    """

    kinds = KINDS

    def __init__(
        self, name: str = "", servers: Sequence[tuple[str, int]] = (), kind: str = "tcp", resolver: Any = None
    ) -> None:
        shown = ",".join(f"{host}:{port}" for host, port in servers)
        super().__init__(f"dns:{name}" + (f" at {shown}" if shown else ""))
        if name and not _HOST.fullmatch(name.rstrip(".")):
            raise SettingError(f"dns:{name} is not a name such as dns:_echo._tcp.example.org")
        if kind not in ("tcp", "tls"):
            raise SettingError(f"dns: kind={kind!r} is neither 'tcp' nor 'tls'")
        for host, _ in servers:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise SettingError(f"dns: server={host} is no IP address: the server has no name yet") from None
        self._asked = name
        self._servers = list(servers)
        self._kind = kind
        self._given = resolver
        self._queries: dict[Watched, _Query] = {}

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """Begin."""
        super().start(reactor, user)
        for watched in list(self._watched.values()):
            self.watching(watched)

    def stop(self) -> Deferred[None]:
        """Ask no more."""
        for query in self._queries.values():
            query.stop()
        self._queries.clear()
        return super().stop()

    def watching(self, watched: Watched) -> None:
        """Ask at once."""
        if self._reactor is None:
            return
        query = self._queries.get(watched)
        if query is None:
            query = self._queries[watched] = _Query(self, watched, self._reactor)
        query.askIn(0)

    def unwatched(self, watched: Watched) -> None:
        """Ask no more for this one."""
        super().unwatched(watched)
        query = self._queries.pop(watched, None)
        if query is not None:
            query.stop()

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Any]]:
        """Ask once."""
        name = service or self._asked
        if not name:
            return fail(RegistryError("dns: cannot list all services: name one, such as _echo._tcp.example.org"))
        found: Deferred[Any] = self.ask(name)
        return found.addCallback(lambda found: {(name, key): each for key, each in found[0].items()})

    def ask(self, service: str) -> Deferred[tuple[dict[str, Any], float]]:
        """
        The providers of a service, by key, and for how many seconds that holds.

        :return: fails with RegistryError, or with SettingError if the service cannot be a name.
        """
        name = self._asked or service
        if not _HOST.fullmatch(name.rstrip(".")):
            return fail(SettingError(f"service={service!r} is not a name for dns:, such as _echo._tcp.example.org"))
        asking: Deferred[Any] = maybeDeferred(self._lookup, name.rstrip("."))
        return asking.addCallbacks(self._answered, self._failed, (service,), {}, (name,))

    def _lookup(self, name: str) -> Deferred[Any]:
        if self._given is not None:
            given: Deferred[Any] = self._given.lookupService(name)
            return given
        servers = self._servers or _systemServers()
        resolver = client.Resolver(servers=servers, timeout=TIMEOUTS, reactor=self._reactor)
        answer: Deferred[Any] = resolver.lookupService(name)
        return answer.addBoth(_close, resolver)

    def _answered(self, answer: Any, service: str) -> tuple[dict[str, Any], float]:
        self._said(None)
        answers, _, additional = answer
        return providersOf(service, answers, additional, self._kind)

    def _failed(self, failure: Failure, name: str) -> Any:
        error = failure.value
        if isinstance(error, DNSNameError):
            why = "there is no such name"
        elif isinstance(error, DomainError):
            why = f"the server says {type(error).__name__}"
        else:
            text = str(error) or type(error).__name__
            why = f"no server can be asked: {text:.200}"
        wrapped = RegistryError(f"{name}: {why}")
        # One that knows no such name does answer.
        self._said(None if isinstance(error, DomainError) else wrapped)
        raise wrapped


class _Query:
    """Asks for one name again and again."""

    def __init__(self, engine: DNSEngine, watched: Watched, reactor: Any) -> None:
        self._engine = engine
        self._watched = watched
        self._reactor = reactor
        self._backoff = Backoff()
        self._next: IDelayedCall | None = None
        self._isAsking = self._isStopped = self._isLogged = False

    def askIn(self, seconds: float) -> None:
        """Ask, later. One question at a time."""
        if self._isStopped or self._isAsking:
            return
        if self._next is not None:
            self._next.cancel()
        self._next = self._reactor.callLater(seconds, self._ask)

    def stop(self) -> None:
        """Ask no more."""
        self._isStopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _ask(self) -> None:
        self._next = None
        self._isAsking = True
        self._engine.ask(self._watched.service).addCallbacks(self._answered, self._failed)

    def _answered(self, found: tuple[dict[str, Any], float]) -> None:
        self._isAsking = False
        self._isLogged = False
        self._backoff.reset()
        self.askIn(found[1])
        if not self._isStopped:
            self._watched.tell(found[0])

    def _failed(self, failure: Failure) -> None:
        self._isAsking = False
        self.askIn(max(self._backoff.next(), LEAST_RETRY))
        if self._isStopped:
            return
        error: Any = failure.value
        if not self._isLogged:
            self._isLogged = True
            log.warn("{engine}: {error}; what was known stays in use", engine=self._engine.name, error=error)
        self._watched.interrupt(error)


def providersOf(
    service: str, answers: Sequence[Any], additional: Sequence[Any], kind: str = "tcp"
) -> tuple[dict[str, Any], float]:
    """
    The providers that SRV records name.

    Addresses that come along are used, so that names need not be known to the system's resolver: those of Consul are
    not. With TLS the name is used, since the certificate has it.

    :return: by key, and for how many seconds they hold.
    """
    addresses: dict[str, str] = {}
    for header in additional:
        target = _text(header.name)
        if header.type == dns.A:
            addresses[target] = header.payload.dottedQuad()
        elif header.type == dns.AAAA:
            addresses.setdefault(target, str(ipaddress.IPv6Address(header.payload.address)).replace(":", "\\:"))
    found: dict[str, Any] = {}
    # As RFC 2782 has it, the target "." says that there is none.
    records = [each for each in answers if each.type == dns.SRV and _HOST.fullmatch(_text(each.payload.target))]
    largest: dict[int, int] = {}
    for header in records:
        record = header.payload
        largest[record.priority] = max(record.weight, largest.get(record.priority, 0))
    for header in records:
        record = header.payload
        target = _text(record.target)
        host = target if kind == "tls" else addresses.get(target, target)
        key, weight = f"{target}:{record.port}", _weight(record.weight, largest[record.priority])
        meta = {"priority": record.priority}
        try:
            found[key] = Provider(service, f"{kind}:{host}:{record.port}", id=key, weight=weight, meta=meta)
        except SettingError as error:
            found[key] = RecordError(str(error))
    ttl = min((header.ttl for header in records), default=0)
    return found, min(max(float(ttl), LEAST_TTL), MOST_TTL)


def _close(answer: Any, resolver: Any) -> Any:
    """A resolver leaves connections open, of questions whose answers did not fit into a datagram."""
    for connection in list(resolver.connections):
        connection.transport.loseConnection()
    return answer


def _weight(weight: int, largest: int) -> int:
    if largest == 0:
        return 100
    if largest <= MAX_WEIGHT:
        return weight
    return -(-weight * MAX_WEIGHT // largest)


def _text(name: Any) -> str:
    return str(name.name.decode("ascii", "replace")).rstrip(".")


def _systemServers() -> list[tuple[str, int]]:
    """The name servers of the system: read each time, since networks change."""
    servers = []
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver":
                    servers.append((words[1], dns.PORT))
    except FileNotFoundError:
        pass
    return servers or [("127.0.0.1", dns.PORT)]
