"""Handlers by path and method."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides, implementer

from getty_tx import settings
from getty_tx.errors import RefuseRequest, SettingError
from getty_tx.http.answers import NO_FIELDS
from getty_tx.http.body import whole
from getty_tx.http.handlers import respond, run
from getty_tx.http.interfaces import IApplication, IRunningApplication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request
    from getty_tx.http.upgraderoute import WebSocketRoute

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Route", "Router"]

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")

#: Marks a limit that is the server's.
_SERVERS: Any = object()


class Route:
    """
    One handler of a router.

    :ivar template: the path, with variables such as ``{id}``.
    :ivar handler: the function.
    :ivar stream: it is called at the head, and takes the body as it comes.
    :ivar maxBody: bytes of a body that is gathered for it; None: no limit.
    """

    __slots__ = ("handler", "maxBody", "stream", "template")

    def __init__(self, template: str, handler: Callable[..., Any], stream: bool, maxBody: Any) -> None:
        self.template = template
        self.handler = handler
        self.stream = stream
        self.maxBody = maxBody


class _Place:
    """The routes of one template, by method."""

    __slots__ = ("pattern", "routes", "template", "webSocket")

    def __init__(self, template: str) -> None:
        self.template = template
        self.pattern = _compile(template)
        self.routes: dict[str, Route] = {}
        self.webSocket: WebSocketRoute | None = None


@implementer(IApplication)
class Router:
    """
    Finds the handler of a request by its path and its method.

    ::

        router = http.Router()

        @router.get("/users/{id}")
        def user(request):
            return {"id": request.path["id"]}

    ``{name}`` stands for one segment of the path, ``{name:path}`` for all that is left of it. A path without variables
    comes first, then the templates in the order in which they were added. A path that has other methods only is
    answered with 405, one that has none with 404. ``HEAD`` is served by the handler of ``GET``, and ``OPTIONS`` is
    answered with the methods that there are.
    """

    def __init__(self) -> None:
        self._exact: dict[bytes, _Place] = {}
        self._templates: list[_Place] = []
        self._mounted: list[tuple[bytes, IApplication]] = []
        self._running: list[IRunningApplication] = []

    def add(
        self,
        methods: str | Iterable[str],
        template: str,
        handler: Callable[..., Any],
        *,
        stream: bool = False,
        maxBody: int | None = _SERVERS,
    ) -> None:
        """
        Add a handler.

        :param methods: one, or several.
        :param template: a path that begins with a slash.
        :param handler: ``handler(request)``: ``def``, ``async def``, or an async generator.
        :param stream: call it at the head; it takes the body by ``async for part in request.body``.
        :param maxBody: bytes of a body that is gathered; None: no limit; left out: the server's ``maxBody``.
        :raise SettingError: the template is malformed, or has a handler for the method already.
        """
        if not callable(handler):
            raise SettingError(f"{template}: {handler!r} is no handler: give a function of a request")
        if maxBody is not _SERVERS:
            settings.optionalCount("maxBody", maxBody)
        route = Route(template, handler, stream, maxBody)
        place = self._placeOf(template)
        for method in [methods] if isinstance(methods, str) else methods:
            if method.upper() in place.routes:
                raise SettingError(f"{method} {template} has a handler already")
            place.routes[method.upper()] = route

    def _placeOf(self, template: str) -> _Place:
        if not template.startswith("/"):
            raise SettingError(f"{template!r} is no path: it begins with a slash")
        if "{" not in template and "}" not in template:
            return self._exact.setdefault(template.encode("utf-8"), _Place(template))
        for place in self._templates:
            if place.template == template:
                return place
        place = _Place(template)
        self._templates.append(place)
        return place

    def route(self, methods: str | Iterable[str], template: str, **options: Any) -> Callable[[F], F]:
        """A decorator that adds a handler; as :py:meth:`add`."""

        def decorate(handler: F) -> F:
            self.add(methods, template, handler, **options)
            return handler

        return decorate

    def get(self, template: str, **options: Any) -> Callable[[F], F]:
        """A decorator for the handler of GET, and of HEAD."""
        return self.route("GET", template, **options)

    def post(self, template: str, **options: Any) -> Callable[[F], F]:
        """A decorator for the handler of POST."""
        return self.route("POST", template, **options)

    def put(self, template: str, **options: Any) -> Callable[[F], F]:
        """A decorator for the handler of PUT."""
        return self.route("PUT", template, **options)

    def patch(self, template: str, **options: Any) -> Callable[[F], F]:
        """A decorator for the handler of PATCH."""
        return self.route("PATCH", template, **options)

    def delete(self, template: str, **options: Any) -> Callable[[F], F]:
        """A decorator for the handler of DELETE."""
        return self.route("DELETE", template, **options)

    def webSocket(
        self,
        template: str,
        newSession: Callable[[Any], object],
        protocols: Sequence[str] = (),
        origins: Sequence[str] | None = None,
        deflate: bool = True,
    ) -> None:
        """
        Serve WebSocket sessions at a path, which may have handlers, too.

        ``session.request`` has the variables of the template as ``session.request.variables``.

        :param newSession: configures each session, as that of a :py:class:`~getty_tx.Server`: it sets ``codec`` and
            ``listener``. A :py:class:`~getty_tx.RefuseRequest` answers with a status instead.
        :param protocols: the subprotocols, the preferred one first; the first that the client offers is agreed on.
        :param origins: pages of other origins are refused with 403; ``*`` matches any characters. None: all are
            accepted.
        :param deflate: whether messages may be compressed (permessage-deflate).
        :raise SettingError: one of them is invalid, or the template has a WebSocket already.
        """
        from getty_tx.http.upgraderoute import WebSocketRoute

        route = WebSocketRoute(newSession, protocols, origins, deflate)
        place = self._placeOf(template)
        if place.webSocket is not None:
            raise SettingError(f"{template} has a WebSocket already")
        place.webSocket = route

    def mount(self, prefix: str, application: IApplication) -> None:
        """
        Let another application answer all paths below a prefix that no template matches.

        It gets the request as it is, with the prefix as ``request.root``. It starts and stops with the router.

        :param prefix: a path without variables that does not end with a slash; ``/``: all paths.
        :raise SettingError: the prefix is none, or is taken; or the application is none.
        """
        if not prefix.startswith("/") or "{" in prefix or (prefix != "/" and prefix.endswith("/")):
            raise SettingError(f"{prefix!r} is no prefix: it begins with a slash, does not end with one, and has no {{")
        if not IApplication.providedBy(application):
            raise SettingError(f"{prefix}: {application!r} is no application such as http.Files")
        root = prefix.rstrip("/").encode("utf-8")
        if any(other == root for other, _ in self._mounted):
            raise SettingError(f"{prefix} has an application already")
        self._mounted.append((root, application))
        # The longest prefix is to match.
        self._mounted.sort(key=lambda each: -len(each[0]))
        if IRunningApplication.providedBy(application):
            alsoProvides(self, IRunningApplication)

    def startApplication(self, reactor: Any) -> Deferred[None]:
        """Start the applications that are mounted; those that have started are stopped if one cannot."""
        return Deferred.fromCoroutine(self._start(reactor))

    async def _start(self, reactor: Any) -> None:
        for _, application in self._mounted:
            if IRunningApplication.providedBy(application):
                try:
                    await application.startApplication(reactor)
                except BaseException:
                    await self._stop()
                    raise
                self._running.append(application)

    def stopApplication(self) -> Deferred[None]:
        """Stop the applications that have started, the last one first."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        while self._running:
            await self._running.pop().stopApplication()

    # Finding

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Call the handler of a request."""
        place = self._exact.get(request.target) or self._find(request)
        if place is None:
            self._serveMounted(request, exchange)
            return
        if place.webSocket is not None and self._upgrades(place, request):
            request.route = place.template
            place.webSocket.serve(request, exchange)
            return
        routes = place.routes
        route = routes.get(request.method)
        if route is None:
            route = self._otherMethod(place, request)
        request.route = route.template
        if route.stream:
            if request.body is None:
                request.body = whole(request)
            respond(route.handler(request), request, exchange)
        elif request.content == b"":
            respond(route.handler(request), request, exchange)
        else:
            limit = route.maxBody
            run(route.handler, request, exchange, exchange.context._maxBody if limit is _SERVERS else limit)

    def _find(self, request: Request) -> _Place | None:
        raw = request.rawPath
        if b"%" in raw:
            # A slash that is encoded is no end of a segment: templates match what was sent, decoded afterwards.
            exact = self._exact.get(request.urlPath.encode("utf-8")) if b"%2f" not in raw.lower() else None
        else:
            exact = self._exact.get(raw)
        if exact is not None:
            return exact
        text = raw.decode("ascii")
        for place in self._templates:
            found = place.pattern.fullmatch(text)
            if found is not None:
                request.setVariables(found.groupdict())
                return place
        return None

    def _serveMounted(self, request: Request, exchange: IExchange) -> None:
        """:raise RefuseRequest: no application is mounted at the path."""
        raw = request.rawPath
        for root, application in self._mounted:
            if raw.startswith(root) and raw[len(root) : len(root) + 1] in (b"/", b""):
                request.root = root
                request.route = root.decode("utf-8") + "/{rest:path}"
                application.serve(request, exchange)
                return
        if raw == b"*":
            # OPTIONS of the server as a whole, to see whether it answers (RFC 9110, 9.3.7).
            exchange.answer(request, 204, NO_FIELDS, b"")
            return
        raise RefuseRequest(404)

    @staticmethod
    def _upgrades(place: _Place, request: Request) -> bool:
        """Whether a request is for the WebSocket of its place, and not for one of the handlers."""
        from getty_tx.http.upgrade import asksForWebSocket

        return asksForWebSocket(request) or (request.method == "GET" and "GET" not in place.routes)

    def _otherMethod(self, place: _Place, request: Request) -> Route:
        routes = place.routes
        if request.method == "HEAD" and "GET" in routes:
            return routes["GET"]
        allowed = ", ".join(sorted({*routes, "OPTIONS", *(["HEAD"] if "GET" in routes else [])}))
        if request.method == "OPTIONS":
            from getty_tx.http.response import Response

            return Route(place.template, lambda request: Response(204, headers={"Allow": allowed}), False, _SERVERS)
        raise RefuseRequest(405, headers={"Allow": allowed})


def _compile(template: str) -> re.Pattern[str]:
    """:raise SettingError: the template is malformed."""
    pattern, at, names = "", 0, set()
    for found in _VARIABLE.finditer(template):
        name = found[1]
        if name in names:
            raise SettingError(f"{template!r} has {{{name}}} twice")
        names.add(name)
        pattern += _literal(template, template[at : found.start()])
        pattern += f"(?P<{name}>{'.+' if found[2] else '[^/]+'})"
        at = found.end()
    return re.compile(pattern + _literal(template, template[at:]), re.DOTALL)


def _literal(template: str, text: str) -> str:
    if "{" in text or "}" in text:
        raise SettingError(f"{template!r} has a brace that is none of a variable such as {{id}} or {{rest:path}}")
    return re.escape(text)
