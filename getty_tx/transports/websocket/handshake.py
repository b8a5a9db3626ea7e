"""
What the head of a WebSocket handshake may look like: a check before Autobahn reads it.

Autobahn takes a head apart with ``str.splitlines`` and ``str.strip``, after decoding it as ISO-8859-1: 0x0b, 0x0c, 0x1c
to 0x1e, 0x85 and a bare CR or LF end a line there, and a line may begin with blanks. So what is inside a field for a
proxy, or the continuation of one, would be a field of its own. It passes over lines without a colon, too. What this
check lets through has one meaning for both.

A Host or Sec-WebSocket-* field that stands twice is refused as well: a proxy may have looked at the other one. RFC 6455
allows two of Sec-WebSocket-Extensions and -Protocol in a request (sections 11.3.2 and 11.3.4), and no client of
tests/transports/websocket/test_deflate_offers.py sends them so.
"""

from __future__ import annotations

import re

__all__ = ["checkHead"]

# One blank divides the parts, where Autobahn takes any number of any: 0x85 and 0xa0 are blanks in ISO-8859-1.
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~\x80-\x84\x86-\x9f\xa1-\xff]+ [!-~]+")
_STATUS_LINE = re.compile(rb"[!-~]+ [0-9]{3}(?: [\t -~\x80-\x84\x86-\xff]*)?")

# RFC 9110, section 5. Of the bytes of `obs-text` 0x85 is missing, where Autobahn ends a line.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t -~\x80-\x84\x86-\xff]*")
_WRONG = re.compile(rb"[^\t -~\x80-\x84\x86-\xff]")

#: The fields that the handshake depends on, beside those that begin with ``_PREFIX``.
_READ = frozenset([b"connection", b"host", b"origin", b"upgrade"])

#: Of these, the fields whose lines are one list for everybody.
_LISTS = frozenset([b"connection", b"upgrade"])

#: What the names of the fields begin with that only this handshake has.
_PREFIX = b"sec-websocket-"

#: Bytes of a line that a reason shows.
_SHOWN = 60


def checkHead(head: bytes, isRequest: bool) -> str | None:
    """
    Why a head is not to be read, or None.

    :param head: from the first line to the last field, without the empty line behind it.
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
