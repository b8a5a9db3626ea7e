"""
The interfaces of codecs, listeners and connections.

The names follow Getty's ``ReadWriter`` and ``EventListener`` (Apache dubbo-getty, ``transport/getty.go``). A parameter
``session`` is a :py:class:`getty_tx.Session`. Its annotation is ``Any``, so that a method may name the subclass that it
gets, such as ``MessageSession``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from twisted.internet.interfaces import IAddress


__all__ = [
    "IBatchListener",
    "IBatchReader",
    "IBatchWriter",
    "IByteSink",
    "IConnection",
    "IDrainingListener",
    "IErrorQueueReactor",
    "IEventListener",
    "IHalfCloseListener",
    "IReactorTurns",
    "IReadWriter",
    "IReader",
    "ISharedWriter",
    "IStreamConnection",
    "IWriter",
    "Until",
]


class Until(int):
    """
    The answer ``(None, Until(mark))`` of ``read``: as ``(None, 0)``, and no package is complete before ``mark`` comes.

    The session searches what comes for the mark, each byte once, and calls ``read`` again when it is there. The bytes
    that ``read`` was given are not searched again. As a number it is 0, so that codecs which build on another codec may
    pass its answer on. Make one for each mark, not one for each answer.

    :ivar mark: the bytes that are awaited, one or more, such as a delimiter.
    """

    mark: bytes

    def __new__(cls, mark: bytes) -> Until:
        """:raise ValueError: it is not bytes, or empty."""
        if type(mark) is not bytes or not mark:
            raise ValueError(f"Until({mark!r}): a mark is one byte or more, as bytes")
        self = super().__new__(cls, 0)
        self.mark = mark
        return self

    def __repr__(self) -> str:
        return f"Until({self.mark!r})"


class IReader(Interface):
    """Decodes bytes into packages."""

    def read(session: Any, data: memoryview) -> tuple[Any, int]:
        """
        Take the next package off the front of ``data``.

        :param session: the session that received the bytes.
        :param data: all unread bytes, never empty on a stream. The bytes are immutable: a package may keep slices.
        :return: ``(package, n)`` for a package of n bytes, after which ``read`` is called on the rest;
            ``(None, 0)`` while the header is incomplete;
            ``(None, Until(mark))`` for the same, where ``read`` need not be called again before ``mark`` has come;
            ``(None, n)`` if the package has n bytes, header included; ``read`` is called again when they have arrived.
        :raise Exception: refuses the stream; the session fails with this error.
        """


class IBatchReader(IReader):
    """
    Optional: decodes all complete packages in one call, which is much cheaper than a call for each package.

    Used only if the same class defines ``readMany`` and ``read``: a subclass that overrides ``read`` alone is read one
    package at a time.
    """

    def readMany(session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """
        Take the complete packages that ``read`` would find in ``data`` from ``at`` on.

        Stop before bytes that ``read`` has to handle: an incomplete package, a package of more than ``limit`` bytes,
        invalid bytes. Stop after some dozens of packages, too, because packages behind a pause are decoded again. It
        is called again for the rest.

        :return: pairs of a package and its end, as an offset in ``data``. If a package pauses or closes the session or
            changes its codec, the packages after it are decoded again later or never.
        """


class IWriter(Interface):
    """Encodes packages into bytes."""

    def write(session: Any, pkg: Any) -> bytes | list[bytes] | list[bytes | memoryview] | str:
        """
        Encode one package.

        :return: its bytes, or a list of bytes to send in that order, or (WebSocket only) the text of a message. The
            list may have memoryviews: those of ``bytes`` are sent without a copy.
        :raise Exception: ``pkg`` cannot be encoded; ``writePkg`` raises it to its caller, and the session stays open.
        """


class IBatchWriter(IWriter):
    """
    Optional: encodes the packages of ``writePkgs`` in one call, which is cheaper than a call for each.

    Used only if the same class defines ``writeMany`` and ``write``. Sessions over WebSocket and UDP, where each package
    is a message of its own, use ``write``.
    """

    def writeMany(session: Any, packages: list[Any]) -> bytes | list[bytes] | list[bytes | memoryview]:
        """
        Encode packages, to the same bytes as ``write`` makes of them one after the other.

        :return: the bytes, or a list of bytes to send in that order, so that large packages need not be joined.
        :raise Exception: one of them cannot be encoded; ``writePkgs`` raises it, and none of them is sent.
        """


class ISharedWriter(IWriter):
    """
    Optional: a codec that says for which sessions it writes the same bytes. What a group publishes is then encoded once
    for all of them. Without it, a group encodes for each member.
    """

    def shareKey(session: Any) -> Hashable:
        """
        Equal keys: ``write`` makes the same bytes of a package for sessions of the same kind (byte stream, WebSocket).

        :return: the codec's type and its settings, and what else its bytes depend on; None: for this session alone.
        """


class IReadWriter(IReader, IWriter):
    """A codec: both directions. One instance may serve all sessions, so it keeps no state of a session."""


class IEventListener(Interface):
    """
    The events of a session.

    Order: ``onOpen`` once, ``onMessage`` in the order of arrival, ``onError`` at most once and only after a failure,
    ``onClose`` exactly once, and no event after it. Each may be ``async def``: the next event of that session waits
    until it has returned.
    """

    def onOpen(session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is established, TLS and WebSocket handshakes included. Raising closes the session."""

    def onMessage(session: Any, pkg: Any) -> Coroutine[Any, Any, None] | None:
        """A package arrived. Raising fails the session."""

    def onError(session: Any, error: BaseException) -> Coroutine[Any, Any, None] | None:
        """The session failed and will close. Attributes, addresses and stats are still available."""

    def onClose(session: Any) -> Coroutine[Any, Any, None] | None:
        """The connection is closed. Attributes, addresses and stats are available for the last time."""

    def onCron(session: Any) -> Coroutine[Any, Any, None] | None:
        """``cronPeriod`` seconds have passed. Raising fails the session."""


class IDrainingListener(Interface):
    """A listener that ends its session itself when its process is about to end, such as the peer of calls."""

    def drain() -> Any:
        """
        Come to an end, and close the session. It may be called several times.

        It is called in a sub-reactor that drains, in place of closing the session when that is at rest. Sessions that
        are open when the time is over are closed.
        """


class IHalfCloseListener(Interface):
    """A listener that may have something to send when its peer has ended its side of the stream, such as answers."""

    def onPeerEnded(session: Any) -> bool:
        """
        The peer sends no more, and all that came was delivered. It may still read, or may have gone.

        It may be called several times, and is not async. With workers it is not called.

        :return: True: the session stays open until it is closed, which is the listener's affair from now on; False, or
            an exception, which is logged: it is flushed and closed.
        """


class IBatchListener(IEventListener):
    """
    Optional: a listener that takes packages in lists. Whatever has ``onMessages`` is one.

    It needs no ``onMessage``. If it has one of its own, not only that of :py:class:`getty_tx.EventListener`, a package
    that comes alone is given to that, which is cheaper than a list of one.
    """

    def onMessages(session: Any, packages: list[Any]) -> Coroutine[Any, Any, None] | None:
        """
        Packages arrived: all that one read completed, in order, and never none.

        The rules are those of ``onMessage``, for the list as a whole: raising fails the session, an ``async def`` holds
        the next list, and after ``pauseReading``, ``close`` or a new ``codec`` it is the next list that does not come,
        or is read otherwise. The packages were all decoded before the call. Over WebSocket a control frame between
        messages ends a list, so that a pong keeps its place among the answers. Over UDP, all packages come alone.

        ``startTLS`` raises a CodecError while the list has several packages: those behind the one that asks for TLS
        came in clear.

        :param packages: the listener's own, to keep or to change.
        """


class IConnection(Interface):
    """What a session needs of the connection below it. All calls come on the reactor's thread."""

    kind = Attribute("The kind in str(session): TCP_SERVER, TCP_CLIENT, UNIX_SERVER and so on.")

    def getLocalAddr() -> IAddress:
        """The local address; called once, while the connection is established."""

    def getRemoteAddr() -> IAddress:
        """The peer's address."""

    def applySocketOptions(session: Any) -> None:
        """Set the session's socket options (``tcpNoDelay`` and so on), as far as the socket has them."""

    def pauseReading() -> None:
        """Stop reading from the network until :py:meth:`resumeReading`."""

    def resumeReading() -> None:
        """Read from the network again."""

    def shutdownWriting() -> None:
        """All output is flushed: end the output stream, and go on reading until the peer ends its own."""

    def disconnect() -> None:
        """All output is flushed and the peer has ended its stream: close the connection."""

    def leave() -> None:
        """All output is flushed and the peer does not end: close, but let the kernel send its buffer."""

    def abort() -> None:
        """Drop the connection and its pending bytes now."""

    def sessionOpened() -> None:
        """onOpen has returned and the session is open."""

    def sessionEnded(error: BaseException | None) -> None:
        """onClose has returned; ``error`` is why the session failed, None if it did not."""


class IStreamConnection(IConnection):
    """What a session over a byte stream needs of the connection below it."""

    def startTLS(policy: Any, normal: bool) -> None:
        """Go on with TLS: what was written before leaves in clear, all that is written after is encrypted."""


class IByteSink(Interface):
    """
    An optional interface of transports: bytes leave in the call, as with a socket's ``send``.

    Beside it the transport is as Twisted's own: it has ``TLS``, ``bufferSize``, ``write`` and ``registerProducer``.
    """

    def send(data: bytes) -> int:
        """
        Send bytes at once.

        :return: bytes taken. The next call, or ``write``, has to begin with those that were not.
        :raise OSError: none can be taken now; or the connection is lost, of which the reactor tells.
        """

    def cork(isOn: bool) -> None:
        """True before several calls of ``send``, False after them: what they send leaves in few packets."""


class IReactorTurns(Interface):
    """An optional interface of reactors with epoll, beside Twisted's, where sessions of this package run."""

    def callAtTurnsEnd(call: Callable[[], object]) -> None:
        """
        Call ``call()`` once at the end of this reactor iteration, before the reactor waits for events.

        ``callLater(0)`` has the same effect at several times the cost. Only for the reactor's thread.
        """


class IErrorQueueReactor(Interface):
    """
    An optional interface of reactors with epoll, beside Twisted's, where sessions of this package run: a connection may
    have messages in its error queue, as ``MSG_ZEROCOPY`` makes them, without being lost.
    """

    def addErrorQueue(number: int, read: Callable[[], bool]) -> None:
        """
        Call ``read()`` when the descriptor may have something in its error queue, and is registered to read or write.

        Only for the reactor's thread.

        :param number: the descriptor's.
        :param read: reads the queue (``MSG_ERRQUEUE``), and returns whether it found something. Where it does not, the
            event is what it is for other descriptors: the end of the connection.
        """

    def removeErrorQueue(number: int) -> None:
        """Call it no more; before the descriptor is closed. An unknown number is ignored."""
