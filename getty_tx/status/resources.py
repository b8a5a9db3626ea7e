"""The web resources of the status service, and the rules of access to them."""

from __future__ import annotations

import json
from hmac import compare_digest
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.task import SchedulerStopped
from twisted.logger import Logger
from twisted.web.http import BAD_REQUEST, FORBIDDEN, NOT_ALLOWED, SERVICE_UNAVAILABLE, UNAUTHORIZED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from getty_tx.errors import SettingError
from getty_tx.status.methods import BY_CALLS, COLUMNS, methodsOf
from getty_tx.status.table import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from getty_tx.status.source import ISource

__all__ = ["Access", "statusSite"]

log = Logger()

#: Seconds after which a connection without a request, or with a response that the client does not read, is closed.
TIMEOUT = 15

PAGE = Path(__file__).with_name("page")

#: The files of the page, by their path: file name and content type.
FILES = {
    b"": ("index.html", b"text/html; charset=utf-8"),
    b"status.js": ("status.js", b"text/javascript; charset=utf-8"),
    b"plots.js": ("plots.js", b"text/javascript; charset=utf-8"),
    b"status.css": ("status.css", b"text/css; charset=utf-8"),
    b"uPlot.iife.min.js": ("uPlot.iife.min.js", b"text/javascript; charset=utf-8"),
    b"uPlot.min.css": ("uPlot.min.css", b"text/css; charset=utf-8"),
}

#: The page loads nothing from other origins, and no other page may embed it in a frame.
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class Access:
    """
    The rules of access.

    :param token: the secret that closing a session needs; None: sessions cannot be closed.
    :param isLocal: only programs on this machine can connect. Otherwise reading needs the token, too.
    """

    def __init__(self, token: str | None, isLocal: bool) -> None:
        self._token = None if token is None else token.encode()
        self.isLocal = isLocal

    @property
    def hasToken(self) -> bool:
        """Whether a token is set."""
        return self._token is not None

    def mayClose(self, token: str) -> bool:
        """Whether a client with this token may close sessions."""
        return self._token is not None and compare_digest(self._token, token.encode("utf-8", "surrogatepass"))

    def mayRead(self, token: str) -> bool:
        """Whether a client with this token may read."""
        return self.isLocal or self.mayClose(token)

    def allowsHost(self, host: str) -> bool:
        """
        Whether a request may have this Host header.

        A foreign page whose host name was made to resolve to 127.0.0.1 (DNS rebinding) has its own name here.
        """
        if not self.isLocal:
            return True
        name = host.rpartition("@")[2]
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if not name or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def allowsOrigin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may open the feed: only the status page. Programs send no origin."""
        return not origin or origin.partition("://")[2].lower() == host.lower()


class _Request(Request):
    """A request that discards its body, because no resource reads one."""

    def gotLength(self, length: int | None) -> None:
        """A body of this length follows."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Discard a part of the body."""


class _Site(Site):
    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing: there would be a line for each scrape."""


class _Leaf(Resource):
    """Answers GET and HEAD, after the checks of access."""

    isLeaf = True
    #: Readable without a token: the files of the page contain no data, and the health is for load balancers.
    isOpen = False

    def __init__(self, access: Access) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._access = access

    def render(self, request: Any) -> Any:
        for name, value in _HEADERS:
            request.setHeader(name, value)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _respond(request, NOT_ALLOWED, "only GET and HEAD are allowed")
        if not self._access.allowsHost((request.getHeader(b"host") or b"").decode("latin-1")):
            return _respond(request, FORBIDDEN, "the Host header must be localhost or an IP address")
        if not self.isOpen:
            scheme, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
            given = token.strip().decode("utf-8", "replace") if scheme.lower() == b"bearer" else ""
            if not self._access.mayRead(given):
                request.setHeader(b"www-authenticate", b"Bearer")
                return _respond(request, UNAUTHORIZED, "send the token of --status-token: Authorization: Bearer TOKEN")
        return self.answer(request)

    def answer(self, request: Any) -> Any:
        """Return what ``render`` returns."""
        raise NotImplementedError

    def answerLater(self, request: Any, asked: Deferred[Any], write: Callable[[Any], bytes]) -> int:
        """Answer with ``write(result)`` when ``asked`` fires, unless the client has disconnected before."""
        finished: list[object] = []
        request.notifyFinish().addBoth(finished.append)

        def succeed(result: Any) -> None:
            if not finished:
                _finish(request, write(result))

        def failed(failure: Failure) -> None:
            if not failure.check(SchedulerStopped):
                log.failure("cannot answer a status request", failure)
            if not finished:
                _finish(request, _respond(request, SERVICE_UNAVAILABLE, "not available at the moment"))

        asked.addCallback(succeed).addErrback(failed)
        return NOT_DONE_YET


class _File(_Leaf):
    isOpen = True

    def __init__(self, access: Access, name: str, kind: bytes) -> None:
        super().__init__(access)
        self._content = (PAGE / name).read_bytes()
        self._kind = kind

    def answer(self, request: Any) -> bytes:
        request.setHeader(b"content-type", self._kind)
        return self._content


class _Health(_Leaf):
    isOpen = True

    def __init__(self, access: Access, problems: Callable[[], list[str]], warnings: Callable[[], list[str]]) -> None:
        super().__init__(access)
        self._problems = problems
        self._warnings = warnings

    def answer(self, request: Any) -> bytes:
        problems = self._problems()
        if problems:
            return _respond(request, SERVICE_UNAVAILABLE, "\n".join(problems))
        return _respond(request, 200, "\n".join(["ok", *(f"warning: {each}" for each in self._warnings())]))


class _Metrics(_Leaf):
    def __init__(self, access: Access, source: ISource) -> None:
        super().__init__(access)
        self._source = source

    def answer(self, request: Any) -> int:
        from getty_tx.status.metrics import encode

        def write(snapshot: Any) -> bytes:
            contentType, body = encode(snapshot, (request.getHeader(b"accept") or b"").decode("latin-1"))
            request.setHeader(b"content-type", contentType.encode())
            return body

        return self.answerLater(request, self._source.collect(), write)


class _Table(_Leaf):
    """
    Pages of a table, as JSON.

    :param table: makes a page.
    :param default: the query without arguments.
    """

    def __init__(
        self,
        access: Access,
        columns: Collection[str],
        table: Callable[[Query], Deferred[dict[str, Any]]],
        default: Query,
    ) -> None:
        super().__init__(access)
        self._columns = columns
        self._table = table
        self._default = default

    def answer(self, request: Any) -> Any:
        try:
            query = _query(request.args, self._default).of(self._columns)
        except SettingError as error:
            return _respond(request, BAD_REQUEST, str(error))

        def write(page: Any) -> bytes:
            request.setHeader(b"content-type", b"application/json")
            return json.dumps(page).encode()

        return self.answerLater(request, self._table(query), write)


def _query(args: dict[bytes, list[bytes]], default: Query) -> Query:
    given = {name.decode("latin-1"): values[-1].decode("latin-1") for name, values in args.items()}
    unknown = given.keys() - {"sort", "order", "offset", "limit"}
    if unknown:
        raise SettingError(f"unknown argument {min(unknown)!r:.40}; there are sort, order, offset, limit")
    order = given.get("order", "descending" if default.descending and "sort" not in given else "ascending")
    if order not in ("ascending", "descending"):
        raise SettingError(f"order={order!r:.40} is neither ascending nor descending")
    numbers: dict[str, Any] = {}
    for name in ("offset", "limit"):
        if name in given:
            text = given[name]
            numbers[name] = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else text
    return Query(given.get("sort", default.sort), order == "descending", **numbers)


def _respond(request: Any, code: int, text: str) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    return f"{text}\n".encode()


def _finish(request: Any, body: bytes) -> None:
    request.setHeader(b"content-length", b"%d" % len(body))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()


def statusSite(source: ISource, access: Access, reactor: Any) -> Site:
    """The web site with all resources; the feed is a WebSocket and not part of it."""
    root = Resource()
    for name, (file, kind) in FILES.items():
        root.putChild(name, _File(access, file, kind))
    health = Resource()
    health.putChild(b"live", _Health(access, list, list))
    health.putChild(b"ready", _Health(access, source.problems, source.warnings))
    root.putChild(b"health", health)
    root.putChild(b"metrics", _Metrics(access, source))
    root.putChild(b"sessions", _Table(access, source.columns, source.table, Query()))

    def calls(query: Query) -> Deferred[dict[str, Any]]:
        return source.collect().addCallback(methodsOf, query)

    root.putChild(b"calls", _Table(access, COLUMNS, calls, BY_CALLS))
    site = _Site(root, timeout=TIMEOUT, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's
    site.requestFactory = _Request
    site.displayTracebacks = False
    return site
