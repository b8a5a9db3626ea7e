"""Handlers, files, resources and ASGI over HTTP/2: the tests that they have for HTTP/1.1, with another wire."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from getty_tx.http.asgi import Asgi
from tests.http import test_files, test_handlers, test_proxy, test_resources
from tests.http.asgi import test_behaviours, test_exchange
from tests.support.asgi import AsgiCase
from tests.support.h2client import Translated


class OverTwo:
    """In place of the connection that the tests have: one that takes their requests to HTTP/2."""

    def talk(self: Any, application: Any, **options: Any) -> Translated:
        """A connection that is closed when the test is over."""
        talk = Translated(application, **options)

        def finish() -> None:
            transport: Any = talk.pair.peer.transport
            if talk.pair.peer.lost is None:
                transport.abortConnection()
            talk.pair.flush()
            self.assertEqual(talk.context.running, 0)

        self.addCleanup(finish)
        return talk


class AsgiOverTwo(OverTwo):
    """The same for applications of ASGI."""

    def talk(self: Any, app: Any, **options: Any) -> Translated:
        """A connection to an application without a lifespan."""
        application = Asgi(app, lifespan="off")
        application.startApplication(reactor)
        return OverTwo.talk(self, application, **options)

    async def answers(self: Any, talk: Translated, *methods: str) -> list[Any]:
        """The answers, when there are some and the last is complete."""

        def isWhole() -> bool:
            talk.go()
            talk.clock.advance(0)
            return bool(talk.waiting) and talk.heard[talk.waiting[-1]].isComplete

        await self.until(talk, isWhole)
        return talk.answers(*methods)


#: What says something of the wire itself: texts of the protocol, chunks, requests that wait for the one before, answers
#: that end their connection, and bytes that were counted.
_OF_ONE = {
    "AnswerTests": ("test_length", "test_later", "test_streams"),
    "ChangeTests": ("test_shorter",),
    "ExchangeTests": (
        *("test_body", "test_earlyHint", "test_fails", "test_incomplete", "test_lostBeforeItsTurn"),
        *("test_notContinued", "test_pathsend", "test_together", "test_twoReceive"),
    ),
    "FieldTests": ("test_close", "test_transferEncoding", "test_values"),
    "RequestTests": (
        *("test_closes", "test_head", "test_hugeHead", "test_invalid", "test_largeBody", "test_oldVersion"),
        *("test_otherUpgrade", "test_pipelined", "test_stopWhileServed"),
    ),
}


def _overTwo(name: str, case: type, mixin: type) -> type:
    """The tests of a class but for those that say something of the wire, in one of this name."""
    if case.__name__ not in _OF_ONE:
        return type(name, (mixin, case), {"__module__": __name__})
    # What is None in a class below is a failure to the loader, so this is none.
    without = {"__dict__", "__weakref__", *_OF_ONE.get(case.__name__, ())}
    members = {name: value for name, value in vars(case).items() if name not in without}
    return type(name, (mixin, *case.__bases__), {**members, "__module__": __name__})


for module in (test_files, test_handlers, test_proxy, test_resources, test_exchange, test_behaviours):
    for name, each in list(vars(module).items()):
        if isinstance(each, type) and name.endswith("Tests") and each.__module__ == module.__name__:
            called = f"{module.__name__.rpartition('_')[2].title()}{name}"
            globals()[called] = _overTwo(called, each, AsgiOverTwo if issubclass(each, AsgiCase) else OverTwo)

# By this name the loader would find the last one once more.
del each
