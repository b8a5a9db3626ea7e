"""The acts of plain sockets, each in a thread: peers that are slow, deaf, rude, or talk nonsense."""

from __future__ import annotations

import math
import select
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.soak import plan
from benchmarks.soak.messages import LONGEST, Op
from benchmarks.soak.plan import Pace

if TYPE_CHECKING:
    from random import Random

    from benchmarks.soak.messages import Conversation
    from benchmarks.soak.plan import Act, Request
    from benchmarks.soak.world import World

__all__ = ["ACTS", "Peer"]

_LENGTH = struct.Struct(">I")

#: SO_LINGER with no time: closing resets the connection.
_RESET = struct.pack("ii", 1, 0)

#: As fast as it goes.
FAST = Pace(65536, 0.0, 65536, 0.0)

#: What an operation answers that can do nothing now: of the system, and of TLS.
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Peer:
    """
    A socket that talks to the server in its own way.

    :param name: of the endpoint.
    :param receiveBuffer: SO_RCVBUF, where it is to be small.

    :ivar end: how the connection ended; empty as long as it has not.
    """

    def __init__(self, world: World, name: str, receiveBuffer: int = 0) -> None:
        self.conversation: Conversation = world.conversation()
        self.end = ""
        self._world = world
        self._name = name
        self._unread = bytearray()
        self.unsent = bytearray()
        world.tally.add("raw connections")
        places = world.steady
        self.socket = socket.socket(socket.AF_UNIX if name == "unix" else socket.AF_INET)
        try:
            if receiveBuffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receiveBuffer)
            self.socket.settimeout(self._world.patience)
            self.socket.connect(places.path if name == "unix" else ("127.0.0.1", places.ports[name]))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def encrypt(self) -> None:
        """Do the handshake of TLS."""
        context = ssl.create_default_context(cafile=str(self._world.chain))
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def reset(self) -> None:
        """Close with a reset."""
        if self._name != "unix":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()

    def write(self, op: Op = Op.ECHO, size: int = 0, argument: int = 0) -> None:
        """Have a request sent by the next exchange."""
        request = self.conversation.ask(op, size, argument)
        self.unsent += _LENGTH.pack(len(request)) + request

    def writeAll(self, requests: list[Request]) -> None:
        """Have requests sent by the next exchange."""
        for request in requests:
            self.write(request.op, request.size, request.argument)

    def exchange(self, pace: Pace = FAST, goal: str = "answered", seconds: float = math.inf) -> None:
        """
        Send what was written, and read meanwhile: a server that cannot send reads no more either.

        :param goal: ``"answered"``: until all answers are there. ``"sent"``: until all is sent. ``"end"``: until the
            connection ends. Without progress it is broken off.
        :param seconds: after so many it is over anyway.
        """
        self.socket.setblocking(False)
        now = begin = last = time.monotonic()
        nextSend = nextRead = now
        while not self.end and (goal == "end" or self.unsent or (goal == "answered" and self.conversation.outstanding)):
            now = time.monotonic()
            if now - begin > seconds:
                break
            if now - last > self._world.patience:
                self.end = "silence"
                break
            reads, writes = now >= nextRead, bool(self.unsent) and now >= nextSend
            moved = False
            if reads and self._read(pace.readSize):
                nextRead = now + pace.readEvery
                moved = True
            if writes and self._send(pace.sendSize):
                nextSend = now + pace.sendEvery
                moved = True
            if moved:
                last = now
                continue
            # Whatever is due first: a turn of one's own, or the socket.
            dues = [due - now for due in (nextRead, nextSend) if due > now]
            poll = select.poll()
            poll.register(
                self.socket, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0) | select.POLLERR
            )
            poll.poll(min([*dues, 0.25]) * 1000)

    def _send(self, size: int) -> int:
        try:
            with memoryview(self.unsent) as view:
                sent = self.socket.send(view[:size])
        except _LATER:
            return 0
        except OSError as error:
            self.end = f"{error.strerror or error} when sending"
            return 0
        del self.unsent[:sent]
        return sent

    def _read(self, size: int) -> int:
        try:
            data = self.socket.recv(size)
        except _LATER:
            return 0
        except OSError as error:
            self.end = f"{error.strerror or error} when reading"
            return 0
        if not data:
            self.end = "end of stream"
        unread = self._unread
        unread += data
        while len(unread) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(unread)
            if length > LONGEST * 2:
                self._world.finding(self._name, "altered", f"a frame of {length} bytes")
                self.end = "nonsense"
                break
            if len(unread) < _LENGTH.size + length:
                break
            self.conversation.hear(bytes(unread[_LENGTH.size : _LENGTH.size + length]))
            del unread[: _LENGTH.size + length]
        return len(data)

    def drain(self) -> bool:
        """Read whatever comes, until the connection ends; False if it does not."""
        self.socket.settimeout(self._world.patience)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def waitForEnd(self) -> bool:
        """Read nothing until the connection ends, by a reset or a close; False if it does not."""
        if self.socket.fileno() < 0:
            # A handshake of TLS that fails closes it.
            return True
        self.socket.setblocking(True)
        poll = select.poll()
        # POLLHUP and POLLERR come unasked; POLLRDHUP is the peer's end, whatever is still unread.
        poll.register(self.socket, select.POLLRDHUP)
        begin = time.monotonic()
        while not (ended := poll.poll(500)) and time.monotonic() - begin < self._world.patience:
            # In pieces, as patience is over when the run is.
            continue
        return bool(ended)

    def over(self, lived: bool, where: str) -> None:
        """The conversation is over."""
        self._world.ended(self.conversation, lived, f"{where}, {self.end or 'not at its end'}")


def exchange(world: World, act: Act) -> None:
    """Requests and answers at any pace, with an end in order, or without."""
    random = act.random()
    name = random.choice(("tcp", "tcp", "unix", "tls"))
    how = random.choice(("close", "halfClose", "bye", "reset"))
    if name == "tls" and how == "halfClose":
        how = "close"
    buffer = random.choice((0, 0, 4096, 65536))
    speed = plan.pace(random)
    where = f"{act}, {name}, {how}"
    world.tally.add(f"exchange: {how}")
    with Peer(world, name, buffer) as peer:
        if name == "tls":
            peer.encrypt()
        for requests in plan.bursts(random, 3):
            peer.writeAll(_bounded(requests, speed))
            peer.exchange(speed)
        if how == "bye":
            peer.writeAll(_bounded(plan.burst(random), speed))
            peer.write(Op.BYE, 1)
            peer.exchange(speed, "end")
        elif how == "halfClose":
            peer.writeAll(_bounded(plan.burst(random), speed))
            # The sending side ends right behind the last byte.
            peer.exchange(speed, "sent")
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_WR)
            peer.exchange(speed, "end")
        elif how == "reset":
            peer.writeAll(_bounded(plan.burst(random), speed))
            peer.exchange(speed, seconds=random.uniform(0, 0.05))
            peer.over(False, where)
            peer.reset()
            return
        if peer.end not in ("", "end of stream"):
            world.finding(where, "lost", f"the connection ended: {peer.end}")
        peer.over(True, where)


def _bounded(requests: list[Request], speed: Pace) -> list[Request]:
    """As many of the requests as are over in two seconds at this speed."""
    both = ((speed.sendSize, speed.sendEvery), (speed.readSize, speed.readEvery))
    rates = [size / every for size, every in both if every]
    total = 0
    for at, request in enumerate(requests):
        total += request.bytes
        if rates and total > 2 * min(rates):
            return requests[:at] or [plan.Request(Op.ECHO, 100)]
    return requests


def connects(world: World, act: Act) -> None:
    """Many connections that say nothing, or a part of something, and are closed or reset."""
    random = act.random()
    for _ in range(random.randint(1, 15)):
        name = random.choice(("tcp", "unix", "tls", "ws", "wss"))
        with suppress(ConnectionError), Peer(world, name) as peer:
            if name == "tls" and random.random() < 0.5:
                peer.encrypt()
            if random.random() < 0.5:
                peer.socket.send(b"\0\0\1\0 a part of a frame"[: random.randint(1, 20)])
            if random.random() < 0.3:
                time.sleep(random.uniform(0, 0.02))
            if random.random() < 0.5:
                peer.reset()


def reset(world: World, act: Act) -> None:
    """Resets in the middle of frames and answers, on each endpoint."""
    random = act.random()
    for _ in range(random.randint(1, 6)):
        name = random.choice(("tcp", "tcp", "tls"))
        with suppress(ConnectionError), Peer(world, name, random.choice((0, 4096))) as peer:
            if name == "tls":
                peer.encrypt()
            peer.writeAll(plan.burst(random))
            del peer.unsent[random.randint(1, len(peer.unsent)) :]
            peer.exchange(plan.pace(random), seconds=random.uniform(0, 0.1))
            peer.over(False, str(act))
            peer.reset()
            world.tally.add("event: reset")


def garbage(world: World, act: Act) -> None:
    """Bytes that are nothing: the server ends the connection, after what it had answered before."""
    random = act.random()
    name = random.choice(("tcp", "unix", "tls", "ws", "wss", "strict"))
    world.tally.add(f"garbage: {name}")
    with suppress(ConnectionError), Peer(world, name) as peer:
        if random.random() < 0.5 and name in ("tls", "wss"):
            peer.encrypt()
        if name in ("tcp", "unix"):
            peer.writeAll(_small(random))
        # Too long for any limit as the length of a frame, and no TLS record and no HTTP request either: if the second
        # byte were 3, OpenSSL would wait for the rest of a record.
        peer.unsent += b"\xff\xff" + random.randbytes(random.randint(4, 5000))
        if name in ("ws", "wss"):
            peer.unsent += b"\r\n\r\n"
        # What comes back may be an alert, or HTTP: only where frames were sent, frames are expected.
        if name in ("tcp", "unix"):
            peer.exchange(goal="end")
            ended = peer.end != "silence"
        else:
            peer.socket.sendall(peer.unsent)
            ended = peer.drain()
        # With workers, what waits for one is dropped when the session fails.
        peer.over(name in ("tcp", "unix") and not world.serverOptions["workers"], str(act))
        if not ended:
            world.finding(f"{act}, {name}", "hung", "the server keeps a connection that sent garbage")


def _small(random: Random) -> list[Request]:
    return [plan.Request(Op.ECHO, random.randint(1, 1000)) for _ in range(random.randint(0, 20))]


def deaf(world: World, act: Act) -> None:
    """A peer that asks for megabytes and reads nothing: its writeTimeout ends it."""
    random = act.random()
    name = random.choice(("tcp", "unix", "tls"))
    with Peer(world, name, receiveBuffer=4096) as peer:
        if name == "tls":
            peer.encrypt()
        peer.write(Op.PATIENCE, 10, random.randint(300, 800))
        peer.exchange()
        for _ in range(20):
            peer.write(Op.SIZED, 1, LONGEST // 2)
        with memoryview(peer.unsent) as view:
            peer.socket.setblocking(True)
            peer.socket.sendall(view)
        world.tally.add("event: deaf peer")
        if not peer.waitForEnd():
            world.finding(f"{act}, {name}", "hung", "the server keeps a connection that is not read from")
        peer.over(False, str(act))


def strict(world: World, act: Act) -> None:
    """The service with short time-outs, few places and failing callbacks: whatever it does, it lets go."""
    random = act.random()
    how = random.choice(("idle", "noHandshake", "flood", "talk"))
    world.tally.add(f"strict: {how}")
    name = "strictTLS" if how == "noHandshake" or (how == "talk" and random.random() < 0.5) else "strict"
    peers: list[Peer] = []
    try:
        for _ in range(random.randint(8, 20) if how == "flood" else 1):
            with suppress(ConnectionError):
                peers.append(Peer(world, name))
        for peer in peers:
            if name == "strictTLS" and how == "talk":
                with suppress(OSError):
                    peer.encrypt()
            elif how == "noHandshake" and random.random() < 0.5:
                with suppress(OSError):
                    peer.socket.send(b"\x16\x03\x01\x02\x00\x01")
            if how in ("flood", "talk") and peer.socket.fileno() >= 0:
                peer.writeAll(_small(random))
                peer.exchange(seconds=0.2)
        for peer in peers:
            if not peer.waitForEnd():
                world.finding(f"{act}, {how}", "hung", "the strict service keeps a connection")
            peer.over(False, str(act))
    finally:
        for peer in peers:
            peer.socket.close()


#: The acts by kind.
ACTS = {
    "exchange": exchange,
    "connects": connects,
    "reset": reset,
    "garbage": garbage,
    "deaf": deaf,
    "strict": strict,
}
