"""What an application is told of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from getty_tx.session.wrappers import tlsOf

if TYPE_CHECKING:
    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["addTLS", "httpScope"]


#: An application may put more into its dict, but not into these.
_NONE: dict[str, Any] = {}

_ASGI = {"version": "3.0", "spec_version": "2.3"}

_EXTENSIONS = {
    "http.response.trailers": _NONE,
    "http.response.pathsend": _NONE,
    "http.response.early_hint": _NONE,
}

_SCOPE: dict[str, Any] = dict.fromkeys(
    (
        *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
        *("headers", "client", "server", "state", "extensions"),
    )
)
_SCOPE["type"] = "http"

#: Targets that are kept as _split() gives them, at most, and bytes of each: few make most of the requests.
MAX_KNOWN = 256
MAX_KNOWN_BYTES = 256

_known: dict[bytes, tuple[str, bytes, bytes]] = {}

# Where what is told of TLS is kept, in the attributes of a session.
_TLS = object()


def httpScope(request: Request, exchange: IExchange, rootPath: str, state: dict[str, Any]) -> dict[str, Any]:
    """
    The scope of a request.

    The version is 2.3: what Starlette makes of a later one is that a stream which waits without sending outlives its
    client.

    :param rootPath: the path below which the application stands in the client's view, without that of a router's
        ``mount``, which is added.
    :param state: what the application has kept in its lifespan; a shallow copy is given.
    """
    text, path, query = _known.get(request.target) or _split(request.target)
    if rootPath:
        text = rootPath + text
        path = rootPath.encode() + path
    # A copy takes half the time of a dict that is written out; all of it is the application's own but what is constant.
    scope = _SCOPE.copy()
    scope["asgi"] = _ASGI.copy()
    scope["http_version"] = request.version
    scope["method"] = request.method
    scope["path"] = text
    scope["raw_path"] = path
    scope["query_string"] = query
    scope["root_path"] = rootPath + request.root.decode() if request.root else rootPath
    scope["headers"] = [*request.fields.headers]
    scope["state"] = state.copy()
    scope["extensions"] = _EXTENSIONS.copy()
    scheme, scope["client"], scope["server"] = exchange.endsOf(request)
    scope["scheme"] = scheme
    if scheme == "https":
        addTLS(scope, exchange.session)
    return scope


def _split(target: bytes) -> tuple[str, bytes, bytes]:
    """The path, decoded and as it was sent, and the query."""
    path, _, query = target.partition(b"?")
    text = path.decode("ascii")
    if b"%" in path:
        text = unquote(text)
    found = text, path, query
    if len(target) <= MAX_KNOWN_BYTES:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[target] = found
    return found


def addTLS(scope: dict[str, Any], session: Any) -> None:
    """
    Add what is known of TLS: https://asgi.readthedocs.io/en/latest/specs/tls.html

    Behind a proxy that has ended TLS nothing is.
    """
    handle = tlsOf(session.connection.rawTransport)
    if handle is None:
        return
    known = session.attributes.get(_TLS)
    if known is None:
        # Costs an import where TLS is used.
        from getty_tx.tls.described import describeTLS

        known = session.attributes[_TLS] = describeTLS(handle)
    scope["extensions"]["tls"] = known
