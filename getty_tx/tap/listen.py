"""What ``getty-echo`` and ``getty-serve`` have in common: the options of a server, and its service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from getty_tx.endpoints import serverEndpoint
from getty_tx.errors import SettingError
from getty_tx.keeper import theReactor
from getty_tx.server import Server
from getty_tx.session import formatAddress
from getty_tx.tap import common
from getty_tx.tap.common import SessionOptions, cannotStart, optionalCount

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.interfaces import IEventListener
    from getty_tx.session import Session

__all__ = ["DEFAULT_LISTEN", "ListenOptions", "ListenService"]

log = Logger()

#: Loopback only: whoever wants to be reached from elsewhere says so.
DEFAULT_LISTEN = "tcp:8090:interface=127.0.0.1"


class ListenOptions(SessionOptions):
    """
    The options of a server.

    :ivar endpoints: the descriptions that ``--listen`` gave, or the default one.
    """

    optParameters = [
        ["max-sessions", None, "none", "Connections above this number are refused; a number, or none.",
         optionalCount("max-sessions", "sessions")],
        ["max-sessions-per-host", None, "none",
         "Connections of one IP address above this number are refused; a number, or none.",
         optionalCount("max-sessions-per-host", "sessions")],
    ]  # fmt: skip

    def __init__(self) -> None:
        SessionOptions.__init__(self)
        self.endpoints: list[str] = []

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

    opt_l = opt_listen

    def postOptions(self) -> None:
        """See :py:meth:`SessionOptions.postOptions`."""
        SessionOptions.postOptions(self)
        if not self.endpoints:
            self.endpoints.append(DEFAULT_LISTEN)
        self.checkStreams("listen", self.endpoints)


class ListenService(MultiService):
    """
    A Server that ends the process when it cannot listen, and logs totals when it stops.

    :param options: parsed.
    :param listener: who hears of the sessions.
    :param reactor: by default the installed one, looked up when the service starts.

    :ivar server: the Server.
    :ivar status: what ``--status`` asks for, or None.
    :ivar served: how many sessions there were.
    """

    def __init__(self, options: ListenOptions, listener: IEventListener, reactor: Any = None) -> None:
        MultiService.__init__(self)
        self.name = options.command
        self._command = options.command
        self._codec = options.codec
        self._maxMsgLen: int = options["max-msg-len"]
        self._reactor = reactor
        self._configure = options.newSession(listener)
        self._awaited = self._statusAwaited = self._starting = False
        self._failure: tuple[Failure, str] | None = None
        self.served = 0
        self.server = Server(
            self._newSession,
            *options.endpoints,
            maxSessions=options["max-sessions"],
            maxSessionsPerHost=options["max-sessions-per-host"],
            handshakeTimeout=options["handshake-timeout"],
            workers=options["workers"],
            reactor=reactor,
        )
        self.addService(self.server)  # type: ignore[no-untyped-call]  # Twisted's
        self.server.setName(self.name)  # type: ignore[no-untyped-call]  # Twisted's
        self.status = options.statusOf(self.server, reactor)
        if self.status is not None:
            self.addService(self.status)  # type: ignore[no-untyped-call]  # Twisted's

    def _newSession(self, session: Session) -> None:
        self._configure(session)
        self.served += 1

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
            self.server.whenListening().addCallbacks(self._listens, self._listensNot)
        # A status does not listen before startService.
        if self.status is not None and self.status.running and not self._statusAwaited:
            self._statusAwaited = True
            self.status.whenListening().addErrback(self._listensNot, "status")
        self._starting = False
        if self._failure is not None:
            raise cannotStart(self._explain(*self._failure))

    def _listens(self, addresses: list[IAddress]) -> None:
        log.info(
            "{command} serves {addresses}: {codec!r}, packages of up to {maxMsgLen} bytes",
            command=self._command,
            addresses=", ".join(map(formatAddress, addresses)),
            codec=self._codec,
            maxMsgLen=self._maxMsgLen,
        )

    def _listensNot(self, failure: Failure, option: str = "listen") -> None:
        if self._starting:
            self._failure = self._failure or (failure, option)
        elif self.running:
            # An endpoint took its time to fail: the reactor runs already.
            log.critical("{line}", line=self._explain(failure, option))
            common.endProcess(theReactor(self._reactor), 1)

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
        return f"{self._command}: cannot listen: {failure.getErrorMessage()}; choose another place with --{option}"

    def stopService(self) -> Deferred[Any]:
        """Stop the server; fires when every session has been flushed and closed."""
        refused = self.server.refused
        self._awaited = self._statusAwaited = False
        stopped: Deferred[Any] = MultiService.stopService(self)
        return stopped.addCallback(self._stopped, refused)

    def _stopped(self, result: Any, refused: int) -> Any:
        log.info(
            "{command} has stopped: {served} sessions served, {refused} connections refused",
            command=self._command,
            served=self.served,
            refused=refused,
        )
        return result


def _place(error: CannotListenError) -> str:
    """The address that could not be listened on; a unix socket's path stands where others have the port."""
    if not isinstance(error.port, int):
        return os.fsdecode(error.port)
    if not error.interface:
        return f"port {error.port}"
    host = os.fsdecode(error.interface)
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"
