"""The ports of the main process: it accepts on them, or lends their sockets to sub-reactors (``reuse-port``)."""

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
from getty_tx.processes.listening import Binding, captureListen, innermost, tellsHost
from getty_tx.processes.member import PendingConnection
from getty_tx.session.wrappers import plainHost
from getty_tx.transports.udp.endpoints import UDPServerEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

__all__ = ["AcceptingPort", "SharedPort", "accepting", "sharing"]

log = Logger()

P = TypeVar("P")

#: Connections that are accepted before the reactor serves other descriptors.
BATCH = 100

#: Seconds until the next attempt to accept when the process or the system is out of descriptors.
RETRY = 0.1

#: Errors of accept(2) that concern one connection, which has ended already or which the system refuses.
_CONNECTION_ERRORS = (
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
    """The factory of a port whose connections are read elsewhere; the log shows its name."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Refuse: no protocols are built in the main process.

        :raise SettingError: always; only an endpoint that listens without the reactor calls this.
        """
        raise SettingError("it does not listen through the reactor, and cannot be divided: serve it with one process")


class AcceptingPort:
    """
    A listening port of Twisted that accepts batches of connections, instead of building a protocol for each.

    TCP is bound at once, because only binding may need privileges or fail because of another program. It listens
    later, on :py:meth:`listen`, because no peer must connect before there is a sub-reactor. Other sockets listen at
    once and accept later.

    :param binding: the address.
    :param endpoint: the number of the endpoint.
    :param factory: the factory of the endpoint, with its wrappers.
    :param accepted: called with each batch.
    :param reactor: the reactor.
    :raise CannotListenError: the address cannot be bound.
    """

    def __init__(
        self,
        binding: Binding,
        endpoint: int,
        factory: Any,
        accepted: Callable[[list[PendingConnection]], object],
        reactor: Any,
    ) -> None:
        self._binding = binding
        self._endpoint = endpoint
        self._tellsHost = tellsHost(factory)
        self._answers = getattr(innermost(factory), "answersRefused", False)
        self._accepted = accepted
        self._reactor = reactor
        self._isAccepting = False
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
        # The reactor looks it up on the port at each event.
        port.doRead = self._doRead

    def listen(self) -> None:
        """
        Listen.

        :raise CannotListenError: another program listens on the address by now.
        """
        bound, self._bound = self._bound, None
        if bound is not None:
            with bound:
                try:
                    bound.listen(self._binding.backlog)
                except OSError as error:
                    raise CannotListenError(self._binding.interface, self._binding.port, error) from error
                self._take(self._reactor.adoptStreamPort(bound.fileno(), self._binding.family, MainReactor()))

    def lend(self, slot: int) -> socket.socket | None:
        """Return None: this process accepts."""
        return None

    def setAccepting(self, wanted: bool) -> None:
        """Accept connections, or leave them in the backlog."""
        if self._port is None:
            return
        if wanted != self._isAccepting and self._retry is None:
            if wanted:
                self._port.startReading()
            else:
                self._port.stopReading()
        self._isAccepting = wanted

    def _doRead(self) -> None:
        batch: list[PendingConnection] = []
        accept = self._port.socket.accept
        for _ in range(BATCH):
            try:
                connection, address = accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _CONNECTION_ERRORS:
                    continue
                self._pause(error)
                break
            # The address of a unix socket's peer is a path or empty.
            host = plainHost(address[0]) if type(address) is tuple else None
            batch.append(PendingConnection(connection, self._endpoint, host, self._tellsHost, self._answers))
        if batch:
            self._accepted(batch)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment: descriptors become free when sub-reactors acknowledge connections."""
        if self._retry is None:
            log.warn("accepting pauses: {reason}", reason=error.strerror)
            self._port.stopReading()
            self._retry = self._reactor.callLater(RETRY, self._tryAgain)

    def _tryAgain(self) -> None:
        self._retry = None
        if self._isAccepting:
            self._port.startReading()

    def stop(self) -> Deferred[Any]:
        """Stop listening."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._bound is not None:
            self._bound.close()
            self._bound = None
        return (
            succeed(None) if self._port is None else maybeDeferred(self._port.stopListening).addErrback(_logStopFailed)
        )


def _logStopFailed(failure: Failure) -> None:
    """Log the failure. Usually twistd has changed to a user that may not remove the unix socket from its folder."""
    log.warn("a port did not close: {reason}", reason=failure.getErrorMessage())


class SharedPort:
    """
    Sockets that are bound to one address with SO_REUSEPORT, one for each sub-reactor.

    The main process keeps them open, so that the successor of a dead sub-reactor gets the connections in the backlog.

    :param sockets: the sockets, by slot.
    """

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self.address: IAddress = _addressOf(sockets[0])

    def listen(self) -> None:
        """Do nothing: each sub-reactor listens when it is ready."""

    def lend(self, slot: int) -> socket.socket | None:
        """Return the socket of a sub-reactor."""
        return self._sockets[slot]

    def setAccepting(self, wanted: bool) -> None:
        """Do nothing: the sub-reactors accept."""

    def stop(self) -> Deferred[Any]:
        """Close the sockets."""
        for each in self._sockets:
            each.close()
        return succeed(None)


def accepting(
    description: str, endpoint: int, accepted: Callable[[list[PendingConnection]], object], reactor: Any
) -> Deferred[AcceptingPort]:
    """
    Make the port of an endpoint's description.

    :param accepted: called with each batch of connections.
    :raise SettingError: the description is not valid.
    :return: fails with the error of the endpoint's ``listen``.
    """
    made: list[AcceptingPort] = []

    def listen(binding: Binding, factory: Any) -> IListeningPort:
        made.append(AcceptingPort(binding, endpoint, factory, accepted, reactor))
        return _CapturedPort(made[0])

    return captureListen(description, reactor, listen, MainReactor()).addCallback(lambda _: _firstOf(made, description))


def sharing(description: str, slots: int, reactor: Any) -> Deferred[SharedPort]:
    """
    Bind the address of an endpoint's description once for each slot.

    :raise SettingError: the description is not valid, or not possible with SO_REUSEPORT.
    """
    endpoint = serverEndpoint(description, reactor)
    if isinstance(endpoint, UDPServerEndpoint):
        if endpoint.group is not None:
            raise SettingError(f"{description!r}: each process would get every datagram of a multicast group")
        return succeed(SharedPort(bindAll(slots, socket.SOCK_DGRAM, endpoint.port, endpoint.interface)))
    made: list[SharedPort] = []

    def listen(binding: Binding, factory: Any) -> IListeningPort:
        if binding.port is None:
            raise SettingError(f"{description!r} has one socket: SO_REUSEPORT is for tcp, similar endpoints, and udp")
        made.append(SharedPort(bindAll(slots, socket.SOCK_STREAM, binding.port, binding.interface)))
        return _CapturedPort(made[0])

    return captureListen(description, reactor, listen, MainReactor()).addCallback(lambda _: _firstOf(made, description))


def _firstOf(made: list[P], description: str) -> P:
    """Return the port that was made when the endpoint called the reactor to listen."""
    if not made:
        raise SettingError(f"{description!r} does not listen through the reactor: serve it with one process")
    return made[0]


@implementer(IListeningPort)
class _CapturedPort:
    """
    The port that an endpoint gets in the main process; it only has an address.

    :param port: the port that was made instead.
    """

    def __init__(self, port: AcceptingPort | SharedPort) -> None:
        self._port = port

    def startListening(self) -> None:
        """Do nothing: the main process starts and stops the port itself."""

    def stopListening(self) -> Deferred[None]:
        """Do nothing: the main process starts and stops the port itself."""
        return succeed(None)

    def getHost(self) -> IAddress:
        """Return the bound address. Endpoints of other packages may log it."""
        return self._port.address


def bindAll(count: int, kind: int, port: int, interface: str) -> list[socket.socket]:
    """
    Bind sockets to one address, with SO_REUSEPORT for more than one.

    :param count: how many sockets.
    :param kind: SOCK_STREAM or SOCK_DGRAM.
    :param port: 0 for any port, the same for all sockets.
    :raise CannotListenError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    made: list[socket.socket] = []
    try:
        flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST
        address = socket.getaddrinfo(interface or "0.0.0.0", port, family, kind, 0, flags)[0][4]
        for _ in range(count):
            each = socket.socket(family, kind)
            made.append(each)
            each.setblocking(False)
            if kind == socket.SOCK_STREAM:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
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
