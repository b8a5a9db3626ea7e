"""What docs/howto/etcd.md says is so."""

from __future__ import annotations

import inspect
import re
import shlex
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.registry import registryFrom
from getty_tx.registry.command import parse
from getty_tx.registry.etcd import EtcdEngine
from getty_tx.registry.provider import decodeRecord
from tests.docs.test_guide import ROOT
from tests.support.certificates import Authority

TEXT = (ROOT / "docs" / "howto" / "etcd.md").read_text()

#: What is no setting of a registry's text.
_INSIDE = {"self", "endpoints", "password", "connectTimeout", "clock", "random", "connections"}


def blocks(kind: str) -> list[str]:
    """The blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


class EtcdPageTests(SynchronousTestCase):
    """The page about etcd."""

    def test_settings(self) -> None:
        """The table has every setting with its default."""
        parameters = inspect.signature(EtcdEngine).parameters
        cells = re.findall(r"^\| (`.+?`) \| (.+?) \|", TEXT, re.MULTILINE)
        names = {name for cell, _ in cells for name in re.findall(r"`(\w+)`", cell)}
        self.assertEqual(names, parameters.keys() - _INSIDE)
        defaults = {cell.strip("`"): default.strip("`") for cell, default in cells}
        self.assertEqual(defaults["prefix"], parameters["prefix"].default)
        self.assertEqual(float(defaults["ttl"]), parameters["ttl"].default)

    def test_texts(self) -> None:
        """The texts of registries are such."""
        folder = self.mktemp()
        authority = Authority(folder).path
        password = f"{folder}/password"
        [examples] = blocks("text")
        for line in examples.splitlines():
            registry: Any = registryFrom(
                line.replace("/etc/getty/ca.pem", authority).replace("/etc/getty/password", password)
            )
            self.assertIsInstance(registry.engine, EtcdEngine)
        for line in re.findall(r"^python -m getty_tx.registry (.*)$", TEXT, re.MULTILINE):
            parse(shlex.split(line))

    def test_record(self) -> None:
        """The record is one."""
        [record] = blocks("json")
        self.assertEqual(decodeRecord(record.encode(), "echo").endpoint, "tcp:10.0.0.5:8090")
