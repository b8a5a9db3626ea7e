"""Chromium loads a page from a router: a script, a style sheet, a POST and an answer as it comes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from getty_tx import http
from tests.docs.test_echo_page import CHROMIUM
from tests.support.devtools import Tab

PAGE = """<!DOCTYPE html>
<title>loading</title>
<link rel="icon" href="data:,">
<p id="text">text</p>
<script src="/script.js"></script>
"""

#: Each step waits for the one before it, so that one connection is enough.
SCRIPT = """
window.parts = [];
async function run() {
    await new Promise((resolve, reject) => {
        const link = document.createElement("link");
        Object.assign(link, {rel: "stylesheet", href: "/style.css", onload: resolve, onerror: reject});
        document.head.append(link);
    });
    window.color = getComputedStyle(document.getElementById("text")).color;
    const posted = await fetch("/post", {method: "POST", body: "x".repeat(300000) + "\\u20ac"});
    window.posted = await posted.json();
    const reader = (await fetch("/stream")).body.getReader();
    for (let part; !(part = await reader.read()).done;)
        window.parts.push(new TextDecoder().decode(part.value));
    document.title = "done";
}
run().catch(error => { document.title = "failed: " + error; });
"""


class BrowserTests(TestCase):
    """A page that does all of it."""

    timeout = 60
    if CHROMIUM is None:
        skip = "Chromium is not installed"

    def makeRouter(self) -> http.Router:
        """What the page asks for; ``self.asked`` has the targets and the sessions."""
        self.asked: list[tuple[str, Any]] = []
        self.gate: Deferred[None] = Deferred()
        router = http.Router()

        def serve(target: str, content: str, body: str) -> None:
            @router.get(target)
            def handler(request: http.Request) -> http.Response:
                self.asked.append((target, request.session.id))
                return http.Response(body=body.encode(), headers={"Content-Type": content})

        serve("/", "text/html", PAGE)
        serve("/script.js", "text/javascript", SCRIPT)
        serve("/style.css", "text/css", "p { color: rgb(1, 2, 3) }")

        @router.post("/post")
        def post(request: http.Request) -> dict[str, Any]:
            self.asked.append(("/post", request.session.id))
            assert request.content is not None
            return {"length": len(request.content), "last": request.content.decode()[-1]}

        @router.get("/stream")
        async def stream(request: http.Request) -> Any:
            self.asked.append(("/stream", request.session.id))
            yield "one"
            await self.gate
            yield "two"

        return router

    async def test_page(self) -> None:
        server = http.Server(self.makeRouter(), "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()  # type: ignore[misc]
        tab = await Tab.open(self, f"http://127.0.0.1:{address.port}/")  # type: ignore[has-type]
        # The first part is there while the answer goes on.
        self.assertTrue(await tab.until("window.parts.length === 1 && window.parts[0] === 'one'"))
        self.gate.callback(None)
        self.assertEqual(await tab.until("document.title !== 'loading' && document.title"), "done")
        self.assertEqual(await tab.ask("window.parts.join()"), "one,two")
        self.assertEqual(await tab.ask("window.color"), "rgb(1, 2, 3)")
        self.assertEqual(await tab.ask("window.posted"), {"length": 300_003, "last": "\u20ac"})
        self.assertEqual([target for target, _ in self.asked], ["/", "/script.js", "/style.css", "/post", "/stream"])
        # One is enough; Chromium may open a second one ahead, and use that as well.
        self.assertLess(len({session for _, session in self.asked}), 3, self.asked)
