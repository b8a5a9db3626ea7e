"""What the pages have to type into terminals: run, with free ports in place of theirs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest
from websockets.sync.client import connect

from tests.docs.test_guide import ROOT, read
from tests.docs.test_proxies import freePort
from tests.support.certificates import Authority
from tests.tap.test_twistd import PATIENCE, Process, ProcessTestCase, commandOf

#: Somebody's own listener, as pages call it.
SERVICE = """
from getty_tx import EventListener, rpc
class Echo:
    @rpc.method
    def say(self, text: str) -> str:
        return text
class Listener(EventListener):
    def onMessage(self, session, pkg):
        session.writePkg(pkg)
"""

#: The library that the page about asyncio asks.
ASKED = """
async def ask(line):
    await asyncio.sleep(0.01)
    return line.upper()

def makeListener():
    return Asking(ask)
"""

#: A block that is indented, or one that is fenced.
_INDENTED = re.compile(r"^\n((?:    .*\n)+)", re.MULTILINE)
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

#: A description of an endpoint that has a port of the pages: its kind, and the port.
_PLACE = re.compile(r"\b(tcp|udp|ssl|ws)(\\?:)(8090|8091|8092|8443)\b")


def indented(page: str) -> list[str]:
    """The indented blocks of a page that are for a terminal."""
    blocks = [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in _INDENTED.findall(read(page))]
    return [block for block in blocks if re.match(r"twistd|openssl|cd ", block)]


def fenced(page: str, language: str) -> list[str]:
    """The fenced blocks of a page that are of a language."""
    return [text for found, text in _FENCED.findall(read(page)) if found == language]


class TerminalCase(ProcessTestCase):
    """
    A folder to be in, and what runs there.

    :ivar ports: those that servers have, by the kind and port that the page has.
    """

    def setUp(self) -> None:
        super().setUp()
        self.environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        shutil.copytree(ROOT / "examples", f"{self.folder}/examples", ignore=shutil.ignore_patterns("__pycache__"))
        os.mkdir(f"{self.folder}/mypkg")
        Path(self.folder, "mypkg", "service.py").write_text(SERVICE)
        certificate, key = Authority(self.mktemp()).issue(["localhost"])
        shutil.copy(certificate, f"{self.folder}/cert.pem")
        shutil.copy(key, f"{self.folder}/key.pem")
        self.ports: dict[tuple[str, str], int] = {}
        self.servers: list[Process] = []

    def type(self, block: str) -> int:
        """
        Type what stands in a block, each server and client in a terminal of its own.

        :return: how many commands there were.
        """
        count = 0
        for line in re.sub(r"\\\n *", "", block).splitlines():
            word = shlex.split(line)[0]
            # A loop of the shell, or certificates.
            if word == "openssl" and "s_client" not in line:
                self.shell(line)
            else:
                getattr(self, word)(line)
            count += 1
        return count

    def stop(self) -> None:
        """End all servers, in order."""
        for server in self.servers:
            server.send(signal.SIGTERM)
            server.end()
            self.assertNotIn("Traceback", server.output)
        self.servers.clear()

    def shell(self, text: str) -> str:
        """Run it; what it prints."""
        if "openssl" in text and shutil.which("openssl") is None:
            raise SkipTest("there is no openssl")
        done = subprocess.run(
            ["sh", "-ec", text], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def start(self, line: str, stdin: int = subprocess.DEVNULL) -> Process:
        """Run a command that goes on."""
        process = Process(commandOf(line, self.environment), self.environment, self.folder, stdin)
        self.addCleanup(process.kill)
        return process

    def local(self, line: str) -> str:
        """A command with its sockets in this folder, and whatever it dials where that is."""
        for (kind, number), port in self.ports.items():
            line = re.sub(rf"\b({'tls' if kind == 'ssl' else kind}:localhost:){number}\b", rf"\g<1>{port}", line)
        return line.replace("/run/echo.sock", "echo.sock")

    def twistd(self, line: str) -> None:
        """A server, which is there afterwards; or a client, which is done."""
        if "getty-dial" in line:
            self.dial(line)
            return
        isOurs = re.search(r" getty-(echo|serve|rpc)\b", line) is not None
        if isOurs and "--listen " not in line:
            line += " --listen tcp:8090:interface=127.0.0.1"
        if "--pidfile=" not in line:
            # There can be one such in a folder: whoever goes on in the page has ended the one before.
            self.stop()
        server = self.start(self.local(_PLACE.sub(r"\1\g<2>0", line)))
        self.servers.append(server)
        if isOurs:
            server.expect("getty-.* serves ")
        for kind, _, number in _PLACE.findall(line):
            pattern = rf"listening on \S*:(\d+) \((?:ws:endpoint=haproxy\\:)?{kind}\\?:"
            if not isOurs:
                pattern = r"Factory starting on (\d+)"
            elif number == "8092":
                pattern = r"status on http://127\.0\.0\.1:(\d+)/"
            elif "--processes" in line:
                pattern = r" serves \S*:(\d+) with"
            self.ports[kind, number] = int(server.expect(pattern)[1])

    def dial(self, line: str) -> None:
        """A client that sends some messages, and has them all back."""
        if "--connect" not in line:
            line += " --connect tcp:localhost:8090"
        if "--count" not in line:
            line += " --count 2"
        if "--interval" not in line:
            # A second otherwise, after each message.
            line += " --interval 0.05"
        # That it is not refused is waited for a second, too.
        line = re.sub(r"( udp:localhost:\d+)", r"\1:probeTimeout=0.05", line)
        client = self.start(self.local(line))
        self.assertEqual(0, client.end(), client.output)
        client.expect(r" 0% lost")

    def nc(self, line: str) -> None:
        """A line that comes back; over UDP the address has to be one, as nobody answers to say that it is wrong."""
        kind = "udp" if "-u" in line else "tcp"
        host, number = line.split()[-2:]
        self.assertIn(host, ("127.0.0.1",) if kind == "udp" else ("localhost",))
        connection = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        connection.connect(("127.0.0.1", self.ports[kind, number]))
        self.converse(connection, b"hello\n")

    def printf(self, line: str) -> None:
        """What is said to the store of keyvalue.py."""
        said = self.shell(line.partition(" | ")[0]).encode()
        port = self.ports["tcp", line.split()[-1]]
        self.converse(socket.create_connection(("127.0.0.1", port)), said, b"ok\ndeep blue\n")

    def python(self, line: str) -> None:
        """What there is to call, or a text that comes back."""
        said = self.shell(self.local(line))
        self.assertIn('"hi"\n' if " call " in line else "Other.say     (text: str) -> str\n", said)

    def openssl(self, line: str) -> None:
        """A line that comes back through TLS."""
        port = self.ports["ssl", "8443"]
        client = self.start(line.replace("localhost:8443", f"localhost:{port}"), subprocess.PIPE)
        client.type("hello")
        client.expect("^hello$")

    def cd(self, line: str) -> None:
        """Go into a folder."""
        self.folder = os.path.join(self.folder, line.split()[1])


class PageTests(TerminalCase):
    """Page after page."""

    def test_commands(self) -> None:
        """commands.md, from top to bottom, but for the blocks that have a test below."""
        blocks = indented("commands.md")
        self.assertEqual(11, len(blocks))
        others = [block for block in blocks if "--status" not in block and "tunnel" not in block]
        self.assertEqual(9, len(others))
        for block in others:
            self.type(block)
        self.stop()

    def test_processes(self) -> None:
        """howto/processes.md, without and with its status."""
        plain, shown = indented("howto/processes.md")
        self.type(plain + "nc localhost 8090\n")
        self.stop()
        self.type(shown)
        metrics, until = b"", time.monotonic() + PATIENCE
        while b'getty_subreactor_up{subreactor="1"} 1.0' not in metrics:
            # The status is there before the sub-reactors are.
            self.assertLess(time.monotonic(), until, metrics)
            with urlopen(f"http://127.0.0.1:{self.ports['tcp', '8092']}/metrics", timeout=PATIENCE) as answer:
                metrics = answer.read()
        self.stop()

    def test_status(self) -> None:
        """The status of commands.md is there."""
        [block] = [each for each in indented("commands.md") if "--status" in each]
        self.type(block)
        with urlopen(f"http://127.0.0.1:{self.ports['tcp', '8092']}/health/live", timeout=PATIENCE) as answer:
            self.assertEqual(200, answer.status)
        self.stop()

    def test_tunnel(self) -> None:
        """The web server of commands.md answers through a WebSocket."""
        [block] = [each for each in indented("commands.md") if "tunnel" in each]
        self.type(block)
        with connect(f"ws://127.0.0.1:{self.ports['ws', '8092']}/tunnel", open_timeout=PATIENCE) as browser:
            browser.send(b"GET /mypkg/service.py HTTP/1.0\r\n\r\n")
            heard = b""
            while b"EventListener" not in heard:
                chunk = browser.recv(timeout=PATIENCE)
                assert isinstance(chunk, bytes)
                heard += chunk
        self.assertTrue(heard.startswith(b"HTTP/1.0 200 OK\r\n"), heard)
        self.stop()

    def test_tls(self) -> None:
        """The how-to about TLS, from its certificates on; without one of its own a client is refused in the end."""
        blocks = fenced("howto/tls.md", "sh")
        self.shell(blocks[0])
        for block in blocks[1:]:
            self.type(block)
        client = self.start(self.local(blocks[2].strip()))
        self.assertEqual(1, client.end(), client.output)
        self.assertIn("certificate", client.output)
        self.stop()

    def test_limits(self) -> None:
        """The how-to about limits."""
        [block] = fenced("howto/limits.md", "sh")
        self.type(block)
        self.nc("nc localhost 8090")
        self.stop()

    def test_activation(self) -> None:
        """systemd's own tool listens, and the command serves what it is given."""
        if shutil.which("systemd-socket-activate") is None:
            raise SkipTest("there is no systemd-socket-activate (Debian: apt-get install systemd)")
        [block] = fenced("howto/systemd.md", "sh")
        port = freePort()
        # What it starts has no environment but what is passed on.
        passed = " ".join(f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "PYTHONUNBUFFERED"))
        line = re.sub(r"\\\n *", "", block).strip().replace("8090", str(port)).replace(" -l", f" {passed} -l")
        server = self.start(line)
        while not server.errors and not server.hasEnded:
            time.sleep(0.01)
        self.converse(socket.create_connection(("127.0.0.1", port)), b"hello\n")
        server.send(signal.SIGTERM)
        self.assertEqual(0, server.end(), server.output)

    def test_units(self) -> None:
        """systemd reads the units, and knows every word in them."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("there is no systemd-analyze (Debian: apt-get install systemd)")
        service, activated, command = fenced("howto/systemd.md", "ini")
        known = f"{os.path.dirname(sys.executable)}/twistd"
        for text in (service, service + command.replace("ExecStart=", "ExecStart=\nExecStart=")):
            Path(self.folder, "echo.service").write_text(text.replace("/opt/echo/bin/twistd", known))
            Path(self.folder, "echo.socket").write_text(activated)
            units = [f"{self.folder}/echo.{kind}" for kind in ("service", "socket")]
            done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
            complaints = [line for line in done.stderr.splitlines() if "echo." in line]
            self.assertEqual((0, []), (done.returncode, complaints), done.stderr)

    def test_asyncio(self) -> None:
        """With the asyncio reactor a listener awaits what a library of asyncio does."""
        text = "\n".join(fenced("from/asyncio.md", "python"))
        Path(self.folder, "asking.py").write_text(f"{text}{ASKED}")
        self.type("twistd --reactor=asyncio -n getty-serve --listener asking:makeListener")
        self.converse(socket.create_connection(("127.0.0.1", self.ports["tcp", "8090"])), b"hello\n", b"HELLO\n")
        self.stop()


class ReadmeTests(TerminalCase):
    """The first page."""

    def test_tenLines(self) -> None:
        """The ten lines that dial have what they say back from the ten that serve; others answer HTTP."""
        ports = {"8090": str(freePort()), "8000": str(freePort())}
        blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
        processes = [
            self.run_(sys.executable, "-c", re.sub("8090|8000", lambda found: ports[found[0]], block))
            for block in blocks
        ]
        self.assertEqual(3, len(processes))
        for _ in range(4):
            processes[1].expect(r"^b'hello'$", 4)
        said = b""
        while not said and not processes[2].hasEnded:
            try:
                with urlopen(f"http://127.0.0.1:{ports['8000']}/hello/you", timeout=PATIENCE) as answer:
                    said = answer.read()
            except URLError:
                time.sleep(0.01)
        self.assertEqual(b'{"hello":"you"}', said)
        for process in processes:
            process.send(signal.SIGTERM)
            process.end()

    def test_make(self) -> None:
        """What it, and CONTRIBUTING.md, have make do is there."""
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for name in ("README.md", "CONTRIBUTING.md", "docs/topics/performance.md"):
            found = set(re.findall(r"^(?:    )?make ([a-z]+)|`make ([a-z]+)", (ROOT / name).read_text(), re.MULTILINE))
            self.assertGreater(len(found), 0)
            self.assertEqual(set(), {one or other for one, other in found} - targets)
