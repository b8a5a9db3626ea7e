"""Calls over the wire of Getty's RPC, and that the defects of the original are not here."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SessionBlockedError, SettingError
from getty_tx.rpc.messages import ErrorReply, Ping, Pong, Reply, Request
from tests.support.rpc import Both, Foreign, Outcome

LONGEST = 65535


class TestService:
    """That of Getty's examples, and more."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.waiting: list[Deferred[Any]] = []

    @rpc.method(name="Add")
    def add(self, request: dict[str, int]) -> dict[str, int]:
        return {"Sum": request["A"] + request["B"]}

    @rpc.method(name="Say")
    def say(self, text: Any) -> Any:
        return text

    @rpc.method(name="Err")
    def err(self, request: Any = None) -> None:
        raise rpc.RemoteError("this is a error test", code="outOfStock", details=[1])

    @rpc.method(name="Event")
    def event(self, request: Any) -> None:
        self.events.append(request)

    @rpc.method(name="Now")
    def now(self) -> int:
        return 7

    @rpc.method(name="Slow")
    def slow(self, request: Any) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method(name="Long")
    def long(self, size: int) -> str:
        return "x" * size

    @rpc.method(name="Tell")
    def tell(self, request: Any) -> int:
        rpc.currentCall().replyMetadata = {"a": "b"}
        return 1

    @rpc.method(name="Boom")
    def boom(self, request: Any) -> None:
        raise ZeroDivisionError("secret")


class CallsCase(SynchronousTestCase):
    """Two peers that both have the service."""

    def setUp(self) -> None:
        self.service = TestService()
        self.back = TestService()
        self.wire = rpc.Getty("json")
        self.both = Both({"TestService": self.service}, {"Back": self.back}, wire=self.wire)

    def ended(self) -> None:
        """The session ends, and nothing is left."""
        self.both.client.session.close()
        self.both.pair.flush()
        self.both.clock.advance(10)
        self.assertEqual(self.both.leftovers(), [])


class CallTests(CallsCase):
    """What calls give."""

    def test_result(self) -> None:
        """One value goes, and one comes."""
        self.assertEqual(self.both.result("TestService/Add", {"A": 1, "B": 10}), {"Sum": 11})
        for value in ("<&>\u2028\u00e9\b\f\x01", [1, None, {"b": 1, "a": 2.5}], True, 2**70, ""):
            self.assertEqual(self.both.result("TestService/Say", value), value)
        self.ended()

    def test_arguments(self) -> None:
        """No argument is null, which is no argument to the method; two are too many."""
        self.assertEqual(self.both.result("TestService/Now"), 7)
        error = self.both.result("TestService/Say")
        self.assertRegex(str(error), r"TestService/Say\(.*\) -> .* was called with 0 arguments")
        self.assertIsInstance(error, rpc.RemoteError)
        error = self.both.result("TestService/Say", 1, 2)
        self.assertRegex(str(error), "TestService/Say: Getty's wire carries one argument, not 2")
        self.assertFalse(error.sent)
        self.assertIsNone(self.both.result("TestService/Event", 1))
        self.assertTrue(any(each["name"] == "TestService/Add" for each in self.both.result("rpc/describe")))

    def test_bothWays(self) -> None:
        """Calls from both ends at the same time do not mix, though their numbers are the same."""
        there = [self.both.client.call("TestService", "Slow", number) for number in range(5)]
        back = [self.both.server.call("Back", "Slow", number) for number in range(5)]
        self.both.pair.flush()
        outcomes = [Outcome(each) for each in there + back]
        for service, what in ((self.service, "there"), (self.back, "back")):
            for number in (3, 0, 4, 1, 2):
                service.waiting[number].callback(f"{what} {number}")
        self.both.pair.flush()
        expected = [f"{what} {number}" for what in ("there", "back") for number in range(5)]
        self.assertEqual([each.only for each in outcomes], expected)
        self.ended()

    def test_errors(self) -> None:
        """All errors are a RemoteError with the text, as the wire has nothing else."""
        error = self.both.result("TestService/Err")
        self.assertEqual((type(error), error.code, str(error), error.details), _remote("this is a error test"))
        error = self.both.result("TestService/Boom", 1)
        self.assertEqual(str(error), "TestService/Boom failed: ZeroDivisionError")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_metadata(self) -> None:
        """Asking for metadata is an error at once, and the session goes on."""
        with self.assertRaisesRegex(SettingError, r"Getty\('json'\) has none; use rpc.TTHeader"):
            self.both.client.call("TestService", "Say", 1, metadata={"a": "b"})
        with self.assertRaises(SettingError):
            self.both.client.send("TestService", "Say", 1, metadata={"a": "b"})
        self.assertEqual(self.both.client.pending, {})
        error = self.both.result("TestService/Tell", 1)
        self.assertEqual(str(error), "TestService/Tell failed: SettingError")
        self.assertEqual(len(self.flushLoggedErrors(SettingError)), 1)
        with self.assertRaisesRegex(SettingError, "has no streams"):
            self.both.client.stream("TestService", "Say", 1)
        self.assertEqual(self.both.result("TestService/Say", 1), 1)
        self.ended()

    def test_timeouts(self) -> None:
        """The caller's time-out ends its call; the method goes on, and its reply comes late."""
        outcome = self.both.call("TestService/Slow", 1, timeout=0.5)
        self.both.clock.advance(0.6)
        self.assertIsInstance(outcome.only, rpc.CallTimeoutError)
        self.both.pair.flush()
        self.assertEqual(self.both.server.incoming.count, 1)
        self.service.waiting[0].callback(1)
        self.both.pair.flush()
        self.assertEqual(self.both.clientContext.late, 1)
        self.ended()

    def test_cancel(self) -> None:
        """So it is with cancelling."""
        waiting = self.both.client.call("TestService", "Slow", 1)
        outcome = Outcome(waiting)
        self.both.pair.flush()
        waiting.cancel()
        self.both.pair.flush()
        self.assertIsInstance(outcome.only, rpc.CallCancelledError)
        self.assertEqual(self.both.server.incoming.count, 1)
        self.service.waiting[0].callback(1)
        self.both.pair.flush()
        self.assertEqual(self.both.clientContext.late, 1)

    def test_heartbeats(self) -> None:
        """The end that has dialled pings when it is silent, the other one never; each heartbeat is answered."""
        self.both.result("TestService/Say", 1)
        sent = self.both.server.session.stats.writePkgs, self.both.client.session.stats.writePkgs
        for _ in range(400):
            self.both.clock.advance(0.1)
            self.both.pair.flush()
        beats = self.both.client.session.stats.writePkgs - sent[1]
        self.assertIn(beats, (2, 3))
        self.assertEqual(self.both.server.session.stats.writePkgs - sent[0], beats)
        self.assertFalse(self.both.client.session.isClosed)
        self.ended()


def _remote(text: str) -> tuple[type, str, str, None]:
    return rpc.RemoteError, "internal", text, None


def request(kind: str, argument: str, method: str = "Add", sequence: int = 5) -> bytes:
    """A request of the Go client's."""
    header = f'{{"Service":"TestService","Method":"{method}","CallType":"{kind}"}}'.encode()
    body = len(header).to_bytes(2, "little") + header + len(argument).to_bytes(2, "little") + argument.encode()
    head = bytes.fromhex("05091620 0300 0000") + sequence.to_bytes(8, "little") + b"\x11" * 8 + b"\0\0\1\0"
    return head + len(body).to_bytes(4, "little") + body


class DefectTests(CallsCase):
    """Each defect of the original, in the order of its list."""

    def test_packagesInPieces(self) -> None:
        """1. Packages of any length that the wire has come in any number of pieces, many at a time."""
        both = Both({"TestService": self.service}, wire=self.wire, split=Random(3))
        outcomes = [
            Outcome(both.client.call("TestService", "Say", f"{number}" + "x" * size))
            for number, size in enumerate((0, 4000, 60000, 4096, 1, 50000, 4090))
        ]
        both.pair.flush()
        self.assertEqual([len(each.only) for each in outcomes], [1, 4001, 60001, 4097, 2, 50001, 4091])

    def test_unknownIsAnswered(self) -> None:
        """2. An unknown service or method, or an argument that cannot be decoded, is answered."""
        for name, why in (("TestService/Nothing", "there is no TestService/Nothing"), ("No/Add", "there is no No/Add")):
            self.assertEqual(str(self.both.result(name, 1)), why)
        foreign = Foreign(self.wire, {"TestService": self.service})
        foreign.pair.peer.write(request("CT_TwoWay", "{nonsense") + request("CT_TwoWay", '{"A":1,"B":2}'))
        broken, good = foreign.heard()
        self.assertRegex(broken.text, "TestService/Add: no JSON: ")
        self.assertEqual(good.payload, b'{"Sum":3}')

    def test_failureEndsOneCall(self) -> None:
        """3. A failed method ends its own call, and no other and no session."""
        slow = Outcome(self.both.client.call("TestService", "Slow", 1))
        self.assertIsInstance(self.both.result("TestService/Err"), rpc.RemoteError)
        self.assertEqual(slow.results, [])
        self.service.waiting[0].callback("done")
        self.both.pair.flush()
        self.assertEqual(slow.only, "done")
        self.assertFalse(self.both.client.session.isClosed)

    def test_withoutResult(self) -> None:
        """4. The answer to a call without a result is a package of its own length, after the method has run."""
        foreign = Foreign(self.wire, {"TestService": self.service})
        foreign.pair.peer.write(request("CT_TwoWayNoReply", "1", "Slow") + request("CT_TwoWayNoReply", "1", "Err", 7))
        foreign.pair.flush()
        self.service.waiting[0].callback({"never": "sent"})
        foreign.pair.flush()
        data = bytes(foreign.pair.peer.data)
        body = b'\x0c\0{"Error":""}\0\0'
        self.assertEqual(
            data[-48:],
            bytes.fromhex("05091620 0400 0000 0500000000000000") + b"\x11" * 8 + b"\0\0\1\0\x10\0\0\0" + body,
        )
        self.assertIn(b'{"Error":"this is a error test"}\0\0', data)
        failed, done = foreign.heard()
        self.assertEqual((type(failed), type(done)), (ErrorReply, Reply))
        self.assertIsNone(self.wire.payload.decodeResult("TestService/Slow", done.payload))

    def test_lostSession(self) -> None:
        """5. A lost session fails the calls that wait, and they say that they were sent."""
        outcomes = [Outcome(self.both.client.call("TestService", "Slow", number)) for number in range(3)]
        self.both.pair.flush()
        self.both.server.session.close()
        self.both.pair.flush()
        self.assertEqual([type(each.only) for each in outcomes], [rpc.CallLostError] * 3)
        self.assertTrue(all(each.only.sent for each in outcomes))
        self.both.clock.advance(10)
        self.assertEqual(self.both.leftovers(), [])

    def test_nothingIsKept(self) -> None:
        """5. Neither a call after its time-out nor a heartbeat without an answer leaves an entry behind."""
        foreign = Foreign(self.wire, pingInterval=1, pingTimeout=1)
        for _ in range(20):
            Outcome(foreign.peer.call("TestService", "Slow", 1, timeout=0.5))
            foreign.clock.advance(1)
        self.assertEqual(foreign.peer.pending, {})
        for _ in range(20):
            foreign.say(Ping())
        self.assertEqual([type(each) for each in foreign.heard()][-20:], [Pong] * 20)
        self.assertIsNone(foreign.peer.codec._asked)

    def test_repliesAreNotMixed(self) -> None:
        """6. Many replies in any order reach their own calls."""
        outcomes = [Outcome(self.both.client.call("TestService", "Slow", number)) for number in range(90)]
        self.both.pair.flush()
        order = list(range(90))
        Random(5).shuffle(order)
        for number in order:
            self.service.waiting[number].callback(f"{number}" * 50)
        self.both.pair.flush()
        self.assertEqual([each.only for each in outcomes], [f"{number}" * 50 for number in range(90)])

    def test_anyKindOfCall(self) -> None:
        """7. One-way to a method with a result, and two-way to one without."""
        self.both.client.send("TestService", "Add", {"A": 1, "B": 2})
        self.both.client.send("TestService", "Err")
        self.both.client.send("TestService", "Event", "one-way")
        self.assertIsNone(self.both.result("TestService/Event", "two-way"))
        self.assertEqual(self.service.events, ["one-way", "two-way"])
        self.assertEqual(self.both.server.session.stats.writePkgs, 1)

    def test_lengthsAreNotCut(self) -> None:
        """7. What is longer than 65,535 bytes is an error of this call alone, at either end."""
        error = self.both.result("TestService/Say", "x" * (LONGEST - 1))
        self.assertRegex(
            str(error), r"TestService/Say: an argument of 65536 bytes is above the 65535 of Getty\('json'\)"
        )
        self.assertEqual((type(error), error.sent), (rpc.PayloadError, False))
        self.assertEqual(self.both.result("TestService/Say", "x" * (LONGEST - 2)), "x" * (LONGEST - 2))
        error = self.both.result("TestService/Long", LONGEST)
        self.assertRegex(str(error), r"a result of 65537 bytes is above the 65535 of Getty\('json'\)")
        self.assertEqual(self.both.result("TestService/Say", 1), 1)
        self.flushLoggedErrors()

    def test_writeErrors(self) -> None:
        """8. One-way without room is an error, and so is an argument that cannot be encoded; nothing waits for it."""
        with self.assertRaisesRegex(rpc.PayloadError, "TestService/Say: the argument is no JSON: "):
            self.both.client.send("TestService", "Say", object())
        error = self.both.result("TestService/Say", float("nan"))
        self.assertEqual((type(error), error.sent), (rpc.PayloadError, False))
        session = self.both.client.session
        self.patch(session.encoder.__class__, "write", _blocked)
        with self.assertRaises(rpc.CallRefusedError):
            self.both.client.send("TestService", "Say", 1)
        session.close()
        with self.assertRaises(rpc.CallLostError):
            self.both.client.send("TestService", "Say", 1)
        self.assertEqual(self.both.client.pending, {})

    def test_readErrors(self) -> None:
        """8 and 9. A length below zero, as other bytes that are no package, ends the session and its calls."""
        for data in (request("CT_TwoWay", "1")[:28] + b"\xff" * 4, b"HTTP/1.1 400 Bad Request\r\n\r\n.........."):
            foreign = Foreign(self.wire)
            outcome = Outcome(foreign.peer.call("TestService", "Slow", 1))
            foreign.pair.peer.write(data)
            foreign.pair.flush()
            self.assertIsInstance(outcome.only, rpc.CallLostError)
            self.assertIsInstance(outcome.only.__cause__, CodecError)
            foreign.clock.advance(10)
            self.assertTrue(foreign.session.isClosed)


def _blocked(codec: Any, session: Any, message: Any) -> bytes:
    raise SessionBlockedError("no room", session)


class NumberTests(CallsCase):
    """What peers do with numbers."""

    def test_twice(self) -> None:
        """A number that is used twice is answered once with a result, and once with an error."""
        foreign = Foreign(self.wire, {"TestService": self.service})
        foreign.pair.peer.write(request("CT_TwoWay", "1", "Slow") * 2)
        self.assertRegex(foreign.heard()[0].text, "belongs to another call")
        self.service.waiting[0].callback(1)
        self.assertEqual(bytes(foreign.pair.peer.data), b"")
        foreign.pair.flush()
        self.assertEqual(
            bytes(foreign.pair.peer.data)[:24], request("", "")[:4] + b"\4\0\0\0\5" + bytes(7) + b"\x11" * 8
        )

    def test_unknownReplies(self) -> None:
        """Replies that nobody waits for are counted, also those with a sequence of the other end."""
        foreign = Foreign(self.wire)
        outcome = Outcome(foreign.peer.call("TestService", "Slow", 1))
        [call] = foreign.heard()
        self.assertEqual((type(call), call.id & 0xFF), (Request, 2))
        foreign.say(Reply(call.id + 1, b"1"), Reply(call.id - 1, b"1"), Reply(call.id + 2, b"1"), Reply(0, b"1"))
        self.assertEqual((outcome.results, foreign.context.late), ([], 4))
        foreign.say(Reply(call.id, b'"it"'))
        self.assertEqual(outcome.only, "it")


class SocketTests(TestCase):
    """A whole server and a whole client."""

    async def serve(self, **options: Any) -> rpc.Client:
        self.service = TestService()
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"TestService": self.service}, wire=rpc.Getty())
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=rpc.Getty(), number=2, **options)
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady(2, timeout=30)
        return client

    async def test_calls(self) -> None:
        """Small and long calls, many at a time, errors, and calls without a reply."""
        client = await self.serve(timeout=60)
        service = client.service("TestService")
        replies = await gatherResults([service.Say(f"{number}" * 9000) for number in range(7)])
        self.assertEqual(replies, [f"{number}" * 9000 for number in range(7)])
        replies = await gatherResults([service.Add({"A": number, "B": 1}) for number in range(500)])
        self.assertEqual(replies, [{"Sum": number + 1} for number in range(500)])
        with self.assertRaisesRegex(rpc.RemoteError, "^this is a error test$"):
            await service.Err()
        client.send("TestService", "Event", "first")
        client.send("TestService", "Event", "second")
        while len(self.service.events) < 2:
            await service.Now()
        with self.assertRaises(SettingError):
            service.options(metadata={"a": "b"}).Now()
