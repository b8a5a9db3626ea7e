"""The wire of gRPC, by raw HTTP/2: methods, errors, times, limits and the end of a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.http.grpc.status import Code
from getty_tx.rpc.context import CallContext
from getty_tx.rpc.errors import RpcError
from getty_tx.rpc.server import servingOf
from getty_tx.rpc.wires.grpcstatus import statusOf
from tests.support.grpcraw import framed
from tests.support.grpcwire import Echo, WireCase, messages, packed

ROOT = Path(__file__).parents[2]

PATH = "/pkg.Echo/"


class Settings(SynchronousTestCase):
    """What is refused at once."""

    def refused(self, why: str, make: Any, *arguments: Any, **options: Any) -> None:
        with self.assertRaisesRegex(SettingError, why):
            make(*arguments, **options)

    def test_forServers(self) -> None:
        """It is none of clients: who has to call finds the way."""
        self.refused("http.grpc.Channel", rpc.Client, "tcp:localhost:1", wire=rpc.Grpc())
        self.refused("http.grpc.Channel", rpc.Peer, None, rpc.Grpc())

    def test_wire(self) -> None:
        self.refused("none of json, protobuf", rpc.Grpc, "msgpack")
        self.refused("types=", rpc.Grpc, "json", types={})
        for types in 17, SimpleNamespace(DESCRIPTOR=SimpleNamespace(services_by_name={})):
            self.refused("no module that protoc has made from a file with services", rpc.Grpc, "protobuf", types)
        self.refused("maxCallsPerSession", rpc.Grpc, maxStreams=1)
        self.refused("nope=1 is no setting", rpc.Grpc, nope=1)
        self.assertEqual(repr(rpc.Grpc("protobuf")), "Grpc('protobuf')")

    def test_server(self) -> None:
        for endpoint in "udp:1", "ws:1", ["tcp:1", "wss:1"]:
            self.refused("is not for ", rpc.Server, endpoint, {"Echo": Echo()}, wire=rpc.Grpc())
        self.refused("it makes none", rpc.Server, "tcp:1", {"Echo": Echo()}, wire=rpc.Grpc(), timeout=1)
        self.refused("not ASCII", rpc.Server, "tcp:1", {"Écho": Echo()}, wire=rpc.Grpc())

    def test_reactor(self) -> None:
        """On Twisted's asyncio reactor methods could not wait."""
        other = object.__new__(AsyncioSelectorReactor)
        serving = servingOf(CallContext(rpc.Grpc(), {"Echo": Echo()}), other)
        with self.assertRaisesRegex(RuntimeError, "choose another reactor"):
            serving.newSession(None)

    def test_lazy(self) -> None:
        """Programs with other wires load nothing of HTTP."""
        code = "import sys; from getty_tx import rpc; print(any('getty_tx.http' in each for each in sys.modules))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        self.assertEqual(found.stdout, "False\n")


class Statuses(SynchronousTestCase):
    """Errors as statuses."""

    def test_classes(self) -> None:
        names = ("deadline", "cancelled", "lost", "refused", "noMethod", "payload")
        self.assertEqual(
            {name: statusOf(RpcError.byCode[name]("why")).code.name for name in names},
            {
                "deadline": "DEADLINE_EXCEEDED",
                "cancelled": "CANCELLED",
                "lost": "UNAVAILABLE",
                "refused": "UNAVAILABLE",
                "noMethod": "UNIMPLEMENTED",
                "payload": "INVALID_ARGUMENT",
            },
        )

    def test_codes(self) -> None:
        """Those with the name of a status, and others, which are told if they can be."""
        for name in "notFound", "NOT_FOUND", "not_found":
            self.assertEqual(statusOf(rpc.RemoteError(code=name)).code, Code.NOT_FOUND)
        self.assertEqual(statusOf(rpc.RemoteError("x")).code, Code.INTERNAL)
        for name, trailers in (("ok", (("rpc-code", "ok"),)), ("é", ()), ("a b", ()), ("x" * 101, ())):
            status = statusOf(rpc.RemoteError("x", code=name))
            self.assertEqual((status.code, status.trailers), (Code.UNKNOWN, trailers))

    def test_longText(self) -> None:
        """It has to fit what clients take of trailers."""
        self.assertEqual(len(statusOf(rpc.RemoteError("x" * 10_000)).text), 500)


class Methods(WireCase):
    """Methods and their arguments."""

    async def test_kinds(self) -> None:
        await self.serve()
        client = await self.raw()
        for method in "say", "laterOn", "quick":
            self.assertEqual(await self.ask(client, method, ["hi"]), ("0", None, ["hi"]))
        self.assertEqual(await self.ask(client, "inThread", []), ("0", None, ["pkg.Echo/inThread True"]))

    async def test_arguments(self) -> None:
        """An array, or an object by the names of parameters; those with a default may be left out."""
        await self.serve()
        client = await self.raw()
        for value in ["hi", 2], {"text": "hi", "times": 2}, {"times": 2, "text": "hi"}:
            self.assertEqual(await self.ask(client, "say", value), ("0", None, ["hihi"]))
        self.assertEqual(await self.ask(client, "say", {"text": "hi"}), ("0", None, ["hi"]))
        for value, found in (({"first": 1}, [1, 2]), ({"second": 1}, [1, 1]), ({}, [1, 2])):
            self.assertEqual(await self.ask(client, "defaults", value), ("0", None, [found]))
        for value, why in (
            ([], "was called with 0 arguments"),
            (["hi", 1, 2], "was called with 3 arguments"),
            ("hi", "neither an array nor an object"),
            ({"nope": 1}, "missing a required argument"),
            ({"text": "hi", "own": 1}, "own cannot be given"),
        ):
            status, text, _ = await self.ask(client, "say", value)
            self.assertEqual(status, "3")
            self.assertIn(why, text)
        answer = await client.call(PATH + "say", framed(b"{")).ended
        self.assertEqual(answer.status, "3")
        self.assertEqual((await client.call(PATH + "say", framed(b"[]") * 2).ended).status, "12")

    async def test_contentTypes(self) -> None:
        await self.serve()
        client = await self.raw()
        for kind in "application/grpc", "application/grpc+json", "application/grpc+proto":
            self.assertEqual(await self.ask(client, "say", ["hi"], content_type=kind), ("0", None, ["hi"]))

    async def test_unknown(self) -> None:
        await self.serve()
        client = await self.raw()
        self.assertEqual((await self.ask(client, "nope", []))[0], "12")

    async def test_described(self) -> None:
        """The service rpc is there as for other wires."""
        await self.serve()
        answer = await (await self.raw()).call("/rpc/describe", framed(b"{}")).ended
        (found,) = messages(answer.data)
        self.assertIn("pkg.Echo/say", [each["name"] for each in found])

    async def test_call(self) -> None:
        """currentCall() has metadata and the time that is left, and what it is given along comes as trailers."""
        await self.serve()
        client = await self.raw()
        fields: dict[str, Any] = {"x_user": "ann", "x_raw_bin": "AQ", "grpc_timeout": "100S"}
        answer = await client.call(PATH + "about", framed(b"[]"), **fields).ended
        found = messages(answer.data)[0]
        self.assertEqual(found, ["pkg.Echo/about", {"x-user": "ann", "x-raw-bin": "b'\\x01'"}, True])
        self.assertEqual(answer.heads[-1]["server"], "here")

    async def test_replyMetadata(self) -> None:
        """What would break the connection is not sent; blanks around a value are none of it."""

        class Sends:
            @rpc.method
            def along(self, name: str, value: str) -> int:
                rpc.currentCall().replyMetadata = {name: value}
                return 1

        await self.serve(echo=Sends())
        client = await self.raw()
        for name in "transfer-encoding", "upgrade", "keep-alive", "content-length", "te", "grpc-status", ":path", "Up":
            self.assertEqual((await self.ask(client, "along", [name, "1"]))[0], "13")
        answer = await client.call(PATH + "along", framed(packed(["x", " y "]))).ended
        self.assertEqual((answer.status, answer.heads[-1]["x"]), ("0", "y"))

    async def test_backwards(self) -> None:
        """The client cannot be called."""
        await self.serve()
        self.assertEqual((await self.ask(await self.raw(), "backwards", []))[0], "13")
        (error,) = self.flushLoggedErrors(SettingError)
        self.assertIn("a client of gRPC cannot be called", str(error.value))

    async def test_wrapped(self) -> None:
        server = await self.serve()
        names = []

        def wrapper(name: str, handler: Any) -> Any:
            names.append(name)
            return lambda *arguments: f"<{handler(*arguments)}>" if name == "pkg.Echo/say" else handler(*arguments)

        server.wrap(wrapper)
        self.assertIn("pkg.Echo/say", names)
        self.assertEqual(await self.ask(await self.raw(), "say", ["hi"]), ("0", None, ["<hi>"]))

    async def test_counted(self) -> None:
        """As other calls, by method, with the names of statuses."""
        server = await self.serve()
        client = await self.raw()
        await self.ask(client, "say", ["hi"])
        await self.ask(client, "fail", ["own"])
        calls = server.server.contexts[0].calls["server"]
        self.assertEqual((calls["pkg.Echo/say"].done, calls["pkg.Echo/fail"].failed), (1, {"UNKNOWN": 1}))


class Errors(WireCase):
    """Methods that fail."""

    async def test_own(self) -> None:
        """The code is told, and what goes along."""
        await self.serve()
        answer = await (await self.raw()).call(PATH + "fail", framed(packed(["own"]))).ended
        last = answer.heads[-1]
        self.assertEqual((answer.status, answer.text), ("2", "no tea"))
        self.assertEqual((last["rpc-code"], last["server"]), ("outOfStock", "here"))

    async def test_byName(self) -> None:
        await self.serve()
        client = await self.raw()
        self.assertEqual((await self.ask(client, "fail", ["notFound"]))[:2], ("5", "why"))
        status, text, _ = await self.ask(client, "fail", ["refused"])
        self.assertEqual((status, len(text)), ("14", 500))

    async def test_exceptionsTellNothing(self) -> None:
        await self.serve()
        client = await self.raw()
        self.assertEqual((await self.ask(client, "fail", ["plain"]))[:2], ("13", "pkg.Echo/fail failed: ValueError"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_replies(self) -> None:
        """Those that cannot be sent."""
        await self.serve(maxMsgLen=4000)
        client = await self.raw()
        for what, why in (
            ("unsendable", "is no JSON"),
            ("long", "above maxMsgLen=4000"),
            ("metadata", "its metadata cannot be sent"),
        ):
            status, text, _ = await self.ask(client, "fail", [what])
            self.assertEqual(status, "13")
            self.assertIn(why, text)


class Times(WireCase):
    """Deadlines, and clients that do not wait."""

    async def test_ofTheMethod(self) -> None:
        """timeout= ends a method, whatever its client allows; the status says so."""
        server = await self.serve()
        client = await self.raw()
        for options in {}, {"grpc_timeout": "100S"}:
            status, text, _ = await self.ask(client, "brief", [], **options)
            self.assertEqual((status, text), ("4", "pkg.Echo/brief has taken longer than it may"))
        self.assertEqual((self.echo.ended, server.context.running), (["cancelled"] * 2, 0))

    async def test_ofTheServer(self) -> None:
        """maxTimeout, which may change, is for calls, and not for streams."""
        server = await self.serve()
        server.context.maxTimeout = 0.05
        client = await self.raw()
        self.assertEqual((await self.ask(client, "wait", []))[0], "4")
        answer = client.call(PATH + "takeLater", framed(b"1"))
        await deferLater(reactor, 0.1)
        self.assertFalse(answer.ended.called)
        self.echo.letGo()
        self.assertEqual(messages((await answer.ended).data), [1])

    async def test_ofTheClient(self) -> None:
        await self.serve()
        answer = await (await self.raw()).call(PATH + "wait", framed(b"[]"), grpc_timeout="50m").ended
        self.assertEqual(answer.code, 8)
        await self.until(lambda: self.echo.ended)
        self.assertEqual(self.echo.ended, ["cancelled"])

    async def test_ofAStream(self) -> None:
        """Of one that has sent something."""
        await self.serve()
        status, _, replies = await self.ask(await self.raw(), "ticks")
        self.assertEqual((status, replies), ("4", [1]))

    async def test_cancelled(self) -> None:
        """A client that resets its stream ends the method."""
        server = await self.serve()
        client = await self.raw()
        answer = client.call(PATH + "wait", framed(b"[]"))
        await self.until(lambda: self.echo.calls)
        self.assertEqual(server.context.running, 1)
        client.h2.reset_stream(client.numberOf(answer), 8)
        client.send()
        await self.until(lambda: self.echo.ended)
        self.assertEqual((self.echo.ended, server.context.running), (["cancelled"], 0))

    async def test_slow(self) -> None:
        """A call above slowCall is logged."""
        from twisted.logger import globalLogPublisher

        texts: list[Any] = []
        observer = texts.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await self.serve(slowCall=0.0001)
        await self.ask(await self.raw(), "inThread", [])
        slow = [event["method"] for event in texts if "slowCall" in event.get("log_format", "")]
        self.assertEqual(slow, ["pkg.Echo/inThread"])


class Limits(WireCase):
    """What a server takes."""

    async def test_calls(self) -> None:
        """Above maxCalls, which may change, they are refused."""
        server = await self.serve()
        server.context.maxCalls = 1
        client = await self.raw()
        waits = client.call(PATH + "wait", framed(b"[]"))
        await self.until(lambda: self.echo.calls)
        self.assertEqual(await self.ask(client, "say", ["hi"]), ("8", "maxCalls=1 calls are being served", []))
        self.assertEqual(server.context.refused, 1)
        self.echo.letGo()
        await waits.ended
        self.assertEqual(await self.ask(client, "say", ["hi"]), ("0", None, ["hi"]))

    async def test_sessions(self) -> None:
        """maxCallsPerSession is told to the client, and pings and lengths are those of the server."""
        server = await self.serve(maxCallsPerSession=2**40, maxMsgLen=100, pingInterval=None)
        client = await self.raw()
        self.assertEqual((await self.ask(client, "say", ["x" * 200]))[0], "8")
        self.assertEqual(client.h2.remote_settings.max_concurrent_streams, 2**30)
        server.context.maxCallsPerSession = 9
        another = await self.raw()
        await self.ask(another, "say", ["hi"])
        self.assertEqual(another.h2.remote_settings.max_concurrent_streams, 9)


class Ends(WireCase):
    """A server that stops."""

    async def test_drained(self) -> None:
        """Clients are told, and calls on their way are served."""
        server = await self.serve()
        client = await self.raw()
        answer = client.call(PATH + "wait", framed(b"[]"))
        await self.until(lambda: self.echo.calls)
        stopped = server.stopService()
        await self.until(lambda: client.goAways)
        self.echo.letGo()
        self.assertEqual(messages((await answer.ended).data), ["pkg.Echo/wait"])
        await stopped
        await client.lost

    async def test_again(self) -> None:
        """It may be started again, with the same counters and limits."""
        server = await self.serve()
        await self.ask(await self.raw(), "brief", [])
        await server.stopService()
        server.startService()
        address: Any = (await server.whenListening())[0]
        self.port = address.port
        client = await self.raw()
        self.assertEqual((await self.ask(client, "brief", []))[0], "4")
        calls = server.server.contexts[0].calls["server"]
        self.assertEqual(calls["pkg.Echo/brief"].failed, {"DEADLINE_EXCEEDED": 2})

    async def test_drainTime(self) -> None:
        """Calls that take longer are cut off."""
        server = await self.serve(drainTime=0.05)
        client = await self.raw()
        client.call(PATH + "wait", framed(b"[]")).ended.addErrback(lambda _: None)
        await self.until(lambda: self.echo.calls)
        await server.stopService()
        await self.until(lambda: self.echo.ended)
        self.assertEqual((self.echo.ended, server.context.running), (["cancelled"], 0))
