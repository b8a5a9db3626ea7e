"""``twistd getty-dial``: a pool of sessions that reconnect, and numbered messages over them, like ``ping``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage

from getty_tx.client import Client
from getty_tx.endpoints import isWebSocket
from getty_tx.errors import SettingError
from getty_tx.session.context import theReactor
from getty_tx.tap.ending import cannotStart, endProcess
from getty_tx.tap.options import CodecOptions, SessionOptions, count, optionalCount, seconds
from getty_tx.tap.ping import Ping, Shape, shapeFor
from getty_tx.tap.registering import registryOf

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from getty_tx.interfaces import IEventListener
    from getty_tx.session.session import Session

__all__ = ["DialService", "Options", "makeService"]

log = Logger()

#: The default endpoint of ``getty-echo``.
DEFAULT_CONNECT = "tcp:127.0.0.1:8090"

#: The options of the stock listener, and their defaults.
PING_DEFAULTS: dict[str, Any] = {"interval": 1.0, "count": None, "timeout": 5.0}


class Options(CodecOptions, SessionOptions):
    """
    The command line of ``getty-dial``.

    :ivar listener: the listener of ``--listener``, after parsing; None for the stock listener.
    :ivar shape: the form of the stock listener's messages; None for another listener.
    :ivar following: what a Client that follows a service needs besides its name.
    """

    command = "getty-dial"
    about = (
        "Keep a number of sessions to a server, and send a numbered message on each of them every --interval, starting"
        " when all are connected or --connect-timeout has passed. The server must echo the messages; round-trip times,"
        " losses and reconnects are logged, and a summary at the end. Ctrl-C ends the command, by the signal. --count"
        " ends it with exit status 0, or 1 if no reply came. It also ends when no session will reconnect, with exit"
        " status 1 if --reconnect-attempts were used up."
    )
    examples = """\
  twistd -n --pidfile= getty-dial      with twistd -n getty-echo beside it, in the same folder
  twistd -n getty-dial --connect tls:echo.example.com:8443 --codec length:size=2 --number 4 --count 10
  twistd -n getty-dial --connect unix:/run/echo.sock --listener mypkg.client:Listener
  twistd -n getty-dial --connect service:echo --registry etcd:10.0.0.1:2379
"""

    optParameters = [
        ["connect", None, DEFAULT_CONNECT,
         "Endpoint of the server: a tcp:, tls:, unix:, udp:, ws: or wss: description; or service:NAME for all of its"  # noqa: ISC004
         " providers in a registry."],
        ["registry", None, None,
         "With service:NAME: where its providers are; dir:PATH, etcd:HOST:PORT, zookeeper:HOST:PORT and others"  # noqa: ISC004
         " [default: GETTY_REGISTRY, or a folder of this user]."],
        ["number", "n", "1", "Number of sessions, with each provider of a service.", count("number", "sessions")],
        ["reconnect-interval", None, "0.3", "Seconds until a lost session reconnects; more after each failure.",
         seconds("reconnect-interval")],
        ["reconnect-attempts", None, "none", "Consecutive failures after which a session gives up; a number, or none.",
         optionalCount("reconnect-attempts", "attempts")],
        ["connect-timeout", None, "3", "Maximum time of an attempt to connect in seconds.", seconds("connect-timeout")],
        ["listener", None, None, "Your listener, in place of the messages: module:attr, an instance or a factory."],
        ["interval", "i", None, "Seconds between two messages on a session. [default: 1]", seconds("interval")],
        ["count", None, None, "Number of messages on each session, after which the command ends. [default: no end]",
         count("count", "messages")],
        ["timeout", None, None, "Seconds without a reply after which a message is lost. [default: 5]",
         seconds("timeout")],
    ]  # fmt: skip

    listener: IEventListener | None = None
    shape: Shape | None = None

    def postOptions(self) -> None:
        """See :py:meth:`getty_tx.tap.options.SessionOptions.postOptions`."""
        super().postOptions()
        description: str = self["connect"]
        self.following: dict[str, Any] = {}
        if description.startswith("service:"):
            self.following["registry"] = registryOf(self["registry"])
        elif self["registry"] is not None:
            raise usage.UsageError(f"--registry {self['registry']}: has no meaning without --connect service:NAME")
        try:
            # Only for its errors: the description is parsed and its files are read, but nothing connects.
            Client(print, description, **self.following)
        except SettingError as error:
            raise usage.UsageError(f"--connect {description}: {error}; an example is {DEFAULT_CONNECT}") from error
        self.checkStreams("connect", [description])
        if self["listener"] is not None:
            for name in PING_DEFAULTS:
                if self[name] is not None:
                    raise usage.UsageError(
                        f"--{name} {self[name]:g}: has no meaning with --listener {self['listener']},"
                        " which replaces the messages"
                    )
            self.listener = self.findListener(self["listener"])
            return
        for name, default in PING_DEFAULTS.items():
            if self[name] is None:
                self[name] = default
        try:
            self.shape = shapeFor(self.codec, self["max-msg-len"], isWebSocket(description))
        except SettingError as error:
            option = "max-msg-len" if str(error).startswith("a message") else "codec"
            raise usage.UsageError(f"--{option} {self[option]}: {error}") from error


class DialService(MultiService):
    """
    A Client, and the messages of the stock listener over its sessions.

    :param options: parsed.
    :param reactor: by default the installed one, looked up when the service starts.

    :ivar client: the Client.
    :ivar status: the StatusService of ``--status``, or None.
    :ivar ping: the stock listener; None if ``--listener`` replaces it.
    """

    def __init__(self, options: Options, reactor: Any = None) -> None:
        MultiService.__init__(self)
        self.name = options.command
        self._options = options
        self._reactor = reactor
        self._rounds = 0
        self._loop: LoopingCall | None = None
        self._deadline: IDelayedCall | None = None
        self._watching = False
        self.ping: Ping | None = None
        listener = options.listener
        if options.shape is not None:
            listener = self.ping = Ping(options.shape, options["timeout"], self._endIfDone)
        assert listener is not None  # postOptions has set one of both
        self._configure = options.newSession(listener)
        self.client = Client(
            self._newSession,
            options["connect"],
            options["number"],
            options["reconnect-interval"],
            options["reconnect-attempts"],
            options["connect-timeout"],
            handshakeTimeout=options["handshake-timeout"],
            workers=options["workers"],
            reactor=reactor,
            **options.following,
        )
        self.addService(self.client)  # type: ignore[no-untyped-call]  # Twisted's
        self.client.setName(self.name)  # type: ignore[no-untyped-call]  # Twisted's
        self.status = options.statusOf(self.client, reactor)
        if self.status is not None:
            self.addService(self.status)  # type: ignore[no-untyped-call]  # Twisted's

    def _newSession(self, session: Session) -> None:
        self._configure(session)
        session.addCloseCallback(self._watch, DialService)

    def startService(self) -> None:
        """
        Connect, and send when the sessions are open.

        :raise CannotStart: a file of the description cannot be used any more.
        """
        options = self._options
        try:
            MultiService.startService(self)
        except SettingError as error:
            raise cannotStart(f"getty-dial: {error}") from error
        log.info(
            "getty-dial to {connect}: sessions {number}, {codec!r}",
            number=options["number"],
            connect=options["connect"],
            codec=options.codec,
        )
        if self.status is not None:
            failed: list[Failure] = []
            self.status.whenListening().addErrback(failed.append)
            if failed:
                raise cannotStart(_noStatus(failed[0]))
            self.status.whenListening().addErrback(self._statusFailed)
        self._watch()
        if self.ping is not None:
            ready = self.client.whenReady(options["number"], options["connect-timeout"])
            ready.addErrback(lambda _: None).addCallback(self._begin)

    def _statusFailed(self, failure: Failure) -> None:
        if self.running:
            log.critical("{line}", line=_noStatus(failure))
            endProcess(theReactor(self._reactor), 1)

    def _watch(self) -> None:
        """Wait for an open session; if the client gives up before there is one, end."""
        if self.running and not self._watching:
            self._watching = True
            self.client.whenReady().addCallbacks(self._hasSession, self._gaveUp)

    def _hasSession(self, _: object) -> None:
        self._watching = False

    def _gaveUp(self, failure: Failure) -> None:
        self._watching = False
        if self.running:
            log.info("getty-dial ends: {why}", why=failure.getErrorMessage())
            # It is no failure if the listener has closed all sessions.
            self._end(failed=self._options["reconnect-attempts"] is not None and self.client.lastError is not None)

    def _begin(self, _: object) -> None:
        """All sessions are open, or the time for that has passed: start to send on the open ones."""
        if self.running:
            self._loop = LoopingCall(self._sendRound)
            self._loop.clock = theReactor(self._reactor)
            self._loop.start(self._options["interval"]).addErrback(lambda failure: log.failure("getty-dial", failure))

    def _sendRound(self) -> None:
        ping = self.ping
        assert ping is not None and self._loop is not None
        ping.giveUp()
        self._rounds += 1
        ping.sendRound(self.client.sessions)
        if self._rounds == self._options["count"]:
            self._loop.stop()
            self._deadline = theReactor(self._reactor).callLater(self._options["timeout"], self._end)
            self._endIfDone()

    def _endIfDone(self) -> None:
        if self._deadline is not None and self.ping is not None and not self.ping.waiting:
            self._end()

    def _end(self, failed: bool = False) -> None:
        """End the process: all replies have come or are lost, or no session will open again."""
        self._cancelTimers()
        if self.ping is not None:
            self.ping.giveUp()
            failed = failed or not self.ping.results.received
        endProcess(theReactor(self._reactor), int(failed))

    def _cancelTimers(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def stopService(self) -> Deferred[Any]:
        """Close the sessions and log the summary."""
        if self.ping is not None:
            self.ping.end()
        self._cancelTimers()
        stopped: Deferred[Any] = MultiService.stopService(self)
        return stopped.addCallback(self._stopped)

    def _stopped(self, result: Any) -> Any:
        if self.ping is None:
            log.info("getty-dial has stopped")
        else:
            log.info("{connect}: {results}", connect=self._options["connect"], results=self.ping.results)
        return result


def _noStatus(failure: Failure) -> str:
    return f"getty-dial: {failure.getErrorMessage()}; choose another place with --status"


def makeService(options: Options) -> IService:
    """The service that ``twistd`` starts."""
    return DialService(options)
