"""A server of Thrift that goes away: what clients of Kitex hear, and what a client here does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx import rpc
from getty_tx.rpc.messages import GoingAway, Reply
from getty_tx.rpc.wires.kitex import KitexCodec
from tests.rpc import test_thrift
from tests.rpc.test_kitex import CALL, LEAVING, hexed
from tests.rpc.test_thrift import call
from tests.support.rpc import Both, Foreign, Outcome


class LeavingCase(test_thrift.ThriftCase):
    """Serves an Echo whose replies wait for the test."""

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[Deferred[str]] = []

        class Echo:
            @rpc.method
            def echo(_, text: str) -> Any:
                self.waiting.append(Deferred())
                return self.waiting[-1]

        self.services = {"Echo": Echo()}

    def foreign(self, *data: bytes) -> Foreign:
        """A server of the wire that takes all, which has heard so much."""
        foreign = Foreign(self.wire, self.services)
        self.addCleanup(foreign.clock.advance, 30)
        self.addCleanup(foreign.session.close)
        foreign.codec = self.wire.ttheader.codec()
        foreign.pair.peer.write(b"".join(data))
        foreign.pair.flush()
        self.ended: list[Any] = []
        return foreign

    def said(self, foreign: Foreign) -> bytes:
        """The bytes of the server since this was last asked."""
        foreign.pair.flush()
        data = bytes(foreign.pair.peer.data)
        foreign.pair.peer.data.clear()
        return data

    def drain(self, foreign: Foreign) -> None:
        foreign.peer.drain().addCallback(self.ended.append)
        foreign.clock.advance(1)
        foreign.pair.flush()


class ServerTests(LeavingCase):
    """What goes out."""

    def test_mixing(self) -> None:
        """A client that mixes calls has the notice at once; all of its calls are answered, and those behind it."""
        two = CALL.replace("00000001", "00000002")
        foreign = self.foreign(hexed(CALL))
        self.drain(foreign)
        self.assertEqual(self.said(foreign), hexed(LEAVING))
        foreign.pair.peer.write(hexed(two))
        foreign.pair.flush()
        self.assertEqual(len(self.waiting), 2)
        self.waiting[1].callback("second")
        self.assertFalse(foreign.session.isClosed)
        self.waiting[0].callback("first")
        replies = foreign.heard()
        self.assertEqual([(type(each), each.id) for each in replies], [(Reply, 2), (Reply, 1)])
        self.assertTrue(foreign.session.isClosed)

    def test_oneByOne(self) -> None:
        """One that has a call at a time has it in the reply, and no other frame."""
        foreign = self.foreign(hexed(CALL.replace("1000 0001", "1000 0000")))
        self.drain(foreign)
        self.assertEqual(self.said(foreign), b"")
        self.waiting[0].callback("hi")
        [notice] = foreign.heard()
        self.assertEqual((type(notice), type(notice.message), notice.message.id), (GoingAway, Reply, 1))
        self.assertTrue(foreign.session.isClosed)

    def test_silent(self) -> None:
        """One that has not said how it speaks hears nothing, and one that is framed no more than its replies."""
        foreign = self.foreign()
        self.drain(foreign)
        self.assertEqual(self.said(foreign), b"")
        self.assertTrue(foreign.session.isClosed)
        # The third is not read until the first has its reply.
        foreign = self.foreign(*(call(0, text) for text in "abc"))
        self.drain(foreign)
        self.assertEqual(self.said(foreign), b"")
        for n, text in enumerate("abc"):
            self.assertFalse(foreign.session.isClosed)
            self.waiting[n].callback(text)
        answers = b"".join(call(0, text) for text in "abc")
        answers = answers.replace(b"\x80\1\0\1", b"\x80\1\0\2").replace(b"\x0b\0\1", b"\x0b\0\0")
        self.assertEqual(self.said(foreign), answers)
        self.assertTrue(foreign.session.isClosed)


class ClientTests(LeavingCase):
    """What a client does that hears it."""

    def test_pending(self) -> None:
        """It loses no reply that it waits for, from a server of getty_tx, and then the session ends."""
        both = Both(self.services, wire=self.wire.ttheader)
        self.assertIs(type(both.client.codec), KitexCodec)
        outcomes = [both.call("Echo/echo", text) for text in "ab"]
        drained = Outcome(both.server.drain())
        both.pair.flush()
        self.assertTrue(both.client.isLeaving)
        self.waiting[1].callback("second")
        both.pair.flush()
        self.assertEqual((outcomes[1].only, both.client.session.isClosed), ("second", False))
        self.waiting[0].callback("first")
        both.pair.flush()
        both.clock.advance(30)
        both.pair.flush()
        self.assertEqual((outcomes[0].only, drained.results), ("first", [None]))
        self.assertEqual(both.leftovers(), [])

    def test_foreign(self) -> None:
        """It loses none of a server of Kitex, which says so in a frame of its own and closes when it has answered."""
        foreign = Foreign(self.wire.ttheader)
        self.addCleanup(foreign.clock.advance, 30)
        outcomes = [Outcome(foreign.peer.call("Echo", "echo", text)) for text in "ab"]
        foreign.pair.flush()
        foreign.pair.peer.write(hexed(LEAVING))
        foreign.pair.flush()
        self.assertTrue(foreign.peer.isLeaving)
        self.assertEqual([each.results for each in outcomes], [[], []])
        payload = self.payload.encodeResult("Echo/echo", "hi")
        foreign.say(Reply(2, payload), Reply(1, payload))
        foreign.pair.peer.end()
        foreign.pair.flush()
        self.assertEqual([each.only for each in outcomes], ["hi", "hi"])
        self.assertEqual(foreign.peer.pending, {})
