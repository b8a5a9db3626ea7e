"""msgpack as the payload of calls: round trips, and bytes of strangers."""

from __future__ import annotations

import contextlib
import sys
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.errors import SettingError

_SKIP = None if find_spec("msgpack") else "msgpack is not installed"

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=20,
)


class PayloadTests(SynchronousTestCase):
    """Bytes from values, and values from bytes."""

    skip = _SKIP

    def setUp(self) -> None:
        self.payload: Any = rpc.TTHeader(payload="msgpack").payload

    @given(st.lists(_values))
    def test_roundTrip(self, values: list[Any]) -> None:
        """Each value comes back as it was; bytes and str stay apart."""
        data = self.payload.encodeArguments("Echo/say", tuple(values))
        self.assertEqual(self.payload.decodeArguments("Echo/say", memoryview(data)), values)
        self.assertEqual(self.payload.decodeResult("Echo/say", self.payload.encodeResult("Echo/say", values)), values)

    def test_bytes(self) -> None:
        """The format is msgpack's: an array of the arguments, one value for the result."""
        self.assertEqual(self.payload.encodeArguments("Echo/say", (1, "a", b"b")), b"\x93\x01\xa1a\xc4\x01b")
        self.assertEqual(self.payload.encodeResult("Echo/say", None), b"\xc0")

    def test_cannotEncode(self) -> None:
        """What msgpack cannot carry says so before anything is sent."""
        deep: list[Any] = []
        for _ in range(2000):
            deep = [deep]
        for value in ({1, 2}, 1 << 70, object(), deep, "\ud800"):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/say: an argument is no msgpack: .") as caught:
                self.payload.encodeArguments("Echo/say", (value,))
            self.assertFalse(caught.exception.sent)

    def test_hostile(self) -> None:
        """Nothing, too much, too deep, wrong lengths, extension types: PayloadErrors with a reason."""
        for data in (
            b"",
            b"\x90\x90",
            b"\xc1",
            b"\x91" * 2000,
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\x91\xa1\xff",
            b"\x81\x90\x00",
            b"\x91\xd4\x01\x00",
            b"\x91\xc7\x00\x01",
            b"\x91\xd6\xff\x00\x00\x00\x00",
        ):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/say: no msgpack: ."):
                self.payload.decodeArguments("Echo/say", data)
        with self.assertRaisesRegex(rpc.PayloadError, "the arguments are no array"):
            self.payload.decodeArguments("Echo/say", b"\x01")

    @given(st.binary())
    def test_anyBytes(self, data: bytes) -> None:
        """No bytes raise anything else."""
        with contextlib.suppress(rpc.PayloadError):
            self.payload.decodeResult("Echo/say", data)


class MissingTests(SynchronousTestCase):
    """Without the library."""

    def test_missing(self) -> None:
        """The error names the setting and the command."""
        with (
            patch.dict(sys.modules, {"msgpack": None}),
            self.assertRaisesRegex(
                SettingError, r"^payload='msgpack' needs msgpack: pip install 'getty_tx\[msgpack\]'$"
            ),
        ):
            rpc.TTHeader(payload="msgpack")


class Echo:
    """A service."""

    @rpc.method
    def say(self, value: Any) -> Any:
        return value


class SocketTests(TestCase):
    """Two peers."""

    skip = _SKIP
    timeout = 20

    async def test_call(self) -> None:
        """A call over loopback, and one of a client that speaks JSON, which is refused."""
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Echo": Echo()}, wire=rpc.TTHeader("msgpack"))
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        for wire in (rpc.TTHeader("msgpack"), rpc.TTHeader("json")):
            client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=wire)
            client.startService()
            self.addCleanup(client.stopService)
            if wire.payloadName == "json":
                with self.assertRaises(rpc.CallLostError):
                    await client.call("Echo", "say", 1)
            else:
                value = [b"\x00\xff", "\u00e9", {"k": None}]
                self.assertEqual(await client.call("Echo", "say", value), value)
