"""Byte streams over binary messages, for Twisted protocols that do not use sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from getty_tx.codecs.raw import RawCodec
from getty_tx.errors import CodecError, SessionRefusedError
from getty_tx.listener import EventListener
from getty_tx.transports.factories import SessionFactory, SessionServerFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from getty_tx.session.session import Session

__all__ = ["clientTunnel", "serverTunnel"]


class _Tunnel(EventListener):
    """A listener that passes a session's events to a protocol, whose transport is the session's facade."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._error: BaseException | None = None

    def onOpen(self, session: Session) -> None:
        self._protocol.makeConnection(session.transport)

    def onMessage(self, session: Session, pkg: Any) -> None:
        if type(pkg) is str:
            raise CodecError("a text message came where bytes are expected", session)
        if pkg:
            self._protocol.dataReceived(pkg)

    def onError(self, session: Session, error: BaseException) -> None:
        self._error = error

    def onClose(self, session: Session) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone() if self._error is None else self._error))


_codec = RawCodec()


def _newSession(factory: Any) -> Callable[[Session], None]:
    def newSession(session: Session) -> None:
        protocol = factory.buildProtocol(session.remoteAddr)
        if protocol is None:
            raise SessionRefusedError("the factory built no protocol", session)
        session.codec = _codec
        session.listener = _Tunnel(protocol)

    return newSession


class _ServerTunnel(SessionServerFactory):
    """A factory of sessions for the protocols of another factory."""

    def __init__(self, factory: Any) -> None:
        super().__init__(_newSession(factory))
        self._factory = factory

    def startFactory(self) -> None:
        self._factory.doStart()

    def stopFactory(self) -> None:
        self._factory.doStop()


class _ClientTunnel(SessionFactory, ClientFactory[Any]):
    isClient = True
    noisy = False

    def __init__(self, factory: Any, makeProtocol: Callable[[], Any]) -> None:
        super().__init__(_newSession(factory))
        self._factory = factory
        self._makeProtocol = makeProtocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self._makeProtocol()
        protocol.factory = self
        return protocol


def serverTunnel(factory: Any) -> SessionServerFactory:
    """A factory of sessions that carry the byte streams of the given factory's protocols in messages."""
    return _ServerTunnel(factory)


def clientTunnel(factory: Any, makeProtocol: Callable[[], Any]) -> Any:
    """
    The same as :py:func:`serverTunnel` for a client.

    :param makeProtocol: makes the protocol of the session.
    """
    return _ClientTunnel(factory, makeProtocol)
