"""The benchmark of calls: its rows, its table, its frames, and one run of each peer that is there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import rpc as benchmark
from benchmarks.figures import Figures
from benchmarks.loads import LoadError, LoadResult, Scenario
from benchmarks.peers.rpc_load import Load, given, newLoop, payloadOf, slowing
from benchmarks.rpc import (
    ALONE,
    HEADING,
    OURS,
    PEERS,
    ROWS,
    WELL_HEADING,
    Found,
    Row,
    frameOf,
    line,
    missing,
    runAlone,
    runOnce,
    versions,
    wellness,
)
from benchmarks.servers import ServerProcess
from getty_tx import rpc
from getty_tx.rpc.messages import Request
from tests.support.long import onlyLong

if TYPE_CHECKING:
    from collections.abc import Callable


class RowTests(SynchronousTestCase):
    """The rows."""

    def test_words(self) -> None:
        """A row is a load, with words in any order."""
        self.assertEqual(Row(Scenario(1, 100, 64)), Row.parse("1x100x64"))
        self.assertEqual(Row(Scenario(2, 3, 4), "text", True, True), Row.parse("2x3x4:deadline:text:async"))
        self.assertEqual(Row(Scenario(2, 3, 4), isPool=False), Row.parse("2x3x4:clients"))
        for wrong in ("1x1", "1x1x1:xml", "1x1x1:text:records", "1x1x1:async:async", "text:1x1x1", ""):
            self.assertRaises(ValueError, Row.parse, wrong)
        self.assertEqual(len(ROWS), len({Row.parse(text) for text in ROWS}))

    def test_peersAreTold(self) -> None:
        """The words and numbers that a peer reads."""
        row = Row.parse("2x3x4:deadline:records:async")
        self.assertEqual(["records", "async"], row.words)
        self.assertEqual(["2", "3", "4", "3.0", "0.5", "1.0", "pool"], row.load(0.5, 1.0))
        load = Load(1, "bytes", row.load(0.5, 1.0))
        self.assertEqual(
            (2, 3, 3.0, 0.5, 1.0, True), (load.connections, load.depth, load.timeout, 0.5, 1.0, load.isPool)
        )
        load = Load(1, "bytes", Row.parse("2x3x4:clients").load(0.5, 1.0))
        self.assertEqual((None, False), (load.timeout, load.isPool))

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
        self.assertEqual(
            {"problem": "a call failed: TooLong"}, Found(problem="Traceback\na call failed: TooLong").figures
        )

    def test_figures(self) -> None:
        """What is kept of the runs of a peer."""
        found = Found([LoadResult(1000, 1.0, 10.0, 20.0, 30.0, 0.01, 0.02), LoadResult(500, 1.0, 20, 40, 1, 1.0, 1.0)])
        self.assertEqual({"rate": 1000, "server": 10.0, "client": 20.0, "p50": 15, "p99": 30}, found.figures)

    def test_versions(self) -> None:
        """The packages are named as they are installed, each from where its peer runs."""
        found = versions(["getty_rpc", "amp", "thriftpy2"], sys.executable)
        self.assertEqual(["getty_rpc", "amp", "thriftpy2", "asyncio"], list(found))
        self.assertRegex(found["amp"], r"^Twisted \d+\.\d+")
        self.assertEqual(["getty_rpc", "amp"], list(versions(OURS, "/nowhere/python")))

    def test_missing(self) -> None:
        """What cannot be imported is left out, and one line says so."""
        self.assertEqual({}, missing(OURS, "/nowhere/python"))
        self.patch(sys.modules["benchmarks.rpc"], "PEERS", {**PEERS, "none": ("no_such_package", "none.py")})
        absent = missing(["amp", "none"], sys.executable)
        self.assertEqual(["none"], list(absent))
        self.assertIn("no_such_package", absent["none"])
        self.assertNotIn("\n", absent["none"])


class LoadTests(SynchronousTestCase):
    """The callers of the peers whose calls block."""

    def load(self, depth: int = 1) -> Load:
        """A load that ends after 10 seconds, if nothing ends it before."""
        return Load(1, "bytes", ["1", str(depth), "10", "-", "0", "10", "pool"])

    def run_(self, load: Load, begin: Callable[[Any], Any], finish: Callable[[Any], Any]) -> tuple[int, str, str]:
        """The status, and what is printed."""
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
            load.inThreads([(begin, finish)])
            return load.report(), printed.getvalue(), errors.getvalue()

    def test_inFlight(self) -> None:
        """As many calls have begun as there are callers, and the oldest is finished first."""
        load, begun, open = self.load(3), [], []

        def begin(value: bytes) -> tuple[int, bytes]:
            begun.append(len(begun))
            open.append(begun[-1])
            return begun[-1], value

        def finish(call: tuple[int, bytes]) -> bytes:
            self.assertEqual(3, len(open))
            self.assertEqual(open.pop(0), call[0])
            if len(begun) == 30:
                load._stop = 0.0
            return call[1]

        status, printed, errors = self.run_(load, begin, finish)
        self.assertEqual((0, ""), (status, errors))
        measuring, result = printed.splitlines()
        self.assertEqual("measuring", measuring)
        # The first one ends the warm-up.
        self.assertEqual(27, json.loads(result)["messages"])
        self.assertEqual(set(LoadResult.__dataclass_fields__) - {"cpuSeconds", "said"}, set(json.loads(result)))

    def test_inLine(self) -> None:
        """Where a connection has one call at a time, the others wait for it, and their round trips say so."""
        load, calls = self.load(10), []

        def finish(value: bytes) -> bytes:
            calls.append(time.perf_counter())
            if len(calls) == 100:
                load._stop = 0.0
            return value

        self.assertEqual(0, self.run_(load, given, finish)[0])
        # Each but the first ten begins when it is ten calls before its turn.
        self.assertGreaterEqual(load._trips[50], calls[51] - calls[42])

    def test_failures(self) -> None:
        """A call that fails, or has another answer, ends the load."""
        failing: list[tuple[Callable[[Any], Any], str]] = [
            (lambda value: value + b"!", "a reply differs from what was sent\n"),
            (lambda value: 1 // 0, "a call failed: ZeroDivisionError: integer division or modulo by zero\n"),
        ]
        for finish, text in failing:
            self.assertEqual((1, "", text), self.run_(self.load(), given, finish))

    def test_slowing(self) -> None:
        """The last quarter is compared with the first."""
        self.assertEqual(2.0, slowing([1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0]))
        self.assertEqual(1.0, slowing([3.0]))

    def test_loop(self) -> None:
        """A loop that asyncio can run, whether uvloop is there or not."""
        with asyncio.Runner(loop_factory=newLoop) as runner:
            self.assertEqual(1, runner.run(asyncio.sleep(0, 1)))


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

    def test_dubboFrame(self) -> None:
        """On Dubbo's wire it is a request, and behind it the body of the reply."""
        for content, value in (("dubbo", payloadOf("bytes", 100)), ("dubbotext", "word " * 20)):
            given, wire = frameOf(Row.parse(f"1x1x100:{content}")), rpc.Dubbo()
            request, end = wire.codec().read(None, memoryview(given))
            self.assertEqual(("Echo/say", [value]), (request.name, request.payload))
            body = given[end:]
            head = bytes.fromhex("dabb02140000000000000001") + len(body).to_bytes(4, "big")
            self.assertEqual(value, wire.codec().read(None, memoryview(head + body))[0].payload)

    @onlyLong
    def test_both(self) -> None:
        """getty_tx and AMP answer every call, with every kind of payload and method."""
        for text in ("2x3x100", "1x2x500:records:async:deadline"):
            for name in OURS:
                result = runOnce(name, Row.parse(text), "/nowhere/python", 0.1, 0.05)
                self.assertTrue(result.messages > 0, (text, name))
                self.assertTrue(result.clientSeconds > 0, (text, name))

    def test_clients(self) -> None:
        """Each connection may be a client of its own."""
        self.assertTrue(runOnce("getty_rpc", Row.parse("3x2x100:clients:dubbo"), "", 0.1, 0.05).messages > 0)

    @onlyLong
    def test_plot(self) -> None:
        """One command measures, writes the figures and draws them."""
        folder = Path(self.mktemp())
        folder.mkdir()
        rows = ["--row", "1x1x581", "--row", "1x4x581", "--peer", "getty_rpc", "--repetitions", "1", "--seconds", "0.1"]
        self.patch(sys, "argv", ["rpc", "--plot", str(folder / "calls.svg"), *rows])
        self.patch(benchmark, "pinLoad", lambda: None)
        self.patch(benchmark.signal, "signal", lambda *_: None)
        with redirect_stdout(io.StringIO()):
            self.assertEqual(0, benchmark.main())
        figures = Figures.read(folder / "calls.json")
        self.assertEqual(["1x1x581", "1x4x581"], list(figures.rows))
        self.assertGreater(figures.rows["1x4x581"]["getty_rpc"]["rate"], 0)
        self.assertRegex(figures.versions["getty_rpc"], r"^getty_tx \d")
        self.assertIn("getty_tx.rpc</text>", (folder / "calls.svg").read_text())

    @onlyLong
    def test_well(self) -> None:
        """A peer that is well has figures, and says nothing; another says what failed."""
        runOn = benchmark.runOn
        # Warmed up for a moment.
        self.patch(benchmark, "runOn", lambda *given: runOn(*given[:-2], 0.1, 0.05))
        words = wellness("getty_rpc", Row.parse("1x1x100"), "", 0.1).split()
        # The name stands in no heading, "grown MB" is one figure, and nothing was said.
        self.assertEqual(1 + len(WELL_HEADING.split()) - 1 - 1, len(words))
        self.assertGreater(int(words[1]), 0)
        self.assertIn("FAILED: a call failed: TooLong", wellness("amp", Row.parse("1x1x65536"), "", 0.1))

    @onlyLong
    def test_failedCall(self) -> None:
        """A call that fails ends the run: AMP has no value above 65,535 bytes."""
        error = self.assertRaises(LoadError, runOnce, "amp", Row.parse("1x1x65536"), "", 0.1, 0.05)
        self.assertIn("a call failed: TooLong", str(error))

    @onlyLong
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


class OtherPeerTests(SynchronousTestCase):
    """The peers that need packages which getty_tx does not: those of this environment, or of RPC_PEERS_PYTHON."""

    PYTHON = os.environ.get("RPC_PEERS_PYTHON", sys.executable)

    def answers(self, name: str) -> None:
        """It answers every call, with bytes and JSON, on one connection and several, with a deadline and without."""
        if why := missing([name], self.PYTHON):
            raise SkipTest(why[name])
        for text in ("3x1x100", "1x3x100", "2x2x500:records:deadline"):
            result = runOnce(name, Row.parse(text), self.PYTHON, 0.1, 0.05)
            self.assertTrue(result.messages > 0, text)
            self.assertTrue(result.clientSeconds > 0, text)

    def test_all(self) -> None:
        """None is forgotten."""
        methods = {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")} - {"all"}
        self.assertEqual(
            set(PEERS) - set(OURS), {name.replace("_", " ").replace("grpc aio", "grpc.aio") for name in methods}
        )

    @onlyLong
    def test_grpc_aio(self) -> None:
        """gRPC on asyncio."""
        self.answers("grpc.aio")

    @onlyLong
    def test_aiorpcX(self) -> None:
        """aiorpcX."""
        self.answers("aiorpcX")

    @onlyLong
    def test_thriftpy2(self) -> None:
        """thriftpy2 on asyncio."""
        self.answers("thriftpy2")

    @onlyLong
    def test_grpc_sync(self) -> None:
        """gRPC with threads."""
        self.answers("grpc sync")

    @onlyLong
    def test_rpyc(self) -> None:
        """rpyc."""
        self.answers("rpyc")

    @onlyLong
    def test_Pyro5(self) -> None:
        """Pyro5."""
        self.answers("Pyro5")
