"""The comparison with Getty in Go: its rows, its commands and its table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.getty import HEADING, NAMES, ROWS, line, parseRow, serversOf
from benchmarks.loads import Scenario


class RowTests(SynchronousTestCase):
    """The rows."""

    def test_kinds(self) -> None:
        """A row is a load over TCP, WebSocket or UDP."""
        self.assertEqual(("tcp", Scenario(50, 16, 915)), parseRow("50x16x915"))
        self.assertEqual(("ws", Scenario(1, 1, 915)), parseRow("ws:1x1x915"))
        self.assertEqual(("udp", Scenario(50, 1, 512)), parseRow("udp:50x1"))
        for wrong in ("50x1", "udp:50x2", "udp:50", "quic:1x1x915", "ws:1x1"):
            self.assertRaises(ValueError, parseRow, wrong)
        self.assertEqual({"tcp", "ws", "udp"}, {parseRow(text)[0] for text in ROWS})

    def test_commands(self) -> None:
        """Getty is told its transport; getty_tx decodes the same frames, on both reactors."""
        for kind in ("tcp", "ws", "udp"):
            servers = serversOf(kind, "/a folder/echo")
            self.assertEqual(f"'/a folder/echo' {{port}} {kind}", servers["getty"])
            self.assertEqual(["getty", *NAMES], list(servers))
            self.assertNotIn("--reactor", servers["getty_tx"])
            self.assertIn("--reactor getty", servers["getty_fast"])
            codec = "raw" if kind == "ws" else "length:order=little"
            self.assertTrue(all(f"--codec {codec} " in servers[name] for name in NAMES), servers)

    def test_line(self) -> None:
        """Multiples of Getty's, below their headings; a run too short for the clock's ticks has no CPU time."""
        rates = {"getty": 1000.0, "getty_tx": 500.0, "getty_fast": 2000.0}
        cpu = {"getty": 10.0, "getty_tx": 15.0, "getty_fast": 5.0}
        made = line("1x1x915", rates, cpu)
        self.assertEqual(["1x1x915", "1000", "10.00", "0.50", "15.00", "1.50", "2.00", "5.00", "0.50"], made.split())
        self.assertEqual(len(HEADING), len(made))
        self.assertIn(" - ", line("1x1x915", rates, {**cpu, "getty": 0.0}))
