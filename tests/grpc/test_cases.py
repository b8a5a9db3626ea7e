"""The interop cases and the servers for them, with both ends of grpcio: what they find is not their own doing."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.grpc.badserver import KINDS, BadServer
from tests.support.grpc.cases import CASES, NEGATIVE
from tests.support.grpc.child import childOf
from tests.support.grpc.frames import Tap
from tests.support.grpc.protos import folder, interop


class CasesTests(TestCase):
    """grpc.aio's channel passes all cases."""

    timeout = 60

    async def test_cases(self) -> None:
        """With grpc.aio's server."""
        port = (await childOf("grpcioserver", folder()).ask())["port"]
        for case in CASES:
            await childOf("grpcioclient", folder()).ask(case=case, port=port, count=5, probes=False)

    async def test_tap(self) -> None:
        """What passes through a tap is told by message."""
        port = (await childOf("grpcioserver", folder()).ask())["port"]
        tap = Tap(reactor, port)
        await tap.start()
        self.addCleanup(tap.stop)
        for case, sent, came in (
            ("client_compressed_unary", [True, False], [False, False]),
            ("client_compressed_streaming", [True, True], [False]),
            ("server_compressed_unary", [False, False], [True, False]),
            ("server_compressed_streaming", [False], [True, False]),
            ("large_unary", [False], [False]),
        ):
            await childOf("grpcioclient", folder()).ask(case=case, port=tap.port, count=5, probes=False)
            self.assertEqual((tap.sent(), tap.came()), (sent, came))

    async def test_negative(self) -> None:
        """With the server that misbehaves."""
        messages, _ = interop()
        reply = messages.SimpleResponse(payload=messages.Payload(body=bytes(314_159))).SerializeToString()
        self.assertEqual(KINDS, NEGATIVE)
        for kind in NEGATIVE:
            server = BadServer(reactor, kind, reply)
            await server.start()
            self.addCleanup(server.stop)
            await childOf("grpcioclient", folder()).ask(case=kind, port=server.port, count=5, probes=False)
            calls = {"goaway": 2, "max_streams": 11}.get(kind, 1)
            self.assertEqual((server.connections, server.calls), (2 if kind == "goaway" else 1, calls))
            while server.pongs < server.pings:
                # The client had its reply, and the answers to pings are on their way.
                await deferLater(reactor, 0.01, lambda: None)
            if kind == "max_streams":
                self.assertEqual(server.most, 1)
