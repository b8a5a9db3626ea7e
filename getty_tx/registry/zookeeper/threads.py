"""
A client of kazoo, whose threads never meet the reactor's.

kazoo has three threads for a client: of its connection, of the answers, of the watches. Whatever it calls there does
nothing but :py:meth:`callFromThread`: what waits in a listener of kazoo's states, for example, waits for ever. And the
reactor's thread makes none of kazoo's calls that wait.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.registry.zookeeper.settings import ClientSettings

    Result = TypeVar("Result")

__all__ = [
    "BadVersion",
    "Connection",
    "NoAuth",
    "NoNode",
    "NodeExists",
    "findKazoo",
    "inThread",
]

#: Requests that kazoo has at once. It writes a byte for each into a pair of sockets, and 278 that its thread has not
#: read would make the next one wait: the reactor with it.
MAX_ASKED = 100

#: Seconds of the longest wait for the end of kazoo's threads.
CLOSE_TIMEOUT = 5.0


class NoAuth(RegistryError):
    """It may not be read or written with these credentials."""


class NoNode(RegistryError):
    """There is no such node, or none above it."""


class NodeExists(RegistryError):
    """There is such a node already."""


class BadVersion(RegistryError):
    """The node has been written meanwhile."""


_ERRORS = {
    "BadVersionError": BadVersion,
    "NoAuthError": NoAuth,
    "NoNodeError": NoNode,
    "NodeExistsError": NodeExists,
}


def findKazoo() -> Any:
    """
    kazoo's client class.

    :raise SettingError: kazoo is not installed.
    """
    try:
        from kazoo.client import KazooClient
    except ImportError:
        raise SettingError("zookeeper: needs kazoo: pip install 'getty_tx[zookeeper]'") from None
    return KazooClient


class Owner(Protocol):
    """Whom a connection tells, on the reactor's thread."""

    def connectionState(self, connection: Connection, state: str) -> None:
        """``CONNECTED``; ``SUSPENDED``: the connection is lost; ``LOST``: the session is."""
        ...

    def connectionFailed(self, connection: Connection, error: Exception) -> None:
        """An attempt to connect has failed; the next one follows."""
        ...

    def connectionEnded(self, connection: Connection, error: Exception | None) -> None:
        """kazoo has given up, and does nothing more."""
        ...


class Watcher:
    """A function for kazoo's watches, called on the reactor's thread: once an event, however often it was given."""

    __slots__ = ("_function", "_reactor")

    def __init__(self, reactor: Any, function: Callable[[str, str], None]) -> None:
        self._reactor = reactor
        self._function = function

    def __call__(self, event: Any) -> None:
        """On kazoo's thread."""
        self._reactor.callFromThread(self._function, event.type, event.path)


class Connection:
    """
    One client of kazoo, from its start to its end.

    :param owner: is told of its states, until :py:meth:`close` is called.
    """

    def __init__(self, reactor: Any, settings: ClientSettings, owner: Owner) -> None:
        self._reactor = reactor
        self._settings = settings
        self._owner = owner
        self._waiting: deque[tuple[Deferred[Any], str, tuple[Any, ...], dict[str, Any]]] = deque()
        self._asked: set[Deferred[Any]] = set()
        self._underWay = 0
        # Answers that the reactor's thread has not seen, and whether it is told that there are some: to wake it takes
        # as long as to answer.
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._isTold = False
        self._isClosed = False
        self._client = newClient(settings, _handler(self, reactor, settings))
        self._client.add_listener(self._stateChanged)

    @property
    def sessionId(self) -> int | None:
        """The number of the session that it has now: the owner of the nodes that it creates."""
        identity = self._client.client_id
        return None if identity is None else identity[0]

    def start(self) -> None:
        """Begin to connect, and go on trying. It does not wait."""
        self._client.start_async()

    def watcher(self, function: Callable[[str, str], None]) -> Watcher:
        """Something for ``watch=``. The function gets the event's type and path."""
        return Watcher(self._reactor, function)

    def ask(self, name: str, *arguments: Any, **more: Any) -> Deferred[Any]:
        """
        Make one of kazoo's requests, such as ``get``.

        :return: fails with RegistryError, at the latest when the session's time-out has passed.
        """
        result: Deferred[Any] = Deferred()
        if self._isClosed:
            result.errback(RegistryError("the connection is closed"))
            return result
        self._asked.add(result)
        result.addTimeout(self._settings.timeout, self._reactor, onTimeoutCancel=_timedOut)
        result.addBoth(self._over, result)
        self._waiting.append((result, name, arguments, more))
        self._send()
        return result

    def close(self) -> Deferred[None]:
        """
        End the session, and with it what was created in it.

        :return: fires when it has ended, or could not be ended in 5 seconds.
        """
        self._isClosed = True
        for result in list(self._asked):
            result.errback(RegistryError("the connection is closed"))
        self._waiting.clear()
        return inThread(self._reactor, self._end, CLOSE_TIMEOUT)

    def _end(self) -> None:
        """On a thread of its own: both calls wait, for a server that does not answer up to the time-out."""
        self._client.stop()
        self._client.close()

    def _over(self, outcome: Any, result: Deferred[Any]) -> Any:
        self._asked.discard(result)
        return outcome

    def _send(self) -> None:
        while self._waiting and self._underWay < MAX_ASKED:
            result, name, arguments, more = self._waiting.popleft()
            if result.called:
                continue
            self._underWay += 1
            try:
                pending = getattr(self._client, f"{name}_async")(*arguments, **more)
                pending.rawlink(lambda got, result=result: self._hasAnswer(result, got))
            except Exception as error:
                self._underWay -= 1
                result.errback(RegistryError(f"{name}: {error}"))

    def _hasAnswer(self, result: Deferred[Any], got: Any) -> None:
        """On kazoo's thread. The order of these two lines, and of those in _answered, is what loses none."""
        self._answers.append((result, got))
        if not self._isTold:
            self._isTold = True
            self._reactor.callFromThread(self._answered)

    def _answered(self) -> None:
        self._isTold = False
        # No more than there are now: others have their turn.
        for _ in range(len(self._answers)):
            result, got = self._answers.popleft()
            self._underWay -= 1
            if result.called:
                continue
            error = got.exception
            if error is None:
                result.callback(got.value)
            else:
                kind = _ERRORS.get(type(error).__name__, RegistryError)
                result.errback(kind(": ".join(filter(None, (type(error).__name__, str(error))))))
        self._send()

    def _stateChanged(self, state: Any) -> None:
        """On kazoo's thread."""
        self._reactor.callFromThread(self._tell, "connectionState", str(state))

    def attemptFailed(self, error: Exception) -> None:
        """On kazoo's thread."""
        self._reactor.callFromThread(self._tell, "connectionFailed", error)

    def threadEnded(self, error: Exception | None) -> None:
        """On kazoo's thread, at its end."""
        self._reactor.callFromThread(self._tell, "connectionEnded", error)

    def _tell(self, name: str, what: Any) -> None:
        if not self._isClosed:
            getattr(self._owner, name)(self, what)


def newClient(settings: ClientSettings, handler: Any) -> Any:
    """A client of kazoo that is not started."""
    hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in settings.endpoints]
    more: dict[str, Any] = {}
    if settings.credentials is not None:
        from kazoo.security import CREATOR_ALL_ACL

        more = {"auth_data": [("digest", settings.credentials)], "default_acl": CREATOR_ALL_ACL}
    # kazoo logs each attempt to connect and, at its lowest level, passwords. Its owner says what is to be known.
    silent = logging.Logger("kazoo")
    silent.disabled = True
    # Waits as those of Backoff: up to 0.25 s at first, up to 15 s later, drawn from the whole of it. But the time-out
    # of the session begins anew when the server starts: who waits longer comes too late to keep its nodes.
    longest = min(7.5, 0.35 * settings.timeout)
    retry = {"max_tries": -1, "delay": min(0.125, longest), "backoff": 2, "max_jitter": 1.0, "max_delay": longest}
    return findKazoo()(
        ",".join(hosts),
        timeout=settings.timeout,
        handler=handler,
        connection_retry=retry,
        logger=silent,
        use_ssl=settings.context is not None,
        check_hostname=settings.context is not None,
        **more,
    )


def _handler(connection: Connection, reactor: Any, settings: ClientSettings) -> Any:
    """
    kazoo's threads and sockets.

    Otherwise than kazoo's own, it says why a connection cannot be made and when a thread has ended; a host that does
    not answer does not use up the session's time-out; TLS trusts whom it is told to trust, and nobody else; and an
    answer takes half of the time.
    """
    from kazoo.handlers.threading import SequentialThreadingHandler

    handler = SequentialThreadingHandler()
    wait = settings.timeout / (len(settings.endpoints) + 1)

    def spawn(function: Callable[..., None], *arguments: Any, **more: Any) -> threading.Thread:
        def run() -> None:
            failed = None
            try:
                function(*arguments, **more)
            except Exception as error:
                failed = error
            connection.threadEnded(failed)

        thread = threading.Thread(target=run, name="getty_tx zookeeper", daemon=True)
        thread.start()
        return thread

    def connect(address: tuple[str, int], hostname: str | None = None, **more: Any) -> socket.socket:
        try:
            made = socket.create_connection(address, wait)
            try:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if settings.context is not None:
                    made = settings.context.wrap_socket(made, server_hostname=hostname)
            except BaseException:
                made.close()
                raise
        except OSError as error:
            connection.attemptFailed(RegistryError(f"cannot connect to {hostname}:{address[1]}: {error}"))
            raise
        return made

    handler.spawn = spawn
    handler.create_connection = connect
    handler.select = poll
    return handler


def poll(read: Sequence[Any], write: Sequence[Any], error: Any, timeout: float | None = None) -> Any:
    """
    As select(). kazoo's own makes an epoll each time, several times an answer, and does not know that TLS may have
    decrypted more than was read: what came with the last answer would wait for the next.
    """
    decrypted = [each for each in read if isinstance(each, ssl.SSLSocket) and each.pending()]
    waiting = select.poll()
    for each in read:
        waiting.register(each, select.POLLIN)
    for each in write:
        waiting.register(each, select.POLLOUT)
    ready = {number for number, _ in waiting.poll(0 if decrypted else None if timeout is None else timeout * 1000)}
    isReady = [each for each in read if each.fileno() in ready or each in decrypted]
    return isReady, [each for each in write if each.fileno() in ready], []


def inThread(reactor: Any, function: Callable[[], Result], timeout: float) -> Deferred[Result | None]:
    """
    Call a function that waits, on a thread of its own. The reactor's pool of threads is none for it: at its end the
    reactor waits for those.

    :return: fires with what it returns; with ``None`` if it raises, or after ``timeout`` seconds.
    """
    result: Deferred[Result | None] = Deferred()

    def done(value: Result | None) -> None:
        if not result.called:
            result.callback(value)

    def run() -> None:
        try:
            value = function()
        except Exception:
            value = None
        reactor.callFromThread(done, value)

    result.addTimeout(timeout, reactor, onTimeoutCancel=lambda outcome, seconds: None)
    threading.Thread(target=run, name="getty_tx zookeeper", daemon=True).start()
    return result


def _timedOut(outcome: Any, seconds: float) -> Any:
    if isinstance(outcome, Failure):
        return Failure(RegistryError(f"no answer within {seconds:g} s"))
    return outcome
