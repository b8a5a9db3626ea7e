"""The page about ZooKeeper, and the one for those who come from Dubbo: their texts, names and records."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.registry.parse import registryFrom
from getty_tx.registry.provider import decodeRecord
from getty_tx.registry.zookeeper import ZooKeeperEngine
from getty_tx.registry.zookeeper.dubbo import DubboLayout, decodeUrl
from tests.support.certificates import Authority

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("howto/zookeeper.md", "from/dubbo.md")}


def blocks(page: str, kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


class PageTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Each text of a registry is one."""
        folder = self.mktemp()
        authority = Authority(folder)
        Path(folder, "password").write_text("secret")
        [texts] = blocks("howto/zookeeper.md", "text")
        found = texts.split()
        for page in PAGES:
            found += re.findall(r"--registry ([^\s`]+)", PAGES[page])
        self.assertEqual(len(found), 5)
        for text in found:
            text = text.replace("/etc/getty/ca.pem", authority.path).replace("/etc/getty", folder)
            self.assertIsInstance(registryFrom(text).engine, ZooKeeperEngine)  # type: ignore[attr-defined]

    def test_names(self) -> None:
        """The table has what the engine takes."""
        names = re.findall(
            r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", PAGES["howto/zookeeper.md"], re.MULTILINE))
        )
        parameters = inspect.signature(ZooKeeperEngine).parameters
        self.assertEqual(sorted(names), sorted(parameters.keys() - {"endpoints"}))
        for name, default in (("timeout", 10), ("layout", "getty")):
            self.assertEqual(parameters[name].default, default)

    def test_record(self) -> None:
        [record] = blocks("howto/zookeeper.md", "json")
        self.assertEqual(decodeRecord(record.encode(), "echo").endpoint, "tcp:10.0.0.5:8090")

    def test_url(self) -> None:
        """What the page for those from Dubbo shows is what is written."""
        [block] = blocks("from/dubbo.md", "text")
        path = "".join(block.split())
        directory, name = path.rsplit("/", 1)
        layout = DubboLayout("/dubbo", 1_700_000_000_000)
        self.assertEqual(directory, layout.directory("com.foo.Echo"))
        provider: Any = decodeUrl(name, "com.foo.Echo")
        self.assertEqual(provider.endpoint, "tcp:10.0.0.5:20880")
        self.assertEqual(layout.node(provider.but(meta={}))[0], name)
