"""The options and the service that ``getty-http``, ``getty-asgi`` and ``getty-gateway`` share."""

from __future__ import annotations

import os
import sys
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.logger import Logger
from twisted.python import usage

from getty_tx.endpoints import listensWith
from getty_tx.errors import GettyError, SettingError
from getty_tx.tap.environment import addEnvironment
from getty_tx.tap.listen import ListenOptions, ListenService, listenService
from getty_tx.tap.options import count, optionalCount, seconds
from getty_tx.tap.registering import ServiceOptions
from getty_tx.tap.reloading import CommandLine, Reloader, Watcher, traceOf

try:
    from getty_tx.http.access import FORMATS, AccessLog
    from getty_tx.http.context import DRAIN_TIME, HTTPContext, hasEngine
    from getty_tx.http.handlers import Handler
    from getty_tx.http.interfaces import IApplication
    from getty_tx.http.proxy import Proxies
    from getty_tx.http.response import headersOf
    from getty_tx.http.router import Router
    from getty_tx.http.server import Server
except ImportError as missing:
    raise SystemExit(f"getty-http, getty-asgi and getty-gateway: {missing}") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session

__all__ = ["HTTPContext", "Handler", "IApplication", "Router", "WebOptions", "WebService", "makeService"]

log = Logger()

_CONTEXT = HTTPContext

#: With ``--reload``: seconds that requests may take, and until the process ends, at most. Somebody waits for it.
_RELOAD_DRAIN = 0.5
_RELOAD_END = 3.0


#: The words of ``--http2``.
_HTTP2 = {"auto": None, "on": True, "off": False}


def accessLogFormat(value: str) -> str:
    """The coercion of ``--access-log-format``."""
    if value not in FORMATS:
        raise usage.UsageError(f"--access-log-format {value}: takes one of {', '.join(FORMATS)}")
    return value


def http2Mode(value: str) -> bool | None:
    """The coercion of ``--http2``."""
    if value not in _HTTP2:
        raise usage.UsageError(f"--http2 {value}: takes one of {', '.join(_HTTP2)}")
    return _HTTP2[value]


class WebOptions(ServiceOptions, ListenOptions):
    """
    The options of a server of HTTP.

    :ivar application: what is served, after parsing.
    :ivar description: what the command line says of it.
    :ivar reloader: the service of ``--reload``; None: there is none.
    :ivar failure: with ``--reload``: why there is no application; empty: there is one.
    """

    defaultListen = "tcp:8000:interface=127.0.0.1"
    application: Any = None
    description: str
    reloader: Reloader | None = None
    failure = ""
    #: The options of twistd, which sets it.
    parent: Any = None

    optParameters = [
        ["host", "b", None, "Address to listen on, with --port; a short form of --listen tcp:PORT:interface=HOST."],
        ["port", "p", None, "Port to listen on, with --host [default: 8000].", count("port", "ports")],
        ["uds", "u", None, "Path of a unix socket to listen on; a short form of --listen unix:PATH."],
        ["limit-concurrency", None, "none",
         "Requests that a process serves at a time, above which they are answered with 503; a number, or none.",
         optionalCount("limit-concurrency", "requests")],
        ["http2", None, "auto", "HTTP/2 beside HTTP/1.1: auto (where ngh2 or h2 is installed), on or off.", http2Mode],
        ["max-streams", None, _CONTEXT.maxStreams.default,
         "Requests that a connection of HTTP/2 may have open.", count("max-streams", "streams")],
        ["timeout-keep-alive", None, f"{_CONTEXT.keepAlive.default:g}",
         "Seconds without a request after which a connection is closed.", seconds("timeout-keep-alive")],
        ["timeout-head", None, f"{_CONTEXT.headTimeout.default:g}",
         "Seconds from the first byte of a head to its end.", seconds("timeout-head")],
        ["timeout-body", None, f"{_CONTEXT.bodyTimeout.default:g}",
         "Seconds without a byte of a body that is awaited.", seconds("timeout-body")],
        ["timeout-graceful-shutdown", None, f"{DRAIN_TIME:g}",
         "Seconds that requests may take when the command is stopped, within --drain-timeout.",
         seconds("timeout-graceful-shutdown")],
        ["max-head", None, _CONTEXT.maxHead.default,
         "Bytes of a head; more is refused with 431.", count("max-head", "bytes")],
        ["max-fields", None, _CONTEXT.maxFields.default,
         "Fields of a head; more are refused with 431.", count("max-fields", "fields")],
        ["access-log", None, "none", "File of the access log; -: the standard output; none: there is none."],
        ["access-log-format", None, "combined", "Format of the access log: combined (Apache's) or json.",
         accessLogFormat],
        ["forwarded-allow-ips", None, "127.0.0.1,::1",
         "With --proxy-headers: addresses and networks of proxies whose word is taken, with commas between them; unix"  # noqa: ISC004
         " for unix sockets; * for all."],
        ["forwarded-field", None, "X-Forwarded-For",
         "The field that proxies write: X-Forwarded-For (with X-Forwarded-Proto), or Forwarded."],
        ["server-header", None, _CONTEXT.serverName.default, "The value of the field Server; none: no such field."],
        ["root-path", None, "",
         "The path below which a proxy has the application, and which it leaves out of its requests, such as /app."],
        ["env-file", None, None,
         "File with lines KEY=VALUE, which are set in the environment before the application is imported."],
        ["app-dir", None, None, "Folder in which modules are looked for first [default: the working folder, last]."],
    ]  # fmt: skip

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As the base class; the application may also stand before the options."""
        words = list(sys.argv[1:] if options is None else options)
        if words and not words[0].startswith("-"):
            words.append(words.pop(0))
        super().parseOptions(words)

    optFlags = [
        ["proxy-headers", None, "Take the client's address and scheme from trusted proxies."],
        ["reload", None, "For development: start anew when a file *.py has changed."],
    ]

    def __init__(self) -> None:
        ListenOptions.__init__(self)
        self.headers: list[tuple[str, str]] = []
        self.reloadFolders: list[str] = []

    def opt_header(self, field: str) -> None:
        """
        NAME:VALUE, a field that every answer has besides its own; may be given several times.
        """
        name, colon, value = field.partition(":")
        pair = (name, value.strip(" \t"))
        if not colon:
            raise usage.UsageError(f"--header {field}: is not NAME:VALUE, such as X-Frame-Options:DENY")
        try:
            headersOf("--header", [pair])
        except SettingError as error:
            raise usage.UsageError(str(error)) from error
        self.headers.append(pair)

    opt_header.__doc__ = cleandoc(opt_header.__doc__ or "")

    def opt_reload_dir(self, folder: str) -> None:
        """
        With --reload: folder whose files are watched, with all below it; may be given several times.
        [default: the working folder, and that of --app-dir]
        """
        self.reloadFolders.append(_folder("reload-dir", folder))

    opt_reload_dir.__doc__ = cleandoc(opt_reload_dir.__doc__ or "")

    def opt_listen(self, description: str) -> None:
        """
        Endpoint to listen on: a tcp:, tls:, ssl:, unix:, systemd: or haproxy: description; may be given several times.
        [default: tcp:8000:interface=127.0.0.1]
        """
        ListenOptions.opt_listen(self, description)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """See :py:meth:`getty_tx.tap.options.SessionOptions.postOptions`."""
        self._shortForms()
        super().postOptions()
        for description in self.endpoints:
            if listensWith(description) in ("udp", "ws", "wss"):
                raise usage.UsageError(
                    f"--listen {description}: HTTP goes over tcp:, tls:, ssl:, unix:, systemd: and haproxy:"
                )
        if self["compression"] is not None:
            raise usage.UsageError(
                f"--compression {self['compression']}: no client of HTTP reads a compressed stream; leave it out"
            )
        if self["timeout-graceful-shutdown"] > self["drain-timeout"]:
            raise usage.UsageError(
                f"--timeout-graceful-shutdown {self['timeout-graceful-shutdown']:g}: the command ends after"
                f" --drain-timeout {self['drain-timeout']:g}; give it no less"
            )
        self._prepareReload()
        if self["env-file"] is not None:
            try:
                addEnvironment(self["env-file"])
            except SettingError as error:
                raise usage.UsageError(f"--env-file {self['env-file']}: {error}") from error
        self.findModules()
        try:
            self.application = self.findApplication()
        except (usage.UsageError, SystemExit) as error:
            if self.reloader is None:
                raise
            why = (
                str(error) if isinstance(error, usage.UsageError) else f"{self.description}: it calls sys.exit({error})"
            )
            self.failure = "\n".join(filter(None, [why, traceOf(error)]))
        self.check()

    def findApplication(self) -> IApplication:
        """:raise usage.UsageError: there is no such application, or it cannot be imported."""
        raise NotImplementedError

    def findModules(self) -> None:
        """As the base class; or the folder of ``--app-dir``, which comes first, as somebody has named it."""
        if self["app-dir"] is None:
            super().findModules()
        else:
            sys.path.insert(0, _folder("app-dir", self["app-dir"]))

    def _prepareReload(self) -> None:
        """:raise usage.UsageError: other options exclude ``--reload``."""
        if not self["reload"]:
            if self.reloadFolders:
                raise usage.UsageError(f"--reload-dir {self.reloadFolders[0]}: has no meaning without --reload")
            return
        why = ""
        if self["processes"] is not None:
            why = "is for one process; leave --processes out (without --reload, SIGHUP replaces its processes)"
        elif self.parent is not None and not (self.parent["nodaemon"] or self.parent["debug"]):
            why = f"is for a command in the foreground; use twistd -n {self.command}"
        elif any(listensWith(description) == "systemd" for description in self.endpoints):
            why = "cannot keep the sockets that systemd has opened; use another --listen"
        if why:
            raise usage.UsageError(f"--reload: {why}")
        self["timeout-graceful-shutdown"] = min(self["timeout-graceful-shutdown"], _RELOAD_DRAIN)
        self["drain-timeout"] = min(self["drain-timeout"], _RELOAD_END)
        folders = self.reloadFolders or [os.getcwd(), *filter(None, [self["app-dir"]])]
        watcher = Watcher(folders)
        # Before the import: what changes while it lasts has changed for the next one.
        watcher.note()
        self.reloader = Reloader(watcher, CommandLine().want)

    def _shortForms(self) -> None:
        """Make endpoints of ``--host``, ``--port`` and ``--uds``."""
        host, port, uds = self["host"], self["port"], self["uds"]
        if host is not None or port is not None:
            address = "127.0.0.1" if host is None else host.strip("[]")
            escaped = address.replace("\\", "\\\\").replace(":", "\\:")
            self.opt_listen(f"tcp:{8000 if port is None else port}:interface={escaped}")
        if uds is not None:
            self.opt_listen(f"unix:{uds.replace(':', chr(92) + ':')}")

    def serves(self) -> str:
        """See :py:meth:`getty_tx.tap.listen.ListenOptions.serves`."""
        speaksTwo = hasEngine() if self["http2"] is None else self["http2"]
        versions = "HTTP/1.1 and HTTP/2" if speaksTwo else "HTTP/1.1"
        return f"{versions}, heads of up to {self['max-head']} bytes"

    def settings(self) -> dict[str, Any]:
        """The settings of :py:class:`~getty_tx.http.context.HTTPContext`."""
        name = self["server-header"]
        return {
            "limitConcurrency": self["limit-concurrency"],
            "http2": self["http2"],
            "maxStreams": self["max-streams"],
            "keepAlive": self["timeout-keep-alive"],
            "headTimeout": self["timeout-head"],
            "bodyTimeout": self["timeout-body"],
            "maxHead": self["max-head"],
            "maxFields": self["max-fields"],
            "serverName": "" if name == "none" else name,
            "headers": self.headers,
            "rootPath": self["root-path"],
            "proxies": self._proxies(),
        }

    def _proxies(self) -> Proxies | None:
        networks = [network.strip() for network in self["forwarded-allow-ips"].split(",") if network.strip()]
        try:
            proxies = Proxies(*networks, field=self["forwarded-field"])
        except SettingError as error:
            option = "forwarded-field" if str(error).startswith("field=") else "forwarded-allow-ips"
            raise SettingError(f"--{option} {self[option]}: {error}") from error
        return proxies if self["proxy-headers"] else None

    def accessLog(self) -> AccessLog | None:
        """
        The access log.

        :raise SettingError: it cannot be opened, or has no such format.
        """
        path, form = self["access-log"], self["access-log-format"]
        return None if path == "none" else AccessLog(path, form)

    def check(self) -> None:
        """:raise usage.UsageError: the settings do not fit together."""
        try:
            HTTPContext(self.application, **self.settings())
            log = self.accessLog()
            if log is not None:
                log.close()
        except (SettingError, ValueError) as error:
            raise usage.UsageError(f"{self.command}: {error}") from error


def _folder(option: str, folder: str) -> str:
    """The absolute path of a folder. :raise usage.UsageError: it is none."""
    if not os.path.isdir(folder):
        raise usage.UsageError(f"--{option} {folder}: is no folder; give one that exists")
    return os.path.abspath(folder)


class _Server(Server):
    """Sets more in each session."""

    def __init__(self, configure: Callable[[Session], None], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._configure = configure

    def newSession(self, session: Session) -> None:
        super().newSession(session)
        self._configure(session)


class WebService(ListenService):
    """A server of HTTP that ends the process if it cannot listen, and logs totals when it stops."""

    def makeServer(self, options: WebOptions, served: Any, endpoints: list[Any], **limits: Any) -> Server:
        """See :py:meth:`getty_tx.tap.listen.ListenService.makeServer`."""
        self._reloads = options.reloader is not None
        return _Server(
            self.counting(options.changed()),
            served,
            *endpoints,
            accessLog=options.accessLog(),
            drainTime=options["timeout-graceful-shutdown"],
            **options.settings(),
            **limits,
        )

    def _listenFailed(self, failure: Failure, option: str = "listen") -> None:
        if self._reloads and failure is self._listening.startFailure:
            log.critical("{line}; --reload waits for a change", line=self._explain(failure, option))
        else:
            super()._listenFailed(failure, option)

    def _explain(self, failure: Failure, option: str) -> str:
        if failure is self._listening.startFailure and not failure.check(GettyError):
            kind = failure.type.__name__
            return f"{self._command}: the application cannot start: {kind}: {failure.getErrorMessage()}"
        return super()._explain(failure, option)


class _WaitingService(MultiService):
    """With ``--reload``: there is no application, and nothing but a change can help."""

    def __init__(self, command: str, failure: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._command = command
        self._failure = failure

    def startService(self) -> None:
        """Say why."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        log.critical("{command}: {why}\n--reload waits for a change", command=self._command, why=self._failure)


def makeService(options: WebOptions, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""

    def makeOwn() -> MultiService:
        if options.failure:
            return _WaitingService(options.command, options.failure)
        return WebService(options, options.application, endpoints=endpoints)

    service = listenService(options, makeOwn, endpoints)
    if options.reloader is not None:
        options.reloader.setServiceParent(service)  # type: ignore[no-untyped-call]  # Twisted's
    return service
