"""What each measure for speed gains, and what some others would: an echo server with one thing changed, beside itself.

    python -m benchmarks.without
    python -m benchmarks.without --only gathering,recv-into --repetitions 7

The changed server is the same, with a few lines of Python run before it starts. Both run in turn, each repetition in
a new process, on ``--reactor getty``. *Rate* is the best of the repetitions and *CPU* the lowest microseconds for a
message. *Instructions* are thousands for a message, the system's included, where there is ``perf``: a busy machine
takes as many as an idle one, though not all of them take the same time. Ratios above 1 are in favour of how it is.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from benchmarks.loads import LoadError, Scenario, runLoad
from benchmarks.measure import LISTEN, compare
from benchmarks.servers import GETTY_ECHO, ServerError, ServerProcess, onReactor

HEADING = (
    f"{'':<16}{'scenario':>14}{'rate':>10}{'changed':>10}{'ratio':>7}{'CPU us':>9}{'changed':>9}{'ratio':>7}"
    f"{'1000 ins.':>11}{'changed':>9}{'ratio':>7}"
)

#: Seconds until perf counts.
ATTACH = 0.3


@dataclass(frozen=True)
class Change:
    """
    One thing that is otherwise.

    :ivar code: what runs first; it ends with a newline.
    :ivar scenarios: where it should make a difference.
    """

    name: str
    text: str
    code: str
    scenarios: tuple[str, ...]
    reactor: str = "getty"


#: Measures that are taken, each taken back.
TAKEN = (
    Change("reactor", "Twisted's own epoll reactor", "", ("1x1x915", "50x1x915", "1000x1x915"), "epoll"),
    Change(
        "short-reads",
        "Twisted's own epoll reactor, with its own dispatch of reads",
        "from getty_tx.session import context\ncontext.shortReadsOf = lambda reactor: None\n",
        ("1x1x915", "50x1x915", "1000x1x915"),
        "epoll",
    ),
    Change(
        "sending",
        "transport.write, which sends in the next turn, in place of the socket's send",
        "from getty_tx.session import outbound\noutbound.DIRECT = frozenset()\n",
        ("1x1x915", "50x1x915"),
    ),
    Change(
        "gathering",
        "each answer sent at once, not with the others at the end of the turn",
        "from getty_tx.session import cork\ncork.PROBE = cork.MANY = 10**9\n",
        ("50x1x915", "50x16x915", "1000x1x915"),
    ),
    Change(
        "batches",
        "one call of the codec for each package: no readMany",
        "from getty_tx.codecs import LengthCodec\ndel LengthCodec.readMany\n",
        ("50x16x915",),
    ),
    Change(
        "whole-reads",
        "reads of 64 KiB, Twisted's default, in place of 120",
        "from getty_tx.session import inbound\nfrom getty_tx.transports import stream\n"
        "inbound.WHOLE_READ = stream.WHOLE_READ = 65536\n",
        ("256x1x65536",),
    ),
    Change(
        "kept-memory",
        "glibc gives a turn's memory back to the system each time",
        "from getty_tx.session import cork\ncork.KEPT = 0\n",
        ("50x1x32000",),
    ),
    Change(
        "lists",
        "header and payload always joined to one bytes",
        "from getty_tx.codecs import length\nlength.SEPARATE_ABOVE = 10**9\n",
        ("256x1x65536",),
    ),
    Change(
        "joins",
        "header and payload never joined, sent with sendmsg",
        "from getty_tx.codecs import length\nlength.SEPARATE_ABOVE = 0\n",
        ("50x1x915", "50x16x915"),
    ),
)

_RECV_INTO = """
from getty_tx.transports import stream
buffer = bytearray(stream.WHOLE_READ)
view = memoryview(buffer)
def doRead(self):
    try:
        count = self.rawTransport.socket.recv_into(buffer)
    except BlockingIOError:
        return None
    except OSError:
        return stream.CONNECTION_LOST
    if not count:
        return stream.CONNECTION_DONE
    self.session.inbound.receive(bytes(view[:count]))
stream.StreamConnection._doRead = doRead
"""

_POLLER = """
from twisted.internet import epollreactor
make = epollreactor.epoll
class Poller:
    def __init__(self, *arguments):
        self.real = make(*arguments)
        for name in ("register", "modify", "unregister", "poll", "fileno", "close"):
            if name not in type(self).__dict__:
                setattr(self, name, getattr(self.real, name))
"""

#: What is not done.
LEFT = (
    Change("recv-into", "one buffer to receive into, and a copy of what came", _RECV_INTO, ("1x1x915", "50x1x915")),
    Change(
        "edge-triggered",
        "EPOLLET, with which the kernel does not look again whether there is more",
        _POLLER
        + "    def register(self, fd, events):\n        self.real.register(fd, events | (1 << 31))\n"
        + "epollreactor.epoll = Poller\n",
        ("1x1x915", "50x1x915"),
    ),
    Change(
        "spinning",
        "a look for events that does not wait, before the one that does",
        _POLLER
        + "    def poll(self, timeout, most):\n"
        + "        return self.real.poll(0, most) or self.real.poll(timeout, most)\n"
        + "epollreactor.epoll = Poller\n",
        ("1x1x915", "50x1x915"),
    ),
    Change("no-gc", "no garbage collection", "import gc\ngc.disable()\n", ("50x1x915", "50x16x915")),
    Change(
        "64-events",
        "64 events of one epoll_wait at most, in place of 256",
        "from getty_tx.reactors import epoll\nepoll.EVENTS_PER_ITERATION = 64\n",
        ("1000x1x915",),
    ),
    Change(
        "1024-events",
        "1024 events of one epoll_wait at most",
        "from getty_tx.reactors import epoll\nepoll.EVENTS_PER_ITERATION = 1024\n",
        ("1000x1x915",),
    ),
    Change(
        "all-together",
        "all answers of a turn together, not 64 at most",
        "from getty_tx.session import outbound\noutbound.MOST = 10**9\n",
        ("1000x1x915",),
    ),
)

#: What a user may choose.
CHOSEN = (
    Change(
        "views",
        "packages of 16 KiB and more are views of what was read",
        "from getty_tx.codecs import LengthCodec\nLengthCodec.__init__.__defaults__ = (4, 'big', 'payload', 16384)\n",
        ("20x1x65536", "4x1x262144", "4x1x1048576"),
    ),
)

CHANGES = {change.name: change for change in (*TAKEN, *LEFT, *CHOSEN)}


def commandOf(change: Change) -> str:
    """The server with that change."""
    code = f"{change.code}import sys\nsys.argv[0] = 'twistd'\nfrom twisted.scripts.twistd import run\nrun()\n"
    command = onReactor(GETTY_ECHO, change.reactor).replace("twistd ", "", 1)
    return f"python -c {shlex.quote(code)} {command}"


def instructions(command: str, each: Scenario) -> float | None:
    """Thousands of instructions for a message; None where they cannot be counted."""
    if shutil.which("perf") is None:
        return None
    with tempfile.NamedTemporaryFile("r") as output, ServerProcess(command, listen=LISTEN) as server:
        perf = ["perf", "stat", "-x,", "-e", "instructions", "-o", output.name, "-p", str(server.pid)]
        counting = subprocess.Popen(perf, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(ATTACH)
            messages = runLoad(server, each, 1.0, 0.0).messages
            counting.send_signal(signal.SIGINT)
            counting.wait(timeout=10)
        finally:
            counting.kill()
            counting.wait()
        found = [float(line.partition(",")[0]) for line in output if "instructions" in line and line[0].isdigit()]
    return sum(found) / messages / 1000 if found else None


def measure(change: Change, each: Scenario, repetitions: int, seconds: float) -> str:
    """One line of the table."""
    servers = {"as it is": onReactor(GETTY_ECHO, "getty"), "changed": commandOf(change)}
    asItIs, changed = compare(servers, each, repetitions, seconds).values()
    if asItIs.problem or changed.problem:
        raise LoadError(asItIs.problem or changed.problem)
    rates = f"{asItIs.best:>10.0f}{changed.best:>10.0f}{asItIs.best / changed.best:>7.2f}"
    spent = f"{asItIs.cpuPerMessage:>9.2f}{changed.cpuPerMessage:>9.2f}"
    spent += f"{changed.cpuPerMessage / asItIs.cpuPerMessage:>7.2f}"
    counted = [instructions(command, each) for command in servers.values()]
    if counted[0] and counted[1]:
        spent += f"{counted[0]:>11.1f}{counted[1]:>9.1f}{counted[1] / counted[0]:>7.2f}"
    return f"{change.name:<16}{each!s:>14}{rates}{spent}"


def main() -> int:
    changes = "\n".join(f"  {change.name:<16}{change.text}" for change in CHANGES.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.without",
        description=f"{__doc__}\nChanges:\n{changes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help="these changes, separated by commas")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one run (default: %(default)s)")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(CHANGES)
    unknown = set(names) - set(CHANGES)
    if unknown:
        parser.error(f"--only names {', '.join(sorted(unknown))}; there are {', '.join(CHANGES)}")
    if options.repetitions < 1 or options.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    print(HEADING, flush=True)
    failed = False
    for change in map(CHANGES.__getitem__, names):
        for text in change.scenarios:
            try:
                print(measure(change, Scenario.parse(text), options.repetitions, options.seconds), flush=True)
            except (LoadError, ServerError) as error:
                failed = True
                print(f"{change.name:<16}{text:>14} FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
