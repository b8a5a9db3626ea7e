"""
Many requests on one session, each with its own time-out: ``python examples/request_reply.py``.

Requests and replies are JSON documents with a number; replies may come in any order, late or never. Without arguments
server and client run in one process; with an endpoint as argument, only the client runs, and connects to it.
"""

import sys
from itertools import count

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from getty_tx import Client, EventListener, GettyError, Server, TimingWheel
from getty_tx.codecs import JsonLinesCodec


class RequestTimeoutError(GettyError):
    """No reply was received in time."""


class Requests(EventListener):
    """The client: matches replies to requests by their number."""

    def __init__(self, reactor):
        self.numbers = count(1)
        # One wheel for all time-outs: a timer needs no heap entry, and stopping it is cheap.
        self.wheel = TimingWheel(reactor)
        self.waiting = {}

    def ask(self, session, question, timeout=1.0):
        """Send a request. Returns a Deferred of the reply; fails with RequestTimeoutError, or if the session ends."""
        number, reply = next(self.numbers), Deferred()
        session.writePkg({"number": number, "question": question})
        timer = self.wheel.schedule(timeout, self.expire, number)
        self.waiting[number] = session, reply, timer
        return reply

    def expire(self, number):
        session, reply, _ = self.waiting.pop(number)
        reply.errback(RequestTimeoutError(f"no reply to request {number} from {session}"))

    def onMessage(self, session, pkg):
        # Drop a reply that comes after its time-out.
        _, reply, timer = self.waiting.pop(pkg["number"], (None, None, None))
        if reply is not None:
            timer.stop()
            reply.callback(pkg["answer"])

    def onClose(self, session):
        lost = [number for number, waiting in self.waiting.items() if waiting[0] is session]
        for number in lost:
            _, reply, timer = self.waiting.pop(number)
            timer.stop()
            reply.errback(GettyError(f"{session} ended before its reply to request {number}"))


class Replies(EventListener):
    """The server: replies after a tenth of a second for each character of the question; never to "?"."""

    def __init__(self, reactor):
        self.reactor = reactor

    def onMessage(self, session, pkg):
        question = pkg["question"]
        if question != "?":
            # Not an async def, which would delay the next request of the session.
            self.reactor.callLater(len(question) / 10, self.answer, session, pkg["number"], question.upper())

    def answer(self, session, number, answer):
        if not session.isClosed:
            session.writePkg({"number": number, "answer": answer})


def sessionsFor(listener):
    def newSession(session):
        session.codec = JsonLinesCodec()
        session.listener = listener

    return newSession


async def main(reactor, endpoint=None):
    server = Server(sessionsFor(Replies(reactor)), "tcp:0:interface=127.0.0.1")
    if endpoint is None:
        server.startService()
        [address] = await server.whenListening()
        endpoint = f"tcp:127.0.0.1:{address.port}"
    requests = Requests(reactor)
    client = Client(sessionsFor(requests), endpoint)
    client.startService()
    await client.whenReady(timeout=5)

    def ask(question):
        reply = requests.ask(client.pick(), question)
        return reply.addCallbacks(print, lambda failure: print(failure.type.__name__, failure.getErrorMessage()))

    await gatherResults([ask(question) for question in ("slower", "slow", "?", "go")])
    await client.close()
    await server.stopService()
    requests.wheel.stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
