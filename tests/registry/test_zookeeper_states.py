"""The engine of ZooKeeper, with a client in place of kazoo's: the order of its states, and its threads."""

from __future__ import annotations

import sys
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RegistryError
from getty_tx.registry.zookeeper import ZooKeeperEngine, threads
from getty_tx.registry.zookeeper.settings import ClientSettings
from getty_tx.registry.zookeeper.threads import MAX_ASKED, newClient
from tests.registry.test_zookeeper_real import Noted

PROVIDER = Provider("echo", "tcp:10.0.0.5:8090", "a")
DIRECTORY = "/getty/echo"


class NoNodeError(Exception):
    """As kazoo's."""


class FakeReactor(Clock):
    """A clock; what comes from threads waits for the next :py:meth:`turn`."""

    def __init__(self) -> None:
        super().__init__()
        self.fromThreads: deque[Any] = deque()

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.fromThreads.append((function, arguments))

    def turn(self, seconds: float = 0.001) -> None:
        """Do all that is to be done now, or then."""
        self.advance(seconds)
        while self.fromThreads:
            function, arguments = self.fromThreads.popleft()
            function(*arguments)
            self.advance(0)


class FakeAnswer:
    """An IAsyncResult of kazoo."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self.value: Any = None
        self.exception: Exception | None = None

    def rawlink(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def set(self, value: Any = None, exception: Exception | None = None) -> None:
        """Give the answer; as on kazoo's thread."""
        self.value, self.exception = value, exception
        for callback in self.callbacks:
            callback(self)


class FakeClient:
    """A client that does nothing by itself."""

    def __init__(self, made: list[FakeClient], handler: Any) -> None:
        self.handler = handler
        self.asked: list[tuple[str, tuple[Any, ...], Any, FakeAnswer]] = []
        self.calls: list[str] = []
        self.client_id: Any = (7, b"")
        made.append(self)

    def add_listener(self, listener: Any) -> None:
        self.listener = listener

    def start_async(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append(f"stop {threading.current_thread() is threading.main_thread()}")

    def close(self) -> None:
        self.calls.append("close")

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, watch: Any = None, **more: Any) -> FakeAnswer:
            self.asked.append((name.removesuffix("_async"), arguments, watch, FakeAnswer()))
            return self.asked[-1][3]

        return ask

    def take(self) -> tuple[str, tuple[Any, ...], Any, FakeAnswer]:
        """The oldest request that is not taken yet."""
        return self.asked.pop(0)


class StatesCase(SynchronousTestCase):
    """An engine that is started and watches one service."""

    def setUp(self) -> None:
        self.made: list[FakeClient] = []
        self.patch(threads, "newClient", lambda settings, handler: FakeClient(self.made, handler))
        self.reactor = FakeReactor()
        self.noted = Noted()
        self.engine = ZooKeeperEngine([("127.0.0.1", 2181)])
        self.engine.start(self.reactor, self.noted)
        self.engine.watch("echo", self.noted)

    @property
    def client(self) -> FakeClient:
        return self.made[-1]

    def state(self, *states: str) -> None:
        """kazoo's thread says so."""
        for state in states:
            self.client.listener(state)
        self.reactor.turn()

    def answer(self, name: str, value: Any = None, exception: Exception | None = None) -> Any:
        """Answer the oldest request, which is of this name."""
        asked, arguments, watch, answer = self.client.take()
        self.assertEqual(asked, name)
        answer.set(value, exception)
        self.reactor.turn()
        return SimpleNamespace(arguments=arguments, watch=watch)

    def listed(self, **nodes: bytes) -> Any:
        """Answer a list and what follows it."""
        asked = self.answer("get_children", list(nodes))
        for name in nodes:
            self.answer("get", (nodes[name], None))
        return asked

    def directoriesAreThere(self) -> None:
        """Answer what is asked before the first record of a service is written."""
        for _ in range(2):
            self.answer("exists", SimpleNamespace())


class StateTests(StatesCase):
    def test_firstList(self) -> None:
        self.state("CONNECTED")
        self.assertEqual(self.noted.take(), [("connected",)])
        self.listed(a=b"1", b=b"2")
        self.assertEqual(self.noted.take(), [("are", {"a": b"1", "b": b"2"})])

    def test_suspended(self) -> None:
        """The connection is lost and comes back: all is listed anew, with new watches."""
        self.state("CONNECTED")
        old = self.listed(a=b"1")
        self.noted.take()
        self.state("SUSPENDED")
        self.assertEqual(self.noted.take(), [("interrupted",), ("disconnected", "the connection is lost")])
        self.state("CONNECTED")
        self.assertEqual(self.noted.take(), [("connected",)])
        new = self.listed(a=b"1")
        self.assertEqual(self.noted.take(), [("are", {"a": b"1"})])
        self.assertIsNot(old.watch, new.watch)

    def test_lost(self) -> None:
        """The session is lost: what was written has to be written again, once there is a new one."""
        self.state("CONNECTED")
        self.listed()
        self.engine.put(PROVIDER)
        self.directoriesAreThere()
        self.answer("create")
        self.noted.take()
        self.state("SUSPENDED", "LOST")
        self.assertEqual(self.noted.take(), [("interrupted",), ("disconnected", "the connection is lost")])
        self.state("CONNECTED")
        self.assertEqual(self.noted.take(), [("connected",), ("lost",)])
        self.listed()
        self.assertEqual(self.successResultOf(self.engine.missing([PROVIDER])), [PROVIDER])

    def test_lostBeforeTheFirst(self) -> None:
        """There was none to lose."""
        self.state("LOST", "CONNECTED")
        self.assertNotIn(("lost",), self.noted.take())

    def test_herd(self) -> None:
        """After a long outage the list waits, up to two seconds."""
        self.state("CONNECTED")
        self.listed()
        self.state("SUSPENDED")
        self.reactor.turn(6)
        self.patch(self.engine, "_random", SimpleNamespace(uniform=lambda low, high: high))
        self.state("CONNECTED")
        self.assertEqual(self.client.asked, [])
        self.reactor.turn(1.9)
        self.assertEqual(self.client.asked, [])
        self.reactor.turn(0.2)
        self.listed()

    def test_newClientAfterPatience(self) -> None:
        """A server that was set up anew never says that a session is over: a new one is begun."""
        self.state("CONNECTED")
        self.listed()
        self.state("SUSPENDED")
        self.noted.take()
        self.reactor.turn(20)
        self.assertEqual(len(self.made), 2)
        self.made[0].listener("CONNECTED")
        self.state("CONNECTED")
        self.assertEqual(self.noted.take(), [("connected",), ("lost",)])

    def test_waits(self) -> None:
        """Attempts to connect are so near to each other that a server which was restarted finds the session alive."""
        for timeout in (0.1, 2, 10, 60):
            client = newClient(ClientSettings([("10.0.0.1", 2181)], timeout), SequentialThreadingHandler())
            retry = client._conn_retry
            self.assertLessEqual(retry.max_delay * (1 + retry.max_jitter), min(0.7 * timeout, 15))
            self.assertLessEqual(retry.delay, retry.max_delay)

    def test_ended(self) -> None:
        """kazoo gives up, as after a refused authentication: a new client is made, after a wait."""
        self.engine._connection.threadEnded(None)  # type: ignore[union-attr]
        self.reactor.turn()
        self.assertEqual(self.noted.take(), [("disconnected", "the connection has ended: it was refused")])
        self.reactor.turn(0.25)
        self.assertEqual(len(self.made), 2)

    def test_toldOnce(self) -> None:
        """Attempts that fail are told once, and again after there was a connection."""
        for _ in range(3):
            self.engine._connection.attemptFailed(RegistryError("no way"))  # type: ignore[union-attr]
            self.reactor.turn()
        self.assertEqual(self.noted.take(), [("disconnected", "no way")])

    def test_noAnswer(self) -> None:
        self.reactor.turn(10)
        self.assertEqual(self.noted.take(), [("disconnected", "no answer within 10 s")])

    def test_stopped(self) -> None:
        """Nothing is told any more; the session ends on a thread of its own."""
        self.state("CONNECTED")
        self.noted.take()
        waiting = self.engine.read("echo")
        stopped = self.engine.stop()
        self.failureResultOf(waiting, RegistryError)
        for thread in threading.enumerate():
            if thread.name == "getty_tx zookeeper":
                thread.join(10)
        self.state("LOST")
        self.successResultOf(stopped)
        self.assertEqual(self.client.calls, ["start", "stop False", "close"])
        self.assertEqual(self.noted.take(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_startedAgain(self) -> None:
        self.state("CONNECTED")
        self.engine.stop()
        self.engine.start(self.reactor, self.noted)
        self.noted.take()
        self.state("CONNECTED")
        self.assertEqual(self.noted.take(), [("connected",)])


class WatchTests(StatesCase):
    def setUp(self) -> None:
        super().setUp()
        self.state("CONNECTED")
        self.noted.take()

    def event(self, watch: Any, kind: str, path: str = DIRECTORY) -> None:
        watch(SimpleNamespace(type=kind, path=path))
        self.reactor.turn()

    def test_nobodyThere(self) -> None:
        """Without a node for the service its creation is watched for, and nothing is created."""
        self.answer("get_children", exception=NoNodeError())
        asked = self.answer("exists")
        self.assertEqual(self.noted.take(), [("are", {})])
        self.event(asked.watch, "CREATED")
        self.listed(a=b"1")
        self.assertEqual(self.noted.take(), [("changed", {"a": b"1"}, [])])

    def test_createdMeanwhile(self) -> None:
        self.answer("get_children", exception=NoNodeError())
        self.answer("exists", SimpleNamespace())
        self.listed(a=b"1")
        self.assertEqual(self.noted.take(), [("are", {"a": b"1"})])

    def test_changes(self) -> None:
        """Only what is new is read; one that is gone is told."""
        children = self.listed(a=b"1", b=b"2")
        self.noted.take()
        self.event(children.watch, "CHILD")
        self.answer("get_children", ["b", "c"])
        self.assertEqual(self.answer("get", (b"3", None)).arguments, (f"{DIRECTORY}/c",))
        self.assertEqual(self.noted.take(), [("changed", {"c": b"3"}, ["a"])])

    def test_dataChanged(self) -> None:
        self.answer("get_children", ["a"])
        read = self.answer("get", (b"1", None))
        self.noted.take()
        self.event(read.watch, "CHANGED", f"{DIRECTORY}/a")
        self.answer("get", (b"2", None))
        self.assertEqual(self.noted.take(), [("changed", {"a": b"2"}, [])])
        self.assertEqual(self.client.asked, [])

    def test_eventBeforeAnswer(self) -> None:
        """kazoo's events and answers come from two threads."""
        self.answer("get_children", ["a"])
        _, _, watch, answer = self.client.take()
        watch(SimpleNamespace(type="CHANGED", path=f"{DIRECTORY}/a"))
        answer.set((b"1", None))
        self.reactor.turn()
        self.answer("get", (b"2", None))
        self.assertEqual(self.noted.take(), [("are", {"a": b"1"}), ("changed", {"a": b"2"}, [])])

    def test_goneBetween(self) -> None:
        """Listed, and not there when it was read."""
        self.answer("get_children", ["a"])
        self.answer("get", exception=NoNodeError())
        self.assertEqual(self.noted.take(), [("are", {})])
        self.assertEqual(self.client.asked, [])

    def test_deletedAndCreated(self) -> None:
        """The list is the same; the watch of the old node is not there any more."""
        children = self.answer("get_children", ["a"])
        read = self.answer("get", (b"1", None))
        self.noted.take()
        read.watch(SimpleNamespace(type="DELETED", path=f"{DIRECTORY}/a"))
        self.event(children.watch, "CHILD")
        self.listed(a=b"2")
        self.assertEqual(self.noted.take(), [("changed", {"a": b"2"}, [])])

    def test_droppedWatch(self) -> None:
        """kazoo ends watches when the connection is lost: that is no change."""
        children = self.listed()
        self.event(children.watch, "NONE")
        self.assertEqual(self.client.asked, [])

    def test_refused(self) -> None:
        """The list fails though there is a connection: it is tried again."""
        self.answer("get_children", exception=PermissionError("not you"))
        self.assertEqual(self.noted.take(), [("interrupted",)])
        self.reactor.turn(0.25)
        self.listed(a=b"1")
        self.assertEqual(self.noted.take(), [("are", {"a": b"1"})])

    def test_oldAnswer(self) -> None:
        """What is answered after the connection was lost is not heard."""
        _, _, _, answer = self.client.take()
        self.state("SUSPENDED")
        self.noted.take()
        answer.set(["a"])
        self.reactor.turn()
        self.assertEqual((self.noted.take(), self.client.asked), ([], []))

    def test_stop(self) -> None:
        watching = self.engine.watch("other", self.noted)
        self.reactor.turn()
        watching.stop()
        self.listed()
        self.answer("get_children", ["a"])
        self.assertEqual(self.noted.take(), [("are", {})])
        self.state("SUSPENDED")
        self.assertEqual(self.noted.take()[0], ("interrupted",))

    def test_manyChanges(self) -> None:
        """Ten thousand records are compared 5 times a second at most."""
        engine = ZooKeeperEngine([("127.0.0.1", 2181)], layout="dubbo")
        engine.start(self.reactor, Noted())
        engine.watch("echo", Noted())
        self.state("CONNECTED")
        listed = self.answer("get_children", [f"x{number}" for number in range(10_000)])
        self.reactor.turn()
        self.event(listed.watch, "CHILD")
        self.assertEqual(self.client.asked, [])
        self.reactor.turn(0.2)
        self.answer("get_children", [])


class RequestTests(StatesCase):
    def test_notConnected(self) -> None:
        for result in (self.engine.put(PROVIDER), self.engine.missing([PROVIDER]), self.engine.read(None)):
            self.failureResultOf(result, RegistryError)
        self.successResultOf(self.engine.delete(PROVIDER))

    def test_atMostAHundredAtOnce(self) -> None:
        """More would make kazoo, and with it the reactor, wait."""
        self.state("CONNECTED")
        self.listed()
        for number in range(150):
            self.engine.put(PROVIDER.but(id=str(number)))
        self.directoriesAreThere()
        self.assertEqual(len(self.client.asked), MAX_ASKED)
        self.client.take()[3].set()
        self.reactor.turn()
        self.assertEqual(len(self.client.asked), MAX_ASKED)

    def test_answersTogether(self) -> None:
        """The reactor is woken once for the answers that wait for it, and again for those that come later."""
        self.state("CONNECTED")
        self.listed()
        written = [self.engine.put(PROVIDER.but(id=str(number))) for number in range(3)]
        self.directoriesAreThere()
        for count in (2, 1):
            for _ in range(count):
                self.client.take()[3].set()
            self.assertEqual(len(self.reactor.fromThreads), 1)
            self.reactor.turn()
        for each in written:
            self.successResultOf(each)

    def test_timeOut(self) -> None:
        """The late answer is not heard."""
        self.state("CONNECTED")
        self.listed()
        result = self.engine.put(PROVIDER)
        self.directoriesAreThere()
        self.reactor.turn(10)
        self.failureResultOf(result, RegistryError)
        self.answer("create")

    def test_oneAfterTheOther(self) -> None:
        """A second write of a record waits for the first."""
        self.state("CONNECTED")
        self.listed()
        first, second = self.engine.put(PROVIDER), self.engine.put(PROVIDER.but(weight=1))
        self.directoriesAreThere()
        self.assertEqual(len(self.client.asked), 1)
        self.answer("create")
        self.successResultOf(first)
        self.answer("create")
        self.successResultOf(second)

    def test_notOurs(self) -> None:
        """What was written by nobody here, or by another since, is not deleted."""
        self.state("CONNECTED")
        self.listed()
        self.successResultOf(self.engine.delete(PROVIDER))
        self.engine.put(PROVIDER)
        self.directoriesAreThere()
        self.answer("create")
        deleted = self.engine.delete(PROVIDER)
        self.answer("exists", SimpleNamespace(ephemeralOwner=8, version=0))
        self.successResultOf(deleted)
        self.assertEqual(self.client.asked, [])


class SettingTests(SynchronousTestCase):
    def test_wrong(self) -> None:
        for wrong, text in (
            ({"layout": "x"}, "layout="),
            ({"timeout": 0}, "timeout="),
            ({"user": "a"}, "need each other"),
            ({"user": "a:b", "passwordFile": __file__}, "colons"),
            ({"user": "a", "passwordFile": "/nowhere"}, "cannot be read"),
            ({"privateKey": "k"}, "certificate="),
            ({"certificate": "/nowhere"}, "certificate="),
            ({"trustRoots": "/nowhere"}, "trustRoots="),
            ({"trustRoots": __file__}, "trustRoots="),
            ({"trustRoots": self.folder()}, "trustRoots="),
            ({"prefix": "x"}, "prefix="),
            ({"prefix": "/"}, "prefix="),
            ({"prefix": "/a//b"}, "prefix="),
            ({"prefix": "/zookeeper/x"}, "prefix="),
            ({"prefix": "/a/.."}, "prefix="),
        ):
            settings: Any = wrong
            self.assertRaisesRegex(SettingError, text, ZooKeeperEngine, [("h", 1)], **settings)
        self.assertRaisesRegex(SettingError, "host", ZooKeeperEngine, [])

    def folder(self) -> str:
        from pathlib import Path

        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    def test_noKazoo(self) -> None:
        modules: dict[str, Any] = sys.modules
        self.addCleanup(modules.update, {"kazoo.client": modules["kazoo.client"]})
        modules["kazoo.client"] = None
        self.assertRaisesRegex(SettingError, r"getty_tx\[zookeeper\]", ZooKeeperEngine, [("h", 1)])

    def test_layouts(self) -> None:
        getty, dubbo = (ZooKeeperEngine([("h", 1)], layout=layout) for layout in ("getty", "dubbo"))  # type: ignore[arg-type]
        self.assertEqual((getty.hasStates, getty.leaveTime, getty.name), (True, 1.0, "zookeeper:h:1"))
        self.assertEqual((dubbo.hasStates, dubbo.leaveTime, dubbo.kinds), (False, 3.0, frozenset({"tcp"})))
