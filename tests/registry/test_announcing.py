"""Servers that register themselves: while they listen, and until they have left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from getty_tx import http, rpc
from getty_tx.codecs import LineCodec
from getty_tx.errors import GettyError, SettingError
from getty_tx.listener import EventListener
from getty_tx.registry import Provider, RegistryError
from getty_tx.registry.announcing import REGISTER_TIMEOUT
from getty_tx.server import Registering, Server, announcementOf
from getty_tx.testing import MemoryRegistry
from tests.registry.test_registration import RegistryCase

ROOT = Path(__file__).resolve().parents[2]

ECHO = Provider("echo", "tcp:127.0.0.1:8090")


def newSession(session: Any) -> None:
    session.codec = LineCodec()
    session.listener = EventListener()


class Echo:
    @rpc.method
    def say(self, text: str) -> str:
        return text


class AnnouncingCase(RegistryCase):
    """A registry, and servers on the reactor in memory whose clock it has."""

    clock: Any

    def setUp(self) -> None:
        super().setUp()
        self.clock = MemoryReactorClock()
        self.registry = MemoryRegistry(self.clock, self.store, Random(5))

    def server(self, *endpoints: str, **registering: Any) -> Server:
        """A server that is to be registered."""
        registering = {"service": "echo", "registry": self.registry, **registering}
        return Server(newSession, *(endpoints or ("tcp:8090",)), reactor=self.clock, **registering)

    @property
    def ports(self) -> int:
        """How many ports listen."""
        return len(self.clock.tcpServers)


class ServerTests(AnnouncingCase):
    """A Server."""

    def test_whileItListens(self) -> None:
        """Its record is there when it listens; it leaves, stops, and takes the record away."""
        server = self.server("tcp:8090", "tcp:8091", weight=5, zone="b", meta={"a": 1}, version="2")
        self.assertEqual(self.found(), [])
        server.startService()
        self.successResultOf(server.whenListening())
        expected = Provider("echo", "tcp:127.0.0.1:8090", weight=5, zone="b", meta={"a": 1}, version="2")
        self.assertEqual(self.found(), [expected, expected.but(endpoint="tcp:127.0.0.1:8091", id="")])
        self.assertEqual([each.provider for each in server.registrations], self.found())
        self.assertTrue(server.isReady)

        stopped = server.stopService()
        self.assertEqual({(each.state, each.weight) for each in self.found()}, {("leaving", 0)})
        self.assertFalse(server.isReady)
        # Those who have not heard of it yet come in all the same.
        self.assertEqual(server._ports and len(server._ports), 2)
        again = server.stopService()
        self.pass_(1.0)
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual(server._ports, [])
        self.assertEqual((self.found(), server.registrations), ([], []))
        self.assertFalse(self.registry.isRunning)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leaveTime(self) -> None:
        """Somebody's own time, or none."""
        for leaveTime in (0, 3.0):
            server = self.server(leaveTime=leaveTime)
            server.startService()
            stopped = server.stopService()
            if leaveTime:
                self.pass_(2.5)
                self.assertNoResult(stopped)
            self.pass_(0.5)
            self.successResultOf(stopped)

    def test_withoutRegistry(self) -> None:
        """It serves while the registry is away, and is registered when that is back."""
        self.store.goAway()
        server = self.server()
        server.startService()
        self.successResultOf(server.whenListening())
        self.assertTrue(server.isReady)
        self.assertFalse(server.registrations[0].isRegistered)
        self.pass_(5.0)
        self.store.comeBack()
        self.pass_(15.0)
        self.assertEqual(self.found(), [ECHO])
        self.store.goAway()
        stopped = server.stopService()
        self.successResultOf(stopped)

    def test_restarted(self) -> None:
        """A server that is started while it leaves is there again when it has stopped."""
        server = self.server()
        server.startService()
        stopped = server.stopService()
        server.startService()
        self.assertEqual(self.found()[0].state, "leaving")
        self.pass_(1.0)
        self.successResultOf(stopped)
        self.assertEqual(self.found(), [ECHO])
        self.assertTrue(server.isReady)
        server.stopService()
        self.pass_(1.0)
        self.assertEqual(self.found(), [])

    def test_notListening(self) -> None:
        """What does not listen is not registered."""
        server = self.server()

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise OSError("the port is taken")

        self.patch(self.clock, "listenTCP", refuse)
        server.startService()
        self.failureResultOf(server.whenListening(), OSError)
        self.assertEqual((self.found(), self.registry.isRunning), ([], False))
        self.successResultOf(server.stopService())

    def test_privileged(self) -> None:
        """Listening with the rights of root, it uses the registry after it has given them up."""
        for required in (False, True):
            server = self.server(registerRequired=required)
            server.privilegedStartService()
            self.assertEqual((len(server._ports), self.found(), self.registry.isRunning), (1, [], False))
            listening = server.whenListening()
            self.assertEqual(bool(listening.called), not required)
            server.startService()
            self.successResultOf(listening)
            self.assertEqual(self.found(), [ECHO])
            server.stopService()
            self.pass_(1.0)
        server.privilegedStartService()
        self.successResultOf(server.stopService())
        server.startService()
        self.assertEqual(self.found(), [ECHO])
        server.stopService()
        self.pass_(1.0)

    def test_shared(self) -> None:
        """Two servers with one registry: it runs until the last has stopped."""
        one, two = self.server(), self.server("tcp:8091", service="chat")
        one.startService()
        two.startService()
        self.assertEqual(len(self.found()), 2)
        stopped = one.stopService()
        self.pass_(1.0)
        self.successResultOf(stopped)
        self.assertEqual([each.service for each in self.found()], ["chat"])
        two.stopService()
        self.pass_(1.0)
        self.assertFalse(self.registry.isRunning)

    def test_replaced(self) -> None:
        """Another process has the same id: the one that stops last neither says that it leaves nor takes it away."""
        other = MemoryRegistry(self.clock, self.store, Random(6))
        one, two = self.server(), self.server(registry=other)
        one.startService()
        two.startService()
        stopped = one.stopService()
        self.assertEqual(self.found(), [ECHO])
        self.pass_(1.0)
        self.successResultOf(stopped)
        self.assertEqual(self.found(), [ECHO])
        two.stopService()
        self.assertEqual(self.found()[0].state, "leaving")
        self.pass_(1.0)
        self.assertEqual(self.found(), [])

    def test_sameID(self) -> None:
        """A second one that would be the first is not registered, says so, and serves."""
        one, two = self.server(), self.server("tcp:8091", advertise="tcp:127.0.0.1:8090")
        one.startService()
        two.startService()
        self.assertTrue(two.isReady)
        self.assertEqual(two.registrations, [])
        self.assertIn("registered already", str(two.announcement and two.announcement.lastError))
        self.assertIn("echo cannot be registered", "\n".join(self.texts))
        two.stopService()
        self.pass_(1.0)
        self.assertEqual(self.found(), [ECHO])

    def test_noWayYet(self) -> None:
        """The network comes up after the server: it is registered then. Who is stopped before asks no more."""
        engine: Any = self.registry.engine
        engine.isLocal = False
        engine.hostTowards = lambda: succeed("")
        server = self.server()
        server.startService()
        self.pass_(5.0)
        self.assertEqual((self.found(), len(self.texts)), ([], 1))
        engine.hostTowards = lambda: succeed("10.0.0.7")
        self.pass_(15.0)
        self.assertEqual([each.endpoint for each in self.found()], ["tcp:10.0.0.7:8090"])
        server.stopService()
        self.pass_(1.0)
        asked: Deferred[str] = Deferred()
        engine.hostTowards = lambda: asked
        server.startService()
        self.successResultOf(server.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RequiredTests(AnnouncingCase):
    """A start that needs the registration."""

    def test_registered(self) -> None:
        """It is over when the record is there."""
        self.store.goAway()
        server = self.server(registerRequired=True)
        server.startService()
        listening = server.whenListening()
        self.pass_(2.0)
        self.assertNoResult(listening)
        self.assertFalse(server.isReady)
        self.store.comeBack()
        self.pass_(2.0)
        self.successResultOf(listening)
        self.assertTrue(server.isReady)
        server.stopService()
        self.pass_(1.0)

    def test_tooLate(self) -> None:
        """It fails, listens no more, and nothing comes up in the registry later."""
        self.store.goAway()
        server = self.server(registerRequired=True)
        server.startService()
        listening = server.whenListening()
        self.pass_(REGISTER_TIMEOUT)
        error = self.failureResultOf(listening, RegistryError).value
        self.assertIn("within 10 s: the store is away", str(error))
        self.assertEqual(server._ports, [])
        self.store.comeBack()
        self.pass_(30.0)
        self.assertEqual((self.found(), self.registry.isRunning), ([], False))
        self.successResultOf(server.stopService())

    def test_never(self) -> None:
        """An error that time does not help."""
        one, two = self.server(), self.server("tcp:8091", advertise="tcp:127.0.0.1:8090", registerRequired=True)
        one.startService()
        two.startService()
        self.failureResultOf(two.whenListening(), SettingError)
        two.stopService()
        one.stopService()
        self.pass_(1.0)

    def test_stopped(self) -> None:
        """Stopped while it waits."""
        self.store.goAway()
        server = self.server(registerRequired=True)
        server.startService()
        listening = server.whenListening()
        stopped = server.stopService()
        self.failureResultOf(listening, GettyError)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OtherServerTests(AnnouncingCase):
    """Servers of calls and of HTTP."""

    def test_both(self) -> None:
        """They take the same settings, and leave before they drain."""
        options: Any = {"service": "echo", "registry": self.registry, "reactor": self.clock}
        for server in (
            http.Server(lambda request: "hello", "tcp:8090", maxBody=5, **options),
            rpc.Server("tcp:8090", {"Echo": Echo()}, maxCalls=5, **options),
        ):
            server.startService()
            self.assertEqual(self.found(), [ECHO])
            stopped = server.stopService()
            self.assertEqual(self.found()[0].state, "leaving")
            self.assertEqual(len(server.server._ports), 1)
            self.pass_(1.0)
            self.successResultOf(stopped)
            self.assertEqual(self.found(), [])


class SettingTests(AnnouncingCase):
    """What is refused at once, and what costs nothing."""

    def test_refused(self) -> None:
        """An error names the setting, and nothing is started."""
        for settings, text in (
            ({"service": ""}, "service=''"),
            ({"weight": 1001}, "weight=1001"),
            ({"zone": "a\n"}, "zone="),
            ({"meta": {"a": object()}}, "meta="),
            ({"meta": 5}, "meta=5"),
            ({"leaveTime": -1}, "leaveTime=-1"),
            ({"registerRequired": 1}, "registerRequired=1"),
            ({"registerTimeout": 0}, "registerTimeout=0"),
            ({"registry": 5}, "registry=5"),
            ({"advertise": "0.0.0.0"}, "advertise='0.0.0.0'"),
        ):
            error = self.assertRaises(SettingError, self.server, **settings)
            self.assertIn(text, str(error))
        engine: Any = self.registry.engine
        engine.isReadOnly = True
        self.assertIn("reading only", str(self.assertRaises(SettingError, self.server)))
        error = self.assertRaises(TypeError, self.server, wieght=5)
        self.assertIn("wieght", str(error))

    def test_noService(self) -> None:
        """Without a service it is in no registry, whatever else there is."""
        server = self.server(service=None, weight=5)
        server.startService()
        self.assertEqual((server.announcement, server.registrations, self.found()), (None, [], []))
        self.successResultOf(server.stopService())

    def test_names(self) -> None:
        """Each name of Registering is one of an Announcement."""
        everything: Any = dict.fromkeys(Registering.__annotations__, None)
        everything.update(service="echo", registry=self.registry, weight=5, zone="", group="", version="")
        everything.update(registerRequired=False, registerTimeout=5.0)
        self.assertIsNotNone(announcementOf(["tcp:8090"], everything, None))

    def test_notImported(self) -> None:
        """A server in no registry loads nothing of it."""
        program = (
            "import sys; from getty_tx import Server; Server(lambda session: None, 'tcp:0')\n"
            "print([name for name in sys.modules if name.startswith('getty_tx.registry')])"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
        self.assertEqual(found.stdout.strip(), "[]")
