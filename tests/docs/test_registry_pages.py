"""The how-tos about registries: what is on them is run."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import EventListener, Server
from getty_tx.codecs import LineCodec
from getty_tx.registry import registryFrom
from getty_tx.registry.command import parse
from getty_tx.registry.static import readFile
from tests.docs.test_commands import fenced
from tests.docs.test_guide import ROOT
from tests.support.memory import configure

PAGES = ("howto/registry-one-machine.md", "howto/kubernetes.md")


class PageTests(TestCase):
    """Their blocks."""

    timeout = 20

    def names(self, page: str) -> dict[str, Any]:
        """What the code of a page makes."""
        names: dict[str, Any] = {}
        for block in fenced(page, "python"):
            exec(compile(block, page, "exec"), names)
        return names

    async def test_oneMachine(self) -> None:
        """The follower of the page finds the server of the page, until that stops."""
        page = self.names(PAGES[0])
        registry: Any = registryFrom(f"dir:{os.path.abspath(self.mktemp())}")
        registry.startService()
        server = Server(configure(EventListener(), LineCodec()), "tcp:0:interface=127.0.0.1")
        server.startService()
        endpoints = page["follow"](registry)
        registration = await page["announce"](server, registry)
        expected = f"tcp:127.0.0.1:{(await server.whenListening())[0].port}"
        while list(endpoints.known.values()) != [expected]:
            await deferLater(reactor, 0)
        self.assertTrue(registration.isRegistered)
        await registry.stopService()
        await server.stopService()

    def test_toml(self) -> None:
        """The file of the page."""
        path = self.mktemp() + ".toml"
        [block] = fenced(PAGES[0], "toml")
        with open(path, "w") as file:
            file.write(block)
        services = readFile(path)
        self.assertEqual({"chat": 2, "echo": 2}, {service: len(records) for service, records in services.items()})
        self.assertEqual(["a", "b"], [each.zone for each in services["echo"].values()])

    def test_texts(self) -> None:
        """The command lines and the texts of registries on the pages are such."""
        found = 0
        for page in PAGES:
            text = (ROOT / "docs" / page).read_text()
            for line in re.findall(r"^    (python -m getty_tx.registry .*)$", text, re.MULTILINE):
                parse(shlex.split(line)[3:])
                found += 1
            for each in re.findall(r"`((?:dir|static|dns|file):[^`]*)`", text):
                if each not in ("dir:", "dns:"):
                    registryFrom(each.replace("/run/getty", os.path.abspath(self.mktemp())))
                    found += 1
        self.assertEqual(10, found)

    def test_kubernetes(self) -> None:
        """The name is that of the service."""
        page = self.names(PAGES[1])
        service = fenced(PAGES[1], "yaml")[0]
        name, namespace = (re.search(rf"^  {key}: (\S+)$", service, re.MULTILINE)[1] for key in ("name", "namespace"))  # type: ignore[index]
        [port] = re.findall(r"- name: (\S+)$", service, re.MULTILINE)
        self.assertEqual(f"_{port}._tcp.{name}.{namespace}.svc.cluster.local", page["NAME"])
