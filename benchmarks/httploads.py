"""The loads of ``benchmarks.http``: what a row asks for, and wrk, which asks."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import resource
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import LoadError, LoadResult, finished, startLoad
from benchmarks.peers.http_shapes import BODY, HELLO, JSON, STREAMS, digest
from benchmarks.servers import START_LIMIT, ServerProcess

SCRIPT = Path(__file__).with_name("wrk.lua")

#: Those that send :data:`BODY`; the others are asked for with GET.
POSTED = ("echo", "loop", "digest")

#: What each shape is answered with: streamed bodies by their size.
ANSWERS = {
    "hello": HELLO,
    "echo": BODY,
    "json": JSON,
    "fastapi": JSON,
    "loop": HELLO,
    "digest": digest(),
    **{name: bytes(size * count) for name, (size, count) in STREAMS.items()},
}

#: What Chrome sends with a page's request, beside Host: twelve fields with that, and some 700 bytes.
BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Sec-Fetch-Site: none",
    f"Cookie: sessionid={'x5w8ifbnphd2bqeu' * 2}; csrftoken={'Jx2gqYv7uCqZ0hX5' * 4}",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
)

#: Seconds for which wrk waits for an answer before that is an error. It has room for as many microseconds.
PATIENCE = 120

#: Connections that warm up at most: what a slow shape has in its queue then is soon done.
WARM = 50

#: What wrk counts beside answers; it follows no redirections, and all from 400 on is ``status``.
ERRORS = ("connect", "read", "write", "status", "timeout")

#: The words that may stand behind the numbers of a row.
WORDS = ("browser", "tls", "new", "two", "h2")


@dataclass(frozen=True)
class Row:
    """
    What is asked for.

    :ivar depth: requests in flight on each connection.
    :ivar isBrowser: with the twelve fields of a browser, and not with Host alone.
    :ivar isNew: every request asks for its connection to be closed, and has a new one.
    :ivar isTwo: of a server with two processes, which has the load's core as well.
    :ivar isHTTP2: over HTTP/2, in clear by prior knowledge; the load is h2load.
    """

    shape: str
    connections: int
    depth: int
    isBrowser: bool = False
    isTLS: bool = False
    isNew: bool = False
    isTwo: bool = False
    isHTTP2: bool = False

    @classmethod
    def parse(cls, text: str) -> Row:
        """
        Read ``SHAPE:CONNECTIONSxDEPTH[:browser][:tls][:new][:two][:h2]``.

        :raise ValueError: for any other text.
        """
        found = re.fullmatch(r"(\w+):([1-9]\d*)x([1-9]\d*)((?::\w+)*)", text)
        if found is None or found[1] not in ANSWERS:
            raise ValueError(f"{text!r} is not SHAPE:CONNECTIONSxDEPTH; shapes: {', '.join(ANSWERS)}")
        words = found[4].split(":")[1:]
        if set(words) - {*WORDS} or len({*words}) < len(words):
            raise ValueError(f"{text!r} has more behind its numbers than :{', :'.join(WORDS)}, once each")
        row = cls(found[1], int(found[2]), int(found[3]), *(word in words for word in WORDS))
        if row.isNew and row.depth > 1:
            raise ValueError(f"{text!r}: a connection that has one request has none in flight beside it")
        if row.isHTTP2 and (row.isNew or row.body):
            raise ValueError(f"{text!r}: h2load keeps its connections here, and sends no bodies")
        return row

    @property
    def path(self) -> str:
        return f"/{self.shape}"

    @property
    def method(self) -> str:
        return "POST" if self.shape in POSTED else "GET"

    @property
    def body(self) -> bytes:
        return BODY if self.shape in POSTED else b""

    def url(self, port: int) -> str:
        return f"{'https' if self.isTLS else 'http'}://127.0.0.1:{port}{self.path}"

    def load(self, port: int, seconds: float, connections: int) -> list[str]:
        """The command of the load."""
        return (self.h2load if self.isHTTP2 else self.wrk)(port, seconds, connections)

    def h2load(self, port: int, seconds: float, connections: int) -> list[str]:
        """The command of h2load, which takes whole seconds."""
        fields = [word for field in BROWSER[1:] for word in ("-H", field)] if self.isBrowser else []
        return [
            *("h2load", "-t1", f"-c{connections}", f"-m{self.depth}", f"-D{max(1, round(seconds))}"),
            *(*fields, self.url(port)),
        ]

    def wrk(self, port: int, seconds: float, connections: int) -> list[str]:
        """The command of wrk, which takes whole seconds."""
        told = [str(self.depth), self.method, str(len(self.body)), *(BROWSER if self.isBrowser else ())]
        if self.isNew:
            told.append("Connection: close")
        return [
            *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={PATIENCE}s"),
            *("-s", str(SCRIPT), self.url(port), "--", *told),
        ]


def readWrk(text: str, depth: int, cpuSeconds: float, clientSeconds: float) -> LoadResult:
    """
    What ``wrk.lua`` has printed.

    wrk corrects its percentiles for requests that it would have sent, had it not waited. With several in flight on a
    connection that goes wrong, so that there are none: they are 0.

    :raise LoadError: it is something else, there were errors, or no answers.
    """
    line = next((line for line in text.splitlines() if line.startswith("{")), "")
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        raise LoadError(f"wrk has printed no result: {text.strip()[-200:]}") from None
    wrong = {name: count for name in ERRORS if (count := found.pop(name))}
    if wrong:
        parts = ", ".join(f"{name} {count}" for name, count in wrong.items())
        raise LoadError(f"errors beside {found['messages']} answers: {parts}")
    if not found["messages"]:
        raise LoadError("no answer came in time")
    if depth > 1:
        found |= {"p50": 0, "p99": 0}
    return LoadResult(**found, cpuSeconds=cpuSeconds, clientSeconds=clientSeconds)


#: What h2load prints.
_H2LOAD = re.compile(
    r"finished in ([\d.]+)(m?s), .*?"
    r"requests: \d+ total, \d+ started, \d+ done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout.*?"
    r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx",
    re.DOTALL,
)


def readH2load(text: str, cpuSeconds: float, clientSeconds: float) -> LoadResult:
    """
    What h2load has printed. It gives no percentiles: they are 0.

    :raise LoadError: it is something else, there were errors, or no answers.
    """
    found = _H2LOAD.search(text)
    if found is None:
        raise LoadError(f"h2load has printed no result: {text.strip()[-200:]}")
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    failed, errored, timeout, good, moved, wrong, broken = map(int, found.groups()[2:])
    if failed + errored + timeout + moved + wrong + broken:
        raise LoadError(f"errors beside {good} answers: {found[0].splitlines()[-2]}; {found[0].splitlines()[-1]}")
    if not good:
        raise LoadError("no answer came in time")
    return LoadResult(good, seconds, 0, 0, 0, cpuSeconds=cpuSeconds, clientSeconds=clientSeconds)


def ask(port: int, row: Row) -> None:
    """
    Ask once, and compare the answer.

    :raise LoadError: it is not the one that the row asks for.
    :raise OSError: there is none.
    """
    if row.isTLS:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(row.method, row.path, row.body or None)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise LoadError(f"{row.method} {row.path} was answered with {error!r}") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise LoadError(f"{row.method} {row.path} was answered with {answer.status} {body[:200]!r}")
    if body != ANSWERS[row.shape]:
        shown = f"{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}" if len(body) > 200 else f"{body!r}"
        raise LoadError(f"{row.method} {row.path} was answered with {shown}")


def awaitAnswer(server: ServerProcess, row: Row) -> None:
    """
    Wait until the server answers: a main process may listen before its workers are there.

    :raise LoadError: it answers what the row does not ask for, or nothing.
    """
    deadline = time.monotonic() + START_LIMIT
    while True:
        server.checkAlive()
        try:
            return ask(server.port, row)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LoadError(f"no answer in {START_LIMIT:.0f} s: {error}\n{server.outputTail()}") from None
            time.sleep(0.05)


def _children() -> float:
    """The CPU seconds of all programs that have ended here."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(server: ServerProcess, row: Row, seconds: float, warmup: float) -> LoadResult:
    """
    Load a server that answers, after a warm-up.

    :raise LoadError: there were errors.
    """
    if warmup:
        _run(server, row.load(server.port, warmup, min(row.connections, WARM)), warmup)
    spent = _children()
    output, used = _run(server, row.load(server.port, seconds, row.connections), seconds)
    if row.isHTTP2:
        return readH2load(output, used, _children() - spent)
    return readWrk(output, row.depth, used, _children() - spent)


def _run(server: ServerProcess, command: list[str], seconds: float) -> tuple[str, float]:
    output, errors, used = finished(startLoad(command), server, seconds)
    return output + errors, used
