"""The access log."""

from __future__ import annotations

import json
import os
import re
import time
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http import access
from getty_tx.http.fields import Fields
from getty_tx.http.request import Request
from tests.support.http import Case

GET = b'GET /a?b="c" HTTP/1.1\r\nHost: a\r\nReferer: http://x/\r\nUser-Agent: evil " \\ \xe4\t\r\n\r\n'


class AccessTests(Case):
    """Lines for answers."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.now = Clock()

    def read(self) -> list[str]:
        """The lines so far."""
        self.now.advance(0)
        with open(self.path) as file:
            return file.read().splitlines()

    def log(self, form: str = "combined") -> http.AccessLog:
        """A log that is closed with the test."""
        log = http.AccessLog(self.path, form, reactor=self.now)
        self.addCleanup(log.close)
        return log

    def test_combined(self) -> None:
        talk = self.talk(lambda request: b"hello")
        talk.context.access = self.log()
        talk.send(GET)
        self.assertRegex(
            self.read()[0],
            r"^198\.51\.100\.1 - - \[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000\]"
            r' "GET /a\?b=\\"c\\" HTTP/1\.1" 200 5 "http://x/" "evil \\" \\\\ \\xe4"$',
        )
        talk.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertIn('"HEAD / HTTP/1.1" 200 - "-" "-"', self.read()[1])

    def test_json(self) -> None:
        talk = self.talk(lambda request: b"hello")
        talk.context.access = self.log("json")
        talk.send(GET)
        (line,) = map(json.loads, self.read())
        self.assertEqual((line["client"], line["target"], line["status"]), ("198.51.100.1", '/a?b="c"', 200))
        self.assertEqual((line["bytes"], line["agent"]), (5, 'evil " \\ \xe4'))
        self.assertEqual(line["seconds"], 0)

    def request(self, target: bytes, *headers: tuple[bytes, bytes], client: Any = ("192.0.2.7", 1)) -> Request:
        """A request such as the parser would not let through."""
        request = Request("GET", target, "1.1", Fields(list(headers)))
        exchange: Any = SimpleNamespace(clientOf=lambda request: client)
        request.exchange = exchange
        return request

    def test_escaped(self) -> None:
        """Every byte that could end a line or a text, or that a terminal obeys, at first and when the end is kept."""
        log = self.log()
        each = bytes(range(256))
        told = "".join(
            {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}.get(code)
            or (chr(code) if 32 <= code < 127 else f"\\x{code:02x}")
            for code in each
        )
        request = self.request(each, (b"referer", each), (b"user-agent", each), client=None)
        for _ in range(2):
            log(request, 200, 0, 0.0)
        for line in self.read():
            self.assertTrue(line.startswith("- - - ["), line)
            self.assertTrue(line.endswith(f'] "GET {told} HTTP/1.1" 200 - "{told}" "{told}"'), line)
        self.assertEqual(len(self.read()), 2)
        # Each of them alone: a target that has but one is not taken for a usual one.
        for code in (0, 9, 10, 27, 34, 92, 127, 128, 255):
            log(self.request(b"/a%bb" % bytes([code])), 200, 0, 0.0)
        for line, code in zip(self.read()[2:], (0, 9, 10, 27, 34, 92, 127, 128, 255), strict=True):
            self.assertIn(f'"GET /a{access._ESCAPED[code]}b HTTP/1.1"', line)

    def test_jsonEscaped(self) -> None:
        """It is what Python's own encoder makes."""
        log = self.log("json")
        each = bytes(range(256))
        request = self.request(
            each, (b"host", each[33:34]), (b"referer", each), (b"user-agent", b'"\\\xe4'), client=None
        )
        request.route = '/"{name}\u20ac'
        for seconds in (0.0, 1.2345678, 1e-7):
            log(request, 200, 3, seconds)
        for line, seconds in zip(self.read(), (0.0, 1.234568, 0.0), strict=True):
            told = json.loads(line)
            self.assertEqual(json.dumps(told), line)
            self.assertEqual(told["target"], each.decode("latin-1"))
            self.assertEqual((told["referer"], told["agent"]), (each.decode("latin-1"), '"\\\xe4'))
            self.assertEqual((told["client"], told["route"], told["seconds"]), (None, request.route, seconds))
        names = "time client method target route version status bytes seconds host referer agent"
        self.assertEqual(list(told), names.split())

    def test_ends(self) -> None:
        """What clients send is kept within bounds, and never for another client."""
        log = self.log()
        sent = [b"%d" % number for number in range(access.MAX_ENDS + 1)] + [b"x" * access.MAX_END]
        for agent in sent + sent:
            log(self.request(b"/", (b"user-agent", agent)), 200, 0, 0.0)
            self.assertLessEqual(len(log._ends), access.MAX_ENDS)
        log(self.request(b"/", (b"referer", b"1")), 200, 0, 0.0)
        *lines, last = self.read()
        self.assertEqual([line.split('"')[-2].encode() for line in lines], sent + sent)
        self.assertTrue(last.endswith('"1" "-"'), last)
        self.assertFalse([key for key in log._ends if key[1] and len(key[1]) >= access.MAX_END])

    def test_time(self) -> None:
        """The time is that of each line, also where the clock is set back."""
        log = self.log()
        now = [0.0]
        self.patch(time, "time", lambda: now[0])
        for now[0] in (1e9, 1e9 + 0.999, 1e9 + 1, 1e9 - 0.001, 1e9 + 86400):
            log(self.request(b"/"), 200, 0, 0.0)
        self.assertEqual(
            [line[line.index("[") + 1 : line.index(" +0000]")] for line in self.read()],
            [
                "09/Sep/2001:01:46:40",
                "09/Sep/2001:01:46:40",
                "09/Sep/2001:01:46:41",
                "09/Sep/2001:01:46:39",
                "10/Sep/2001:01:46:40",
            ],
        )

    def test_oneWrite(self) -> None:
        """The lines of a turn."""
        talk = self.talk(lambda request: b"hello")
        talk.context.access = self.log()
        writes: list[int] = []
        write = os.write
        self.patch(os, "write", lambda number, data: writes.append(len(data)) or write(number, data))
        talk.send(GET * 5)
        self.assertEqual(writes, [])
        self.assertEqual(len(self.read()), 5)
        self.assertEqual(len(writes), 1)

    def test_moved(self) -> None:
        """A file that logrotate has moved is left, and made anew."""
        log = self.log()
        talk = self.talk(lambda request: b"hello")
        talk.context.access = log
        talk.send(GET)
        self.read()
        os.rename(self.path, self.path + ".1")
        log._checked = 0
        talk.send(GET)
        self.assertEqual(len(self.read()), 1)
        with open(self.path + ".1") as file:
            self.assertEqual(len(file.readlines()), 1)

    def test_cannotWrite(self) -> None:
        """Lines are dropped and counted, and the server goes on."""
        talk = self.talk(lambda request: b"hello")
        log = talk.context.access = self.log()

        def fail(number: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        self.patch(os, "write", fail)
        self.assertEqual(talk.ask(GET).status, 200)
        self.now.advance(0)
        self.assertEqual(log.dropped, 1)

    def test_refused(self) -> None:
        self.assertIn("take one of combined, json", str(self.assertRaises(SettingError, http.AccessLog, "-", "clf")))
        error = self.assertRaises(SettingError, http.AccessLog, "/no/such/folder/log")
        self.assertIn("access log /no/such/folder/log: No such file", str(error))

    def test_cutShort(self) -> None:
        """Requests whose client goes have 499, whether an answer has begun or not, with the bytes that were sent."""
        waiting: Deferred[bytes] = Deferred()

        async def endless(request: http.Request) -> Any:
            while True:
                yield b"x" * 10_000

        def nothing(request: http.Request) -> Any:
            return waiting

        for handler, sent in ((nothing, "-"), (endless, r"\d{5,}")):
            talk = self.talk(handler, capacity=10_000)
            talk.context.access = self.log()
            talk.pair.peer.transport.pauseProducing()  # type: ignore[union-attr]
            talk.pair.peer.write(GET)
            for _ in range(10):
                talk.clock.advance(0)
            talk.close()
            self.assertRegex(self.read()[-1], f'HTTP/1.1" 499 {sent} ')
            (totals,) = talk.context.counters.served.values()
            self.assertEqual(totals.statuses, {499: 1})

    def test_largeAnswer(self) -> None:
        """A whole answer counts when it has left; a client that goes before that has got a part of it."""
        for goes in (False, True):
            talk = self.talk(lambda request: b"x" * 1_000_000, capacity=10_000)
            talk.context.access = self.log()
            talk.pair.peer.transport.pauseProducing()  # type: ignore[union-attr]
            talk.pair.peer.write(GET)
            for _ in range(10):
                talk.clock.advance(0)
            self.assertEqual((talk.context.running, talk.context.counters.served), (0, {}))
            if goes:
                talk.pair.peer.transport.abortConnection()  # type: ignore[union-attr]
            else:
                talk.pair.peer.transport.resumeProducing()  # type: ignore[union-attr]
            talk.pair.flush()
            self.assertRegex(self.read()[-1], r'HTTP/1.1" 499 (\d{1,5}|-) ' if goes else 'HTTP/1.1" 200 1000000 ')
            (totals,) = talk.context.counters.served.values()
            self.assertEqual(totals.statuses, {499 if goes else 200: 1})

    def test_streamed(self) -> None:
        talk = self.talk(lambda request: http.Response(body=iter([b"a", b"bc"])))
        talk.context.access = self.log()
        talk.send(GET)
        self.assertTrue(re.search(r'" 200 3 "', self.read()[0]))
