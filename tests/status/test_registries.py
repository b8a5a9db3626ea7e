"""The registries of services, as the status shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.client import Client
from getty_tx.registry import Provider
from getty_tx.status.merging import emptySnapshot
from getty_tx.status.metrics import families
from getty_tx.status.registries import Registered, registriesOf
from getty_tx.status.source import ProcessSource
from tests.registry.test_announcing import AnnouncingCase, newSession

if TYPE_CHECKING:
    from getty_tx.status.snapshot import Snapshot


class Follower:
    """Of a client."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry

    def providersChanged(self, *changes: Any) -> None:
        """It has no sessions."""


class RegistriesTests(AnnouncingCase):
    """What is registered and followed."""

    def values(self, snapshot: Snapshot) -> dict[str, float]:
        """The metrics of registries, by name and labels but that of the registry."""
        return {
            " ".join([sample.name, *list(sample.labels.values())[1:]]): sample.value
            for family in families(snapshot)
            if family.name.startswith("getty_registry")
            for sample in family.samples
        }

    def test_all(self) -> None:
        """Registrations, followed services, and what a service without a registry has: nothing."""
        one, two = self.server(), self.server("tcp:8091", advertise="tcp:127.0.0.1:8090")
        alone = self.server(service=None)
        self.assertEqual(registriesOf([alone]), [])
        follower: Any = Follower(self.registry)
        self.registry.startService()
        self.registry.follow("chat", follower)
        self.registry.follow("chat", follower)
        for number in (1, 2, 3):
            self.registry.register(Provider("chat", f"tcp:a:{number}", state="leaving" if number == 3 else "serving"))
        self.pass_(1.0)
        one.startService()
        two.startService()
        [found] = registriesOf([one, alone, two, follower])
        self.assertEqual((found.name, found.isConnected, found.staleFor), ("memory:", True, 0))
        self.assertEqual(found.providers, {"chat": {"serving": 2, "leaving": 1}})
        self.assertIn(Registered("echo", "tcp:127.0.0.1:8090", True), found.registrations)
        [failed] = [each for each in found.registrations if not each.isRegistered]
        self.assertEqual((failed.service, failed.id), ("echo", ""))
        self.assertIn("registered already", failed.error)

        snapshot = emptySnapshot()
        self.assertEqual(self.values(snapshot), {})
        snapshot.registries = [found]
        values = self.values(snapshot)
        self.assertGreater(values.pop("getty_registry_events_total"), 2)
        self.assertEqual(
            values,
            {
                "getty_registry_connected": 1,
                "getty_registry_stale_seconds": 0,
                "getty_registry_providers chat serving": 2,
                "getty_registry_providers chat leaving": 1,
                "getty_registry_registrations yes": 4,
                "getty_registry_registrations no": 1,
                "getty_registry_failures_total": 0,
            },
        )

    def test_away(self) -> None:
        """A registry that is away says for how long, and why nothing is registered."""
        self.store.goAway()
        server = self.server()
        server.startService()
        self.pass_(3.0)
        [found] = registriesOf([server])
        self.assertEqual((found.isConnected, found.staleFor), (False, 3.0))
        self.assertGreater(found.failures, 0)
        self.assertEqual(found.registrations, [Registered("echo", "tcp:127.0.0.1:8090", False, "the store is away")])

    def test_names(self) -> None:
        """Two objects of one name are one: what is worse is shown, and the rest is added."""
        other: Any = type(self.registry)(self.clock, None)
        one, two = self.server(), self.server("tcp:8091", registry=other)
        other.store.goAway()
        one.startService()
        two.startService()
        [found] = registriesOf([one, two])
        self.assertFalse(found.isConnected)
        self.assertEqual(sorted(each.isRegistered for each in found.registrations), [False, True])

    def test_client(self) -> None:
        """That of a client which follows a service; one with endpoints has none."""
        client = Client(newSession, "service:chat", registry=self.registry, reactor=self.clock)
        self.assertEqual(registriesOf([Client(newSession, "tcp:a:1")]), [])
        client.startService()
        self.pass_(1.0)
        [found] = registriesOf([client])
        self.assertEqual((found.name, found.providers), ("memory:", {"chat": {"serving": 0, "leaving": 0}}))
        client.stopService()

    def test_source(self) -> None:
        """The source of a process has them."""
        server = self.server()
        server.startService()
        source = ProcessSource({"echo": server}, self.clock)
        *_, snapshot = source.walk()
        assert snapshot is not None
        self.assertEqual([each.name for each in snapshot.registries], ["memory:"])
