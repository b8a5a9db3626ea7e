"""Providers and their records."""

from __future__ import annotations

import json
import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError
from getty_tx.registry.provider import KINDS, MAX_RECORD, checkEndpoint, decodeRecord, encodeRecord

TEXT = st.text("ab/%:.\\\"'&=ß☃𝄞", max_size=20)
VALUES = st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2)

GOOD = [
    "tcp:10.0.0.5:8090",
    "tcp:a-b.example.org:1",
    r"tcp:fe80\:\:1:65535",
    r"tls:\:\:1:443",
    "udp:host:53",
    "ws:host:80",
    "wss:host:443:path=/chat?room=1",
    r"ws:host:80:path=/a\:b",
]
BAD = [
    "",
    "tcp",
    "tcp:host",
    "tcp:host:port",
    "tcp:host:0",
    "tcp:host:65536",
    "tcp:host:80:timeout=3",
    "tcp:host:80:bindAddress=10.0.0.1",
    "tcp:host:80:path=/x",
    "tls:host:443:trustRoots=/tmp/evil",
    "tls:host:443:certificate=/etc/ssl/private.pem",
    "wss:host:443:path=/x:trustRoots=/tmp/evil",
    "ws:endpoint=unix\\:/run/x.sock:path=/",
    "ws://host/x",
    "unix:/run/x.sock",
    "process:/bin/sh",
    "systemd:domain=INET:index=0",
    "fd:3",
    "haproxy:tcp:host:80",
    "tcp:host:80\n",
    "tcp:ho st:80",
    "tcp:-host:80",
    "tcp::80",
    "TCP:host:80",
]


class ProviderTests(SynchronousTestCase):
    """What a provider may be."""

    def test_defaults(self) -> None:
        provider = Provider("echo", "tcp:10.0.0.5:8090")
        self.assertEqual((provider.id, provider.weight, provider.state), ("tcp:10.0.0.5:8090", 100, "serving"))
        self.assertEqual((provider.group, provider.version, provider.zone, dict(provider.meta)), ("", "", "", {}))
        self.assertFalse(provider.isLeaving)

    def test_refused(self) -> None:
        """The error names the attribute and the value."""
        cases: list[tuple[str, Any]] = [
            *(("service", value) for value in ("", ".", "..", "a\n", "x" * 256, 1)),
            *(("endpoint", value) for value in ("", "tcp:a:1\n", None)),
            *(("id", value) for value in ("..", "a\x00", 5)),
            *(("zone", value) for value in (1, None, "a\n")),
            *(("weight", value) for value in (-1, 1001, 1.5, True, "1")),
            *(("state", value) for value in ("", "gone", None)),
            *(("meta", value) for value in ([], "a", {1: 2})),
        ]
        for name, value in cases:
            values = {"service": "echo", "endpoint": "tcp:a:1", name: value}
            self.assertIn(f"{name}=", str(self.assertRaises(SettingError, Provider, **values)))
        provider = Provider("echo", "tcp:a:1")
        self.assertIn("colour: a provider", str(self.assertRaises(SettingError, provider.but, colour="red")))
        self.assertRaises(AttributeError, setattr, provider, "weight", 5)

    def test_copies(self) -> None:
        """They are pickled, changed, compared and hashed; what they were made of may change."""
        meta = {"a": 1}
        provider = Provider("echo", "tcp:a:1", meta=meta)
        meta["a"] = 2
        self.assertEqual(provider.meta["a"], 1)
        self.assertEqual(pickle.loads(pickle.dumps(provider)), provider)
        self.assertNotEqual(provider.but(meta={}), provider)
        self.assertEqual(hash(provider), hash(Provider("echo", "tcp:a:1", meta={"a": 1})))
        self.assertTrue(provider.but(state="leaving").isLeaving)


class RecordTests(SynchronousTestCase):
    """The JSON of a provider."""

    def test_golden(self) -> None:
        """Other programs read and write it."""
        record = encodeRecord(Provider("echo", "tcp:a:1", zone="x", meta={"b": [1]}, more={"later": None}))
        expected = (
            b'{"later":null,"service":"echo","endpoint":"tcp:a:1","id":"tcp:a:1","zone":"x","weight":100,'
            b'"state":"serving","meta":{"b":[1]}}'
        )
        self.assertEqual(record, expected)
        self.assertEqual(decodeRecord(record, "echo").more["later"], None)
        least = decodeRecord(b'{"service":"echo","endpoint":"tcp:a:1"}', "echo")
        self.assertEqual(least, Provider("echo", "tcp:a:1"))

    @given(
        st.builds(
            Provider,
            TEXT.filter(lambda text: text not in ("", ".", "..")),
            st.sampled_from(GOOD),
            TEXT.filter(lambda text: text not in (".", "..")),
            TEXT,
            TEXT,
            TEXT,
            st.integers(0, 1000),
            st.sampled_from(["serving", "leaving"]),
            st.dictionaries(TEXT, VALUES, max_size=3),
        )
    )
    def test_bothWays(self, provider: Provider) -> None:
        self.assertEqual(decodeRecord(encodeRecord(provider), provider.service), provider)

    def test_hostile(self) -> None:
        """What is none is a RecordError and nothing else."""
        good = {"service": "echo", "endpoint": "tcp:a:1"}
        records: list[Any] = [[], 1, None, "x", {}, {"service": "echo"}, good | {"service": "other"}]
        for name in ("endpoint", "id", "group", "version", "zone", "weight", "state", "meta", "service"):
            records += [good | {name: value} for value in (1.5, [], None, "x\n")]
            records += [good | {name: {"a": []}}] if name != "meta" else []
        datas = [json.dumps(record).encode() for record in records]
        datas += [b"", b"{", b"\xff\xfe", b"[" * 50000, b'{"service":"echo","endpoint":"tcp:a:1","weight":NaN}']
        datas.append(json.dumps(good | {"meta": {"a": "x" * MAX_RECORD}}).encode())
        for data in datas:
            self.assertRaises(RecordError, decodeRecord, data, "echo")

    def test_notWritten(self) -> None:
        """What cannot be a record is refused by its writer."""
        for meta in ({"a": object()}, {"a": float("nan")}, {"a": "x" * MAX_RECORD}):
            error = self.assertRaises(SettingError, encodeRecord, Provider("echo", "tcp:a:1", meta=meta))
            self.assertIn("meta", str(error))

    def test_endpoints(self) -> None:
        """A record names a place to connect to, and no file, program or other setting of the client."""
        for endpoint in GOOD:
            checkEndpoint(endpoint, KINDS)
        for endpoint in BAD:
            self.assertRaises(RecordError, checkEndpoint, endpoint, KINDS)
        local = KINDS | {"unix"}
        checkEndpoint("unix:/run/x.sock", local)
        for endpoint in ("unix:run/x", "unix:/run/x:timeout=3", "unix:/run/x\0", "unix:"):
            self.assertRaises(RecordError, checkEndpoint, endpoint, local)
