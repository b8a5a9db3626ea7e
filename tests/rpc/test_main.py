"""``python -m getty_tx.rpc``: its command line, what it prints, and its exit status."""

from __future__ import annotations

import io
import json
import signal
import sys
from importlib.util import find_spec
from typing import Any
from urllib.request import urlopen

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.rpc import hessian
from getty_tx.rpc.command import parse, run
from tests.tap.test_twistd import PATIENCE, ProcessTestCase

HERE = __name__

log = Logger()

IDL = """
exception NoSuchUser { 1: string name }
struct User {
    1: string name, 2: i32 age, 3: binary photo, 4: list<User> friends, 5: map<i32, string> notes
}
service Users {
    User older(1: User user, 2: i32 years, 3: map<i32, string> notes) throws (1: NoSuchUser missing)
    oneway void seen(1: string name)
}
"""


class OutOfStock(rpc.RemoteError):
    """An error of the shop."""

    code = "outOfStock"


class Shop:
    """A service."""

    @rpc.method
    def say(self, text: Any) -> Any:
        """Give it back."""
        return text

    @rpc.method
    def user(self) -> dict[str, str]:
        return dict(rpc.currentCall().metadata)

    @rpc.method
    def buy(self, count: int) -> None:
        raise OutOfStock("no tea", details={"left": count})

    @rpc.method
    async def wait(self, seconds: float) -> str:
        log.info("waiting")
        await deferLater(reactor, seconds)
        return "done"

    @rpc.method
    def blob(self) -> dict[str, bytes]:
        return {"bytes": b"\xff"}

    @rpc.stream
    async def watch(self) -> Any:
        yield 1


class Mirror:
    """A service for bytes."""

    @rpc.method
    def reverse(self, data: bytes) -> bytes:
        return bytes(data)[::-1]


class ParseTests(SynchronousTestCase):
    """The command line."""

    def refuse(self, *words: str) -> str:
        """The text for a command line that is wrong."""
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        self.assertEqual(2, self.assertRaises(SystemExit, parse, words).code)
        return errors.getvalue()

    def test_call(self) -> None:
        """Arguments are JSON, and the service is all before the last dot."""
        words = ["call", "tcp:localhost:1", "a.Shop.say", '{"a": [1, null]}', "-2", '"hi"', "--timeout", "none"]
        options = parse([*words, "--metadata", "a=b=c", "--metadata", "d="])
        self.assertEqual(("a.Shop", "say"), (options.service, options.method))
        self.assertEqual([{"a": [1, None]}, -2, "hi"], options.arguments)
        self.assertEqual(({"a": "b=c", "d": ""}, None), (options.metadata, options.timeout))
        self.assertEqual((3.0, "json"), (parse(words[:3]).timeout, parse(words[:3]).wire.payloadName))

    def test_bytes(self) -> None:
        """With the payload bytes an argument is its text."""
        options = parse(["call", "tcp:localhost:1", "Mirror.reverse", "é", "--wire", "ttheader:bytes"])
        self.assertEqual(["é".encode()], options.arguments)
        text = self.refuse("describe", "tcp:localhost:1", "--wire", "ttheader:bytes")
        self.assertIn("cannot travel as bytes; it needs a server with another payload", text)

    def test_refused(self) -> None:
        """The error names what is wrong, its value, and the way out."""
        call = ["call", "tcp:localhost:1", "Shop.say"]
        for words, why in [
            ([], "call|describe"),
            (["call", "tcp:localhost:1"], "SERVICE.METHOD"),
            (["call", "tpc:1", "Shop.say"], "ENDPOINT tpc:1: "),
            (["describe", "tcp"], "an example is tcp:localhost:8090"),
            (["call", "tcp:localhost:1", "say"], "SERVICE.METHOD say: takes a service and a method, such as Echo.say"),
            ([*call, "hi"], "JSON hi: Expecting value: line 1 column 1 (char 0); a text has quotes"),
            ([*call, "--timeout", "0"], "--timeout 0: takes a number of seconds, more than 0"),
            ([*call, "--timeout", "soon"], "--timeout soon: takes a number of seconds"),
            ([*call, "--wire", "morse"], "--wire morse: there is no wire 'morse'; there is ttheader:json"),
            ([*call, "--metadata", "user"], "--metadata user: takes NAME=VALUE, such as user=1"),
            ([*call, "--metadata", "=1"], "--metadata =1: takes NAME=VALUE"),
            (
                [*call, "--wire", "grpc"],
                "--wire grpc: rpc.Grpc() is for an rpc.Server; to call services of gRPC, take http",
            ),
            ([*call, "--metadata", "a=1", "--wire", "getty"], "Getty('json') has none; take --wire ttheader"),
            (["describe", "tcp:localhost:1", "--wire", "getty:protobuf"], "cannot travel as bytes"),
            (
                [*call, "--wire", "thrift"],
                "--wire thrift: Thrift needs the path of its IDL: thrift:FILE.thrift, such as",
            ),
            ([*call, "--wire", "ttheader:thrift"], "--wire ttheader:thrift: Thrift needs the path of its IDL"),
            ([*call, "--wire", "thrift:a.idl"], "no payload 'a.idl' here; there is ttheader:json"),
            ([*call, "--wire", "thrift:a.idl"], "; the name of an IDL file ends with .thrift"),
            ([*call, "--wire", "dubbo:json"], "wire 'dubbo' has no payload 'json' here; there is"),
            ([*call, "--wire", "seata"], "--wire seata: Seata's messages are classes of Python: rpc.Seata() is for"),
        ]:
            self.assertIn(why, self.refuse(*words))

    def test_help(self) -> None:
        """The help has examples, and status 0."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        self.assertEqual(0, self.assertRaises(SystemExit, parse, ["--help"]).code)
        self.assertIn("call tcp:localhost:8090 Echo.say '\"hi\"'", output.getvalue())


class RunTests(TestCase):
    """What is printed, with a server."""

    timeout = 20

    async def serve(self, services: dict[str, object], wire: Any = None) -> str:
        """A server; the description for its clients."""
        server = rpc.Server("tcp:0:interface=127.0.0.1", services, wire=wire)
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        return f"tcp:127.0.0.1:{address.port}"

    async def run_(self, *words: str) -> tuple[int, str, str]:
        """The exit status, and what is on standard output and standard error."""
        output, errors = io.BytesIO(), io.StringIO()
        text = io.TextIOWrapper(output, "utf-8", write_through=True)
        options = parse(words)
        self.patch(sys, "stdout", text)
        self.patch(sys, "stderr", errors)
        try:
            status = await run(options, reactor)
        finally:
            self.patch(sys, "stdout", sys.__stdout__)
            self.patch(sys, "stderr", sys.__stderr__)
        return status, output.getvalue().decode(), errors.getvalue()

    async def test_call(self) -> None:
        """The result is one line of JSON."""
        endpoint = await self.serve({"Shop": Shop()})
        result = await self.run_("call", endpoint, "Shop.say", '{"tea": ["grün", null]}')
        self.assertEqual((0, '{"tea": ["grün", null]}\n', ""), result)
        result = await self.run_("call", endpoint, "Shop.user", "--metadata", "user=1")
        self.assertEqual((0, '{"user": "1"}\n', ""), result)
        self.assertEqual((0, "1\n", ""), await self.run_("call", endpoint, "Shop/say", "1"))

    async def test_fails(self) -> None:
        """Nothing is on standard output then, and the status is 1."""
        endpoint = await self.serve({"Shop": Shop()})
        for words, why in [
            (["Shop.buy", "3"], "outOfStock: no tea {'left': 3}\n"),
            (["Shop.none"], "noMethod: there is no Shop/none\n"),
            (["Shop.say"], "payload: Shop/say(text: 'Any') -> 'Any' was called with 0 arguments\n"),
            (["Shop.watch"], "payload: Shop/watch is a stream\n"),
            (["Shop.wait", "9", "--timeout", "0.1"], "deadline: Shop/wait: no reply from "),
        ]:
            status, output, errors = await self.run_("call", endpoint, *words)
            self.assertEqual((1, "", why), (status, output, errors[: len(why)]))

    async def test_noServer(self) -> None:
        """Without a server it does not wait for one: it says at once what the system says."""
        began = reactor.seconds()  # type: ignore[attr-defined]
        status, output, errors = await self.run_("call", "unix:no-such.sock", "Shop.say", "1", "--timeout", "15")
        self.assertEqual((1, ""), (status, output))
        self.assertIn("lost: unix:no-such.sock: ", errors)
        self.assertLess(reactor.seconds() - began, 10)  # type: ignore[attr-defined]

    async def test_describe(self) -> None:
        """A table of names, signatures and texts."""
        endpoint = await self.serve({"Shop": Shop()})
        status, output, errors = await self.run_("describe", endpoint)
        self.assertEqual((0, ""), (status, errors))
        lines = output.splitlines()
        self.assertEqual(["Shop.blob", "Shop.buy", "Shop.say"], [line.split()[0] for line in lines[:3]])
        self.assertEqual(lines[2].index("(text"), lines[1].index("(count"))
        self.assertRegex(lines[2], r"^Shop\.say +\(text: 'Any'\) -> 'Any' +Give it back\.$")
        self.assertTrue(lines[5].endswith("(a stream)"), lines[5])

    async def test_bytes(self) -> None:
        """The payload bytes is written as it is."""
        endpoint = await self.serve({"Mirror": Mirror()}, rpc.TTHeader("bytes"))
        result = await self.run_("call", endpoint, "Mirror.reverse", "abc", "--wire", "ttheader:bytes")
        self.assertEqual((0, "cba", ""), result)

    async def test_getty(self) -> None:
        """Getty's wire is one of those that are there."""
        endpoint = await self.serve({"Shop": Shop()}, wire=rpc.Getty("json"))
        self.assertEqual((0, '"hi"\n', ""), await self.run_("call", endpoint, "Shop.say", '"hi"', "--wire", "getty"))
        status, output, _ = await self.run_("describe", endpoint, "--wire", "getty:json")
        self.assertEqual((0, "Shop.blob"), (status, output.split()[0]))

    async def test_msgpack(self) -> None:
        """What JSON lacks is a text."""
        endpoint = await self.serve({"Shop": Shop()}, rpc.TTHeader("msgpack"))
        result = await self.run_("call", endpoint, "Shop.blob", "--wire", "ttheader:msgpack")
        self.assertEqual((0, '{"bytes": "b\'\\\\xff\'"}\n', ""), result)

    async def test_dubbo(self) -> None:
        """Objects of Java are those of JSON, and an exception is its text, and what it has besides."""

        class Cars:
            @rpc.method
            def paint(self, color: str) -> hessian.JavaObject:
                if color == "pink":
                    raise rpc.RemoteError("none is left", code="com.ex.SoldOut", details={"number": 8})
                return hessian.JavaObject("com.ex.Car", {"color": color, "key": b"x"})

            @rpc.method
            def circle(self) -> list[Any]:
                found: list[Any] = []
                found.append(found)
                return found

            @rpc.method
            def map(self) -> dict[Any, int]:
                return {hessian.JavaObject("com.ex.Color", {"name": "RED"}): 1}

            @rpc.method
            def half(self) -> str:
                return "\ud83d"

            @rpc.method
            def fail(self) -> None:
                raise KeyError

        endpoint = await self.serve({"com.ex.Cars": Cars()}, wire=rpc.Dubbo())
        for words, expected in [
            (["paint", '"red"'], (0, '{"class": "com.ex.Car", "color": "red", "key": "b\'x\'"}\n', "")),
            (["circle"], (0, '"[[...]]"\n', "")),
            (["map"], (0, "\"{JavaObject('com.ex.Color', {'name': 'RED'}): 1}\"\n", "")),
            (["half"], (0, '"\\ud83d"\n', "")),
            (["paint", '"pink"'], (1, "", 'com.ex.SoldOut: none is left {"number": 8}\n')),
            (["fail"], (1, "", "java.lang.RuntimeException: com.ex.Cars/fail failed: KeyError\n")),
        ]:
            method, *arguments = words
            result = await self.run_("call", endpoint, f"com.ex.Cars.{method}", *arguments, "--wire", "dubbo")
            self.assertEqual(expected, result)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    async def test_thrift(self) -> None:
        """With an IDL objects are structs, and declared exceptions are printed as such."""
        path = self.mktemp() + ".thrift"
        with open(path, "w") as file:
            file.write(IDL)
        import thriftpy2

        # The same classes: it keeps what it has loaded.
        classes = thriftpy2.load(path)
        wire = rpc.Thrift(path)

        class Users:
            @rpc.method
            def older(self, user: Any, years: int, notes: Any) -> Any:
                if years < 0:
                    raise classes.NoSuchUser(name=user.name)
                user.age += years
                user.notes = {key: value * 2 for key, value in notes.items()}
                return user

            @rpc.method
            def seen(self, name: str) -> None:
                seen.pop().callback(name)

        endpoint = await self.serve({"Users": Users()}, wire)
        user = '{"name": "ann", "age": 7, "photo": "x", "friends": [{"name": "bob"}]}'
        call = ["call", endpoint, "Users.older", user]
        for name in ("thrift", "ttheader"):
            words = ["--wire", f"{name}:{path}"]
            status, output, errors = await self.run_(*call, "3", '{"1": "a"}', *words)
            self.assertEqual((0, ""), (status, errors))
            friends = [{"name": "bob"}]
            expected = {"name": "ann", "age": 10, "photo": "b'x'", "friends": friends, "notes": {"1": "aa"}}
            self.assertEqual(expected, json.loads(output))
            result = await self.run_(*call, "-1", *words)
            self.assertEqual((1, "", 'NoSuchUser: {"name": "ann"}\n'), result)
            # It has no reply.
            heard: Deferred[str] = Deferred()
            seen = [heard]
            self.assertEqual((0, "", ""), await self.run_("call", endpoint, "Users.seen", '"bob"', *words))
            self.assertEqual("bob", await heard)
        for words, why in [
            (["describe", endpoint], "a Thrift server does not tell its methods; they are those of the IDL"),
            (["call", endpoint, "Users.old"], "Users.old: Users/old is not in the IDL, where Users has older, seen"),
            (["call", endpoint, "Users.older", '{"nam": ""}'], "User has no field 'nam' in the IDL; it has name, age"),
            ([*call, "1", '{"a": ""}'], "the key 'a' of a map is no number"),
        ]:
            errors_ = io.StringIO()
            self.patch(sys, "stderr", errors_)
            self.assertRaises(SystemExit, parse, [*words, "--wire", f"thrift:{path}"])
            self.assertIn(why, errors_.getvalue())

    if find_spec("thriftpy2") is None:
        test_thrift.skip = "thriftpy2 is not installed"  # type: ignore[attr-defined]

    try:
        rpc.TTHeader("msgpack")
    except ValueError:
        test_msgpack.skip = "there is no msgpack"  # type: ignore[attr-defined]


class ProcessTests(ProcessTestCase):
    """Real processes: ``twistd getty-rpc`` with sub-reactors, and the command."""

    def command(self, *words: str) -> Any:
        """Run ``python -m getty_tx.rpc``."""
        return self.run_(sys.executable, "-m", "getty_tx.rpc", *words)

    def test_stop(self) -> None:
        """Calls are counted in the status; one that runs when the server is stopped is answered; both end with 0."""
        words = ["--listen=tcp:0:interface=127.0.0.1", "--processes=2", "--drain-timeout=30"]
        words.append("--status=tcp:0:interface=127.0.0.1")
        server = self.twistd("getty-rpc", f"--service={HERE}:Shop", *words)
        port = server.expect(r"getty-rpc serves 127\.0\.0\.1:(\d+) with 2 processes")[1]
        endpoint = f"tcp:127.0.0.1:{port}"
        said = self.command("call", endpoint, "Shop.say", '"hi"')
        self.assertEqual((0, ['"hi"'], []), (said.end(), said.lines, said.errors))
        status = server.expect(r"status on (http://127\.0\.0\.1:\d+/)")[1]
        with urlopen(status + "metrics", timeout=PATIENCE) as answer:
            counted = b'getty_rpc_calls_total{code="ok",method="Shop/say",service="getty-rpc",side="server"} 1.0'
            self.assertIn(counted, answer.read())
        with urlopen(status + "calls", timeout=PATIENCE) as answer:
            [row] = json.load(answer)["methods"]
            self.assertEqual(("Shop/say", "server", 1, 0), tuple(row[k] for k in ("method", "side", "calls", "failed")))
        failing = self.command("call", endpoint, "Shop.none")
        self.assertEqual((1, [], ["noMethod: there is no Shop/none"]), (failing.end(), failing.lines, failing.errors))
        running = self.command("call", endpoint, "Shop.wait", "1", "--timeout", "30")
        server.expect("waiting")
        server.send(signal.SIGTERM)
        self.assertEqual((0, ['"done"'], []), (running.end(), running.lines, running.errors))
        self.assertEqual(0, server.end(), server.output)
        self.assertNotIn("Traceback", server.output)
        server.expect("getty-rpc has stopped: 3 sessions served")
