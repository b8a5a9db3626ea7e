"""What ``getty-echo`` and ``getty-serve`` have in common: the options of a server, and its service."""

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
from getty_tx.processes.service import DRAIN_TIMEOUT, HEARTBEAT_TIMEOUT, Processes
from getty_tx.processes.supervisor import KILL
from getty_tx.server import Server
from getty_tx.session.addresses import formatAddress
from getty_tx.session.context import theReactor
from getty_tx.tap.ending import OrderlyEnd, cannotStart, endProcess
from getty_tx.tap.options import SessionOptions, optionalCount, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
    from twisted.python.failure import Failure

    from getty_tx.interfaces import IEventListener
    from getty_tx.session.session import Session
    from getty_tx.status import StatusService

__all__ = ["DEFAULT_LISTEN", "ListenOptions", "ListenService", "ProcessesService", "listenService"]

log = Logger()

#: Loopback only: whoever wants to be reached from elsewhere says so.
DEFAULT_LISTEN = "tcp:8090:interface=127.0.0.1"


#: The part of the time for draining after which a main process ends; at KILL its sub-reactors have been killed.
STOPPED = (1 + KILL) / 2


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


class ListenOptions(SessionOptions):
    """
    The options of a server.

    :ivar endpoints: the descriptions that ``--listen`` gave, or the default one.
    :ivar arguments: what was parsed.
    """

    optParameters = [
        ["max-sessions", None, "none", "Connections above this number are refused; a number, or none.",
         optionalCount("max-sessions", "sessions")],
        ["max-sessions-per-host", None, "none",
         "Connections of one IP address above this number are refused; a number, or none.",
         optionalCount("max-sessions-per-host", "sessions")],
        ["processes", None, "none",
         "Serve with sub-reactors, processes that a main process hands connections to: so many; 0: one for each core;"  # noqa: ISC004
         " none: this process serves.", processes],
        ["balance", None, "round-robin", f"How connections are spread over processes: {', '.join(BALANCES)}.", balance],
        ["drain-timeout", None, f"{DRAIN_TIMEOUT:g}",
         "Seconds that sessions may take to end after SIGTERM, or a reload by SIGHUP.", seconds("drain-timeout")],
        ["heartbeat-timeout", None, f"{HEARTBEAT_TIMEOUT:g}",
         "Seconds without a sign of life after which a sub-reactor is replaced.", seconds("heartbeat-timeout")],
    ]  # fmt: skip

    def __init__(self) -> None:
        SessionOptions.__init__(self)
        self.endpoints: list[str] = []
        self.arguments: list[str] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse, and keep what was parsed: sub-reactors have the same command line.

        :raise usage.UsageError: it names the option, its value, and what is allowed.
        """
        self.arguments = list(sys.argv[1:] if options is None else options)
        SessionOptions.parseOptions(self, self.arguments)  # type: ignore[no-untyped-call]  # Twisted's

    def opt_listen(self, description: str) -> None:
        """
        Where to listen: a tcp:, tls:, ssl:, unix:, udp:, ws:, wss:, systemd: or haproxy: description; may be given
        several times.
        [default: tcp:8090:interface=127.0.0.1]
        """
        try:
            # Without a reactor: it is parsed, and the files that it names are read; nothing listens.
            serverEndpoint(description, None)
        except SettingError as error:
            raise usage.UsageError(f"--listen {description}: {error}; an example is {DEFAULT_LISTEN}") from error
        self.endpoints.append(description)

    # As Python does itself from 3.13 on; otherwise the indentation would be in the help.
    opt_listen.__doc__ = cleandoc(opt_listen.__doc__ or "")

    opt_l = opt_listen

    def postOptions(self) -> None:
        """See :py:meth:`SessionOptions.postOptions`."""
        SessionOptions.postOptions(self)
        if not self.endpoints:
            self.endpoints.append(DEFAULT_LISTEN)
        self.checkStreams("listen", self.endpoints)
        if self["processes"] is not None:
            try:
                processesOf(self)
            except SettingError as error:
                raise usage.UsageError(f"--processes {self['processes']}: {error}") from error


class _Starting(MultiService):
    """
    Listens, and ends the process when it cannot.

    :param options: parsed.
    :param listening: what listens.
    :param reactor: by default the installed one, looked up when the service starts.
    """

    def __init__(self, options: ListenOptions, listening: Server | Processes, reactor: Any) -> None:
        MultiService.__init__(self)
        self.name = options.command
        self._command = options.command
        self._codec = options.codec
        self._maxMsgLen: int = options["max-msg-len"]
        self._drainTimeout: float = options["drain-timeout"]
        self._reactor = reactor
        self._awaited = self._statusAwaited = self._starting = False
        self._failure: tuple[Failure, str] | None = None
        self._listening = listening
        #: What ``--status`` asks for, or None.
        self.status: StatusService | None = None
        self.addService(listening)  # type: ignore[no-untyped-call]  # Twisted's
        # As the status shows it: the main process and its sub-reactors have one name for what they serve.
        listening.setName(self.name)  # type: ignore[no-untyped-call]  # Twisted's

    def _addStatus(self, options: ListenOptions) -> None:
        self.status = options.statusOf(self._listening, self._reactor)
        if self.status is not None:
            self.addService(self.status)  # type: ignore[no-untyped-call]  # Twisted's

    def privilegedStartService(self) -> None:
        """
        Listen while the process still may bind ports below 1024.

        :raise CannotStart: it is known already that this is not possible.
        """
        self._start(MultiService.privilegedStartService)

    def startService(self) -> None:
        """
        Listen.

        :raise CannotStart: it is known already that this is not possible.
        """
        self._start(MultiService.startService)

    def _start(self, start: Any) -> None:
        try:
            start(self)
        except SettingError as error:
            # A file that was there when the options were checked.
            raise cannotStart(f"{self._command}: {error}") from error
        self._starting = True
        if not self._awaited:
            self._awaited = True
            self._listening.whenListening().addCallbacks(self._listens, self._listensNot)
        # A status does not listen before startService.
        if self.status is not None and self.status.running and not self._statusAwaited:
            self._statusAwaited = True
            self.status.whenListening().addErrback(self._listensNot, "status")
        self._starting = False
        if self._failure is not None:
            raise cannotStart(self._explain(*self._failure))

    def _listens(self, addresses: list[IAddress]) -> None:
        log.info(
            "{command} serves {addresses}{how}: {codec!r}, packages of up to {maxMsgLen} bytes",
            command=self._command,
            addresses=", ".join(map(formatAddress, addresses)),
            how=self._how(),
            codec=self._codec,
            maxMsgLen=self._maxMsgLen,
        )

    def _how(self) -> str:
        return ""

    def _listensNot(self, failure: Failure, option: str = "listen") -> None:
        if self._starting:
            self._failure = self._failure or (failure, option)
        elif self.running:
            # It took its time to fail: the reactor runs already.
            log.critical("{line}", line=self._explain(failure, option))
            endProcess(theReactor(self._reactor), 1)

    def _explain(self, failure: Failure, option: str) -> str:
        error = failure.value
        if isinstance(error, CannotListenError):
            why = getattr(error.socketError, "strerror", None) or error.socketError
            return f"{self._command}: cannot listen on {_place(error)}: {why}; choose another place with --{option}"
        if isinstance(error, OSError) and error.strerror:
            # From a unix socket's lock, which is a symbolic link that does not lead to a file.
            place = error.filename2 or error.filename
            where = "" if place is None else f" with {os.fsdecode(place)}"
            return f"{self._command}: cannot listen{where}: {error.strerror}; choose another place with --{option}"
        if isinstance(error, GettyError):
            return f"{self._command}: {error}"
        return f"{self._command}: cannot listen: {failure.getErrorMessage()}; choose another place with --{option}"

    def _inTime(self, stopped: Deferred[Any], part: float) -> Deferred[Any]:
        """The same, but within this part of the time for draining: what is left then goes down with the process."""
        done: Deferred[Any] = Deferred()
        timer = theReactor(self._reactor).callLater(self._drainTimeout * part, self._isLate, done)

        def finish(result: Any) -> None:
            if timer.active():
                timer.cancel()
                done.callback(result)

        stopped.addBoth(finish)
        return done

    def _isLate(self, done: Deferred[Any]) -> None:
        log.warn("{command} has not stopped in {timeout:g} s", command=self._command, timeout=self._drainTimeout)
        done.callback(None)

    def _log(self, served: int, refused: int) -> None:
        log.info(
            "{command} has stopped: {served} sessions served, {refused} connections refused",
            command=self._command,
            served=served,
            refused=refused,
        )


class ListenService(_Starting):
    """
    A Server that ends the process when it cannot listen, and logs totals when it stops.

    :param options: parsed.
    :param listener: who hears of the sessions.
    :param reactor: by default the installed one, looked up when the service starts.
    :param endpoints: a sub-reactor's, in place of descriptions; its main process sees to the limits.

    :ivar server: the Server.
    :ivar served: how many sessions there were.
    """

    def __init__(
        self,
        options: ListenOptions,
        listener: IEventListener,
        reactor: Any = None,
        endpoints: Sequence[IStreamServerEndpoint] | None = None,
    ) -> None:
        self._configure = options.newSession(listener)
        # The main process tells what is served, and the totals.
        self._isSub = endpoints is not None
        self.served = 0
        self.server = Server(
            self._newSession,
            *(options.endpoints if endpoints is None else endpoints),
            maxSessions=options["max-sessions"] if endpoints is None else None,
            maxSessionsPerHost=options["max-sessions-per-host"] if endpoints is None else None,
            handshakeTimeout=options["handshake-timeout"],
            workers=options["workers"],
            reactor=reactor,
        )
        super().__init__(options, self.server, reactor)
        if not self._isSub:
            self._addStatus(options)

    def _listens(self, addresses: list[IAddress]) -> None:
        if not self._isSub:
            super()._listens(addresses)

    def _log(self, served: int, refused: int) -> None:
        if not self._isSub:
            super()._log(served, refused)

    def _newSession(self, session: Session) -> None:
        self._configure(session)
        self.served += 1

    def stopService(self) -> Deferred[Any]:
        """Stop the server; fires when every session has been flushed and closed."""
        refused = self.server.refused
        self._awaited = self._statusAwaited = False
        stopped: Deferred[Any] = MultiService.stopService(self)
        return self._inTime(stopped, KILL).addCallback(lambda _: self._log(self.served, refused))


class ProcessesService(_Starting):
    """
    A main process that ends when it cannot serve, and logs totals when it stops.

    :param options: parsed.
    :param reactor: by default the installed one, looked up when the service starts.

    :ivar processes: the Processes.
    """

    def __init__(self, options: ListenOptions, reactor: Any = None) -> None:
        self.processes = processesOf(options, reactor)
        self._what = f" with {self.processes.count} processes, {options['balance']}"
        super().__init__(options, self.processes, reactor)
        self._addStatus(options)

    def _how(self) -> str:
        return self._what

    def stopService(self) -> Deferred[Any]:
        """Drain the sub-reactors; fires when they have ended."""
        self._awaited = self._statusAwaited = False
        stopped: Deferred[Any] = MultiService.stopService(self)
        if self.status is not None:
            # Sub-reactors end in time; pages that do not take the end of their connection may not.
            stopped = self._inTime(stopped, STOPPED)
        return stopped.addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        stats = self.processes.stats
        self._log(stats["served"], stats["refused"])


def processesOf(options: ListenOptions, reactor: Any = None) -> Processes:
    """
    What serves as the options say with several processes.

    :raise SettingError: some of them do not go together.
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
    )


def subService(endpoints: Sequence[IStreamServerEndpoint], command: str, *arguments: str) -> IService:
    """
    What a sub-reactor runs: the module of a command, with the command line of the main process.

    :raise SettingError: something is not there any more that was when the main process was started.
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
    options: ListenOptions, listener: IEventListener, endpoints: Sequence[IStreamServerEndpoint] | None = None
) -> MultiService:
    """
    What serves as the options say: this process, or a main process; or, with endpoints, a sub-reactor.

    :raise CannotStart: as ListenService.
    """
    if endpoints is not None:
        return ListenService(options, listener, endpoints=endpoints)
    service = ListenService(options, listener) if options["processes"] is None else ProcessesService(options)
    OrderlyEnd().setServiceParent(service)  # type: ignore[no-untyped-call]  # Twisted's
    return service


def _place(error: CannotListenError) -> str:
    """The address that could not be listened on; a unix socket's path stands where others have the port."""
    if not isinstance(error.port, int):
        return os.fsdecode(error.port)
    if not error.interface:
        return f"port {error.port}"
    host = os.fsdecode(error.interface)
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"
