"""What a channel is given to dial: descriptions of endpoints, or the targets of gRPC."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

__all__ = ["authorityOf", "descriptionOf", "withALPN"]

#: The port of a target without one, as in gRPC.
PORT = "443"

_HOST = re.compile(r"(\[[^\]]*\]|[^:/\[\]]+)(?::([0-9]+))?")
_ARGUMENT = re.compile(r"((?:\\.|[^\\:])*)(?::|$)")

#: What begins a target that names a host.
_SCHEMES = "dns:", "ipv4:", "ipv6:"


def descriptionOf(target: Any) -> Any:
    """
    The description of an endpoint for a target of gRPC, such as ``host:50051``, ``dns:///host:50051`` or
    ``unix:///run/x.sock``; anything else as it is.
    """
    if not isinstance(target, str):
        return target
    if target.startswith("unix://"):
        return "unix:" + quoteStringArgument(target[len("unix://") :])
    host = target
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            # Behind two slashes there may be a server of names, which is not asked.
            host = target[len(scheme) :]
            host = host.rpartition("/")[2]
            found = _HOST.fullmatch(host)
            return target if found is None else _tcp(found)
    found = _HOST.fullmatch(host)
    isHost = found is not None and (found[2] is not None or "." in host)
    return _tcp(found) if found is not None and isHost and found[1] != "unix" else target


def _tcp(found: re.Match[str]) -> str:
    return f"tcp:{quoteStringArgument(found[1].strip('[]'))}:{found[2] or PORT}"


def withALPN(endpoint: Any) -> Any:
    """A description, which asks for HTTP/2 where it is ``tls:``."""
    if isinstance(endpoint, str) and endpoint.startswith("tls:") and ":alpn=" not in endpoint:
        return endpoint + ":alpn=h2"
    return endpoint


def authorityOf(description: str) -> tuple[bytes, bytes]:
    """``:scheme`` and ``:authority`` for a description."""
    parts = [re.sub(r"\\(.)", r"\1", part) for part in _ARGUMENT.findall(description)]
    kind, *arguments = parts
    if kind not in ("tcp", "tls") or not arguments:
        return b"http", b"localhost"
    host = next((each[5:] for each in arguments if each.startswith("host=")), arguments[0])
    port = next((each[5:] for each in arguments if each.startswith("port=")), arguments[1] if arguments[1:] else "")
    host = f"[{host}]" if ":" in host else host
    if kind == "tls" and port == PORT:
        return b"https", host.encode()
    return b"https" if kind == "tls" else b"http", f"{host}:{port}".encode()
