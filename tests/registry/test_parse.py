"""Texts that name registries and services."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry import Registry, defaultRegistry, parse, parseService, registryFrom
from getty_tx.registry.directory import DirectoryEngine
from getty_tx.registry.interfaces import IRegistryParser
from getty_tx.registry.parse import defaultText, split


class Made:
    """In place of an engine: what it was made with."""

    def __init__(self, name: str, args: Any, settings: Any) -> None:
        self.name, self.args, self.settings = name, args, settings


@implementer(IPlugin, IRegistryParser)
class Parser:
    """Somebody's own registry."""

    prefix = "own"

    def parseRegistry(self, reactor: Any, *args: str, **kwargs: str) -> Any:
        return reactor, args, kwargs


class ParseTests(SynchronousTestCase):
    """``registryFrom``."""

    def setUp(self) -> None:
        self.patch(parse, "_engine", lambda module, name: lambda *args, **named: Made(name, args, named))

    def make(self, text: str) -> Any:
        registry: Any = registryFrom(text)
        self.assertIsInstance(registry, Registry)
        return registry.engine

    def refused(self, text: Any) -> str:
        return str(self.assertRaises(SettingError, registryFrom, text))

    def test_split(self) -> None:
        """As Twisted's descriptions; only the first equals sign of an argument separates."""
        for text, expected in {
            "dns:": ("dns", [""], {}),
            "a:b:c=d:e": ("a", ["b", "e"], {"c": "d"}),
            r"a:b\:c:d=e\:f=g\\:h\=i": ("a", ["b:c", "h=i"], {"d": r"e:f=g" + "\\"}),
            "a:\\": ("a", ["\\"], {}),
        }.items():
            self.assertEqual(expected, split(text))

    def test_directory(self) -> None:
        for text, args in {
            "dir:/run/getty": ("/run/getty", 0o750),
            "dir:/run/a\\:b:mode=0700": ("/run/a:b", 0o700),
            "dir:x:mode=755": ("x", 0o755),
        }.items():
            engine = self.make(text)
            self.assertEqual(("DirectoryEngine", args), (engine.name, engine.args))

    def test_lists(self) -> None:
        self.assertEqual((["tcp:a:8090", "tcp:b:8090"],), self.make(r"static:tcp\:a\:8090,tcp\:b\:8090").args)
        self.assertEqual((["ws:a:80:path=/x"],), self.make(r"static:ws\:a\:80\:path\=/x").args)
        self.assertEqual(("/etc/services.toml",), self.make("file:/etc/services.toml").args)

    def test_dns(self) -> None:
        for text, name, servers, kind in [
            ("dns:", "", [], "tcp"),
            (r"dns:server=127.0.0.1\:5353", "", [("127.0.0.1", 5353)], "tcp"),
            (
                r"dns:_echo._tcp.example.org:server=\:\:1,10.0.0.1:kind=tls",
                "_echo._tcp.example.org",
                [("::1", 53), ("10.0.0.1", 53)],
                "tls",
            ),
        ]:
            engine = self.make(text)
            self.assertEqual(((name,), {"servers": servers, "kind": kind}), (engine.args, engine.settings))

    def test_etcd(self) -> None:
        """What is not there keeps the engine's default."""
        engine = self.make("etcd:h1,h2\\:1,h3:2380")
        endpoints = [("h1", 2380), ("h2", 1), ("h3", 2380)]
        self.assertEqual({"endpoints": endpoints, "tls": False}, engine.settings)
        engine = self.make(
            r"etcd:\:\:1,[fe80\:\:1]\:99:prefix=/a/b:ttl=20:user=x:passwordFile=/p"
            ":trustRoots=ca.pem:certificate=c.pem:privateKey=k.pem:tls=yes"
        )
        self.assertEqual(
            {
                "endpoints": [("::1", 2379), ("fe80::1", 99)],
                "prefix": "/a/b",
                "ttl": 20,
                "user": "x",
                "passwordFile": "/p",
                "trustRoots": "ca.pem",
                "certificate": "c.pem",
                "privateKey": "k.pem",
                "tls": True,
            },
            engine.settings,
        )
        self.assertTrue(self.make("etcd:h:trustRoots=ca.pem").settings["tls"])

    def test_zooKeeper(self) -> None:
        engine = self.make("zookeeper:h1,h2:2182:layout=dubbo:timeout=10:prefix=/dubbo")
        self.assertEqual(([("h1", 2182), ("h2", 2182)],), engine.args)
        self.assertEqual({"layout": "dubbo", "timeout": 10, "prefix": "/dubbo", "tls": False}, engine.settings)
        self.assertEqual({"tls": True}, self.make("zookeeper:h:tls=yes").settings)

    def test_refused(self) -> None:
        """The error has the text, what is wrong with it, and what would be right."""
        for text, why in {
            "": "is not a text such as 'dir:/run/getty'",
            "etcd": "is not a text such as",
            ":x": "there is no ':'",
            "redis:h": "there is no 'redis:'; there are dir:, dns:, etcd:, file:, static:, zookeeper:",
            "dir:": "write dir:PATH, such as dir:/run/getty; a colon in it is \\:",
            "dir:a:b": "write dir:PATH",
            "dir:/x:depth=3": "there is no argument depth=; there are mode=",
            "dir:/x:mode=0770": "mode=0770 is not one such as 0750",
            "dir:/x:mode=rw": "mode=rw is not one",
            "file:/x:watch=no": "there is no argument watch=; there are none",
            "static:": "write static:ENDPOINT",
            "static:tcp:a:1": "a colon in it is \\:",
            "dns:a:b": "write dns:NAME or dns: alone",
            "dns:server=a b": "server 'a b' is not one such as",
            "etcd:": "write etcd:HOST[,HOST...][:PORT], such as etcd:10.0.0.1:2379",
            "etcd:a:1:2": "write etcd:",
            "etcd:a,,b": "host '' is not one such as 10.0.0.1",
            "etcd:a:0": "port '0' is not a number from 1 to 65535",
            "etcd:a\\:x": "port 'x' is not",
            "etcd:a:ttl=1": "ttl=1 is not a number of seconds from 2 to 3600",
            "etcd:a:ttl=5s": "ttl=5s is not",
            "etcd:a:timeout=5": "there is no argument timeout=; there are certificate=, passwordFile=, prefix=",
            "etcd:a:ttl=5:ttl=6": "ttl= stands there twice",
            "etcd:a:prefix=getty": "prefix=getty is not one such as /getty",
            "etcd:a:prefix=": "prefix= is empty",
            "etcd:a:user=x": "user= and passwordFile= go together",
            "etcd:a:certificate=x": "certificate= and privateKey= go together",
            "etcd:a:tls=maybe": "tls=maybe is not yes",
            "etcd:a:tls=no:trustRoots=ca.pem": "tls=no is not yes",
            "zookeeper:a:layout=curator": "layout=curator is neither getty nor dubbo",
            "zookeeper:a:timeout=0": "timeout=0 is not a number",
        }.items():
            error = self.refused(text)
            self.assertIn(why, error)
            self.assertIn(repr(text), error)
        self.assertIn("is not a text", self.refused(None))

    def test_secrets(self) -> None:
        """A password does not stand in an error, wherever it stood."""
        for text in (
            "etcd:a:user=x:password=hunter2",
            "etcd:a:user=x:Password=hunter2:tls=yes",
            "redis:a:token=hunter2",
            "etcd://root:hunter2@a:2379",
            "etcd:a:ttl=0:secret=hunter2\\:hunter2",
        ):
            self.assertNotIn("hunter2", self.refused(text))
        self.assertIn("write it into a file, passwordFile=PATH", self.refused("etcd:a:password=hunter2"))

    def test_missing(self) -> None:
        """The error of an engine reaches the caller."""

        def fail(module: str, name: str) -> Any:
            raise SettingError(f"{module}: pip install it")

        self.patch(parse, "_engine", fail)
        self.assertIn("zookeeper: pip install it", self.refused("zookeeper:a"))

    def test_plugin(self) -> None:
        """Own registries have own prefixes; those that stand here come first."""
        self.patch(parse, "getPlugins", lambda interface: [interface(Parser())])
        self.assertEqual(("r", ("a:b",), {"x": "1"}), registryFrom("own:a\\:b:x=1", "r"))
        self.assertIn("file:, own:, static:", self.refused("other:a"))

    def test_unknownHere(self) -> None:
        """Plugins are looked for."""
        self.assertIn("there is no 'own:'", self.refused("own:a"))


class EngineTests(SynchronousTestCase):
    """Each text makes its engine, and nothing connects."""

    def test_real(self) -> None:
        password = self.mktemp()
        with open(password, "w") as file:
            file.write("hunter2\n")
        os.chmod(password, 0o600)
        texts = {
            f"dir:{self.mktemp()}": "DirectoryEngine",
            r"static:tcp\:a\:1": "StaticEngine",
            "file:none.json": "FileEngine",
            r"dns:server=127.0.0.1\:53": "DNSEngine",
            rf"etcd:\:\:1,b:2379:ttl=20:prefix=/a:user=x:passwordFile={password}": "EtcdEngine",
        }
        if find_spec("kazoo") is not None:
            texts[f"zookeeper:a,b:layout=dubbo:timeout=20:user=x:passwordFile={password}"] = "ZooKeeperEngine"
        for text, name in texts.items():
            registry: Any = registryFrom(text)
            self.assertEqual(name, type(registry.engine).__name__)
            self.assertNotIn("hunter2", f"{registry!r} {registry.engine!r} {registry.name}")
            self.assertTrue(registry.name.startswith(text.partition(":")[0]))


class DefaultTests(SynchronousTestCase):
    """What is taken when none is named."""

    def setUp(self) -> None:
        unset = ("GETTY_REGISTRY", "XDG_RUNTIME_DIR")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.patch(os, "environ", environment)

    def test_text(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual("dir:/run/getty", defaultText())
        self.patch(os, "geteuid", lambda: 1234)
        self.assertEqual(r"dir:/tmp/getty-1234:mode=0700", defaultText())
        os.environ["XDG_RUNTIME_DIR"] = "/run/user/a:b"
        self.assertEqual(r"dir:/run/user/a\:b/getty", defaultText())
        os.environ["GETTY_REGISTRY"] = "etcd:a"
        self.assertEqual("etcd:a", defaultText())

    def test_registry(self) -> None:
        path = os.path.abspath(self.mktemp())
        os.environ["GETTY_REGISTRY"] = f"dir:{path}"
        registry: Any = defaultRegistry()
        self.assertIsInstance(registry.engine, DirectoryEngine)
        self.assertIn(path, repr(registry))
        os.environ["GETTY_REGISTRY"] = "dri:x"
        self.assertIn("there is no 'dri:'", str(self.assertRaises(SettingError, defaultRegistry)))


class ServiceTests(SynchronousTestCase):
    """``service:``."""

    def test_service(self) -> None:
        for text, expected in {
            "service:echo": ("echo", {}),
            "service:echo:version=1:group=g": ("echo", {"version": "1", "group": "g"}),
            "service:echo:group=*": ("echo", {"group": "*"}),
            r"service:a\:b/c:version=": ("a:b/c", {"version": ""}),
        }.items():
            self.assertEqual(expected, parseService(text))

    def test_refused(self) -> None:
        for text, why in {
            "echo": "is not a text such as",
            "service:": "service='' is not a name",
            "service:a:b": "write service:NAME[:group=G][:version=V]",
            "tcp:a": "write service:NAME",
            "service:a:zone=b": "there is no argument zone=; there are group=, version=",
            "service:..": "is not a name",
            "service:a:group=\n": "has characters that cannot be",
        }.items():
            self.assertIn(why, str(self.assertRaises(SettingError, parseService, text)))
