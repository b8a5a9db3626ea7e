"""Hostile peers of calls: what one gets, how far it raises the server's memory, whether others are served meanwhile.

For each wire of ``getty-rpc`` a client sends wrong lengths, headers of 262,140 bytes, values that are nested deeply or
small as bytes and large as objects, a million pings, calls and notices, with and without reading the answers, and
streams that it does not read. Each attack is over after ten seconds at the latest.

Limits: 32 MB above the resident memory before, at its highest; 160 MB for one message of 4 MB that becomes objects (of
msgpack, where an empty map has one byte, 320), and 600 MB for 10,000 calls that wait with 16 KB of metadata each.
Another client's slowest call: 1 s.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from benchmarks.acceptance.harness import MB, Figure, Target, connect, main, watchedMemory
from benchmarks.servers import ServerProcess
from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.messages import OPEN, Cancel, Ping, Reply, Request, StreamFrame
from getty_tx.rpc.wires.descriptions import wireFromDescription

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

SERVER = (
    "twistd -n --pidfile= getty-rpc --service Victim=benchmarks.acceptance.hostile_calls:Victim --wire {wire}"
    " --max-calls=20000 --listen tcp:{port}:interface=127.0.0.1"
)

MEMORY_LIMIT = 32 * MB
OBJECTS_LIMIT = 160 * MB
METADATA_LIMIT = 600 * MB
CALL_LIMIT = 1.0
SECONDS = 10.0

WIRES = ("ttheader:json", "ttheader:msgpack", "ttheader:bytes", "getty:json", "getty:protobuf")

#: What the codecs want of a session.
SESSION: Any = SimpleNamespace(maxMsgLen=4 << 20, connection=SimpleNamespace(kind="TCP_CLIENT"))


class Victim:
    """What is attacked."""

    @rpc.method
    def say(self, value: Any = None) -> bytes | None:
        return None

    @rpc.method
    def wait(self, value: Any = None) -> Deferred[Any]:
        return Deferred()

    @rpc.stream
    async def loud(self, value: Any = None) -> Any:
        while True:
            yield b""


@dataclass(frozen=True)
class Attack:
    """
    What a hostile client sends.

    :ivar chunk: sent ``times`` times over each of ``connections``.
    :ivar reads: it reads the answers.
    :ivar ends: the server has to close the session.
    :ivar lasts: seconds that the connections stay open afterwards, for a server that is still at work.
    """

    name: str
    chunk: bytes
    times: int = 1
    reads: bool = False
    ends: bool = False
    limit: int = MEMORY_LIMIT
    connections: int = 1
    lasts: float = 0.0

    def run(self, port: int) -> str:
        """Attack; return what came of it."""
        opened = [connect(port) for _ in range(self.connections)]
        deadline = time.monotonic() + SECONDS
        found = ""
        try:
            for each in opened[1:]:
                each.sendall(self.chunk)
            found = self._send(opened[0], deadline)
            time.sleep(self.lasts)
        finally:
            for each in opened:
                each.close()
        return found

    def _send(self, connection: socket.socket, deadline: float) -> str:
        connection.setblocking(False)
        size = len(self.chunk) * self.times
        sent = heard = 0
        silent = 0
        whole = memoryview(self.chunk)
        try:
            while time.monotonic() < deadline:
                moved = False
                if sent < size:
                    try:
                        at = sent % len(whole)
                        sent += connection.send(whole[at : at + (1 << 18)])
                        moved = True
                    except BlockingIOError:
                        pass
                if self.reads or sent == size:
                    try:
                        data = connection.recv(1 << 18)
                        if not data:
                            return f"closed after {sent} bytes, {heard} came"
                        heard += len(data)
                        moved = True
                    except BlockingIOError:
                        pass
                silent = 0 if moved else silent + 1
                # A connection that only is there is looked at for half a second more.
                if silent > (25 if sent == size else 100):
                    break
                if not moved:
                    time.sleep(0.02)
        except OSError as error:
            return f"{type(error).__name__} after {sent} bytes, {heard} came"
        return f"open; it took {sent} of {size} bytes, {heard} came"


class Other(threading.Thread):
    """Calls one after another on a session of its own.

    :ivar slowest: seconds of the longest call; infinite if one failed.
    """

    def __init__(self, port: int, wire: Any) -> None:
        super().__init__(daemon=True)
        self.slowest = 0.0
        self.count = 0
        self._connection = connect(port)
        self._codec = wire.codec()
        self._ended = threading.Event()

    def run(self) -> None:
        value = arguments(self._codec)
        number = 0
        try:
            while not self._ended.is_set():
                number += 1
                begin = time.perf_counter()
                self._connection.sendall(self._codec.write(SESSION, Request(number, "Victim/say", value)))
                data = b""
                while True:
                    data += self._connection.recv(65536)
                    message, _ = self._codec.read(SESSION, memoryview(data))
                    if message is not None:
                        break
                if type(message) is not Reply:
                    raise OSError(f"the other client got {message!r}")
                self.slowest = max(self.slowest, time.perf_counter() - begin)
                self.count += 1
                self._ended.wait(0.02)
        except (OSError, EOFError):
            self.slowest = float("inf")

    def end(self) -> None:
        self._ended.set()
        self.join()
        self._connection.close()


def arguments(codec: Any, value: Any = None) -> bytes:
    """The payload of a call with one argument."""
    payload = codec.wire.payload
    empty = type(payload).__name__ in ("BytesPayload", "ProtobufPayload")
    data: bytes = payload.encodeArguments("Victim/say", (b"",) if empty else (value,))
    return data


def requests(codec: Any, method: str, count: int, payload: bytes, **more: Any) -> bytes:
    """Calls with the numbers from 1 on."""
    return b"".join(
        codec.write(SESSION, Request(number, f"Victim/{method}", payload, **more)) for number in range(1, count + 1)
    )


def commonAttacks(wire: Any) -> Iterator[Attack]:
    """Those of every wire."""
    codec = wire.codec()
    plain = arguments(codec)
    yield Attack("a million pings, pongs not read", codec.write(SESSION, Ping()) * 10_000, 100)
    yield Attack("a million pings, pongs read", codec.write(SESSION, Ping()) * 10_000, 100, reads=True)
    yield Attack("calls that wait", requests(codec, "wait", 10_000, plain), 10)
    yield Attack("a million calls, replies not read", requests(codec, "say", 10_000, plain), 100)
    yield Attack("300,000 one-way calls", requests(codec, "say", 10_000, plain, isOneWay=True), 30)
    names = b"".join(codec.write(SESSION, Request(1, f"Victim/no{each}", plain)) for each in range(100_000))
    yield Attack("100,000 names of methods", names, 1, reads=True)
    long = codec.write(SESSION, Request(1, f"Victim/{'x' * 15_000}", plain))
    yield Attack("names of 15,000 bytes", long * 100, 20, reads=True)
    replies = b"".join(codec.write(SESSION, Reply(number, plain)) for number in range(1, 10_001))
    yield Attack("a million replies to nothing", replies, 100)


def ttheaderAttacks(wire: Any) -> Iterator[Attack]:
    """Those of TTHeader."""
    codec = wire.codec()
    codec.write(SESSION, Request(1, "Victim/say", b""))
    kind = wire.payloadName
    plain = arguments(codec)
    for name, head in (
        ("a length of 4 GB", (0xFFFFFFFF, 0x1000, 0, 1, 1)),
        ("a length below the header", (9, 0x1000, 0, 1, 1)),
        ("no header", (100, 0x1000, 0, 1, 0)),
        ("a header of 262,140 bytes", (300_000, 0x1000, 0, 1, 65_535)),
    ):
        yield Attack(name, struct.pack(">IHHiH", *head) + bytes(100_000), 3, ends=True)
    block = bytes((wire.protocol, 0, 1, 0xFF, 0xFF, 0, 0, 0))
    yield Attack("a wrong count of strings", struct.pack(">IHHiH", 18, 0x1000, 0, 1, 2) + block, ends=True)
    cancels = b"".join(codec.write(SESSION, Cancel(number)) for number in range(1, 10_001))
    yield Attack("a million cancels of nothing", cancels, 100)
    opens = b"".join(
        codec.write(SESSION, StreamFrame(number, OPEN, plain, False, "Victim/loud")) for number in range(1, 10_001)
    )
    yield Attack("100,000 streams that are not read", opens, 10)
    deep = {"json": b"[" * 100_000, "msgpack": b"\x91" * 100_000}.get(kind)
    if deep is not None:
        yield Attack("100,000 levels", requests(codec, "say", 100, deep), reads=True)
    if kind == "msgpack":
        head = b"\xdd\x00\x00\xe0\x00" * 1000
        yield Attack("1,000 arrays that are not there", requests(codec, "say", 100, head + bytes(55_000)), reads=True)
    if kind == "json":
        yield Attack(
            "a number of 100,000 digits", requests(codec, "say", 100, b"[" + b"9" * 100_000 + b"]"), reads=True
        )
    objects = {
        "json": (b"[[" + b"{}," * 1_300_000 + b"{}]]", OBJECTS_LIMIT),
        "msgpack": (b"\x91\xdd\x00\x3d\x09\x00" + b"\x80" * 4_000_000, 2 * OBJECTS_LIMIT),
    }
    if kind in objects:
        yield Attack(
            "4 MB of empty maps", requests(codec, "say", 5, objects[kind][0]), reads=True, limit=objects[kind][1]
        )
    metadata = {f"{number:03}": "x" * 56 for number in range(250)}
    yield Attack(
        "10,000 waiting calls with metadata",
        requests(codec, "wait", 100, plain, metadata=metadata),
        limit=METADATA_LIMIT,
        connections=100,
        lasts=5.0,
    )


def gettyAttacks(wire: Any) -> Iterator[Attack]:
    """Those of Getty's wire."""

    def head(size: int) -> bytes:
        return struct.pack("<ihhQQhhi", 0x20160905, 3, 0, 1, 0, 0, wire.codecType, size)

    for name, size in (("a length of -1", -1), ("a length of 2 GB", 2**31 - 1), ("a length of 0", 0)):
        yield Attack(name, head(size) + bytes(100_000), 3, ends=True)
    header = b"[" * 60_000
    body = struct.pack("<H", len(header)) + header + bytes(2)
    yield Attack("a header of 60,000 levels", head(len(body)) + body, 10, ends=True)
    if wire.payloadName == "json":
        yield Attack("60,000 levels", requests(wire.codec(), "say", 100, b"[" * 60_000), reads=True)


def measure(_target: Target) -> Iterator[Figure]:
    for description in WIRES:
        try:
            wire = wireFromDescription(description)
        except SettingError:
            # Its library is not installed.
            continue
        own = ttheaderAttacks if description.startswith("ttheader") else gettyAttacks
        with ServerProcess(SERVER, wire=description) as server:
            # The largest come last: what they leave to the allocator would hide others.
            for attack in (*commonAttacks(wire), *own(wire)):
                other = Other(server.port, wire)
                other.start()
                with watchedMemory(server) as growth:
                    found = attack.run(server.port)
                other.end()
                server.checkAlive()
                ok = not attack.ends or not found.startswith("open")
                name = f"{description}, {attack.name}"
                size = growth.size / MB if ok else float("inf")
                text = f"{growth.size / MB:.1f} MB; {found}"
                yield Figure(name, size, attack.limit / MB, text, f"{other.count} calls beside it")
                slowest = f"{other.slowest * 1e3:.0f} ms at the most"
                yield Figure(f"{name}: another's calls", other.slowest, CALL_LIMIT, slowest)


if __name__ == "__main__":
    sys.exit(main("hostile_calls", measure, __doc__, seconds=600))
