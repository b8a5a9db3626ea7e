"""EndpointConnector with a fake network and a clock, which test_client.py uses too."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    NotConnectingError,
)
from twisted.internet.interfaces import IConnector, IStreamClientEndpoint
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.listener import EventListener
from getty_tx.transports.connector import EndpointConnector
from getty_tx.transports.reconnecting import SessionClientFactory

HERE = IPv4Address("TCP", "127.0.0.1", 40000)
THERE = IPv4Address("TCP", "127.0.0.1", 8090)


class Transport(StringTransport):
    """A client's transport. As with a socket, an abort or a close is reported in the next reactor iteration."""

    def __init__(self, clock: Clock, local: IPv4Address) -> None:
        super().__init__(local, THERE, lenient=True)
        self._clock = clock
        self.protocol: Any = None
        self.gone = False

    def lose(self, error: Exception) -> None:
        """The connection is lost."""
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(error))

    def loseConnection(self) -> None:
        super().loseConnection()
        self._clock.callLater(0, self.lose, ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnected = self.disconnecting = True
        self._clock.callLater(0, self.lose, ConnectionAborted())


class Dial:
    """One attempt; the test decides how it ends."""

    def __init__(self, endpoint: FakeEndpoint, factory: Any) -> None:
        self._endpoint = endpoint
        self.factory = factory
        self.cancelled = False
        self.transport: Any = None
        self.deferred: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self.cancelled = True
        deferred.errback(ConnectingCancelledError(THERE))

    def succeed(self, local: IPv4Address = HERE) -> Dial:
        """The connection is made, in the way of Twisted's endpoints."""
        transport = self.transport = Transport(self._endpoint.clock, local)
        transport.protocol = self.factory.buildProtocol(THERE)
        transport.protocol.makeConnection(transport)
        if not self.deferred.called:
            self.deferred.callback(transport.protocol)
        return self


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """
    Keeps the attempts.

    :ivar dials: all of them, the last one last.
    :ivar times: when they began.
    :ivar refusing: refuses each at once.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.dials: list[Dial] = []
        self.times: list[float] = []
        self.refusing = False

    def __repr__(self) -> str:
        return "fake:8090"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Begin an attempt."""
        dial = Dial(self, protocolFactory)
        self.dials.append(dial)
        self.times.append(self.clock.seconds())
        if self.refusing:
            dial.deferred.errback(ConnectionRefusedError())
        return dial.deferred

    @property
    def pending(self) -> list[Dial]:
        """The attempts that have not ended."""
        return [dial for dial in self.dials if not dial.deferred.called]

    def answer(self) -> list[Dial]:
        """Let all of them succeed."""
        return [dial.succeed() for dial in self.pending]


class PoolCase(SynchronousTestCase):
    """A pool on a clock, which may leave nothing behind when it is closed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FakeEndpoint(self.clock)
        self.listener = EventListener()
        self.closed: list[Any] = []
        self.listener.onClose = self.closed.append
        self.lines: list[tuple[LogLevel, str]] = []
        globalLogPublisher.addObserver(self._logged)
        self.addCleanup(globalLogPublisher.removeObserver, self._logged)

    def _logged(self, event: Any) -> None:
        if event.get("log_namespace") == "getty_tx.transports.reconnecting":
            self.lines.append((event["log_level"], event["log_format"].format(**event)))

    def newSession(self, session: Any) -> None:
        session.codec = LineCodec()
        session.listener = self.listener

    def pool(self, number: int = 1, **options: Any) -> Client:
        """A started pool. At the end of the test it is checked that nothing is left."""
        client = Client(self.newSession, self.endpoint, number, reactor=self.clock, **options)
        client.startService()
        self.addCleanup(self.finish, client)
        return client

    def finish(self, client: Client) -> None:
        """Close, let each peer close too, and check that nothing is left."""
        closing = client.close()
        for dial in self.endpoint.dials:
            if dial.transport is not None:
                dial.transport.lose(ConnectionDone())
        self.clock.advance(0)
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        dials = len(self.endpoint.dials)
        self.clock.pump([1] * 10)
        self.assertEqual((len(self.endpoint.dials), client.sessions), (dials, []))

    def wait(self) -> float:
        """Advance until the next attempt; how long that took."""
        before, start = len(self.endpoint.dials), self.clock.seconds()
        while len(self.endpoint.dials) == before:
            self.clock.advance(0.01)
            self.assertLess(self.clock.seconds() - start, 10, "no other attempt")
        return self.clock.seconds() - start

    def opened(self, number: int = 1, **options: Any) -> Client:
        """A pool whose sessions are all open."""
        client = self.pool(number, **options)
        self.endpoint.answer()
        self.assertEqual(len(client.sessions), number)
        return client


class ConnectorTests(PoolCase):
    """EndpointConnector, and the factory with it."""

    def setUp(self) -> None:
        super().setUp()
        self.factory = SessionClientFactory(self.newSession, reactor=self.clock)
        self.connector = EndpointConnector(self.endpoint, self.factory, self.clock, timeout=5)

    def test_states(self) -> None:
        """The states and errors are those of Twisted's connectors."""
        verifyObject(IConnector, self.connector)
        self.assertIsInstance(self.factory, ReconnectingClientFactory)
        self.assertEqual(str(self.connector.getDestination()), "fake:8090")
        self.assertRaises(NotConnectingError, self.connector.stopConnecting)
        self.connector.disconnect()
        self.connector.connect()
        self.assertEqual(self.connector.state, "connecting")
        self.assertRaises(RuntimeError, self.connector.connect)
        self.endpoint.answer()
        self.assertEqual(repr(self.connector), "<EndpointConnector connected fake:8090>")
        self.assertRaises(NotConnectingError, self.connector.stopConnecting)
        self.connector.disconnect()
        self.assertTrue(self.endpoint.dials[0].transport.disconnecting)
        self.clock.advance(0)
        self.assertEqual((self.connector.state, len(self.closed)), ("disconnected", 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopConnecting(self) -> None:
        """It ends the attempt, which counts as failed unless the factory has stopped trying."""
        self.connector.connect()
        self.connector.disconnect()
        self.wait()
        self.factory.stopTrying()
        self.assertTrue(self.endpoint.dials[1].cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stoppedAtOnce(self) -> None:
        """startedConnecting may stop the attempt before it starts."""
        self.factory.startedConnecting = lambda connector: connector.stopConnecting()
        self.factory.continueTrying = 0
        self.connector.connect()
        self.assertEqual((self.endpoint.dials, self.connector.state), ([], "disconnected"))

    def test_raising(self) -> None:
        """An endpoint that raises has failed to connect."""
        self.endpoint.connect = lambda factory: 1 / 0
        self.connector.connect()
        self.assertIsInstance(self.factory.lastError, ZeroDivisionError)
        self.factory.stopTrying()

    def test_noProtocol(self) -> None:
        """If a factory builds no protocol, the connection is dropped, and the factory is told of its loss."""
        self.factory.buildProtocol = lambda addr: None
        self.connector.connect()
        self.endpoint.answer()
        self.clock.advance(0)
        self.assertIsInstance(self.factory.lastError, ConnectionAborted)
        self.factory.stopTrying()

    def test_resetDelay(self) -> None:
        """It neither forgets a wait nor reverts stopTrying(); retry() adds no second wait."""
        self.connector.connect()
        self.endpoint.dials[0].deferred.errback(ConnectionRefusedError())
        self.factory.resetDelay()
        self.factory.retry()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.factory.stopTrying()
        self.factory.resetDelay()
        self.factory.retry()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRaises(ValueError, SessionClientFactory(self.newSession).retry)
