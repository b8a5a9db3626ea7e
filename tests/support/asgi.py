"""Applications of ASGI behind connections in memory, on the guest loop of the real reactor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.http.asgi import Asgi
from tests.support.http import Answer, Talk, answersIn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ONE", "POST", "AsgiCase", "answer"]

ONE = b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nA: 1\r\nA: 2\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n"


async def answer(send: Any, body: bytes = b"done", status: int = 200, headers: Any = ()) -> None:
    """A whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class AsgiCase(TestCase):
    """Applications, each with one connection."""

    timeout = 60

    def talk(self, app: Any, **options: Any) -> Talk:
        """A connection to an application without a lifespan."""
        application = Asgi(app, lifespan="off")
        application.startApplication(reactor)
        talk = Talk(application, **options)

        def finish() -> None:
            talk.close()
            self.assertEqual(talk.context.running, 0)

        self.addCleanup(finish)
        return talk

    async def until(self, talk: Talk, isTrue: Callable[[], Any]) -> None:
        """Let both the loop and the connection go on until it is true."""
        for _ in range(1000):
            talk.pair.flush()
            if isTrue():
                return
            await deferLater(reactor, 0.001)
        self.fail("it never came true")

    async def answers(self, talk: Talk, *methods: str) -> list[Answer]:
        """The answers, when there are some and the last is complete."""
        peer = talk.pair.peer

        def isWhole() -> bool:
            found = answersIn(peer.data, methods, talk.ended)
            return bool(found) and found[-1].isComplete

        await self.until(talk, isWhole)
        return talk.answers(*methods)

    def sent(self, talk: Talk, data: bytes, *methods: str) -> list[Answer]:
        """Send, and return the answers that come at once."""
        talk.send(data)
        return talk.answers(*methods)
