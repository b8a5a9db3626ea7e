"""The examples, run as their own first lines say."""

from __future__ import annotations

import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest import skipUnless
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from getty_tx.rpc import TTHeader
from getty_tx.rpc.messages import Reply
from tests.support.certificates import Authority
from tests.support.examples import EXAMPLES, ExampleTestCase
from tests.support.tutorial import overSocket, overWebSocket
from tests.tap.test_twistd import PATIENCE, TWISTD

if TYPE_CHECKING:
    from getty_tx.rpc.wires.ttheader import TTHeaderCodec

#: Runs an example that waits for a tenth of the time that it gives its client to be ready.
HASTY = """
import runpy, sys
from getty_tx import Client
ready = Client.whenReady
Client.whenReady = lambda client, timeout: ready(client, timeout=timeout / 10)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

#: Each of them is run below, but for those of browsers (tests/docs/test_examples_browsers.py), the pages
#: (tests/docs/test_echo_page.py, tests/docs/test_pages_in_browser.py), gRPC (tests/tap/test_grpc.py) and Dubbo
#: (tests/docs/test_dubbo_page.py).
NAMES = {
    "audit.py",
    "chat.py",
    "dubbo.py",
    "echo.html",
    "echo_client.py",
    "echo_server.py",
    "everywhere.py",
    "feed.html",
    "feed.py",
    "gateway.py",
    "greeter.proto",
    "grpc_client.py",
    "grpc_server.py",
    "http_server.py",
    "keyvalue.py",
    "providers.py",
    "proxy.py",
    "relay.tac",
    "request_reply.py",
    "seata.py",
    "starttls.py",
    "thrift_users.py",
    "users.thrift",
}


class ExampleTests(ExampleTestCase):
    """Echoes, a relay, a store, and STARTTLS."""

    def test_all(self) -> None:
        """There is a test for every example."""
        self.assertEqual(NAMES, {path.name for path in EXAMPLES.iterdir() if path.is_file()})

    def test_echoAndRelay(self) -> None:
        """The server echoes, the client hears it, and the application relays to the one for the other."""
        server = self.example("echo_server.py", "unix:echo.sock")
        server.expect("listening on .*echo.sock")
        self.environment |= {"RELAY_LISTEN": "unix:relay.sock", "RELAY_CONNECT": "unix:echo.sock"}
        relay = self.run_(*TWISTD, "-n", "--pidfile=", "-y", str(EXAMPLES / "relay.tac"))
        client = self.example("echo_client.py", "unix:echo.sock")
        self.assertEqual(0, client.end(), client.output)
        self.assertEqual("hello", client.output)
        relay.expect("listening on .*relay.sock")
        with self.connect("relay.sock") as other:
            other.settimeout(30)
            other.sendall(b"from another\n")
            self.assertIn(other.recv(100), (b"from another\n", b"nobody is there, try again\n"))
            self.converse(self.connect("relay.sock"), b"one\ntwo words\n")
        self.stop(relay)
        self.stop(server)

    def test_grpcClient(self) -> None:
        """It asks for the health of a server of grpcio, and says why it cannot."""
        server = grpc.server(ThreadPoolExecutor(4))
        servicer = health.HealthServicer()
        servicer.set("shop", 1)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        target = f"tcp:127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        client = self.example("grpc_client.py", target, "shop")
        self.assertEqual(0, client.end(), client.output)
        self.assertEqual("Check: SERVING\nWatch: SERVING", client.output)
        other = self.example("grpc_client.py", target, "other")
        self.assertEqual(0, other.end(), other.output)
        self.assertEqual("NOT_FOUND", other.output.strip())

    def test_clientAlone(self) -> None:
        """Nobody listens: the client fails within its time, here a tenth of it, and says why."""
        client = self.run_(sys.executable, "-c", HASTY, str(EXAMPLES / "echo_client.py"), "unix:nobody.sock")
        self.assertEqual(1, client.end())
        self.assertIn("NotReadyError", client.output)

    def test_taken(self) -> None:
        """A server that cannot listen ends with an exit status."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = self.example("echo_server.py", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
            self.assertEqual(1, server.end())
        self.assertIn("Address already in use", server.output)

    def test_keyvalue(self) -> None:
        """The codec and the listener for getty-serve."""
        self.environment["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
        words = "getty-serve --codec=keyvalue:Codec --listener=keyvalue:Listener --listen=unix:x.sock"
        server = self.run_(*TWISTD, "-n", "--pidfile=", *words.split())
        server.expect("getty-serve serves")
        asked = b"set colour deep blue\nget colour\r\nget size\ndelete colour\ndelete colour\n"
        told = b"ok\ndeep blue\n(nothing)\nok\n(nothing)\n"
        self.converse(self.connect("x.sock"), asked, told)
        server.expect(": 5 requests")
        self.converse(self.connect("x.sock"), b"get\n", b"")
        server.expect("is no request")
        self.stop(server)

    def test_keyvalueOption(self) -> None:
        """The codec's option is checked before anything listens."""
        self.environment["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
        words = "getty-serve --codec=keyvalue:Codec:encoding=morse --listener=keyvalue:Listener"
        server = self.run_(*TWISTD, "-n", "--pidfile=", *words.split())
        self.assertEqual(1, server.end())
        self.assertIn("unknown encoding: morse", server.lines[-1])

    def test_proxy(self) -> None:
        """What is said to the proxy is said to the server, whichever process serves it; without a server it says so."""
        self.environment["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
        self.environment["PROXY_CONNECT"] = "unix:echo.sock"
        words = "getty-serve --codec=raw --listener=proxy:Listener --listen=unix:proxy.sock --processes=2"
        proxy = self.run_(*TWISTD, "-n", "--pidfile=", *words.split())
        proxy.expect("with 2 processes")
        self.converse(self.connect("proxy.sock"), b"hello\n", b"")
        proxy.expect("sub-reactor 1,.*: unix:echo.sock: 1 sessions cannot be reached")
        server = self.example("echo_server.py", "unix:echo.sock")
        server.expect("listening on")
        lines = b"".join(b"%d\n" % number for number in range(1000))
        for _ in range(4):
            self.converse(self.connect("proxy.sock"), lines)
        self.converse(self.connect("proxy.sock"), b"x" * 100_000 + b"\n")
        self.stop(proxy)
        self.stop(server)

    def test_providers(self) -> None:
        """Each question has an answer, of somebody who is there."""
        process = self.example("providers.py")
        self.assertEqual(0, process.end(), process.output)
        words = [line.split()[-1] if line.startswith("Who") else line for line in process.output.splitlines()]
        parts = " ".join(words)
        for said in ("Bob is killed", "Dora comes", "Anna leaves"):
            parts = parts.replace(said, "|")
        names = [set(part.split()) for part in parts.split("|")]
        everybody = {"Anna", "Bob", "Clara"}
        self.assertEqual(names[0], everybody)
        self.assertEqual(names[1], everybody - {"Bob"})
        self.assertEqual(names[2], {"Anna", "Clara", "Dora"})
        self.assertLessEqual({"Clara", "Dora"}, names[3])
        self.assertEqual(20, len(words) - 3)

    @skipUnless(find_spec("thriftpy2"), "thriftpy2 is not installed")
    def test_thriftUsers(self) -> None:
        """Three clients at one port; what has no reply comes when it comes."""
        process = self.example("thrift_users.py")
        self.assertEqual(0, process.end(), process.output)
        expected = ["TTHeader: ann is 7", "ann was seen", "framed: there is no cleo", "thriftpy2: bob is 8"]
        self.assertEqual(expected, sorted(process.output.splitlines()))

    def test_starttls(self) -> None:
        """From clear to encrypted; a client that does not trust the certificate says so and fails."""
        authority, other = Authority(self.mktemp()), Authority(self.mktemp())
        certificate, key = map(os.path.abspath, authority.issue(["localhost"]))
        server = self.example("starttls.py", "serve", certificate, key, "unix:x.sock")
        server.expect("listening on")
        client = self.example("starttls.py", "dial", os.path.abspath(authority.path), "unix:x.sock")
        self.assertEqual(0, client.end(), client.output)
        self.assertEqual("you said in private: hello", client.output)
        self.converse(self.connect("x.sock"), b"hello\n", b"say STARTTLS first\n")
        client = self.example("starttls.py", "dial", os.path.abspath(other.path), "unix:x.sock")
        self.assertEqual(1, client.end())
        self.assertIn("certificate", client.output)
        self.stop(server)

    def test_starttlsUsage(self) -> None:
        """Wrong arguments show how it is used."""
        process = self.example("starttls.py", "serve")
        self.assertEqual(1, process.end())
        self.assertIn("examples/starttls.py dial ca.pem", process.output)


class TransportTests(ExampleTestCase):
    """The same over everything."""

    def test_everywhere(self) -> None:
        """Every transport has its echo."""
        authority = Authority(self.mktemp())
        files = [os.path.abspath(path) for path in (*authority.issue(["localhost"]), authority.path)]
        process = self.example("everywhere.py", *files)
        self.assertEqual(0, process.end(), process.output)
        names = [f"{name}-session" for name in ("tcp", "unix", "udp", "ws", "tls", "wss")]
        replies = [line for line in process.lines if " heard " not in line]
        self.assertEqual([f"hello over {name}" for name in names], replies)

    def test_chat(self) -> None:
        """Names, who is there, and leaving."""
        server, [tcp, web, udp] = self.serving(
            "chat.py",
            "tcp:0:interface=127.0.0.1",
            "ws:0:interface=127.0.0.1:path=/chat",
            "udp:0:interface=127.0.0.1:sessions=peer",
        )
        ann = overSocket(socket.SOCK_STREAM, tcp)
        ann.expect("you are guest1; /nick NAME, /who, /quit")
        bob = overWebSocket(f"ws://127.0.0.1:{web}/chat")
        bob.expect("you are guest2; /nick NAME, /who, /quit")
        cyd = overSocket(socket.SOCK_DGRAM, udp)
        for each in (ann, bob, cyd):
            self.addCleanup(each.leave)
        ann.expect("guest2 is here")
        ann.say("/nick ann")
        for each in (ann, bob):
            each.expect("guest1 is ann from here on")
        bob.say("/nick ann")
        bob.expect("there is a ann already")
        cyd.say("hello")
        cyd.expect("you are guest1; /nick NAME, /who, /quit", "guest1: hello")
        for each in (ann, bob):
            each.expect("guest1 is here", "guest1: hello")
        cyd.say("/who")
        cyd.expect("ann, guest1, guest2")
        ann.say("/quit")
        ann.expect("")
        ann.leave()
        for each in (bob, cyd):
            each.expect("ann has gone")
        self.stop(server)

    def test_audit(self) -> None:
        """An echo in an application with a page, which knows of it."""
        server, [port, pagePort] = self.serving("audit.py", "0", "0")
        page = f"http://127.0.0.1:{pagePort}/"
        ann = overSocket(socket.SOCK_STREAM, port)
        self.addCleanup(ann.leave)
        ann.say("hello")
        ann.expect("hello")
        with urlopen(page, timeout=PATIENCE) as answer:
            self.assertEqual(b"1 open\n", answer.read())
        # The end of its stream comes before that of the process, which waits for ours.
        server.send(signal.SIGTERM)
        ann.expect("")
        ann.leave()
        server.end()
        self.assertNotIn("Traceback", server.output)

    def test_auditAccount(self) -> None:
        """What the protocol has seen is in the account, when the connection is gone."""
        _, [port, pagePort] = self.serving("audit.py", "0", "0")
        self.converse(socket.create_connection(("127.0.0.1", port)), b"hello\n")
        seen = b"1 open\n"
        while seen == b"1 open\n":
            with urlopen(f"http://127.0.0.1:{pagePort}/", timeout=PATIENCE) as answer:
                seen = answer.read()
        self.assertRegex(seen, rb"^0 open\n1 reads in \d+\.\d s\n$")


class RequestTests(ExampleTestCase):
    """Requests with time-outs."""

    def test_alone(self) -> None:
        """Replies come in the order in which they are ready, and one does not."""
        process = self.example("request_reply.py")
        self.assertEqual(0, process.end(), process.output)
        self.assertEqual({"GO", "SLOW", "SLOWER"}, set(process.lines[:-1]))
        # Either end may be the first to say that the time is over.
        self.assertIn("CallTimeoutError Shouter/shout", process.lines[-1])

    def test_seata(self) -> None:
        """A transaction is committed, another one is rolled back, and a third branch comes too late."""
        process = self.example("seata.py")
        self.assertEqual(0, process.end(), process.output)
        ends = []
        for name, done, xid in (("GlobalCommit", "committed", 1), ("GlobalRollback", "rolled back", 3)):
            status = "Committed" if xid == 1 else "Rollbacked"
            ends.append(f"branch of orders is {done}: two books")
            ends += [f"{name} of 127.0.0.1:8091:{xid}: {status}", f"its status: {status}"]
        self.assertEqual([*ends, "too late: GlobalTransactionNotExist"], process.lines)

    def test_other(self) -> None:
        """A server that ends the connection: what was asked fails with that."""
        listening = self.listen("x.sock")
        process = self.example("request_reply.py", "unix:x.sock")
        connection = self.accept(listening)
        codec = TTHeader().codec()
        asked = self.read(connection, codec, 4)
        self.assertEqual([1, 2, 3, 4], [each.id for each in asked])
        self.assertEqual([b'["slower"]', b'["slow"]', b'["?"]', b'["go"]'], [each.payload for each in asked])
        for number, answer in ((4, b'"the last first"'), (9, b'"nobody asked"')):
            connection.sendall(codec.write(None, Reply(number, answer)))
        process.expect("the last first")
        connection.close()
        self.assertEqual(0, process.end(), process.output)
        self.assertEqual(3, process.output.count("CallLostError Shouter/shout: "), process.output)

    def read(self, connection: socket.socket, codec: TTHeaderCodec, count: int) -> list[Any]:
        """So many messages."""
        data = b""
        found: list[Any] = []
        while len(found) < count:
            message, length = codec.read(None, memoryview(data))
            if message is None:
                data += connection.recv(10_000)
            else:
                found.append(message)
                data = data[length:]
        return found
