"""IDL files that are unusual, or wrong: the order of arguments, exceptions, names that clash, files of one name."""

from __future__ import annotations

import os
from typing import Any

from getty_tx import rpc
from getty_tx.errors import SettingError
from tests.rpc import test_thrift


class IDLCase(test_thrift.ThriftCase):
    """Has a folder for IDL files."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.mktemp()

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path

    def made(self, name: str, text: str) -> Any:
        return rpc.Thrift(self.write(name, text)).payload


class ArgumentTests(IDLCase):
    """What the arguments of a method are."""

    def test_order(self) -> None:
        """They go by their place in the IDL, as in Apache's code and Kitex's; their numbers may be any, or none."""
        for name, head, numbers in (
            ("given.thrift", "2: string b, 1: string a", b"\2\1"),
            ("none.thrift", "string b, string a", b"\xff\xfe"),
        ):
            payload = self.made(name, f"service S {{ void f({head}) }}")
            data = payload.encodeArguments("S/f", ("x", "y"))
            for number, text in zip(numbers, b"xy", strict=True):
                high = 0xFF if number > 2 else 0
                self.assertIn(bytes((11, high, number, 0, 0, 0, 1, text)), data)
            self.assertEqual(payload.decodeArguments("S/f", data), ["x", "y"])
        idl = "struct P { 1: i32 n }\nservice S { void f(2: P p, 1: string a) }"
        made = self.made("json.thrift", idl).argumentsFromJSON("S/f", [{"n": 1}, "a"])
        self.assertEqual((made[0].n, made[1]), (1, "a"))

    def test_names(self) -> None:
        """A field may be called as a method of thriftpy2's classes."""
        payload = self.made("names.thrift", "service S { i32 f(1: i32 write, 2: i32 read) }")
        self.assertEqual(payload.decodeArguments("S/f", payload.encodeArguments("S/f", (3, 4))), [3, 4])


class ExceptionTests(IDLCase):
    """What a method throws."""

    def test_clashes(self) -> None:
        """One with the number or the name of the result, and what is none, is found when the wire is made."""
        head = "exception E { 1: string why }\nstruct P { 1: i32 n }\n"
        for name, method, why in (
            ("zero.thrift", "i32 f() throws (0: E gone)", "S.f throws gone as number 0, which is that of the result"),
            ("zerovoid.thrift", "void f() throws (0: E gone)", "S.f throws gone as number 0"),
            ("success.thrift", "i32 f() throws (1: E success)", "no service S: .* under the name success"),
            ("struct.thrift", "void f() throws (1: P p)", "S.f throws p, which is no exception"),
            ("text.thrift", "void f() throws (1: string p)", "S.f throws p, which is no exception"),
        ):
            with self.assertRaisesRegex(SettingError, why):
                self.made(name, f"{head}service S {{ {method} }}\nservice Other {{ void g() }}")
        payload = self.made(
            "void.thrift", f"{head}/*\nservice No {{}}\n*/\nservice S {{ void f() throws (E success) }}"
        )
        self.assertEqual(payload.services, ("S",))
        self.assertEqual(len(payload.methods["S/f"].raised), 1)

    def test_loadedTwice(self) -> None:
        """An exception of the same file, that was loaded by another path, is the declared one."""
        import thriftpy2

        path = self.write("twice.thrift", "exception E { 1: string why }\nservice S { void f() throws (1: E e) }")
        payload = rpc.Thrift(path).payload
        other = thriftpy2.load(os.path.abspath(path))
        mine = thriftpy2.load(path)
        self.assertIsNot(other.E, mine.E)
        data = payload.encodeRaised("S/f", other.E(why="gone"))
        raised = payload.decodeResult("S/f", data).value
        self.assertEqual((type(raised), raised.why), (mine.E, "gone"))
        self.assertIsNone(payload.encodeRaised("S/f", type("E", (Exception,), {})()))


class FileTests(IDLCase):
    """Files that include others."""

    def test_oneName(self) -> None:
        """Two files of one name are kept apart, and if thriftpy2 does not, it is said."""
        import thriftpy2

        paths = []
        for folder, kind in (("a", "i32"), ("b", "string")):
            self.write(f"{folder}/things.thrift", f"struct Thing {{ 1: {kind} n }}")
            text = 'include "things.thrift"\nservice Shop { things.Thing make() }'
            paths.append(self.write(f"{folder}/shop.thrift", text))
        rpc.Thrift(paths[0])
        for given in (paths[1], thriftpy2.load(paths[1])):
            with self.assertRaisesRegex(
                SettingError, r"taken .*a/things.thrift, .* for .*b/things.thrift; .* module_name="
            ):
                rpc.Thrift(given)
        apart = thriftpy2.load(paths[1], module_name="b.shop_thrift")
        payload = rpc.Thrift(apart).payload
        made = payload.decodeResult("Shop/make", payload.encodeResult("Shop/make", apart.things.Thing(n="text")))
        self.assertEqual(made.n, "text")
        # And one file that two include.
        shared = [self.write(f"{name}/d/till.thrift", 'include "../things.thrift"\nservice Till {}') for name in "ab"]
        self.assertEqual([rpc.Thrift(each).payload.services for each in shared[:1]], [("Till",)])

    def test_empty(self) -> None:
        """A file with nothing in it."""
        with self.assertRaisesRegex(SettingError, "there is no service in .*nothing.thrift"):
            self.made("nothing.thrift", "")
