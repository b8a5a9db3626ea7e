"""The fields that are the same in all answers of a second: Date, Server, and those that every answer has."""

from __future__ import annotations

import time
from email.utils import formatdate

__all__ = ["Dates"]


class Dates:
    """
    ``Date``, ``Server`` and fields of every answer, as bytes of a head, made once a second.

    :ivar until: the time at which they are made again, on the clock that :py:meth:`renew` is given.
    :ivar fields: all of them, each with its end of line.
    :ivar heads: whole heads with these fields, for whoever keeps some; emptied with each new date.
    :ivar lists: the same, as lists of pairs for HTTP/2.
    """

    __slots__ = ("_date", "_more", "_server", "fields", "heads", "lists", "until")

    def __init__(self) -> None:
        self._date = self._server = self._more = b""
        self.until = float("-inf")
        self.fields = b""
        self.heads: dict[object, bytes] = {}
        self.lists: dict[object, list[tuple[bytes, bytes]]] = {}

    def use(self, server: str, more: bytes) -> None:
        """
        The value of ``Server`` from now on; empty: no such field.

        :param more: further fields, each with its end of line.
        :raise ValueError: it cannot stand in a head.
        """
        if not (server.isascii() and (server.isprintable())):
            raise ValueError(f"serverName={server!r} cannot stand in a field: use printable ASCII")
        self._server = b"Server: %b\r\n" % server.encode() if server else b""
        self._more = more
        self.until = float("-inf")

    def renew(self, now: float) -> bytes:
        """
        Make the fields anew, and return them.

        :param now: seconds, on the clock that is compared with :py:attr:`until`.
        """
        wall = time.time()
        self.until = now + 1.0 - wall % 1.0
        self._date = b"Date: %b\r\n" % formatdate(int(wall), usegmt=True).encode()
        self.fields = self._date + self._server + self._more
        self.heads.clear()
        self.lists.clear()
        return self.fields

    def without(self, date: bool, server: bool) -> bytes:
        """The fields of an answer that has a ``Date`` or a ``Server`` of its own."""
        return (b"" if date else self._date) + (b"" if server else self._server) + self._more
