"""This channel and servers: grpc.aio's, grpclib's, npm's, this package's own, and one that misbehaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.http.grpc.channel import Channel
from tests.grpc.test_interop_server import COMPRESSED, OVER_TLS, InteropCase
from tests.support.certificates import Authority
from tests.support.grpc.badserver import BadServer
from tests.support.grpc.cases import CASES, NEGATIVE, PAUSE, Cases
from tests.support.grpc.child import childOf, node
from tests.support.grpc.frames import Tap
from tests.support.grpc.protos import folder, interop

if TYPE_CHECKING:
    from collections.abc import Awaitable

#: grpclib has no compression.
GRPCLIB_CASES = tuple(case for case in CASES if case not in COMPRESSED)

#: npm's server cannot be told what to compress.
NODE_CASES = tuple(case for case in CASES if not case.startswith("server_compressed"))


def together(calls: list[Any]) -> Awaitable[list[Any]]:
    """What all calls give."""
    return gatherResults([ensureDeferred(_result(call)) for call in calls], consumeErrors=True)


async def _result(call: Any) -> Any:
    return await call


class ChannelCase(TestCase):
    """This channel."""

    timeout = 60

    def channel(self, target: str) -> Channel:
        """A channel that runs until the test ends."""
        channel = Channel(target)
        channel.startService()
        self.addCleanup(channel.stopService)
        return channel

    async def do(self, case: str, target: str, tap: Tap | None = None, **words: Any) -> None:
        """Do a case."""
        channel = self.channel(target)
        if tap is not None:
            words |= {"sent": tap.sent, "came": tap.came}
        await getattr(Cases(interop(), channel, together, **words), case)()

    async def tapped(self, case: str, port: int, **words: Any) -> None:
        """Do a case whose messages are looked at."""
        tap = Tap(reactor, port)
        await tap.start()
        self.addCleanup(tap.stop)
        self.saw = tap.sawCompressed
        await self.do(case, f"tcp:127.0.0.1:{tap.port}", tap, **words)


class GrpcioTests(ChannelCase):
    """With grpc.aio's server."""

    async def one(self, case: str) -> None:
        """A case."""
        port = (await childOf("grpcioserver", folder()).ask())["port"]
        if case in COMPRESSED:
            await self.tapped(case, port)
        else:
            await self.do(case, f"tcp:127.0.0.1:{port}")


class TLSTests(ChannelCase):
    """The same over TLS."""

    async def test_cases(self) -> None:
        """Some cases on one connection."""
        authority = Authority(self.mktemp())
        chain, key = map(os.path.abspath, authority.issue(["localhost"]))
        port = (await childOf("grpcioserver", folder()).ask(key=key, chain=chain))["port"]
        roots = Path(self.mktemp())
        roots.mkdir()
        (roots / "root.pem").write_bytes(Path(authority.path).read_bytes())
        channel = self.channel(f"tls:localhost:{port}:trustRoots={roots}")
        cases = Cases(interop(), channel, together)
        for case in OVER_TLS:
            await getattr(cases, case)()


class GrpclibTests(ChannelCase):
    """With grpclib's server."""

    async def one(self, case: str) -> None:
        """A case."""
        port = (await childOf("grpclibserver", folder()).ask())["port"]
        await self.do(case, f"tcp:127.0.0.1:{port}", count=20)


class NodeTests(ChannelCase):
    """With npm's server."""

    async def one(self, case: str) -> None:
        """A case."""
        await self.do(case, f"tcp:127.0.0.1:{(await node('server').ask())['port']}")


class OwnTests(InteropCase, ChannelCase):
    """With the server of this package."""

    async def do(self, case: str, target: Any, tap: Any = None, **words: Any) -> None:
        """Do a case."""
        await ChannelCase.do(self, case, target, tap, **words)

    async def one(self, case: str) -> None:
        """A case."""
        port = await self.serve()
        if case in COMPRESSED:
            await self.tapped(case, port, probes=True)
        else:
            await self.do(case, f"tcp:127.0.0.1:{port}")


class NegativeTests(ChannelCase):
    """With a server that breaks off."""

    async def one(self, case: str) -> None:
        """A case."""
        messages, _ = interop()
        reply = messages.SimpleResponse(payload=messages.Payload(body=bytes(314_159))).SerializeToString()
        server = BadServer(reactor, case, reply)
        await server.start()
        self.addCleanup(server.stop)
        await self.do(case, f"tcp:127.0.0.1:{server.port}", pause=lambda: deferLater(reactor, PAUSE))
        calls = {"goaway": 2, "max_streams": 11}.get(case, 1)
        self.assertEqual((server.connections, server.calls), (2 if case == "goaway" else 1, calls))
        while server.pongs < server.pings:
            # Those behind the answer.
            await deferLater(reactor, 0.005)
        if case == "max_streams":
            self.assertEqual(server.most, 1)


def _add(case: str, into: type[Any]) -> None:
    async def test(self: Any) -> None:
        await self.one(case)

    test.__doc__ = f"The case {case}."
    setattr(into, f"test_{case}", test)


for _into, _cases in (
    (GrpcioTests, CASES),
    (GrpclibTests, GRPCLIB_CASES),
    (NodeTests, NODE_CASES),
    (OwnTests, CASES),
    (NegativeTests, NEGATIVE),
):
    for _case in _cases:
        _add(_case, _into)

# By this name the loader would find the last ones once more.
del _into
