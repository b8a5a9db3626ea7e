"""The header of a mesh before Thrift's messages."""

from __future__ import annotations

from typing import Any

from getty_tx import rpc
from getty_tx.errors import CodecError, MessageTooLongError
from tests.rpc import test_thrift
from tests.rpc.test_kitex import ECHO, LIMIT, hexed
from tests.rpc.test_thrift import ANSWER, framed
from tests.support.rpc import Foreign

#: tc=c1; and isn=Other, tc=c1.
HEADER = "ffaf 000a 0001 0002 7463 0002 6331"
NAMED = "ffaf 0016 0002 0003 69736e 0005 4f74686572 0002 7463 0002 6331"


class MeshTests(test_thrift.ThriftCase):
    """Framed, buffered, and in pieces."""

    def test_read(self) -> None:
        """Each call of a session, with a header or without: strings are metadata, and the service has its place."""
        for text in (ECHO, framed(ECHO)):
            data = hexed(HEADER + text + NAMED + text + text + "ffaf0000" + text)
            for step in (len(data), 1, 7):
                codec, found, at, stop, need = self.wire.codec(), [], 0, 0, 0
                while stop < len(data):
                    stop = min(len(data), stop + step)
                    while stop - at >= max(need, 1):
                        message, end = codec.read(LIMIT, memoryview(data[at:stop]))
                        if message is None:
                            self.assertTrue(end == 0 or end > stop - at, (end, stop - at))
                            need = end
                            break
                        at, need = at + end, 0
                        found.append((message.name, message.metadata))
                        self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["hi"])
                metadata = {"tc": "c1"}
                expected: list[Any] = [("Echo/echo", metadata), ("Other/echo", metadata)] + [("Echo/echo", None)] * 2
                self.assertEqual(found, expected)
                self.assertTrue(codec.inOrder)

    def test_served(self) -> None:
        """Replies are as the calls, without a header."""
        seen: list[Any] = []

        class Echo:
            @rpc.method
            def echo(self, text: str) -> str:
                seen.append(rpc.currentCall().metadata)
                return text

        for text, answer in ((ECHO, ANSWER), (framed(ECHO), framed(ANSWER))):
            foreign = Foreign(self.wire, {"Echo": Echo()})
            foreign.pair.peer.write(hexed(HEADER + text) * 2)
            foreign.pair.flush()
            self.assertEqual(bytes(foreign.pair.peer.data), hexed(answer) * 2)
            foreign.session.close()
            foreign.clock.advance(30)
        self.assertEqual(seen, [{"tc": "c1"}] * 4)

    def test_hostile(self) -> None:
        """Headers that are no such, too long, or before something else."""
        for text, why in (
            ("ffaf ffff 0001", "65539 bytes of metadata are above maxMetadata=16384"),
            (f"ffaf 0006 0001 0009 7463 {ECHO}", "ends within a string"),
            (f"ffaf 0004 0001 0000 {ECHO}", "ends within a string"),
            (f"{HEADER} 0000000c 80020001 00000004 00000000", "no Thrift message"),
            (f"ffaf 0008 0001 0002 ffff 0000 {ECHO}", "no UTF-8"),
        ):
            with self.assertRaisesRegex(CodecError, why):
                self.wire.codec().read(LIMIT, memoryview(hexed(text)))
        foreign = Foreign(self.wire, {"Echo": type("E", (), {"echo": rpc.method(lambda self, text: text)})()})
        foreign.pair.peer.write(hexed(f"{HEADER} 7fffffff 80010001"))
        foreign.pair.flush()
        self.assertIsInstance(foreign.session.error, MessageTooLongError)
        foreign.clock.advance(30)
