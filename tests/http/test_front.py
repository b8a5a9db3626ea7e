"""HAProxy and nginx in front of a server: connections that stay, bodies both ways, who the client is, WebSocket."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import EventListener
from getty_tx import http as gettyHTTP
from getty_tx.codecs import RawCodec

#: Seconds for a proxy to start, on a busy machine.
PATIENCE = 30

LARGE = 2_000_000

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 60s
    option forwardfor
frontend web
    bind 127.0.0.1:{front}
    http-request set-header X-Forwarded-Proto https
    default_backend getty
backend getty
    http-reuse always
    server one 127.0.0.1:{port}
"""

NGINX = """
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream getty {{ server 127.0.0.1:{port}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{front};
        client_max_body_size 0;
        location / {{
            proxy_pass http://getty;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


class Echo(EventListener):
    """Sends messages back."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        session.writePkg(pkg)


def makeRouter() -> gettyHTTP.Router:
    """What is asked for."""
    router = gettyHTTP.Router()

    @router.get("/who")
    def who(request: gettyHTTP.Request) -> dict[str, Any]:
        return {"client": request.client and request.client[0], "scheme": request.scheme, "session": request.session.id}

    @router.post("/length", stream=True)
    async def length(request: gettyHTTP.Request) -> dict[str, int]:
        return {"length": len(await request.read(10**8))}

    @router.get("/large")
    async def large(request: gettyHTTP.Request) -> Any:
        for _ in range(LARGE // 1000):
            yield b"x" * 1000

    def newSession(session: Any) -> None:
        session.codec, session.listener = RawCodec(), Echo()

    router.webSocket("/ws", newSession)
    return router


class FrontTests(TestCase):
    """Both do the same."""

    timeout = 120

    async def through(self, name: str, config: str, arguments: list[str]) -> None:
        """Start the server and a proxy in front of it, and ask."""
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if program is None:
            raise SkipTest(f"{name} is not installed")
        server = gettyHTTP.Server(makeRouter(), "tcp:0:interface=127.0.0.1", proxies=["127.0.0.1"])
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            front = free.getsockname()[1]
        Path(folder, "config").write_text(config.format(front=front, port=address.port, folder=folder))
        command = [program, *[argument.format(folder=folder) for argument in arguments]]
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def end() -> None:
            proxy.kill()
            proxy.communicate()

        self.addCleanup(end)
        await deferToThread(self.ask, proxy, front)

    def ask(self, proxy: Any, front: int) -> None:
        """In a thread: what a client sees."""
        late = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", front), 5).close()
                break
            except OSError:
                if proxy.poll() is not None or time.monotonic() > late:
                    raise AssertionError(f"it does not listen: {proxy.stdout.read1()!r}") from None
                time.sleep(0.02)
        client = http.client.HTTPConnection("127.0.0.1", front, timeout=PATIENCE)

        def get(*request: Any) -> Any:
            client.request(*request)
            answer = client.getresponse()
            self.assertEqual(answer.status, 200)
            return answer.read()

        seen = [json.loads(get("GET", "/who", None, {"X-Forwarded-For": "192.0.2.1"})) for _ in range(3)]
        # The proxy's connection to the server stays. The client is at a trusted address, as another proxy would be.
        self.assertEqual(len({each["session"] for each in seen}), 1)
        self.assertEqual({(each["client"], each["scheme"]) for each in seen}, {("192.0.2.1", "https")})
        self.assertEqual(len(get("GET", "/large")), LARGE)
        self.assertEqual(json.loads(get("POST", "/length", b"x" * LARGE)), {"length": LARGE})
        client.request("POST", "/length", iter([b"x" * 1000] * 500), encode_chunked=True)
        self.assertEqual(json.loads(client.getresponse().read()), {"length": 500_000})
        client.close()
        try:
            from websockets.sync.client import connect
        except ImportError:
            return
        with connect(f"ws://127.0.0.1:{front}/ws") as browser:
            browser.send(b"hello")
            self.assertEqual(browser.recv(timeout=PATIENCE), b"hello")

    async def test_haproxy(self) -> None:
        await self.through("haproxy", HAPROXY, ["-db", "-f", "{folder}/config"])

    async def test_nginx(self) -> None:
        settings = "daemon off; master_process off; pid {folder}/pid;"
        await self.through("nginx", NGINX, ["-p", "{folder}", "-c", "{folder}/config", "-e", "stderr", "-g", settings])
