"""``dir:``: records as files, who wrote them, and how followers hear of them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError, RegistryError, directory, folders
from getty_tx.registry.directory import POLL_PERIOD, SCAN_PERIOD, DirectoryEngine
from getty_tx.registry.interfaces import IEngine, IWatch
from getty_tx.registry.lockfiles import LockedFile, folderName, keyOf, serviceName, stemOf
from getty_tx.registry.notices import CAME, CLOSED, GONE
from getty_tx.registry.provider import encodeRecord
from tests.support.engines import Notices, Sink, User

ECHO = Provider("echo", "tcp:10.0.0.5:8090", id="a")

#: Registers a provider, says so, and waits to be killed.
CHILD = """
import sys, time
from getty_tx.registry import Provider
from getty_tx.registry.directory import DirectoryEngine
engine = DirectoryEngine(sys.argv[1])
engine.put(Provider("echo", "unix:/run/echo.sock", id="child"))
print("up", flush=True)
time.sleep(60)
"""


class DirectoryCase(SynchronousTestCase):
    """An engine with a clock, which has no descriptors: it looks each second."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.clock = Clock()
        self.user = User()
        self.engine = DirectoryEngine(self.path)
        self.engine.start(self.clock, self.user)
        self.addCleanup(self.engine.stop)
        self.turn()

    def turn(self, seconds: float = 0) -> None:
        """Let time pass, and files be looked at."""
        self.clock.advance(seconds)

    def follow(self, service: str = "echo", engine: DirectoryEngine | None = None) -> Sink:
        sink = Sink()
        (engine or self.engine).watch(service, sink)
        self.turn()
        return sink

    def other(self) -> DirectoryEngine:
        """As in another process."""
        engine = DirectoryEngine(self.path)
        engine.start(self.clock, User())
        self.addCleanup(engine.stop)
        return engine

    def files(self, service: str = "echo") -> list[str]:
        return sorted(os.listdir(os.path.join(self.path, service)))


class RecordTests(DirectoryCase):
    """Writing and deleting."""

    def test_interfaces(self) -> None:
        verifyObject(IEngine, self.engine)
        verifyObject(IWatch, self.engine.watch("echo", Sink()))
        engine = self.engine
        self.assertEqual((0.02, True), (engine.leaveTime, engine.hasStates))
        self.assertEqual((True, False), (engine.isLocal, engine.isReadOnly))
        self.assertIn("unix", self.engine.kinds)
        self.assertEqual("127.0.0.1", self.successResultOf(self.engine.hostTowards()))
        self.assertEqual([True], self.user.said)

    def test_put(self) -> None:
        """A file a record, locked, in folders that only the owner can write to."""
        self.successResultOf(self.engine.put(ECHO))
        (name,) = self.files()
        self.assertRegex(name, r"^a\.[0-9a-f]{8}\.json$")
        self.assertEqual(0o750, os.stat(self.path).st_mode & 0o777)
        with open(os.path.join(self.path, "echo", name), "rb") as file:
            self.assertEqual(encodeRecord(ECHO), file.read())
            self.assertRaises(BlockingIOError, fcntl.flock, file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def test_update(self) -> None:
        """The new file is there before the old one goes."""
        self.engine.put(ECHO)
        sink = self.follow()
        (old,) = self.files()
        self.engine.put(ECHO.but(weight=7))
        (new,) = self.files()
        self.assertNotEqual(old, new)
        self.turn(POLL_PERIOD)
        self.assertEqual({"a": ECHO.but(weight=7)}, sink.records)
        self.assertEqual((["are", "changed"], 1), (sink.reports, sink.smallest))

    def test_newest(self) -> None:
        """Of two with one id the newer counts, and the older again when it has gone."""
        other = self.other()
        self.engine.put(ECHO)
        other.put(ECHO.but(weight=2))
        sink = self.follow()
        self.assertEqual({"a": ECHO.but(weight=2)}, sink.records)
        self.successResultOf(other.delete(ECHO))
        self.turn(POLL_PERIOD)
        self.assertEqual({"a": ECHO}, sink.records)

    def test_delete(self) -> None:
        """Only what was written by this object."""
        self.engine.put(ECHO)
        self.other().delete(ECHO)
        self.assertEqual(1, len(self.files()))
        self.engine.delete(ECHO)
        self.engine.delete(ECHO)
        self.assertEqual([], self.files())

    def test_missing(self) -> None:
        """Deleted by hand, or another's file under the name."""
        two = ECHO.but(id="b")
        for each in (ECHO, two):
            self.engine.put(each)
        self.assertEqual([], self.successResultOf(self.engine.missing([ECHO, two])))
        first, second = (os.path.join(self.path, "echo", name) for name in self.files())
        os.unlink(first)
        os.unlink(second)
        open(second, "w").close()
        self.assertEqual([ECHO, two], self.successResultOf(self.engine.missing([ECHO, two])))
        self.assertEqual([ECHO.but(id="c")], self.successResultOf(self.engine.missing([ECHO.but(id="c")])))

    def test_stop(self) -> None:
        """Files go, descriptors too, and it can begin again."""
        before = len(os.listdir("/proc/self/fd"))
        self.engine.put(ECHO)
        sink = self.follow()
        self.assertEqual(before + 1, len(os.listdir("/proc/self/fd")))
        self.successResultOf(self.engine.stop())
        self.assertEqual(([], before), (self.files(), len(os.listdir("/proc/self/fd"))))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.engine.start(self.clock, self.user)
        self.engine.put(ECHO)
        self.assertEqual({"a": ECHO}, self.follow().records)
        self.assertEqual(["are"], sink.reports)

    def test_names(self) -> None:
        """Names of services and ids are percent-encoded, and cannot lead out of the directory."""
        for service, folder in [
            ("a/b", "a%2Fb"),
            ("../x", "%2E.%2Fx"),
            (".h", "%2Eh"),
            ("é%", "%C3%A9%25"),
            ("a:b", "a:b"),
        ]:
            self.assertEqual((folder, service), (folderName(service), serviceName(folder)))
        for folder in ("a%2fb", "%", "a b%20", ""):
            self.assertIsNone(serviceName(folder))
        self.assertLess(len(stemOf("☃" * 200)), 201)
        self.assertNotEqual(stemOf("☃" * 200), stemOf("☃" * 199))
        self.assertEqual("a.b", keyOf("a.b.0123abcd.json"))
        odd = Provider("a/../b", "unix:/run/x.sock", id="../../etc/☃" + "x" * 200)
        self.successResultOf(self.engine.put(odd))
        self.assertEqual([odd], list(self.follow("a/../b").records.values()))
        self.assertIn("at most 255", str(self.assertRaises(SettingError, self.engine.watch, "☃" * 200, Sink())))
        self.failureResultOf(self.engine.put(Provider("☃" * 200, "tcp:a:1")), SettingError)

    def test_read(self) -> None:
        """All services, or one."""
        self.engine.put(ECHO)
        self.engine.put(Provider("a/b", "tcp:b:1"))
        os.mkdir(os.path.join(self.path, "lost+found%"))
        every, one, none = self.engine.read(None), self.engine.read("echo"), self.engine.read("none")
        self.turn()
        both = {("a/b", "tcp:b:1"), ("echo", "a")}
        self.assertEqual(both, set(self.successResultOf(every)))
        self.assertEqual({("echo", "a"): ECHO}, self.successResultOf(one))
        self.assertEqual({}, self.successResultOf(none))
        late = self.engine.read(None)
        self.engine.stop()
        self.assertIn("was stopped", str(self.failureResultOf(late, RegistryError).value))
        self.failureResultOf(self.engine.read(None), RegistryError)


class TrustTests(DirectoryCase):
    """Who may write, and what."""

    def test_writable(self) -> None:
        """A directory that others can write to is refused, at any time."""
        self.engine.put(ECHO)
        sink = self.follow()
        os.chmod(self.path, 0o770)
        text = str(self.assertRaises(SettingError, DirectoryEngine, self.path))
        self.assertIn("has mode 0770: whoever can write to it chooses where clients connect. Run chmod go-w", text)
        failed = self.failureResultOf(self.engine.put(ECHO), RegistryError)
        self.assertIn("has mode 0770", str(failed.value))
        self.turn()
        self.assertIn("has mode 0770", self.user.said[-1])
        os.chmod(self.path, 0o750)
        os.chmod(os.path.join(self.path, "echo"), 0o777)
        self.turn(POLL_PERIOD)
        self.turn(POLL_PERIOD)
        self.assertEqual(True, self.user.said[-1])
        self.assertEqual(2, len(sink.reports))
        self.assertIn("interrupted: ", sink.reports[1])
        found = self.engine.read(None)
        self.turn()
        self.assertIsInstance(self.successResultOf(found)["echo", ""], RegistryError)
        os.chmod(os.path.join(self.path, "echo"), 0o750)
        self.turn(POLL_PERIOD)
        self.assertEqual(["are", "are"], [sink.reports[0], *sink.reports[2:]])

    def test_notThere(self) -> None:
        """What is above has to be there, and it has to be a directory."""
        engine = DirectoryEngine(os.path.join(self.path, "none", "getty"))
        self.failureResultOf(engine.put(ECHO), RegistryError)
        with open(self.path, "w"):
            self.assertIn("is not a directory", str(self.assertRaises(SettingError, DirectoryEngine, self.path)))
        self.assertRaises(SettingError, DirectoryEngine, "")

    def test_owner(self) -> None:
        """It belongs to this user or to root."""
        os.mkdir(self.path, 0o750)
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        if os.getuid():
            text = str(self.assertRaises(SettingError, DirectoryEngine, self.path))
            self.assertIn(f"belongs to user {os.getuid()}", text)
        else:
            DirectoryEngine(self.path)

    def test_hostile(self) -> None:
        """A record that is none is told as an error, and others are told all the same."""
        self.engine.put(ECHO)
        folder = os.path.join(self.path, "echo")
        another = {"service": "echo", "endpoint": "tcp:a:1", "id": "other"}
        for stem, data in {
            "no": b"{",
            "long": b"x" * 100_000,
            "service": encodeRecord(ECHO.but(service="other", id="service")),
            "exec": json.dumps({**another, "endpoint": "process:/bin/sh", "id": "exec"}).encode(),
            "id": json.dumps(another).encode(),
        }.items():
            self.addCleanup(LockedFile(folder, stem, data).remove)
        os.mkfifo(os.path.join(folder, "pipe.00000000.json"))
        os.symlink("/etc/passwd", os.path.join(folder, "link.00000000.json"))
        os.mkdir(os.path.join(folder, "folder.00000000.json"))
        open(os.path.join(folder, "README"), "w").close()
        records = self.follow().records
        self.assertEqual(ECHO, records.pop("a"))
        self.assertEqual({"no", "long", "service", "exec", "id", "pipe", "link", "folder"}, set(records))
        self.assertEqual({RecordError}, {type(each) for each in records.values()})
        self.assertIn("which is another's", str(records["id"]))
        self.assertIn("README", self.files())

    def test_leftovers(self) -> None:
        """Files of processes that are gone are deleted: incomplete ones after a minute."""
        self.engine.put(ECHO)
        folder = os.path.join(self.path, "echo")
        for name in ("dead.00000000.json", ".new.00000000", ".new.00000001"):
            open(os.path.join(folder, name), "w").close()
        os.utime(os.path.join(folder, ".new.00000001"), (1, 1))
        self.assertEqual(["a"], list(self.follow().records))
        self.assertEqual(2, len(self.files()))
        self.assertIn(".new.00000000", self.files())


class NoticeTests(DirectoryCase):
    """What is done with what the kernel says, and without it."""

    def setUp(self) -> None:
        self.notices: list[Notices] = []
        self.patch(directory, "openNotices", self.open)
        super().setUp()
        self.engine.put(ECHO)
        self.sink = self.follow()
        self.folder = os.path.join(self.path, "echo")

    def open(self, reactor: Any, heard: Any, lost: Any) -> Notices:
        self.notices.append(Notices(heard, lost))
        return self.notices[-1]

    def test_overflow(self) -> None:
        """What the kernel does not tell is found by the next look at everything."""
        other = self.other()
        other.put(ECHO.but(id="b"))
        self.turn(SCAN_PERIOD - 1)
        self.assertEqual(["a"], list(self.sink.records))
        self.turn(1)
        self.assertEqual(["a", "b"], sorted(self.sink.records))

    def test_told(self) -> None:
        """One file is looked at, and others not."""
        self.other().put(ECHO.but(id="b"))
        first, second = self.files()
        os.unlink(os.path.join(self.folder, first))
        self.notices[0].heard(self.folder, {second: CAME})
        self.turn()
        self.assertEqual(["a", "b"], sorted(self.sink.records))
        # What is said of one that was deleted is believed, and the last that is said counts.
        self.patch(folders, "readLocked", lambda *_: self.fail("a file was looked at"))
        self.notices[0].heard(self.folder, {first: CAME, second: CLOSED})
        self.notices[0].heard(self.folder, {first: GONE, second: GONE, "none.00000000.json": GONE})
        self.turn()
        self.assertEqual({}, self.sink.records)

    def test_closed(self) -> None:
        """A file that was closed and is still locked is looked at again after 10, 50 and 200 ms."""
        for seconds, isSeen in [(0.01, True), (0.06, True), (0.26, True), (0.27, False)]:
            file = LockedFile(self.folder, "b", encodeRecord(ECHO.but(id="b")))
            name = os.path.basename(file.path)
            self.notices[0].heard(self.folder, {name: CAME})
            self.turn()
            self.assertIn("b", self.sink.records)
            # As a child of the process has it for a moment.
            copy = os.dup(file._fd)
            os.close(file._fd)
            self.notices[0].heard(self.folder, {name: CLOSED})
            self.turn()
            passed = 0.0
            for wait in (0.01, 0.05, 0.2):
                if passed + wait > seconds - 0.001:
                    break
                self.turn(wait)
                passed += wait
            self.assertIn("b", self.sink.records)
            if not isSeen:
                self.turn(0.2)
            os.close(copy)
            for _ in range(3):
                self.turn(0.2)
            self.assertEqual(isSeen, "b" not in self.sink.records)

    def test_lost(self) -> None:
        """The directory goes: everything is looked at, and listened to anew when it comes."""
        os.unlink(os.path.join(self.folder, self.files()[0]))
        os.rmdir(self.folder)
        os.rmdir(self.path)
        self.notices[0].lost(self.notices[0])
        self.turn()
        self.assertEqual({}, self.sink.records)
        self.assertEqual({os.path.dirname(self.path)}, self.notices[1].watched)
        self.engine.put(ECHO)
        self.notices[1].heard(os.path.dirname(self.path), {os.path.basename(self.path): CAME})
        self.turn()
        self.assertEqual(["a"], list(self.sink.records))
        self.assertEqual({self.path, self.folder}, self.notices[1].watched)

    def test_newFolder(self) -> None:
        """A followed service's folder comes later."""
        sink = self.follow("other")
        self.assertEqual({}, sink.records)
        self.engine.put(Provider("other", "tcp:a:1"))
        self.notices[0].heard(self.path, {"other": CAME})
        self.turn()
        self.assertEqual(["tcp:a:1"], list(sink.records))

    def test_stopWatch(self) -> None:
        """Nothing is said after it, and the folder is forgotten with its last follower."""
        two = Sink()
        watch = self.engine.watch("echo", two)
        self.turn()
        self.assertEqual(["are"], two.reports)
        watch.stop()
        watch.stop()
        early = Sink()
        self.engine.watch("echo", early).stop()
        self.other().put(ECHO.but(id="b"))
        self.turn(SCAN_PERIOD)
        self.assertEqual((["are"], []), (two.reports, early.reports))
        self.assertEqual(["are", "changed"], self.sink.reports)

    def test_noWatches(self) -> None:
        """Where the kernel watches no more folders, they are read each second, and the log says so once."""

        def refuse(path: str, files: bool) -> None:
            raise OSError("raise fs.inotify.max_user_watches")

        self.notices[0].watch = refuse  # type: ignore[method-assign]
        self.turn(SCAN_PERIOD)
        for number in range(3):
            self.other().put(ECHO.but(id=f"b{number}"))
            self.turn(POLL_PERIOD)
            self.assertEqual(number + 2, len(self.sink.records))

    def test_failing(self) -> None:
        """A follower that fails is logged, and the next change is told."""

        def fail(_: Any) -> None:
            raise ZeroDivisionError

        broken = Sink()
        broken.recordsAre = fail  # type: ignore[method-assign]
        self.engine.watch("echo", broken)
        self.turn()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.other().put(ECHO.but(id="b"))
        self.turn(SCAN_PERIOD)
        self.assertEqual(["a", "b"], sorted(self.sink.records))

    def test_slices(self) -> None:
        """Many files are read over several turns, and told at once."""
        now = [0.0]

        def later() -> float:
            now[0] += 0.001
            return now[0]

        self.patch(directory.time, "perf_counter", later)
        for number in range(30):
            self.engine.put(ECHO.but(id=f"p{number}"))
        sink = Sink()
        other = self.other()
        other.watch("echo", sink)
        between: list[Any] = []
        self.clock.callLater(0, lambda: between.extend([len(other._jobs), *sink.reports]))
        self.turn()
        self.assertEqual([1], between)
        self.assertEqual((["are"], 31), (sink.reports, len(sink.records)))


class KernelTests(TestCase):
    """With the real reactor."""

    timeout = 20

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.sink = Sink()
        self.engine = DirectoryEngine(self.path)
        self.engine.start(reactor, User())
        self.addCleanup(self.engine.stop)
        self.engine.watch("echo", self.sink)

    async def test_killed(self) -> None:
        """A process that is killed is gone, and its file too."""
        await self.sink.when(lambda records: not records)
        child = subprocess.Popen([sys.executable, "-c", CHILD, self.path], stdout=subprocess.DEVNULL)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        await self.sink.when(lambda records: "child" in records)
        self.assertEqual("unix:/run/echo.sock", self.sink.records["child"].endpoint)
        child.kill()
        await self.sink.when(lambda records: not records)
        self.assertEqual([], os.listdir(os.path.join(self.path, "echo")))

    async def test_deleted(self) -> None:
        """The directory is deleted under followers, and made again, twice."""
        for _ in range(2):
            await self.sink.when(lambda records: not records)
            self.engine.put(ECHO)
            await self.sink.when(lambda records: "a" in records)
            for name in os.listdir(os.path.join(self.path, "echo")):
                os.unlink(os.path.join(self.path, "echo", name))
            os.rmdir(os.path.join(self.path, "echo"))
            os.rmdir(self.path)
        await self.sink.when(lambda records: not records)
        # Nothing closed a descriptor that was somebody else's by then.
        first, second = os.pipe()
        await deferLater(reactor, 0)
        os.close(first)
        os.close(second)

    async def test_moved(self) -> None:
        """Another directory comes in its place."""
        await self.sink.when(lambda records: not records)
        self.engine.put(ECHO)
        await self.sink.when(lambda records: "a" in records)
        os.rename(self.path, self.path + ".old")
        await self.sink.when(lambda records: not records)
        self.engine.put(ECHO)
        await self.sink.when(lambda records: "a" in records)
