"""Calls over the wire of Seata, and that the defects of its client in Go are not here."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.rpc import seata
from getty_tx.rpc.messages import ErrorReply, Ping, Pong, Reply, Request
from tests.rpc.test_seata_wire import BEGIN, BEGUN, DELETE, PING, PONG, REGISTER, frame
from tests.support.rpc import Both, Foreign, Outcome

TM = seata.RegisterTM("2.0.0", "app", "grp")
RM = seata.RegisterRM("2.0.0", "app", "grp", resources="db")


class Coordinator:
    """As much of one as the tests need."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.waiting: list[Deferred[Any]] = []
        self.takes = True

    @rpc.method(name="RegisterTM")
    def registerTM(self, message: seata.RegisterTM) -> seata.RegisterTMResult:
        self.seen.append(message)
        return seata.RegisterTMResult(self.takes)

    @rpc.method(name="RegisterRM")
    def registerRM(self, message: seata.RegisterRM) -> seata.RegisterRMResult:
        self.seen.append(message)
        return seata.RegisterRMResult(self.takes)

    @rpc.method(name="GlobalBegin")
    def begin(self, message: seata.GlobalBegin) -> seata.GlobalBeginResult:
        self.seen.append(message)
        rpc.currentCall().replyMetadata = dict(rpc.currentCall().metadata) or None
        if message.name == "fails":
            raise rpc.RemoteError("no more of them", code="BeginFailed")
        if message.name == "boom":
            raise ZeroDivisionError("secret")
        if message.name == "says so":
            return seata.GlobalBeginResult(succeeded=False, text="no", exception=seata.ExceptionCode.IO)
        if message.name == "nonsense":
            return seata.GlobalCommitResult()  # type: ignore[return-value]
        return seata.GlobalBeginResult("127.0.0.1:8091:1")

    @rpc.method(name="GlobalCommit")
    async def commit(self, message: seata.GlobalCommit) -> seata.GlobalCommitResult:
        branch = seata.BranchCommit(message.xid, 7, seata.BranchType.TCC, "db")
        result = await rpc.currentCall().peer.call("seata", "BranchCommit", branch)
        self.seen.append(result)
        return seata.GlobalCommitResult(seata.GlobalStatus.Committed)

    @rpc.method(name="GlobalStatusQuery")
    def status(self, message: seata.GlobalStatusQuery) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method(name="MergedMessages")
    def merged(self, message: seata.MergedMessages) -> Any:
        answers: list[seata.Message] = [seata.BranchReportResult() for _ in message.messages]
        return seata.BatchResult(answers, message.ids) if message.ids else seata.MergedResults(answers)

    @rpc.method(name="GlobalReport")
    def report(self, message: seata.GlobalReport) -> seata.GlobalReportResult:
        self.seen.append(message)
        return seata.GlobalReportResult(message.status)


class Resources:
    """An RM."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.waiting: list[Deferred[Any]] = []
        self.error: Exception | None = None

    @rpc.method(name="BranchCommit")
    def commit(self, message: seata.BranchCommit) -> Any:
        self.seen.append(message)
        if self.error is not None:
            raise self.error
        return seata.BranchCommitResult(message.xid, message.branch, seata.BranchStatus.PhaseTwo_Committed)

    @rpc.method(name="BranchRollback")
    def rollback(self, message: seata.BranchRollback) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method(name="DeleteUndoLog")
    def forget(self, message: seata.DeleteUndoLog) -> None:
        self.seen.append(message)


class CallsCase(SynchronousTestCase):
    """A coordinator, and a client that has resources."""

    def setUp(self) -> None:
        self.coordinator = Coordinator()
        self.resources = Resources()
        self.both = self.connect()

    def connect(self, register: Any = (), **server: Any) -> Both:
        services = {"seata": self.coordinator}
        return Both(services, {"seata": self.resources}, wire=rpc.Seata(register=register), server=server)

    def result(self, message: Any, **options: Any) -> Any:
        """What a call from the client's end gives at once."""
        return self.both.result(f"seata/{type(message).__name__}", message, **options)


class CallTests(CallsCase):
    """What calls give."""

    def test_result(self) -> None:
        """A message goes, and one comes."""
        self.assertEqual(self.result(seata.GlobalBegin(30.0, "tx")), seata.GlobalBeginResult("127.0.0.1:8091:1"))
        self.assertEqual(self.coordinator.seen, [seata.GlobalBegin(30.0, "tx")])
        self.both.client.session.close()
        self.both.pair.flush()
        self.both.clock.advance(10)
        self.assertEqual(self.both.leftovers(), [])

    def test_bothWays(self) -> None:
        """The coordinator calls whoever has called it, over the same session."""
        self.assertEqual(self.result(seata.GlobalCommit("x")), seata.GlobalCommitResult(seata.GlobalStatus.Committed))
        self.assertEqual(self.resources.seen, [seata.BranchCommit("x", 7, seata.BranchType.TCC, "db")])
        self.assertEqual(
            self.coordinator.seen, [seata.BranchCommitResult("x", 7, seata.BranchStatus.PhaseTwo_Committed)]
        )

    def test_manyEnds(self) -> None:
        """More commits than run at a time, each of which waits for its branch over the session that they came from."""
        both = self.connect(maxCallsPerSession=2)
        outcomes = [Outcome(both.client.call("seata", "GlobalCommit", seata.GlobalCommit(f"x{n}"))) for n in range(20)]
        both.pair.flush()
        self.assertEqual([each.only.status for each in outcomes], [seata.GlobalStatus.Committed] * 20)
        self.assertEqual([each.xid for each in self.resources.seen], [f"x{n}" for n in range(20)])

    def test_errors(self) -> None:
        """What a method raises, or says to have failed, is a RemoteError with Seata's code, and the result in it."""
        error = self.result(seata.GlobalBegin(name="fails"))
        self.assertEqual((type(error), error.code, str(error)), (rpc.RemoteError, "BeginFailed", "no more of them"))
        self.assertEqual(error.details.exception, seata.ExceptionCode.BeginFailed)
        error = self.result(seata.GlobalBegin(name="says so"))
        self.assertEqual((error.code, str(error), error.details.succeeded), ("IO", "no", False))
        error = self.result(seata.GlobalBegin(name="boom"))
        self.assertEqual((error.code, str(error)), ("Unknown", "seata/GlobalBegin failed: ZeroDivisionError"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        error = self.result(seata.BranchRegister("x"))
        self.assertEqual((error.code, str(error)), ("Unknown", "there is no seata/BranchRegister"))
        self.resources.error = rpc.RemoteError("no such branch", code="BranchTransactionNotExist")
        error = self.result(seata.GlobalCommit("x"))
        # It is the commit's own failure, as the method has let it pass.
        self.assertEqual((error.code, str(error)), ("BranchTransactionNotExist", "no such branch"))

    def test_wrongMessages(self) -> None:
        """Other arguments, names and results are errors of the call alone."""
        for name, arguments, why in (
            ("seata/GlobalBegin", (), r"seata/GlobalBegin takes one GlobalBegin, not \(\)"),
            ("seata/GlobalBegin", (seata.GlobalCommit(),), "takes one GlobalBegin, not .GlobalCommit"),
            ("seata/Nothing", (seata.GlobalCommit(),), "seata/Nothing: Seata's wire has calls such as"),
            ("rpc/describe", (), "rpc/describe: Seata's wire has calls such as"),
            ("seata/DeleteUndoLog", (seata.DeleteUndoLog(),), "has no result"),
            ("seata/GlobalBegin", (seata.GlobalBegin(name="x" * 40_000),), "are above the 32767"),
        ):
            error = self.both.result(name, *arguments)
            self.assertRegex(str(error), why)
            self.assertEqual((type(error), error.sent), (rpc.PayloadError, False))
        error = self.result(seata.GlobalBegin(name="nonsense"))
        self.assertRegex(str(error), "is answered by GlobalBeginResult, not by GlobalCommitResult")
        self.flushLoggedErrors()
        foreign = Foreign(rpc.Seata())
        outcome = Outcome(foreign.peer.call("seata", "GlobalBegin", seata.GlobalBegin()))
        [request] = foreign.heard()
        foreign.say(Reply(request.id, seata.encode(seata.BranchReportResult())))
        self.assertRegex(str(outcome.only), "is answered by GlobalBeginResult, not by BranchReportResult")

    def test_services(self) -> None:
        """What no frame can call is refused when the server is made."""

        class Wrong:
            @rpc.method
            def begin(self, message: Any) -> None: ...

        class Many:
            @rpc.method
            def GlobalBegin(self, name: str, seconds: float) -> None: ...

        for services, why in (
            ({"tc": Coordinator()}, "no calls of tc/.*: it takes services={'seata': ...}"),
            ({"seata": Wrong()}, "no calls of seata/begin: it takes .* such as GlobalBegin$"),
            ({"seata": Many()}, "^seata/GlobalBegin is called with one message"),
        ):
            with self.assertRaisesRegex(SettingError, why):
                rpc.Server("tcp:0", services, wire=rpc.Seata())

    def test_sent(self) -> None:
        """What is sent has no answer that somebody waits for; what has one is answered all the same, and dropped."""
        self.both.server.send("seata", "DeleteUndoLog", seata.DeleteUndoLog(0, "db"))
        self.both.client.send("seata", "GlobalReport", seata.GlobalReport("x", "", 9))
        self.both.pair.flush()
        self.assertEqual(self.resources.seen, [seata.DeleteUndoLog(0, "db")])
        self.assertEqual(self.coordinator.seen, [seata.GlobalReport("x", "", 9)])
        self.assertEqual((self.both.client.context.late, self.both.server.context.late), (1, 0))

    def test_metadata(self) -> None:
        """Metadata goes with a request and with a result, and with an error."""
        for name in ("tx", "fails"):
            message = seata.GlobalBegin(name=name)
            waiting = self.both.client.call("seata", "GlobalBegin", message, metadata={"a": "b"})
            waiting.addErrback(lambda _: None)
            self.both.pair.flush()
            self.assertEqual(waiting.metadata, {"a": "b"})

    def test_merged(self) -> None:
        """Merged requests have the results that they get, in one message."""
        reports: list[seata.Message] = [seata.BranchReport("x"), seata.BranchReport("y")]
        answers: list[seata.Message] = [seata.BranchReportResult()] * 2
        self.assertEqual(self.result(seata.MergedMessages(reports)), seata.MergedResults(answers))
        self.assertEqual(self.result(seata.MergedMessages(reports, [5, 6])), seata.BatchResult(answers, [5, 6]))
        # The other end has no method for them.
        message = seata.MergedMessages([seata.BranchRegister("x")])
        outcome = Outcome(self.both.server.call("seata", "MergedMessages", message))
        self.both.pair.flush()
        refused = seata.BranchRegisterResult(succeeded=False, text="there is no seata/MergedMessages")
        self.assertEqual(outcome.only, seata.MergedResults([refused]))


class RegisterTests(CallsCase):
    """What a client sends first."""

    def test_first(self) -> None:
        """Both registrations come before any call, from the end that has dialled."""
        both = self.connect([TM, RM])
        outcome = Outcome(both.client.call("seata", "GlobalBegin", seata.GlobalBegin()))
        both.pair.flush()
        self.assertEqual(self.coordinator.seen, [TM, RM, seata.GlobalBegin()])
        self.assertEqual(outcome.only.xid, "127.0.0.1:8091:1")
        self.assertFalse(both.client.pending or both.server.pending)
        # The other end has the same wire, and does not.
        self.assertIsNone(both.server.session.error)
        self.assertEqual(both.pair.server.context.calls["client"], {})

    def test_notTaken(self) -> None:
        """A session whose coordinator refuses it fails, with what it has refused; a call says so."""
        self.coordinator.takes = False
        both = self.connect([TM, RM])
        outcome = Outcome(both.client.call("seata", "GlobalStatusQuery", seata.GlobalStatusQuery()))
        both.pair.flush()
        self.assertTrue(both.client.session.isClosed)
        error: Any = both.client.session.error
        self.assertRegex(str(error), r"the coordinator refuses RegisterTM\(version='2.0.0', application='app'")
        self.assertEqual((error.code, error.details), ("notIdentified", seata.RegisterTMResult(False)))
        self.assertIs(outcome.only.__cause__, error)

    def test_noAnswer(self) -> None:
        """So does one whose coordinator does not answer in 20 s, however long calls wait; a lost one is just that."""
        options = {"timeout": None, "pingInterval": None}
        both = Both({"seata": self.coordinator}, wire=rpc.Seata(register=TM), client=options)
        self.patch(both.server.session.listener, "onMessage", lambda session, message: None)
        both.pair.flush()
        both.clock.advance(15)
        self.assertIsNone(both.client.session.error)
        both.clock.advance(6)
        self.assertIsInstance(both.client.session.error, rpc.CallTimeoutError)
        both = self.connect(TM)
        both.server.session.close()
        both.pair.flush()
        self.assertIsNone(both.client.session.error)

    def test_others(self) -> None:
        """A request of a stranger that registers one-way is answered; so is one that nobody knows, with nothing."""
        foreign = Foreign(rpc.Seata(), {"seata": self.coordinator})
        foreign.pair.peer.write(REGISTER + frame(bytes.fromhex("007a 0102")) + BEGIN)
        foreign.pair.flush()
        self.assertEqual(
            bytes(foreign.pair.peer.data),
            bytes.fromhex("dada 01 0000001a 0010 01 01 00 00000003 0066 01 0005 322e302e30") + BEGUN,
        )


class DefectTests(CallsCase):
    """What seata-go does is not done here."""

    def foreign(self, **options: Any) -> Foreign:
        return Foreign(rpc.Seata(), {"seata": self.resources}, **options)

    def test_idsOfHeartbeats(self) -> None:
        """Answers to heartbeats are no answers to calls, whatever their id; heartbeats have none of the calls'."""
        foreign = self.foreign(pingInterval=5, pingTimeout=2)
        outcome = Outcome(foreign.peer.call("seata", "GlobalCommit", seata.GlobalCommit("x"), timeout=60))
        [request] = foreign.heard()
        foreign.clock.advance(6)
        foreign.pair.flush()
        self.assertEqual(bytes(foreign.pair.peer.data), PING[:12] + bytes(4))
        self.assertEqual([type(each) for each in foreign.heard()], [Ping])
        foreign.pair.peer.write(PONG)
        foreign.pair.flush()
        self.assertEqual((outcome.results, list(foreign.peer.pending)), ([], [1]))
        foreign.say(Reply(request.id, seata.encode(seata.GlobalCommitResult(9))))
        self.assertEqual(outcome.only.status, 9)

    def test_idsOfDirections(self) -> None:
        """The ids of both directions are independent."""
        there = [Outcome(self.both.client.call("seata", "GlobalStatusQuery", seata.GlobalStatusQuery())) for _ in "abc"]
        back = [Outcome(self.both.server.call("seata", "BranchRollback", seata.BranchRollback())) for _ in "abc"]
        self.both.pair.flush()
        self.assertEqual(list(self.both.client.pending), list(self.both.server.pending))
        for number in (2, 0, 1):
            self.coordinator.waiting[number].callback(seata.GlobalStatusQueryResult(number))
            self.resources.waiting[number].callback(seata.BranchRollbackResult(str(number)))
        self.both.pair.flush()
        self.assertEqual([each.only.status for each in there], [0, 1, 2])
        self.assertEqual([each.only.xid for each in back], ["0", "1", "2"])

    def test_idsOfCoordinators(self) -> None:
        """Calls of an end that was dialled have other ids than those to it: answers take the place of calls in Go."""
        foreign = self.foreign()
        foreign.say(Request(1, "seata/BranchRollback", seata.encode(seata.BranchRollback("x"))))
        outcome = Outcome(foreign.peer.call("seata", "BranchRollback", seata.BranchRollback("y")))
        [request] = foreign.heard()
        self.assertEqual((request.id & 0xFFFFFFFF, list(foreign.peer.pending)), (0x40000001, [1]))
        answer = seata.encode(seata.BranchRollbackResult("y"))
        # The other end's id is none of this end's.
        foreign.say(Reply(1, answer))
        self.assertEqual((outcome.results, foreign.context.late), ([], 1))
        foreign.say(Reply(0x40000001, answer))
        self.assertEqual((outcome.only.xid, foreign.peer.pending), ("y", {}))
        self.resources.waiting[0].callback(seata.BranchRollbackResult("x"))
        [reply] = foreign.heard()
        self.assertEqual((reply.id, seata.decode(reply.payload).xid), (1, "x"))

    def test_nothingIsKept(self) -> None:
        """Neither time-outs, nor what is one-way, nor answers and heartbeats, leave an entry behind."""
        foreign = self.foreign(pingInterval=1, pingTimeout=1)
        for _ in range(20):
            Outcome(foreign.peer.call("seata", "GlobalCommit", seata.GlobalCommit("x"), timeout=0.5))
            foreign.peer.send("seata", "GlobalReport", seata.GlobalReport())
            foreign.say(Ping())
            foreign.clock.advance(1)
            foreign.pair.peer.write(DELETE)
            foreign.pair.flush()
        kinds = [type(each) for each in foreign.heard()]
        self.assertEqual((kinds.count(Pong), kinds.count(Request)), (20, 40))
        self.assertEqual((foreign.peer.pending, foreign.peer.incoming.open), ({}, {}))
        self.assertIsNone(foreign.peer.codec._asked)
        # An answer that comes after all.
        foreign.say(Reply(1, seata.encode(seata.GlobalCommitResult())))
        self.assertEqual(foreign.context.late, 1)

    def test_shortReads(self) -> None:
        """Fewer than 16 bytes, and one alone, are the beginning of a frame."""
        foreign = self.foreign()
        call = frame(seata.encode(seata.BranchCommit("x", 7)), number=5)
        for byte in call + PING:
            foreign.pair.peer.write(bytes([byte]))
            foreign.pair.flush()
        reply, pong = foreign.heard()
        self.assertEqual((type(pong), reply.id), (Pong, 5))
        self.assertEqual(seata.decode(reply.payload), seata.BranchCommitResult("x", 7, 5))

    def test_bodiesEnd(self) -> None:
        """A body ends with its frame, though others are behind it; one that is too short is answered."""
        foreign = self.foreign()
        body = seata.encode(seata.BranchCommit("x", 7))
        foreign.pair.peer.write(b"".join(frame(each, number=3) for each in (body, body[:-1], body + b"\0", body)))
        first, short, long, last = foreign.heard()
        self.assertEqual(first.payload, last.payload)
        self.assertRegex(short.text, "BranchCommit of 19 bytes ends within a field")
        self.assertEqual(long.payload, last.payload)
        self.assertEqual(self.resources.seen, [seata.BranchCommit("x", 7)] * 3)

    def test_lengthsOfTexts(self) -> None:
        """The text of a failure has a length of 16 bits in every result: 300 bytes come whole."""
        self.resources.error = rpc.RemoteError("x" * 300)
        foreign = self.foreign()
        foreign.say(Request(1, "", seata.encode(seata.BranchCommit("x"))))
        [error] = foreign.heard()
        self.assertEqual((type(error), error.text), (ErrorReply, "x" * 300))
        for kind in (seata.BranchCommitResult, seata.BranchRollbackResult, seata.GlobalLockQueryResult):
            data = seata.encode(kind(succeeded=False, text="x" * 300))
            self.assertEqual(data[2:5], b"\0\x01\x2c")

    def test_null(self) -> None:
        """A length of 0xffff is null, in a map and in a body."""
        foreign = self.foreign()
        body = bytes.fromhex("0003 ffff 0000000000000007 00 ffff ffffffff")
        foreign.pair.peer.write(frame(body, block=bytes.fromhex("0001 61 ffff")))
        [reply] = foreign.heard()
        self.assertEqual(seata.decode(reply.payload), seata.BranchCommitResult("", 7, 5))

    def test_compressed(self) -> None:
        """A body that is compressed is read, and the answer is as this end has it."""
        packed = rpc.Seata(compressor="gzip").codec()
        foreign = self.foreign()
        request = Request(1, "", seata.encode(seata.BranchCommit("x" * 1000, 7)))
        data = packed.write(foreign.session, request)
        self.assertLess(len(data), 200)
        foreign.pair.peer.write(data)
        [reply] = foreign.heard()
        self.assertEqual(seata.decode(reply.payload), seata.BranchCommitResult("x" * 1000, 7, 5))

    def test_headLengths(self) -> None:
        """A head below 16 bytes, or above its frame, ends the session, and its calls."""
        for head in (0, 15, 200):
            foreign = self.foreign()
            outcome = Outcome(foreign.peer.call("seata", "GlobalCommit", seata.GlobalCommit("x")))
            foreign.pair.peer.write(BEGIN[:7] + head.to_bytes(2) + BEGIN[9:])
            foreign.pair.flush()
            self.assertIsInstance(outcome.only, rpc.CallLostError)
            self.assertIsInstance(outcome.only.__cause__, CodecError)

    def test_headMap(self) -> None:
        """The map is behind the id, ends with the head, and the body begins there; seata-golang cuts it wrongly."""
        seen: list[Any] = []

        class Metadata(Resources):
            @rpc.method(name="BranchCommit")
            def commit(self, message: seata.BranchCommit) -> Any:
                seen.append((message, dict(rpc.currentCall().metadata)))
                return super().commit(message)

        foreign = Foreign(rpc.Seata(), {"seata": Metadata()})
        commit = seata.BranchCommit("x", 7)
        for pairs in ({}, {"k": "v"}, {"": ""}, {"k": "v" * 300, "xid": "x"}):
            block = b"".join(len(text).to_bytes(2) + text.encode() for pair in pairs.items() for text in pair)
            data = frame(seata.encode(commit), block=block)
            foreign.pair.peer.write(data[:20])
            foreign.pair.flush()
            foreign.pair.peer.write(data[20:] + PING)
            self.assertEqual([type(each) for each in foreign.heard()], [Reply, Pong])
            self.assertEqual(seen.pop(), (commit, pairs))

    def test_limits(self) -> None:
        """A frame above maxMsgLen ends the session when its head has come."""
        foreign = self.foreign(maxMsgLen=4096)
        foreign.pair.peer.write(BEGIN[:3] + (5000).to_bytes(4) + BEGIN[7:16])
        foreign.pair.flush()
        self.assertRegex(str(foreign.session.error), "5000 bytes")


class SocketTests(TestCase):
    """A whole server and a whole client."""

    async def connect(self, coordinator: Coordinator, resources: Resources) -> tuple[rpc.Server, rpc.Client]:
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"seata": coordinator}, wire=rpc.Seata())
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        endpoint = f"tcp:127.0.0.1:{address.port}"  # type: ignore[attr-defined]
        wire = rpc.Seata(register=(TM, RM), compressor="deflate")
        services = {"seata": resources}
        client = rpc.Client(endpoint, wire=wire, services=services, timeout=60, reconnectInterval=0.01)
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady(timeout=30)
        return server, client

    async def test_again(self) -> None:
        """A client registers in each session, before the calls that have waited for one."""
        coordinator = Coordinator()
        server, client = await self.connect(coordinator, Resources())
        for number in range(3):
            begin = seata.GlobalBegin(30, str(number))
            await client.call("seata", "GlobalBegin", begin)
            self.assertEqual(coordinator.seen, [TM, RM, begin])
            coordinator.seen.clear()
            [peer] = server.context.peers
            peer.session.abort()
            while client.context.peers:
                await task.deferLater(reactor, 0.001)

    async def test_calls(self) -> None:
        """A client that registers, calls, and is called."""
        coordinator, resources = Coordinator(), Resources()
        _, client = await self.connect(coordinator, resources)
        tc = client.service("seata")
        begun = await tc.GlobalBegin(seata.GlobalBegin(30, "tx" * 5000))
        done = await tc.GlobalCommit(seata.GlobalCommit(begun.xid))
        self.assertEqual(done.status, seata.GlobalStatus.Committed)
        self.assertEqual(
            [type(each).__name__ for each in coordinator.seen[:3]], ["RegisterTM", "RegisterRM", "GlobalBegin"]
        )
        self.assertEqual(resources.seen[0].xid, begun.xid)
