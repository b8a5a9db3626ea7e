"""
A sub-reactor: the process that serves the connections which the main process hands to it.

It runs an IService, for which ``makeService`` is called with endpoints that listen to the main process in place of a
port. A connection that comes is acknowledged first, and built after the reactor's turn, with the factory that the
service has given to the endpoint: its TLS, its WebSocket and its sessions are made here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from errno import ENOTCONN
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
from getty_tx.processes import channel as passing
from getty_tx.processes.channel import Channel, packNumbers, receiveOne, unpackConnections
from getty_tx.processes.drain import Drain
from getty_tx.processes.listening import (
    Arrival,
    Binding,
    Place,
    StandInPort,
    SubEndpoint,
    innermost,
    innermostProtocol,
)
from getty_tx.processes.queries import Answers
from getty_tx.processes.totals import countsOf
from getty_tx.transports.udp.port import SessionPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IListeningPort

__all__ = ["SubReactor", "main"]

log = Logger()

#: Messages to the main process that may wait, above which events of the log are dropped.
MOST_WAITING = 1000

#: The part of the given time that sessions have to come to rest, and the part after which the process ends anyway.
REST, END = 0.5, 0.9

#: Seconds until what has to wait for a message's being sent is tried again.
SOON = 0.01

#: Seconds that messages to the main process have to be sent at the end.
LAST_WORDS = 0.1

#: Counting what all sessions have done may take this part of the time.
COUNTING = 0.002


#: Errors whose text says what is wrong, to whoever starts a program.
_PLAIN = (GettyError, SystemExit)


class SubReactor:
    """
    What a sub-reactor does for the main process.

    :param config: what the main process has told.
    :param lent: listening sockets for its endpoints, in their order, or none.
    :param end: its end of the channel.
    :param reactor: the reactor.
    :param over: called when it has ended.
    """

    def __init__(
        self, config: dict[str, Any], lent: list[int], end: socket.socket, reactor: Any, over: Callable[[], object]
    ) -> None:
        self.reactor = reactor
        self._over = over
        self._config = config
        self._lent = lent
        self._channel = Channel(end, reactor, self._received, self._mainIsGone)
        self._endpoints = [
            SubEndpoint(self, number, description) for number, description in enumerate(config["endpoints"])
        ]
        self._places: dict[int, Place] = {}
        self._ports: list[Any] = []
        self._service: Any = None
        self._isReady = self._isDraining = self._isOver = False
        # Acknowledged, to be built when the reactor's turn is over.
        self._arrived: list[tuple[int, int, int, int | None]] = []
        # What the channel has sent when they are acknowledged.
        self._acknowledged = 0
        self._ended: list[int] = []
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor
        self._counts: dict[str, int] = {}
        self._countAgain = 0.0
        # Events of the log.
        self._dropped = 0
        self._deadline: Any = None
        # What answers the main process's questions, where it will have any.
        self._answers: Answers | None = None

    # Starting

    def start(self) -> None:
        """Make the service, and start it."""
        try:
            made = _find(self._config["target"])
            self._service = IService(made(self._endpoints, *self._config["arguments"]))
            self._service.privilegedStartService()
            self._service.startService()
            answering = self._config["answering"]
            if answering is not None:
                self._answers = Answers(_find(answering)(self._service, self.reactor), self._channel, self.reactor)
                self._answers.start()
        except BaseException as error:
            if not isinstance(error, _PLAIN):
                log.failure("the service did not start")
            self._fail(error)
        else:
            self._checkReady()

    def bind(self, number: int, binding: Binding, factory: Any) -> IListeningPort:
        """The service listens on an endpoint."""
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
        self._places[number] = Place(binding.family, factory)
        self._checkReady()
        return StandInPort(address, factory)

    def _bindLent(self, number: int, binding: Binding, factory: Any) -> IListeningPort:
        """Listen on a socket of the main process's; the factory is a protocol where it takes datagrams."""
        descriptor = self._lent[number]
        if binding.isDatagrams:
            # Private, as the reactor's adoptDatagramPort would make Twisted's own port and not a SessionPort.
            # tests.processes.test_twistd has a UDP server, which fails without.
            port: Any = SessionPort._fromListeningDescriptor(  # type: ignore[no-untyped-call]  # Twisted's
                self.reactor, descriptor, binding.family, factory, binding.maxPacketSize
            )
            port.startListening()
            factory = factory.factory
        else:
            with socket.socket(fileno=os.dup(descriptor)) as bound:
                # It may listen already, from another sub-reactor.
                bound.listen(binding.backlog)
            port = self.reactor.adoptStreamPort(descriptor, binding.family, factory)
            self._ports.append(port)
        os.close(descriptor)
        self._places[number] = Place(binding.family, factory)
        self._checkReady()
        made: IListeningPort = port
        return made

    def bindFailed(self, failure: Any) -> Any:
        """An endpoint cannot be listened on."""
        self._fail(failure.value)
        return failure

    def _checkReady(self) -> None:
        if self._service is not None and not self._isReady and len(self._places) == len(self._endpoints):
            self._isReady = True
            share = self._config["maxSessions"]
            if share is not None:
                for context in self._keepers():
                    context.maxSessions = share
            self._beating.start(self._config["period"])
            self._channel.send(passing.READY)

    def _fail(self, error: BaseException) -> None:
        if not self._isReady and not self._isDraining:
            self._isDraining = True
            text = str(error) if isinstance(error, _PLAIN) else f"{type(error).__name__}: {error}"
            self._channel.send(passing.FAILED, text.encode()[: passing.LONGEST - 1])
            self._end()

    # Connections

    def _received(self, kind: int, data: bytes, descriptors: list[int]) -> None:
        if kind == passing.TAKE:
            self._take(unpackConnections(data), descriptors)
        elif kind == passing.REFUSE:
            self._take(unpackConnections(data), descriptors, self._config["limit"])
        elif kind == passing.ASK:
            if self._answers is not None:
                self._answers.asked(data)
        elif kind == passing.DRAIN:
            # After those that have arrived.
            self.reactor.callLater(0, self._drain, *unpack("<d", data))

    def _take(self, connections: list[tuple[int, int]], descriptors: list[int], above: int | None = None) -> None:
        if self._isDraining:
            for descriptor in descriptors:
                os.close(descriptor)
            descriptors = []
        # Fewer descriptors than connections came where the process may have no more.
        taken = connections[: len(descriptors)]
        if taken:
            self._acknowledged = self._channel.send(passing.TAKEN, packNumbers(number for number, _ in taken))
            if not self._arrived:
                # Not now: the reactor may have further events of this turn for descriptors that were just closed, and
                # would take them for those of new connections with the same numbers.
                self.reactor.callLater(0, self._build)
            self._arrived += [(*each, descriptor, above) for each, descriptor in zip(taken, descriptors, strict=True)]
        if len(taken) < len(connections):
            self._channel.send(passing.RETURNED, packNumbers(number for number, _ in connections[len(taken) :]))

    def _build(self) -> None:
        if self._channel.sent < self._acknowledged:
            # Otherwise the main process would give them to another sub-reactor if this one died now.
            self.reactor.callLater(SOON, self._build)
            return
        arrived, self._arrived = self._arrived, []
        adopt = self.reactor.adoptStreamConnection
        for number, endpoint, descriptor, above in arrived:
            place = self._places[endpoint]
            arrival = Arrival(place.factory, number, self._hasEnded)
            try:
                adopt(descriptor, place.family, arrival)
            except OSError as error:
                if error.errno != ENOTCONN:
                    self._refuse(place, error)
                # Otherwise the peer has reset it in the meantime.
            except Exception:
                log.failure("a connection was not built")
                arrival.drop()
            # It was duplicated.
            os.close(descriptor)
            if arrival.transport is None:
                self._hasEnded(number)
            elif above is not None and arrival.transport.connected:
                # The protocol has an answer, once it knows what is asked.
                innermostProtocol(arrival.transport.protocol).above = above

    def _refuse(self, place: Place, error: OSError) -> None:
        """Nothing can be built of it, for want of a descriptor."""
        why = f"{error.strerror}: raise the limit (ulimit -n) or set maxSessions"
        context = getattr(innermost(place.factory), "context", None)
        if context is None:
            log.error("a connection is dropped: {why}", why=why)
        else:
            context.countRefusal("descriptors", why)

    def _hasEnded(self, number: int) -> None:
        if not self._ended:
            self.reactor.callLater(0, self._tellEnded)
        self._ended.append(number)

    def _tellEnded(self) -> None:
        ended, self._ended = self._ended, []
        most = passing.LONGEST // 4 - 1
        for first in range(0, len(ended), most):
            self._channel.send(passing.ENDED, packNumbers(ended[first : first + most]))

    # Counting

    def _beat(self) -> None:
        now = self.reactor.seconds()
        if now >= self._countAgain:
            self._counts = countsOf(self._keepers())
            took = self.reactor.seconds() - now
            self._countAgain = now + took / COUNTING
        self._channel.send(passing.BEAT, json.dumps(self._counts).encode())

    def _keepers(self) -> list[Any]:
        found: dict[int, Any] = {}
        for place in self._places.values():
            context = getattr(innermost(place.factory), "context", None)
            if context is not None:
                found[id(context)] = context
        return list(found.values())

    def relay(self, event: dict[str, Any]) -> None:
        """Give an event of the log to the main process; an observer for ``twisted.logger``, on any thread."""
        if "log_failure" in event:
            # What an exception says is lost in JSON.
            event = {**event, "failureText": reflect.safe_str(event["log_failure"].value)}
        data = eventAsJSON(event).encode()
        if len(data) >= passing.LONGEST:
            small = {name: event.get(name) for name in ("log_namespace", "log_level", "log_time")}
            small |= {"log_format": "{text}", "text": formatEvent(event)[: passing.LONGEST // 8]}
            data = eventAsJSON(small).encode()
        if isInIOThread():
            self._relay(data)
        else:
            self.reactor.callFromThread(self._relay, data)

    def _relay(self, data: bytes) -> None:
        if self._channel.waiting >= MOST_WAITING:
            self._dropped += 1
            return
        self._channel.send(passing.LOG, data)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            log.warn("{dropped} events of the log were dropped", dropped=dropped)

    # The end

    def leave(self) -> None:
        """A signal asks for the end: the main process has to know that this was not its doing."""
        if not self._isDraining:
            self._channel.send(passing.LEAVING)
            self._drain(self._config["drainTimeout"])

    def _mainIsGone(self) -> None:
        if not self._isDraining:
            self._drain(self._config["drainTimeout"])

    def _drain(self, timeout: float) -> None:
        if self._isDraining:
            return
        self._isDraining = True
        self._deadline = self.reactor.callLater(timeout * END, self._end)
        self._rest(timeout * REST)

    def _rest(self, timeout: float) -> None:
        if self._arrived:
            self.reactor.callLater(SOON, self._rest, timeout)
            return
        for port in self._ports:
            # The service stops it for good, later.
            port.stopReading()
        Drain(self._keepers(), self.reactor).run(timeout).addCallback(self._stop)

    def _stop(self, _: object) -> None:
        stopped = maybeDeferred(self._service.stopService)
        stopped.addErrback(lambda failure: log.failure("the service did not stop", failure))
        stopped.addCallback(lambda _: self._end())

    def _end(self) -> None:
        """It is over, or there is no time left."""
        if self._isOver:
            return
        self._isOver = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._ended:
            self._tellEnded()
        if self._beating.running:
            self._countAgain = 0.0
            self._beat()
            self._beating.stop()
        if self._answers is not None:
            self._answers.end()
        if self._channel.waiting:
            # Of the log, most of all.
            self.reactor.callLater(LAST_WORDS, self._over)
        else:
            self._over()


def _find(target: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    found: Any = import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def main() -> None:
    """What the process of a sub-reactor runs."""
    # Ctrl-C goes to all processes of the terminal, and the main process tells what is to be done. A handler, as what is
    # ignored would be so in other programs that are started here.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)
    data, lent = receiveOne(end)
    if not data:
        return
    config = json.loads(data[1:])
    sys.path[:] = config["path"]
    for name in ("PYTHONPATH", "LISTEN_PID"):
        os.environ.pop(name, None)
    if config["pythonpath"] is not None:
        os.environ["PYTHONPATH"] = config["pythonpath"]
    import_module(config["reactor"]).install()
    from twisted.internet import reactor

    def over() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    def onSignal(number: int, frame: object) -> None:
        sub.reactor.callFromThread(sub.leave)

    sub = SubReactor(config, lent, end, reactor, over)
    relay: Any = sub.relay
    globalLogBeginner.beginLoggingTo([relay])
    # After the reactor has set its own handler.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, onSignal)
    reactor.callWhenRunning(sub.start)
    reactor.run()


def _ignore(number: int, frame: object) -> None:
    pass
