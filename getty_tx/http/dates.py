"""The fields that are the same in all answers of a second: Date and Server."""

from __future__ import annotations

import time
from email.utils import formatdate

__all__ = ["Dates"]


class Dates:
    """
    ``Date`` and ``Server``, as bytes of a head, made once a second.

    :ivar until: the time at which they are made again, on the clock that :py:meth:`renew` is given.
    :ivar fields: the two fields, each with its end of line.
    :ivar heads: whole heads with these fields, for whoever keeps some; emptied with each new date.
    """

    __slots__ = ("_server", "fields", "heads", "until")

    def __init__(self) -> None:
        self._server = b""
        self.until = float("-inf")
        self.fields = b""
        self.heads: dict[object, bytes] = {}

    def use(self, server: str) -> None:
        """
        The value of ``Server`` from now on; empty: no such field.

        :raise ValueError: it cannot stand in a head.
        """
        if not (server.isascii() and (server.isprintable())):
            raise ValueError(f"serverName={server!r} cannot stand in a field: use printable ASCII")
        self._server = b"Server: %b\r\n" % server.encode() if server else b""
        self.until = float("-inf")

    def renew(self, now: float) -> bytes:
        """
        Make the fields anew, and return them.

        :param now: seconds, on the clock that is compared with :py:attr:`until`.
        """
        wall = time.time()
        self.until = now + 1.0 - wall % 1.0
        self.fields = b"Date: %b\r\n%b" % (formatdate(int(wall), usegmt=True).encode(), self._server)
        self.heads.clear()
        return self.fields
