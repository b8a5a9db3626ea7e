"""docs/guide/grpc.md, docs/commands-grpc.md and docs/howto/grpc-calls.md: their tables and their code."""

from __future__ import annotations

import os
import re
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx.http.grpc.context import ServerContext
from getty_tx.rpc.errors import RemoteError, RpcError
from getty_tx.rpc.wires.grpcstatus import statusOf
from getty_tx.settings import Setting
from getty_tx.tap import grpc as command
from tests.docs.test_guide import read, rowsIn, section
from tests.tap.test_grpc import compiled


class PageTests(TestCase):
    """The pages."""

    timeout = 30

    async def test_code(self) -> None:
        """The server of the page is called, and its wrapper asks for a token."""
        import grpc

        folder = self.mktemp()
        os.mkdir(folder)
        messages, stubs = compiled(folder)
        names: dict[str, Any] = {"greeter_pb2": messages, "greeter_pb2_grpc": stubs}
        for block in re.findall(r"```python\n(.*?)```", read("guide/grpc.md"), re.DOTALL):
            exec(block.replace("tcp:50051", "tcp:0"), names)
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        port = (await server.whenListening())[0].port

        def work() -> list[Any]:
            name = messages.Name(name="Ann")
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = stubs.GreeterStub(channel)
                with self.assertRaises(grpc.RpcError) as caught:
                    stub.SayHello(name)
                found = [stub.SayHello(name, metadata=[("token", "secret")]), *stub.SayMany(name)]
                return [caught.exception.code().name, *(each.text for each in found)]

        self.assertEqual(await deferToThread(work), ["UNAUTHENTICATED", "Hello, Ann", "0", "1", "2"])

    def test_limits(self) -> None:
        """The table has every setting with its default."""
        shown = {}
        for name, default, _ in rowsIn(section(read("guide/grpc.md"), "Limits")):
            if name.startswith("`"):
                shown[name.strip("`")] = None if default == "none" else float(default)
        settings = {name: value.default for name, value in vars(ServerContext).items() if isinstance(value, Setting)}
        self.assertEqual(shown, settings)

    def test_options(self) -> None:
        """The table has every option that the command has beyond those of others."""
        shown = set(re.findall(r"`--([a-z-]+)", "".join(row[0] for row in rowsIn(read("commands-grpc.md")))))
        own: Any = vars(command.Options)
        known = {entry[0] for entry in (*own["optParameters"], *own["optFlags"])}
        self.assertEqual(shown, known | {"servicer", "service", "health"})


class CallsTests(TestCase):
    """docs/howto/grpc-calls.md, where methods of calls are called by clients of gRPC."""

    timeout = 30

    async def test_code(self) -> None:
        """The client of the page asks its server."""
        names: dict[str, Any] = {}
        for block in re.findall(r"```python\n(.*?)```", read("howto/grpc-calls.md"), re.DOTALL):
            exec(block.replace("tcp:50051", "tcp:0"), names)
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        self.assertEqual((3, 6, 6), await deferToThread(names["ask"], f"127.0.0.1:{address.port}"))

    def test_statuses(self) -> None:
        """The table has each error of calls, with its status."""
        table = list(rowsIn(section(read("howto/grpc-calls.md"), "How a call ends")))
        for kind in RpcError.byCode.values():
            if kind is not RpcError and kind.__module__ == RpcError.__module__ and kind is not RemoteError:
                (status,) = [status for raised, status in table if f"`{kind.__name__}`" in raised]
                self.assertEqual(statusOf(kind("why")).code.name, status)
