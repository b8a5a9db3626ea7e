"""What ``benchmarks.grpc`` asks for and believes, without servers of others."""

from __future__ import annotations

import re
import time
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks import grpc as benchmark
from benchmarks import grpcplot
from benchmarks.figures import Figures, putInto
from benchmarks.grpcload import COUNT, MESSAGE, Load, LoadFailed, ask, drive, message
from benchmarks.grpcloads import ANSWERS, Row, readH2load
from benchmarks.grpcpeers import BASELINE, OWN, PEERS, commandOf, unable
from benchmarks.grpcplot import MARK, NAMES, drawing, tables, verdicts
from benchmarks.loads import LoadError
from benchmarks.peers import grpc_echo
from getty_tx.http.grpc.server import Server
from tests.support.pages import haveOptions

PAGE = Path(__file__).parents[2] / "docs" / "topics" / "grpc-speed.md"

#: What h2load prints of 1,000 calls that went well.
PRINTED = """
finished in 500.07ms, 2000.00 req/s, 318.16KB/s
requests: 1000 total, 1100 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 159.18KB (163000) total, 14.65KB (15000) headers (space savings 93.2%), 102.54KB (105000) data
"""


class RowTests(SynchronousTestCase):
    """Rows and messages."""

    def test_parse(self) -> None:
        """What a row says, and what is none."""
        self.assertEqual(Row.parse("bidi:2x10"), Row("bidi", 2, 10))
        for text in "unary", "unary:1", "unary:0x1", "other:1x1", "unary:1x1:tls":
            self.assertRaises(ValueError, Row.parse, text)

    def test_messages(self) -> None:
        """Messages have 100 bytes, and are what protobuf reads."""
        from google.protobuf.wrappers_pb2 import BytesValue

        self.assertEqual((len(MESSAGE), MESSAGE[:5]), (105, b"\0\0\0\0\x64"))
        self.assertEqual(BytesValue.FromString(message(b"x")[5:]).value, b"x".ljust(98))
        self.assertEqual(int(BytesValue.FromString(MESSAGE[5:]).value), COUNT)
        self.assertEqual(BytesValue.FromString(ANSWERS["client"][5:]).value, b"1000")

    def test_peers(self) -> None:
        """Commands, and calls that a peer hands on."""
        self.assertEqual(commandOf("pygrpc-native", "/x/python").split()[2:], ["{port}", "pygrpc_native"])
        self.assertEqual(commandOf("grpclib", "/x/python").split()[0], "/x/python")
        self.assertNotEqual(commandOf(OWN, "/x/python").split()[0], "/x/python")
        self.assertEqual(unable(PEERS["pygrpc-native"], "server"), "")
        self.assertNotEqual(unable(PEERS["pygrpc-native"], "bidi"), "")


class ReadTests(SynchronousTestCase):
    """What h2load prints."""

    def test_right(self) -> None:
        """Calls, and the server's time for one."""
        found = readH2load(PRINTED, Row("unary", 1, 100), 0.5, 0.02, 0.1)
        self.assertEqual((found.messages, found.rate, round(found.cpuPerMessage, 6)), (1000, 2000.0, 20.0))

    def test_wrong(self) -> None:
        """Errors, statuses and answers without messages are told."""
        for old, new, text in (
            ("0 failed", "3 failed", "'failed': 3"),
            ("0 5xx", "7 5xx", "'5xx': 7"),
            ("(105000) data", "(104000) data", "104000 bytes"),
            ("(105000) data", "(116000) data", "116000 bytes"),
            ("1000 succeeded", "0 succeeded", "no answer"),
            ("requests:", "", "no result"),
        ):
            error = self.assertRaises(LoadError, readH2load, PRINTED.replace(old, new), Row("unary", 1, 100), 1, 1, 1)
            self.assertIn(text, str(error))


class LoadTests(TestCase):
    """The load of streams, and the service."""

    timeout = 30

    async def test_answers(self) -> None:
        """Each kind of call is answered right, with both styles of handlers; some load has errors at no time."""
        for servicer in grpc_echo.Mixed(), grpc_echo.Async():
            server = Server("tcp:0:interface=127.0.0.1")
            grpc_echo.addTo(server, servicer)
            server.startService()
            self.addCleanup(server.stopService)
            port = (await server.whenListening())[0].port  # type: ignore[attr-defined,unused-ignore]
            for kind, answer in ANSWERS.items():
                self.assertEqual(await deferToThread(ask, port, kind), answer)

            def work(port: int = port) -> list[int]:
                loads = [Load(port, kind, 3, limit=4) for kind in ANSWERS]
                drive(loads, time.perf_counter() + 20)
                for load in loads:
                    load.close()
                return [load.ended for load in loads]

            self.assertEqual(await deferToThread(work), [4] * 4)

    async def test_wrong(self) -> None:
        """A call that fails is told."""
        server = Server("tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        port = (await server.whenListening())[0].port  # type: ignore[attr-defined,unused-ignore]
        try:
            await deferToThread(ask, port, "server")
        except LoadFailed as error:
            self.assertIn("'grpc-status': '12'", str(error))
        else:
            self.fail("it has not failed")


class FigureTests(SynchronousTestCase):
    """What is said of figures."""

    def setUp(self) -> None:
        self.figures = Figures(3, 2.0)
        self.figures.rows = {
            "unary:1x100": {
                OWN: {"rate": 50_000, "server": 16.0},
                BASELINE: {"rate": 4_000, "server": 220.0},
                "pygrpc-native": {"rate": 20_000, "server": 17.0},
            },
            "server:1x1": {OWN: {"rate": 90_000, "server": 9.0}, BASELINE: {"rate": 40_000, "server": 20.0}},
        }

    def test_verdicts(self) -> None:
        """Bars that are met, and such that are not."""
        found = verdicts(self.figures, "unary:1x100")
        self.assertEqual([each.endswith("NOT MET") for each in found], [False, True])
        self.assertIn("0.073 (at most 0.15)", found[0])
        self.assertEqual([each.endswith("NOT MET") for each in verdicts(self.figures, "server:1x1")], [True])

    def test_shown(self) -> None:
        """A table for each kind, and a drawing."""
        text = tables(self.figures)
        self.assertIn("| getty_tx, def | 50,000, 16, 0.07 |", text)
        self.assertIn("| pygrpc-native | - |", text)
        self.assertIn("Messages a second, from the server", drawing(self.figures))
        self.figures.rows = {}
        self.assertRaises(ValueError, drawing, self.figures)

    def test_page(self) -> None:
        """The page has room for the tables, every server, and options that there are."""
        page = PAGE.read_text()
        self.assertIn("unary:1x100", putInto(page, tables(self.figures), MARK))
        for name in PEERS:
            self.assertRegex(page, rf"(?m)^\| {re.escape(NAMES.get(name, name))} \| ")
        haveOptions(self, page, {"grpc": benchmark, "grpcplot": grpcplot})
