"""The how-to about traces, with the real SDK of OpenTelemetry, where there is one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import rpc
from tests.docs.test_guide import ROOT, codeIn


class Names:
    """What the page makes, and a tracer whose spans are kept."""

    def __init__(self) -> None:
        self.page: dict[str, Any] = {"__name__": "tracing"}
        for place, tree in codeIn(ROOT / "docs" / "howto" / "tracing.md"):
            exec(compile(tree, place, "exec", dont_inherit=True), self.page)
        provider = import_module("opentelemetry.sdk.trace").TracerProvider()
        self.exporter = import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
        processor = import_module("opentelemetry.sdk.trace.export").SimpleSpanProcessor(self.exporter)
        provider.add_span_processor(processor)
        self.tracer = provider.get_tracer("test")

    def spans(self) -> list[Any]:
        """The spans that have ended, in this order."""
        return list(self.exporter.get_finished_spans())


class Front:
    """Calls the one behind it."""

    def __init__(self, names: Names, behind: rpc.Client) -> None:
        self.names = names
        self.behind = behind

    @rpc.method
    async def ask(self) -> str:
        """With a span."""
        await deferLater(reactor, 0)
        answer: str = await self.names.page["call"](self.names.tracer, self.behind, "Back", "answer", "!")
        return answer

    @rpc.method
    async def fail(self) -> None:
        """With an error."""
        raise rpc.RemoteError("no")

    @rpc.method
    async def passOn(self) -> list[str]:
        """Without a span."""
        handed: dict[str, str] = self.names.page["passedOn"]()
        found: list[str] = await self.behind.service("Back").options(metadata=handed).trace()
        return found


class Back:
    """Called by the other."""

    @rpc.method(threads=True)
    def answer(self, text: str) -> str:
        """In a thread."""
        return rpc.currentCall().name + text

    @rpc.method
    def trace(self) -> list[str]:
        """What was handed on."""
        return list(rpc.currentCall().metadata)


class TracingTests(TestCase):
    """Two servers in a row."""

    timeout = 60

    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        skip = "there is no opentelemetry-sdk"

    async def chain(self) -> tuple[Names, rpc.Client]:
        """A client of a server that calls another."""
        names = Names()
        behind = await self.dialed(names, {"Back": Back()})
        return names, await self.dialed(names, {"Front": Front(names, behind)})

    async def dialed(self, names: Names, services: dict[str, object]) -> rpc.Client:
        """A client of a server with these services, which are traced."""
        server = rpc.Server("tcp:0:interface=127.0.0.1", services)
        server.wrap(names.page["traced"](names.tracer))
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}")
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def test_chain(self) -> None:
        """One trace goes through both, behind an await and into a thread; each span has its caller's as parent."""
        names, client = await self.chain()
        self.assertEqual("Back/answer!", await names.page["call"](names.tracer, client, "Front", "ask"))
        spans = names.spans()
        self.assertEqual(["Back/answer"] * 2 + ["Front/ask"] * 2, [span.name for span in spans])
        self.assertEqual(["SERVER", "CLIENT"] * 2, [span.kind.name for span in spans])
        self.assertEqual(1, len({span.context.trace_id for span in spans}))
        parents = [None if span.parent is None else span.parent.span_id for span in spans]
        self.assertEqual([*(span.context.span_id for span in spans[1:]), None], parents)

    async def test_error(self) -> None:
        """An error is in the spans of both ends."""
        names, client = await self.chain()
        calling = Deferred.fromCoroutine(names.page["call"](names.tracer, client, "Front", "fail"))
        await self.assertFailure(calling, rpc.RemoteError)
        self.assertEqual([["exception"]] * 2, [[event.name for event in span.events] for span in names.spans()])

    async def test_passedOn(self) -> None:
        """Who makes no spans hands on what there is; a call without a trace has nothing to hand on."""
        names, client = await self.chain()
        self.assertEqual(["traceparent"], await names.page["call"](names.tracer, client, "Front", "passOn"))
        self.assertEqual([], await client.service("Front").passOn())
