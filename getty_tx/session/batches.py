"""
Packages in lists: for listeners with ``onMessages``, and by ``writePkgs``.

Where the listener takes lists, the inbound gives it all packages that one read completed in one call. A codec without
``readMany`` has an :py:class:`EachReader` in front of it then, and a listener that has ``onMessages`` alone, or is
called by workers, a :py:class:`ListProxy`. Other sessions have nothing of this.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.listener import EventListener, ListenerProxy, missingEvents, takesLists

if TYPE_CHECKING:
    from getty_tx.session.state import SessionState

__all__ = [
    "LISTS",
    "EachReader",
    "ListProxy",
    "Packages",
    "checkMethods",
    "forWorkers",
    "messageCallbacks",
    "readerOf",
    "setListener",
    "setReader",
    "writesMany",
]

#: The values of ``session.readsBatches``: the codec reads one package at a time; it has ``readMany``; and the listener
#: takes lists, too.
ONE, MANY, LISTS = range(3)


class Packages(list[Any]):
    """A list of packages on its way through workers, where it counts as one package."""

    __slots__ = ()


class ListProxy(ListenerProxy):
    """
    Stands in front of a listener that takes lists, and makes a list of a package that came alone.

    :ivar hasOwn: the listener has an ``onMessage`` of its own, which gets that package.
    """

    __slots__ = ("hasOwn",)

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.hasOwn = _hasOwn(listener)

    def __getattr__(self, name: str) -> Any:
        # All events except onMessage; onMessages, too.
        return getattr(self.listener, name)

    def __repr__(self) -> str:
        return repr(self.listener)

    def onMessage(self, session: Any, pkg: Any) -> Any:
        """Forward a package, or the list that workers had as a package."""
        if type(pkg) is Packages:
            return self.listener.onMessages(session, list(pkg))
        if self.hasOwn:
            return self.listener.onMessage(session, pkg)
        return self.listener.onMessages(session, [pkg])


class EachReader:
    """
    Gives ``readMany`` to a codec that has none.

    :ivar reader: the codec.
    """

    __slots__ = ("_answer", "_left", "reader")

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        # What the codec answered about the last so many unread bytes: it is asked once. Until a package is read, the
        # same number means the same bytes.
        self._left = 0
        self._answer: Any = None

    def __repr__(self) -> str:
        return repr(self.reader)

    def readMany(self, session: SessionState, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """All complete packages; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        read = self.reader.read
        view = memoryview(data)
        end = len(data)
        found: list[tuple[Any, int]] = []
        while at < end and end - at != self._left:
            try:
                answer = read(session, view[at:])
            except Exception as error:
                # The packages before it come first.
                answer = error
            good = type(answer) is tuple and len(answer) == 2 and answer[0] is not None and type(answer[1]) is int
            if not good or not 0 < answer[1] <= min(end - at, limit):
                self._answer, self._left = answer, end - at
                break
            at += answer[1]
            found.append((answer[0], at))
        return found

    def read(self, session: SessionState, data: memoryview) -> Any:
        """What the codec answers about the bytes at which ``readMany`` stopped."""
        answer, self._answer = self._answer, None
        left, self._left = self._left, 0
        if left != len(data):
            return self.reader.read(session, data)
        if isinstance(answer, Exception):
            raise answer
        return answer


def setReader(session: SessionState, reader: Any) -> None:
    """Read packages with ``reader`` from now on."""
    session.readsBatches = MANY if readsMany(reader.__class__) else ONE
    if session.inbound.readsLists and takesLists(_listenerOf(session)):
        if session.inbound.readsStream and not session.readsBatches:
            reader = EachReader(reader)
        session.readsBatches = LISTS
    session.decoder = reader


def readerOf(session: SessionState) -> Any:
    """The codec that reads the session's packages."""
    decoder = session.decoder
    return decoder.reader if type(decoder) is EachReader else decoder


def setListener(session: SessionState, listener: Any) -> None:
    """
    Deliver events to ``listener`` from now on.

    :raise SettingError: packages may be with workers in another form.
    """
    lists = takesLists(listener)
    if session.work is not None:
        if lists is not takesLists(_listenerOf(session)):
            does, did = ("has", "has not") if lists else ("has no", "has")
            raise SettingError(
                f"listener={listener!r} {does} onMessages and the one before {did}: with workers, set it in newSession"
            )
        session.work.listener = ListProxy(listener) if lists else listener
        return
    session.receiver = ListProxy(listener) if lists and not _hasOwn(listener) else listener
    reader = readerOf(session)
    if reader is not None:
        setReader(session, reader)


def forWorkers(session: SessionState) -> Any:
    """What workers call for the session's messages: its receiver, which also takes :py:class:`Packages` then."""
    receiver = session.receiver
    if takesLists(receiver) and not isinstance(receiver, ListProxy):
        return ListProxy(receiver)
    return receiver


def _listenerOf(session: SessionState) -> Any:
    """The listener, behind all that stands in front of it."""
    listener = session.receiver
    while isinstance(listener, ListenerProxy):
        listener = listener.listener
    return listener


def messageCallbacks(session: SessionState) -> list[Any]:
    """The methods of the listener that packages are given to."""
    listener = _listenerOf(session)
    if not takesLists(listener):
        return [listener.onMessage]
    return [listener.onMessages, listener.onMessage] if _hasOwn(listener) else [listener.onMessages]


def _hasOwn(listener: Any) -> bool:
    """Whether a listener that takes lists also has an ``onMessage`` that is not only inherited."""
    one = getattr(listener, "onMessage", None)
    return callable(one) and getattr(one, "__func__", None) is not EventListener.onMessage


def checkMethods(setting: str, value: Any, methods: tuple[str, ...] = ()) -> None:
    """
    Check that a value has all methods; without any, those of a listener.

    :raise SettingError: it is a class, or has not.
    """
    if isinstance(value, type):
        raise SettingError(f"{setting}={value!r} is a class: give an instance of it")
    missing = (
        [name for name in methods if not callable(getattr(value, name, None))] if methods else missingEvents(value)
    )
    if missing:
        raise SettingError(f"{setting}={value!r} has no method {', '.join(missing)}")


@cache
def readsMany(reader: type) -> bool:
    """Whether a codec's class has a ``readMany`` that goes with its ``read``."""
    return _together(reader, "read", "readMany")


@cache
def writesMany(writer: type) -> bool:
    """Whether a codec's class has a ``writeMany`` that goes with its ``write``."""
    return _together(writer, "write", "writeMany")


def _together(codec: type, one: str, many: str) -> bool:
    """True if the class that defines ``one`` also defines ``many``; a subclass with its own ``one`` does not."""
    for base in codec.__mro__:
        if one in vars(base) or many in vars(base):
            return one in vars(base) and many in vars(base)
    return False
