"""
Session: what applications hold of a connection. The order of its events is in :py:mod:`getty_tx.session.lifecycle`.
"""

from __future__ import annotations

from itertools import count
from sys import intern
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from getty_tx import settings
from getty_tx.errors import CodecError, SessionBlockedError, SessionClosedError, SettingError
from getty_tx.listener import EventListener, ListenerProxy
from getty_tx.session.addresses import formatAddress
from getty_tx.session.batches import checkMethods, readerOf, setListener, setReader, writesMany
from getty_tx.session.buffers import CHUNK
from getty_tx.session.compressed import CompressionSetting
from getty_tx.session.facade import SessionTransport
from getty_tx.session.files import sendFile
from getty_tx.session.lifecycle import ENDED, GONE, LOST, OPEN, Lifecycle
from getty_tx.session.pausing import CLOSED, USER
from getty_tx.session.threads import current
from getty_tx.session.totals import Stats
from getty_tx.session.zerocopy import ZeroCopySetting
from getty_tx.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.interfaces import IAddress

    from getty_tx.interfaces import IConnection, IEventListener, IReader, IReadWriter, IStreamConnection, IWriter
    from getty_tx.session.context import ServiceContext

__all__ = ["Session"]

log = Logger()

_ids = count(1)
_silent = EventListener()


class Session(Lifecycle):
    """
    One connection, its settings and its state. Made by the connection, configured by ``newSession``.

    A setting that cannot be is a :py:exc:`~getty_tx.errors.SettingError`, and one that comes after the end, when no
    package goes either way any more, a :py:exc:`~getty_tx.errors.SessionClosedError`; nothing has changed then.

    :ivar id: a number that is unique in this process.
    :ivar transport: the connection as a Twisted transport whose bytes keep their order with those of packages.
    """

    __slots__ = (
        "_cronPeriod",
        "_highWater",
        "_idleTimeout",
        "_localAddr",
        "_lowWater",
        "_maxLifetime",
        "_maxMsgLen",
        "_maxPending",
        "_name",
        "_readTimeout",
        "_receiveBufferSize",
        "_sendBufferSize",
        "_tcpKeepAlive",
        "_tcpNoDelay",
        "_thread",
        "_unsentLimit",
        "_waitTime",
        "_writeTimeout",
        "id",
        "transport",
    )

    #: Whether the message that ``read`` is given is text; None where there are no messages.
    isText: bool | None = None

    #: What a WebSocket client asked for; None elsewhere.
    request: Any = None

    #: Datagrams that were dropped; sessions over datagrams count them.
    datagramsDropped = 0

    _maxPending: int
    _name: str

    name = Setting(settings.text, "session", "What ``str(session)`` begins with.")
    maxMsgLen = Setting(settings.size, 128 * 1024, "Bytes of the longest package, header included.")
    cronPeriod = Setting(settings.seconds, 60.0, "Seconds between two calls of onCron.")
    waitTime = Setting(settings.seconds, 3.0, "Seconds without progress after which a close drops the connection.")
    readTimeout = Setting(settings.optionalSeconds, None, "Seconds of silence after which it fails; None: never.")
    writeTimeout: Setting[float | None] = Setting(
        settings.optionalSeconds, 5.0, "Seconds that pending bytes may make no progress; None: for ever."
    )
    idleTimeout = Setting(settings.optionalSeconds, None, "Seconds without a byte either way; None: for ever.")
    maxLifetime = Setting(settings.optionalSeconds, None, "Seconds until it is closed; None: for ever.")
    tcpNoDelay = Setting(settings.flag, True, "TCP_NODELAY: send small packages at once.")
    tcpKeepAlive = Setting(settings.flag, True, "SO_KEEPALIVE: have the system probe a silent peer.")
    sendBufferSize = Setting(settings.bufferSize, None, "SO_SNDBUF in bytes; None: the system's.")
    receiveBufferSize = Setting(settings.bufferSize, None, "SO_RCVBUF in bytes; None: the system's.")
    unsentLimit = Setting(settings.bufferSize, None, "TCP_NOTSENT_LOWAT in bytes; None: the system's.")
    highWater = Setting(settings.size, 256 * 1024, "Pending bytes above which the session stops reading.")
    lowWater = Setting(settings.size, 64 * 1024, "Pending bytes at which it reads again.")
    maxPending = Setting(settings.size, 16 * 1024 * 1024, "Pending bytes above which a write is refused.")
    compression = CompressionSetting()
    zeroCopy = ZeroCopySetting()

    def __init__(self, connection: IConnection, context: ServiceContext, transport: Any) -> None:
        for slot, value in _DEFAULTS:
            setattr(self, slot, value)
        Lifecycle.__init__(self, connection, context, transport, _silent)
        self.id = next(_ids)
        self.transport = SessionTransport(self, self.outbound)
        self._takeName()
        # Asked now: a closed socket cannot tell it.
        self._localAddr: IAddress = context.sharedAddress(connection.getLocalAddr())
        self._thread = context.threads.reactorThread

    def _takeName(self) -> None:
        self._name = intern(self.connection.kind.partition("_")[0].lower() + "-session")

    # What an application asks and sets

    def checkSetting(self, name: str, value: Any) -> None:
        """Refuse a value that does not fit now."""
        if self.state > OPEN and (self.inbound.paused & CLOSED or self.state >= ENDED):
            # After a loss it still has a meaning while buffered packages are delivered.
            text = f"{self} is closed: {name}={value!r} comes too late; set it in newSession, or before the end"
            raise SessionClosedError(text, self)
        if self.cronGroup is None:
            # In newSession they may come in any order; _checkSettings sees whether they fit together.
            return
        if name == "highWater" and value < self._lowWater:
            raise SettingError(f"highWater={value} is less than lowWater={self._lowWater}: set lowWater first")
        if name == "lowWater" and value > self._highWater:
            raise SettingError(f"lowWater={value} is more than highWater={self._highWater}: set highWater first")
        if value is None and name in ("sendBufferSize", "receiveBufferSize", "unsentLimit"):
            before = getattr(self, name)
            if before is not None:
                text = f"{name}=None comes too late: the socket has {before} bytes already; give another number"
                raise SettingError(text)

    def _checkSettings(self) -> None:
        """Check that the settings fit together, after newSession."""
        if self._lowWater > self._highWater:
            raise SettingError(f"lowWater={self._lowWater} is more than highWater={self._highWater}: set both")

    @property
    def codec(self) -> IReadWriter:
        """The ReadWriter of both directions; where two were set, the reader."""
        return cast("IReadWriter", readerOf(self))

    @codec.setter
    def codec(self, codec: IReadWriter) -> None:
        checkMethods("codec", codec, ("read", "write"))
        self.checkSetting("codec", codec)
        self.encoder = codec
        setReader(self, codec)

    @property
    def reader(self) -> IReader | None:
        """What reads packages from bytes."""
        return cast("IReader | None", readerOf(self))

    @reader.setter
    def reader(self, reader: IReader) -> None:
        checkMethods("reader", reader, ("read",))
        self.checkSetting("reader", reader)
        setReader(self, reader)

    @property
    def writer(self) -> IWriter | None:
        """What writes packages to bytes."""
        writer: IWriter | None = self.encoder
        return writer

    @writer.setter
    def writer(self, writer: IWriter) -> None:
        checkMethods("writer", writer, ("write",))
        self.checkSetting("writer", writer)
        self.encoder = writer

    @property
    def listener(self) -> IEventListener:
        """The object whose methods are called for events."""
        listener: Any = self.receiver
        while isinstance(listener, ListenerProxy):
            listener = listener.listener
        return listener  # type: ignore[no-any-return]  # the setter has checked it

    @listener.setter
    def listener(self, listener: IEventListener) -> None:
        checkMethods("listener", listener)
        self.checkSetting("listener", listener)
        setListener(self, listener)

    @property
    def attributes(self) -> dict[Any, Any]:
        """A dict for the application; emptied after onClose."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    @property
    def service(self) -> Any:
        """The Server or Client that the session belongs to, or the factory where there is neither."""
        return self.context.service

    @property
    def provider(self) -> Any:
        """What the registry says of the peer, a :py:class:`getty_tx.registry.Provider`; None without a registry."""
        return getattr(getattr(self.connection, "factory", None), "provider", None)

    @property
    def isClosed(self) -> bool:
        """True once the session is closing or closed: it takes no more packages."""
        return self.state > OPEN

    @property
    def localAddr(self) -> IAddress:
        """This end's address; behind ``haproxy:`` the one that the proxy connected to."""
        return self._localAddr

    @property
    def remoteAddr(self) -> IAddress:
        """The peer's address; behind ``haproxy:`` the one that the proxy told."""
        return self.connection.getRemoteAddr()

    @property
    def stats(self) -> Stats:
        """The counters."""
        return Stats(self)

    @property
    def lastActive(self) -> float:
        """When bytes last came, or ``touch()`` was called, in seconds on the reactor's clock."""
        return self.activeAt

    def touch(self) -> None:
        """Count this moment as active, so that ``readTimeout`` and ``idleTimeout`` start anew."""
        self.activeAt = self.context.seconds()
        if self.lifetime is not None:
            self.lifetime.touch()

    @property
    def pendingBytes(self) -> int:
        """Bytes written and not yet taken by the system."""
        return self.outbound.pending

    def __str__(self) -> str:
        local, remote = formatAddress(self.localAddr), formatAddress(self.remoteAddr)
        return f"{{{self._name}:{self.connection.kind}:{self.id}:{local}<->{remote}}}"

    __repr__ = __str__

    # Writing

    def writePkg(self, pkg: Any, timeout: float | None = None) -> int:
        """
        Encode a package and send it, or keep what the system does not take. Never blocks; any thread may call.

        :param timeout: seconds by which the bytes must be out, or the session fails with WriteTimeoutError.
        :return: bytes encoded.
        :raise SessionClosedError: the session is closed.
        :raise SessionBlockedError: more than ``maxPending`` bytes are pending already; nothing was taken.
        :raise Exception: whatever the codec raises for a package that it cannot encode; the session lives.
        """
        if timeout is not None:
            settings.seconds("timeout", timeout)
        if get_ident() != self._thread:
            data = self.encoder.write(self, pkg)
            run = current.run
            if type(data) is not bytes or run is None or timeout is not None or self.state > OPEN:
                return self._writeFromThread(self._asChunks(data), timeout, 1)
            if self.outbound.refuses(run.pendingBytes):
                raise self._blocked()
            length = len(data)
            run.write(self, data, 1, length)
            return length
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        outbound = self.outbound
        if outbound.blocked and outbound.refuses():
            raise self._blocked()
        data = self.encoder.write(self, pkg)
        if type(data) is not bytes:
            return self._writeChunks(self._asChunks(data), timeout, 1)
        length = len(data)
        self.bytesWritten += length
        self.pkgsWritten += 1
        outbound.write(data, length)
        if timeout is not None:
            self._setWriteDeadline(timeout)
        return length

    def writePkgs(self, packages: list[Any], timeout: float | None = None) -> int:
        """
        Encode the packages of a list and send them together; otherwise as :py:meth:`writePkg`.

        If one of them cannot be encoded, or the write is refused, none of them is sent.
        """
        if timeout is not None:
            settings.seconds("timeout", timeout)
        encoder: Any = self.encoder
        if len(packages) > 1 and writesMany(encoder.__class__):
            data = encoder.writeMany(self, packages)
        else:
            data = [chunk for pkg in packages for chunk in self._asChunks(encoder.write(self, pkg))]
        isPlain = type(data) is bytes and timeout is None
        if isPlain and self.state <= OPEN and get_ident() == self._thread and not self.outbound.blocked:
            length = len(data)
            self.bytesWritten += length
            self.pkgsWritten += len(packages)
            self.outbound.write(data, length)
            return length
        return self._writePieces(self._asChunks(data), timeout, len(packages))

    def _writePieces(self, pieces: list[Any], timeout: float | None, packages: int) -> int:
        if get_ident() != self._thread:
            return self._writeFromThread(pieces, timeout, packages)
        return self._writeChunks(pieces, timeout, packages)

    def writeBytes(self, data: bytes) -> int:
        """Send bytes past the codec; otherwise as :py:meth:`writePkg`."""
        return self.writeBytesArray(data)

    def writeBytesArray(self, *chunks: bytes) -> int:
        """Send pieces of bytes past the codec, with nothing between them; each counts as one package."""
        return self._writePieces(self._asChunks(list(chunks)), None, len(chunks))

    def _asChunks(self, data: Any) -> list[Any]:
        if type(data) is not list:
            return [self._asBytes(data)]
        return [chunk if type(chunk) is bytes else self._asBytes(chunk) for chunk in data]

    def _asBytes(self, chunk: Any) -> bytes | memoryview:
        if type(chunk) is bytes:
            return chunk
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise CodecError(f"a stream takes bytes, not {type(chunk).__name__}", self)
        if type(chunk) is memoryview and type(chunk.obj) is bytes and chunk.c_contiguous:
            # Nobody can change these bytes, and this view is not the caller's to release.
            return chunk.cast("B")
        # The caller may change a bytearray before it is sent.
        return bytes(chunk)

    def _writeChunks(self, chunks: list[bytes], timeout: float | None, packages: int) -> int:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        outbound = self.outbound
        if outbound.refuses():
            raise self._blocked()
        length = sum(map(len, chunks))
        self.bytesWritten += length
        self.pkgsWritten += packages
        outbound.writev(chunks, length)
        if timeout is not None:
            self._setWriteDeadline(timeout)
        return length

    def _blocked(self) -> SessionBlockedError:
        return SessionBlockedError(
            f"{self} is blocked: {self.pendingBytes} bytes are pending, more than maxPending={self._maxPending}", self
        )

    def _setWriteDeadline(self, timeout: float) -> None:
        if self.outbound.pending:
            self.outbound.limit(timeout)

    def _writeFromThread(self, chunks: list[bytes], timeout: float | None, packages: int) -> int:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        length = sum(map(len, chunks))
        run = current.run
        if run is not None and timeout is None:
            if self.outbound.refuses(run.pendingBytes):
                raise self._blocked()
            run.write(self, chunks, packages, length)
            return length
        if self.outbound.refuses(self.context.threads.bytesFor(self)):
            raise self._blocked()
        self.context.threads.call(self.writeForThread, chunks, timeout, packages, session=self, length=length)
        return length

    def writeForThread(self, chunks: list[bytes], timeout: float | None, packages: int) -> None:
        if self.state > OPEN:
            log.info("{session}: closed before what another thread wrote could be sent", session=self)
            return
        length = sum(map(len, chunks))
        self.bytesWritten += length
        self.pkgsWritten += packages
        if length <= CHUNK:
            self.outbound.write(b"".join(chunks), length)
        else:
            self.outbound.writev(chunks, length)
        if timeout is not None:
            self._setWriteDeadline(timeout)

    def drained(self) -> Deferred[None]:
        """Fires when nothing is pending; fails with SessionClosedError if the connection is lost first."""
        waiting: Deferred[None] = Deferred()
        if self.state >= LOST:
            waiting.errback(SessionClosedError(f"{self} is closed", self))
        else:
            self.outbound.drained(waiting)
        return waiting

    sendFile = sendFile

    # Reading

    def pauseReading(self) -> None:
        """
        Stop reading and delivering, from the next package on, until :py:meth:`resumeReading`.

        It has no effect when the connection is gone: packages that it left are delivered, as nothing waits for them.
        Any thread may call.
        """
        if get_ident() != self._thread:
            self.context.threads.call(self.pauseReading)
        elif self.state < LOST:
            self.inbound.pause(USER)

    def resumeReading(self) -> None:
        """Deliver what is buffered, then read on. Any thread may call."""
        if get_ident() != self._thread:
            self.context.threads.call(self.resumeReading)
        else:
            self.inbound.resume(USER)

    # Closing

    def close(self, reason: BaseException | str | None = None) -> None:
        """
        Flush what is pending, end this side, read on to the peer's end, and close. Any thread may call.

        When ``waitTime`` passes in which the peer takes nothing, or does not end, the connection is dropped. A session
        that is closed already stays as it is; of what a lost connection has left no more is delivered.

        :param reason: an exception is given to onError, as the session failed then; a text is logged.
        """
        if get_ident() != self._thread:
            self.context.threads.call(self.close, reason)
            return
        if isinstance(reason, BaseException):
            self.fail(reason)
        elif self.state <= OPEN:
            if reason is not None:
                log.info("{session}: closing: {reason}", session=self, reason=reason)
            self.closedLocally = True
            self.beginClosing()
        elif self.state == LOST:
            self._dropRest()

    def abort(self) -> None:
        """Drop the connection and what is pending, now; any thread may call. No error: onClose is what follows."""
        if get_ident() != self._thread:
            self.context.threads.call(self.abort)
            return
        if self.state < LOST:
            self.closedLocally = True
            if self.state <= OPEN:
                self.beginClosing()
            self.connection.abort()
        elif self.state == LOST:
            self._dropRest()

    def startTLS(self, contextFactory: Any, normal: bool) -> None:
        if self.state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        # It refuses where there is no stream.
        self.inbound.startTLS()
        if self.outbound.hasParts:
            raise CodecError("a file is on its way: startTLS when the Deferred of sendFile has fired", self)
        cast("IStreamConnection", self.connection).startTLS(contextFactory, normal)
        self._takeName()
        self.inbound.beginHandshake()

    def addCloseCallback(self, call: Callable[[], object], key: Hashable) -> None:
        """
        Call ``call()`` after onClose. The same key replaces in place; the order is that of the keys' first use.

        :raise SessionClosedError: onClose has returned, so that it would never be called.
        """
        if self.state == GONE:
            raise SessionClosedError(f"{self} is closed: its close callbacks were called already", self)
        self._closeCallbacks = {**(self._closeCallbacks or {}), key: call}

    def removeCloseCallback(self, key: Hashable) -> None:
        """Remove a close callback; an unknown key is ignored."""
        (self._closeCallbacks or {}).pop(key, None)


_DEFAULTS = settings.defaults(Session)
