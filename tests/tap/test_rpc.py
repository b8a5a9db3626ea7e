"""``getty-rpc``: its options, and its services on real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc import Grpc
from getty_tx.rpc.wires.descriptions import wireFromDescription
from getty_tx.tap.listen import ListenService, ProcessesService
from getty_tx.tap.lookup import lookUpService
from getty_tx.tap.rpc import CallService, Options, makeService
from tests.tap.test_options import OptionsTestCase

HERE = __name__


class Echo:
    """A service."""

    def __init__(self) -> None:
        self.gate: Deferred[str] = Deferred()

    @rpc.method
    def say(self, text: str) -> str:
        """Give a text back."""
        return text

    @rpc.method
    def wait(self) -> Deferred[str]:
        """Wait for the test."""
        return self.gate


class Broken:
    """A method that nobody could call."""

    @rpc.method
    def say(self, *, text: str) -> str:
        return text


class Plain:
    """Nothing is marked."""


instance = Echo()


def makeEcho() -> Echo:
    """A factory."""
    return instance


def makePlain() -> Plain:
    """A factory of something else."""
    return Plain()


class OptionsTests(OptionsTestCase):
    """The command line."""

    def test_services(self) -> None:
        """A class and a factory are called, an instance is taken; a name may stand before them."""
        words = [
            "--service",
            f"{HERE}:Echo",
            "--service",
            f"Two={HERE}:makeEcho",
            "--service",
            f"Three={HERE}:instance",
        ]
        services = self.parse(Options, *words).services
        self.assertEqual(["Echo", "Two", "Three"], list(services))
        self.assertIsInstance(services["Echo"], Echo)
        self.assertIsNot(instance, services["Echo"])
        self.assertIs(instance, services["Two"])
        self.assertIs(instance, services["Three"])
        self.assertEqual("Echo", lookUpService(f"{HERE}:makeEcho")[0])

    def test_required(self) -> None:
        """--service has no default."""
        self.assertIn("--service is required: module:Class", self.refuse(Options))

    def test_refused(self) -> None:
        """The error has the option, the value, and the reason with the way out."""
        for description, why in [
            ("Echo", "it is not a module and an attribute; a service is module:Class or Name=module:Class"),
            ("no_such.module:Echo", "there is no module 'no_such'; a service is"),
            (f"{HERE}:Missing", f"module '{HERE}' has no 'Missing'"),
            (f"{HERE}:Plain", "the class has no method with @rpc.method; mark those that may be called"),
            (f"{HERE}:makePlain", "what it returned, Plain, has no method with @rpc.method"),
            (f"{HERE}:HERE", "the str has no method with @rpc.method"),
            (f"{HERE}:Broken", "Broken/say: arguments of a call have no names"),
            (f"a/b={HERE}:Echo", "'a/b' is no name of a service"),
            (f"={HERE}:Echo", "'' is no name of a service"),
        ]:
            text = self.refuse(Options, "--service", description)
            self.assertTrue(text.startswith(f"--service {description}: "), text)
            self.assertIn(why, text)

    def test_twice(self) -> None:
        """Two services cannot have one name, and none that of the service which describes the others."""
        text = self.refuse(Options, "--service", f"{HERE}:Echo", "--service", f"{HERE}:makeEcho")
        self.assertIn("there is a service 'Echo' already; give it another name: Name=module:Class", text)
        self.assertIn("cannot have the name 'rpc'", self.refuse(Options, "--service", f"rpc={HERE}:Echo"))

    def test_values(self) -> None:
        """Values that are refused, with the option and what is allowed."""
        for option, value, why in [
            ("max-calls", "0", "takes a whole number of calls, 1 or more"),
            ("max-calls-per-session", "x", "takes a whole number of calls, 1 or more"),
            ("max-msg-len", "-1", "takes a whole number of bytes, 1 or more"),
            ("max-timeout", "soon", "takes a number of seconds"),
            ("slow-call", "-1", "takes a number of seconds"),
            ("drain-time", "0", "takes a number of seconds, more than 0"),
            ("drain-time", "60", "the command ends after --drain-timeout 10; give it no less"),
            ("wire", "morse", "there is no wire 'morse'; there is ttheader:json, ttheader:msgspec, ttheader:msgpack, "),
            ("wire", "ttheader:xml", "wire 'ttheader' has no payload 'xml' here; there is ttheader:json"),
            (
                "wire",
                "ttheader:thrift",
                "Thrift needs the path of its IDL: ttheader:FILE.thrift, such as",
            ),
            ("wire", "thrift", "Thrift needs the path of its IDL: thrift:FILE.thrift"),
            ("listen", "udp:0:interface=127.0.0.1", "datagrams get lost, and calls with them; take tcp:, unix: or ws:"),
        ]:
            text = self.refuse(Options, "--service", f"{HERE}:Echo", f"--{option}", value)
            self.assertTrue(text.startswith(f"--{option} {value}: "), text)
            self.assertIn(why, text)

    def test_grpc(self) -> None:
        """Clients of gRPC need streams of bytes."""
        given = ["--service", f"{HERE}:Echo", "--wire", "grpc", "--listen"]
        self.assertIsInstance(self.parse(Options, *given, "tcp:0").codec, Grpc)
        text = self.refuse(Options, *given, "ws:0")
        self.assertTrue(text.startswith("--listen ws:0: ws:0 is not for gRPC"), text)

    def test_unknown(self) -> None:
        """What is for codecs and listeners is not there."""
        for option in ("--codec=line", "--workers=2", "--cron=1", "--listener=a:b"):
            self.assertIn("not recognized", self.refuse(Options, option))

    def test_help(self) -> None:
        """The help has every option once, and the table of wires."""
        text = Options().getUsage()
        self.assertEqual(1, text.count("--max-msg-len="))
        self.assertIn("ttheader  with a payload of json, msgspec, msgpack, bytes", text)
        self.assertIn("FILE.thrift is the path of an IDL, and needs the extra getty_tx[thrift]", text)
        self.assertNotIn("Codecs", text)

    def test_processes(self) -> None:
        """With --processes the service is that of a main process, and needs no services of its own."""
        options = self.parse(Options, "--service", f"{HERE}:Echo", "--processes", "2")
        self.assertIsInstance(makeService(options), ProcessesService)


class WireTests(OptionsTestCase):
    """Wires by texts."""

    def test_found(self) -> None:
        """The first payload is the default."""
        for text, payload in [
            ("ttheader", "json"),
            ("ttheader:bytes", "bytes"),
            ("getty", "json"),
            ("getty:protobuf", "protobuf"),
            ("grpc", "json"),
            ("grpc:protobuf", "protobuf"),
        ]:
            self.assertEqual(payload, wireFromDescription(text).payloadName)
        self.assertRaises(SettingError, wireFromDescription, "ttheader:")


class ServiceTests(TestCase):
    """The service on real sockets."""

    timeout = 20

    async def start(self, *more: str) -> tuple[CallService, rpc.Client]:
        """A running ``getty-rpc``, and a client of it."""
        options = Options()
        listen = "tcp:0:interface=127.0.0.1"
        options.parseOptions(["--service", f"{HERE}:Echo", "--listen", listen, *more])  # type: ignore[no-untyped-call]
        service: Any = makeService(options)
        self.echo: Any = options.services["Echo"]
        service.startService()
        self.addCleanup(service.stopService)
        assert isinstance(service, CallService)
        (address,) = await service.server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", reconnectInterval=0.01)  # type: ignore[attr-defined]
        client.startService()
        self.addCleanup(client.stopService)
        return service, client

    async def test_call(self) -> None:
        """Calls are served, and the settings of sessions and calls are those of the options."""
        words = [
            "--max-calls=7",
            "--max-calls-per-session=3",
            "--max-timeout=9",
            "--slow-call=0.5",
            "--max-msg-len=5000",
            "--drain-time=2",
        ]
        service, client = await self.start(*words, "--idle-timeout=60")
        self.assertEqual("hi", await client.service("Echo").say("hi"))
        server: Any = service._listening
        context = server.context
        found = (context.maxCalls, context.maxCallsPerSession, context.maxTimeout, context.maxMsgLen, server.drainTime)
        self.assertEqual((7, 3, 9, 5000, 2), found)
        self.assertEqual(0.5, context.slowCall)
        (session,) = service.server.sessions
        self.assertEqual((60, 5000, 1), (session.idleTimeout, session.maxMsgLen, service.served))
        self.assertEqual("getty-rpc", service.server.name)

    async def test_stop(self) -> None:
        """A stop asks for no new calls, and waits for the one that runs."""
        service, client = await self.start()
        running = client.service("Echo").wait()
        while not service._listening.context.running:
            await deferLater(reactor, 0.005)
        (peer,) = client.context.peers
        stopped = service.stopService()
        while not peer.isLeaving:
            await deferLater(reactor, 0.005)
        self.assertFalse(service.server.isReady)
        self.assertNoResult(stopped)
        self.echo.gate.callback("done")
        self.assertEqual("done", await running)
        await stopped

    async def test_status(self) -> None:
        """The status shows the Server below the calls."""
        service, client = await self.start("--status", "tcp:0:interface=127.0.0.1")
        assert service.status is not None
        await service.status.whenListening()
        await client.service("Echo").say("hi")
        self.assertIsInstance(service, ListenService)
        self.assertEqual((service.server,), service.status._services)
