"""
Endpoint descriptions: ``tcp:8090``, ``unix:/run/x.sock``, ``ssl:8443:certKey=server.pem``.

They are Twisted's, with three differences. A server description without ``backlog=`` gets :py:data:`BACKLOG`.
A client's ``tls:`` and a server's ``ssl:`` use :py:mod:`getty_tx.tls`, for its checks and its clear errors; a server's
also takes ``trustRoot=`` to require and verify client certificates. A client's ``ssl:``, which Twisted does not verify
by default, is refused.

``udp:`` is added, with the endpoints of :py:mod:`getty_tx.transports.udp.endpoints`::

    udp:PORT[:interface=ADDRESS][:sessions=one|peer][:group=ADDRESS][:maxPacketSize=BYTES]    to listen on
    udp:HOST:PORT[:probeTimeout=SECONDS]                                                      to dial

``sessions=peer`` makes a session for each peer's address instead of one for the socket. ``group`` is a multicast group
to join. With an interface it is joined there, and only datagrams to the group arrive.
``ws:`` and ``wss:`` are WebSocket, over TCP, or over another description in ``endpoint=``::

    ws:8091:path=/echo                              ws:localhost:8091:path=/echo      ws://localhost:8091/echo
    wss:8443:certKey=server.pem:path=/echo,/chat    wss:a.example:8443:path=/echo     wss://a.example/echo
    ws:endpoint=unix\\:/run/x.sock:path=/           ws:endpoint=unix\\:/run/x.sock:path=/

A server's descriptions take ``path=``, ``origins=`` and ``subprotocols=``, each with values separated by commas,
``deflate=no``, the ``interface=`` and ``backlog=`` of ``tcp:``, and for ``wss:`` ``certKey=``, ``privateKey=`` and
``trustRoot=``. A client's take ``path=`` (with a query, if there is one), ``origin=``, ``subprotocols=``,
``deflate=yes``, ``timeout=`` and ``bindAddress=``, and for ``wss:`` ``trustRoots=``, ``certificate=`` and
``privateKey=``. For other programs, ``serverFromString`` and ``clientFromString`` have them as ``getty-ws:`` and
``getty-wss:``.
"""

from __future__ import annotations

import glob
import os
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.transports.udp.protocol import SESSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import (
        IOpenSSLServerConnectionCreator,
        IStreamClientEndpoint,
        IStreamServerEndpoint,
    )

__all__ = ["BACKLOG", "carriesStream", "clientEndpoint", "isWebSocket", "listensWith", "serverEndpoint"]

#: Connections that the system queues until they are accepted, unless the description has ``backlog=``. With Twisted's
#: default of 50 some are refused if thousands arrive at once. The system's own limit is net.core.somaxconn.
BACKLOG = 4096

#: The position of the backlog in a description, counted from the prefix.
_BACKLOG_POSITION = {"tcp": 3, "unix": 3, "tls": 3, "ssl": 6}


def serverEndpoint(description: str, reactor: Any) -> IStreamServerEndpoint:
    """
    The server endpoint for a description.

    :raise SettingError: the description is invalid, or a file that it names cannot be used. The text contains both.
    """
    try:
        prefix, positional, named = _parse(description)
        if prefix == "udp":
            return _udpServer(positional, named, reactor)
        if prefix in _WEBSOCKET:
            return webSocketServerEndpoint(prefix, positional, named, reactor)
        if prefix == "ssl" and not positional[1:] and not named.keys() - _SSL_SERVER:
            return _sslServer(positional, named, reactor)
        listening, arguments = _innermost(prefix, positional)
        if listening == "tls":
            _checkCertificates(arguments[0] if arguments else named.get("path"))
        _checkPort(listening, 1 if listening == "tls" else 0, arguments, named)
        position = _BACKLOG_POSITION.get(listening)
        more = f":backlog={BACKLOG}" if position and "backlog" not in named and len(arguments) < position else ""
        endpoint: Any = serverFromString(reactor, description + more)
        if prefix == "tls":
            from getty_tx import tls

            endpoint = tls.wrapServer(endpoint.connectionCreator, endpoint.endpoint)
        return endpoint  # type: ignore[no-any-return]  # Twisted gives it no type
    except IndexError as error:
        raise SettingError(f"cannot listen on {description!r}: no such socket was passed (LISTEN_FDS)") from error
    except Exception as error:
        raise SettingError(f"cannot listen on {description!r}: {error}") from error


def listensWith(description: str) -> str:
    """
    The prefix of the socket's endpoint in a server's description, below ``haproxy:``, ``ws:`` and ``wss:``.

    :raise SettingError: the description is invalid.
    """
    prefix, positional, named = _parse(description)
    if prefix in _WEBSOCKET:
        return listensWith(named["endpoint"]) if "endpoint" in named else "tcp"
    return _innermost(prefix, positional)[0]


def clientEndpoint(description: str, reactor: Any) -> IStreamClientEndpoint:
    """
    The client endpoint for a description.

    :raise SettingError: the description is invalid, or a file that it names cannot be used. The text contains both.
    """
    try:
        if description.startswith(("ws://", "wss://")):
            return _webSocketURL(description, reactor)
        prefix, positional, named = _parse(description)
        if prefix in _WEBSOCKET:
            return webSocketClientEndpoint(prefix, positional, named, reactor)
        if prefix == "ssl":
            raise SettingError("ssl: verifies neither certificate nor host name; use tls:HOST:PORT")
        if prefix == "udp":
            return _udpClient(positional, named, reactor)
        if prefix in ("tcp", "tls"):
            _checkPort(prefix, 1, positional, named)
        if prefix == "tls":
            return _tlsClient(positional, named, reactor)
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
        return endpoint
    except Exception as error:
        raise SettingError(f"cannot dial {description!r}: {error}") from error


def isWebSocket(description: str) -> bool:
    """Whether a description, or a URL, is for WebSocket."""
    return description.partition(":")[0] in _WEBSOCKET


def isLocal(description: str) -> bool:
    """Whether a server description says that only programs of this machine can connect."""
    prefix, positional, named = _parse(description)
    if prefix == "unix":
        return True
    interface = named.get("interface", positional[1] if prefix == "tcp" and len(positional) > 1 else "")
    try:
        return prefix in ("tcp", "ssl", "tls", "udp", *_WEBSOCKET) and ip_address(interface).is_loopback
    except ValueError:
        return False


def dialedWith(description: str) -> tuple[str, str]:
    """
    How clients dial what a server description listens on.

    :return: what their description begins with, ``"tcp"``, ``"tls"``, ``"unix"``, ``"udp"``, ``"ws"`` or ``"wss"``,
        and the path for the last two. ``"systemd"`` is one of the first that only the socket knows. Both are empty
        where clients dial something else, such as the proxy before ``haproxy:``.
    :raise SettingError: the description is invalid.
    """
    prefix, _, named = _parse(description)
    if prefix in _WEBSOCKET:
        below = dialedWith(named["endpoint"])[0] if "endpoint" in named else "tcp"
        if below not in ("tcp", "tls"):
            return "", ""
        secure = below == "tls" or prefix.endswith("wss")
        return "wss" if secure else "ws", (*_list(named, "path"), "/")[0]
    if prefix == "udp":
        # Members of a group dial the group.
        return ("", "") if "group" in named else ("udp", "")
    kinds = {"tcp": "tcp", "tcp6": "tcp", "ssl": "tls", "tls": "tls", "unix": "unix", "systemd": "systemd"}
    return kinds.get(prefix, ""), ""


def carriesStream(description: str) -> bool:
    """Whether a description is for sessions over a stream, not over UDP or WebSocket."""
    prefix, positional, _ = _parse(description)
    return _innermost(prefix, positional)[0] not in ("udp", *_WEBSOCKET)


_UDP_SERVER = ("port", "interface", "sessions", "group", "maxPacketSize")
_UDP_CLIENT = ("host", "port", "probeTimeout")
#: The last two are the prefixes in ``serverFromString`` and ``clientFromString``.
_WEBSOCKET = ("ws", "wss", "getty-ws", "getty-wss")
_SERVER_UPGRADE = {"path", "origins", "subprotocols", "deflate"}
_CLIENT_UPGRADE = {"path", "origin", "subprotocols", "deflate"}
_CERTIFICATE = {"certKey", "privateKey", "trustRoot", "onSocket"}
_SSL_SERVER = {"port", "privateKey", "certKey", "interface", "backlog", "trustRoot", "onSocket"}
_TLS_CLIENT = (
    *("host", "port", "timeout", "bindAddress", "certificate", "privateKey", "trustRoots", "endpoint"),
    *("onSocket", "alpn"),
)


def _sslServer(positional: list[str], named: dict[str, str], reactor: Any) -> IStreamServerEndpoint:
    from getty_tx import tls

    port = positional[0] if positional else named.get("port")
    if port is None:
        raise SettingError("ssl: needs a port: ssl:PORT:certKey=FILE:privateKey=FILE")
    policy = _serverPolicy(named)
    below = f"tcp:{quoteStringArgument(port)}:backlog={quoteStringArgument(named.get('backlog', str(BACKLOG)))}"
    if "interface" in named:
        below += f":interface={quoteStringArgument(named['interface'])}"
    return tls.wrapServer(policy, serverFromString(reactor, below))


def _serverPolicy(named: dict[str, str]) -> IOpenSSLServerConnectionCreator:
    from getty_tx import tls

    # The defaults of the two files are Twisted's.
    privateKey = named.get("privateKey", "server.pem")
    return tls.serverPolicy(
        named.get("certKey", privateKey),
        privateKey,
        trustRoot=named.get("trustRoot"),
        onSocket=_flag(named, "onSocket", True),
    )


def _tlsClient(positional: list[str], named: dict[str, str], reactor: Any) -> IStreamClientEndpoint:
    from getty_tx import tls

    unknown = named.keys() - set(_TLS_CLIENT)
    if unknown:
        raise SettingError(f"tls: has no argument {', '.join(sorted(unknown))}: there are {', '.join(_TLS_CLIENT)}")
    given = dict(zip(_TLS_CLIENT, positional, strict=False)) | named
    if len(positional) > len(_TLS_CLIENT) or "host" not in given or not ("port" in given or "endpoint" in given):
        raise SettingError("tls: takes a host and a port: tls:HOST:PORT")
    policy = tls.clientPolicy(
        given["host"],
        trustRoot=given.get("trustRoots"),
        certificate=given.get("certificate"),
        privateKey=given.get("privateKey"),
        alpn=_list(given, "alpn"),
        onSocket=_flag(given, "onSocket", True),
    )
    if "endpoint" in given:
        return tls.wrapClient(policy, clientEndpoint(given["endpoint"], reactor))
    bindAddress = given.get("bindAddress")
    below = HostnameEndpoint(
        reactor,
        given["host"],
        int(given["port"]),
        float(given.get("timeout", "30")),
        None if bindAddress is None else (bindAddress, 0),
    )
    return tls.wrapClient(policy, below)


def _udpServer(positional: list[str], named: dict[str, str], reactor: Any) -> IStreamServerEndpoint:
    # Loaded with the first description of this kind.
    from getty_tx.transports.udp.endpoints import MAX_PACKET_SIZE, UDPServerEndpoint

    given = _arguments("udp", _UDP_SERVER, positional, named, most=1)
    if "port" not in given:
        raise SettingError("udp: needs a port: udp:PORT")
    interface = given.get("interface", "")
    if interface and not (isIPAddress(interface) or isIPv6Address(interface)):
        raise SettingError(f"interface={interface} is not an IP address")
    sessions = given.get("sessions", SESSIONS[0])
    if sessions not in SESSIONS:
        raise SettingError(f"sessions={sessions} is none of {', '.join(SESSIONS)}")
    group = given.get("group")
    if group is not None:
        try:
            isMulticast = ip_address(group).is_multicast
        except ValueError:
            isMulticast = False
        if not isMulticast:
            raise SettingError(f"group={group} is not a multicast address")
        if interface and (":" in interface) != (":" in group):
            raise SettingError(f"group={group} and interface={interface} are of different families")
    size = given.get("maxPacketSize", str(MAX_PACKET_SIZE))
    if not (size.isascii() and size.isdigit() and 1 <= int(size) <= MAX_PACKET_SIZE):
        raise SettingError(f"maxPacketSize={size} is not a number of bytes from 1 to {MAX_PACKET_SIZE}")
    return UDPServerEndpoint(
        reactor,
        _port(given["port"], 0),
        interface,
        sessions=sessions,
        group=group,
        maxPacketSize=int(size),
    )


def _udpClient(positional: list[str], named: dict[str, str], reactor: Any) -> IStreamClientEndpoint:
    from getty_tx.transports.udp.endpoints import PROBE_TIMEOUT, UDPClientEndpoint

    given = _arguments("udp", _UDP_CLIENT, positional, named, most=2)
    if not given.get("host") or "port" not in given:
        raise SettingError("udp: takes a host and a port: udp:HOST:PORT")
    text = given.get("probeTimeout", str(PROBE_TIMEOUT))
    try:
        probeTimeout = settings.seconds("probeTimeout", float(text))
    except ValueError:
        raise SettingError(f"probeTimeout={text} is not a number of seconds, more than 0") from None
    return UDPClientEndpoint(reactor, given["host"], _port(given["port"], 1), probeTimeout=probeTimeout)


def _arguments(
    prefix: str, names: tuple[str, ...], positional: list[str], named: dict[str, str], most: int
) -> dict[str, str]:
    """All arguments by name; the first ``most`` may be given by position."""
    unknown = named.keys() - set(names)
    if unknown:
        raise SettingError(f"{prefix}: has no argument {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    if len(positional) > most:
        raise SettingError(f"{prefix}: {positional[most]!r} needs a name: {', '.join(names[most:])}")
    return dict(zip(names, positional, strict=False)) | named


def _port(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= 65535):
        raise SettingError(f"port {text} is not a number from {least} to 65535")
    return int(text)


def webSocketServerEndpoint(
    prefix: str, positional: Sequence[str], named: dict[str, str], reactor: Any
) -> IStreamServerEndpoint:
    """
    The server endpoint of ``ws:`` or ``wss:``, from its arguments.

    :param positional: without the prefix.
    :raise SettingError: the description is invalid, or a file that it names cannot be used.
    """
    from getty_tx import tls
    from getty_tx.transports.websocket.endpoints import WebSocketServerEndpoint
    from getty_tx.transports.websocket.request import UpgradeOptions

    secure = prefix.endswith("wss")
    allowed = _SERVER_UPGRADE | {"endpoint", "port", "interface", "backlog"} | (_CERTIFICATE if secure else set())
    _checkNames(prefix, named, allowed)
    if len(positional) > 1 or bool(positional or "port" in named) == ("endpoint" in named):
        raise SettingError(f"{prefix}: takes a port or endpoint=: {prefix}:PORT:path=/echo")
    if "endpoint" in named:
        if named.keys() & {"interface", "backlog"}:
            raise SettingError(f"{prefix}: interface= and backlog= belong to the description in endpoint=")
        below = named["endpoint"]
    else:
        port = positional[0] if positional else named["port"]
        below = ":".join(
            ["tcp", quoteStringArgument(port)]
            + [f"{name}={quoteStringArgument(named[name])}" for name in ("interface", "backlog") if name in named]
        )
    endpoint = serverEndpoint(below, reactor)
    if secure:
        endpoint = tls.wrapServer(_serverPolicy(named), endpoint)
    options = UpgradeOptions(
        paths=_list(named, "path", "/"),
        origins=_list(named, "origins"),
        subprotocols=_list(named, "subprotocols"),
        deflate=_flag(named, "deflate", True),
    )
    return WebSocketServerEndpoint(endpoint, options)


def webSocketClientEndpoint(
    prefix: str, positional: Sequence[str], named: dict[str, str], reactor: Any
) -> IStreamClientEndpoint:
    """
    The client endpoint of ``ws:`` or ``wss:``, from its arguments.

    :param positional: without the prefix.
    :raise SettingError: the description is invalid, or a file that it names cannot be used.
    """
    from getty_tx.transports.websocket.endpoints import WebSocketClientEndpoint
    from getty_tx.transports.websocket.request import UpgradeOptions

    secure = prefix.endswith("wss")
    allowed = {"host", "port", "timeout", "bindAddress", "endpoint"} | _CLIENT_UPGRADE
    _checkNames(prefix, named, allowed | (set(_TLS_CLIENT) if secure else set()))
    given = dict(zip(("host", "port"), positional, strict=False)) | named
    if len(positional) > 2 or not ("endpoint" in given or {"host", "port"} <= given.keys()):
        raise SettingError(f"{prefix}: takes a host and a port: {prefix}:HOST:PORT:path=/echo")
    host = given.get("host", "localhost")
    _checkPort("tcp", 0, [], given)
    endpoint: IStreamClientEndpoint
    if secure:
        endpoint = _tlsClient([], {"host": host} | {k: v for k, v in given.items() if k in _TLS_CLIENT}, reactor)
    elif "endpoint" in given:
        endpoint = clientEndpoint(given["endpoint"], reactor)
    else:
        bindAddress = given.get("bindAddress")
        endpoint = HostnameEndpoint(
            reactor,
            host,
            int(given["port"]),
            float(given.get("timeout", "30")),
            None if bindAddress is None else (bindAddress, 0),
        )
    options = UpgradeOptions(
        paths=(named.get("path", "/"),),
        subprotocols=_list(named, "subprotocols"),
        deflate=_flag(named, "deflate", False),
        host=f"[{host}]" if ":" in host else host,
        port=int(given.get("port", "443" if secure else "80")),
        origin=named.get("origin"),
    )
    return WebSocketClientEndpoint(endpoint, options)


def _webSocketURL(url: str, reactor: Any) -> IStreamClientEndpoint:
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise SettingError("a WebSocket URL has a host, and neither user nor fragment: ws://localhost:8091/echo")
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return webSocketClientEndpoint(parts.scheme, [parts.hostname, str(port)], {"path": path}, reactor)


def _checkNames(prefix: str, named: dict[str, str], allowed: set[str]) -> None:
    unknown = named.keys() - allowed
    if unknown:
        known = ", ".join(sorted(allowed))
        raise SettingError(f"{prefix}: has no argument {', '.join(sorted(unknown))}: there are {known}")


def _list(named: dict[str, str], name: str, default: str = "") -> tuple[str, ...]:
    return tuple(item.strip() for item in named.get(name, default).split(",") if item.strip())


def _flag(named: dict[str, str], name: str, default: bool) -> bool:
    value = named.get(name)
    if value is None:
        return default
    if value not in ("yes", "no"):
        raise SettingError(f"{name}={value!r} is neither yes nor no")
    return value == "yes"


def _parse(description: str) -> tuple[str, list[str], dict[str, str]]:
    """The prefix, the positional and the named arguments, with backslashes resolved like in Twisted."""
    if not isinstance(description, str) or not description:
        raise SettingError(f"an endpoint description is a text such as 'tcp:8090', not {description!r}")
    positional: list[str] = []
    named: dict[str, str] = {}
    name: str | None = None
    text = ""
    # A backslash escapes the next character. An argument with an equals sign is named.
    for token in [*re.findall(r"\\.|[^\\]|\\$", description), ":"]:
        if token == ":":
            if name is None:
                positional.append(text)
            else:
                named[name] = text
            name, text = None, ""
        elif token == "=" and name is None:
            name, text = text, ""
        else:
            text += token[-1]
    return positional[0] if positional else "", positional[1:], named


def _innermost(prefix: str, positional: list[str]) -> tuple[str, list[str]]:
    """The prefix and arguments below any ``haproxy:``."""
    while prefix == "haproxy" and positional:
        prefix, *positional = positional
    return prefix, positional


def _checkPort(prefix: str, position: int, positional: list[str], named: dict[str, str]) -> None:
    """Refuse an invalid port now. Otherwise it would fail when it is used, or never for a client that retries."""
    port = named.get("port", positional[position] if len(positional) > position else "")
    if prefix in ("tcp", "ssl", "tls") and port.lstrip("-").isdigit() and not 0 <= int(port) <= 65535:
        raise SettingError(f"port {port} is not from 0 to 65535")


def _checkCertificates(directory: str | None) -> None:
    """Refuse a directory without certificates. Twisted would listen, and then fail every handshake."""
    if directory is None or not os.path.isdir(directory):
        raise SettingError(f"{directory!r} is no directory; tls: takes one with .pem files: tls:DIRECTORY:PORT")
    if not glob.glob(os.path.join(glob.escape(directory), "*.pem")):
        raise SettingError(f"there is no .pem file in {directory!r}")
