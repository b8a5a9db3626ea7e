"""Calls that Dubbo's wire refuses: for another version or group, and too many, which are not decoded."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.hessian import encode
from getty_tx.rpc.messages import ErrorReply, Reply
from tests.support.rpc import Foreign

ECHO = "com.ex.Echo"


class Echo:
    """A service."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.said: list[Any] = []

    @rpc.method
    def say(self, text: Any) -> Any:
        self.said.append(text)
        return text

    @rpc.method
    def slow(self) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class VersionTests(SynchronousTestCase):
    """What the wire says of a service."""

    def test_versions(self) -> None:
        """Calls for another version or group than the wire has for the service are told so."""
        wire = rpc.Dubbo(versions={ECHO: "1.0", "Plain": ""}, groups={ECHO: "blue"})
        foreign = Foreign(wire, {ECHO: Echo(), "Plain": Echo(), "Other": Echo()})
        for path, version, group, why in (
            (ECHO, "1.0", "blue", None),
            (ECHO, "2.0", "blue", f"no {ECHO} of the version '2.0': versions= of the wire has '1.0' for it"),
            (ECHO, "1.0", "red", f"no {ECHO} of the group 'red': groups= of the wire has 'blue' for it"),
            (ECHO, "1.0", None, f"no {ECHO} of the group '': groups= of the wire has 'blue' for it"),
            (ECHO, None, None, f"no {ECHO} of the version '': versions= of the wire has '1.0' for it"),
            ("Plain", "0.0.0", None, None),
            ("Plain", None, "any", None),
            ("Plain", "1", "any", "no Plain of the version '1': versions= of the wire has '' for it"),
            ("Other", "3", "any", None),
        ):
            for method, types, *values in (("say", "I", 5), ("$invoke", "III", "say", None, [5])):
                body = encode("2.0.2", path, version, method, types, *values, {"group": group} if group else {})
                foreign.pair.peer.write(b"\xda\xbb\xc2" + bytes(9) + len(body).to_bytes(4, "big") + body)
                [reply] = foreign.heard()
                if why is None:
                    self.assertEqual(reply.payload, 5)
                else:
                    self.assertEqual((reply.code, reply.text, reply.details), ("noMethod", f"there is {why}", 60))


class RefusalTests(SynchronousTestCase):
    """One call may be served at a time, and is."""

    def setUp(self) -> None:
        self.service = Echo()
        self.foreign = Foreign(rpc.Dubbo(), {ECHO: self.service}, maxCalls=1)
        self.ask(1, "slow", "")

    def ask(self, number: int, method: str, types: str, *values: Any, flags: int = 0xC2, more: bytes = b"") -> None:
        """Send a request."""
        body = encode("2.0.2", ECHO, "", method, types, *values) + more
        head = b"\xda\xbb" + bytes((flags, 0)) + number.to_bytes(8, "big") + len(body).to_bytes(4, "big")
        self.foreign.pair.peer.write(head + body)
        self.foreign.pair.flush()

    def test_undecoded(self) -> None:
        """What its arguments are is not looked at; it is said, with its id, that it was not run."""
        for number, method, types, values, more in (
            (2, "say", "I", (5, {}), b""),
            (3, "say", "Ljava/util/List;", (), b"\x51\x95"),
            (4, "$invoke", "III", (), b"\x05"),
            (5, "missing", "", ({},), b""),
        ):
            self.ask(number, method, types, *values, more=more)
            [reply] = self.foreign.heard()
            self.assertEqual((type(reply), reply.id, reply.code, reply.details), (ErrorReply, number, "refused", 100))
            self.assertEqual(reply.text, "maxCalls=1 calls are being served")
        self.ask(6, "say", "", flags=0x82)
        self.assertEqual(self.foreign.heard(), [])
        self.assertEqual((self.foreign.context.refused, self.service.said), (5, []))
        # A head that cannot be read is such, however many calls there are.
        self.ask(7, "say", "Q")
        self.assertEqual([each.code for each in self.foreign.heard()], ["payload"])

    def test_afterwards(self) -> None:
        """When the one has ended, others are served, and nothing is left of those that were refused."""
        self.ask(2, "say", "I", 5, {})
        self.service.waiting[0].callback("done")
        self.assertEqual([(type(each), each.id) for each in self.foreign.heard()], [(ErrorReply, 2), (Reply, 1)])
        self.ask(3, "say", "I", 6, {})
        [reply] = self.foreign.heard()
        self.assertEqual((reply.id, reply.payload, self.service.said), (3, 6, [6]))
        self.assertEqual((self.foreign.context.running, self.foreign.context.refused), (0, 1))
        self.assertEqual(self.foreign.peer.incoming.open, {})

    def test_full(self) -> None:
        """A session with ``maxCallsPerSession`` calls is not read, though a call over it waits for its reply."""
        foreign = Foreign(rpc.Dubbo(), {ECHO: self.service}, maxCallsPerSession=1)
        waiting = foreign.peer.call(ECHO, "say", 1)
        waiting.addErrback(lambda _: None)
        body = encode("2.0.2", ECHO, "", "slow", "", {})
        foreign.pair.peer.write(b"\xda\xbb\xc2" + bytes(9) + len(body).to_bytes(4, "big") + body)
        foreign.pair.flush()
        self.assertTrue(foreign.session.inbound.paused)
        self.service.waiting[-1].callback("done")
        self.assertEqual([each.payload for each in foreign.heard() if type(each) is Reply], ["done"])
        self.assertFalse(foreign.session.inbound.paused)

    def test_oneRead(self) -> None:
        """Calls that come in one piece with the one that fills the last place are refused, too; each once."""
        foreign = Foreign(rpc.Dubbo(), {ECHO: self.service}, maxCalls=1)
        bodies = [encode("2.0.2", ECHO, "", method, "", {}) for method in ("slow", "slow", "slow")]
        data = b"".join(
            b"\xda\xbb\xc2\0" + number.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body
            for number, body in enumerate(bodies)
        )
        foreign.pair.peer.write(data)
        self.assertEqual([(each.id, each.code) for each in foreign.heard()], [(1, "refused"), (2, "refused")])
        self.assertEqual(foreign.context.refused, 2)
