"""
TLS on a socket with other implementations at the other end: OpenSSL's commands, curl and Python's ``ssl``.

Each runs as a process, or in a thread, and echoes or asks; what is not installed is skipped, and says so. Go has a file
of its own, ``test_go_peers``.
"""

from __future__ import annotations

import socket
import ssl
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.threads import deferToThread

from getty_tx.codecs.line import LineCodec
from getty_tx.codecs.raw import RawCodec
from tests.support.foreign import LOCAL, ForeignCase

VERSIONS = {"-tls1_2": ssl.TLSVersion.TLSv1_2, "-tls1_3": ssl.TLSVersion.TLSv1_3}


def upper(session: Any, line: Any) -> None:
    session.writePkg(line.upper())


class ServerTests(ForeignCase):
    """A server of ours."""

    async def test_sClient(self) -> None:
        """openssl s_client: a line and its answer; a key update asked for between two lines (TLS 1.3)."""
        for version in VERSIONS:
            port = await self.serve({"message": upper}, LineCodec())
            arguments = ("openssl", "s_client", version, "-connect", f"{LOCAL}:{port}", "-CAfile", self.authority.path)
            command = self.command(*arguments)
            command.write(b"first\n")
            output = await command.printed(b"FIRST")
            self.assertIn(b"Verify return code: 0 (ok)", output)
            if version == "-tls1_3":
                # Update the keys and ask the peer to. It has to be a read of its own.
                command.write(b"K\n")
                await command.printed(b"KEYUPDATE")
            command.write(b"second\n")
            await command.printed(b"SECOND")
            self.assertEqual(self.heard.packages, [b"first", b"second"])

    async def test_curl(self) -> None:
        """curl gets a page; it ends its connection by the stream's end alone."""
        page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"

        def request(session: Any, data: bytes) -> None:
            session.writePkg(page)
            session.close()

        port = await self.serve({"message": request}, RawCodec())
        command = self.command(
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


class ClientTests(ForeignCase):
    """A client of ours."""

    async def test_sServer(self) -> None:
        """openssl s_server: lines both ways; its key update, which asks for ours, is nothing to see."""
        for version in VERSIONS:
            with socket.socket() as free:
                free.bind((LOCAL, 0))
                port = free.getsockname()[1]
            arguments = ("openssl", "s_server", version, "-accept", f"{LOCAL}:{port}", "-cert", self.files[0])
            command = self.command(*arguments, "-key", self.files[1])
            await command.printed(b"ACCEPT")
            lines: DeferredQueue[Any] = DeferredQueue()
            client = self.pool(port, {"message": lambda session, line, to=lines: to.put(line)}, LineCodec())
            [session] = await client.whenReady()
            session.writePkg(b"from the client")
            await command.printed(b"from the client")
            if version == "-tls1_3":
                command.write(b"K\n")
                # It tells of that when it prints what it is sent.
                for number in count():
                    if b"SSL_do_handshake -> 1" in command.output:
                        break
                    session.writePkg(b"line %d" % number)
                    await command.printed(b"line %d" % number)
            command.write(b"from the server\n")
            self.assertEqual(await lines.get(), b"from the server")
            session.writePkg(b"and once more")
            await command.printed(b"and once more")

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
            on = {"message": lambda session, line, to=answer: to.callback(line)}
            [session] = await self.pool(listening.getsockname()[1], on, LineCodec()).whenReady()
            session.writePkg(b"hello")
            self.assertEqual(await answer, b"HELLO")
            session.close()
            self.assertEqual((await served).strip(), b"hello")
