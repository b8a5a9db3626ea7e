"""The fields of a head: what they say of the body and of the connection, and what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from getty_tx.http.refusals import Refused

try:
    from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
except ImportError as error:
    raise ImportError("getty_tx.http needs httptools: pip install 'getty_tx[http]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHUNKED", "Fields", "parseFields"]

#: The length of a body that comes in chunks.
CHUNKED = -1

#: The largest length that is a number of bytes: more is refused as too large, whatever the limit.
_MAX_LENGTH = 2**63 - 1

#: RFC 3986, 3.2.2 and 3.2.3: a name or an address, and a port.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")

#: Bytes that some parsers take for an end of line. httptools refuses the others.
_NEXT_LINE = b"\x85"


class _Names:
    """Takes the fields from the parser."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found.append((name.lower(), value.rstrip(b" \t")))


class Fields:
    """
    The fields of a head.

    :ivar headers: name and value of each, in their order; names in lower case.
    :ivar values: the value by name; those of the same name are joined as RFC 9110, 5.2 says.
    :ivar host: the value of ``Host``; None: there is none.
    :ivar length: bytes of the body; 0: there is none; :py:data:`CHUNKED`.
    :ivar closes: ``Connection`` has ``close``.
    :ivar keeps: ``Connection`` has ``keep-alive``.
    :ivar upgrade: the protocol that ``Upgrade`` asks for, in lower case, if ``Connection`` names it; else empty.
    :ivar expects: ``Expect`` asks for 100 (Continue).
    """

    __slots__ = ("closes", "expects", "headers", "host", "keeps", "length", "upgrade", "values")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = tuple(headers)
        values = self.values = dict(headers)
        if len(values) != len(headers):
            self._join(headers)
        self.host = values.get(b"host")
        self.length = 0
        self.closes = self.keeps = self.expects = False
        self.upgrade = b""
        length = values.get(b"content-length")
        coding = values.get(b"transfer-encoding")
        if coding is not None:
            if length is not None:
                raise Refused(400, "Content-Length and Transfer-Encoding exclude each other")
            coding = coding.lower()
            if coding != b"chunked":
                if coding.endswith(b"chunked"):
                    raise Refused(501, "the only transfer coding is chunked")
                raise Refused(400, "Transfer-Encoding does not end with chunked")
            self.length = CHUNKED
        elif length is not None:
            if not length.isdigit():
                raise Refused(400, "Content-Length is not a number")
            if len(length) > 40 or int(length) > _MAX_LENGTH:
                raise Refused(413, "Content-Length is too large")
            self.length = int(length)
        connection = values.get(b"connection")
        if connection is not None:
            tokens = [token.strip() for token in connection.lower().split(b",")]
            self.closes = b"close" in tokens
            self.keeps = b"keep-alive" in tokens
            if b"upgrade" in tokens:
                self.upgrade = values.get(b"upgrade", b"").lower()
        expect = values.get(b"expect")
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise Refused(417, "the only expectation that is met is 100-continue")
            self.expects = True
        if self.host is not None and not _HOST.fullmatch(self.host):
            raise Refused(400, "Host is no name or address")

    def _join(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        values: dict[bytes, bytes] = {}
        for name, value in headers:
            if name not in values:
                values[name] = value
            elif name == b"cookie":
                values[name] += b"; " + value
            elif name in _SINGLE:
                raise Refused(400, f"there are two fields {name.decode()}")
            else:
                values[name] += b", " + value
        self.values.update(values)


#: Fields of which two would be read differently by two programs.
_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding"})


def parseFields(head: bytes, maxFields: int) -> Fields:
    """
    Parse and check a head.

    :param head: the whole of it, with the empty line at its end.
    :raise Refused: it is malformed, or its fields say what is not served.
    """
    if _NEXT_LINE in head:
        raise Refused(400, "the head has a byte 0x85, which some take for an end of line")
    names = _Names()
    try:
        HttpRequestParser(names).feed_data(head)
    except HttpParserUpgrade:
        # The head is all that was fed, so what is behind it was not touched.
        pass
    except HttpParserError as error:
        raise Refused(400, f"the head is malformed: {error}") from None
    if len(names.found) > maxFields:
        raise Refused(431, f"the head has more than {maxFields} fields")
    return Fields(names.found)
