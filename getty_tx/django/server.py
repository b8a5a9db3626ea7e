"""The development server: what Django's ``runserver`` runs in the place of its WSGI server."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    STDLibLogObserver,
    globalLogBeginner,
)

from getty_tx.http.asgi import Asgi
from getty_tx.http.server import Server

if TYPE_CHECKING:
    from getty_tx.http.request import Request

__all__ = ["DevelopmentServer"]

#: Where Django logs the requests of its development server.
_requests = logging.getLogger("django.server")

#: Connections that wait to be accepted.
BACKLOG = 128


class DevelopmentServer:
    """
    Has what Django's ``django.core.servers.basehttp.run`` asks of a server class.

    :param address: host and port to listen on.
    :param handlerClass: Django's handler of WSGI requests; not used.
    :param ipv6: the host is an address of IPv6.
    :raise OSError: it cannot listen there. Django tells why.

    :ivar server_port: the port that it listens on.
    """

    def __init__(self, address: tuple[str, int], handlerClass: Any = None, ipv6: bool = False) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        host = "0.0.0.0" if address[0] == "0" else address[0]
        self._socket = socket.create_server((host, address[1]), family=family, backlog=BACKLOG)
        self.server_port: int = self._socket.getsockname()[1]
        self._app: Any = None

    def set_app(self, app: Any) -> None:
        """The ASGI application to serve."""
        self._app = app

    def serve_forever(self) -> None:
        """Serve until the process is interrupted. Django may call it in a thread that is not the main one."""
        from twisted.internet import reactor as installed

        reactor: Any = installed
        observer = FilteringLogObserver(
            STDLibLogObserver("getty_tx"), [LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)]
        )
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        self._socket.setblocking(False)
        endpoint = AdoptedStreamServerEndpoint(reactor, self._socket.fileno(), self._socket.family)
        server = Server(Asgi(self._app), endpoint, reactor=reactor, drainTime=1.0)
        server.context.access = logRequest
        reactor.callWhenRunning(server.startService)
        reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
        isMain = threading.current_thread() is threading.main_thread()
        reactor.run(installSignalHandlers=isMain)


def logRequest(request: Request, status: int, sent: int, duration: float) -> None:
    """Log an answer as Django's own development server does."""
    level = _requests.error if status >= 500 else _requests.warning if status >= 400 else _requests.info
    target = request.target.decode("ascii")
    level('"%s %s HTTP/%s" %s %s', request.method, target, request.version, status, sent, extra={"status_code": status})
