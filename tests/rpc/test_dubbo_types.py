"""The types of Dubbo's calls: descriptors, and values that fit them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.hessian import Double, JavaObject, Long, TypedList, TypedMap, decode, encode
from getty_tx.rpc.wires.dubbotypes import descriptorOf, fit, parseDescriptors, plain


class TypeTests(SynchronousTestCase):
    """Descriptors, and values that fit them."""

    def arguments(self, *arguments: Any, name: str = "A/b") -> bytes:
        """A request's payload."""
        return rpc.Dubbo().payload.encodeArguments(name, arguments)

    def test_byValue(self) -> None:
        """Each value has the descriptor of what it is read as."""
        for value, expected in (
            (True, "Z"), (1, "I"), (-(2**31), "I"), (2**31, "J"), (Long(1), "J"), (1.5, "D"), (Double(1), "D"),
            ("a", "Ljava/lang/String;"), (b"a", "[B"), (bytearray(b"a"), "[B"), ([1], "Ljava/util/List;"),
            ((1,), "Ljava/util/List;"), ({}, "Ljava/util/Map;"), (None, "Ljava/lang/Object;"),
            (datetime(2026, 1, 1, tzinfo=UTC), "Ljava/util/Date;"), (JavaObject("com.ex.Car"), "Lcom/ex/Car;"),
            (TypedList("[long", [1]), "[J"), (TypedList("[string", []), "[Ljava/lang/String;"),
            (TypedList("[com.ex.Car", []), "[Lcom/ex/Car;"),
            (TypedList("java.util.LinkedList", []), "Ljava/util/List;"),
            (TypedMap("java.util.TreeMap", {}), "Ljava/util/Map;"), (TypedMap("com.ex.Car", {}), "Lcom/ex/Car;"),
            (type("Text", (str,), {})("a"), "Ljava/lang/String;"), (type("Number", (int,), {})(1), "I"),
        ):  # fmt: skip
            self.assertEqual(descriptorOf(value), expected)
            self.assertEqual(parseDescriptors(expected), (expected,))
        data = self.arguments(1, "a", [2], None)
        self.assertEqual(decode(data), ["ILjava/lang/String;Ljava/util/List;Ljava/lang/Object;", 1, "a", [2], None])
        for value in (object(), [object()], 2**70):
            with self.assertRaisesRegex(rpc.PayloadError, "^A/b: ") as caught:
                self.arguments(value)
            self.assertFalse(caught.exception.sent)

    def test_parse(self) -> None:
        """All that the JVM has."""
        types = ("V", "Z", "B", "C", "D", "F", "I", "J", "S", "Lcom/ex/Outer$Inner;", "[[J", "[Ljava/lang/String;")
        self.assertEqual(parseDescriptors("".join(types)), types)
        self.assertEqual(parseDescriptors(""), ())
        for wrong in ("X", "[", "L;", "Lcom.ex.Car;", "java.lang.String", "I I", "L[I;"):
            self.assertRaises(rpc.PayloadError, parseDescriptors, wrong)

    def test_bits(self) -> None:
        """What a type of Java's has no bits for is not sent under it."""
        for descriptor, bits in (("J", 64), ("Ljava/lang/Integer;", 32), ("I", 32), ("S", 16), ("B", 8)):
            least, most = -(1 << bits - 1), (1 << bits - 1) - 1
            self.assertEqual([fit(descriptor, each) for each in (least, most)], [least, most])
            for value in (least - 1, most + 1, "1", 1.0, True):
                with self.assertRaisesRegex(rpc.PayloadError, f"^{value!r} is no ") as caught:
                    fit(descriptor, value)
                self.assertFalse(caught.exception.sent)
        self.assertIs(type(fit("I", Long(5))), int)
        self.assertEqual(fit("D", 1 << 1000), float(1 << 1000))
        self.assertRaisesRegex(rpc.PayloadError, "^1000.* is no double of Java$", fit, "D", 10**400)
        with self.assertRaisesRegex(rpc.PayloadError, "^A/b: 3000000000 is no int of Java$"):
            rpc.Dubbo(signatures={"A/b": "[I"}).payload.encodeArguments("A/b", ([1, 3_000_000_000],))

    def test_signatures(self) -> None:
        """A signature makes longs, doubles and arrays of what has no such type in Python."""
        wire = rpc.Dubbo(signatures={"A/b": "JD[I[Ljava/lang/String;Lcom/ex/Car;", "A/c": "(I)J", "A/d": "()V"})
        payload = wire.payload
        data = decode(payload.encodeArguments("A/b", (5, 2, [1, 2], ["x"], None)))
        self.assertEqual(data, ["JD[I[Ljava/lang/String;Lcom/ex/Car;", 5, 2.0, [1, 2], ["x"], None])
        self.assertEqual([type(each) for each in data[1:3]], [Long, float])
        self.assertEqual([each.type for each in data[3:5]], ["[int", "[string"])
        self.assertEqual(payload.encodeResult("A/c", 5), encode(Long(5)))
        self.assertEqual(payload.encodeResult("A/d", None), b"N")
        for arguments in ((1,), ("a", 2, [], [], None), (True, 2, [], [], None), (1, None, [], [], None)):
            self.assertRaises(rpc.PayloadError, payload.encodeArguments, "A/b", arguments)
        self.assertRaises(rpc.PayloadError, payload.encodeResult, "A/c", "x")
        self.assertIsNone(fit("Ljava/lang/Long;", None))
        self.assertEqual(fit("[[J", [[1], [2]])[0].type, "[long")

    def test_generic(self) -> None:
        """The types of a generic call are named as in Java, given or by the values."""
        arguments = ("say", None, ["a", 1, [1], b"x"])
        types, *values = decode(self.arguments(*arguments, name="A/$invoke"))
        self.assertEqual(types, "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;")
        self.assertEqual(values[1], ["java.lang.String", "int", "java.util.List", "byte[]"])
        self.assertEqual(
            [values[0], values[2], values[1].type, values[2].type], [*arguments[::2], "[string", "[object"]
        )
        for wrong in (("say",), ("say", [], 5), (5, [], [])):
            self.assertRaises(rpc.PayloadError, self.arguments, *wrong, name="A/$invokeAsync")

    def test_plain(self) -> None:
        """Objects are dicts with their class, also where they hold one another."""
        car = JavaObject("com.ex.Car", {"color": "red", "parts": [JavaObject("com.ex.Door")]})
        car.fields["self"] = car
        made = plain({"a": car})
        self.assertEqual(made["a"]["parts"], [{"class": "com.ex.Door"}])
        self.assertEqual((made["a"]["class"], made["a"]["color"]), ("com.ex.Car", "red"))
        self.assertIs(made["a"]["self"], made["a"])
