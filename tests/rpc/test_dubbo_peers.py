"""Dubbo's wire beside others: programs of npm, by address and by ZooKeeper, and exceptions in Java itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.rpc.hessian import JavaObject, Long, decode
from getty_tx.rpc.messages import ErrorReply
from getty_tx.rpc.wires.dubboerrors import exceptionOf
from tests.support.zookeeper import HOST, shared

_numbers = count(1)

HERE = Path(__file__).resolve().parent
SCRIPT = str(HERE / "peers" / "dubbo.js")
BY_ZOOKEEPER = str(HERE / "peers" / "dubbozk.js")
NODE_MODULES = HERE.parents[1] / "build" / "npm" / "node_modules"
PACKAGES = "apache-dubbo-js@3.0.0-rc6 dubbo2.js@2.3.9 dubbo-remoting@2.1.4 js-to-java@2.4.0 sofa-rpc-node@1.20.1"
MODULES = ("apache-dubbo-js", "dubbo2.js", "dubbo-remoting", "sofa-rpc-node")

#: Caucho's Hessian, where Debian has it; another place is named by HESSIAN_JAR.
JAR = Path(os.environ.get("HESSIAN_JAR", "/usr/share/java/hessian.jar"))

ECHO = "com.ex.Echo"


class Sold(rpc.RemoteError):
    """An exception of Java."""

    code = "com.ex.SoldException"


class Echo:
    """What the scripts call."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    @rpc.method
    def say(self, text: str) -> str:
        self.metadata = dict(rpc.currentCall().metadata)
        return text

    @rpc.method
    def add(self, one: int, other: Long) -> int:
        assert type(other) is Long
        return one + other

    @rpc.method
    def names(self, names: list[str]) -> list[str]:
        return [name.upper() for name in names]

    @rpc.method
    def car(self, car: JavaObject) -> JavaObject:
        return JavaObject(car.name, {**car.fields, "doors": car.fields["doors"] + 2})

    @rpc.method
    def nothing(self) -> None:
        return None

    @rpc.method
    def fail(self, text: str) -> None:
        raise Sold(text)


class Served(ProcessProtocol):
    """
    The server.

    :ivar said: fires with its first line.
    :ivar ended: fires when it has ended.
    """

    def __init__(self) -> None:
        self.said: Deferred[str] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.said.callback(data.decode().strip())

    def errReceived(self, data: bytes) -> None:
        if not self.said.called:
            self.said.errback(RuntimeError(data.decode()))

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)


class PeerCase(TestCase):
    """Finds node and the packages."""

    timeout = 60

    def setUp(self) -> None:
        self.node = shutil.which("node") or ""
        if not self.node:
            raise SkipTest("there is no node (Debian: apt-get install nodejs)")
        self.environment = {**os.environ, "NODE_PATH": str(NODE_MODULES)}
        if not all((NODE_MODULES / each).is_dir() for each in MODULES):
            raise SkipTest(f"there is no Dubbo of npm: npm install --prefix build/npm {PACKAGES}")

    def serve(self, *words: str) -> Served:
        """Run a server until the test is over."""
        served = Served()
        process = reactor.spawnProcess(served, self.node, [self.node, *words], self.environment)
        self.addCleanup(lambda: served.ended)
        self.addCleanup(process.closeStdin)
        return served

    async def ask(self, *words: str) -> list[dict[str, Any]]:
        """Run clients, and return what their calls gave."""
        out, errors, status = await getProcessOutputAndValue(self.node, words, self.environment)
        self.assertEqual((0, b""), (status, errors))
        return [json.loads(line) for line in out.splitlines()]


class ClientTests(PeerCase):
    """Clients of npm call a server here."""

    async def test_calls(self) -> None:
        """Values come back, exceptions have their message, replies their calls; attachments go both ways."""
        echo = Echo()
        wire = rpc.Dubbo(versions={ECHO: "1.0"})
        server = rpc.Server("tcp:0:interface=127.0.0.1", {ECHO: echo}, wire=wire)
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port = str(getattr(address, "port", 0))
        found = await self.ask(SCRIPT, "call", port)
        for kind in ("dubbo2.js", "apache-dubbo-js"):
            mine = [each for each in found if each["kind"] == kind]
            values = [each.get("value") for each in mine]
            self.assertEqual(values[:3], ["hi", "é\U0001f600" * 20, "x" * 70000])
            self.assertEqual(values[3:7], [41, ["A", "B"], {"color": "red", "doors": 5}, None])
            self.assertEqual(mine[7]["error"], "sold")
            self.assertIn("there is no com.ex.Echo/missing", mine[8]["error"])
            self.assertIs(values[9], True)
        byName = {each["name"]: each for each in found if each["kind"] == "dubbo-remoting"}
        self.assertEqual(byName["heartbeat"]["value"], 99)
        for name, value in (("say", "hi"), ("add", 41), ("car", {"color": "red", "doors": 5}), ("nothing", None)):
            # It says that its protocol is 5.3.0, for which Java sends no attachments either.
            self.assertEqual((byName[name]["value"], byName[name].get("more")), (value, None))
        self.assertEqual(byName["fail"]["error"], "sold")
        self.assertIn("there is no com.ex.Echo/missing", byName["missing"]["error"])
        self.assertEqual(echo.metadata, {"user": "1"})


class ServerTests(PeerCase):
    """A client here calls a server by dubbo-remoting, whose codec is that of egg-dubbo-rpc."""

    async def test_calls(self) -> None:
        """Values, null, attachments, exceptions, statuses and heartbeats."""
        port = await self.serve(SCRIPT, "serve").said
        wire = rpc.Dubbo(versions={ECHO: "1.0"}, signatures={f"{ECHO}/add": "IJ"})
        client = rpc.Client(f"tcp:127.0.0.1:{port}", wire=wire, pingInterval=0.1, pingTimeout=2.0)
        client.startService()
        self.addCleanup(client.stopService)
        for text in ("hi", "é\U0001f600" * 20, "x" * 70000):
            self.assertEqual(await client.call(ECHO, "say", text), text)
        self.assertEqual(await client.call(ECHO, "add", 1, 40), 41)
        self.assertIsNone(await client.call(ECHO, "nothing"))
        found = await client.call(ECHO, "attachments", metadata={"user": "1"}, timeout=2.0)
        self.assertEqual((found["user"], found["version"], found["timeout"]), ("1", "1.0", "2000"))
        with self.assertRaises(Sold) as caught:
            await client.call(ECHO, "fail", "none left")
        self.assertEqual(str(caught.exception), "none left")
        with self.assertRaises(rpc.RemoteError) as failed:
            await client.call(ECHO, "missing")
        self.assertEqual((str(failed.exception), failed.exception.details), (f"no {ECHO}:1.0 missing", 80))
        [peer] = client.context.peers
        sent = peer.session.stats.readBytes
        # A heartbeat is answered.
        while peer.session.stats.readBytes == sent:
            await deferLater(reactor, 0.02)
        self.assertFalse(peer.session.isClosed)


class RegistryTests(PeerCase):
    """Programs of npm find a provider here by a real ZooKeeper, and a client here finds theirs."""

    async def setUp(self) -> None:  # type: ignore[override]
        PeerCase.setUp(self)
        zookeeper = shared()
        while not await deferToThread(zookeeper.isServing):
            await deferLater(reactor, 0.05)
        self.address = f"{HOST}:{zookeeper.port}"
        self.root = f"npm{next(_numbers)}"
        self.registry = f"zookeeper:{self.address}:layout=dubbo:timeout=30:prefix=/{self.root}"

    async def test_consumers(self) -> None:
        """dubbo2.js, apache-dubbo-js and sofa-rpc-node call a provider that is registered here, and ``$echo`` of it."""
        options: dict[str, Any] = {"service": ECHO, "registry": self.registry, "registerRequired": True}
        server = rpc.Server(
            "tcp:0:interface=127.0.0.1",
            {ECHO: Echo()},
            wire=rpc.Dubbo(versions={ECHO: "1.0"}),
            leaveTime=0.01,
            **options,
        )
        server.startService()
        self.addCleanup(server.stopService)
        await server.whenListening()
        found = await self.ask(BY_ZOOKEEPER, "call", self.address, self.root)
        values = {(each["kind"], each["name"]): each.get("value") for each in found if "error" not in each}
        kinds = ("dubbo2.js", "apache-dubbo-js", "sofa-rpc-node")
        echoes = [(kind, "$echo") for kind in kinds[:2]]
        self.assertEqual(values, dict.fromkeys([(kind, "say") for kind in kinds] + echoes, "hi"))
        errors = [each["error"] for each in found if each["name"] == "missing"]
        self.assertEqual(len(errors), 3)
        self.assertTrue(all("there is no com.ex.Echo/missing" in each for each in errors), errors)

    async def test_provider(self) -> None:
        """A client finds a provider that sofa-rpc-node has registered, by its group and version."""
        self.assertEqual(await self.serve(BY_ZOOKEEPER, "serve", self.address, self.root).said, "registered")
        client = rpc.Client(
            f"service:{ECHO}:group=blue:version=1.0", wire=rpc.Dubbo(), registry=self.registry, timeout=30
        )
        client.startService()
        self.addCleanup(client.stopService)
        self.assertEqual(await client.call(ECHO, "say", "hi"), "blue hi")
        [peer] = client.context.peers
        self.assertEqual(peer.session.provider.meta["language"], "nodejs")
        with self.assertRaisesRegex(rpc.RemoteError, "Can not find method: com.ex.Echo:1.0#missing"):
            await client.call(ECHO, "missing")


class JavaTests(SynchronousTestCase):
    """What is written for an exception is one in Java."""

    def test_exceptions(self) -> None:
        """Java reads them as Throwables, passes over fields that the class has not, and writes them again."""
        if shutil.which("javac") is None:
            raise SkipTest("there is no JDK (Debian: apt-get install default-jdk-headless)")
        if not JAR.exists():
            raise SkipTest("there is no hessian.jar (Debian: apt-get install libhessian-java)")
        replies = [
            ErrorReply(1, "internal", "no", {"sku": 5}),
            ErrorReply(1, "java.lang.IllegalStateException", "é"),
        ]
        lines = "".join(f"echo {exceptionOf(each, 100).hex()}\n" for each in replies)
        command = ["java", "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", str(JAR)]
        command.append(str(HERE / "peers" / "HessianPeer.java"))
        output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
        found = [decode(bytes.fromhex(line))[0] for line in output.split()]
        self.assertEqual(
            [(each.name, each.fields["detailMessage"], each.fields.get("sku")) for each in found],
            [("java.lang.RuntimeException", "no", None), ("java.lang.IllegalStateException", "é", None)],
        )
        self.assertTrue(all(each.fields["stackTrace"] == [] for each in found))
