"""
``session.sendFile``: a file, or a piece of it, in order with the packages.

On a plain socket ``sendfile(2)`` moves the bytes within the kernel. Through TLS and other wrappers they are read a
slice at a time, each when the one before has left.
"""

from __future__ import annotations

import os
from io import TextIOBase
from stat import S_ISREG
from threading import get_ident
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from getty_tx.errors import CodecError, SessionClosedError, SessionError, SettingError
from getty_tx.session.buffers import CHUNK
from getty_tx.session.states import OPEN

if TYPE_CHECKING:
    from getty_tx.session.outbound import Outbound
    from getty_tx.session.session import Session

__all__ = ["sendFile"]


def sendFile(self: Session, file: Any, offset: int = 0, count: int | None = None) -> Deferred[int]:
    """
    Send bytes of a file after all that was written before, without reading the file into memory.

    They are counted in ``writeBytes``, and as no package, when they leave. Until then ``pendingBytes`` does not have
    them; the session stops reading where more than ``highWater`` are to leave. The file's position is neither used nor
    moved, and it may be closed at once. Only the reactor's thread may call.

    :param file: a regular file, open for reading in binary.
    :param offset: where its first byte to be sent is.
    :param count: bytes; None: to its end.
    :return: fires with the bytes sent when they left. It fails with SessionClosedError if the session is closed or ends
        first, SessionBlockedError if more than ``maxPending`` bytes wait, CodecError if the file is too short, OSError
        if it cannot be read. If a part has left by then the session fails, too: its peer could not tell what is next.
    :raise SettingError: an argument is wrong, or the stream is compressed.
    :raise CodecError: there is no stream, but messages.
    """
    if get_ident() != self._thread:
        raise SessionError("sendFile is for the reactor's thread: reactor.callFromThread(session.sendFile, file)", self)
    if self.compression is not None:
        raise SettingError(
            f"compression={self.compression!r} leaves no place for sendFile: write the file's bytes as packages,"
            " or leave compression None"
        )
    _checkCount("offset", offset)
    if count is not None:
        _checkCount("count", count)
    if self.state > OPEN:
        return fail(SessionClosedError(f"{self} is closed", self))
    outbound = self.outbound
    if outbound.refuses():
        return fail(self._blocked())
    number = _numberOf(file)
    try:
        size = os.fstat(number).st_size
        if count is None:
            count = max(size - offset, 0)
        if offset + count > size:
            raise CodecError(f"the file has {size} bytes: offset={offset} and count={count} reach beyond its end", self)
        # Of its own, so that the caller may close the file.
        number = os.dup(number)
    except (OSError, CodecError) as error:
        return fail(error)
    # Loaded with the first file.
    from getty_tx.session.parts import addPart

    part = _File(self, number, offset, count)
    deferred = part.deferred
    addPart(outbound, part)
    if part.left and outbound.pending + part.left > self._highWater and outbound.blockedState is not None:
        self.pendingIsHigh()
        outbound.blockedState.lookSoon()
        outbound.blockedState.pauseProducer()
    return deferred


def _numberOf(file: Any) -> int:
    """
    The descriptor of a file that sendFile takes.

    :raise SettingError: it is none.
    """
    try:
        if not isinstance(file, TextIOBase):
            number: int = file.fileno()
            if S_ISREG(os.fstat(number).st_mode):
                return number
    except (AttributeError, OSError, ValueError):
        pass
    raise SettingError(f"file={file!r} is no regular file, open in binary: open it with 'rb', or write its bytes")


def _checkCount(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingError(f"{name}={value!r} is not a whole number of bytes")
    if value < 0:
        raise SettingError(f"{name}={value!r} is less than 0 bytes")


class _File:
    """
    A file on its way: a :py:class:`getty_tx.session.parts.Part`.

    :ivar deferred: what ``sendFile`` returns.
    """

    __slots__ = ("_count", "_inMemory", "_number", "_offset", "_session", "deferred", "left")

    def __init__(self, session: Session, number: int, offset: int, count: int) -> None:
        self.deferred: Deferred[int] = Deferred()
        self._session = session
        self._number = number
        self._offset = offset
        self._count = self.left = count
        # The system does not send this file by itself.
        self._inMemory = not hasattr(os, "sendfile")

    def send(self, outbound: Outbound, most: int) -> tuple[int, bool]:
        handle = None if self._inMemory else outbound.plainSocket
        if handle is not None:
            try:
                sent = os.sendfile(handle.fileno(), self._number, self._offset, min(self.left, most))
            except BlockingIOError:
                outbound.awaitRoom()
                return 0, True
            except OSError:
                # Reading tells what is wrong with the file, and the transport what is with the connection.
                self._inMemory = True
                return 0, False
            self._took(sent)
            outbound.whileBlocked().inserted(sent, outbound.bytesOut)
            outbound.session.bytesWritten += sent
            return sent, False
        data = os.pread(self._number, min(self.left, CHUNK), self._offset)
        self._took(len(data))
        from getty_tx.session.parts import sendBuffers

        return sendBuffers(outbound, data)

    def _took(self, size: int) -> None:
        if not size:
            text = f"the file ended at byte {self._offset}, {self.left} bytes before the end of what was to be sent"
            raise CodecError(text, self._session)
        self._offset += size
        self.left -= size

    def sent(self) -> None:
        os.close(self._number)
        self.deferred.callback(self._count)

    def failed(self, error: BaseException) -> None:
        os.close(self._number)
        self.deferred.errback(error)
