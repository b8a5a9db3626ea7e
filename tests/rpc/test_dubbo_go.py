"""
The wire of Dubbo reads what dubbo-go writes.

The bytes were written by dubbo-go itself: ``protocol/dubbo`` with ``remoting/getty`` of its commit 08a4387, as a client
and as a server, over a session to this wire. Its client called ``say("hi")`` with an attachment, ``two(7, car)``,
``say("hi")`` by ``$invoke``, and ``tell("x")`` one-way; its server returned a number and null, and threw an exception
of its own, an ``errors.New`` of Go, and one of Java by ``$invoke``. The order of attachments is by chance in Go; here
it is always the same, each reply has all of them, and the address of the client is left out.
"""

from __future__ import annotations

from typing import Any

from getty_tx.rpc.hessian import JavaObject, TypedList
from getty_tx.rpc.messages import ErrorReply, Ping, Pong, Reply, Request
from tests.rpc.test_dubbo_wire import ATTACHED, ECHO, WireCase

_ROUTE = "05322e302e32 0b636f6d2e65782e4563686f 03312e30"
_TAIL = "04706174680b636f6d2e65782e4563686f09696e746572666163650b636f6d2e65782e4563686f0776657273696f6e03312e30"
_TIMEOUT = "0774696d656f75740433303030"
_PLACES = "0a6c6f63616c2d616464720f3132372e302e302e313a323138393005647562626f05322e302e32"
_THROWN = "1073657269616c56657273696f6e5549440d64657461696c4d657373616765"
_SUPPRESSED, _TRACE, _CAUSE = "1473757070726573736564457863657074696f6e73", "0a737461636b5472616365", "056361757365"
_ELEMENTS = "561c5b6a6176612e6c616e672e537461636b5472616365456c656d656e7490"

#: The exceptions: a class with its fields, and an object of it.
_SOLD = (
    f"4317636f6d2e65782e536f6c644f7574457863657074696f6e 96 {_THROWN} {_SUPPRESSED} {_TRACE} {_CAUSE} 066e756d626572"
    "60 e0 06736f6c6420c3a9 4e 4e 4e 97"
)
_GO = (
    f"43136a6176612e6c616e672e5468726f7761626c65 95 {_THROWN} {_SUPPRESSED} {_TRACE} {_CAUSE}"
    f"60 e0 0a6120476f206572726f72 4e {_ELEMENTS} 4e"
)
_STATE = (
    f"431f6a6176612e6c616e672e496c6c6567616c5374617465457863657074696f6e 95 {_THROWN} {_TRACE} {_SUPPRESSED} {_CAUSE}"
    f"60 e0 09626164207374617465 {_ELEMENTS} 4e 4e"
)


def go(flags: str, status: int, number: int, body: str) -> bytes:
    """A package with the head that dubbo-go wrote."""
    data = bytes.fromhex(body)
    head = bytes.fromhex("dabb" + flags) + bytes([status]) + number.to_bytes(8, "big")
    return head + len(data).to_bytes(4, "big") + data


class ClientTests(WireCase):
    """What its client sends."""

    def ask(self, body: str, flags: str = "c2") -> Any:
        """The request in a body."""
        message = self.read(go(flags, 0, 2, _ROUTE + body))
        self.assertIsInstance(message, Request)
        return message

    def test_text(self) -> None:
        """A call with an attachment and a time."""
        message = self.ask(
            f"03736179 124c6a6176612f6c616e672f537472696e673b 026869 48 0475736572 0131 {_TAIL} {_TIMEOUT} 5a"
        )
        self.assertEqual((message.name, message.payload), (f"{ECHO}/say", ["hi"]))
        self.assertEqual((message.metadata, message.timeout, message.isOneWay), ({"user": "1"}, 3.0, False))
        self.assertTrue(message.id & ATTACHED)

    def test_object(self) -> None:
        """A number, and an object with a list and a map."""
        message = self.ask(
            "0374776f 0d494c636f6d2f65782f4361723b 97 430a636f6d2e65782e4361729505636f6c6f7205646f6f7273046e657874"
            f"04746167730565787472616003726564934e56075b737472696e67910161485a 48 {_TAIL} {_TIMEOUT} 5a"
        )
        fields = {"color": "red", "doors": 3, "next": None, "tags": TypedList("[string", ["a"]), "extra": {}}
        self.assertEqual((message.name, message.payload), (f"{ECHO}/two", [7, JavaObject("com.ex.Car", fields)]))
        self.assertIsNone(message.metadata)

    def test_generic(self) -> None:
        """A call by ``$invoke`` is one of the method."""
        message = self.ask(
            "0724696e766f6b65 30384c6a6176612f6c616e672f537472696e673b5b4c6a6176612f6c616e672f537472696e673b5b4c6a6176"
            "612f6c616e672f4f626a6563743b 03736179 56075b737472696e6791106a6176612e6c616e672e537472696e67"
            f"56075b6f626a656374 91 026869 48 {_TIMEOUT} 0767656e65726963 0474727565 {_TAIL} 5a"
        )
        self.assertEqual((message.name, list(message.payload)), (f"{ECHO}/say", ["hi"]))

    def test_oneWay(self) -> None:
        """An asynchronous call without a callback wants no reply."""
        tell = (
            f"0474656c6c 124c6a6176612f6c616e672f537472696e673b 0178 48 {_TAIL} {_TIMEOUT} 056173796e63 0474727565 5a"
        )
        message = self.ask(tell, "82")
        self.assertEqual((message.name, message.payload, message.isOneWay), (f"{ECHO}/tell", ["x"], True))

    def test_heartbeats(self) -> None:
        """One of its own, and its answer to one of ours or to the notice of going away, with two nulls."""
        self.assertIsInstance(self.read(go("e2", 0, 2, "4e")), Ping)
        self.assertIsInstance(self.read(go("22", 20, 0x100000001, "4e4e")), Pong)


class ServerTests(WireCase):
    """What its server answers: it gives the attachments back, and those that Dubbo needs are none of the metadata."""

    def answer(self, body: str) -> Any:
        """The reply in a body, with all that dubbo-go has put behind it."""
        return self.read(go("02", 20, 3, f"{body} 48 {_PLACES} 0475736572 0131 {_TIMEOUT} {_TAIL} 5a 4e"))

    def test_values(self) -> None:
        """A long, and null."""
        for body, value in (("94 e3", 3), ("95", None)):
            message = self.answer(body)
            self.assertEqual((type(message), message.id, message.payload), (Reply, 3, value))
            self.assertEqual(message.metadata, {"user": "1", "local-addr": "127.0.0.1:21890"})

    def test_exceptions(self) -> None:
        """Those of a class of the program, of Go itself, and of Java."""
        for body, name, text in (
            (_SOLD, "com.ex.SoldOutException", "sold é"),
            (_GO, "java.lang.Throwable", "a Go error"),
            (_STATE, "java.lang.IllegalStateException", "bad state"),
        ):
            message = self.answer(f"93 {body}")
            self.assertEqual((type(message), message.code, message.text), (ErrorReply, name, text))
            self.assertEqual((message.details.name, message.details.fields["cause"]), (name, None))
            self.assertEqual(message.metadata["user"], "1")
