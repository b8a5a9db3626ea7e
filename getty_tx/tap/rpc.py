"""``twistd getty-rpc``: serves calls of a user's services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python import usage

from getty_tx.endpoints import listensWith
from getty_tx.errors import SettingError
from getty_tx.rpc.context import DRAIN_TIME, CallContext
from getty_tx.rpc.server import Server, servingOf
from getty_tx.rpc.wires.descriptions import DEFAULT_WIRE, WIRES, wireFromDescription
from getty_tx.tap.listen import DEFAULT_LISTEN, ListenOptions, ListenService, listenService
from getty_tx.tap.lookup import lookUpService
from getty_tx.tap.options import count, optionalSeconds, seconds, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["CallService", "Options", "makeService"]


class Options(ListenOptions):
    """
    The command line of ``getty-rpc``.

    :ivar services: the objects of ``--service`` by name.
    """

    command = "getty-rpc"
    about = (
        "Serve calls of the methods with @rpc.method of your classes, on any number of endpoints. Without --listen, on"
        f" {DEFAULT_LISTEN}. Modules are found on Python's path and in the working directory. SIGTERM and Ctrl-C end"
        " the command, after callers were asked for no new calls and those on their way were served."
    )
    examples = """\
  twistd -n getty-rpc --service mypkg.service:Echo
  twistd -n getty-rpc --service Echo=mypkg.service:makeEcho --service mypkg.service:Shop --wire ttheader:msgpack \\
      --listen tcp:9000 --listen ssl:9443:privateKey=key.pem:certKey=cert.pem --processes 0
  python -m getty_tx.rpc describe tcp:localhost:8090
"""

    serviceOption = "register-as"

    optParameters = [
        ["register-as", None, None, "Name under which clients find it in a registry; see --registry."],
        ["wire", None, DEFAULT_WIRE, "How calls look on the network: NAME or NAME:PAYLOAD; see below."],
        ["max-msg-len", None, CallContext.maxMsgLen.default, "Maximum size of a message in bytes.",
         size("max-msg-len")],
        ["max-calls", None, CallContext.maxCalls.default,
         "Calls that a process serves at a time, above which new ones are refused.", count("max-calls", "calls")],
        ["max-calls-per-session", None, CallContext.maxCallsPerSession.default,
         "Calls of one session that are served at a time; with more it is not read.",
         count("max-calls-per-session", "calls")],
        ["max-timeout", None, "none",
         "Seconds that a call may take, whatever its caller allows; 0 or none: no limit.",
         optionalSeconds("max-timeout")],
        ["slow-call", None, "none",
         "Seconds above which a call that was served is logged; 0 or none: none is.", optionalSeconds("slow-call")],
        ["drain-time", None, f"{DRAIN_TIME:g}",
         "Seconds that calls may take when the command is stopped, within --drain-timeout.", seconds("drain-time")],
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.services: dict[str, object] = {}

    def opt_service(self, description: str) -> None:
        """Your service (required): module:Class, or Name=module:Class; may be given several times."""
        self.findModules()
        try:
            name, service = lookUpService(description)
        except SettingError as error:
            raise usage.UsageError(f"--service {description}: {error}") from error
        if name in self.services:
            raise usage.UsageError(
                f"--service {description}: there is a service {name!r} already; give it another name: Name=module:Class"
            )
        self.services[name] = service

    def tables(self) -> str:
        """The table of wires."""
        rows = "".join(f"  {name}  with a payload of {', '.join(payloads)}\n" for name, (_, payloads) in WIRES.items())
        extras = (
            "FILE.thrift is the path of an IDL, and needs the extra getty_tx[thrift];\n"
            "msgspec, msgpack and protobuf need those of their names.\n"
        )
        return f"Wires, with the default payload first:\n{rows}{extras}\n"

    def postOptions(self) -> None:
        """See :py:meth:`getty_tx.tap.options.SessionOptions.postOptions`."""
        super().postOptions()
        if not self.services:
            raise usage.UsageError("--service is required: module:Class, such as mypkg.service:Echo")
        for description in self.endpoints:
            if listensWith(description) == "udp":
                raise usage.UsageError(
                    f"--listen {description}: datagrams get lost, and calls with them; take tcp:, unix: or ws:"
                )
        if self["drain-time"] > self["drain-timeout"]:
            raise usage.UsageError(
                f"--drain-time {self['drain-time']:g}: the command ends after --drain-timeout"
                f" {self['drain-timeout']:g}; give it no less"
            )
        try:
            self.codec = wireFromDescription(self["wire"])
        except SettingError as error:
            raise usage.UsageError(f"--wire {self['wire']}: {error}") from error
        try:
            serving = servingOf(CallContext(self.codec, self.services), None)
        except SettingError as error:
            raise usage.UsageError(f"--service: {error}") from error
        for description in self.endpoints:
            try:
                serving.checkEndpoint(description)
            except SettingError as error:
                raise usage.UsageError(f"--listen {description}: {error}") from error


class _Server(Server):
    """Sets more in each session."""

    def __init__(self, configure: Callable[[Session], None], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._configure = configure

    def newSession(self, session: Session) -> None:
        super().newSession(session)
        self._configure(session)


class CallService(ListenService):
    """A server of calls that ends the process if it cannot listen, and logs totals when it stops."""

    def makeServer(self, options: Options, served: Any, endpoints: list[Any], **limits: Any) -> Server:
        """See :py:meth:`getty_tx.tap.listen.ListenService.makeServer`."""
        return _Server(
            self.counting(options.changed()),
            endpoints,
            served,
            wire=options.codec,
            drainTime=options["drain-time"],
            maxCalls=options["max-calls"],
            maxCallsPerSession=options["max-calls-per-session"],
            maxTimeout=options["max-timeout"],
            slowCall=options["slow-call"],
            maxMsgLen=options["max-msg-len"],
            **limits,
        )


def makeService(options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""
    return listenService(options, lambda: CallService(options, options.services, endpoints=endpoints), endpoints)
