"""RESP3, the protocol of Redis from version 6 on, parsed by hiredis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter

try:
    from hiredis import ProtocolError, PushNotification, Reader, ReplyError, pack_command
except ImportError:
    raise SettingError("redis:// needs hiredis: pip install 'getty_tx[redis]'") from None

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_REPLY", "PushNotification", "ReplyError", "RespCodec", "packedCommand"]

#: Bytes that may come without one complete reply. The longest is a history, of which a script gives some 8 MiB, or a
#: publication of 16 MiB.
MAX_REPLY = 64 * 1024 * 1024

_MORE = object()


def packedCommand(parts: Sequence[Any]) -> bytes:
    """A command as bytes. Parts are bytes, texts or whole numbers."""
    data: bytes = pack_command(tuple(parts))
    return data


@implementer(IReadWriter)
class RespCodec:
    """
    A package is the list of all replies that a read has completed, which may be none: what is incomplete is in
    hiredis. So one codec serves one session. Errors are :py:exc:`ReplyError` objects within the list, and what Redis
    sends by itself is a :py:class:`PushNotification`. What is written is bytes already.
    """

    __slots__ = ("_incomplete", "_reader")

    def __init__(self) -> None:
        self._reader = Reader(notEnoughData=_MORE)
        self._incomplete = 0

    def read(self, session: Any, data: memoryview) -> tuple[list[Any], int]:
        """
        All replies that are complete with these bytes.

        :raise CodecError: they are none, or one has more than :py:data:`MAX_REPLY` bytes.
        """
        replies: list[Any] = []
        get = self._reader.gets
        try:
            # It takes any buffer, whatever its stub says.
            self._reader.feed(data)  # type: ignore[arg-type]
            reply = get()
            while reply is not _MORE:
                replies.append(reply)
                reply = get()
        except ProtocolError as error:
            raise CodecError(f"this is not Redis' protocol: {error}", session) from None
        if replies:
            self._incomplete = 0
        else:
            self._incomplete += len(data)
            if self._incomplete > MAX_REPLY:
                raise CodecError(f"a reply of Redis has more than {MAX_REPLY} bytes", session)
        return replies, len(data)

    def write(self, session: Any, pkg: bytes) -> bytes:
        """Commands, as bytes."""
        return pkg
