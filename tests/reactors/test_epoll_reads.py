"""The getty reactor: logging in reads, errors of reads, reused descriptor numbers."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.internet.threads import deferToThreadPool
from twisted.python import context, log
from twisted.python.failure import Failure

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.listener import EventListener
from getty_tx.server import Server
from tests.reactors.test_epoll import ReactorCase, Recorder
from tests.support.memory import configure


class ContextTests(ReactorCase):
    """Logging and errors in reads."""

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[tuple[str, str]] = []

        def observe(event: Any) -> None:
            if event.get("message") or event.get("isError"):
                self.logged.append(("".join(event["message"]), event["system"]))

        log.addObserver(observe)
        self.addCleanup(log.removeObserver, observe)

    def test_system(self) -> None:
        """Each read logs as its own descriptor; other calls log without a system."""
        peers: list[socket.socket] = []

        def heard(data: bytes) -> None:
            log.msg(data.decode())
            index = int(data)
            if len(self.logged) < 9:
                peers[index].send(data)
            else:
                self.reactor.callLater(0, log.msg, "outside")
                self.reactor.callLater(0, self.end)

        for index in range(3):
            peers.append(self.connect(heard, f"name-{index}")[1])
            peers[-1].send(b"%d" % index)
        self.run_()
        logged = [entry for entry in self.logged if entry[0] in ("0", "1", "2", "outside")]
        self.assertGreaterEqual(len(logged), 10)
        expected = {("0", "name-0"), ("1", "name-1"), ("2", "name-2"), ("outside", "-")}
        self.assertEqual(set(logged), expected)

    def test_outerContext(self) -> None:
        """The logging context of reactor.run() is part of that of each read."""
        found = []

        def heard(data: bytes) -> None:
            found.append(dict(context.get(log.ILogContext)))
            if len(found) == 3:
                self.end()
            peer.send(data)

        _, peer = self.connect(heard, "name")
        peer.send(b"x")
        log.callWithContext({"job": 7}, self.run_)
        self.assertEqual(found, [{"job": 7, "system": "name"}] * 3)

    def test_inThread(self) -> None:
        """A thread started in a read logs as that descriptor, whatever the reactor does meanwhile."""
        peers: list[socket.socket] = []
        turns = 0
        results: list[str] = []

        def look() -> str:
            # Until the other descriptor has read often.
            os.read(pipe[0], 1)
            system: str = context.get(log.ILogContext)["system"]
            return system

        def one(data: bytes) -> None:
            if data == b"!":
                deferToThreadPool(self.reactor, self.reactor.getThreadPool(), look).addCallback(done)
                peers[1].send(b"x")
            else:
                # The second read, from which on the context is cached.
                peers[0].send(b"!")

        def other(data: bytes) -> None:
            nonlocal turns
            turns += 1
            if turns == 10:
                os.write(pipe[1], b"x")
            else:
                peers[1].send(b"x")

        def done(system: str) -> None:
            results.append(system)
            self.end()

        pipe = os.pipe()
        for end in pipe:
            self.addCleanup(os.close, end)
        peers += [self.connect(one, "one")[1], self.connect(other, "other")[1]]
        peers[0].send(b"?")
        self.run_()
        self.assertEqual(results, ["one"])

    def test_nameChanges(self) -> None:
        """A descriptor that is registered again, such as a client's when it is connected, logs with its new name."""
        systems = []

        def heard(data: bytes) -> None:
            systems.append(context.get(log.ILogContext)["system"])
            if len(systems) == 3:
                connection.logstr = "after"
                connection.pauseProducing()
                self.reactor.callLater(0, connection.resumeProducing)
            elif len(systems) == 5:
                self.end()
            peer.send(data)

        connection, peer = self.connect(heard, "before")
        peer.send(b"x")
        self.run_()
        self.assertEqual(systems, ["before"] * 3 + ["after"] * 2)

    def test_failingName(self) -> None:
        """A descriptor whose logPrefix() raises still reads."""
        systems = []

        def heard(data: bytes) -> None:
            systems.append(context.get(log.ILogContext)["system"])
            if len(systems) == 3:
                self.end()
            peer.send(data)

        connection, peer = self.connect(heard)
        connection.logPrefix = lambda: 1 // 0
        peer.send(b"x")
        self.run_()
        self.assertEqual(systems, ["(buggy logPrefix method)"] * 3)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_failingRead(self) -> None:
        """A protocol that raises in its first read loses its connection with that error; others are not affected."""
        self.failAfter(0)

    def test_failingLater(self) -> None:
        """The same in a later read, which takes the fast path."""
        self.failAfter(3)

    def failAfter(self, left: int) -> None:
        systems = []

        def heard(data: bytes) -> None:
            nonlocal left
            if not left:
                raise ZeroDivisionError
            left -= 1
            peer.send(data)

        def lost(reason: Failure) -> None:
            ended.append(type(reason.value))
            systems.append(context.get(log.ILogContext)["system"])
            otherPeer.send(b"x")

        ended: list[type] = []
        connection, peer = self.connect(heard, "failing")
        connection.protocol.connectionLost = lost
        _, otherPeer = self.connect(lambda data: self.end())
        peer.send(b"x")
        self.run_()
        self.assertEqual((ended, systems), ([ZeroDivisionError], ["failing"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn(("", "failing"), self.logged)
        self.assertEqual(connection.fileno(), -1)


class KeepingTests(ReactorCase):
    """The contexts that are kept."""

    def test_ends(self) -> None:
        """The end of the stream after reads is clean, and the cached context is dropped."""
        connection, peer = self.connect(lambda data: peer.close() if data == b"2" else peer.send(b"2"))
        connection.protocol.connectionLost = lambda reason: (ended.append(reason.value), self.end())
        ended = connection.protocol.ended
        peer.send(b"1")
        self.run_()
        self.assertEqual([type(end) for end in ended], [ConnectionDone])
        self.assertEqual(self.reactor.readContexts, {})

    def test_keepsNobody(self) -> None:
        """A closed connection is freed, even if no other event comes."""

        def heard(data: bytes) -> None:
            if data == b"3":
                peer.close()
            else:
                peer.send(b"%d" % (int(data) + 1))

        connection, peer = self.connect(heard)
        gone = weakref.ref(connection)
        del connection
        seen: list[Any] = []
        peer.send(b"0")
        self.reactor.callLater(0.02, lambda: (gc.collect(), seen.append(gone()), self.end()))
        self.run_()
        self.assertEqual(seen, [None])


class NumberTests(ReactorCase):
    """Descriptor numbers that are reused."""

    def test_eventOfThePredecessor(self) -> None:
        """An event for the previous descriptor of a number does not reach the new one, which would hang up."""
        heard: list[bytes] = []

        def replace(data: bytes) -> None:
            number = first.fileno()
            first.connectionLost(Failure(ConnectionDone()))
            near, far = socket.socketpair()
            self.addCleanup(far.close)
            if near.fileno() != number:
                os.dup2(near.fileno(), number)
                near.close()
                near = socket.socket(fileno=number)
            second: Any = Connection(near, Recorder(heard.append), self.reactor)
            second.connected = True
            second.protocol.makeConnection(second)
            second.startReading()
            self.second = second
            self.reactor.callLater(0.01, far.send, b"hello")
            self.reactor.callLater(0.05, self.end)

        # Ready when registered, so before the next one, whose hang-up is in the same iteration.
        opener, peer = self.connect(replace, reads=False)
        peer.send(b"x")
        opener.startReading()
        first, firstPeer = self.connect(lambda data: None, reads=False)
        first.startWriting()
        firstPeer.close()
        lost: list[Any] = []
        first.doWrite = lambda: None
        self.reactor.callLater(0.04, lambda: lost.extend(self.second.protocol.ended))
        self.run_()
        self.assertEqual(lost, [])
        self.assertEqual(heard, [b"hello"])


class ReconnectingTests(ReactorCase):
    """Sessions on numbers that are reused."""

    def test_closingInEveryCallback(self) -> None:
        """While sessions close in any callback and new ones connect, each gets only its own peer's data."""
        wanted = 300
        wrong: list[Any] = []
        closed = 0

        class Closing(EventListener):
            """The server: drops the connection in onOpen or at a message, or closes at the first or second."""

            def onOpen(self, session: Any) -> None:
                session.attributes["way"] = session.id % 4
                if session.id % 4 == 0:
                    session.transport.abortConnection()

            def onMessage(self, session: Any, pkg: Any) -> None:
                if pkg != b"%d" % session.remoteAddr.port:
                    wrong.append((session, pkg))
                way = session.attributes["way"]
                if way == 1:
                    session.close()
                elif way == 2:
                    session.transport.abortConnection()
                else:
                    session.attributes["way"] = 1
                    session.writePkg(pkg)

            def onClose(self, session: Any) -> None:
                nonlocal closed
                closed += 1
                session.close()
                if closed == wanted:
                    client.stopService()
                    server.stopService().addBoth(lambda _: case.end())

        class Dialing(EventListener):
            """The client: sends its name, and again when it comes back."""

            def onOpen(self, session: Any) -> None:
                session.writePkg(b"%d" % session.localAddr.port)

            def onMessage(self, session: Any, pkg: Any) -> None:
                if pkg != b"%d" % session.localAddr.port:
                    wrong.append((session, pkg))
                session.writePkg(pkg)

        case = self
        server = Server(
            configure(Closing(), LineCodec(), waitTime=0.05), "tcp:0:interface=127.0.0.1", reactor=self.reactor
        )
        client: Any = None

        def dial(addresses: Any) -> None:
            nonlocal client
            client = Client(
                configure(Dialing(), LineCodec(), waitTime=0.05),
                f"tcp:127.0.0.1:{addresses[0].port}",
                number=20,
                reconnectInterval=0.001,
                reactor=self.reactor,
            )
            client.startService()

        server.startService()
        server.whenListening().addCallback(dial)
        self.run_()
        self.assertEqual(wrong, [])
        self.assertGreaterEqual(closed, wanted)
