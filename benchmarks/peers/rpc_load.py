"""What the peers of ``benchmarks.rpc`` share: their command lines, and callers in a loop each. It needs Python alone.

A peer is run in one of these ways::

    PEER serve PORT CONTENT HANDLER
    PEER call PORT CONTENT HANDLER CONNECTIONS DEPTH SIZE TIMEOUT WARMUP SECONDS SHARING

CONTENT is ``bytes``, or as JSON ``records`` or ``text``, or another that ``payloadOf`` has. HANDLER is ``plain`` or
``async``, TIMEOUT seconds or ``-``. SHARING is ``pool`` or ``clients``: whether callers take any connection, where a
peer has that, or one of their own. Its server answers with what it was sent. Its client prints ``measuring`` when the
warm-up is over, and at the end one JSON object about the time after it, as ``rpcload.c`` does, with its own CPU
seconds. The first call that fails, or whose answer is not what was sent, ends it with status 1.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable


def payloadOf(content: str, size: int) -> Any:
    """
    Bytes; or what has about so many bytes as JSON: ``records``, small and as many as it takes, or a long ``text``.

    ``dubbo`` are bytes on that wire, and ``dubbotext`` is a text.
    """
    if content == "dubbotext":
        return "word " * (size // 5)
    if content in ("bytes", "dubbo"):
        return bytes((7 * at + 3) % 256 for at in range(size))
    if content == "text":
        return {"id": 1000, "text": "word " * (size // 5)}
    rows: list[dict[str, Any]] = []
    while len(json.dumps(rows, separators=(",", ":"))) < size:
        number = len(rows)
        rows.append({"id": 1000 + number, "name": f"user {number}", "score": number + 0.5, "tags": ["a", "b"]})
    return rows


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def newLoop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where that is installed, asyncio's own otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run`` on :py:func:`newLoop`."""
    with asyncio.Runner(loop_factory=newLoop) as runner:
        runner.run(main)


def slowing(trips: list[float]) -> float:
    """The mean of the last quarter of the round trips, as a multiple of the first quarter's."""
    quarter = max(len(trips) // 4, 1)
    return sum(trips[-quarter:]) / sum(trips[:quarter])


def given(value: Any) -> Any:
    """What a call begins with where a connection has one at a time: nothing, it waits in line."""
    return value


class Load:
    """The callers of a client: they stop by themselves when the time is over."""

    def __init__(self, port: int, content: str, arguments: list[str]) -> None:
        self.port = port
        self.connections, self.depth, size = map(int, arguments[:3])
        self.timeout = None if arguments[3] == "-" else float(arguments[3])
        self.warmup, self.seconds = map(float, arguments[4:6])
        self.isPool = arguments[6] == "pool"
        self.payload = payloadOf(content, size)
        self._start = self._stop = 0.0
        self._isMeasuring = False
        self._trips: list[float] = []
        self._failed = ""
        self._lock = threading.Lock()

    def begin(self) -> None:
        """All connections are open: the time runs."""
        self._start = time.perf_counter() + self.warmup
        self._stop = self._start + self.seconds

    async def caller(self, call: Callable[[Any], Any], take: Callable[[Any], Any] | None = None) -> None:
        """
        Call again and again.

        :param call: makes a call with the payload, and returns what is awaited.
        :param take: gets the payload out of what comes back, where it is in something else.
        """
        payload = self.payload
        ended = time.perf_counter()
        while ended < self._stop and not self._failed:
            began = ended
            try:
                reply = await call(payload)
                if take is not None:
                    reply = take(reply)
            except Exception as error:
                self._failed = f"a call failed: {type(error).__name__}: {error}"
                return
            if reply != payload:
                self._failed = "a reply differs from what was sent"
                return
            ended = time.perf_counter()
            if self._isMeasuring:
                self._trips.append(ended - began)
            elif ended >= self._start:
                self._measure(ended)

    def inThreads(self, connections: Iterable[tuple[Callable[[Any], Any], Callable[[Any], Any]]]) -> None:
        """
        Run a thread for each connection, with the callers of it, and wait for them all.

        :param connections: ``begin`` and ``finish`` of each, as :py:meth:`callers` has them.
        """
        self.begin()
        threads = [threading.Thread(target=self.callers, args=each, daemon=True) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def callers(self, begin: Callable[[Any], Any], finish: Callable[[Any], Any]) -> None:
        """
        The callers of a connection in one thread: as many calls have begun at a time, the oldest is finished next.

        :param begin: starts a call with the payload; :py:func:`given` where a connection has one call at a time.
        :param finish: gets what ``begin`` has returned, and returns the reply.
        """
        payload = self.payload
        ended = time.perf_counter()
        try:
            waiting = deque((ended, begin(payload)) for _ in range(self.depth))
            while ended < self._stop and not self._failed:
                began, call = waiting.popleft()
                if finish(call) != payload:
                    self._failed = "a reply differs from what was sent"
                    return
                ended = time.perf_counter()
                waiting.append((ended, begin(payload)))
                if self._isMeasuring:
                    self._trips.append(ended - began)
                elif ended >= self._start:
                    self._measure(ended)
        except Exception as error:
            self._failed = f"a call failed: {type(error).__name__}: {error}"

    def _measure(self, now: float) -> None:
        """The warm-up is over."""
        with self._lock:
            if not self._isMeasuring:
                self._cpu = _cpu()
                self._start = now
                print("measuring", flush=True)
                self._isMeasuring = True

    def report(self) -> int:
        """Print what was measured, and return the status of the process."""
        used, ended = _cpu(), time.perf_counter()
        if not self._failed and not self._trips:
            self._failed = "no call was answered"
        if self._failed:
            print(self._failed, file=sys.stderr)
            return 1
        trips = sorted(self._trips)
        result = {
            "messages": len(trips),
            "seconds": ended - self._start,
            "p50": trips[len(trips) // 2] * 1e6,
            "p99": trips[len(trips) * 99 // 100] * 1e6,
            "max": trips[-1] * 1e6,
            "clientSeconds": used - self._cpu,
            "slowing": slowing(self._trips),
        }
        print(json.dumps(result), flush=True)
        return 0


def main(serve: Callable[[int, str, bool], object], call: Callable[[Load, str], object]) -> int:
    """
    Do what the command line says.

    :param serve: gets the port, ``bytes``, ``json`` or ``dubbo``, and whether the handler is an ``async def``.
    :param call: gets the load, and ``bytes``, ``json`` or ``dubbo``; it returns when the load's callers have.
    """
    what, port, content, handler, *rest = sys.argv[1:]
    kind = {"bytes": "bytes", "dubbo": "dubbo", "dubbotext": "dubbo"}.get(content, "json")
    if what == "serve":
        serve(int(port), kind, handler == "async")
        return 0
    load = Load(int(port), content, rest)
    call(load, kind)
    return load.report()
