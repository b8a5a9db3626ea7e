"""What docs/howto/etcd.md says is so."""

from __future__ import annotations

import inspect
import re

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.registry.etcd import EtcdEngine
from getty_tx.registry.provider import decodeRecord
from tests.docs.test_guide import ROOT

TEXT = (ROOT / "docs" / "howto" / "etcd.md").read_text()

#: What is no setting of a registry's text.
_INSIDE = {"self", "endpoints", "password", "connectTimeout", "clock", "random", "connections"}


def blocks(kind: str) -> list[str]:
    """The blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


class EtcdPageTests(SynchronousTestCase):
    """The page about etcd."""

    def test_settings(self) -> None:
        """The table has every setting with its default, and the examples have no others."""
        parameters = inspect.signature(EtcdEngine).parameters
        cells = re.findall(r"^\| (`.+?`) \| (.+?) \|", TEXT, re.MULTILINE)
        names = {name for cell, _ in cells for name in re.findall(r"`(\w+)`", cell)}
        self.assertEqual(names, parameters.keys() - _INSIDE)
        defaults = {cell.strip("`"): default.strip("`") for cell, default in cells}
        self.assertEqual(defaults["prefix"], parameters["prefix"].default)
        self.assertEqual(float(defaults["ttl"]), parameters["ttl"].default)
        [examples] = blocks("text")
        for line in examples.splitlines():
            self.assertLessEqual(set(re.findall(r":(\w+)=", line)), names)

    def test_record(self) -> None:
        """The record is one."""
        [record] = blocks("json")
        self.assertEqual(decodeRecord(record.encode(), "echo").endpoint, "tcp:10.0.0.5:8090")
