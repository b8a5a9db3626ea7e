"""Several processes in a registry: the main process registers them once, and leaves before they drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError

from getty_tx.errors import SettingError
from getty_tx.processes import Processes, main
from getty_tx.processes.channel import READY
from getty_tx.registry import Provider, RegistryError
from getty_tx.testing import MemoryRegistry
from tests.processes.test_main import FakeProcess
from tests.registry.test_announcing import AnnouncingCase

if TYPE_CHECKING:
    from getty_tx.processes.member import Member

ECHO = Provider("echo", "tcp:127.0.0.1:8090")


class FakePort:
    """A port of the main process."""

    address = IPv4Address("TCP", "0.0.0.0", 8090)

    def __init__(self) -> None:
        self.events: list[str] = []

    def listen(self) -> None:
        """Note it."""
        self.events.append("listen")

    def stop(self) -> Deferred[None]:
        """Note it."""
        self.events.append("stop")
        return succeed(None)

    def setAccepting(self, accepting: bool) -> None:
        """Accept nothing."""

    def lend(self, slot: int) -> None:
        """Lend nothing."""


class DrainingProcess(FakeProcess):
    """One that may be told to end."""

    def drain(self, timeout: float) -> None:
        """It ends when the test says so."""


class RegisteredTests(AnnouncingCase):
    """A Processes without processes."""

    def setUp(self) -> None:
        super().setUp()
        self.port: Any = FakePort()
        self.patch(main, "SubProcess", DrainingProcess)
        self.patch(main, "Beside", lambda reactor: Mock())
        self.patch(main, "accepting", lambda *args: self.port)
        self.clock.callWhenRunning = lambda call: call()

    def processes(self, **registering: Any) -> Processes:
        """Two that are not ready yet."""
        registering = {"service": "echo", "registry": self.registry, **registering}
        made = Processes("a:b", "tcp:8090", processes=2, reactor=self.clock, **registering)
        made.startService()
        return made

    def tell(self, member: Member) -> None:
        """A member is ready."""
        process: Any = member.process
        process.received(member, READY, b"")

    def end(self, made: Processes) -> None:
        """All members end."""
        for member in list(made.members):
            process: Any = member.process
            process.lost(member)
            made._main.supervisor.memberGone(member, "it has ended")  # type: ignore[union-attr]

    def test_once(self) -> None:
        """When all are ready; one that is replaced, and a reload, change nothing."""
        made = self.processes(weight=5)
        listening = made.whenListening()
        self.tell(made.members[0])
        self.assertEqual((self.found(), made.registrations), ([], []))
        self.tell(made.members[1])
        self.successResultOf(listening)
        self.assertEqual(self.found(), [ECHO.but(weight=5)])
        self.assertEqual([each.provider for each in made.registrations], self.found())
        made.reload()
        for member in made.members[2:]:
            self.tell(member)
        self.assertEqual((self.found(), len(made.registrations)), ([ECHO.but(weight=5)], 1))
        made.stopService()
        self.pass_(1.0)
        self.end(made)

    def test_leaves(self) -> None:
        """It leaves, stops accepting, drains, and takes the record away when all have ended."""
        made = self.processes()
        for member in list(made.members):
            self.tell(member)
        stopped = made.stopService()
        self.assertEqual(self.found(), [ECHO.but(state="leaving", weight=0)])
        self.assertEqual((self.port.events, made.isStopping, made.isReady), (["listen"], True, False))
        self.pass_(1.0)
        self.assertEqual(self.port.events, ["listen", "stop"])
        self.assertEqual(len(self.found()), 1)
        self.assertNoResult(stopped)
        self.end(made)
        self.successResultOf(stopped)
        self.assertEqual((self.found(), made.registrations, self.registry.isRunning), ([], [], False))

    def test_required(self) -> None:
        """The start fails, and all ends, if the registration is needed and does not come."""
        self.store.goAway()
        made = self.processes(registerRequired=True, registerTimeout=2)
        listening = made.whenListening()
        for member in list(made.members):
            self.tell(member)
        self.assertNoResult(listening)
        self.pass_(2.0)
        self.failureResultOf(listening, RegistryError)
        self.assertEqual(self.port.events, ["listen", "stop"])
        self.end(made)

    def test_notListening(self) -> None:
        """What cannot listen is not registered."""
        made = self.processes()

        def listen() -> None:
            raise CannotListenError("", 8090, OSError(98, "in use"))

        self.port.listen = listen
        for member in list(made.members):
            self.tell(member)
        self.failureResultOf(made.whenListening(), CannotListenError)
        self.assertEqual(self.found(), [])
        self.end(made)

    def test_refused(self) -> None:
        """A setting that cannot be is refused at once."""
        self.assertRaises(SettingError, self.processes, weight=-1)
        self.assertIsInstance(self.registry, MemoryRegistry)
