"""The page about Dubbo, its command and its example."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import rpc
from getty_tx.rpc.command import parse
from getty_tx.rpc.hessian import Long
from tests.support.examples import ExampleTestCase

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "dubbo.md").read_text()


def runPage() -> dict[str, Any]:
    """What the page's blocks define, one after the other."""
    if find_spec("kazoo") is None:
        raise SkipTest("kazoo is not installed")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, names)
    return names


class PageTests(TestCase):
    """What is on the page."""

    timeout = 20

    async def test_page(self) -> None:
        """The clients of the page ask its server."""
        names = runPage()
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=names["wire"])
        client.startService()
        self.addCleanup(client.stopService)
        self.assertEqual("red", await names["ask"](client))
        self.assertEqual("com.ex.SoldOutException: no pink is left, 8", await names["order"](client))
        expected = {"class": "com.ex.Car", "color": "blue", "number": 9}
        self.assertEqual(expected, await names["generic"](client))
        self.assertIs(Long, type(await client.call("com.ex.Cars", "total")))

    def test_command(self) -> None:
        """The command is one."""
        [command] = re.findall(r"^    python -m getty_tx.rpc (.*)", PAGE, re.MULTILINE)
        options = parse(shlex.split(command))
        self.assertEqual(("com.ex.Cars", "paint", ["red", 7]), (options.service, options.method, options.arguments))
        self.assertEqual("Dubbo()", repr(options.wire))


class ExampleTests(ExampleTestCase):
    """examples/dubbo.py, as its own first lines say."""

    LINES = """\
com.ex.Car {'color': 'red', 'number': 7}
{'class': 'com.ex.Car', 'color': 'blue', 'number': 8}
SoldOut no pink is left"""

    def test_alone(self) -> None:
        """Both ends in one process."""
        process = self.example("dubbo.py")
        self.assertEqual(0, process.end(), process.output)
        self.assertEqual(self.LINES, process.output)

    def test_other(self) -> None:
        """The server, and a client of it."""
        server = self.example("dubbo.py", "serve", "unix:x.sock")
        server.expect("listening on .*x.sock")
        client = self.example("dubbo.py", "unix:x.sock")
        self.assertEqual(0, client.end(), client.output)
        self.assertEqual(self.LINES, client.output)
        self.stop(server)
