"""``twistd getty-gateway``: serves clients of Centrifuge's protocol over WebSocket, and an HTTP API that publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python import usage

from getty_tx.errors import SettingError
from getty_tx.gateway import Gateway, GatewaySettings, readSettings
from getty_tx.groups import MemoryEngine
from getty_tx.groups.engines import engineFrom
from getty_tx.tap.listen import listenService
from getty_tx.tap.web import Router, WebOptions, WebService

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

__all__ = ["Options", "makeService"]


class Options(WebOptions):
    """
    The command line of ``getty-gateway``.

    :ivar gateway: the gateway of its process.
    """

    command = "getty-gateway"
    synopsis = "[options] --config FILE"
    about = (
        "Serve WebSocket clients that speak Centrifuge's JSON protocol, and an HTTP API that publishes to them. A file"
        f" says who may do what; without it nobody may do anything. Without --listen, on {WebOptions.defaultListen}."
        " SIGTERM and Ctrl-C end the command; its clients are told to come back."
    )
    examples = """\
  twistd -n --reactor getty getty-gateway --config gateway.toml
  twistd -n --reactor getty getty-gateway --config gateway.toml --engine redis://127.0.0.1 --processes 0 \\
      --listen ssl:8443:privateKey=key.pem:certKey=cert.pem
"""

    optParameters = [
        ["config", "c", None, "File in TOML (required): keys, and who may do what in which channels."],
        ["engine", None, None,
         "What carries publications between machines, such as redis://127.0.0.1"  # noqa: ISC004
         " [default: GETTY_GROUPS of the environment, or this command's processes alone]."],
    ]  # fmt: skip

    gateway: Gateway

    def parseArgs(self, *rest: str) -> None:
        """:raise usage.UsageError: there is an argument that is not an option."""
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is not an option: {self.command} takes only options; see --help")

    def findApplication(self) -> Any:
        """See :py:meth:`getty_tx.tap.web.WebOptions.findApplication`."""
        if self["config"] is None:
            raise usage.UsageError("--config is required: a file in TOML, such as gateway.toml")
        try:
            settings = readSettings(self["config"])
        except SettingError as error:
            raise usage.UsageError(f"--config {error}") from error
        try:
            engine = engineFrom(self["engine"])
        except (SettingError, ImportError) as error:
            # Its text may have a password.
            raise usage.UsageError(f"--engine: {error}") from error
        try:
            self.gateway = _Gateway(self.changed(), settings, engine)
            router = Router()
            self.gateway.addTo(router)
        except SettingError as error:
            raise usage.UsageError(f"--config {self['config']}: {error}") from error
        return router

    def serves(self) -> str:
        """See :py:meth:`getty_tx.tap.listen.ListenOptions.serves`."""
        settings = self.gateway.settings
        api = "" if settings.apiKey is None else f", and the API below {settings.apiPath}"
        return f"clients at {settings.path}{api}; groups of {self._carrier()}"

    def _carrier(self) -> str:
        if self["processes"] is not None and isinstance(self.gateway.groups.engine, MemoryEngine):
            return "its processes"
        return str(self.gateway.groups.engine.description)


class _Gateway(Gateway):
    """Sets more in each session of a client."""

    def __init__(self, changed: list[tuple[str, Any]], settings: GatewaySettings, engine: Any) -> None:
        super().__init__(settings, engine)
        self._changed = changed

    def newSession(self, session: Any) -> None:
        super().newSession(session)
        for name, value in self._changed:
            setattr(session, name, value)


class GatewayService(WebService):
    """The gateway, and the server of its clients."""

    def __init__(self, options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> None:
        super().__init__(options, options.application, endpoints=endpoints)
        options.gateway.setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted's


def makeService(options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""
    return listenService(options, lambda: GatewayService(options, endpoints), endpoints)
