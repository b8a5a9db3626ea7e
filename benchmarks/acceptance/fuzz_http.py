"""Random requests of HTTP, right and wrong, in memory: whatever comes, what goes out is right, and nothing is left.

Requests are made of methods, targets, versions, fields, lengths, chunks, trailers, Expect and Upgrade, several on a
connection; near half of them are damaged then. They are cut at random places, and their clients leave, reset, end their
side, or do not read for a while; now and then the server drains. A router with files, an application of ASGI with
WebSockets and one of WSGI answer them at once, late, early, as a whole or in parts.

What is checked: nothing is logged as an error and nobody gets a 500; h11 reads all that was sent as answers; there is
one for each request, and one more at most, which refuses; a well-formed request is served with its body, and what is in
a body is never served; and behind a connection no timer, no task and no request is left. Limits: no failure, and 32 MB
of memory more than after a third of the time, when caches are full.

With ``SECONDS=600`` in the environment it takes as long, in place of 60. A connection that fails is printed with its
application and its seed: ``ONLY=router:7`` repeats it, ``SEED=8000`` begins there.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import sys
import threading
import time
from collections import Counter
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

import h11
from twisted.internet.error import ConnectionLost
from twisted.logger import LogLevel, eventAsText, globalLogBeginner
from zope.interface import implementer

from benchmarks.acceptance.fuzz_apps import Applications
from benchmarks.acceptance.fuzz_requests import Maker, Sent
from benchmarks.acceptance.harness import MB, Figure, Target, TimedOut, main
from getty_tx import http
from getty_tx.http.connection import Connection
from getty_tx.http.context import HTTPContext
from getty_tx.http.interfaces import IApplication
from getty_tx.testing import MemoryReactor, connectedPeer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.testing import Pair

SECONDS = float(os.environ.get("SECONDS", "60"))
SEED = int(os.environ.get("SEED", "0"))
ONLY = os.environ.get("ONLY", "")

MEMORY_LIMIT = 32 * MB

#: Failures of an application that are printed, at most; with more it is tried no more.
MOST = 10

#: Seconds of the clock within which all must be gone after the client's last word.
GONE = 60.0

#: The application of WSGI has its threads, which the driver has to wait for: so it is tried more seldom.
NAMES = ["router"] * 8 + ["asgi"] * 8 + ["wsgi"]

SMALL = {"maxLine": 60, "maxHead": 400, "maxFields": 6, "maxBody": 1000}
TIMES = {"headTimeout": 1.0, "bodyTimeout": 2.0, "keepAlive": 1.5}


class Failed(Exception):
    """What a connection shows is wrong."""


class Reactor(MemoryReactor):
    """A clock that tells the driver of calls from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.called = threading.Event()

    def callFromThread(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """As before, and tell the driver."""
        super().callFromThread(call, *args, **kwargs)
        self.called.set()


@implementer(IApplication)
class Watched:
    """
    An application of which is known what it was asked.

    :ivar served: method and target of each request.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self.served: list[tuple[str, bytes]] = []

    def serve(self, request: http.Request, exchange: Any) -> None:
        """Remember it."""
        self.served.append((request.method, request.target))
        self._application.serve(request, exchange)


class Errors(logging.Handler):
    """Whatever is logged as an error, by Twisted or by asyncio, and what nobody has caught."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        # Until then Twisted keeps the last events, with the sessions that they name.
        globalLogBeginner.beginLoggingTo([self._event], discardBuffer=True, redirectStandardIO=False)
        logging.getLogger("asyncio").addHandler(self)
        sys.unraisablehook = lambda given: self.found.append(f"unraisable: {given.exc_value!r} in {given.object!r}")

    def emit(self, record: logging.LogRecord) -> None:
        """A line of asyncio."""
        self.found.append(record.getMessage())

    def _event(self, event: Any) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical) or event.get("isError"):
            self.found.append(eventAsText(event))


#: What h11 says of an answer that has not come, or not to its end.
_ENDED = "without sending complete", "event type ConnectionClosed when", "unexpectedly closed connection"


class Answers:
    """
    What a client has got, as h11 reads it.

    :param methods: of the requests that were served; what follows them is a refusal.
    :param ended: the server has ended its side.
    :raise Failed: it is no series of answers.

    :ivar statuses: of the answers, interim ones left out; behind 101 another protocol follows.
    :ivar isComplete: the last one has its end.
    """

    def __init__(self, data: bytes, methods: list[str], ended: bool) -> None:
        self.statuses: list[int] = []
        self.isComplete = True
        rest, left = data, [*methods, "GET"]
        while rest:
            if rest.startswith(b"HTTP/1.1 101 "):
                self.statuses.append(101)
                return
            if not left:
                raise Failed(f"there is more than an answer to each request: {rest[:200]!r}")
            reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            reader.send(h11.Request(method=left.pop(0), target="/", headers=[("Host", "a")]))
            reader.send(h11.EndOfMessage())
            reader.receive_data(rest)
            if ended:
                reader.receive_data(b"")
            rest = self._read(reader)

    def _read(self, reader: h11.Connection) -> bytes:
        """Read one; return what follows it."""
        self.isComplete = False
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError as error:
                if any(text in str(error) for text in _ENDED):
                    return b""
                raise Failed(f"h11 cannot read it: {error}") from None
            if isinstance(event, h11.Response):
                self.statuses.append(event.status_code)
                if event.status_code == 500:
                    raise Failed("the answer is 500")
            elif isinstance(event, h11.EndOfMessage):
                self.isComplete = True
                return reader.trailing_data[0]
            elif not isinstance(event, h11.InformationalResponse | h11.Data):
                return b""


class World:
    """
    One application, behind one connection after the other.

    :param name: ``router``, ``asgi`` or ``wsgi``.
    """

    def __init__(self, name: str, errors: Errors) -> None:
        self.name = name
        self.errors = errors
        self.clock = Reactor()
        self.applications = Applications(self.clock)
        self.threads = name == "wsgi"
        self._asgi: http.Asgi | None = None
        self.application: Any
        if name == "router":
            self.application = self.applications.router()
        elif name == "asgi":
            self._asgi = self.application = http.Asgi(self.applications.asgi, lifespan="off")
            self._asgi.startApplication(self.clock)
            loop: Any = self._asgi.loop
            loop.time = self.clock.seconds
        else:
            self.application = http.Wsgi(self.applications.wsgi, workers=1)
            self.application.startApplication(self.clock)
        self.watched = Watched(self.application)
        self.contexts = [HTTPContext(self.watched, **TIMES), HTTPContext(self.watched, **TIMES, **SMALL)]
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0

    def settle(self) -> None:
        """Until nothing is to be done at this moment, by the threads neither."""
        self.clock.settle()
        while self.threads and any(context.running for context in self.contexts):
            self.clock.called.clear()
            self.clock.settle()
            if not self.clock.called.wait(0.002):
                break
            self.clock.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        while seconds > 0:
            self.settle()
            self.clock.advance(min(seconds, 0.5))
            seconds -= 0.5
        self.settle()

    def check(self, seed: int) -> None:
        """
        Try one connection.

        :raise Failed: something is wrong.
        """
        begin = time.perf_counter()
        random = Random(f"{self.name}:{seed}")
        maker = Maker(random)
        self.sent = maker.make()
        self.applications.begin(random, self._note)
        self.wrongBodies: list[bytes] = []
        self.watched.served.clear()
        context = self.contexts[random.random() < 0.1]
        isPatient = random.random() < 0.7
        pair = connectedPeer(
            lambda session: Connection(session, context),
            clock=self.clock,
            split=random.choice([None, None, random, [1000]]),
            capacity=None if isPatient else random.choice([None, 1000, 50_000]),
            autoClose=isPatient or random.random() < 0.5,
        )
        self.settle()
        self._talk(pair, context, random, maker.pieces(self.sent.data), isPatient)
        self._checkAnswers(pair, isPatient, context)
        self._checkRest(pair, context)
        self.slowest = max(self.slowest, time.perf_counter() - begin)

    def _note(self, target: bytes, body: bytes) -> None:
        if self.sent.isRight and self.sent.bodies[target] != body:
            self.wrongBodies.append(target)

    def _talk(self, pair: Pair, context: HTTPContext, random: Random, pieces: list[bytes], isPatient: bool) -> None:
        """Send it; who is not patient does something else between two pieces."""
        transport: Any = pair.peer.transport
        for piece in pieces:
            pair.peer.write(piece)
            if random.random() < 0.5:
                self.settle()
            if random.random() < 0.05:
                self.advance(random.choice([0.05, 0.3, 1.2]))
            if random.random() < 0.02:
                for connection in list(context.connections):
                    connection.drain()
            if not isPatient and random.random() < 0.3:
                kind = random.randrange(5)
                if kind == 0:
                    pair.peer.end()
                elif kind == 1:
                    pair.reset()
                elif kind == 2 and pair.peer.lost is None:
                    transport.pauseProducing()
                elif kind == 3 and pair.peer.lost is None:
                    transport.resumeProducing()
                else:
                    for connection in list(context.connections):
                        connection.session.close()
        self.settle()
        self.advance(random.choice([0, 0.3]))

    def _checkAnswers(self, pair: Pair, isPatient: bool, context: HTTPContext) -> None:
        served, sent = self.watched.served, self.sent
        if isPatient:
            # Whatever the application waits for, it has answered, or the client was too slow.
            self.advance(0.5)
            for _ in range(int(GONE)):
                if not context.running:
                    break
                self.advance(1.0)
        ended = pair.peer.ended or pair.peer.lost is not None
        answers = Answers(bytes(pair.peer.data), [method for method, _ in served], ended)
        count = len(answers.statuses)
        self.counts["requests"] += len(served)
        self.counts["refusals"] += count > len(served)
        if self.wrongBodies:
            raise Failed(f"the body is another one: {self.wrongBodies}")
        lines = sent.data.count(b"HTTP/1.")
        if len(served) > lines:
            raise Failed(f"{len(served)} requests are served, and {lines} were sent")
        if isPatient:
            if not (answers.isComplete or ended):
                raise Failed("an answer has no end")
            # What comes behind 101 is no frame: the connection is aborted, maybe before the client has read the 101.
            isAborted = isinstance(pair.peer.lost, ConnectionLost) and b"websocket" in sent.data
            if count < len(served) and not isAborted:
                raise Failed(f"{len(served)} requests have {count} answers")
        if sent.isRight:
            self._checkRight(isPatient and not ended and answers.statuses[-1:] != [101])

    def _checkRight(self, isWhole: bool) -> None:
        """Nothing but what was sent is served, and all of it where the connection stays."""
        targets = [target for _, target in self.watched.served]
        wanted = list(self.sent.bodies)
        if targets != wanted[: len(targets)]:
            raise Failed(f"{targets} are served, and {wanted} were sent")
        if isWhole and len(targets) != len(wanted):
            raise Failed(f"{targets} alone are served, and {wanted} were sent")

    def _checkRest(self, pair: Pair, context: HTTPContext) -> None:
        """The client goes, and nothing is left."""
        transport: Any = pair.peer.transport
        if pair.peer.lost is None:
            transport.resumeProducing()
            pair.peer.end()
        pair.peer.autoClose = True
        self.settle()
        clock = self.clock
        for _ in range(int(GONE)):
            if not (clock.getDelayedCalls() or context.running or context.connections):
                break
            self.advance(1.0)
        left = {
            "timers": clock.getDelayedCalls(),
            "running": context.running,
            "connections": context.connections,
            "tasks": self._asgi.tasks if self._asgi is not None else (),
            "readers": clock.getReaders(),
            "writers": clock.getWriters(),
        }
        found = {name: value for name, value in left.items() if value}
        if found:
            raise Failed(f"left behind: {found}")
        if self.errors.found:
            raise Failed("logged: " + self.errors.found[0])


class Fuzz:
    """The worlds, and what was found."""

    def __init__(self) -> None:
        self.errors = Errors()
        self.worlds = {name: World(name, self.errors) for name in dict.fromkeys(NAMES)}
        self.failures: Counter[str] = Counter()

    def run(self, name: str, seed: int) -> None:
        """One connection; a failure is printed, and the world is made anew."""
        world = self.worlds[name]
        self.errors.found.clear()
        world.counts["connections"] += 1
        try:
            world.check(seed)
        except TimedOut:
            print(f"{name}:{seed}: does not end", flush=True)
            raise
        except (Failed, AssertionError) as error:
            self.failures[name] += 1
            served = [target for _, target in world.watched.served]
            print(f"{name}:{seed}: {error}\n  served: {served}\n  sent: {_short(world.sent)}", flush=True)
            other = self.worlds[name] = World(name, self.errors)
            other.counts, other.slowest = world.counts, world.slowest

    def figures(self) -> Iterator[Figure]:
        """A figure for each application."""
        for name, world in self.worlds.items():
            counts = world.counts
            text = f"{self.failures[name]} of {counts['connections']:,} connections failed"
            note = f"{counts['requests']:,} requests served, {counts['refusals']:,} refused"
            yield Figure(name, self.failures[name], 0, text, f"{note}; the slowest took {world.slowest:.2f} s")


def _short(sent: Sent) -> str:
    data = sent.data
    return repr(data if len(data) < 2000 else data[:1500] + b" ... " + data[-400:])


def memory() -> int:
    """The resident memory of this process, in bytes, without what the C library keeps of freed blocks."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(_target: Target) -> Iterator[Figure]:
    fuzz = Fuzz()
    if ONLY:
        name, _, seed = ONLY.partition(":")
        fuzz.run(name, int(seed))
        yield from fuzz.figures()
        return
    begin = time.monotonic()
    before = 0
    seed = SEED
    for name in cycle(NAMES):
        elapsed = time.monotonic() - begin
        if elapsed > SECONDS or min(fuzz.failures[each] for each in NAMES) >= MOST:
            break
        if not before and elapsed > SECONDS / 3:
            before = memory()
        if fuzz.failures[name] < MOST:
            fuzz.run(name, seed)
        seed += 1
    yield from fuzz.figures()
    growth = (memory() - (before or memory())) / MB
    yield Figure("memory", growth, MEMORY_LIMIT / MB, f"{growth:.1f} MB more", f"seeds {SEED} to {seed - 1}")


if __name__ == "__main__":
    sys.exit(main("fuzz_http", measure, __doc__, seconds=int(SECONDS) + 120))
