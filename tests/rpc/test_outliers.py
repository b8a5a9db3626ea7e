"""Providers whose calls fail are left out: rpc.Outliers, on a clock and a fake network."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.messages import ErrorReply, Reply
from tests.rpc.test_services_on_sockets import SocketCase, until
from tests.support.several import SeveralCase, nameOf


class OutlierCase(SeveralCase):
    """A client of calls, whose providers answer as a test says."""

    def calling(self, names: str, outliers: rpc.Outliers | None, number: int = 1) -> rpc.Client:
        """A started client with sessions with endpoints of a letter each."""
        endpoints = [self.named(each) for each in names]
        wire = rpc.TTHeader(payload="bytes")
        client = rpc.Client(endpoints, wire=wire, number=number, reactor=self.clock, outliers=outliers, drainTime=1)
        client.startService()
        self.addCleanup(self.ended, client)
        self.answerAll()
        self.assertEqual(len(client.pool.sessions), number * len(names))
        return client

    def ended(self, client: rpc.Client) -> None:
        """Nothing is left behind, no timer of the watch either."""
        client.stopService()
        self.clock.advance(1)
        self.finish(client.pool)

    def peersOf(self, client: rpc.Client, name: str) -> list[rpc.Peer]:
        """The peers with an endpoint."""
        return [peer for peer in client.context.peers if nameOf(peer.session) == name]

    def serve(self, client: rpc.Client, name: str, good: int, bad: int = 0, code: str = "internal") -> None:
        """Calls that an endpoint answers with a result, and with an error of that code."""
        (peer, *_) = self.peersOf(client, name)
        for i in range(good + bad):
            call = peer.call("S", "m", b"")
            call.addErrback(lambda failure: failure.trap(rpc.RpcError))
            answer = Reply(call.number, b"") if i < good else ErrorReply(call.number, code, "", None)
            peer.onMessage(peer.session, answer)

    def round(self, client: rpc.Client, good: str, bad: str = "", calls: int = 100, seconds: float = 10) -> str:
        """One interval, in which all calls to some endpoints fail. :return: the names of those that are left out."""
        for name in good:
            self.serve(client, name, calls)
        for name in bad:
            self.serve(client, name, 0, calls)
        self.clock.advance(seconds)
        return self.out(client)

    def out(self, client: rpc.Client) -> str:
        """The names of those that are left out."""
        return "".join(each.id for each in client.pool.providers if each.state == "ejected")


class RuleTests(OutlierCase):
    """Which one is an outlier."""

    def test_successRate(self) -> None:
        """One of five whose rate is far below the mean; four are too few, and so are 99 calls."""
        for names, calls, expected in (("abcde", 100, "c"), ("abcd", 100, ""), ("abcde", 99, "")):
            with self.subTest(names=names, calls=calls):
                client = self.calling(names, rpc.Outliers(failed=None))
                for name in names:
                    bad = 20 if name == "c" else 1
                    self.serve(client, name, calls - bad, bad)
                self.clock.advance(10)
                self.assertEqual(self.out(client), expected)
                picked = {nameOf(client.pool.pick()) for _ in range(50)}
                self.assertEqual(picked, set(names) - set(expected))
                self.ended(client)

    def test_deviations(self) -> None:
        """Where rates differ anyway, one that is a little lower is none."""
        client = self.calling("abcde", rpc.Outliers(failed=None))
        for name, bad in zip("abcde", (0, 10, 20, 30, 35), strict=True):
            self.serve(client, name, 100 - bad, bad)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "")

    def test_leastFailed(self) -> None:
        """A few failures are too few, though all others have none."""
        client = self.calling("abcde", rpc.Outliers())
        for name in "abde":
            self.serve(client, name, 100)
        self.serve(client, "c", 96, 4)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "")
        for name in "abde":
            self.serve(client, name, 100)
        self.serve(client, "c", 94, 6)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "c")

    def test_failures(self) -> None:
        """One of two of whose calls nearly all fail; 49 calls, and 85 of a hundred, are too few."""
        client = self.calling("ab", rpc.Outliers(deviations=None))
        self.serve(client, "a", 0, 49)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "")
        for bad, expected in ((85, ""), (86, "a")):
            self.serve(client, "a", 100 - bad, bad)
            self.serve(client, "b", 50)
            self.clock.advance(10)
            self.assertEqual(self.out(client), expected)

    def test_unknown(self) -> None:
        """The others need no calls: nothing says that they fail, too."""
        client = self.calling("ab", rpc.Outliers())
        self.assertEqual(self.round(client, "", "a"), "a")

    def test_everybody(self) -> None:
        """Where all fail, none is an outlier."""
        client = self.calling("abc", rpc.Outliers())
        self.assertEqual(self.round(client, "", "abc"), "")
        self.assertEqual(self.round(client, "c", "ab"), "a")

    def test_codes(self) -> None:
        """What tells of an unwell provider, and what is an answer or is none of its making."""
        client = self.calling("ab", rpc.Outliers(ejectTime=1))
        for code, expected in (
            ("internal", "a"),
            ("refused", "a"),
            ("deadline", "a"),
            ("noMethod", ""),
            ("payload", ""),
            ("cancelled", ""),
            ("outOfStock", ""),
        ):
            self.serve(client, "a", 0, 100, code)
            self.clock.advance(10)
            self.assertEqual(self.out(client), expected, code)
            # Its time is over, and the times in a row are forgotten.
            self.clock.pump([10, 10, 10, 10])

    def test_cancelled(self) -> None:
        """Calls that their caller cancels are not counted, not as answers either; late replies are not."""
        client = self.calling("ab", rpc.Outliers())
        (peer,) = self.peersOf(client, "a")
        self.serve(client, "a", 0, 60)
        for _ in range(100):
            call = peer.call("S", "m", b"")
            call.addErrback(lambda failure: failure.trap(rpc.CallCancelledError))
            call.cancel()
            peer.onMessage(peer.session, Reply(call.number, b""))
        self.clock.advance(10)
        self.assertEqual(self.out(client), "a")

    def test_timeouts(self) -> None:
        """Calls without a reply in time have failed."""
        client = self.calling("ab", rpc.Outliers())
        (peer,) = self.peersOf(client, "a")
        for _ in range(50):
            peer.call("S", "m", b"", timeout=0.5).addErrback(lambda failure: failure.trap(rpc.CallTimeoutError))
        self.clock.pump([1] * 10)
        self.assertEqual(self.out(client), "a")

    def test_lost(self) -> None:
        """So have those whose session is lost; the sessions of a provider count together, also later ones."""
        client = self.calling("ab", rpc.Outliers(), number=2)
        for _ in range(2):
            for peer in self.peersOf(client, "a"):
                for _ in range(15):
                    peer.call("S", "m", b"").addErrback(lambda failure: failure.trap(rpc.CallLostError))
            self.lose("a")
            self.clock.pump([0.5] * 6)
            self.answerAll()
        self.clock.advance(4)
        self.assertEqual(self.out(client), "a")


class EjectionTests(OutlierCase):
    """For how long, and how many."""

    def test_times(self) -> None:
        """30 seconds, 60 the next time in a row; one that is well comes down again."""
        client = self.calling("ab", rpc.Outliers(maxEjectTime=60))
        with capturedLogs() as events:
            self.assertEqual(self.round(client, "b", "a"), "a")
        lines = [formatEvent(event) for event in events if event["log_namespace"] == "getty_tx.client.outliers"]
        self.assertEqual(lines, ["a, b: a is left out for 30 s: 100 of 100 calls with it have failed"])
        for expected in ("a", "a", ""):
            self.assertEqual(self.round(client, "b"), expected)
        for _ in range(2):
            self.assertEqual(self.round(client, "b", "a"), "a")
            for expected in ("a", "a", "a", "a", "a", ""):
                self.assertEqual(self.round(client, "b"), expected)
        self.round(client, "ab")
        self.assertEqual(self.round(client, "b", "a"), "a")
        for expected in ("a", "a", ""):
            self.assertEqual(self.round(client, "b"), expected)

    def test_underWay(self) -> None:
        """Failures of calls that were under way do not make it longer."""
        client = self.calling("ab", rpc.Outliers())
        self.assertEqual(self.round(client, "b", "a"), "a")
        for expected in ("a", "a", ""):
            self.assertEqual(self.round(client, "b", "a" if expected else ""), expected)

    def test_most(self) -> None:
        """A tenth, the worst first; of fewer than twenty one."""
        names = "abcdefghijklmnopqrst"
        client = self.calling(names, rpc.Outliers())
        for name in names[4:]:
            self.serve(client, name, 100)
        for name, bad in zip(names, (88, 92, 96, 90), strict=False):
            self.serve(client, name, 100 - bad, bad)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "bc")

    def test_last(self) -> None:
        """The last open one is left in, and one that the application has ejected stays out as long as that says."""
        client = self.calling("ab", rpc.Outliers())
        self.lose("b")
        self.assertEqual(self.round(client, "", "a"), "")
        self.answerAll()
        client.pool.eject("a", 15)
        self.assertEqual(self.round(client, "b", "a"), "a")
        self.assertEqual(self.round(client, "b"), "")

    def test_gone(self) -> None:
        """What is known of a provider goes with it, and all of it with the service."""
        client = self.calling("abc", rpc.Outliers())
        self.serve(client, "a", 0, 49)
        client.stopService()
        self.clock.advance(1)
        client.startService()
        self.answerAll()
        self.serve(client, "a", 0, 49)
        self.clock.advance(10)
        self.assertEqual(self.out(client), "")


class SettingTests(OutlierCase):
    """What may be set."""

    def test_off(self) -> None:
        """Nothing is left out unless it is asked for, nor where there is one endpoint; then nothing is counted."""
        client = self.calling("ab", None)
        self.assertEqual(self.round(client, "b", "a"), "")
        self.assertEqual({peer.tally for peer in client.context.peers}, {None})
        self.ended(client)
        one = self.calling("a", rpc.Outliers())
        self.assertEqual({peer.tally for peer in one.context.peers}, {None})
        self.assertIsNone(one.pool.providerOf(one.pool.sessions[0]))

    def test_invalid(self) -> None:
        """The error names the setting."""
        wrong: list[dict[str, Any]] = [
            {"interval": 0},
            {"ejectTime": -1},
            {"maxEjectTime": "1"},
            {"hosts": 0},
            {"calls": 1.5},
            {"failedCalls": None},
            {"leastFailed": 1.1},
            {"deviations": -1},
            {"deviations": True},
            {"failed": float("nan")},
            {"failed": 85},
        ]
        for each in wrong:
            (name,) = each
            self.assertIn(f"{name}=", str(self.assertRaises(SettingError, rpc.Outliers, **each)))
        self.assertRaises(SettingError, rpc.Outliers, failed=None, deviations=None)
        self.assertRaises(SettingError, rpc.Outliers, ejectTime=60, maxEjectTime=30)
        other: Any = True
        self.assertRaises(SettingError, rpc.Client, "tcp:a:1", outliers=other)
        frozen: Any = rpc.Outliers()
        with self.assertRaises(AttributeError):
            frozen.hosts = 3


class Broken:
    """A service of which one provider is broken."""

    def __init__(self, isBroken: bool) -> None:
        self.isBroken = isBroken
        self.ran = 0

    @rpc.method
    def say(self, text: str) -> str:
        """Fail, or not."""
        self.ran += 1
        if self.isBroken:
            raise OSError("the disk is full")
        return text


class SocketTests(SocketCase):
    """On sockets."""

    async def test_broken(self) -> None:
        """One of three whose method raises is called no more."""
        services = [Broken(isBroken) for isBroken in (False, True, False)]
        endpoints = []
        for service in services:
            server = rpc.Server("tcp:0:interface=127.0.0.1", {"Echo": service})
            server.startService()
            self.addCleanup(server.stopService)
            (address,) = await server.whenListening()
            endpoints.append(f"tcp:127.0.0.1:{address.port}")
        client = self.dial(endpoints, outliers=rpc.Outliers(interval=0.2, failedCalls=10))
        await client.whenReady(3)
        for _ in range(60):
            call = client.call("Echo", "say", "x")
            await call.addErrback(lambda failure: failure.trap(rpc.RemoteError))
        self.assertGreaterEqual(services[1].ran, 10)
        await until(lambda: client.pool.providers[1].state == "ejected")
        ran = services[1].ran
        for _ in range(20):
            self.assertEqual(await client.call("Echo", "say", "x"), "x")
        self.assertEqual(services[1].ran, ran)
        self.flushLoggedErrors(OSError)
