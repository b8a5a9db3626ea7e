"""What an idle WebSocket connection costs: resident memory for each of 5,000 that have shaken hands.

Limit: 9,000 bytes. The note tells the memory after one message each. Another server that echoes WebSocket messages is
measured with --server; ``{port}`` is its port.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, NotMeasured, Target, main, receiveExactly
from benchmarks.acceptance.idle_memory import SETTLE, openIdle
from benchmarks.room import raiseFileLimit
from benchmarks.servers import ServerProcess

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

CONNECTIONS = 5_000
LIMIT = 9_000

#: Connections that shake hands together.
BATCH = 250

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

PAYLOAD = b"x" * 915


def shakeHands(connections: list[socket.socket]) -> None:
    """Ask on each connection, then wait for each answer."""
    for connection in connections:
        connection.sendall(REQUEST)
    for connection in connections:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += receiveExactly(connection, 1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer


def exchange(connections: list[socket.socket]) -> None:
    """Send a binary message on each connection, then wait for each echo."""
    head = b"\x82\xfe" + len(PAYLOAD).to_bytes(2, "big")
    for connection in connections:
        # A mask of zeros leaves the payload as it is.
        connection.sendall(head + b"\0\0\0\0" + PAYLOAD)
    expected = b"\x82\x7e" + len(PAYLOAD).to_bytes(2, "big") + PAYLOAD
    for connection in connections:
        assert receiveExactly(connection, len(expected)) == expected, "the echo differs from what was sent"


def measure(target: Target) -> Iterator[Figure]:
    files = raiseFileLimit(CONNECTIONS + 200)
    if files < CONNECTIONS + 200:
        raise NotMeasured(f"needs {CONNECTIONS + 200} open files, the limit is {files}")
    command = target.echo.replace("length:order=little", "raw")
    with ServerProcess(command, listen="ws:{port}:interface=127.0.0.1") as server, ExitStack() as opened:
        first = openIdle(server, 100, opened)
        shakeHands(first)
        exchange(first)
        time.sleep(SETTLE)
        before = server.memory()
        connections = []
        for _ in range(CONNECTIONS // BATCH):
            # Not all at once, as a handshake may take three seconds.
            connections += openIdle(server, BATCH, opened)
            shakeHands(connections[-BATCH:])
        time.sleep(SETTLE)
        idle = (server.memory() - before) / CONNECTIONS
        exchange(connections)
        used = (server.memory() - before) / CONNECTIONS
    yield Figure(
        f"memory of {CONNECTIONS} idle WebSocket connections",
        idle,
        LIMIT,
        f"{idle:.0f} bytes each",
        f"{used:.0f} bytes each after one message",
    )


if __name__ == "__main__":
    sys.exit(main("websocket_memory", measure, __doc__, seconds=120))
