"""What is too long on the wires of Thrift: the caller has an answer, and the session lives."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import rpc
from tests.rpc import test_thrift
from tests.rpc.test_kitex import hexed
from tests.support.rpc import Both


class LimitCase(test_thrift.ThriftCase):
    """Serves Echo to a client with either wire."""

    def wires(self) -> list[Any]:
        return [self.thrift(), rpc.TTHeader("thrift", services={"Echo": self.idl.Echo})]

    def both(self, wire: Any, echo: Any, **server: Any) -> Both:
        both = Both({"Echo": echo}, wire=wire, server=server)

        def end() -> None:
            self.assertEqual(both.result("Echo/echo", "after"), "after")
            both.client.session.close()
            both.clock.advance(30)
            both.pair.flush()
            self.assertEqual(both.leftovers(), [])
            self.assertEqual(getattr(both.server.codec, "_asked", {}), {})

        self.addCleanup(end)
        return both


class RaisedTests(LimitCase):
    """Exceptions of the IDL."""

    def test_tooLong(self) -> None:
        """One that is above maxMsgLen is an error as others, also of a method that takes its time."""
        idl = self.idl
        waiting: list[Deferred[None]] = []

        class Echo:
            @rpc.method
            async def point(self, p: Any, n: int, small: int) -> Any:
                if n:
                    waiting.append(Deferred())
                    await waiting[-1]
                raise idl.Out(what="x" * 3000)

            @rpc.method
            def echo(self, text: str) -> str:
                return text

        for wire in self.wires():
            both = self.both(wire, Echo(), maxMsgLen=2000)
            self.assertEqual(str(both.result("Echo/point", idl.P(), 0, 0)), "Echo/point failed: Out")
            outcome = both.call("Echo/point", idl.P(), 1, 0)
            waiting.pop().callback(None)
            both.pair.flush()
            self.assertEqual(str(outcome.only), "Echo/point failed: Out")
        self.assertEqual(len(self.flushLoggedErrors(idl.Out)), 4)

    def test_unwritable(self) -> None:
        """One with a value that its IDL does not have."""
        idl = self.idl

        class Echo:
            @rpc.method
            def point(self, p: Any, n: int, small: int) -> Any:
                raise idl.Out(what=5)

            @rpc.method
            def echo(self, text: str) -> str:
                return text

        for wire in self.wires():
            both = self.both(wire, Echo())
            self.assertEqual(str(both.result("Echo/point", idl.P(), 0, 0)), "Echo/point failed: Out")
        self.assertEqual(len(self.flushLoggedErrors(idl.Out)), 2)


class ErrorTests(LimitCase):
    """The texts, codes and details of errors."""

    def test_long(self) -> None:
        """They are cut, or left out, and what is no UTF-8 is replaced."""

        class Echo:
            @rpc.method
            def echo(_, text: str) -> str:
                if text != "after":
                    raise errors[text]
                return text

        errors = {
            "text": rpc.RemoteError("x" * 5_000_000),
            "business": rpc.RemoteError("\u00e9" * 100_000, code="1404", details={"a": "b"}),
            "details": rpc.RemoteError("gone", code="1404", details={"a": "x" * 100_000}),
            "halves": rpc.RemoteError("a\ud800b", code="1404", details={"a": "\ud800"}),
            "code": rpc.RemoteError("gone", code="c\ud800" + "x" * 100_000),
            "number": rpc.RemoteError("gone", code=1404),  # type: ignore[arg-type]
        }
        framed, kitex = (self.both(wire, Echo()) for wire in self.wires())
        for both in (framed, kitex):
            found = {name: both.result("Echo/echo", name) for name in errors}
            self.assertLess(1000, len(found["text"].text))
            self.assertLess(len(found["text"].text), 50_000)
            self.assertEqual(found["halves"].text, "a?b")
        self.assertEqual((found["business"].code, found["business"].details), ("1404", {"a": "b"}))
        self.assertLess(1000, len(found["business"].text))
        self.assertEqual((found["details"].text, found["details"].details), ("gone", None))
        self.assertEqual((found["number"].code, found["code"].text), ("1404", "gone"))
        self.assertTrue(found["code"].code.startswith("c?xxx"))

    def test_metadata(self) -> None:
        """Those of a reply that make it too long are an error, and are left out of an error."""

        class Echo:
            @rpc.method
            def echo(self, text: str) -> str:
                if text != "after":
                    rpc.currentCall().replyMetadata = {"a": "x" * 1000}
                if text == "error":
                    raise rpc.RemoteError("no")
                return text

        both = self.both(self.wires()[1], Echo(), maxMsgLen=1500)
        outcome = both.call("Echo/echo", "x" * 600)
        self.assertIsInstance(outcome.only, rpc.PayloadError)
        self.assertRegex(str(outcome.only), "a frame of 1.* bytes, 1.* of them metadata, is above maxMsgLen=1500")
        self.assertEqual(both.server.session.error, None)
        self.assertEqual(str(both.result("Echo/echo", "error")), "no")
        # One that fits without its metadata.
        error = both.call("Echo/echo", "error", metadata={"b": "y" * 1000})
        self.assertEqual(str(error.only), "no")

    def test_request(self) -> None:
        """A call whose metadata make it too long is not sent."""

        class Echo:
            @rpc.method
            def echo(self, text: str) -> str:
                return text

        both = self.both(self.wires()[1], Echo())
        both.client.session.maxMsgLen = 1500
        error = both.result("Echo/echo", "x" * 800, metadata={"a": "x" * 800})
        self.assertIsInstance(error, rpc.PayloadError)
        self.assertFalse(error.sent)


class ReadingTests(test_thrift.ThriftCase):
    """Bytes that become more than they are, or that newer programs send."""

    def test_fields(self) -> None:
        """Structs of many fields are counted with them, and those that are skipped are counted, too."""
        import thriftpy2

        fields = ", ".join(f"{n}: i32 f{n}" for n in range(1, 202))
        idl = f"struct W {{ {fields} }}\nservice S {{ void f(1: list<W> all) }}"
        payload = rpc.Thrift(thriftpy2.load_fp(io.StringIO(idl), "getty_tx_test_wide_thrift")).payload

        def structs(number: int, count: int) -> bytes:
            return b"\x0f\0" + bytes((number,)) + b"\x0c" + count.to_bytes(4, "big") + bytes(count) + b"\0"

        # One counts as 26.
        [found] = payload.decodeArguments("S/f", structs(1, 3846))
        self.assertEqual(len(found), 3846)
        for number, count in ((1, 3847), (2, 100_001)):
            with self.assertRaisesRegex(rpc.PayloadError, "more than 100000 structs, .* 8 fields counted as one more"):
                payload.decodeArguments("S/f", structs(number, count))

    def test_numbers(self) -> None:
        """Lists of what has a fixed size are read at once, or passed over."""
        decode = self.payload.decodeArguments
        [point, _, _] = decode("Echo/point", hexed("0c0001 0f0002 08 00000003 00000001 fffffffe 7fffffff 00 00"))
        self.assertEqual(point.b, [1, -2, 0x7FFFFFFF])
        [point, small, _] = decode("Echo/point", hexed("0c0001 0f0002 0a 00000001 0000000000000001 00 060002 0007 00"))
        self.assertEqual((point.b, small), ([], 7))
        for text in ("0c0001 0f0002 08 00000003 00000001 fffffffe 7fffff", "0f0009 0a 00000002 0000000000000001 00"):
            with self.assertRaisesRegex(rpc.PayloadError, "the bytes end within a container"):
                decode("Echo/point", hexed(text))

    def test_uuid(self) -> None:
        """A field of Apache's newest type is passed over, framed and buffered, alone and in containers."""
        for field in ("100009" + "11" * 16, "0f0009 10 00000002" + "11" * 32, "0d0009 10 08 00000001" + "11" * 20):
            text = f"80010001 00000004 6563686f 00000001 {field} 0b0001 00000002 6869 00"
            for each in (text, test_thrift.framed(text)):
                message = self.read(each)
                self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["hi"])
