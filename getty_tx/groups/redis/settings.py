"""
Texts that name an engine in Redis::

    redis://localhost                                       port 6379, database 0, prefix getty
    redis://user:password@redis.example:6379/2?prefix=app
    rediss://redis.example?trustRoots=/etc/ca.pem           over TLS
    redis+unix:///run/redis/redis.sock?prefix=app&database=2

User and password are percent-encoded. What may follow the question mark: ``prefix``, ``passwordFile`` (a file whose
first line is the password), ``timeout`` in seconds, for ``redis+unix:`` ``user`` and ``database``, and for ``rediss:``
``trustRoots``, ``certificate`` and ``privateKey``.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from twisted.internet.endpoints import quoteStringArgument

from getty_tx.errors import SettingError
from getty_tx.groups.redis.engine import RedisEngine

if TYPE_CHECKING:
    from urllib.parse import SplitResult

__all__ = ["ALLOWED", "redisEngine"]

_UNIX = "redis+unix"
_COMMON = ("prefix", "passwordFile", "timeout")
#: What may stand behind the question mark, by scheme.
ALLOWED = {
    "redis": _COMMON,
    "rediss": (*_COMMON, "trustRoots", "certificate", "privateKey"),
    _UNIX: (*_COMMON, "user", "database"),
}

#: The most databases that one may want to name.
_MAX_DATABASE = 65535


def redisEngine(text: str) -> RedisEngine:
    """
    The engine that a text names.

    :raise SettingError: a part of it is wrong; the text says which, and never the password.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise SettingError(f"{_shown(text)}: {error}") from None
    if url.scheme not in ALLOWED:
        raise SettingError(f"{_shown(text)}: write redis://HOST, rediss://HOST or redis+unix:///PATH")
    if url.fragment:
        raise SettingError(f"{_shown(text)}: # stands for nothing here; in a password it is %23")
    options = _options(text, url)
    user, password = _credentials(text, url, options)
    if url.scheme == _UNIX:
        endpoint, database = _unix(text, url), _database(text, options.get("database", "0"))
    else:
        endpoint, database = _network(text, url, port, options), _database(text, url.path.removeprefix("/") or "0")
    given: dict[str, Any] = {"prefix": options["prefix"]} if "prefix" in options else {}
    if "timeout" in options:
        given["timeout"] = _seconds(text, options["timeout"])
    where = url.path if url.scheme == _UNIX else f"{url.hostname}:{port or 6379}"
    try:
        return RedisEngine(
            endpoint, user=user, password=password, database=database, description=f"Redis at {where}", **given
        )
    except SettingError as error:
        raise SettingError(f"{_shown(text)}: {error}") from None


def _shown(text: str) -> str:
    """The text without its password."""
    return repr(re.sub(r"//[^/]*@", "//...@", text))


def _options(text: str, url: SplitResult) -> dict[str, str]:
    allowed = ALLOWED[url.scheme]
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise SettingError(f"{_shown(text)}: after ? write name=value, with & between them") from None
    for name, value in pairs:
        if name not in allowed:
            raise SettingError(f"{_shown(text)}: there is no {name}=; there are {', '.join(allowed)}")
        if name in options or not value:
            raise SettingError(f"{_shown(text)}: {name}= is {'there twice' if value else 'empty'}")
        options[name] = value
    return options


def _credentials(text: str, url: SplitResult, options: dict[str, str]) -> tuple[str | None, str | None]:
    user = unquote(url.username or "") or options.get("user")
    password = None if url.password is None else unquote(url.password)
    path = options.get("passwordFile")
    if path is not None:
        if password is not None:
            raise SettingError(f"{_shown(text)}: there are a password and passwordFile=; keep one of them")
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise SettingError(f"{_shown(text)}: passwordFile={path} cannot be read: {error}") from None
        password = lines[0] if lines else ""
    if password == "":
        raise SettingError(f"{_shown(text)}: the password is empty")
    if user is not None and password is None:
        # Nothing of it is shown: a single text before the @ is often meant as the password.
        raise SettingError(f"{_shown(text)}: a user needs a password, USER:PASSWORD@; a password alone is :PASSWORD@")
    return user, password


def _unix(text: str, url: SplitResult) -> str:
    if url.hostname or not url.path.startswith("/") or url.path == "/":
        raise SettingError(f"{_shown(text)}: write the whole path of a socket, redis+unix:///run/redis/redis.sock")
    return f"unix:{quoteStringArgument(unquote(url.path))}"


def _network(text: str, url: SplitResult, port: int | None, options: dict[str, str]) -> str:
    if not url.hostname:
        raise SettingError(f"{_shown(text)}: there is no host, such as {url.scheme}://localhost")
    if port == 0:
        raise SettingError(f"{_shown(text)}: port 0 is not a number from 1 to 65535")
    if ("certificate" in options) != ("privateKey" in options):
        raise SettingError(f"{_shown(text)}: certificate= and privateKey= go together")
    endpoint = f"{quoteStringArgument(url.hostname)}:{port or 6379}"
    if url.scheme == "redis":
        return f"tcp:{endpoint}"
    for name in ("trustRoots", "certificate", "privateKey"):
        if name in options:
            endpoint += f":{name}={quoteStringArgument(options[name])}"
    return f"tls:{endpoint}"


def _database(text: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= _MAX_DATABASE):
        raise SettingError(f"{_shown(text)}: database {value!r} is not a number such as 0")
    return int(value)


def _seconds(text: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise SettingError(f"{_shown(text)}: timeout={value} is not a number of seconds, more than 0 and up to 3600")
    return seconds
