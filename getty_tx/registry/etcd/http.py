"""Requests to the endpoints in turn, tokens, and whether etcd answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.web.http_headers import Headers

from getty_tx.registry.errors import RegistryError
from getty_tx.registry.etcd.bodies import JSONBody, Lines, TooLongError, Whole
from getty_tx.registry.etcd.refusals import (
    NO_AUTHENTICATION,
    RefusedError,
    UnreachableError,
    judge,
    unanswered,
    wasCancelled,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from getty_tx.registry.etcd.connections import Connections, Endpoint

__all__ = ["Gateway"]

T = TypeVar("T")


class Gateway:
    """
    etcd, as seen from here.

    A request that an endpoint does not answer in time goes to the next one, and all that was open at the first one
    ends: also a watch, which would not notice by itself.

    :param connections: makes them; also ends them.
    :param clock: for times.
    :param timeout: seconds that an endpoint has for an answer, unless told otherwise.
    :param user: who authenticates, with ``password``; None: nobody.
    :param prefix: for texts.
    :param changed: called when etcd begins to answer (with None), and when it does not answer (with the error).
    :ivar isUp: True while etcd answers; None: nobody has asked.
    """

    def __init__(
        self,
        connections: Connections,
        endpoints: Sequence[Endpoint],
        clock: Any,
        *,
        timeout: float,
        user: str | None,
        password: str | None,
        prefix: str,
        changed: Callable[[BaseException | None], None],
    ) -> None:
        self.isUp: bool | None = None
        self.timeout = timeout
        self.user = user
        self.clock = clock
        self._password = password
        self._prefix = prefix
        self._connections = connections
        self._endpoints = list(endpoints)
        self._changed = changed
        self._streams: dict[Lines, Endpoint] = {}
        # What is under way, with the endpoint; and why it was given up with others there.
        self._running: dict[Deferred[Any], Endpoint] = {}
        self._givenUp: dict[Deferred[Any], BaseException] = {}
        self._waiting: list[Deferred[float]] = []
        self._token: str | None = None
        # Whether etcd has said that it wants no users at all.
        self._isOpen = False
        self._authenticating = DeferredLock()
        self._downSince = clock.seconds()
        self._wasUp = False
        self._closed = False

    # Whether etcd answers

    @property
    def endpoint(self) -> Endpoint:
        """Which endpoint is asked first."""
        return self._endpoints[0]

    def whenUp(self) -> Deferred[float]:
        """Fires when etcd answers, with the seconds for which it had not; 0 if it answers now."""
        if self.isUp:
            return succeed(0.0)
        waiting: Deferred[float] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def wentUp(self) -> None:
        """It answers."""
        if self.isUp or self._closed:
            return
        self.isUp = self._wasUp = True
        away = self.clock.seconds() - self._downSince
        self._changed(None)
        for each in list(self._waiting):
            if each in self._waiting:
                self._waiting.remove(each)
                each.callback(away)

    def wentDown(self, error: BaseException) -> None:
        """It does not."""
        if self._closed:
            return
        if self.isUp:
            self._downSince = self.clock.seconds()
        self.isUp = False
        self._changed(error)

    def gaveUp(self, endpoint: Endpoint, error: BaseException) -> None:
        """An endpoint did not answer: end what is open there, and ask the next one from now on."""
        if self._endpoints[0] is endpoint:
            self._endpoints.append(self._endpoints.pop(0))
        for lines, at in list(self._streams.items()):
            if at is endpoint:
                self._lose(lines, error)
        for running, at in list(self._running.items()):
            if at is endpoint and running in self._running:
                self._givenUp[running] = error
                running.cancel()
        self._connections.drop(endpoint)

    def close(self) -> Deferred[None]:
        """End all that is under way: it fails. Fires when the connections are closed."""
        self._closed = True
        for running in list(self._running):
            running.cancel()
        for lines in list(self._streams):
            self._lose(lines, RegistryError("the registry was stopped"))
        return self._connections.close()

    def _lose(self, lines: Lines, error: BaseException) -> None:
        self._streams.pop(lines, None)
        lines.fail(error)

    # Requests

    async def call(
        self, path: str, body: Any, timeout: float | None = None, check: Callable[[dict[str, Any]], str] | None = None
    ) -> dict[str, Any]:
        """
        Ask.

        :param path: what, below ``/v3/``.
        :param timeout: seconds that each endpoint has.
        :param check: says what is wrong with an endpoint that gives such an answer; ``""``: nothing is.
        :raise UnreachableError: no endpoint has answered.
        :raise RefusedError: etcd says no.
        """

        async def attempt(endpoint: Endpoint) -> dict[str, Any]:
            answer, _ = await self._within(timeout, endpoint, self._ask(endpoint, path, body))
            if check is not None and (wrong := check(answer)):
                raise UnreachableError(f"etcd at {endpoint.address} {wrong}")
            return answer

        return await self._inTurn(attempt)

    async def measured(self, path: str, body: Any) -> tuple[dict[str, Any], int]:
        """As :py:meth:`call`, with the bytes of the answer."""
        return await self._inTurn(lambda endpoint: self._within(None, endpoint, self._ask(endpoint, path, body)))

    async def stream(self, path: str, body: Any, lines: Callable[[], Lines]) -> Lines:
        """
        Ask for an answer without end.

        :param lines: makes what handles it, for each endpoint.
        :return: it, when the first object has come.
        """

        async def begun(endpoint: Endpoint) -> Lines:
            token = await self._tokenOf(endpoint)
            made = lines()
            response: Any = await self._request(endpoint, path, body, token)
            if response.code != 200:
                data = Whole()
                response.deliverBody(data)
                try:
                    judge(endpoint, path, response.code, await data.data, self.user, self._prefix)
                except RefusedError as error:
                    if error.wantsToken:
                        self.forgetToken(token)
                    raise
                raise UnreachableError(f"etcd at {endpoint.address} answered /v3/{path} with status {response.code}")
            self._streams[made] = endpoint
            response.deliverBody(made)
            try:
                await made.begun
            except BaseException:
                self._streams.pop(made, None)
                raise
            return made

        return await self._inTurn(lambda endpoint: self._within(None, endpoint, begun(endpoint)))

    def closeStream(self, lines: Lines) -> None:
        """Read a stream no more."""
        self._streams.pop(lines, None)
        lines.close()

    async def _inTurn(self, attempt: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Try the endpoints, from the current one on."""
        last: BaseException | None = None
        for endpoint in list(self._endpoints):
            try:
                result = await attempt(endpoint)
            except UnreachableError as error:
                last = error
                self.gaveUp(endpoint, error)
            except RefusedError as error:
                if error.isGeneral:
                    self.wentDown(error)
                else:
                    self.wentUp()
                raise
            else:
                while self._endpoints[0] is not endpoint:
                    self._endpoints.append(self._endpoints.pop(0))
                self.wentUp()
                return result
        assert last is not None
        self.wentDown(last)
        raise last

    async def _within(self, timeout: float | None, endpoint: Endpoint, work: Coroutine[Any, Any, T]) -> T:
        """
        Work with an endpoint that may take so many seconds, and what its failures mean.

        :raise UnreachableError: it has failed, or taken longer.
        """
        seconds = self.timeout if timeout is None else timeout
        if self._closed:
            work.close()
            raise RegistryError("the registry was stopped")
        running = Deferred.fromCoroutine(work)
        self._running[running] = endpoint
        late = self.clock.callLater(seconds, running.cancel)
        try:
            return await running
        except RegistryError as error:
            if isinstance(error, (UnreachableError, RefusedError, TooLongError)):
                raise
            raise UnreachableError(f"etcd at {endpoint.address}: {error}") from error
        except Exception as error:
            if self._closed:
                raise RegistryError("the registry was stopped") from None
            if running in self._givenUp:
                raise UnreachableError(str(self._givenUp[running])) from None
            if not late.active():
                text = f"etcd at {endpoint.address} did not answer within {seconds:g} s"
                raise UnreachableError(text) from None
            if wasCancelled(error):
                raise CancelledError from None
            raise UnreachableError(unanswered(endpoint, error, not self._wasUp)) from error
        finally:
            self._running.pop(running, None)
            self._givenUp.pop(running, None)
            if late.active():
                late.cancel()

    async def _ask(self, endpoint: Endpoint, path: str, body: Any) -> tuple[dict[str, Any], int]:
        """Ask an endpoint, with a new token if it wants one."""
        token = await self._tokenOf(endpoint)
        try:
            return await self._answer(endpoint, path, body, token)
        except RefusedError as error:
            if not error.wantsToken or self.user is None:
                raise
        self.forgetToken(token)
        return await self._answer(endpoint, path, body, await self._tokenOf(endpoint))

    async def _answer(self, endpoint: Endpoint, path: str, body: Any, token: str | None) -> tuple[dict[str, Any], int]:
        response: Any = await self._request(endpoint, path, body, token)
        whole = Whole()
        response.deliverBody(whole)
        data = await whole.data
        return judge(endpoint, path, response.code, data, self.user, self._prefix), len(data)

    def _request(self, endpoint: Endpoint, path: str, body: Any, token: str | None) -> Deferred[Any]:
        headers = Headers({b"Content-Type": [b"application/json"]})
        if token is not None:
            headers.setRawHeaders(b"Authorization", [token.encode("ascii")])
        if path == "watch":
            # One that has lost the others of its cluster would send nothing, for ever.
            headers.setRawHeaders(b"Grpc-Metadata-hasleader", [b"true"])
        url = endpoint.url + b"/v3/" + path.encode("ascii")
        return self._connections.request(b"POST", url, headers, JSONBody(body))

    # Tokens

    def forgetToken(self, token: str | None) -> None:
        """It is not accepted any more."""
        if self._token == token:
            self._token = None
            self._isOpen = False

    @property
    def token(self) -> str | None:
        """The token of the user; None: there is none."""
        return self._token

    async def _tokenOf(self, endpoint: Endpoint) -> str | None:
        """
        The token, asked for if there is none: etcd spends a tenth of a second on each. One is asked for at a time.
        """
        if self.user is None or self._isOpen:
            return None
        if self._token is None:
            await self._authenticating.acquire()
            try:
                if self._token is None:
                    self._token = await self._authenticate(endpoint)
            finally:
                self._authenticating.release()
        return self._token

    async def _authenticate(self, endpoint: Endpoint) -> str | None:
        body = {"name": self.user, "password": self._password or ""}
        try:
            answer, _ = await self._answer(endpoint, "auth/authenticate", body, None)
        except RefusedError as error:
            if error.code != NO_AUTHENTICATION:
                raise
            # Users are not switched on: etcd's own clients go on without, too.
            self._isOpen = True
            return None
        return str(answer["token"])
