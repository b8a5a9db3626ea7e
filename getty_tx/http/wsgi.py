"""http.Wsgi: a WSGI application in threads (PEP 3333)."""

from __future__ import annotations

from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import RefuseRequest, SettingError
from getty_tx.http.context import rootPathOf
from getty_tx.http.interfaces import IRunningApplication
from getty_tx.http.wsgicall import WsgiCall, environOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["Wsgi"]

log = Logger()

#: Bytes of a body that is gathered before a thread is taken; a longer one, or one in chunks, is read by the thread.
GATHERED = 256 * 1024

#: Seconds for which threads are waited for when the server stops.
STOP_TIME = 5.0


class _Thread(Thread):
    """Does not keep the process from its end, if a call hangs or if nobody has stopped the service."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, daemon=True, **options)


class _Pool(ThreadPool):
    """Such threads."""

    threadFactory = _Thread


@implementer(IRunningApplication)
class Wsgi:
    """
    A WSGI application.

    ::

        server = http.Server(http.Wsgi(app, workers=8), "tcp:8080")

    Each request takes a thread. A thread waits where the client does not take the answer, or does not send the body. A
    short body is gathered first, so that slow clients take no threads; any other is read as it comes, and has no limit
    but the application's.

    :param app: ``app(environ, start_response)``.
    :param workers: threads.
    :param maxWaiting: requests that wait for a thread; more are answered with 503.
    :param rootPath: the path below which the application stands, as ``SCRIPT_NAME``, behind the server's and before
        that of :py:meth:`~getty_tx.http.Router.mount`.
    :raise SettingError: the application cannot be called, or another parameter is wrong.
    """

    def __init__(self, app: Callable[..., Any], workers: int = 8, maxWaiting: int = 1000, rootPath: str = "") -> None:
        if not callable(app):
            raise SettingError(f"{app!r} is no WSGI application: it cannot be called")
        self._app = app
        self._workers = settings.size("workers", workers)
        self._most = self._workers + settings.count("maxWaiting", maxWaiting)
        self._rootPath = rootPathOf("rootPath", rootPath)
        self._reactor: Any = None
        self._pool: ThreadPool | None = None
        self._running = 0

    def startApplication(self, reactor: Any) -> Deferred[None]:
        """Start the threads' pool; threads start when they are needed."""
        self._reactor = reactor
        self._pool = _Pool(minthreads=0, maxthreads=self._workers, name="getty-wsgi")
        self._pool.start()
        return succeed(None)

    def stopApplication(self) -> Deferred[None]:
        """Wait for the threads, but not for ever: an application may hang."""
        pool, self._pool = self._pool, None
        stopped: Deferred[None] = Deferred()
        if pool is None:
            return succeed(None)
        reactor = self._reactor

        def late() -> None:
            log.warn("{count} calls of the WSGI application do not end", count=self._running)
            stopped.callback(None)

        waiting = reactor.callLater(STOP_TIME, late)

        def ended() -> None:
            if waiting.active():
                waiting.cancel()
                stopped.callback(None)

        def join() -> None:
            pool.stop()
            reactor.callFromThread(ended)

        Thread(target=join, name="getty-wsgi-stop", daemon=True).start()
        return stopped

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Call the application in a thread, or have it wait for one."""
        if self._pool is None or self._running >= self._most:
            raise RefuseRequest(503, "no thread is free", {"Retry-After": "1"})
        length = request.fields.length
        self._running += 1
        if request.content is None and 0 < length <= GATHERED:
            gathered = Deferred.fromCoroutine(request.read(GATHERED))
            gathered.addCallback(lambda _: self._begin(request, exchange))
            gathered.addErrback(self._failed, request, exchange)
            return
        try:
            self._begin(request, exchange)
        except BaseException:
            self._running -= 1
            raise

    def _failed(self, failure: Failure, request: Request, exchange: IExchange) -> None:
        self._running -= 1
        assert failure.value is not None
        exchange.fail(request, failure.value)

    def _begin(self, request: Request, exchange: IExchange) -> None:
        pool = self._pool
        if pool is None:
            raise RefuseRequest(503)
        environ = environOf(request, exchange, request.rootPath + self._rootPath)
        environ["wsgi.multithread"] = self._workers > 1
        call = WsgiCall(self._app, environ, request, exchange, self._reactor)
        if request.content is not None:
            environ["wsgi.input"] = BytesIO(request.content)
        pool.callInThreadWithCallback(self._ended, call.run)

    def _ended(self, success: bool, result: Any) -> None:
        """In the thread: the call is over."""
        if not success:
            log.failure("the call of a WSGI application", result)
        self._reactor.callFromThread(self._count)

    def _count(self) -> None:
        self._running -= 1
