"""``getty-grpc``: its options, and the example in a process, called by grpcio."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SkipTest

from getty_tx.http.grpc.health import Health
from getty_tx.http.two.engines import ENGINE
from getty_tx.tap.grpc import GrpcService, Options, makeService
from getty_tx.tap.listen import ProcessesService
from tests.tap.test_options import OptionsTestCase
from tests.tap.test_twistd import PATIENCE, ROOT, ProcessTestCase

if TYPE_CHECKING:
    from types import ModuleType

HERE = __name__


class NoServicer:
    """Is below nothing of generated code."""


class GreeterServicer:
    """As generated code has it."""


def add_GreeterServicer_to_server(servicer: Any, server: Any) -> None:
    """As generated code has it."""
    server.add_registered_method_handlers("test.Greeter", {})
    server.added = servicer


class Greeter(GreeterServicer):
    """A servicer."""


#: What ``--health`` names.
health = Health()


def makeGreeter() -> Greeter:
    """A factory."""
    return Greeter()


class OptionsTests(OptionsTestCase):
    """The command line."""

    def test_servicers(self) -> None:
        """A class and a factory are called, and added to the server by generated code."""
        options = self.parse(Options, "--servicer", f"{HERE}:Greeter", "--servicer", f"{HERE}:makeGreeter")
        self.assertEqual([type(servicer) for _, servicer in options.servicers], [Greeter, Greeter])
        service: Any = GrpcService(options, options.servicers)
        self.assertIs(service._listening.added, options.servicers[1][1])

    def test_refused(self) -> None:
        """The error has the option, the value, and the reason with the way out."""
        self.assertIn("--servicer is required: module:Class", self.refuse(Options))
        for description, why in [
            ("Greeter", "it is not a module and an attribute; a servicer is module:Class"),
            (f"{HERE}:NoServicer", "the class is below no Servicer of generated code"),
            (f"{HERE}:Missing", f"module '{HERE}' has no 'Missing'"),
        ]:
            text = self.refuse(Options, "--servicer", description)
            self.assertTrue(text.startswith(f"--servicer {description}: "), text)
            self.assertIn(why, text)

    def test_noEngine(self) -> None:
        """Without HTTP/2 the reason, and no traceback."""
        self.patch(os, "environ", {**os.environ, ENGINE: "none"})
        text = self.refuse(Options, "--servicer", f"{HERE}:Greeter")
        self.assertTrue(text.startswith(f"{ENGINE}=none: there are "), text)

    def test_values(self) -> None:
        """Values that are refused, with the option and what is allowed."""
        for option, value, why in [
            ("compress", "snappy", "takes one of gzip, deflate, none"),
            ("compression", "deflate", "gRPC has its own"),
            ("workers", "0", "takes a whole number of threads, 1 or more"),
            ("max-age", "soon", "takes a number of seconds"),
            ("drain-time", "60", "the command ends after --drain-timeout 10; give it no less"),
            ("listen", "udp:0:interface=127.0.0.1", "gRPC goes over tcp:, tls:, unix:, systemd: and haproxy:"),
        ]:
            text = self.refuse(Options, "--servicer", f"{HERE}:Greeter", f"--{option}", value)
            self.assertTrue(text.startswith(f"--{option} {value}: "), text)
            self.assertIn(why, text)

    def test_settings(self) -> None:
        """Options are settings of the server."""
        options = self.parse(
            Options, "--servicer", f"{HERE}:Greeter", "--max-calls", "5", "--compress", "gzip", "--max-idle", "9"
        )
        context = GrpcService(options, options.servicers)._listening.context
        self.assertEqual((context.maxCalls, context.compression, context.maxIdle), (5, b"gzip", 9.0))

    def test_health(self) -> None:
        """A Health of one's own is served in place of the command's; what is none is refused."""
        options = self.parse(Options, "--servicer", f"{HERE}:Greeter", "--health", f"{HERE}:health")
        self.assertIs(GrpcService(options, options.servicers)._listening.context.health, health)
        for description, why in (f"{HERE}:HERE", "the str is no grpc.Health"), (HERE, "a Health is module:name"):
            self.assertIn(why, self.refuse(Options, "--servicer", f"{HERE}:Greeter", "--health", description))
        words = "--servicer", f"{HERE}:Greeter", "--health", f"{HERE}:health", "--no-health"
        self.assertIn("give one of them", self.refuse(Options, *words))

    def test_processes(self) -> None:
        """With --processes the service is that of a main process."""
        options = self.parse(Options, "--servicer", f"{HERE}:Greeter", "--processes", "2")
        self.assertIsInstance(makeService(options), ProcessesService)


def compiled(folder: str) -> tuple[ModuleType, ModuleType]:
    """The modules of examples/greeter.proto, which are in ``folder``."""
    try:
        from grpc_tools import protoc
    except ImportError:
        raise SkipTest("grpcio-tools is not installed") from None
    words = ["protoc", f"-I{ROOT / 'examples'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main([*words, "greeter.proto"]):
        raise AssertionError("greeter.proto cannot be compiled")
    sys.path.insert(0, folder)
    try:
        import greeter_pb2
        import greeter_pb2_grpc
    finally:
        sys.path.remove(folder)
    return greeter_pb2, greeter_pb2_grpc


class CommandTests(ProcessTestCase):
    """The example, as its first lines say."""

    def test_example(self) -> None:
        """It is called, and its metrics have the calls; SIGTERM ends it."""
        messages, stubs = compiled(self.folder)
        import grpc

        shutil.copy(ROOT / "examples" / "grpc_server.py", self.folder)

        process = self.twistd(
            "getty-grpc",
            "--servicer",
            "grpc_server:Greeter",
            "--listen",
            "tcp:0:interface=127.0.0.1",
            "--processes",
            "2",
        )
        port = int(process.expect(r"getty-grpc serves 127\.0\.0\.1:(\d+)")[1])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = stubs.GreeterStub(channel)
            self.assertEqual(stub.SayHello(messages.Name(name="Ann"), wait_for_ready=True).text, "Hello, Ann")
            texts = [each.text for each in stub.SayMany(messages.Name(name="Ann"))]
            self.assertEqual(texts, ["Hello, Ann, 0", "Hello, Ann, 1", "Hello, Ann, 2"])
            with self.assertRaises(grpc.RpcError) as caught:
                stub.SayHello(messages.Name())
            self.assertEqual(caught.exception.details(), "give a name")
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end(), process.output)


#: A servicer that says of itself whether it is well.
SERVICER = """
import os

import greeter_pb2
import greeter_pb2_grpc
from getty_tx.http import grpc

health = grpc.Health()


class Greeter(greeter_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        health.set("greeter.Greeter", request.name == "well")
        return greeter_pb2.Greeting(text=str(os.getpid()))
"""


class HealthTests(ProcessTestCase):
    """The health of sub-reactors, asked by grpcio's client of it."""

    def test_subReactors(self) -> None:
        """
        Each has its own, and says that it drains at once.

        A drain has half of --drain-timeout for those who watch to go, which is longer than they wait here.
        """
        messages, stubs = compiled(self.folder)
        try:
            import grpc
            from grpc_health.v1 import health_pb2, health_pb2_grpc
        except ImportError:
            raise SkipTest("grpcio-health-checking is not installed") from None

        Path(self.folder, "servicer.py").write_text(SERVICER)
        words = ["getty-grpc", "--servicer=servicer:Greeter", "--health=servicer:health", "--processes=2"]
        process = self.twistd(*words, "--listen=tcp:0:interface=127.0.0.1", f"--drain-timeout={4 * PATIENCE}")
        port = int(process.expect(r"getty-grpc serves 127\.0\.0\.1:(\d+)")[1])
        # Connections go to both in turn.
        channels = [grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) for _ in "12"]
        for channel in channels:
            self.addCleanup(channel.close)
        clients = [health_pb2_grpc.HealthStub(channel) for channel in channels]
        greeters = [stubs.GreeterStub(channel) for channel in channels]
        asked = health_pb2.HealthCheckRequest(service="greeter.Greeter")
        for request in health_pb2.HealthCheckRequest(), asked:
            self.assertEqual([client.Check(request, timeout=PATIENCE).status for client in clients], [1, 1])
        watches = [client.Watch(asked, timeout=PATIENCE) for client in clients]
        self.assertEqual([next(watch).status for watch in watches], [1, 1])
        one, two = (int(greeter.SayHello(messages.Name(name="well"), timeout=PATIENCE).text) for greeter in greeters)
        self.assertNotEqual(one, two)
        greeters[0].SayHello(messages.Name(name="ill"), timeout=PATIENCE)
        self.assertEqual(next(watches[0]).status, 2)
        self.assertEqual([client.Check(asked, timeout=PATIENCE).status for client in clients], [2, 1])

        def ends(watch: Any) -> None:
            with self.assertRaises(grpc.RpcError):
                next(watch)
            self.assertEqual((watch.code().name, watch.details()), ("UNAVAILABLE", "the server stops"))

        os.kill(one, signal.SIGTERM)
        ends(watches[0])
        # Another process serves.
        again = clients[0].Watch(asked, timeout=PATIENCE, wait_for_ready=True)
        self.assertEqual(next(again).status, 1)
        process.send(signal.SIGTERM)
        for watch in again, watches[1]:
            self.assertEqual(next(watch).status, 2)
            ends(watch)
        self.assertEqual(0, process.end(), process.output)
