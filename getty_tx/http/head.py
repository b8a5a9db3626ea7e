"""From the bytes of a head to a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from getty_tx.http.fields import CHUNKED, parseFields
from getty_tx.http.refusals import Refused
from getty_tx.http.request import Request

if TYPE_CHECKING:
    from getty_tx.http.context import HTTPContext

__all__ = ["checkBeginning", "parseHead"]

_METHODS = """
    GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY
    MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK
    UNLOCK UNSUBSCRIBE
"""

#: Methods, as httptools knows them; others are answered with 501.
METHODS: dict[bytes, str] = {name.encode(): name for name in _METHODS.split()}

#: A request line that is served: no space is doubled, and the target has neither a fragment nor a backslash.
_LINE = re.compile(rb"([A-Z-]+) ([!\"$-\[\]-~]+) HTTP/1\.([01])\r\n")

#: What else begins as one, to tell which answer is right.
_LIKE_A_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) ([A-Z]+)/([0-9])\.([0-9])\r\n")

#: How a method begins; what does not is another protocol, such as TLS.
_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)


def parseHead(data: bytes, at: int, stop: int, context: HTTPContext) -> Request:
    """
    Make a request of its head.

    :param data: bytes of which the head begins at byte ``at``, and ends before ``stop``, with its empty line.
    :param context: its limits, and its memory of fields that were seen before.
    :raise Refused: the head is malformed, or asks for what is not served.
    """
    line = _LINE.match(data, at, stop)
    if line is None:
        raise _wrongLine(data[at:stop], context)
    end = line.end()
    if end - at > context._maxLine:
        raise Refused(414, f"the request line has more than {context._maxLine} bytes")
    name, target, minor = line.groups()
    method = METHODS.get(name)
    if method is None or method == "CONNECT":
        raise Refused(501, "the method is not known")
    block = data[end:stop]
    fields = context.known.get(block)
    if fields is None:
        if stop - at > context._maxHead:
            raise Refused(431, f"the head has more than {context._maxHead} bytes")
        fields = parseFields(data[at:stop], context._maxFields)
        context.keep(block, fields)
    if minor == b"0":
        if fields.length == CHUNKED:
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
        request = Request(method, target, "1.0", fields)
        request.keepAlive = fields.keeps and not fields.closes
        request.expects = request.isUsual = False
    else:
        if fields.host is None:
            raise Refused(400, "there is no Host")
        request = Request(method, target, "1.1", fields)
    if target[0] != 47:
        _otherTarget(request, target)
    return request


def _otherTarget(request: Request, target: bytes) -> None:
    """A target that does not begin with a slash (RFC 9112, 3.2)."""
    if target == b"*" and request.method == "OPTIONS":
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Refused(400, "the target is neither a path nor a URL")
    authority, path = absolute.groups()
    host = request.fields.host
    if host is not None and authority.lower() != host.lower():
        raise Refused(400, "the target names another host than Host")
    request.target = path if path.startswith(b"/") else b"/" + path


def _wrongLine(head: bytes, context: HTTPContext) -> Refused:
    end = head.find(b"\r\n")
    if end + 2 > context._maxLine:
        return Refused(414, f"the request line has more than {context._maxLine} bytes")
    like = _LIKE_A_LINE.match(head)
    if like is None:
        return Refused(400, "the request line is malformed")
    name, _, protocol, major, minor = like.groups()
    if protocol != b"HTTP" or (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        return Refused(505, "the protocol is neither HTTP/1.1 nor HTTP/1.0")
    if name not in METHODS:
        return Refused(501, "the method is not known")
    return Refused(400, "the target has a fragment or a backslash")


def checkBeginning(data: bytes, at: int, context: HTTPContext) -> None:
    """
    Check a head of which the end has not come.

    :param data: what is there; the head begins at byte ``at``.
    :raise Refused: it cannot become one that is served.
    """
    if not _BEGINNING.match(data, at) and at < len(data) and data[at] != 13:
        raise Refused(400, "the request line is malformed")
    line = data.find(b"\r\n", at, at + context._maxLine)
    if line < 0 and len(data) - at > context._maxLine:
        raise Refused(414, f"the request line has more than {context._maxLine} bytes")
    if len(data) - at > context._maxHead:
        raise Refused(431, f"the head has more than {context._maxHead} bytes")
    lines = data.count(b"\r\n", at)
    if lines > context._maxFields + 1:
        raise Refused(431, f"the head has more than {context._maxFields} fields")
    if data.count(b"\n", at) != lines or data.count(b"\r", at) - data.endswith(b"\r") != lines:
        raise Refused(400, "a line does not end with CR LF")
    if line >= 0 and not _LINE.match(data, at):
        raise _wrongLine(data[at:], context)
