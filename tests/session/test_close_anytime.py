"""
``close()`` and ``abort()`` at any moment: in every callback, before and after the session's life, during handshakes,
twice, and from other threads.
"""

from __future__ import annotations

import re
from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.protocols.tls import TLSMemoryBIOFactory

from getty_tx.codecs import LineCodec, RawCodec
from getty_tx.errors import SessionClosedError
from getty_tx.session import cork as turn
from getty_tx.testing import DirectTransport, MemoryTransport
from getty_tx.tls import clientPolicy, serverPolicy
from getty_tx.transports.udp import UDPContext
from tests.support.certificates import selfSigned
from tests.support.datagrams import PEER, DatagramCase
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase, request, response
from tests.support.websocket import frame as webFrame


class Boom(Exception):
    """What these tests close sessions with."""


def inThread(call: Any) -> None:
    """Call it in another thread, and raise here what it raises there."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


class Producer:
    """Has 20 times 100 bytes to say, when it is asked."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.left = 20

    def resumeProducing(self) -> None:
        self.left -= 1
        if self.left >= 0:
            self.session.transport.write(bytes(100))
        if self.left <= 0:
            self.session.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.left = 0


def everything(session: Any) -> None:
    """All that one can call, whatever state it is in."""
    session.close()
    session.pauseReading()
    session.resumeReading()
    session.pauseReading()
    session.touch()
    session.drained().addErrback(lambda failure: failure.trap(SessionClosedError))
    pkg: Any = UDPContext(b"late", PEER) if getattr(session, "isShared", False) else b"late"
    for write in (session.writePkg, session.writeBytes, session.writeBytesArray):
        try:
            write(pkg)
        except SessionClosedError:
            continue
        raise AssertionError(f"{write} after close()")
    transport = session.transport
    transport.write(b"late")
    transport.writeSequence([b"very", b"late"])
    transport.pauseProducing()
    transport.resumeProducing()
    late = Producer(session)
    if not session.outbound.hasProducer:
        transport.registerProducer(late, False)
        assert not late.left, "a producer is not told that it comes too late"
    transport.loseConnection()
    transport.loseWriteConnection()
    transport.stopProducing()
    transport.abortConnection()
    session.resumeReading()
    session.close("again")


def closeAndFail(session: Any) -> None:
    session.close()
    session.close(Boom("second"))


def failTwice(session: Any) -> None:
    session.close(Boom("first"))
    session.close(Boom("second"))


def closeAllTwice(session: Any) -> None:
    session.context.closeAll()
    session.context.closeAll()


#: What is done to a session.
DEEDS: dict[str, Any] = {
    "close": lambda session: session.close(),
    "close with a text": lambda session: session.close("enough"),
    "close with a number": lambda session: session.close(17),
    "close with an error": lambda session: session.close(Boom("enough")),
    "close twice": lambda session: (session.close(), session.close()),
    "close and fail": closeAndFail,
    "fail twice": failTwice,
    "abort": lambda session: session.abort(),
    "abort twice": lambda session: (session.abort(), session.abort()),
    "close, abort": lambda session: (session.close(), session.abort(), session.close()),
    "abort, close": lambda session: (session.abort(), session.close(), session.abort()),
    "everything": everything,
    "closeAll": closeAllTwice,
    "close, in a thread": lambda session: inThread(session.close),
    "fail, in a thread": lambda session: inThread(lambda: session.close(Boom("thread"))),
    "abort, in a thread": lambda session: inThread(session.abort),
}

#: When it is done.
MOMENTS = ("newSession", "open", "message", "cron", "error", "close", "callback", "drained")


class Anytime:
    """
    Each deed at each moment; mixed into a case that knows a kind of connection.

    What a case has to have: ``begin`` opens a session, ``deliver`` has two packages come, ``pass_`` lets time pass,
    and ``assertNothing`` sees that nothing is left.
    """

    heard: Any
    life = "o[mc]*e?x"

    def run_(self, moment: str, deed: str, isAsync: bool = False) -> None:
        case: Any = self
        label = f"{moment}: {deed}"
        done: list[int] = []
        sessions: list[Any] = []

        def do(session: Any, *_: Any) -> Any:
            DEEDS[deed](session)
            if not deed.endswith("thread") and moment != "newSession":
                done.append(len(self.heard.events))
            return Deferred() if isAsync else None

        def drain(session: Any) -> None:
            session.drained().addCallback(lambda _: do(session))

        on: dict[str, Any] = {} if moment in ("newSession", "callback") else {moment: do}
        if moment == "error":
            on["message"] = lambda session, pkg: session.close(Boom("to be told"))
        elif moment == "drained":
            on = {"message": lambda session, pkg: drain(session)}

        def prepare(session: Any) -> None:
            sessions.append(session)
            if moment == "newSession":
                do(session)
            elif moment == "callback":
                session.addCloseCallback(lambda: do(session), "key")

        case.begin(on, prepare, cronPeriod=5.0, waitTime=2.0)
        case.deliver()
        case.pass_(6.0)
        for session in sessions:
            session.close()
        case.pass_(30.0)
        letters = "".join({"open": "o", "close": "x"}.get(name, name[0]) for name in self.heard.names)
        refused = moment == "newSession" and not deed.endswith("thread")
        case.assertTrue(re.fullmatch("" if refused else self.life, letters), f"{label}: {self.heard.names}")
        for at in done[:1]:
            later = self.heard.names[at:]
            case.assertFalse({"open", "message", "cron"} & set(later), f"{label}: {later} came after it")
        for session in sessions:
            case.assertTrue(session.isClosed, label)
            case.assertEqual(session.attributes, {}, label)
            everything(session)
            case.pass_(1.0)
        case.assertEqual(len(self.heard.names), len(letters), f"{label}: {self.heard.names}")
        logged = [failure for failure in case.flushLoggedErrors() if not failure.check(Boom, CancelledError)]
        case.assertEqual(logged, [], label)
        case.assertNothing(label)

    def test_anytime(self) -> None:
        """One onClose, the last of all; no package after it; nothing is left, and nothing goes wrong."""
        for moment in MOMENTS:
            for deed in DEEDS:
                self.run_(moment, deed)

    def test_async(self) -> None:
        """The same in callbacks that return a Deferred, which never fires."""
        for moment in MOMENTS[1:6]:
            for deed in DEEDS:
                self.run_(moment, deed, isAsync=True)


class StreamTests(Anytime, SessionCase):
    """Byte streams."""

    transport: Any = DirectTransport
    wrap: Any = None

    def begin(self, on: Any, prepare: Any, **settings: Any) -> None:
        def newSession(session: Any) -> None:
            configure(self.heard, **settings)(session)
            prepare(session)

        self.open(on, newSession=newSession, autoClose=True, transport=self.transport, wrap=self.wrap)

    def deliver(self) -> None:
        if self.pair.peer.transport is not None:
            self.pair.peer.write(frame(b"1") + frame(b"2"))
        self.pair.flush()

    def pass_(self, seconds: float) -> None:
        self.pair.advance(seconds)

    def assertNothing(self, label: str) -> None:
        self.assertEnded()


class TogetherTests(StreamTests):
    """What messages write stays corked to the end of the reactor's turn."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(turn, "PROBE", 0)
        self.patch(turn, "MANY", 0)


class PendingTests(StreamTests):
    """With bytes that are still to be sent, and a producer that has more of them."""

    def begin(self, on: Any, prepare: Any, **settings: Any) -> None:
        def newSession(session: Any) -> None:
            configure(self.heard, **settings)(session)
            session.writeBytes(bytes(5000))
            session.transport.registerProducer(Producer(session), False)
            prepare(session)

        network = {"capacity": 1000, "delay": 0.4}
        self.open(on, newSession=newSession, autoClose=True, transport=self.transport, network=network)

    def pass_(self, seconds: float) -> None:
        self.pair.advance(seconds + 1)


class IndirectTests(StreamTests):
    """Below a transport that is not Twisted's."""

    transport = MemoryTransport


class TLSTests(StreamTests):
    """Over TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.files = selfSigned(self.mktemp(), ["localhost"])

    def wrap(self, clock: Any, factory: Any, isClient: bool) -> Any:
        policy = clientPolicy("localhost", trustRoot=self.files[0]) if isClient else serverPolicy(*self.files)
        return TLSMemoryBIOFactory(policy, isClient, factory, clock=clock)


class WebTests(Anytime, WebSocketCase):
    """A WebSocket server's side."""

    isClient = False

    def begin(self, on: Any, prepare: Any, **settings: Any) -> None:
        def newSession(session: Any) -> None:
            configure(self.heard, RawCodec(), **settings)(session)
            prepare(session)

        self.connect(on, newSession=newSession, isClient=self.isClient)
        self.pair.peer.autoClose = True
        if self.isClient:
            self.pair.peer.write(response(bytes(self.pair.peer.data)))
        else:
            self.pair.peer.write(request())
        self.pair.flush()

    def deliver(self) -> None:
        peer = self.pair.peer
        if peer.lost is None:
            peer.write(webFrame(2, b"1", masked=not self.isClient) + webFrame(2, b"2", masked=not self.isClient))
        self.pair.flush()

    def pass_(self, seconds: float) -> None:
        self.pair.advance(seconds)

    def assertNothing(self, label: str) -> None:
        self.assertEnded()


class WebClientTests(WebTests):
    """A WebSocket client's side."""

    isClient = True


class SocketTests(Anytime, DatagramCase):
    """The one session of a UDP server's socket."""

    options: dict[str, Any] = {}
    packages: tuple[bytes, ...] = (b"1\n", b"2\n")
    life = "o[mce]*x"

    def begin(self, on: Any, prepare: Any, **settings: Any) -> None:
        def newSession(session: Any) -> None:
            configure(self.heard, LineCodec(), **settings)(session)
            prepare(session)

        self.open(on, newSession=newSession, **self.options)

    def deliver(self) -> None:
        for data in self.packages:
            self.receive(data)
        self.pass_(0.1)

    def pass_(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def assertNothing(self, label: str) -> None:
        self.finish()


class PeerTests(SocketTests):
    """The session of one of its peers."""

    options = {"sessions": "peer"}
    # The next one would open another session.
    packages = (b"1\n",)


class ConnectedTests(SocketTests):
    """A UDP client."""

    options = {"peer": PEER}
