"""
The sub-reactor process: it serves the connections that the main process hands over.

It runs the IService that ``makeService`` returns for endpoints which get their connections from the main process
instead of a port. A new connection is acknowledged first. Its protocol is built after the reactor iteration, with the
factory that the service has given to the endpoint; so TLS, WebSocket and sessions are made in this process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from errno import ENOTCONN
from functools import partial
from importlib import import_module
from struct import unpack
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, eventAsJSON, formatEvent, globalLogBeginner
from twisted.python import reflect
from twisted.python.threadable import isInIOThread

from getty_tx.errors import GettyError
from getty_tx.processes import beside
from getty_tx.processes import channel as passing
from getty_tx.processes.channel import Channel, packNumbers, receiveOne, unpackConnections
from getty_tx.processes.drain import Drain
from getty_tx.processes.heap import freezeHeap
from getty_tx.processes.listening import (
    AdoptedConnection,
    Binding,
    BoundEndpoint,
    RemotePort,
    SubEndpoint,
    TurningAway,
    innermost,
)
from getty_tx.processes.queries import QueryHandler
from getty_tx.processes.totals import countsOf
from getty_tx.transports.udp.port import portTypeOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IListeningPort

__all__ = ["SubReactor", "main"]

log = Logger()

#: Messages queued to the main process above which events of the log are dropped.
MAX_QUEUED = 1000

#: The part of the drain timeout in which sessions may come to rest, and the part after which the process ends anyway.
REST_SHARE, END_SHARE = 0.5, 0.9

#: Seconds between two checks whether a message is sent.
CHECK_INTERVAL = 0.01

#: Seconds at the end in which queued messages to the main process may be sent.
FLUSH_TIMEOUT = 0.1

#: The part of the time that counting all sessions may take: up to 80,000 sessions are counted at each heartbeat.
COUNTING_SHARE = 0.01

#: Errors whose text is enough for the user; others get a traceback.
_PLAIN = (GettyError, SystemExit)


class SubReactor:
    """
    Runs the service of a sub-reactor, with the connections of the main process.

    :param config: the content of the CONFIG message.
    :param lent: the listening sockets of its endpoints, in their order, or none.
    :param end: its end of the channel.
    :param reactor: the reactor.
    :param stopped: called when it has ended.

    :ivar service: the service, once it is made.
    :ivar channel: the channel to the main process.
    """

    def __init__(
        self, config: dict[str, Any], lent: list[int], end: socket.socket, reactor: Any, stopped: Callable[[], object]
    ) -> None:
        self.reactor = reactor
        self._stopped = stopped
        self._config = config
        self._lent = lent
        self.channel = Channel(end, reactor, self._received, self._mainLost)
        self._endpoints = [
            SubEndpoint(description, reactor, partial(self._bind, number), self._bindFailed)
            for number, description in enumerate(config["endpoints"])
        ]
        self._bound: dict[int, BoundEndpoint] = {}
        self._ports: list[Any] = []
        self.service: Any = None
        self._isReady = self._isDraining = self._hasEnded = False
        # Acknowledged connections, to be built after the reactor iteration.
        self._arrived: list[tuple[int, int, int, bool]] = []
        # The value of channel.sent when they are acknowledged.
        self._acknowledged = 0
        self._ended: list[int] = []
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor
        self._counts: dict[str, int] = {}
        self._nextCount = 0.0
        # Dropped events of the log.
        self._dropped = 0
        self._deadline: Any = None
        # Answers the queries of the main process, where it may send any.
        self._queries: QueryHandler | None = None

    # Starting

    def start(self) -> None:
        """Make the service and start it."""
        try:
            made = _find(self._config["target"])
            self.service = IService(made(self._endpoints, *self._config["arguments"]))
            self.service.privilegedStartService()
            self.service.startService()
            answering = self._config["answering"]
            if answering is not None:
                self._queries = QueryHandler(_find(answering)(self.service, self.reactor), self.channel, self.reactor)
                self._queries.start()
        except BaseException as error:
            if not isinstance(error, _PLAIN):
                log.failure("the service did not start")
            self._fail(error)
        else:
            self._checkReady()

    def _bind(self, number: int, binding: Binding, factory: Any) -> IListeningPort:
        """The service listens on an endpoint: return the port."""
        if self._lent:
            return self._bindLent(number, binding, factory)
        host, port = self._config["addresses"][number]
        address: IAddress
        if binding.family == socket.AF_UNIX:
            address = UNIXAddress(host)
        elif binding.family == socket.AF_INET6:
            address = IPv6Address("TCP", host, port)
        else:
            address = IPv4Address("TCP", host, port)
        self._bound[number] = BoundEndpoint(binding.family, factory)
        self._checkReady()
        return RemotePort(address, factory)

    def _bindLent(self, number: int, binding: Binding, factory: Any) -> IListeningPort:
        """Listen on a socket that the main process has lent; for datagrams the factory is a protocol."""
        descriptor = self._lent[number]
        if binding.isDatagrams:
            # Private in Twisted. The reactor's adoptDatagramPort would make Twisted's port instead of ours.
            # tests.processes.test_twistd has a UDP server, which fails without this.
            port: Any = portTypeOf(factory)._fromListeningDescriptor(
                self.reactor, descriptor, binding.family, factory, binding.maxPacketSize
            )
            port.startListening()
            factory = factory.factory
        else:
            with socket.socket(fileno=os.dup(descriptor)) as listening:
                # Another sub-reactor may have called listen() already.
                listening.listen(binding.backlog)
            port = self.reactor.adoptStreamPort(descriptor, binding.family, factory)
            self._ports.append(port)
        os.close(descriptor)
        self._bound[number] = BoundEndpoint(binding.family, factory)
        self._checkReady()
        made: IListeningPort = port
        return made

    def _bindFailed(self, failure: Any) -> Any:
        """Listening on an endpoint has failed."""
        self._fail(failure.value)
        return failure

    def _checkReady(self) -> None:
        if self.service is not None and not self._isReady and len(self._bound) == len(self._endpoints):
            self._isReady = True
            share = self._config["maxSessions"]
            if share is not None:
                for context in self._contexts():
                    context.maxSessions = share
            self._beating.start(self._config["period"])
            self.channel.send(passing.READY)

    def _fail(self, error: BaseException) -> None:
        if not self._isReady and not self._isDraining:
            self._isDraining = True
            text = str(error) if isinstance(error, _PLAIN) else f"{type(error).__name__}: {error}"
            self.channel.send(passing.FAILED, text.encode()[: passing.MAX_MESSAGE - 1])
            self._finish()

    # Connections

    def _received(self, kind: int, data: bytes, descriptors: list[int]) -> None:
        if kind == passing.TAKE:
            self._take(unpackConnections(data), descriptors)
        elif kind == passing.REFUSE:
            self._take(unpackConnections(data), descriptors, isRefused=True)
        elif kind == passing.ASK:
            if self._queries is not None:
                self._queries.queryReceived(data)
        elif kind == passing.DRAIN:
            # After the connections that have arrived.
            self.reactor.callLater(0, self._drain, *unpack("<d", data))

    def _take(self, connections: list[tuple[int, int]], descriptors: list[int], isRefused: bool = False) -> None:
        if self._isDraining:
            for descriptor in descriptors:
                os.close(descriptor)
            descriptors = []
        # Fewer descriptors than connections arrive when the process has too many open files.
        taken = connections[: len(descriptors)]
        if taken:
            self._acknowledged = self.channel.send(passing.TAKEN, packNumbers(number for number, _ in taken))
            if not self._arrived:
                # Later: the reactor may still have events of this iteration for descriptors that were just closed, and
                # would deliver them to new connections with the same descriptors.
                self.reactor.callLater(0, self._build)
            self._arrived += [
                (*each, descriptor, isRefused) for each, descriptor in zip(taken, descriptors, strict=True)
            ]
        if len(taken) < len(connections):
            self.channel.send(passing.RETURNED, packNumbers(number for number, _ in connections[len(taken) :]))

    def _build(self) -> None:
        if self.channel.sent < self._acknowledged:
            # If this process died now, the main process would hand them to another sub-reactor.
            self.reactor.callLater(CHECK_INTERVAL, self._build)
            return
        arrived, self._arrived = self._arrived, []
        adopt = self.reactor.adoptStreamConnection
        for number, endpoint, descriptor, isRefused in arrived:
            bound = self._bound[endpoint]
            factory = TurningAway(bound.factory) if isRefused else bound.factory
            adopted = AdoptedConnection(factory, number, self._connectionEnded)
            try:
                adopt(descriptor, bound.family, adopted)
            except OSError as error:
                if error.errno != ENOTCONN and not isRefused:
                    self._outOfDescriptors(bound, error)
                # With ENOTCONN the peer has reset the connection in the meantime.
            except Exception:
                log.failure("a connection was not built")
                adopted.drop()
            # The reactor has duplicated it.
            os.close(descriptor)
            if adopted.transport is None:
                self._connectionEnded(number)

    def _outOfDescriptors(self, bound: BoundEndpoint, error: OSError) -> None:
        """Out of file descriptors: count the connection as refused."""
        why = f"{error.strerror}: raise the limit (ulimit -n) or set maxSessions"
        context = getattr(innermost(bound.factory), "context", None)
        if context is None:
            log.error("a connection is dropped: {why}", why=why)
        else:
            context.countRefusal("descriptors", why)

    def _connectionEnded(self, number: int) -> None:
        if not self._ended:
            self.reactor.callLater(0, self._reportEnded)
        self._ended.append(number)

    def _reportEnded(self) -> None:
        ended, self._ended = self._ended, []
        limit = passing.MAX_MESSAGE // 4 - 1
        for first in range(0, len(ended), limit):
            self.channel.send(passing.ENDED, packNumbers(ended[first : first + limit]))

    # Counters and the log

    def _beat(self) -> None:
        now = self.reactor.seconds()
        if now >= self._nextCount:
            self._counts = countsOf(self._contexts())
            took = self.reactor.seconds() - now
            self._nextCount = now + took / COUNTING_SHARE
        self.channel.send(passing.BEAT, json.dumps(self._counts).encode())

    def _contexts(self) -> list[Any]:
        found: dict[int, Any] = {}
        for bound in self._bound.values():
            context = getattr(innermost(bound.factory), "context", None)
            if context is not None:
                found[id(context)] = context
        return list(found.values())

    def relay(self, event: dict[str, Any]) -> None:
        """Send an event of the log to the main process. An observer for ``twisted.logger``, on any thread."""
        if "log_failure" in event:
            # JSON does not carry the exception.
            event = {**event, "failureText": reflect.safe_str(event["log_failure"].value)}
        data = eventAsJSON(event).encode()
        if len(data) >= passing.MAX_MESSAGE:
            small = {name: event.get(name) for name in ("log_namespace", "log_level", "log_time")}
            small |= {"log_format": "{text}", "text": formatEvent(event)[: passing.MAX_MESSAGE // 8]}
            data = eventAsJSON(small).encode()
        if isInIOThread():
            self._relay(data)
        else:
            self.reactor.callFromThread(self._relay, data)

    def _relay(self, data: bytes) -> None:
        if self.channel.queued >= MAX_QUEUED:
            self._dropped += 1
            return
        self.channel.send(passing.LOG, data)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            log.warn("{dropped} events of the log were dropped", dropped=dropped)

    # The end

    def leave(self) -> None:
        """A signal asks this process to end: tell the main process, and drain."""
        if not self._isDraining:
            self.channel.send(passing.LEAVING)
            self._drain(self._config["drainTimeout"])

    def _mainLost(self) -> None:
        if not self._isDraining:
            self._drain(self._config["drainTimeout"])

    def _drain(self, timeout: float) -> None:
        if self._isDraining:
            return
        self._isDraining = True
        self._deadline = self.reactor.callLater(timeout * END_SHARE, self._finish)
        self._drainSessions(timeout * REST_SHARE)

    def _drainSessions(self, timeout: float) -> None:
        if self._arrived:
            self.reactor.callLater(CHECK_INTERVAL, self._drainSessions, timeout)
            return
        for port in self._ports:
            # The service closes the port later.
            port.stopReading()
        Drain(self._contexts(), self.reactor).run(timeout).addCallback(self._stop)

    def _stop(self, _: object) -> None:
        stopped = maybeDeferred(self.service.stopService)
        stopped.addErrback(lambda failure: log.failure("the service did not stop", failure))
        stopped.addCallback(lambda _: self._finish())

    def _finish(self) -> None:
        """End, because the service has stopped or the time has passed."""
        if self._hasEnded:
            return
        self._hasEnded = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._ended:
            self._reportEnded()
        if self._beating.running:
            self._nextCount = 0.0
            self._beat()
            self._beating.stop()
        if self._queries is not None:
            self._queries.stop()
        if self.channel.queued:
            # Mostly events of the log.
            self.reactor.callLater(FLUSH_TIMEOUT, self._stopped)
        else:
            self._stopped()


def _find(target: str) -> Any:
    """Return the object that ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def main() -> None:
    """Run the process of a sub-reactor."""
    # Ctrl-C goes to all processes of the terminal, but the main process decides what happens. A handler instead of
    # SIG_IGN, because programs that are started from here would inherit SIG_IGN.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    data, lent = receiveOne(end)
    if not data:
        return
    config = json.loads(data[1:])
    beside.adopt(lent.pop())
    sys.path[:] = config["path"]
    for name in ("PYTHONPATH", "LISTEN_PID"):
        os.environ.pop(name, None)
    if config["pythonpath"] is not None:
        os.environ["PYTHONPATH"] = config["pythonpath"]
    import_module(config["reactor"]).install()
    from twisted.internet import reactor

    def stopped() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    def onSignal(number: int, frame: object) -> None:
        sub.reactor.callFromThread(sub.leave)

    sub = SubReactor(config, lent, end, reactor, stopped)
    relay: Any = sub.relay
    globalLogBeginner.beginLoggingTo([relay])
    # After the reactor has set its own handler.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, onSignal)
    reactor.callWhenRunning(sub.start)
    reactor.callWhenRunning(freezeHeap)
    reactor.run()


def _ignore(number: int, frame: object) -> None:
    pass
