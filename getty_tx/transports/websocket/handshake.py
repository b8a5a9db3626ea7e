"""
A check of the head of a WebSocket handshake before Autobahn reads it.

Autobahn splits a head with ``str.splitlines`` and ``str.strip``, after decoding it as ISO-8859-1. So 0x0b, 0x0c, 0x1c
to 0x1e, 0x85 and a bare CR or LF end a line, and a line may begin with blanks: text that a proxy reads as part of a
field, or as its continuation, would be a separate field. Autobahn also ignores lines without a colon. A head that
passes this check has the same meaning for both.

A Host or Sec-WebSocket-* field that occurs twice is refused, because a proxy may have used the other one. RFC 6455
allows Sec-WebSocket-Extensions and -Protocol twice in a request (sections 11.3.2 and 11.3.4), but no client of
tests/transports/websocket/test_deflate_offers.py does that.
"""

from __future__ import annotations

import re

__all__ = ["checkHead"]

# One blank separates the parts. Autobahn accepts several, of any kind: 0x85 and 0xa0 are blanks in ISO-8859-1.
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~\x80-\x84\x86-\x9f\xa1-\xff]+ [!-~]+")
_STATUS_LINE = re.compile(rb"[!-~]+ [0-9]{3}(?: [\t -~\x80-\x84\x86-\xff]*)?")

# RFC 9110, section 5, with `obs-text` but without 0x85, which ends a line for Autobahn.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t -~\x80-\x84\x86-\xff]*")
_WRONG = re.compile(rb"[^\t -~\x80-\x84\x86-\xff]")

#: The fields that the handshake depends on, in addition to those that begin with ``_PREFIX``.
_READ = frozenset([b"connection", b"host", b"origin", b"upgrade"])

#: Of these, the fields that may occur several times, because every parser joins them to one list.
_LISTS = frozenset([b"connection", b"upgrade"])

#: The names of the fields that only this handshake has begin with this.
_PREFIX = b"sec-websocket-"

#: Bytes of a line that a reason shows.
_SHOWN = 60


def checkHead(head: bytes, isRequest: bool) -> str | None:
    """
    The reason to refuse a head, or None.

    :param head: from the first line to the last field, without the empty line after it.
    """
    first, *fields = head.split(b"\r\n")
    if not (_REQUEST_LINE if isRequest else _STATUS_LINE).fullmatch(first):
        return f"no {'request' if isRequest else 'status'} line: {first[:_SHOWN]!r}"
    seen = set()
    for line in fields:
        found = _FIELD.fullmatch(line)
        if found is None:
            wrong = _WRONG.search(line)
            what = "no header field" if wrong is None else f"byte 0x{line[wrong.start()]:02x} in a header field"
            return f"{what}: {line[:_SHOWN]!r}"
        name = found[1].lower()
        if name.startswith(_PREFIX) or name in _READ:
            # Autobahn strips a no-break space, 0xa0, from values and from the items of a list.
            if not line.isascii():
                return f"{name.decode()} is not ASCII: {line[:_SHOWN]!r}"
            if name in seen and name not in _LISTS:
                return f"{name.decode()} stands twice: {line[:_SHOWN]!r}"
            seen.add(name)
    return None
