"""The sockets that the main process binds: it accepts on them, or lends each to a sub-reactor (``reuse-port``)."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.endpoints import serverEndpoint
from getty_tx.errors import SettingError
from getty_tx.processes.handover import Accepted
from getty_tx.processes.listening import Binding, divide, innermost, tellsHost
from getty_tx.transports.base import plainHost
from getty_tx.transports.udp.endpoints import UDPServerEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

__all__ = ["AcceptingPort", "SharedPort", "accepting", "sharing"]

log = Logger()

P = TypeVar("P")

#: Connections that are accepted before the reactor looks at other descriptors.
BATCH = 100

#: Seconds until accepting is tried again where the process or the system has no descriptor left.
RETRY = 0.1

#: Errors of a connection that is gone already or that the system refuses; accept(2) names them.
_PASSING = (
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EOPNOTSUPP,
)


class MainReactor(Factory):
    """Stands where a port has the factory that it builds protocols with; the log has its name."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Nothing is built in the main process.

        :raise SettingError: an endpoint has not asked the reactor to listen.
        """
        raise SettingError("it listens in a way of its own, and cannot be divided: serve it with one process")


class AcceptingPort:
    """
    A listening port of Twisted's that is read here, in place of building a protocol for each connection.

    TCP is bound first, as only that may need rights or fail for another program, and listens when it is told to:
    nobody is to connect before there is a sub-reactor. The others listen from the beginning, and accept later.

    :param binding: what to bind.
    :param endpoint: its number.
    :param factory: the endpoint's, with its wrappers.
    :param accepted: called with each batch.
    :param reactor: the reactor.
    :raise CannotListenError: it cannot be bound.
    """

    def __init__(
        self,
        binding: Binding,
        endpoint: int,
        factory: Any,
        accepted: Callable[[list[Accepted]], object],
        reactor: Any,
    ) -> None:
        self._binding = binding
        self._endpoint = endpoint
        self._tellsHost = tellsHost(factory)
        self._answers = getattr(innermost(factory), "answersRefused", False)
        self._accepted = accepted
        self._reactor = reactor
        self._reads = False
        self._retry: Any = None
        self._bound: socket.socket | None = None
        self._port: Any = None
        self.address: IAddress
        if binding.port is None:
            port: Any = binding.listen(MainReactor())
            self._take(port)
            self.address = port.getHost()
        else:
            self._bound = bindAll(1, socket.SOCK_STREAM, binding.port, binding.interface)[0]
            self.address = _addressOf(self._bound)

    def _take(self, port: Any) -> None:
        self._port = port
        port.stopReading()
        # The reactor asks the port for it at each event.
        port.doRead = self._doRead

    def listen(self) -> None:
        """
        Let connections come.

        :raise CannotListenError: another program has been quicker.
        """
        bound, self._bound = self._bound, None
        if bound is not None:
            with bound:
                try:
                    bound.listen(self._binding.backlog)
                except OSError as error:
                    raise CannotListenError(self._binding.interface, self._binding.port, error) from error
                self._take(self._reactor.adoptStreamPort(bound.fileno(), self._binding.family, MainReactor()))

    def lend(self, place: int) -> socket.socket | None:
        """Nothing: it is read here."""
        return None

    def accept(self, wanted: bool) -> None:
        """Go on accepting, or leave connections in the backlog."""
        if self._port is None:
            return
        if wanted != self._reads and self._retry is None:
            if wanted:
                self._port.startReading()
            else:
                self._port.stopReading()
        self._reads = wanted

    def _doRead(self) -> None:
        batch: list[Accepted] = []
        accept = self._port.socket.accept
        for _ in range(BATCH):
            try:
                connection, address = accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._pause(error)
                break
            # A unix socket's peer has a path or nothing.
            host = plainHost(address[0]) if type(address) is tuple else None
            batch.append(Accepted(connection, self._endpoint, host, self._tellsHost, self._answers))
        if batch:
            self._accepted(batch)

    def _pause(self, error: OSError) -> None:
        """Leave the others in the backlog for a moment: descriptors become free as sub-reactors acknowledge."""
        if self._retry is None:
            log.warn("accepting pauses: {reason}", reason=error.strerror)
            self._port.stopReading()
            self._retry = self._reactor.callLater(RETRY, self._tryAgain)

    def _tryAgain(self) -> None:
        self._retry = None
        if self._reads:
            self._port.startReading()

    def stop(self) -> Deferred[Any]:
        """Stop listening."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        return succeed(None) if self._port is None else maybeDeferred(self._port.stopListening).addErrback(_leave)


def _leave(failure: Failure) -> None:
    """Usually a unix socket, in a folder where the user that twistd has changed to may remove nothing."""
    log.warn("a port did not close: {reason}", reason=failure.getErrorMessage())


class SharedPort:
    """
    Sockets that are bound to one address with SO_REUSEPORT, one for each sub-reactor.

    They belong to the main process, so that what waits in the backlog of a sub-reactor that dies is left to the next.

    :param sockets: by place.
    """

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self.address: IAddress = _addressOf(sockets[0])

    def listen(self) -> None:
        """The sub-reactors do, each when it is ready."""

    def lend(self, place: int) -> socket.socket | None:
        """The socket of a sub-reactor."""
        return self._sockets[place]

    def accept(self, wanted: bool) -> None:
        """It is not for this process to do so."""

    def stop(self) -> Deferred[Any]:
        """Let go of the sockets."""
        for each in self._sockets:
            each.close()
        return succeed(None)


def accepting(
    description: str, endpoint: int, accepted: Callable[[list[Accepted]], object], reactor: Any
) -> Deferred[AcceptingPort]:
    """
    Listen on what a description says, and hand out what is accepted.

    :raise SettingError: the description cannot be.
    :return: fails with what the endpoint's ``listen`` fails with.
    """
    made: list[AcceptingPort] = []

    def listen(binding: Binding, factory: Any) -> IListeningPort:
        made.append(AcceptingPort(binding, endpoint, factory, accepted, reactor))
        return _Elsewhere(made[0])

    return divide(description, reactor, listen, MainReactor()).addCallback(lambda _: _firstOf(made, description))


def sharing(description: str, places: int, reactor: Any) -> Deferred[SharedPort]:
    """
    Bind what a description says once for each place.

    :raise SettingError: the description cannot be, or not with SO_REUSEPORT.
    """
    endpoint = serverEndpoint(description, reactor)
    if isinstance(endpoint, UDPServerEndpoint):
        if endpoint.group is not None:
            raise SettingError(f"{description!r}: each process would get every datagram of a multicast group")
        return succeed(SharedPort(bindAll(places, socket.SOCK_DGRAM, endpoint.port, endpoint.interface)))
    made: list[SharedPort] = []

    def listen(binding: Binding, factory: Any) -> IListeningPort:
        if binding.port is None:
            raise SettingError(f"{description!r} has one socket: SO_REUSEPORT is for tcp, its like, and udp")
        made.append(SharedPort(bindAll(places, socket.SOCK_STREAM, binding.port, binding.interface)))
        return _Elsewhere(made[0])

    return divide(description, reactor, listen, MainReactor()).addCallback(lambda _: _firstOf(made, description))


def _firstOf(made: list[P], description: str) -> P:
    """What was made when the endpoint asked the reactor to listen, if it did."""
    if not made:
        raise SettingError(f"{description!r} listens in a way of its own: serve it with one process")
    return made[0]


@implementer(IListeningPort)
class _Elsewhere:
    """
    What an endpoint of the main process gets for a port: what it is for is done elsewhere.

    :param port: what does it.
    """

    def __init__(self, port: AcceptingPort | SharedPort) -> None:
        self._port = port

    def startListening(self) -> None:
        """Others do."""

    def stopListening(self) -> Deferred[None]:
        """Others do."""
        return succeed(None)

    def getHost(self) -> IAddress:
        """The address that is bound, as endpoints of other packages may want to log it."""
        return self._port.address


def bindAll(places: int, kind: int, port: int, interface: str) -> list[socket.socket]:
    """
    Bind sockets to one address; with SO_REUSEPORT where they are several.

    :param kind: SOCK_STREAM or SOCK_DGRAM.
    :param port: 0 for any, the same for all of them.
    :raise CannotListenError: it is not possible.
    """
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    made: list[socket.socket] = []
    try:
        flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
        address = socket.getaddrinfo(interface or "0.0.0.0", port, family, kind, 0, flags)[0][4]
        for _ in range(places):
            each = socket.socket(family, kind)
            made.append(each)
            each.setblocking(False)
            if kind == socket.SOCK_STREAM:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if places > 1:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(address)
            address = each.getsockname()
    except OSError as error:
        for each in made:
            each.close()
        raise CannotListenError(interface, port, error) from error
    return made


def _addressOf(bound: socket.socket) -> IPv4Address | IPv6Address:
    kind: Literal["TCP", "UDP"] = "UDP" if bound.type == socket.SOCK_DGRAM else "TCP"
    host, port = bound.getsockname()[:2]
    return (IPv6Address if bound.family == socket.AF_INET6 else IPv4Address)(kind, host, port)
