"""The pages about the gateway: their blocks work, their tables are whole."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from getty_tx.gateway import Gateway, GatewaySettings, Rules, readSettings
from getty_tx.gateway.settings import WHO
from getty_tx.tap import gateway
from getty_tx.testing import connectedHTTP
from tests.docs.test_commands import fenced, indented
from tests.docs.test_guide import ROOT, codeIn, read, rowsIn, section
from tests.support.gateway import GatewayCase, RawClient, signed

PAGE = ROOT / "docs" / "howto" / "gateway.md"


class BlockTests(GatewayCase):
    """A gateway with the file of the page."""

    def settings(self) -> dict[str, Any]:
        signed()
        path = Path(self.mktemp())
        path.write_text(fenced("howto/gateway.md", "toml")[0])
        self.file = readSettings(str(path))
        shown = {each.name: getattr(self.file, each.name) for each in fields(GatewaySettings)}
        del shown["namespaces"]
        return shown

    def namespaces(self) -> dict[str, Rules]:
        self.settings()
        return dict(self.file.namespaces)

    def test_token(self) -> None:
        """The page's function makes tokens that the page's file takes."""
        names: dict[str, Any] = {}
        place, tree = next(iter(codeIn(PAGE)))
        exec(compile(tree, place, "exec", dont_inherit=True), names)
        client = self.client(Origin="https://chat.example.org")
        reply = client.ask(connect={"token": names["tokenFor"]("ann")})
        self.assertTrue(reply["connect"]["expires"])
        self.assertIn("subscribe", client.ask(subscribe={"channel": "chat:42"}))

    def test_publish(self) -> None:
        """What curl sends is published."""
        [block] = fenced("howto/gateway.md", "sh")
        name, key = re.findall(r"-H '(\S+): ([^']+)'", block)[0]
        [body] = re.findall(r"-d '([^']+)'", block)
        [path] = re.findall(r"http://127.0.0.1:8000(/\S+)", block)
        client = connectedHTTP(self.router, clock=self.clock)
        answer = client.request("POST", path, {name: key}, body)
        self.assertEqual((answer.status, answer.json()), (200, {"result": {}}), json.loads(body))
        client.close()

    def test_program(self) -> None:
        """The program of the page lets friends subscribe, and nobody else."""

        async def friendsOf(user: str) -> list[str]:
            return {"ann": ["bob"]}.get(user, [])

        names: dict[str, Any] = {"friendsOf": friendsOf}
        place, tree = list(codeIn(PAGE))[1]
        exec(compile(tree, place, "exec", dont_inherit=True), names)
        made: Gateway = names["gateway"]
        made.groups._reactor = self.clock
        self.patch(made.tokensOrFail(), "_now", self.clock.seconds)
        made.startService()
        self.addCleanup(made.stopService)
        self.router = names["router"]
        client = RawClient(self)
        self.clients.append(client)
        token = signed("put-32-random-bytes-or-more-here", sub="ann")
        self.assertIn("connect", client.ask(connect={"token": token}))
        self.assertIn("subscribe", client.ask(subscribe={"channel": "wall:bob"}))
        self.assertEqual(client.code(subscribe={"channel": "wall:eve"}), 103)


class TableTests(TestCase):
    def test_options(self) -> None:
        """The table has every option that the command has beyond those of others."""
        rows = list(rowsIn(read("commands-gateway.md").partition("## ")[0]))
        shown = set(re.findall(r"`--([a-z-]+)", "".join(row[0] for row in rows)))
        self.assertEqual(shown, {entry[0] for entry in vars(gateway.Options)["optParameters"]})

    def test_commands(self) -> None:
        """What is typed is a command line of it."""
        config = Path(self.mktemp())
        config.write_text("")
        for page in ("howto/gateway.md", "commands-gateway.md"):
            line = indented(page)[0].splitlines()[0]
            words = line.partition("getty-gateway ")[2].replace("gateway.toml", str(config)).split()
            options = gateway.Options()
            options.parseOptions(words)
            self.assertEqual(options["config"], str(config))

    def test_settings(self) -> None:
        """The tables have every setting with its default, and every word."""
        text = section(read("commands-gateway.md"), "Settings of the file")
        shown = {}
        for names, default, _ in rowsIn(text):
            for name in re.findall(r"`(\w+)`", names):
                shown[name] = default.strip("`")
        known = {each.name: each.default for each in fields(GatewaySettings)}
        for name in ("secretFile", "publicKeyFile", "apiKeyFile", "subscribe", "publish", "history", "presence"):
            del shown[name]
        self.assertEqual(set(shown), set(known))
        for name, default in shown.items():
            if re.fullmatch(r"[\d.]+", default):
                self.assertEqual(float(default), known[name], name)
        for word in WHO:
            self.assertIn(f"`{word}`", text)
