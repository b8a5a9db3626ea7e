"""The Autobahn test suite's cases 1 to 7 and 10, of which ``make conformance`` runs all."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tests.tap import test_twistd
from tests.tap.test_twistd import ROOT, ProcessTestCase


class ConformanceTests(ProcessTestCase):
    """kosoku runs the cases, in separate processes."""

    if find_spec("kosoku") is None:
        skip = "kosoku is not installed, which drives the Autobahn test suite's cases"

    def check(self, role: str) -> None:
        """Check that all cases have passed."""
        # It ends its processes, unless it is killed: so let it end by itself.
        self.patch(test_twistd, "PATIENCE", 120)
        tool = str(ROOT / "tools" / "conformance.py")
        run = self.run_(sys.executable, tool, "--quick", "--role", role, "--folder", "report", "--limit", "60")
        self.assertEqual(0, run.end(), run.output)
        [count] = run.expect(rf"^{role}: (\d+) of \1 cases passed").groups()
        self.assertGreaterEqual(int(count), 247)

    def test_server(self) -> None:
        """``twistd getty-echo`` as the server."""
        self.check("server")

    def test_asgi(self) -> None:
        """The same of an ASGI application."""
        self.check("asgi")

    def test_http(self) -> None:
        """A port of HTTP as the server."""
        self.check("http")

    def test_client(self) -> None:
        """A pool of one session as the client."""
        self.check("client")
