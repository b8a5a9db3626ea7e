"""
The plug points: what a codec, a listener and a connection provide.

The names follow Getty's ``ReadWriter`` and ``EventListener`` (Apache dubbo-getty, ``transport/getty.go``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted.internet.interfaces import IAddress


__all__ = ["IBatchReader", "IConnection", "IEventListener", "IReactorTurns", "IReadWriter", "IReader", "IWriter"]


class IReader(Interface):
    """Bytes to packages."""

    def read(session: Any, data: memoryview) -> tuple[Any, int]:
        """
        Take the next package off the front of ``data``.

        :param session: the session that the bytes belong to.
        :param data: every unread byte, never empty on a stream, over immutable bytes: a package may keep slices of it.
        :return: ``(package, n)`` for a package of n bytes, after which ``read`` is called on the rest;
            ``(None, 0)`` while the header is not there yet;
            ``(None, n)`` when n bytes, header included, are needed in all, before which ``read`` is not called again.
        :raise Exception: to refuse the stream; the session fails with this error.
        """


class IBatchReader(IReader):
    """
    A reader that takes all complete packages off the stream in one call, which costs a fraction of a call for each.

    Optional. It counts only where the class that defines ``readMany`` is also the one that defines ``read``: a subclass
    that overrides ``read`` alone is read one package at a time.
    """

    def readMany(session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """
        Take the complete packages that ``read`` would find in ``data`` from ``at`` on.

        Stop before whatever is for ``read`` to answer: an incomplete package, one of more than ``limit`` bytes, bytes
        that are wrong. Stop after some dozens, too: what a pause leaves over is read again, so that more is work in
        vain. It is called again for the rest.

        :return: pairs of a package and its end, counted from the beginning of ``data``. Those after a package that
            pauses or closes the session, or changes its codec, are read again later or never.
        """


class IWriter(Interface):
    """Packages to bytes."""

    def write(session: Any, pkg: Any) -> bytes | list[bytes] | str:
        """
        Encode one package.

        :return: its bytes, or a list of bytes to be sent in that order, or (WebSocket only) the text of a message.
        :raise Exception: when ``pkg`` cannot be encoded; ``writePkg`` raises it to its caller and the session lives.
        """


class IReadWriter(IReader, IWriter):
    """A codec: both directions. One instance may serve every session, so it keeps nothing per session in itself."""


class IEventListener(Interface):
    """
    What a session tells the application.

    Order: ``onOpen`` once, ``onMessage`` in the order of arrival, ``onError`` at most once and only if something
    failed, ``onClose`` exactly once, and nothing after. Each may be ``async def``: the next event of that session
    waits until it has returned.
    """

    def onOpen(session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is up, TLS and WebSocket handshakes done. Raising closes the session."""

    def onMessage(session: Any, pkg: Any) -> Coroutine[Any, Any, None] | None:
        """A package came. Raising fails the session."""

    def onError(session: Any, error: BaseException) -> Coroutine[Any, Any, None] | None:
        """The session failed and will close. Attributes, addresses and stats are still there."""

    def onClose(session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is gone. Attributes, addresses and stats are still there, for the last time."""

    def onCron(session: Any) -> Coroutine[Any, Any, None] | None:
        """``cronPeriod`` seconds went by. Raising fails the session."""


class IConnection(Interface):
    """
    What a session needs of the connection below it. Calls come on the reactor's thread only.
    """

    kind = Attribute("What str(session) calls it: TCP_SERVER, TCP_CLIENT, UNIX_SERVER and so on.")

    def getLocalAddr() -> IAddress:
        """This end's address; asked once, while the connection is up."""

    def getRemoteAddr() -> IAddress:
        """The peer's address."""

    def applySocketOptions(session: Any) -> None:
        """Set what the session asks of the socket (``tcpNoDelay`` and so on), as far as the socket has it."""

    def pauseReading() -> None:
        """Take no more from the network until :py:meth:`resumeReading`."""

    def resumeReading() -> None:
        """Go on taking from the network."""

    def shutdownWriting() -> None:
        """Everything is flushed: tell the peer that nothing more comes, and go on reading until its end."""

    def disconnect() -> None:
        """Everything is flushed and the peer has ended: let the connection go."""

    def leave() -> None:
        """Everything is flushed and the peer does not end: let go, without losing what the system still sends."""

    def abort() -> None:
        """Drop the connection now, pending bytes and all."""

    def sessionOpened() -> None:
        """onOpen has returned and the session is open."""

    def sessionEnded(error: BaseException | None) -> None:
        """onClose has returned; ``error`` is what the session failed with, if it failed."""


class IReactorTurns(Interface):
    """What a reactor may tell besides Twisted's interfaces; ``twistd --reactor getty`` does."""

    def callAtTurnsEnd(call: Callable[[], object]) -> None:
        """
        Call ``call()`` once, when the events of this turn are served and before the reactor waits for others.

        ``callLater(0)`` comes to the same, and costs several times as much. Only for the reactor's thread.
        """
