"""grpclib's and npm's clients, and this server: the interop cases that they have."""

from __future__ import annotations

from typing import Any

from tests.grpc.test_interop_server import InteropCase
from tests.support.grpc.cases import CASES
from tests.support.grpc.child import childOf, node
from tests.support.grpc.grpclibclient import GRPCLIB_CASES
from tests.support.grpc.protos import folder

#: Those of npm's client: it compresses by connection, and not by message.
NODE_CASES = tuple(case for case in CASES if case not in ("client_compressed_streaming", "server_compressed_streaming"))


class GrpclibTests(InteropCase):
    """grpclib: asyncio, and h2 for its frames."""

    async def one(self, case: str) -> None:
        """A case."""
        await childOf("grpclibclient", folder()).ask(case=case, port=await self.serve())


class NodeTests(InteropCase):
    """npm's @grpc/grpc-js, in node: another HTTP/2."""

    async def one(self, case: str) -> None:
        """A case."""
        await node("client").ask(case=case, port=await self.serve())

    async def test_all(self) -> None:
        """There is a test for each of its cases."""
        self.assertEqual(set((await node("client").ask(list=True))["cases"]), set(NODE_CASES))


def _add(case: str, into: type[Any]) -> None:
    async def test(self: Any) -> None:
        await self.one(case)

    test.__doc__ = f"The case {case}."
    setattr(into, f"test_{case}", test)


for _case in GRPCLIB_CASES:
    _add(_case, GrpclibTests)
for _case in NODE_CASES:
    _add(_case, NodeTests)
