"""``twistd getty-echo``: send every package back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import CodecError
from getty_tx.listener import EventListener
from getty_tx.tap.listen import DEFAULT_LISTEN, ListenOptions, ListenService, listenService
from getty_tx.tap.options import CodecOptions
from getty_tx.tap.registering import ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["EchoListener", "Options", "makeService"]

log = Logger()


class EchoListener(EventListener):
    """Sends every package back."""

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Send the package back."""
        session.writePkg(pkg)

    def onMessages(self, session: Session, packages: list[Any]) -> None:
        """Send the packages back."""
        session.writePkgs(packages)

    def onError(self, session: Session, error: BaseException) -> None:
        """Log the error, at a limited rate. Errors of the codec are logged already."""
        if isinstance(error, CodecError):
            return
        more = session.context.faults.line("failed", error)
        if more is not None:
            log.info("{session}: {error}{more}", session=session, error=error, more=more)


class Options(CodecOptions, ServiceOptions, ListenOptions):
    """The command line of ``getty-echo``."""

    command = "getty-echo"
    about = (
        f"Send every package back, on any number of endpoints. Without --listen, on {DEFAULT_LISTEN}. Ctrl-C ends the"
        " command, after its sessions are flushed."
    )
    examples = """\
  twistd -n getty-echo                          then: nc localhost 8090
  twistd -n getty-echo --listen tcp:9000 --listen unix:/run/echo.sock --codec length:size=2
  twistd -n getty-echo --listen ssl:8443:privateKey=key.pem:certKey=cert.pem --max-sessions 1000
"""


def makeService(options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""
    return listenService(options, lambda: ListenService(options, EchoListener(), endpoints=endpoints), endpoints)
