"""The file with the last list: what a follower is told while the registry is away."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from getty_tx.registry.cache import WRITE_INTERVAL
from getty_tx.registry.following import FIRST_LIST_TIME
from getty_tx.registry.provider import encodeRecord
from tests.registry.test_following import A, B, C, Follower
from tests.registry.test_registration import RegistryCase

if TYPE_CHECKING:
    from getty_tx.registry import Provider


class CacheTests(RegistryCase):
    """A start while the registry is away."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()

    def follow(self) -> Follower:
        """Another process follows."""
        follower = Follower()
        registry = self.another()
        registry.follow("echo", follower, self.path)
        registry.startService()
        return follower

    def write(self, *providers: Provider) -> None:
        for each in providers:
            self.store.write(each.service, each.id, encodeRecord(each))

    def test_used(self) -> None:
        """The last list is used, and what is not true any more goes when the registry is back."""
        self.write(A, B, C.but(state="leaving"))
        self.follow()
        self.store.goAway()
        follower = self.follow()
        self.assertEqual(follower.take(), [(["a", "b"], [], [])])
        self.assertIn(f"2 providers of echo come from {self.path}", self.texts[-1])
        self.store.delete("echo", "a")
        self.store.comeBack()
        self.clock.advance(1)
        self.assertEqual(follower.take(), [(["c"], ["a"], [])])

    def test_silent(self) -> None:
        """An engine that says nothing is not waited for."""
        self.write(A)
        self.follow()
        registry = self.another()
        follower = Follower()
        self.patch(registry.engine, "watch", lambda service, sink: None)
        registry.follow("echo", follower, self.path)
        registry.startService()
        self.assertEqual(follower.take(), [])
        self.clock.advance(FIRST_LIST_TIME)
        self.assertEqual(follower.take(), [(["a"], [], [])])

    def test_wiped(self) -> None:
        """An empty registry does not take away what the file has."""
        self.write(A)
        self.follow()
        self.store.goAway()
        follower = self.follow()
        self.store.comeBack(wiped=True)
        self.clock.advance(1)
        self.assertEqual(follower.providers, {"a": A})
        self.write(B)
        self.clock.advance(1)
        self.assertEqual(follower.providers, {"b": B})

    def test_interval(self) -> None:
        """It is written at most so often, and at the end."""
        self.write(A)
        registry = self.another()
        registry.follow("echo", Follower(), self.path)
        registry.startService()

        def ids() -> list[str]:
            with open(self.path, "rb") as file:
                return [each["id"] for each in json.load(file)["providers"]]

        self.write(B)
        self.assertEqual(ids(), ["a"])
        self.clock.advance(WRITE_INTERVAL)
        self.assertEqual(ids(), ["a", "b"])
        self.write(C)
        self.assertEqual(ids(), ["a", "b"])
        self.successResultOf(registry.stopService())
        self.assertEqual(ids(), ["a", "b", "c"])
        self.assertEqual(os.listdir(os.path.dirname(os.path.abspath(self.path))).count(os.path.basename(self.path)), 1)

    def test_faults(self) -> None:
        """A file that cannot be used, or written, is said once, and is no fault of the rest."""
        self.store.goAway()
        for content in (b"", b"[]", b'{"service":"b","providers":[]}', b'{"service":"echo","providers":[{}]}'):
            with open(self.path, "wb") as file:
                file.write(content)
            self.assertEqual(self.follow().take(), [])
            self.assertIn("cannot be used", self.texts[-1])
        os.unlink(self.path)
        os.mkdir(self.path)
        self.store.comeBack()
        self.write(A)
        self.follow()
        self.assertIn("cannot be written", self.texts[-1])
