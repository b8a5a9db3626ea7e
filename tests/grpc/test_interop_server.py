"""grpcio's client and this server: the interop cases, by their official names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.http.grpc.messages import gzipped
from getty_tx.http.grpc.server import Server
from tests.support.certificates import Authority
from tests.support.grpc.cases import CASES
from tests.support.grpc.child import childOf
from tests.support.grpc.frames import Tap
from tests.support.grpc.protos import folder, interop
from tests.support.grpc.service import InteropService
from tests.support.grpcraw import RawClient, framed

if TYPE_CHECKING:
    from collections.abc import Callable

#: Cases in which the compression of messages is looked at, and which messages of client and server have it. Those of
#: the client begin with one that says it is compressed, and is not.
COMPRESSED = {
    "client_compressed_unary": ([False, True, False], [False, False]),
    "client_compressed_streaming": ([False, True, True], [False]),
    "server_compressed_unary": ([False, False], [True, False]),
    "server_compressed_streaming": ([False], [True, False]),
}

#: Cases that are done over TLS as well.
OVER_TLS = ("empty_unary", "large_unary", "ping_pong", "custom_metadata", "cancel_after_first_response")


class InteropCase(TestCase):
    """
    This server, with the service.

    :ivar server: it; ``service`` is what serves.
    """

    timeout = 60

    async def serve(self, endpoint: str = "tcp:0:interface=127.0.0.1") -> int:
        """Start it; its port."""
        messages, stubs = interop()
        self.service = InteropService(messages, lambda: self.saw())
        self.saw: Callable[[], bool] = lambda: True
        server = self.server = Server(endpoint)
        stubs.add_TestServiceServicer_to_server(self.service, server)
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        there: Any = address
        return int(there.port)

    async def do(self, case: str, port: int, **words: Any) -> None:
        """Have grpcio's client do a case."""
        await childOf("grpcioclient", folder()).ask(case=case, port=port, count=100, probes=False, **words)


class ServerTests(InteropCase):
    """Over TCP."""

    async def one(self, case: str) -> None:
        """A case that asks for nothing else."""
        await self.do(case, await self.serve())
        while self.service.running:
            # The reset of the client is on its way.
            await deferLater(reactor, 0.005)
        if case != "timeout_on_sleeping_server":
            # That call may come too late to be begun.
            self.assertEqual(self.service.cancelled, case == "cancel_after_first_response")

    async def compressed(self, case: str) -> None:
        """A case whose messages are looked at."""
        tap = await self.tap()
        words = {"case": case, "port": tap.port, "count": 1, "probes": True}
        await childOf("grpcioclient", folder()).ask(**words)
        self.assertEqual((tap.sent(), tap.came()), COMPRESSED[case])

    async def tap(self) -> Tap:
        """Serve what can tell which messages are compressed, and where it listens."""
        tap = Tap(reactor, await self.serve())
        await tap.start()
        self.addCleanup(tap.stop)
        self.saw = tap.sawCompressed
        return tap

    async def test_client_compressed_by_message(self) -> None:
        """client_compressed_streaming as it is written, in frames: grpcio cannot leave out one message of a stream."""
        pb: Any = interop()[0]
        client = await RawClient.to((await self.tap()).port)
        self.addCleanup(lambda: ensureDeferred(client.close()))

        def message(size: int, isCompressed: bool) -> bytes:
            expected = pb.BoolValue(value=isCompressed)
            made = pb.StreamingInputCallRequest(payload=pb.Payload(body=bytes(size)), expect_compressed=expected)
            return bytes(made.SerializeToString())

        path = "/grpc.testing.TestService/StreamingInputCall"
        packed, plain = gzipped(message(27_182, True)), framed(message(45_904, False))
        lies = framed(message(27_182, True))
        # The probe alone, behind a message that is what it says, and a message that should not be compressed.
        for data in lies, packed + lies, packed + gzipped(message(45_904, False)):
            answer = await client.call(path, data, isLast=False, grpc_encoding="gzip").ended
            self.assertEqual((answer.status, answer.data), ("3", b""))
        answer = await client.call(path, packed + plain, grpc_encoding="gzip").ended
        self.assertEqual(answer.status, "0")
        self.assertEqual(pb.StreamingInputCallResponse.FromString(answer.data[5:]).aggregated_payload_size, 73_086)


class TLSTests(InteropCase):
    """Over TLS, where ALPN says what is spoken."""

    async def one(self, case: str) -> None:
        """A case."""
        authority = Authority(self.mktemp())
        made = Path(self.mktemp())
        made.mkdir()
        parts = [Path(name).read_bytes() for name in authority.issue(["localhost"])]
        (made / "localhost.pem").write_bytes(b"".join(parts))
        port = await self.serve(f"tls:{made}:0:interface=127.0.0.1")
        await self.do(case, port, ca=os.path.abspath(authority.path))


def _add(case: str, into: type[Any], run: str) -> None:
    async def test(self: Any) -> None:
        await getattr(self, run)(case)

    test.__doc__ = f"The case {case}."
    setattr(into, f"test_{case}", test)


for _case in CASES:
    _add(_case, ServerTests, "compressed" if _case in COMPRESSED else "one")
for _case in OVER_TLS:
    _add(_case, TLSTests, "one")
