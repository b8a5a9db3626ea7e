"""Codecs by description."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import codecs
from getty_tx.codecs import LengthCodec, LineCodec, describeAll, fromDescription, names, register, registry
from getty_tx.errors import SettingError

BUILT_IN = ["length", "line", "netstring", "varint", "raw", "json-lines", "getty"]


class MyCodec:
    """A user's codec.

    It does not declare the interface.
    """

    def __init__(self, size: str = "1", colour: str = "red") -> None:
        self.size = size
        self.colour = colour
        if size == "bad":
            raise ValueError("size is bad")

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        return None, 0

    def write(self, session: Any, pkg: Any) -> bytes:
        return b""


class RegistryCase(SynchronousTestCase):
    """Tests with a module ``mycodecs`` to import; the registry is restored."""

    def setUp(self) -> None:
        self.module: Any = ModuleType("mycodecs")
        self.module.MyCodec = MyCodec
        self.module.instance = MyCodec("7")
        self.module.factory = lambda **options: MyCodec(**options)
        self.module.Nested = type("Nested", (), {"Codec": MyCodec})
        self.module.number = 3
        self.module.nothing = lambda: None
        sys.modules["mycodecs"] = self.module
        self.addCleanup(sys.modules.pop, "mycodecs")
        self.patch(registry, "entries", dict(registry.entries))

    def assertRefused(self, description: str, *texts: str) -> SettingError:
        error = self.assertRaises(SettingError, fromDescription, description)
        for text in texts:
            self.assertIn(text, str(error))
        return error


class DescriptionTests(RegistryCase):
    """fromDescription and its escapes."""

    def test_builtIn(self) -> None:
        self.assertEqual(names(), BUILT_IN)
        kinds = {type(fromDescription(name)) for name in BUILT_IN}
        self.assertEqual(len(kinds), len(BUILT_IN))
        for kind in kinds:
            self.assertIs(getattr(codecs, kind.__name__), kind)

    def test_length(self) -> None:
        for description, wanted in [
            ("length", LengthCodec()),
            ("length:size=2", LengthCodec(2)),
            ("length:includes=frame:order=little:size=8", LengthCodec(8, "little", "frame")),
            (r"length:order\==x", None),
        ]:
            if wanted is None:
                self.assertRefused(description, "option order==x is unknown")
            else:
                self.assertEqual(repr(fromDescription(description)), repr(wanted))

    def test_delimiters(self) -> None:
        for text, delimiter in [
            (r"\r\n", b"\r\n"),
            (r"\n", b"\n"),
            ("\n", b"\n"),
            (r"\t", b"\t"),
            (r"\0", b"\0"),
            (r"\x00", b"\0"),
            (r"\xfF\x0a", b"\xff\n"),
            ("|", b"|"),
            (r"\:", b":"),
            (r"\=", b"="),
            ("=", b"="),
            ("a=b", b"a=b"),
            (r"\\", b"\\"),
            (r"\\n", b"\\n"),
            (r"\\\n", b"\\\n"),
            (r"\\\:", b"\\:"),
            (" ", b" "),
            ("§", "§".encode()),
            ("\udcff", b"\xff"),
        ]:
            codec: Any = fromDescription(f"line:delimiter={text}")
            self.assertIs(type(codec), LineCodec)
            self.assertEqual(codec.delimiter, delimiter, text)

    def test_badDelimiters(self) -> None:
        for text, words in [
            ("", "delimiter= is empty"),
            ("\\", "unknown escape"),
            (r"\q", r"delimiter=\q has an unknown escape; those known are \n \r \t \0 \xHH \: \= and \\"),
            (r"\x", "unknown escape"),
            (r"\x1", "unknown escape"),
            (r"\xg0", "unknown escape"),
            (":", r"a colon within a value is written \:"),
            ("\ud800", "cannot be encoded in UTF-8"),
        ]:
            self.assertRefused(f"line:delimiter={text}", "codec 'line'", words)

    def test_badValues(self) -> None:
        for description, text in [
            ("length:size=3", "codec 'length': size=3 is not one of 1, 2, 4, 8"),
            ("length:size=", "codec 'length': size= is not one of 1, 2, 4, 8"),
            ("length:size=four", "codec 'length': size=four is not one of 1, 2, 4, 8"),
            ("length:size=-4", "size=-4 is not one of"),
            ("length:size=\u0664", "size=\u0664 is not one of"),
            ("length:size=" + "4" * 5000, "is not one of"),
            ("length:order=Big", "codec 'length': order=Big is not one of big, little"),
            ("length:includes=x", "codec 'length': includes=x is not one of payload, frame"),
        ]:
            self.assertRefused(description, text)

    def test_badOptions(self) -> None:
        for description, text in [
            ("length:sise=4", "codec 'length': option sise=4 is unknown; its options are size, order, includes"),
            ("raw:size=4", "codec 'raw': option size=4 is unknown; it has no options"),
            ("length:size=2:size=4", "option size is given twice, size=2 and size=4"),
            ("length:4", "'4' is not option=value"),
            ("length:=4", "'=4' is not option=value"),
            (r"length:size\=4", "is not option=value"),
            ("length:", "'' is not option=value"),
            ("length::size=4", "'' is not option=value"),
        ]:
            self.assertRefused(description, text)

    def test_unknownNames(self) -> None:
        for description in ("lenght", "lenght:size=4", "", ":", ":x", "a=b", "\\"):
            self.assertRefused(description, ", ".join(BUILT_IN), "module:attr")
        self.assertRefused("lenght:size=4", "codec 'lenght' is unknown")
        self.assertRefused("", "the description is empty")


class ImportTests(RegistryCase):
    """``module:attr``."""

    def test_class(self) -> None:
        codec: Any = fromDescription("mycodecs:MyCodec")
        self.assertEqual((type(codec), codec.size), (MyCodec, "1"))
        codec = fromDescription(r"mycodecs:MyCodec:size=4:colour=a\:b\=c\\d\n")
        self.assertEqual((codec.size, codec.colour), ("4", r"a:b=c\d\n"))

    def test_factory(self) -> None:
        codec: Any = fromDescription("mycodecs:factory:size=4")
        self.assertEqual((type(codec), codec.size), (MyCodec, "4"))

    def test_nested(self) -> None:
        self.assertIs(type(fromDescription("mycodecs:Nested.Codec")), MyCodec)

    def test_instance(self) -> None:
        self.assertIs(fromDescription("mycodecs:instance"), self.module.instance)
        self.assertRefused("mycodecs:instance:size=4", "'mycodecs:instance' is no class", "size cannot be given")

    def test_builtInByModule(self) -> None:
        """Options of a class given by its module are converted as under its name."""
        codec = fromDescription("getty_tx.codecs:LengthCodec:size=2")
        self.assertEqual(repr(codec), repr(LengthCodec(2)))

    def test_badOptions(self) -> None:
        self.assertRefused("mycodecs:MyCodec:shape=x", "option shape=x is unknown; its options are size, colour")
        error = self.assertRefused("mycodecs:factory:shape=x", "'mycodecs:factory' with shape=x: TypeError")
        self.assertIsInstance(error.__cause__, TypeError)

    def test_factoryFails(self) -> None:
        error = self.assertRefused("mycodecs:MyCodec:size=bad", "'mycodecs:MyCodec' with size=bad", "size is bad")
        self.assertIsInstance(error.__cause__, ValueError)

    def test_noCodec(self) -> None:
        self.assertRefused("mycodecs:number", "gave int, which has no methods read and write")
        self.assertRefused("mycodecs:nothing", "gave NoneType, which has no methods read and write")

    def test_noModule(self) -> None:
        for description in ("nosuchmodule:Codec", "mycodecs.inner:Codec", ".relative:Codec", "a..b:Codec"):
            error = self.assertRefused(description, f"codec '{description}'")
            self.assertIsNotNone(error.__cause__)
        self.assertRefused("nosuchmodule:Codec", "no module 'nosuchmodule'", "netstring", "module:attr")

    def test_noAttribute(self) -> None:
        for attribute in ("Nothing", "", "MyCodec.inner", "Nested."):
            error = self.assertRefused(f"mycodecs:{attribute}", f"module 'mycodecs' has no {attribute!r}")
            self.assertIsInstance(error.__cause__, AttributeError)

    def test_importFails(self) -> None:
        """A module whose import fails, and one that imports a missing module."""

        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> None:
                if name == "mybroken":
                    raise ZeroDivisionError("broken")
                if name == "mylacking":
                    raise ModuleNotFoundError("No module named 'dependency'", name="dependency")

        self.patch(sys, "meta_path", [Finder, *sys.meta_path])
        error = self.assertRefused("mybroken:Codec", "importing 'mybroken' failed: ZeroDivisionError: broken")
        self.assertIsInstance(error.__cause__, ZeroDivisionError)
        error = self.assertRefused("mylacking:Codec", "importing 'mylacking' failed: No module named 'dependency'")
        self.assertIsInstance(error.__cause__, ModuleNotFoundError)


class RegisterTests(RegistryCase):
    """register and describeAll."""

    def test_register(self) -> None:
        register("mine", MyCodec)
        self.assertEqual(names(), [*BUILT_IN, "mine"])
        codec: Any = fromDescription("mine:size=4")
        self.assertEqual((type(codec), codec.size), (MyCodec, "4"))
        self.assertRefused("mine:shape=4", "codec 'mine': option shape=4 is unknown; its options are size, colour")
        self.assertRefused("other", "getty, mine;")

    def test_goesBeforeModules(self) -> None:
        register("mycodecs", MyCodec)
        self.assertRefused("mycodecs:instance", "'instance' is not option=value")

    def test_refused(self) -> None:
        broken: Any = 3
        for name, factory, text in [
            ("length", MyCodec, "codec 'length': the name is taken"),
            ("", MyCodec, "a name is not empty"),
            ("a:b", MyCodec, "has no colon"),
            ("a=b", MyCodec, "has no colon, equals sign"),
            ("a\\b", MyCodec, "backslash"),
            ("mine", broken, "the factory 3 is not callable"),
        ]:
            error = self.assertRaises(SettingError, register, name, factory)
            self.assertIn(text, str(error))
        self.assertEqual(names(), BUILT_IN)

    def test_describeAll(self) -> None:
        register("my-own-codec", MyCodec)
        register("any", lambda **options: MyCodec(**options))
        text = describeAll()
        lines = text.splitlines()
        for name in (*BUILT_IN, "my-own-codec", "any", "module:attr"):
            self.assertEqual(sum(line.split(" ")[0] == name for line in lines), 1, name)
        for words in ("size=1|2|4|8", "order=big|little", "includes=payload|frame", "delimiter=TEXT"):
            self.assertIn(words, text)
        self.assertIn("A user's codec.", text)
        self.assertIn("options: size, colour", text)
        self.assertLess(max(map(len, lines)), 100)

    def test_helpNamesTheOptionsThereAre(self) -> None:
        """The registry's options are those of the constructors."""
        for entry in registry.entries.values():
            self.assertEqual(list(entry.options or {}), registry.parametersOf(entry.factory) or [])
