"""The start and the end of an application, with a server on a real socket; and what Asgi refuses."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http.asgi import Asgi
from getty_tx.http.asgi.lifespan import LifespanError


class Lifespan:
    """An application that records what it is told."""

    def __init__(self, startup: str = "complete", shutdown: str = "complete") -> None:
        self.events: list[str] = []
        self.states: list[dict[str, Any]] = []
        self.startup = startup
        self.shutdown = shutdown
        self.gate: Any = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.states.append(scope["state"])
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
            return
        while True:
            message = await receive()
            self.events.append(message["type"])
            if message["type"] == "lifespan.startup":
                if self.gate is not None:
                    await self.gate
                scope["state"]["database"] = "open"
                await send({"type": f"lifespan.startup.{self.startup}", "message": "no database"})
            else:
                await asyncio.sleep(0.001)
                self.events.append("ends")
                await send({"type": f"lifespan.shutdown.{self.shutdown}", "message": "still open"})
                return


class Raising:
    """An application that raises an exception behind what another one does."""

    def __init__(self, app: Lifespan) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        raise ValueError("behind its end")


class LifespanTests(TestCase):
    """With a Server."""

    timeout = 60

    def serve(self, app: Any, lifespan: str = "auto") -> http.Server:
        """A server, started."""
        server = http.Server(http.Asgi(app, lifespan=lifespan), "tcp:0:interface=127.0.0.1")
        server.startService()
        return server

    async def test_order(self) -> None:
        app = Lifespan()
        server = self.serve(app)
        await server.whenListening()
        self.assertEqual(app.events, ["lifespan.startup"])
        self.assertEqual(server.context.application.state, {"database": "open"})
        await server.stopService()
        self.assertEqual(app.events, ["lifespan.startup", "lifespan.shutdown", "ends"])

    async def test_again(self) -> None:
        """A server that is started again tells it again."""
        app = Lifespan()
        server = self.serve(app)
        await server.whenListening()
        await server.stopService()
        server.startService()
        await server.whenListening()
        await server.stopService()
        self.assertEqual(app.events, ["lifespan.startup", "lifespan.shutdown", "ends"] * 2)

    async def test_waits(self) -> None:
        """The server does not listen before the application is ready."""
        app = Lifespan()
        server = http.Server(http.Asgi(app), "tcp:0:interface=127.0.0.1")
        from getty_tx.reactors import guestLoop

        app.gate = guestLoop().create_future()
        server.startService()
        listening = server.whenListening()
        self.assertNoResult(listening)
        app.gate.set_result(None)
        await listening
        await server.stopService()

    async def test_failed(self) -> None:
        server = self.serve(Lifespan(startup="failed"))
        error = await self.assertFailure(server.whenListening(), LifespanError)
        self.assertIn("no database", str(error))
        self.assertEqual(len(self.flushLoggedErrors(LifespanError)), 1)
        await server.stopService()

    async def test_failedForWhoWaits(self) -> None:
        """Who waits since before the start hears of it, too: so do the commands."""
        server = http.Server(http.Asgi(Lifespan(startup="failed")), "tcp:0:interface=127.0.0.1")
        server.privilegedStartService()
        listening = server.whenListening()
        server.startService()
        await self.assertFailure(listening, LifespanError)
        self.assertEqual(len(self.flushLoggedErrors(LifespanError)), 1)
        await server.stopService()

    async def test_listensForWhoWaits(self) -> None:
        server = http.Server(http.Asgi(Lifespan()), "tcp:0:interface=127.0.0.1")
        listening = server.whenListening()
        server.startService()
        (address,) = await listening
        self.assertTrue(address.port)
        await server.stopService()

    async def test_stoppedBefore(self) -> None:
        """Who stops a server whose application starts for ever."""
        app = Lifespan()
        server = http.Server(http.Asgi(app), "tcp:0:interface=127.0.0.1")
        from getty_tx.reactors import guestLoop

        app.gate = guestLoop().create_future()
        server.startService()
        listening = server.whenListening()
        stopped = server.stopService()
        app.gate.set_result(None)
        await self.assertFailure(listening, CancelledError)
        await stopped
        self.assertEqual(app.events, ["lifespan.startup", "lifespan.shutdown", "ends"])

    async def test_none(self) -> None:
        """An application that knows no lifespan: auto goes without, on does not start."""

        async def raises(scope: dict[str, Any], receive: Any, send: Any) -> None:
            raise ValueError(scope["type"])

        async def returns(scope: dict[str, Any], receive: Any, send: Any) -> None:
            return

        for app in (raises, returns):
            server = self.serve(app)
            await server.whenListening()
            await server.stopService()
        server = self.serve(raises, "off")
        await server.whenListening()
        await server.stopService()
        server = self.serve(raises, "on")
        await self.assertFailure(server.whenListening(), ValueError)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        await server.stopService()

    async def test_failsToEnd(self) -> None:
        """Its message is logged, and the server ends, whether it raises an exception behind that or not."""
        for raises in (False, True):
            for mode in ("auto", "on"):
                app = Lifespan(shutdown="failed")
                server = self.serve(Raising(app) if raises else app, mode)
                await server.whenListening()
                with capturedLogs() as events:
                    await server.stopService()
                # The application goes on when its message has had its effect.
                await deferLater(reactor, 0)
                self.assertEqual(app.events[-1], "ends")
                texts = [formatEvent(event) for event in events]
                self.assertIn("the application has failed to end: still open", texts)
                self.assertEqual(len(self.flushLoggedErrors(ValueError)), raises)

    async def test_failsAndRaises(self) -> None:
        """What it raises behind its message changes nothing: the server does not start, and says why."""

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise ValueError("behind its end")

        for mode in ("auto", "on"):
            server = self.serve(app, mode)
            error = await self.assertFailure(server.whenListening(), LifespanError)
            self.assertIn("no database", str(error))
            await deferLater(reactor, 0)
            self.assertEqual(len(self.flushLoggedErrors(LifespanError)), 1)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            await server.stopService()

    async def test_scope(self) -> None:
        scopes: list[Any] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(dict(scope))

        server = self.serve(app)
        await server.whenListening()
        await server.stopService()
        versions = {"version": "3.0", "spec_version": "2.0"}
        self.assertEqual(scopes, [{"type": "lifespan", "asgi": versions, "state": {}}])

    async def test_off(self) -> None:
        """An application that is told nothing is served all the same, without a state."""
        app = Lifespan()
        server = self.serve(app, "off")
        await server.whenListening()
        await server.stopService()
        self.assertEqual((app.events, server.context.application.state), ([], {}))

    async def test_raisesLater(self) -> None:
        """What an application raises at its end is logged, and the server ends all the same."""

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise ValueError("at the end")

        server = self.serve(app)
        await server.whenListening()
        await server.stopService()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ParameterTests(TestCase):
    """What Asgi refuses."""

    def test_refused(self) -> None:
        for parameters, why in (
            ({"app": "nothing"}, "write it as module:attribute"),
            ({"app": "no_such_module:app"}, "there is no module 'no_such_module'"),
            ({"app": "json:no.such"}, "json has no 'no.such'"),
            ({"app": "json:__name__"}, "cannot be called"),
            ({"app": 3}, "cannot be called"),
            ({"app": print, "lifespan": "maybe"}, "lifespan='maybe' is none of auto, on, off"),
            ({"app": print, "rootPath": "a"}, "rootPath='a' begins with a slash"),
        ):
            error = self.assertRaises(SettingError, Asgi, **parameters)
            self.assertIn(why, str(error))
