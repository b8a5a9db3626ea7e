"""Requests of hypothesis: any split gives the same, h11 agrees, and nothing raises but a refusal."""

from __future__ import annotations

from typing import Any

import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http import Request
from getty_tx.http.body import BodyPart
from getty_tx.http.codec import HTTPCodec
from getty_tx.http.context import HTTPContext
from getty_tx.http.handlers import Handler
from getty_tx.http.refusals import Refused
from tests.support.long import examples

TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
VALUE = (
    st.binary(max_size=12)
    .map(lambda data: bytes(max(each, 32) for each in data).replace(b"\x7f", b" "))
    .map(lambda data: data.replace(b"\x85", b"").strip())
)
#: Pieces of which heads and bodies are made, right ones and wrong ones.
PIECES = st.sampled_from(
    [
        *b"GET|POST|HEAD| |/|/a?b=c|http://a/|*|HTTP/1.1|HTTP/1.0|Content-Length: |abcde|: |;|\x85|\x00|\n|\r".split(
            b"|"
        ),
        *[
            name + b"\r\n"
            for name in b"|Host: a|Host: b|Content-Length: 5|Connection: close|Connection: upgrade".split(b"|")
        ],
        *[name + b"\r\n" for name in b"Upgrade: h2c|Expect: 100-continue|A: b|Transfer-Encoding: gzip".split(b"|")],
        *[b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n"],
        *[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", b"GET /x HTTP/1.0\r\n\r\n"],
    ]
)


class _Session:
    """What the codec asks of a session."""

    maxMsgLen = 64 * 1024
    #: HTTP/2 only comes first.
    pkgsRead = 1


def read(data: bytes, cuts: Any = (), many: bool = False) -> list[Any]:
    """
    What a codec makes of bytes that come in pieces, as a session would ask it.

    :return: method, target, headers, body and whether it is complete of each request; at the end the status of a
        refusal.
    """
    codec = HTTPCodec(HTTPContext(Handler(lambda request: None)), lambda: None)
    found: list[Any] = []
    unread = b""

    def take(pkg: Any) -> None:
        if isinstance(pkg, Request):
            content = pkg.content
            head = [pkg.method, pkg.target, pkg.fields.headers]
            found.append([*head, b"" if content is None else content, content is not None])
        elif isinstance(pkg, BodyPart):
            found[-1][3] += pkg.data
            found[-1][4] = pkg.isLast
        else:
            assert isinstance(pkg, Refused), pkg
            found.append(pkg.status)

    ends = sorted({*(cut % (len(data) + 1) for cut in cuts), len(data)})
    begin = 0
    for end in ends:
        unread += data[begin:end]
        begin = end
        while unread:
            if many:
                several = codec.readMany(_Session, unread, 0, _Session.maxMsgLen)
                for pkg, _ in several:
                    take(pkg)
                unread = unread[several[-1][1] if several else 0 :]
                if not unread:
                    break
            pkg, length = codec.read(_Session, memoryview(unread))
            if pkg is None:
                assert length == 0
                break
            assert 0 < length <= len(unread)
            unread = unread[length:]
            take(pkg)
            if isinstance(pkg, Refused):
                return found
    return found


def byH11(data: bytes) -> list[Any]:
    """What h11 makes of the same bytes; None where it refuses."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    found: list[Any] = []
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            return [*found, None]
        if isinstance(event, h11.Request):
            found.append([event.method.decode(), event.target, tuple(event.headers), b"", False])
        elif isinstance(event, h11.Data):
            found[-1][3] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            found[-1][4] = True
            if reader.their_state is not h11.DONE:
                return found
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            reader.send(h11.EndOfMessage())
            if reader.our_state is not h11.DONE:
                return found
            reader.start_next_cycle()
        else:
            return found


@st.composite
def requests(draw: Any) -> bytes:
    """Some well-formed requests, one behind the other."""
    data = b""
    for _ in range(draw(st.integers(1, 4))):
        headers = draw(st.lists(st.tuples(TOKEN, VALUE), max_size=5))
        data += (
            draw(st.sampled_from([b"GET", b"POST", b"PUT"])) + b" /" + draw(st.sampled_from([b"", b"a", b"a?b=%20"]))
        )
        data += b" HTTP/1.1\r\nHost: a\r\n"
        data += b"".join(
            b"x-" + name + b":" + draw(st.sampled_from([b"", b" ", b"\t "])) + value + b"\r\n"
            for name, value in headers
        )
        body = draw(st.binary(max_size=40))
        framing = draw(st.integers(0, 2))
        if framing == 1:
            data += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        elif framing == 2:
            data += b"Transfer-Encoding: chunked\r\n\r\n"
            while body:
                size = draw(st.integers(1, len(body)))
                data += b"%x%b\r\n%b\r\n" % (size, draw(st.sampled_from([b"", b";a=b"])), body[:size])
                body = body[size:]
            data += b"0\r\n" + draw(st.sampled_from([b"", b"T: x\r\n"])) + b"\r\n"
        else:
            data += b"\r\n"
    return data


CUTS = st.lists(st.integers(0, 2000), max_size=12)
modest = settings(deadline=None, database=None, max_examples=examples(300), suppress_health_check=list(HealthCheck))


class RandomTests(SynchronousTestCase):
    """The codec alone."""

    @modest
    @given(requests(), CUTS)
    def test_wellFormed(self, data: bytes, cuts: list[int]) -> None:
        whole = read(data)
        self.assertTrue(all(not isinstance(each, int) and each[4] for each in whole), whole)
        for many in (False, True):
            self.assertEqual(read(data, cuts, many), whole)
        self.assertEqual(read(data, range(len(data))), whole)
        self.assertEqual(byH11(data), whole)

    @modest
    @given(st.lists(PIECES, max_size=25).map(b"".join), CUTS)
    def test_any(self, data: bytes, cuts: list[int]) -> None:
        whole = read(data)
        # The bytes come before the status, which tells the first that was found to be wrong.
        for many in (False, True):
            self.assertEqual(refusals(read(data, cuts, many)), refusals(whole))

    @modest
    @given(st.lists(PIECES, max_size=25).map(b"".join))
    def test_againstH11(self, data: bytes) -> None:
        """Where both read a request to its end, they read the same; what h11 refuses is not served by us."""
        ours, theirs = read(data), byH11(data)
        for mine, other in zip(ours, theirs, strict=False):
            if isinstance(mine, int) or other is None or not (mine[4] and other[4]):
                break
            self.assertEqual(mine[0], other[0])
            self.assertEqual(mine[2:], other[2:])
        # Of the empty lines that may come before a request, h11 takes none.
        if None in theirs and not data.startswith(b"\r\n") and b"\r\n\r\n\r\n" not in data:
            at = theirs.index(None)
            served = [each for each in ours if not isinstance(each, int) and each[4]]
            self.assertLessEqual(len(served), at, (data, ours, theirs))

    @modest
    @given(st.binary(max_size=300), CUTS)
    def test_bytes(self, data: bytes, cuts: list[int]) -> None:
        read(data, cuts, True)
        read(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data, cuts)
        read(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n", cuts)


def refusals(found: list[Any]) -> list[Any]:
    """The same, where all refusals are alike: which of two faults is found first depends on what has come."""
    return ["refused" if isinstance(each, int) else each for each in found]
