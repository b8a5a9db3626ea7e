"""The tools for users' tests: connected sessions, the recording listener, the reference reader, and their docs."""

from __future__ import annotations

import doctest
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesisSettings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import testing
from getty_tx.codecs import LengthCodec, LineCodec, NetstringCodec, VarintCodec
from getty_tx.testing import (
    MemoryReactor,
    Network,
    RecordingListener,
    connectedPeer,
    connectedSessions,
    feedSplit,
    readAll,
)
from tests.support.long import examples
from tests.support.memory import configure, frame


class SessionsTests(SynchronousTestCase):
    """connectedSessions and the rest."""

    def test_connectedSessions(self) -> None:
        """Two open sessions on one clock."""
        echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg * 2)})
        heard = RecordingListener()
        clock = MemoryReactor()
        pair = connectedSessions(configure(echo), configure(heard), clock=clock, split=[1], delay=0.1, capacity=3)
        self.assertEqual((echo.names, heard.names), (["open"], ["open"]))
        self.assertIs(pair.clock, clock)
        pair.client.writePkg(b"ab")
        pair.advance(2)
        self.assertEqual((echo.packages, heard.packages), ([b"ab"], [b"abab"]))
        self.assertIn("TCP_CLIENT", str(pair.client))
        self.assertIn("TCP_SERVER", str(pair.server))
        pair.client.close()
        pair.advance(2)
        self.assertEqual((echo.names[-1], heard.names[-1]), ("close", "close"))
        self.assertTrue(pair.server.isClosed and pair.client.isClosed)

    def test_refused(self) -> None:
        """There is no session if the connection was refused."""
        pair = connectedSessions(lambda session: None, configure())
        self.assertIn("server has no session", str(self.assertRaises(AssertionError, lambda: pair.server)))
        self.assertRaises(AssertionError, lambda: pair.peer)

    def test_factoryRefuses(self) -> None:
        """connect fails if a factory refuses."""
        network = Network()
        server = Factory()
        self.patch(server, "buildProtocol", lambda address: None)
        self.assertRaises(AssertionError, network.connect, server, network.clientFactory(configure()))

    def test_connectedPeer(self) -> None:
        """A session and a peer; the peer ends when ``end`` is called, or with the session."""
        pair = connectedPeer(configure())
        pair.server.writePkg(b"x")
        pair.server.close()
        pair.flush()
        self.assertEqual((bytes(pair.peer.data), pair.peer.ended, pair.peer.lost), (frame(b"x"), True, None))
        pair = connectedPeer(configure(), autoClose=True)
        pair.server.close()
        pair.flush()
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        pair.peer.end()

    def test_recordingListener(self) -> None:
        """Events are recorded with their arguments; each may have a hook, also an async one; others are refused."""
        gate: Deferred[None] = Deferred()

        async def onMessage(session: Any, pkg: bytes) -> None:
            await gate

        def onClose(session: Any) -> None:
            session.attributes["closed"] = True

        heard = RecordingListener(on={"message": onMessage, "close": onClose})
        pair = connectedPeer(configure(heard, cronPeriod=1.0), autoClose=True)
        pair.advance(1.1)
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        self.assertEqual(heard.events, [("open",), ("cron",), ("message", b"1")])
        gate.callback(None)
        error = ValueError("x")
        pair.server.close(error)
        pair.flush()
        self.assertEqual(heard.events[2:], [("message", b"1"), ("message", b"2"), ("error", error), ("close",)])
        self.assertEqual((heard.packages, heard.errors), ([b"1", b"2"], [error]))
        self.assertRaises(ValueError, RecordingListener, on={"mesage": print})


class ReadingTests(SynchronousTestCase):
    """readAll and feedSplit."""

    def test_readAll(self) -> None:
        """All packages, and the rest."""
        self.assertEqual(readAll(LengthCodec(), frame(b"a") + frame(b"") + b"\0"), ([b"a", b""], b"\0"))
        self.assertEqual(readAll(LengthCodec(), b""), ([], b""))

    @hypothesisSettings(max_examples=examples(50), deadline=None)
    @given(
        st.sampled_from([LengthCodec(), NetstringCodec(), VarintCodec()]),
        st.lists(st.binary(max_size=300), max_size=8),
        st.lists(st.integers(0, 50), max_size=30),
    )
    def test_anySplit(self, codec: Any, packages: list[bytes], sizes: list[int]) -> None:
        """Any split of the stream gives the same packages."""
        data = b"".join(
            piece if isinstance(piece, bytes) else b"".join(piece) for piece in (codec.write(None, p) for p in packages)
        )
        self.assertEqual(feedSplit(codec, data, sizes), (packages, b""))
        self.assertEqual(feedSplit(codec, data[:-1], sizes)[0], packages[:-1])

    def test_need(self) -> None:
        """read is not called again before the bytes that it asked for have come."""
        asked: list[int] = []

        class Asking(LengthCodec):
            def read(self, session: Any, data: memoryview) -> tuple[bytes | None, int]:
                asked.append(len(data))
                return super().read(session, data)

        self.assertEqual(feedSplit(Asking(), frame(bytes(100)), [1, 3, 50]), ([bytes(100)], b""))
        self.assertEqual(asked, [1, 4, 104])

    def test_impossible(self) -> None:
        """Invalid answers raise an AssertionError."""

        class Answer:
            def __init__(self, answer: Any) -> None:
                self.answer = answer

            def read(self, session: Any, data: memoryview) -> Any:
                return self.answer

        for answer, text in (
            (None, "not a tuple"),
            ((b"p",), "not a tuple"),
            ((b"p", "4"), "not a whole number"),
            ((b"p", True), "not a whole number"),
            ((b"p", -1), "negative"),
            ((b"p", 0), "forever"),
            ((b"p", 5), "only 4 are available"),
            ((None, 4), "are available already"),
        ):
            self.assertIn(text, str(self.assertRaises(AssertionError, readAll, Answer(answer), b"abcd")))
        self.assertRaises(ValueError, feedSplit, LineCodec(), b"abcd", [-1])

    def test_codecsError(self) -> None:
        """Exceptions of read are raised."""
        self.assertRaises(ValueError, readAll, type("C", (), {"read": lambda *args: int("x")})(), b"abcd")


class DocumentationTests(SynchronousTestCase):
    """The names that users import."""

    def test_all(self) -> None:
        """Every public name exists and has a docstring."""
        for name in testing.__all__:
            self.assertTrue(getattr(testing, name).__doc__, name)

    def test_example(self) -> None:
        """The example in the package's docstring runs."""

        class MyListener(RecordingListener):
            def onMessage(self, session: Any, pkg: bytes) -> Any:
                session.writePkg(pkg + b" to you")

        assert testing.__doc__ is not None
        lines = testing.__doc__.split("::\n", 1)[1].split("\nThe transports", 1)[0]
        code = "\n".join(line[4:] for line in lines.splitlines())
        exec(compile(code, "example", "exec"), {"LineCodec": LineCodec, "MyListener": MyListener})

    def test_noDoctests(self) -> None:
        """The examples in docstrings are not doctests, because nothing runs those."""
        for module in (testing.reactor, testing.memory, testing.sessions, testing.reading):
            self.assertEqual([t for t in doctest.DocTestFinder().find(module) if t.examples], [])
