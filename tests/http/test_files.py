"""Files of a folder: what is served, and what is not."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http import files
from getty_tx.http.conditions import acceptedOf
from getty_tx.http.interfaces import IRunningApplication
from tests.support.http import Case

if TYPE_CHECKING:
    from tests.support.http import Answer

LARGE = bytes(range(256)) * 1024


class FilesCase(Case):
    """A folder with files."""

    def setUp(self) -> None:
        self.root = self.mktemp()
        os.mkdir(self.root)
        self.put("a.txt", b"0123456789")
        self.put("large.bin", LARGE)
        os.mkdir(os.path.join(self.root, "sub"))
        self.put("sub/index.html", b"<p>")
        self.files = http.Files(self.root)

    def put(self, name: str, data: bytes) -> str:
        path = os.path.join(self.root, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def ask(self, target: str, method: str = "GET", application: Any = None, **fields: str) -> Answer:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        talk = self.talk(application or self.files)
        return talk.ask(f"{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1"), method)


class ServedTests(FilesCase):
    """What is served, and as what."""

    def test_fields(self) -> None:
        os.utime(os.path.join(self.root, "a.txt"), (1000000000, 1000000000))
        answer = self.ask("/a.txt")
        self.assertEqual((answer.status, answer.body), (200, b"0123456789"))
        self.assertEqual(answer.header(b"content-type"), b"text/plain; charset=utf-8")
        self.assertEqual(answer.header(b"last-modified"), b"Sun, 09 Sep 2001 01:46:40 GMT")
        self.assertEqual(answer.header(b"x-content-type-options"), b"nosniff")
        self.assertRegex(answer.header(b"etag") or b"", rb'^"[0-9a-f-]+"$')
        self.assertIsNone(answer.header(b"cache-control"))
        self.assertIsNone(answer.header(b"vary"))

    def test_types(self) -> None:
        for name, kind in (
            ("b.js", b"text/javascript; charset=utf-8"),
            ("b.PNG", b"image/png"),
            ("b.woff2", b"font/woff2"),
            ("b.tar.gz", b"application/gzip"),
            ("b", b"application/octet-stream"),
        ):
            self.put(name, b"")
            answer = self.ask("/" + name)
            self.assertEqual((answer.header(b"content-type"), answer.body), (kind, b""), name)
            self.assertIsNone(answer.header(b"content-encoding"))

    def test_large(self) -> None:
        answer = self.ask("/large.bin")
        self.assertEqual((answer.isComplete, answer.body == LARGE), (True, True))
        # One after the other on the same connection.
        talk = self.talk(self.files)
        for _ in range(2):
            self.assertEqual(talk.ask(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n").body, LARGE)
        self.assertEqual(talk.context.counters.served["GET", ""].sent, 2 * len(LARGE))

    def test_head(self) -> None:
        for name, length in (("/a.txt", b"10"), ("/large.bin", b"262144")):
            answer = self.ask(name, "HEAD")
            self.assertEqual((answer.status, answer.header(b"content-length"), answer.body), (200, length, b""))

    def test_methods(self) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = self.ask("/a.txt", method)
            self.assertEqual((answer.status, answer.header(b"allow")), (405, b"GET, HEAD"), method)

    def test_folders(self) -> None:
        self.assertEqual(self.ask("/sub/").body, b"<p>")
        answer = self.ask("/sub?a=b&c")
        self.assertEqual((answer.status, answer.header(b"location")), (301, b"/sub/?a=b&c"))
        self.assertEqual(self.ask("/").status, 404)
        self.assertEqual(self.ask("/a.txt/").status, 404)
        self.assertEqual(self.ask("/sub/", application=http.Files(self.root, index=None)).status, 404)

    def test_no_open_redirect(self) -> None:
        for target in ("//sub", "///sub", "//sub/", "/%2Fsub", "/%2fsub/", "/\\sub", "/%5Csub"):
            self.assertEqual(self.ask(target).status, 404 if "\\" not in target else self.ask("/\\").status, target)

    def test_maxAge(self) -> None:
        answer = self.ask("/a.txt", application=http.Files(self.root, maxAge=60))
        self.assertEqual(answer.header(b"cache-control"), b"max-age=60")

    def test_odd_names(self) -> None:
        for name, target in (("a b", "/a%20b"), ("%41", "/%2541"), ("\u20ac", "/%E2%82%AC"), ("a;b", "/a;b")):
            self.put(name, b"odd")
            self.assertEqual(self.ask(target).body, b"odd", name)
        with open(os.path.join(os.fsencode(self.root), b"\xff"), "wb"):
            pass
        self.assertEqual(self.ask("/%FF").status, 200)

    def test_settings(self) -> None:
        for bad in ({"root": self.root + "/a.txt"}, {"index": "a/b"}, {"index": ""}, {"compressed": ("zip",)}):
            self.assertRaises(SettingError, http.Files, **{"root": self.root, **bad})
        self.assertRaises(SettingError, http.Files, self.root, maxAge=-1)


class NotServedTests(FilesCase):
    """What is outside, hidden, or no file."""

    def test_traversal(self) -> None:
        outside = os.path.join(os.path.dirname(os.path.abspath(self.root)), "outside.txt")
        with open(outside, "w"):
            pass
        self.addCleanup(os.remove, outside)
        for up in ("..", "%2e%2e", ".%2E", "sub/../..", "..%2f", "%2e%2e%2f", "..%5c", "..%00", "sub/..%2f.."):
            self.assertEqual(self.ask(f"/{up}/outside.txt").status, 404, up)
            self.assertEqual(self.ask(f"/{up}outside.txt").status, 404, up)
        for target in ("/a.txt%00", "/%00", "/sub/./index.html", "/sub//index.html", "/sub%2Findex.html", "/..", "*"):
            method = "OPTIONS" if target == "*" else "GET"
            self.assertIn(self.ask(target, method).status, (404, 405), target)
        self.assertEqual(self.ask("/" + "a" * 300).status, 404)

    def test_links(self) -> None:
        outside = self.mktemp()
        os.mkdir(outside)
        with open(os.path.join(outside, "secret"), "w") as file:
            file.write("secret")
        # A folder beside the root whose name begins with that of the root.
        beside = os.path.abspath(self.root) + "2"
        os.mkdir(beside)
        with open(os.path.join(beside, "secret"), "w") as file:
            file.write("secret")
        for name, to in (("l", outside), ("b", beside), ("f", os.path.join(outside, "secret"))):
            os.symlink(os.path.abspath(to), os.path.join(self.root, name))
        os.symlink(os.path.abspath(os.path.join(outside, "secret")), os.path.join(self.root, "a.txt.gz"))
        os.symlink("a.txt", os.path.join(self.root, "inside"))
        os.symlink("loop", os.path.join(self.root, "loop"))
        for target in ("/l/secret", "/b/secret", "/f", "/l", "/l/", "/loop"):
            self.assertEqual(self.ask(target).status, 404, target)
        self.assertEqual(self.ask("/inside").body, b"0123456789")
        self.assertEqual(self.ask("/a.txt", Accept_Encoding="gzip").body, b"0123456789")

    def test_root_is_a_link(self) -> None:
        link = self.mktemp()
        os.symlink(os.path.abspath(self.root), link)
        self.assertEqual(self.ask("/a.txt", application=http.Files(link)).status, 200)

    def test_root_leads_elsewhere(self) -> None:
        """A deployment gives the root's link another target; what the old one had is outside then."""
        link, other = self.mktemp(), self.mktemp()
        os.mkdir(other)
        with open(os.path.join(other, "a.txt"), "w") as file:
            file.write("new")
        os.symlink(os.path.abspath(self.root), link)
        files = http.Files(link)
        self.assertEqual(self.ask("/a.txt", application=files).body, b"0123456789")
        os.remove(link)
        os.symlink(os.path.abspath(other), link)
        self.assertEqual(self.ask("/a.txt", application=files).body, b"new")

    def test_changed_between(self) -> None:
        """A link that comes in place of a file while it is looked at leads nowhere."""
        outside = self.mktemp()
        with open(outside, "w") as file:
            file.write("secret")
        path = os.path.join(os.path.abspath(self.root), "a.txt")
        stat, real = os.stat, os.open

        def swap(swapped: str) -> None:
            if swapped == path and not os.path.islink(path):
                os.remove(path)
                os.symlink(os.path.abspath(outside), path)

        def openAndSwap(opened: str, *args: Any) -> int:
            number = real(opened, *args)
            swap(opened)
            return number

        def statAndSwap(looked: str, *args: Any, **options: Any) -> os.stat_result:
            status = stat(looked, *args, **options)
            swap(looked)
            return status

        self.patch(os, "open", openAndSwap)
        self.patch(os, "stat", statAndSwap)
        answer = self.ask("/a.txt")
        self.assertTrue(os.path.islink(path))
        self.assertEqual((answer.status, answer.body), (200, b"0123456789"))

    def test_descriptors(self) -> None:
        """None is left open, whatever the answer is."""
        os.mkfifo(os.path.join(self.root, "fifo"))
        os.symlink("/etc", os.path.join(self.root, "etc"))
        self.put("large.bin.gz", b"z")
        before = os.listdir("/proc/self/fd")
        for target in (
            "/a.txt",
            "/a.txt/",
            "/sub",
            "/sub/",
            "/",
            "/none",
            "/fifo",
            "/etc",
            "/etc/passwd",
            "/large.bin",
        ):
            for encoding in ("", "gzip"):
                self.ask(target, Accept_Encoding=encoding)
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_no_proc(self) -> None:
        self.patch(files, "_DESCRIPTORS", "/none")
        self.assertRaises(SettingError, http.Files, self.root)

    def test_dot_files(self) -> None:
        self.put(".env", b"key")
        os.mkdir(os.path.join(self.root, ".git"))
        self.put(".git/config", b"key")
        for target in ("/.env", "/%2Eenv", "/.git/config", "/.git"):
            self.assertEqual(self.ask(target).status, 404, target)
        self.assertEqual(self.ask("/.env", application=http.Files(self.root, dotFiles=True)).body, b"key")

    def test_no_files(self) -> None:
        os.mkfifo(os.path.join(self.root, "fifo"))
        self.assertEqual(self.ask("/fifo").status, 404)
        os.symlink("/dev/zero", os.path.join(self.root, "zero"))
        self.assertEqual(self.ask("/zero").status, 404)
        path = os.path.join(self.root, "s")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        self.assertEqual(self.ask("/s").status, 404)

    def test_no_permission(self) -> None:
        def deny(*_: Any, **__: Any) -> int:
            raise PermissionError(13, "Permission denied")

        self.patch(os, "open", deny)
        self.assertEqual(self.ask("/a.txt").status, 403)

    def test_other_errors(self) -> None:
        def fail(*_: Any, **__: Any) -> int:
            raise OSError(5, "Input/output error")

        self.patch(os, "open", fail)
        self.assertEqual(self.ask("/a.txt").status, 500)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class ConditionTests(FilesCase):
    """Conditional requests."""

    def setUp(self) -> None:
        super().setUp()
        os.utime(os.path.join(self.root, "a.txt"), (1000000000, 1000000000))
        self.tag = (self.ask("/a.txt").header(b"etag") or b"").decode()

    def status(self, **fields: str) -> int:
        return self.ask("/a.txt", **fields).status

    def test_none_match(self) -> None:
        for value in (self.tag, f"W/{self.tag}", f'"x", {self.tag}', "*"):
            answer = self.ask("/a.txt", If_None_Match=value)
            self.assertEqual((answer.status, answer.body, answer.header(b"etag")), (304, b"", self.tag.encode()))
        self.assertEqual(self.status(If_None_Match='"x"'), 200)
        # The tag decides, and not the date.
        self.assertEqual(self.status(If_None_Match='"x"', If_Modified_Since="Sun, 09 Sep 2001 01:46:40 GMT"), 200)

    def test_match(self) -> None:
        for value, status in ((self.tag, 200), ("*", 200), ('"x"', 412), (f"W/{self.tag}", 412)):
            self.assertEqual(self.status(If_Match=value), status, value)

    def test_dates(self) -> None:
        for date, since, until in (
            ("Sun, 09 Sep 2001 01:46:40 GMT", 304, 200),
            ("Sun, 09 Sep 2001 01:46:41 GMT", 304, 200),
            ("Sun, 09 Sep 2001 01:46:39 GMT", 200, 412),
            ("yesterday", 200, 200),
            ("Sun, 99 Sep 99999 99:99:99 GMT", 200, 200),
        ):
            if date.startswith("Sun, 99"):
                self.assertIn(self.status(If_Modified_Since=date), (200, 304))
                continue
            self.assertEqual(self.status(If_Modified_Since=date), since, date)
            self.assertEqual(self.status(If_Unmodified_Since=date), until, date)

    def test_change(self) -> None:
        self.put("a.txt", b"9876543210")
        self.assertEqual(self.status(If_None_Match=self.tag), 200)


class RangeTests(FilesCase):
    """Parts of files."""

    def test_parts(self) -> None:
        for value, body, says in (
            ("bytes=0-0", b"0", b"bytes 0-0/10"),
            ("bytes=2-4", b"234", b"bytes 2-4/10"),
            ("bytes=8-", b"89", b"bytes 8-9/10"),
            ("bytes=8-99", b"89", b"bytes 8-9/10"),
            ("bytes=-3", b"789", b"bytes 7-9/10"),
            ("bytes=-99", b"0123456789", b"bytes 0-9/10"),
            ("BYTES=1-1", b"1", b"bytes 1-1/10"),
        ):
            answer = self.ask("/a.txt", Range=value)
            self.assertEqual((answer.status, answer.body, answer.header(b"content-range")), (206, body, says), value)

    def test_large(self) -> None:
        answer = self.ask("/large.bin", Range="bytes=1-200000")
        self.assertEqual((answer.status, answer.body == LARGE[1:200001]), (206, True))

    def test_whole(self) -> None:
        for value in ("bytes=0-1,3-4", "bytes=4-2", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=1", "1-2"):
            answer = self.ask("/a.txt", Range=value)
            self.assertEqual((answer.status, answer.body), (200, b"0123456789"), value)
        self.assertEqual(self.ask("/a.txt", Range="bytes=0-" + "9" * 30).status, 200)
        self.assertEqual(self.ask("/a.txt", "HEAD", Range="bytes=0-1").status, 200)

    def test_beyond(self) -> None:
        self.put("empty", b"")
        for target, value, size in (("/a.txt", "bytes=10-", 10), ("/a.txt", "bytes=-0", 10), ("/empty", "bytes=0-", 0)):
            answer = self.ask(target, Range=value)
            self.assertEqual((answer.status, answer.header(b"content-range")), (416, b"bytes */%d" % size), value)

    def test_if_range(self) -> None:
        answer = self.ask("/a.txt")
        tag = (answer.header(b"etag") or b"").decode()
        date = (answer.header(b"last-modified") or b"").decode()
        for value, status in ((tag, 206), (f"W/{tag}", 200), ('"x"', 200), (date, 200)):
            self.assertEqual(self.ask("/a.txt", Range="bytes=0-1", If_Range=value).status, status, value)


class CompressedTests(FilesCase):
    """Compressed neighbours."""

    def setUp(self) -> None:
        super().setUp()
        self.put("a.txt.gz", b"gz")
        self.put("a.txt.br", b"br")

    def test_choice(self) -> None:
        tags = set()
        for accepts, encoding, body in (
            ("gzip", b"gzip", b"gz"),
            ("gzip, br", b"br", b"br"),
            ("br;q=0, *", b"gzip", b"gz"),
            ("gzip;q=0", None, b"0123456789"),
            ("identity", None, b"0123456789"),
        ):
            answer = self.ask("/a.txt", Accept_Encoding=accepts)
            self.assertEqual((answer.header(b"content-encoding"), answer.body), (encoding, body), accepts)
            self.assertEqual(answer.header(b"vary"), b"Accept-Encoding")
            self.assertEqual(answer.header(b"content-type"), b"text/plain; charset=utf-8")
            tags.add(answer.header(b"etag"))
        self.assertEqual(len(tags), 3)

    def test_not(self) -> None:
        files = http.Files(self.root, compressed=())
        answer = self.ask("/a.txt", application=files, Accept_Encoding="gzip")
        self.assertEqual((answer.body, answer.header(b"vary")), (b"0123456789", None))

    def test_qualities(self) -> None:
        for text, taken in (
            ("", []),
            ("*", ["br", "gzip"]),
            ("gzip;q=0.001", ["gzip"]),
            ("gzip;q=0.000", []),
            ("gzip;q=x", []),
            ("GZIP ; Q=1", ["gzip"]),
        ):
            self.assertEqual(list(acceptedOf(text, ["br", "gzip"])), taken, text)


class ChangeTests(FilesCase):
    """Files that change while they are sent."""

    def test_shorter(self) -> None:
        path = self.put("huge.bin", b"x" * 4_000_000)
        talk = self.talk(self.files, capacity=1000)
        talk.pair.peer.transport.pauseProducing()
        talk.send(b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        os.truncate(path, 100_000)
        warnings: list[Any] = []
        self.addObserver(warnings)
        talk.pair.peer.transport.resumeProducing()
        talk.pair.flush()
        (answer,) = talk.answers()
        self.assertEqual((answer.status, answer.isComplete, talk.ended), (200, False, True))
        self.assertTrue(any("cannot be sent to its end" in (each.get("log_format") or "") for each in warnings))

    def addObserver(self, events: list[Any]) -> None:
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)

    def test_shorter_small(self) -> None:
        self.patch(os, "pread", lambda number, count, offset: b"")
        self.assertEqual(self.ask("/a.txt").status, 500)

    def test_gone(self) -> None:
        talk = self.talk(self.files, capacity=1000)
        talk.pair.peer.transport.pauseProducing()
        talk.send(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(talk.context.running, 1)
        talk.pair.peer.transport.abortConnection()
        talk.pair.flush()
        self.assertEqual(talk.context.running, 0)


@implementer(IRunningApplication)
class _Running:
    """Notes what is called."""

    def __init__(self, calls: list[str], error: Exception | None = None) -> None:
        self.calls = calls
        self.error = error

    def serve(self, request: http.Request, exchange: Any) -> None:
        raise NotImplementedError

    def startApplication(self, reactor: Any) -> Deferred[None]:
        self.calls.append("start")
        if self.error is not None:
            raise self.error
        return succeed(None)

    def stopApplication(self) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)


class MountTests(FilesCase):
    """Applications below a prefix."""

    def test_mount(self) -> None:
        router = http.Router()
        router.get("/static/own")(lambda request: "own")
        router.mount("/static", self.files)
        router.mount("/static/deep", http.Files(os.path.join(self.root, "sub")))
        for target, status, body in (
            ("/static/a.txt", 200, b"0123456789"),
            ("/static/own", 200, b"own"),
            ("/static/deep/index.html", 200, b"<p>"),
        ):
            answer = self.ask(target, application=router)
            self.assertEqual((answer.status, answer.body), (status, body), target)
        self.assertEqual(self.ask("/static?x", application=router).header(b"location"), b"/static/?x")
        for target in ("/staticx", "/static//a.txt", "/static/../a.txt", "/a.txt", "/"):
            self.assertEqual(self.ask(target, application=router).status, 404, target)
        self.assertFalse(IRunningApplication.providedBy(router))

    def test_all(self) -> None:
        router = http.Router()
        router.mount("/", self.files)
        self.assertEqual(self.ask("/a.txt", application=router).status, 200)

    def test_wrong(self) -> None:
        router = http.Router()
        router.mount("/a", self.files)
        for prefix in ("a", "/a/", "/{a}", "/a"):
            self.assertRaises(SettingError, router.mount, prefix, self.files)
        self.assertRaises(SettingError, router.mount, "/b", lambda request: "")

    def test_running(self) -> None:
        calls: list[str] = []
        router = http.Router()
        router.mount("/a", _Running(calls))
        self.assertTrue(IRunningApplication.providedBy(router))
        self.successResultOf(router.startApplication(None))
        self.successResultOf(router.stopApplication())
        self.assertEqual(calls, ["start", "stop"])
        router.mount("/b", _Running(calls, ValueError("no")))
        calls.clear()
        self.failureResultOf(router.startApplication(None), ValueError)
        self.assertEqual(calls, ["start", "start", "stop"])
