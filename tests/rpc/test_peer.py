"""Calls between two peers in memory."""

from __future__ import annotations

from typing import Any

from getty_tx import rpc
from getty_tx.errors import GettyError, SettingError
from tests.support.rpc import Both, Outcome
from tests.support.shop import Case, OutOfStock, Particular


class CallTests(Case):
    """Calls and what comes back."""

    def test_bothWays(self) -> None:
        both = self.both()
        self.assertEqual(both.result("Shop/say", "hi"), "hi")
        self.assertEqual(both.result("Shop/say", 1, 2, {"a": None}), [1, 2, {"a": None}])
        outcome = Outcome(both.server.call("Back", "say", "back"))
        both.pair.flush()
        self.assertEqual(outcome.only, "back")
        self.assertEqual(self.back.log, ["back"])

    def test_manyAtOnce(self) -> None:
        both = self.both(split=[7, 1, 100])
        outcomes = [Outcome(both.client.call("Shop", "another", number)) for number in range(50)]
        both.pair.flush()
        for waiting in reversed(self.shop.waiting):
            waiting.callback(None)
        both.pair.flush()
        self.assertEqual([outcome.only for outcome in outcomes], list(range(50)))

    def test_bytes(self) -> None:
        both = self.both(payload="bytes")
        self.assertEqual(both.result("Shop/say", b"\xff" * 3000), b"\xff" * 3000)
        error = self.error(both.call("Shop/say", "text"), rpc.PayloadError)
        self.assertFalse(error.sent)

    def test_oneWay(self) -> None:
        both = self.both(server={"maxTimeout": 1.0})
        both.client.send("Shop", "say", "line")
        both.client.send("Shop", "fail", "stock")
        both.client.send("Shop", "nothing")
        both.client.send("Shop", "say", *range(3))
        both.client.send("Shop", "get", "object")
        both.client.send("Shop", "wait")
        both.pair.flush()
        self.assertEqual(self.shop.log, ["line", 0])
        self.assertEqual(both.serverContext.running, 1)
        both.clock.advance(2)
        self.assertEqual(self.shop.log[2:], ["cancelled"])
        # Nothing was answered, not even that the time was over.
        self.assertEqual((both.clientContext.late, both.pair.client.stats.readPkgs), (0, 0))

    def test_oneWayThatCannotBeSent(self) -> None:
        both = self.both()
        self.assertRaises(rpc.PayloadError, both.client.send, "Shop", "say", object())
        both.pair.client.close()
        self.assertRaises(rpc.CallLostError, both.client.send, "Shop", "say")

    def test_metadata(self) -> None:
        both = self.both()
        metadata, left, name, isSame = both.result("Shop/about", metadata={"user": "1"}, timeout=2.5)
        self.assertEqual((metadata, left, name, isSame), ({"user": "1"}, 2.5, "Shop/about", True))
        self.assertEqual(both.result("Shop/about", timeout=None)[:2], [{}, None])

    def test_replyMetadata(self) -> None:
        both = self.both()
        seen: list[Any] = []
        receive = both.client.onMessage
        both.client.onMessage = lambda session, message: (seen.append(message), receive(session, message))[1]  # type: ignore[method-assign,func-returns-value]
        both.result("Shop/about")
        self.assertEqual(seen[0].metadata, {"served": "1"})

    def test_wrongMetadata(self) -> None:
        both = self.both()
        error = self.error(both.call("Shop/say", metadata={"isn": "Other"}), rpc.PayloadError)
        self.assertFalse(error.sent)
        self.error(both.call("Shop/say", metadata={"a": 1}), rpc.PayloadError)
        self.assertEqual(both.client.pending, {})

    def test_wrongReplyMetadata(self) -> None:
        for metadata in ({"a": 1}, {"a": "x" * 20000}, {"isn": "x"}, 5):

            def about(kind: str, metadata: Any = metadata) -> str:
                rpc.currentCall().replyMetadata = metadata
                if kind != "fine":
                    raise OutOfStock
                return kind

            both = Both({"Shop": type("Any", (), {"about": staticmethod(rpc.method(about))})()})
            self.assertIsInstance(both.call("Shop/about", "fine").only, rpc.RpcError)
            self.error(both.call("Shop/about", "fail"), OutOfStock)
            self.assertFalse(both.pair.server.isClosed)
            self.finish(both)
            self.flushLoggedErrors(AttributeError, TypeError)

    def test_numbersGoRound(self) -> None:
        both = self.both()
        both.call("Shop/wait")
        both.client._number = 0x7FFFFFFE
        self.assertEqual([both.result("Shop/say", each) for each in range(3)], [0, 1, 2])
        self.assertEqual(both.client._number, 3)

    def test_services(self) -> None:
        both = self.both()
        stub = rpc.client.Stub(both.client, "Shop")
        outcome = Outcome(stub.options(timeout=1.0, metadata={"a": "b"}).about())
        plain = Outcome(stub.say("x"))
        both.pair.flush()
        self.assertEqual(outcome.only[:2], [{"a": "b"}, 1.0])
        self.assertEqual(plain.only, "x")
        self.assertRaises(AttributeError, getattr, stub, "_private")
        checked = rpc.client.Stub(both.client, "Shop", {"say": False})
        self.assertRaises(SettingError, getattr, checked, "other")

    def test_describe(self) -> None:
        names = {each["name"]: each for each in self.both().result("rpc/describe")}
        self.assertEqual(names["Shop/say"]["text"], "Say it again.")
        self.assertEqual(names["Shop/another"]["idempotent"], True)
        self.assertIn("text: str", names["Shop/another"]["signature"].replace("'", ""))
        self.assertIn("rpc/describe", names)
        self.assertNotIn("Shop/notPublic", names)

    def test_describeIsTaken(self) -> None:
        self.assertRaises(SettingError, rpc.CallContext, rpc.TTHeader(), {"rpc": self.shop})

    def test_wrappers(self) -> None:
        def named(label: str) -> Any:
            def wrap(name: str, handler: Any) -> Any:
                def run(*arguments: Any) -> Any:
                    self.shop.log.append(f"{label} {name} {rpc.currentCall().id}")
                    return handler(*arguments)

                return run

            return wrap

        both = self.both(wrappers=[named("outer"), named("inner")])
        self.assertEqual(both.result("Shop/say", "x"), "x")
        self.assertEqual(self.shop.log, ["outer Shop/say 1", "inner Shop/say 1", "x"])

    def test_currentCallOutside(self) -> None:
        self.both().result("Shop/about")
        self.assertRaises(GettyError, rpc.currentCall)


class ErrorTests(Case):
    """Errors across the wire."""

    def test_classes(self) -> None:
        both = self.both()
        for method in ("fail", "failLater"):
            for kind, expected in (
                ("deadline", rpc.CallTimeoutError),
                ("cancelled", rpc.CallCancelledError),
                ("lost", rpc.CallLostError),
                ("refused", rpc.CallRefusedError),
                ("noMethod", rpc.NoSuchMethodError),
                ("payload", rpc.PayloadError),
                ("stock", OutOfStock),
                ("particular", Particular),
                ("code", rpc.RemoteError),
            ):
                outcome = both.call(f"Shop/{method}", kind)
                for waiting in self.shop.waiting:
                    waiting.callback(None)
                self.shop.waiting.clear()
                both.pair.flush()
                error = self.error(outcome, expected)
                self.assertTrue(error.sent)
                self.assertEqual(error.retryable, kind == "refused")
                if kind == "stock":
                    self.assertEqual((error.text, error.details), ("none is left", [1]))
                elif kind == "particular":
                    self.assertEqual((error.text, error.details), ("2 of tea", {"left": 2}))
                elif kind == "code":
                    self.assertEqual((error.text, error.code), ("why", "test.other"))

    def test_othersAreLoggedAndDoNotLeave(self) -> None:
        both = self.both()
        for method in ("fail", "failLater"):
            outcome = both.call(f"Shop/{method}", "?")
            for waiting in self.shop.waiting:
                waiting.callback(None)
            both.pair.flush()
            error = self.error(outcome, rpc.RemoteError)
            self.assertEqual((error.code, error.text), ("internal", f"Shop/{method} failed: ZeroDivisionError"))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(both.pair.server.isClosed)

    def test_deferredThatFailsOutsideOfAnExcept(self) -> None:
        both = self.both()
        outcome = both.call("Shop/wait")
        self.shop.waiting[0].errback(KeyError("x"))
        both.pair.flush()
        self.assertEqual(self.error(outcome, rpc.RemoteError).text, "Shop/wait failed: KeyError")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_deferredThatWasCancelled(self) -> None:
        both = self.both()
        outcome = both.call("Shop/wait")
        self.shop.waiting[0].cancel()
        both.pair.flush()
        self.error(outcome, rpc.CallCancelledError)

    def test_unknown(self) -> None:
        both = self.both()
        for name in ("Shop/nothing", "Other/say", "Shop/notPublic", "Shop/later", "/", "Shop/say/x"):
            self.error(both.call(name), rpc.NoSuchMethodError)

    def test_wrongNumberOfArguments(self) -> None:
        both = self.both()
        for name, arguments in (("Shop/another", ()), ("Shop/another", (1, 2)), ("Shop/wait", (1,))):
            error = self.error(both.call(name, *arguments), rpc.PayloadError)
            self.assertIn(f"{len(arguments)} arguments", error.text)
        self.assertEqual(both.result("Shop/say", *range(9)), list(range(9)))

    def test_arguments(self) -> None:
        both = self.both(client={"maxMsgLen": 2000})
        for argument in (object(), float("nan"), "x" * 3000):
            error = self.error(both.call("Shop/say", argument), rpc.PayloadError)
            self.assertFalse(error.sent)
        self.assertEqual(both.client.pending, {})
        self.assertEqual(self.shop.log, [])

    def test_results(self) -> None:
        both = self.both(server={"maxMsgLen": 2000}, client={"maxMsgLen": 2000})
        for kind in ("nan", "object", "big"):
            self.error(both.call("Shop/get", kind), rpc.PayloadError)
        self.assertIsNone(both.result("Shop/get", "none"))

    def test_detailsAboveMaxMsgLen(self) -> None:
        def fail() -> None:
            raise OutOfStock("y" * 3000, details="x" * 5000)

        limits = {"maxMsgLen": 2000}
        service = type("Any", (), {"fail": staticmethod(rpc.method(fail))})()
        both = Both({"Shop": service}, server=limits, client=limits)
        error = self.error(both.call("Shop/fail"), OutOfStock)
        self.assertIsNone(error.details)
        self.finish(both)

    def test_resultThatCannotBeDecoded(self) -> None:
        both = self.both()

        def broken(name: str, data: Any) -> Any:
            raise LookupError(name)

        both.client.payload.decodeResult = broken  # type: ignore[method-assign]
        self.error(both.call("Shop/say"), LookupError)
        self.assertFalse(both.pair.client.isClosed)

    def test_callbackThatRaises(self) -> None:
        both = self.both()
        waiting = both.client.call("Shop", "say", "x")
        waiting.addCallback(lambda _: 1 / 0)
        both.pair.flush()
        self.failureResultOf(waiting, ZeroDivisionError)
        self.assertEqual(both.result("Shop/say", "y"), "y")
