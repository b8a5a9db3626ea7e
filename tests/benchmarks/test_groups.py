"""The benchmark of groups: its rows, its load, its table, its plot, its servers, and a short run of some."""

from __future__ import annotations

import io
import json
import os
import re
import selectors
import socket
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import groupplot
from benchmarks import groups as benchmark
from benchmarks.figures import Figures, putInto
from benchmarks.grouploads import BURST, LEAST, GroupResult, Row, publication, readLoad, run
from benchmarks.grouppeers import BASELINE, PEERS, commandOf, missing, unable, versions
from benchmarks.groupplot import DRAWN, MARK, NAMES, RATES, drawing, tables, verdicts
from benchmarks.groups import HEADING, LONG, ROWS, WELL_HEADING, Bench, Found, line
from benchmarks.loads import LoadError, compiler
from benchmarks.svg import COLOURS
from tests.support.pages import haveOptions

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "topics" / "groups-speed.md"

RESULT = GroupResult(1000, 10, 102_000, 2.0, 1.0, 0, 1e3, 2e3, 3e3, 4e3, 5e3, 6e3, 0.01, 50_000_000, 1_500_000, 9**7)


def figures(**rows: dict[str, dict[str, Any]]) -> Figures:
    """Of one run."""
    found = Figures(3, 2.0)
    found.versions = {"getty": "getty_tx 1", "nchan": "nginx/1.22.1, libnginx-mod-nchan 1.3.6"}
    found.rows = rows
    return found


def kept(rate: float, server: float, **other: float) -> dict[str, Any]:
    """The figures of a server in a row."""
    return {**Found([RESULT]).figures, "rate": rate, "server": server, **other}


class RowTests(SynchronousTestCase):
    """The rows."""

    def test_words(self) -> None:
        """Numbers, with words in any order."""
        self.assertEqual(Row(1000, 100), Row.parse("1000x100"))
        self.assertEqual(Row(1000, 100, isDeflate=True, isStuck=True), Row.parse("1000x100:stuck:deflate"))
        wrong = ("1000", "x100", "0x100", "1000x100:fast", "1000x100:slow:slow", "1000x100:slow:stuck", "")
        for text in (*wrong, "1000x100:burst:window", "9x99:one:half", f"10x{LEAST - 1}", "10x65537", "1x100:stuck"):
            self.assertRaises(ValueError, Row.parse, text)
        self.assertEqual(len(ROWS), len({Row.parse(text) for text in (*ROWS, LONG)}))

    def test_load(self) -> None:
        """What the load is told."""
        told = Row.parse("1000x100").load(80, "ws", 0.5, 2.0)
        self.assertEqual(["80", "ws", "1000", "100", "1", "2", "0", "0", "0", "250", "0.5", "2"], told)
        self.assertEqual(["20", "1", "0", "0", "0", "0"], Row.parse("10x100:burst").load(80, "ws", 1, 1)[4:10])
        self.assertEqual(["1", "1", "1", "1", "0"], Row.parse("10x100:half:stuck").load(80, "ws", 1, 1)[4:9])
        self.assertEqual("1", Row.parse("10x100:one").load(80, "ws", 1, 1)[5])
        self.assertEqual(["10", "10240"], Row.parse("1000x100:slow").load(80, "ws", 1, 1)[7:9])

    def test_window(self) -> None:
        """Only where it says so."""
        windows = [Row.parse(text).window for text in ("10x100", "10x100:half", "10x100:window", "10x100:burst")]
        self.assertEqual([0.0, 0.0, 0.05, 0.05], windows)


class TableTests(SynchronousTestCase):
    """What is read, printed and drawn."""

    def test_read(self) -> None:
        """The load prints one object."""
        printed = {"messages": 4, "publications": 2, "bytes": 400, "seconds": 2.0, "clientSeconds": 0.5, "closed": 1}
        printed |= dict.fromkeys(("p50", "p99", "last50", "last99", "echo50", "echo99"), 1.5)
        found = readLoad(json.dumps(printed), 0.00002, 7, 8, 9)
        self.assertEqual(
            (2.0, 5.0, 7, 8, 9), (found.rate, found.cpuPerMessage, found.memory, found.grown, found.kernel)
        )
        self.assertRaises(LoadError, readLoad, "{", 1, 1, 1, 1)
        self.assertRaises(LoadError, readLoad, json.dumps({**printed, "more": 1}), 1, 1, 1, 1)
        error = self.assertRaises(LoadError, readLoad, json.dumps({**printed, "publications": 0}), 1, 1, 1, 1)
        self.assertEqual("no publication has reached all members in the time", str(error))

    def test_line(self) -> None:
        """Medians, and multiples of the first's; slow members that were closed stand behind them."""
        first = Found([RESULT, replace(RESULT, messages=2000), replace(RESULT, messages=9000)])
        made = line("loop", Found([replace(RESULT, cpuSeconds=0.03)]), first)
        wanted = ["loop", "500", "30.00", "1.00", "2.00", "4.00", "6.00", "50.0", "1.5", "4.8", "50", "6.00", "0.50"]
        self.assertEqual(wanted, made.split())
        self.assertEqual(len(HEADING), len(made))
        self.assertTrue(line("x", Found([replace(RESULT, closed=3)]), None).endswith("50  closed 3"))

    def test_none(self) -> None:
        """What failed or cannot be measured says why, and nothing refers to it."""
        failed = Found(problem="it ended\nTraceback\nOSError: no")
        self.assertEqual("  x             FAILED: it ended ... OSError: no", line("x", failed, None))
        self.assertEqual("  x             - (no)", line("x", Found(skipped="no"), failed))
        self.assertEqual("50", line("x", Found([RESULT]), failed).split()[-1])
        self.assertEqual({"problem": "no"}, Found(problem="no").figures)

    def test_verdicts(self) -> None:
        """What getty_tx should reach is said with what it has, for what was measured."""
        peers = {BASELINE: kept(300, 2.0), "autobahn": kept(90, 9), "websockets": kept(130, 9), "loop": kept(9, 5)}
        said = verdicts(figures(**{"100x100": peers}), "100x100")
        self.assertEqual(
            [
                "deliveries a second, times those of Autobahn: 3.33 (at least 3)",
                "deliveries a second, times those of websockets: 2.31 (at least 2.5) NOT MET",
                "CPU time, times that of loop of writePkg: 0.40 (at most 0.5)",
            ],
            said,
        )
        [said] = verdicts(
            figures(**{"100x100:deflate": {BASELINE: kept(300, 2), "websockets": kept(30, 9)}}), "100x100:deflate"
        )
        self.assertIn("10.00 (at least 8)", said)
        both = figures(**{"9x99:window": {BASELINE: kept(1, 10)}, "9x99:burst": {BASELINE: kept(1, 10 / BURST)}})
        self.assertEqual(
            ["CPU time of 20 in a window, times that of one: 1.00 (at most 1.5)"], verdicts(both, "9x99:burst")
        )
        for text, what in (("10000x100:half", "echo p99 in ms: 6.00"), ("100x100:stuck", "memory grown in MB: 1.50")):
            self.assertIn(what, verdicts(figures(**{text: {BASELINE: kept(1, 1)}}), text)[0])
        self.assertEqual([], verdicts(figures(**{"100x100": {"loop": kept(1, 1)}}), "100x100"))

    def test_drawing(self) -> None:
        """Rates and p99 over members for each size; rows with words are in the tables only."""
        rows = {
            f"{members}x{size}": {BASELINE: kept(9, 1), "nchan": kept(8, 1)} for members in (9, 99) for size in (64, 99)
        }
        found = figures(**rows, **{"9x100:stuck": {BASELINE: kept(9, 1), "loop": {"problem": "no"}}})
        drawn = drawing(found)
        ElementTree.fromstring(drawn)
        self.assertEqual(4, drawn.count('class="title"'))
        self.assertIn("nchan</text>", drawn)
        self.assertRaises(ValueError, drawing, figures(**{"9x100:stuck": {BASELINE: kept(9, 1)}}))
        self.assertLessEqual(len(DRAWN), len(COLOURS))
        self.assertLessEqual({*DRAWN, *NAMES, *RATES}, {*PEERS})
        made = tables(found)
        self.assertIn("| getty_tx groups | 9, 1.0, 1.00 |", made)
        self.assertIn("failed", made)
        self.assertIn(made, putInto(PAGE.read_text(), made, MARK))


class PageTests(SynchronousTestCase):
    """The page about the performance of groups."""

    def setUp(self) -> None:
        self.page = PAGE.read_text()

    def test_settings(self) -> None:
        """Its table of settings has every server."""
        for name in PEERS:
            self.assertRegex(self.page, rf"(?m)^\| {re.escape(NAMES.get(name, name).strip())} \| \D")

    def test_commands(self) -> None:
        """Its commands have options that there are."""
        haveOptions(self, self.page, {"groups": benchmark, "groupplot": groupplot})


class PeerTests(SynchronousTestCase):
    """The servers' commands."""

    def test_commands(self) -> None:
        """Only what a server process fills in is left open."""
        for name, peer in PEERS.items():
            if peer.file:
                command = commandOf(name, Row.parse("10x100:burst"), "/a folder/python")
                self.assertNotIn("{", command.replace("{port}", "", 1).replace("{folder}", ""), name)
        self.assertTrue(commandOf(BASELINE, Row.parse("10x100:burst"), "x").endswith(" ws groups 0.05"))
        self.assertTrue(commandOf("websockets", Row.parse("9x99:deflate"), "/a b/x").startswith("'/a b/x' "))
        self.assertTrue(commandOf("nchan", Row.parse("9x99:deflate"), "x").endswith(" nchan:deflate {folder}"))

    def test_unable(self) -> None:
        """What cannot be read is known before."""
        rows = Row.parse("9x99:deflate"), Row.parse("9x99")
        can = {name for name, peer in PEERS.items() if not unable(peer, rows[0])}
        self.assertEqual({"getty", "loop", "autobahn", "websockets", "nchan"}, can)
        self.assertEqual({""}, {unable(peer, rows[1]) for peer in PEERS.values()})

    def test_missing(self) -> None:
        """What cannot be imported is left out, and one line says so."""
        self.assertEqual({}, missing(["loop", "autobahn"], "/nowhere/python"))
        self.patch(
            sys.modules["benchmarks.grouppeers"], "PEERS", {"x": replace(PEERS["loop"], modules=("no_such_one",))}
        )
        why = missing(["x"], sys.executable)["x"]
        self.assertIn("no_such_one", why)
        self.assertNotIn("\n", why)

    def test_versions(self) -> None:
        """The packages are named as they are installed."""
        self.assertRegex(versions(["autobahn"], "/nowhere/python")["autobahn"], r"^autobahn \d.*, Twisted \d")


class Crowd(Thread):
    """
    Stands for a server: has members by TCP, each message behind its length, and gives each what ``deliver`` makes of a
    publication's frame. It ends when it is stopped.
    """

    def __init__(self, deliver: Callable[[bytes], list[bytes]]) -> None:
        super().__init__(daemon=True)
        self._deliver = deliver
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopper, self._stopped = socket.socketpair()
        self.port = self._listener.getsockname()[1]

    def run(self) -> None:
        members: list[socket.socket] = []
        with selectors.DefaultSelector() as selector:
            for one in (self._listener, self._stopped):
                selector.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    one: Any = key.fileobj
                    if one is self._stopped:
                        for each in [*selector.get_map().values()]:
                            each.fileobj.close()  # type: ignore[union-attr]
                        return
                    if one is self._listener:
                        accepted = one.accept()[0]
                        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        selector.register(accepted, selectors.EVENT_READ)
                    elif not self._read(one, members):
                        selector.unregister(one)
                        one.close()

    def _read(self, one: socket.socket, members: list[socket.socket]) -> bool:
        try:
            return self._handle(one, members)
        except OSError:
            # The load has ended.
            return False

    def _handle(self, one: socket.socket, members: list[socket.socket]) -> bool:
        head = one.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return False
        frame = head + one.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
        if b'"pub"' in frame:
            for piece in self._deliver(frame):
                for member in members:
                    member.sendall(piece)
            return True
        if b'"join"' in frame:
            members.append(one)
        one.sendall(frame)
        return True

    def stop(self) -> None:
        self._stopper.close()
        self.join()

    def cpuSeconds(self) -> float:
        return 0.0

    def memory(self) -> int:
        return 0

    peakMemory = memory

    def resetPeak(self) -> None:
        pass


class LoadTests(SynchronousTestCase):
    """What the load finds."""

    def found(self, deliver: Callable[[bytes], list[bytes]], text: str = "3x100") -> GroupResult:
        """What it does with a server of that kind."""
        if compiler() is None:
            raise SkipTest("no C compiler")
        crowd = Crowd(deliver)
        crowd.start()
        self.addCleanup(crowd.stop)
        return run(crowd, Row.parse(text), "length", 0.1, 0.02)  # type: ignore[arg-type]

    def test_pieces(self) -> None:
        """Frames count, not what comes at once: 20 are joined, and cut where no frame ends."""
        gathered: list[bytes] = []

        def deliver(frame: bytes) -> list[bytes]:
            gathered.append(frame)
            if len(gathered) % BURST:
                return []
            data = b"".join(gathered[-BURST:])
            return [data[:2], data[2:117], data[117:]]

        found = self.found(deliver, "3x100:burst")
        # Those that are under way when measuring begins and ends are counted in part.
        self.assertTrue(abs(found.messages - 3 * found.publications) <= 3 * BURST)
        self.assertTrue(abs(found.bytes - 104 * found.messages) <= 3 * 104 * BURST)
        self.assertTrue(0 < found.p50 <= found.p99 <= found.last99)
        self.assertEqual(0, found.echo99)
        found = self.found(lambda frame: [frame])
        self.assertTrue(0 < found.echo50 <= found.echo99)

    def test_wrong(self) -> None:
        """A publication that is lost, doubled or altered ends the load, and so does one that nobody made."""
        seen: list[bytes] = []

        def second(frame: bytes) -> list[bytes]:
            seen.append(frame)
            return [] if len(seen) == 1 else [frame]

        wrong = "a member has missed a publication, or has another twice, or other bytes"
        for deliver, said in (
            (second, wrong),
            (lambda frame: [frame[:-3], b"!", frame[-2:]], wrong),
            (lambda frame: [frame, frame], "a member has more than was published"),
        ):
            self.assertIn(str(self.assertRaises(LoadError, self.found, deliver)), {said, wrong})

    def test_publication(self) -> None:
        """What is compared by looking is like what the load sends."""
        self.assertEqual(200, len(publication(3)))
        self.assertEqual(["do", "seq", "text"], [*json.loads(publication(3))])


class RunTests(SynchronousTestCase):
    """Short runs of servers."""

    def once(self, name: str, text: str, python: str = sys.executable) -> GroupResult:
        """What was measured."""
        if why := missing([name], python):
            raise SkipTest(why[name])
        if compiler() is None:
            raise SkipTest("no C compiler")
        with Bench(python) as bench:
            found = bench.once(name, Row.parse(text), 0.08, 0.02)
        row = Row.parse(text)
        inPart = row.once * row.flight
        self.assertGreaterEqual(found.messages, (found.publications - inPart) * (row.members - row.slow), (name, text))
        self.assertGreater(found.memory, 0)
        return found

    def test_floor(self) -> None:
        """The server in C, with members that read, slowly and not at all."""
        for text in ("30x100:burst", "30x1024:half", "3x1000:stuck", "110x1000:slow"):
            self.once("sends", text)

    def test_loop(self) -> None:
        """A loop of writePkg, with deflate, where members look at what they get."""
        self.once("loop", "5x200:deflate")

    def test_others(self) -> None:
        """All other peers, with the interpreter that GROUP_PEERS_PYTHON names."""
        python = os.environ.get("GROUP_PEERS_PYTHON")
        if python is None:
            raise SkipTest("GROUP_PEERS_PYTHON names no interpreter that has the others' packages")
        for name in {*PEERS} - {*missing(PEERS, python)}:
            for text in ("5x100", "5x1024:deflate", "5x100:burst", "3x1024:stuck"):
                if not unable(PEERS[name], Row.parse(text)):
                    self.once(name, text, python)

    def test_plot(self) -> None:
        """One command measures, writes the figures and draws them."""
        if compiler() is None:
            raise SkipTest("no C compiler")
        folder = Path(self.mktemp())
        folder.mkdir()
        rows = ["--row", "5x100", "--row", "9x100", "--peer", "sends", "--repetitions", "1", "--seconds", "0.1"]
        self.patch(sys, "argv", ["groups", "--plot", str(folder / "groups.svg"), *rows])
        self.patch(benchmark, "pinLoad", lambda: None)
        self.patch(benchmark.signal, "signal", lambda *_: None)
        compare = Bench.compare
        self.patch(Bench, "compare", lambda *given: compare(*given, 0.05))
        with redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(0, benchmark.main())
        self.assertIn(HEADING, printed.getvalue())
        found = Figures.read(folder / "groups.json")
        self.assertEqual(["5x100", "9x100"], list(found.rows))
        self.assertIn("C, sends alone</text>", (folder / "groups.svg").read_text())

    def test_well(self) -> None:
        """A server that is well has figures, and says nothing; another says what failed."""
        if compiler() is None:
            raise SkipTest("no C compiler")
        made = run
        self.patch(benchmark, "run", lambda server, row, wire, *_: made(server, row, wire, 0.1, 0.02))
        with Bench(sys.executable) as bench:
            words = bench.wellness("sends", Row.parse("5x100"), 0.1).split()
            # The name stands in no heading, both MB belong to figures, and nothing was said.
            self.assertEqual(1 + len(WELL_HEADING.split()) - 2 - 1, len(words))
            self.patch(sys.modules["benchmarks.grouppeers"], "FLOOR", "")
            self.patch(sys.modules["benchmarks.grouppeers"], "program", lambda source: "false")
            self.assertIn("FAILED: ", bench.wellness("sends", Row.parse("5x100"), 0.1))
