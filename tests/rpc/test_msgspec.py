"""JSON by msgspec as the payload of calls: the same as by Python's json, and bytes of strangers."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.testing import connectedPeers

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Echo:
    @rpc.method
    def say(self, value: Any) -> Any:
        return value


class MsgspecTests(SynchronousTestCase):
    """With the library."""

    skip = None if find_spec("msgspec") else "msgspec is not installed"

    def setUp(self) -> None:
        self.payload: Any = rpc.TTHeader(payload="msgspec").payload
        self.other: Any = rpc.TTHeader(payload="json").payload

    @given(st.lists(_values))
    def test_same(self, values: list[Any]) -> None:
        """Each of both payloads reads what the other writes."""
        for one, other in ((self.payload, self.other), (self.other, self.payload)):
            data = one.encodeArguments("Echo/say", tuple(values))
            self.assertEqual(values, other.decodeArguments("Echo/say", data))
            self.assertEqual(values, other.decodeResult("Echo/say", one.encodeResult("Echo/say", values)))

    def test_peers(self) -> None:
        """Ends with one of both payloads each understand each other."""
        client, _, pair = connectedPeers({"Echo": Echo()}, wire=rpc.TTHeader(payload="msgspec"))
        client.context.payload = client.payload = self.other
        reply = client.call("Echo", "say", {"text": ["hi", 1.5, None]})
        pair.flush()
        self.assertEqual({"text": ["hi", 1.5, None]}, self.successResultOf(reply))

    def test_more(self) -> None:
        """What else can be sent."""

        @dataclass
        class Point:
            x: int
            y: float

        self.assertEqual(b'{"x":1,"y":2.5}', self.payload.encodeResult("Echo/say", Point(1, 2.5)))
        self.assertEqual(b"[null]", self.payload.encodeResult("Echo/say", [float("nan")]))

    def test_cannotEncode(self) -> None:
        """What cannot be sent says so before anything is."""
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (object(), deep, "\ud800", {(1, 2): 3}, {(): 1}):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/say: tuple is no JSON: .") as caught:
                self.payload.encodeArguments("Echo/say", (value,))
            self.assertFalse(caught.exception.sent)

    def test_hostile(self) -> None:
        """Nothing, too deep, no array, no UTF-8: PayloadErrors with a reason."""
        for data in (
            b"",
            b"{}",
            b"1",
            b"[1",
            b"[1]x",
            b"[" * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b'["\xff"]',
            b"[NaN]",
        ):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/say: the arguments are no array of JSON: ."):
                self.payload.decodeArguments("Echo/say", data)
        for data in (b"", b"{", b"[" * 100_000, b'"\xff"', b"9" * 5000, b"1e999"):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/say: no JSON: ."):
                self.payload.decodeResult("Echo/say", data)

    @given(st.binary())
    def test_anyBytes(self, data: bytes) -> None:
        """A value or a PayloadError; a value is that of Python's json."""
        try:
            value = self.payload.decodeResult("Echo/say", data)
        except rpc.PayloadError:
            return
        self.assertEqual(json.loads(data), value)


class MissingTests(SynchronousTestCase):
    """Without the library."""

    def test_missing(self) -> None:
        """The error names the payload, and what to install."""
        with patch.dict(sys.modules, msgspec=None):
            text = str(self.assertRaises(SettingError, rpc.TTHeader, payload="msgspec"))
        self.assertIn("payload='msgspec' needs msgspec: pip install 'getty_tx[msgspec]'", text)
