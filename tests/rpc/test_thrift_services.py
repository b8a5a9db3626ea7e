"""Services of Thrift from IDL files."""

from __future__ import annotations

import os
from typing import Any

from getty_tx import rpc
from getty_tx.errors import SettingError
from tests.rpc import test_thrift


class ServicesTests(test_thrift.ThriftCase):
    """Services from files, when the program runs."""

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.mktemp()
        os.makedirs(self.folder)
        self.write("base.thrift", "struct Thing { 1: i32 n }\nservice Base { Thing make(1: i32 n) }\n")
        text = 'include "base.thrift"\nservice Shop extends base.Base { list<base.Thing> all() }\nservice Till {}\n'
        self.path = self.write("shop.thrift", text)

    def test_file(self) -> None:
        """All services of a file, what they inherit from one that it includes, and the classes of thriftpy2."""
        import thriftpy2

        wire = rpc.Thrift(self.path)
        self.assertEqual(wire.payload.services, ("Shop", "Till"))
        self.assertEqual(sorted(wire.payload.methods), ["Shop/all", "Shop/make"])
        module = thriftpy2.load(self.path)
        made = wire.payload.decodeResult("Shop/make", wire.payload.encodeResult("Shop/make", module.base.Thing(n=3)))
        self.assertIsInstance(made, module.base.Thing)
        self.assertEqual(rpc.Thrift(module).payload.services, ("Shop", "Till"))
        mixed = rpc.TTHeader("thrift", services={"Shop": self.path, "Other": module.Till})
        self.assertEqual(mixed.payload.services, ("Shop", "Other"))

    def test_stub(self) -> None:
        """A client's service has the methods of the IDL, and no others."""
        client = rpc.Client("tcp:127.0.0.1:1", wire=rpc.Thrift(self.path))
        with self.assertRaisesRegex(SettingError, "there is no service 'Shops' in the IDL; it has Shop, Till"):
            client.service("Shops")
        shop = client.service("Shop")
        self.assertTrue(callable(shop.make))
        with self.assertRaisesRegex(SettingError, "service Shop has no method mak$"):
            shop.mak  # noqa: B018

    def test_errors(self) -> None:
        """Each names the file, the service, and what is there."""
        broken = self.write("broken.thrift", "service {")
        empty = self.write("empty.thrift", "struct A {}")
        lost = self.write("lost.thrift", 'include "nowhere.thrift"')
        for services, why in (
            (None, "services= is the path of an IDL file"),
            ("nowhere.thrift", "nowhere.thrift cannot be read from .*No such file"),
            ("shop.idl", "shop.idl is no IDL file, whose names end with .thrift"),
            (broken, "broken.thrift: Thrift"),
            (lost, "lost.thrift: ThriftParserError: .*nowhere.thrift"),
            (empty, "there is no service in .*empty.thrift"),
            ({"Shops": self.path}, "no service 'Shops' in .*shop.thrift; it has Shop, Till"),
            (os, "is neither a path, a mapping nor a module"),
            (self.idl.Echo, "is neither a path, a mapping nor a module"),
        ):
            with self.assertRaisesRegex(SettingError, why):
                rpc.Thrift(services)

    def test_transports(self) -> None:
        """A transport that is none."""
        for transport, why in (("http", "is none of framed, buffered$"), ("ttheader", "has rpc.TTHeader")):
            with self.assertRaisesRegex(SettingError, why):
                rpc.Thrift(self.path, transport=transport)
        self.assertEqual(repr(self.wire), "Thrift(transport='framed')")

    def test_served(self) -> None:
        """A server has methods of the IDL only, with as many arguments."""

        class Shop:
            @rpc.method
            def make(self, n: int) -> Any:
                return None

        class Few(Shop):
            @rpc.method
            def all(self, more: int) -> None:
                pass

        class Other(Shop):
            @rpc.method
            def sell(self) -> None:
                pass

        wire = rpc.TTHeader("thrift", services=self.path)
        self.assertIn("Shop/make", rpc.CallContext(wire, {"Shop": Shop()}).handlers)
        for services, why in (
            ({"Shops": Shop()}, "no service 'Shops' in the IDL; it has Shop, Till$"),
            ({"Shop": Few()}, r"Shop/all has the arguments \(\) in the IDL, and the method takes another"),
            ({"Shop": Other()}, "Shop/sell is not in the IDL, where Shop has all, make$"),
        ):
            with self.assertRaisesRegex(SettingError, why):
                rpc.Server("tcp:0", services, wire=wire)
