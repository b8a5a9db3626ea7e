"""Dubbo's layout: nodes as Java and Go write them, and ours."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError
from getty_tx.registry.zookeeper.dubbo import DubboLayout, decodeUrl, encodeUrl

SERVICE = "com.foo.DemoService"

#: As Dubbo 2.7 for Java writes it: sorted parameters, the whole URL encoded by URLEncoder.
JAVA = (
    "dubbo%3A%2F%2F192.168.0.102%3A20881%2Fcom.foo.DemoService%3Fanyhost%3Dtrue%26application%3Dshop%26"
    "deprecated%3Dfalse%26dubbo%3D2.0.2%26dynamic%3Dtrue%26generic%3Dfalse%26interface%3Dcom.foo.DemoService%26"
    "methods%3DsayHello%2CsayHelloAsync%26pid%3D20828%26release%3D2.7.5%26side%3Dprovider%26timestamp%3D1624334801215"
)

#: As dubbo-go writes it: url.QueryEscape of the same; empty parameters are left out, the category is there.
GO = (
    "tri%3A%2F%2F10.0.0.7%3A20000%2Fcom.foo.DemoService%3Fanyhost%3Dtrue%26app.version%3D3.0.0%26application%3Ddubbo.io%26"
    "bean.name%3DGreeter%26category%3Dproviders%26group%3Dblue%26interface%3Dcom.foo.DemoService%26methods%3DSayHello%26"
    "registry.role%3D3%26side%3Dprovider%26timestamp%3D1690000000%26version%3D1.0.0%26warmup%3D100%26weight%3D50"
)

_names = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=20)
_hosts = st.sampled_from(["10.0.0.5", "a.example", r"\:\:1", r"fe80\:\:2"])


def url(rest: str, host: str = "h:1", protocol: str = "dubbo") -> str:
    """A node's name that is encoded no further than it has to be."""
    return f"{protocol}://{host}/{SERVICE}?{rest}".replace("/", "%2F").replace(":", "%3A")


class DecodeTests(SynchronousTestCase):
    def test_java(self) -> None:
        provider = decodeUrl(JAVA, SERVICE)
        assert provider is not None
        self.assertEqual(
            (provider.service, provider.endpoint, provider.id, provider.group, provider.version, provider.weight),
            (SERVICE, "tcp:192.168.0.102:20881", "tcp:192.168.0.102:20881", "", "", 100),
        )
        self.assertEqual(provider.meta["methods"], "sayHello,sayHelloAsync")
        self.assertEqual(provider.meta["timestamp"], "1624334801215")
        self.assertNotIn("protocol", provider.meta)

    def test_go(self) -> None:
        provider = decodeUrl(GO, SERVICE)
        assert provider is not None
        self.assertEqual((provider.group, provider.version, provider.weight), ("blue", "1.0.0", 50))
        self.assertEqual(provider.id, "tcp:10.0.0.7:20000?group=blue&version=1.0.0")
        self.assertEqual(provider.meta["protocol"], "tri")

    def test_writtenAgain(self) -> None:
        """What was read is written as it was."""
        for name in (JAVA, GO):
            provider = decodeUrl(name, SERVICE)
            assert provider is not None
            self.assertEqual(encodeUrl(provider), name)

    def test_noProvider(self) -> None:
        for name in (
            url("enabled=false"),
            url("category=configurators"),
            url("side=consumer"),
            url("", protocol="override"),
            "empty%3A%2F%2F0.0.0.0%2Fcom.foo.DemoService%3Fcategory%3Dproviders",
            "consumer%3A%2F%2F10.0.0.1%2Fcom.foo.DemoService",
            url("interface=com.foo.Other"),
        ):
            self.assertIsNone(decodeUrl(name, SERVICE), name)

    def test_pathWithoutInterface(self) -> None:
        self.assertIsNotNone(decodeUrl(url("methods=a"), SERVICE))
        self.assertIsNone(decodeUrl(url("methods=a"), "com.foo.Other"))

    def test_pathOfItsOwn(self) -> None:
        provider = decodeUrl(f"dubbo://h:1/x%2Fy?interface={SERVICE}".replace("/", "%2F"), SERVICE)
        assert provider is not None
        self.assertEqual(provider.meta["path"], "x/y")

    def test_noVersion(self) -> None:
        provider = decodeUrl(url("version=0.0.0&group="), SERVICE)
        assert provider is not None
        self.assertEqual((provider.version, provider.group, provider.id), ("", "", "tcp:h:1"))

    def test_weights(self) -> None:
        for text, weight in (("0", 0), ("-1", 0), ("5000", 1000), ("x", 100), ("", 100), ("7", 7)):
            provider = decodeUrl(url(f"weight={text}"), SERVICE)
            assert provider is not None
            self.assertEqual(provider.weight, weight)

    def test_passwordIsNotKept(self) -> None:
        provider = decodeUrl(url("", "me:secret@h:1"), SERVICE)
        self.assertNotIn("secret", repr(provider))

    def test_space(self) -> None:
        provider = decodeUrl(url("owner=a+b&x=a%252Cb"), SERVICE)
        assert provider is not None
        self.assertEqual((provider.meta["owner"], provider.meta["x"]), ("a b", "a,b"))

    def test_garbage(self) -> None:
        for name in (
            "",
            "x",
            "dubbo://",
            url("", "h:0"),
            url("", "h"),
            url("", "a b:1"),
            "d" * 70000,
            url("group=%07"),
        ):
            self.assertRaises(RecordError, decodeUrl, name, SERVICE)

    @given(st.text(max_size=80))
    def test_anything(self, name: str) -> None:
        """A provider, none, or one error."""
        with contextlib.suppress(RecordError):
            decodeUrl(name, SERVICE)


class EncodeTests(SynchronousTestCase):
    def test_ours(self) -> None:
        provider = Provider(SERVICE, "tcp:10.0.0.5:20880", meta={"methods": "a,b", "warmup": 100, "tag": None})
        self.assertEqual(
            encodeUrl(provider, 1700000000000),
            "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fcom.foo.DemoService%3Fanyhost%3Dtrue%26application%3Dgetty_tx%26"
            "interface%3Dcom.foo.DemoService%26methods%3Da%2Cb%26side%3Dprovider%26timestamp%3D1700000000000%26warmup%3D100",
        )

    def test_leaving(self) -> None:
        self.assertIn("weight%3D0", encodeUrl(Provider("a", "tcp:h:1", state="leaving")))

    def test_otherKinds(self) -> None:
        for endpoint in ("tls:h:1", "ws:h:1", "tcp:h"):
            self.assertRaisesRegex(SettingError, "layout=dubbo", encodeUrl, Provider("a", endpoint))

    def test_protocolAndPath(self) -> None:
        provider = Provider(SERVICE, "tcp:h:1", meta={"protocol": "tri", "path": "x/y"})
        self.assertTrue(encodeUrl(provider).startswith("tri%3A%2F%2Fh%3A1%2Fx%2Fy%3F"))
        provider = Provider(SERVICE, "tcp:h:1", meta={"note": "two\nlines"})
        read = decodeUrl(encodeUrl(provider), SERVICE)
        assert read is not None
        self.assertEqual(read.meta["note"], "two\nlines")
        for meta in ({"protocol": "a b"}, {"path": "a?b"}):
            self.assertRaisesRegex(SettingError, "meta=", encodeUrl, Provider(SERVICE, "tcp:h:1", meta=meta))

    @given(
        _hosts,
        st.integers(1, 65535),
        st.just("") | _names,
        st.just("") | _names.filter(lambda text: text != "0.0.0"),
        st.just("") | _names,
        st.integers(0, 1000),
        st.dictionaries(_names.map(lambda text: "x" + text), _names, max_size=3),
    )
    def test_roundTrip(
        self, host: str, port: int, group: str, version: str, zone: str, weight: int, meta: dict[str, Any]
    ) -> None:
        provider = Provider(SERVICE, f"tcp:{host}:{port}", "", group, version, zone, weight, meta=meta)
        name = encodeUrl(provider)
        self.assertNotIn("/", name)
        read = decodeUrl(name, SERVICE)
        assert read is not None
        self.assertEqual(provider.but(id=read.id, meta=read.meta), read)
        self.assertEqual({**read.meta, **meta}, read.meta)
        self.assertEqual(encodeUrl(read), name)


class LayoutTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.layout = DubboLayout("/dubbo", 5)

    def test_directory(self) -> None:
        self.assertEqual(self.layout.directory("a.B$C"), "/dubbo/a.B%24C/providers")
        self.assertEqual(self.layout.serviceOf("a.B%24C"), "a.B$C")

    def test_newestCounts(self) -> None:
        """A provider that was started again has two nodes until its first session has ended."""
        names = [url(f"timestamp={at}&weight={at}") for at in (3, 9, 4)] + ["rubbish", url("enabled=false")]
        nodes = {name: self.layout.record(SERVICE, name, b"") for name in names}
        records = self.layout.records(SERVICE, nodes)
        self.assertEqual(records["tcp:h:1"].weight, 9)
        self.assertIsInstance(records["rubbish"], RecordError)
        self.assertEqual(len(records), 2)

    def test_sameProvider(self) -> None:
        """Those with another group or address are others."""
        provider = Provider(SERVICE, "tcp:h:1", "mine")
        names = [url("timestamp=1"), url("group=a"), url("", "h:2"), "rubbish", self.layout.node(provider)[0]]
        self.assertEqual(self.layout.sameProvider(SERVICE, names, provider), [names[0], names[4]])
        provider = Provider(SERVICE, r"tcp:\:\:1:80")
        name = self.layout.node(provider)[0]
        self.assertEqual(self.layout.sameProvider(SERVICE, [name], provider), [name])
