"""The start and the end of an application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import GettyError

if TYPE_CHECKING:
    from getty_tx.reactors.guest import GuestLoop

__all__ = ["Lifespan", "LifespanError"]

log = Logger()


class LifespanError(GettyError):
    """The application says that it cannot start."""


class Lifespan:
    """
    Tells an application that the server starts and ends.

    :param app: the application.
    :param loop: where it runs.
    :param mode: ``auto``: an application that raises an exception before it answers does without;
        ``on``: it cannot start then.

    :ivar state: what the application keeps for its requests.
    """

    def __init__(self, app: Any, loop: GuestLoop, mode: str) -> None:
        self._app = app
        self._loop = loop
        self._mode = mode
        self.state: dict[str, Any] = {}
        self._started: Deferred[None] = Deferred()
        self._stopped: Deferred[None] = Deferred()
        self._shutdown = loop.create_future()
        self._received = 0
        self._answered = self._ended = False

    def start(self) -> Deferred[None]:
        """:return: fires when the application is ready; fails if it says that it cannot start."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._loop.start(self._run(scope))
        return self._started

    def stop(self) -> Deferred[None]:
        """:return: fires when the application has ended, or does without."""
        if not self._ended and not self._shutdown.done():
            self._shutdown.set_result(None)
        if self._ended and not self._stopped.called:
            self._stopped.callback(None)
        return self._stopped

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(error)
        finally:
            self._ended = True
            if not self._started.called:
                self._started.callback(None)
            if self._shutdown.done() and not self._stopped.called:
                self._stopped.callback(None)

    def _failed(self, error: Exception) -> None:
        if self._started.called:
            log.failure("the application failed in its lifespan", failure=Failure(error))
        elif self._mode == "auto" and not self._answered:
            log.info("the application has no lifespan: {error!r}", error=error)
            self._started.callback(None)
        else:
            self._started.errback(error)

    async def _receive(self) -> dict[str, Any]:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        await asyncio.shield(self._shutdown)
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        self._answered = True
        text = message.get("message", "")
        if kind == "lifespan.startup.complete" and not self._started.called:
            self._started.callback(None)
        elif kind == "lifespan.startup.failed" and not self._started.called:
            self._started.errback(LifespanError(f"the application cannot start: {text or 'it gives no reason'}"))
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed") and self._shutdown.done():
            if kind.endswith("failed"):
                log.error("the application has failed to end: {text}", text=text)
            if not self._stopped.called:
                self._stopped.callback(None)
        else:
            raise RuntimeError(f"the message {kind!r} is out of turn")
