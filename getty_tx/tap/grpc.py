"""``twistd getty-grpc``: serves servicers of generated code."""

from __future__ import annotations

from importlib import import_module
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python import usage

from getty_tx.endpoints import listensWith
from getty_tx.errors import SettingError
from getty_tx.tap.listen import ListenOptions, ListenService, listenService
from getty_tx.tap.lookup import lookUp, lookUpServicer
from getty_tx.tap.options import count, optionalCount, optionalSeconds, seconds, size
from getty_tx.tap.registering import ServiceOptions

try:
    from getty_tx.http.grpc.context import DRAIN_TIME, ServerContext
    from getty_tx.http.grpc.server import Server
    from getty_tx.http.two.engines import checkEngine
except ImportError as missing:
    raise SystemExit(f"getty-grpc: {missing}") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["GrpcService", "Options", "makeService"]

log = Logger()

_CONTEXT = ServerContext


def compression(value: str) -> str | None:
    """The coercion of ``--compress``."""
    if value not in ("gzip", "deflate", "none"):
        raise usage.UsageError(f"--compress {value}: takes one of gzip, deflate, none")
    return None if value == "none" else value


class Options(ServiceOptions, ListenOptions):
    """
    The command line of ``getty-grpc``.

    :ivar servicers: those of ``--servicer``, with the functions that add them.
    :ivar health: that of ``--health``, or None.
    """

    command = "getty-grpc"
    defaultListen = "tcp:50051:interface=127.0.0.1"
    about = (
        "Serve servicers of gRPC, below classes of generated code, on any number of endpoints. Without --listen, on"
        f" {defaultListen}. Modules are found on Python's path and in the working directory. Methods with def run in"
        " the reactor's thread and must not block, unless there are --workers. SIGTERM and Ctrl-C end the command,"
        " after clients were told to go elsewhere and the calls on their way were served."
    )
    examples = """\
  twistd -n --reactor getty getty-grpc --servicer mypkg.service:Greeter
  twistd -n getty-grpc --servicer mypkg.service:Greeter --servicer mypkg.service:makeShop --workers 10 \\
      --listen tcp:50051 --listen ssl:50052:privateKey=key.pem:certKey=cert.pem --processes 0
"""

    optParameters = [
        ["workers", None, "none",
         "Threads in which methods with def run; a number, or none: they run in the reactor's thread.",
         optionalCount("workers", "threads")],
        ["max-received", None, _CONTEXT.maxReceived.default, "Maximum size of a request message in bytes.",
         size("max-received")],
        ["max-calls", None, "none",
         "Calls that a process serves at a time, above which new ones are refused; a number, or none.",
         optionalCount("max-calls", "calls")],
        ["max-streams", None, _CONTEXT.maxStreams.default, "Calls that one connection may have open.",
         count("max-streams", "calls")],
        ["max-idle", None, "none",
         "Seconds without a call after which a connection is ended; 0 or none: never.", optionalSeconds("max-idle")],
        ["max-age", None, "none",
         "Seconds after which a connection takes no new calls, within a tenth; 0 or none: it always does.",
         optionalSeconds("max-age")],
        ["max-age-grace", None, "none",
         "Seconds that calls of such a connection may take; 0 or none: no limit.", optionalSeconds("max-age-grace")],
        ["compress", None, "none",
         "How replies are compressed for clients that read it: gzip, deflate, none.", compression],
        ["drain-time", None, f"{DRAIN_TIME:g}",
         "Seconds that calls may take when the command is stopped, within --drain-timeout.", seconds("drain-time")],
    ]  # fmt: skip

    optFlags = [
        ["no-health", None, "Do not serve grpc.health.v1.Health."],
        ["no-reflection", None, "Do not tell clients of the services and their messages (grpc.reflection)."],
    ]

    def __init__(self) -> None:
        ListenOptions.__init__(self)
        self.servicers: list[tuple[Callable[[Any, Any], object], object]] = []
        self.health: Any = None

    def opt_servicer(self, description: str) -> None:
        """Your servicer (required): module:Class; may be given several times."""
        self.findModules()
        try:
            self.servicers.append(lookUpServicer(description))
        except SettingError as error:
            raise usage.UsageError(f"--servicer {description}: {error}") from error

    def opt_health(self, description: str) -> None:
        """Your Health, which servicers set, in place of the command's: module:name. Each process has its own."""
        self.findModules()
        try:
            self.health = lookUp(description, "a Health is module:name, such as mypkg.service:health")
        except SettingError as error:
            raise usage.UsageError(f"--health {description}: {error}") from error
        health = _module("health")
        if health is None or not isinstance(self.health, health.Health):
            raise usage.UsageError(f"--health {description}: the {type(self.health).__name__} is no grpc.Health")

    def opt_listen(self, description: str) -> None:
        """
        Endpoint to listen on: a tcp:, tls:, ssl:, unix:, systemd: or haproxy: description; may be given several times.
        [default: tcp:50051:interface=127.0.0.1]
        """
        ListenOptions.opt_listen(self, description)

    opt_listen.__doc__ = cleandoc(opt_listen.__doc__ or "")

    opt_l = opt_listen

    def postOptions(self) -> None:
        """See :py:meth:`getty_tx.tap.options.SessionOptions.postOptions`."""
        super().postOptions()
        try:
            checkEngine()
        except SettingError as error:
            raise usage.UsageError(str(error)) from error
        if not self.servicers:
            raise usage.UsageError("--servicer is required: module:Class, such as mypkg.service:Greeter")
        if self.health is not None and self["no-health"]:
            raise usage.UsageError("--health names what --no-health leaves out: give one of them")
        for description in self.endpoints:
            if listensWith(description) in ("udp", "ws", "wss"):
                raise usage.UsageError(
                    f"--listen {description}: gRPC goes over tcp:, tls:, unix:, systemd: and haproxy:"
                )
        if self["compression"] is not None:
            raise usage.UsageError(f"--compression {self['compression']}: gRPC has its own; use --compress gzip")
        if self["drain-time"] > self["drain-timeout"]:
            raise usage.UsageError(
                f"--drain-time {self['drain-time']:g}: the command ends after --drain-timeout"
                f" {self['drain-timeout']:g}; give it no less"
            )

    def serves(self) -> str:
        """See :py:meth:`getty_tx.tap.listen.ListenOptions.serves`."""
        return f"gRPC, messages of up to {self['max-received']} bytes"

    def settings(self) -> dict[str, Any]:
        """The settings of :py:class:`~getty_tx.http.grpc.context.ServerContext`."""
        return {
            "workers": self["workers"],
            "maxReceived": self["max-received"],
            "maxCalls": self["max-calls"],
            "maxStreams": self["max-streams"],
            "maxIdle": self["max-idle"],
            "maxAge": self["max-age"],
            "maxAgeGrace": self["max-age-grace"],
            "compression": self["compress"],
        }


class _Server(Server):
    """Sets more in each session."""

    def __init__(self, configure: Callable[[Session], None], *endpoints: Any, **settings: Any) -> None:
        super().__init__(*endpoints, **settings)
        self._configure = configure

    def newSession(self, session: Session) -> None:
        super().newSession(session)
        self._configure(session)

    def startService(self) -> None:
        # The process serves nothing else.
        self.context.loop.staysEntered = True
        super().startService()


class GrpcService(ListenService):
    """A server of gRPC that ends the process if it cannot listen, and logs totals when it stops."""

    def makeServer(self, options: Options, served: Any, endpoints: list[Any], **limits: Any) -> Server:
        """See :py:meth:`getty_tx.tap.listen.ListenService.makeServer`."""
        made = _Server(
            self.counting(options.changed()),
            *endpoints,
            drainTime=options["drain-time"],
            **options.settings(),
            **limits,
        )
        for add, servicer in served:
            add(servicer, made)
        if not options["no-health"]:
            health = _module("health")
            if health is not None:
                (options.health or health.Health()).addTo(made)
        if not options["no-reflection"]:
            reflection = _module("reflection")
            if reflection is not None:
                reflection.addReflection(made)
        return made


def _module(name: str) -> Any:
    """A service that needs protobuf; None: that is not there."""
    try:
        return import_module(f"getty_tx.http.grpc.{name}")
    except ImportError as error:
        log.info("getty-grpc goes without {name}: {error}", name=name, error=error)
        return None


def makeService(options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""
    return listenService(options, lambda: GrpcService(options, options.servicers, endpoints=endpoints), endpoints)
