"""From the header fields of a stream to a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from getty_tx.http.fields import Fields
from getty_tx.http.head import METHODS
from getty_tx.http.refusals import Refused
from getty_tx.http.request import Request

if TYPE_CHECKING:
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.two.interfaces import Headers

__all__ = ["requestOf"]

#: As on a request line of HTTP/1.1: neither a fragment nor a backslash.
_TARGET = re.compile(rb"[!\"$-\[\]-~]+")

#: Bytes of a field beside its name and its value, as RFC 9113, 6.5.2 counts them.
_PAIR = 32

#: Bytes that some take for an end of line. The engine refuses the others.
_NEXT_LINE = b"\x85"


def requestOf(headers: Headers, context: HTTPContext) -> Request:
    """
    Make a request of its header fields.

    :param headers: as the engine tells them: the pseudo-header fields first, names in lower case.
    :param context: its limits, and its memory of fields that were seen before.
    :raise Refused: they ask for what is not served.
    """
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
    fields = context.seen.get(key)
    if fields is None:
        fields = _fieldsOf(authority, headers[count:], context)
        context.keepSeen(key, fields, sum(len(name) + len(value) + _PAIR for name, value in headers))
    if len(target) > context.maxLine:
        raise Refused(414, f"the path has more than {context.maxLine} bytes")
    if target[:1] != b"/" and (target != b"*" or known != "OPTIONS"):
        raise Refused(400, "the path does not begin with a slash")
    if not _TARGET.fullmatch(target):
        raise Refused(400, "the path has a fragment, a backslash or a byte that is none of ASCII")
    return Request(known, target, "2", fields)


def _fieldsOf(authority: bytes | None, pairs: Headers, context: HTTPContext) -> Fields:
    if len(pairs) > context.maxFields:
        raise Refused(431, f"the head has more than {context.maxFields} fields")
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
