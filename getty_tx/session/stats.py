"""What applications see of a session's counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getty_tx.session.session import Session

__all__ = ["Stats"]


class Stats:
    """
    A session's counters, as they are at the moment of asking. ``str`` gives Getty's line.

    :ivar dropped: datagrams that were bad, empty or too long; always 0 on a stream.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def readBytes(self) -> int:
        """Bytes that came, counted as the transport gave them: below compression, above TLS."""
        return self._session.bytesRead

    @property
    def writeBytes(self) -> int:
        """Bytes that were taken for sending, counted as the transport is given them."""
        return self._session.bytesWritten

    @property
    def readPkgs(self) -> int:
        """Packages that were given to onMessage."""
        return self._session.pkgsRead

    @property
    def writePkgs(self) -> int:
        """Packages that were taken for sending."""
        return self._session.pkgsWritten

    @property
    def dropped(self) -> int:
        """Datagrams that were dropped."""
        return self._session.datagramsDropped

    def __str__(self) -> str:
        return (
            f"session {self._session}, Read Bytes: {self.readBytes}, Write Bytes: {self.writeBytes}, "
            f"Read Pkgs: {self.readPkgs}, Write Pkgs: {self.writePkgs}"
        )
