"""The options and the service that ``getty-http`` and ``getty-asgi`` share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from getty_tx.endpoints import listensWith
from getty_tx.errors import GettyError, SettingError
from getty_tx.tap.listen import ListenOptions, ListenService
from getty_tx.tap.options import count, optionalCount, seconds

try:
    from getty_tx.http.access import FORMATS, AccessLog
    from getty_tx.http.context import DRAIN_TIME, HTTPContext
    from getty_tx.http.handlers import Handler
    from getty_tx.http.interfaces import IApplication
    from getty_tx.http.proxy import Proxies
    from getty_tx.http.server import Server
except ImportError as missing:
    raise SystemExit(f"getty-http and getty-asgi: {missing}") from missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.python.failure import Failure

    from getty_tx.session.session import Session

__all__ = ["HTTPContext", "Handler", "IApplication", "WebOptions", "WebService"]

_CONTEXT = HTTPContext


def accessLogFormat(value: str) -> str:
    """The coercion of ``--access-log-format``."""
    if value not in FORMATS:
        raise usage.UsageError(f"--access-log-format {value}: takes one of {', '.join(FORMATS)}")
    return value


class WebOptions(ListenOptions):
    """
    The options of a server of HTTP.

    :ivar application: what is served, after parsing.
    """

    defaultListen = "tcp:8000:interface=127.0.0.1"
    application: IApplication

    optParameters = [
        ["host", "b", None, "Address to listen on, with --port; a short form of --listen tcp:PORT:interface=HOST."],
        ["port", "p", None, "Port to listen on, with --host [default: 8000].", count("port", "ports")],
        ["uds", "u", None, "Path of a unix socket to listen on; a short form of --listen unix:PATH."],
        ["limit-concurrency", None, "none",
         "Requests that a process serves at a time, above which they are answered with 503; a number, or none.",
         optionalCount("limit-concurrency", "requests")],
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
    ]  # fmt: skip

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """As the base class; the application may also stand before the options."""
        words = list(sys.argv[1:] if options is None else options)
        if words and not words[0].startswith("-"):
            words.append(words.pop(0))
        super().parseOptions(words)

    optFlags = [["proxy-headers", None, "Take the client's address and scheme from trusted proxies."]]

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
        return f"HTTP/1.1, heads of up to {self['max-head']} bytes"

    def settings(self) -> dict[str, Any]:
        """The settings of :py:class:`~getty_tx.http.context.HTTPContext`."""
        name = self["server-header"]
        return {
            "limitConcurrency": self["limit-concurrency"],
            "keepAlive": self["timeout-keep-alive"],
            "headTimeout": self["timeout-head"],
            "bodyTimeout": self["timeout-body"],
            "maxHead": self["max-head"],
            "maxFields": self["max-fields"],
            "serverName": "" if name == "none" else name,
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
        return _Server(
            self.counting(options.changed()),
            served,
            *endpoints,
            accessLog=options.accessLog(),
            drainTime=options["timeout-graceful-shutdown"],
            **options.settings(),
            **limits,
        )

    def _explain(self, failure: Failure, option: str) -> str:
        if failure is self._listening.startFailure and not failure.check(GettyError):
            kind = failure.type.__name__
            return f"{self._command}: the application cannot start: {kind}: {failure.getErrorMessage()}"
        return super()._explain(failure, option)
