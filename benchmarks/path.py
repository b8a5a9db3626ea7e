"""Count the instructions that each step of a message's way takes in Python, without the system's.

    python -m benchmarks.path

50 sessions of an echo server take turns in one process, over sockets that are none, so that nothing but the package
runs; then each step is run alone, and the calls of real sockets. ``perf stat`` counts the instructions, of which a busy
machine takes no more and no less. So a change of 1 % shows, where rates vary by 10 %; they are no time, though: the
same number may take longer. The columns are for reads of 1 and of 16 packages of 915 bytes; the numbers are for each
package.
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


def makeSessions(frames: int, count: int) -> tuple[list[Any], Callable[[], None]]:
    """So many sessions, and what ends a turn."""
    from twisted.internet import tcp
    from twisted.internet.address import IPv4Address
    from twisted.internet.task import Clock
    from zope.interface import directlyProvides

    from getty_tx import SessionServerFactory
    from getty_tx.codecs import LengthCodec
    from getty_tx.interfaces import IReactorTurns
    from getty_tx.session.inbound import WHOLE_READ
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
    for _ in range(count):
        protocol = factory.buildProtocol(None)
        # One of the types that the outbound sends to directly, without the constructor that wants a real socket.
        transport: Any = tcp.Server.__new__(tcp.Server)
        transport.socket = NoSocket(data, WHOLE_READ)
        transport.getPeer = transport.getHost = partial(IPv4Address, "TCP", "127.0.0.1", 1)
        protocol.makeConnection(transport)
        sessions.append(protocol.session)
    return sessions, endTurn


def wholeWay(frames: int, reads: int, count: int) -> None:
    """From the transport's doRead to the socket's send."""
    sessions, endTurn = makeSessions(frames, count)
    transports = [session.outbound.transport for session in sessions]
    for _ in range(reads // count):
        for transport in transports:
            transport.doRead()
        endTurn()
    assert sum(session.stats.writePkgs for session in sessions) == reads // count * count * frames


def reading(frames: int, reads: int, count: int) -> None:
    """The codec: bytes to packages."""
    sessions, _ = makeSessions(frames, count)
    data = sessions[0].outbound.transport.socket.recv(120 * 1024)
    readMany = sessions[0].codec.readMany
    for _ in range(reads):
        readMany(sessions[0], data, 0, 100_000)


def encoding(frames: int, reads: int, count: int) -> None:
    """The codec: packages to bytes."""
    sessions, _ = makeSessions(frames, count)
    pkg = bytes(SIZE)
    write = sessions[0].codec.write
    for _ in range(reads * frames):
        write(sessions[0], pkg)


def sending(frames: int, reads: int, count: int) -> None:
    """The outbound: corked, gathered, released."""
    sessions, endTurn = makeSessions(frames, count)
    data = bytes(SIZE + 4)
    length = len(data)
    for _ in range(reads // count):
        for session in sessions:
            outbound = session.outbound
            outbound.corked = True
            write = outbound.write
            for _ in range(frames):
                write(data, length)
            outbound.uncork()
        endTurn()


def calling(frames: int, reads: int, count: int) -> None:
    """A recv and a send of a real socket, without what the system does in them."""
    near, far = socket.socketpair()
    data = bytes((SIZE + 4) * frames)
    for _ in range(reads):
        near.send(data)
        far.recv(120 * 1024)


def nothing(frames: int, reads: int, count: int) -> None:
    """The loops of the measurement."""
    for _ in range(reads * frames):
        pass


def dispatching(name: str, frames: int, reads: int, count: int) -> None:
    """A reactor: from one epoll_wait to the next, with descriptors that always have something to read."""
    from twisted.internet import epollreactor, tcp

    from getty_tx.reactors import epoll
    from getty_tx.reactors.shortreads import shortReadsOf

    reactor: Any = {"getty": epoll, "epoll": epollreactor}[name].EPollReactor()
    shortReads = shortReadsOf(reactor)
    left = reads
    pairs = [socket.socketpair() for _ in range(count)]

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
        if shortReads is not None:
            shortReads.add(connection)
    # As in a server, where the timing wheel has a timer to come.
    reactor.callLater(3600, print)
    reactor.run(installSignalHandlers=False)


STEPS: dict[str, Callable[[int, int, int], None]] = {
    "whole way": wholeWay,
    "reading": reading,
    "encoding": encoding,
    "sending": sending,
    "calling": calling,
    "nothing": nothing,
    "getty": partial(dispatching, "getty"),
    "epoll": partial(dispatching, "epoll"),
}


def run(step: str, frames: int, reads: int, count: int) -> float:
    """The instructions of a process that runs a step."""
    with tempfile.NamedTemporaryFile("r") as output:
        perf = ["perf", "stat", "-x,", "-e", "instructions:u", "-o", output.name]
        numbers = [f"--frames={frames}", f"--reads={reads}", f"--sessions={count}"]
        python = [sys.executable, "-m", "benchmarks.path", f"--step={step}", *numbers]
        subprocess.run([*perf, *python], check=True, env={**os.environ, "PYTHONHASHSEED": "0"}, cwd=ROOT)
        (line,) = [line for line in output if "instructions" in line]
    return float(line.partition(",")[0])


def count(step: str, frames: int, sessions: int) -> float:
    """
    Instructions for each package.

    The least of some runs: where objects happen to lie in memory makes a difference of some percent.
    """
    short, long = (min(run(step, frames, reads // frames, sessions) for _ in range(RUNS)) for reads in (SHORT, LONG))
    return (long - short) / (LONG // frames - SHORT // frames) / frames


def stepsOf(reactor: str, frames: int, sessions: int = SESSIONS) -> dict[str, float]:
    """
    Instructions for each package, by step.

    :param reactor: ``getty`` or ``epoll``, which is Twisted's default.
    :param frames: packages in a read.
    :param sessions: those that have something to read in each turn.
    """
    loop = count("nothing", frames, sessions)
    parts = {step: count(step, frames, sessions) - loop for step in ("reading", "encoding", "sending", "whole way")}
    whole = parts.pop("whole way")
    return {
        "the reactor's turn and dispatch": count(reactor, 1, sessions) / frames,
        "recv and send, up to the system": count("calling", frames, sessions),
        "codec, bytes to package": parts["reading"],
        "session and listener": whole - sum(parts.values()),
        "codec, package to bytes": parts["encoding"],
        "outbound: cork, gather, release": parts["sending"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.path", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reactor", default="getty", choices=["getty", "epoll"], help="default: %(default)s")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--reads", type=int, default=LONG, help=argparse.SUPPRESS)
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](options.frames, options.reads, options.sessions)
        return 0
    if shutil.which("perf") is None:
        print("not measured: there is no perf (of the linux-tools)", file=sys.stderr)
        return 1
    columns = [stepsOf(options.reactor, frames) for frames in BATCHES]
    print(f"{'instructions for a package':<36}" + "".join(f"{f'{frames} a read':>12}" for frames in BATCHES))
    for name in columns[0]:
        print(f"{name:<36}" + "".join(f"{column[name]:>12.0f}" for column in columns))
    print(f"{'together':<36}" + "".join(f"{sum(column.values()):>12.0f}" for column in columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
