"""The loads of ``benchmarks.grpc``: what a row asks for, h2load for unary calls, and ``grpcload.py`` for streams."""

from __future__ import annotations

import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.grpcload import COUNT, MESSAGE, METHODS, LoadFailed, ask, message
from benchmarks.loads import LoadError, LoadResult, finished, measured, startLoad
from benchmarks.servers import START_LIMIT

if TYPE_CHECKING:
    from benchmarks.servers import ServerProcess

#: What each kind of call is answered with.
ANSWERS = {
    "unary": MESSAGE,
    "server": MESSAGE * COUNT,
    "client": b"\0\0\0\0\x06\n\x04%d" % COUNT,
    "bidi": MESSAGE * COUNT,
}

#: Fields of a request that h2load does not send itself.
FIELDS = ("content-type: application/grpc", "te: trailers")


@dataclass(frozen=True)
class Row:
    """
    What is asked for.

    :ivar kind: one of ``unary``, ``server``, ``client`` and ``bidi``.
    :ivar calls: that each connection has in flight.
    """

    kind: str
    connections: int
    calls: int

    @classmethod
    def parse(cls, text: str) -> Row:
        """
        Read ``KIND:CONNECTIONSxCALLS``.

        :raise ValueError: for any other text.
        """
        found = re.fullmatch(r"(\w+):([1-9]\d*)x([1-9]\d*)", text)
        if found is None or found[1] not in METHODS:
            raise ValueError(
                f"{text!r} is not KIND:CONNECTIONSxCALLS, such as unary:1x100; kinds: {', '.join(METHODS)}"
            )
        return cls(found[1], int(found[2]), int(found[3]))


def awaitAnswer(server: ServerProcess, kind: str) -> None:
    """
    Ask once, and compare the answer.

    :raise LoadError: it is another one, or there is none.
    """
    deadline = time.monotonic() + START_LIMIT
    while True:
        server.checkAlive()
        try:
            found = ask(server.port, kind)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LoadError(f"no answer in {START_LIMIT:.0f} s: {error}") from None
            time.sleep(0.05)
            continue
        except LoadFailed as error:
            raise LoadError(f"{kind}: {error}") from None
        if found != ANSWERS[kind]:
            raise LoadError(f"{kind}: {len(found)} bytes came that are not the answer: {found[:60]!r}")
        return


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise LoadError(f"h2load has printed no result: {text.strip()[-300:]}")
    return int(found[1])


def readH2load(text: str, row: Row, seconds: float, cpuSeconds: float, clientSeconds: float) -> LoadResult:
    """
    What h2load has printed. It has no percentiles: they are 0.

    :raise LoadError: it is something else, there were errors, or the answers' bytes are not what they should be: a call
        that fails has no message.
    """
    done = _number(r"requests: .* (\d+) succeeded", text)
    wrong = {name: _number(rf"requests: .* (\d+) {name}", text) for name in ("failed", "errored", "timeout")}
    wrong |= {f"{status}xx": _number(rf"status codes: .*?(\d+) {status}xx", text) for status in (3, 4, 5)}
    if any(wrong.values()):
        raise LoadError(f"errors beside {done} answers: {wrong}")
    if not done:
        raise LoadError("no answer came in time")
    # What has come of answers that were not whole in the end counts as well.
    size = _number(r"traffic: .*\((\d+)\) data", text)
    if not done * len(MESSAGE) <= size <= (done + row.connections * row.calls) * len(MESSAGE):
        raise LoadError(f"{done} answers had {size} bytes of messages, and {len(MESSAGE)} belong to each")
    return LoadResult(done, seconds, 0, 0, 0, cpuSeconds, clientSeconds)


def _children() -> float:
    """The CPU seconds of all programs that have ended here."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(server: ServerProcess, row: Row, seconds: float, warmup: float) -> LoadResult:
    """
    Load a server that answers, after a warm-up.

    :raise LoadError: there were errors.
    """
    if row.kind != "unary":
        words = (server.port, row.kind, row.connections, row.calls, warmup, seconds)
        process = startLoad([sys.executable, "-m", "benchmarks.grpcload", *map(str, words)])
        return measured(process, server, seconds)
    with tempfile.NamedTemporaryFile() as body:
        body.write(message(b"x"))
        body.flush()
        _h2load(server, row, warmup, body.name)
        spent = _children()
        text, used = _h2load(server, row, seconds, body.name)
        return readH2load(text, row, seconds, used, _children() - spent)


def _h2load(server: ServerProcess, row: Row, seconds: float, body: str) -> tuple[str, float]:
    command = ["h2load", "-t1", f"-c{row.connections}", f"-m{row.calls}", "-D", f"{seconds * 1000:.0f}ms", "-d", body]
    for each in FIELDS:
        command += ["-H", each]
    url = f"http://127.0.0.1:{server.port}/bench.Echo/{METHODS[row.kind]}"
    output, errors, used = finished(startLoad([*command, url]), server, seconds)
    return output + errors, used
