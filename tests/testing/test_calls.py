"""connectedPeers: two peers of calls in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.testing import MemoryReactor, connectedPeers


class Echo:
    """A service."""

    def __init__(self) -> None:
        self.gate: Deferred[str] = Deferred()

    @rpc.method
    def say(self, text: Any) -> Any:
        return text

    @rpc.method
    def wait(self) -> Deferred[str]:
        return self.gate


class PeersTests(SynchronousTestCase):
    """What a user's test does with them."""

    def test_both(self) -> None:
        """Calls go both ways, to the services of the other end."""
        client, server, pair = connectedPeers({"Echo": Echo()}, {"Other": Echo()})
        replies = client.call("Echo", "say", "hi"), server.call("Other", "say", "ho")
        self.assertNoResult(replies[0])
        pair.flush()
        self.assertEqual(["hi", "ho"], [self.successResultOf(each) for each in replies])
        wrong = client.call("Other", "say", "hi"), server.call("Echo", "say", "ho")
        pair.flush()
        for each in wrong:
            self.failureResultOf(each, rpc.NoSuchMethodError)
        self.assertIs(client.session, pair.client)
        self.assertIs(server.session, pair.server)

    def test_options(self) -> None:
        """The wire, the clock and the network are those that are given."""
        clock = MemoryReactor()
        wire = rpc.TTHeader("bytes")
        client, server, pair = connectedPeers({"Echo": Echo()}, wire=wire, clock=clock, delay=1.0, split=[1])
        self.assertIs(clock, pair.clock)
        self.assertEqual((wire, wire), (client.context.wire, server.context.wire))
        reply = client.call("Echo", "say", b"hi", timeout=None)
        pair.advance(1.9)
        self.assertNoResult(reply)
        pair.advance(0.2)
        self.assertEqual(b"hi", self.successResultOf(reply))

    def test_ends(self) -> None:
        """Time, limits and losses are the test's."""
        client, server, pair = connectedPeers({"Echo": Echo()})
        server.context.maxCalls = 1
        late = client.call("Echo", "wait", timeout=5)
        refused = client.call("Echo", "wait")
        pair.flush()
        self.failureResultOf(refused, rpc.CallRefusedError)
        pair.advance(5.2)
        self.failureResultOf(late, rpc.CallTimeoutError)
        lost = client.call("Echo", "say", "hi")
        pair.reset()
        pair.flush()
        self.failureResultOf(lost, rpc.CallLostError)

    def test_refused(self) -> None:
        """What cannot be served is an error of the setting."""
        self.assertRaises(SettingError, connectedPeers, {"Echo": object()})

    def test_lazy(self) -> None:
        """Tests of sessions do not load the calls."""
        code = "import sys, getty_tx.testing; sys.exit('getty_tx.rpc' in sys.modules)"
        self.assertEqual(0, subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode)
