"""
Texts that name a registry, such as ``etcd:10.0.0.1:2379``, or a service in one, such as ``service:echo``::

    dir:/run/getty[:mode=0750]
    file:/etc/services.toml
    static:tcp\\:a\\:8090,tcp\\:b\\:8090
    dns:[NAME][:server=HOST\\:PORT][:kind=tcp]
    etcd:HOST[,HOST...][:PORT][:prefix=/getty][:ttl=15][:user=NAME][:passwordFile=PATH]
        [:tls=yes][:trustRoots=ca.pem][:certificate=c.pem][:privateKey=k.pem]
    zookeeper:HOST[,HOST...][:PORT][:prefix=/getty][:layout=getty|dubbo][:timeout=10][:user=NAME][:passwordFile=PATH]
        [:tls=yes][:trustRoots=ca.pem][:certificate=c.pem][:privateKey=k.pem]

As in Twisted's descriptions of endpoints, colons separate arguments, and ``\\:`` is a colon in one. A host may have a
port of its own, ``10.0.0.1\\:2379``; one of IPv6 is ``[\\:\\:1]`` or ``\\:\\:1``. Other prefixes are those of Twisted
plugins that provide :py:class:`~getty_tx.registry.interfaces.IRegistryParser`.

No password stands in a text: a file has it. Engines are imported when they are asked for.
"""

from __future__ import annotations

import os
import re
import tempfile
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import quoteStringArgument
from twisted.plugin import getPlugins

from getty_tx.errors import SettingError
from getty_tx.registry.interfaces import IRegistryParser
from getty_tx.registry.provider import checkService
from getty_tx.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from getty_tx.registry.interfaces import IRegistry

__all__ = ["defaultRegistry", "defaultText", "parseService", "registryFrom"]

#: Seconds of the longest lease or session that makes sense: an hour.
MAX_TIME = 3600

#: What takes a password in clear in other systems' texts. It is not repeated in the error.
_SECRETS = frozenset({"password", "passwd", "pass", "secret", "token"})


def registryFrom(text: str, reactor: Any = None) -> IRegistry:
    """
    The registry that a text names. Nothing is connected before it is started.

    :param text: see :py:mod:`getty_tx.registry.parse`, such as ``dir:/run/getty``.
    :param reactor: by default the installed one, when it is started.
    :raise SettingError: the text is wrong, with the text, the argument, and what would be right.
    """
    prefix, args, named = split(text)
    if prefix in _ENGINES:
        return Registry(_ENGINES[prefix](text, args, named), reactor=reactor)
    found: dict[str, Any] = {}
    for parser in getPlugins(IRegistryParser):
        found[parser.prefix] = parser
    if prefix not in found:
        known = ", ".join(f"{each}:" for each in sorted([*_ENGINES, *found]))
        raise _wrong(text, f"there is no {prefix + ':'!r}; there are {known}")
    registry: IRegistry = found[prefix].parseRegistry(reactor, *args, **named)
    return registry


def defaultText() -> str:
    """What is taken when no registry is named: GETTY_REGISTRY, or ``dir:`` of a directory of this user."""
    text = os.environ.get("GETTY_REGISTRY")
    if text:
        return text
    if os.geteuid() == 0:
        return "dir:/run/getty"
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if folder:
        return f"dir:{quoteStringArgument(os.path.join(folder, 'getty'))}"
    path = os.path.join(tempfile.gettempdir(), f"getty-{os.geteuid()}")
    return f"dir:{quoteStringArgument(path)}:mode=0700"


def defaultRegistry(reactor: Any = None) -> IRegistry:
    """
    The registry that is used when none is named: that of the environment variable GETTY_REGISTRY, or a directory of
    this user: ``dir:$XDG_RUNTIME_DIR/getty``, root's ``dir:/run/getty``, or else ``dir:/tmp/getty-UID``.

    :param reactor: as for :py:func:`registryFrom`.
    :raise SettingError: GETTY_REGISTRY is wrong, or others can write to the directory.
    """
    return registryFrom(defaultText(), reactor)


def parseService(text: str) -> tuple[str, dict[str, str]]:
    """
    A service and filters of ``service:NAME[:group=G][:version=V]``.

    :return: the name, and what providers have to have, by attribute. The group may be ``*`` for any.
    :raise SettingError: it is no such text.
    """
    prefix, args, named = split(text)
    if prefix != "service" or len(args) != 1:
        raise _wrong(text, "write service:NAME[:group=G][:version=V]")
    _checkNames(text, named, {"group", "version"})
    for name, value in named.items():
        if not value.isprintable():
            raise _wrong(text, f"{name}={value!r} has characters that cannot be")
    try:
        return checkService("service", args[0]), named
    except SettingError as error:
        raise _wrong(text, f"{error}") from None


def split(text: str) -> tuple[str, list[str], dict[str, str]]:
    """
    The prefix, the arguments, and those with names.

    :raise SettingError: there is no prefix, or a name stands there twice.
    """
    if not isinstance(text, str) or ":" not in text:
        raise SettingError(f"{text!r} is not a text such as 'dir:/run/getty' or 'etcd:10.0.0.1:2379'")
    args: list[str] = []
    named: dict[str, str] = {}
    name: str | None = None
    word = ""
    # As in Twisted's descriptions, a backslash escapes the next character.
    for token in [*re.findall(r"\\.|[^\\]|\\$", text, re.DOTALL), ":"]:
        if token == ":":
            if name is None:
                args.append(word)
            elif name in named:
                raise _wrong(text, f"{name}= stands there twice")
            else:
                named[name] = word
            name, word = None, ""
        elif token == "=" and name is None and args:
            name, word = word, ""
        else:
            word += token[-1]
    return args[0], args[1:], named


def _wrong(text: str, why: str) -> SettingError:
    """The error, without what looks like a password."""
    text = re.sub(rf"(?i)\b({'|'.join(_SECRETS)})=(?:[^:\\]|\\.)*", r"\1=...", text)
    return SettingError(f"{re.sub('//[^/]*@', '//...@', text)!r}: {why}")


def _checkNames(text: str, named: Mapping[str, str], allowed: set[str]) -> None:
    for name in named.keys() - allowed:
        if name.lower() in _SECRETS:
            raise _wrong(text, f"{name}= would be seen: write it into a file, passwordFile=PATH")
        can = ", ".join(f"{each}=" for each in sorted(allowed)) or "none"
        raise _wrong(text, f"there is no argument {name}=; there are {can}")


def _one(text: str, args: list[str], what: str) -> str:
    if len(args) != 1 or not args[0]:
        raise _wrong(text, f"write {what}; a colon in it is \\:")
    return args[0]


def _engine(module: str, name: str) -> Any:
    return getattr(import_module(f"getty_tx.registry.{module}"), name)


def _directory(text: str, args: list[str], named: dict[str, str]) -> Any:
    path = _one(text, args, "dir:PATH, such as dir:/run/getty")
    _checkNames(text, named, {"mode"})
    mode = named.get("mode", "0750")
    if not re.fullmatch("0?[0-7]{3}", mode) or int(mode, 8) & 0o722 != 0o700:
        raise _wrong(text, f"mode={mode} is not one such as 0750: only its owner may write")
    return _engine("directory", "DirectoryEngine")(path, int(mode, 8))


def _file(text: str, args: list[str], named: dict[str, str]) -> Any:
    path = _one(text, args, "file:PATH, such as file:/etc/services.toml")
    _checkNames(text, named, set())
    return _engine("static", "FileEngine")(path)


def _static(text: str, args: list[str], named: dict[str, str]) -> Any:
    endpoints = _one(text, args, r"static:ENDPOINT[,ENDPOINT...], such as static:tcp\:a\:8090,tcp\:b\:8090")
    _checkNames(text, named, set())
    return _engine("static", "StaticEngine")(endpoints.split(","))


def _dns(text: str, args: list[str], named: dict[str, str]) -> Any:
    _checkNames(text, named, {"kind", "server"})
    if len(args) > 1:
        raise _wrong(text, "write dns:NAME or dns: alone; a colon in a server is \\:")
    servers = [_hostPort(text, "server", each, 53) for each in named["server"].split(",")] if "server" in named else []
    name = args[0] if args else ""
    return _engine("dns", "DNSEngine")(name, servers=servers, kind=named.get("kind", "tcp"))


_CLUSTER = ("prefix", "user", "passwordFile", "trustRoots", "certificate", "privateKey", "tls")


def _etcd(text: str, args: list[str], named: dict[str, str]) -> Any:
    _checkNames(text, named, {*_CLUSTER, "ttl"})
    endpoints = _endpoints(text, "etcd", args, 2379)
    settings = _cluster(text, named)
    if "ttl" in named:
        settings["ttl"] = _number(text, "ttl", named["ttl"])
    return _engine("etcd", "EtcdEngine")(endpoints=endpoints, **settings)


def _zookeeper(text: str, args: list[str], named: dict[str, str]) -> Any:
    _checkNames(text, named, {*_CLUSTER, "layout", "timeout"})
    endpoints = _endpoints(text, "zookeeper", args, 2181)
    settings = _cluster(text, named)
    if "timeout" in named:
        settings["timeout"] = _number(text, "timeout", named["timeout"])
    if "layout" in named:
        if named["layout"] not in ("getty", "dubbo"):
            raise _wrong(text, f"layout={named['layout']} is neither getty nor dubbo")
        settings["layout"] = named["layout"]
    return _engine("zookeeper", "ZooKeeperEngine")(endpoints, **settings)


def _cluster(text: str, named: dict[str, str]) -> dict[str, Any]:
    """What both have. What is not there keeps the engine's default."""
    found: dict[str, Any] = {name: named[name] for name in _CLUSTER if name in named and name != "tls"}
    for name, value in found.items():
        if not value:
            raise _wrong(text, f"{name}= is empty; leave it out or write a value")
    if "prefix" in found and not re.fullmatch(r"(?:/[^/\s]+)+", found["prefix"]):
        raise _wrong(text, f"prefix={found['prefix']} is not one such as /getty")
    if ("user" in found) != ("passwordFile" in found):
        raise _wrong(text, "user= and passwordFile= go together")
    if ("certificate" in found) != ("privateKey" in found):
        raise _wrong(text, "certificate= and privateKey= go together")
    isSecret = "trustRoots" in found or "certificate" in found
    tls = named.get("tls", "yes" if isSecret else "no")
    if tls not in ("yes", "no") or (tls == "no" and isSecret):
        raise _wrong(text, f"tls={tls} is not yes, or no without trustRoots= and certificate=")
    found["tls"] = tls == "yes"
    return found


def _number(text: str, name: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or not 2 <= int(value) <= MAX_TIME:
        raise _wrong(text, f"{name}={value} is not a number of seconds from 2 to {MAX_TIME}")
    return int(value)


def _endpoints(text: str, prefix: str, args: list[str], port: int) -> list[tuple[str, int]]:
    """The hosts, each with a port."""
    if len(args) not in (1, 2) or not args[0]:
        raise _wrong(
            text, f"write {prefix}:HOST[,HOST...][:PORT], such as {prefix}:10.0.0.1:{port}; a colon in a host is \\:"
        )
    if len(args) == 2:
        port = _port(text, args[1])
    return [_hostPort(text, "host", each, port) for each in args[0].split(",")]


def _hostPort(text: str, name: str, value: str, port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[::1]``, ``[::1]:port`` or ``::1``."""
    match = re.fullmatch(r"\[([^\]]+)\](?::(.+))?", value)
    if match is not None and isIPv6Address(match[1]):
        return match[1], port if match[2] is None else _port(text, match[2])
    if isIPv6Address(value):
        return value, port
    host, colon, rest = value.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", host):
        raise _wrong(text, f"{name} {value!r} is not one such as 10.0.0.1, db.example.org or [\\:\\:1]")
    return host, _port(text, rest) if colon else port


def _port(text: str, value: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", value) or not 0 < int(value) < 65536:
        raise _wrong(text, f"port {value!r} is not a number from 1 to 65535")
    return int(value)


_ENGINES: dict[str, Callable[[str, list[str], dict[str, str]], Any]] = {
    "dir": _directory,
    "file": _file,
    "static": _static,
    "dns": _dns,
    "etcd": _etcd,
    "zookeeper": _zookeeper,
}
