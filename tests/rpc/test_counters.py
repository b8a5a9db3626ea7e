"""The counters of calls, and what the status shows of them."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc.messages import Request
from getty_tx.status.calls import CallTotals, decodeCalls, encodeCalls
from getty_tx.status.merging import decodeSnapshot, emptySnapshot, encodeSnapshot, mergeEnded, mergeInto
from getty_tx.status.metrics import encode
from getty_tx.status.snapshot import ServiceSnapshot, Snapshot, walk
from tests.rpc.test_services_on_sockets import SocketCase, until


def snapshotOf(name: str, service: Any) -> ServiceSnapshot:
    """A snapshot of a service."""
    return next(found for found in walk(name, service) if found is not None)


class CountingTests(SocketCase):
    """Both sides count each call once."""

    async def test_counted(self) -> None:
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        for number in range(20):
            await client.call("Echo", "say", f"{number}")
        for name, arguments, options in (("nope", (), {}), ("say", (), {}), ("wait", ("1",), {"timeout": 0.02})):
            with self.assertRaises(rpc.RpcError):
                await client.call("Echo", name, *arguments, **options)
        open = client.call("Echo", "wait", "2")
        await until(lambda: len(echo.gates) == 2)
        both = [snapshotOf("echo", service).calls for service in (server.server, client.pool)]
        for side, calls in zip(("server", "client"), both, strict=True):
            say, wait = calls[side, "Echo/say"], calls[side, "Echo/wait"]
            self.assertEqual((say.done, say.failed, say.running), (20, {"payload": 1}, 0))
            self.assertEqual(say.seconds.count, 2)
            self.assertEqual((wait.done, wait.failed, wait.running), (0, {"deadline": 1}, 1))
        # What a peer calls what there is not is not counted by name.
        self.assertEqual(both[0]["server", ""].failed, {"noMethod": 1})
        open.cancel()
        with self.assertRaises(rpc.CallCancelledError):
            await open
        await until(lambda: not server.context.running)
        for side, service in (("server", server.server), ("client", client.pool)):
            wait = snapshotOf("echo", service).calls[side, "Echo/wait"]
            self.assertEqual((wait.failed, wait.running), ({"deadline": 1, "cancelled": 1}, 0))
        await deferLater(reactor, 0, lambda: None)

    async def test_names(self) -> None:
        """Names that a peer invents are counted together, whatever is wrong with the calls."""
        server, echo, port = await self.serve()
        client = self.dial(f"tcp:127.0.0.1:{port}", timeout=None)
        open = client.call("Echo", "wait", "1")
        await until(lambda: echo.gates)
        (peer,) = client.context.peers
        for number in range(100):
            # The number of the call that runs.
            peer.session.writePkg(Request(1, f"Echo/none{number}", b"[]"))
        with self.assertRaises(rpc.RpcError):
            await open
        names = {method for side, method in snapshotOf("echo", server.server).calls if side == "server"}
        self.assertEqual(names, {"", "Echo/wait"})


class StatusTests(SynchronousTestCase):
    """Snapshots with calls."""

    def setUp(self) -> None:
        totals = CallTotals()
        totals.done, totals.running = 7, 2
        totals.fail("deadline")
        totals.seconds.add(0.002)
        service = ServiceSnapshot("echo", True, False, {}, calls={("server", "Echo/say"): totals}, lateReplies=3)
        self.snapshot: Snapshot = emptySnapshot("main")
        self.snapshot.services.append(service)

    def test_merged(self) -> None:
        """The counters of several processes are added; a process that has ended runs nothing."""
        decoded = decodeSnapshot(map(json.loads, encodeSnapshot(self.snapshot)))
        total = emptySnapshot()
        mergeInto(total, self.snapshot)
        mergeEnded(total, decoded)
        calls = total.services[0].calls["server", "Echo/say"]
        self.assertEqual((calls.done, calls.running, calls.failed), (14, 2, {"deadline": 2}))
        self.assertEqual((calls.seconds.count, calls.seconds.sum), (2, 0.004))
        self.assertEqual(total.services[0].lateReplies, 6)

    def test_invalid(self) -> None:
        """A report with impossible counters is refused."""
        good = encodeCalls(self.snapshot.services[0].calls["server", "Echo/say"])
        decodeCalls(good)
        for place, bad in ((0, -1), (1, "2"), (2, {"x": None}), (3, [1])):
            with self.assertRaises(ValueError):
                decodeCalls([*good[:place], bad, *good[place + 1 :]])

    def test_metrics(self) -> None:
        """Each method has its counters, by code; without calls there are none."""
        text = encode(self.snapshot, "")[1].decode()
        for line in (
            'getty_rpc_calls_total{code="ok",method="Echo/say",service="echo",side="server"} 7.0',
            'getty_rpc_calls_total{code="deadline",method="Echo/say",service="echo",side="server"} 1.0',
            'getty_rpc_calls_running{method="Echo/say",service="echo",side="server"} 2.0',
            'getty_rpc_call_seconds_count{method="Echo/say",service="echo",side="server"} 1.0',
            'getty_rpc_late_replies_total{service="echo"} 3.0',
        ):
            self.assertIn(line, text)
        self.snapshot.services[0].calls.clear()
        self.assertNotIn("getty_rpc", encode(self.snapshot, "")[1].decode())
