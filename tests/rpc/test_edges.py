"""Edges of calls: time-outs that are none, codes that are taken, what a lost call tells, metadata of replies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.messages import ErrorReply, Reply
from tests.rpc.test_services_on_sockets import SocketCase
from tests.support.rpc import Foreign, Outcome
from tests.support.shop import Case


class TimeoutTests(Case):
    """``timeout=``."""

    def test_noSeconds(self) -> None:
        """A mistake of the program is told at once."""
        both = self.both()
        client = rpc.Client("tcp:127.0.0.1:1")
        begins = (
            lambda timeout: both.client.call("Shop", "say", timeout=timeout),
            lambda timeout: both.client.stream("Shop", "say", timeout=timeout),
            lambda timeout: client.call("Shop", "say", timeout=timeout),
            lambda timeout: client.service("Shop").options(timeout=timeout),
        )
        for timeout in (float("inf"), float("nan"), float("-inf"), 1e10, 10**400):
            for begin in begins:
                self.assertIn("timeout=", str(self.assertRaises(SettingError, begin, timeout)))
        self.assertEqual(both.result("Shop/say", "x"), "x")

    def test_noTime(self) -> None:
        """What is left to a call may be nothing, or less."""
        both = self.both()
        for timeout in (0, -1, -0.5):
            error = self.error(both.call("Shop/say", timeout=timeout), rpc.CallTimeoutError)
            self.assertFalse(error.sent)
        rpc.Client("tcp:127.0.0.1:1").service("Shop").options(timeout=0)

    def test_longest(self) -> None:
        self.assertEqual(self.both().result("Shop/say", "x", timeout=1e9), "x")

    def test_address(self) -> None:
        both = self.both()
        outcome = both.call("Shop/wait", timeout=1)
        both.clock.advance(2)
        error = self.error(outcome, rpc.CallTimeoutError)
        self.assertIn("no reply from 192.0.2.1:8090 in time, and the peer has never said a word: does", str(error))
        both.result("Shop/say")
        outcome = both.call("Shop/wait", timeout=1)
        both.clock.advance(2)
        self.assertTrue(str(self.error(outcome, rpc.CallTimeoutError)).endswith("192.0.2.1:8090 in time"))


class CodeTests(SynchronousTestCase):
    """Codes of errors."""

    def test_taken(self) -> None:
        before = dict(rpc.RpcError.byCode)
        for code in ("lost", "internal", "refused"):
            error = self.assertRaises(SettingError, type, "Mine", (rpc.RemoteError,), {"code": code})
            self.assertIn(f"code='{code}'", str(error))
        self.assertEqual(rpc.RpcError.byCode, before)
        self.addCleanup(rpc.RpcError.byCode.pop, "test.edges")
        for _ in range(2):
            # A module that is loaded again.
            kind = type("Mine", (rpc.RemoteError,), {"code": "test.edges"})
            self.assertIs(rpc.RpcError.byCode["test.edges"], kind)


class LossTests(Case):
    """What the errors of a lost session say."""

    def test_peerOfAnotherWire(self) -> None:
        foreign = Foreign(rpc.TTHeader("bytes"))
        outcome = Outcome(foreign.peer.call("A", "b", b"x"))
        foreign.pair.peer.end()
        foreign.clock.advance(10)
        error = self.error(outcome, rpc.CallLostError)
        self.assertIn("never said a word: does it have the wire TTHeader(payload='bytes'), too, and TLS", str(error))

    def test_peerThatHasSpoken(self) -> None:
        foreign = Foreign()
        outcome = Outcome(foreign.peer.call("A", "b"))
        foreign.say(Reply(99, b"1"))
        foreign.pair.peer.end()
        foreign.clock.advance(10)
        self.assertNotIn("wire", str(self.error(outcome, rpc.CallLostError)))


class MetadataTests(Case):
    """What comes along with replies, and the length of what goes along with calls."""

    def test_ofReplies(self) -> None:
        both = self.both()
        call = both.client.call("Shop", "about")
        self.assertIsNone(call.metadata)
        both.pair.flush()
        self.assertEqual(call.metadata, {"served": "1"})
        call = both.client.call("Shop", "say")
        both.pair.flush()
        self.assertIsNone(call.metadata)

    def test_ofErrors(self) -> None:
        foreign = Foreign()
        call = foreign.peer.call("A", "b")
        outcome = Outcome(call)
        foreign.say(ErrorReply(1, "x", "y", None, {"why": "z"}))
        self.assertIs(type(outcome.only), rpc.RemoteError)
        self.assertEqual(call.metadata, {"why": "z"})
        foreign.session.close()
        foreign.clock.advance(10)

    def test_framesOfLongNames(self) -> None:
        """A frame that the other end would refuse is never sent, however short its blocks are."""
        both = self.both(server={"maxMsgLen": 5000}, client={"maxMsgLen": 5000})
        both.result("Shop/say")
        for name in ("say", "s" * 150):
            for size in range(4700, 5001, 7):
                outcome = both.call(f"Shop/{name}", "x" * size)
                self.assertFalse(both.pair.client.isClosed, f"{name} with {size} bytes")
                self.assertEqual(len(outcome.results), 1)
        self.assertEqual(both.result("Shop/say", "x"), "x")


class PoolTests(SocketCase):
    """Calls of an rpc.Client that has no session."""

    async def test_givenUp(self) -> None:
        """They fail as soon as the pool gives up, with its reason; so do those that come later."""
        client = rpc.Client(await self.closedEndpoint(), reconnectAttempts=1, reconnectInterval=0.01)
        client.startService()
        self.addCleanup(client.stopService)
        calls = [client.call("Echo", "say", timeout=None) for _ in range(3)]
        calls[1].cancel()
        await self.assertFailure(calls[1], rpc.CallCancelledError)
        for call in (calls[0], calls[2], client.call("Echo", "say", timeout=None)):
            error = await self.assertFailure(call, rpc.CallLostError)
            self.assertFalse(error.sent)
            self.assertIn("refused", str(error))
            self.assertIsNone(call.metadata)

    async def closedEndpoint(self) -> str:
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Shop": Echo()})
        server.startService()
        (address,) = await server.whenListening()
        await server.stopService()
        return f"tcp:127.0.0.1:{address.port}"

    async def test_metadataOfACallThatHasWaited(self) -> None:
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Echo": Echo()})
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}")
        client.startService()
        self.addCleanup(client.stopService)
        call = client.call("Echo", "say")
        self.assertEqual(await call, "said")
        self.assertEqual(call.metadata, {"by": "Echo"})


class Echo:
    """A service whose replies have metadata."""

    @rpc.method
    def say(self) -> str:
        rpc.currentCall().replyMetadata = {"by": "Echo"}
        return "said"
