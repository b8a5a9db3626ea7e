"""Tests of processes/ports: binding and accepting in the main process."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx.endpoints import listensWith
from getty_tx.errors import SettingError
from getty_tx.processes import listening
from getty_tx.processes import ports as binding
from getty_tx.processes.listening import Binding
from getty_tx.processes.ports import RETRY, AcceptingPort, accepting, bindAll, sharing
from tests.support.certificates import Authority
from tests.tap.test_listen import hasIPv6

if TYPE_CHECKING:
    from getty_tx.processes.member import PendingConnection


class AcceptingTests(TestCase):
    """AcceptingPort with real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.accepted: list[PendingConnection] = []

    def tearDown(self) -> None:
        for each in self.accepted:
            each.connection.close()

    async def listen(self, description: str, number: int = 0) -> AcceptingPort:
        """Make an accepting port that accepts."""
        port = await accepting(description, number, self.accepted.extend, reactor)
        self.addCleanup(port.stop)
        port.listen()
        port.setAccepting(True)
        return port

    async def connect(self, port: Any) -> PendingConnection:
        """Connect to the port; return the accepted connection."""
        client = socket.socket(socket.AF_INET6 if ":" in port.address.host else socket.AF_INET)
        self.addCleanup(client.close)
        client.connect((port.address.host, port.address.port))
        return await self.next()

    async def next(self) -> PendingConnection:
        """Return the next accepted connection."""
        count = len(self.accepted)
        while len(self.accepted) == count:
            await deferLater(reactor, 0.002)
        return self.accepted[-1]

    async def test_tcp(self) -> None:
        """A connection has the number of its endpoint and the peer's address."""
        accepted = await self.connect(await self.listen("tcp:0:interface=127.0.0.1", 7))
        self.assertEqual((7, "127.0.0.1", True), (accepted.endpoint, accepted.host, accepted.counted))

    async def test_tcp6(self) -> None:
        """A connection over IPv6 has its peer's address."""
        accepted = await self.connect(await self.listen(r"tcp:0:interface=\:\:1"))
        self.assertEqual("::1", accepted.host)

    if not hasIPv6():
        test_tcp6.skip = "there is no IPv6 here"  # type: ignore[attr-defined]

    async def test_wrapped(self) -> None:
        """TLS does not change the peer's address; behind HAProxy the address is not the peer's."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        for description, counted in [
            (f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1", True),
            ("ws:0:path=/:interface=127.0.0.1", True),
            ("haproxy:tcp:0:interface=127.0.0.1", False),
            (r"ws:endpoint=haproxy\:tcp\:0\:interface=127.0.0.1:path=/", False),
        ]:
            accepted = await self.connect(await self.listen(description))
            self.assertEqual(counted, accepted.counted, description)

    async def test_unix(self) -> None:
        """The peer of a unix socket has no address; the file is removed with the port."""
        path = self.mktemp()
        port = await accepting(f"unix:{path}", 0, self.accepted.extend, reactor)
        port.setAccepting(True)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            self.assertIsNone((await self.next()).host)
        await port.stop()
        self.assertFalse(os.path.exists(path))

    async def test_notYet(self) -> None:
        """TCP is bound at once, so that no other program can, and listens on ``listen()``."""
        port = await accepting("tcp:0:interface=127.0.0.1", 0, self.accepted.extend, reactor)
        self.addCleanup(port.stop)
        address: Any = port.address
        with socket.socket() as client:
            self.assertRaises(ConnectionRefusedError, client.connect, (address.host, address.port))
        port.setAccepting(True)
        port.listen()
        port.setAccepting(True)
        await self.connect(port)

    async def test_neverListened(self) -> None:
        """A port that was only bound is free after ``stop()``."""
        port = await accepting("tcp:0:interface=127.0.0.1", 0, self.accepted.extend, reactor)
        address: Any = port.address
        await port.stop()
        with socket.socket() as other:
            other.bind((address.host, address.port))

    async def test_paused(self) -> None:
        """While the port does not accept, connections wait in the backlog; none is refused."""
        port = await self.listen("tcp:0:interface=127.0.0.1")
        port.setAccepting(False)
        address: Any = port.address
        clients = [socket.create_connection((address.host, address.port)) for _ in range(150)]
        await deferLater(reactor, 0.02)
        self.assertEqual([], self.accepted)
        port.setAccepting(True)
        while len(self.accepted) < 150:
            await deferLater(reactor, 0.002)
        for client in clients:
            client.close()

    async def test_taken(self) -> None:
        """An address in use is an error at once."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            for make in (
                lambda: accepting(f"tcp:{number}:interface=127.0.0.1", 0, self.accepted.extend, reactor),
                lambda: sharing(f"tcp:{number}:interface=127.0.0.1", 2, reactor),
            ):
                error = await self.assertFailure(_deferred(make), CannotListenError)
                self.assertEqual((number, "127.0.0.1"), (error.port, error.interface))

    async def test_ownWay(self) -> None:
        """An endpoint that does not listen through the reactor is an error."""
        make = _deferred(lambda: accepting("stdio:", 0, self.accepted.extend, reactor))
        self.assertIn("does not listen through the reactor", str(await self.assertFailure(make, SettingError)))

    async def test_anyEndpoint(self) -> None:
        """Endpoints of other packages get the address; those that do not use the reactor are an error."""
        asked: list[Any] = []

        class Endpoint:
            def __init__(self, description: str, reactor: Any) -> None:
                self.listens = description == "other:"
                self.reactor = reactor

            def listen(self, factory: Any) -> Deferred[Any]:
                if self.listens:
                    asked.append(self.reactor.listenTCP(0, factory, interface="127.0.0.1").getHost())
                return succeed(None)

        self.patch(listening, "serverEndpoint", Endpoint)
        self.patch(binding, "serverEndpoint", Endpoint)
        for divided in (
            lambda description: accepting(description, 0, self.accepted.extend, reactor),
            lambda description: sharing(description, 2, reactor),
        ):
            port = await divided("other:")
            self.addCleanup(port.stop)
            self.assertEqual(port.address, asked[-1])
            error = await self.assertFailure(_deferred(lambda divided=divided: divided("mute:")), SettingError)
            self.assertIn("does not listen through the reactor", str(error))


def _deferred(make: Any) -> Deferred[Any]:
    async def call() -> Any:
        return await make()

    return Deferred.fromCoroutine(call())


class FakePort:
    """A port whose ``accept`` fails with given errors."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.reading = True
        self.socket = self

    def accept(self) -> Any:
        """See socket."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def startReading(self) -> None:
        """Start reading."""
        self.reading = True

    def stopReading(self) -> None:
        """Stop reading."""
        self.reading = False

    def getHost(self) -> None:
        """Return no address."""

    def stopListening(self) -> None:
        """Stop listening."""


class ErrorTests(SynchronousTestCase):
    """Errors of ``accept``."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.accepted: list[Any] = []

    def port(self, *answers: Any) -> tuple[AcceptingPort, Any]:
        """Make an AcceptingPort on a fake port."""
        below: Any = FakePort(*answers)
        port = AcceptingPort(Binding(socket.AF_INET, lambda _: below), 0, Factory(), self.accepted.append, self.reactor)
        port.setAccepting(True)
        return port, below

    def test_exhausted(self) -> None:
        """Out of descriptors it pauses for RETRY; connections accepted before are delivered."""
        _, below = self.port("ab", OSError(errno.EMFILE, "too many"))
        below.answers[0] = (object(), ("192.0.2.1", 5))
        below.doRead()
        self.assertEqual(([1], False), ([len(batch) for batch in self.accepted], below.reading))
        self.reactor.advance(RETRY)
        self.assertTrue(below.reading)

    def test_exhaustedAndPaused(self) -> None:
        """After the pause the last ``setAccepting`` applies."""
        port, below = self.port(OSError(errno.ENFILE, "too many"), OSError(errno.ENFILE, "too many"))
        below.doRead()
        port.setAccepting(False)
        self.reactor.advance(RETRY)
        self.assertFalse(below.reading)
        port.setAccepting(True)
        self.assertTrue(below.reading)
        below.doRead()
        port.stop()
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_passing(self) -> None:
        """Errors of a single connection do not concern the port."""
        passing = [OSError(number, "gone") for number in (errno.ECONNABORTED, errno.EPERM, errno.EPROTO)]
        _, below = self.port(*passing, BlockingIOError())
        below.doRead()
        self.assertEqual(([], True, []), (below.answers, below.reading, self.accepted))

    def test_mapped(self) -> None:
        """An IPv4-mapped IPv6 address is an IPv4 address."""
        _, below = self.port((object(), ("::ffff:192.0.2.1", 5, 0, 0)), BlockingIOError())
        below.doRead()
        self.assertEqual("192.0.2.1", self.accepted[0][0].host)


class SharingTests(SynchronousTestCase):
    """SharedPort."""

    def test_tcp(self) -> None:
        """Each slot has a socket, all with the same address."""
        port = self.successResultOf(sharing("tcp:0:interface=127.0.0.1", 3, None))
        self.addCleanup(port.stop)
        sockets = [port.lend(slot) for slot in range(3)]
        addresses = {each.getsockname() for each in sockets if each is not None}
        address: Any = port.address
        self.assertEqual({(address.host, address.port)}, addresses)
        self.assertEqual(("TCP", 3), (address.type, len({each.fileno() for each in sockets if each is not None})))

    def test_udp(self) -> None:
        """UDP can be shared."""
        port = self.successResultOf(sharing("udp:0:interface=127.0.0.1", 2, None))
        self.addCleanup(port.stop)
        address: Any = port.address
        first = port.lend(0)
        assert first is not None
        self.assertEqual(("UDP", socket.SOCK_DGRAM), (address.type, first.type))

    def test_multicast(self) -> None:
        """A multicast group is an error: each process would get each datagram."""
        error = self.assertRaises(SettingError, sharing, "udp:0:group=239.1.2.3", 2, None)
        self.assertIn("multicast", str(error))

    def test_unix(self) -> None:
        """Endpoints without SO_REUSEPORT are an error."""
        failure = self.failureResultOf(sharing(f"unix:{self.mktemp()}", 2, None), SettingError)
        self.assertIn("one socket", str(failure.value))

    def test_fails(self) -> None:
        """After a failed bind no socket is open."""
        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        self.assertRaises(CannotListenError, bindAll, 2, socket.SOCK_STREAM, 0, "192.0.2.1")
        after = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        self.assertEqual(len(before), len(after))


class KindTests(SynchronousTestCase):
    """The kind of socket that a description listens on."""

    def test_all(self) -> None:
        """The kind below all wrappers."""
        for description, kind in [
            ("tcp:8090", "tcp"),
            ("ssl:8443:certKey=x", "ssl"),
            ("tls:some:8443", "tls"),
            ("unix:/run/x", "unix"),
            ("haproxy:unix:/run/x", "unix"),
            ("udp:8090", "udp"),
            ("ws:8091", "tcp"),
            (r"ws:endpoint=unix\:/run/x:path=/", "unix"),
            (r"wss:endpoint=haproxy\:systemd\:domain=INET\:index=0:path=/", "systemd"),
        ]:
            self.assertEqual(kind, listensWith(description), description)
