"""The options of a server, and its services, for ``getty-echo``, ``getty-serve`` and ``getty-rpc``."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from getty_tx.endpoints import serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.processes.balance import BALANCES
from getty_tx.processes.heap import freezeHeap
from getty_tx.processes.service import DRAIN_TIMEOUT, HEARTBEAT_TIMEOUT, Processes
from getty_tx.processes.supervisor import KILL_SHARE
from getty_tx.server import Server
from getty_tx.session.addresses import formatAddress
from getty_tx.session.context import theReactor
from getty_tx.tap.ending import OrderlyEnd, cannotStart, endProcess
from getty_tx.tap.options import SessionOptions, optionalCount, seconds
from getty_tx.tap.registering import RegisterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.status import StatusService

__all__ = ["DEFAULT_LISTEN", "ListenOptions", "ListenService", "ProcessesService", "listenService"]

log = Logger()

#: Loopback only: other addresses must be asked for.
DEFAULT_LISTEN = "tcp:8090:interface=127.0.0.1"

#: The part of ``--drain-timeout`` after which a main process ends; at KILL_SHARE its sub-reactors have been killed.
STOPPED = (1 + KILL_SHARE) / 2


def processes(value: str) -> int | None:
    """The coercion of ``--processes``."""
    if value == "0":
        return 0
    try:
        number: int | None = optionalCount("processes", "processes")(value)
    except usage.UsageError as error:
        raise usage.UsageError(f"{error}, or 0 for one on each core") from None
    return number


def balance(value: str) -> str:
    """The coercion of ``--balance``."""
    if value not in BALANCES:
        raise usage.UsageError(f"--balance {value}: takes one of {', '.join(BALANCES)}")
    return value


class ListenOptions(RegisterOptions, SessionOptions):
    """
    The options of a server.

    :ivar endpoints: the descriptions of ``--listen``, or the default one.
    :ivar arguments: the parsed command line.
    """

    optParameters = [
        ["max-sessions", None, "none",
         "Maximum number of connections, above which new ones are refused; a number, or none.",
         optionalCount("max-sessions", "sessions")],
        ["max-sessions-per-host", None, "none",
         "Maximum number of connections from one IP address; a number, or none.",
         optionalCount("max-sessions-per-host", "sessions")],
        ["processes", None, "none",
         "Number of sub-reactors: processes to which a main process distributes the connections; 0: one for each core;"  # noqa: ISC004
         " none: this process serves.", processes],
        ["balance", None, "round-robin",
         f"How connections are distributed to processes: {', '.join(BALANCES)}.", balance],
        ["drain-timeout", None, f"{DRAIN_TIMEOUT:g}",
         "Seconds until sessions must have ended after SIGTERM, or a reload by SIGHUP.", seconds("drain-timeout")],
        ["drain-rate", None, "none",
         "Sessions that a process closes a second when it stops: not all clients come back at once; a number, or none."  # noqa: ISC004
         " --drain-timeout has to be long enough for all.", optionalCount("drain-rate", "sessions")],
        ["heartbeat-timeout", None, f"{HEARTBEAT_TIMEOUT:g}",
         "Seconds without a heartbeat after which a sub-reactor is replaced.", seconds("heartbeat-timeout")],
    ]  # fmt: skip

    #: Where it listens without ``--listen``.
    defaultListen = DEFAULT_LISTEN

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[str] = []
        self.arguments: list[str] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse, and store the command line for sub-reactors, which have the same.

        :raise usage.UsageError: its text has the option, its value, and the allowed values.
        """
        self.arguments = list(sys.argv[1:] if options is None else options)
        SessionOptions.parseOptions(self, self.arguments)  # type: ignore[no-untyped-call]  # Twisted's

    def opt_listen(self, description: str) -> None:
        """
        Endpoint to listen on: a tcp:, tls:, ssl:, unix:, udp:, ws:, wss:, systemd: or haproxy: description; may be
        given several times.
        [default: tcp:8090:interface=127.0.0.1]
        """
        try:
            # Without a reactor the description is only parsed, and its files are read.
            serverEndpoint(description, None)
        except SettingError as error:
            raise usage.UsageError(f"--listen {description}: {error}; an example is {self.defaultListen}") from error
        self.endpoints.append(description)

    # Python does this itself from 3.13 on; before, the indentation would be in the help.
    opt_listen.__doc__ = cleandoc(opt_listen.__doc__ or "")

    opt_l = opt_listen

    def postOptions(self) -> None:
        """See :py:meth:`SessionOptions.postOptions`."""
        SessionOptions.postOptions(self)
        if not self.endpoints:
            self.endpoints.append(self.defaultListen)
        self.checkStreams("listen", self.endpoints)
        self.checkRegistering()
        if self["processes"] is not None:
            try:
                processesOf(self)
            except SettingError as error:
                raise usage.UsageError(f"--processes {self['processes']}: {error}") from error

    def serves(self) -> str:
        """What is served, for the log."""
        return f"{self.codec!r}, packages of up to {self['max-msg-len']} bytes"


class _CommandService(MultiService):
    """
    Listens, and ends the process if that fails.

    :param options: parsed.
    :param listening: the service that listens.
    :param shown: what the status shows.
    :param reactor: by default the installed one, looked up when the service starts.
    """

    def __init__(self, options: ListenOptions, listening: Any, shown: Server | Processes, reactor: Any) -> None:
        MultiService.__init__(self)
        self.name = options.command
        self._command = options.command
        self._serves = options.serves()
        self._drainTimeout: float = options["drain-timeout"]
        self._reactor = reactor
        self._isAwaited = self._isStatusAwaited = self._isStarting = False
        self._failure: tuple[Failure, str] | None = None
        self._listening = listening
        self._shown = shown
        #: The StatusService of ``--status``, or None.
        self.status: StatusService | None = None
        self.addService(listening)  # type: ignore[no-untyped-call]  # Twisted's
        # The name in the status: the main process and its sub-reactors need the same.
        shown.setName(self.name)  # type: ignore[no-untyped-call]  # Twisted's

    def _addStatus(self, options: ListenOptions) -> None:
        self.status = options.statusOf(self._shown, self._reactor)
        if self.status is not None:
            self.addService(self.status)  # type: ignore[no-untyped-call]  # Twisted's

    def privilegedStartService(self) -> None:
        """
        Listen while the process may still bind ports below 1024.

        :raise CannotStart: listening has failed at once.
        """
        self._start(MultiService.privilegedStartService)

    def startService(self) -> None:
        """
        Listen.

        :raise CannotStart: listening has failed at once.
        """
        self._start(MultiService.startService)

    def _start(self, start: Any) -> None:
        # What is awaited since privilegedStartService may fail within startService.
        self._isStarting = True
        try:
            start(self)
        except SettingError as error:
            # A file has disappeared since the options were checked.
            raise cannotStart(f"{self._command}: {error}") from error
        if not self._isAwaited:
            self._isAwaited = True
            self._listening.whenListening().addCallbacks(self._listeningOn, self._listenFailed)
        # A StatusService does not listen before startService.
        if self.status is not None and self.status.running and not self._isStatusAwaited:
            self._isStatusAwaited = True
            self.status.whenListening().addErrback(self._listenFailed, "status")
        self._isStarting = False
        if self._failure is not None:
            raise cannotStart(self._explain(*self._failure))

    def _listeningOn(self, addresses: list[IAddress]) -> None:
        log.info(
            "{command} serves {addresses}{mode}: {serves}",
            command=self._command,
            addresses=", ".join(map(formatAddress, addresses)),
            mode=self._mode(),
            serves=self._serves,
        )

    def _mode(self) -> str:
        return ""

    def _listenFailed(self, failure: Failure, option: str = "listen") -> None:
        if self._isStarting:
            self._failure = self._failure or (failure, option)
        elif self.running:
            # It has failed later: the reactor runs already.
            log.critical("{line}", line=self._explain(failure, option))
            endProcess(theReactor(self._reactor), 1)

    def _explain(self, failure: Failure, option: str) -> str:
        error = failure.value
        if isinstance(error, CannotListenError):
            why = getattr(error.socketError, "strerror", None) or error.socketError
            return f"{self._command}: cannot listen on {_addressOf(error)}: {why}; choose another place with --{option}"
        if isinstance(error, OSError) and error.strerror:
            # From the lock of a unix socket, a symbolic link whose target is not a file.
            place = error.filename2 or error.filename
            where = "" if place is None else f" with {os.fsdecode(place)}"
            return f"{self._command}: cannot listen{where}: {error.strerror}; choose another place with --{option}"
        if isinstance(error, GettyError):
            return f"{self._command}: {error}"
        return f"{self._command}: cannot listen: {failure.getErrorMessage()}; choose another place with --{option}"

    def _inTime(self, stopped: Deferred[Any], part: float) -> Deferred[Any]:
        """Fires with ``stopped``, or after this part of ``--drain-timeout``: the process then ends without the rest."""
        done: Deferred[Any] = Deferred()
        timer = theReactor(self._reactor).callLater(self._drainTimeout * part, self._timedOut, done)

        def finish(result: Any) -> None:
            if timer.active():
                timer.cancel()
                done.callback(result)

        stopped.addBoth(finish)
        return done

    def _timedOut(self, done: Deferred[Any]) -> None:
        log.warn("{command} has not stopped in {timeout:g} s", command=self._command, timeout=self._drainTimeout)
        done.callback(None)

    def _logTotals(self, served: int, refused: int) -> None:
        log.info(
            "{command} has stopped: {served} sessions served, {refused} connections refused",
            command=self._command,
            served=served,
            refused=refused,
        )


class ListenService(_CommandService):
    """
    A Server that ends the process if it cannot listen, and logs totals when it stops.

    :param options: parsed.
    :param served: the listener of the sessions, or what :py:meth:`makeServer` of a subclass needs.
    :param reactor: by default the installed one, looked up when the service starts.
    :param endpoints: those of a sub-reactor, in place of descriptions; its main process checks the limits.

    :ivar server: the Server.
    :ivar served: the number of sessions so far.
    """

    def __init__(
        self,
        options: Any,
        served: Any,
        reactor: Any = None,
        endpoints: Sequence[IStreamServerEndpoint] | None = None,
    ) -> None:
        # The main process logs the endpoints and the totals.
        self._isSub = endpoints is not None
        self.served = 0
        listening = self.makeServer(
            options,
            served,
            list(options.endpoints if endpoints is None else endpoints),
            maxSessions=options["max-sessions"] if endpoints is None else None,
            maxSessionsPerHost=options["max-sessions-per-host"] if endpoints is None else None,
            handshakeTimeout=options["handshake-timeout"],
            reactor=reactor,
            **(options.registering() if endpoints is None else {}),
        )
        self.server: Server = getattr(listening, "server", listening)
        self.server.drainRate = options["drain-rate"]
        super().__init__(options, listening, self.server, reactor)
        if not self._isSub:
            self._addStatus(options)

    def startService(self) -> None:
        """See :py:meth:`_CommandService.startService`."""
        super().startService()
        reactor = theReactor(self._reactor)
        # It runs already where this is not the service of a command.
        if not self._isSub and not getattr(reactor, "running", True):
            reactor.callWhenRunning(freezeHeap)

    def _listeningOn(self, addresses: list[IAddress]) -> None:
        if not self._isSub:
            super()._listeningOn(addresses)

    def _logTotals(self, served: int, refused: int) -> None:
        if not self._isSub:
            super()._logTotals(served, refused)

    def counting(self, changed: list[tuple[str, Any]]) -> Callable[[Session], None]:
        """Returns what sets these settings in a session, and counts it."""

        def configure(session: Session) -> None:
            for name, value in changed:
                setattr(session, name, value)
            self.served += 1

        return configure

    def makeServer(self, options: Any, served: Any, endpoints: list[Any], **limits: Any) -> Any:
        """The service that listens: a Server, or one with a Server as its ``server``."""
        configure = options.newSession(served)

        def newSession(session: Session) -> None:
            configure(session)
            self.served += 1

        return Server(newSession, *endpoints, workers=options["workers"], **limits)

    def stopService(self) -> Deferred[Any]:
        """Stop the server; fires when every session has been flushed and closed."""
        refused = self.server.refused
        self._isAwaited = self._isStatusAwaited = False
        stopped: Deferred[Any] = MultiService.stopService(self)
        return self._inTime(stopped, KILL_SHARE).addCallback(lambda _: self._logTotals(self.served, refused))


class ProcessesService(_CommandService):
    """
    A main process that ends if it cannot serve, and logs totals when it stops.

    :param options: parsed.
    :param reactor: by default the installed one, looked up when the service starts.

    :ivar processes: the Processes.
    """

    def __init__(self, options: ListenOptions, reactor: Any = None) -> None:
        self.processes = processesOf(options, reactor)
        self._suffix = f" with {self.processes.count} processes, {options['balance']}"
        super().__init__(options, self.processes, self.processes, reactor)
        self._addStatus(options)

    def _mode(self) -> str:
        return self._suffix

    def stopService(self) -> Deferred[Any]:
        """Drain the sub-reactors; fires when they have ended."""
        self._isAwaited = self._isStatusAwaited = False
        stopped: Deferred[Any] = MultiService.stopService(self)
        if self.status is not None:
            # Sub-reactors end in time; pages whose connections do not end may not.
            stopped = self._inTime(stopped, STOPPED)
        return stopped.addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        stats = self.processes.stats
        self._logTotals(stats["served"], stats["refused"])


def processesOf(options: ListenOptions, reactor: Any = None) -> Processes:
    """
    Make the Processes for the options.

    :raise SettingError: some options exclude each other.
    """
    return Processes(
        f"{__name__}:subService",
        *options.endpoints,
        processes=options["processes"],
        balance=options["balance"],
        maxSessions=options["max-sessions"],
        maxSessionsPerHost=options["max-sessions-per-host"],
        drainTimeout=options["drain-timeout"],
        heartbeatTimeout=options["heartbeat-timeout"],
        arguments=[type(options).__module__, *options.arguments],
        reactor=reactor,
        **options.registering(),
    )


def subService(endpoints: Sequence[IStreamServerEndpoint], command: str, *arguments: str) -> IService:
    """
    Make the service of a sub-reactor: that of the command's module, with the command line of the main process.

    :raise SettingError: the command line is no longer valid, because a file has disappeared since the start.
    """
    module = import_module(command)
    options = module.Options()
    options.isSub = True
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        raise SettingError(str(error)) from error
    service: IService = module.makeService(options, endpoints)
    return service


def listenService(
    options: ListenOptions, makeOwn: Callable[[], MultiService], endpoints: Sequence[IStreamServerEndpoint] | None
) -> MultiService:
    """
    Make the service for the options: of a single process, of a main process, or with ``endpoints`` of a sub-reactor.

    :param makeOwn: makes the service of a process that serves.
    """
    if endpoints is not None:
        return makeOwn()
    service = makeOwn() if options["processes"] is None else ProcessesService(options)
    OrderlyEnd().setServiceParent(service)  # type: ignore[no-untyped-call]  # Twisted's
    return service


def _addressOf(error: CannotListenError) -> str:
    """The address of the error; for a unix socket, ``port`` is its path."""
    if not isinstance(error.port, int):
        return os.fsdecode(error.port)
    if not error.interface:
        return f"port {error.port}"
    host = os.fsdecode(error.interface)
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"
