"""``file:``: a list that is read again when it changes."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError, RegistryError, registryFrom, static
from getty_tx.registry.notices import CAME
from getty_tx.registry.static import CHECK_PERIOD, POLL_PERIOD, FileEngine, readFile
from tests.support.engines import Notices, Sink, User

TOML = """
chat = ["tls:chat.example.org:8443", "unix:/run/chat.sock"]

[[echo]]
endpoint = "tcp:10.0.0.5:8090"
weight = 200
zone = "a"
meta = { rack = 3 }

[[echo]]
id = "two"
endpoint = "tcp:10.0.0.6:8090"
"""

ECHO = [
    Provider("echo", "tcp:10.0.0.5:8090", weight=200, zone="a", meta={"rack": 3}),
    Provider("echo", "tcp:10.0.0.6:8090", id="two"),
]
CHAT = [Provider("chat", "tls:chat.example.org:8443"), Provider("chat", "unix:/run/chat.sock")]


class FileCase(SynchronousTestCase):
    """A folder for files."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.path = os.path.join(self.folder, "services.toml")

    def write(self, text: str, name: str = "services.toml") -> str:
        """As an editor does, by a new file."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
        return path


class ReadTests(FileCase):
    """What a file may say."""

    def test_toml(self) -> None:
        services = readFile(self.write(TOML))
        self.assertEqual([CHAT, ECHO], [list(records.values()) for records in services.values()])

    def test_json(self) -> None:
        content = {"echo": [{"endpoint": "tcp:10.0.0.5:8090", "weight": 200, "zone": "a", "meta": {"rack": 3}}]}
        services = readFile(self.write(json.dumps(content), "services.json"))
        self.assertEqual({"echo": {ECHO[0].id: ECHO[0]}}, services)

    def test_entries(self) -> None:
        """An entry that is no provider is told of alone, and the others hold."""
        entries = [
            "tcp:a:1",
            "tcp:a:1",
            5,
            {"weight": 3},
            {"endpoint": "tcp:b:1", "wieght": 3},
            {"endpoint": "tcp:c:1", "weight": 2000},
            "process:/bin/sh",
            {"endpoint": "tcp:d:1", "meta": 5},
        ]
        records = readFile(self.write(json.dumps({"echo": entries}), "services.json"))["echo"]
        self.assertEqual(Provider("echo", "tcp:a:1"), records.pop("tcp:a:1"))
        self.assertEqual({f"entry {number}" for number in range(2, 9)}, set(records))
        self.assertEqual({RecordError}, {type(each) for each in records.values()})
        self.assertIn("there is no wieght; there are endpoint, group, id, meta, state", str(records["entry 5"]))
        self.assertIn("stands there twice", str(records["entry 2"]))

    def test_refused(self) -> None:
        """The error names the file and what is wrong."""
        for text, why in {
            "echo = [": "services.toml cannot be parsed: ",
            "echo = 5": 'service echo is no list, such as ["tcp:10.0.0.5:8090"]',
            '".." = []': "service='..' is not a name",
        }.items():
            self.assertIn(why, str(self.assertRaises(RegistryError, readFile, self.write(text))))
        for text, why in {"[]": "has no services", "[" * 100_000: "cannot be parsed"}.items():
            self.assertIn(why, str(self.assertRaises(RegistryError, readFile, self.write(text, "a.json"))))
        self.assertIn("cannot be read: No such file", str(self.assertRaises(RegistryError, readFile, "none.toml")))
        self.assertIn("has to end with .toml or .json", str(self.assertRaises(SettingError, FileEngine, "a.ini")))


class EngineTests(FileCase):
    """Reading again, with a clock."""

    def setUp(self) -> None:
        super().setUp()
        self.write(TOML)
        self.clock = Clock()
        self.user = User()
        registry: Any = registryFrom(f"file:{self.path}")
        self.engine: FileEngine = registry.engine
        self.addCleanup(self.engine.stop)
        self.sink = Sink()

    def start(self) -> None:
        self.engine.watch("echo", self.sink)
        self.engine.start(self.clock, self.user)
        self.clock.advance(0)

    def test_change(self) -> None:
        """Only what is different is told."""
        self.start()
        self.assertEqual(ECHO, list(self.sink.records.values()))
        late = Sink()
        self.engine.watch("echo", late)
        self.clock.advance(0)
        self.write(TOML.replace("200", "300"))
        self.clock.advance(POLL_PERIOD)
        self.assertEqual((["are", "changed"], 300), (self.sink.reports, self.sink.records[ECHO[0].id].weight))
        self.assertEqual(self.sink.reports, late.reports)
        self.write(TOML.partition("[[")[0])
        self.clock.advance(POLL_PERIOD)
        self.assertEqual({}, self.sink.records)
        self.assertEqual([True], self.user.said)

    def test_broken(self) -> None:
        """A file that cannot be parsed keeps the list, and is told of once."""
        self.start()
        for text in ("echo = [", "echo = [[", "echo = 1"):
            self.write(text)
            self.clock.advance(POLL_PERIOD)
        self.assertEqual(ECHO, list(self.sink.records.values()))
        self.assertEqual((2, 2), (len(self.user.said), len(self.sink.reports)))
        self.assertIn("services.toml cannot be parsed", self.user.said[1])
        late = Sink()
        self.engine.watch("chat", late)
        self.clock.advance(0)
        self.assertIn("interrupted", late.reports[0])
        self.write(TOML)
        self.clock.advance(POLL_PERIOD)
        self.assertEqual(("are", True), (self.sink.reports[-1], self.user.said[-1]))
        self.assertEqual(CHAT, list(late.records.values()))

    def test_missing(self) -> None:
        """It may come later, and go."""
        os.unlink(self.path)
        self.start()
        self.assertIn("No such file", self.user.said[0])
        self.write(TOML)
        self.clock.advance(POLL_PERIOD)
        os.unlink(self.path)
        self.clock.advance(POLL_PERIOD)
        self.assertEqual(ECHO, list(self.sink.records.values()))

    def test_again(self) -> None:
        """It is started again after a stop, and reads the file anew."""
        self.start()
        self.successResultOf(self.engine.stop())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.write(TOML.replace("200", "300"))
        self.start()
        self.assertEqual(300, self.sink.records[ECHO[0].id].weight)

    def test_read(self) -> None:
        self.assertEqual(4, len(self.successResultOf(self.engine.read(None))))
        self.assertEqual(["chat", "chat"], [key[0] for key in self.successResultOf(self.engine.read("chat"))])
        os.unlink(self.path)
        self.failureResultOf(self.engine.read(None), RegistryError)

    def test_notices(self) -> None:
        """With the kernel's help the file is looked at when its folder changes, and seldom besides."""
        notices: list[Notices] = []

        def open_(reactor: Any, heard: Any, lost: Any) -> Notices:
            notices.append(Notices(heard, lost))
            return notices[-1]

        self.patch(static, "openNotices", open_)
        self.start()
        self.assertEqual({self.folder}, notices[0].watched)
        self.write("")
        self.clock.advance(POLL_PERIOD)
        self.assertEqual(2, len(self.sink.records))
        notices[0].heard(self.folder, {"..data": CAME})
        self.clock.advance(0)
        self.assertEqual(0, len(self.sink.records))
        self.write(TOML)
        self.clock.advance(CHECK_PERIOD)
        self.assertEqual(2, len(self.sink.records))
        self.write("")
        notices[0].lost(notices[0])
        self.clock.advance(0)
        self.assertEqual((2, 0), (len(notices), len(self.sink.records)))


class KernelTests(TestCase):
    """With the real reactor."""

    timeout = 20

    async def test_renamed(self) -> None:
        """A new file under the name is read."""
        path = self.mktemp() + ".json"
        engine, sink = FileEngine(path), Sink()
        self.addCleanup(engine.stop)
        for endpoint in ("tcp:a:1", "tcp:b:1"):
            with open(path + ".new", "w") as file:
                json.dump({"echo": [endpoint]}, file)
            os.replace(path + ".new", path)
            if endpoint == "tcp:a:1":
                engine.watch("echo", sink)
                engine.start(reactor, User())
            await sink.when(lambda records, endpoint=endpoint: list(records) == [endpoint])
