"""Thrift with the clients and servers of others: thriftpy2, and Apache's library where it is installed."""

from __future__ import annotations

import contextlib
import socket
import threading
from importlib.util import find_spec
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import rpc
from tests.rpc.test_kitex import _SKIP, load


class InteropCase(TestCase):
    """Has the IDL, and servers of getty_tx and of others, one end of each in a thread."""

    skip = _SKIP
    timeout = 20

    def setUp(self) -> None:
        self.idl = load()

    def thrift(self, transport: str = "framed", **options: Any) -> rpc.Thrift:
        services = {"Echo": self.idl.Echo, "Other": self.idl.Other}
        return rpc.Thrift(services, transport=transport, **options)

    async def serve(self) -> int:
        """Serve Echo; returns the port."""
        idl = self.idl
        self.lines: list[str] = []
        self.logged: Deferred[None] = Deferred()

        class Echo:
            @rpc.method
            async def echo(_, text: str) -> str:
                if text == "odd":
                    raise rpc.RemoteError("an odd text")
                return text

            @rpc.method
            def point(_, p: Any, n: int, small: int) -> Any:
                if n < 0:
                    raise idl.Out(what="below")
                return p

            @rpc.method
            def nothing(_) -> None:
                pass

            @rpc.method
            def log(_, line: str) -> None:
                self.lines.append(line)
                self.logged.callback(None)

        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Echo": Echo()}, wire=self.thrift())
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        port: int = address.port
        return port

    def client(self, port: int, transport: str) -> rpc.Client:
        """A client of a server of others."""
        client = rpc.Client(f"tcp:127.0.0.1:{port}", wire=self.thrift(transport))
        client.startService()
        self.addCleanup(client.stopService)
        return client

    def listen(self, talk: Any) -> int:
        """Have ``talk(socket)`` serve one connection in a thread; returns the port."""
        listening = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with listening:
                accepted, _ = listening.accept()
            with accepted:
                talk(accepted)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(deferToThread, thread.join)
        port: int = listening.getsockname()[1]
        return port


class Handler:
    """What a server of thriftpy2 serves."""

    def __init__(self, idl: Any) -> None:
        self.idl = idl
        self.lines: list[str] = []

    def echo(self, text: str) -> str:
        return text

    def point(self, p: Any, n: int, small: int) -> Any:
        if n < 0:
            raise self.idl.Out(what="below")
        return p

    def nothing(self) -> None:
        pass

    def log(self, line: str) -> None:
        self.lines.append(line)


class Thriftpy2Tests(InteropCase):
    """thriftpy2, with its own transports."""

    async def asked(self, transport: Any, name: str = "") -> None:
        """Have its client ask for everything."""
        from thriftpy2.protocol import TBinaryProtocol, TMultiplexedProtocol
        from thriftpy2.thrift import TApplicationException, TClient
        from thriftpy2.transport import TSocket

        port = await self.serve()
        idl = self.idl
        point = idl.P(a="x", b=[1, 2], c={"k": idl.P(a="in")}, d=b"\xff", e=[True], f=0.5, g=-1)

        def ask() -> None:
            trans = transport(TSocket("127.0.0.1", port, socket_timeout=10_000))
            trans.open()
            protocol = TBinaryProtocol(trans)
            client = TClient(idl.Echo, TMultiplexedProtocol(protocol, name) if name else protocol)
            self.assertEqual(client.echo("hi"), "hi")
            self.assertEqual(client.echo("x" * 300_000), "x" * 300_000)
            self.assertEqual(client.point(point, 1, 2), point)
            with self.assertRaises(idl.Out) as caught:
                client.point(point, -1, 2)
            self.assertEqual(caught.exception.what, "below")
            self.assertIsNone(client.nothing())
            client.log("line")
            with self.assertRaises(TApplicationException) as failed:
                client.echo("odd")
            self.assertEqual((failed.exception.type, failed.exception.message), (6, "an odd text"))
            other = TClient(idl.Other, protocol)
            with self.assertRaises(TApplicationException) as failed:
                other.only(1)
            self.assertEqual(failed.exception.type, TApplicationException.UNKNOWN_METHOD)
            client.close()

        await deferToThread(ask)
        await self.logged
        self.assertEqual(self.lines, ["line"])

    async def test_framedClient(self) -> None:
        """Its TFramedTransport."""
        from thriftpy2.transport import TFramedTransport

        await self.asked(TFramedTransport)

    async def test_bufferedClient(self) -> None:
        """Its TBufferedTransport, at the same port."""
        from thriftpy2.transport import TBufferedTransport

        await self.asked(TBufferedTransport)

    async def test_multiplexedClient(self) -> None:
        """Its TMultiplexedProtocol."""
        from thriftpy2.transport import TFramedTransport

        await self.asked(TFramedTransport, "Echo")

    async def called(self, transport: str, trans: Any) -> None:
        """Ask its server for everything, with many calls in flight."""
        from thriftpy2.protocol import TBinaryProtocol
        from thriftpy2.thrift import TProcessor
        from thriftpy2.transport import TSocket, TTransportException

        handler = Handler(self.idl)

        def talk(accepted: socket.socket) -> None:
            protocol = TBinaryProtocol(trans(TSocket(sock=accepted)))
            processor = TProcessor(self.idl.Echo, handler)
            with contextlib.suppress(TTransportException, OSError):
                while True:
                    processor.process(protocol, protocol)

        client = self.client(self.listen(talk), transport)
        echo = client.service("Echo")
        texts = [f"{n}" * n for n in range(50)]
        self.assertEqual(await gatherResults([echo.echo(text) for text in texts]), texts)
        point = self.idl.P(a="x", c={"k": self.idl.P(b=[1])})
        self.assertEqual(await echo.point(point, 1, 2), point)
        with self.assertRaises(self.idl.Out):
            await echo.point(point, -1, 2)
        client.send("Echo", "log", "line")
        self.assertIsNone(await echo.nothing())
        self.assertEqual(handler.lines, ["line"])
        with self.assertRaises(rpc.NoSuchMethodError):
            await client.call("Other", "only", 1)

    async def test_framedServer(self) -> None:
        """A server of it, framed."""
        from thriftpy2.transport import TFramedTransport

        await self.called("framed", TFramedTransport)

    async def test_bufferedServer(self) -> None:
        """A server of it, buffered."""
        from thriftpy2.transport import TBufferedTransport

        await self.called("buffered", TBufferedTransport)


@skipUnless(find_spec("thrift"), "thrift, Apache's library, is not installed")
class ApacheTests(InteropCase):
    """Apache's library, without the code that its compiler would make."""

    def protocol(self, connected: Any, transport: str) -> Any:
        """Its binary protocol over a socket."""
        from thrift.protocol.TBinaryProtocol import TBinaryProtocol
        from thrift.transport.TSocket import TSocket
        from thrift.transport.TTransport import TBufferedTransport, TFramedTransport

        wrapped = TSocket()
        wrapped.setHandle(connected)
        wrap = TFramedTransport if transport == "framed" else TBufferedTransport
        return TBinaryProtocol(wrap(wrapped))

    def write(self, protocol: Any, name: str, kind: int, number: int, field: int, text: str) -> None:
        """A message with one text."""
        from thrift.Thrift import TType

        protocol.writeMessageBegin(name, kind, number)
        protocol.writeStructBegin("any")
        protocol.writeFieldBegin("text", TType.STRING, field)
        protocol.writeString(text)
        protocol.writeFieldEnd()
        protocol.writeFieldStop()
        protocol.writeStructEnd()
        protocol.writeMessageEnd()
        protocol.trans.flush()

    def read(self, protocol: Any) -> tuple[str, int, int, Any]:
        """The name, type and id of a message, and its text or exception."""
        from thrift.Thrift import TApplicationException, TMessageType, TType

        name, kind, number = protocol.readMessageBegin()
        value: Any = None
        if kind == TMessageType.EXCEPTION:
            value = TApplicationException()
            value.read(protocol)
        else:
            protocol.readStructBegin()
            while True:
                _, fieldType, _ = protocol.readFieldBegin()
                if fieldType == TType.STOP:
                    break
                value = protocol.readString()
                protocol.readFieldEnd()
            protocol.readStructEnd()
        protocol.readMessageEnd()
        return name, kind, number, value

    async def asked(self, transport: str) -> None:
        """Have it ask: one by one, and several before the first reply, all with the id 0."""
        port = await self.serve()

        def ask() -> list[tuple[str, int, int, Any]]:
            with socket.create_connection(("127.0.0.1", port), 10) as connected:
                protocol = self.protocol(connected, transport)
                found = []
                for name, number, text in (("echo", 7, "hi"), ("nope", -8, ""), ("echo", 0, "odd")):
                    self.write(protocol, name, 1, number, 1, text)
                    found.append(self.read(protocol))
                self.write(protocol, "log", 4, 0, 1, "line")
                for text in "abc":
                    self.write(protocol, "echo", 1, 0, 1, text)
                return found + [self.read(protocol) for _ in "abc"]

        first, unknown, odd, *others = await deferToThread(ask)
        await self.logged
        self.assertEqual(first, ("echo", 2, 7, "hi"))
        self.assertEqual((*unknown[:3], unknown[3].type), ("nope", 3, -8, 1))
        self.assertEqual((*odd[:3], odd[3].type, odd[3].message), ("echo", 3, 0, 6, "an odd text"))
        self.assertEqual(others, [("echo", 2, 0, text) for text in "abc"])

    async def test_framedClient(self) -> None:
        """Framed."""
        await self.asked("framed")

    async def test_bufferedClient(self) -> None:
        """Buffered, at the same port."""
        await self.asked("buffered")

    async def called(self, transport: str) -> None:
        """Ask a server that is made of it."""
        from thrift.Thrift import TApplicationException
        from thrift.transport.TTransport import TTransportException

        def talk(accepted: socket.socket) -> None:
            protocol = self.protocol(accepted, transport)
            with contextlib.suppress(TTransportException, OSError):
                while True:
                    name, _, number, text = self.read(protocol)
                    if text == "odd":
                        protocol.writeMessageBegin(name, 3, number)
                        TApplicationException(TApplicationException.PROTOCOL_ERROR, "odd").write(protocol)
                        protocol.writeMessageEnd()
                        protocol.trans.flush()
                    else:
                        self.write(protocol, name, 2, number, 0, text)

        echo = self.client(self.listen(talk), transport).service("Echo")
        texts = [f"{n}" * n for n in range(1, 50)]
        self.assertEqual(await gatherResults([echo.echo(text) for text in texts]), texts)
        with self.assertRaisesRegex(rpc.PayloadError, "^odd$"):
            await echo.echo("odd")

    async def test_framedServer(self) -> None:
        """Framed."""
        await self.called("framed")

    async def test_bufferedServer(self) -> None:
        """Buffered."""
        await self.called("buffered")
