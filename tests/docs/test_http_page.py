"""The pages about HTTP: their blocks run, their tables are right."""

from __future__ import annotations

import os
import re
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.http.context import HTTPContext
from getty_tx.settings import Setting
from getty_tx.tap import asgi
from getty_tx.tap import http as plain
from getty_tx.tap.environment import addEnvironment
from tests.docs.test_guide import ROOT, codeIn, read, rowsIn, section
from tests.support.h2client import Talk2

PAGE = ROOT / "docs" / "guide" / "http.md"


class HTTPPageTests(TestCase):
    """What the page makes."""

    timeout = 60

    def setUp(self) -> None:
        # The page opens a file for its access log.
        self.folder = self.mktemp()
        os.mkdir(self.folder)
        before = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, before)
        self.names: dict[str, Any] = {"__name__": "pages"}
        for place, tree in codeIn(PAGE):
            exec(compile(tree, place, "exec", dont_inherit=True), self.names)
        self.addCleanup(self.names["logged"].context.access.close)

    async def ask(self, application: Any, *requests: tuple[Any, ...]) -> list[tuple[int, bytes]]:
        """Ask a server of the application; the statuses and the bodies."""
        from http.client import HTTPConnection

        server = http.Server(application, "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()

        def work() -> list[tuple[int, bytes]]:
            client = HTTPConnection("127.0.0.1", address.port, timeout=30)
            found = []
            for method, path, *rest in requests:
                client.request(method, path, *rest)
                answer = client.getresponse()
                found.append((answer.status, answer.read()))
            client.close()
            return found

        return await deferToThread(work)  # type: ignore[no-any-return]

    async def test_router(self) -> None:
        found = await self.ask(
            self.names["router"],
            ("GET", "/users/7?q=tea"),
            ("POST", "/orders", b"abc"),
            ("GET", "/count"),
            ("GET", "/private"),
            ("GET", "/private", None, {"Authorization": "Bearer let-me-in"}),
            ("POST", "/upload", b"x" * 300_000),
            ("POST", "/upload", b"small"),
            ("POST", "/upload"),
        )
        self.assertEqual(
            found,
            [
                (200, b'{"id":"7","q":"tea"}'),
                (201, b'{"bytes":3}'),
                (200, b"0\n1\n2\n"),
                (401, b"401 Unauthorized: who are you?\n"),
                (200, b"welcome"),
                (200, b'{"size":300000}'),
                (200, b'{"size":5}'),
                (200, b'{"size":0}'),
            ],
        )

    async def test_asgi(self) -> None:
        self.assertEqual(await self.ask(self.names["asgi"].context.application, ("GET", "/")), [(200, b"hello")])

    def test_limits(self) -> None:
        """The table has every limit with its default."""
        shown = {}
        both = section(read("guide/http.md"), "Limits") + section(read("guide/http2.md"), "Settings")
        for name, default, _ in rowsIn(both):
            if name.startswith("`"):
                number = re.match(r"[\d.]+", default)
                shown[name.strip("`")] = float(number[0]) if number else None
        settings = {name: value.default for name, value in vars(HTTPContext).items() if isinstance(value, Setting)}
        for other in ("serverName", "proxies", "headers", "rootPath"):
            del settings[other]
        self.assertEqual(shown, settings)

    async def test_http2(self) -> None:
        """The page about HTTP/2 has a server, which serves it."""
        names: dict[str, Any] = {"__name__": "pages"}
        for place, tree in codeIn(ROOT / "docs" / "guide" / "http2.md"):
            exec(compile(tree, place, "exec", dont_inherit=True), names)
        self.assertEqual(await self.ask(names["router"], ("GET", "/hello")), [(200, b"hello over HTTP/1.1")])
        self.assertEqual(Talk2(names["router"]).get("/hello").body, b"hello over HTTP/2")
        self.assertTrue(names["server"].context.speaksTwo)

    def test_options(self) -> None:
        """The table has every option that the commands have beyond those of others."""
        text = read("commands-http.md")
        shown = set(re.findall(r"`--([a-z0-9-]+)", "".join(row[0] for row in rowsIn(text))))
        known = set()
        for command in (plain, asgi):
            for base in command.Options.__mro__:
                if base.__module__ in ("getty_tx.tap.web", command.__name__):
                    known |= {entry[0] for entry in vars(base).get("optParameters", ())}
                    known |= {entry[0] for entry in vars(base).get("optFlags", ())}
                    known |= {name[4:].replace("_", "-") for name in vars(base) if name.startswith("opt_")}
        known -= {"l", "listen"}
        self.assertEqual(shown, known)

    def test_envFile(self) -> None:
        """The file is read as the page says."""
        path = self.mktemp()
        block = section(read("commands-http.md"), "Env file").split("\n\n")[0]
        with open(path, "w") as file:
            file.write(block)
        self.patch(os, "environ", {})
        addEnvironment(path)
        expected = {"DATABASE_URL": "postgres://localhost/shop", "SECRET": "pa$$ ${word} # \\n"}
        self.assertEqual(os.environ, expected)

    def test_fromUvicorn(self) -> None:
        """The options that are named as ours exist."""
        known = {option for command in (plain, asgi) for option in command.Options().longOpt}
        known = {option.rstrip("=") for option in known}
        for row in rowsIn(read("from/uvicorn.md")):
            for option in re.findall(r"`--([a-z-]+)", row[2].partition("see")[0]):
                self.assertIn(option, known | {"logfile", "logger"}, row)
