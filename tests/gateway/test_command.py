"""``twistd getty-gateway``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import TestCase

from getty_tx.tap import gateway
from tests.support.gateway import KEY
from tests.tap.test_twistd import ProcessTestCase

CONFIG = f"""
anonymous = true
apiKey = "{KEY}"

[namespaces.news]
subscribe = "anyone"
historySize = 10
historySeconds = 60
"""


class OptionTests(TestCase):
    def parse(self, *words: str) -> Any:
        """Parsed options."""
        self.path = self.mktemp()
        Path(self.path).write_text(CONFIG)
        options = gateway.Options()
        options.parseOptions([*words])
        return options

    def refused(self, *words: str) -> str:
        """Why a command line is refused."""
        return str(self.assertRaises(usage.UsageError, self.parse, *words))

    def test_wrong(self) -> None:
        """What is wrong is named, with its option."""
        config = self.mktemp()
        Path(config).write_text(CONFIG)
        broken = self.mktemp()
        Path(broken).write_text('secret = "x"')
        for words, wanted in (
            ((), "--config is required"),
            (("--config", "/no/such/file"), "--config /no/such/file: "),
            (("--config", broken), f"--config {broken}: "),
            (("--config", config, "--engine", "ftp://x"), "--engine: engine="),
            (("--config", config, "more"), "'more' is not an option"),
            (("--config", config, "--listen", "udp:8000"), "--listen udp:8000"),
        ):
            self.assertTrue(self.refused(*words).startswith(wanted), (words, self.refused(*words)))

    def test_service(self) -> None:
        """The options are those of the sessions; the gateway runs as long as its server."""
        config = self.mktemp()
        Path(config).write_text(CONFIG)
        options = self.parse("--config", config, "--idle-timeout", "9", "--listen", "tcp:0:interface=127.0.0.1")
        self.assertIn("the API below /api; groups of this process", options.serves())
        several = self.parse("--config", config, "--processes", "2")
        self.assertIn("groups of its processes", several.serves())
        service: Any = gateway.makeService(options)
        self.assertFalse(options.gateway.groups.running)
        service.privilegedStartService()
        service.startService()
        self.assertTrue(options.gateway.groups.isUp)
        return service.stopService()


class ProcessTests(ProcessTestCase):
    def test_run(self) -> None:
        """A client hears what was published by HTTP; when the command ends, it is told to come back."""
        import json
        import signal
        from urllib.request import Request, urlopen

        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        Path(self.folder, "gateway.toml").write_text(CONFIG)
        process = self.twistd("getty-gateway", "--config", "gateway.toml", "--listen", "tcp:0:interface=127.0.0.1")
        port = int(process.expect(r"getty-gateway serves \S*:(\d+): clients at /connection/websocket")[1])
        with connect(f"ws://127.0.0.1:{port}/connection/websocket") as client:
            client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news:1"}}')
            self.assertEqual([json.loads(client.recv(5))["id"] for _ in range(2)], [1, 2])
            body = json.dumps({"channel": "news:1", "data": [1]}).encode()
            asked = Request(f"http://127.0.0.1:{port}/api/publish", body, {"X-API-Key": KEY})
            with urlopen(asked, timeout=5) as answer:
                self.assertEqual(json.load(answer)["result"]["offset"], 1)
            self.assertEqual(json.loads(client.recv(5))["push"]["pub"], {"data": [1], "offset": 1})
            process.send(signal.SIGTERM)
            closed = self.assertRaises(ConnectionClosed, client.recv, 5)
            self.assertEqual(closed.rcvd.code, 1001)
        self.assertEqual(0, process.end(), process.output)
        self.assertNotIn("Traceback", process.output)

    def test_processes(self) -> None:
        """Clients of all processes hear what was published in one of them."""
        import json
        from urllib.request import Request, urlopen

        from websockets.sync.client import connect

        Path(self.folder, "gateway.toml").write_text(CONFIG)
        process = self.twistd(
            "getty-gateway", "--config", "gateway.toml", "--listen", "tcp:0:interface=127.0.0.1", "--processes", "2"
        )
        port = int(process.expect(r"getty-gateway serves \S*:(\d+) with 2 processes.*groups of its processes")[1])
        clients = [connect(f"ws://127.0.0.1:{port}/connection/websocket") for _ in range(4)]
        for client in clients:
            self.addCleanup(client.close)
            client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news:1"}}')
            self.assertEqual([json.loads(client.recv(5))["id"] for _ in range(2)], [1, 2])
        for number in range(1, 5):
            body = json.dumps({"channel": "news:1", "data": [number]}).encode()
            asked = Request(f"http://127.0.0.1:{port}/api/publish", body, {"X-API-Key": KEY})
            with urlopen(asked, timeout=5) as answer:
                self.assertEqual(json.load(answer)["result"]["offset"], number)
            for client in clients:
                self.assertEqual(json.loads(client.recv(5))["push"]["pub"], {"data": [number], "offset": number})
