"""
The bodies of Dubbo's requests and replies: values of Hessian 2, one after the other.

A request is the version of the protocol, the path (the interface), the version of the service, the method, the types of
the arguments in one string, the arguments, and a map of attachments. A reply is an int and then: 0 an exception,
1 a value, 2 nothing, which is null; 3, 4 and 5 the same, and a map of attachments. What stands behind is skipped: there
are peers that write a null more.

Five strings of a request are the same from call to call; so are its attachments, as long as it has no metadata. They
are kept parsed by their bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.errors import NoSuchMethodError, PayloadError
from getty_tx.rpc.hessian import Decoder
from getty_tx.rpc.messages import ErrorReply, Reply, Request
from getty_tx.rpc.wires.dubboerrors import HESSIAN, OK, failedReply, thrownReply
from getty_tx.rpc.wires.dubbopayload import GENERIC
from getty_tx.rpc.wires.dubbotypes import GenericName, parseDescriptors
from getty_tx.settings import MAX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from getty_tx.rpc.errors import RpcError
    from getty_tx.rpc.hessian import Limits

__all__ = ["ATTACHED", "BY_NAME", "IDS", "NO_VERSION", "OWN", "PROTOCOL", "SERIALIZATION", "TWO_WAY", "Bodies"]

#: The version of the protocol that has attachments in replies.
PROTOCOL = "2.0.2"

#: Bits of a request's flags.
TWO_WAY, SERIALIZATION = 0x40, 0x1F

#: In the number of a call in, above the 64 bits of its id: it came by ``$invoke``; and, the highest, its caller takes
#: attachments.
IDS = (1 << 64) - 1
BY_NAME = 1 << 64
ATTACHED = 1 << 65

#: Attachments that the wire needs itself; the others are metadata.
OWN = frozenset(["dubbo", "generic", "group", "interface", "path", "timeout", "version"])

#: Dubbo's word for no version at all.
NO_VERSION = "0.0.0"

#: What is kept parsed, or packed, and the bytes of one at most.
KEPT = 1024
KEPT_BYTES = 512

#: Versions of the protocol whose callers take attachments with a reply, 2.0.2 to 2.0.9: those for which all versions of
#: Java's org.apache.dubbo.common.Version send them. What is above is the version of a program, of which many take none.
_TAKES = re.compile(r"2\.0\.[2-9](?:[.-].*)?", re.DOTALL)

#: The kinds of generic calls whose arguments are plain values; others have Java's own serialization in them.
_PLAIN_GENERICS = ("", "true", "raw.return")


class Route:
    """
    The five strings of a request.

    :ivar name: ``Service/method``.
    :ivar wrong: why the call cannot be served, as its version is not that of the service; or None.
    :ivar group: the one that the service has, or None if it takes all.
    :ivar count: how many arguments there are.
    :ivar isGeneric: the method is named by the arguments.
    :ivar number: the bits of the call's number that say how it is answered.
    """

    __slots__ = ("count", "group", "isGeneric", "name", "number", "service", "wrong")

    def __init__(self, versions: Mapping[str, str], groups: Mapping[str, str], texts: list[str]) -> None:
        protocol, path, version, method, types = texts
        self.service = path
        self.name = f"{path}/{method}"
        self.wrong: str | None = None
        mine = versions.get(path)
        if mine is not None and mine != ("" if version == NO_VERSION else version):
            self.wrong = f"there is no {path} of the version {version!r:.80}: versions= of the wire has {mine!r} for it"
        self.group = groups.get(path)
        self.count = len(parseDescriptors(types))
        self.isGeneric = method in GENERIC
        self.number = (ATTACHED if takesAttachments(protocol) else 0) | (BY_NAME if self.isGeneric else 0)


def takesAttachments(protocol: str) -> bool:
    """Whether a caller with this version of the protocol takes attachments with a reply."""
    return _TAKES.fullmatch(protocol) is not None


class Attached:
    """
    The attachments of a request or a reply.

    :ivar timeout: seconds, or None.
    :ivar metadata: those that are not the wire's own, or None.
    """

    __slots__ = ("generic", "group", "metadata", "timeout")

    def __init__(self, found: dict[Any, Any]) -> None:
        self.timeout = _secondsOf(found.get("timeout"))
        self.group = _textOf(found.get("group")) or ""
        self.generic = _textOf(found.get("generic")) or ""
        metadata = {
            key: text
            for key, value in found.items()
            if type(key) is str and key not in OWN and (text := _textOf(value)) is not None
        }
        self.metadata = metadata or None


def _textOf(value: Any) -> str | None:
    """An attachment as a text; None for what is neither a text nor a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    return str(float(value)) if isinstance(value, float) else None


def _secondsOf(value: Any) -> float | None:
    """Milliseconds as seconds; None for no limit, and for what is no number."""
    text = _textOf(value)
    if text is None or re.fullmatch(r"[0-9]{1,18}", text) is None:
        return None
    return min(int(text) / 1000, MAX_SECONDS) or None


class Bodies:
    """
    Reads bodies, for all sessions of a wire.

    :param versions: those of services.
    :param groups: likewise.
    :param limits: of the values.
    :param maxMetadata: bytes of the attachments, at most.
    :param maxNames: as many may there be.
    """

    def __init__(
        self, versions: Mapping[str, str], groups: Mapping[str, str], limits: Limits, maxMetadata: int, maxNames: int
    ) -> None:
        self._versions = versions
        self._groups = groups
        self._limits = limits
        self._maxMetadata = maxMetadata
        self._maxNames = maxNames
        self._routes: dict[bytes, Route] = {}
        self._tails: dict[bytes, Attached] = {}

    # Requests

    def request(self, number: int, flags: int, body: bytes, refusal: Callable[[], RpcError | None]) -> Request:
        """
        The request of a body; if it cannot be read, or is not to be, one whose payload is the error that says why.

        :param number: as the caller has it.
        :param refusal: asked when the name is known, before the arguments are decoded: those may be the most of it.
        """
        isOneWay = not flags & TWO_WAY
        name = ""
        try:
            if flags & SERIALIZATION != HESSIAN:
                other = flags & SERIALIZATION
                raise PayloadError(f"its serialization is {other}, not {HESSIAN}, which serialization=hessian2 names")
            at = endOfRoute(body)
            route = self._routes.get(body[:at])
            if route is None:
                route, at = self._route(body)
            name = route.name
            number |= route.number
            if route.wrong is not None:
                raise NoSuchMethodError(route.wrong)
            refused = refusal()
            if refused is not None:
                return Request(number, name, refused, None, None, isOneWay)
            decoder = Decoder(body, self._limits, at)
            arguments = decoder.readMany(route.count)
            rest = body[decoder.at :]
            attached = self._tails.get(rest)
            if attached is None:
                attached = self._attached(decoder, rest)
            group = route.group
            if group is not None and group != attached.group:
                why = f"of the group {attached.group!r:.80}: groups= of the wire has {group!r} for it"
                raise NoSuchMethodError(f"there is no {route.service} {why}")
            if route.isGeneric:
                name, arguments = _generic(route, attached, arguments)
        except NoSuchMethodError as error:
            return Request(number, name, error, None, None, isOneWay)
        except PayloadError as error:
            why = f"{name:.200}: {error}" if name else f"a request that cannot be read: {error}"
            return Request(number, name, PayloadError(why), None, None, isOneWay)
        return Request(number, name, arguments, attached.timeout, attached.metadata, isOneWay)

    def _route(self, body: bytes) -> tuple[Route, int]:
        """The strings of a request that are not known yet, and where they end."""
        decoder = Decoder(body, self._limits)
        texts: list[str] = []
        for what in ("version of the protocol", "path", "version", "method", "types"):
            text = decoder.read()
            if text is not None and not isinstance(text, str):
                raise PayloadError(f"the {what} is a {type(text).__name__}")
            texts.append(text or "")
        route = Route(self._versions, self._groups, texts)
        if decoder.at <= KEPT_BYTES:
            if len(self._routes) >= KEPT:
                self._routes.clear()
            self._routes[body[: decoder.at]] = route
        return route, decoder.at

    def _attached(self, decoder: Decoder, rest: bytes) -> Attached:
        """The attachments at the end of a body."""
        began = decoder.at
        found = decoder.read() if rest else None
        if found is None:
            return _NONE
        if not isinstance(found, dict):
            raise PayloadError(f"the attachments are a {type(found).__name__}, and no map")
        size, most = decoder.at - began, self._maxMetadata
        if size > most:
            raise PayloadError(f"{size} bytes of metadata are above maxMetadata={most}")
        if len(found) > self._maxNames:
            raise PayloadError(f"{len(found)} names of metadata are above the {self._maxNames} of maxMetadata={most}")
        attached = Attached(found)
        # Without references to what stands before: their bytes would mean something else there.
        isPlain = all(isinstance(each, str) for pair in found.items() for each in pair)
        if attached.metadata is None and isPlain and len(rest) <= KEPT_BYTES:
            if len(self._tails) >= KEPT:
                self._tails.clear()
            self._tails[rest] = attached
        return attached

    # Replies

    def reply(self, number: int, flags: int, status: int, body: bytes) -> Reply | ErrorReply:
        """The reply of a body; if it cannot be read, one whose payload is the PayloadError that says why."""
        serialization = flags & SERIALIZATION
        if status != OK:
            return failedReply(number, status, serialization, body, self._limits)
        try:
            if serialization != HESSIAN:
                raise PayloadError(f"a reply with the serialization {serialization}, which is not Hessian 2")
            # An int of one byte, as all write it.
            kind = body[0] - 0x90 if body else -1
            if 0 <= kind <= 5:
                decoder = Decoder(body, self._limits, 1)
            else:
                decoder = Decoder(body, self._limits)
                kind = decoder.read()
                if kind is None:
                    # dubbo-remoting says null by a null alone.
                    return Reply(number, None)
                if type(kind) is not int or not 0 <= kind <= 5:
                    raise PayloadError(f"a reply of the unknown kind {kind!r:.40}")
            value = decoder.read() if kind not in (2, 5) else None
            metadata = None
            if kind >= 3:
                rest = body[decoder.at :]
                attached = self._tails.get(rest)
                if attached is None:
                    attached = self._attached(decoder, rest)
                metadata = attached.metadata
        except PayloadError as error:
            return Reply(number, error)
        if kind in (0, 3):
            return thrownReply(number, value, metadata)
        return Reply(number, value, metadata)


_NONE = Attached({})


def endOfRoute(body: bytes) -> int:
    """
    Where the fifth string ends, if each is null or has up to 1023 characters of ASCII.

    For others it is any number: what stands before it is not known then.
    """
    at = 0
    most = len(body) - 1
    for _ in range(5):
        if at >= most:
            return 0
        first = body[at]
        if first < 0x20:
            at += first + 1
        elif first & 0xFC == 0x30:
            at += ((first & 3) << 8) + body[at + 1] + 2
        elif first == 0x4E:
            at += 1
        else:
            return 0
    return at


def _generic(route: Route, attached: Attached, arguments: list[Any]) -> tuple[str, list[Any]]:
    """The method and the arguments of a generic call."""
    if attached.generic.lower() not in _PLAIN_GENERICS:
        raise PayloadError(f"generic={attached.generic!r:.40} is not served here; generic=true is")
    method, _, values = arguments if len(arguments) == 3 else (None, None, None)
    if not isinstance(method, str) or not isinstance(values, list | None):
        raise PayloadError("it takes a method, the names of its types, and a list of arguments")
    name = f"{route.service}/{method}"
    return (name if attached.generic.lower() == "raw.return" else GenericName(name)), values or []
