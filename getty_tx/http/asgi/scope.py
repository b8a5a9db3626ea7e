"""What an application is told of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["httpScope"]


def httpScope(request: Request, exchange: IExchange, rootPath: str, state: dict[str, Any]) -> dict[str, Any]:
    """
    The scope of a request.

    The version is 2.3: what Starlette makes of a later one is that a stream which waits without sending outlives its
    client.

    :param state: what the application has kept in its lifespan; a shallow copy is given.
    """
    path, _, query = request.target.partition(b"?")
    text = path.decode("ascii")
    if b"%" in path:
        text = unquote(text)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "method": request.method,
        "scheme": exchange.schemeOf(request),
        "path": rootPath + text if rootPath else text,
        "raw_path": rootPath.encode() + path if rootPath else path,
        "query_string": query,
        "root_path": rootPath,
        "headers": list(request.fields.headers),
        "client": exchange.clientOf(request),
        "server": exchange.serverOf(request),
        "state": state.copy(),
        "extensions": {
            "http.response.trailers": {},
            "http.response.pathsend": {},
            "http.response.early_hint": {},
        },
    }
