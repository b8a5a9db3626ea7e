"""The server process of the soak: ``python -m benchmarks.soak.server OPTIONS``, with the options as JSON.

It serves on ports that the system chooses, tells them on standard output, and does what it is told on standard input,
a word a line: ``report`` is answered with a line of JSON, ``stop`` ends it in order, and so does the end of standard
input, so that none is left behind. Two services run in it. ``lasting`` has time-outs that nothing but a
dead machine meets: no message of a connection that lives may be lost there. ``strict`` has short ones, few places, and
callbacks that fail at random.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver

from benchmarks.soak.findings import (
    Findings,
    LogWatch,
    PlannedError,
    aliveSessions,
    descriptors,
    isExpected,
    reportOf,
)
from benchmarks.soak.messages import (
    HEADER_SIZE,
    LONGEST,
    UNKNOWN,
    Arrivals,
    Life,
    Message,
    Op,
    contentOf,
    decode,
    encode,
)
from getty_tx import EventListener, Server, Session, UDPContext
from getty_tx.codecs import LengthCodec
from getty_tx.tls import serverPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

log = Logger()
reactor: Any = installed

#: Seconds of every time-out that must not pass on a connection that lives: longer than a client waits for anything.
NEVER = 120.0

#: Seconds between two onCron, and two pings of a WebSocket.
CRON = 30.0

#: Seconds that a close waits for its peer.
WAIT_TIME = 10.0

#: Seconds of every time-out of the strict service, and its places.
IMPATIENCE = 0.5
PLACES = 12

#: Seconds of silence after which a peer's session over UDP ends.
UDP_SILENCE = 1.0

#: Of so many answers one is spoiled, where the run is to fail.
SPOILED = 50

CODEC = LengthCodec()


class SingleCodec(LengthCodec):
    """The same bytes, read one package at a time: a codec with a ``read`` of its own is not read in batches."""

    def read(self, session: Session, data: memoryview) -> tuple[bytes | None, int]:
        return super().read(session, data)


#: What a session may have of each, beside the defaults: the least that the system has for a socket makes every write a
#: short one.
CODECS = (CODEC, CODEC, SingleCodec())
BUFFERS = (None, None, 1, 30_000)
HIGH_WATERS = (256 * 1024, 256 * 1024, 70_000, 2 * LONGEST)


class State:
    """
    What the process counts.

    :ivar ledger: how many requests came in conversations that have ended, until somebody asks.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.findings = Findings()
        self.watch = LogWatch(self.findings)
        self.opened = self.closed = self.messages = 0
        self.errors: Counter[str] = Counter()
        self.ledger: dict[int, int] = {}
        self.workers: int = options["workers"]
        self.fault: str = options["fault"]
        self.policy = serverPolicy(options["certificate"], options["key"])
        self.kept: list[Any] = []
        self.spoil: Callable[[Session, bytes], None] | None = getattr(self, f"_{self.fault}", None)

    # Faults, by which the soak is tested itself: each spoils an answer.

    def _drop(self, session: Session, answer: bytes) -> None:
        """It never leaves."""

    def _double(self, session: Session, answer: bytes) -> None:
        session.writePkg(answer)
        session.writePkg(answer)

    def _alter(self, session: Session, answer: bytes) -> None:
        session.writePkg(answer[:-1] + bytes((answer[-1] ^ 1,)))

    def _descriptor(self, session: Session, answer: bytes) -> None:
        os.dup(0)
        session.writePkg(answer)

    def _session(self, session: Session, answer: bytes) -> None:
        self.kept.append(session)
        session.writePkg(answer)

    def _memory(self, session: Session, answer: bytes) -> None:
        self.kept.append(bytes(range(256)) * 400)
        session.writePkg(answer)

    def _log(self, session: Session, answer: bytes) -> None:
        log.error("a fault that was asked for")
        session.writePkg(answer)


class AnsweringListener(EventListener):
    """Does with each request what it says."""

    def __init__(self, state: State) -> None:
        self.state = state

    def onOpen(self, session: Session) -> None:
        self.state.opened += 1
        attributes = session.attributes
        attributes["life"] = Life(self.state.findings, f"at the server, {session}")
        attributes["arrivals"] = Arrivals(self.state.findings)
        attributes["life"].enter("onOpen")
        attributes["life"].leave()

    def onMessage(self, session: Session, pkg: bytes) -> Any:
        life: Life = session.attributes["life"]
        arrivals: Arrivals = session.attributes["arrivals"]
        life.enter("onMessage")
        result = None
        try:
            self.state.messages += 1
            message = arrivals.take(pkg)
            if message is not None:
                result = self.answer(session, arrivals, message, pkg)
        finally:
            if result is None:
                life.leave()
        if result is not None:

            def leave(outcome: object) -> object:
                life.leave()
                return outcome

            result.addBoth(leave)
        return result

    def answer(self, session: Session, arrivals: Arrivals, message: Message, pkg: bytes) -> Deferred[Any] | None:
        """Do what the request says; a Deferred that is returned is waited for."""
        op, state = message.op, self.state
        if op is Op.RAISE:
            raise PlannedError(f"request {message.number}")
        if op is Op.ABORT:
            if state.workers:
                # Unlike close() and what writes, it is not for threads.
                reactor.callFromThread(session.abort)
            else:
                session.abort()
            return None
        if op is Op.SIZED:
            content = contentOf(message.conversation, message.number, message.argument)
            pkg = encode(op, message.conversation, message.number, message.argument, content)
        elif op is Op.ASK:
            count = state.ledger.pop(message.argument, UNKNOWN)
            pkg = encode(op, message.conversation, message.number, count, message.content)
        elif op is Op.LATER:
            if not state.workers:
                return deferLater(reactor, message.argument / 1000, session.writePkg, pkg)
            time.sleep(message.argument / 1000)
        elif op is Op.PATIENCE:
            session.writeTimeout = message.argument / 1000
        elif op is Op.REMEMBER:
            arrivals.remembered = True
        elif op is Op.STARTTLS:
            if state.workers:
                blockingCallFromThread(reactor, self._startTLS, session, pkg)
            else:
                self._startTLS(session, pkg)
            return None
        if state.spoil is not None and op is Op.ECHO and state.messages % SPOILED == 0:
            state.spoil(session, pkg)
        else:
            session.writePkg(pkg)
        if op is Op.BYE:
            session.close()
        return None

    def _startTLS(self, session: Session, pkg: bytes) -> None:
        session.writePkg(pkg)
        session.transport.startTLS(self.state.policy)

    def onError(self, session: Session, error: BaseException) -> None:
        life: Life = session.attributes["life"]
        life.enter("onError")
        self.state.errors[type(error).__name__] += 1
        if not isExpected(error):
            self.state.findings.add("errors", f"at the server, {session}: {error!r}")
        life.leave()

    def onClose(self, session: Session) -> None:
        life: Life = session.attributes["life"]
        arrivals: Arrivals = session.attributes["arrivals"]
        life.enter("onClose")
        self.state.closed += 1
        if arrivals.remembered:
            self.state.ledger[arrivals.conversation] = arrivals.count
        life.leave()


class DatagramListener(EventListener):
    """Echoes datagrams, which may be lost and whose sender may be another than before: nothing is checked here."""

    def __init__(self, state: State) -> None:
        self.state = state

    def onMessage(self, session: Session, pkg: Any) -> None:
        self.state.messages += 1
        if decode(pkg.pkg if isinstance(pkg, UDPContext) else pkg).op is Op.RAISE:
            raise PlannedError("a datagram asked for it")
        session.writePkg(pkg)


class FailingListener(AnsweringListener):
    """Answers, and fails in any callback now and then."""

    def __init__(self, state: State, random: Random) -> None:
        super().__init__(state)
        self._random = random

    def _perhaps(self, part: float) -> None:
        if self._random.random() < part:
            raise PlannedError("at random")

    def onOpen(self, session: Session) -> None:
        super().onOpen(session)
        self._perhaps(0.1)

    def onCron(self, session: Session) -> None:
        life: Life = session.attributes["life"]
        life.enter("onCron")
        life.leave()
        self._perhaps(0.3)

    def onError(self, session: Session, error: BaseException) -> None:
        super().onError(session, error)
        self._perhaps(0.1)

    def onClose(self, session: Session) -> None:
        super().onClose(session)
        self._perhaps(0.1)


class Process:
    """The services, and what they are told."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.state = state = State(options)
        self.listener = AnsweringListener(state)
        self.datagrams = DatagramListener(state)
        self.random = Random(f"{options['seed']}/strict")
        self.failing = FailingListener(state, self.random)
        tls = f"privateKey={options['key']}:certKey={options['certificate']}:interface=127.0.0.1"
        more = {"workers": state.workers} if state.workers else {}
        lasting = {
            "tcp": f"tcp:{options['port']}:interface=127.0.0.1",
            "unix": f"unix:{options['path']}",
            "tls": f"ssl:0:{tls}",
            "ws": "ws:0:interface=127.0.0.1:path=/soak",
            "wss": f"wss:0:{tls}:path=/soak",
            "udp": "udp:0:interface=127.0.0.1:sessions=peer",
            "udpOne": "udp:0:interface=127.0.0.1",
        }
        strict = {"strict": "tcp:0:interface=127.0.0.1", "strictTLS": f"ssl:0:{tls}"}
        self.names = [*lasting, *strict]
        self.lasting = Server(self.newLasting, *lasting.values(), handshakeTimeout=NEVER, **more)
        self.strict = Server(self.newStrict, *strict.values(), handshakeTimeout=IMPATIENCE, maxSessions=PLACES, **more)
        self.control: Any = None
        self._stopping = self._isStopped = False

    def newLasting(self, session: Session) -> None:
        choose = self.random.choice
        session.codec = choose(CODECS)
        session.maxMsgLen = LONGEST + HEADER_SIZE + 4
        session.writeTimeout = NEVER
        session.cronPeriod = CRON
        session.waitTime = WAIT_TIME
        if getattr(session.localAddr, "type", "") == "UDP":
            session.listener = self.datagrams
            session.readTimeout = UDP_SILENCE
        else:
            session.listener = self.listener
            session.sendBufferSize = choose(BUFFERS)
            session.highWater = choose(HIGH_WATERS)

    def newStrict(self, session: Session) -> None:
        if self.random.random() < 0.1:
            raise PlannedError("refused at random")
        session.codec = CODEC
        session.maxMsgLen = 64 * 1024
        session.readTimeout = session.writeTimeout = session.waitTime = IMPATIENCE
        session.cronPeriod = IMPATIENCE / 2
        session.listener = self.failing

    async def start(self) -> None:
        """Listen, and tell where."""
        self.lasting.startService()
        self.strict.startService()
        addresses = [*await self.lasting.whenListening(), *await self.strict.whenListening()]
        places = dict(zip(self.names, (getattr(address, "port", None) for address in addresses), strict=True))
        self.tell({"places": places})

    def startFailed(self, failure: Failure) -> None:
        """Whoever has started this process sees why it ends."""
        failure.printTraceback()
        reactor.stop()

    def tell(self, what: dict[str, Any]) -> None:
        """A line for whoever has started this process."""
        if self.control.connected:
            self.control.sendLine(json.dumps(what).encode())

    def report(self) -> dict[str, Any]:
        """How things stand, with what only private parts of services know: whether anything is left of a session."""
        state = self.state
        contexts = [server._factory.context for server in (self.lasting, self.strict)]
        return {
            **reportOf(state.findings, state.watch),
            "descriptors": descriptors(),
            "sessions": sum(len(context.sessions) for context in contexts),
            "connections": sum(context.connections for context in contexts),
            "handshaking": sum(len(context.handshaking) for context in contexts),
            "timers": sum(len(context.wheel) for context in contexts),
            "calls": len([call for call in reactor.getDelayedCalls() if "LoopingCall" not in str(call.func)]),
            "alive": aliveSessions(),
            "which": [_describe(each) for context in contexts for each in context.sessions],
            "opened": state.opened,
            "closed": state.closed,
            "messages": state.messages,
            "errors": dict(state.errors),
            "refused": sum(context.refused for context in contexts),
        }

    def stop(self) -> None:
        """End in order."""
        if self._stopping:
            return
        self._stopping = True
        ending = gatherResults([self.lasting.stopService(), self.strict.stopService()])
        ending.addErrback(lambda failure: log.failure("the services did not stop", failure))
        # In a turn of its own, as the last session is on the stack.
        ending.addBoth(lambda _: reactor.callLater(0, self._stopped))

    def _stopped(self) -> None:
        self._isStopped = True
        self.tell({**self.report(), "calls": len(reactor.getDelayedCalls())})
        if self.control.connected:
            # The last line leaves first.
            self.control.transport.loseConnection()
        else:
            reactor.stop()

    def controlLost(self) -> None:
        """Nobody tells this process anything any more."""
        if self._isStopped:
            reactor.stop()
        else:
            self.stop()


class Control(LineOnlyReceiver):
    """Standard input and output."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, process: Process) -> None:
        self._process = process

    def lineReceived(self, line: bytes) -> None:
        if line == b"stop":
            self._process.stop()
        else:
            self._process.tell(self._process.report())

    def connectionLost(self, reason: Any = None) -> None:
        self.connected = 0
        self._process.controlLost()


def _describe(session: Session) -> str:
    """A session that is left, and what it may be waiting for, which its private parts know."""
    inbound, outbound = session.inbound, session.outbound
    return (
        f"{session}: state {session.state}, paused for {inbound.paused}, {inbound.unread} bytes unread, "
        f"{outbound.queued} and {outbound.inTransport} bytes to be sent, corked {outbound.corked}, "
        f"blocked {outbound.blocked}"
    )


def main(options: dict[str, Any]) -> int:
    """Serve until told to stop; the exit status is 1 if more than this thread is left then."""
    # Whatever happens to whoever has started it, and even if it hangs: the default of SIGALRM ends a process.
    signal.alarm(options["limit"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = Process(options)
    process.state.watch.begin()
    process.control = Control(process)
    StandardIO(process.control)
    Deferred.fromCoroutine(process.start()).addErrback(process.startFailed)
    reactor.run(installSignalHandlers=False)
    return 0 if threading.active_count() == 1 else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
