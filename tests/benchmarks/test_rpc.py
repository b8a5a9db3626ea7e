"""The benchmark of calls: its rows, its table, its frames, and one run of getty_tx and of AMP."""

from __future__ import annotations

import json
import shutil
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.loads import LoadError, LoadResult, Scenario
from benchmarks.peers.rpc_load import payloadOf
from benchmarks.rpc import ALONE, HEADING, OURS, PEERS, ROWS, Found, Row, frameOf, line, missing, runAlone, runOnce
from benchmarks.servers import ServerProcess
from getty_tx import rpc
from getty_tx.rpc.messages import Request


class RowTests(SynchronousTestCase):
    """The rows."""

    def test_words(self) -> None:
        """A row is a load, with words in any order."""
        self.assertEqual(Row(Scenario(1, 100, 64)), Row.parse("1x100x64"))
        self.assertEqual(Row(Scenario(2, 3, 4), "text", True, True), Row.parse("2x3x4:deadline:text:async"))
        for wrong in ("1x1", "1x1x1:xml", "1x1x1:text:records", "1x1x1:async:async", "text:1x1x1", ""):
            self.assertRaises(ValueError, Row.parse, wrong)
        self.assertEqual(len(ROWS), len({Row.parse(text) for text in ROWS}))

    def test_peersAreTold(self) -> None:
        """The words and numbers that a peer reads."""
        row = Row.parse("2x3x4:deadline:records:async")
        self.assertEqual(["records", "async"], row.words)
        self.assertEqual(["2", "3", "4", "3.0", "0.5", "1.0"], row.load(0.5, 1.0))
        self.assertEqual("-", Row.parse("2x3x4").load(0.5, 1.0)[3])

    def test_payloads(self) -> None:
        """Bytes have the size, and JSON about."""
        self.assertEqual(1000, len(payloadOf("bytes", 1000)))
        for content in ("text", "records"):
            size = len(json.dumps(payloadOf(content, 1024), separators=(",", ":")))
            self.assertTrue(1024 - 5 <= size < 1024 + 80, (content, size))


class TableTests(SynchronousTestCase):
    """What is printed."""

    def test_line(self) -> None:
        """The best of the runs, compared with another's; a load in C is no client that is measured."""
        first = Found([LoadResult(1000, 1.0, 10.0, 20.0, 30.0, 0.01, 0.02), LoadResult(500, 1.0, 1, 1, 1, 1.0, 1.0)])
        other = Found([LoadResult(500, 1.0, 40.0, 50.0, 60.0, 0.02)])
        made = line("amp", other, first)
        self.assertEqual(["amp", "500", "40.00", "-", "40", "50", "4.00", "0.50"], made.split())
        self.assertEqual(len(HEADING), len(made))
        self.assertEqual(["getty_rpc", "1000", "10.00", "20.00"], line("getty_rpc", first, None).split()[:4])

    def test_failed(self) -> None:
        """A peer that failed has no figures."""
        made = line("amp", Found(problem="Traceback\na call failed: TooLong"), None)
        self.assertEqual("amp FAILED: a call failed: TooLong", " ".join(made.split()))

    def test_missing(self) -> None:
        """What cannot be imported is left out, and one line says so."""
        self.assertEqual({}, missing(OURS, "/nowhere/python"))
        self.patch(sys.modules["benchmarks.rpc"], "PEERS", {**PEERS, "none": ("no_such_package", "none.py")})
        absent = missing(["amp", "none"], sys.executable)
        self.assertEqual(["none"], list(absent))
        self.assertIn("no_such_package", absent["none"])
        self.assertNotIn("\n", absent["none"])


class RunTests(SynchronousTestCase):
    """Short runs on real sockets."""

    def test_frame(self) -> None:
        """The load in C has a request as the second of a session is, and the payload of the reply."""
        row = Row.parse("1x1x100:deadline")
        given = frameOf(row)
        request, end = rpc.TTHeader("bytes").codec().read(None, memoryview(given))
        self.assertIs(Request, type(request))
        value = payloadOf("bytes", 100)
        self.assertEqual(("Echo/say", value, 3.0), (request.name, request.payload, request.timeout))
        self.assertEqual(value, given[end:])
        self.assertNotIn(b"ping", given[:end])

    def test_both(self) -> None:
        """getty_tx and AMP answer every call, with every kind of payload and method."""
        for text in ("2x3x100", "1x2x500:records:async:deadline"):
            for name in OURS:
                result = runOnce(name, Row.parse(text), "/nowhere/python", 0.1, 0.05)
                self.assertTrue(result.messages > 0, (text, name))
                self.assertTrue(result.clientSeconds > 0, (text, name))

    def test_failedCall(self) -> None:
        """A call that fails ends the run: AMP has no value above 65,535 bytes."""
        error = self.assertRaises(LoadError, runOnce, "amp", Row.parse("1x1x65536"), "", 0.1, 0.05)
        self.assertIn("a call failed: TooLong", str(error))

    def test_loadInC(self) -> None:
        """The load in C compares what comes back."""
        if shutil.which("cc") is None:
            raise SkipTest("no C compiler")
        for text in ("2x3x100", "1x2x500:text", "1x2x70000"):
            self.assertTrue(runOnce(ALONE, Row.parse(text), "", 0.1, 0.05).messages > 0, text)
        wrong = frameOf(Row.parse("1x1x100"))
        self.patch(sys.modules["benchmarks.rpc"], "frameOf", lambda row: wrong[:-1] + b"!")
        with ServerProcess(f"{sys.executable} benchmarks/peers/rpc_getty.py serve {{port}} bytes plain") as server:
            error = self.assertRaises(LoadError, runAlone, server, Row.parse("1x1x100"), 0.1, 0.05)
        self.assertEqual("a reply differs from what was expected", str(error))
