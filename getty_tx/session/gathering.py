"""
How the unread bytes of a session wait: the pieces of a package that is not complete.

They are kept as the chunks they came in until the codec can use them, and joined once, when the last byte of the
package is there. From a megabyte on they are gathered in one ``BytesIO``: the system moves its growing memory instead
of copying it, and ``getvalue`` gives the gathered bytes themselves, not a copy. So the cost of a package is linear, and
its memory little more than its size.

What is joined is always ``bytes``, and nothing is ever written to them again: packages may be views of them.
"""

from __future__ import annotations

from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from getty_tx.interfaces import Until

__all__ = ["Chunk", "Searched", "add", "joined"]

Chunk: TypeAlias = bytes | bytearray | BytesIO

#: Chunks shorter than this, in bytes, are joined to the previous one: an object each would cost more than the bytes.
SMALL = 4096

#: Bytes of such a joined chunk, at most.
PIECE = 64 * 1024

#: Unread bytes above which they are gathered in one buffer.
LARGE = 1024 * 1024


class Searched(list[Chunk]):
    """
    Chunks without the mark that the codec waits for.

    Each byte that comes is searched once, and the codec is asked when the mark is there.

    :ivar decoder: the codec that waits for it.
    """

    __slots__ = ("_end", "_keep", "_mark", "decoder")

    def __init__(self, data: bytes, at: int, until: Until, decoder: Any) -> None:
        """Take ``data``, of which the bytes before ``at`` are delivered."""
        super().__init__((data,))
        self.decoder = decoder
        self._mark = until.mark
        # A mark may begin in one piece and end in the next: so many last bytes are searched again.
        self._keep = keep = len(until.mark) - 1
        self._end: bytes = data[max(at, len(data) - keep) :] if keep else b""

    def completedBy(self, piece: bytes) -> bool:
        """Whether the mark is there, now that ``piece`` has come."""
        keep = self._keep
        if keep:
            seam = self._end + piece[:keep]
            if self._mark in seam:
                return True
            self._end = piece[-keep:] if len(piece) >= keep else seam[-keep:]
        return self._mark in piece


def add(chunks: list[Chunk], data: bytes, unread: int, need: int) -> None:
    """
    Put ``data`` behind the chunks.

    :param unread: their bytes, ``data`` included.
    :param need: unread bytes with which they are joined.
    """
    last = chunks[-1]
    if type(last) is BytesIO:
        last.write(data)
    elif LARGE < unread < need:
        whole = BytesIO(b"".join(chunks))  # type: ignore[arg-type]  # none of them is a BytesIO
        whole.seek(0, SEEK_END)
        whole.write(data)
        chunks[:] = [whole]
    elif len(data) >= SMALL:
        chunks.append(data)
    elif type(last) is bytearray and len(last) < PIECE:
        last += data
    else:
        chunks.append(bytearray(data))


def joined(chunks: list[Chunk], offset: int) -> tuple[bytes, int]:
    """
    The chunks as one object, and the count of delivered bytes at its front.

    :param offset: delivered bytes at the front of the first chunk.
    """
    first = chunks[0]
    if len(chunks) == 1:
        if type(first) is bytes:
            return first, offset
        if type(first) is BytesIO:
            return first.getvalue(), offset
    if offset:
        return b"".join((memoryview(first)[offset:], *chunks[1:])), 0  # type: ignore[arg-type]
    return b"".join(chunks), 0  # type: ignore[arg-type]  # where there is a BytesIO, it is the only chunk
