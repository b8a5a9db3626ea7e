"""The clients' sessions of the soak: what they ask, what they hear, and how their conversations end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from benchmarks.soak.findings import PlannedError, isExpected
from benchmarks.soak.messages import HEADER_SIZE, LONGEST, Life, Op
from benchmarks.soak.world import within
from getty_tx import EventListener
from getty_tx.codecs import LengthCodec

if TYPE_CHECKING:
    from random import Random

    from benchmarks.soak.messages import Message
    from benchmarks.soak.plan import Request
    from benchmarks.soak.world import World
    from getty_tx import Session

__all__ = ["Talker", "configure"]

CODEC = LengthCodec()

#: Seconds of every time-out that must not pass on a connection that lives: longer than anything is waited for.
NEVER = 120.0

#: Seconds between two pings of a WebSocket.
CRON = 30.0

#: Seconds that a close may wait for a server that is alive.
WAIT_TIME = 20.0


def configure(session: Session, talker: Talker) -> None:
    """The settings of a client's session: no time-out that a machine which is merely busy could meet."""
    session.codec = CODEC
    session.listener = talker
    session.maxMsgLen = LONGEST + HEADER_SIZE + 4
    session.writeTimeout = NEVER
    session.cronPeriod = CRON
    session.waitTime = WAIT_TIME
    # Above any message: a client that has a part of one pending must not stop reading, as the server does the same.
    session.highWater = 4 * LONGEST
    if talker.conversation.number % 4 == 0:
        # The least there is, for short writes.
        session.sendBufferSize = 1


class Talker(EventListener):
    """
    One session's listener, and the conversation it has.

    :ivar session: once it is open.
    :ivar error: what onError was given.
    :ivar isClosed: onClose was called.
    :ivar raises: the next message makes its callback fail.
    """

    def __init__(self, world: World, lossy: bool = False) -> None:
        self.world = world
        self.conversation = world.conversation(lossy)
        self.session: Session | None = None
        self.error: BaseException | None = None
        self.isClosed = False
        self.raises = False
        self._life = Life(world.findings, f"conversation {self.conversation.number}")
        self._waiting: Deferred[None] | None = None
        self._closing: Deferred[None] | None = None

    # What the session tells

    def onOpen(self, session: Session) -> None:
        self._life.enter("onOpen")
        self.session = session
        self.world.tally.add("sessions")
        self._life.leave()

    def onMessage(self, session: Session, pkg: bytes) -> None:
        self._life.enter("onMessage")
        try:
            message = self.conversation.hear(pkg)
            if message is not None:
                self.heard(session, message)
            if self.raises:
                raise PlannedError("the plan wants this callback to fail")
        finally:
            self._life.leave()
        if not self.conversation.outstanding:
            self._fire()

    def heard(self, session: Session, message: Message) -> None:
        """A right answer came."""
        if message.op is Op.STARTTLS:
            from getty_tx.tls import clientPolicy

            session.transport.startTLS(clientPolicy("127.0.0.1", trustRoot=str(self.world.chain)))

    def onError(self, session: Session, error: BaseException) -> None:
        self._life.enter("onError")
        self.error = error
        if not isExpected(error):
            self.world.findings.add("errors", f"conversation {self.conversation.number}: {error!r}")
        self._life.leave()

    def onClose(self, session: Session) -> None:
        self._life.enter("onClose")
        self.isClosed = True
        self.session = None
        self._life.leave()
        self._fire()
        waiting, self._closing = self._closing, None
        if waiting is not None:
            waiting.callback(None)

    def _fire(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    # What an act does with it

    def ask(self, op: Op = Op.ECHO, size: int = 0, argument: int = 0) -> None:
        """Send a request."""
        assert self.session is not None
        self.session.writePkg(self.conversation.ask(op, size, argument))

    async def askAll(self, requests: list[Request]) -> None:
        """
        Send requests, one behind the other, as the guide wants it: who has too much pending waits for it to drain.

        :raise SessionClosedError: the session was closed meanwhile.
        """
        for request in requests:
            self.ask(request.op, request.size, request.argument)
            session = self.session
            if session is not None and session.pendingBytes > session.lowWater:
                await within(self.world, session.drained())

    async def answered(self, seconds: float | None = None) -> None:
        """
        Wait until all answers have come, or the session is closed.

        :raise TimeoutError: neither happens.
        """
        if self.conversation.outstanding and not self.isClosed:
            self._waiting = Deferred()
            await within(self.world, self._waiting, seconds)

    async def closed(self) -> None:
        """
        Wait until the session is closed.

        :raise TimeoutError: it is not.
        """
        if not self.isClosed:
            self._closing = Deferred()
            await within(self.world, self._closing)

    async def talk(self, all: list[list[Request]], random: Random) -> None:
        """Have the bursts answered, one after the other, with a pause in reading here and there."""
        for requests in all:
            if self.session is None or self.session.isClosed:
                return
            await self.askAll(requests)
            if self.session is not None and random.random() < 0.2:
                self.session.pauseReading()
                await self.world.sleep(random.uniform(0.01, 0.3))
                if self.session is not None:
                    self.session.resumeReading()
            await self.answered()

    def over(self, lived: bool, where: Any = "") -> None:
        """Its conversation is at its end."""
        self.world.ended(self.conversation, lived, str(where))
