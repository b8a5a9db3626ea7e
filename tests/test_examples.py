"""The examples, run as their own first lines say."""

from __future__ import annotations

import os
import signal
import socket
import sys

from tests.certificates import Authority
from tests.test_tap_twistd import ROOT, TWISTD, Process, ProcessTestCase

EXAMPLES = ROOT / "examples"


class ExampleTests(ProcessTestCase):
    """Each in a process of its own, on unix sockets."""

    def example(self, name: str, *arguments: str) -> Process:
        """Run an example."""
        return self.run_(sys.executable, str(EXAMPLES / name), *arguments)

    def connect(self, name: str) -> socket.socket:
        """A connection to a unix socket in the folder of the processes."""
        return self.connectUnix(os.path.join(self.folder, name))

    def stop(self, process: Process) -> None:
        """What ``kill`` does ends an example without a traceback."""
        process.send(signal.SIGTERM)
        process.end()
        self.assertNotIn("Traceback", process.output)

    def test_all(self) -> None:
        """There is a test for every example."""
        expected = {"echo_server.py", "echo_client.py", "echo.html", "keyvalue.py", "starttls.py"}
        expected |= {"relay.tac", "proxy.py"}
        self.assertEqual(expected, {path.name for path in EXAMPLES.iterdir() if path.is_file()})

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

    def test_clientAlone(self) -> None:
        """Nobody listens: the client fails within its time, and says why."""
        client = self.example("echo_client.py", "unix:nobody.sock")
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
