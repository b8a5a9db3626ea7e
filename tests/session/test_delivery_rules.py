"""
The rules of calling a listener stand in several places, as a call more for each message would cost too much.

Each of these places is ``try: result = receiver.onMessage(...)``, ``except BaseException: session.callbackFailed``,
``else: session.awaitCallback`` for a result. This test finds them in the code, and sees that they are the same.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "getty_tx"

#: Where packages are delivered: streams (in lists, in batches, and singly), WebSocket messages (short, and by way of
#: the engine), datagrams.
PLACES = {"session/inbound.py": 3, "transports/websocket/inbound.py": 2, "transports/udp/inbound.py": 1}

#: The calls.
CALLS = {"session.receiver.onMessage", "session.receiver.onMessages"}


def deliveries(path: Path) -> Iterator[ast.Try]:
    """The statements that call onMessage or onMessages of a session's receiver."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Try) and isinstance(node.body[-1], ast.Assign):
            call = node.body[-1].value
            if isinstance(call, ast.Call) and ast.unparse(call.func) in CALLS:
                yield node


class DeliveryRuleTests(SynchronousTestCase):
    """Streams, messages and datagrams call the listener in the same way."""

    def test_places(self) -> None:
        """The places are those of the list, and no others."""
        found = {
            str(path.relative_to(PACKAGE)): count
            for path in sorted(PACKAGE.rglob("*.py"))
            if (count := sum(1 for _ in deliveries(path)))
        }
        self.assertEqual(found, PLACES)

    def test_same(self) -> None:
        """A failure is told to the session, a result is awaited, and nothing else is done."""
        for name in PLACES:
            for node in deliveries(PACKAGE / name):
                self.assertEqual(len(node.body), 1)
                [handler] = node.handlers
                self.assertEqual(ast.unparse(handler.type or ast.Constant(None)), "BaseException")
                self.assertEqual([ast.unparse(each) for each in handler.body], ["session.callbackFailed(error)"])
                self.assertEqual(
                    [ast.unparse(each) for each in node.orelse],
                    ["if result is not None:\n    session.awaitCallback(result)"],
                )
                self.assertEqual(node.finalbody, [])
