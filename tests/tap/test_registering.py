"""The options of commands that register themselves."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from getty_tx.registry.provider import MAX_WEIGHT
from getty_tx.server import Server
from getty_tx.tap import asgi, dial, echo, http, listen, registering, rpc, serve
from tests.tap.test_options import OptionsTestCase
from tests.tap.test_twistd import PATIENCE, ProcessTestCase

#: All that can be said, and as what the Server takes it.
WORDS = (
    *("--advertise", "a.example", "--weight", "7", "--zone", "b", "--meta", "rack=b7", "--meta", "a=b=c"),
    *("--service-group", "g", "--service-version", "2"),
)
EXPECTED: dict[str, Any] = {
    "service": "shop",
    "advertise": "a.example",
    "weight": 7,
    "zone": "b",
    "meta": {"rack": "b7", "a": "b=c"},
    "group": "g",
    "version": "2",
}


class RegisteringTests(OptionsTestCase):
    """What the options become."""

    def setUp(self) -> None:
        self.registry = f"dir:{os.path.abspath(self.mktemp())}"

    def test_commands(self) -> None:
        """Every server takes them, under one of two names."""
        folder = self.mktemp()
        os.mkdir(folder)
        for options, name, arguments in (
            (echo.Options, "service", []),
            (serve.Options, "service", ["--listener", "tests.tap.test_options:instance"]),
            (rpc.Options, "register-as", ["--service", "tests.registry.test_announcing:Echo"]),
            (http.Options, "service", [folder]),
            (asgi.Options, "service", ["tests.tap.test_web:application"]),
        ):
            parsed = self.parse(options, f"--{name}", "shop", "--registry", self.registry, *WORDS, *arguments)
            found: Any = parsed.registering()
            self.assertEqual(found.pop("registry").name, self.registry)
            self.assertEqual(found, EXPECTED)
            self.assertEqual(self.parse(options, *arguments).registering(), {})

    def test_served(self) -> None:
        """A command's Server has them, that of a sub-reactor does not, and neither has one without a service."""
        words = ["--service", "shop", "--registry", self.registry, "--listen", "tcp:0"]
        made: Any = echo.makeService(self.parse(echo.Options, *words))
        self.assertEqual(made.server.announcement.service, "shop")
        made = echo.makeService(self.parse(echo.Options, *words, "--processes", "1"))
        self.assertEqual(made.processes.announcement.service, "shop")
        made = echo.makeService(self.parse(echo.Options))
        self.assertIsNone(made.server.announcement)
        server: list[Server] = []
        self.patch(listen, "Server", lambda *args, **settings: server.append(settings) or Server(*args, **settings))
        listen.subService(["tcp:0"], "getty_tx.tap.echo", *words)  # type: ignore[list-item]
        self.assertNotIn("service", server[0])

    def test_several(self) -> None:
        """A description for each endpoint."""
        places = ["--listen", "tcp:0", "--listen", "tcp:1", "--advertise", "tcp:a:1", "--advertise", "tls:b:2"]
        parsed = self.parse(echo.Options, "--service", "shop", "--registry", self.registry, *places)
        self.assertEqual(parsed.registering()["advertise"], ["tcp:a:1", "tls:b:2"])

    def test_default(self) -> None:
        """Without --registry it is the default one."""
        self.patch(os, "environ", {**os.environ, "GETTY_REGISTRY": self.registry})
        self.assertEqual(self.parse(echo.Options, "--service", "a").registering()["registry"].name, self.registry)
        os.environ["GETTY_REGISTRY"] = "nosuch:a"
        self.assertIn("GETTY_REGISTRY", self.refuse(echo.Options, "--service", "a"))

    def test_refused(self) -> None:
        """The error has the option and its value."""
        here = ["--service", "shop", "--registry", self.registry]
        for words, text in (
            (["--weight", "5"], "--weight 5: has no meaning without --service"),
            (["--meta", "a=b"], "--meta a: has no meaning without --service"),
            (["--advertise", "a"], "--advertise a: has no meaning without --service"),
            ([*here, "--weight", "1001"], "--weight 1001: takes a whole number from 0 to 1000"),
            ([*here, "--weight", "-1"], "--weight -1: takes"),
            ([*here, "--meta", "a"], "--meta a: is not NAME=VALUE"),
            ([*here, "--zone", "a\n"], "--zone a\n: zone="),
            ([*here, "--service-version", "\t"], "--service-version \t: version="),
            ([*here, "--advertise", "0.0.0.0"], "--advertise 0.0.0.0: advertise="),
            (["--service", "", "--registry", self.registry], "--service : service=''"),
            (["--service", "a", "--registry", "nosuch:a"], "--registry nosuch:a: 'nosuch:a': there is no 'nosuch:'"),
            ([*here, "--listen", "haproxy:tcp:0"], "--service shop: endpoint 'haproxy:tcp:0' is not what clients dial"),
            ([*here, "--listen", "haproxy:tcp:0"], "with --advertise, a host"),
        ):
            self.assertIn(text, self.refuse(echo.Options, *words))
        words = ["--service", "tests.registry.test_announcing:Echo", "--zone", "a"]
        self.assertIn("without --register-as", self.refuse(rpc.Options, *words))

    def test_dial(self) -> None:
        """A client's command finds the providers of a service there."""
        parsed = self.parse(dial.Options, "--connect", "service:echo:version=1", "--registry", self.registry)
        self.assertEqual(parsed.following["registry"].name, self.registry)
        made: Any = dial.makeService(parsed)
        self.assertEqual(made.client.destination, "service:echo:version=1")
        for words, text in (
            (["--registry", self.registry], "has no meaning without --connect service:NAME"),
            (["--connect", "service:echo", "--registry", "nosuch:a"], "--registry nosuch:a: 'nosuch:a'"),
            (["--connect", "service:"], "--connect service:: "),
        ):
            self.assertIn(text, self.refuse(dial.Options, *words))

    def test_weight(self) -> None:
        """The bound is that of a record."""
        self.assertEqual(registering.MAX_WEIGHT, MAX_WEIGHT)


class RegisteredTests(ProcessTestCase):
    """A command in a folder's registry, from start to end."""

    def test_processes(self) -> None:
        """It is there once, with its port, while it serves."""
        folder = os.path.join(self.folder, "registry")
        words = ["--listen=tcp:0:interface=127.0.0.1", "--service=echo", f"--registry=dir:{folder}", "--processes=1"]
        process = self.twistd("getty-echo", *words)
        port = int(process.expect(r"serves 127.0.0.1:(\d+) with 1 processes")[1])
        [record] = self.records(folder, 1)
        self.assertEqual(record["endpoint"], f"tcp:127.0.0.1:{port}")
        process.send(signal.SIGTERM)
        self.assertEqual(process.end(), 0)
        self.assertNotIn("Traceback", process.output)
        self.assertEqual(self.records(folder, 0), [])

    def records(self, folder: str, count: int) -> list[Any]:
        """The records, when there are as many."""
        until = time.monotonic() + PATIENCE
        while True:
            paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
            records = [path for path in paths if os.path.getsize(path)]
            if len(records) == count or time.monotonic() > until:
                break
            time.sleep(0.01)
        found = []
        for path in records:
            with open(path) as file:
                found.append(json.load(file))
        return found
