"""Asgi: an ASGI application as what a Server serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.http.asgi.exchange import HTTPExchange
from getty_tx.http.asgi.lifespan import Lifespan
from getty_tx.http.asgi.loading import load
from getty_tx.http.asgi.scope import httpScope
from getty_tx.http.asgi.websocket import WebSocketExchange, webSocketScope
from getty_tx.http.context import DRAIN_TIME, rootPathOf
from getty_tx.http.interfaces import IRunningApplication
from getty_tx.http.upgrade import WebSocketUpgrade, asksForWebSocket
from getty_tx.reactors.guest import guestLoop

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable

    from getty_tx.http.answers import AnswerFields
    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request
    from getty_tx.reactors.guest import GuestLoop

__all__ = ["Asgi"]

log = Logger()

#: Bytes of a message of a WebSocket.
MAX_MESSAGE = 1024 * 1024

LIFESPANS = ("auto", "on", "off")


@implementer(IRunningApplication)
class Asgi:
    """
    An ASGI 3 application.

    ::

        server = http.Server(http.Asgi("mysite.asgi:application"), "tcp:8080")

    It runs on asyncio's loop as a guest of the reactor: :py:func:`getty_tx.reactors.guestLoop`.

    :param app: the application, or its name as ``module:attribute``.
    :param lifespan: ``auto``: start and end are told to it if it wants to know; ``on``: it must; ``off``: never.
    :param rootPath: the path below which it stands, as ``root_path``.
    :param maxMessage: bytes of a message of a WebSocket, at most.
    :param drainTime: seconds that tasks of requests may take when the server stops, such as what is to be done after an
        answer; then they are cancelled.
    :param factory: ``app`` is a function that returns the application.
    :param exclusive: the process runs nothing beside asyncio applications, which makes requests cheaper: see
        :py:attr:`getty_tx.reactors.GuestLoop.staysEntered`. The command ``getty-asgi`` has it.
    :raise SettingError: there is no such application, or a parameter is none of those.

    :ivar loop: asyncio's loop, where it runs, from ``startApplication`` on.
    :ivar tasks: the requests that wait for something.
    :ivar state: what the application has kept in its lifespan.
    """

    def __init__(
        self,
        app: Any,
        lifespan: str = "auto",
        rootPath: str = "",
        factory: bool = False,
        maxMessage: int = MAX_MESSAGE,
        drainTime: float = DRAIN_TIME,
        exclusive: bool = False,
    ) -> None:
        if lifespan not in LIFESPANS:
            raise SettingError(f"lifespan={lifespan!r} is none of {', '.join(LIFESPANS)}")
        if isinstance(app, str):
            app = load(app, factory)
        elif factory:
            app = app()
        if not callable(app):
            raise SettingError(f"{app!r} is no ASGI application: it cannot be called")
        self._app: Callable[..., Any] = app
        self._mode = lifespan
        self._exclusive = exclusive
        self._rootPath = rootPathOf("rootPath", rootPath)
        self._maxMessage = settings.size("maxMessage", maxMessage)
        self.drainTime = settings.seconds("drainTime", drainTime)
        self.tasks: set[Task[Any]] = set()
        self._idle: Deferred[None] | None = None
        self._timer: Any = None
        # Header fields that were sent before.
        self._fields: dict[Any, AnswerFields] = {}
        self._lifespan: Lifespan | None = None
        self.state: dict[str, Any] = {}
        self.loop: GuestLoop

    def startApplication(self, reactor: Any) -> Deferred[None]:
        """Tell the application that the server starts."""
        self.loop = guestLoop(reactor)
        if self._exclusive:
            self.loop.staysEntered = True
        if self._mode == "off":
            return succeed(None)
        self._lifespan = Lifespan(self._app, self.loop, self._mode)
        self.state = self._lifespan.state
        return self._lifespan.start()

    def stopApplication(self) -> Deferred[None]:
        """Wait for its tasks, and tell it that the server has ended."""
        if not self.tasks:
            return self._stopLifespan()
        idle = self._idle = Deferred()
        # The reactor's timer: the guest loop may leave one of its own that it does not need any more.
        self._timer = self.loop.reactor.callLater(self.drainTime, self._cancelLate)
        return idle.addCallback(lambda _: self._stopLifespan())

    def _stopLifespan(self) -> Deferred[None]:
        lifespan, self._lifespan = self._lifespan, None
        return succeed(None) if lifespan is None else lifespan.stop()

    def _cancelLate(self) -> None:
        log.warn("{count} requests are cancelled, as the server stops", count=len(self.tasks))
        # Who takes longer to obey is not waited for.
        self._timer = self.loop.reactor.callLater(self.drainTime, self._isIdle)
        for task in self.tasks:
            task.cancel()

    def _taskDone(self, task: Task[Any]) -> None:
        self.tasks.discard(task)
        if self._idle is not None and not self.tasks:
            self._isIdle()

    def _isIdle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            if self._timer.active():
                self._timer.cancel()
            idle.callback(None)

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Start the application for a request."""
        rootPath = exchange.context._rootPath + self._rootPath
        if request.fields.upgrade and asksForWebSocket(request):
            upgrade = WebSocketUpgrade(request, exchange)
            each: Any = WebSocketExchange(upgrade, exchange, self.loop, self._maxMessage)
            scope = webSocketScope(upgrade, exchange, rootPath, self.state)
        else:
            each = HTTPExchange(request, exchange, self.loop, self._fields)
            scope = httpScope(request, exchange, rootPath, self.state)
        task = self.loop.start(self._app(scope, each.receive, each.send), name="request")
        if task.done():
            each.ended(task)
        else:
            self.tasks.add(task)
            task.add_done_callback(each.ended)
            task.add_done_callback(self._taskDone)
