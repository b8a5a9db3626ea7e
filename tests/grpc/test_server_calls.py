"""The context of handlers, deadlines, cancelled calls, limits, and the end of a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from getty_tx.errors import SettingError
from getty_tx.http.grpc.server import Server
from getty_tx.http.grpc.status import Code
from getty_tx.processes.drain import Drain
from tests.support.certificates import Authority
from tests.support.grpcraw import RawClient, framed
from tests.support.grpcserver import CallCase, methodOf, pathOf


def unary_unary_echo(request: bytes, context: Any) -> bytes:
    return request


class Waiting:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.contexts: list[Any] = []
        self.go: Deferred[None] = Deferred()
        self.ended: list[str] = []
        self.stopped: Deferred[None] = Deferred()

    async def unary_unary_wait(self, request: bytes, context: Any) -> bytes:
        """Its handler."""
        self.contexts.append(context)
        context.add_callback(lambda: self.ended.append("callback"))
        context.add_done_callback(lambda found: self.ended.append("done" if found is context else ""))
        try:
            await self.go
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            self.stopped.callback(None)
            raise
        return request

    async def has(self, count: int) -> None:
        """Wait for so many calls."""
        while len(self.contexts) < count:
            await deferLater(reactor, 0, lambda: None)


WAIT, ECHO = pathOf(Waiting.unary_unary_wait), pathOf(unary_unary_echo)


class Statuses(CallCase):
    """How calls end."""

    async def answerOf(self, function: Any, **options: Any) -> tuple[int, str | None, bytes]:
        await self.serve(function, **options)
        client = await self.raw()
        answer = await client.call(pathOf(function), framed(b"x")).ended
        assert answer.status is not None
        return int(answer.status), answer.text, answer.data

    async def test_anExceptionTellsNothing(self) -> None:
        async def unary_unary_fails(request: bytes, context: Any) -> bytes:
            raise ValueError("secret")

        self.assertEqual(await self.answerOf(unary_unary_fails), (Code.UNKNOWN, "the method has failed", b""))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_aDefMayFail(self) -> None:
        def unary_unary_fails(request: bytes, context: Any) -> bytes:
            raise ValueError("secret")

        self.assertEqual(await self.answerOf(unary_unary_fails), (Code.UNKNOWN, "the method has failed", b""))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_methodsThatAreNotImplemented(self) -> None:
        def unary_unary_none(request: bytes, context: Any) -> bytes:
            import grpc

            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details("Method not implemented!")
            raise NotImplementedError("Method not implemented!")

        self.assertEqual(await self.answerOf(unary_unary_none), (Code.UNIMPLEMENTED, "Method not implemented!", b""))

    async def test_abortCannotBeCaught(self) -> None:
        async def unary_unary_abort(request: bytes, context: Any) -> bytes:
            try:
                await context.abort(Code.NOT_FOUND, "nothing", (("a", "1"),))
            except Exception:
                return b"all is well"

        self.assertEqual(await self.answerOf(unary_unary_abort), (Code.NOT_FOUND, "nothing", b""))

    async def test_abortWithStatus(self) -> None:
        def unary_unary_abort(request: bytes, context: Any) -> bytes:
            trailing = (("grpc-status-details-bin", b"\1"), ("a", "1"))
            context.abort_with_status(SimpleNamespace(code=Code.ABORTED, details="why", trailing_metadata=trailing))

        self.assertEqual(await self.answerOf(unary_unary_abort), (Code.ABORTED, "why", b""))

    async def test_aCodeBesideAReply(self) -> None:
        async def unary_unary_coded(request: bytes, context: Any) -> bytes:
            context.set_code(Code.DATA_LOSS)
            context.set_details("half")
            assert (context.code(), context.details()) == (Code.DATA_LOSS, "half")
            return request

        self.assertEqual(await self.answerOf(unary_unary_coded), (Code.DATA_LOSS, "half", framed(b"x")))

    async def test_aReplyThatCannotBeEncoded(self) -> None:
        def unary_unary_wrong(request: bytes, context: Any) -> Any:
            return None

        server = await self.serve(unary_unary_wrong)
        server.context.methods.byPath[pathOf(unary_unary_wrong).encode()].encode = lambda reply: reply.encode()
        client = await self.raw()
        answer = await client.call(pathOf(unary_unary_wrong), framed(b"x")).ended
        self.assertEqual((answer.status, answer.text), ("13", "the reply cannot be encoded"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    async def test_aStreamThatFailsInTheMiddle(self) -> None:
        async def unary_stream_half(request: bytes, context: Any) -> Any:
            yield b"half"
            raise ValueError("secret")

        self.assertEqual(
            await self.answerOf(unary_stream_half), (Code.UNKNOWN, "the method has failed", framed(b"half"))
        )
        self.flushLoggedErrors(ValueError)

    async def test_whatAContextKnows(self) -> None:
        seen: list[Any] = []

        async def unary_unary_tell(request: bytes, context: Any) -> bytes:
            seen.append(context)
            assert context.is_active() and not context.cancelled() and not context.done()
            assert 50 < context.time_remaining() <= 100
            assert context.peer() == f"ipv4:127.0.0.1:{context.session.remoteAddr.port}"
            assert (context.auth_context(), context.peer_identities(), context.peer_identity_key()) == ({}, None, None)
            assert context.code() is Code.OK
            for value in 17, "x", None:
                with self.assertRaises(ValueError):
                    context.set_code(value)
            with self.assertRaises(ValueError):
                context.abort(Code.OK)
            return request

        await self.serve(unary_unary_tell)
        client = await self.raw()
        self.assertEqual(
            (await client.call(pathOf(unary_unary_tell), framed(b""), grpc_timeout="100S").ended).status, "0"
        )
        (context,) = seen
        self.assertEqual((context.is_active(), context.done(), context.cancelled()), (False, True, False))


class Secure(CallCase):
    """TLS, where client and server agree on h2."""

    async def knownOf(self, endpoint: str, root: str, identity: tuple[str, str] | None = None) -> Any:
        """What the context of a call knows of the client."""
        import grpc

        seen = []

        async def unary_unary_tell(request: bytes, context: Any) -> bytes:
            seen.append((dict(context.auth_context()), context.peer_identities(), context.peer_identity_key()))
            return request

        await self.serve(unary_unary_tell, endpoint=endpoint)
        chain = key = None
        if identity is not None:
            chain, key = (Path(each).read_bytes() for each in identity)
        credentials = grpc.ssl_channel_credentials(Path(root).read_bytes(), key, chain)

        def work() -> Any:
            options = [("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
                return channel.unary_unary(pathOf(unary_unary_tell))(b"x")

        self.assertEqual(await deferToThread(work), b"x")
        (known,) = seen
        return known

    async def test_folderOfCertificates(self) -> None:
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        folder = self.mktemp()
        Path(folder).mkdir()
        Path(folder, "localhost.pem").write_bytes(Path(key).read_bytes() + Path(certificate).read_bytes())
        known = await self.knownOf(f"tls:{folder}:0:interface=127.0.0.1", authority.path)
        self.assertEqual(known, ({"transport_security_type": [b"ssl"]}, None, None))

    async def test_clientsWithCertificates(self) -> None:
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}:trustRoot={authority.path}"
        known = await self.knownOf(endpoint, authority.path, authority.issue(["client"], client=True))
        names = [b"client"]
        self.assertEqual(
            known,
            (
                {"transport_security_type": [b"ssl"], "x509_common_name": names},
                names,
                "x509_common_name",
            ),
        )


class Ends(CallCase):
    """Calls that end early."""

    async def test_theClientCancels(self) -> None:
        waiting = Waiting()
        server = await self.serve(waiting.unary_unary_wait)
        client = await self.raw()
        answer = client.call(WAIT, framed(b""))
        await waiting.has(1)
        self.assertEqual(server.context.running, 1)
        client.h2.reset_stream(client.numberOf(answer), 8)
        client.send()
        await waiting.stopped
        await deferLater(reactor, 0, lambda: None)
        self.assertEqual(sorted(waiting.ended), ["callback", "cancelled", "done"])
        self.assertTrue(waiting.contexts[0].cancelled())
        self.assertFalse(waiting.contexts[0].add_callback(lambda: None))
        self.assertEqual(server.context.running, 0)
        self.assertEqual(server.context.methods.totals["test.Service/unary_unary_wait"].failed, {"CANCELLED": 1})

    async def test_theDeadlineComes(self) -> None:
        waiting = Waiting()
        server = await self.serve(waiting.unary_unary_wait)
        client = await self.raw()
        answer = await client.call(WAIT, framed(b""), grpc_timeout="200m").ended
        self.assertEqual((answer.heads, answer.code), ([], 8))
        await waiting.stopped
        totals = server.context.methods.totals["test.Service/unary_unary_wait"]
        self.assertEqual(totals.failed, {"DEADLINE_EXCEEDED": 1})

    async def test_theDeadlineComesBeforeTheRequest(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        answer = await client.call(ECHO, framed(b"x")[:3], isLast=False, grpc_timeout="20m").ended
        self.assertEqual((answer.heads, answer.code), ([], 8))

    async def test_theTimeWasOverBefore(self) -> None:
        waiting = Waiting()
        await self.serve(waiting.unary_unary_wait)
        client = await self.raw()
        answer = await client.call(WAIT, framed(b""), grpc_timeout="0n").ended
        self.assertEqual((answer.status, waiting.contexts), (str(int(Code.DEADLINE_EXCEEDED)), []))

    async def test_theHandlerCancels(self) -> None:
        async def unary_unary_cancel(request: bytes, context: Any) -> bytes:
            context.cancel()
            await asyncio.sleep(0)
            return request

        await self.serve(unary_unary_cancel)
        client = await self.raw()
        answer = await client.call(pathOf(unary_unary_cancel), framed(b"")).ended
        self.assertEqual((answer.heads, answer.code), ([], 8))

    async def test_theConnectionIsLost(self) -> None:
        waiting = Waiting()
        await self.serve(waiting.unary_unary_wait)
        client = await self.raw()
        client.call(WAIT, framed(b""))
        await waiting.has(1)
        await client.close()
        await waiting.stopped
        self.assertIn("callback", waiting.ended)

    async def test_aGeneratorIsClosed(self) -> None:
        ended: Deferred[None] = Deferred()

        async def unary_stream_endless(request: bytes, context: Any) -> Any:
            try:
                while True:
                    yield bytes(10_000)
            finally:
                ended.callback(None)

        await self.serve(unary_stream_endless)
        client = await self.raw()
        client.takes = False
        answer = client.call(pathOf(unary_stream_endless), framed(b""))
        while len(answer.data) < 65_000:
            await deferLater(reactor, 0, lambda: None)
        self.assertFalse(ended.called)
        client.h2.reset_stream(client.numberOf(answer), 8)
        client.send()
        await ended


class Limited(CallCase):
    """What is refused, and what is kept waiting."""

    async def test_maxCalls(self) -> None:
        waiting = Waiting()
        server = await self.serve(waiting.unary_unary_wait, maxCalls=1)
        client = await self.raw()
        first = client.call(WAIT, framed(b"1"))
        await waiting.has(1)
        second = await client.call(WAIT, framed(b"2")).ended
        self.assertEqual((second.status, second.text), ("8", "maxCalls=1 calls are being served"))
        waiting.go.callback(None)
        self.assertEqual((await first.ended).data, framed(b"1"))
        self.assertEqual((server.context.refused, server.context.running), (1, 0))

    async def test_requestsWaitForTheirHandler(self) -> None:
        go: Deferred[None] = Deferred()

        async def stream_unary_slow(requests: Any, context: Any) -> bytes:
            await go
            return b"%d" % len([request async for request in requests])

        await self.serve(stream_unary_slow, streamWindow=65535)
        client = await self.raw()
        call = client.call(pathOf(stream_unary_slow), None, isLast=False)
        number = client.numberOf(call)
        part = framed(bytes(995))
        sent = 0
        while client.h2.local_flow_control_window(number) >= 1000:
            client.h2.send_data(number, part)
            sent += 1
            client.send()
            await deferLater(reactor, 0, lambda: None)
        self.assertEqual(sent, 65)
        go.callback(None)
        while client.h2.local_flow_control_window(number) < 1000:
            await deferLater(reactor, 0, lambda: None)
        client.h2.send_data(number, part, end_stream=True)
        client.send()
        self.assertEqual((await call.ended).data, framed(b"66"))

    async def test_callsThatReadNothing(self) -> None:
        """They hold themselves alone, however many there are."""
        go: Deferred[None] = Deferred()

        async def stream_stream_slow(requests: Any, context: Any) -> Any:
            await go
            async for each in requests:
                yield each

        await self.serve(stream_stream_slow, unary_unary_echo)
        client = await self.raw()
        calls = [client.call(pathOf(stream_stream_slow), None, isLast=False) for _ in range(10)]
        await client.call(ECHO, framed(b"x")).ended
        for number in map(client.numberOf, calls):
            while client.h2.local_flow_control_window(number):
                client.h2.send_data(number, framed(bytes(8 * 1024 - 5)))
            client.send()
            self.assertEqual(client.h2.streams[number].outbound_flow_control_window, 0)
        self.assertEqual((await client.call(ECHO, framed(b"x")).ended).data, framed(b"x"))
        go.callback(None)

    async def test_pingsThatComeTooOften(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        for _ in range(4):
            client.h2.ping(b"pingpong")
            client.send()
            await deferLater(reactor, 0, lambda: None)
        await client.lost
        (goAway,) = client.goAways
        self.assertEqual((int(goAway.error_code), goAway.additional_data), (11, b"too_many_pings"))

    async def test_pingsDuringAnAnswer(self) -> None:
        """Clients ping to measure how fast an answer comes: that is forgiven while parts of it leave, however late."""

        def unary_unary_large(request: bytes, context: Any) -> bytes:
            return bytes(300_000)

        await self.serve(unary_unary_large)
        client = await self.raw()
        client.takes = False
        call = client.call(pathOf(unary_unary_large), framed(b""))
        number, seen = client.numberOf(call), 0
        for _ in range(8):
            while len(call.data) == seen:
                await deferLater(reactor, 0, lambda: None)
            seen = len(call.data)
            client.h2.increment_flow_control_window(10_000)
            client.h2.increment_flow_control_window(10_000, number)
            client.h2.ping(b"pingpong")
            client.send()
        self.assertEqual(client.goAways, [])
        for _ in range(5):
            client.h2.ping(b"pingpong")
            client.send()
        await client.lost
        self.assertEqual(client.goAways[0].additional_data, b"too_many_pings")

    async def test_settingsAreChecked(self) -> None:
        for name, value in ("maxReceived", 0), ("compression", "snappy"), ("workers", 0), ("nothing", 1):
            with self.assertRaises(SettingError):
                Server("tcp:0", **{name: value})
        with self.assertRaises(SettingError):
            Server("udp:0")
        server = Server("tcp:0", compression="gzip")
        server.context.compression = None
        with self.assertRaises(SettingError):
            server.add_registered_method_handlers("a", {"B": methodOf("unary_unary", None)})


class Stops(CallCase):
    """A server that stops."""

    async def test_callsOnTheirWayEnd(self) -> None:
        waiting = Waiting()
        server = await self.serve(waiting.unary_unary_wait)

        def work(channel: Any) -> list[bytes]:
            call = channel.unary_unary(WAIT)
            futures = [call.future(b"%d" % number) for number in range(20)]
            return [each.result() for each in futures]

        called = self.client(work)
        await waiting.has(20)
        stopped = server.stopService()
        (connection,) = server.context.connections
        while not connection.isEnding:
            await deferLater(reactor, 0, lambda: None)
        waiting.go.callback(None)
        self.assertEqual(await called, [b"%d" % number for number in range(20)])
        await stopped
        self.assertEqual(server.context.connections, set())

    async def test_itSaysSoOnce(self) -> None:
        """Once for each start: when its process begins to drain, or else when it stops."""
        server = await self.serve(unary_unary_echo)
        told: list[str] = []
        server.onStop.append(lambda: told.append("told"))
        await server.stopService()
        self.assertEqual(told, ["told"])
        server.startService()
        await server.whenListening()
        (context,) = server.server.contexts
        await Drain([context], reactor).run(1)
        self.assertEqual(told, ["told"] * 2)
        await server.stopService()
        self.assertEqual(told, ["told"] * 2)

    async def test_callsThatTakeTooLong(self) -> None:
        waiting = Waiting()
        server = await self.serve(waiting.unary_unary_wait, drainTime=0.05)
        client = await self.raw()
        client.call(WAIT, framed(b"x"))
        await waiting.has(1)
        await server.stopService()
        await waiting.stopped
        await client.lost

    async def test_itMayBeStartedAgain(self) -> None:
        server = await self.serve(unary_unary_echo)
        await server.stopService()
        server.startService()
        address: Any = (await server.whenListening())[0]
        client = await RawClient.to(address.port)
        self.assertEqual((await client.call(ECHO, framed(b"x")).ended).data, framed(b"x"))
        await client.close()
        (context,) = server.server.contexts
        self.assertEqual(context.calls["server"]["test.Service/unary_unary_echo"].done, 1)
