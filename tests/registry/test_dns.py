"""``dns:``: what name servers say."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.task import Clock
from twisted.names import dns as names
from twisted.names.authority import FileAuthority
from twisted.names.error import DNSNameError, DNSServerError
from twisted.names.server import DNSServerFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError, RegistryError, dns
from getty_tx.registry.dns import DNSEngine, providersOf
from getty_tx.registry.interfaces import IEngine
from tests.support.engines import Sink, User

NAME = "_echo._tcp.example.org"


def srv(target: str, port: int = 8090, priority: int = 0, weight: int = 1, ttl: int = 30) -> names.RRHeader:
    """A record."""
    record = names.Record_SRV(priority, weight, port, target, ttl)
    return names.RRHeader(NAME, names.SRV, names.IN, ttl, record)


def address(host: str, text: str) -> names.RRHeader:
    """An address that comes along."""
    if ":" in text:
        return names.RRHeader(host, names.AAAA, names.IN, 30, names.Record_AAAA(text))
    return names.RRHeader(host, names.A, names.IN, 30, names.Record_A(text))


class Resolver:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Any = []

    def lookupService(self, name: str) -> Deferred[Any]:
        self.asked.append(name)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return self.answer if isinstance(self.answer, Deferred) else succeed((self.answer, [], []))


class RecordTests(SynchronousTestCase):
    """What is made of answers."""

    def make(self, *answers: Any, additional: Any = (), kind: str = "tcp") -> list[Any]:
        return list(providersOf("echo", answers, additional, kind)[0].values())

    def test_records(self) -> None:
        """Target and port are the id; the priority is in the meta; other records are left out."""
        expected = Provider("echo", "tcp:a.example.org:8090", id="a.example.org:8090", weight=7, meta={"priority": 2})
        self.assertEqual([expected], self.make(srv("a.example.org.", priority=2, weight=7), address("b", "10.0.0.1")))
        self.assertEqual([], self.make(srv("")))
        self.assertEqual([], self.make(srv("a b:timeout=3")))

    def test_addresses(self) -> None:
        """Those that come along are used, except with TLS, which checks names."""
        known = [address("a", "10.0.0.1"), address("a", "fe80::1"), address("b", "fe80::2")]
        found = self.make(srv("a"), srv("b"), srv("c"), additional=known)
        self.assertEqual(["tcp:10.0.0.1:8090", r"tcp:fe80\:\:2:8090", "tcp:c:8090"], [each.endpoint for each in found])
        self.assertEqual(["a:8090", "b:8090", "c:8090"], [each.id for each in found])
        self.assertEqual(["tls:a:8090"], [each.endpoint for each in self.make(srv("a"), additional=known, kind="tls")])

    def test_weights(self) -> None:
        """0 to 1000, for each priority."""
        for weights, expected in {
            (0, 0): [100, 100],
            (0, 5): [0, 5],
            (1000, 1): [1000, 1],
            (65535, 1): [1000, 1],
            (65535, 32768, 0): [1000, 501, 0],
        }.items():
            found = self.make(*(srv(f"h{number}", weight=weight) for number, weight in enumerate(weights)))
            self.assertEqual(expected, [each.weight for each in found])
        found = self.make(srv("a", weight=65535), srv("b", weight=10, priority=1))
        self.assertEqual([1000, 10], [each.weight for each in found])

    def test_long(self) -> None:
        """A name that makes no id is told of alone."""
        found = self.make(srv(".".join(["x" * 49] * 5 + ["abc"])), srv("a"))
        self.assertEqual([RecordError, Provider], [type(each) for each in found])

    def test_ttl(self) -> None:
        """The smallest, 5 s to 5 min."""
        for ttls, expected in {(30, 60): 30, (0,): 5, (86400,): 300, (): 5}.items():
            self.assertEqual(expected, providersOf("echo", [srv("a", ttl=ttl) for ttl in ttls], [])[1])


class EngineTests(SynchronousTestCase):
    """Asking again, with a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.user = User()
        self.resolver = Resolver()
        self.sink = Sink()
        self.engine = self.make("")

    def make(self, name: str) -> DNSEngine:
        engine = DNSEngine(name, resolver=self.resolver)
        engine.start(self.clock, self.user)
        self.addCleanup(engine.stop)
        return engine

    def test_again(self) -> None:
        """When the records run out; only differences are told."""
        verifyObject(IEngine, self.engine)
        self.resolver.answer = [srv("a", ttl=30), srv("b", ttl=60)]
        self.engine.watch(NAME, self.sink)
        self.clock.advance(0)
        self.assertEqual((["are"], ["a:8090", "b:8090"]), (self.sink.reports, list(self.sink.records)))
        self.resolver.answer = [srv("b"), srv("c")]
        self.clock.advance(29)
        self.assertEqual([NAME], self.resolver.asked)
        self.clock.advance(1)
        self.assertEqual((["are", "changed"], ["b:8090", "c:8090"]), (self.sink.reports, list(self.sink.records)))
        self.clock.advance(30)
        self.assertEqual((2, 3), (len(self.sink.reports), len(self.resolver.asked)))
        self.assertEqual([True], self.user.said)

    def test_failures(self) -> None:
        """The old set stays; it is asked again soon, ever less often, and logged once."""
        self.resolver.answer = [srv("a")]
        self.engine.watch(NAME, self.sink)
        self.clock.advance(0)
        for error, why, isConnected in [
            (DNSNameError(None), f"{NAME}: there is no such name", True),
            (DNSServerError(None), "the server says DNSServerError", True),
            (TimeoutError("late"), "no server can be asked: late", False),
        ]:
            self.resolver.answer = error
            self.clock.advance(30)
            self.assertIn(f"interrupted: {NAME}", self.sink.reports[-1])
            self.assertIn(why, self.sink.reports[-1])
            for _ in range(10):
                self.clock.advance(15)
            self.assertEqual(isConnected, self.user.said[-1] is True)
            self.assertEqual(["a:8090"], list(self.sink.records))
            self.resolver.answer = [srv("a")]
            self.clock.advance(15)
            self.assertEqual(("are", True), (self.sink.reports[-1], self.user.said[-1]))
        self.assertEqual(7, len(self.sink.reports))
        self.assertGreater(len(self.resolver.asked), 30)

    def test_names(self) -> None:
        """The service is the name, unless the registry has one."""
        sink = Sink()
        self.make(NAME + ".").watch("echo", sink)
        self.resolver.answer = [srv("a")]
        self.clock.advance(0)
        self.assertEqual(([NAME], "echo"), (self.resolver.asked, sink.records["a:8090"].service))
        self.engine.watch("e cho", self.sink)
        self.clock.advance(0)
        self.assertIn("service='e cho' is not a name for dns:", self.sink.reports[0])

    def test_stop(self) -> None:
        """No more questions, and an answer that comes late is dropped."""
        self.resolver.answer = late = Deferred()
        watch = self.engine.watch(NAME, self.sink)
        self.engine.watch("_other._tcp.example.org", self.sink)
        self.clock.advance(0)
        self.engine.watch(NAME, self.sink)
        watch.stop()
        self.engine.stop()
        late.callback(([srv("a")], [], []))
        self.assertEqual(([], []), (self.clock.getDelayedCalls(), self.sink.reports))

    def test_unwatched(self) -> None:
        self.engine.watch(NAME, self.sink).stop()
        self.clock.advance(60)
        self.assertEqual([], self.resolver.asked)

    def test_read(self) -> None:
        self.resolver.answer = [srv("a")]
        self.assertEqual({(NAME, "a:8090")}, set(self.successResultOf(self.engine.read(NAME))))
        self.failureResultOf(self.engine.read(None), RegistryError)
        self.assertEqual({(NAME, "a:8090")}, set(self.successResultOf(self.make(NAME).read(None))))
        self.resolver.answer = DNSNameError(None)
        self.failureResultOf(self.engine.read(NAME), RegistryError)

    def test_refused(self) -> None:
        for settings, why in [
            ({"name": "a b"}, "dns:a b is not a name such as"),
            ({"kind": "udp"}, "kind='udp' is neither 'tcp' nor 'tls'"),
            ({"servers": [("ns.example.org", 53)]}, "server=ns.example.org is no IP address"),
        ]:
            self.assertIn(why, str(self.assertRaises(SettingError, DNSEngine, **settings)))
        self.assertEqual("dns:a at 10.0.0.1:53", DNSEngine("a", [("10.0.0.1", 53)]).name)

    def test_systemServers(self) -> None:
        """Those of resolv.conf, as it is now."""
        path = self.mktemp()
        self.patch(dns, "RESOLV_CONF", path)
        self.assertEqual([("127.0.0.1", 53)], dns._systemServers())
        with open(path, "w") as file:
            file.write("# comment\nsearch a b\nnameserver 10.0.0.1\nnameserver ::1 # here\nnameserver\n")
        self.assertEqual([("10.0.0.1", 53), ("::1", 53)], dns._systemServers())


class Zone(FileAuthority):
    """A zone in memory."""

    def loadFile(self, filename: Any) -> None:
        self.soa = b"example.org", names.Record_SOA(b"ns", b"me", minimum=30)
        self.records = {
            b"example.org": [self.soa[1]],
            NAME.encode(): [names.Record_SRV(1, 5, 8090, "a.example.org", 60)],
            b"_many._tcp.example.org": [names.Record_SRV(1, 5, port, "a.example.org", 60) for port in range(1, 101)],
        }


class Truncating(names.DNSDatagramProtocol):
    """Says that no answer fits into a datagram."""

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        message = names.Message()
        message.fromStr(data)
        message.answer = message.trunc = 1
        self.transport.write(message.toStr(), addr)


class ServerTests(TestCase):
    """With a real server."""

    timeout = 20

    async def test_server(self) -> None:
        """It answers, and says what it does not know."""
        port = reactor.listenUDP(0, names.DNSDatagramProtocol(DNSServerFactory([Zone("")])), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        engine = DNSEngine(servers=[("127.0.0.1", port.getHost().port)])
        engine.start(reactor, User())
        self.addCleanup(engine.stop)
        sink = Sink()
        engine.watch(NAME, sink)
        await sink.when(lambda records: records)
        expected = Provider(NAME, "tcp:a.example.org:8090", id="a.example.org:8090", weight=5, meta={"priority": 1})
        self.assertEqual({"a.example.org:8090": expected}, sink.records)
        await self.assertFailure(engine.read("_none._tcp.example.org"), RegistryError)

    async def test_truncated(self) -> None:
        """What does not fit into a datagram is asked for by TCP, and no connection is left."""
        reactor_: Any = reactor
        factory, closed = DNSServerFactory([Zone("")]), Deferred[None]()
        factory.connectionLost = lambda protocol: closed.callback(None)
        stream = reactor_.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(stream.stopListening)
        port = stream.getHost().port
        datagrams = reactor_.listenUDP(port, Truncating(None), interface="127.0.0.1")
        self.addCleanup(datagrams.stopListening)
        engine = DNSEngine(servers=[("127.0.0.1", port)])
        engine.start(reactor, User())
        self.addCleanup(engine.stop)
        self.assertEqual(100, len(await engine.read("_many._tcp.example.org")))
        await closed
