"""
``session.transport``: the connection as a Twisted transport.

Code written for Twisted's transports (producers, ``startTLS``, FileSender) works on it, and its bytes go the same way
out as the session's packages, so that none overtakes another or leaves in clear after ``startTLS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress, IProducer

    from getty_tx.session.outbound import Outbound

__all__ = ["SessionTransport"]


@implementer(ITransport, IConsumer, IPushProducer)
class SessionTransport:
    """
    A facade over the transport of a session.

    What is not named here (``getPeerCertificate``, ``negotiatedProtocol``, ``getTcpNoDelay`` and so on) is asked of the
    transport itself. As with Twisted's transports, what is written after the end is dropped without an error.
    """

    __slots__ = ("_outbound", "_session")

    def __init__(self, session: Any, outbound: Outbound) -> None:
        self._session = session
        self._outbound = outbound

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._outbound.transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes; counted in ``writeBytes``, and as no package."""
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        session = self._session
        # close() waits for a registered producer, which may write until then.
        if data and (not session.isClosed or self._outbound.hasProducer):
            session.bytesWritten += len(data)
            self._outbound.write(data, len(data))

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send several pieces of bytes."""
        self.write(b"".join(iovec))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Pause and resume ``producer`` at the session's water marks. ``close()`` waits for ``unregisterProducer()``.

        :raise RuntimeError: there is one already.
        """
        if self._session.isClosed:
            producer.stopProducing()
        else:
            self._outbound.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has ended."""
        self._outbound.unregisterProducer()

    def pauseProducing(self) -> None:
        """As ``session.pauseReading()``."""
        self._session.pauseReading()

    def resumeProducing(self) -> None:
        """As ``session.resumeReading()``."""
        self._session.resumeReading()

    def stopProducing(self) -> None:
        """As ``session.close()``."""
        self._session.close()

    def loseConnection(self) -> None:
        """As ``session.close()``: flush, then close."""
        self._session.close()

    def loseWriteConnection(self) -> None:
        """As ``session.close()``, which ends the sending side first and waits for the peer's end."""
        self._session.close()

    def abortConnection(self) -> None:
        """Drop the connection and what is pending."""
        self._session.abort()

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """
        Go on with TLS. What was written before leaves in clear, all that is written after is encrypted.

        :param contextFactory: what :py:mod:`getty_tx.tls` makes, or any that Twisted's ``startTLS`` takes.
        :raise getty_tx.errors.CodecError: bytes that came in clear are buffered behind the package that asked for TLS;
            they would be taken for encrypted ones, so the session must fail.
        """
        self._session.startTLS(contextFactory, normal)

    @property
    def disconnecting(self) -> bool:
        """True once the session is closing."""
        return bool(self._session.isClosed)

    def getPeer(self) -> IAddress:
        """The peer's address."""
        address: IAddress = self._session.remoteAddr
        return address

    def getHost(self) -> IAddress:
        """This end's address."""
        address: IAddress = self._session.localAddr
        return address
