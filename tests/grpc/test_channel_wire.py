"""A channel with a server that does not do as servers of gRPC do."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.http.grpc import Code, StatusError
from getty_tx.http.grpc.timeouts import decodeTimeout
from getty_tx.http.two.engines import ENGINE
from tests.support.h2peer import OK, H2Peer, PeerFactory, framed

PATH = "/a.B/C"
OTHER = os.environ | {ENGINE: "h2"}


class WireTestCase(TestCase):
    """A server whose answers the test writes, and a channel with it."""

    timeout = 20

    def serve(self, serve: Any) -> PeerFactory:
        """Listen."""
        self.factory = PeerFactory(serve)
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.target = f"127.0.0.1:{port.getHost().port}"
        return self.factory

    def channel(self, **options: Any) -> http.grpc.Channel:
        """A channel that has started."""
        channel = http.grpc.Channel(self.target, reconnectInterval=0.02, **options)
        channel.startService()
        self.addCleanup(channel.close)
        return channel

    def call(self, request: bytes = b"hi", **options: Any) -> Any:
        """A call of a unary method over a channel of its own."""
        return self.channel().unary_unary(PATH)(request, **options)

    async def fails(self, call: Any, code: Code) -> StatusError:
        """A call ends with this code."""
        error = await self.assertFailure(call, StatusError)
        self.assertIs(error.code, code)
        return error

    async def failsWith(self, code: Code, *parts: bytes, **options: Any) -> StatusError:
        """A unary call that is answered so ends with this code."""
        self.serve(lambda peer, stream, _: peer.answer(stream, *parts, **options))
        return await self.fails(self.call(), code)

    async def soon(self, condition: Any) -> None:
        """Wait for something."""
        while not condition():
            await deferLater(reactor, 0.005)


class AnswerTests(WireTestCase):
    """Answers that are cut, wrong or not gRPC's."""

    async def test_request(self) -> None:
        """What a request looks like."""
        self.serve(lambda peer, stream, _: peer.echo(stream))
        self.assertEqual(await self.call(timeout=5.0, metadata=(("a-bin", b"\0\xff"), ("b", "c"))), b"hi")
        fields = self.factory.peers[0].requests[1]
        left = decodeTimeout(fields.pop("grpc-timeout").encode())
        self.assertTrue(0 < left <= 5.0, left)
        self.assertEqual(
            fields,
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": PATH,
                ":authority": self.target,
                "te": "trailers",
                "content-type": "application/grpc",
                "user-agent": "grpc-getty_tx",
                "grpc-accept-encoding": "identity,gzip,deflate",
                "a-bin": "AP8",
                "b": "c",
            },
        )

    async def test_httpStatus(self) -> None:
        """Where there is no grpc-status, HTTP's says what it was."""
        codes = {"401": Code.UNAUTHENTICATED, "404": Code.UNIMPLEMENTED, "503": Code.UNAVAILABLE, "418": Code.UNKNOWN}
        for status, code in codes.items():
            error = await self.failsWith(code, head=[(":status", status), ("content-type", "text/html")])
            self.assertIn(status, error.text)

    async def test_statusInHead(self) -> None:
        """A status of gRPC counts more than one of HTTP."""
        head = [(":status", "503"), ("grpc-status", "5"), ("grpc-message", "a%20b%zz")]

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            peer.h2.send_headers(stream, head, end_stream=True)

        self.serve(serve)
        error = await self.fails(self.call(), Code.NOT_FOUND)
        self.assertEqual(error.text, "a b%zz")

    async def test_contentType(self) -> None:
        """A proxy's page is no answer."""
        head = [(":status", "200"), ("content-type", "text/html")]
        await self.failsWith(Code.UNKNOWN, b"<html>", head=head)

    async def test_noTrailers(self) -> None:
        """It ends, and nothing says how."""

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            peer.h2.send_headers(stream, OK)
            peer.h2.send_data(stream, framed(b"x"), end_stream=True)

        self.serve(serve)
        await self.fails(self.call(), Code.UNKNOWN)

    async def test_unknownStatus(self) -> None:
        """A status that is none."""
        for status in ("99", "x"):
            await self.failsWith(Code.UNKNOWN, framed(b"x"), trailers=[("grpc-status", status)])

    async def test_details(self) -> None:
        """Metadata behind the answer comes with the error."""
        trailers = [
            ("grpc-status", "9"),
            ("grpc-status-details-bin", "CAk"),
            ("x-bin", "AA,AQ=="),
            ("y-bin", "!"),
            ("z", "1"),
        ]
        error = await self.failsWith(Code.FAILED_PRECONDITION, trailers=trailers)
        self.assertEqual(error.details, b"\x08\x09")
        self.assertIn(("x-bin", b"\x00"), error.trailers)
        self.assertIn(("x-bin", b"\x01"), error.trailers)
        self.assertIn(("z", "1"), error.trailers)
        self.assertNotIn("y-bin", dict(error.trailers))
        self.assertTrue(error.sent)

    async def test_severalReplies(self) -> None:
        """A method with one reply has one."""
        await self.failsWith(Code.UNIMPLEMENTED, framed(b"x"), framed(b"y"))
        await self.failsWith(Code.UNIMPLEMENTED, framed(b"x") + framed(b"y"))

    async def test_noReply(self) -> None:
        """OK needs one."""
        await self.failsWith(Code.UNIMPLEMENTED)

    async def test_cut(self) -> None:
        """A message ends within."""
        await self.failsWith(Code.INTERNAL, framed(b"xyz")[:-1])

    async def test_tooLarge(self) -> None:
        """A message that is announced as larger than it may be is not waited for."""
        self.serve(lambda peer, stream, _: peer.answer(stream, b"\0\xff\xff\xff\xff", trailers=None))
        await self.fails(self.call(), Code.RESOURCE_EXHAUSTED)
        await self.soon(lambda: self.factory.resets)
        self.assertEqual(self.factory.resets, [(1, 8)])

    async def test_small(self) -> None:
        """The limit holds for a message that comes whole."""
        self.serve(lambda peer, stream, _: peer.echo(stream))
        method = self.channel(maxReceived=3).unary_unary(PATH)
        self.assertEqual(await method(b"123"), b"123")
        await self.fails(method(b"1234"), Code.RESOURCE_EXHAUSTED)

    async def test_inPieces(self) -> None:
        """Messages are cut anywhere."""
        data = framed(b"x" * 100)
        self.serve(lambda peer, stream, _: peer.answer(stream, *[bytes([each]) for each in data]))
        self.assertEqual(await self.call(), b"x" * 100)

    async def test_resets(self) -> None:
        """What a reset means."""
        codes = {8: Code.CANCELLED, 11: Code.RESOURCE_EXHAUSTED, 12: Code.PERMISSION_DENIED, 2: Code.INTERNAL}
        for code, status in codes.items():

            def serve(peer: H2Peer, stream: int, _: Any, code: int = code) -> None:
                peer.h2.reset_stream(stream, code)

            self.serve(serve)
            await self.fails(self.call(), status)

    async def test_early(self) -> None:
        """A server that has answered before all was sent wants no more."""
        self.serve(lambda peer, stream, _: peer.answer(stream, framed(b"x"))).atHead = True
        call = self.channel().stream_unary(PATH)()
        self.assertEqual(await call, b"x")
        await self.soon(lambda: self.factory.resets)
        self.assertEqual(self.factory.resets, [(1, 0)])
        await self.fails(call.write(b"y"), Code.FAILED_PRECONDITION)


class CompressionTests(WireTestCase):
    """Messages that are compressed."""

    async def test_gzip(self) -> None:
        """Both encodings are read."""
        packed = {"gzip": gzip.compress(b"x" * 1000), "deflate": zlib.compress(b"x" * 1000)}
        for name, data in packed.items():
            head = [*OK, ("grpc-encoding", name)]

            def serve(peer: H2Peer, stream: int, _: Any, data: bytes = data, head: Any = head) -> None:
                peer.answer(stream, framed(data, 1), head=head)

            self.serve(serve)
            self.assertEqual(await self.call(), b"x" * 1000)

    async def test_sent(self) -> None:
        """Requests say how they are compressed."""
        self.serve(lambda peer, stream, _: peer.echo(stream))
        method = self.channel(compression="gzip").unary_unary(PATH)
        # The echo is compressed, and its head does not say so.
        await self.fails(method(b"x" * 1000), Code.INTERNAL)
        peer = self.factory.peers[0]
        self.assertEqual(peer.requests[1]["grpc-encoding"], "gzip")
        self.assertEqual(gzip.decompress(peer.bodies[1][5:]), b"x" * 1000)
        self.assertEqual(await method(b"x", compression="identity"), b"x")
        self.assertNotIn("grpc-encoding", peer.requests[3])

    async def test_unknown(self) -> None:
        """Nobody has asked for this encoding."""
        await self.failsWith(Code.UNIMPLEMENTED, framed(b"x", 1), head=[*OK, ("grpc-encoding", "br")])

    async def test_bomb(self) -> None:
        """What a message becomes is limited, too."""
        data = framed(gzip.compress(bytes(5 * 1024 * 1024)), 1)
        await self.failsWith(Code.RESOURCE_EXHAUSTED, data, head=[*OK, ("grpc-encoding", "gzip")])


class ConnectionTests(WireTestCase):
    """Connections that refuse, leave, say nothing or end."""

    async def test_refusedOnce(self) -> None:
        """A stream that was refused is opened once more, and only once."""

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            served.append(stream)
            if len(served) in (1, 3, 4):
                peer.h2.reset_stream(stream, 7)
            else:
                peer.echo(stream)

        served: list[int] = []
        self.serve(serve)
        method = self.channel().unary_unary(PATH)
        self.assertEqual(await method(b"x", timeout=5), b"x")
        self.assertEqual(served, [1, 3])
        error = await self.fails(method(b"x"), Code.UNAVAILABLE)
        self.assertFalse(error.sent)
        self.assertEqual(served, [1, 3, 5, 7])

    async def test_goAway(self) -> None:
        """Streams above the last one run elsewhere, those below end there, and nothing new is opened there."""
        held: list[tuple[H2Peer, int]] = []

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            held.append((peer, stream))
            if len(self.factory.peers) > 1:
                peer.echo(stream)
            elif len(held) == 2:
                peer.leave(1)

        self.serve(serve)
        channel = self.channel()
        await channel.channel_ready()
        method = channel.unary_unary(PATH)
        first, second = method(b"1"), method(b"2")
        self.assertEqual(await second, b"2")
        self.assertFalse(first.done())
        self.assertEqual(await method(b"3"), b"3")
        peer, stream = held[0]
        self.assertEqual(stream, 1)
        peer.echo(stream)
        self.assertEqual(await first, b"1")
        # The channel closes what is of no use.
        await self.soon(lambda: not peer.transport.connected)
        self.assertEqual(len(self.factory.peers), 2)

    async def test_maxStreams(self) -> None:
        """More calls than the server takes wait, in their order; one that is cancelled is not made."""
        running: list[tuple[H2Peer, int]] = []
        self.serve(lambda peer, stream, _: running.append((peer, stream))).maxStreams = 2
        method = self.channel().unary_unary(PATH)
        calls = [method(b"%d" % number) for number in range(5)]
        dropped, late = method(b"x"), method(b"late", timeout=0.05)
        self.assertTrue(dropped.cancel())
        await self.fails(dropped, Code.CANCELLED)
        error = await self.fails(late, Code.DEADLINE_EXCEEDED)
        self.assertFalse(error.sent)
        replies = []
        while len(replies) < 5:
            await self.soon(lambda: running)
            self.assertLessEqual(len(running), 2)
            peer, stream = running.pop(0)
            replies.append(peer.bodies[stream][5:])
            peer.echo(stream)
        self.assertEqual(replies, [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual(await gatherResults(calls), replies)

    async def test_tooManyPings(self) -> None:
        """A server that says so gets half as many from the next connection."""

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            if len(self.factory.peers) == 1:
                peer.leave(0, 11, b"too_many_pings")
            else:
                peer.echo(stream)

        self.serve(serve)
        channel = self.channel(keepAlive=20.0)
        self.assertEqual(await channel.unary_unary(PATH)(b"x"), b"x")
        self.assertEqual(channel.times.pingInterval, 40.0)

    async def test_oneAfterTheOther(self) -> None:
        """Who calls when a call has ended need not wait for its stream to be gone."""
        self.serve(lambda peer, stream, _: peer.echo(stream)).maxStreams = 1
        channel = self.channel()
        await channel.channel_ready()
        method = channel.unary_unary(PATH)
        again: list[Any] = []
        call = method(b"1")
        call.add_done_callback(lambda _: again.append(method(b"2")))
        self.assertEqual(await call, b"1")
        self.assertTrue(again[0].number)
        self.assertEqual(await again[0], b"2")

    async def test_answeredEarly(self) -> None:
        """What a server that has answered does not take is not sent any more."""
        self.serve(lambda peer, stream, _: peer.answer(stream, framed(b"x"))).atHead = True
        self.factory.takes = False
        self.assertEqual(await self.call(bytes(1_000_000)), b"x")
        await self.soon(lambda: self.factory.resets)
        self.assertEqual(self.factory.resets, [(1, 0)])

    async def test_lost(self) -> None:
        """The connection ends."""
        self.serve(lambda peer, stream, _: peer.transport.abortConnection())
        error = await self.fails(self.call(), Code.UNAVAILABLE)
        self.assertTrue(error.sent)

    async def test_cancel(self) -> None:
        """The server is told, and what it answers then is nothing."""
        got: Deferred[tuple[H2Peer, int]] = Deferred()
        self.serve(lambda peer, stream, _: got.callback((peer, stream)))
        call = self.call()
        await got
        call.cancel()
        error = await self.fails(call, Code.CANCELLED)
        self.assertTrue(error.sent)
        self.assertFalse(call.cancel())
        await self.soon(lambda: self.factory.resets)
        self.assertEqual(self.factory.resets, [(1, 8)])

    async def test_deadline(self) -> None:
        """It is not the server that ends it."""
        self.serve(lambda peer, stream, _: None)
        channel = self.channel(timeout=0.05)
        await self.fails(channel.unary_unary(PATH)(b"x"), Code.DEADLINE_EXCEEDED)
        await self.soon(lambda: self.factory.resets)
        error = await self.fails(channel.unary_unary(PATH)(b"x", timeout=-1), Code.DEADLINE_EXCEEDED)
        self.assertFalse(error.sent)

    async def test_keepAlive(self) -> None:
        """A server that is silent is left."""
        self.serve(lambda peer, stream, _: setattr(self.factory, "isSilent", True))
        channel = self.channel(keepAlive=0.05, keepAliveTimeout=0.05)
        error = await self.fails(channel.unary_unary(PATH)(b"x"), Code.UNAVAILABLE)
        self.assertIn("no answer to PING in 0.05 s", error.text)


class FlowTests(WireTestCase):
    """Windows, both ways."""

    async def test_writer(self) -> None:
        """Who writes waits for a server that takes nothing."""
        self.serve(lambda peer, stream, _: None).takes = False
        call = self.channel().stream_stream(PATH)()
        written = 0
        while True:
            writing = call.write(bytes(16 * 1024))
            if written and not writing.called:
                break
            await writing
            written += 1
        self.assertLess(written, 20)
        call.cancel()
        await self.fails(writing, Code.CANCELLED)

    async def test_reader(self) -> None:
        """A server that sends waits for a reader that reads nothing; another stream goes on."""
        sent = 0

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            nonlocal sent
            if stream > 1:
                peer.echo(stream)
                return
            peer.h2.send_headers(stream, OK)
            while peer.h2.local_flow_control_window(stream) > 16 * 1024:
                peer.h2.send_data(stream, framed(bytes(8 * 1024 - 5)))
                sent += 1

        self.serve(serve)
        channel = self.channel()
        call = channel.unary_stream(PATH)(b"x")
        await call.initial_metadata()
        self.assertEqual(await channel.unary_unary(PATH)(b"y"), b"y")
        peer = self.factory.peers[0]
        self.assertLess(peer.h2.local_flow_control_window(1), 32 * 1024)
        for _ in range(sent):
            self.assertEqual(len(await call.read()), 8 * 1024 - 5)
        await self.soon(lambda: peer.h2.local_flow_control_window(1) > 128 * 1024)
        call.cancel()

    async def test_readersThatReadNothing(self) -> None:
        """Streams of replies that nobody reads hold themselves alone, however many there are."""

        def serve(peer: H2Peer, stream: int, _: Any) -> None:
            if peer.bodies[stream] == framed(b"y"):
                peer.echo(stream)
                return
            peer.h2.send_headers(stream, OK)
            while peer.h2.local_flow_control_window(stream) >= 8 * 1024:
                peer.h2.send_data(stream, framed(bytes(8 * 1024 - 5)))

        self.serve(serve)
        channel = self.channel()
        calls = [channel.unary_stream(PATH)(b"x") for _ in range(10)]
        for call in calls:
            await call.initial_metadata()
        self.assertEqual(await channel.unary_unary(PATH)(b"y"), b"y")
        peer = self.factory.peers[0]
        self.assertEqual([peer.h2.local_flow_control_window(1 + 2 * i) for i in range(10)], [0] * 10)
        for call in calls:
            call.cancel()


class ConnectionsOnH2Tests(ConnectionTests):
    """The same where ngh2 is missing."""

    def setUp(self) -> None:
        self.patch(os, "environ", OTHER)


class FlowOnH2Tests(FlowTests):
    """The same where ngh2 is missing."""

    def setUp(self) -> None:
        self.patch(os, "environ", OTHER)
