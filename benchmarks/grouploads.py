"""The loads of ``benchmarks.groups``: what a row asks for, ``groupload.c``, and a look at compressed publications."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loads import LoadError, awaitMeasuring, built, compiler, startLoad

if TYPE_CHECKING:
    from benchmarks.servers import ServerProcess

SOURCE = Path(__file__).with_name("groupload.c")
FLOOR = SOURCE.parent / "peers" / "groups_sends.c"

#: Publications of a burst.
BURST = 20

#: Seconds of a group's window, where a row has one.
WINDOW = 0.05

#: Bytes a second that a slow member reads; its client is told so, and reads a tenth of it ten times a second.
SLOW_BYTES = 10_240

#: One of so many members is slow, where a row has such.
SLOW_SHARE = 100

#: Echoes a second of connections that are no members.
ECHOES = 250

#: The words that may stand behind the numbers of a row.
WORDS = ("deflate", "one", "window", "burst", "half", "stuck", "slow")

#: The bytes of a publication that is not its text, and what ``groupload.c`` has room for.
LEAST, MOST = 64, 65536


@dataclass(frozen=True)
class Row:
    """
    What is published.

    :ivar isDeflate: over WebSocket with permessage-deflate.
    :ivar isOne: one at a time, so that no server can join it with another.
    :ivar isWindow: one at a time, and groups of getty_tx have a window of :data:`WINDOW` seconds.
    :ivar isBurst: :data:`BURST` at once, and the same window.
    :ivar isHalf: one at a time, and for as long as it took there is none.
    :ivar isStuck: one of :data:`SLOW_SHARE` members reads nothing.
    :ivar isSlow: these read :data:`SLOW_BYTES` a second.
    """

    members: int
    size: int
    isDeflate: bool = False
    isOne: bool = False
    isWindow: bool = False
    isBurst: bool = False
    isHalf: bool = False
    isStuck: bool = False
    isSlow: bool = False

    @classmethod
    def parse(cls, text: str) -> Row:
        """
        Read ``MEMBERSxBYTES[:deflate][:one|:window|:burst|:half][:stuck|:slow]``.

        :raise ValueError: for any other text.
        """
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)((?::\w+)*)", text)
        if found is None:
            raise ValueError(f"{text!r} is not MEMBERSxBYTES, such as 1000x100")
        words = found[3].split(":")[1:]
        if set(words) - {*WORDS} or len({*words}) < len(words):
            raise ValueError(f"{text!r} has more behind its numbers than :{', :'.join(WORDS)}, once each")
        row = cls(int(found[1]), int(found[2]), *(word in words for word in WORDS))
        if sum((row.isOne, row.isWindow, row.isBurst, row.isHalf)) > 1 or (row.isStuck and row.isSlow):
            raise ValueError(f"{text!r} has two of one, window, burst and half, or of stuck and slow")
        if not LEAST <= row.size <= MOST:
            raise ValueError(f"{text!r}: a publication has {LEAST} to {MOST} bytes")
        if row.slow >= row.members:
            raise ValueError(f"{text!r} leaves no member that reads")
        return row

    @property
    def once(self) -> int:
        """Publications that are sent at once."""
        return BURST if self.isBurst else 1

    @property
    def flight(self) -> int:
        """How many such are under way: two, so that the server has always one, if nothing else is asked for."""
        return 1 if self.isOne or self.isWindow or self.isBurst or self.isHalf else 2

    @property
    def slow(self) -> int:
        """Members that read slowly or nothing; one at least, where there are to be any."""
        return -(-self.members // SLOW_SHARE) if self.isStuck or self.isSlow else 0

    @property
    def window(self) -> float:
        """Seconds of a group's window."""
        return WINDOW if self.isWindow or self.isBurst else 0.0

    @property
    def echoes(self) -> int:
        """Echoes a second: none where a window lets the server rest, and they would be a part of the cost."""
        return 0 if self.window else ECHOES

    def load(self, port: int, wire: str, warmup: float, seconds: float) -> list[str]:
        """What ``groupload.c`` is told."""
        rest, slowBytes = int(self.isHalf), SLOW_BYTES if self.isSlow else 0
        shape = (self.members, self.size, self.once, self.flight, rest, self.slow, slowBytes, self.echoes)
        return [str(port), wire, *map(str, shape), f"{warmup:g}", f"{seconds:g}"]


@dataclass(frozen=True)
class GroupResult:
    """
    What came in ``seconds``: ``messages`` (deliveries) of ``publications``, and ``bytes`` of both.

    :ivar clientSeconds: the load's own CPU seconds.
    :ivar closed: slow members that the server has closed.
    :ivar p50: from sending a publication to a delivery, in microseconds; so is ``p99``, and to the last delivery of
        each ``last50`` and ``last99``.
    :ivar echo50: the round trip of an echo of a connection that is no member, in microseconds; so is ``echo99``. 0
        where there are none.
    :ivar cpuSeconds: the server's CPU seconds.
    :ivar memory: the server's resident bytes when all had joined and publishing had begun.
    :ivar grown: how many there were more at most until the end.
    :ivar kernel: how many bytes the kernel has more for all connections of the machine at the end than then.
    """

    messages: int
    publications: int
    bytes: int
    seconds: float
    clientSeconds: float
    closed: int
    p50: float
    p99: float
    last50: float
    last99: float
    echo50: float
    echo99: float
    cpuSeconds: float
    memory: int
    grown: int
    kernel: int

    @property
    def rate(self) -> float:
        """Deliveries per second."""
        return self.messages / self.seconds

    @property
    def cpuPerMessage(self) -> float:
        """The server's microseconds of user and system time for one delivery."""
        return self.cpuSeconds / max(self.messages, 1) * 1e6


@cache
def program(source: Path = SOURCE) -> str:
    """
    The path of the compiled load, or of the floor.

    :raise LoadError: there is no C compiler.
    """
    command = compiler()
    if command is None:
        raise LoadError("groups are loaded by a program in C, which needs a compiler (cc or gcc)")
    return built([command, "-O2"], source, SOURCE.with_name("groupwire.h"), SOURCE.with_name("roundtrips.h"))


def run(server: ServerProcess, row: Row, wire: str, seconds: float, warmup: float) -> GroupResult:
    """
    Load a server.

    :raise LoadError: a member had not what was published, or the server closed one that reads.
    """
    process = startLoad([program(), *row.load(server.port, wire, warmup, seconds)])
    assert process.stdout is not None and process.stderr is not None
    try:
        awaitMeasuring(process)
        before = server.cpuSeconds()
        memory, kernel = server.memory(), kernelMemory()
        server.resetPeak()
        line = process.stdout.readline()
        # The load still has its connections: the server's work of closing them is no part of a delivery.
        used, grown, kernel = server.cpuSeconds() - before, server.peakMemory() - memory, kernelMemory() - kernel
        if not line:
            raise LoadError(process.stderr.read().strip() or "the load ended without a result")
    finally:
        process.kill()
        process.communicate()
    return readLoad(line, used, memory, grown, kernel)


def kernelMemory() -> int:
    """Bytes that the kernel has for TCP connections, those of others among them."""
    found = re.search(r"^TCP: .*\bmem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") if found else 0


def readLoad(line: str, cpuSeconds: float, memory: int, grown: int, kernel: int) -> GroupResult:
    """
    What ``groupload.c`` has printed.

    :raise LoadError: it is something else, or nothing was delivered.
    """
    try:
        found = GroupResult(**json.loads(line), cpuSeconds=cpuSeconds, memory=memory, grown=grown, kernel=kernel)
    except (json.JSONDecodeError, TypeError):
        raise LoadError(f"the load has printed no result: {line.strip()[-200:]}") from None
    if not found.publications:
        raise LoadError("no publication has reached all members in the time")
    return found


class Member:
    """A member by WebSocket with permessage-deflate, which reads what it gets. To be used in a ``with`` statement."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = b""
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._rest:
            self._more()
        answer, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if b" 101 " not in answer or b"permessage-deflate" not in answer:
            raise LoadError(f"the server does not take permessage-deflate: {answer[:200]!r}")

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise LoadError("the server has closed a member that looks at publications")
        self._rest += data

    def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def send(self, message: bytes) -> None:
        """Send a message of up to 65,535 bytes, as it is."""
        length = bytes([0x80 | len(message)]) if len(message) < 126 else b"\xfe" + len(message).to_bytes(2, "big")
        # A mask of zeros changes nothing.
        self._socket.sendall(b"\x81" + length + bytes(4) + message)

    def read(self) -> tuple[bytes, bool]:
        """The next message, and whether it was compressed; pings are passed over."""
        while True:
            first, second = self._take(2)
            size = {126: 2, 127: 8}.get(second)
            data = self._take(int.from_bytes(self._take(size), "big") if size else second)
            if first & 0x0F in (1, 2):
                break
        if not first & 0x40:
            return data, False
        return self._inflate.decompress(data + b"\x00\x00\xff\xff"), True


def publication(number: int, size: int = 200) -> bytes:
    """A publication as those of ``groupload.c``."""
    empty = json.dumps({"do": "pub", "seq": 10**9 + number, "text": ""}, separators=(",", ":"))
    words = " ".join(f"{number * at % 97} times" for at in range(size))
    return empty.replace('""', f'"{words[: size - len(empty)]}"').encode()


def checkDeflate(port: int, wire: str) -> None:
    """
    Publish three times and compare what a member reads: the load does not look into what is compressed.

    :raise LoadError: it has something else.
    :raise OSError: it has nothing.
    """
    isNchan = wire.startswith("nchan")
    with Member(port, "/member" if isNchan else "/") as member:
        if not isNchan:
            member.send(b'{"do":"join"}')
            member.read()
        for number in range(3):
            text = publication(number)
            if isNchan:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("POST", "/pub", text, {"Content-Type": "application/json"})
                connection.getresponse().read()
                connection.close()
            else:
                member.send(text)
            found, isCompressed = member.read()
            if found != text or not isCompressed:
                raise LoadError(f"a member read {found[:80]!r} ({isCompressed=}), and {text[:80]!r} was published")
