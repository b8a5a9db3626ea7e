"""The access log."""

from __future__ import annotations

import json
import os
import re

from twisted.internet.task import Clock

from getty_tx import http
from getty_tx.errors import SettingError
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

    def test_streamed(self) -> None:
        talk = self.talk(lambda request: http.Response(body=iter([b"a", b"bc"])))
        talk.context.access = self.log()
        talk.send(GET)
        self.assertTrue(re.search(r'" 200 3 "', self.read()[0]))
