"""``python -m getty_tx.registry``: its command line, what it prints, and its exit status."""

from __future__ import annotations

import io
import json
import os
import sys

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.registry import Provider, command
from getty_tx.registry.command import parse, run
from getty_tx.registry.directory import DirectoryEngine
from getty_tx.testing import MemoryRegistry, MemoryStore
from tests.support.engines import User
from tests.tap.test_twistd import ProcessTestCase

TOML = """
chat = ["tls:chat.example.org:8443"]

[[echo]]
endpoint = "tcp:10.0.0.5:8090"
zone = "a"
version = "1.2"
meta = { rack = "\\u009bé" }
"""


class CommandCase(SynchronousTestCase):
    """Standard output and standard error."""

    def setUp(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)
        self.clock = Clock()

    def begin(self, *words: str) -> Deferred[int]:
        doing = ensureDeferred(run(parse(words), self.clock))
        self.clock.advance(0)
        return doing

    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()


class ParseTests(CommandCase):
    """The command line."""

    def test_default(self) -> None:
        self.patch(os, "environ", {**os.environ, "GETTY_REGISTRY": "file:a.toml"})
        options = parse([])
        self.assertEqual(
            ("file:a.toml", None, False, 10.0), (options.registry, options.service, options.follow, options.timeout)
        )
        self.assertEqual("echo", parse(["dir:/x", "echo", "--follow"]).service)

    def test_refused(self) -> None:
        for words, why in [
            (["--timeout", "soon"], "--timeout soon: takes a number of seconds"),
            (["--timeout", "0"], "--timeout 0: takes"),
            (["dir:/x", "--follow"], "--follow: takes a SERVICE after the REGISTRY"),
            (["dir:/x", ".."], "SERVICE='..' is not a name"),
        ]:
            self.assertEqual(2, self.assertRaises(SystemExit, parse, words).code)
            self.assertIn(why, self.errors.getvalue())

    def test_help(self) -> None:
        self.assertEqual(0, self.assertRaises(SystemExit, parse, ["--help"]).code)
        self.assertIn("python -m getty_tx.registry dir:/run/getty echo --follow", self.output.getvalue())


class ListTests(CommandCase):
    """The table."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp() + ".toml"
        with open(self.path, "w") as file:
            file.write(TOML)

    def test_table(self) -> None:
        self.assertEqual(0, self.successResultOf(self.begin(f"file:{self.path}")))
        header, chat, echo = self.lines()
        self.assertEqual(["SERVICE", "ID", "ENDPOINT", "WEIGHT", "ZONE", "STATE", "VERSION", "META"], header.split())
        self.assertRegex(
            chat, r"^chat     tls:chat.example.org:8443  tls:chat.example.org:8443  100     -     serving  -$"
        )
        self.assertRegex(
            echo, r'^echo     tcp:10.0.0.5:8090  .*  100     a     serving  1.2      {"rack": ".u009b.u00e9"}$'
        )

    def test_service(self) -> None:
        self.successResultOf(self.begin(f"file:{self.path}", "chat"))
        self.assertEqual(2, len(self.lines()))
        self.successResultOf(self.begin(f"file:{self.path}", "none"))
        self.assertEqual("no providers", self.lines()[-1])

    def test_json(self) -> None:
        self.successResultOf(self.begin(f"file:{self.path}", "--json", "echo"))
        (found,) = json.loads(self.output.getvalue())
        self.assertEqual(
            ("echo", "a", 100, {"rack": "\x9bé"}), tuple(found[name] for name in ("service", "zone", "weight", "meta"))
        )

    def test_errors(self) -> None:
        """The text is wrong, the registry does not know, or it does not answer."""
        for words, why in [
            (["fiel:x"], "'fiel:x': there is no 'fiel:'; there are dir:"),
            (["file:none.toml"], "none.toml cannot be read: No such file"),
            (["dns:"], "dns: cannot list all services: name one"),
        ]:
            self.assertEqual(1, self.successResultOf(self.begin(*words)))
            self.assertIn(why, self.errors.getvalue())

    def test_silence(self) -> None:
        registry = MemoryRegistry(self.clock)
        registry.list = lambda service: Deferred()  # type: ignore[method-assign]
        self.patch(command, "registryFrom", lambda text, reactor: registry)
        doing = self.begin("etcd:a", "--timeout", "3")
        self.clock.advance(3)
        self.assertEqual(1, self.successResultOf(doing))
        self.assertEqual("etcd:a: no answer within 3 s\n", self.errors.getvalue())


class FollowTests(CommandCase):
    """``--follow``."""

    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryStore()
        self.registry = MemoryRegistry(self.clock, self.store)
        self.patch(command, "registryFrom", lambda text, reactor: self.registry)
        self.other = MemoryRegistry(self.clock, self.store)
        self.other.startService()
        self.addCleanup(self.other.stopService)
        self.registration = self.other.register(Provider("echo", "tcp:a:1"))
        self.clock.advance(0)

    def follow(self, *words: str) -> None:
        doing = self.begin("etcd:a", "echo", "--follow", *words)
        doing.addErrback(lambda _: None)
        self.addCleanup(doing.cancel)

    def test_changes(self) -> None:
        """The table, and then a line a change, with the time."""
        self.follow()
        self.assertEqual((2, "SERVICE"), (len(self.lines()), self.lines()[0].split()[0]))
        self.registration.update(weight=3)
        second = self.other.register(Provider("echo", "tcp:b:1", meta={"a": 1}))
        self.clock.advance(1)
        second.withdraw()
        self.clock.pump([0.5] * 10)
        text = "\n".join(self.lines()[2:])
        self.assertRegex(text, r"(?m)^\d\d:\d\d:\d\d changed tcp:a:1  tcp:a:1  3  -  serving  -$")
        self.assertRegex(text, r'(?m)^\d\d:\d\d:\d\d added   tcp:b:1  tcp:b:1  100  -  serving  -  {"a": 1}$')
        self.assertRegex(text, r"(?m)^\d\d:\d\d:\d\d removed tcp:b:1  ")

    def test_json(self) -> None:
        """An object a line, those of the first list as well."""
        self.follow("--json")
        self.registration.update(weight=3)
        self.clock.advance(1)
        found = [json.loads(line) for line in self.lines()]
        self.assertEqual(
            [("added", 100), ("changed", 3)], [(each["event"], each["provider"]["weight"]) for each in found]
        )

    def test_away(self) -> None:
        """That the registry does not answer is said once."""
        self.follow()
        self.store.goAway()
        self.clock.pump([1] * 3)
        self.assertRegex(self.errors.getvalue(), r"^\d\d:\d\d:\d\d the registry does not answer: [^\n]+\n$")
        self.store.comeBack()
        self.clock.pump([1] * 30)
        self.assertIn("the registry answers again", self.errors.getvalue())

    def test_held(self) -> None:
        """The last record goes: nothing is removed for clients, and that is said."""
        self.follow()
        self.registration.withdraw()
        self.clock.pump([1] * 3)
        self.assertRegex(
            self.errors.getvalue(), r"^\S+ the registry has no record any more: clients keep the last ones\n$"
        )
        self.other.register(Provider("echo", "tcp:b:1"))
        self.clock.pump([1] * 3)
        self.assertIn("the registry has records again", self.errors.getvalue())


class ProcessTests(ProcessTestCase):
    """The whole of it, in a process of its own."""

    def test_directory(self) -> None:
        path = os.path.abspath(self.mktemp())
        engine = DirectoryEngine(path)
        engine.start(Clock(), User())
        self.addCleanup(engine.stop)
        engine.put(Provider("echo", "unix:/run/echo.sock"))
        process = self.run_(sys.executable, "-m", "getty_tx.registry", f"dir:{path}", "echo", "--follow")
        process.expect("unix:/run/echo.sock")
        engine.put(Provider("echo", "unix:/run/two.sock"))
        process.expect("added   unix:/run/two.sock")
