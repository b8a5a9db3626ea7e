"""grpc-go as the client of this server, and as the server of this channel: the interop cases, also over TLS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from tests.grpc.test_interop_channel import ChannelCase, together
from tests.grpc.test_interop_server import COMPRESSED, OVER_TLS, InteropCase
from tests.support.certificates import Authority
from tests.support.grpc.cases import CASES, Cases
from tests.support.grpc.frames import Tap
from tests.support.grpc.gopeer import gopeer
from tests.support.grpc.protos import interop
from tests.support.long import onlyLong

#: Go 1.33 does not say which compression it takes, and so gets none; and its server cannot be told what to compress.
GO_CASES = tuple(case for case in CASES if not case.startswith("server_compressed"))


@onlyLong
class ClientTests(InteropCase):
    """Go's client."""

    async def do(self, case: str, port: int, **words: Any) -> None:
        """Have it do a case."""
        await gopeer("client").ask(case=case, port=port, count=100, **words)

    async def one(self, case: str) -> None:
        """A case."""
        port = await self.serve()
        if case not in COMPRESSED:
            await self.do(case, port)
            return
        tap = Tap(reactor, port)
        await tap.start()
        self.addCleanup(tap.stop)
        self.saw = tap.sawCompressed
        await self.do(case, tap.port, probes=True)
        self.assertEqual((tap.sent(), tap.came()), COMPRESSED[case])

    async def test_tls(self) -> None:
        """Some cases over TLS."""
        authority = Authority(self.mktemp())
        made = Path(self.mktemp())
        made.mkdir()
        parts = [Path(name).read_bytes() for name in authority.issue(["localhost"])]
        (made / "localhost.pem").write_bytes(b"".join(parts))
        port = await self.serve(f"tls:{made}:0:interface=127.0.0.1")
        for case in OVER_TLS:
            await self.do(case, port, ca=os.path.abspath(authority.path))


@onlyLong
class ServerTests(ChannelCase):
    """Go's server."""

    async def one(self, case: str) -> None:
        """A case."""
        port = (await gopeer("server").ask())["port"]
        if case in COMPRESSED:
            await self.tapped(case, port)
        else:
            await self.do(case, f"tcp:127.0.0.1:{port}")

    async def test_tls(self) -> None:
        """Some cases on one connection over TLS."""
        authority = Authority(self.mktemp())
        chain, key = map(os.path.abspath, authority.issue(["localhost"]))
        port = (await gopeer("server").ask(key=key, chain=chain))["port"]
        roots = Path(self.mktemp())
        roots.mkdir()
        (roots / "root.pem").write_bytes(Path(authority.path).read_bytes())
        cases = Cases(interop(), self.channel(f"tls:localhost:{port}:trustRoots={roots}"), together)
        for case in OVER_TLS:
            await getattr(cases, case)()


def _add(case: str, into: type[Any]) -> None:
    async def test(self: Any) -> None:
        await self.one(case)

    test.__doc__ = f"The case {case}."
    setattr(into, f"test_{case}", test)


for _case in GO_CASES:
    _add(_case, ClientTests)
    _add(_case, ServerTests)
