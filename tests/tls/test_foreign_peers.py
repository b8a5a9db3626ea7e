"""
TLS on a socket with other implementations at the other end: OpenSSL's commands, curl, Python's ``ssl`` and Go.

Each runs as a process, or in a thread, and echoes or asks; what is not installed is skipped, and says so.
"""

from __future__ import annotations

import shutil
import socket
import ssl
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx.client import Client
from getty_tx.codecs.line import LineCodec
from getty_tx.codecs.raw import RawCodec
from getty_tx.endpoints import clientEndpoint
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy, wrapClient, wrapServer
from tests.support.certificates import Authority
from tests.support.memory import configure

if TYPE_CHECKING:
    from twisted.python.failure import Failure

LOCAL = "127.0.0.1"
VERSIONS = {"-tls1_2": ssl.TLSVersion.TLSv1_2, "-tls1_3": ssl.TLSVersion.TLSv1_3}

GO = """
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
)

// Asks the server at Args[1] with version Args[3], ends its side, and prints all that comes until the other's end.
func main() {
	pem, _ := os.ReadFile(os.Args[2])
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	version := uint16(tls.VersionTLS12)
	if os.Args[3] == "-tls1_3" {
		version = tls.VersionTLS13
	}
	raw, err := net.Dial("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: version, MaxVersion: version})
	fmt.Fprintf(c, "hello\\r\\n")
	if err := c.CloseWrite(); err != nil {
		panic(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(all)
}
"""


class Command(ProcessProtocol):
    """A command: what it prints, and its end."""

    def __init__(self, wanted: bytes = b"") -> None:
        self.output = b""
        self.ended: Deferred[bytes] = Deferred()
        self.printed: Deferred[bytes] = Deferred()
        self._wanted = wanted

    def outReceived(self, data: bytes) -> None:
        self.output += data
        if self._wanted and self._wanted in self.output and not self.printed.called:
            self.printed.callback(self.output)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted gives it no types
        self.status = 0 if reason.check(ProcessDone) else reason.check(ProcessTerminated) and reason.value
        self.ended.callback(self.output)


class ForeignCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.files = self.authority.issue([LOCAL])

    def run_(self, *arguments: Any, wanted: bytes = b"") -> Command:
        """Run a command, to its end or that of the test."""
        program = shutil.which(arguments[0])
        if program is None:
            raise SkipTest(f"{arguments[0]} is not installed")
        command = Command(wanted)
        there: Any = reactor
        process = there.spawnProcess(command, program, [str(each) for each in arguments], env=None)

        def end() -> Deferred[bytes]:
            if not command.ended.called:
                process.signalProcess("KILL")
            return command.ended

        self.addCleanup(end)
        self.process = process
        return command

    async def serve(self, on: dict[str, Any], codec: Any) -> int:
        self.heard = RecordingListener(on)
        endpoint = wrapServer(serverPolicy(*self.files), self.plainServer())
        self.server = Server(configure(self.heard, codec), endpoint)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        [address] = await self.server.whenListening()
        port: int = address.port  # type: ignore[attr-defined]
        return port

    def plainServer(self) -> Any:
        from twisted.internet.endpoints import TCP4ServerEndpoint

        return TCP4ServerEndpoint(reactor, 0, interface=LOCAL)

    async def dial(self, port: int, on: dict[str, Any]) -> Any:
        policy = clientPolicy(LOCAL, trustRoot=self.authority.path)
        endpoint: Any = wrapClient(policy, clientEndpoint(f"tcp:{LOCAL}:{port}", reactor))
        client = Client(configure(RecordingListener(on), LineCodec()), endpoint, reconnectInterval=0.05)
        client.startService()
        self.addCleanup(client.close)
        [session] = await client.whenReady()
        return session


def upper(session: Any, line: Any) -> None:
    session.writePkg(line.upper())


class ServerTests(ForeignCase):
    """A server of ours."""

    async def test_sClient(self) -> None:
        """openssl s_client: a line and its answer; a key update asked for between two lines (TLS 1.3)."""
        for version in VERSIONS:
            port = await self.serve({"message": upper}, LineCodec())
            arguments = ("openssl", "s_client", version, "-connect", f"{LOCAL}:{port}", "-CAfile", self.authority.path)
            command = self.run_(*arguments, wanted=b"SECOND")
            self.process.write(b"first\n")
            # K: update the keys and ask the peer to; in TLS 1.2 it is a line's beginning that s_client takes as text.
            self.process.write(b"K\n" if version == "-tls1_3" else b"")
            self.process.write(b"second\n")
            output = await command.printed
            self.assertIn(b"FIRST", output)
            self.assertIn(b"Verify return code: 0 (ok)", output)
            self.process.closeStdin()

    async def test_curl(self) -> None:
        """curl gets a page; it ends its connection by the stream's end alone."""
        page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"

        def request(session: Any, data: bytes) -> None:
            session.writePkg(page)
            session.close()

        port = await self.serve({"message": request}, RawCodec())
        command = self.run_(
            "curl", "--silent", "--show-error", "--cacert", self.authority.path, f"https://{LOCAL}:{port}/"
        )
        self.assertEqual(await command.ended, b"hello\n")
        self.assertEqual(self.heard.errors, [])

    async def test_python(self) -> None:
        """Python's ssl, in both versions, with more than the sockets hold."""
        data = b"x" * 999 + b"\n"

        def talk(port: int, version: ssl.TLSVersion) -> bytes:
            context = ssl.create_default_context(cafile=self.authority.path)
            context.minimum_version = context.maximum_version = version
            with (
                socket.create_connection((LOCAL, port)) as plain,
                context.wrap_socket(plain, server_hostname=LOCAL) as end,
            ):
                end.sendall(data * 200)
                received = b""
                while len(received) < len(data) * 200:
                    received += end.recv(65536)
                end.unwrap()
                return received

        for version in VERSIONS.values():
            port = await self.serve({"message": upper}, LineCodec())
            received = await deferToThread(talk, port, version)
            self.assertEqual(received.replace(b"\r\n", b"\n"), data.upper() * 200)
            self.assertEqual(self.heard.errors, [])

    async def test_go(self) -> None:
        """Go's crypto/tls ends its side, and gets the answer and the end."""
        source = FilePath(self.mktemp() + ".go")
        source.setContent(GO.encode())
        built = FilePath(self.mktemp())
        build = self.run_("go", "build", "-o", built.path, source.path)
        output = await build.ended
        if not built.exists():
            raise SkipTest(f"go cannot build here: {output!r}")
        for version in VERSIONS:
            port = await self.serve({"message": upper}, LineCodec())
            command = self.run_(built.path, f"{LOCAL}:{port}", self.authority.path, version)
            self.assertEqual((await command.ended).strip(), b"HELLO")
            self.assertEqual(self.heard.errors, [])


class ClientTests(ForeignCase):
    """A client of ours."""

    async def test_sServer(self) -> None:
        """openssl s_server, which turns lines round; a key update of its own between two lines is nothing to see."""
        for version in VERSIONS:
            with socket.socket() as free:
                free.bind((LOCAL, 0))
                port = free.getsockname()[1]
            arguments = ("openssl", "s_server", version, "-accept", f"{LOCAL}:{port}", "-rev")
            command = self.run_(*arguments, "-cert", self.files[0], "-key", self.files[1], wanted=b"ACCEPT")
            await command.printed
            answer: Deferred[Any] = Deferred()
            session = await self.dial(port, {"message": lambda session, line, to=answer: to.callback(line)})
            session.writePkg(b"hello")
            self.assertEqual(await answer, b"olleh")

    async def test_python(self) -> None:
        """Python's ssl as the server, in both versions."""
        for version in VERSIONS.values():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.files)
            context.minimum_version = context.maximum_version = version
            listening = socket.create_server((LOCAL, 0))
            self.addCleanup(listening.close)

            def serve(listening: socket.socket = listening, context: ssl.SSLContext = context) -> bytes:
                plain, _ = listening.accept()
                with context.wrap_socket(plain, server_side=True) as end:
                    line: bytes = end.recv(100)
                    end.sendall(line.upper())
                    # Until our close_notify.
                    return line + end.recv(100)

            served = deferToThread(serve)
            answer: Deferred[Any] = Deferred()
            session = await self.dial(
                listening.getsockname()[1], {"message": lambda session, line, to=answer: to.callback(line)}
            )
            session.writePkg(b"hello")
            self.assertEqual(await answer, b"HELLO")
            session.close()
            self.assertEqual((await served).strip(), b"hello")
