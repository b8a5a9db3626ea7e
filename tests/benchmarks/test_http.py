"""The benchmark of HTTP servers: its rows, what wrk prints, its table, its commands, and a run of one server."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import http as benchmark
from benchmarks import httppeers
from benchmarks.holder import HeldHTTP
from benchmarks.http import HEADING, IDLE_HEADING, LONG, ROWS, Bench, Found, line, shortened
from benchmarks.httploads import ANSWERS, BROWSER, Row, ask, awaitAnswer, readH2load, readWrk
from benchmarks.httppeers import BASELINE, PEERS, commandOf, missing, unable, versions
from benchmarks.loads import LoadError, LoadResult
from benchmarks.many import Crowd
from benchmarks.room import Machine, makePlan
from benchmarks.servers import ServerProcess
from tests.support.long import onlyLong

WRK = {"messages": 1000, "seconds": 2.0, "p50": 300, "p99": 900, "max": 1200}
ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def printed(**other: int) -> str:
    """What wrk prints, its own lines first."""
    return f"Running 2s test\n  1 threads and 50 connections\n{json.dumps({**WRK, **ERRORS, **other})}\n"


def result(messages: int, seconds: float, cpu: float) -> LoadResult:
    return LoadResult(messages, seconds, 100.0, 200.0, 300.0, cpu, seconds / 4)


class H2loadTests(SynchronousTestCase):
    """Rows over HTTP/2."""

    OUTPUT = """
finished in 900.50ms, 46177.50 req/s, 1.37MB/s
requests: %(good)d total, 184810 started, %(good)d done, %(good)d succeeded, %(failed)d failed, 0 errored, 0 timeout
status codes: %(good)d 2xx, 0 3xx, 0 4xx, %(broken)d 5xx
traffic: 5.50MB (5762952) total
"""

    def test_read(self) -> None:
        found = readH2load(self.OUTPUT % {"good": 1801, "failed": 0, "broken": 0}, 2.0, 1.0)
        self.assertEqual((found.messages, found.seconds, round(found.rate)), (1801, 0.9005, 2000))
        for wrong in ({"failed": 1}, {"broken": 2}, {"good": 0}):
            text = self.OUTPUT % {"good": 5, "failed": 0, "broken": 0, **wrong}
            self.assertRaises(LoadError, readH2load, text, 2.0, 1.0)
        self.assertRaises(LoadError, readH2load, "h2load: not found", 2.0, 1.0)

    def test_rows(self) -> None:
        row = Row.parse("hello:10x7:h2:tls")
        self.assertEqual(row.load(80, 2, 10), ["h2load", "-t1", "-c10", "-m7", "-D2", "https://127.0.0.1:80/hello"])
        for wrong in ("hello:1x1:h2:new", "echo:1x1:h2"):
            self.assertRaises(ValueError, Row.parse, wrong)
        clear = Row.parse("hello:1x1:h2")
        self.patch(httppeers, "H2C", Path(self.mktemp()))
        able = [name for name, peer in PEERS.items() if not unable(peer, clear)]
        self.assertEqual(able, ["getty", "getty-asgi", "granian", "hypercorn", "h2corn"])
        self.assertIn("no HTTP/2 in clear without", unable(PEERS["net/http"], clear))
        self.assertEqual(unable(PEERS["net/http"], row), "")
        self.assertEqual(unable(PEERS[BASELINE], row), "it speaks no HTTP/2")
        self.patch(httppeers, "H2C", Path(__file__))
        self.assertEqual(unable(PEERS["net/http"], clear), "")


class RowTests(SynchronousTestCase):
    """The rows."""

    def test_words(self) -> None:
        """A shape and numbers, with words in any order."""
        self.assertEqual(Row("hello", 50, 16), Row.parse("hello:50x16"))
        self.assertEqual(Row("echo", 1, 1, True, True, False, True), Row.parse("echo:1x1:two:tls:browser"))
        for wrong in ("hello", "hello:50", "50x1", "none:50x1", "hello:0x1", "hello:1x1:fast", "hello:1x1:tls:tls"):
            self.assertRaises(ValueError, Row.parse, wrong)
        self.assertRaises(ValueError, Row.parse, "hello:50x16:new")
        self.assertEqual(len(ROWS), len({Row.parse(text) for text in (*ROWS, LONG)} | {Row.parse(LONG)}))

    def test_wrk(self) -> None:
        """What wrk is told: whole seconds, the script's words, and header fields."""
        words = Row.parse("echo:50x1:tls:browser").wrk(8080, 0.4, 10)
        self.assertEqual(["wrk", "-t1", "-c10", "-d1s"], words[:4])
        self.assertEqual(["https://127.0.0.1:8080/echo", "--", "1", "POST", "1024", *BROWSER], words[7:])
        self.assertEqual(["--", "16", "GET", "0"], Row.parse("hello:50x16").wrk(8080, 2, 50)[-4:])
        self.assertEqual("Connection: close", Row.parse("hello:50x1:new").wrk(8080, 2, 50)[-1])

    def test_browser(self) -> None:
        """Twelve fields, with the Host that wrk adds; the script reads each as a name and a value."""
        self.assertEqual(12, len({each.partition(": ")[0] for each in BROWSER} | {"Host"}))
        self.assertTrue(all(each.partition(": ")[2] for each in BROWSER))


class WrkTests(SynchronousTestCase):
    """What wrk prints."""

    def test_answers(self) -> None:
        """The last line has the figures."""
        found = readWrk(printed(), 1, 0.5, 0.25)
        self.assertEqual(LoadResult(1000, 2.0, 300, 900, 1200, 0.5, 0.25), found)
        self.assertEqual((500.0, 500.0), (found.rate, found.cpuPerMessage))

    def test_pipelined(self) -> None:
        """With several in flight, wrk's percentiles are wrong."""
        found = readWrk(printed(), 16, 0.5, 0.25)
        self.assertEqual((0, 0, 1000), (found.p50, found.p99, found.messages))

    def test_errors(self) -> None:
        """One that is not 2xx, or lost, is a failure, and so is none at all."""
        error = self.assertRaises(LoadError, readWrk, printed(status=3, read=1), 1, 0.5, 0.25)
        self.assertEqual("errors beside 1000 answers: read 1, status 3", str(error))
        for kind in ERRORS:
            self.assertRaises(LoadError, readWrk, printed(**{kind: 1}), 1, 0.5, 0.25)
        self.assertIn("no answer", str(self.assertRaises(LoadError, readWrk, printed(messages=0), 1, 0.5, 0.25)))
        error = self.assertRaises(LoadError, readWrk, "unable to connect\n", 1, 0.5, 0.25)
        self.assertEqual("wrk has printed no result: unable to connect", str(error))


class TableTests(SynchronousTestCase):
    """What is printed."""

    def test_line(self) -> None:
        """Medians, and multiples of the first's."""
        first = Found([result(1000, 1.0, 0.02), result(2000, 1.0, 0.08), result(3000, 1.0, 0.03)], [1, 3_000_000, 9**9])
        self.assertEqual((2000.0, 20.0, 25.0), (first.rate, first.cpu, first.busy))
        other = Found([result(4000, 1.0, 0.04)], [12_000_000])
        made = line("getty", other, first)
        self.assertEqual(["getty", "4000", "10.00", "100", "200", "12.0", "25", "0.50", "2.00"], made.split())
        self.assertEqual(len(HEADING), len(made))
        self.assertEqual("25", line("uvicorn", first, None).split()[-1])

    def test_none(self) -> None:
        """Without percentiles there are dashes; what failed or cannot be asked says why, and nothing refers to it."""
        piped = Found([LoadResult(4000, 1.0, 0, 0, 0, 0.04, 0.5)], [12_000_000])
        failed = Found(problem="it ended\nTraceback\nOSError: no")
        self.assertEqual(["x", "4000", "10.00", "-", "-", "12.0", "50"], line("x", piped, failed).split())
        self.assertEqual("  x             FAILED: it ended ... OSError: no", line("x", failed, None))
        self.assertEqual("  x             - (it has one process)", line("x", Found(skipped="it has one process"), None))
        self.assertEqual("one", shortened("one\n"))

    def test_figures(self) -> None:
        """What is kept."""
        found = Found([result(1000, 1.0, 0.02), result(3000, 1.0, 0.02)], [1_000_000, 2_000_000])
        wanted = {"rate": 2000.0, "server": 13.33, "p50": 100, "p99": 200, "rss": 1.5, "busy": 25, "answers": 2000}
        self.assertEqual(wanted, found.figures)
        self.assertEqual({"problem": "no"}, Found(problem="no").figures)
        self.assertEqual({"skipped": "why"}, Found(skipped="why").figures)


class PeerTests(SynchronousTestCase):
    """The servers' commands."""

    def test_commands(self) -> None:
        """Only what a server process fills in is left open."""
        for name in set(PEERS) - {"net/http"}:
            for text in ("hello:50x1", "json:50x1:tls", "loop:50x1:two"):
                command = commandOf(name, Row.parse(text), "/a folder/python")
                for field in ("{port}", *(("{key}", "{certificate}") if "tls" in text else ())):
                    self.assertIn(field, command, (name, text))
                    command = command.replace(field, "")
                self.assertNotIn("{", command)
        self.assertIn("http_starlette:json", commandOf(BASELINE, Row.parse("json:1x1"), "python"))
        self.assertIn("--workers 2", commandOf(BASELINE, Row.parse("hello:1x1:two"), "python"))
        self.assertTrue(
            commandOf(BASELINE, Row.parse("hello:1x1"), "/a b/python").startswith("'/a b/python' -m uvicorn")
        )

    def test_unable(self) -> None:
        """What a server cannot do is known before."""
        self.assertEqual("it has one process", unable(PEERS["daphne"], Row.parse("hello:1x1:two")))
        self.assertEqual("it runs no ASGI application", unable(PEERS["net/http"], Row.parse("fastapi:1x1")))
        self.assertEqual("", unable(PEERS["net/http"], Row.parse("hello:1x1:two")))

    def test_missing(self) -> None:
        """What cannot be imported is left out, and one line says so."""
        self.assertEqual({}, missing(["twisted.web"], sys.executable))
        other = replace(PEERS["twisted.web"], modules=("no_such_package",))
        self.patch(sys.modules["benchmarks.httppeers"], "PEERS", {"x": other})
        why = missing(["x"], sys.executable)["x"]
        self.assertIn("no_such_package", why)
        self.assertNotIn("\n", why)

    def test_versions(self) -> None:
        """The packages are named as they are installed."""
        self.assertRegex(versions(["twisted.web"], sys.executable)["twisted.web"], r"^Twisted \d+\.\d+")


class RunTests(SynchronousTestCase):
    """Runs of those that are there wherever the tests are."""

    def test_one(self) -> None:
        """getty_tx answers, and an answer that is not the right one is found."""
        row = Row.parse("hello:1x1")
        with Bench(sys.executable) as bench, bench.server("getty", row) as server:
            awaitAnswer(server, row)
            self.patch(sys.modules["benchmarks.httploads"], "ANSWERS", {**ANSWERS, "hello": b"other"})
            self.assertRaises(LoadError, ask, server.port, row)

    @onlyLong
    def test_ours(self) -> None:
        """getty_tx answers each shape, with TLS as well."""
        self.assertEqual({}, missing(["getty", "getty-asgi"], sys.executable))
        with Bench(sys.executable) as bench, bench.server("getty", Row.parse("hello:1x1")) as server:
            for shape in set(ANSWERS) - {"fastapi"}:
                awaitAnswer(server, Row.parse(f"{shape}:1x1"))
        for name, text in (("getty", "echo:1x1:tls"), ("getty-asgi", "echo:1x1:tls"), ("getty-asgi", "stream64k:1x1")):
            with Bench(sys.executable) as bench, bench.server(name, Row.parse(text)) as server:
                awaitAnswer(server, Row.parse(text))

    @onlyLong
    def test_answers(self) -> None:
        """twisted.web answers each shape, and an answer that is not the right one is found."""
        for shape in set(ANSWERS) - {"fastapi", "stream10m"}:
            row = Row.parse(f"{shape}:1x1")
            with ServerProcess(commandOf("twisted.web", row, sys.executable)) as server:
                awaitAnswer(server, row)
        self.patch(sys.modules["benchmarks.httploads"], "ANSWERS", {**ANSWERS, "hello": b"other"})
        with ServerProcess(commandOf("twisted.web", Row.parse("hello:1x1"), sys.executable)) as server:
            error = self.assertRaises(LoadError, ask, server.port, Row.parse("hello:1x1"))
        self.assertEqual("GET /hello was answered with b'Hello, World!'", str(error))

    @onlyLong
    def test_run(self) -> None:
        """One command measures, and writes the figures."""
        if shutil.which("wrk") is None:
            raise SkipTest("no wrk")
        file = Path(self.mktemp())
        words = ["--row", "echo:2x1:tls", "--peer", "twisted.web", "--repetitions", "1", "--seconds", "1"]
        self.patch(sys, "argv", ["http", *words, "--json", str(file)])
        self.patch(benchmark, "pinLoad", lambda: None)
        self.patch(benchmark.signal, "signal", lambda *_: None)
        with redirect_stdout(io.StringIO()):
            self.assertEqual(0, benchmark.main())
        found = json.loads(file.read_text())["rows"]["echo:2x1:tls"]["twisted.web"]
        self.assertGreater(found["rate"], 0)
        self.assertGreater(found["p99"], 0)

    @onlyLong
    def test_statuses(self) -> None:
        """An answer that is not 2xx is a failure."""
        if shutil.which("wrk") is None:
            raise SkipTest("no wrk")
        self.patch(benchmark, "unable", lambda peer, row: "")
        with Bench(sys.executable) as bench:
            # It has no such shape.
            row = Row.parse("fastapi:1x1")
            found = bench.compare(["twisted.web"], row, 2, 1)
            self.assertIn("GET /fastapi was answered with 500", found["twisted.web"].problem)
            self.patch(benchmark, "awaitAnswer", lambda server, row: None)
            found = bench.compare(["twisted.web"], row, 2, 1)
        self.assertRegex(found["twisted.web"].problem, r"^errors beside \d+ answers: status \d+$")


class WellTests(SynchronousTestCase):
    """A long run."""

    def lineOf(self, *runs: LoadResult | LoadError) -> list[str]:
        """The words of twisted.web's line, where these are the outcomes of the warm-up and of the run."""
        outcomes = list(runs)

        def run(*_: object) -> LoadResult:
            outcome = outcomes.pop(0)
            if isinstance(outcome, LoadError):
                raise outcome
            return outcome

        self.patch(benchmark, "run", run)
        with Bench(sys.executable) as bench:
            return bench.wellness("twisted.web", Row.parse("echo:1x1"), 1).split()

    def test_well(self) -> None:
        """It has answers, and the memory before and after."""
        name, answers, before, after = self.lineOf(result(1, 1.0, 0.1), result(5, 1.0, 0.1))
        self.assertEqual(("twisted.web", "5"), (name, answers))
        self.assertGreater(float(before), 5)
        self.assertGreater(float(after), 5)

    @onlyLong
    def test_errors(self) -> None:
        """Errors of the run stand beside the memory; a server that fails before has none."""
        words = self.lineOf(result(1, 1.0, 0.1), LoadError("errors beside 9 answers: read 1"))
        self.assertEqual("FAILED: errors beside 9 answers: read 1", " ".join(words[4:]))
        self.assertEqual("twisted.web FAILED: no answer", " ".join(self.lineOf(LoadError("no answer"))))


class IdleTests(SynchronousTestCase):
    """Connections that are held."""

    def test_held(self) -> None:
        """Each has its answer, and has one again; what each takes is printed."""
        plan = makePlan(Machine.here(121), 121, 1, 0)
        self.patch(benchmark, "run", lambda *_: None)
        with Bench(sys.executable) as bench:
            words = bench.idle("twisted.web", plan).split()
        self.assertEqual(["twisted.web", "120"], words[:2])
        # "before MB" is one figure.
        self.assertEqual(len(IDLE_HEADING.split()) - 3 + 1, len(words))

    def test_answers(self) -> None:
        """An answer has the right status and all of its bytes; more or other ones are wrong."""
        held = HeldHTTP.__new__(HeldHTTP)
        whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nyes"
        for received, wanted in (
            (whole, True),
            (whole[:-1], None),
            (whole[:30], None),
            (whole + b"!", False),
            (whole.replace(b"200", b"404"), False),
            (whole.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked"), False),
        ):
            held.received = received
            self.assertIs(wanted, held.judge(), received)

    @onlyLong
    def test_lost(self) -> None:
        """Connections without an answer are found: here none has been opened."""
        self.patch(benchmark, "run", lambda *_: None)
        plan = makePlan(Machine.here(121), 121, 1, 0)
        with Bench(sys.executable) as bench:
            self.patch(Crowd, "open", lambda crowd: (Crowd.__dict__["echo"](crowd), 1.0)[1])
            made = bench.idle("twisted.web", plan)
        self.assertIn("FAILED: 120 of 120 connections had no echo", made)
