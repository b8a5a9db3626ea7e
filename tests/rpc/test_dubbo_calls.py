"""Calls over the wire of Dubbo, and that the defects of dubbo-go are not here."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.hessian import JavaObject, Long, decode, encode
from getty_tx.rpc.messages import ErrorReply, GoingAway, Ping, Pong, Reply
from tests.support.rpc import Both, Foreign, Outcome

ECHO = "com.ex.Echo"
SAY = f"{ECHO}/say"


class OutOfStock(rpc.RemoteError):
    """An exception that both ends know."""

    code = "com.ex.OutOfStockException"


class Echo:
    """A service."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    def say(self, text: Any) -> Any:
        return text

    @rpc.method
    def add(self, *numbers: int) -> int:
        return sum(numbers)

    @rpc.method
    def car(self, color: str) -> JavaObject:
        return JavaObject("com.ex.Car", {"color": color, "doors": [JavaObject("com.ex.Door", {"number": 1})]})

    @rpc.method
    def event(self, value: Any) -> None:
        self.events.append((value, rpc.currentCall().metadata))

    @rpc.method
    def meta(self) -> list[Any]:
        call = rpc.currentCall()
        call.replyMetadata = {"trace": "2"}
        return [dict(call.metadata), call.timeLeft()]

    @rpc.method
    def fail(self, kind: str) -> None:
        rpc.currentCall().replyMetadata = {"trace": "3"}
        if kind == "sold":
            raise OutOfStock("none left", details={"sku": Long(5)})
        if kind == "code":
            raise rpc.RemoteError("not today", code="closed")
        if kind == "refused":
            raise rpc.CallRefusedError("later")
        raise ZeroDivisionError("secret")

    @rpc.method
    def slow(self) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method
    def long(self, size: int) -> str:
        return "x" * size

    @rpc.method
    def odd(self) -> object:
        return object()


class CallsCase(SynchronousTestCase):
    """Two peers that both have the service."""

    def setUp(self) -> None:
        self.service, self.back = Echo(), Echo()
        wire = rpc.Dubbo(versions={ECHO: "1.0"}, groups={ECHO: "blue"})
        self.both = Both({ECHO: self.service}, {ECHO: self.back}, wire=wire)

    def ended(self) -> None:
        """The session ends, and nothing is left."""
        self.both.client.session.close()
        self.both.pair.flush()
        self.both.clock.advance(10)
        self.assertEqual(self.both.leftovers(), [])


class CallTests(CallsCase):
    """What calls give."""

    def test_results(self) -> None:
        """Values come back as they are."""
        for value in (
            "hi",
            "",
            "é\U0001f600",
            5,
            2**40,
            2.5,
            True,
            None,
            b"abc",
            [1, [2]],
            {"a": [None]},
            "x" * 200_000,
        ):
            self.assertEqual(self.both.result(SAY, value), value)
        self.assertEqual(self.both.result(f"{ECHO}/add"), 0)
        self.assertEqual(self.both.result(f"{ECHO}/add", 1, 2, 3), 6)
        self.assertEqual(self.both.result(f"{ECHO}/car", "red").fields["color"], "red")
        self.assertTrue(any(each["name"] == SAY for each in self.both.result("rpc/describe")))
        self.ended()

    def test_bothWays(self) -> None:
        """Calls from both ends at the same time do not mix, though their numbers are the same."""
        there = [Outcome(self.both.client.call(ECHO, "slow")) for _ in range(4)]
        back = [Outcome(self.both.server.call(ECHO, "slow")) for _ in range(4)]
        self.both.pair.flush()
        for service, what in ((self.service, "there"), (self.back, "back")):
            for number in (3, 0, 1, 2):
                service.waiting[number].callback(f"{what} {number}")
        self.both.pair.flush()
        expected = [f"{what} {number}" for what in ("there", "back") for number in range(4)]
        self.assertEqual([each.only for each in there + back], expected)
        self.ended()

    def test_metadata(self) -> None:
        """Attachments go both ways, and the time-out with them."""
        waiting = self.both.client.call(ECHO, "meta", metadata={"trace": "1"}, timeout=2.0)
        self.both.pair.flush()
        self.assertEqual(Outcome(waiting).only, [{"trace": "1"}, 2.0])
        self.assertEqual(waiting.metadata, {"trace": "2"})
        waiting = self.both.client.call(ECHO, "meta", timeout=None)
        self.both.pair.flush()
        self.assertEqual(Outcome(waiting).only, [{}, None])

    def test_oneWay(self) -> None:
        """Nobody is answered, whatever happens."""
        self.both.client.send(ECHO, "event", 1, metadata={"a": "b"})
        self.both.client.send(ECHO, "fail", "")
        self.both.client.send("no.Such", "thing")
        self.both.pair.flush()
        self.assertEqual(self.service.events, [(1, {"a": "b"})])
        self.assertEqual(self.both.client.session.stats.readBytes, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_exceptions(self) -> None:
        """They are exceptions of Java: a class that both know is raised, and others are a RemoteError."""
        waiting = self.both.client.call(ECHO, "fail", "sold")
        self.both.pair.flush()
        error = Outcome(waiting).only
        self.assertIsInstance(error, OutOfStock)
        self.assertEqual((str(error), error.details.fields["sku"]), ("none left", 5))
        self.assertEqual(waiting.metadata, {"trace": "3"})
        error = self.both.result(f"{ECHO}/fail", "code")
        self.assertEqual((type(error), error.code, str(error)), (rpc.RemoteError, "closed", "not today"))
        self.assertEqual(error.details.name, "java.lang.RuntimeException")
        error = self.both.result(f"{ECHO}/fail", "")
        self.assertEqual(
            (error.code, str(error)), ("java.lang.RuntimeException", f"{SAY[:-3]}fail failed: ZeroDivisionError")
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_statuses(self) -> None:
        """What this end says of a call is a status, and the error that was."""
        for name, arguments, kind in (
            (f"{ECHO}/fail", ("refused",), rpc.CallRefusedError),
            ("no.Such/thing", (), rpc.NoSuchMethodError),
            (f"{ECHO}/nothing", (), rpc.NoSuchMethodError),
            (f"{ECHO}/say", (1, 2), rpc.PayloadError),
        ):
            error = self.both.result(name, *arguments)
            self.assertIs(type(error), kind)
            self.assertTrue(error.sent)
            self.assertNotEqual(error.details, 50)
        error = self.both.result(f"{ECHO}/odd")
        self.assertEqual((type(error), error.sent, error.details), (rpc.PayloadError, True, 50))
        self.assertRegex(str(error), f"^{ECHO}/odd: the result, which is of the type object, cannot be sent: object")
        outcome = self.both.call(f"{ECHO}/slow", timeout=0.5)
        self.both.clock.advance(0.6)
        self.both.pair.flush()
        self.assertIsInstance(outcome.only, rpc.CallTimeoutError)
        self.assertEqual(self.both.result(SAY, "on"), "on")
        error = self.both.result(SAY, object())
        self.assertEqual((type(error), error.sent), (rpc.PayloadError, False))

    def test_tooLong(self) -> None:
        """A reply above the limit is an error of its call."""
        self.both.server.session.maxMsgLen = 1000
        self.assertEqual(self.both.result(f"{ECHO}/long", 900), "x" * 900)
        for size in (970, 1000):
            error = self.both.result(f"{ECHO}/long", size)
            self.assertEqual((type(error), error.details), (rpc.PayloadError, 50))
            self.assertRegex(str(error), "above maxMsgLen=1000")
        self.assertEqual(self.both.result(SAY, "on"), "on")


class CommonTests(CallsCase):
    """What every service has."""

    def test_echo(self) -> None:
        """``$echo`` gives its one argument back, with its type; where there is no service, it fails."""
        for value in ("hi", 5, Long(5), 2.5, None, [1, "a"], JavaObject("com.ex.Car", {"color": "red"})):
            found = self.both.result(f"{ECHO}/$echo", value)
            self.assertEqual((type(found), found), (type(value), value))
        self.assertEqual(self.both.result(f"{ECHO}/$invoke", "$echo", ["java.lang.Object"], ["hi"]), "hi")
        self.assertIsInstance(self.both.result("no.Such/$echo", 1), rpc.NoSuchMethodError)
        for arguments in ((), (1, 2)):
            error = self.both.result(f"{ECHO}/$echo", *arguments)
            self.assertEqual((type(error), error.sent), (rpc.PayloadError, True))
        self.assertEqual(self.both.serverContext.running, 0)

    def test_echoType(self) -> None:
        """A provider in Java knows it by the type Object only, whatever the argument is."""
        payload = rpc.Dubbo().payload
        self.assertEqual(decode(payload.encodeArguments("A/$echo", ("hi",))), ["Ljava/lang/Object;", "hi"])
        own = rpc.Dubbo(signatures={"A/$echo": "I"}).payload
        self.assertEqual(decode(own.encodeArguments("A/$echo", (5,))), ["I", 5])

    def test_ownEcho(self) -> None:
        """A service that has a method of that name keeps it, and wrappers are around both."""

        class Own:
            @rpc.method(name="$echo")
            def mine(self, value: Any) -> str:
                return f"mine {value}"

        seen: list[str] = []

        def wrapper(name: str, handler: Any) -> Any:
            return lambda *arguments: (seen.append(name), handler(*arguments))[1]

        both = Both({ECHO: Echo(), "com.ex.Own": Own()}, wire=rpc.Dubbo(), wrappers=[wrapper])
        self.assertEqual(both.result("com.ex.Own/$echo", 1), "mine 1")
        self.assertEqual(both.result(f"{ECHO}/$echo", 1), 1)
        self.assertEqual(seen, ["com.ex.Own/$echo", f"{ECHO}/$echo"])


class GenericTests(CallsCase):
    """Calls of methods by ``$invoke``."""

    def test_invoke(self) -> None:
        """A generic call is one of the method that it names; objects come back as dicts."""
        for method in ("$invoke", "$invokeAsync"):
            self.assertEqual(self.both.result(f"{ECHO}/{method}", "say", ["java.lang.String"], ["hi"]), "hi")
            self.assertEqual(self.both.result(f"{ECHO}/{method}", "add", None, [1, 2]), 3)
        car = self.both.result(f"{ECHO}/$invoke", "car", ["java.lang.String"], ["red"])
        self.assertEqual(car, {"class": "com.ex.Car", "color": "red", "doors": [{"class": "com.ex.Door", "number": 1}]})
        self.assertIn("say", [name.partition("/")[2] for name in self.both.server.session.context.calls["server"]])
        error = self.both.result(f"{ECHO}/$invoke", "fail", None, ["sold"])
        self.assertIsInstance(error, OutOfStock)
        self.assertIsInstance(self.both.result(f"{ECHO}/$invoke", "nothing", None, []), rpc.NoSuchMethodError)
        self.assertIsInstance(self.both.result(f"{ECHO}/$invoke", "say", None), rpc.PayloadError)

    def test_foreign(self) -> None:
        """Other kinds of generic calls are refused, and raw ones get objects; another group is another service."""
        foreign = Foreign(rpc.Dubbo(groups={ECHO: "blue"}), {ECHO: Echo()})

        def ask(group: str, generic: str, *values: Any) -> Any:
            body = encode(
                "2.0.2",
                ECHO,
                "",
                "$invoke",
                "Ljava/lang/String;" * len(values),
                *values,
                {"generic": generic, "group": group},
            )
            foreign.pair.peer.write(b"\xda\xbb\xc2" + bytes(9 - 1) + b"\x01" + len(body).to_bytes(4, "big") + body)
            [reply] = foreign.heard()
            return reply

        self.assertEqual(ask("blue", "true", "say", [], ["hi"]).payload, "hi")
        self.assertEqual(ask("blue", "", "add", None, None).payload, 0)
        self.assertEqual(ask("blue", "raw.return", "car", [], ["red"]).payload.name, "com.ex.Car")
        for generic, values, code in (
            ("bean", ("say", [], ["hi"]), "payload"),
            ("true", ("say",), "payload"),
            ("true", (1, 2, 3), "payload"),
        ):
            self.assertEqual(ask("blue", generic, *values).code, code)
        self.assertEqual(ask("red", "true", "say", [], ["hi"]).code, "noMethod")
        # Whose caller may not have the class.
        for generic in ("true", "raw.return"):
            error = ask("blue", generic, "fail", [], ["sold"])
            self.assertEqual((error.code, error.text), ("com.ex.OutOfStockException", "none left"))
            self.assertEqual(error.details.name, "com.alibaba.dubbo.rpc.service.GenericException")
            fields = [error.details.fields[name] for name in ("detailMessage", "exceptionClass", "exceptionMessage")]
            self.assertEqual(fields, [f"{error.code}: none left", error.code, "none left"])
        error = ask("blue", "true", "fail", [], ["code"])
        self.assertEqual((error.code, error.text), ("closed", "not today"))


class PeerTests(SynchronousTestCase):
    """A peer whose other end is the test."""

    def setUp(self) -> None:
        self.service = Echo()
        self.foreign = Foreign(rpc.Dubbo(), {ECHO: self.service}, pingInterval=10.0, pingTimeout=2.0)
        self.answers(self.foreign)

    def answers(self, foreign: Foreign) -> None:
        """The other end has sent a heartbeat, and has answered one."""
        foreign.pair.peer.write(bytes.fromhex("dabbe2000000000000000042 00000001 4e"))
        self.assertEqual([type(each) for each in foreign.heard()], [Pong, Ping])
        foreign.say(Pong())

    def raw(self, head: str, body: bytes) -> None:
        """Send a package: flags, status and id in hexadecimals."""
        head_ = bytes.fromhex(head)
        self.foreign.pair.peer.write(b"\xda\xbb" + head_ + len(body).to_bytes(4, "big") + body)

    def request(self, *values: Any, id: int = 7, more: bytes = b"") -> None:
        """Send a request."""
        self.raw(f"c200{id:016x}", encode(*values) + more)

    def advance(self, *seconds: float) -> None:
        """Let time pass."""
        for each in seconds:
            self.foreign.clock.advance(each)
            self.foreign.pair.flush()

    def test_badRequest(self) -> None:
        """A request that cannot be decoded is answered with status 40 and its id, and the session goes on."""
        for values, more in (
            ((), b"\x05"),
            (("2.0.2", ECHO, "", "say", "Q"), b""),
            (("2.0.2", ECHO, "", "say", "I"), b""),
        ):
            self.request(*values, more=more)
            [reply] = self.foreign.heard()
            self.assertEqual((type(reply), reply.id, reply.code, reply.details), (ErrorReply, 7, "payload", 40))
        self.request("2.0.2", ECHO, None, "say", "I", 5, {})
        [reply] = self.foreign.heard()
        self.assertEqual((reply.id, reply.payload), (7, 5))
        self.raw("82000000000000000009", b"\x05")
        self.assertEqual(self.foreign.heard(), [])
        self.assertFalse(self.foreign.peer.session.isClosed)

    def test_lateReply(self) -> None:
        """A reply for nobody, late or of no call at all, is counted and dropped; other calls go on."""
        other = Outcome(self.foreign.peer.call(ECHO, "say", "x", timeout=60.0))
        late = Outcome(self.foreign.peer.call(ECHO, "say", "y", timeout=1.0))
        requests = self.foreign.heard()
        self.advance(1.5)
        self.assertIsInstance(late.only, rpc.CallTimeoutError)
        self.foreign.say(Reply(requests[1].id & 0xFFFF, b"N"), Reply(999, b"N"), ErrorReply(998, "payload", "x"))
        self.assertEqual(self.foreign.context.late, 3)
        self.foreign.say(Reply(requests[0].id & 0xFFFF, encode("x")))
        self.assertEqual(other.only, "x")
        self.assertFalse(self.foreign.peer.session.isClosed)

    def test_badReply(self) -> None:
        """A reply that cannot be decoded fails its call, and no other."""
        outcomes = [Outcome(self.foreign.peer.call(ECHO, "say", "x")) for _ in range(2)]
        first, second = [each.id & 0xFFFF for each in self.foreign.heard()]
        self.raw(f"0214{first:016x}", b"\x91\x05a")
        self.foreign.say(Reply(second, b"N"))
        self.assertIsInstance(outcomes[0].only, rpc.PayloadError)
        self.assertIsNone(outcomes[1].only)

    def test_timeout(self) -> None:
        """A time-out ends its call only. The session is asked; it ends if it is silent, and else it is well."""
        peer = self.foreign.peer
        self.advance(0.5)
        first, second = (Outcome(peer.call(ECHO, "say", "x", timeout=each)) for each in (1.0, 20.0))
        self.foreign.heard()
        self.advance(1.1)
        self.assertIsInstance(first.only, rpc.CallTimeoutError)
        self.assertTrue(peer.isSuspect)
        self.assertFalse(peer.session.isClosed)
        self.assertEqual(second.results, [])
        [ping] = self.foreign.heard()
        self.assertIsInstance(ping, Ping)
        self.foreign.say(Pong())
        self.assertFalse(peer.isSuspect)
        self.advance(3.0)
        third = Outcome(peer.call(ECHO, "say", "x", timeout=1.0))
        self.advance(1.1, 2.5, 0.5)
        self.assertIsInstance(third.only, rpc.CallTimeoutError)
        self.assertTrue(peer.session.isClosed)
        self.assertIsInstance(second.only, rpc.CallLostError)

    def test_asyncTimesOut(self) -> None:
        """Every call has a time-out, unless None is said: also one of which nobody waits for the Deferred."""
        waiting = self.foreign.peer.call(ECHO, "$invokeAsync", "say", None, ["x"])
        self.advance(3.5)
        self.assertEqual(len(self.foreign.peer.pending), 0)
        self.failureResultOf(waiting, rpc.CallTimeoutError)

    def test_heartbeats(self) -> None:
        """A silent peer is asked, and its own are answered below the methods; any byte is a sign of life."""
        self.request("2.0.2", ECHO, "", "slow", "", {})
        self.raw("e2000000000000000042", b"N")
        self.assertEqual([type(each) for each in self.foreign.heard()], [Pong])
        self.advance(10.5)
        self.assertEqual([type(each) for each in self.foreign.heard()], [Ping])
        self.raw("a2000000000000000005", b"\x01W")
        self.advance(3.0)
        self.assertFalse(self.foreign.peer.session.isClosed)

    def test_silentCustomers(self) -> None:
        """A consumer that answers no heartbeats, as those in JavaScript, is left in peace."""
        foreign = Foreign(rpc.Dubbo(), {ECHO: Echo()}, pingInterval=10.0, pingTimeout=2.0)
        for _ in range(200):
            foreign.clock.advance(1.0)
        self.assertEqual(foreign.heard(), [])
        self.assertFalse(foreign.peer.session.isClosed)

    def test_heartbeatsOfEach(self) -> None:
        """A dead peer ends its own session, and not that of another one which is well."""
        one, other = self.foreign, Foreign(rpc.Dubbo(), {ECHO: Echo()}, pingInterval=10.0, pingTimeout=2.0)
        self.answers(other)
        for _ in range(30):
            one.clock.advance(0.5)
            other.clock.advance(0.5)
            for message in other.heard():
                self.assertIsInstance(message, Ping)
                other.say(Pong())
        self.assertTrue(one.peer.session.isClosed)
        self.assertFalse(other.peer.session.isClosed)

    def test_goingAway(self) -> None:
        """Who goes away says so; who hears it sends nothing new."""
        self.foreign.peer.goAway()
        self.assertEqual([type(each) for each in self.foreign.heard()], [GoingAway])
        self.raw("a2000000000000000005", b"\x01R")
        self.foreign.pair.flush()
        self.assertTrue(self.foreign.peer.isLeaving)

    def test_drain(self) -> None:
        """A server that stops says so, waits for the calls that are on their way, and closes."""
        self.request("2.0.2", ECHO, "", "slow", "", {})
        self.foreign.pair.flush()
        ended = self.foreign.peer.drain()
        self.assertEqual([type(each) for each in self.foreign.heard()], [GoingAway, Ping])
        self.foreign.say(Pong())
        self.assertNoResult(ended)
        self.service.waiting[0].callback("done")
        [reply] = self.foreign.heard()
        self.assertEqual(reply.payload, "done")
        self.assertTrue(self.foreign.peer.session.isClosed)

    def test_wrongMagic(self) -> None:
        """One right byte of the magic is not enough."""
        self.foreign.pair.peer.write(b"\xda\xba" + bytes(14))
        self.foreign.pair.flush()
        self.assertTrue(self.foreign.peer.session.isClosed)
        self.flushLoggedErrors()

    def test_partialHead(self) -> None:
        """A head may come in pieces, and so may what is behind it."""
        body = encode("2.0.2", ECHO, "", "say", "I", 5, {})
        data = b"\xda\xbb\xc2\0" + (1).to_bytes(8, "big") + len(body).to_bytes(4, "big") + body
        for at in range(len(data)):
            self.foreign.pair.peer.write(data[at : at + 1])
            self.foreign.pair.flush()
        [reply] = self.foreign.heard()
        self.assertEqual(reply.payload, 5)

    def test_errorBeforeLength(self) -> None:
        """Arguments that cannot be encoded are said to be such, however long the others are."""
        error = Outcome(self.foreign.peer.call(ECHO, "say", "x" * 9_000_000, object())).only
        self.assertRegex(str(error), "object")
        error = Outcome(self.foreign.peer.call(ECHO, "say", "x" * 9_000_000)).only
        self.assertRegex(str(error), "maxMsgLen")
        self.assertFalse(self.foreign.peer.session.isClosed)

    def test_attachmentsOnlyIfWanted(self) -> None:
        """A caller with an old protocol gets a reply without attachments."""
        for protocol, kind in (("2.0.2", 0x94), ("2.5.3", 0x91)):
            self.request(protocol, ECHO, "", "say", "I", 5, {})
            self.foreign.pair.flush()
            data = bytes(self.foreign.pair.peer.data)
            self.foreign.pair.peer.data.clear()
            self.assertEqual(data[16], kind)
