"""Count the instructions that each step of a message's way takes in Python, without the system's.

    python -m benchmarks.path

50 sessions of an echo server take turns in this process, over sockets that are none, so that nothing but the package
runs; then each step is run alone. ``perf stat`` counts the instructions, of which a busy machine takes no more and no
less. So a change of 1 % shows, where rates vary by 10 %; they are no time, though: the same number may take longer. The
columns are for reads of 1 and of 16 packages of 915 bytes; the numbers are for each package.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

SESSIONS = 50
SIZE = 915
BATCHES = (1, 16)

#: Reads in the longer and the shorter of two runs; what they differ by is what the reads took.
LONG, SHORT = 60_000, 10_000

RUNS = 4


class NoSocket:
    """Gives the same bytes for ever, and takes everything. Both are functions in C, which cost little themselves."""

    family = socket.AF_INET
    send = staticmethod(len)

    def __init__(self, data: bytes, size: int) -> None:
        self.recv = {size: data}.__getitem__

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: object) -> None:
        pass


def makeSessions(frames: int) -> tuple[list[Any], Callable[[], None]]:
    """The sessions, and what ends a turn."""
    from twisted.internet import tcp
    from twisted.internet.address import IPv4Address
    from twisted.internet.task import Clock
    from zope.interface import directlyProvides

    from getty_tx import SessionServerFactory
    from getty_tx.codecs import LengthCodec
    from getty_tx.inbound import WHOLE_READ
    from getty_tx.interfaces import IReactorTurns
    from getty_tx.tap.echo import EchoListener

    ends: list[Callable[[], object]] = []
    reactor: Any = Clock()
    reactor.seconds = time.time
    reactor.callAtTurnsEnd = ends.append
    directlyProvides(reactor, IReactorTurns)

    def newSession(session: Any) -> None:
        session.codec, session.listener = codec, listener

    def endTurn() -> None:
        while ends:
            ends.pop()()

    codec, listener = LengthCodec(order="little"), EchoListener()
    factory = SessionServerFactory(newSession, reactor=reactor)
    factory.doStart()
    data = codec.write(None, bytes(SIZE)) * frames  # type: ignore[arg-type, operator]
    sessions = []
    for _ in range(SESSIONS):
        protocol = factory.buildProtocol(None)
        # One of the types that the outbound sends to directly, without the constructor that wants a real socket.
        transport: Any = tcp.Server.__new__(tcp.Server)
        transport.socket = NoSocket(data, WHOLE_READ)
        transport.getPeer = transport.getHost = partial(IPv4Address, "TCP", "127.0.0.1", 1)
        protocol.makeConnection(transport)
        sessions.append(protocol.session)
    return sessions, endTurn


def wholeWay(frames: int, reads: int) -> None:
    """From the transport's doRead to the socket's send."""
    sessions, endTurn = makeSessions(frames)
    transports = [session._outbound.transport for session in sessions]
    for _ in range(reads // SESSIONS):
        for transport in transports:
            transport.doRead()
        endTurn()
    assert sum(session.stats.writePkgs for session in sessions) == reads // SESSIONS * SESSIONS * frames


def reading(frames: int, reads: int) -> None:
    """The codec: bytes to packages."""
    sessions, _ = makeSessions(frames)
    data = sessions[0]._outbound.transport.socket.recv(120 * 1024)
    readMany = sessions[0].codec.readMany
    for _ in range(reads):
        readMany(sessions[0], data, 0, 100_000)


def encoding(frames: int, reads: int) -> None:
    """The codec: packages to bytes."""
    sessions, _ = makeSessions(frames)
    pkg = bytes(SIZE)
    write = sessions[0].codec.write
    for _ in range(reads * frames):
        write(sessions[0], pkg)


def sending(frames: int, reads: int) -> None:
    """The outbound: corked, gathered, released."""
    sessions, endTurn = makeSessions(frames)
    data = bytes(SIZE + 4)
    length = len(data)
    for _ in range(reads // SESSIONS):
        for session in sessions:
            outbound = session._outbound
            outbound.corked = True
            write = outbound.write
            for _ in range(frames):
                write(data, length)
            outbound.uncork()
        endTurn()


def nothing(frames: int, reads: int) -> None:
    """The loops of the measurement."""
    for _ in range(reads * frames):
        pass


def dispatching(name: str, frames: int, reads: int) -> None:
    """A reactor: from one epoll_wait to the next, with descriptors that always have something to read."""
    from twisted.internet import epollreactor, tcp

    from getty_tx.reactors import epoll

    reactor: Any = {"getty": epoll, "epoll": epollreactor}[name].EPollReactor()
    left = reads
    pairs = [socket.socketpair() for _ in range(SESSIONS)]

    def doRead() -> None:
        nonlocal left
        left -= 1
        if not left:
            reactor.stop()

    for near, far in pairs:
        far.send(b"x")
        connection: Any = tcp.Connection(near, None, reactor)  # type: ignore[arg-type]
        connection.doRead = doRead
        connection.connectionLost = lambda reason: None
        connection.startReading()
    # As in a server, where the timing wheel has a timer to come.
    reactor.callLater(3600, print)
    reactor.run(installSignalHandlers=False)


STEPS: dict[str, Callable[[int, int], None]] = {
    "whole way": wholeWay,
    "reading": reading,
    "encoding": encoding,
    "sending": sending,
    "nothing": nothing,
    "getty": partial(dispatching, "getty"),
    "epoll": partial(dispatching, "epoll"),
}


def run(step: str, frames: int, reads: int) -> float:
    """The instructions of a process that runs a step."""
    with tempfile.NamedTemporaryFile("r") as output:
        perf = ["perf", "stat", "-x,", "-e", "instructions:u", "-o", output.name]
        python = [sys.executable, "-m", "benchmarks.path", f"--step={step}", f"--frames={frames}", f"--reads={reads}"]
        subprocess.run([*perf, *python], check=True, env={**os.environ, "PYTHONHASHSEED": "0"}, cwd=ROOT)
        (line,) = [line for line in output if "instructions" in line]
    return float(line.partition(",")[0])


def count(step: str, frames: int) -> float:
    """
    Instructions for each package.

    The least of some runs: where objects happen to lie in memory makes a difference of some percent.
    """
    short, long = (min(run(step, frames, reads // frames) for _ in range(RUNS)) for reads in (SHORT, LONG))
    return (long - short) / (LONG // frames - SHORT // frames) / frames


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.path", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--reads", type=int, default=LONG, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](options.frames, options.reads)
        return 0
    if shutil.which("perf") is None:
        print("not measured: there is no perf (of the linux-tools)", file=sys.stderr)
        return 1
    rows: dict[str, list[float]] = {}
    for name in ("getty", "epoll"):
        dispatch = count(name, 1)
        rows[f"dispatch, {name} reactor"] = [dispatch / frames for frames in BATCHES]
    for frames in BATCHES:
        loop = count("nothing", frames)
        parts = {step: count(step, frames) - loop for step in ("reading", "encoding", "sending")}
        whole = count("whole way", frames)
        rest = whole - sum(parts.values())
        for name, value in (("doRead to send", whole), *parts.items(), ("way in, listener, writePkg", rest)):
            rows.setdefault(name, []).append(value)
    print(f"{'instructions for a package':<30}" + "".join(f"{f'{frames} a read':>12}" for frames in BATCHES))
    for name, values in rows.items():
        print(f"{name:<30}" + "".join(f"{value:>12.0f}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
