"""A request: its head, and where its body comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from getty_tx.errors import RefuseRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.http.body import Body
    from getty_tx.http.fields import Fields
    from getty_tx.http.interfaces import IExchange
    from getty_tx.session.session import Session

__all__ = ["Request"]

#: Parameters of a query, at most; each costs an object.
MAX_PARAMETERS = 1000

_NO_VARIABLES: Mapping[str, str] = {}


class Request:
    """
    A request.

    :ivar method: such as ``GET``.
    :ivar target: the path and the query as they were sent, without scheme and host.
    :ivar version: ``1.1`` or ``1.0``.
    :ivar fields: what its fields say.
    :ivar content: the whole body, where it has been gathered or is empty; else None.
    :ivar body: the body as it comes, where it has not been gathered, and in handlers with ``stream``; else None.
    :ivar path: the variables of the route's template, by name: ``request.path["id"]`` for ``/users/{id}``.
    :ivar route: the template of the route; empty where there is none.
    :ivar root: the path that the application is mounted at, as bytes, such as ``/static``; empty where it is not.
    :ivar isUsual: of HTTP/1.1, not ``HEAD``, and without a body that is still on its way.
    :ivar keepAlive: the connection stays open after the answer, as far as the client is asked.
    :ivar expects: the client waits for 100 (Continue) before it sends the body.
    :ivar exchange: where the answer goes.
    :ivar began: when it began to be served, in seconds on the reactor's clock.
    """

    __slots__ = (
        "__weakref__",
        "_query",
        "_state",
        "began",
        "body",
        "content",
        "exchange",
        "expects",
        "fields",
        "isUsual",
        "keepAlive",
        "method",
        "path",
        "root",
        "route",
        "target",
        "version",
    )

    exchange: IExchange

    def __init__(self, method: str, target: bytes, version: str, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.keepAlive = not fields.closes
        self.expects = fields.expects
        self.isUsual = method != "HEAD"
        self.content: bytes | None = b""
        self.body: Body | None = None
        self.path = _NO_VARIABLES
        self.route = ""
        self.root = b""
        self.began = 0.0
        self._query: dict[str, str] | None = None
        self._state: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<{self.method} {self.target.decode('ascii', 'replace')} HTTP/{self.version}>"

    # The target

    @property
    def rawPath(self) -> bytes:
        """The path of the target, as it was sent."""
        return self.target.partition(b"?")[0]

    @property
    def urlPath(self) -> str:
        """The path of the target, decoded; what is no UTF-8 becomes U+FFFD."""
        return unquote(self.rawPath.decode("ascii"))

    @property
    def queryString(self) -> bytes:
        """What is behind the question mark, as it was sent."""
        return self.target.partition(b"?")[2]

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query; the last of those with the same name. :raise RefuseRequest: too many."""
        if self._query is None:
            self._query = dict(self.queryItems)
        return self._query

    @property
    def queryItems(self) -> list[tuple[str, str]]:
        """Name and value of all parameters of the query. :raise RefuseRequest: there are too many."""
        text = self.queryString.decode("ascii")
        try:
            return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise RefuseRequest(400, f"the query has more than {MAX_PARAMETERS} parameters") from None

    def setVariables(self, variables: Mapping[str, str]) -> None:
        """The variables of the route's template, as they were sent."""
        self.path = {name: unquote(value) for name, value in variables.items()}

    # The fields

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Name and value of all fields, in their order, names in lower case."""
        return list(self.fields.headers)

    def header(self, name: str, default: str = "") -> str:
        """The value of a field, as Latin-1; fields of the same name are joined."""
        value = self.fields.values.get(name.lower().encode("ascii"))
        return default if value is None else value.decode("latin-1")

    # The connection

    @property
    def session(self) -> Session:
        """The session of the connection."""
        return self.exchange.session

    @property
    def scheme(self) -> str:
        """``https`` or ``http``; behind a trusted proxy, what the proxy says."""
        return self.exchange.schemeOf(self)

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address and port; behind a trusted proxy, as the proxy says. None for a unix socket."""
        return self.exchange.clientOf(self)

    @property
    def rootPath(self) -> str:
        """The server's ``rootPath``: what a proxy has left out of the target, and the client's URLs begin with."""
        return self.exchange.context.rootPath

    @property
    def isGone(self) -> bool:
        """The client has gone, or the answer is complete: no more can be sent."""
        return not self.exchange.isServing(self)

    @property
    def state(self) -> dict[str, Any]:
        """A dict for whoever handles the request."""
        if self._state is None:
            self._state = {}
        return self._state

    # The body

    async def read(self, limit: int | None = None) -> bytes:
        """
        Read the whole body.

        :param limit: bytes, at most; None: the server's ``maxBody``.
        :raise RefuseRequest: it is longer; the answer is 413.
        :raise BodyLostError: the client has gone before its end.
        """
        if self.content is None:
            assert self.body is not None
            self.content = await self.body.read(self.exchange.context.maxBody if limit is None else limit)
        return self.content
