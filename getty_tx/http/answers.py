"""Heads of answers: fields that were checked and encoded once, and the head with its status, Date and length."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from getty_tx.errors import GettyError
from getty_tx.http.refusals import PHRASES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.http.dates import Dates

__all__ = ["NO_FIELDS", "AnswerFields", "GoneError", "encodeTrailers", "pairsOf", "statusLine"]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Bytes that end a field, or that some read as its end (RFC 9110, 5.5).
_BAD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_HOP = frozenset({b"transfer-encoding", b"connection", b"keep-alive"})

#: Fields that HTTP/2 has not (RFC 9113, 8.2.2).
_OF_ONE = frozenset({b"connection", b"upgrade", b"proxy-connection"})


class GoneError(GettyError, OSError):
    """The client has gone, or the answer is complete: nothing more can be sent."""


class AnswerFields:
    """
    The fields of an answer, checked and encoded.

    ``Transfer-Encoding`` and ``Connection`` are the connection's own: they are left out, ``Connection: close`` closes.

    :param headers: name and value of each.
    :raise ValueError: one of them cannot stand in a head.

    :ivar lines: the encoded fields, without ``Content-Length``.
    :ivar length: the value of ``Content-Length``; None: there is none.
    :ivar closes: the connection is to be closed after the answer.
    :ivar hasDate: ``Date`` is among them.
    :ivar hasServer: ``Server`` is among them.
    """

    __slots__ = ("_pairs", "closes", "hasDate", "hasServer", "length", "lines")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.length: int | None = None
        self.closes = self.hasDate = self.hasServer = False
        lines = []
        for name, value in headers:
            if not _NAME.fullmatch(name) or _BAD.search(value):
                raise ValueError(f"{bytes(name)!r}: {bytes(value)!r} cannot stand in a head")
            lower = name.lower()
            if lower == b"content-length":
                if not value.isdigit() or self.length not in (None, int(value)):
                    raise ValueError(f"Content-Length: {bytes(value)!r} is not one number of bytes")
                self.length = int(value)
                continue
            if lower in _HOP:
                self.closes |= lower == b"connection" and b"close" in value.lower()
                continue
            if lower == b"upgrade":
                # What 426 says, or an offer; it is for this connection only.
                lines.append(b"Connection: Upgrade\r\n")
            self.hasDate |= lower == b"date"
            self.hasServer |= lower == b"server"
            lines.append(b"%b: %b\r\n" % (name, value))
        self.lines = b"".join(lines)
        self._pairs: list[tuple[bytes, bytes]] | None = None

    @property
    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The fields as pairs for HTTP/2: names in lower case, without ``Content-Length`` and ``Connection``."""
        if self._pairs is None:
            self._pairs = pairsOf(self.lines)
        return self._pairs

    def prefix(self, status: int, dates: Dates) -> bytes:
        """
        The head up to where the length of the body, and what belongs to the connection, are added.

        :param dates: up to date.
        """
        if not (self.hasDate or self.hasServer):
            return b"%b%b%b" % (statusLine(status), dates.fields, self.lines)
        return b"%b%b%b" % (statusLine(status), dates.without(self.hasDate, self.hasServer), self.lines)


def pairsOf(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Encoded fields as pairs for HTTP/2, without those that belong to a connection of HTTP/1.1."""
    pairs = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lower = name.lower()
        if lower not in _OF_ONE:
            pairs.append((lower, value.strip(b" \t")))
    return pairs


#: The fields of an answer that has none of its own.
NO_FIELDS = AnswerFields()


def statusLine(status: int) -> bytes:
    """The first line of an answer."""
    return b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, "").encode())


def encodeTrailers(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Fields behind a body in chunks. :raise ValueError: one cannot stand there."""
    return AnswerFields(trailers).lines
