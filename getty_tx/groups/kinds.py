"""
Kinds of members: all for whom a publication becomes the same bytes. Each kind encodes and frames it once.

Members whose codec has no ``shareKey``, or whose connections share no frames, are together in one kind, in which each
encodes for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.session.sharing import writeToAll, writeToOne

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from getty_tx.session.sharing import IFraming

__all__ = ["Entry", "Kind", "OwnKind", "SharedKind", "keyOf"]

log = Logger()


def keyOf(session: Any) -> Hashable:
    """What the kind of a session depends on; None: it shares with nobody."""
    framing = session.framing
    if framing is None:
        return None
    shareKey = getattr(session.encoder, "shareKey", None)
    key = None if shareKey is None else shareKey(session)
    return None if key is None else (framing, key)


class Entry:
    """
    A publication on its way to the members of this process.

    :ivar number: how many came before it to this group, in this process.
    :ivar pkg: what members get.
    :ivar publisher: the id of the session that does not get it, or 0.
    :ivar frames: its bytes by kind; empty for one whose codec cannot encode it.
    :ivar size: bytes that it takes, as far as they are known.
    """

    __slots__ = ("at", "frames", "key", "number", "offset", "pkg", "publisher", "size")

    def __init__(
        self, number: int, pkg: Any, key: str | None, publisher: int, size: int, at: float, offset: int = 0
    ) -> None:
        self.number = number
        self.pkg = pkg
        self.key = key
        self.publisher = publisher
        self.size = size
        self.at = at
        self.offset = offset
        self.frames: dict[Kind, bytes] = {}


class Kind:
    """
    Members that get the same bytes.

    :ivar sessions: those that are not behind, in the order in which they joined.
    """

    __slots__ = ("_list", "sessions")

    def __init__(self) -> None:
        self.sessions: dict[Any, None] = {}
        self._list: list[Any] | None = None

    def add(self, session: Any) -> None:
        """One more."""
        self.sessions[session] = None
        self._list = None

    def remove(self, session: Any) -> bool:
        """One less. :return: whether it was there."""
        if session not in self.sessions:
            return False
        del self.sessions[session]
        self._list = None
        return True

    def snapshot(self) -> list[Any]:
        """All that are there now. Kept until somebody comes or goes: a list of 100,000 takes 0.8 ms."""
        if self._list is None:
            self._list = list(self.sessions)
        return self._list

    def prepare(self, entries: Sequence[Entry], session: Any) -> Any:
        """What :py:meth:`write` needs to bring the entries to members; ``session`` is one of them."""
        raise NotImplementedError

    def failed(self, entries: Sequence[Entry]) -> int:
        """How many of the entries that were prepared members do not get, as they cannot be encoded."""
        return 0

    def write(
        self,
        prepared: Any,
        sessions: list[Any],
        at: int,
        limit: int,
        seconds: Callable[[], float],
        until: float,
        behind: list[Any],
    ) -> tuple[int, int, int]:
        """See :py:func:`getty_tx.session.sharing.writeToAll`. :return: the same two, and the bytes of all."""
        raise NotImplementedError

    def writeTo(self, session: Any, entries: Sequence[Entry]) -> int:
        """Write the entries to one session that is open. :return: the bytes."""
        raise NotImplementedError


class SharedKind(Kind):
    """Of sessions with this framing, whose codecs write the same bytes."""

    __slots__ = ("_framing",)

    def __init__(self, framing: IFraming) -> None:
        super().__init__()
        self._framing = framing

    def frameOf(self, entry: Entry, session: Any) -> bytes:
        """The bytes of a publication, made once."""
        frame = entry.frames.get(self)
        if frame is None:
            try:
                frame, _ = self.encoded(entry.pkg, session)
            except Exception:
                log.failure(
                    "{session}: a publication cannot be encoded, and no member like it gets it", session=session
                )
                frame = b""
            entry.frames[self] = frame
            entry.size = max(entry.size, len(frame))
        return frame

    def encoded(self, pkg: Any, session: Any) -> tuple[bytes, int]:
        """The bytes of a package, and how many the codec has made; frames may have compressed them."""
        data = session.encoder.write(session, pkg)
        size = sum(map(len, data)) if isinstance(data, list) else len(data)
        return self._framing.frame(data), size

    def prepare(self, entries: Sequence[Entry], session: Any) -> tuple[bytes, int]:
        """See :py:meth:`Kind.prepare`."""
        if len(entries) == 1:
            frame = self.frameOf(entries[0], session)
            return frame, 1 if frame else 0
        frames = [self.frameOf(entry, session) for entry in entries]
        return b"".join(frames), len(frames) - frames.count(b"")

    def failed(self, entries: Sequence[Entry]) -> int:
        """See :py:meth:`Kind.failed`."""
        return sum(entry.frames.get(self) == b"" for entry in entries)

    def write(
        self,
        prepared: tuple[bytes, int],
        sessions: list[Any],
        at: int,
        limit: int,
        seconds: Callable[[], float],
        until: float,
        behind: list[Any],
    ) -> tuple[int, int, int]:
        """See :py:meth:`Kind.write`."""
        frame, packages = prepared
        at, written = writeToAll(sessions, at, frame, packages, self._framing, limit, seconds, until, behind)
        return at, written, written * len(frame)

    def writeTo(self, session: Any, entries: Sequence[Entry]) -> int:
        """See :py:meth:`Kind.writeTo`."""
        frame, packages = self.prepare(entries, session)
        if packages:
            writeToOne(session, frame, packages, self._framing)
        return len(frame)


class OwnKind(Kind):
    """Of sessions that encode for themselves."""

    __slots__ = ()

    def prepare(self, entries: Sequence[Entry], session: Any) -> list[Any]:
        """See :py:meth:`Kind.prepare`."""
        return [entry.pkg for entry in entries]

    def write(
        self,
        prepared: list[Any],
        sessions: list[Any],
        at: int,
        limit: int,
        seconds: Callable[[], float],
        until: float,
        behind: list[Any],
    ) -> tuple[int, int, int]:
        """See :py:meth:`Kind.write`."""
        written = size = 0
        while at < len(sessions):
            session = sessions[at]
            at += 1
            if session.isClosed:
                continue
            outbound = session.outbound
            if outbound.blocked or outbound.queued > limit:
                behind.append(session)
            else:
                before = session.bytesWritten
                if self._writeOwn(session, prepared):
                    written += 1
                    size += session.bytesWritten - before
            if seconds() >= until:
                break
        return at, written, size

    def writeTo(self, session: Any, entries: Sequence[Entry]) -> int:
        """See :py:meth:`Kind.writeTo`."""
        before: int = session.bytesWritten
        self._writeOwn(session, self.prepare(entries, session))
        size: int = session.bytesWritten - before
        return size

    def _writeOwn(self, session: Any, packages: list[Any]) -> bool:
        try:
            for pkg in packages:
                session.writePkg(pkg)
        except Exception as error:
            # Its codec cannot encode it, or it has just been closed: no other member has to do with that.
            session.callbackFailed(error)
            return False
        return True
