"""The clients of ``groups_soak``: each is in a group, does this and that at random, and checks what it gets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What may become of slow members.
POLICIES = ("close", "follow", "drop", "latest")

#: What a client does, and how often of a hundred times.
ACTIONS = {"say": 52, "move": 12, "drop": 12, "stop": 12, "crawl": 10, "stall": 2}

#: Seconds between two of them, at most.
PAUSE = 2.0

#: Bytes of a socket's receive buffer: who does not read is behind soon.
RECEIVE_BUFFER = 16 * 1024

#: Groups of a namespace.
GROUPS = 2


class Lines:
    """A line for each package."""

    isClosed = False

    def opening(self) -> bytes:
        return b""

    def frame(self, data: bytes) -> bytes:
        return data + b"\n"

    def packages(self, buffer: bytearray) -> Iterator[bytes]:
        """Those that are whole; they are taken out of the buffer."""
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        yield from lines


class Messages:
    """A message of a WebSocket with permessage-deflate for each package; control frames are passed over."""

    def __init__(self) -> None:
        self.isOpen = self.isClosed = False
        self.inflater = zlib.decompressobj(-15)

    def opening(self) -> bytes:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        extension = "Sec-WebSocket-Extensions: permessage-deflate"
        lines = ["GET / HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", key, extension]
        return "\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode()

    def frame(self, data: bytes) -> bytes:
        # A mask of zeros leaves the bytes as they are.
        length = len(data)
        head = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x81, 0xFE, length)
        return head + bytes(4) + data

    def packages(self, buffer: bytearray) -> Iterator[bytes]:
        """Those that are whole; they are taken out of the buffer."""
        if not self.isOpen:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert buffer.startswith(b"HTTP/1.1 101"), bytes(buffer[:100])
            del buffer[: end + 4]
            self.isOpen = True
        while len(buffer) >= 2:
            length, at = buffer[1], 2
            if length == 126:
                at, length = 4, int.from_bytes(buffer[2:4])
            elif length == 127:
                at, length = 10, int.from_bytes(buffer[2:10])
            if len(buffer) < at:
                return
            if len(buffer) < at + length:
                return
            head, data = buffer[0], bytes(buffer[at : at + length])
            del buffer[: at + length]
            if head & 0x40:
                data = self.inflater.decompress(data + b"\0\0\xff\xff")
            if head & 0x0F == 1:
                yield data
            elif head & 0x0F == 8:
                self.isClosed = True


class Client(asyncio.Protocol):
    """One client, which comes back when its connection has ended.

    :param policy: what its namespace does with those that are slow.
    :ivar last: the number of the last publication that it has got or was told to be missing; None: it is no member.
    :ivar wrong: what must not be, for all clients.
    """

    def __init__(self, port: int, wire: Callable[[], Any], space: str, number: int, wrong: list[str]) -> None:
        self.port, self.newWire, self.space, self.wrong = port, wire, space, wrong
        self.name = f"{space} {number}"
        self.policy = "follow" if space == "but" else next(each for each in POLICIES if space.startswith(each))
        self.group = f"{space}:{number % GROUPS}"
        self.chance = random.Random(f"{self.name} {os.environ.get('SEED', '')}")
        self.transport: Any = None
        self.last: int | None = None
        self.since: list[Any] | None = None
        self.epoch = ""
        self.own: set[tuple[str, int]] = set()
        # What has come before the answer to a join; None: it has come.
        self.early: list[dict[str, Any]] | None = None
        self.isLeaving = False
        self.got = self.comebacks = 0

    # The connection

    async def connect(self) -> None:
        """Open a connection, and become a member with what was missed."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.port))
        self.wire, self.buffer = self.newWire(), bytearray()
        self.own.clear()
        await loop.create_connection(lambda: self, sock=connection)
        self.transport.write(self.wire.opening())
        self.join()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.last is not None and self.epoch:
            self.since = [self.epoch, self.last]
        self.transport = self.last = self.early = None
        self.isLeaving = False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        for each in self.wire.packages(self.buffer):
            self.take(json.loads(each))
        if self.wire.isClosed and self.transport is not None:
            self.transport.close()

    def send(self, pkg: dict[str, Any]) -> None:
        if self.transport is not None:
            self.transport.write(self.wire.frame(json.dumps(pkg).encode()))

    # The stream

    def join(self) -> None:
        self.early = []
        self.send({"join": self.group, "since": self.since})

    def fault(self, what: str) -> None:
        self.wrong.append(f"{self.name}: {what}")

    def take(self, pkg: dict[str, Any]) -> None:
        """A package: see groups_soak_server."""
        if "joined" in pkg:
            self.joined(pkg)
        elif "left" in pkg:
            if self.chance.random() < 0.5:
                self.group = f"{self.space}:{self.chance.randrange(GROUPS)}"
            elif self.epoch and self.last is not None and self.chance.random() < 0.7:
                self.since = [self.epoch, self.last]
            self.last = None
            self.isLeaving = False
            self.join()
        elif "said" in pkg:
            self.own.add(tuple(pkg["said"]))
        elif self.early is not None:
            self.early.append(pkg)
        else:
            self.note(pkg)

    def joined(self, pkg: dict[str, Any]) -> None:
        """All that came until now belongs to this membership: what was missed, and what was published meanwhile."""
        self.epoch = pkg.get("epoch", "")
        self.last = pkg["after"]
        if self.since is not None:
            self.comebacks += 1
            if pkg["recovered"]:
                self.last = self.since[1]
        early, self.early, self.since = self.early or [], None, None
        for each in early:
            self.note(each)

    def note(self, pkg: dict[str, Any]) -> None:
        """A publication, or a gap."""
        if self.last is None:
            self.fault(f"got {pkg.get('n')} and is no member")
            return
        if "gap" in pkg:
            if self.policy not in ("follow", "drop"):
                self.fault(f"a gap with {self.policy}")
            self.last += pkg["gap"]
            return
        self.got += 1
        number, after = pkg["n"], self.last
        while (self.group, after + 1) in self.own:
            after += 1
        if pkg["g"] != self.group:
            self.fault(f"got {pkg['g']} in {self.group}")
        elif number <= self.last or (self.policy != "latest" and number != after + 1):
            self.fault(f"got {number} after {self.last}")
        self.last = number

    def isAt(self, number: int) -> bool:
        """Whether it has all up to this number."""
        last = self.last
        while last is not None and (self.group, last + 1) in self.own:
            last += 1
        return last == number

    # What it does

    async def run(self, isRunning: Callable[[], bool]) -> None:
        """Do something now and then, until the end; then only stay."""
        await asyncio.sleep(self.chance.random())
        while isRunning():
            await self.back()
            await asyncio.sleep(self.chance.uniform(0.0, PAUSE))
            action = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            if self.transport is not None and self.last is not None:
                await getattr(self, action)()

    async def back(self) -> None:
        """Connect, if it is not."""
        while self.transport is None:
            try:
                await self.connect()
            except OSError:
                await asyncio.sleep(0.1)

    async def say(self) -> None:
        length = self.chance.randrange(50, 2000)
        # What is nearly random is not much shorter when it is compressed.
        text = self.chance.randbytes(length // 2).hex()
        self.send({"say": self.group, "x": text, "count": self.chance.choice((1, 1, 2, 5, 12, 30))})

    async def move(self) -> None:
        """Leave, and join this group or the other one."""
        if not self.isLeaving:
            self.isLeaving = True
            self.send({"leave": self.group})

    async def drop(self) -> None:
        if self.chance.random() < 0.5:
            self.transport.abort()
        else:
            self.transport.close()
        await asyncio.sleep(self.chance.uniform(0.0, 1.0))

    async def stop(self) -> None:
        await self.silence(self.chance.uniform(0.3, 4.0))

    async def stall(self) -> None:
        await self.silence(8.0)

    async def silence(self, seconds: float) -> None:
        """Read nothing for a while."""
        transport = self.transport
        transport.pause_reading()
        await asyncio.sleep(seconds)
        if transport is self.transport:
            transport.resume_reading()

    async def crawl(self) -> None:
        """Read a buffer now and then."""
        for _ in range(12):
            if self.transport is not None:
                await self.silence(0.2)
                await asyncio.sleep(0.001)
