"""Chromium loads a page over TLS: HTTP/2 for what it asks for, and HTTP/1.1 for a WebSocket on the same port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from getty_tx import EventListener, http
from getty_tx.codecs import RawCodec
from tests.docs.test_echo_page import CHROMIUM
from tests.support.certificates import Authority
from tests.support.devtools import Tab

#: Requests that the page sends at once, more than a browser has connections of HTTP/1.1 to a server.
PARALLEL = 10

PAGE = """<!DOCTYPE html>
<title>loading</title>
<link rel="icon" href="data:,">
<script>
async function run() {
    const asked = Array.from({length: PARALLEL}, (_, i) => fetch("/parallel?" + i).then(answer => answer.text()));
    window.parallel = (await Promise.all(asked)).join();
    const posted = await fetch("/post", {method: "POST", body: "x".repeat(1000000) + "\\u20ac"});
    window.posted = await posted.json();
    const socket = new WebSocket("wss://" + location.host + "/echo");
    socket.onopen = () => socket.send("hello");
    window.echoed = await new Promise((resolve, reject) => {
        Object.assign(socket, {onmessage: event => resolve(event.data), onerror: () => reject("WebSocket")});
    });
    window.protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
    document.title = "done";
}
run().catch(error => { document.title = "failed: " + error; });
</script>
""".replace("PARALLEL", str(PARALLEL))


class Echo(EventListener):
    """Sends back what comes."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        session.writePkg(pkg)


class BrowserTests(TestCase):
    """A page that does all of it."""

    timeout = 60
    if CHROMIUM is None:
        skip = "Chromium is not installed"

    def router(self) -> http.Router:
        """What the page asks for; ``asked`` has the target, the version and the session of each request."""
        self.asked: list[tuple[str, str, Any]] = []
        waiting: list[Deferred[str]] = []
        router = http.Router()

        def ask(request: http.Request) -> None:
            self.asked.append((request.target.decode(), request.version, request.session))

        @router.get("/")
        def page(request: http.Request) -> http.Response:
            ask(request)
            return http.Response(body=PAGE.encode(), headers={"Content-Type": "text/html"})

        @router.get("/parallel")
        def parallel(request: http.Request) -> Deferred[str]:
            ask(request)
            answer: Deferred[str] = Deferred()
            waiting.append(answer)
            if len(waiting) == PARALLEL:
                # All are here, and the last one has its answer first.
                for number, each in reversed(list(enumerate(waiting))):
                    each.callback(str(number))
            return answer

        @router.post("/post", maxBody=2**21)
        def post(request: http.Request) -> dict[str, Any]:
            ask(request)
            assert request.content is not None
            return {"length": len(request.content), "last": request.content.decode()[-1]}

        def newSession(session: Any) -> None:
            self.asked.append(("/echo", session.request.http.version, session))
            session.codec = RawCodec()
            session.listener = Echo()

        router.webSocket("/echo", newSession)
        return router

    async def test_page(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        parts = [Path(name).read_bytes() for name in Authority(self.mktemp()).issue(["localhost"])]
        (folder / "localhost.pem").write_bytes(b"".join(parts))
        server = http.Server(self.router(), f"tls:{folder}:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()  # type: ignore[misc]
        url = f"https://localhost:{address.port}/"  # type: ignore[has-type]
        tab = await Tab.open(self, url, "--ignore-certificate-errors")
        self.assertEqual(await tab.until("document.title !== 'loading' && document.title"), "done")
        self.assertEqual(await tab.ask("window.protocol"), "h2")
        self.assertEqual(await tab.ask("window.parallel"), ",".join(map(str, range(PARALLEL))))
        self.assertEqual(await tab.ask("window.posted"), {"length": 1_000_003, "last": "\u20ac"})
        self.assertEqual(await tab.ask("window.echoed"), "hello")
        *requests, (target, version, _) = self.asked
        self.assertEqual((target, version), ("/echo", "1.1"))
        self.assertEqual({each[1] for each in requests}, {"2"}, requests)
        targets = ["/", *(f"/parallel?{number}" for number in range(PARALLEL)), "/post"]
        self.assertEqual(sorted(each[0] for each in requests), targets)
        self.assertEqual(len({each[2] for each in requests[1:]}), 1, requests)
