"""
Dubbo's wire beside Dubbo for Java: packages that it has written, and what it expects of an end that is idle.

The packages were recorded between it and a client and a server here. It was Apache Dubbo 3.3.2-SNAPSHOT (commit
324c62550ab2) with hessian-lite 4.0.4 (1b8395658149) in Java 17: a ``ServiceConfig`` and a ``ReferenceConfig`` of an
interface ``com.ex.Kinds``, whose methods give their argument back. Those in fastjson2 (2.0.x, ae13900f650a) are from
a provider that prefers it, which is what Dubbo 3.2 does by default.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.hessian import JavaObject, Long, TypedList, TypedMap
from getty_tx.rpc.messages import ErrorReply, GoingAway, Reply
from getty_tx.rpc.wires.dubboerrors import textOfFastjson
from getty_tx.rpc.wires.dubbotypes import GenericName
from tests.support.rpc import Both

KINDS = "com.ex.Kinds"
TEXT_ = "é中😀"
#: Callers that take attachments with the reply.
ATTACHED_ = 1 << 65

# Requests of a consumer in Java.

TEXT = (
    "dabb c2 00 74c5ec14288a6255 000000a5 "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e300474657874124c6a6176612f6c616e672f537472696e673b04c3a9"
    "e4b8adeda0bdedb8804804706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a617661"
    "2d636f6e73756d657209696e746572666163650c636f6d2e65782e4b696e64730776657273696f6e05302e302e300774696d656f"
    "75740531303030305a"
)
LONG = (
    "dabb c2 00 74c5ec14288a6258 00000086 "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e30016a014ae54804706174680c636f6d2e65782e4b696e6473127265"
    "6d6f74652e6170706c69636174696f6e0d6a6176612d636f6e73756d657209696e746572666163650c636f6d2e65782e4b696e64"
    "730776657273696f6e05302e302e300774696d656f75740531303030305a"
)
CAR = (
    "dabb c2 00 74c5ec14288a6259 0000019e "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e30036361720c4c636f6d2f65782f4361723b430a636f6d2e65782e43"
    "6172a006636f756e7473067370617265730464617461046d6164650662794e616d6506776865656c7305636f6c6f72066c657474"
    "65720468616c660474696e7905736d616c6c056d6179626504736f6c6403626967066e756d626572046e616d656073045b696e74"
    "918e49000493e0710d5b636f6d2e65782e576865656c430c636f6d2e65782e576865656c92056d616b65720473697a656101735d"
    "032300ff054a0000018bcfe5687b4801666101615f000005dc5a7a5195614e5fffffff06430c636f6d2e65782e436f6c6f729104"
    "6e616d656205475245454e01c3a9443fb99999a00000008dc6d44e544c00000100000000008904c3a9e4b8adeda0bdedb8804804"
    "706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a6176612d636f6e73756d65720969"
    "6e746572666163650c636f6d2e65782e4b696e64730776657273696f6e05302e302e300774696d656f75740531303030305a"
)
NODE = (
    "dabb c2 00 74c5ec14288a625a 000000b8 "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e30046e6f64650d4c636f6d2f65782f4e6f64653b430b636f6d2e6578"
    "2e4e6f64659303616c6c046e657874046e616d6560795190519001614804706174680c636f6d2e65782e4b696e64731272656d6f"
    "74652e6170706c69636174696f6e0d6a6176612d636f6e73756d657209696e746572666163650c636f6d2e65782e4b696e647307"
    "76657273696f6e05302e302e300774696d656f75740531303030305a"
)
OBJECTS = (
    "dabb c2 00 74c5ec14288a625b 000000d8 "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e30076f626a65637473135b4c6a6176612f6c616e672f4f626a656374"
    "3b56075b6f626a6563749991e55f000001f45401784e4a0000018bcfe5687b430c636f6d2e65782e436f6c6f7291046e616d6560"
    "04424c55452201024804706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a6176612d"
    "636f6e73756d657209696e746572666163650c636f6d2e65782e4b696e64730776657273696f6e05302e302e300774696d656f75"
    "740531303030305a"
)
TOLD = (
    "dabb 82 00 74c5ec14288a625c 0000009b "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e300474656c6c124c6a6176612f6c616e672f537472696e673b017448"
    "04706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a6176612d636f6e73756d657209"
    "696e746572666163650c636f6d2e65782e4b696e64730776657273696f6e05302e302e300774696d656f75740531303030305a"
)
INVOKE = (
    "dabb c2 00 74c5ec14288a625d 000000ec "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e300724696e766f6b6530384c6a6176612f6c616e672f537472696e67"
    "3b5b4c6a6176612f6c616e672f537472696e673b5b4c6a6176612f6c616e672f4f626a6563743b046f76657271075b737472696e"
    "6703696e7471075b6f626a656374954804706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f"
    "6e0d6a6176612d636f6e73756d657209696e746572666163650c636f6d2e65782e4b696e64730776657273696f6e05302e302e30"
    "0767656e6572696304747275650774696d656f75740531303030305a"
)
VERSION = (
    "dabb c2 00 74c5ec14288a625f 0000009f "
    "05322e302e320c636f6d2e65782e4b696e647303312e300474657874124c6a6176612f6c616e672f537472696e673b0176480470"
    "6174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a6176612d636f6e73756d657209696e"
    "746572666163650c636f6d2e65782e4b696e64730776657273696f6e03312e300774696d656f75740531303030300567726f7570"
    "01675a"
)
ATTACHED = (
    "dabb c2 00 74c5ec14288a6260 000000ca "
    "05322e302e320c636f6d2e65782e4b696e647305302e302e3006617474616368124c6a6176612f6c616e672f537472696e673b01"
    "764804706174680c636f6d2e65782e4b696e64731272656d6f74652e6170706c69636174696f6e0d6a6176612d636f6e73756d65"
    "72046c697374711a6a6176612e7574696c2e4172726179732441727261794c6973749109696e746572666163650c636f6d2e6578"
    "2e4b696e6473047573657201c3a90776657273696f6e05302e302e30016ee70774696d656f75740531303030305a"
)

# Replies and events of a provider in Java.

TEXT_REPLY = "dabb 02 14 0000000000000001 0000001b 9404c3a9e4b8adeda0bdedb8804805647562626f05322e302e325a"
NULL_REPLY = "dabb 02 14 0000000000000002 0000000f 954805647562626f05322e302e325a"
LONG_REPLY = "dabb 02 14 0000000000000003 00000010 94e54805647562626f05322e302e325a"
NODE_REPLY = (
    "dabb 02 14 0000000000000005 00000033 "
    "94430b636f6d2e65782e4e6f64659303616c6c046e657874046e616d6560795190519001614805647562626f05322e302e325a"
)
ATTACHED_REPLY = (
    "dabb 02 14 0000000000000007 00000038 "
    "940a7b696e7075743d39387d48066e756d626572e705647562626f05322e302e32067265706c79320472322d76057265706c7903"
    "722d765a"
)
THROWN = (
    "dabb 02 14 0000000000000008 0000015a "
    "934317636f6d2e65782e536f6c644f7574457863657074696f6e951473757070726573736564457863657074696f6e730a737461"
    "636b54726163650563617573650d64657461696c4d657373616765066e756d62657260701f6a6176612e7574696c2e436f6c6c65"
    "6374696f6e7324456d7074794c697374711c5b6a6176612e6c616e672e537461636b5472616365456c656d656e74431b6a617661"
    "2e6c616e672e537461636b5472616365456c656d656e749806666f726d61740a6c696e654e756d6265720866696c654e616d650a"
    "6d6574686f644e616d650e6465636c6172696e67436c6173730d6d6f64756c6556657273696f6e0a6d6f64756c654e616d650f63"
    "6c6173734c6f616465724e616d6561909c0e4b696e6473496d706c2e6a617661046661696c10636f6d2e65782e4b696e6473496d"
    "706c4e4e4e519004c3a9e4b8adeda0bdedb880974805647562626f05322e302e325a"
)
MOMENT_REPLY = (
    "dabb 02 14 000000000000000a 00000100 "
    "9443303b636f6d2e616c69626162612e636f6d2e63617563686f2e6865737369616e2e696f2e6a617661382e4c6f63616c446174"
    "6554696d6548616e646c65920474696d65046461746560433037636f6d2e616c69626162612e636f6d2e63617563686f2e686573"
    "7369616e2e696f2e6a617661382e4c6f63616c54696d6548616e646c6594046e616e6f067365636f6e64066d696e75746504686f"
    "75726194939291433037636f6d2e616c69626162612e636f6d2e63617563686f2e6865737369616e2e696f2e6a617661382e4c6f"
    "63616c4461746548616e646c659303646179056d6f6e7468047965617262ad92cfe84805647562626f05322e302e325a"
)
TREE_REPLY = (
    "dabb 02 14 000000000000000b 00000026 944d116a6176612e7574696c2e547265654d61700161915a4805647562626f05322e302e325a"
)
BAD_IN_FASTJSON = (
    "dabb 17 28 000000000000000a 00000057 "
    "000000537938504661696c20746f206465636f646520726571756573742064756520746f3a20527063496e766f636174696f6e20"
    "5b6d6574686f644e616d653d782c20706172616d6574657254797065733d6e756c6c5d"
)
LEAVING_IN_FASTJSON = "dabb b7 00 923f2632e6a62edf 00000006 000000024a52"


def end() -> Any:
    """As much of a session as the codec looks at."""
    return SimpleNamespace(maxMsgLen=1 << 22, provider=None, connection=SimpleNamespace(kind="TCP_CLIENT"))


def read(data: str, wire: Any = None) -> Any:
    """The message of a package."""
    package = bytes.fromhex(data)
    message, length = (wire or rpc.Dubbo()).codec().read(end(), memoryview(package))
    assert length == len(package)
    return message


class RequestTests(SynchronousTestCase):
    """What consumers in Java ask."""

    def test_values(self) -> None:
        """Texts with characters of all lengths, and a long, which it writes as such."""
        message = read(TEXT)
        self.assertEqual((message.name, message.payload), (f"{KINDS}/text", [TEXT_]))
        self.assertEqual((message.timeout, message.metadata), (10.0, {"remote.application": "java-consumer"}))
        [number] = read(LONG).payload
        self.assertEqual((type(number), number), (Long, 5))

    def test_objects(self) -> None:
        """An object with fields of all types; what is in it twice is one object; and one that holds itself."""
        [car] = read(CAR).payload
        self.assertEqual(car.name, "com.ex.Car")
        self.assertIs(car.fields["wheels"][0], car.fields["byName"]["f"])
        wheels, made = car.fields["wheels"], datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
        self.assertEqual(
            [wheel.fields for wheel in wheels], [{"maker": "a", "size": 1.5}, {"maker": None, "size": -0.25}]
        )
        self.assertEqual(car.fields["made"], made)
        self.assertEqual(car.fields["color"], JavaObject("com.ex.Color", {"name": "GREEN"}))
        self.assertEqual((car.fields["name"], car.fields["letter"], car.fields["maybe"]), (TEXT_, "é", None))
        self.assertEqual((car.fields["number"], car.fields["small"], car.fields["tiny"]), (-7, -300, -3))
        self.assertEqual((car.fields["big"], car.fields["data"], car.fields["sold"]), (1 << 40, b"\0\xff\5", True))
        self.assertEqual((car.fields["counts"].type, car.fields["counts"]), ("[int", [1, -2, 300000]))
        self.assertEqual(car.fields["spares"].type, "[com.ex.Wheel")
        [node] = read(NODE).payload
        self.assertIs(node.fields["next"], node)
        self.assertIs(node.fields["all"][0], node)
        [values] = read(OBJECTS).payload
        self.assertEqual(values, [1, 5, 0.5, True, "x", None, made.replace(microsecond=123000), values[7], b"\1\2"])
        self.assertEqual((values[7].name, values[7].fields), ("com.ex.Color", {"name": "BLUE"}))

    def test_kindsOfCalls(self) -> None:
        """One-way, by ``$invoke``, and of a version and a group, which are the wire's."""
        self.assertTrue(read(TOLD).isOneWay)
        message = read(INVOKE)
        self.assertIs(type(message.name), GenericName)
        self.assertEqual((message.name, message.payload, message.isOneWay), (f"{KINDS}/over", [5], False))
        self.assertEqual(read(VERSION, rpc.Dubbo({KINDS: "1.0"}, {KINDS: "g"})).payload, ["v"])
        for wire in (rpc.Dubbo({KINDS: "2.0"}), rpc.Dubbo(groups={KINDS: "h"})):
            self.assertIsInstance(read(VERSION, wire).payload, rpc.NoSuchMethodError)
        # 0.0.0 is no version, also in the attachments.
        self.assertEqual(read(LONG, rpc.Dubbo({KINDS: ""}, {KINDS: ""})).payload, [5])

    def test_attachments(self) -> None:
        """Texts and numbers are metadata; a list is not."""
        message = read(ATTACHED)
        self.assertEqual(message.metadata, {"remote.application": "java-consumer", "user": "é", "n": "7"})


class ReplyTests(SynchronousTestCase):
    """What providers in Java answer."""

    def test_values(self) -> None:
        """Values are read, and written in the same bytes."""
        wire = rpc.Dubbo()
        for number, (data, value) in enumerate(((TEXT_REPLY, TEXT_), (NULL_REPLY, None), (LONG_REPLY, Long(5))), 1):
            message = read(data)
            self.assertEqual((type(message), message.id, message.payload), (Reply, number, value))
            reply = Reply(number | ATTACHED_, wire.payload.encodeResult(f"{KINDS}/x", value))
            self.assertEqual(wire.codec().write(end(), reply), bytes.fromhex(data))
        node = read(NODE_REPLY).payload
        self.assertIs(node.fields["next"], node)
        tree = read(TREE_REPLY).payload
        self.assertEqual((type(tree), tree.type, tree), (TypedMap, "java.util.TreeMap", {"a": 1}))
        moment = read(MOMENT_REPLY).payload
        self.assertEqual(moment.fields["date"].fields, {"day": 29, "month": 2, "year": 2024})
        self.assertEqual(moment.fields["time"].fields, {"nano": 4, "second": 3, "minute": 2, "hour": 1})

    def test_attachments(self) -> None:
        """Those of ``getServerResponseContext`` are metadata."""
        message = read(ATTACHED_REPLY)
        self.assertEqual(message.metadata, {"number": "7", "reply": "r-v", "reply2": "r2-v"})

    def test_exception(self) -> None:
        """Its class, its message, its own fields, and where it was raised."""
        message = read(THROWN)
        self.assertEqual((type(message), message.code, message.text), (ErrorReply, "com.ex.SoldOutException", TEXT_))
        fields = message.details.fields
        self.assertEqual(fields["number"], 7)
        # That it has no cause, Java says so.
        self.assertIs(fields["cause"], message.details)
        self.assertEqual(type(fields["stackTrace"]), TypedList)
        self.assertEqual(fields["stackTrace"][0].fields["lineNumber"], 12)

    def test_fastjson(self) -> None:
        """A provider that prefers fastjson2 has its word heard: of errors, and that it goes away."""
        message = read(BAD_IN_FASTJSON)
        self.assertEqual((message.code, message.details), ("payload", 40))
        why = "Fail to decode request due to: RpcInvocation [methodName=x, parameterTypes=null]"
        self.assertEqual(message.text, why)
        self.assertIsInstance(read(LEAVING_IN_FASTJSON), GoingAway)

    def test_textsOfFastjson(self) -> None:
        """Texts of all lengths and characters, as ``FastJson2ObjectOutput.writeUTF`` writes them; and what is none."""
        for head, text in (
            ("0000000149", ""),
            ("000000024ae9", "é"),
            ("0000003f79383c" + "e9" * 60, "é" * 60),
            ("00000bbc79440bb8" + "78" * 3000, "x" * 3000),
            ("000493e67948000493e0" + "78" * 300_000, "x" * 300_000),
            ("0000003f7c383c" + "2d4e" * 30, "中" * 30),
            ("000000067a04f09f9880", "😀"),
        ):
            data = bytes.fromhex(head)
            self.assertEqual(textOfFastjson(data), text)
            self.assertIs(textOfFastjson(data[:-1]), None)
        # Null, an int, a length below 0, lengths that are cut off, and nothing.
        for head in ("00000001af", "0000000105", "0000000379300f", "0000000179", "000000027938", "", "0000"):
            self.assertIs(textOfFastjson(bytes.fromhex(head)), None)


class IdleTests(SynchronousTestCase):
    """A session over which no call was made."""

    def test_heartbeats(self) -> None:
        """
        The end that has dialled sends heartbeats, and the other does not.

        A provider in Java closes a session over which nothing came for three of its intervals.
        """
        both = Both({}, wire=rpc.Dubbo(), client={"pingInterval": 10.0}, server={"pingInterval": 3.0})
        heard = []
        for _ in range(25):
            both.clock.advance(1.0)
            both.pair.flush()
            heard.append((both.server.session.stats.readPkgs, both.client.session.stats.readPkgs))
        self.assertEqual(set(heard[:9]), {(0, 0)})
        # A heartbeat and the answer to one of the server; and the server's answer, and that one.
        self.assertEqual(heard[10], (2, 2))
        self.assertFalse(both.client.session.isClosed)
