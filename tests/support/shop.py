"""A service whose methods do whatever a method may do, and a test case with two peers that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from tests.support.rpc import Both

if TYPE_CHECKING:
    from tests.support.rpc import Outcome


class OutOfStock(rpc.RemoteError):
    code = "test.outOfStock"


class Particular(rpc.RemoteError):
    """Made of something else than a text."""

    code = "test.particular"

    def __init__(self, item: str, left: int) -> None:
        super().__init__(f"{left} of {item}", details={"left": left})


class Shop:
    """Whatever a method may do."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    def say(self, text: Any = "nothing", *more: Any) -> Any:
        """Say it again.

        This is not told.
        """
        self.log.append(text)
        return [text, *more] if more else text

    @rpc.method(name="another", idempotent=True)
    async def later(self, text: str) -> str:
        await self.wait()
        return text

    @rpc.method
    def wait(self) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred(lambda _: self.log.append("cancelled"))
        self.waiting.append(waiting)
        return waiting

    @rpc.method
    def fail(self, kind: str) -> None:
        errors = {
            "stock": OutOfStock("none is left", details=[1]),
            "particular": Particular("tea", 2),
            "code": rpc.RemoteError("why", code="test.other"),
            "refused": rpc.CallRefusedError("not now"),
            "deadline": rpc.CallTimeoutError("too late"),
            "cancelled": rpc.CallCancelledError("no"),
            "lost": rpc.CallLostError("gone"),
            "noMethod": rpc.NoSuchMethodError("where?"),
            "payload": rpc.PayloadError("what?"),
        }
        raise errors.get(kind) or ZeroDivisionError("a secret")

    @rpc.method
    async def failLater(self, kind: str) -> None:
        await self.wait()
        self.fail(kind)

    @rpc.method
    def get(self, kind: str) -> Any:
        return {"nan": float("nan"), "object": object(), "big": "x" * 5000, "none": None}[kind]

    @rpc.method
    def about(self) -> Any:
        call = rpc.currentCall()
        call.replyMetadata = {"served": "1"}
        return [dict(call.metadata), call.timeLeft(), call.name, call.deadline == call.expiresAt]

    def notPublic(self) -> None:
        raise AssertionError("it was called")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.shop, self.back = Shop(), Shop()

    def both(self, **options: Any) -> Both:
        both = Both({"Shop": self.shop}, {"Back": self.back}, **options)
        self.addCleanup(self.finish, both)
        return both

    def finish(self, both: Both) -> None:
        for shop in (self.shop, self.back):
            for waiting in shop.waiting:
                if not waiting.called:
                    waiting.callback("finished")
        both.pair.client.close()
        both.clock.advance(30)
        self.assertEqual(both.leftovers(), [])

    def error(self, outcome: Outcome, kind: type[Any]) -> Any:
        self.assertIs(type(outcome.only), kind, outcome.only)
        return outcome.only


class ThreadSaver:
    """A pool whose calls run when a test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def callInThreadWithCallback(self, onResult: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        self.calls.append((onResult, function, args, kwargs))

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for onResult, function, args, kwargs in calls:
            try:
                result = function(*args, **kwargs)
            except BaseException:
                onResult(False, Failure())
            else:
                onResult(True, result)
