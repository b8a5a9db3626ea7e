"""``static:``: one list for every service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, registryFrom
from getty_tx.registry.interfaces import IEngine, IWatch
from tests.support.engines import Sink, User

if TYPE_CHECKING:
    from getty_tx.registry.static import StaticEngine

TEXT = r"static:tcp\:a\:8090,unix\:/run/b.sock"


class StaticTests(SynchronousTestCase):
    """The engine."""

    def setUp(self) -> None:
        registry: Any = registryFrom(TEXT)
        self.engine: StaticEngine = registry.engine
        self.clock = Clock()
        self.user = User()

    def test_interfaces(self) -> None:
        verifyObject(IEngine, self.engine)
        verifyObject(IWatch, self.engine.watch("echo", Sink()))
        self.assertTrue(self.engine.isReadOnly)

    def test_list(self) -> None:
        """Every service has these; before the start as well as after it."""
        early, late = Sink(), Sink()
        self.engine.watch("echo", early)
        self.clock.advance(0)
        self.engine.start(self.clock, self.user)
        self.engine.watch("chat", late)
        self.assertEqual([], late.reports)
        self.clock.advance(0)
        for sink, service in ((early, "echo"), (late, "chat")):
            providers = [Provider(service, "tcp:a:8090"), Provider(service, "unix:/run/b.sock")]
            self.assertEqual((["are"], providers), (sink.reports, list(sink.records.values())))
        self.assertEqual([True], self.user.said)
        self.assertEqual(
            {"x", "*"}, {key[0] for name in ("x", None) for key in self.successResultOf(self.engine.read(name))}
        )
        self.successResultOf(self.engine.stop())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop(self) -> None:
        """Who has stopped hears nothing."""
        self.engine.start(self.clock, self.user)
        sink = Sink()
        watch = self.engine.watch("echo", sink)
        watch.stop()
        watch.stop()
        self.engine.watch("echo", sink)
        self.engine.stop()
        self.clock.advance(0)
        self.assertEqual(([], []), (sink.reports, self.user.said))

    def test_refused(self) -> None:
        """What is no place to connect to, and registrations."""
        for text, why in {
            "static:tcp": "endpoint 'tcp' has to be tcp: with a host, a port",
            r"static:process\:/bin/sh": "is of a kind that is not allowed: tcp, tls, udp, unix, ws, wss are;",
            r"static:tcp\:a\:1,": "endpoint '' is of a kind",
        }.items():
            self.assertIn(why, str(self.assertRaises(SettingError, registryFrom, text)))
        provider = Provider("echo", "tcp:a:1")
        self.assertRaises(SettingError, self.engine.put, provider)
        self.assertRaises(SettingError, registryFrom(TEXT).register, provider)
        self.successResultOf(self.engine.delete(provider))
        self.assertEqual([], self.successResultOf(self.engine.missing([provider])))
        self.assertEqual("", self.successResultOf(self.engine.hostTowards()))
