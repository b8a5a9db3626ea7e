"""The page about groups: its blocks run."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from twisted.internet.defer import ensureDeferred

from getty_tx.codecs import LineCodec
from getty_tx.groups import Groups, Namespace
from tests.docs.test_guide import ROOT, codeIn
from tests.support.groups import GroupsCase

PAGE = ROOT / "docs" / "guide" / "groups.md"


class GroupsPageTests(GroupsCase):
    """What the page makes."""

    def setUp(self) -> None:
        super().setUp()
        self.names: dict[str, Any] = {"__name__": "pages"}

    def run_(self, block: int) -> Groups:
        """Run a block, on the test's clock."""
        place, tree = list(codeIn(PAGE))[block]
        exec(compile(tree, place, "exec", dont_inherit=True), self.names)
        groups: Groups = self.names["groups"]
        groups._reactor = self.clock
        groups.startService()
        self.addCleanup(groups.stopService)
        return groups

    def newSession(self, session: Any) -> None:
        super().newSession(session)
        session.codec = LineCodec()
        if "Chat" in self.names:
            session.listener = self.names["Chat"]()

    def newClientSession(self, session: Any) -> None:
        super().newClientSession(session)
        session.codec = LineCodec()

    def test_chat(self) -> None:
        """What one says goes to the others."""
        groups = self.run_(0)
        one, other = self.session(), self.session()
        self.pairs[0].client.writePkg(b"hello")
        self.go()
        self.go()
        self.assertEqual((self.got(one), self.got(other)), ([], [b"hello"]))
        members = self.successResultOf(groups.group("room:42").presence())
        self.assertEqual([each.user for each in members], [f"guest{each.id}" for each in (one, other)])

    def test_comeBack(self) -> None:
        """With positions, and all that was missed."""
        groups = self.run_(1)
        session = self.session()
        session.codec = Texts()
        group = groups.group("log:news")
        first = self.successResultOf(group.publish("one"))
        assert first is not None
        group.publish("two")
        came = ensureDeferred(self.names["comeBack"](session, first.epoch, first.offset))
        self.assertTrue(self.successResultOf(came))
        self.go()
        self.assertEqual([json.loads(each) for each in self.got(session)], [{"at": [first.epoch, 2], "say": "two"}])

    def test_defaults(self) -> None:
        """The table has all settings, and their defaults."""
        text = PAGE.read_text()
        told = {"slowLimit": "64 KiB", "maxPublication": "1 MiB", "maxWaiting": "4 MiB"}
        for field in fields(Namespace):
            if field.name in ("historySize", "historySeconds"):
                continue
            default = field.default
            if isinstance(default, str):
                default = f'`"{default}"`'
            elif isinstance(default, float):
                default = f"{default:g}"
            self.assertIn(f"| `{field.name}` | {told.get(field.name, default)} |", text)


class Texts(LineCodec):
    """Lines of text."""

    def write(self, session: Any, pkg: Any) -> Any:
        return super().write(session, pkg.encode())
