"""The line codec: packages that end with a delimiter."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.codecs.common import BATCH, SEPARATE_ABOVE, asBytes
from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IBatchReader, IBatchWriter, IReadWriter, Until

__all__ = ["LineCodec"]

# Bytes searched at first, and the factor by which the search grows while it finds no delimiter. To copy a prefix is
# the fastest way to search a memoryview; because the prefix grows by a factor, the cost of a line is proportional to
# its own length, not to the amount of data behind it in the buffer.
_FIRST_SEARCH = 1024
_GROWTH = 8


@implementer(IReadWriter, IBatchReader, IBatchWriter)
class LineCodec:
    r"""
    Lines that end with a delimiter; packages are ``bytes`` without it.

    Only the delimiter is stripped: with ``\n`` a line that telnet ends with CR LF keeps its CR. The codec does not
    limit the length of a line; ``maxMsgLen`` does.

    :param delimiter: one byte or more; a ``str`` is encoded in UTF-8, without escapes (only descriptions have escapes
        such as ``\r``, see :py:func:`getty_tx.codecs.fromDescription`).
    :raise SettingError: the delimiter is empty, or neither bytes nor str.
    """

    __slots__ = ("_last", "_until", "_width", "delimiter")

    def __init__(self, delimiter: bytes | str = b"\n") -> None:
        if isinstance(delimiter, str):
            try:
                delimiter = delimiter.encode("utf-8")
            except UnicodeEncodeError as error:
                raise SettingError(f"codec 'line': delimiter={delimiter!a} cannot be encoded in UTF-8") from error
        if not isinstance(delimiter, bytes):
            raise SettingError(f"codec 'line': delimiter={delimiter!r} is neither bytes nor str")
        if not delimiter:
            raise SettingError("codec 'line': delimiter= is empty; it needs at least one byte")
        self.delimiter = delimiter
        self._width = len(delimiter)
        self._until = Until(bytes(delimiter))
        # A search for one byte is much faster than one for several. If a delimiter ends at the first occurrence of its
        # last byte, it is the first delimiter.
        self._last = delimiter[-1:]

    def __repr__(self) -> str:
        return f"LineCodec(delimiter={self.delimiter!r})"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | None, int]:
        """The bytes before the first delimiter; ``(None, Until(delimiter))`` while the data has none."""
        delimiter = self.delimiter
        width = self._width
        chunk = data[:_FIRST_SEARCH].tobytes()
        if width > 1:
            at = chunk.find(self._last) - width + 1
            if at >= 0 and chunk.startswith(delimiter, at):
                return chunk[:at], at + width
        line, found, _ = chunk.partition(delimiter)
        if found:
            return line, len(line) + width
        have = len(data)
        size = _FIRST_SEARCH
        while size < have:
            size *= _GROWTH
            line, found, _ = data[:size].tobytes().partition(delimiter)
            if found:
                return line, len(line) + width
        return None, self._until

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[bytes, int]]:
        """All complete lines; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[bytes, int]] = []
        delimiter = self.delimiter
        width = self._width
        for _ in BATCH:
            stop = data.find(delimiter, at)
            end = stop + width
            if stop < 0 or end - at > limit:
                break
            found.append((data[at:stop], end))
            at = end
        return found

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return (LineCodec, self.delimiter)

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes]:
        """
        The line and the delimiter.

        :raise CodecError: not bytes-like, or a reader would find the delimiter before the end.
        """
        line: bytes = pkg if type(pkg) is bytes else asBytes("line", session, pkg)
        delimiter = self.delimiter
        count = len(line)
        # Search the line with its delimiter, because a delimiter of several bytes may begin within the line: the first
        # delimiter of "a" + "aa" is at 0, not at 1.
        if count <= SEPARATE_ABOVE:
            whole = line + delimiter
            if whole.find(self._last) == count + self._width - 1 or whole.find(delimiter) == count:
                return whole
        elif delimiter not in line:
            end = line[-self._width :]
            if (end + delimiter).find(delimiter) == len(end):
                return [line, delimiter]
        raise CodecError(f"codec 'line': the package contains, or runs into, the delimiter {delimiter!r}", session)

    def writeMany(self, session: Any, packages: list[Any]) -> bytes | list[bytes]:
        """
        The lines, each with the delimiter.

        :raise CodecError: as ``write``, for the first package that cannot be written.
        """
        if self._width == 1 and set(map(type, packages)) == {bytes}:
            whole: bytes = self.delimiter.join([*packages, b""])
            # Each line adds one delimiter; with more, one of them is in a line.
            if whole.count(self.delimiter) == len(packages):
                return whole
        pieces: list[bytes] = []
        for pkg in packages:
            data = self.write(session, pkg)
            pieces += data if isinstance(data, list) else [data]
        return pieces
