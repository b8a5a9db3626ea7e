"""
Follow the tutorial word for word: ``python -m tests.support.tutorial BIN`` does so with the programs in a folder.

Files are written and commands run as they stand on the page, in its order. Two things differ: the environment is
there already, and the ports are free ones.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.sync.client import connect

from tests.tap.test_twistd import PATIENCE, ROOT, Process, commandOf

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = ROOT / "docs" / "tutorial.md"

SET_UP = """\
mkdir chat
cd chat
python3 -m venv venv
. venv/bin/activate
pip install ../getty_tx
"""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: The file that a block is for is the last one that is named before it.
_FILE = re.compile(r"`([\w.]+\.(?:py|html))`")


def steps(page: Path = PAGE) -> list[tuple[str, str, str]]:
    """The blocks of a page: language, the file it is for, or an empty string, and the text."""
    text = page.read_text()
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        names = _FILE.findall(text, end, match.start()) if match[1] in {"python", "html"} else [""]
        found.append((match[1], names[-1], match[2]))
        end = match.end()
    return found


class Person:
    """
    Somebody in the chat.

    :ivar heard: the lines that came.
    """

    def __init__(self, say: Callable[[str], object], hear: Callable[[], str], leave: Callable[[], object]) -> None:
        self.say = say
        self.leave = leave
        self._hear = hear
        self.heard: list[str] = []

    def expect(self, *lines: str) -> None:
        """These are the next lines."""
        for line in lines:
            self.heard.append(self._hear())
            if self.heard[-1] != line:
                raise AssertionError(f"heard {self.heard}, and not {line!r}")


def overSocket(kind: socket.SocketKind, port: int) -> Person:
    """What ``nc`` does."""
    connection = socket.socket(type=kind)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", port))
    # A datagram is one line, so that this reads both.
    reader = connection.makefile("rb", buffering=65536)

    def leave() -> None:
        reader.close()
        connection.close()

    return Person(
        lambda line: connection.sendall(line.encode() + b"\n"),
        lambda: reader.readline().decode().removesuffix("\n"),
        leave,
    )


def overWebSocket(url: str) -> Person:
    """What the page does."""
    stack = ExitStack()
    connection = stack.enter_context(connect(url))
    return Person(connection.send, lambda: str(connection.recv(timeout=PATIENCE)), stack.close)


class Follower:
    """
    Goes through the page.

    :param environment: what the programs run with.
    :param folder: an empty one.
    :ivar steps: what is still to do.
    :ivar ports: those that the server has, by kind of endpoint.
    """

    def __init__(self, environment: dict[str, str], folder: Path, stack: ExitStack) -> None:
        self.environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self.folder = folder
        self.steps = steps()
        self.ports: dict[str, int] = {}
        self._stack = stack
        self._server: Process | None = None
        self._serving = ""

    def until(self, command: str) -> None:
        """Do what the page says, up to this command and without it."""
        while True:
            language, name, text = self.steps.pop(0)
            if language == "sh" and text.startswith(command):
                return
            if name:
                (self.folder / name).write_text(text)
            elif text.startswith("twistd"):
                self.serve(text)
            elif language == "sh":
                done = subprocess.run(
                    ["sh", "-ec", text], cwd=self.folder, env=self.environment, capture_output=True, text=True
                )
                if done.returncode:
                    raise AssertionError(f"{text}{done.stdout}{done.stderr}")
            else:
                raise AssertionError(f"nobody looked at {text}")

    def run(self, command: str, stdin: int = subprocess.DEVNULL) -> Process:
        """Run one; it is gone in the end."""
        process = Process(commandOf(command, self.environment), self.environment, str(self.folder), stdin)
        self._stack.callback(process.kill)
        return process

    def serve(self, command: str) -> None:
        """Serve, on free ports, in place of what was served before."""
        self.stop()
        if "--listen " not in command:
            command = command.rstrip() + " --listen tcp:8090:interface=127.0.0.1"
        self._serving = re.sub(r"\b(tcp|udp|ws):(8090|8091)\b", r"\1:0", command)
        self._start()
        for kind in re.findall(r"--listen (\w+):", command):
            self.ports[kind] = int(self._expect(rf"listening on 127\.0\.0\.1:(\d+) \({kind}:"))

    def _start(self) -> None:
        self._server = self.run(self._serving)
        self._expect("getty-serve serves")

    def _expect(self, pattern: str) -> str:
        assert self._server is not None
        found = self._server.expect(pattern)
        return found[found.re.groups]

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self._server is not None:
            self._server.send(signal.SIGTERM)
            self._server.end()
            if "Traceback" in self._server.output:
                raise AssertionError(self._server.output)
            self._server = None

    def restart(self) -> None:
        """Stop the server, and start it on the same ports."""
        self.stop()
        self._serving = re.sub(r"\b(tcp|udp|ws):0\b", lambda match: f"{match[1]}:{self.ports[match[1]]}", self._serving)
        self._start()

    def netcat(self, kind: str) -> Person:
        """Somebody with ``nc``."""
        return overSocket(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM, self.ports[kind])

    def browser(self) -> Person:
        """Somebody with the page."""
        [url] = re.findall(r'new WebSocket\("(.*)"\)', (self.folder / "chat.html").read_text())
        return overWebSocket(url.replace("8091", str(self.ports["ws"])))

    def talk(self, command: str) -> Process:
        """Somebody with ``talk.py``."""
        self.until(command)
        for kind, port in self.ports.items():
            command = re.sub(rf"\b({kind}:\S*?)809[01]", rf"\g<1>{port}", command)
        return self.run(command, subprocess.PIPE)


def follow(environment: dict[str, str], folder: Path) -> None:
    """
    Do what the tutorial says, from an empty folder to its end.

    :raise AssertionError: something is not as the page says.
    """
    with ExitStack() as stack:
        page = Follower(environment, folder, stack)
        if page.steps.pop(0)[2] != SET_UP:
            raise AssertionError("the set-up is another one than what was done")
        page.until("nc localhost 8090\n")
        two = [page.netcat("tcp") for _ in range(2)]
        for each in two:
            stack.callback(each.leave)
            each.expect("welcome")
        two[0].say("one line")
        for each in two:
            each.expect("one line")
            each.leave()

        page.until("nc localhost 8090\n")
        ann, bob = page.netcat("tcp"), page.browser()
        page.until("nc -u 127.0.0.1 8090\n")
        cyd = page.netcat("udp")
        present: list[Person] = []
        for each, name in ((ann, "ann"), (bob, "bob"), (cyd, "cyd")):
            stack.callback(each.leave)
            each.say(name)
            each.expect("who are you?")
            present.append(each)
            for hearing in present:
                hearing.expect(f"{name} is here")
        for each, name, said in ((cyd, "cyd", "datagram"), (bob, "bob", "browser"), (ann, "ann", "stream")):
            each.say(f"hello from a {said}")
            for hearing in present:
                hearing.expect(f"{name}: hello from a {said}")
        bob.leave()
        for hearing in (ann, cyd):
            hearing.expect("bob has gone")
        _, _, shown = page.steps.pop(0)
        if shown.splitlines() != ann.heard:
            raise AssertionError(f"{ann.heard} is not what the page shows:\n{shown}")
        ann.leave()
        cyd.leave()

        talking = {
            "ann": page.talk("python talk.py ann tcp:127.0.0.1:8090"),
            "bob": page.talk("python talk.py bob ws://127.0.0.1:8091/chat"),
            "cyd": page.talk("python talk.py cyd udp:127.0.0.1:8090"),
        }
        for name, process in talking.items():
            process.expect(f"^{name} is here$")
        talking["cyd"].type("good morning")
        for process in talking.values():
            process.expect("^cyd: good morning$")
        page.restart()
        for name in ("ann", "bob"):
            talking[name].expect(f"^{name} is here$", 2)
        talking["bob"].type("here again")
        talking["ann"].expect("^bob: here again$")
        for process in talking.values():
            process.type(None)
            if process.end():
                raise AssertionError(process.output)
        page.stop()
        if page.steps:
            raise AssertionError(f"nobody looked at {page.steps}")


if __name__ == "__main__":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="getty_tx-tutorial-") as name:
        follow({**environment, "PATH": sys.argv[1] + os.pathsep + environment["PATH"]}, Path(name))
