"""From the header fields of a stream to a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from getty_tx.http.fields import Fields
from getty_tx.http.head import METHODS
from getty_tx.http.refusals import Refused
from getty_tx.http.request import Request

if TYPE_CHECKING:
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.two.interfaces import Headers

__all__ = ["Heads", "fieldsOf"]

#: As on a request line of HTTP/1.1: neither a fragment nor a backslash.
_TARGET = re.compile(rb"[!\"$-\[\]-~]+")

#: Bytes of a field beside its name and its value, as RFC 9113, 6.5.2 counts them.
_PAIR = 32

#: Bytes of fields and path that are kept to be compared with the next ones, at most. Each connection keeps those of one
#: request.
MAX_LAST = 512

#: Bytes that some take for an end of line. The engine refuses the others.
_NEXT_LINE = b"\x85"


class Heads:
    """
    Makes requests of header fields, for one connection.

    :param context: the limits, and the memory of fields that were seen before.
    """

    __slots__ = ("_context", "_fields", "_last", "_method", "_target")

    def __init__(self, context: HTTPContext) -> None:
        self._context = context
        # The last header fields, and what they say: a client that polls sends the same ones again.
        self._last: Headers = ()
        self._method = ""
        self._target = b""
        self._fields: Any = None

    def requestOf(self, headers: Headers) -> Request:
        """
        Make a request of its header fields.

        :param headers: as the engine tells them: the pseudo-header fields first, names in lower case.
        :raise Refused: they ask for what is not served.
        """
        if headers != self._last:
            self._last = ()
            self._read(headers)
        return Request(self._method, self._target, "2", self._fields)

    def _read(self, headers: Headers) -> None:
        context = self._context
        method = target = b""
        authority = None
        count = 0
        for name, value in headers:
            if name == b":path":
                target = value
            elif name == b":method":
                method = value
            elif name == b":authority":
                authority = value
            elif name[:1] != b":":
                break
            count += 1
        known = METHODS.get(method)
        if known is None or known == "CONNECT":
            raise Refused(501, "the method is not known")
        key = authority, *headers[count:]
        fields, size = context.seen.get(key, (None, 0))
        if fields is None:
            fields = fieldsOf(authority, headers[count:], context.maxFields)
            size = sum(len(name) + len(value) + _PAIR for name, value in headers[count:])
            context.keepSeen(key, fields, size)
        if len(target) > context._maxLine:
            raise Refused(414, f"the path has more than {context._maxLine} bytes")
        if target[:1] != b"/" and (target != b"*" or known != "OPTIONS"):
            raise Refused(400, "the path does not begin with a slash")
        if not _TARGET.fullmatch(target):
            raise Refused(400, "the path has a fragment, a backslash or a byte that is none of ASCII")
        if size + len(target) <= MAX_LAST:
            self._last = headers
        self._method = known
        self._target = target
        self._fields = fields


def fieldsOf(authority: bytes | None, pairs: Headers, maxFields: int) -> Fields:
    """
    What fields say, with ``:authority`` as ``host`` in front, and the pieces of a cookie joined.

    :raise Refused: they say what is not served.
    """
    if len(pairs) > maxFields:
        raise Refused(431, f"the head has more than {maxFields} fields")
    found: list[tuple[bytes, bytes]] = []
    crumbs: list[bytes] = []
    at = 0
    if authority is not None:
        found.append((b"host", authority))
    for name, value in pairs:
        if _NEXT_LINE in value:
            raise Refused(400, "a field has a byte 0x85, which some take for an end of line")
        if name == b"cookie":
            # A cookie comes in pieces, so that those which do not change are not sent again (RFC 9113, 8.2.3).
            if not crumbs:
                at = len(found)
                found.append((name, value))
            crumbs.append(value)
        elif name == b"host" and authority is not None:
            if value.lower() != authority.lower():
                raise Refused(400, ":authority is another host than Host")
        else:
            found.append((name, value))
    if len(crumbs) > 1:
        found[at] = b"cookie", b"; ".join(crumbs)
    fields = Fields(found)
    if fields.host is None:
        raise Refused(400, "there is neither :authority nor Host")
    return fields
