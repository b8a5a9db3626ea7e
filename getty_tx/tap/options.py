"""The options that all ``twistd`` commands have, the checks of their values, and the settings they become."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from getty_tx import __version__, codecs, settings
from getty_tx.compression import findFormat
from getty_tx.endpoints import carriesStream
from getty_tx.errors import SettingError
from getty_tx.session.context import HANDSHAKE_TIMEOUT
from getty_tx.session.session import Session
from getty_tx.tap.lookup import lookUpListener
from getty_tx.workers import WorkerPool
from twisted import copyright as twistedCopyright

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.client import Client
    from getty_tx.interfaces import IEventListener, IReadWriter
    from getty_tx.processes.service import Processes
    from getty_tx.server import Server
    from getty_tx.status.service import StatusService

__all__ = [
    "CodecOptions",
    "SessionOptions",
    "compression",
    "count",
    "optionalCount",
    "optionalSeconds",
    "seconds",
    "size",
]


def _wrong(option: str, value: str, allowed: str) -> usage.UsageError:
    return usage.UsageError(f"--{option} {value}: {allowed}")


def _number(
    option: str, value: str, convert: Callable[[str], Any], check: Callable[[str, Any], Any], wanted: str
) -> Any:
    try:
        return check(option, convert(value))
    except ValueError:
        raise _wrong(option, value, f"takes {wanted}") from None


def _integer(value: str) -> int:
    # int() also takes 1_000, blanks, and the digits of every script.
    if not (value.isascii() and value.isdigit()):
        raise ValueError(value)
    return int(value)


def seconds(option: str) -> Callable[[str], float]:
    """Returns the coercion of an option with a time: more than 0 seconds."""
    wanted = "a number of seconds, more than 0, such as 2.5"
    return lambda value: _number(option, value, float, settings.seconds, wanted)


def optionalSeconds(option: str) -> Callable[[str], float | None]:
    """Returns the coercion of an option with a time, or ``none`` (or 0) for no limit."""
    wanted = "a number of seconds, such as 2.5, or none (or 0) for no limit"

    def coerce(value: str) -> float | None:
        if value.lower() == "none":
            return None
        limit: float = _number(option, value, float, lambda name, it: it and settings.seconds(name, it), wanted)
        return limit or None

    return coerce


def count(option: str, of: str) -> Callable[[str], int]:
    """Returns the coercion of an option with a count of something: 1 or more."""
    return lambda value: _number(option, value, _integer, settings.count, f"a whole number of {of}, 1 or more")


def size(option: str) -> Callable[[str], int]:
    """Returns the coercion of an option with a number of bytes: 1 or more."""
    return count(option, "bytes")


def optionalCount(option: str, of: str) -> Callable[[str], int | None]:
    """Returns the coercion of an option with a count of something, or ``none`` for no limit."""
    wanted = f"a whole number of {of}, 1 or more, or none for no limit"

    def coerce(value: str) -> int | None:
        if value.lower() == "none":
            return None
        limit: int = _number(option, value, _integer, settings.count, wanted)
        return limit

    return coerce


def workers(value: str) -> WorkerPool | None:
    """The coercion of ``--workers``."""
    if value.lower() == "none":
        return None
    try:
        return WorkerPool.parse(value)
    except SettingError as error:
        raise _wrong("workers", value, str(error)) from None


def compression(value: str) -> str | None:
    """The coercion of ``--compression``: a value of the setting, or ``none``."""
    if value.lower() == "none":
        return None
    try:
        findFormat(value)
    except SettingError as error:
        raise _wrong("compression", value, str(error)) from error
    return value


class SessionOptions(usage.Options):
    """
    The options that every command has: settings of its sessions, and the status.

    :cvar command: the name of the command in ``twistd``.
    :cvar about: the text of the help before the options.
    :cvar examples: the last lines of the help; their indentation is kept.

    :ivar codec: what carries the packages, after parsing.
    :ivar isSub: the options are those of a sub-reactor, whose main process shows the status; set before parsing.
    """

    command = ""
    about = ""
    examples = ""

    optParameters = [
        ["read-timeout", None, "none",
         "Seconds without a byte from the peer after which a session fails; 0 or none: never.",
         optionalSeconds("read-timeout")],
        ["write-timeout", None, f"{Session.writeTimeout.default:g}",
         "Seconds without progress of unsent bytes after which a session fails; 0 or none: never.",
         optionalSeconds("write-timeout")],
        ["idle-timeout", None, "none",
         "Seconds without a byte in either direction after which a session fails; 0 or none: never.",
         optionalSeconds("idle-timeout")],
        ["max-lifetime", None, "none", "Seconds after its start at which a session is closed; 0 or none: never.",
         optionalSeconds("max-lifetime")],
        ["handshake-timeout", None, f"{HANDSHAKE_TIMEOUT:g}",
         "Maximum time of a TLS or WebSocket handshake in seconds.",
         seconds("handshake-timeout")],
        ["status", None, "none",
         "Endpoint for metrics, health, sessions and a live page over HTTP, such as tcp:8092:interface=127.0.0.1."],
        ["status-token", None, None,
         "Secret that closing a session needs; unless the address is loopback, all requests but the health need it."],
        ["compression", None, "none",
         "Compression of streams, the same on both sides: deflate[:level=0-9], snappy, zstd[:level=1-19].",
         compression],
    ]  # fmt: skip

    codec: Any
    isSub = False

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self.longdesc = self.about
        # Twisted coerces given values but not defaults, which are texts here, as the help shows them.
        for name, coerce in [(entry[0], entry[4]) for entry in self._parameters() if len(entry) > 4]:
            if isinstance(self[name], str):
                self[name] = coerce(self[name])

    @classmethod
    def _parameters(cls) -> list[list[Any]]:
        return [entry for base in cls.__mro__ for entry in vars(base).get("optParameters", ())]

    def opt_version(self) -> None:
        """Show the versions of getty_tx and Twisted, and exit."""
        print(f"getty_tx {__version__}, Twisted {twistedCopyright.version}")
        sys.exit(0)

    def getUsage(self, width: int | None = None) -> str:
        """The help: Twisted's part, the tables, and the examples."""
        return f"{usage.Options.getUsage(self, width)}\n{self.tables()}Examples:\n{self.examples}"

    def tables(self) -> str:
        """What the help says of the values of options."""
        return ""

    def parseArgs(self, *rest: str) -> None:
        """:raise usage.UsageError: there is an argument that is not an option."""
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is not an option: {self.command} takes only options; see --help")

    def postOptions(self) -> None:
        """
        Check the status.

        :raise usage.UsageError: its text has the option, its value, and the allowed values.
        """
        self._checkStatus()

    def _checkStatus(self) -> None:
        where, token = self["status"], self["status-token"]
        if where.lower() == "none":
            if token is not None:
                raise usage.UsageError("--status-token: has no meaning without --status")
            self["status"] = None
            return
        if self.isSub:
            # A sub-reactor may lack the rights to read the files, and needs no web server.
            return
        # Imported here, because a command without a status does not need it.
        from getty_tx.status.service import DEFAULT_STATUS, checkStatus

        try:
            checkStatus(where, token)
        except SettingError as error:
            # The texts of other errors already say what to do.
            more = f"; an example is {DEFAULT_STATUS}" if "cannot listen" in str(error) else ""
            raise _wrong("status", where, f"{error}{more}") from error

    def statusOf(self, service: Server | Client | Processes, reactor: Any) -> StatusService | None:
        """The StatusService for ``--status``, or None."""
        if self["status"] is None:
            return None
        from getty_tx.status.service import StatusService

        return StatusService(service, endpoint=self["status"], token=self["status-token"], reactor=reactor)

    def checkStreams(self, option: str, descriptions: list[str]) -> None:
        """
        Check that the endpoints of another option allow ``--compression``.

        :raise usage.UsageError: one of them is not a stream.
        """
        for description in descriptions:
            if self["compression"] is not None and not carriesStream(description):
                raise _wrong(
                    "compression",
                    self["compression"],
                    f"is for streams, and --{option} {description} is not a stream; leave one of them out"
                    " (for a WebSocket, set deflate= in its description)",
                )

    def findModules(self) -> None:
        """Add the working directory to ``sys.path``, like ``python -m``; at the end, so that it hides no modules."""
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)

    def changed(self) -> list[tuple[str, Any]]:
        """The settings of a session that differ from the defaults."""
        values = [
            ("readTimeout", self["read-timeout"], Session.readTimeout.default),
            ("writeTimeout", self["write-timeout"], Session.writeTimeout.default),
            ("idleTimeout", self["idle-timeout"], Session.idleTimeout.default),
            ("maxLifetime", self["max-lifetime"], Session.maxLifetime.default),
            ("compression", self["compression"], Session.compression.default),
        ]
        return [(name, value) for name, value, default in values if value != default]


if TYPE_CHECKING:
    _Base = SessionOptions
else:
    # Twisted would collect the options of a base that is reached on two ways twice.
    _Base = object


class CodecOptions(_Base):
    """
    The options of a command with a codec and a listener. It comes before :py:class:`SessionOptions` in a class's bases.

    :ivar codec: the codec of ``--codec``, after parsing.
    """

    optParameters = [
        ["codec", "c", "line", "The codec: NAME[:option=value...], or module:attr for your own; see below."],
        ["max-msg-len", None, Session.maxMsgLen.default, "Maximum size of a package in bytes, header included.",
         size("max-msg-len")],
        ["cron", None, f"{Session.cronPeriod.default:g}", "Seconds between two onCron calls of a session.",
         seconds("cron")],
        ["workers", None, "none",
         "Threads for an onMessage that blocks: N or keyed:N keep each session's order; shared:N, sharded:N:QUEUES"  # noqa: ISC004
         " and unbounded do not. Not for an onMessage that computes: it would slow down the reactor.", workers],
    ]  # fmt: skip

    codec: IReadWriter

    def tables(self) -> str:
        """The table of codecs."""
        table = "".join(f"  {line}\n" for line in codecs.describeAll().splitlines())
        return f"Codecs, with defaults in brackets:\n{table}\n"

    def postOptions(self) -> None:
        """
        Find the codec.

        :raise usage.UsageError: see :py:meth:`SessionOptions.postOptions`.
        """
        description: str = self["codec"]
        if description.partition(":")[0] not in codecs.names():
            self.findModules()
        try:
            self.codec = codecs.fromDescription(description)
        except SettingError as error:
            raise _wrong("codec", description, str(error)) from error
        super().postOptions()

    def findListener(self, description: str) -> IEventListener:
        """
        Find the listener of ``--listener``.

        :raise usage.UsageError: see :py:meth:`postOptions`.
        """
        self.findModules()
        try:
            return lookUpListener(description)
        except SettingError as error:
            raise _wrong("listener", description, str(error)) from error

    def changed(self) -> list[tuple[str, Any]]:
        """See :py:meth:`SessionOptions.changed`."""
        values = [
            ("maxMsgLen", self["max-msg-len"], Session.maxMsgLen.default),
            ("cronPeriod", self["cron"], Session.cronPeriod.default),
        ]
        return [(name, value) for name, value, default in values if value != default] + super().changed()

    def newSession(self, listener: IEventListener) -> Callable[[Session], None]:
        """Returns a function that configures a session with the options and this listener."""
        codec = self.codec
        changed = self.changed()

        def newSession(session: Session) -> None:
            session.codec = codec
            session.listener = listener
            for name, value in changed:
                setattr(session, name, value)

        return newSession
