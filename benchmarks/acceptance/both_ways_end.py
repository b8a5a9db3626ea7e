"""One end of :py:mod:`benchmarks.acceptance.both_ways`: ``listen`` or ``dial``, a description, and how it writes."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.acceptance.both_ways import COUNT, PATIENCE, SIZE
from benchmarks.acceptance.harness import MB, frame
from getty_tx import Client, EventListener, Server, SessionBlockedError
from getty_tx.codecs import LengthCodec

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session

reactor: Any = installed

#: Bytes between two that are awaited.
PIECE = 1 * MB

# No period divides a power of two, so that a lost, doubled or moved piece does not look right.
CONTENT = (bytes(range(251)) * (SIZE // 251 + 2))[: SIZE + 251]

#: All frames of an end, for the one write of "at once": made before memory is looked at.
FRAMES = b""


def package(number: int) -> bytes:
    """The package with this number."""
    start = number % 251
    return CONTENT[start : start + SIZE]


def status(field: str) -> int:
    """A number of /proc/self/status, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


class End(EventListener):
    """Sends its packages, checks those of the other end, and tells when both is done."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.right = self.came = 0
        self.errors: list[str] = []
        self.written = False
        self.done: Deferred[None] = Deferred()

    def onOpen(self, session: Session) -> None:
        self.begin = time.monotonic()
        self.before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        Deferred.fromCoroutine(self.send(session)).addErrback(self.failed)

    async def send(self, session: Session) -> None:
        # The other end is to be open, too.
        await deferLater(reactor, 0.2)
        if self.mode == "at once":
            session.writeBytes(FRAMES)
        else:
            for number in range(COUNT):
                await self.sendOne(session, number)
        await session.drained()
        self.written = True
        self.look()

    async def sendOne(self, session: Session, number: int) -> None:
        if self.mode == "drained":
            session.writePkg(package(number))
            if session.pendingBytes > PIECE:
                await session.drained()
            return
        while True:
            try:
                session.writePkg(package(number))
                return
            except SessionBlockedError:
                await deferLater(reactor, 0.01)

    def onMessage(self, session: Session, pkg: Any) -> None:
        self.right += pkg == package(self.came)
        self.came += 1
        self.look()

    def look(self) -> None:
        if self.written and self.came == COUNT:
            self.end()

    def onError(self, session: Session, error: BaseException) -> None:
        self.errors.append(f"{type(error).__name__}: {error}"[:100])

    def failed(self, failure: Failure) -> None:
        self.errors.append(failure.getErrorMessage())
        self.end()

    def onClose(self, session: Session) -> None:
        self.end()

    def end(self) -> None:
        if not self.done.called:
            self.seconds = time.monotonic() - self.begin
            self.memory = status("VmHWM") - self.before
            self.done.callback(None)


def main(side: str, description: str, mode: str) -> None:
    """Run one end, and print what it found as a line of JSON."""
    global FRAMES
    if mode == "at once":
        FRAMES = b"".join(frame(package(number)) for number in range(COUNT))
    end = End(mode)

    def newSession(session: Session) -> None:
        session.codec = LengthCodec(order="little")
        session.listener = end

    service: Any = Server(newSession, description) if side == "listen" else Client(newSession, description)
    service.startService()
    if side == "listen":
        service.whenListening().addCallback(lambda _: print("listening", flush=True))

    def stop(_: object) -> None:
        # What is written last has to leave.
        reactor.callLater(0.5, service.stopService)
        reactor.callLater(1.0, reactor.stop)

    end.done.addCallback(stop)
    reactor.callLater(PATIENCE, end.end)
    reactor.run()
    report = {"right": end.right, "errors": end.errors, "seconds": end.seconds, "memory": end.memory}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
