"""Hessian beside other implementations: python-hessian's reader, npm's hessian.js, and Caucho's own in Java."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from getty_tx.rpc import hessian
from getty_tx.rpc.hessian import JavaObject, Long, TypedList, TypedMap
from tests.support.hessian import isSame, longs, objectsOf, randomValue, unshared
from tests.support.long import examples, onlyLong

HERE = Path(__file__).parent / "peers"
NODE_MODULES = HERE.parents[2] / "build" / "npm" / "node_modules"

#: Where Debian's libhessian-java has it; another place is named by HESSIAN_JAR.
JAR = Path(os.environ.get("HESSIAN_JAR", "/usr/share/java/hessian.jar"))

#: Those of golden values that Java and JavaScript write as well.
DATES = [datetime.fromtimestamp(894621091, UTC), datetime.fromtimestamp(894621060, UTC)]


# What python-hessian reads. Not: strings from 1,024 units on (it loses the characters from z to DEL in them, takes
# the last chunk for one with a length of two bytes, and breaks surrogates apart) and surrogates that are alone; objects
# as keys; references where a list was empty (which it does not count) or has a length (they are to another list);
# dates to the millisecond in far years.
_near = st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda date: date.replace(microsecond=date.microsecond // 1000 * 1000)
)
_scalars = (
    st.none()
    | st.booleans()
    | longs
    | st.integers(-300_000, 300_000)
    | longs.map(Long)
    | st.floats(allow_nan=False)
    | st.integers(-40_000, 40_000).map(float)
    | st.integers(-(2**31), 2**31 - 1).map(lambda number: number / 1000)
    | _near
    | st.text(max_size=40)
    | st.text("ab\u00e9\u4e2d\U0001f600z~", max_size=500)
    | st.binary(max_size=40)
    | st.binary(min_size=1000, max_size=1100)
)
_names = st.text("abc.$\u00e9", max_size=5)
_readable = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=10)
        | st.dictionaries(st.text(max_size=40) | longs | st.booleans(), inner, max_size=5)
        | objectsOf(inner)
        | st.builds(TypedList, _names, st.lists(inner, max_size=10))
        | st.builds(TypedMap, _names, st.dictionaries(st.text(max_size=5), inner, max_size=5))
    ),
    max_leaves=30,
)


class PythonHessianTests(SynchronousTestCase):
    """python-hessian 1.2 reads what is written here."""

    def setUp(self) -> None:
        if find_spec("pyhessian") is None or find_spec("pyhessian.parser") is None:
            raise SkipTest("python-hessian is not installed")

    def readBy(self, data: bytes) -> Any:
        """What it reads: the value of a reply."""
        from pyhessian.parser import Parser

        return Parser().parse_string(b"H\x02\x00R" + data).value

    def plain(self, value: Any) -> Any:
        """Values of either, made comparable: it has tuples, naive dates, and a class for each class."""
        from pyhessian import protocol

        if isinstance(value, (list, tuple)):
            return [self.plain(one) for one in value]
        if isinstance(value, dict):
            return {key: self.plain(one) for key, one in value.items()}
        if isinstance(value, JavaObject):
            return value.name, self.plain(value.fields)
        if isinstance(value, protocol.Object):
            state = value.__getstate__()
            return value._hessian_factory_args[0], self.plain(state)
        if isinstance(value, protocol.Binary):
            return value.value
        if isinstance(value, datetime):
            # It has rounded a float.
            return (
                value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=500)
            ) // timedelta(milliseconds=1)
        return value

    @settings(max_examples=examples(300))
    @given(_readable)
    def test_agrees(self, value: Any) -> None:
        """It reads random values as they are."""
        self.assertEqual(self.plain(self.readBy(hessian.encode(value))), self.plain(value))

    def test_cannot(self) -> None:
        """What it cannot read, of what is written: once it can, it belongs to the random values."""
        for value in ("z" * 1024, "a" * 32_800, "\U0001f600" * 600, "\ud83d"):
            try:
                read = self.readBy(hessian.encode(value))
            except Exception:
                continue
            self.assertFalse(read == value, "it reads long strings now")
        empty: list[Any] = []
        shared = [1]
        with self.assertRaises(IndexError):
            self.readBy(hessian.encode([empty, shared, shared]))


class PeerCase(SynchronousTestCase):
    """A program that answers each line of its input with one."""

    command: list[str] = []
    environment: dict[str, str] = {}

    def answers(self, lines: list[str]) -> list[str]:
        """What it says to the lines."""
        done = subprocess.run(
            self.command,
            input="".join(line + "\n" for line in lines),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        found = done.stdout.splitlines()
        self.assertEqual(len(found), len(lines), done.stderr)
        for line in found:
            self.assertNotIn("error", line)
        return found

    def decoded(self, line: str) -> list[Any]:
        """The values of an answer."""
        return hessian.decode(bytes.fromhex(line))


class HessianJSTests(PeerCase):
    """npm's hessian.js."""

    def setUp(self) -> None:
        if shutil.which("node") is None:
            raise SkipTest("there is no node (Debian: apt-get install nodejs)")
        self.environment = {"NODE_PATH": os.pathsep.join([str(NODE_MODULES), os.environ.get("NODE_PATH", "")])}
        self.command = ["node", str(HERE / "hessian.js")]
        finds = ["node", "-e", "require.resolve('hessian.js')"]
        if subprocess.run(finds, env={**os.environ, **self.environment}, capture_output=True).returncode:
            raise SkipTest("there is no hessian.js: npm install --prefix build/npm hessian.js@2.11.0")

    def test_reads(self) -> None:
        """It reads random values, and what it writes then is the same; but it writes few references."""
        source = random.Random(19)
        given_ = [[randomValue(source) for _ in range(5)] for _ in range(30)]
        lines = [json.dumps({"echo": hessian.encode(*several).hex(), "count": len(several)}) for several in given_]
        for several, line in zip(given_, self.answers(lines), strict=True):
            self.assertTrue(isSame(unshared(several), unshared(self.decoded(line))))

    def test_writes(self) -> None:
        """What it writes."""
        shared = {"a": 1}
        cases: dict[str, list[Any]] = {
            "numbers": [0, -17, 2048, 262144, 2**40, Long(16), 1.0, 12.25, 0.1, math.pi],
            "others": [None, True, False, *DATES, bytes(5000), b"abc"],
            "strings": ["", "a", "\u00e9" * 40, "\u4e2d" * 2000, "a\U0001f600" * 30_000],
            "collections": [
                [1, 2],
                TypedList("[int", [1, 2, 3]),
                TypedList("java.util.LinkedList", ["x"]),
                {"a": [], "b": {}},
                ["x"] * 20,
            ],
            "objects": [
                JavaObject("com.ex.Car", {"color": "red", "doors": 4}),
                JavaObject("com.ex.Car", {"color": "blue", "doors": 2}),
                JavaObject("com.ex.Pair", {"left": shared, "right": shared}),
            ],
        }
        lines = self.answers([json.dumps({"case": name}) for name in cases])
        for (name, expected), line in zip(cases.items(), lines, strict=True):
            self.assertTrue(isSame(expected, self.decoded(line)), (name, repr(self.decoded(line))[:300]))


@onlyLong
class JavaTests(PeerCase):
    """Caucho's Hessian in Java."""

    def setUp(self) -> None:
        if shutil.which("java") is None or shutil.which("javac") is None:
            raise SkipTest("there is no JDK (Debian: apt-get install default-jdk-headless)")
        if not JAR.exists():
            raise SkipTest("there is no hessian.jar (Debian: apt-get install libhessian-java)")
        opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util")]
        self.command = ["java", *opened, "-cp", str(JAR), str(HERE / "HessianPeer.java")]

    def test_both(self) -> None:
        """It reads random values, and what it writes then is the same; so is what it writes of its own."""
        source = random.Random(19)
        given_ = [[randomValue(source, name="HessianPeer$Node") for _ in range(5)] for _ in range(200)]
        node = JavaObject("HessianPeer$Node", {"number": Long(7), "name": "n", "next": None})
        node.fields["next"] = [node, node]
        colours = [JavaObject("HessianPeer$Colour", {"name": name}) for name in ("RED", "BLUE")]
        sorted_ = TypedMap("java.util.TreeMap", {"a": 1})
        cases: dict[str, list[Any]] = {
            "numbers": [
                *(0, -17, 2048, 262144, Long(0), Long(16), Long(-2049), 2**31, 2**40),
                *(0.0, 1.0, -128.0, 12.25, math.pi, 1e300),
            ],
            "others": [None, True, False, *DATES, bytes(5000), bytes(3)],
            "strings": ["", "a", "\u00e9" * 40, "\u4e2d" * 2000, "a\U0001f600" * 30_000, "\ud83d"],
            "collections": [
                [1, 2],
                TypedList("[int", [1, 2, 3]),
                TypedList("[string", ["a"]),
                TypedList("java.util.LinkedList", [Long(1)]),
                sorted_,
                {1: "x"},
                TypedList("[long", [Long(0)] * 20),
            ],
            "enums": [*colours, [colours[0]]],
            "cycle": [node, node],
        }
        lines = [f"echo {hessian.encode(*several).hex()}" for several in given_]
        found = self.answers([*lines, *cases, "exception"])
        for several, line in zip(given_, found, strict=False):
            self.assertTrue(isSame(several, self.decoded(line)))
        for (name, expected), line in zip(cases.items(), found[len(lines) :], strict=False):
            self.assertTrue(isSame(expected, self.decoded(line)), (name, repr(self.decoded(line))[:300]))
        self.assertEqual(found[len(lines)], hessian.encode(*cases["numbers"]).hex())
        self.assertEqual(found[len(lines) + 2], hessian.encode(*cases["strings"]).hex())
        (raised,) = self.decoded(found[-1])
        self.assertEqual(raised.name, "java.lang.IllegalStateException")
        self.assertEqual(raised.fields["detailMessage"], "no")
        self.assertEqual(raised.fields["cause"].fields["detailMessage"], "why")
