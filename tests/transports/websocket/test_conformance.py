"""Some of the Autobahn test suite's cases; ``make conformance`` runs all, and ``make long`` cases 1 to 7 and 10."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tests.support.long import IS_LONG
from tests.tap import test_twistd
from tests.tap.test_twistd import ROOT, ProcessTestCase

#: Frames, fragments, some of the many UTF-8 texts, and closing: what a short run has, and how many these are.
SMOKE = ("1.*", "5.*", "6.4.*", "7.1.*")
LEAST = 247 if IS_LONG else 40


class ConformanceTests(ProcessTestCase):
    """kosoku runs the cases, in separate processes."""

    if find_spec("kosoku") is None:
        skip = "kosoku is not installed, which drives the Autobahn test suite's cases"

    def test_roles(self) -> None:
        """
        All cases have passed in each role: ``twistd getty-echo`` as the server, a port of HTTP, an ASGI application,
        a port beside a group that is published to, and a pool of one session as the client. They run at the same time,
        as most cases wait that nothing happens.
        """
        # It ends its processes, unless it is killed: so let it end by itself.
        self.patch(test_twistd, "PATIENCE", 120)
        tool = str(ROOT / "tools" / "conformance.py")
        cases = ["--quick"] if IS_LONG else [word for case in SMOKE for word in ("--case", case)]
        run = self.run_(sys.executable, tool, *cases, "--folder", "report", "--limit", "90")
        self.assertEqual(0, run.end(), run.output)
        for role in ("server", "http", "asgi", "group", "client"):
            [count] = run.expect(rf"^{role}: (\d+) of \1 cases passed").groups()
            self.assertGreaterEqual(int(count), LEAST)
