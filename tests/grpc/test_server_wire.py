"""What calls look like on the wire, and what is refused."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import frame, gzipped
from getty_tx.http.grpc.status import Code
from tests.support.grpcraw import framed
from tests.support.grpcserver import CallCase, pathOf


def unary_unary_echo(request: bytes, context: Any) -> bytes:
    return request


async def unary_stream_twice(request: bytes, context: Any) -> Any:
    yield request
    yield request


async def unary_stream_none(request: bytes, context: Any) -> Any:
    for each in ():
        yield each


async def stream_unary_first(requests: Any, context: Any) -> bytes:
    async for request in requests:
        return bytes(request)
    return b"none"


async def stream_stream_echo(requests: Any, context: Any) -> Any:
    async for request in requests:
        yield request


ECHO, FIRST = pathOf(unary_unary_echo), pathOf(stream_unary_first)


class Wire(CallCase):
    """Well-formed calls."""

    async def test_anAnswerHasHeadMessagesAndTrailers(self) -> None:
        await self.serve(unary_unary_echo, unary_stream_twice, unary_stream_none)
        client = await self.raw()
        answer = await client.call(ECHO, framed(b"hello")).ended
        head = {":status": "200", "content-type": "application/grpc"}
        self.assertEqual(answer.heads, [head, {"grpc-status": "0"}])
        self.assertEqual(answer.data, framed(b"hello"))
        self.assertIsNone(answer.code)
        answer = await client.call(pathOf(unary_stream_twice), framed(b"x")).ended
        self.assertEqual(answer.heads, [head, {"grpc-status": "0"}])
        self.assertEqual(answer.data, framed(b"x") * 2)
        answer = await client.call(pathOf(unary_stream_none), framed(b"")).ended
        self.assertEqual((answer.heads[-1]["grpc-status"], answer.data), ("0", b""))

    async def test_aRequestMayBeCutAnywhere(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        data = framed(b"hello")
        for at in range(len(data) + 1):
            call = client.call(ECHO, data[:at], isLast=False)
            number = client.numberOf(call)
            await deferLater(reactor, 0, lambda: None)
            client.h2.send_data(number, data[at:], end_stream=at % 2 == 0)
            if at % 2:
                client.send()
                client.h2.end_stream(number)
            client.send()
            self.assertEqual((await call.ended).data, data)

    async def test_aLargeRequestHasCreditWhileItIsGathered(self) -> None:
        await self.serve(unary_unary_echo, streamWindow=65535)
        client = await self.raw()
        data = framed(bytes(200_000))
        call = client.call(ECHO, None, isLast=False)
        number = client.numberOf(call)
        while data:
            size = min(client.h2.local_flow_control_window(number), 16384)
            if size:
                client.h2.send_data(number, data[:size], end_stream=size >= len(data))
                client.send()
            data = data[size:]
            await deferLater(reactor, 0, lambda: None)
        self.assertEqual(len((await call.ended).data), 200_005)

    async def test_contentTypesOfGrpcAreServed(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        for kind in "application/grpc+proto", "application/grpc+json", "application/grpc; charset=utf-8":
            self.assertEqual((await client.call(ECHO, framed(b""), content_type=kind).ended).status, "0")

    async def test_anEarlyStatusIsFollowedByReset(self) -> None:
        await self.serve(stream_unary_first)
        client = await self.raw()
        answer = client.call(FIRST, framed(b"a") + framed(b"b"), isLast=False)
        await answer.ended
        while answer.code is None:
            await deferLater(reactor, 0, lambda: None)
        self.assertEqual((answer.isComplete, answer.status, answer.data, answer.code), (True, "0", framed(b"a"), 0))


class Refused(CallCase):
    """What is no call."""

    async def statusOf(self, client: Any, *arguments: Any, **fields: Any) -> tuple[int | None, str | None]:
        answer = await client.call(*arguments, **fields).ended
        return int(answer.status), answer.text

    async def test_otherRequestsAreAnsweredByHTTP(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        self.assertEqual(
            (await client.call(ECHO, None, _method="GET").ended).heads, [{":status": "405", "allow": "POST"}]
        )
        for kind in None, "text/plain", "application/grpc-web":
            self.assertEqual(
                (await client.call(ECHO, framed(b""), content_type=kind).ended).heads, [{":status": "415"}]
            )

    async def test_unknownMethods(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        answer = await client.call("/test.Service/Nothing", framed(b"")).ended
        self.assertEqual(len(answer.heads), 1)
        self.assertEqual((answer.status, answer.data), ("12", b""))
        self.assertEqual((await client.call("/", framed(b"")).ended).status, "12")

    async def test_wrongNumbersOfMessages(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        for data in b"", framed(b"") * 2, framed(b"x") * 1000:
            self.assertEqual((await self.statusOf(client, ECHO, data))[0], Code.UNIMPLEMENTED)
        self.assertEqual((await self.statusOf(client, ECHO, None))[0], Code.UNIMPLEMENTED)

    async def test_brokenMessages(self) -> None:
        await self.serve(unary_unary_echo, stream_unary_first, maxReceived=1000)
        client = await self.raw()
        for path in ECHO, FIRST:
            for data, code in (
                (framed(b"hello")[:-1], Code.INTERNAL),
                (b"\0\0", Code.INTERNAL),
                (framed(b"hello", 2), Code.INTERNAL),
                (framed(b"hello", 1), Code.INTERNAL),
                (framed(bytes(1001)), Code.RESOURCE_EXHAUSTED),
                (b"\0\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED),
            ):
                self.assertEqual((await self.statusOf(client, path, data))[0], code, (path, data))
        self.assertEqual((await self.statusOf(client, ECHO, framed(bytes(1000))))[0], Code.OK)

    async def test_aRequestThatCannotBeParsed(self) -> None:
        server = await self.serve(unary_unary_echo)
        server.context.methods.byPath[ECHO.encode()].decode = lambda data: data.decode("ascii")
        client = await self.raw()
        self.assertEqual(
            await self.statusOf(client, ECHO, framed(b"\xff")), (Code.INTERNAL, "the request cannot be parsed")
        )

    async def test_timesThatAreNone(self) -> None:
        await self.serve(unary_unary_echo)
        client = await self.raw()
        for value in "", "1", "S", "123456789S", "-1S", "1 S", "1x":
            self.assertEqual((await self.statusOf(client, ECHO, framed(b""), grpc_timeout=value))[0], Code.INTERNAL)
        for value in "99999999H", "100S", "10000000u":
            self.assertEqual((await self.statusOf(client, ECHO, framed(b""), grpc_timeout=value))[0], Code.OK)


class Compressed(CallCase):
    """grpc-encoding."""

    async def test_messagesIn(self) -> None:
        await self.serve(unary_unary_echo, stream_stream_echo)
        client = await self.raw()
        for path in ECHO, pathOf(stream_stream_echo):
            for encoding, data in (
                ("gzip", gzipped(b"hello")),
                ("deflate", frame(zlib.compress(b"hello"), True)),
                ("gzip", framed(b"hello")),
                ("identity", framed(b"hello")),
            ):
                answer = await client.call(path, data, grpc_encoding=encoding).ended
                self.assertEqual((answer.status, answer.data), ("0", framed(b"hello")))

    async def test_whatCannotBeDecompressed(self) -> None:
        await self.serve(unary_unary_echo, stream_stream_echo, maxReceived=1000)
        client = await self.raw()
        for path in ECHO, pathOf(stream_stream_echo):
            for encoding, data, code in (
                ("snappy", framed(b""), Code.UNIMPLEMENTED),
                ("gzip", framed(b"nonsense", 1), Code.INTERNAL),
                ("gzip", framed(gzipped(bytes(500))[5:-3], 1), Code.INTERNAL),
                ("gzip", gzipped(bytes(100_000)), Code.RESOURCE_EXHAUSTED),
                ("identity", framed(b"", 1), Code.INTERNAL),
            ):
                answer = await client.call(path, data, grpc_encoding=encoding).ended
                self.assertEqual(answer.status, str(int(code)), (encoding, data))
                if encoding == "snappy":
                    self.assertEqual(answer.heads[0]["grpc-accept-encoding"], "identity,gzip,deflate")

    async def test_repliesAreCompressedForThoseWhoReadIt(self) -> None:
        await self.serve(unary_unary_echo, unary_stream_twice, compression="gzip")
        client = await self.raw()
        for path, count in (ECHO, 1), (pathOf(unary_stream_twice), 2):
            answer = await client.call(path, framed(b"hello"), grpc_accept_encoding="identity, gzip").ended
            self.assertEqual(answer.heads[0]["grpc-encoding"], "gzip")
            self.assertEqual(answer.data, gzipped(b"hello") * count)
            answer = await client.call(path, framed(b"hello"), grpc_accept_encoding="deflate").ended
            self.assertNotIn("grpc-encoding", answer.heads[0])
            self.assertEqual(answer.data, framed(b"hello") * count)

    async def test_theHandlerChooses(self) -> None:
        async def unary_stream_chosen(request: bytes, context: Any) -> Any:
            context.set_compression("deflate")
            context.disable_next_message_compression()
            yield request
            yield request

        await self.serve(unary_stream_chosen)
        client = await self.raw()
        answer = await client.call(
            pathOf(unary_stream_chosen), framed(b"hello"), grpc_accept_encoding="gzip,deflate"
        ).ended
        self.assertEqual(answer.heads[0]["grpc-encoding"], "deflate")
        self.assertEqual(answer.data, framed(b"hello") + frame(zlib.compress(b"hello", 6), True))


class Metadata(CallCase):
    """Header fields beside the messages."""

    async def test_whatHandlersSeeAndSay(self) -> None:
        seen = []

        async def unary_unary_tell(request: bytes, context: Any) -> bytes:
            seen.append(context.invocation_metadata())
            await context.send_initial_metadata([("a", "1"), ("b-bin", b"\xff\0")])
            context.set_trailing_metadata((("c", "2"),))
            return request

        await self.serve(unary_unary_tell)
        client = await self.raw()
        path = pathOf(unary_unary_tell)
        answer = await client.call(path, framed(b""), x="y", z_bin="AAE,/w==", grpc_unknown="1", user_agent="u").ended
        self.assertEqual(seen, [(("x", "y"), ("z-bin", b"\0\1"), ("z-bin", b"\xff"), ("user-agent", "u"))])
        self.assertEqual((answer.heads[0]["a"], answer.heads[0]["b-bin"]), ("1", "/wA"))
        self.assertEqual(answer.heads[1], {"grpc-status": "0", "c": "2"})
        answer = await client.call(path, framed(b""), z_bin="!").ended
        self.assertEqual(answer.status, str(int(Code.INTERNAL)))

    async def test_whatCannotBeSent(self) -> None:
        async def unary_unary_wrong(request: bytes, context: Any) -> bytes:
            for name, value in ("A", "1"), ("grpc-x", "1"), ("a", "\n"), ("a", "é"), ("a-bin", "text"), ("te", "x"):
                with self.assertRaises(ValueError):
                    context.set_trailing_metadata([(name, value)])
                with self.assertRaises(ValueError):
                    await context.send_initial_metadata([(name, value)])
                with self.assertRaises(ValueError):
                    context.abort(Code.ABORTED, "", [(name, value)])
            return request

        await self.serve(unary_unary_wrong)
        client = await self.raw()
        self.assertEqual((await client.call(pathOf(unary_unary_wrong), framed(b"")).ended).status, "0")

    async def test_statusesAreEncoded(self) -> None:
        async def unary_unary_fails(request: bytes, context: Any) -> bytes:
            raise StatusError(Code.ABORTED, "50 %\té\r\n", b"\xff", [("a", "1")])

        await self.serve(unary_unary_fails)
        client = await self.raw()
        answer = await client.call(pathOf(unary_unary_fails), framed(b"")).ended
        self.assertEqual(
            answer.heads,
            [
                {
                    ":status": "200",
                    "content-type": "application/grpc",
                    "grpc-status": "10",
                    "grpc-message": "50 %25%09%C3%A9%0D%0A",
                    "grpc-status-details-bin": "/w",
                    "a": "1",
                }
            ],
        )
