"""Examples in tests: each in a process of its own, on unix sockets and free ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from websockets.sync.client import connect

from tests.tap.test_twistd import PATIENCE, ROOT, Process, ProcessTestCase

if TYPE_CHECKING:
    from websockets.sync.connection import Connection

__all__ = ["EXAMPLES", "ExampleTestCase"]

EXAMPLES = ROOT / "examples"


class ExampleTestCase(ProcessTestCase):
    """Each in a process of its own, on unix sockets and free ports."""

    def example(self, name: str, *arguments: str) -> Process:
        """Run an example."""
        return self.run_(sys.executable, str(EXAMPLES / name), *arguments)

    def connect(self, name: str) -> socket.socket:
        """A connection to a unix socket in the folder of the processes."""
        return self.connectUnix(os.path.join(self.folder, name))

    def stop(self, process: Process) -> None:
        """What ``kill`` does ends an example without a traceback."""
        process.send(signal.SIGTERM)
        process.end()
        self.assertNotIn("Traceback", process.output)

    def serving(self, name: str, *arguments: str) -> tuple[Process, list[int]]:
        """Run an example that serves; its ports, once it does."""
        server = self.example(name, *arguments)
        return server, [int(port) for port in re.findall(r"port=(\d+)", server.expect("^listening on .*")[0])]

    def listen(self, name: str) -> socket.socket:
        """A unix socket in the folder of the processes, for an example to dial."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.settimeout(PATIENCE)
        here = os.open(self.folder, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/{name}")
        finally:
            os.close(here)
        listening.listen()
        return listening

    def accept(self, listening: socket.socket) -> socket.socket:
        """Whoever dials it."""
        connection, _ = listening.accept()
        self.addCleanup(connection.close)
        connection.settimeout(PATIENCE)
        return connection

    def browse(self, url: str) -> Connection:
        """A WebSocket of another library, not compressed, so that sizes are what they are."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(connect(url, compression=None))
