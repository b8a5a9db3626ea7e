"""The how-to about HAProxy and nginx, with the real ones: its commands and configurations as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest
from websockets.sync.client import connect

from tests.support.certificates import Authority
from tests.tap.test_twistd import PATIENCE, ROOT, TWISTD, ProcessTestCase

PAGE = ROOT / "docs" / "howto" / "proxies.md"

#: Says who asks, as the listener sees it, and what.
SERVICE = """
from getty_tx import EventListener
class Listener(EventListener):
    def onMessage(self, session, pkg):
        text = pkg if isinstance(pkg, str) else pkg.decode()
        address = session.remoteAddr
        text = f"{address.host} {address.port} {text}"
        session.writePkg(text if isinstance(pkg, str) else text.encode())
"""

#: Where Debian has what nginx loads; its own nginx.conf includes files that do.
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

#: Debian has them there, and the paths of users do not.
SEARCHED = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"

#: How often other ports are tried, as somebody may take them before a proxy does.
TRIES = 5

_BLOCK = re.compile(r"^## (.*?)$|^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(heading: str, language: str) -> list[str]:
    """Those of a language below a heading."""
    found, within = [], ""
    for match in _BLOCK.finditer(PAGE.read_text()):
        within = match[1] or within
        if within == heading and match[2] == language:
            found.append(match[3])
    return found


def findProgram(name: str, package: str) -> str:
    """
    Where a program is.

    :raise SkipTest: it is not installed.
    """
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        raise SkipTest(f"there is no {name} (Debian: apt-get install {package})")
    return found


def freePort() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class ProxyTests(ProcessTestCase):
    """Each with the command that the page has beside it."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.mktemp())
        certificate, key = self.authority.issue(["localhost"])
        shutil.copy(certificate, f"{self.folder}/cert.pem")
        shutil.copy(key, f"{self.folder}/key.pem")
        # HAProxy wants both in one file.
        Path(self.folder, "both.pem").write_text(Path(certificate).read_text() + Path(key).read_text())
        os.mkdir(f"{self.folder}/mypkg")
        Path(self.folder, "mypkg", "service.py").write_text(SERVICE)

    def serve(self, command: str) -> dict[str, str]:
        """
        Run a command of the page, on free ports.

        :return: where it listens, by the places that the page's configurations name.
        """
        words = shlex.split(re.sub(r"\b809[0-2]\b", "0", command.replace("\\\n", " ")))
        self.assertEqual(["twistd", "-n"], words[:2])
        self.server = self.run_(*TWISTD, "-n", "--pidfile=", *words[2:])
        port = self.server.expect(r"listening on 127\.0\.0\.1:(\d+) ")[1]
        found = {f"127.0.0.1:{each}": f"127.0.0.1:{port}" for each in (8090, 8091)}
        if "--status" in words:
            found["port 8092"] = "port " + self.server.expect(r"status on http://127\.0\.0\.1:(\d+)/")[1]
        self.server.expect("getty-serve serves")
        return found

    def front(self, text: str, name: str, *command: str) -> dict[int, int]:
        """
        Run a proxy with a configuration of the page, on free ports.

        :param name: of the file for the configuration.
        :return: the ports that it listens on, by those that the page gives.
        """
        for _ in range(TRIES):
            ports = {int(number): freePort() for number in re.findall(r"\b(?:bind :|listen )(\d+)\b", text)}

            def replace(match: re.Match[str], ports: dict[int, int] = ports) -> str:
                return f"{match[1]}127.0.0.1:{ports[int(match[2])]}"

            Path(self.folder, name).write_text(re.sub(r"\b(bind |listen ):?(\d+)\b", replace, text))
            proxy = self.run_(*command)
            while not proxy.hasEnded:
                if all(map(self.listens, ports.values())):
                    return ports
                time.sleep(0.01)
            proxy.end()
            if not re.search("cannot bind|in use", proxy.output):
                break
        raise AssertionError(f"{command[0]} does not run:\n{proxy.output}")

    def listens(self, port: int) -> bool:
        """Whether somebody listens there."""
        with socket.socket() as connection:
            return not connection.connect_ex(("127.0.0.1", port))

    def haproxy(self, text: str, places: dict[str, str]) -> dict[int, int]:
        """Run HAProxy before a server."""
        program = findProgram("haproxy", "haproxy")
        for place, found in (places | {"/etc/haproxy/both.pem": "both.pem"}).items():
            text = text.replace(place, found)
        return self.front(text, "haproxy.cfg", program, "-db", "-f", "haproxy.cfg")

    def nginx(self, text: str, places: dict[str, str]) -> dict[int, int]:
        """Run nginx before a server."""
        program = findProgram("nginx", "nginx-light libnginx-mod-stream")
        for place, found in places.items():
            text = text.replace(place, found)
        if "events {" not in text:
            text = "events {}\n" + text
        if "stream {" in text:
            if not STREAM.exists():
                raise SkipTest("there is no stream module of nginx (Debian: apt-get install libnginx-mod-stream)")
            text = f"load_module {STREAM};\n{text}"
        # In place of the system's folders, which belong to root.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        text = text.replace("http {\n", f"http {{\naccess_log off;\n{folders}")
        # One process, which ends when it is killed.
        settings = f"daemon off; master_process off; pid {self.folder}/pid;"
        arguments = ["-p", self.folder, "-c", f"{self.folder}/nginx.conf", "-e", "stderr", "-g", settings]
        return self.front(text, "nginx.conf", program, *arguments)

    def dial(self, port: int, encrypted: bool = False) -> socket.socket:
        """A connection to a proxy."""
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        if encrypted:
            connection = self.context().wrap_socket(connection, server_hostname="localhost")
        self.addCleanup(connection.close)
        return connection

    def context(self) -> ssl.SSLContext:
        """Trusts the authority of the certificate."""
        return ssl.create_default_context(cafile=self.authority.path)

    def assertTold(self, connection: socket.socket) -> None:
        """What is said comes back, with the address that this side has."""
        host, port = connection.getsockname()
        self.converse(connection, b"hello\n", f"{host} {port} hello\n".encode())

    def assertBrowses(self, url: str, address: str = "", **options: Any) -> None:
        """
        Text and bytes come back through a proxy.

        :param address: what the listener sees, as a pattern; by default this side's address.
        """
        with connect(url, open_timeout=PATIENCE, **options) as browser:
            address = address or "{} {}".format(*browser.local_address)
            browser.send("grüß dich")
            self.assertRegex(str(browser.recv(timeout=PATIENCE)), f"^{address} grüß dich$")
            browser.send(b"bytes")
            heard = browser.recv(timeout=PATIENCE)
            assert isinstance(heard, bytes)
            self.assertRegex(heard.decode(), f"^{address} bytes$")

    def test_haproxy(self) -> None:
        """The listener sees the client's address, in clear and behind TLS; HAProxy sees whether the server is ready."""
        command, _ = blocks("HAProxy", "sh")
        [text] = blocks("HAProxy", "haproxy")
        # Where HAProxy says what it thinks of the server, which it is to ask at once, and to forgive on a busy machine.
        text += "\nfrontend admin\n    bind :7999\n    mode http\n    stats enable\n    stats uri /;csv\n"
        ports = self.haproxy(text.replace("check port", "check inter 100ms fall 100 port"), self.serve(command))
        self.assertTold(self.dial(ports[7000]))
        self.assertTold(self.dial(ports[7443], encrypted=True))
        checked = ""
        while "L7OK" not in checked:
            self.assertNotIn("DOWN", checked)
            with urlopen(f"http://127.0.0.1:{ports[7999]}/;csv", timeout=PATIENCE) as answer:
                checked = answer.read().decode()

    def test_haproxyWebSocket(self) -> None:
        """The same for a WebSocket."""
        _, command = blocks("HAProxy", "sh")
        [text] = blocks("HAProxy", "haproxy")
        ports = self.haproxy(text, self.serve(command))
        self.assertBrowses(f"ws://127.0.0.1:{ports[7000]}/chat")
        self.assertBrowses(f"wss://localhost:{ports[7443]}/chat", ssl=self.context())

    def test_nginxWebSocket(self) -> None:
        """Text and bytes pass, in clear and behind TLS."""
        [command], [text] = blocks("nginx, WebSocket", "sh"), blocks("nginx, WebSocket", "nginx")
        ports = self.nginx(text, self.serve(command))
        self.assertBrowses(f"ws://127.0.0.1:{ports[7001]}/chat", r"127\.0\.0\.1 \d+")
        self.assertBrowses(f"wss://localhost:{ports[7444]}/chat", r"127\.0\.0\.1 \d+", ssl=self.context())

    def test_nginxStream(self) -> None:
        """nginx sends the header that HAProxy does, to the same server."""
        command, _ = blocks("HAProxy", "sh")
        [text] = blocks("nginx, plain streams", "nginx")
        ports = self.nginx(text, self.serve(command))
        self.assertTold(self.dial(ports[7000]))
        self.assertTold(self.dial(ports[7443], encrypted=True))
